# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Values that flagged pixels would have without their hits."""

from dataclasses import dataclass

import numpy as np

from ccdcr.matching.clean_reference import FEW, REACH, with_neighbours
from ccdcr.utils.neighbours import bands_in_cache, in_threads, pixels_of, with_halo

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
    ny, nx = frames.shape

    def work(rows):
        some = masks[:, rows].any(axis=0)
        wide, inside = with_halo(rows, REACH, ny)
        if not some.any():
            return np.empty(0, dtype=int), *np.empty((4, 0), dtype=np.float32)
        common = _common(free[:, wide], masks[:, wide], matched, wide)
        square = _squared_structure(matched, rows)
        planes = (*(plane[inside] for plane in common), square)
        return np.flatnonzero(some) + rows.start * nx, *(p[some] for p in planes)

    parts = in_threads(work, bands_in_cache(frames.shape))
    place, value, variance, extra, square = map(
        np.concatenate, zip(*parts, strict=True)
    )
    found = [np.flatnonzero(m.ravel()[place] & (variance > 0)) for m in masks]
    exposure = np.repeat(np.arange(len(masks)), [len(here) for here in found])
    here = np.concatenate(found)
    places = exposure, *np.divmod(place[here], nx)
    shares = _mismatch_shares(free, matched, masks)
    mismatch = np.maximum(extra[here], shares[exposure] * square[here])
    correction = frames.data[places] - free[places]
    if frames.raw is not None:  # with the sky of its own
        correction += frames.raw[places] - frames.data[places]
    sigmas = np.sqrt(variance[here] + mismatch)
    return Expected(places, value[here] + correction, sigmas)


def _squared_structure(matched, rows):
    """Return squared structure (rows, nx), 0 where noise may be its cause."""
    variance = matched.frames.noise.at(rows).mean_variance(matched.level[rows])
    square = np.square(np.maximum(matched.profile[rows], 0))
    square[square < _STRONG * variance] = 0
    return square


def _mismatch_shares(free, matched, masks):
    """
    Return the variance of mismatch over squared structure, (n,).

    It is measured where structure is so bright that mismatch is more than the noise;
    0 where noise may be its cause.
    """

    def work(rows):
        return _mismatch_sums(free, matched, masks, rows)

    sums = in_threads(work, bands_in_cache(matched.level.shape))
    share, norm, noise = np.sum(sums, axis=0)
    norm = np.maximum(norm, 1e-30)
    share, error = share / norm, np.sqrt(2 * noise) / norm
    return np.where(share > _SURE * error, share, 0).astype(np.float32)


def _mismatch_sums(free, matched, masks, rows):
    """Return the sums (3, n) over strong structure that tell mismatch."""
    unused = matched.frames.unused
    square = _squared_structure(matched, rows)
    pixels = pixels_of(square)
    square = square[pixels]
    noise = matched.frames.noise.at(rows)
    level = matched.level[rows][pixels]
    variance = noise.at(pixels).mean_variance(level)
    usable, values = ~masks[:, rows][:, *pixels], free[:, rows][:, *pixels]
    if unused is not None:
        usable &= ~unused[:, rows][:, *pixels]
    total, number = np.where(usable, values, 0).sum(axis=0), usable.sum(axis=0)
    sums = np.zeros((3, len(free)))
    others = np.maximum(number - 1, 1)
    for i, (value, use) in enumerate(zip(values, usable, strict=True)):
        noise = variance * (1 + 1 / others)
        excess = np.square(value - (total - value) / others) - noise
        weight = square / noise**2 * (use & (number > 1))
        terms = weight * excess, weight * square, np.square(weight * noise)
        sums[:, i] = [term.sum(dtype=float) for term in terms]
    return sums


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
