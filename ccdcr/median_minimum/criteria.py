# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Criteria of the Median-Minimum method with a simulated boundary, and offsets."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.registration import phase_cross_correlation

from ccdcr.median_minimum.simulated_boundary import (
    Diagram,
    NoiseModel,
    PiecewiseBoundary,
    boundary_points,
    expected_exposures,
    fit_spline,
    low_reference,
    simulate_diagrams,
)
from ccdcr.utils.neighbours import cut_bands, dilate

__all__ = [
    "Criterion",
    "compute_limit",
    "find_candidates",
    "least_excess",
    "make_simulated_criteria",
    "measure_offsets",
]


@dataclass(frozen=True)
class Criterion:
    """
    Criterion for cosmic rays in an image (ny, nx).

    Pixels of ``candidates`` are hits if ``statistic``, or the image if that is None,
    exceeds ``limit``: ``reference``, the low reference x, plus the larger of
    ``boundary(x)`` and ``threshold``. Hits are dilated ``dilation`` times. All planes
    are (ny, nx); ``diagram`` is that of the boundary.
    """

    reference: np.ndarray
    limit: np.ndarray
    candidates: np.ndarray
    threshold: float
    dilation: int
    boundary: object
    diagram: Diagram | None = None
    statistic: np.ndarray | None = None

    def __call__(self, image):
        """Return the cosmic rays in an image, (ny, nx), True = hit."""
        mask = self.compared(image) > self.limit
        mask &= self.candidates
        return dilate(mask, self.dilation)

    def compared(self, image):
        """Return the plane that is compared with the limit, (ny, nx)."""
        return image if self.statistic is None else self.statistic

    def excess(self, image):
        """Return the excess of the compared plane over the reference, (ny, nx)."""
        return self.compared(image) - self.reference


def compute_limit(reference, boundary, threshold, number=None):
    """Return reference + max(boundary, threshold), (ny, nx); inf where number < 2."""

    def limit_at(boundary, x):
        return x + np.maximum(boundary(x), np.float32(threshold))

    limit = np.empty_like(reference)
    for rows in cut_bands(limit.shape):
        limit[rows] = limit_at(boundary, reference[rows])
    if number is not None:
        limit[number < 2] = np.inf
        for other in boundary.fewer:
            pixels = number == other.n_exposures
            limit[pixels] = limit_at(other, reference[pixels])
    return limit


def find_candidates(observed, settings):
    """Return the pixels whose highest good exposure is high enough, (ny, nx)."""
    stack, bad = observed.stack, observed.bad
    highest = np.full(stack.shape[1:], -np.inf, dtype=stack.dtype)
    for i, plane in enumerate(stack):
        np.maximum(highest, plane, out=highest, where=True if bad is None else ~bad[i])
    return highest > settings.mm_minimum_max2d_rnoise * observed.detector.noise


def least_excess(settings, detector):
    """Return the least excess of a hit in the unit of the data."""
    return settings.mm_threshold + settings.mm_threshold_rnoise * detector.noise


