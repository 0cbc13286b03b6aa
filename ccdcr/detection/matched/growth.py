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
    kept = np.zeros_like(mask)
    kept.ravel()[_places(mask, seed)] = True
    return kept


def _places(mask, seed):
    """Return the flat indices of the groups that hold a seed."""
    labels, number = ndimage.label(mask, _EIGHT)
    place = np.flatnonzero(mask)
    label = labels.ravel()[place]
    wanted = np.zeros(number + 1, dtype=bool)
    wanted[label[seed.ravel()[place]]] = True
    return place[wanted[label]]


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
    core = _places(z > low, seed)
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
