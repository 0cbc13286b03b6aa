# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Clean reference images, and expected values of the exposures."""

from functools import lru_cache
from itertools import accumulate

import numpy as np
from scipy.special import ndtri

from ccdcr.utils import stacks as kernels
from ccdcr.utils.neighbours import pixels_of

__all__ = [
    "FEW",
    "OF_LOW",
    "REACH",
    "clean_reference",
    "expected_low",
    "expected_values",
    "low_references",
    "lower_middle",
    "lowest_others",
    "lowest_planes",
    "majority",
    "mean_reference",
    "means_of_others",
    "surely_clean",
    "with_neighbours",
]

OF_LOW = np.float32(0.7)  # variance of a low reference over that of one exposure
_UNEVEN = 3.0  # weights of the exposures


def majority(n):
    """Return how many of n exposures are more than half."""
    return n // 2 + 1


def surely_clean(n):
    """Return how many others are clean where a majority of n is hit, 1 at least."""
    return np.maximum(n - majority(n), 1)


@lru_cache(maxsize=128)
def expected_low(n):
    """
    Return the mean of the lowest of n - 1 others, in sigmas; 0 for two exposures.

    References: G. Blom, Statistical Estimates and Transformed Beta-Variables, 1958.
    """
    rank = np.arange(1, surely_clean(n) + 1)
    return float(ndtri((rank - 0.375) / (n - 1 + 0.25)).mean())


def lower_middle(n):
    """Return the mean of the lower one of two in the middle of n, in sigmas; or 0."""
    if n % 2 or n == 2:
        return 0.0
    return float(ndtri((n / 2 - 0.375) / (n + 0.25)))


def lowest_planes(stack, number, bad=None):
    """Return the ``number`` lowest good values of (n, ...); inf where too few."""
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
    """Return for each of (n, ...) the minimum of the good others; inf where none."""
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
    Return the mean of the lowest others of each of (n, ...), and its bias in sigmas.

    As many others are averaged as are clean where a majority is hit; inf where there is
    no other.
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
    """Yield low reference and its bias in sigmas, each (m,), where some are bad."""
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
    Return the lower median of the clean exposures (n, ...); NaN where all are bad.

    The lower median of four survives two hits. Where two are clean it is their mean
    (weighted by ``noise`` if n = 2): the lower one would look like structure if it is
    low by noise. Where a majority is hit it is the mean of the lowest. Where the noise
    of the exposures is very different it is a weighted median: noise of others must not
    look like structure to the precise ones.
    """
    n = len(stack)
    if n == 2:
        # The noise of one exposure in the mean must not look like its structure.
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
    if n > 2 and noise is not None and not noise.equal:
        _weight(reference, stack, masks, bad, noise)
    return reference


def _weight(reference, stack, masks, bad, noise):
    """Replace the reference, in place, by weighted medians where the noise differs."""
    known = np.isfinite(reference)
    weights = np.stack(noise.weights(np.where(known, reference, 0)))
    uneven = (weights.max(axis=0) > _UNEVEN * weights.min(axis=0)) & known
    if not uneven.any():
        return
    columns, masks, weights = (a[:, uneven] for a in (stack, masks, weights))
    bad = np.zeros_like(masks) if bad is None else bad[:, uneven]
    left_out, hit = _left_out(masks, bad)
    median = _weighted_median(columns, np.where(left_out, 0, weights))
    reference[uneven] = np.where(hit, reference[uneven], median)


def _weighted_median(columns, weights):
    """Return the interpolated median (m,) of columns (n, m): of two, their mean."""
    order = np.argsort(np.where(weights > 0, columns, np.inf), axis=0)
    ordered, weights = (
        np.take_along_axis(a, order, axis=0) for a in (columns, weights)
    )
    total = np.cumsum(weights, axis=0)
    place = total - weights / 2
    half, last = total[-1] / 2, np.count_nonzero(weights, axis=0) - 1
    before = np.clip(np.count_nonzero(place <= half, axis=0) - 1, 0, last)
    after = np.minimum(before + 1, last)
    (a, b), (value, other) = (
        [np.take_along_axis(q, k[np.newaxis], axis=0)[0] for k in (before, after)]
        for q in (place, ordered)
    )
    part = np.clip((half - a) / np.where(b > a, b - a, 1), 0, 1)
    return value + part * (other - value)


def _left_out(masks, bad):
    """Return what the clean reference ignores (n, m), and where a majority is hit."""
    hit = (masks & ~bad).sum(axis=0) >= majority(kernels.count(bad, len(bad)))
    # Where a majority is hit, only the lowest are clean.
    return bad | (masks & ~hit), hit


def mean_reference(stack, masks, bad=None, noise=None):
    """
    Return the mean of the clean exposures (n, ...) of one flux; NaN where all are bad.

    Where a majority is hit it is that of `clean_reference`.
    """
    n = len(stack)
    left_out = masks if bad is None else masks | bad
    weights = None if noise is None else noise.weights(stack.min(axis=0))
    total = np.zeros(stack.shape[1:], dtype=stack.dtype)
    number = np.zeros_like(total)
    for i, plane in enumerate(stack):
        share = (
            ~left_out[i] if weights is None else np.where(left_out[i], 0, weights[i])
        )
        total += np.where(left_out[i], 0, plane * share)
        number += share
    with np.errstate(divide="ignore", invalid="ignore"):
        reference = total / number
    good = n if bad is None else kernels.count(bad, n)
    hit = masks if bad is None else masks & ~bad
    many = (hit.sum(axis=0) >= majority(good)) | (number == 0)
    if many.any():
        unused = None if bad is None else bad[:, many]
        part = stack[:, many], masks[:, many], unused
        reference[many] = clean_reference(*part)
    return reference


def _clean_of_columns(columns, masks, bad):
    """Return the clean reference (m,) of columns (n, m), some of them hit or bad."""
    good = kernels.count(bad, len(columns))
    left_out, hit = _left_out(masks, bad)
    clean = kernels.count(left_out, len(columns))
    first = np.where(hit | (clean == 2), 0, (np.maximum(clean, 1) - 1) // 2)
    number = np.where(hit, np.where(good < 3, 1, surely_clean(good)), 1)
    number[~hit & (clean == 2)] = 2
    ordered = np.sort(np.where(left_out, columns.dtype.type(np.inf), columns), axis=0)
    rank = np.arange(len(columns))[:, np.newaxis] - first
    chosen = (rank >= 0) & (rank < number)
    total = np.where(chosen, ordered, 0).sum(axis=0)
    return np.where(good == 0, np.nan, total / number)


REACH = 2  # pixels around that are used
FEW = 3  # clean others: the mean of more is good enough
_AT_ONCE = 1 << 11  # pixels
_LOST = np.float32(1e-4)  # of a weight: rounding of the sum spoils what is left of it
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
    Yield mean, variance and number of the clean others, each (ny, nx), by exposure.

    Where none is clean, the lowest counts. The noise is that of ``level`` at least.
    Where another exposure is hit and few are left, clean pixels around are added as far
    as they agree: otherwise noise would hide a second hit.
    """
    hit = masks.sum(axis=0, dtype=np.uint16)
    weights = noise.weights(level)
    means = means_of_others(stack, masks, unused, weights)
    for i, (value, number, weight) in enumerate(means):
        signal = np.maximum(value, level)
        one = noise.variance_of_weight(signal, i)
        some = np.maximum(number, 1)
        variance = one / np.where(number > 0, weight, 1)
        few = (hit > masks[i]) & (number <= FEW) & (number > 0)
        if few.any():
            value[few], variance[few] = with_neighbours(value, weight, one, few)
        yield value, variance, some


