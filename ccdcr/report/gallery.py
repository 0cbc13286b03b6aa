# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Gallery of the stamps of the detections, as pages of a PDF."""

from dataclasses import dataclass

import numpy as np

from ccdcr.plotting.figure_style import CLASSES, class_image, image_norm

__all__ = ["Montage", "Montages", "choose_shown", "write_caption", "write_gallery"]

_GAP = 1  # pixels between stamps and around them
_OUTSIDE = 225  # grey of what lies outside of the image
_FRAME = 130  # grey between stamps


@dataclass(frozen=True)
class Montage:
    """
    Stamps side by side.

    ``rgb`` is (height, width, 3) of uint8 with the lowest row first and a frame
    around each stamp, ``starts`` are the columns at which the stamps begin, ``size``
    is their side in pixels, ``x`` and ``y`` are the FITS pixels of the centre.
    """

    rgb: np.ndarray
    starts: tuple
    size: int
    x: int
    y: int


class Montages:
    """The montages of the detections of a mask, by the rows of their table."""

    def __init__(self, inspection, name, *, semiwindow, color_scale):
        self._images = [
            *inspection.stack,
            inspection.planes.median,
            inspection.corrected(name),
        ]
        self._flags = inspection.flags(name)
        self._made = {}  # by number: it is shown on two pages
        self._semiwindow, self._color_scale = semiwindow, color_scale
        exposures = [f"exposure {i}" for i in range(1, len(inspection.stack) + 1)]
        self.titles = (*exposures, "median", "mask", "corrected")

    def __call__(self, row):
        """Return the montage of a row of the table of detections."""
        number = int(row["number"])
        if number not in self._made:
            self._made[number] = self._make(row)
        return self._made[number]

    def _make(self, row):
        x = int(row["xmin"] + row["xmax"]) // 2
        y = int(row["ymin"] + row["ymax"]) // 2
        size = 2 * self._semiwindow + 1
        stamps = [self._cut(image, x, y, np.nan) for image in self._images]
        norm = image_norm(stamps, self._color_scale)
        tiles = [_grey(stamp, norm) for stamp in stamps]
        tiles.insert(-1, class_image(self._cut(self._flags, x, y, 0)))
        step = size + _GAP
        shape = (size + 2 * _GAP, step * len(tiles) + _GAP, 3)
        rgb = np.full(shape, _FRAME, dtype=np.uint8)
        starts = tuple(range(_GAP, step * len(tiles), step))
        for start, tile in zip(starts, tiles, strict=True):
            rgb[_GAP:-_GAP, start : start + size] = tile
        return Montage(rgb, starts, size, x, y)

    def _cut(self, image, x, y, fill):
        """Return a stamp of full size; ``fill`` is outside of the image."""
        half, (ny, nx) = self._semiwindow, image.shape
        stamp = np.full((2 * half + 1,) * 2, fill, dtype=image.dtype)
        x0, y0 = x - 1 - half, y - 1 - half
        rows = slice(max(y0, 0), min(y0 + len(stamp), ny))
        columns = slice(max(x0, 0), min(x0 + len(stamp), nx))
        inside = (
            slice(rows.start - y0, rows.stop - y0),
            slice(columns.start - x0, columns.stop - x0),
        )
        stamp[inside] = image[rows, columns]
        return stamp


def _grey(stamp, norm):
    known = np.isfinite(stamp)
    scaled = np.clip((stamp - norm.vmin) / (norm.vmax - norm.vmin), 0, 1)
    levels = np.where(known, np.round(np.where(known, scaled, 0) * 255), _OUTSIDE)
    return np.repeat(levels.astype(np.uint8)[..., np.newaxis], 3, axis=2)


_PAGE = (8.27, 11.69)  # A4 in inches
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.6, 0.2, 0.95, 0.3
_CAPTION = 0.22  # its height
_TICKS = 0.29  # height of the limits
_SMALL, _LARGE = 7, 8.5  # points
_LARGEST = 1.22  # inches of a stamp with its frame
_PER_LINE = 8  # stamps


def choose_shown(table, maxplots):
    """Return the rows that are shown; -1 shows all."""
    return table if maxplots < 0 else table[:maxplots]


def write_caption(row):
    """Return the description of a detection in one line."""
    exposures = f"exposures {row['exposures']}" if row["exposures"] != "-" else ""
    sigma = f"{row['peak_sigma']:.1f} sigma"
    return (
        f"{row['number']}: x = {row['x']}, y = {row['y']}; {row['pixels']} pixels, "
        f"peak {sigma}" + (f", {exposures}" if exposures else "")
    )


