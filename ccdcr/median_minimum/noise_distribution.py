# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Distribution of photon and read noise, exact or by the saddlepoint approximation."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr
from scipy.stats import nbinom, poisson

__all__ = ["STEP", "PhotonNoise", "Tables", "exposure_distribution", "make_tables"]


@dataclass(frozen=True)
class PhotonNoise:
    """
    Noise of a signal in electrons: photons and read noise.

    ``readnoise`` is in electrons; ``shape`` is that of a negative binomial
    distribution of the photons, infinite for Poisson's.
    """

    readnoise: float
    shape: float = np.inf

    def deviation(self, signal):
        """Return the standard deviation of a signal, both in electrons."""
        photons = np.maximum(signal, 0)
        variance = photons + self.readnoise**2
        if np.isfinite(self.shape):
            variance = variance + photons**2 / self.shape
        return np.sqrt(variance)

    def coordinate(self, signal):
        """Return the integral of 1 / `deviation` from 0 to a signal in electrons."""
        signal = np.asarray(signal, dtype=float)
        sigma, root = self.readnoise, np.sqrt(self.shape)
        deviation = self.deviation(signal)
        if np.isinf(self.shape):
            above = 2 * (deviation - sigma)
        else:
            photons = np.maximum(signal, 0)
            above = root * np.log(
                (2 * deviation / root + 2 * photons / self.shape + 1)
                / (2 * sigma / root + 1)
            )
        return np.where(signal < 0, signal / sigma, above)

    def signal(self, t):
        """Return the signal in electrons at a coordinate; inverse of `coordinate`."""
        t = np.asarray(t, dtype=float)
        sigma, shape = self.readnoise, self.shape
        above = np.maximum(t, 0)
        if np.isinf(shape):
            photons = above**2 / 4 + sigma * above
        else:
            root = np.sqrt(shape)
            grown = (2 * sigma / root + 1) * np.exp(above / root)
            photons = ((grown + (1 - 4 * sigma**2 / shape) / grown) / 2 - 1) * shape / 2
        return np.where(t < 0, t * sigma, photons)


_DIRECT = 100  # photon variance up to which probabilities are summed
_NEGLIGIBLE = 1e-18
_STEPS = 12
_STEEPEST = 30  # largest tilt at the start of the search
_CENTRE = 0.25  # |w| under which the saddlepoint formula loses digits


def exposure_distribution(expected, values, noise):
    """
    Return P(above), P(below) and density at ``values`` (n, m) of expected (n,) signals.

    Sums over photons where their variance is small, else the saddlepoint approximation
    r* (O. E. Barndorff-Nielsen 1991, Biometrika 78, 557, doi:10.1093/biomet/78.3.557),
    whose relative error in the tails is below 1e-5 there.
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
    """Return chances and density at values (m,), summed over the number of photons."""
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
    """Return r* - r for the root r = w, which makes it a normal variable."""
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
    """Solve for s where the tilted mean is the value: Newton, kept below the pole."""
    pole = np.log1p(noise.shape / expected)
    s = (values - expected) / noise.deviation(expected) ** 2
    s = np.clip(s, -_STEEPEST, np.minimum(pole / 2, _STEEPEST))
    for _ in range(_STEPS):
        _, first, second, *_ = _cumulants(s, expected, noise)
        step = np.clip((values - first) / second, -2, 2)
        s = np.where(s + step < pole, s + step, (s + pole) / 2)
    return s


STEP = 0.25  # of the grid, in standard deviations
_BELOW, _ABOVE = -9, 10  # range of a table, in standard deviations


@dataclass(frozen=True)
class Tables:
    """
    Distributions of one exposure at the nodes, its expected signals.

    Row i belongs to the i-th node; column c to the grid point ``start[i] + c``,
    where grid point g is the signal at the coordinate ``STEP * g``. ``above``
    and ``below`` are probabilities, ``density`` is per step of the grid.
    """

    noise: PhotonNoise
    start: np.ndarray
    above: np.ndarray
    below: np.ndarray
    density: np.ndarray

    @property
    def width(self):
        """Number of columns."""
        return self.above.shape[1]

    @property
    def last(self):
        """Columns up to this one hold nearly all values of an exposure."""
        return self.width - round(4.5 / STEP)

    def select(self, rows):
        """Return the tables of some nodes."""
        return Tables(
            self.noise,
            self.start[rows],
            self.above[rows],
            self.below[rows],
            self.density[rows],
        )

    def beyond(self, column, length):
        """Return ``above`` from a column on, (nodes, length), zero behind the table."""
        tail = self.above[:, column : column + length]
        return np.pad(tail, ((0, 0), (0, length - tail.shape[1])))


def make_tables(nodes, noise, exposure=None, factor=1.0, widening=1.0):
    """Return the `Tables` of an exposure at nodes: coordinates >= 0, ascending."""
    nearest = np.rint(nodes / STEP).astype(int)
    low, high = (round(limit * widening / STEP) for limit in (_BELOW, _ABOVE))
    start = nearest + low
    grid = STEP * (start[:, np.newaxis] + np.arange(high - low + 1))
    values = noise.signal(grid)
    above, below, density = exposure_distribution(
        factor * noise.signal(nodes), factor * values, exposure or noise
    )
    density *= factor * STEP * noise.deviation(values)
    return Tables(noise, start, above, below, density)
