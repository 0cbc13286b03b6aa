# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""References that cosmic rays hardly touch, and expected values."""

from functools import lru_cache
from itertools import accumulate

import numpy as np
from scipy.special import ndtri

from ccdcr.utils import stacks as kernels

__all__ = [
    "OF_LOW",
    "REACH",
    "clean_reference",
    "expected_low",
    "expected_values",
    "low_references",
    "lowest_others",
    "lowest_planes",
    "majority",
    "means_of_others",
    "surely_clean",
]

OF_LOW = np.float32(0.7)  # variance of a low reference over that of one exposure


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


def clean_reference(stack, masks, bad=None, noise=None):
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
    noise : `~ccdcr.matching.frames.Noise`, optional
        Their noise: the mean of two exposures is weighted with it.

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
        # What the mean has of the noise of one must not look like structure of it.
        weights = None if noise is None else noise.weights(stack.min(axis=0))
        reference = stack.mean(axis=0, dtype=stack.dtype)
        if weights is not None:
            reference = np.average(stack, axis=0, weights=np.stack(weights))
            reference = reference.astype(stack.dtype)
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


REACH = 2  # pixels around that are looked at
_FEW = 3  # clean others: the mean of more is good enough
_CURVED = np.float32(2)  # error^2 / scatter^2 of the mean of 3 points of a parabola

_OFFSETS = [
    (dy, dx) for dy in range(-REACH, REACH + 1) for dx in range(-REACH, REACH + 1)
]
# Sky lines and traces change in one direction only.
_WINDOWS = [
    [k for k, offset in enumerate(_OFFSETS) if belongs(*map(abs, offset))]
    for belongs in (
        lambda _dy, _dx: True,
        lambda dy, dx: max(dy, dx) <= 1,
        lambda dy, _dx: dy == 0,
        lambda _dy, dx: dx == 0,
    )
]


def expected_values(stack, masks, level, noise, unused=None):
    """
    Yield what each exposure is without a hit, by the others.

    Parameters
    ----------
    stack : 3D `~numpy.ndarray`
        The exposures, (n, ny, nx).
    masks : 3D `~numpy.ndarray` of bool
        Their masks so far, True = hit.
    level : 2D `~numpy.ndarray`
        Smooth clean signal. The noise is that of this signal at least.
    noise : `~ccdcr.matching.frames.Noise`
        The noise of the exposures.
    unused : 3D `~numpy.ndarray` of bool, optional
        True = takes no part.

    Yields
    ------
    value, variance : 2D `~numpy.ndarray`
        The mean of the clean others; the lowest of them where none is clean.
    number : 2D `~numpy.ndarray`
        How many others are clean, 1 at least.

    Notes
    -----
    Where another exposure is hit few are left, and their noise would hide a
    second hit. There the clean pixels around them take part as far as they agree
    with each other.
    """
    hit = masks.sum(axis=0, dtype=np.uint16)
    weights = noise.weights(level)
    means = means_of_others(stack, masks, unused, weights)
    for i, (value, number, weight) in enumerate(means):
        signal = np.maximum(value, level)
        if weights is None:
            one = noise.variance_of_others(signal, i)
        else:
            one = noise.variance(signal, 0)
        some = np.maximum(number, 1)
        variance = one / np.where(number > 0, weight, 1)
        few = (hit > masks[i]) & (number <= _FEW) & (number > 0)
        if few.any():
            value[few], variance[few] = _with_neighbours(value, weight, one, few)
        yield value, variance, some


def means_of_others(stack, masks, unused, weights=None):
    """Yield the mean of the clean others, their number and weight, by exposure."""
    usable = ~masks if unused is None else ~(masks | unused)
    clean = np.where(usable, stack, stack.dtype.type(0))
    shares = usable
    if weights is not None:
        shares = np.where(usable, np.stack(weights), stack.dtype.type(0))
        clean *= shares
    total, number = clean.sum(axis=0), usable.sum(axis=0, dtype=np.float32)
    whole = number if weights is None else shares.sum(axis=0)
    lowest = None
    for i in range(len(stack)):
        others = number - usable[i]
        weight = others if weights is None else whole - shares[i]
        reference = (total - clean[i]) / np.where(others > 0, weight, 1)
        none = others == 0
        if none.any():
            if lowest is None:
                lowest = lowest_others(stack, unused)
            reference[none] = lowest[i][none]
        yield reference, others, weight


def _with_neighbours(value, number, variance, places):
    """
    Return value and variance of places, their neighbours considered.

    ``variance`` is that of one exposure. Of a few windows the one counts whose
    pixels predict the one in the middle best.

    References
    ----------
    R. DerSimonian, N. Laird 1986, Controlled Clinical Trials 7, 177: scatter beyond
    the noise, from weighted values.
    """
    own, weight, one = value[places], number[places], variance[places]
    differences, weights = _around(value, number, places)
    best, least = np.zeros_like(own), np.full_like(own, np.inf)
    for window in _WINDOWS:
        d, w = differences[window], weights[window]
        total = w.sum(axis=0)
        sums = (w * d).sum(axis=0)
        scatter = (w * np.square(d - sums / total)).sum(axis=0)
        scatter -= (np.count_nonzero(w, axis=0) - 1) * one
        others = total - weight
        with np.errstate(divide="ignore", invalid="ignore"):
            scatter /= total - np.square(w).sum(axis=0) / total
            predicted = sums / others
            expected = one / others + _CURVED * np.maximum(scatter, 0)
        better = expected < least
        best[better], least[better] = predicted[better], expected[better]
    precision = weight / one + 1 / least
    return own + best / least / precision, 1 / precision


def _around(value, number, places):
    """Return differences to the middle, and numbers of exposures; 0 outside."""
    padded, numbers = np.pad(value, REACH), np.pad(number, REACH)
    y, x = np.nonzero(places)
    middle = (y + REACH) * padded.shape[1] + x + REACH
    index = np.stack([middle + dy * padded.shape[1] + dx for dy, dx in _OFFSETS])
    weights = numbers.ravel()[index]
    differences = padded.ravel()[index] - value[places]
    # Without clean exposures it is no value to go by, perhaps infinite.
    return np.where(weights > 0, differences, value.dtype.type(0)), weights
