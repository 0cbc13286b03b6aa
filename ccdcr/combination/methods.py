# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Combination methods and their variances as functions of arrays."""

from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from typing import Any

import numpy as np

from ccdcr.utils import stacks as kernels
from ccdcr.utils.stacks import median_factor

__all__ = [
    "METHODS",
    "Combined",
    "Filled",
    "Stack",
    "combine_filled",
    "mean_variance",
    "meancr",
    "meancrt",
    "median_variance",
    "mediancr",
    "scatter_variance",
]

_DRAWN = 100_000  # values of each exposure
_SIMILAR = 1.5  # variances whose median has the factor of equal ones


def mean_variance(variances, bad=None, weights=None):
    """Return the variance of the mean of n exposures; NaN where all are bad."""
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
    """Return variance * weight**2; 0 where the weight is 0, also of an infinite one."""
    if np.ndim(weight) == 0:
        return 0.0 if weight == 0 else variance if weight == 1 else weight**2 * variance
    return weight**2 * np.where(weight == 0, 0, variance)


def median_variance(variances, bad=None):
    """Return the variance (pixels,) of the median of n Gaussian values."""
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
    """Return the indices of pixels with three or more good but unequal variances."""
    if bad is None:
        # Faster than fmin and fmax.
        lowest, highest = np.minimum, np.maximum
    else:
        variances = np.where(bad, np.nan, variances)
        lowest, highest = np.fmin, np.fmax
    unequal = reduce(highest, variances) > _SIMILAR * reduce(lowest, variances)
    return np.flatnonzero(unequal & (good > 2))


def _of_unequal(columns, good, factor):
    """
    Return the variance (pixels,) of medians of unequal variances (n, pixels).

    Of many: 1 / (4 (sum of densities)**2) at it. Of few: densities convolved with that
    of the median itself, right to 5 percent if sigmas differ by a factor of 3. Of
    three: exact. A large variance, such as that of a cosmic ray, hardly matters.
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
    """Return the exact variance (pixels,) of a median of three; others are NaN."""
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
    """Return the squared uncertainty by ccdproc; 0 or NaN for fewer than two good."""
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
    The scaled exposures of a combination, (n, pixels) each array.

    ``bad`` is True where an exposure is ignored, or None. ``weights`` are (n,) or
    (n, pixels), or None. ``variances`` are those of the exposures, or None. With
    ``scatter`` the variance of a result is the scatter of the exposures used, and
    ``variances`` only serve where it is 0 or NaN. ``substitute`` (pixels,) replaces
    the minimum, or is None. ``fluxes`` (n,) are the flux scales of the data.
    """

    data: np.ndarray
    bad: np.ndarray | None = None
    weights: np.ndarray | None = None
    variances: Any = None
    scatter: bool = False
    substitute: np.ndarray | None = None
    fluxes: Any = 1.0

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
            self.fluxes,
        )

    def median(self):
        """Return the median and its variance."""
        return self._without_bad(Stack._median)

    def mean(self):
        """Return the weighted mean and its variance."""
        return self._without_bad(Stack._mean)

    def _without_bad(self, statistic):
        # Few pixels have a bad exposure: the others are faster without masks.
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
        """Return the minimum, or its substitute, and its variance."""
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
    """A combined image: value, variance (or None), mask of replaced pixels."""

    value: np.ndarray
    variance: np.ndarray | None
    replaced: np.ndarray

    def put(self, index, part):
        """Copy `Combined` of some pixels into place."""
        self.replaced = self.replaced.copy()  # it may be a mask of the set
        self.replaced[index] = part.replaced
        _put((self.value, self.variance), index, (part.value, part.variance))


def _put(images, where, others):
    """Put values and variances (or None) of some pixels in place."""
    for image, other in zip(images, others, strict=True):
        if image is not None:
            image[where] = other


def _replace(value, variance, replaced, substitute):
    """Return `Combined` after ``substitute(index)`` was put where replaced is set."""
    index = np.flatnonzero(replaced)
    if index.size:
        _put((value, variance), index, substitute(index))
    return Combined(value, variance, replaced)


def mediancr(stack, masks):
    """Return the median of a `Stack`; the minimum where MEDIANCR is set."""
    return _replace(
        *stack.median(), masks["MEDIANCR"], lambda index: stack.at(index).lowest()
    )


def meancrt(stack, masks):
    """Return the mean of a `Stack`; the value of `mediancr` where MEANCRT is set."""

    def inner(index):
        part = mediancr(stack.at(index), {"MEDIANCR": masks["MEDIANCR"][index]})
        return part.value, part.variance

    value, variance = stack.mean()
    replaced = masks["MEANCRT"] | np.isnan(value)  # also where all weights are 0
    return _replace(value, variance, replaced, inner)


