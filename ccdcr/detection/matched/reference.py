# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
References that cosmic rays hardly touch, from a few ordered exposures.

Stacks are (n, ...), ``bad`` of the same shape (True = takes no part) or None.
"""

from functools import lru_cache
from itertools import accumulate

import numpy as np
from scipy.special import ndtri

from ccdcr import _kernels as kernels

__all__ = [
    "clean_reference",
    "expected_low",
    "low_references",
    "lowest_others",
    "lowest_planes",
    "majority",
    "surely_clean",
]


def majority(n):
    """Return how many of n exposures must be hit to spoil their median."""
    return n // 2 + 1


def surely_clean(n):
    """Return how many of the others are clean where a majority is hit, 1 at least."""
    return np.maximum(n - majority(n), 1)


@lru_cache(maxsize=128)
def expected_low(n):
    """
    Return the mean of the lowest of the n - 1 others, in sigmas.

    Parameters
    ----------
    n : int
        Number of exposures.

    Returns
    -------
    mean : float
        Negative; 0 for two exposures.

    References
    ----------
    G. Blom 1958, "Statistical Estimates and Transformed Beta-Variables": the
    expectation of order statistics.
    """
    rank = np.arange(1, surely_clean(n) + 1)
    return float(ndtri((rank - 0.375) / (n - 1 + 0.25)).mean())


def lowest_planes(stack, number, bad=None):
    """
    Return the lowest exposures in order.

    Parameters
    ----------
    stack : `~numpy.ndarray`
        The exposures, (n, ...).
    number : int
        How many of them.
    bad : `~numpy.ndarray` of bool, optional
        True = takes no part.

    Returns
    -------
    planes : list of `~numpy.ndarray`
        From the lowest on; infinity where there are not enough.
    """
    planes = []
    for i, plane in enumerate(stack):
        value = kernels.without(plane, None if bad is None else bad[i], np.inf)
        for k, lower in enumerate(planes):
            planes[k] = np.minimum(lower, value)
            value = np.maximum(lower, value)
        if len(planes) < number:
            planes.append(value)
    return planes


def lowest_others(stack, bad=None):
    """
    Return the minimum of the other exposures for each exposure.

    Parameters
    ----------
    stack : `~numpy.ndarray`
        Two or more exposures, (n, ...).
    bad : `~numpy.ndarray` of bool, optional
        True = takes no part.

    Returns
    -------
    lowest : list of `~numpy.ndarray`
        Infinity where there is no other.
    """
    planes = [
        kernels.without(plane, None if bad is None else bad[i], np.inf)
        for i, plane in enumerate(stack)
    ]
    before = list(accumulate(planes[:-1], np.minimum))
    after = list(accumulate(planes[:0:-1], np.minimum))[::-1]
    middle = [np.minimum(*pair) for pair in zip(before[:-1], after[1:], strict=True)]
    return [after[0], *middle, before[-1]]


def low_references(stack, bad=None):
    """
    Return the low reference of each exposure: the mean of its lowest others.

    Parameters
    ----------
    stack : `~numpy.ndarray`
        The exposures, (n, ...).
    bad : `~numpy.ndarray` of bool, optional
        True = takes no part.

    Returns
    -------
    references : list of `~numpy.ndarray`
        Of as many of the others as are clean where a majority is hit;
        infinity where there is no other.
    lows : list of float32 or of `~numpy.ndarray`
        How many sigmas each is expected to be away from the mean.
    """
    n = len(stack)
    number = int(surely_clean(n))
    if number == 1:
        references = lowest_others(stack, bad)
    else:
        *lowest, limit = lowest_planes(stack, number + 1, bad)
        total = limit + sum(lowest)
        references = [
            (total - np.minimum(e, limit)) / stack.dtype.type(number) for e in stack
        ]
    if bad is None or not bad.any():
        return references, [np.float32(expected_low(n))] * n
    some = bad.any(axis=0)
    lows = [np.full(some.shape, expected_low(n), dtype=stack.dtype) for _ in stack]
    for i, (low, mean) in enumerate(_low_of_columns(stack[:, some], bad[:, some])):
        references[i][some] = low
        lows[i][some] = mean
    return references, lows


def _low_of_columns(columns, bad):
    """Yield reference and its expectation where some exposures are bad."""
    n = len(columns)
    filled = np.where(bad, columns.dtype.type(np.inf), columns)
    means = np.array([0, *(expected_low(k) for k in range(2, n + 1))], columns.dtype)
    for i in range(n):
        others = np.sort(np.delete(filled, i, axis=0), axis=0)
        number = np.isfinite(others).sum(axis=0) + 1  # with this one
        low = surely_clean(number)
        sums = np.cumsum(others, axis=0)
        mean = np.take_along_axis(sums, low[np.newaxis] - 1, axis=0)[0] / low
        yield mean, means[number - 1]


def clean_reference(stack, masks, bad=None):
    """
    Return the lower median of the clean exposures.

    Parameters
    ----------
    stack : `~numpy.ndarray`
        The exposures, (n, ...).
    masks : `~numpy.ndarray` of bool
        Their masks so far, True = hit.
    bad : `~numpy.ndarray` of bool, optional
        True = takes no part.

    Returns
    -------
    reference : `~numpy.ndarray`
        The reference: the mean where two are clean, the mean of the lowest where a
        majority is hit, NaN where all exposures are bad.

    Notes
    -----
    The ordinary median of four exposures is spoilt by two hits, and the lower of two is
    structure where it is low by noise.
    """
    n = len(stack)
    if n == 2:
        reference = stack.mean(axis=0, dtype=stack.dtype)
    else:
        reference = lowest_planes(stack, (n + 1) // 2, bad)[-1].copy()
    some = masks.any(axis=0)
    if bad is not None:
        some |= bad.any(axis=0)
    if some.any():
        unused = np.zeros_like(masks[:, some]) if bad is None else bad[:, some]
        reference[some] = _clean_of_columns(stack[:, some], masks[:, some], unused)
    return reference


def _clean_of_columns(columns, masks, bad):
    """Return the reference where some exposures are hit or bad."""
    good = kernels.count(bad, len(columns))
    hit = (masks & ~bad).sum(axis=0) >= majority(good)
    # Where a majority is hit, the lowest are clean, whatever the masks say.
    left_out = bad | (masks & ~hit)
    clean = kernels.count(left_out, len(columns))
    first = np.where(hit | (clean == 2), 0, (np.maximum(clean, 1) - 1) // 2)
    number = np.where(hit, np.where(good < 3, 1, surely_clean(good)), 1)
    number[~hit & (clean == 2)] = 2
    ordered = np.sort(np.where(left_out, columns.dtype.type(np.inf), columns), axis=0)
    rank = np.arange(len(columns))[:, np.newaxis] - first
    chosen = (rank >= 0) & (rank < number)
    total = np.where(chosen, ordered, 0).sum(axis=0)
    return np.where(good == 0, np.nan, total / number)
