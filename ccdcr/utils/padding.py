# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Padding: columns and rows of one value in all exposures, which tell nothing."""

import numpy as np

from ccdcr.utils.neighbours import along, dilate
from ccdcr.utils.scratch import in_turn

__all__ = ["find_padding"]

_RUN = 16  # pixels of a column or row
# Ends of runs, and pairs behind them that are equal: more are so of few electrons.
_LEAST_ENDS, _MOST_EQUAL = 16, 0.1
# Of the highest value: high ones; beside saturated ones half of the pixels have a tenth
# of it at least, and few are higher.
_HIGH, _BESIDE, _FEW = 0.5, 0.1, 0.05


def find_padding(stack, bad):
    """
    Return the padding (ny, nx) of exposures (n, ny, nx) with bad pixels or None.

    Of few electrons or coarse steps many neighbours are equal, too, in noise that must
    be known: there they are so behind the ends of runs.
    """
    equal = [_equal(stack, axis) for axis in (0, 1)]
    padding = _in_runs(equal[0], 0) | _in_runs(equal[1], 1)
    if not padding.any():
        return padding
    good = np.ones_like(padding) if bad is None else ~bad.any(axis=0)
    padding &= ~_saturated(stack, padding, good)
    behind = _behind(padding, good, equal)
    is_clear = behind.size >= _LEAST_ENDS and behind.mean() <= _MOST_EQUAL
    return padding if is_clear else np.zeros_like(padding)


def _saturated(stack, runs, good):
    """Return which runs are of high values beside lower ones that are bright."""
    high = runs.copy()
    for plane in in_turn(stack):
        high &= plane > _HIGH * np.nanmax(plane)
    around = dilate(high, 1) & ~runs & good
    for plane in stack if around.any() else ():
        beside = plane[around] / plane[high].max()
        if np.median(beside) < _BESIDE or (beside > 1).mean() > _FEW:
            return np.zeros_like(runs)
    return high


def _equal(stack, axis):
    """Return where neighbours along an axis are equal in each exposure."""
    result = True
    for plane in in_turn(stack):
        image = plane.T if axis else plane
        result &= image[1:] == image[:-1]
    return result.T if axis else result


def _in_runs(equal, axis):
    """Return which pixels (ny, nx) are in runs, by pairs of equal neighbours."""
    if equal.shape[axis] < _RUN - 1:
        shape = np.add(equal.shape, (1 - axis, axis))
        return np.zeros(shape, bool)
    starts = along(np.logical_and, equal, _RUN - 1, axis)
    width = [(0, 0), (0, 0)]
    width[axis] = (_RUN - 1, _RUN - 1)
    return along(np.logical_or, np.pad(starts, width), _RUN, axis)


def _behind(padding, good, equal):
    """Return whether pairs of good pixels behind the first one outside are equal."""
    found = []
    for axis in (0, 1):
        planes = padding, good, equal[axis]
        planes = [plane.T if axis else plane for plane in planes]
        for p, g, e in (planes, [plane[::-1] for plane in planes]):
            ends = p[:-3] & ~p[1:-2] & g[2:-1] & g[3:]
            found.append(e[2:][ends])
    return np.concatenate(found)
