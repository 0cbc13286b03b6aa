# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Figures of a report, and its table of detections."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from scipy import ndimage

from ccdcr.inspection.inspected import Inspection
from ccdcr.masks.diagnostics import (
    BOTH,
    DILATION,
    LOW,
    MM_ONLY,
    ORIGINS,
    POINT_LIKE,
    SINGLE_ONLY,
    UNKNOWN,
    USER,
)
from ccdcr.plotting import (
    plot_comparison,
    plot_detections,
    plot_deviations,
    plot_diagram,
    plot_equivalence,
    plot_flux_factors,
    plot_offsets,
)
from ccdcr.plotting.figure_style import get_figure
from ccdcr.plotting.plot_combinations import comparison_size
from ccdcr.plotting.plot_exposures import equivalence_size, offsets_size
from ccdcr.utils.neighbours import label_groups

__all__ = [
    "ReportFigure",
    "comparison_figure",
    "detection_table",
    "list_missing",
    "make_diagrams",
    "make_figures",
]

_ORDER = (POINT_LIKE, BOTH, SINGLE_ONLY, MM_ONLY, DILATION, USER, LOW, UNKNOWN)
_DESCRIPTIONS = {
    "number": "number of the detection",
    "class": "detectors that found it",
    "pixels": "number of 8-connected masked pixels",
    "x": "FITS column of the highest pixel, the first is 1",
    "y": "FITS row of the highest pixel, the first is 1",
    "xmin": "first FITS column",
    "xmax": "last FITS column",
    "ymin": "first FITS row",
    "ymax": "last FITS row",
    "exposures": "exposures in which it is masked",
    "peak_excess": "largest excess over the low reference of Median-Minimum",
    "peak_sigma": "largest excess in units of the noise of one exposure",
}


def detection_table(ccds, masks, name="MEDIANCR"):
    """
    Tabulate the detections: the 8-connected groups of masked pixels.

    Parameters
    ----------
    ccds : iterable of `~astropy.nddata.CCDData`, str or `~pathlib.Path`
        The exposures or their files, in the order of the masks.
    masks : `~ccdcr.CRMaskSet`, str or `~pathlib.Path`
        The masks or their file.
    name : str, optional
        Name of the mask; ``'EVERY'`` are the pixels that are masked in every
        exposure. Default is ``'MEDIANCR'``.

    Returns
    -------
    table : `~astropy.table.Table`
        Sorted by class, and by ``peak_sigma``, the highest first. Columns:
        number, class, pixels, x, y (of the highest pixel, of a point source if the
        group holds one), xmin, xmax, ymin, ymax, exposures, peak_excess and
        peak_sigma. Coordinates are FITS pixels, the first is (1, 1).

    Raises
    ------
    TypeError
        If ``ccds`` or ``masks`` are something else, or swapped.
    ValueError
        If masks and exposures do not fit, or if there is no such mask.

    Notes
    -----
    The class is ``point-like`` if pixels of a group have the shape of a point source in
    one exposure only, which may be an asteroid, a flare or a supernova. Use
    ``name="MEANCRT"`` or the mask of an exposure to see all of them. It is ``both
    detectors`` if both found pixels of the group, not necessarily the same ones. For
    MEDIANCR the excess is that of the median over the minimum (with more than three
    exposures as the boundary compares them), for other masks that of the highest
    exposure or of the mean. Without gain and read noise ``peak_sigma`` is NaN.

    Examples
    --------
    >>> from ccdcr import detect_cosmic_rays
    >>> from ccdcr.report import detection_table
    >>> from ccdcr.simulation import simulate_exposures
    >>> sim = simulate_exposures((100, 120), seed=1)
    >>> masks = detect_cosmic_rays(
    ...     sim.exposures,
    ...     gain="GAIN",
    ...     readnoise="RDNOISE",
    ...     crmethod="mm_lacosmic",
    ...     la_verbose=False,
    ... )
    >>> table = detection_table(sim.exposures, masks)
    >>> int(table["pixels"].sum()) == int(masks.mediancr.sum())
    True
    """
    inspection = Inspection.from_ccds(ccds, masks)
    mask = inspection.mask(name)
    labels, n = label_groups(mask)
    y, x = np.nonzero(mask)
    group = labels[y, x] - 1
    reference, statistic = (plane[y, x] for plane in inspection.statistic(name))
    excess = statistic - reference
    sigma = excess / inspection.compute_noise(reference)
    flags = inspection.flags(name)[y, x]
    classes = _classes(flags, group, n)
    # The place of a source, not that of a track that crosses it.
    other = (flags != POINT_LIKE) & (classes[group] == POINT_LIKE)
    peak = _highest(np.where(other, -np.inf, excess), group, n)
    columns = {
        "pixels": np.bincount(group, minlength=n),
        "x": x[peak] + 1,
        "y": y[peak] + 1,
        **_boxes(labels),
        "exposures": _exposures(inspection.masks.crmasks[:, y, x], group, n),
        "peak_excess": excess[peak].astype(float),
        "peak_sigma": sigma[_highest(sigma, group, n)].astype(float),
    }
    return _as_table(classes, columns, inspection, name)


