# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What an exposure is expected to be where it is not hit: others, and around."""

import numpy as np

from ccdcr.detection.matched.reference import lowest_others

__all__ = ["REACH", "expected_values", "means_of_others"]

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
    noise : `~ccdcr.detection.matched.noise.Noise`
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
    for i, (value, number) in enumerate(means_of_others(stack, masks, unused)):
        one = noise.variance_of_others(np.maximum(value, level), i)
        some = np.maximum(number, 1)
        variance = one / some
        few = (hit > masks[i]) & (number <= _FEW) & (number > 0)
        if few.any():
            value[few], variance[few] = _with_neighbours(value, number, one, few)
        yield value, variance, some


def means_of_others(stack, masks, unused):
    """Yield the mean of the clean others and their number, for each exposure."""
    usable = ~masks if unused is None else ~(masks | unused)
    clean = np.where(usable, stack, stack.dtype.type(0))
    total, number = clean.sum(axis=0), usable.sum(axis=0, dtype=np.float32)
    lowest = None
    for i in range(len(stack)):
        others = number - usable[i]
        reference = (total - clean[i]) / np.maximum(others, 1)
        none = others == 0
        if none.any():
            if lowest is None:
                lowest = lowest_others(stack, unused)
            reference[none] = lowest[i][none]
        yield reference, others


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
