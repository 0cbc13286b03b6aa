# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The gallery of detections as a PDF of several pages."""

from ccdcr.plotting._style import CLASSES

__all__ = ["caption_of", "shown_of", "write_gallery"]

_PAGE = (8.27, 11.69)  # A4 in inches
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.6, 0.2, 0.95, 0.3
_ROW_TEXT = 0.51  # height of caption and limits
_TICKS = 0.29  # height of the limits
_SMALL, _LARGE = 7, 8.5  # points
_LARGEST = 1.22  # inches of a stamp with its frame


def shown_of(table, maxplots):
    """Return the rows that are shown; -1 shows all."""
    return table if maxplots < 0 else table[:maxplots]


def caption_of(row):
    """Describe a detection in one line."""
    exposures = f"exposures {row['exposures']}" if row["exposures"] != "-" else ""
    sigma = f"{row['peak_sigma']:.1f} sigma"
    return (
        f"{row['number']}: x = {row['x']}, y = {row['y']}; {row['pixels']} pixels, "
        f"peak {sigma}" + (f", {exposures}" if exposures else "")
    )


def write_gallery(path, table, montages, *, progress_bar=None):
    """
    Write the stamps of the detections, page by page, class by class.

    Parameters
    ----------
    path : `~pathlib.Path`
        The PDF file.
    table : `~astropy.table.Table`
        Rows of the table of detections that are shown.
    montages : `~ccdcr.report._montage.Montages`
        Makes their stamps.
    progress_bar : callable, optional
        Wraps the list of pages.
    """
    from matplotlib.backends.backend_pdf import PdfPages

    side = min(_LARGEST, (_PAGE[0] - _LEFT - _RIGHT) / montages.aspect)
    per_page = int((_PAGE[1] - _TOP - _BOTTOM) / (side + _ROW_TEXT))
    pages = list(_pages(table, per_page))
    name = table.meta["mask"]
    with PdfPages(path) as pdf:
        if not pages:
            pdf.savefig(_empty_page(name))
        for title, rows in pages if progress_bar is None else progress_bar(pages):
            pdf.savefig(_page(f"{name}: {title}", rows, montages, side))


def _pages(table, per_page):
    """Yield title and rows of each page; each class begins a new one."""
    for label, *_ in CLASSES.values():
        rows = [row for row in table if row["class"] == label]
        for start in range(0, len(rows), per_page):
            part = rows[start : start + per_page]
            first, last = part[0]["number"], part[-1]["number"]
            yield f"{label}, detections {first} to {last}", part


def _new_page(title):
    """Return a page and axes of inches from its lower left corner."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=_PAGE)
    # Merged images would be resampled.
    fig.suppressComposite = True
    ax = fig.add_axes((0, 0, 1, 1), xlim=(0, _PAGE[0]), ylim=(0, _PAGE[1]))
    ax.set_axis_off()
    ax.autoscale(enable=False)
    ax.text(_LEFT, _PAGE[1] - 0.4, title, fontsize=12, va="top")
    return fig, ax


def _empty_page(name):
    return _new_page(f"{name}: no detection is shown")[0]


def _page(title, rows, montages, side):
    fig, ax = _new_page(title)
    _add_key(ax)
    top = _PAGE[1] - _TOP
    for i, row in enumerate(rows):
        bottom = top - (i + 1) * (side + _ROW_TEXT) + _TICKS
        _draw_row(ax, row, montages, bottom, side)
    return fig


def _add_key(ax):
    """Say what the colours of the mask are."""
    y = _PAGE[1] - 0.76
    ax.text(_LEFT, y, "FITS pixels; mask:", fontsize=_SMALL, va="center")
    x = _LEFT + 1.1
    for label, color, _ in CLASSES.values():
        ax.plot(x, y, "s", color=color, mec="black", mew=0.4, ms=5)
        ax.text(x + 0.08, y, label, fontsize=_SMALL, va="center")
        x += 0.3 + 0.05 * len(label)


def _draw_row(ax, row, montages, bottom, side):
    """Draw the stamps of a detection above their limits in FITS pixels."""
    montage = montages(row)
    half, size = montage.size // 2, montage.size
    inch = side / montage.rgb.shape[0]
    right = _LEFT + inch * montage.rgb.shape[1]
    extent = (_LEFT, right, bottom, bottom + side)
    kwargs = {"origin": "lower", "interpolation": "none", "aspect": "auto"}
    ax.imshow(montage.rgb, extent=extent, **kwargs)
    columns = f"x {montage.x - half} to {montage.x + half}"
    centred = {"ha": "center", "va": "top", "fontsize": _SMALL}
    for start, title in zip(montage.starts, montages.titles, strict=True):
        place = _LEFT + inch * (start + size / 2)
        ax.text(place, bottom - 0.03, f"{title}\n{columns}", **centred)
    for value, place in ((montage.y - half, 1.5), (montage.y + half, size + 0.5)):
        y = bottom + inch * place
        ax.text(_LEFT - 0.05, y, f"y {value}", ha="right", va="center", fontsize=_SMALL)
    ax.text(_LEFT, bottom + side + 0.04, caption_of(row), va="bottom", fontsize=_LARGE)
