# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Checks of the arguments of a mask set; arrays are copied and made read-only."""

from collections.abc import Mapping

import numpy as np
from astropy import units as u
from astropy.nddata import NDData
from astropy.table import Table

from ccdcr.exceptions import short_repr
from ccdcr.matching.equivalence import Equivalence
from ccdcr.median_minimum.exact_boundary import ExactBoundary
from ccdcr.requirements.requirement_table import boxes
from ccdcr.requirements.requirements import Requirements

__all__ = [
    "NOISE_TEXTS",
    "as_bright",
    "as_equivalence",
    "as_map",
    "as_meta",
    "as_requirements",
    "ccd_values",
    "check_shape",
    "clean_image",
    "describe_values",
    "exact_boundaries",
    "flux_factors",
    "mask_array",
    "noise_source",
    "pixel_boxes",
    "pixel_rows",
    "scalar",
    "text",
    "typical",
]


def mask_array(name, value, ndim):
    array = np.asarray(value)
    if array.dtype.kind not in "bui":
        msg = f"{name} must be an array of bool or of 0 and 1, got dtype {array.dtype}"
        raise TypeError(msg)
    if array.ndim != ndim or 0 in array.shape:
        msg = f"{name} must have {ndim} dimensions, none empty, got {array.shape}"
        raise ValueError(msg)
    if array.dtype.kind != "b" and (array.min() < 0 or array.max() > 1):
        msg = f"{name} must hold only 0 and 1, got {array.min()} to {array.max()}"
        raise ValueError(msg)
    return _frozen(array.astype(bool))


def _frozen(array):
    array.flags.writeable = False
    return array


def pixel_rows(name, value, crmasks):
    """Return rows of EXPOSURE, X, Y in order, (m, 3); None if there are none."""
    rows = None if value is None else np.asarray(value)
    if rows is None or rows.size == 0:
        return None
    if rows.dtype.kind not in "ui" or rows.ndim != 2 or rows.shape[1] != 3:
        msg = (
            f"{name} must be rows of three integers, EXPOSURE, X, Y, got "
            f"{rows.dtype} of shape {rows.shape}"
        )
        raise ValueError(msg)
    exposure, x, y = rows.T - 1
    n, ny, nx = crmasks.shape
    for column, place, length in zip(
        ("EXPOSURE", "X", "Y"), (exposure, x, y), (n, nx, ny), strict=True
    ):
        if place.min() < 0 or place.max() >= length:
            found = f"{place.min() + 1} to {place.max() + 1}"
            msg = f"{column} of {name} must be from 1 to {length}, got {found}"
            raise ValueError(msg)
    if not crmasks[exposure, y, x].all():
        first = rows[~crmasks[exposure, y, x]][0].tolist()
        msg = f"{name} must be masked in their exposure, got {first}, which is not"
        raise ValueError(msg)
    return _frozen(np.unique(rows.astype(np.int32), axis=0))


def check_shape(name, shape, expected):
    if tuple(shape) != tuple(expected):
        msg = f"{name} must have the shape of the masks, {expected}, got {shape}"
        raise ValueError(msg)


def clean_image(value, shape):
    if value is None:
        return None
    if isinstance(value, NDData):
        value = value.data if value.unit is None else u.Quantity(value.data, value.unit)
    unit = getattr(value, "unit", None)
    data = _numbers("lamedian", getattr(value, "value", value), np.float32)
    check_shape("lamedian", data.shape, shape)
    return _frozen(data if unit is None else u.Quantity(data, unit, copy=False))


def _numbers(name, value, dtype):
    """Return a copy as an array of a dtype of floats."""
    try:
        return np.array(value, dtype=dtype)
    except (TypeError, ValueError) as err:
        msg = f"{name} must be an array of numbers, got {short_repr(value)}"
        raise type(err)(msg) from err


def flux_factors(value, n):
    factors = np.ones(n) if value is None else _numbers("flux_factor", value, float)
    if factors.shape != (n,):
        msg = (
            f"flux_factor must hold {n} numbers, one per exposure, "
            f"got {short_repr(value)}"
        )
        raise ValueError(msg)
    for i, factor in enumerate(factors, start=1):
        if not (np.isfinite(factor) and factor > 0):
            msg = (
                "flux_factor must hold finite numbers > 0, "
                f"got {factor} for exposure {i} (FLUXF{i})"
            )
            raise ValueError(msg)
    return _frozen(factors)


def pixel_boxes(value, shape):
    rows = None if value is None else boxes(value, "local_median_pixels")
    if rows is None:
        return None
    rows = np.array(rows, dtype=np.int64)
    outside = rows[(rows[:, 0] > shape[1]) | (rows[:, 1] > shape[0])]
    if len(outside):
        msg = (
            f"local_median_pixels must lie in the image of {shape[1]} x {shape[0]} "
            f"pixels, got {outside[:, :2].tolist()}"
        )
        raise ValueError(msg)
    return _frozen(rows)


