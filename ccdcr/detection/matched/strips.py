# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Matching along rows and columns: sky lines, traces and fibres that vary alone."""

import numpy as np
from scipy import ndimage

from ccdcr.detection.matched.tiles import weights

__all__ = ["match_along_rows"]

_LENGTH = 41
_ANNEALING = (0.5, 0.15, 0.05)
_PRIOR = 0.3
_RANGE = (-0.7, 2.0)
_SIGNIFICANT = 16.0  # squared sigmas


def match_along_rows(difference, height, variance, bad=None):
    """
    Subtract what is proportional to the structure along parts of the rows.

    Parameters
    ----------
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
    In running strips of 41 pixels the factor is fitted with weights for ever
    smaller tolerance, then shrunk by its significance: equivalent exposures
    are not changed.
    """
    some = np.flatnonzero(height.any(axis=1))
    if len(some) == 0:
        return
    if len(some) < len(height):
        parts = [difference[some], height[some], variance[some]]
        match_along_rows(*parts, None if bad is None else bad[some])
        difference[some] = parts[0]
        return
    usable = None if bad is None or not bad.any() else ~bad
    square = np.square(height)
    product = height * difference
    residual = difference
    for q in _ANNEALING:
        weight = weights(residual, variance + np.float32(q**2) * square, usable)
        norm = _sums(weight * square)
        norm += np.float32(_PRIOR**-2)
        weight *= product
        factor = _sums(weight)
        factor /= norm
        np.clip(factor, *map(np.float32, _RANGE), out=factor)
        residual = difference - factor * height
    norm *= np.square(factor)
    with np.errstate(divide="ignore"):
        shrink = np.maximum(1 - np.float32(_SIGNIFICANT) / norm, 0)
    difference -= factor * shrink * height


def _sums(values):
    sums = ndimage.uniform_filter1d(values, _LENGTH, axis=1, mode="nearest")
    sums *= np.float32(_LENGTH)
    return sums
