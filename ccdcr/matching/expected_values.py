# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Values that flagged pixels would have without their hits."""

from dataclasses import dataclass

import numpy as np

from ccdcr.matching.clean_reference import FEW, REACH, with_neighbours
from ccdcr.utils.neighbours import bands_in_cache, in_threads, with_halo

__all__ = ["Expected", "find_expected"]

_STRONG = np.float32(256)  # squared sigmas of structure that tells mismatch
_SURE = 2.0  # errors of mismatch


@dataclass(frozen=True)
class Expected:
    """
    Expected values of flagged pixels and their standard deviations, (m,) each.

    ``places`` are the index arrays (exposure, row, column) in (n, ny, nx).
    """

    places: tuple
    values: np.ndarray
    sigmas: np.ndarray


def find_expected(frames, matched, masks, free):
    """
    Return the `Expected` of pixels in masks (n, ny, nx) of exposures `Matched`.

    ``free`` (n, ny, nx) are the exposures with corrections that are not limited.

    It is the mean of the exposures that are clean there, each without its correction,
    with the correction of the flagged one. Pixels without a clean exposure have none.
    """
    some = masks.any(axis=0)
    planes = np.zeros((3, *frames.shape), dtype=np.float32)

    def work(rows):
        if some[rows].any():
            wide, inside = with_halo(rows, REACH, len(some))
            common = _common(free[:, wide], masks[:, wide], matched, wide)
            planes[:, rows] = np.stack(common)[:, inside]

    in_threads(work, bands_in_cache(frames.shape))
    value, variance, extra = planes
    places = np.nonzero(masks & (variance > 0))
    here = places[1:]
    shares, square = _mismatch_shares(free, matched, masks)
    mismatch = np.maximum(extra[here], shares[places[0]] * square[here])
    correction = frames.data[places] - free[places]
    if frames.raw is not None:  # with the sky of its own
        correction += frames.raw[places] - frames.data[places]
    sigmas = np.sqrt(variance[here] + mismatch)
    return Expected(places, value[here] + correction, sigmas)


def _mismatch_shares(free, matched, masks):
    """
    Return the variance of mismatch over squared structure, (n,), and that (ny, nx).

    It is measured where structure is so bright that mismatch is more than the noise;
    0 where noise may be its cause. The structure is 0 elsewhere.
    """
    unused = matched.frames.unused
    variance = matched.frames.noise.mean_variance(matched.level)
    square = np.square(np.maximum(matched.profile, 0))
    square[square < _STRONG * variance] = 0
    pixels = np.nonzero(square)
    usable, values = ~masks[:, *pixels], free[:, *pixels]
    if unused is not None:
        usable &= ~unused[:, *pixels]
    total, number = np.where(usable, values, 0).sum(axis=0), usable.sum(axis=0)
    shares = np.zeros(len(free), dtype=np.float32)
    for i, (value, use) in enumerate(zip(values, usable, strict=True)):
        others = np.maximum(number - 1, 1)
        noise = variance[pixels] * (1 + 1 / others)
        excess = np.square(value - (total - value) / others) - noise
        weight = square[pixels] / noise**2 * (use & (number > 1))
        norm = np.maximum((weight * square[pixels]).sum(), np.float32(1e-30))
        error = np.sqrt(2 * np.square(weight * noise).sum()) / norm
        share = (weight * excess).sum() / norm
        shares[i] = share if share > _SURE * error else 0
    return shares, square


def _common(stack, masks, matched, rows):
    """Return mean and variance (0 if none) of the clean, and mismatch, (rows, nx)."""
    frames, level = matched.frames, matched.level[rows]
    usable = ~masks if frames.unused is None else ~(masks | frames.unused[:, rows])
    noise = frames.noise.at(rows)
    weights = noise.weights(level)
    shares = usable if weights is None else np.where(usable, np.stack(weights), 0)
    number, weight = usable.sum(axis=0, dtype=np.float32), shares.sum(axis=0)
    total = np.where(usable, stack * shares, np.float32(0)).sum(axis=0)
    some = np.where(number > 0, weight, 1).astype(np.float32)
    value = total / some
    one = noise.variance_of_weight(np.maximum(value, level), 0)
    variance = one / some
    few = (masks.sum(axis=0, dtype=np.uint16) > 1) & (number > 0) & (number <= FEW)
    few |= number == 1
    if few.any():
        weight = weight.astype(np.float32)
        value[few], variance[few] = with_neighbours(value, weight, one, few)
    extra = matched.extra[rows] * np.maximum(2 / np.maximum(number, 1), 1)
    return value, np.where(number > 0, variance, 0), extra