def as_requirements(value):
    if value is None or isinstance(value, Requirements):
        return value
    return Requirements.from_mapping(value)


def as_equivalence(value, n):
    if value is None:
        return None
    if not isinstance(value, Equivalence):
        msg = f"equivalence must be an Equivalence object, got {short_repr(value)}"
        raise TypeError(msg)
    if len(value.terms) != n:
        msg = f"equivalence must be that of {n} exposures, got {len(value.terms)}"
        raise ValueError(msg)
    return value


def as_bright(value):
    if value is None:
        return None
    columns = {"mask", "bright", "faint"}
    if not isinstance(value, Table) or set(value.colnames) != columns:
        msg = f"bright must be a Table of {sorted(columns)}, got {short_repr(value)}"
        raise TypeError(msg)
    return value.copy()


def scalar(name, value, unit, *, minimum=None, above=None):
    """Return None or a float in the given unit."""
    if value is None:
        return None
    value = _plain_number(name, value, unit)
    low = minimum is not None and value < minimum
    low |= above is not None and value <= above
    if low or not np.isfinite(value):
        limit = f" > {above}" if above is not None else f" >= {minimum}"
        limit = limit if above is not None or minimum is not None else ""
        msg = f"{name} must be a finite number{limit}, got {value}"
        raise ValueError(msg)
    return value


def ccd_values(name, value, unit, shape, *, minimum=None, above=None):
    """Return None, a float, or floats: of each exposure (n,), or of one or n maps."""
    if value is None or np.ndim(value) == 0:
        return scalar(name, value, unit, minimum=minimum, above=above)
    if isinstance(value, u.Quantity):
        value = value.to_value(unit)
    values = _numbers(name, value, np.float32 if np.ndim(value) > 1 else float)
    if values.shape not in {shape[:1], shape[1:], shape}:
        msg = (
            f"{name} must be one number, one for each of the {shape[0]} exposures or "
            f"a map of shape {shape[1:]}, got shape {values.shape}"
        )
        raise ValueError(msg)
    for extreme in (values.min(), values.max()):
        scalar(name, float(extreme), None, minimum=minimum, above=above)
    return _frozen(values)


NOISE_TEXTS = {
    "detector": "by gain and read noise",
    "uncertainty": "by the uncertainties of the exposures",
}


def noise_source(value):
    if value is not None and value not in NOISE_TEXTS:
        names = " or ".join(NOISE_TEXTS)
        msg = f"noise must be {names} or None, got {short_repr(value)}"
        raise ValueError(msg)
    return value


def as_map(value):
    """Return gain or read noise of any kind as map or maps, None if it is none."""
    return value if np.ndim(value) > 1 else None


def typical(name, value):
    """Return the number that stands for gain or read noise of any kind, or None."""
    if np.ndim(value) == 0:
        return value
    if np.ndim(value) == 1 and name == "readnoise":
        return float(np.sqrt(np.mean(np.square(value))))
    return float(np.median(value))


def describe_values(name, value, unit):
    """Return gain or read noise of any kind as text, or None."""
    if value is None:
        return None
    if np.ndim(value) == 1:
        return f"{', '.join(f'{each:g}' for each in value)} {unit} (each exposure)"
    of = "" if np.ndim(value) == 0 else " (median of a map)"
    return f"{typical(name, value):g} {unit}{of}"


def _plain_number(name, value, unit):
    try:
        if isinstance(value, u.Quantity):
            value = value.to_value(unit)
        return float(+value)  # the sign refuses text
    except u.UnitsError as err:
        msg = f"{name} must be in {unit}, got {value.unit}"
        raise ValueError(msg) from err
    except (TypeError, ValueError, OverflowError) as err:
        msg = f"{name} must be one number, got {short_repr(value)}"
        raise TypeError(msg) from err


def exact_boundaries(value):
    """Return a dict of exact boundaries by name of the mask."""
    boundaries = dict(value or {})
    for name, boundary in boundaries.items():
        if not isinstance(boundary, ExactBoundary):
            msg = (
                "boundaries must hold exact boundaries by name of the mask, got "
                f"{type(boundary).__name__} for {name!r}"
            )
            raise TypeError(msg)
    return boundaries


def text(name, value):
    if not isinstance(value, str) or not value:
        msg = f"{name} must be a string that is not empty, got {value!r}"
        raise TypeError(msg)
    return value


def as_meta(value):
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        msg = f"meta must be a mapping, got {type(value).__name__}"
        raise TypeError(msg)
    for key in value:
        if not isinstance(key, str):
            msg = f"meta must have names of keywords as keys, got {short_repr(key)}"
            raise TypeError(msg)
    return dict(value)
