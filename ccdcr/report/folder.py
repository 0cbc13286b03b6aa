# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Everything that shows what was flagged, in one folder."""

import io
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from ccdcr._files import atomic_path, check_output
from ccdcr._viewed import EVERY, view
from ccdcr.comparing import MethodComparison, compare_methods
from ccdcr.detection import detect_cosmic_rays
from ccdcr.exposures import load_ccds
from ccdcr.maskset import CRMaskSet
from ccdcr.plotting import (
    plot_detections,
    plot_diagram,
    plot_flux_factors,
    plot_offsets,
)
from ccdcr.plotting._style import figure_of
from ccdcr.report._montage import Montages
from ccdcr.report.gallery import caption_of, shown_of, write_gallery
from ccdcr.report.page import make_page
from ccdcr.report.table import detection_table

__all__ = ["Content", "Gallery", "Report", "write_report"]

_DPI = 110
_REMEDY = "use overwrite=True"
_DIAGRAMS = ("MEDIANCR", "MEANCRT")


@dataclass(frozen=True, repr=False)
class Report:
    """
    A report that was written.

    Attributes
    ----------
    folder : `~pathlib.Path`
        Where it is; ``index.html`` shows all of it.

    paths : dict of `~pathlib.Path`
        The files by name.

    detections : `~astropy.table.Table`
        The detections of the mask.

    every : `~astropy.table.Table`
        The groups of pixels that are masked in every exposure.

    missing : tuple of str
        What could not be shown, and why.
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


@dataclass(frozen=True)
class Gallery:
    """Detections of a mask: all, those that are shown, and their stamps."""

    title: str
    table: Table
    shown: Table
    montages: Montages

    @staticmethod
    def caption(row):
        """Describe a detection."""
        return caption_of(row)


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
    masks,
    folder,
    ccds,
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
    Write a folder with everything that shows what was flagged.

    Parameters and results are those of `ccdcr.CRMaskSet.report`.
    """
    ccds, _ = load_ccds(ccds, name="ccds")
    viewed = view(masks, ccds)
    viewed.mask(mask)
    options = _options(viewed, maxplots, semiwindow, color_scale)
    missing = []
    if detect_again and not masks.diagnostics:
        _restore_diagnostics(masks, ccds, missing)
    figures = _figures_of(viewed, mask, options, missing)
    names = [*(f"{name}.png" for name in figures), "comparison.png"]
    names += [f"{stem}.{kind}" for stem in ("detections", "every_exposure") for kind in ("csv", "ecsv")]
    names += ["gallery.pdf", "gallery_every_exposure.pdf", "index.html"]
    folder = Path(folder).expanduser()
    is_new = not folder.exists()
    folder.mkdir(exist_ok=True)
    try:
        for name in names:
            check_output(folder / name, overwrite=overwrite, remedy=_REMEDY)
        comparison = compare_methods(ccds, masks)
        galleries = _galleries_of(viewed, mask, options)
        with ExitStack() as stack:
            paths = {
                name: stack.enter_context(
                    atomic_path(folder / name, overwrite=overwrite, remedy=_REMEDY)
                )
                for name in names
            }
            rendered = _render(figures, comparison)
            content = Content(
                masks, viewed.unit, rendered, galleries, comparison, tuple(missing)
            )
            _write(content, paths, progress_bar)
    except BaseException:
        if is_new and not any(folder.iterdir()):
            folder.rmdir()
        raise
    every = galleries["every"].table
    return Report(
        folder,
        {name: folder / name for name in names},
        galleries["found"].table,
        every,
        tuple(missing),
    )


def _options(viewed, maxplots, semiwindow, color_scale):
    """Return how stamps are shown, checked as requirements are."""
    given = {"maxplots": maxplots, "semiwindow": semiwindow, "color_scale": color_scale}
    given = {name: value for name, value in given.items() if value is not None}
    requirements = viewed.requirements.replace(**given)
    return {name: getattr(requirements, name) for name in ("maxplots", "semiwindow", "color_scale")}


