# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Flagging of pixels by their deviations, and growth of seeds into masks."""

from dataclasses import dataclass

import numpy as np

from ccdcr.matching.clean_reference import (
    OF_LOW,
    REACH,
    expected_values,
    low_references,
)
from ccdcr.utils import stacks as kernels
from ccdcr.utils.neighbours import (
    FOUR,
    bands_in_cache,
    in_threads,
    pixels_of_seeded_groups,
    with_halo,
)

__all__ = [
    "LEAST_OF_MEDIAN",
    "USUAL_LEAK",
    "Limits",
    "coincident_pixels",
    "first_masks",
    "grow",
    "measure_leak",
    "needed_of_median",
    "next_masks",
]

USUAL_LEAK = 0.02

_BRIGHT, _BRIGHTEST = 100.0, 3000.0  # sigmas of hits whose neighbours tell the leak
_LEAST_HITS, _QUANTILE = 100, 1 / 3
_RANGE = (0.01, 0.05)


def grow(z, seed, low, leak, tail):
    """
    Return the mask (ny, nx) grown from seeds on deviations z, -inf = never flagged.

    Pixels with z > ``low`` that are connected to a seed are flagged. So are their four
    neighbours if z plus ``leak`` times the z of the brightest one beside it, the charge
    received, is above ``tail``: a low limit on z alone would select noise.
    """
    if not seed.any():
        return seed
    core = pixels_of_seeded_groups(z > low, seed)
    mask = np.zeros_like(seed)
    mask.ravel()[core] = True
    # With a margin, no neighbour is on the other side of the image.
    width = z.shape[1] + 2
    y, x = np.divmod(core, z.shape[1])
    inside, values = (y + 1) * width + x + 1, z.ravel()[core]
    brightest = np.zeros((z.shape[0] + 2) * width, dtype=z.dtype)
    ring = []
    for step in (-width, -1, 1, width):
        # One shift hits no pixel twice, so that no value is lost.
        place = inside + step
        brightest[place] = np.maximum(brightest[place], values)
        ring.append(place)
    y, x = np.divmod(np.concatenate(ring), width)
    within = (y > 0) & (y <= z.shape[0]) & (x > 0) & (x <= z.shape[1])
    y, x = y[within] - 1, x[within] - 1
    received = z.dtype.type(leak) * brightest[(y + 1) * width + x + 1]
    mask[y, x] |= z[y, x] + received > tail
    return mask


def measure_leak(z, masks):
    """
    Return the part of its charge that a hit loses to each neighbour, 0.01 to 0.05.

    The lowest of the four neighbours is beside the track and got its charge by
    diffusion, or more where the track passes near it: hence a low quantile. 0.02 if
    there are fewer than 100 bright hits.
    """
    shares = [_lowest_shares(*planes) for planes in _alone(z, masks)]
    shares = np.concatenate(shares)
    if len(shares) < _LEAST_HITS:
        return USUAL_LEAK
    return float(np.clip(np.quantile(shares, _QUANTILE), *_RANGE))


def _alone(z, masks):
    """Yield deviations and bright pixels hit in this exposure only, each (ny, nx)."""
    number = masks.sum(axis=0, dtype=np.uint8)
    for plane, mask in zip(z, masks, strict=True):
        bright = (plane > _BRIGHT) & (plane < _BRIGHTEST) & mask
        yield plane, bright & (number == 1)


def _lowest_shares(z, bright):
    """Return the share of charge in the lowest neighbour of each local maximum."""
    inner = bright[1:-1, 1:-1]
    y, x = (place + 1 for place in np.nonzero(inner))
    value = z[y, x]
    lowest = np.full(len(y), np.inf, dtype=z.dtype)
    highest = np.zeros_like(lowest)
    for dy, dx in FOUR:
        lowest = np.minimum(lowest, z[y + dy, x + dx])
        highest = np.maximum(highest, z[y + dy, x + dx])
    good = (highest <= value) & np.isfinite(lowest)
    return lowest[good] / value[good]


