# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Report on the flagged pixels in one folder."""

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from ccdcr.inspection.compare_methods import MethodComparison, compare_methods
from ccdcr.inspection.inspected import EVERY, Inspection
from ccdcr.masks.mask_set import CRMaskSet
from ccdcr.report.gallery import Montages, choose_shown, write_caption, write_gallery
from ccdcr.report.html_page import make_page
from ccdcr.report.report_figures import (
    comparison_figure,
    detection_table,
    list_missing,
    make_diagrams,
    make_figures,
)
from ccdcr.utils.files import atomic_path, check_output
from ccdcr.utils.notebook import html_facts, html_table, html_text

__all__ = ["Content", "Gallery", "Report", "write_report"]

_DISPLAY = ("maxplots", "semiwindow", "color_scale")
# Galleries: stem of the tables, and the PDF.
_SHOWN = 20  # detections in a notebook
_FILES = {
    "found": ("detections", "gallery.pdf"),
    "every": ("every_exposure", "gallery_every_exposure.pdf"),
}


@dataclass(frozen=True, repr=False)
class Report:
    """
    A report that was written.

    Attributes
    ----------
    folder : `~pathlib.Path`
        The folder; ``index.html`` shows all of it.

    paths : dict of `~pathlib.Path`
        The files by name.

    detections : `~astropy.table.Table`
        The detections of the mask.

    every : `~astropy.table.Table`
        The groups of pixels that are masked in every exposure.

    missing : tuple of str
        Parts that could not be shown, and why.
    """

    folder: Path
    paths: dict
    detections: Table
    every: Table
    missing: tuple

    def __repr__(self):
        return (
            f"<{type(self).__name__}({str(self.folder)!r}, {len(self.paths)} files, "
            f"{len(self.detections)} detections)>"
        )

    def _repr_html_(self):
        page = self.paths["index.html"]
        link = f'<a href="{page.absolute().as_uri()}">{escape(str(page))}</a>'
        missing = html_facts(dict.fromkeys(self.missing, "missing"))
        title = f"Report of {len(self.detections)} detections"
        return html_text(title, link, missing, html_table(self.detections[:_SHOWN]))


@dataclass(frozen=True)
class Gallery:
    """Detections of a mask: all, those that are shown, and their stamps."""

    title: str
    table: Table
    shown: Table
    montages: Montages

    @staticmethod
    def caption(row):
        """Return the description of a detection."""
        return write_caption(row)


@dataclass(frozen=True)
class Content:
    """What the page shows; figures are (bytes of a PNG, caption) by name."""

    masks: CRMaskSet
    unit: Any
    figures: dict
    galleries: dict
    comparison: MethodComparison
    missing: tuple


def write_report(
    ccds,
    masks,
    folder,
    *,
    mask="MEDIANCR",
    maxplots=None,
    semiwindow=None,
    color_scale=None,
    detect_again=False,
    overwrite=False,
    progress_bar=None,
):
    """
    Write a report on the flagged pixels: figures, tables, stamps and a page.

    Parameters
    ----------
    ccds : iterable of `~astropy.nddata.CCDData`, str or `~pathlib.Path`
        The exposures or their files, in the order of the masks.
    masks : `~ccdcr.CRMaskSet`, str or `~pathlib.Path`
        The masks or their file.
    folder : str or `~pathlib.Path`
        Folder of the report; it is created if it does not exist.
    mask : str, optional
        Name of the mask whose detections are shown. Default is ``'MEDIANCR'``.
    maxplots : int, optional
        Number of detections in the gallery; -1 = all. Default is that of the
        requirements, as for the next two.
    semiwindow : int, optional
        Half size of the stamps in pixels.
    color_scale : {'zscale', 'minmax'}, optional
        Limits of the grey scale of each detection.
    detect_again : bool, optional
        For masks from a file: repeat the detection with the recorded requirements, to
        find the detectors of each pixel and the boundaries. Default is False.
    overwrite : bool, optional
        Replace existing files. Default is False.
    progress_bar : callable, optional
        Function that wraps the list of pages of the gallery, such as ``tqdm``.

    Returns
    -------
    report : `~ccdcr.report.Report`
        The files and the tables.

    Raises
    ------
    OSError
        If files exist, or cannot be written.
    TypeError
        If ``ccds`` or ``masks`` are something else, or swapped.
    ValueError
        If a parameter is not allowed, or if masks and exposures do not fit.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from ccdcr import detect_cosmic_rays, write_report
    >>> from ccdcr.simulation import simulate_exposures
    >>> sim = simulate_exposures((100, 120), seed=1)
    >>> masks = detect_cosmic_rays(
    ...     sim.exposures, gain="GAIN", readnoise="RDNOISE"
    ... )
    >>> with TemporaryDirectory() as folder:
    ...     report = write_report(sim.exposures, masks, folder, maxplots=1)
    >>> "index.html" in report.paths
    True
    """
    inspection = Inspection.from_ccds(ccds, masks)
    inspection.mask(mask)
    options = _options(inspection, maxplots, semiwindow, color_scale)
    different = []
    if detect_again and not inspection.masks.diagnostics:
        inspection, different = _detect_again(inspection)
    masks = inspection.masks
    missing = (*list_missing(inspection), *different)
    figures = make_diagrams(inspection)
    figures |= make_figures(inspection, mask, options["color_scale"])
    names = [*(f"{name}.png" for name in figures), "comparison.png", "index.html"]
    for stem, pdf in _FILES.values():
        names += [f"{stem}.csv", f"{stem}.ecsv", pdf]
    with _folder(folder) as path:
        for name in names:
            check_output(path / name, overwrite=overwrite)
        comparison = compare_methods(inspection, masks)
        figures["comparison"] = comparison_figure(comparison)
        galleries = _collect_galleries(inspection, mask, options)
        with _files(path, names, overwrite=overwrite) as paths:
            drawn = {name: (f.png(), f.caption) for name, f in figures.items()}
            content = Content(
                masks, inspection.unit, drawn, galleries, comparison, missing
            )
            _write(content, paths, progress_bar)
    return Report(
        path,
        {name: path / name for name in names},
        galleries["found"].table,
        galleries["every"].table,
        missing,
    )


