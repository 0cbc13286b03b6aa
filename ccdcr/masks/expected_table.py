# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Table of the values that masked pixels would have without their hits."""

from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.table import Table

from ccdcr.exceptions import short_repr

__all__ = [
    "EXPECTED_COLUMNS",
    "ExpectedRows",
    "expected_table",
    "keep_expected",
    "make_expected_table",
    "move_expected",
]

EXPECTED_COLUMNS = ("EXPOSURE", "X", "Y", "VALUE", "SIGMA")
_TYPES = (np.int16, np.int32, np.int32, np.float32, np.float32)


def make_expected_table(places, values, sigmas, unit):
    """Return the table of values at places (exposure, row, column), all from 0."""
    exposure, y, x = (place + 1 for place in places)
    columns = zip((exposure, x, y, values, sigmas), _TYPES, strict=True)
    table = Table([v.astype(kind) for v, kind in columns], names=EXPECTED_COLUMNS)
    table["VALUE"].unit = table["SIGMA"].unit = unit
    return table


def expected_table(value, crmasks):
    """Return a checked copy of a table in order; None if it is None or empty."""
    if value is None:
        return None
    if not isinstance(value, Table) or set(value.colnames) != set(EXPECTED_COLUMNS):
        columns = ", ".join(EXPECTED_COLUMNS)
        msg = f"expected must be a Table of {columns}, got {short_repr(value)}"
        raise TypeError(msg)
    if len(value) == 0:
        return None
    units = {value[name].unit for name in ("VALUE", "SIGMA")}
    if len(units) > 1 or not units <= {u.adu, u.electron}:
        msg = f"VALUE and SIGMA of expected must be in adu or electron, got {units}"
        raise ValueError(msg)
    places = _places(value, crmasks.shape)
    if not crmasks[places].all():
        first = [int(place[~crmasks[places]][0]) + 1 for place in places]
        msg = f"expected must hold masked pixels, got [EXPOSURE, Y, X] = {first}"
        raise ValueError(msg)
    numbers = [np.asarray(value[name], float) for name in ("VALUE", "SIGMA")]
    if not np.isfinite(numbers).all() or (numbers[1] < 0).any():
        msg = "VALUE and SIGMA of expected must be finite, and SIGMA >= 0"
        raise ValueError(msg)
    flat = np.ravel_multi_index(places, crmasks.shape)
    order = np.argsort(flat)
    if (np.diff(flat[order]) == 0).any():
        msg = "expected must hold each pixel of an exposure once"
        raise ValueError(msg)
    ordered = ([a[order] for a in group] for group in (places, numbers))
    places, (values, sigmas) = ordered
    return make_expected_table(places, values, sigmas, *units)


def _places(table, shape):
    """Return exposure, row and column (m,) from 0 of a table, checked."""
    places = []
    for name, length in zip(("EXPOSURE", "Y", "X"), shape, strict=True):
        place = np.asarray(table[name])
        if place.dtype.kind not in "ui" or place.min() < 1 or place.max() > length:
            found = f"{place.min()} to {place.max()}"
            msg = f"{name} of expected must be integers from 1 to {length}, got {found}"
            raise ValueError(msg)
        places.append(place.astype(np.intp) - 1)
    return tuple(places)


def keep_expected(table, crmasks, added):
    """Return the rows that are still right after edits; ``added`` is (ny, nx)."""
    if table is None:
        return None
    exposure, y, x = (table[name] - 1 for name in ("EXPOSURE", "Y", "X"))
    # An exposure that is masked now may be in the means of the others.
    return table[crmasks[exposure, y, x] & ~added[y, x]]


def move_expected(table, y0, y1, x0, x1):
    """Return the table of a part of the images."""
    if table is None:
        return None
    x, y = table["X"], table["Y"]
    part = table[(x > x0) & (x <= x1) & (y > y0) & (y <= y1)]
    part["X"] -= x0
    part["Y"] -= y0
    return part


@dataclass(frozen=True)
class ExpectedRows:
    """
    Expected values of some rows of the exposures, (m,) each, in the order of rows.

    ``exposure``, ``y`` and ``x`` are from 0.
    """

    exposure: np.ndarray
    y: np.ndarray
    x: np.ndarray
    value: np.ndarray
    sigma: np.ndarray

    @classmethod
    def from_table(cls, table, factor=1.0):
        """Return the rows of a table; VALUE and SIGMA times a factor."""
        order = np.argsort(table["Y"], kind="stable")
        columns = {name: np.asarray(table[name])[order] for name in table.colnames}
        places = (columns[name].astype(np.intp) - 1 for name in ("EXPOSURE", "Y", "X"))
        values = (columns[name] * factor for name in ("VALUE", "SIGMA"))
        return cls(*places, *values)

    def cut(self, start, stop):
        """Return those of rows from start to stop, counted from start."""
        part = slice(*np.searchsorted(self.y, [start, stop]))
        columns = (self.exposure, self.y - start, self.x, self.value, self.sigma)
        return ExpectedRows(*(column[part] for column in columns))
