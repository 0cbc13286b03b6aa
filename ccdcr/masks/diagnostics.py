# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Diagnostics of a detection: origins of pixels, boundaries, measured values."""

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

__all__ = [
    "BOTH",
    "DILATION",
    "LOW",
    "MM_ONLY",
    "ORIGINS",
    "POINT_LIKE",
    "SINGLE_ONLY",
    "UNKNOWN",
    "USER",
    "Diagnostics",
    "MatchingDiagnostics",
    "cut_diagnostics",
]

# What found a pixel; UNKNOWN is for masks without flags.
DILATION, MM_ONLY, SINGLE_ONLY, BOTH, USER, LOW, UNKNOWN, POINT_LIKE = range(1, 9)
# In the order of figures and reports.
ORIGINS = {
    POINT_LIKE: "point-like",
    BOTH: "both detectors",
    SINGLE_ONLY: "single image only",
    MM_ONLY: "comparison only",
    DILATION: "dilation only",
    USER: "your list",
    LOW: "low value",
    UNKNOWN: "detector not known",
}


@dataclass(frozen=True, eq=False, repr=False)
class MatchingDiagnostics:
    """
    Measurements of the matching of exposures.

    Attributes
    ----------
    deviations : object
        Number of pixels by clean signal and deviation, drawn by
        `~ccdcr.plotting.plot_deviations`.

    scale : 1D `~numpy.ndarray`
        Factors by which the exposures were divided before.

    noise : `~astropy.table.Table`
        Noise of clean pixels by signal, relative to that of gain and read noise.

    sky : object or None
        Sky levels that were subtracted before; None if they are alike.

    gain_ratio : 2D `~numpy.ndarray` or None
        Gain of each pixel divided by the median gain; None for one gain.

    known : object or None
        Data to repeat the detection in a part of the images; None for masks that were
        cut.
    """

    deviations: Any
    scale: np.ndarray
    noise: Any
    sky: Any = None
    gain_ratio: np.ndarray | None = None
    known: Any = None


@dataclass(frozen=True, eq=False, repr=False)
class Diagnostics:
    """
    Diagnostics of a detection for figures and reports, not stored in the file of masks.

    Its truth value is False if it is empty, as for masks from a file.

    Attributes
    ----------
    flags : dict of 2D `~numpy.ndarray` of uint8
        Detector of each pixel, by name of the mask: 0 not masked, 1 dilation, 2
        comparison of the exposures, 3 single-image detector, 4 both, 5 the user's list,
        6 low value, 8 point source of one exposure only, which may be an asteroid, a
        flare or a supernova.

    boundaries, diagrams : dict
        The Median-Minimum boundaries and diagrams, by name of the mask.

    offsets : sequence of [dx, dy] or None
        Offset of each exposure in pixels, measured or given.

    timing : dict of float
        Seconds spent, by stage.

    noise_model : object or None
        Report on the noise model, for the exact boundary.

    matching : `MatchingDiagnostics` or None
        Measurements of the matching.
    """

    flags: dict = field(default_factory=dict)
    boundaries: dict = field(default_factory=dict)
    diagrams: dict = field(default_factory=dict)
    offsets: Any = None
    timing: dict = field(default_factory=dict)
    noise_model: Any = None
    matching: MatchingDiagnostics | None = None

    def __bool__(self):
        """Whether there is anything."""
        return bool(self._known())

    def __repr__(self):
        return f"<{type(self).__name__}({', '.join(self._known())})>"

    def _known(self):
        """Return the names of the fields that are not empty."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        empty = [k for k, v in values.items() if isinstance(v, dict) and not v]
        return [k for k, v in values.items() if v is not None and k not in empty]


def cut_diagnostics(diagnostics, bounds):
    """Return the diagnostics of a part of the images; bounds are slices of y and x."""
    flags = {name: plane[bounds] for name, plane in diagnostics.flags.items()}
    matching = diagnostics.matching
    if matching is not None:
        ratio = matching.gain_ratio
        ratio = None if ratio is None else ratio[..., *bounds[-2:]]
        sky = None if matching.sky is None else matching.sky.cut(bounds[-2:])
        # A part has other tiles, so it cannot be searched again.
        matching = replace(matching, gain_ratio=ratio, sky=sky, known=None)
    return replace(diagnostics, flags=flags, matching=matching)