def write_gallery(path, table, montages, *, progress_bar=None):
    """Write the stamps of a table of detections to a PDF, class by class."""
    from matplotlib.backends.backend_pdf import PdfPages

    number = len(montages.titles)
    lines = -(-number // _PER_LINE)
    side = min(_LARGEST, (_PAGE[0] - _LEFT - _RIGHT) / min(number, _PER_LINE))
    height = lines * (side + _TICKS) + _CAPTION
    per_page = int((_PAGE[1] - _TOP - _BOTTOM) / height)
    pages = list(_pages(table, per_page))
    name = table.meta["mask"]
    with PdfPages(path) as pdf:
        if not pages:
            pdf.savefig(_new_page(f"{name}: no detection is shown")[0])
        for title, rows in pages if progress_bar is None else progress_bar(pages):
            pdf.savefig(_page(f"{name}: {title}", rows, montages, (side, height)))


def _pages(table, per_page):
    """Yield title and rows of each page; each class begins a new one."""
    for label, *_ in CLASSES.values():
        rows = [row for row in table if row["class"] == label]
        for start in range(0, len(rows), per_page):
            part = rows[start : start + per_page]
            first, last = part[0]["number"], part[-1]["number"]
            yield f"{label}, detections {first} to {last}", part


def _new_page(title):
    """Return a page and axes in inches from its lower left corner."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=_PAGE)
    # Merged images would be resampled.
    fig.suppressComposite = True
    ax = fig.add_axes((0, 0, 1, 1), xlim=(0, _PAGE[0]), ylim=(0, _PAGE[1]))
    ax.set_axis_off()
    ax.autoscale(enable=False)
    ax.text(_LEFT, _PAGE[1] - 0.4, title, fontsize=12, va="top")
    return fig, ax


def _page(title, rows, montages, size):
    fig, ax = _new_page(title)
    _add_key(ax)
    side, height = size
    for i, row in enumerate(rows):
        top = _PAGE[1] - _TOP - i * height
        _draw_row(ax, row, montages, top, side)
    return fig


def _add_key(ax):
    """Draw the key of the colours of the mask."""
    y = _PAGE[1] - 0.76
    ax.text(_LEFT, y, "FITS pixels; mask:", fontsize=_SMALL, va="center")
    x = _LEFT + 1.1
    for label, color, _ in CLASSES.values():
        ax.plot(x, y, "s", color=color, mec="black", mew=0.4, ms=5)
        ax.text(x + 0.08, y, label, fontsize=_SMALL, va="center")
        x += 0.3 + 0.05 * len(label)


def _draw_row(ax, row, montages, top, side):
    """Draw caption and stamps of a detection, line by line."""
    montage = montages(row)
    ax.text(_LEFT, top - 0.04, write_caption(row), va="top", fontsize=_LARGE)
    for line, start in enumerate(range(0, len(montages.titles), _PER_LINE)):
        part = slice(start, start + _PER_LINE)
        bottom = top - _CAPTION - line * (side + _TICKS) - side
        _draw_line(ax, montage, montages.titles, part, (bottom, side))


def _draw_line(ax, montage, titles, part, place):
    """Draw some of the stamps above their limits in FITS pixels."""
    bottom, side = place
    half, size = montage.size // 2, montage.size
    inch = side / montage.rgb.shape[0]
    starts = montage.starts[part]
    first = starts[0] - 1  # the frame
    rgb = montage.rgb[:, first : starts[-1] + size + 1]
    extent = (_LEFT, _LEFT + inch * rgb.shape[1], bottom, bottom + side)
    kwargs = {"origin": "lower", "interpolation": "none", "aspect": "auto"}
    ax.imshow(rgb, extent=extent, **kwargs)
    columns = f"x {montage.x - half} to {montage.x + half}"
    centred = {"ha": "center", "va": "top", "fontsize": _SMALL}
    for start, title in zip(starts, titles[part], strict=True):
        middle = _LEFT + inch * (start - first + size / 2)
        ax.text(middle, bottom - 0.03, f"{title}\n{columns}", **centred)
    for value, row in ((montage.y - half, 1.5), (montage.y + half, size + 0.5)):
        y = bottom + inch * row
        ax.text(_LEFT - 0.05, y, f"y {value}", ha="right", va="center", fontsize=_SMALL)
