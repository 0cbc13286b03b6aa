# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Variances of a mean, a median and of the scatter of the exposures."""

from functools import reduce

import numpy as np

from ccdcr import _kernels as kernels
from ccdcr._statistics import median_factor

__all__ = ["mean_variance", "median_variance", "scatter_variance"]

_SIMILAR = 1.5  # variances whose median has the factor of equal ones


def mean_variance(variances, bad=None, weights=None):
    """
    Return the variance of a weighted mean.

    Parameters
    ----------
    variances : sequence of `~numpy.ndarray`
        Variance of each exposure.
    bad : `~numpy.ndarray` of bool, optional
        (n, ...), True = takes no part.
    weights : `~numpy.ndarray`, optional
        One weight per exposure, or one per pixel of each.

    Returns
    -------
    variance : `~numpy.ndarray`
        The variance; NaN where no exposure takes part.
    """
    total = norm = 0.0
    for i, variance in enumerate(variances):
        weight = 1.0 if weights is None else weights[i]
        if bad is not None:
            weight = weight * ~bad[i]
        total = total + _weighted(variance, weight)
        norm = norm + weight
    with np.errstate(invalid="ignore", divide="ignore"):
        return total / norm**2


def _weighted(variance, weight):
    """Return a variance times a squared weight; it may be infinite where that is 0."""
    if np.ndim(weight) == 0:
        return 0.0 if weight == 0 else variance if weight == 1 else weight**2 * variance
    return weight**2 * np.where(weight == 0, 0, variance)


def median_variance(variances, bad=None):
    """
    Return the variance of a median of Gaussian values.

    Parameters
    ----------
    variances : sequence of 1D `~numpy.ndarray`
        Variance of each exposure.
    bad : `~numpy.ndarray` of bool, optional
        (n, pixels), True = takes no part.

    Returns
    -------
    variance : `~numpy.ndarray`
        The variance of the mean, times the squared factor of the median; where
        the variances differ by more than half, that of unequal ones.
    """
    n = len(variances)
    factors = np.array([1, *(median_factor(good) for good in range(1, n + 1))]) ** 2
    good = kernels.count(bad, n)
    variance = mean_variance(variances, bad)
    variance *= float(factors[n]) if bad is None else factors[good]
    index = _unequal(variances, bad, good)
    if index.size:
        columns = np.array([v[index] for v in variances], dtype=np.float64)
        if bad is not None:
            columns[bad[:, index]] = np.nan
            good = good[index]
        variance[index] = _of_unequal(columns, good, factors[good])
    return variance


def _unequal(variances, bad, good):
    """Return where the median is of three or more unequal variances."""
    if bad is None:
        # Faster than those that leave out NaN.
        lowest, highest = np.minimum, np.maximum
    else:
        variances = np.where(bad, np.nan, variances)
        lowest, highest = np.fmin, np.fmax
    unequal = reduce(highest, variances) > _SIMILAR * reduce(lowest, variances)
    return np.flatnonzero(unequal & (good > 2))


def _of_unequal(columns, good, factor):
    """
    Return the variance of a median of Gaussian values of unequal variances.

    For many exposures it is the inverse of four times the squared sum of their
    densities at the median. For a few, the densities are those of the exposures
    convolved with that of the median itself: right to about 5 percent where
    standard deviations differ by up to a factor of 3. For three it is exact. A
    large variance, such as that of a cosmic ray, hardly matters.
    """
    three = good == 3
    if np.all(three):
        return _of_three(columns)
    width, scale = 0.0, 1.0
    for _ in range(2):
        with np.errstate(divide="ignore"):
            density = np.nansum(1 / np.sqrt(columns + width), axis=0)
            # So that equal variances give the variance of the mean times factor.
            width = scale * factor * good / density**2
        scale = 1 / (1 + factor / good)
    if np.any(three):
        width[three] = _of_three(columns[:, three])
    return width


def _of_three(columns):
    """Return the exact variance of a median of three; others are NaN."""
    if len(columns) > 3:
        columns = np.sort(columns, axis=0)[:3]
    unknown = np.isinf(columns).sum(axis=0) > 1
    # One that is much larger than the others may as well be infinite.
    with np.errstate(invalid="ignore"):
        a, b, c = columns = np.minimum(columns, 1e8 * columns.min(axis=0))
        root = np.sqrt(a * b + a * c + b * c)
        variance = ((columns * np.arctan2(root, columns)).sum(axis=0) - root) / np.pi
    return np.where(unknown, np.inf, variance)


def scatter_variance(stack, bad, kind):
    """
    Return the squared uncertainty by ccdproc's convention.

    Parameters
    ----------
    stack : `~numpy.ndarray`
        The exposures, (n, ...).
    bad : `~numpy.ndarray` of bool or None
        True = takes no part.
    kind : {'mean', 'median'}
        Standard deviation over the exposures, or 1.4826 times their median
        absolute deviation; both divided by the root of their number.

    Returns
    -------
    variance : `~numpy.ndarray` of float64
        0 or NaN where fewer than two exposures take part.
    """
    good = kernels.count(bad, len(stack))
    values = stack if bad is None else np.where(bad, 0, stack)
    if kind == "mean":
        center = kernels.mean(values, bad)
        square = kernels.mean((values - center) ** 2, bad)
    else:
        deviation = np.abs(values - kernels.median(values, bad))
        square = (1.482602218505602 * kernels.median(deviation, bad)) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return square.astype(np.float64) / good
