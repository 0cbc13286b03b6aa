# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Small results of probability theory."""

from functools import lru_cache

import numpy as np
from astropy.table import Table
from scipy import stats

__all__ = [
    "chance_of_all",
    "chance_of_majority",
    "flagged_fractions",
    "median_factor",
]

_SAMPLE = 100_000  # pixels that are enough for percentiles
_PERCENTILE = 95
_FAINT, _BRIGHT = 2.0, 5.0  # sigmas above the median


def flagged_fractions(masks, image, noise_of):
    """
    Return how much is flagged on bright and on faint pixels.

    Parameters
    ----------
    masks : dict of 2D `~numpy.ndarray` of bool
        The masks by name, True = flagged.
    image : 2D `~numpy.ndarray`
        A clean image of the scene.
    noise_of : callable
        Returns the noise at a signal.

    Returns
    -------
    fractions : `~astropy.table.Table`
        Columns: mask, bright and faint, the flagged fraction of the pixels of
        structure, the brightest 5% at most, and of those near the median of the
        image or below; NaN if there are none.

    Notes
    -----
    Cosmic rays do not care where they fall: a much larger fraction on bright
    pixels means that real signal is flagged.
    """
    sample = image.ravel()[:: max(image.size // _SAMPLE, 1)]
    middle, high = np.percentile(sample, (50, _PERCENTILE))
    # Beyond the noise: the median is higher where an exposure is hit.
    sigma = noise_of(middle)
    parts = {
        "bright": image > max(high, middle + _BRIGHT * sigma),
        "faint": image <= middle + _FAINT * sigma,
    }
    rows = {"mask": list(masks)} | {
        name: [_fraction(mask, part) for mask in masks.values()]
        for name, part in parts.items()
    }
    return Table(rows)


def _fraction(mask, part):
    number = np.count_nonzero(part)
    return np.count_nonzero(mask & part) / number if number else np.nan


def chance_of_all(chances):
    """Return the probability that all of some independent events happen."""
    return float(np.prod(chances))


def chance_of_majority(chances):
    """Return the probability that more than half of them happen."""
    counts = np.ones(1)
    for chance in chances:
        counts = np.convolve(counts, [1 - chance, chance])
    return float(counts[len(chances) // 2 + 1 :].sum())


@lru_cache(maxsize=128)
def median_factor(n):
    r"""
    Return sd(median) / sd(mean) of n independent equal Gaussian values.

    Parameters
    ----------
    n : int
        Number of values.

    Returns
    -------
    factor : float
        1 for n = 1 and 2, 1.160 for 3, tending to :math:`\sqrt{\pi/2}`.

    Notes
    -----
    The variance follows from the densities of the middle order statistics
    [1]_ (chapter 2), integrated on a grid; above n = 100 from its expansion in
    powers of 1 / n up to the second term, which is then right to 1e-4.

    References
    ----------
    .. [1] H. A. David, H. N. Nagaraja, "Order Statistics", 3rd ed., Wiley
       2003, doi:10.1002/0471722162
    """
    if n < 3:
        return 1.0
    even = n % 2 == 0
    if n > 100:
        return float(np.sqrt(np.pi / 2 / (1 + (2 + even - np.pi / 2) / n)))
    return float(np.sqrt(n * _variance_of_median(n, even)))


def _variance_of_median(n, even):
    x, step = np.linspace(-9, 9, 3601, retstep=True)
    # Densities up to a factor: the last step divides by their integral.
    power = (2 * stats.norm.cdf(x)) ** ((n - 1) // 2)
    lower, upper = power * stats.norm.pdf(x), power[::-1] * stats.norm.pdf(x)
    if not even:
        weight = power[::-1] * lower
        return np.sum(weight * x**2) / np.sum(weight)
    zeroth, first, second = (_integral_above(x**k * upper, step) for k in range(3))
    square = x**2 * zeroth + 2 * x * first + second
    return np.sum(lower * square) / np.sum(lower * zeroth) / 4


def _integral_above(values, step):
    """Integrate from each grid point to the end."""
    return (np.cumsum(values[::-1])[::-1] - values / 2) * step
