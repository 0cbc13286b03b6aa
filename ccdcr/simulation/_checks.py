# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Kinds of parameters that only a simulation has."""

from numbers import Real

import numpy as np

from ccdcr import _requirement_kinds as kind

__all__ = ["image_shape", "number", "per_exposure", "shifts"]


def number(value, name, minimum=None, *, above=False):
    """Return ``value`` as one finite float, ``>= minimum`` or above it."""
    return float(kind.number(minimum, above=above)(value, name))


def _sides(value):
    sides = tuple(kind.integer(1).check(side) for side in kind.sequence(value))
    if len(sides) != 2:
        raise ValueError
    return sides


image_shape = kind.Kind("two positive integers (ny, nx)", _sides)


def per_exposure(value, name, n_exposures, minimum=None, *, above=False):
    """Return one float per exposure, (n,), from one value or one per exposure."""
    single = kind.number(minimum, above=above)

    def check(value):
        if isinstance(value, Real):
            value = [value] * n_exposures
        numbers = [single.check(item) for item in kind.sequence(value)]
        if len(numbers) != n_exposures:
            raise ValueError
        return np.array(numbers, dtype=float)

    allowed = f"{single.allowed} or {n_exposures} of them, one per exposure"
    return kind.Kind(allowed, check)(value, name)


def shifts(value, name, n_exposures):
    """Return the shifts, (n, 2), from one pair or one per exposure."""

    def check(value):
        rows = kind.sequence(value)
        if all(isinstance(item, Real) for item in rows):
            rows = [rows] * n_exposures
        pairs = kind.offsets.check(rows)
        if pairs is None or len(pairs) != n_exposures:
            raise ValueError
        return np.array(pairs, dtype=float)

    allowed = f"one pair (dx, dy) or {n_exposures} pairs, one per exposure"
    return kind.Kind(allowed, check)(value, name)