def make_simulated_criteria(observed, settings, offsets, found):
    """
    Return the criteria by name of the mask, with boundaries from simulations.

    The median is compared with the mean of the lowest exposures, as
    ``mm_cr_coincidences`` wants, all else with the minimum: a single clean exposure
    may well exceed the mean of the lowest by more than the median does.
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
        _noise_models(settings, observed.detector, len(stack)),
        settings,
        {k: (x, planes.median - x) for k, x in references.items()},
        ~flagged if bad is None else ~flagged & ~bad.any(axis=0),
    )
    candidates = find_candidates(observed, settings)
    threshold = least_excess(settings, observed.detector)
    criteria = {}
    for k, x in references.items():
        boundary = _boundary(diagrams[k], settings, observed.detector)
        criteria[k] = Criterion(
            x,
            compute_limit(x, boundary, threshold),
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


def _noise_models(settings, detector, n):
    """Return the noise of n exposures to be simulated."""
    is_poisson = settings.mm_photon_distribution == "poisson"
    shape = None if is_poisson else settings.mm_nbinom_shape
    gains = detector.gain * detector.depths(n)
    readnoise = detector.every_readnoise
    readnoises = [readnoise] * n if np.ndim(readnoise) != 1 else readnoise
    pairs = zip(gains, readnoises, strict=True)
    return [NoiseModel(gain, rn / gain, shape) for gain, rn in pairs]


def _boundary(diagram, settings, detector):
    if settings.mm_boundary_fit == "piecewise":
        fixed = sorted(settings.mm_fixed_points_in_boundary)
        x, y = np.array([point[:2] for point in fixed]).T
        return PiecewiseBoundary(x, y, (x[0], x[-1]), detector.gain, detector.readnoise)
    points = boundary_points(diagram, settings.mm_hist2d_min_neighbors)
    return fit_spline(points, settings, detector.gain, detector.readnoise)


_UPSAMPLING = 100
_ITERATIONS = 12
_ROUNDS = 3
_REACH = 7  # pixels: a cosmic ray is brighter than all of the median so near
_CONVERGED = 0.002  # pixel
_CLIP = 5.0  # sigma
_SLOPE = 0.7  # least slope that counts, in units of the noise per pixel
_STRUCTURE = (0.5, 0.1)  # of the local contrast, first and last tolerance


def measure_offsets(stack, median, compute_noise, region):
    """
    Return the (dx, dy) that move the median (ny, nx) onto each exposure.

    Phase cross-correlation (M. Guizar-Sicairos et al. 2008, Optics Letters 33, 156)
    is drawn to 0 by the noise that median and exposures share. Weighted least squares
    against the first exposure refine it. ``region`` is (xmin, xmax, ymin, ymax), FITS.
    """
    xmin, xmax, ymin, ymax = region
    cut = np.s_[ymin - 1 : ymax, xmin - 1 : xmax]
    images, median = [image[cut] for image in stack], median[cut]
    brightest = ndimage.maximum_filter(median, _REACH)
    brightest += _CLIP * compute_noise(brightest)
    start = [_correlate(np.minimum(image, brightest), median) for image in images]
    starts = [(offset - start[0], offset) for offset in start]
    for _ in range(_ROUNDS):
        offsets = np.array(
            [
                _refine(image, images[0], median, compute_noise, start)
                for image, start in zip(images, starts, strict=True)
            ]
        )
        # The median of shifted exposures is smeared, that of aligned ones is not.
        median = np.median(
            [_moved(i, -o) for i, o in zip(images, offsets, strict=True)], axis=0
        )
        starts = [(offset, offset) for offset in offsets]
    offsets -= np.median(offsets, axis=0)
    return [(float(dx), float(dy)) for dy, dx in offsets]


def _correlate(image, reference):
    shift, *_ = phase_cross_correlation(
        _tapered(image),
        _tapered(reference),
        upsample_factor=_UPSAMPLING,
        normalization=None,
    )
    return shift


def _tapered(image):
    """Return an image that falls to its mean at the edges."""
    image = image - image.mean(dtype=np.float64)
    for axis, size in enumerate(image.shape):
        ramp = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
        image = image * np.expand_dims(ramp, 1 - axis)
    return image


def _refine(image, reference, median, compute_noise, start):
    """Return the offset (dy, dx) of an image from a reference."""
    offset, from_median = start
    for tolerance in np.geomspace(*_STRUCTURE, _ITERATIONS):
        model = _moved(median, from_median)
        noise = np.sqrt(2) * compute_noise(model)
        contrast = ndimage.maximum_filter(model, 3) - ndimage.minimum_filter(model, 3)
        residual = image - _moved(reference, offset)
        limit = _CLIP * noise + tolerance * contrast
        slopes = np.gradient(ndimage.gaussian_filter(model, 1))
        # Elsewhere the slopes are only noise.
        use = np.hypot(*slopes) > _SLOPE * noise
        weight = (use & ~dilate(np.abs(residual) > limit, 1)) / noise**2
        matrix = [[np.sum(weight * a * b) for b in slopes] for a in slopes]
        vector = [np.sum(weight * a * residual) for a in slopes]
        step = -np.linalg.lstsq(matrix, vector, rcond=1e-12)[0]
        step = np.clip(step, -0.5, 0.5)
        offset, from_median = offset + step, from_median + step
        if tolerance < _STRUCTURE[0] / 2 and np.all(np.abs(step) < _CONVERGED):
            break
    return offset


def _moved(image, offset):
    return ndimage.shift(image, offset, order=3, mode="nearest")