def _classes(flags, group, n):
    """Return the class of each group from those of its pixels."""
    has = {
        flag: np.bincount(group, weights=flags == flag, minlength=n) > 0
        for flag in _ORDER
    }
    classes = np.full(n, UNKNOWN)
    # Later classes win.
    classes[has[DILATION]] = DILATION
    classes[has[UNKNOWN]] = UNKNOWN
    classes[has[LOW]] = LOW
    classes[has[USER]] = USER
    classes[has[MM_ONLY]] = MM_ONLY
    classes[has[SINGLE_ONLY]] = SINGLE_ONLY
    classes[has[BOTH] | (has[MM_ONLY] & has[SINGLE_ONLY])] = BOTH
    classes[has[POINT_LIKE]] = POINT_LIKE
    return classes


def _highest(values, group, n):
    """Return the index of the highest pixel of each group."""
    order = np.lexsort((np.nan_to_num(values, nan=-np.inf), group))
    last = np.cumsum(np.bincount(group, minlength=n)) - 1
    return order[last]


def _boxes(labels):
    boxes = [
        (columns.start + 1, columns.stop, rows.start + 1, rows.stop)
        for rows, columns in ndimage.find_objects(labels)
    ]
    names = ("xmin", "xmax", "ymin", "ymax")
    return dict(zip(names, np.array(boxes, dtype=int).reshape(-1, 4).T, strict=True))


def _exposures(hits, group, n):
    """Return the numbers of the exposures (n, pixels) masked in each group."""
    touched = np.array([np.bincount(group, weights=h, minlength=n) > 0 for h in hits])
    texts = np.full(n, "", dtype=object)
    for number, there in enumerate(touched, start=1):
        texts[there] += f" {number}"
    return np.array([text.strip() or "-" for text in texts], dtype=str)


def _as_table(classes, columns, inspection, name):
    rank = np.argsort(_ORDER)[np.searchsorted(np.sort(_ORDER), classes)]
    height = np.nan_to_num(columns["peak_sigma"], nan=-np.inf)
    order = np.lexsort((-columns["peak_excess"], -height, rank))
    labels = np.array([ORIGINS[flag] for flag in classes], dtype="U24")
    table = Table(
        {
            "number": np.arange(1, len(classes) + 1),
            "class": labels[order],
            **{key: column[order] for key, column in columns.items()},
        }
    )
    for key, text in _DESCRIPTIONS.items():
        table[key].info.description = text
    table["peak_excess"].unit = inspection.unit
    table["peak_excess"].info.format = ".2f"
    table["peak_sigma"].info.format = ".1f"
    table.meta["mask"] = name
    table.meta["uuid"] = inspection.masks.uuid
    return table