def _restore_diagnostics(masks, ccds, missing):
    """Detect again, and keep the diagnostics of the pixels that are the same."""
    if masks.requirements is None or masks.readnoise is None:
        missing.append("detection again: the masks do not record how they were made")
        return
    unit_is_adu = str(ccds[0].unit) == "adu"
    again = detect_cosmic_rays(
        ccds,
        masks.requirements,
        gain=masks.gain if unit_is_adu else None,
        readnoise=masks.readnoise,
        bias=masks.bias,
        la_verbose=False,
    )
    masks.diagnostics.update(again.diagnostics)
    different = sum(
        np.count_nonzero(plane != again.planes[name])
        for name, plane in masks.planes.items()
        if name in again.planes
    )
    if different:
        missing.append(
            f"the detectors of some of the {different} pixels that differ when the "
            "exposures are searched again"
        )


def _figures_of(viewed, mask, options, missing):
    """Return functions that draw the figures, with captions, by name of the file."""
    masks, diagrams = viewed.masks, viewed.masks.diagnostics.get("diagrams", {})
    figures = {}
    for name in _DIAGRAMS:
        if name in diagrams:
            figures[f"diagram_{name}"] = (
                lambda fig, name=name: plot_diagram(masks, name, unit=viewed.unit, fig=fig),
                (11, 5.2),
                f"Median-Minimum diagram of {name}: what the noise explains, and the "
                "exposures. Pixels above the boundary are cosmic rays.",
            )
    if not diagrams:
        missing.append(
            "Median-Minimum diagrams and boundaries: diagnostics are not in the file of "
            "masks, and only crmethods with mm have them (detect_again=True)"
        )
    if not masks.diagnostics.get("flags"):
        missing.append(
            "the detector that found each pixel: diagnostics are not in the file of "
            "masks (detect_again=True)"
        )
    if viewed.detector is None:
        missing.append(
            "excesses in sigma: the masks do not record gain and read noise"
        )
    figures[f"pixels_{mask}"] = (
        lambda fig: plot_detections(
            masks, viewed, mask, color_scale=options["color_scale"], fig=fig
        ),
        (11, 6.2),
        f"Pixels of {mask} by detector, in the diagram and in the image.",
    )
    figures["flux_factors"] = (
        lambda fig: plot_flux_factors(masks, viewed, ax=fig.subplots()),
        (8, 4.8),
        "Flux of each exposure relative to the mean of all. The histograms should peak "
        "at their lines.",
    )
    figures["offsets"] = (
        lambda fig: plot_offsets(masks, viewed, fig=fig),
        (3.1 * (len(masks) + 1) + 0.8, 3.9),
        "Offsets of the exposures, and what differs from the median. A source that is "
        "bright on one side and dark on the other has moved.",
    )
    return figures


def _galleries_of(viewed, mask, options):
    style = {key: options[key] for key in ("semiwindow", "color_scale")}
    galleries = {}
    for key, name, title in (
        ("found", mask, f"Detections of {mask}"),
        ("every", EVERY, "Masked in every exposure"),
    ):
        table = detection_table(viewed.masks, viewed, name)
        galleries[key] = Gallery(
            title,
            table,
            shown_of(table, options["maxplots"]),
            Montages(viewed, name, **style),
        )
    return galleries


def _render(figures, comparison):
    """Draw the figures; return bytes of a PNG and caption by name."""
    rendered = {}
    for name, (draw, size, caption) in figures.items():
        fig = figure_of(None, size)
        draw(fig)
        rendered[name] = _png_of(fig), caption
    fig = figure_of(None, (2.3 * len(comparison.images) + 1.1, 5.4))
    comparison.plot(fig)
    x, y = comparison.position
    caption = (
        f"The surroundings of x = {x}, y = {y}, where the median is corrected most, by "
        "each combination method, and the differences to the median."
    )
    rendered["comparison"] = _png_of(fig), caption
    return rendered


def _png_of(fig):
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()


def _write(content, paths, progress_bar):
    for name, (data, _) in content.figures.items():
        paths[f"{name}.png"].write_bytes(data)
    for key, stem, pdf in (
        ("found", "detections", "gallery.pdf"),
        ("every", "every_exposure", "gallery_every_exposure.pdf"),
    ):
        gallery = content.galleries[key]
        gallery.table.write(paths[f"{stem}.csv"], format="ascii.csv")
        gallery.table.write(paths[f"{stem}.ecsv"], format="ascii.ecsv")
        write_gallery(
            paths[pdf], gallery.shown, gallery.montages, progress_bar=progress_bar
        )
    page = make_page(content, title="Cosmic rays: what was flagged")
    paths["index.html"].write_text(page, encoding="utf-8")
