# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Values of gain and read noise: numbers, keywords, maps, or by amplifier."""

import re
from collections.abc import Mapping
from numbers import Real

import numpy as np
from astropy import log
from astropy import units as u

from ccdcr.exceptions import short_repr
from ccdcr.exposures.align_exposures import alignment_cards, read_alignment

__all__ = [
    "GAIN_KEYWORDS",
    "KNOWN_UNITS",
    "READNOISE_KEYWORDS",
    "ccd_map",
    "exposure_times",
    "find_keywords",
    "find_number",
    "find_values",
    "is_counts",
    "is_electrons",
    "is_known",
    "is_rate",
    "known_times",
    "resolve",
    "same_value",
]

# Tried in this order if no value is given.
GAIN_KEYWORDS = ("EGAIN", "GAIN")
_LEAST_SETTING = 50  # electron/adu
READNOISE_KEYWORDS = ("RDNOISE", "READNOIS", "RON", "ENOISE")


_RANGE = r"(?:\*|(\d*):(\d*))"
_SECTION = re.compile(rf"\[\s*{_RANGE}\s*,\s*{_RANGE}\s*\]")


def ccd_map(shape, sections):
    """
    Make a map of gain or read noise from the values of the amplifiers.

    Parameters
    ----------
    shape : tuple of int
        Shape (ny, nx) of the exposures.
    sections : mapping
        Values by FITS section, as in ``ccdproc.trim_image(fits_section=)``: x first,
        the first pixel is 1, the last one is included.

    Returns
    -------
    values : 2D `~numpy.ndarray`
        The value of each pixel, (ny, nx).

    Raises
    ------
    TypeError, ValueError
        If a section is outside of the image, if sections overlap, or if they do not
        cover the image.

    Examples
    --------
    >>> from ccdcr import ccd_map
    >>> ccd_map((2, 4), {"[1:2, :]": 3.1, "[3:4, :]": 6.9})
    array([[3.1, 3.1, 6.9, 6.9],
           [3.1, 3.1, 6.9, 6.9]])
    """
    values = np.full(shape, np.nan)
    for section, value in sections.items():
        part = values[_slices(section, shape)]
        if not np.isnan(part).all():
            msg = f"sections must not overlap, {section!r} does with one before it"
            raise ValueError(msg)
        part[:] = find_number(
            f"the value of {section}", value, u.dimensionless_unscaled
        )
    if missing := np.count_nonzero(np.isnan(values)):
        msg = (
            f"sections must cover the image of {shape[1]} x {shape[0]} pixels, "
            f"{', '.join(sections)} leave out {missing} of them"
        )
        raise ValueError(msg)
    return values


def _slices(section, shape):
    """Return the slices (y, x) of a FITS section."""
    match = _SECTION.fullmatch(section.strip()) if isinstance(section, str) else None
    if match is None:
        msg = f"a section must be like '[1:1024, :]' (x, then y), got {section!r}"
        raise ValueError(msg)
    x0, x1, y0, y1 = match.groups()
    ny, nx = shape
    x, y = (int(x0 or 1), int(x1 or nx)), (int(y0 or 1), int(y1 or ny))
    if not (1 <= x[0] <= x[1] <= nx and 1 <= y[0] <= y[1] <= ny):
        msg = f"sections must lie in the image of {nx} x {ny} pixels, got {section!r}"
        raise ValueError(msg)
    return slice(y[0] - 1, y[1]), slice(x[0] - 1, x[1])


def _check_map(name, values, exposures, *, above=False):
    shape = exposures[0].shape
    if values.shape not in {shape, (len(exposures), *shape)}:
        msg = (
            f"{name} must be one number or a map of the shape of the exposures, "
            f"{shape}, got shape {values.shape}"
        )
        raise ValueError(msg)
    allowed = values > 0 if above else values >= 0
    if not (np.isfinite(values) & allowed).all():
        msg = f"{name} must be finite and {'>' if above else '>='} 0 in each pixel"
        raise ValueError(msg)


def resolve(exposures, name, value):
    """Return a value with keywords and sections replaced by what they stand for."""
    if isinstance(value, str):
        pairs = enumerate(exposures, start=1)
        values = [_keyword(each, name, value, i) for i, each in pairs]
        return values[0] if len(set(values)) == 1 else values
    if not isinstance(value, Mapping) or not value:
        return _aligned(exposures, value) if np.ndim(value) == 2 else value
    units = {getattr(x, "unit", None) for x in value.values()}
    if len(units) != 1:
        msg = f"the sections of {name} must have one unit, got {short_repr(value)}"
        raise ValueError(msg)
    found = {section: same_value(exposures, name, x) for section, x in value.items()}
    values = {section: getattr(x, "value", x) for section, x in found.items()}
    try:
        made = ccd_map(_alignment(exposures)[1], values)
    except ValueError as err:
        msg = f"{name}: {err}"
        raise ValueError(msg) from err
    unit = units.pop()
    return _aligned(exposures, made if unit is None else u.Quantity(made, unit))


def _alignment(exposures):
    """Return the places (n, 2) of aligned exposures, or None, and the first shape."""
    cards = alignment_cards([exposure.meta or {} for exposure in exposures])
    places, shape = read_alignment(cards, len(exposures))
    return places, exposures[0].shape if places is None else shape


def _aligned(exposures, value):
    """Return a map of the detector as that of each aligned exposure (n, ny, nx)."""
    places, shape = _alignment(exposures)
    union = exposures[0].shape
    if places is None or shape == union or np.shape(value) != shape:
        return value
    # The median is for pixels that are masked.
    moved = np.ones((len(exposures), *union)) * np.median(value)
    for plane, (x, y) in zip(moved, places, strict=True):
        plane[y : y + shape[0], x : x + shape[1]] = value
    return moved


