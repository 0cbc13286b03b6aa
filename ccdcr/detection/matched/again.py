# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What decided about one pixel, found out again from its surroundings."""

from dataclasses import dataclass, replace

import numpy as np

from ccdcr.detection.matched.expected import REACH, expected_values, means_of_others
from ccdcr.detection.matched.matched import decide, match_exposures
from ccdcr.utils.morphology import groups_with_seed

__all__ = ["Decision", "decision_at", "surroundings"]

_REACH = 128  # pixels: beyond, nothing changes the fourth digit
_FOUR = ((-1, 0), (1, 0), (0, -1), (0, 1))


@dataclass(frozen=True)
class Decision:
    """
    What decided about the exposures of a pixel, arrays of length n.

    ``value`` is the matched exposure, ``reference`` what the others are that were
    not flagged before (``used``), ``noise`` that of the difference (NaN where it is
    not known) and ``z`` the deviation in sigmas, minus infinity where nothing may
    be flagged. ``around`` says whether pixels around take part in the reference,
    ``joined`` whether the pixel is connected to one that is hit for sure,
    ``charge`` is the deviation with the charge of the brightest neighbour, NaN
    where none is hit, and ``hit`` the result.
    """

    value: np.ndarray
    reference: np.ndarray
    noise: np.ndarray
    used: np.ndarray
    z: np.ndarray
    around: np.ndarray
    joined: np.ndarray
    charge: np.ndarray
    hit: np.ndarray


def surroundings(pixel, shape, tile):
    """
    Return the whole tiles around a pixel.

    Parameters
    ----------
    pixel : tuple of int
        Row and column, from 0.
    shape, tile : tuple of int
        Size of the image and of its tiles, (ny, nx).

    Returns
    -------
    bounds : tuple of slice
        Rows and columns.
    """
    bounds = []
    for place, length, size in zip(pixel, shape, tile, strict=True):
        start = max(place - _REACH, 0) // size * size
        stop = -(-(place + _REACH) // size) * size
        bounds.append(slice(start, min(stop, length)))
    return tuple(bounds)


def decision_at(pixel, frames, options, known):
    """
    Search the surroundings of a pixel again.

    Parameters
    ----------
    pixel : tuple of int
        Row and column in the frames, from 0.
    frames : `~ccdcr.detection.matched.frames.Frames`
        The exposures in the surroundings.
    options : `~ccdcr.detection.matched.matched.Options`
        How the exposures were matched.
    known : `~ccdcr.detection.matched.matched.Known`
        What was measured in the whole image.

    Returns
    -------
    decision : `Decision`
        What decides.
    """
    matched = match_exposures(frames, options, known)
    masks, z, before, leak = decide(matched, options.limits)
    limits = replace(options.limits, leak=leak)
    here = (slice(None), *pixel)
    value, deviation = matched.frames.data[here], z[here]
    reference, around = _references(pixel, matched, before)
    known = np.isfinite(deviation) & (deviation != 0)
    noise = np.full(len(z), np.nan)
    noise[known] = (value - reference)[known] / deviation[known]
    joined, charge = np.transpose([_growth(plane, limits, pixel) for plane in z])
    unused = matched.frames.unused
    return Decision(
        value=value,
        reference=reference,
        noise=noise,
        used=~before[here] if unused is None else ~(before | unused)[here],
        z=deviation,
        around=around,
        joined=joined.astype(bool),
        charge=charge,
        hit=masks[here],
    )


def _references(pixel, matched, masks):
    """Return what a pixel is compared with, and whether pixels around take part."""
    frames, start = matched.frames, [max(place - REACH, 0) for place in pixel]
    near = tuple(slice(a, b + REACH + 1) for a, b in zip(start, pixel, strict=True))
    every, here = (slice(None), *near), tuple(np.subtract(pixel, start))
    unused = None if frames.unused is None else frames.unused[every]
    stack, hit = frames.data[every], masks[every]
    level = matched.level[near]
    found = list(expected_values(stack, hit, level, frames.noise, unused))
    alone = means_of_others(stack, hit, unused)
    reference = np.array([value[here] for value, _, _ in found])
    mean = np.array([value[here] for value, _ in alone])
    return reference, reference != mean


def _growth(z, limits, pixel):
    """Return whether a pixel is joined to a hit, and its deviation with charge."""
    core = groups_with_seed(z > limits.low, z > limits.high)
    around = np.pad(np.where(core, z, np.nan), 1, constant_values=np.nan)
    row, column = pixel
    neighbours = [around[row + 1 + dy, column + 1 + dx] for dy, dx in _FOUR]
    brightest = np.nanmax(neighbours) if np.isfinite(neighbours).any() else np.nan
    return core[pixel], z[pixel] + limits.leak * brightest
