# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The figures of a report, and what cannot be shown."""

import io
from collections.abc import Callable
from dataclasses import dataclass

from ccdcr.plotting import (
    plot_comparison,
    plot_detections,
    plot_deviations,
    plot_diagram,
    plot_equivalence,
    plot_flux_factors,
    plot_offsets,
)
from ccdcr.plotting._style import figure_of
from ccdcr.plotting.combinations import comparison_size
from ccdcr.plotting.equivalence import size_of
from ccdcr.plotting.exposures import offsets_size

__all__ = ["ReportFigure", "comparison_figure", "figures_of", "missing_of"]

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
    """A figure: function that draws on one, size in inches, caption."""

    draw: Callable
    size: tuple
    caption: str

    def png(self):
        """Return the bytes of a PNG."""
        fig = figure_of(None, self.size)
        self.draw(fig)
        buffer = io.BytesIO()
        fig.savefig(buffer, format="png", dpi=_DPI)
        return buffer.getvalue()


def figures_of(inspection, mask, color_scale):
    """
    Return the figures of masks and exposures.

    Parameters
    ----------
    inspection : `~ccdcr.inspection.Inspection`
        Masks and exposures.
    mask : str
        Name of the mask whose pixels are shown.
    color_scale : {'zscale', 'minmax'}
        Limits of the grey scale.

    Returns
    -------
    figures : dict of `ReportFigure`
        The figures by name, in order.
    """
    masks = inspection.masks
    names = [n for n in _DIAGRAMS if n in masks.diagnostics.diagrams]
    figures = {f"diagram_{name}": _diagram(inspection, name) for name in names}

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

    return ReportFigure(draw, size_of(len(report.terms)), _EQUIVALENCE)


def comparison_figure(comparison):
    """Return the figure of all combination methods."""
    size = comparison_size(len(comparison.images))

    def draw(fig):
        plot_comparison(comparison, fig=fig)

    return ReportFigure(draw, size, _COMPARISON.format(*comparison.position))


def missing_of(inspection):
    """Return what the masks do not say, a list of texts."""
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
