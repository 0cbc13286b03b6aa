# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Kinds of requirement: what is allowed, and how a value is checked."""

import math
import operator
import reprlib
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

__all__ = [
    "Kind",
    "boolean",
    "boxes",
    "choice",
    "flux_factor",
    "integer",
    "number",
    "number_or_pair",
    "offsets",
    "optional",
    "pixels",
    "points",
    "region",
    "regions",
    "sequence",
    "short_repr",
]

# A short file may stand for a huge value: YAML has aliases.
_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3
_SHORT.maxstring = _SHORT.maxother = 80
short_repr = _SHORT.repr


@dataclass(frozen=True)
class Kind:
    """What a requirement may be: a phrase for people and a check."""

    allowed: str
    check: Any

    def __call__(self, value, name):
        """Return the checked value; ``name`` is for the message."""
        try:
            return self.check(value)
        except (TypeError, ValueError) as err:
            msg = f"{name} must be {self.allowed}, got {short_repr(value)}"
            detail = str(err)
            raise type(err)(f"{msg} ({detail})" if detail else msg) from None


def _real(value):
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise TypeError
    value = value.item() if isinstance(value, np.generic) else value
    try:
        number = float(value)
    except OverflowError:
        raise ValueError from None
    if not math.isfinite(number):
        raise ValueError
    return value if isinstance(value, int) else number


def _whole(value):
    if isinstance(value, (bool, np.bool_)):
        raise TypeError
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError from None


def sequence(value):
    """Return a list, tuple or plain array as a list or tuple."""
    if isinstance(value, np.ndarray) and not hasattr(value, "unit"):
        value = value.tolist()
    if not isinstance(value, (list, tuple)):
        raise TypeError
    return value


def _rows(value, check):
    rows = sequence(value)
    return tuple(check(row) for row in rows) or None


def _within(value, minimum, above):
    if minimum is not None and (value < minimum or (above and value == minimum)):
        raise ValueError
    return value


def optional(kind):
    """The same kind, or None."""
    return Kind(
        f"none or {kind.allowed}",
        lambda value: None if value is None else kind.check(value),
    )


def choice(*names):
    """Return a kind for one of a few names."""

    def check(value):
        if not isinstance(value, str):
            raise TypeError
        if value not in names:
            raise ValueError
        return value

    return Kind("one of " + ", ".join(map(repr, names)), check)


def _boolean(value):
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError
    return bool(value)


boolean = Kind("True or False", _boolean)


def integer(minimum=None, maximum=None, *, odd=False):
    """Return a kind for an integer within limits."""

    def check(value):
        value = _within(_whole(value), minimum, above=False)
        if (maximum is not None and value > maximum) or (odd and value % 2 == 0):
            raise ValueError
        return value

    allowed = "an odd integer" if odd else "an integer"
    if maximum is not None:
        allowed += f" from {minimum} to {maximum}"
    elif minimum is not None:
        allowed += f" >= {minimum}"
    return Kind(allowed, check)


def number(minimum=None, *, above=False):
    """Return a kind for a finite number, ``>= minimum`` or above it."""
    limit = "" if minimum is None else f" {'>' if above else '>='} {minimum:g}"
    return Kind(
        f"a finite number{limit}",
        lambda value: _within(_real(value), minimum, above),
    )


def number_or_pair(minimum):
    """Return a kind for one number above a minimum, or two of them."""
    single = number(minimum, above=True)

    def check(value):
        if isinstance(value, Real):
            return single.check(value)
        pair = tuple(single.check(item) for item in sequence(value))
        if len(pair) != 2:
            raise ValueError
        return pair

    return Kind(f"a number > {minimum:g} or a pair of them", check)


def _one_region(value, area=1):
    limits = tuple(_whole(item) for item in sequence(value))
    if len(limits) != 4:
        msg = "four limits are needed"
        raise ValueError(msg)
    xmin, xmax, ymin, ymax = limits
    if not (1 <= xmin <= xmax and 1 <= ymin <= ymax):
        msg = "1 <= xmin <= xmax and 1 <= ymin <= ymax must hold"
        raise ValueError(msg)
    if (xmax - xmin + 1) * (ymax - ymin + 1) < area:
        msg = f"the region has less than {area} pixels"
        raise ValueError(msg)
    return limits


def region(area):
    """Return a kind for one region of at least ``area`` pixels."""
    return Kind(
        f"[xmin, xmax, ymin, ymax] of at least {area} pixels",
        lambda value: _one_region(value, area),
    )


regions = Kind(
    "a list of [xmin, xmax, ymin, ymax]", lambda value: _rows(value, _one_region)
)


def _one_pixel(value):
    pixel = tuple(_whole(item) for item in sequence(value))
    if len(pixel) != 2 or min(pixel) < 1:
        msg = "pixels are [X, Y], the first one is [1, 1]"
        raise ValueError(msg)
    return pixel


pixels = Kind("a list of [X, Y]", lambda value: _rows(value, _one_pixel))


def _one_box(value):
    box = tuple(_whole(item) for item in sequence(value))
    if len(box) != 4 or min(box) < 1:
        msg = "four positive integers are needed"
        raise ValueError(msg)
    xwidth, ywidth = box[2:]
    if xwidth % 2 == 0 or ywidth % 2 == 0:
        msg = f"widths must be odd, got {xwidth} x {ywidth}"
        raise ValueError(msg)
    if xwidth * ywidth < 3:
        msg = "the box must have at least 3 pixels"
        raise ValueError(msg)
    return box


boxes = Kind(
    "a list of [X, Y, X_width, Y_width] with odd widths",
    lambda value: _rows(value, _one_box),
)


def _one_point(value):
    point = tuple(_real(item) for item in sequence(value))
    if len(point) not in {2, 3} or (len(point) == 3 and point[2] <= 0):
        msg = "points are [x, y] or [x, y, weight] with weight > 0"
        raise ValueError(msg)
    return point


points = Kind(
    "a list of [x, y] or [x, y, weight]", lambda value: _rows(value, _one_point)
)


def _one_offset(value):
    offset = tuple(_real(item) for item in sequence(value))
    if len(offset) != 2:
        msg = "offsets are [dx, dy]"
        raise ValueError(msg)
    return offset


offsets = Kind("a list of [dx, dy]", lambda value: _rows(value, _one_offset))


def _flux_factor(value):
    positive = number(0, above=True).check
    if isinstance(value, str):
        if value != "auto":
            raise ValueError
        return value
    if isinstance(value, Real):
        return positive(value)
    return tuple(positive(item) for item in sequence(value)) or None


flux_factor = Kind(
    "'none', 'auto', a number > 0 or a list of them, one per exposure",
    lambda value: None if value is None else _flux_factor(value),
)
