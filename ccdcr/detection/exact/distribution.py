# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The distribution of one pixel of one exposure: photons and normal read noise."""

import numpy as np
from scipy.special import ndtr
from scipy.stats import nbinom, poisson

__all__ = ["exposure_distribution"]

_DIRECT = 100  # photon variance up to which probabilities are summed
_NEGLIGIBLE = 1e-18
_STEPS = 12
_STEEPEST = 30  # of the tilt that the search starts with
_CENTRE = 0.25  # |w| under which the saddlepoint formula loses digits


def exposure_distribution(expected, values, noise):
    """
    Return the distribution of photons plus read noise.

    Parameters
    ----------
    expected : 1D `~numpy.ndarray`
        Expected electrons, (n,), not negative.
    values : 2D `~numpy.ndarray`
        Electrons at which it is wanted, (n, m).
    noise : `~ccdcr.detection.exact.noise.PhotonNoise`
        The noise.

    Returns
    -------
    above, below, density : 2D `~numpy.ndarray`
        Probability to be above and below each value, and the density per
        electron, (n, m).

    Notes
    -----
    Sums over the number of photons where their variance is small, otherwise the
    saddlepoint approximation of Lugannani and Rice in the form of
    Barndorff-Nielsen, r* [1]_, whose relative error in the tails is below 1e-5
    there.

    References
    ----------
    .. [1] O. E. Barndorff-Nielsen 1991, Biometrika 78, 557,
       doi:10.1093/biomet/78.3.557
    """
    expected = np.asarray(expected, dtype=float)
    above, below, density = np.empty((3, *values.shape))
    few = expected + expected**2 / noise.shape < _DIRECT
    for i in np.flatnonzero(few):
        above[i], below[i], density[i] = _summed(expected[i], values[i], noise)
    if not few.all():
        many = ~few
        result = _saddlepoint(expected[many, np.newaxis], values[many], noise)
        above[many], below[many], density[many] = result
    return above, below, density


def _summed(expected, values, noise):
    """Sum over the number of photons."""
    photons, chances = _photon_chances(expected, noise.shape)
    z = (values[:, np.newaxis] - photons) / noise.readnoise
    bell = np.exp(-(z**2) / 2) / (np.sqrt(2 * np.pi) * noise.readnoise)
    return tuple((values * chances).sum(axis=1) for values in (ndtr(-z), ndtr(z), bell))


def _photon_chances(expected, shape):
    """Return the numbers of photons that matter, and their probabilities."""
    spread = np.sqrt(expected + expected**2 / shape)
    # A negative binomial has an exponential tail of this many photons.
    tail = 1 + (expected / shape if np.isfinite(shape) else 0)
    photons = np.arange(int(expected + 12 * spread + 45 * tail))
    if np.isinf(shape):
        chances = poisson.pmf(photons, expected)
    else:
        chances = nbinom.pmf(photons, shape, shape / (shape + expected))
    used = chances > _NEGLIGIBLE
    return photons[used], chances[used]


def _saddlepoint(expected, values, noise):
    s = _saddlepoints(expected, values, noise)
    cgf, _, *cumulants = _cumulants(s, expected, noise)
    second, third, fourth = cumulants
    depth = np.maximum(s * values - cgf, 0)
    w = np.sign(s) * np.sqrt(2 * depth)
    centre = np.abs(w) < _CENTRE
    correction = _correction(np.where(centre, 1, w), np.where(centre, 1, s), second)
    correction = np.where(centre, _central_correction(expected, w, noise), correction)
    normal = w + correction
    density = np.exp(-depth) / np.sqrt(2 * np.pi * second)
    density *= 1 + fourth / (8 * second**2) - 5 * third**2 / (24 * second**3)
    return ndtr(-normal), ndtr(normal), density


def _correction(w, s, second):
    """Return what the root of the exponent lacks to be a normal variable."""
    return np.log(s * np.sqrt(second) / w) / w


def _central_correction(expected, w, noise):
    """Interpolate the correction between points on both sides of the mean."""
    spread = np.sqrt(expected + expected**2 / noise.shape + noise.readnoise**2)
    points = []
    for side in (-0.3, 0.3):
        value = expected + side * spread
        s = _saddlepoints(expected, value, noise)
        cgf, _, second, *_ = _cumulants(s, expected, noise)
        root = np.sign(s) * np.sqrt(2 * (s * value - cgf))
        points.append((root, _correction(root, s, second)))
    (w0, c0), (w1, c1) = points
    return c0 + (w - w0) / (w1 - w0) * (c1 - c0)


def _cumulants(s, expected, noise):
    """Return the cumulant generating function and its first four derivatives."""
    variance, shape = noise.readnoise**2, noise.shape
    grown = expected * np.expm1(s)
    if np.isinf(shape):
        photons = grown
        k1 = k2 = k3 = k4 = grown + expected
    else:
        photons = -shape * np.log1p(-grown / shape)
        k1 = (grown + expected) / (1 - grown / shape)
        slope = 1 + 2 * k1 / shape
        k2 = k1 + k1**2 / shape
        k3 = k2 * slope
        k4 = k3 * slope + 2 * k2**2 / shape
    return photons + variance * s**2 / 2, k1 + variance * s, k2 + variance, k3, k4


def _saddlepoints(expected, values, noise):
    """Solve for where the tilted mean is the value: Newton, kept below the pole."""
    pole = np.log1p(noise.shape / expected)
    s = (values - expected) / noise.deviation(expected) ** 2
    s = np.clip(s, -_STEEPEST, np.minimum(pole / 2, _STEEPEST))
    for _ in range(_STEPS):
        _, first, second, *_ = _cumulants(s, expected, noise)
        step = np.clip((values - first) / second, -2, 2)
        s = np.where(s + step < pole, s + step, (s + pole) / 2)
    return s
