# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What decided about one pixel, found out again from its surroundings."""

from dataclasses import dataclass, replace

import numpy as np

from ccdcr.detection.matched.decide import means_of_others
from ccdcr.detection.matched.growth import connected
from ccdcr.detection.matched.matched import decide, match_exposures

__all__ = ["Decision", "decision_at", "surroundings"]

_REACH = 128  # pixels: beyond, nothing changes the fourth digit
_FOUR = ((-1, 0), (1, 0), (0, -1), (0, 1))


@dataclass(frozen=True)
class Decision:
    """
    What decided about the exposures of a pixel, arrays of length n.

    ``value`` is the matched exposure, ``reference`` the mean of the others that
    were not flagged before (``used``), ``noise`` that of the difference (NaN
    where it is not known) and ``z`` the deviation in sigmas, minus infinity where
    nothing may be flagged. ``elsewhere`` says whether another exposure is hit,
    ``joined`` whether the pixel is connected to one that is hit for sure,
    ``charge`` is the deviation with the charge of the brightest neighbour, NaN
    where none is hit, and ``hit`` the result.
    """

    value: np.ndarray
    reference: np.ndarray
    noise: np.ndarray
    used: np.ndarray
    z: np.ndarray
    elsewhere: np.ndarray
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
    row, column = pixel
    one = np.s_[:, row : row + 1, column : column + 1]
    stack, unused = matched.frames.data[one], matched.frames.unused
    unused = np.zeros(stack.shape, dtype=bool) if unused is None else unused[one]
    means = means_of_others(stack, before[one], unused)
    reference = np.array([mean[0, 0] for mean, _ in means])
    value, deviation = stack[:, 0, 0], z[here]
    known = np.isfinite(deviation) & (deviation != 0)
    noise = np.full(len(z), np.nan)
    noise[known] = (value - reference)[known] / deviation[known]
    elsewhere = before.sum(axis=0) > before
    joined, charge = np.transpose(
        [_growth(z[i], elsewhere[i], limits, pixel) for i in range(len(z))]
    )
    return Decision(
        value=value,
        reference=reference,
        noise=noise,
        used=~before[here] & ~unused[:, 0, 0],
        z=deviation,
        elsewhere=elsewhere[here],
        joined=joined.astype(bool),
        charge=charge,
        hit=masks[here],
    )


def _growth(z, elsewhere, limits, pixel):
    """Return whether a pixel is joined to a hit, and its deviation with charge."""
    seed = (z > limits.high) | (elsewhere & (z > limits.again))
    core = connected(z > limits.low, seed)
    around = np.pad(np.where(core, z, np.nan), 1, constant_values=np.nan)
    row, column = pixel
    neighbours = [around[row + 1 + dy, column + 1 + dx] for dy, dx in _FOUR]
    brightest = np.nanmax(neighbours) if np.isfinite(neighbours).any() else np.nan
    return core[pixel], z[pixel] + limits.leak * brightest
