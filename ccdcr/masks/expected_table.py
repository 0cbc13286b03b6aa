# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Values that masked pixels would have without hits, and exposures with them."""

from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.nddata import StdDevUncertainty, UnknownUncertainty
from astropy.table import Table

from ccdcr.exceptions import short_repr
from ccdcr.exposures.ccd_parameters import RecordedNoise
from ccdcr.exposures.ccd_values import is_counts, is_known, is_rate
from ccdcr.exposures.exposure_flags import with_replaced
from ccdcr.exposures.open_exposures import Exposure, load_ccds
from ccdcr.masks.expected_check import REMEDY, check_expected
from ccdcr.masks.mask_order import check_exposures

__all__ = [
    "EXPECTED_COLUMNS",
    "ExpectedRows",
    "clean_exposures",
    "cut_masks",
    "expected_power",
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
    """Return a checked copy of a table in order, or None."""
    if value is None:
        return None
    if not isinstance(value, Table) or set(value.colnames) != set(EXPECTED_COLUMNS):
        columns = ", ".join(EXPECTED_COLUMNS)
        msg = f"expected must be a Table of {columns}, got {short_repr(value)}"
        raise TypeError(msg)
    units = {value[name].unit for name in ("VALUE", "SIGMA")}
    known = all(unit is not None and is_known(unit) for unit in units)
    if len(units) > 1 or not known:
        msg = (
            "VALUE and SIGMA of expected must be in one unit of counts or electrons, "
            f"got {units}"
        )
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
    if not (np.diff(flat) > 0).all():
        order = np.argsort(flat)
        if (np.diff(flat[order]) == 0).any():
            msg = "expected must hold each pixel of an exposure once"
            raise ValueError(msg)
        places, numbers = ([a[order] for a in group] for group in (places, numbers))
    return make_expected_table(places, *numbers, *units)


def _places(table, shape):
    """Return exposure, row and column (m,) from 0 of a table, checked."""
    places = []
    for name, length in zip(("EXPOSURE", "Y", "X"), shape, strict=True):
        place = np.asarray(table[name])
        inside = (place >= 1) & (place <= length)
        if place.dtype.kind not in "ui" or not inside.all():
            found = place[~inside][:3].tolist() or place.dtype
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

    ``exposure``, ``y`` and ``x`` are from 0. ``shape`` is that of the exposures, (n,
    rows, nx), and indices are those of an array of that shape.
    """

    shape: tuple
    exposure: np.ndarray
    y: np.ndarray
    x: np.ndarray
    value: np.ndarray
    sigma: np.ndarray

    @classmethod
    def from_table(cls, table, shape, gain, power):
        """Return the rows of a table; VALUE and SIGMA times a power of the gain."""
        order = np.argsort(table["Y"], kind="stable")
        columns = {name: np.asarray(table[name])[order] for name in EXPECTED_COLUMNS}
        places = [columns[name].astype(np.intp) - 1 for name in ("EXPOSURE", "Y", "X")]
        factor = np.float32(1)
        if power:
            gain = np.asarray(gain)
            index = ((), places[:1], places[1:], places)[gain.ndim]
            factor = (gain[tuple(index)] ** power).astype(np.float32)
        values = (columns[name] * factor for name in ("VALUE", "SIGMA"))
        return cls(shape, *places, *values)

    def __getitem__(self, item):
        """Return those of ``[..., rows, :]``, a slice of rows."""
        n, ny, nx = self.shape
        start, stop, _ = item[-2].indices(ny)
        part = slice(*np.searchsorted(self.y, [start, stop]))
        columns = (self.exposure, self.y - start, self.x, self.value, self.sigma)
        return ExpectedRows((n, stop - start, nx), *(c[part] for c in columns))

    def without(self, bad):
        """Return those of pixels that are not bad, (n, rows, nx)."""
        good = ~bad[self.exposure, self.y, self.x]
        columns = (self.exposure, self.y, self.x, self.value, self.sigma)
        return ExpectedRows(self.shape, *(column[good] for column in columns))


def cut_masks(planes, rows):
    """Return some rows of planes by name, of those that are not None."""
    return {
        name: plane[..., rows, :] for name, plane in planes.items() if plane is not None
    }


def clean_exposures(ccds, masks):
    """Return cleaned copies of exposures; `ccdcr.CRMaskSet.clean` has the rules."""
    if masks.expected is None and masks.crmasks.any():
        msg = (
            "clean needs expected values, which the mask set does not have; "
            "add_expected(ccds, masks) makes them"
        )
        raise ValueError(msg)
    ccds, names = load_ccds(ccds)
    foreign = check_exposures(masks, ccds, names)
    table, power = masks.expected, 0
    if table is None:
        table = make_expected_table(np.zeros((3, 0), int), *np.zeros((2, 0)), u.adu)
    else:
        power = expected_power(masks, ccds[0].unit)
    rows = ExpectedRows.from_table(table, masks.crmasks.shape, masks.gain, power)
    noise = RecordedNoise.from_masks(masks, ccds[0].unit, [ccd.meta for ccd in ccds])
    if not foreign:
        planes = {"FLAGGED": masks.crmasks, "LOW": masks.low, "EXPECTED": rows}
        exposures = [Exposure.from_ccd(ccd) for ccd in ccds]
        check_expected(exposures, lambda part: cut_masks(planes, part), REMEDY)
    return [_cleaned(ccd, masks, i, rows, noise) for i, ccd in enumerate(ccds)]


def expected_power(masks, unit):
    """Return the power of the gain that brings expected values to a unit."""
    other = masks.expected_unit
    if other == unit:
        return 0
    convertible = is_known(unit) and is_rate(unit) == is_rate(other)
    if convertible and is_counts(unit) == is_counts(other):
        return 0
    if not convertible or masks.gain is None:
        why = "the mask set records no gain to convert"
        if not convertible:
            why = f"these cannot be converted, use exposures in {other}"
        msg = f"expected values are in {other} and the exposures are in {unit}; {why}"
        raise ValueError(msg)
    return 1 if is_counts(other) else -1


def _cleaned(ccd, masks, i, rows, noise):
    """Return a copy of exposure i with expected values."""
    bad = np.zeros(ccd.shape, bool) if ccd.mask is None else np.array(ccd.mask, bool)
    bad = np.broadcast_to(bad, ccd.shape)
    use = (rows.exposure == i) & ~bad[rows.y, rows.x]
    place = rows.y[use], rows.x[use]
    found = np.zeros(ccd.shape, dtype=bool)
    found[place] = True
    clean = ccd.copy()
    clean.data = ccd.data.astype(np.result_type(ccd.data, np.float32))
    clean.data[place] = rows.value[use]
    clean.mask = bad | (masks.crmasks[i] & ~found)
    clean.uncertainty = _uncertainty(ccd, noise, i, place, rows.sigma[use])
    clean.flags = with_replaced(ccd.flags, found)
    return clean


def _uncertainty(ccd, noise, i, place, sigma):
    """Return the uncertainty of an exposure with sigma (m,) at some places, or None."""
    known = ccd.uncertainty
    if known is None:
        if noise is None:
            return None
        known = StdDevUncertainty(np.sqrt(noise.variance(ccd.data, i)))
    elif isinstance(known, UnknownUncertainty):
        return known
    new = StdDevUncertainty(sigma, unit=ccd.unit).represent_as(type(known))
    scale = 1.0 if known.unit is None else new.unit.to(known.unit)
    array = np.array(known.array)
    array[place] = new.array * scale
    return type(known)(array, unit=known.unit, copy=False)
