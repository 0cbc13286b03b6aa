# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Figures of detections and combinations; none is shown or saved."""

from ccdcr.plotting.plot_combinations import (
    plot_combinations,
    plot_comparison,
    plot_stamps,
)
from ccdcr.plotting.plot_detections import plot_detections, plot_deviations, plot_masks
from ccdcr.plotting.plot_diagram import plot_boundary, plot_diagram
from ccdcr.plotting.plot_exposures import (
    plot_equivalence,
    plot_flux_factors,
    plot_offsets,
)

__all__ = [
    "plot_boundary",
    "plot_combinations",
    "plot_comparison",
    "plot_detections",
    "plot_deviations",
    "plot_diagram",
    "plot_equivalence",
    "plot_flux_factors",
    "plot_masks",
    "plot_offsets",
    "plot_stamps",
]
