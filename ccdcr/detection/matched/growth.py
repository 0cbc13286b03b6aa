# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""From deviations to masks: connected pixels, and neighbours that got charge."""

import numpy as np
from scipy import ndimage

__all__ = ["connected", "grow"]

_EIGHT = np.ones((3, 3), dtype=bool)


def connected(mask, seed):
    """
    Return the 8-connected groups of a mask that hold a seed.

    Parameters
    ----------
    mask, seed : 2D `~numpy.ndarray` of bool
        Pixels that may be kept, and those that must be in a group.

    Returns
    -------
    kept : 2D `~numpy.ndarray` of bool
        The groups.
    """
    labels, number = ndimage.label(mask, _EIGHT)
    wanted = np.zeros(number + 1, dtype=bool)
    wanted[labels[seed]] = True
    wanted[0] = False
    place = np.nonzero(mask)
    kept = np.zeros_like(mask)
    kept[place] = wanted[labels[place]]
    return kept


def grow(z, seed, low, leak, tail):
    """
    Turn deviations into a mask.

    Parameters
    ----------
    z : 2D `~numpy.ndarray`
        Deviations in sigmas; minus infinity where nothing may be flagged.
    seed : 2D `~numpy.ndarray` of bool
        Pixels that are hit for sure.
    low : float
        Pixels above are flagged if they are connected to a seed.
    leak : float
        Part of its charge that a pixel loses to each of its four neighbours.
    tail : float
        What a neighbour must exceed together with the charge it has received.

    Returns
    -------
    mask : 2D `~numpy.ndarray` of bool
        True = hit.

    Notes
    -----
    A neighbour of a bright pixel has surely received charge, whatever its own
    noise. A low threshold on its own value alone would select upward noise.
    """
    if not seed.any():
        return seed
    core = connected(z > low, seed)
    y, x = np.nonzero(core)
    brightest = np.full((z.shape[0] + 2, z.shape[1] + 2), -np.inf, dtype=z.dtype)
    values = z[y, x]
    for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
        # One shift hits no pixel twice, so that no value is lost.
        place = (y + dy, x + dx)
        brightest[place] = np.maximum(brightest[place], values)
    brightest = brightest[1:-1, 1:-1]
    ring = np.nonzero(brightest > 0)
    received = z.dtype.type(leak) * brightest[ring]
    core[ring] |= z[ring] + received > tail
    return core