_MORE = 1.0  # sigmas: the low reference is the noisier one
_LOW = np.float32(4.0)  # sigmas that noise may make the low reference too low
LEAST_OF_MEDIAN = 2.3  # sigmas of a deviation


@dataclass(frozen=True)
class Limits:
    """Limits of `grow` in sigmas, and its leak; None = measured."""

    high: float = 5.0
    low: float = 4.0
    leak: float | None = None
    tail: float = 2.5


def first_masks(frames, limits, level=None, extra=None):
    """
    Return masks (n, ny, nx) of deviations from the low references.

    The noise is that of the smooth signal ``level`` (ny, nx) at least: that of a low
    reference would be too small. ``extra`` (ny, nx) is the variance of mismatch.
    """
    z = np.empty_like(frames.data)
    unused = frames.unused

    def work(rows):
        stack, noise = frames.data[:, rows], frames.noise.at(rows)
        part = None if unused is None else unused[:, rows]
        references, lows = low_references(stack, part)
        for i, low in enumerate(references):
            signal = low
            if level is not None:
                most = low + _LOW * np.sqrt(noise.variance(low, i))
                signal = np.maximum(low, np.minimum(level[rows], most))
            others = noise.variance_of_others(signal, i)
            variance = noise.variance(signal, i) + OF_LOW * others
            if extra is not None:
                variance += extra[rows]
            with np.errstate(invalid="ignore"):
                deviation = stack[i] - low + lows[i] * np.sqrt(others)
                z[i, rows] = deviation / np.sqrt(variance)

    in_threads(work, bands_in_cache(frames.shape))
    _forbid(z, frames)
    return _grown(z, limits, limits.high + _MORE)


def next_masks(masks, limits, frames, level, extra=None):
    """Return masks of deviations from the mean of clean others, and z (n, ny, nx)."""
    z = np.empty_like(frames.data)
    unused = frames.unused

    def work(rows):
        wide, inside = with_halo(rows, REACH, frames.shape[0])
        stack, smooth, noise = frames.data[:, wide], level[wide], frames.noise.at(wide)
        part = None if unused is None else unused[:, wide]
        expected = expected_values(stack, masks[:, wide], smooth, noise, part)
        for i, (value, uncertain, number) in enumerate(expected):
            variance = uncertain + noise.variance(np.maximum(value, smooth), i)
            if extra is not None:
                # The mismatch of a single other exposure is not averaged.
                variance += extra[wide] * np.maximum(2 / number, 1)
            with np.errstate(invalid="ignore"):
                deviation = (stack[i] - value) / np.sqrt(variance)
            z[i, rows] = deviation[inside]

    in_threads(work, bands_in_cache(frames.shape))
    _forbid(z, frames)
    return _grown(z, limits, limits.high), z


def _forbid(z, frames):
    """Set z to -inf, in place, in bad and low pixels and where it is not finite."""
    for never in (frames.bad, frames.low):
        if never is not None:
            z[never] = -np.inf
    if frames.unused is not None:
        z[~np.isfinite(z)] = -np.inf


def _grown(z, limits, high):
    leak = USUAL_LEAK if limits.leak is None else limits.leak

    def work(i):
        return grow(z[i], z[i] > high, limits.low, leak, limits.tail)

    return np.stack(in_threads(work, range(len(z))))


def coincident_pixels(z, masks, unused=None):
    """
    Return the pixels (ny, nx) with so many hits that the median is wrong.

    Half of the good exposures are enough: they are in the mean of the two middle
    values. Only z > 2.3 counts, as neighbours may have got charge from adjacent hits.
    """
    number = np.zeros(z.shape[1:], dtype=np.uint16)
    for plane, mask in zip(z, masks, strict=True):
        number += mask & (plane > LEAST_OF_MEDIAN)
    result = number >= needed_of_median(len(z))
    if unused is not None:
        some = unused.any(axis=0)
        good = kernels.count(unused, len(z))[some]
        result[some] = number[some] >= needed_of_median(good)
    return result


def needed_of_median(good):
    """Return how many hits, at least 1, spoil the median of some good exposures."""
    return np.maximum((good + 1) // 2, 1)
