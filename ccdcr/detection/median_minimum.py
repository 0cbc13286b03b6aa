# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The Median-Minimum method: pixels above what noise can do."""

import numpy as np

from ccdcr.detection.boundary import PiecewiseBoundary, fit_spline
from ccdcr.detection.criterion import Criterion, candidates_of, least_excess, limit_of
from ccdcr.detection.diagram import (
    NoiseModel,
    boundary_points,
    expected_exposures,
    low_reference,
    simulate_diagrams,
)

__all__ = ["make_simulated_criteria"]


def make_simulated_criteria(observed, settings, offsets, found):
    """
    Simulate the exposures, and derive the boundaries from them.

    The median is compared with the mean of the lowest exposures, as
    ``mm_cr_coincidences`` wants, all else with the minimum: a single clean
    exposure may well exceed the mean of the lowest by more than the median does.
    """
    stack, bad, planes = observed.stack, observed.bad, observed.planes
    sought = min(settings.mm_cr_coincidences, len(stack) - 1)
    references = {
        k: _reference(observed, k) for k in dict.fromkeys((sought, len(stack) - 1))
    }
    flagged = found.mask("MEDIANCR", planes.median.shape)
    clean = np.where(flagged, references[sought], planes.median)
    diagrams = simulate_diagrams(
        expected_exposures(
            _clean_reference(observed, settings, found, clean),
            observed.factors,
            offsets,
        ),
        _noise_model(settings, observed.detector),
        settings,
        {k: (x, planes.median - x) for k, x in references.items()},
        ~flagged if bad is None else ~flagged & ~bad.any(axis=0),
    )
    candidates = candidates_of(observed, settings)
    threshold = least_excess(settings, observed.detector)
    criteria = {}
    for k, x in references.items():
        boundary = _boundary(diagrams[k], settings, observed.detector)
        criteria[k] = Criterion(
            x,
            limit_of(x, boundary, threshold),
            candidates,
            threshold,
            settings.mm_dilation,
            boundary,
            diagrams[k],
        )
    names = ("MEANCRT", "MEANCR", *observed.names)
    return dict.fromkeys(names, criteria[len(stack) - 1]) | {
        "MEDIANCR": criteria[sought]
    }


def _reference(observed, coincidences):
    """Return the low reference, defined in every pixel."""
    x = low_reference(observed.stack, observed.bad, coincidences)
    nogood = observed.planes.nogood
    return x if nogood is None else np.where(nogood, observed.planes.minimum, x)


def _clean_reference(observed, settings, found, median):
    """Return the noise-free image, or one of each exposure, to simulate."""
    if settings.mm_synthetic == "median":
        return median
    return np.stack([found.cleaned[name] for name in observed.names])


def _noise_model(settings, detector):
    is_poisson = settings.mm_photon_distribution == "poisson"
    shape = None if is_poisson else settings.mm_nbinom_shape
    return NoiseModel(detector.gain, detector.noise, shape)


def _boundary(diagram, settings, detector):
    if settings.mm_boundary_fit == "piecewise":
        fixed = sorted(settings.mm_fixed_points_in_boundary)
        x, y = np.array([point[:2] for point in fixed]).T
        return PiecewiseBoundary(x, y, (x[0], x[-1]), detector.gain, detector.readnoise)
    points = boundary_points(diagram, settings.mm_hist2d_min_neighbors)
    return fit_spline(points, settings, detector.gain, detector.readnoise)
