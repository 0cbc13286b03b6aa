# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Growth of seed pixels into masks: connected pixels, and neighbours with charge."""

import numpy as np

from ccdcr.utils.morphology import pixels_of_seeded_groups

__all__ = ["USUAL_LEAK", "grow", "measure_leak"]

USUAL_LEAK = 0.02

_BRIGHT, _BRIGHTEST = 100.0, 3000.0  # sigmas of hits whose neighbours tell the leak
_LEAST_HITS, _QUANTILE = 100, 1 / 3
_RANGE = (0.01, 0.05)


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
    Measure the part of its charge that a hit pixel loses to each neighbour.

    Parameters
    ----------
    z : 3D `~numpy.ndarray`
        Deviations in sigmas, (n, ny, nx).
    masks : 3D `~numpy.ndarray` of bool
        Masks of the exposures, True = hit.

    Returns
    -------
    leak : float
        0.01 to 0.05; 0.02 where there are less than 100 bright hits.

    Notes
    -----
    Of the four neighbours of a hit pixel the lowest is beside the track: what
    it has came by diffusion. Where the track passes near its side that is
    more than elsewhere, so that a low quantile is taken.
    """
    shares = [_lowest_shares(*planes) for planes in _alone(z, masks)]
    shares = np.concatenate(shares)
    if len(shares) < _LEAST_HITS:
        return USUAL_LEAK
    return float(np.clip(np.quantile(shares, _QUANTILE), *_RANGE))


def _alone(z, masks):
    """Yield deviations, and pixels that are bright and hit in this exposure only."""
    number = masks.sum(axis=0, dtype=np.uint8)
    for plane, mask in zip(z, masks, strict=True):
        bright = (plane > _BRIGHT) & (plane < _BRIGHTEST) & mask
        yield plane, bright & (number == 1)


def _lowest_shares(z, bright):
    """Return what the lowest neighbour has of each local maximum."""
    inner = bright[1:-1, 1:-1]
    y, x = (place + 1 for place in np.nonzero(inner))
    value = z[y, x]
    lowest = np.full(len(y), np.inf, dtype=z.dtype)
    highest = np.zeros_like(lowest)
    for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        lowest = np.minimum(lowest, z[y + dy, x + dx])
        highest = np.maximum(highest, z[y + dy, x + dx])
    good = (highest <= value) & np.isfinite(lowest)
    return lowest[good] / value[good]
