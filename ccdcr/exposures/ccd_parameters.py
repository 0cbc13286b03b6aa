# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Gain, read noise and bias of a CCD, and its noise model."""

from dataclasses import dataclass

import numpy as np
from astropy import log
from astropy import units as u
from astropy.nddata import VarianceUncertainty

__all__ = [
    "GAIN_KEYWORDS",
    "MOST_SIGNAL",
    "READNOISE_KEYWORDS",
    "CCDParameters",
    "compute_variance",
    "find_ccd_parameters",
    "find_keywords",
    "model_variance",
    "split_gain_map",
]

# Tried in this order if no value is given.
GAIN_KEYWORDS = ("GAIN", "EGAIN")
READNOISE_KEYWORDS = ("RDNOISE", "READNOIS", "RON", "ENOISE")
_PER_ADU = u.electron / u.adu
# Limits whose squares are finite in float32, in any unit.
MOST_SIGNAL, _MOST_GAIN, _MOST_READNOISE = 1e12, 1e6, 1e6


@dataclass(frozen=True)
class CCDParameters:
    """
    Gain (electron per unit of the data), read noise (electron) and bias (data).

    ``readnoise`` stands for all exposures and pixels. ``readnoises`` has one value
    per exposure, ``readnoise_map`` (ny, nx) one per pixel; both may be None.
    """

    gain: float
    readnoise: float
    bias: float
    readnoises: tuple | None = None
    readnoise_map: np.ndarray | None = None

    @property
    def noise(self):
        """Read noise in the unit of the data."""
        return self.readnoise / self.gain

    def compute_noise(self, expected):
        """Return the noise of an expected image without bias, in its unit."""
        return np.sqrt(np.maximum(expected, 0) / self.gain + self.noise**2)


def split_gain_map(gain, shape):
    """Return the median gain, and a map (ny, nx) relative to it or None."""
    values = getattr(gain, "value", gain)
    if not isinstance(values, np.ndarray) or values.ndim == 0:
        return gain, None
    _check_map("gain", values, shape, above=True)
    median = float(np.median(values))
    ratio = (values / median).astype(np.float32)
    return median * getattr(gain, "unit", 1), ratio


def _check_map(name, values, shape, *, above=False):
    if values.shape != shape:
        msg = (
            f"{name} must be one number or a map of the shape of the exposures, "
            f"{shape}, got shape {values.shape}"
        )
        raise ValueError(msg)
    allowed = values > 0 if above else values >= 0
    if not (np.isfinite(values) & allowed).all():
        msg = f"{name} must be finite and {'>' if above else '>='} 0 in each pixel"
        raise ValueError(msg)


def find_ccd_parameters(exposures, *, gain, readnoise, bias):
    """
    Return the `CCDParameters` of exposures in adu or electron.

    ``gain``, ``readnoise`` and ``bias`` are those of `ccdcr.detect_cosmic_rays`.
    """
    unit = exposures[0].unit
    if unit not in {u.adu, u.electron}:
        msg = (
            f"exposures must be in adu or electron, got {unit}; set ccd.unit, or give "
            "unit= (--unit) for files"
        )
        raise ValueError(msg)
    gain = _find_gain(exposures, gain, unit)
    if readnoise is None:
        msg = (
            "readnoise must be given: a number or Quantity in electron, "
            "or the name of a header keyword"
        )
        raise ValueError(msg)
    readnoise = _per_exposure(exposures, readnoise)
    if isinstance(readnoise, u.Quantity) and readnoise.unit.is_equivalent(u.adu):
        readnoise = readnoise * (gain * u.electron / unit)
    known = _readnoises(exposures, readnoise)
    bias = 0.0 if bias is None else _value(exposures, "bias", bias)
    if known["readnoise"] > _MOST_READNOISE:
        msg = f"readnoise must be up to {_MOST_READNOISE:g} electron, got {readnoise!r}"
        raise ValueError(msg)
    bias = _number("bias", bias, unit)
    if abs(bias) > MOST_SIGNAL:
        msg = f"bias must be up to {MOST_SIGNAL:g} {unit}, got {bias:g}"
        raise ValueError(msg)
    return CCDParameters(gain, bias=bias, **known)


def _per_exposure(exposures, readnoise):
    """Return the read noise; of a keyword one value, or a list if exposures differ."""
    if not isinstance(readnoise, str):
        return readnoise
    pairs = enumerate(exposures, start=1)
    values = [_keyword(each, "readnoise", readnoise, i) for i, each in pairs]
    return values[0] if len(set(values)) == 1 else values


