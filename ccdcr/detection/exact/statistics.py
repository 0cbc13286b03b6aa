# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The planes that are compared: a low reference and statistics above it."""

from dataclasses import dataclass

import numpy as np

from ccdcr import _kernels as kernels
from ccdcr.utils.row_bands import bands_of

__all__ = ["Compared", "compared_planes", "hit_fraction", "lowest_used", "rank_of"]

_CLEAR_HIT = 7.0  # standard deviations


@dataclass(frozen=True)
class Compared:
    """
    Planes (ny, nx) over the good exposures.

    ``minimum``; ``reference``, the minimum or the mean of the two lowest;
    ``ordered``, the value that the coincidences sought make a hit; ``highest``;
    ``number`` of good exposures, or None where all ``n`` are good.
    """

    n: int

    minimum: np.ndarray
    reference: np.ndarray
    ordered: np.ndarray
    highest: np.ndarray
    number: np.ndarray | None


def rank_of(n, coincidences):
    """
    Return which of n exposures is a hit if the coincidences sought happen.

    Parameters
    ----------
    n : int
        Number of exposures, 2 or more.
    coincidences : int
        How many hits in one pixel are sought. Fewer than those that falsify the
        median are no concern, all n cannot be seen.

    Returns
    -------
    rank : int
        Counted from 1, the lowest; of an odd number that of the median at most,
        of an even number the upper of the two in the middle.
    """
    return n + 1 - min(max(coincidences, (n + 1) // 2), n - 1)


def lowest_used(n, coincidences, *, equal=True):
    """Return how many of the lowest exposures are clean, and make the reference."""
    return 2 if equal and rank_of(n, coincidences) >= 3 else 1


def compared_planes(stack, bad, planes, coincidences, *, equal=True):
    """
    Return the planes that are compared.

    Parameters
    ----------
    stack : 3D `~numpy.ndarray`
        The exposures, (n, ny, nx), at one level.
    bad : 3D `~numpy.ndarray` of bool or None
        True = takes no part.
    planes : `~ccdcr.detection.planes.Planes`
        Their statistics.
    coincidences : int
        As for `rank_of`.
    equal : bool, optional
        Whether the exposures have equal noise.

    Returns
    -------
    compared : `Compared`
        The planes. Where no exposure is good they have the values of ``planes``.
    """
    n = len(stack)
    shape = stack.shape[1:]
    reference, ordered, highest = (np.empty(shape, stack.dtype) for _ in range(3))
    number = None if bad is None else kernels.count(bad, n)
    simple = n == 3 and bad is None
    for rows in bands_of(shape):
        band = stack[:, rows]
        if simple:
            reference[rows], ordered[rows] = planes.minimum[rows], planes.median[rows]
            highest[rows] = band.max(axis=0)
            continue
        if bad is not None:
            band = np.where(bad[:, rows], stack.dtype.type(np.inf), band)
        values = np.sort(band, axis=0)
        good = np.full(values.shape[1:], n) if bad is None else number[rows]
        reference[rows], ordered[rows], highest[rows] = _by_number(
            values, good, coincidences, equal=equal
        )
    if planes.nogood is not None:
        for plane in (reference, ordered, highest):
            np.copyto(plane, planes.minimum, where=planes.nogood)
    return Compared(n, planes.minimum, reference, ordered, highest, number)


def _by_number(values, good, coincidences, *, equal):
    """Pick values from sorted exposures by the number of good ones."""
    reference, ordered, highest = values[0].copy(), values[0].copy(), values[0].copy()
    for n in range(2, len(values) + 1):
        here = good == n
        if not here.any():
            continue
        np.copyto(ordered, values[rank_of(n, coincidences) - 1], where=here)
        np.copyto(highest, values[n - 1], where=here)
        if lowest_used(n, coincidences, equal=equal) == 2:
            pair = (values[0] + values[1]) * values.dtype.type(0.5)
            np.copyto(reference, pair, where=here)
    return reference, ordered, highest


def hit_fraction(compared, exposures, use):
    """
    Estimate the fraction of the pixels that is hit in each exposure.

    Parameters
    ----------
    compared : `Compared`
        The planes.
    exposures : `~ccdcr.detection.exact.exposures.EqualExposures` or the like
        The exposures.
    use : 2D `~numpy.ndarray` of bool or None
        Pixels that are counted; None counts all.

    Returns
    -------
    fraction : float
        Pixels whose highest exposure is clearly above the lowest, per exposure.
    """
    hit = total = 0
    noise, scale = exposures.noise, exposures.scale
    for rows in bands_of(compared.minimum.shape):
        low, high = compared.minimum[rows] * scale, compared.highest[rows] * scale
        clear = noise.coordinate(high) - noise.coordinate(low) > _CLEAR_HIT
        inside = slice(None) if use is None else use[rows]
        hit += np.count_nonzero(clear[inside])
        total += clear[inside].size
    return float(min(hit / max(total, 1) / exposures.n, 0.3))
