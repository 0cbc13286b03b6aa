# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Matching along rows and columns: sky lines, traces and fibres that vary alone."""

import numpy as np

from ccdcr.detection.matched.tiles import weights
from ccdcr.detection.matched.windows import sums_along

__all__ = ["HALO", "match_along"]

# Three lines together: what changes is as wide as the structure, a track is not.
_LENGTH, _WIDTH = 41, 3
_ANNEALING = (0.5, 0.15, 0.05)
_PRIOR = 0.3
_RANGE = (-0.7, 2.0)
_SIGNIFICANT = 16.0  # squared sigmas
HALO = _WIDTH // 2 * len(_ANNEALING)  # lines on both sides that change a result


def match_along(axis, difference, height, variance, bad=None):
    """
    Subtract what is proportional to the structure along parts of rows or columns.

    Parameters
    ----------
    axis : int
        0 = along columns, 1 = along rows.
    difference : 2D `~numpy.ndarray`
        Exposure minus clean reference; changed in place.
    height : 2D `~numpy.ndarray`
        Height of the structure, 0 where there is only noise.
    variance : 2D `~numpy.ndarray`
        Variance of the difference.
    bad : 2D `~numpy.ndarray` of bool, optional
        True = takes no part.

    Notes
    -----
    In running strips of 41 x 3 pixels the factor is fitted with weights for ever
    smaller tolerance, then shrunk by its significance: equivalent exposures
    are not changed.
    """
    if not height.any():
        return
    usable = None if bad is None or not bad.any() else ~bad
    square = np.square(height)
    product = height * difference
    residual = difference
    for q in _ANNEALING:
        tolerance = np.float32(q**2) * square
        tolerance += variance
        weight = weights(residual, tolerance, usable)
        norm = _sums(weight * square, axis)
        norm += np.float32(_PRIOR**-2)
        weight *= product
        factor = _sums(weight, axis)
        factor /= norm
        np.clip(factor, *map(np.float32, _RANGE), out=factor)
        residual = difference - factor * height
    norm *= np.square(factor)
    with np.errstate(divide="ignore"):
        shrink = np.maximum(1 - np.float32(_SIGNIFICANT) / norm, 0)
    factor *= shrink
    factor *= height
    difference -= factor


def _sums(values, axis):
    # Zeros beyond the image: its last pixel again, 20 times, would outweigh the rest.
    sums = sums_along(values, _LENGTH, axis, mode="constant")
    return sums_along(sums, _WIDTH, 1 - axis, mode="constant")