def _readnoises(exposures, readnoise):
    """Return the fields of `CCDParameters` for a number, one per exposure or a map."""
    if np.ndim(readnoise) == 0:
        return {"readnoise": _number("readnoise", readnoise, u.electron, minimum=0)}
    if isinstance(readnoise, u.Quantity):
        readnoise = readnoise.to_value(u.electron)
    values = np.asarray(readnoise, dtype=float)
    if values.ndim == 2:
        _check_map("readnoise", values, exposures[0].shape)
        return {
            "readnoise": float(np.median(values)),
            "readnoise_map": values.astype(np.float32),
        }
    if values.shape != (len(exposures),):
        msg = (
            f"readnoise must be one number, one for each of the "
            f"{len(exposures)} exposures or a map, got shape {values.shape}"
        )
        raise ValueError(msg)
    each = tuple(_number("readnoise", v, u.electron, minimum=0) for v in values)
    known = {"readnoise": float(np.sqrt(np.mean(np.square(each))))}
    return known if len(set(each)) == 1 else known | {"readnoises": each}


def _find_gain(exposures, gain, unit):
    if gain is None and unit == u.adu:
        msg = (
            "gain must be given for exposures in adu: a number or Quantity in "
            "electron/adu, or the name of a header keyword"
        )
        raise ValueError(msg)
    value = 1.0 if gain is None else _value(exposures, "gain", gain)
    if unit == u.electron:
        value = getattr(value, "value", value)
        if value != 1:
            msg = (
                "gain must not be given for exposures in electron "
                f"(it is 1 already), got {gain!r}; leave it out"
            )
            raise ValueError(msg)
        return 1.0
    value = _number("gain", value, _PER_ADU, minimum=0, above=True)
    if not 1 / _MOST_GAIN <= value <= _MOST_GAIN:
        msg = f"gain must be from {1 / _MOST_GAIN:g} to {_MOST_GAIN:g}, got {value:g}"
        raise ValueError(msg)
    return value


def _value(exposures, name, value):
    """Return a value, or what all headers have if it is the name of a keyword."""
    if not isinstance(value, str):
        return value
    values = [_keyword(ccd, name, value, i) for i, ccd in enumerate(exposures, start=1)]
    if len(set(values)) > 1:
        msg = f"{name}={value!r} must be the same in all exposures, got {values}"
        raise ValueError(msg)
    return values[0]


def _keyword(ccd, name, keyword, number):
    found = ccd.meta.get(keyword)
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        what = "is missing" if found is None else f"is {found!r}"
        msg = (
            f"{name}={keyword!r} must name a header keyword that holds a number; "
            f"it {what} in exposure {number}"
        )
        raise ValueError(msg)  # noqa: TRY004
    return found


def _number(name, value, unit, *, minimum=-np.inf, above=False):
    if isinstance(value, u.Quantity):
        try:
            value = value.to_value(unit)
        except u.UnitsError as err:
            msg = f"{name} must be in {unit}, got {value.unit}"
            raise ValueError(msg) from err
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

    None remains where no keyword is in all headers.
    """
    if gain is None and exposures[0].unit != u.electron:
        gain = _known_keyword(exposures, "gain", GAIN_KEYWORDS)
    if readnoise is None:
        readnoise = _known_keyword(exposures, "readnoise", READNOISE_KEYWORDS)
    return {"gain": gain, "readnoise": readnoise}


def _known_keyword(exposures, name, keywords):
    for keyword in keywords:
        if all(keyword in exposure.meta for exposure in exposures):
            value = exposures[0].meta[keyword]
            log.info(f"{name} is {value}, from the header keyword {keyword}")
            return keyword
    return None


def compute_variance(sigma, kind, sigma_unit, unit):
    """
    Return the variance (float64, in ``unit**2``) of an uncertainty array.

    ``kind`` is its class, ``sigma_unit`` its unit; units may be None.
    """
    with np.errstate(divide="ignore"):  # an inverse variance may be 0
        variance = kind(sigma, unit=sigma_unit, copy=False).represent_as(
            VarianceUncertainty
        )
    array = np.asarray(variance.array, dtype=np.float64)
    if variance.unit is None or unit is None or variance.unit == unit**2:
        return array
    return array * variance.unit.to(unit**2)


def model_variance(data, gain, readnoise, bias):
    """
    Return max(data - bias, 0) / gain + (readnoise / gain)^2, float32 if the data are.

    It is the variance of one electron where this is 0. ``readnoise`` is in electron.
    """
    kind = np.asarray(data).dtype
    dtype = np.result_type(kind, np.float32) if kind.kind == "f" else np.dtype(float)
    signal = np.subtract(data, dtype.type(bias), dtype=dtype) if bias else data
    # An array of zeros is twice as fast as the number 0.
    signal = np.maximum(signal, np.zeros(np.shape(data), dtype), dtype=dtype)
    if gain != 1:
        signal *= dtype.type(1 / gain)
    signal += dtype.type((readnoise / gain) ** 2)
    if readnoise == 0:  # pixels without signal would have no noise
        signal[signal == 0] = gain**-2
    return signal