_DPI = 110
_DIAGRAMS = ("MEDIANCR", "MEANCRT")
_DIAGRAM = (
    "Median-Minimum diagram of {}: what the noise explains, and the exposures. Pixels "
    "above the boundary are cosmic rays."
)
_DEVIATIONS = (
    "How far each matched exposure is from the mean of the others: what the noise "
    "explains, and the exposures. What is above the limits is hit."
)
_EQUIVALENCE = (
    "How far the exposures are from being equivalent, before and after they were "
    "matched to each other, and by how much each differs from the mean of all."
)
_PIXELS = "Pixels of {} by detector, in the diagram and in the image."
_FLUX = (
    "Flux of each exposure relative to the mean of all. The histograms should peak at "
    "their lines."
)
_OFFSETS = (
    "Offsets of the exposures, and what differs from the median. A source that is "
    "bright on one side and dark on the other has moved."
)
_COMPARISON = (
    "The surroundings of x = {}, y = {}, where the median is corrected most, by each "
    "combination method, and the differences to the median."
)
_AGAIN = "(not in the file of masks; detect_again=True finds it out)"


@dataclass(frozen=True)
class ReportFigure:
    """A figure: function that draws on it, size in inches, caption."""

    draw: Callable
    size: tuple
    caption: str

    def png(self):
        """Return the bytes of a PNG."""
        fig = get_figure(None, self.size)
        self.draw(fig)
        buffer = io.BytesIO()
        fig.savefig(buffer, format="png", dpi=_DPI)
        return buffer.getvalue()


def make_diagrams(inspection):
    """Return a dict of `ReportFigure`: the Median-Minimum diagrams that there are."""
    known = inspection.masks.diagnostics.diagrams
    names = [name for name in _DIAGRAMS if name in known]
    return {f"diagram_{name}": _diagram(inspection, name) for name in names}


def make_figures(inspection, mask, color_scale):
    """Return a dict of the other `ReportFigure`; ``mask`` names that of the pixels."""
    masks, figures = inspection.masks, {}

    def pixels(fig):
        plot_detections(inspection, masks, mask, color_scale=color_scale, fig=fig)

    def flux(fig):
        plot_flux_factors(inspection, masks, ax=fig.subplots())

    def offsets(fig):
        plot_offsets(inspection, masks, fig=fig)

    if masks.diagnostics.matching is not None:
        figures["deviations"] = _deviations(inspection)
    if masks.equivalence is not None:
        figures["equivalence"] = _equivalence(inspection)
    return figures | {
        f"pixels_{mask}": ReportFigure(pixels, (11, 6.2), _PIXELS.format(mask)),
        "flux_factors": ReportFigure(flux, (8, 4.8), _FLUX),
        "offsets": ReportFigure(offsets, offsets_size(len(masks)), _OFFSETS),
    }


def _diagram(inspection, name):
    def draw(fig):
        plot_diagram(inspection.masks, name, unit=inspection.unit, fig=fig)

    return ReportFigure(draw, (11, 5.2), _DIAGRAM.format(name))


def _deviations(inspection):
    def draw(fig):
        plot_deviations(inspection.masks, unit=inspection.unit, fig=fig)

    return ReportFigure(draw, (11, 5.6), _DEVIATIONS)


def _equivalence(inspection):
    report = inspection.masks.equivalence

    def draw(fig):
        plot_equivalence(report, unit=inspection.unit, fig=fig)

    return ReportFigure(draw, equivalence_size(len(report.terms)), _EQUIVALENCE)


def comparison_figure(comparison):
    """Return the figure of all combination methods."""
    size = comparison_size(len(comparison.images))

    def draw(fig):
        plot_comparison(comparison, fig=fig)

    return ReportFigure(draw, size, _COMPARISON.format(*comparison.position))


def list_missing(inspection):
    """Return what the masks do not record, a list of texts."""
    diagnostics, missing = inspection.masks.diagnostics, []
    known = inspection.masks.requirements is not None
    if known and inspection.uses("matched") and diagnostics.matching is None:
        missing.append(f"the deviations of the matched exposures {_AGAIN}")
    if not diagnostics.diagrams and (inspection.uses("mm") or not known):
        missing.append(f"the Median-Minimum diagram and its boundary {_AGAIN}")
    if not diagnostics.flags:
        missing.append(f"the detector that found each pixel {_AGAIN}")
    if inspection.detector is None:
        missing.append("excesses in sigma (the masks record no gain or read noise)")
    return missing
