# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Figures of what was detected and combined; none is shown or saved."""

from ccdcr.plotting.combinations import plot_combinations, plot_comparison
from ccdcr.plotting.detections import plot_detections
from ccdcr.plotting.deviations import plot_deviations
from ccdcr.plotting.diagram import plot_boundary, plot_diagram
from ccdcr.plotting.equivalence import plot_equivalence
from ccdcr.plotting.exposures import plot_flux_factors, plot_offsets
from ccdcr.plotting.stamps import plot_stamps

__all__ = [
    "plot_boundary",
    "plot_combinations",
    "plot_comparison",
    "plot_detections",
    "plot_deviations",
    "plot_diagram",
    "plot_equivalence",
    "plot_flux_factors",
    "plot_offsets",
    "plot_stamps",
]
