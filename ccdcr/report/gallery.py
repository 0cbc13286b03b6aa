# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The gallery of detections as a PDF of several pages."""

from ccdcr.plotting._style import CLASSES

__all__ = ["caption_of", "shown_of", "write_gallery"]

_PAGE = (8.27, 11.69)  # A4 in inches
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.55, 0.2, 0.95, 0.45
_ROW_TEXT = 0.42  # height of caption and tick labels
_LARGEST = 1.25  # inches of a stamp


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

    tiles = len(montages.titles)
    side = min(_LARGEST, (_PAGE[0] - _LEFT - _RIGHT) / tiles)
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
    from matplotlib.figure import Figure

    fig = Figure(figsize=_PAGE)
    fig.text(_LEFT / _PAGE[0], 1 - 0.45 / _PAGE[1], title, fontsize=12)
    return fig


def _empty_page(name):
    return _new_page(f"{name}: no detection is shown")


def _page(title, rows, montages, side):
    fig = _new_page(title)
    top = _PAGE[1] - _TOP
    for i, row in enumerate(rows):
        bottom = top - (i + 1) * (side + _ROW_TEXT) + _ROW_TEXT / 2
        _draw_row(fig, row, montages, bottom, side, with_titles=i == 0)
    return fig


def _draw_row(fig, row, montages, bottom, side, *, with_titles):
    montage = montages(row)
    height, width = montage.rgb.shape[:2]
    inches = side * width / height
    box = (_LEFT / _PAGE[0], bottom / _PAGE[1], inches / _PAGE[0], side / _PAGE[1])
    ax = fig.add_axes(box)
    ax.imshow(montage.rgb, origin="lower", interpolation="none", aspect="auto")
    half, size = montage.size // 2, montage.size
    ends = (0, half, size - 1)
    ticks = [start + end for start in montage.starts for end in ends[::2]]
    labels = [f"{montage.x - half + end}" for end in ends[::2]] * len(montage.starts)
    ax.set_xticks(ticks, labels)
    for label, align in zip(ax.get_xticklabels(), ["left", "right"] * size, strict=False):
        label.set_horizontalalignment(align)
    ax.set_yticks(ends, [f"{montage.y - half + end}" for end in ends])
    ax.tick_params(labelsize=5, length=2, width=0.4, pad=1)
    for spine in ax.spines.values():
        spine.set_visible(False)
    text = {"fontsize": 7, "transform": ax.transAxes}
    ax.text(0, 1.04, caption_of(row), va="bottom", **text)
    if with_titles:
        for start, title in zip(montage.starts, montages.titles, strict=True):
            place = (start + half) / width
            ax.text(place, 1.2, title, va="bottom", ha="center", **text)
        ax.text(0, -0.17, "x, y in pixels, the first is (1, 1)", va="top", **text)