def find_values(exposures, name, value, unit, *, above=False):
    """Return a float, or floats: of each exposure (n,), or of one or n maps."""
    value = resolve(exposures, name, value)
    if np.ndim(value) == 0:
        return find_number(name, value, unit, minimum=0, above=above)
    if isinstance(value, u.Quantity):
        value = _in_unit(name, value, unit)
    values = np.asarray(value, dtype=float)
    if values.ndim in {2, 3}:
        _check_map(name, values, exposures, above=above)
        return values
    if values.shape != (len(exposures),):
        msg = (
            f"{name} must be one number, one for each of the "
            f"{len(exposures)} exposures or a map, got shape {values.shape}"
        )
        raise ValueError(msg)
    return np.array(
        [find_number(name, v, unit, minimum=0, above=above) for v in values]
    )


def same_value(exposures, name, value):
    """Return a value, or what all headers have if it is the name of a keyword."""
    if not isinstance(value, str):
        return value
    values = [_keyword(ccd, name, value, i) for i, ccd in enumerate(exposures, start=1)]
    if len(set(values)) > 1:
        msg = f"{name}={value!r} must be the same in all exposures, got {values}"
        raise ValueError(msg)
    return values[0]


def _keyword(ccd, name, keyword, number):
    found = ccd.meta.get(keyword.removeprefix("HIERARCH "))
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        what = "is missing" if found is None else f"is {found!r}"
        msg = (
            f"{name}={keyword!r} must name a header keyword that holds a number; "
            f"it {what} in exposure {number}"
        )
        raise ValueError(msg)  # noqa: TRY004
    return found


def _in_unit(name, value, unit):
    try:
        return value.to_value(unit)
    except u.UnitsError as err:
        msg = f"{name} must be in {unit}, got {value.unit}"
        raise ValueError(msg) from err


def find_number(name, value, unit, *, minimum=-np.inf, above=False):
    """Return a number or Quantity as a finite float in a unit."""
    if isinstance(value, u.Quantity):
        value = _in_unit(name, value, unit)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as err:
        msg = f"{name} must be one number, a Quantity or a keyword, got {value!r}"
        raise TypeError(msg) from err
    allowed = number > minimum if above else number >= minimum
    if not (np.isfinite(number) and allowed):
        limit = f" {'>' if above else '>='} {minimum}" if minimum > -np.inf else ""
        msg = f"{name} must be a finite number{limit}, got {number}"
        raise ValueError(msg)
    return number


def find_keywords(exposures, *, gain, readnoise):
    """
    Return gain and read noise as a dict, with usual keywords in place of None.

    None remains where no keyword is in all headers. EGAIN is electron/adu by
    convention; GAIN is, too, unless its value can only be a setting of a camera. As
    nobody has named the keyword of the gain, a warning is logged.
    """
    if gain is None and not is_electrons(exposures[0].unit):
        gain = _known_keyword(exposures, GAIN_KEYWORDS, _is_gain)
        if gain is not None:
            value = exposures[0].meta[gain]
            log.warning(f"gain is {value}, from the header keyword {gain}")
    if readnoise is None:
        readnoise = _known_keyword(exposures, READNOISE_KEYWORDS, lambda _: True)
        if readnoise is not None:
            value = exposures[0].meta[readnoise]
            log.info(f"readnoise is {value}, from the header keyword {readnoise}")
    return {"gain": gain, "readnoise": readnoise}


def _known_keyword(exposures, keywords, is_allowed):
    for keyword in keywords:
        if all(keyword in exposure.meta for exposure in exposures):
            if is_allowed(exposures[0].meta[keyword]):
                return keyword
            value = exposures[0].meta[keyword]
            log.warning(f"{keyword} = {value} is a setting of the camera, not a gain")
    return None


def _is_gain(value):
    """Return whether a value can be electron/adu: settings are 0 or large integers."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return 0 < value < _LEAST_SETTING or (value > 0 and value % 1 != 0)


_COUNTS, _ELECTRONS = (u.adu, u.count, u.DN), (u.electron, u.photon)
_RATES = tuple(unit / u.s for unit in (*_COUNTS, *_ELECTRONS))
KNOWN_UNITS = (*_COUNTS, *_ELECTRONS, *_RATES)


def is_known(unit):
    """Return whether the noise of a unit is known from gain and read noise."""
    return unit in KNOWN_UNITS


def is_rate(unit):
    """Return whether a unit is counts or electrons per second."""
    return unit in _RATES


def is_electrons(unit):
    """Return whether a unit is electron or photon, or a rate of these."""
    return unit in _ELECTRONS or unit in _RATES[len(_COUNTS) :]


def is_counts(unit):
    """Return whether a unit is one that a gain converts to electrons, or a rate."""
    return unit in _COUNTS or unit in _RATES[: len(_COUNTS)]


def exposure_times(headers):
    """Return the exposure times in headers (n,), or None if one is unknown."""
    times = known_times(headers)
    return None if np.isnan(times).any() else times


def known_times(headers):
    """Return the exposure times in headers (n,), also of text; NaN if unknown."""
    return np.array([_as_time(header.get("EXPTIME")) for header in headers])


def _as_time(value):
    if isinstance(value, bool) or not isinstance(value, (Real, str)):
        return np.nan
    try:
        time = float(value)
    except ValueError:
        return np.nan
    return time if 0 < time < np.inf else np.nan
