# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Which pixels are hit: deviations from the low reference, then from the mean."""

from dataclasses import dataclass

import numpy as np

from ccdcr import _kernels as kernels
from ccdcr._threads import in_threads
from ccdcr.detection.matched.bands import bands
from ccdcr.detection.matched.growth import USUAL_LEAK, grow
from ccdcr.detection.matched.reference import (
    low_references,
    lowest_others,
    majority,
    surely_clean,
)

__all__ = [
    "Limits",
    "coincident_pixels",
    "first_masks",
    "least_of_median",
    "means_of_others",
    "needed_of_median",
    "next_masks",
]

_DIFFERENCE = np.float32(0.7)  # variance of a low reference over that of one exposure
_MORE = 1.0  # sigmas: the low reference is the noisier one
_LOW = np.float32(4.0)  # sigmas that noise may make the low reference too low
_LEAST_MEDIAN = 2.3  # sigmas of one exposure


@dataclass(frozen=True)
class Limits:
    """
    Limits in sigmas, see `~ccdcr.detection.matched.growth.grow`.

    ``again`` is enough in a pixel that is hit in another exposure, too. ``leak``
    None = to be measured.
    """

    high: float = 5.0
    low: float = 4.0
    again: float = 4.3
    leak: float | None = None
    tail: float = 2.5


def first_masks(frames, limits, level=None, extra=None):
    """
    Flag what deviates from the low reference, which is clean for sure.

    Parameters
    ----------
    frames : `~ccdcr.detection.matched.frames.Frames`
        The exposures.
    limits : `Limits`
        The limits of the final masks.
    level : 2D `~numpy.ndarray`, optional
        Smooth clean signal. The noise is that of this signal at least: that of
        a reference that is low by noise would be too small.
    extra : 2D `~numpy.ndarray`, optional
        What mismatch adds to the variance.

    Returns
    -------
    masks : 3D `~numpy.ndarray` of bool
        True = hit.
    """
    z = np.empty_like(frames.data)
    noise, unused = frames.noise, frames.unused

    def work(rows):
        stack = frames.data[:, rows]
        part = None if unused is None else unused[:, rows]
        references, lows = low_references(stack, part)
        for i, low in enumerate(references):
            signal = low
            if level is not None:
                most = low + _LOW * np.sqrt(noise.variance(low, i))
                signal = np.maximum(low, np.minimum(level[rows], most))
            others = noise.variance_of_others(signal, i)
            variance = noise.variance(signal, i) + _DIFFERENCE * others
            if extra is not None:
                variance += extra[rows]
            with np.errstate(invalid="ignore"):
                deviation = stack[i] - low + lows[i] * np.sqrt(others)
                z[i, rows] = deviation / np.sqrt(variance)

    in_threads(work, bands(*frames.shape))
    _forbid(z, frames)
    return _grown(z, limits, limits.high + _MORE)


def next_masks(masks, limits, frames, level, extra=None):
    """
    Flag what deviates from the mean of the others that are not flagged.

    Parameters
    ----------
    masks : 3D `~numpy.ndarray` of bool
        The masks so far.
    limits, frames, level, extra
        As for `first_masks`.

    Returns
    -------
    masks : 3D `~numpy.ndarray` of bool
        True = hit.
    z : 3D `~numpy.ndarray` of float32
        Deviations in sigmas.
    """
    z = np.empty_like(frames.data)
    noise, unused = frames.noise, frames.unused

    def work(rows):
        stack = frames.data[:, rows]
        part = None if unused is None else unused[:, rows]
        for i, (reference, number) in enumerate(
            means_of_others(stack, masks[:, rows], part)
        ):
            signal = np.maximum(reference, level[rows])
            variance = noise.variance_of_others(signal, i) / number
            variance += noise.variance(signal, i)
            if extra is not None:
                # One exposure alone averages no mismatch.
                variance += extra[rows] * np.maximum(2 / number, 1)
            with np.errstate(invalid="ignore"):
                z[i, rows] = (stack[i] - reference) / np.sqrt(variance)

    in_threads(work, bands(*frames.shape))
    _forbid(z, frames)
    return _grown(z, limits, limits.high, masks), z


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
            others[none] = 1
        yield reference, others


def _forbid(z, frames):
    """Nothing is flagged in a bad pixel, nor where there is nothing to compare."""
    if frames.bad is not None:
        z[frames.bad] = -np.inf
    if frames.unused is not None:
        z[~np.isfinite(z)] = -np.inf


def _grown(z, limits, high, masks=None):
    leak = USUAL_LEAK if limits.leak is None else limits.leak
    elsewhere = [None] * len(z) if masks is None else _hit_elsewhere(masks)

    def work(i):
        seed = z[i] > high
        if elsewhere[i] is not None:
            seed |= elsewhere[i] & (z[i] > limits.again)
        return grow(z[i], seed, limits.low, leak, limits.tail)

    return np.stack(in_threads(work, range(len(z))))


def _hit_elsewhere(masks):
    """Return where another exposure is flagged, by exposure."""
    number = masks.sum(axis=0, dtype=np.uint8)
    return [number > mask for mask in masks]


def coincident_pixels(z, masks, unused=None):
    """
    Return where the median is wrong.

    Parameters
    ----------
    z : 3D `~numpy.ndarray`
        Deviations in sigmas.
    masks : 3D `~numpy.ndarray` of bool
        The masks of the exposures.
    unused : 3D `~numpy.ndarray` of bool, optional
        True = takes no part.

    Returns
    -------
    mask : 2D `~numpy.ndarray` of bool
        Where a majority is flagged and exceeds the reference by more than 2.3
        sigma of one exposure: neighbours that may have got charge from two hits
        beside each other are not enough. Where
        some exposures take no part, half of the others are enough: the median
        of two is their mean. Two exposures alone have no majority.
    """
    if len(z) < 3:
        return np.zeros(z.shape[1:], dtype=bool)
    least = least_of_median(len(z))
    number = np.zeros(z.shape[1:], dtype=np.uint16)
    for plane, mask in zip(z, masks, strict=True):
        number += mask & (plane > least)
    result = number >= majority(len(z))
    if unused is not None:
        some = unused.any(axis=0)
        good = kernels.count(unused, len(z))[some]
        result[some] = number[some] >= needed_of_median(len(z), good)
    return result


def least_of_median(n):
    """Return what counts for the median of n exposures, in sigmas of a deviation."""
    # The reference has noise, too, which is in the deviations.
    return _LEAST_MEDIAN / np.sqrt(1 + 1 / surely_clean(n))


def needed_of_median(n, good):
    """Return how many of the good ones of n exposures spoil the median."""
    return np.where(good == n, majority(n), np.maximum((good + 1) // 2, 1))
