# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Combination methods and their variances as functions of arrays."""

from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np

from ccdcr.utils import stacks as kernels
from ccdcr.utils.stacks import median_factor

__all__ = [
    "METHODS",
    "Combined",
    "Stack",
    "mean_variance",
    "meancr",
    "meancrt",
    "median_variance",
    "mediancr",
    "scatter_variance",
]

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


@dataclass(frozen=True)
class Stack:
    """
    The exposures of a combination, scaled, each array (n, pixels).

    ``bad`` is True where an exposure takes no part, or None. ``weights`` are
    one number per exposure or one per pixel, or None. ``variances`` are those
    of the exposures, or None. With ``scatter`` the variance of a result is the
    scatter of the exposures used, and ``variances`` only serve where there is
    none. ``substitute`` is what stands in for the minimum, or None.
    """

    data: np.ndarray
    bad: np.ndarray | None = None
    weights: np.ndarray | None = None
    variances: Any = None
    scatter: bool = False
    substitute: np.ndarray | None = None

    def at(self, index):
        """Return the stack of some pixels."""
        per_pixel = self.weights is not None and self.weights.ndim > 1
        return Stack(
            self.data.take(index, axis=1),
            None if self.bad is None else self.bad.take(index, axis=1),
            self.weights.take(index, axis=1) if per_pixel else self.weights,
            None if self.variances is None else [v[index] for v in self.variances],
            self.scatter,
            None if self.substitute is None else self.substitute[index],
        )

    def median(self):
        """Return the median and its variance."""
        return self._without_bad(Stack._median)

    def mean(self):
        """Return the weighted mean and its variance."""
        return self._without_bad(Stack._mean)

    def _without_bad(self, statistic):
        # Few pixels have a bad exposure: the others need no look at the masks.
        with np.errstate(invalid="ignore", over="ignore"):  # of bad values
            value, variance = statistic(replace(self, bad=None))
        if self.bad is None:
            return value, variance
        some = np.flatnonzero(self.bad.any(axis=0))
        if some.size:
            _put((value, variance), some, statistic(self.at(some)))
        return value, variance

    def _median(self):
        value = kernels.median(self.data, self.bad)
        return value, self._variance("median", median_variance)

    def _mean(self):
        value = kernels.mean(self.data, self.bad, self.weights)
        return value, self._variance("mean", mean_variance, self.weights)

    def lowest(self):
        """Return the minimum, or what stands in for it, and its variance."""
        value, index = kernels.lowest(self.data, self.bad)
        if self.substitute is not None:
            value = np.where(np.isfinite(self.substitute), self.substitute, value)
        if self.variances is None:
            return value, None
        return value, np.asarray(self.variances)[index, np.arange(index.size)]

    def _variance(self, kind, propagate, *weights):
        if self.variances is None:
            return None
        variance = propagate(self.variances, self.bad, *weights)
        if not self.scatter:
            return variance
        scatter = scatter_variance(self.data, self.bad, kind)
        return np.where(scatter > 0, scatter, variance)


@dataclass
class Combined:
    """A combined image: value, variance (or None), pixels that were replaced."""

    value: np.ndarray
    variance: np.ndarray | None
    replaced: np.ndarray


def _put(images, where, others):
    """Put values and variances (or None) of some pixels in place."""
    for image, other in zip(images, others, strict=True):
        if image is not None:
            image[where] = other


def _replace(value, variance, replaced, substitute):
    """Return the combined image after a substitute took its place somewhere."""
    index = np.flatnonzero(replaced)
    if index.size:
        _put((value, variance), index, substitute(index))
    return Combined(value, variance, replaced)


def mediancr(stack, masks):
    """
    Return the median, and the minimum where the median is wrong.

    Parameters
    ----------
    stack : `Stack`
        The exposures.
    masks : dict of `~numpy.ndarray` of bool
        ``MEDIANCR``, True = hit in more than half of the exposures.

    Returns
    -------
    combined : `Combined`
        The combined image.
    """
    return _replace(
        *stack.median(), masks["MEDIANCR"], lambda index: stack.at(index).lowest()
    )


def meancrt(stack, masks):
    """
    Return the mean, and the value of `mediancr` where any exposure is hit.

    Parameters
    ----------
    stack : `Stack`
        The exposures.
    masks : dict of `~numpy.ndarray` of bool
        ``MEANCRT``, True = hit in any exposure, and ``MEDIANCR``.

    Returns
    -------
    combined : `Combined`
        The combined image.
    """

    def inner(index):
        part = mediancr(stack.at(index), {"MEDIANCR": masks["MEDIANCR"][index]})
        return part.value, part.variance

    value, variance = stack.mean()
    replaced = masks["MEANCRT"] | np.isnan(value)  # also where all weights are 0
    return _replace(value, variance, replaced, inner)


def meancr(stack, masks):
    """
    Return the mean over the exposures that are not hit, else the minimum.

    Parameters
    ----------
    stack : `Stack`
        The exposures.
    masks : dict of `~numpy.ndarray` of bool
        ``CRMASKS``, (n, pixels), True = hit; optionally ``MEANCR``, True = the
        minimum is taken anyway.

    Returns
    -------
    combined : `Combined`
        The combined image.
    """
    crmasks = masks["CRMASKS"]
    unused = crmasks if stack.bad is None else stack.bad | crmasks
    value, variance = replace(stack, bad=unused).mean()
    replaced = np.isnan(value)
    if "MEANCR" in masks:
        replaced |= masks["MEANCR"]
    return _replace(value, variance, replaced, lambda index: stack.at(index).lowest())


# Each method: its function, and the masks it uses.
METHODS = {
    "mediancr": (mediancr, ("MEDIANCR",)),
    "meancrt": (meancrt, ("MEANCRT", "MEDIANCR")),
    "meancr": (meancr, ("CRMASKS",)),
    "meancr2": (meancr, ("CRMASKS", "MEANCR")),
}