def meancr(stack, masks):
    """Return the mean of exposures not in CRMASKS; the minimum if none or in MEANCR."""
    crmasks = masks["CRMASKS"]
    unused = crmasks if stack.bad is None else stack.bad | crmasks
    value, variance = replace(stack, bad=unused).mean()
    replaced = np.isnan(value)
    if "MEANCR" in masks:
        replaced |= masks["MEANCR"]
    return _replace(value, variance, replaced, lambda index: stack.at(index).lowest())


@dataclass(frozen=True)
class Filled:
    """
    Pixels of a `Stack` in which expected values have replaced flagged ones.

    ``clean`` are measured values that are used and ``flagged`` those that are not,
    ``sigmas`` are the standard deviations of expected values, (n, pixels) each.
    """

    stack: Stack
    clean: np.ndarray
    flagged: np.ndarray
    sigmas: np.ndarray

    def mean(self):
        """Return the weighted mean and its variance."""
        stack = self.stack
        value = kernels.mean(stack.data, stack.bad, stack.weights)
        return value, self._variance("mean", stack.weights)

    def median(self):
        """Return the median and its variance."""
        value = kernels.median(self.stack.data, self.stack.bad)
        variance = self._variance("median")
        if variance is not None and not self.stack.scatter:
            clean = self.clean.sum(axis=0)
            filled = (~self.stack.bad).sum(axis=0) - clean
            variance *= _filled_factors(clean, filled)
        return value, variance

    def number(self, method):
        """Return the number (pixels,) of measured values that a method uses."""
        clean, weights = self.clean, self.stack.weights
        if method != "mediancr" and weights is not None:
            clean = clean & (weights.reshape(len(clean), -1) > 0)
        return clean.sum(axis=0)

    def spoils_median(self):
        """Return where half of the good values at least are flagged, (pixels,)."""
        flagged = self.flagged.sum(axis=0)
        return 2 * flagged >= flagged + self.clean.sum(axis=0)

    def _variance(self, kind, weights=None):
        """Return the variance of the clean mean, with what expected values add."""
        stack = self.stack
        if stack.variances is None:
            return None
        one = mean_variance(stack.variances, ~self.clean, weights)
        if stack.scatter:
            scatter = scatter_variance(stack.data, ~self.clean, kind)
            one = np.where(scatter > 0, scatter, one)
        weights = 1.0 if weights is None else weights.reshape(len(stack.data), -1)
        shares = np.where(stack.bad, 0, weights)
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._total(one, shares / shares.sum(axis=0))

    def _total(self, one, shares):
        """Return the variance with that of the clean mean, and shares (n, pixels)."""
        part = np.where(self.clean, 0, shares).sum(axis=0)
        filled = (shares * self.sigmas).sum(axis=0) ** 2
        clean = (1 - part) ** 2 * np.where(np.isfinite(one), one, filled / part**2)
        shares = shares * np.reshape(self.stack.fluxes, (-1, 1))
        ratio = (shares * ~self.clean).sum(axis=0) / (shares * self.clean).sum(axis=0)
        # Filled values are made of the clean ones. At one flux scale the covariance is
        # the variance of the better mean: pixels around may have made the filled ones
        # better, and mismatch worse.
        return clean + filled + 2 * np.fmin(clean * ratio, filled / ratio)


def _filled_factors(clean, filled):
    """Return the variance of medians over that of the mean of the clean values."""
    pairs, place = np.unique([clean, filled], axis=1, return_inverse=True)
    factors = [_filled_factor(*map(int, pair)) for pair in pairs.T]
    return np.array(factors)[place.ravel()]


@lru_cache(maxsize=256)
def _filled_factor(clean, filled):
    if clean < 3 or filled >= clean:
        return 1.0  # then it is the mean
    stack = np.random.default_rng(0).normal(size=(clean, _DRAWN))
    mean = stack.mean(axis=0, keepdims=True)
    stack = np.concatenate([stack, np.repeat(mean, filled, axis=0)])
    return float(np.var(np.median(stack, axis=0)) * clean)


def combine_filled(method, filled, masks):
    """
    Return where a method uses expected values (pixels,), and `Combined` of these.

    Where MEDIANCR is set but few values are flagged, hits are left among the others.
    """
    median = masks.get("MEANCRT", np.full(filled.clean.shape[1], method == "mediancr"))
    value, variance = filled.mean()
    if median.any():
        others = (x if x is None else x[median] for x in filled.median())
        _put((value, variance), median, others)
    used = np.isfinite(value)
    if "MEDIANCR" in masks:
        used &= ~masks["MEDIANCR"] | filled.spoils_median()
    if "MEANCR" in masks:
        used &= ~masks["MEANCR"]
    variance = None if variance is None else variance[used]
    replaced = masks["MEANCRT"][used] if "MEANCRT" in masks else np.False_
    return used, Combined(value[used], variance, replaced)


# Function and masks of each method.
METHODS = {
    "mediancr": (mediancr, ("MEDIANCR",)),
    "meancrt": (meancrt, ("MEANCRT", "MEDIANCR")),
    "meancr": (meancr, ("CRMASKS",)),
    "meancr2": (meancr, ("CRMASKS", "MEANCR")),
}