@contextmanager
def _folder(path):
    """Yield the folder, made if there is none and removed if it stays empty."""
    folder = Path(path).expanduser()
    is_new = not folder.exists()
    folder.mkdir(exist_ok=True)
    try:
        yield folder
    finally:
        if is_new and not any(folder.iterdir()):
            folder.rmdir()


@contextmanager
def _files(folder, names, *, overwrite):
    """Yield temporary paths that all become the files when the block succeeds."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(atomic_path(folder / name, overwrite=overwrite))
            for name in names
        }


def _options(inspection, maxplots, semiwindow, color_scale):
    """Return the options of the stamps, checked as requirements are."""
    given = {"maxplots": maxplots, "semiwindow": semiwindow, "color_scale": color_scale}
    given = {name: value for name, value in given.items() if value is not None}
    requirements = inspection.requirements.replace(**given)
    return {name: getattr(requirements, name) for name in _DISPLAY}


def _detect_again(inspection):
    """Return an inspection with diagnostics, and what differs as texts."""
    masks = inspection.masks
    if masks.requirements is None or inspection.detector is None:
        reason = "(the masks do not record how they were made)"
        return inspection, [f"a new detection {reason}"]
    again = inspection.detect_again(masks.requirements.replace(la_verbose=False))
    pairs = [(p, again.planes[n]) for n, p in masks.planes.items() if n in again.planes]
    different = sum(np.count_nonzero(old != new) for old, new in pairs)
    text = f"the detectors of {different} pixels: a new detection differs there"
    masks = masks._with(diagnostics=again.diagnostics)  # noqa: SLF001
    return replace(inspection, masks=masks), [text] if different else []


def _collect_galleries(inspection, mask, options):
    style = {key: options[key] for key in ("semiwindow", "color_scale")}
    galleries = {}
    for key, name, title in (
        ("found", mask, f"Detections of {mask}"),
        ("every", EVERY, "Masked in every exposure"),
    ):
        table = detection_table(inspection, inspection.masks, name)
        galleries[key] = Gallery(
            title,
            table,
            choose_shown(table, options["maxplots"]),
            Montages(inspection, name, **style),
        )
    return galleries


def _write(content, paths, progress_bar):
    for name, (data, _) in content.figures.items():
        paths[f"{name}.png"].write_bytes(data)
    for key, (stem, pdf) in _FILES.items():
        gallery = content.galleries[key]
        gallery.table.write(paths[f"{stem}.csv"], format="ascii.csv")
        gallery.table.write(paths[f"{stem}.ecsv"], format="ascii.ecsv")
        write_gallery(
            paths[pdf], gallery.shown, gallery.montages, progress_bar=progress_bar
        )
    page = make_page(content)
    paths["index.html"].write_text(page, encoding="utf-8")