def means_of_others(stack, masks, unused, weights=None):
    """Yield mean, number and weight of the clean others, each (ny, nx), by exposure."""
    usable, nothing = (
        ~masks if unused is None else ~(masks | unused),
        stack.dtype.type(0),
    )
    shares = usable
    if weights is not None:
        shares = np.where(usable, np.stack(weights), nothing)

    def clean(i):
        plane = np.where(usable[i], stack[i], nothing)
        return plane if weights is None else np.multiply(plane, shares[i], out=plane)

    total, number = clean(0), usable.sum(axis=0, dtype=np.float32)
    for i in range(1, len(stack)):
        total += clean(i)
    whole = number if weights is None else shares.sum(axis=0)
    for i in range(len(stack)):
        others = number - usable[i]
        weight = others if weights is None else whole - shares[i]
        reference = np.subtract(total, own := clean(i), out=own)
        none = others == 0
        lost = (weight < _LOST * whole) & ~none
        if weights is not None and lost.any():
            rest = np.delete(shares[:, lost], i, axis=0)
            weight[lost] = rest.sum(axis=0)
            reference[lost] = (rest * np.delete(stack[:, lost], i, axis=0)).sum(axis=0)
        if none.any():
            reference /= np.where(none, 1, weight)
            columns = stack[:, none], None if unused is None else unused[:, none]
            reference[none] = lowest_others(*columns)[i]
        else:
            reference /= weight
        yield reference, others, weight


def with_neighbours(value, number, variance, places):
    """
    Return values and variances at places, with the window that predicts them best.

    ``variance`` is that of one exposure; scatter beyond the noise adds to it.
    References: R. DerSimonian, N. Laird 1986, Controlled Clinical Trials 7, 177.
    """
    padded = [np.pad(plane, REACH) for plane in (value, number)]
    planes = value, number, padded, variance
    pixels = pixels_of(places)
    parts = max(len(pixels[0]) // _AT_ONCE, 1)
    parts = zip(*(np.array_split(axis, parts) for axis in pixels), strict=True)
    return np.concatenate([_with_neighbours(*planes, part) for part in parts], axis=1)


def _with_neighbours(value, number, padded, variance, places):
    """Return values and variances (2, m) of `with_neighbours` at rows and columns."""
    own, weight, one = value[places], number[places], variance[places]
    differences, weights = _around(own, *padded, places)
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


def _around(own, padded, numbers, places):
    """Return differences to the middle and weights, each (25, m); 0 outside."""
    y, x = places
    middle = (y + REACH) * padded.shape[1] + x + REACH
    index = np.stack([middle + dy * padded.shape[1] + dx for dy, dx in _OFFSETS])
    weights = numbers.ravel()[index]
    differences = padded.ravel()[index] - own
    # Without clean exposures the value is meaningless, perhaps infinite.
    return np.where(weights > 0, differences, own.dtype.type(0)), weights
