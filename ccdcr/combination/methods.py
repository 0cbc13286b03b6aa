# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The combination methods as functions of arrays."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ccdcr import _kernels as kernels
from ccdcr.combination import variances

__all__ = ["METHODS", "Combined", "Stack", "meancr", "meancrt", "mediancr"]


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
        return value, self._variance("median", variances.median_variance)

    def _mean(self):
        value = kernels.mean(self.data, self.bad, self.weights)
        return value, self._variance("mean", variances.mean_variance, self.weights)

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
        scatter = variances.scatter_variance(self.data, self.bad, kind)
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
