# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Gain, read noise and bias of a CCD, and its noise model."""

from dataclasses import dataclass, replace

import numpy as np
from astropy import units as u
from astropy.nddata import VarianceUncertainty

from ccdcr.exceptions import NoUncertaintyWarning, short_repr, warn_user
from ccdcr.exposures.ccd_values import (
    exposure_times,
    find_number,
    find_values,
    is_counts,
    is_electrons,
    is_known,
    is_rate,
    known_times,
    resolve,
    same_value,
)
from ccdcr.utils.neighbours import cut_bands
from ccdcr.utils.scratch import in_turn
from ccdcr.utils.stacks import thinned

__all__ = [
    "MOST_SIGNAL",
    "CCDParameters",
    "RecordedNoise",
    "bias_in_unit",
    "bias_unit",
    "check_noise_source",
    "compute_variance",
    "find_ccd_parameters",
    "find_noise_source",
    "known_variance",
    "measure_parameters",
    "model_variance",
]

_PER_ADU = u.electron / u.adu
_NOISE = ("auto", "uncertainty", "detector")  # sources of the noise
_SAMPLE = 1 << 20  # pixels that are enough for medians
_FAINT, _BRIGHT, _NEGLIGIBLE = 0.5, 0.95, 1e3
# Limits whose squares are finite in float32, in any unit.
MOST_SIGNAL, _MOST_GAIN, _MOST_READNOISE = 1e12, 1e6, 1e6


@dataclass(frozen=True, eq=False)
class CCDParameters:
    """
    Gain (electron per unit of the data), read noise (electron) and bias (data).

    ``gain`` is the median, ``readnoise`` stands for all exposures and pixels. ``gains``
    and ``readnoises`` have one value per exposure, ``gain_map`` and ``readnoise_map``
    (ny, nx), or (n, ny, nx) if the exposures were aligned, one per pixel; each may be
    None. Exposures that are rates have their
    ``times`` (seconds), and gains in electron per unit of the rate.
    """

    gain: float
    readnoise: float
    bias: float
    readnoises: tuple | None = None
    readnoise_map: np.ndarray | None = None
    gains: tuple | None = None
    gain_map: np.ndarray | None = None
    times: tuple | None = None

    @property
    def noise(self):
        """Read noise in the unit of the data."""
        return self.readnoise / self.gain

    @property
    def every_gain(self):
        """The gain: one number, one of each exposure (n,), or a map (ny, nx)."""
        if self.times is None:
            return _whole(self.gain, self.gains, self.gain_map)
        if self.gain_map is not None:
            return self.gain_map / np.float32(np.median(self.times))
        each = np.array(self.gains) / self.times
        return float(each[0]) if np.ptp(each) < 1e-9 * each[0] else each

    @property
    def every_readnoise(self):
        """The read noise: one number, one of each exposure (n,), or a map (ny, nx)."""
        return _whole(self.readnoise, self.readnoises, self.readnoise_map)

    @property
    def gain_ratio(self):
        """The gain of each pixel relative to the median, as the map; or None."""
        if self.gain_map is None:
            return None
        return (self.gain_map / self.gain).astype(np.float32)

    def with_times(self, times):
        """Return the parameters of rates of exposures with these times (n,)."""
        typical = float(np.median(times))
        gains = np.ones(len(times)) * (self.gains or self.gain)
        scaled = None if self.gain_map is None else self.gain_map * np.float32(typical)
        gains = tuple((gains * times).tolist())
        gain = float(np.median(gains)) if scaled is None else float(np.median(scaled))
        known = {"gain": gain, "gains": gains, "gain_map": scaled}
        return replace(self, times=tuple(times.tolist()), **known)

    def depths(self, n):
        """Return the electrons per unit of n exposures relative to ``gain``, (n,)."""
        return np.ones(n) if self.gains is None else np.divide(self.gains, self.gain)

    @classmethod
    def from_values(cls, gain, readnoise, bias=0.0):
        """Return the parameters of gain and read noise as `every_gain` gives them."""
        known = _fields("gain", gain, np.median) | _fields("readnoise", readnoise, _rms)
        return cls(bias=bias, **known)

    def at(self, part):
        """Return the parameters of a part of the image, an index of (ny, nx)."""
        maps = {"readnoise_map": self.readnoise_map, "gain_map": self.gain_map}
        part = part if isinstance(part, tuple) else (part, slice(None))
        cut = {name: x if x is None else x[..., *part] for name, x in maps.items()}
        return replace(self, **cut)

    def of(self, i):
        """Return the parameters with the maps (ny, nx) of exposure i."""
        maps = {"readnoise_map": self.readnoise_map, "gain_map": self.gain_map}
        return replace(self, **{name: _of_exposure(x, i) for name, x in maps.items()})

    def common(self):
        """Return the parameters with maps (ny, nx) that stand for all exposures."""
        if np.ndim(self.readnoise_map) != 3:
            return self
        return replace(self, readnoise_map=_rms(self.readnoise_map, axis=0))

    def compute_noise(self, expected):
        """Return the noise of an expected image without bias, in its unit."""
        return np.sqrt(np.maximum(expected, 0) / self.gain + self.noise**2)


def _whole(typical, each, per_pixel):
    if per_pixel is not None:
        return per_pixel
    return typical if each is None else np.array(each)


def find_ccd_parameters(exposures, *, gain, readnoise, bias, timed=True):
    """
    Return the `CCDParameters` of exposures in counts or electrons, or rates of them.

    ``gain``, ``readnoise`` and ``bias`` are those of `ccdcr.detect_cosmic_rays`. Rates
    need exposure times unless ``timed`` is False.
    """
    unit = exposures[0].unit
    if not is_known(unit):
        msg = (
            "exposures must be in adu, electron, count, DN or photon, or one of these "
            f"per second, got {str(unit) or 'no unit'}; set ccd.unit, or give unit= "
            "for files"
        )
        raise ValueError(msg)
    known = _find_gain(exposures, gain, unit)
    if readnoise is None:
        msg = (
            "readnoise must be given: a number or Quantity in electron, "
            "or the name of a header keyword"
        )
        raise ValueError(msg)
    known |= _find_readnoise(exposures, readnoise, known)
    bias = 0.0 if bias is None else same_value(exposures, "bias", bias)
    bias = find_number("bias", bias, unit)
    if abs(bias) > MOST_SIGNAL:
        msg = f"bias must be up to {MOST_SIGNAL:g} {unit}, got {bias:g}"
        raise ValueError(msg)
    ccd = CCDParameters(bias=bias, **known)
    return ccd.with_times(_times(exposures)) if timed and is_rate(unit) else ccd


def _times(exposures):
    """Return the exposure times (n,) that turn rates into counts."""
    headers = [exposure.meta for exposure in exposures]
    times = known_times(headers)
    for i in np.flatnonzero(np.isnan(times)):
        msg = (
            f"exposures in {exposures[0].unit} need the keyword EXPTIME (s) for "
            f"their noise, got {headers[i].get('EXPTIME')!r} in exposure {i + 1}; "
            "add it to the header, or multiply the exposures by their times"
        )
        raise ValueError(msg)
    return times


def _find_gain(exposures, gain, unit):
    """Return the fields of `CCDParameters` of the gain."""
    if gain is None and is_counts(unit):
        msg = (
            f"gain must be given for exposures in {unit}: a number or Quantity in "
            "electron/adu, or the name of a header keyword"
        )
        raise ValueError(msg)
    if is_electrons(unit):
        values = 1.0 if gain is None else resolve(exposures, "gain", gain)
        if np.any(getattr(values, "value", values) != 1):
            msg = (
                f"gain must not be given for exposures in {unit} "
                f"(it is 1 already), got {short_repr(gain)}; leave it out"
            )
            raise ValueError(msg)
        return {"gain": 1.0}
    gain = _per_count(resolve(exposures, "gain", gain))
    values = find_values(exposures, "gain", gain, _PER_ADU, above=True)
    if not (np.min(values) >= 1 / _MOST_GAIN and np.max(values) <= _MOST_GAIN):
        found = f"{np.min(values):g}" if np.ndim(values) == 0 else short_repr(gain)
        msg = f"gain must be from {1 / _MOST_GAIN:g} to {_MOST_GAIN:g}, got {found}"
        raise ValueError(msg)
    return _fields("gain", values, np.median)


def _per_count(gain):
    """Return a gain per count or DN as one per adu."""
    unit = getattr(gain, "unit", _PER_ADU)
    for other in (u.electron / u.count, u.electron / u.DN):
        if unit.is_equivalent(other):
            return gain.to(other).value * _PER_ADU
    return gain


def _find_readnoise(exposures, readnoise, gain):
    """Return the fields of `CCDParameters` of the read noise, given those of gain."""
    readnoise = resolve(exposures, "readnoise", readnoise)
    if isinstance(readnoise, u.Quantity) and is_counts(readnoise.unit):
        gains = CCDParameters(**gain, readnoise=0, bias=0).every_gain
        if 1 in (ndims := {np.ndim(gains), np.ndim(readnoise)}) and max(ndims) > 1:
            msg = (
                "readnoise must be in electron if gain or readnoise is a map and the "
                f"other one is that of each exposure, got {readnoise.unit}"
            )
            raise ValueError(msg)
        readnoise = readnoise.value * gains * u.electron
    values = find_values(exposures, "readnoise", readnoise, u.electron)
    if np.max(values) > _MOST_READNOISE:
        msg = (
            f"readnoise must be up to {_MOST_READNOISE:g} electron, "
            f"got {short_repr(readnoise)}"
        )
        raise ValueError(msg)
    return _fields("readnoise", values, _rms)


def _rms(values, axis=None):
    return np.sqrt(np.mean(np.square(values), axis=axis))


def _fields(name, values, typical):
    """Return the fields of `CCDParameters` of a number, one per exposure or a map."""
    if np.ndim(values) == 0:
        return {name: float(values)}
    if np.ndim(values) == 1:
        known = {name: float(typical(values))}
        each = tuple(values.tolist())
        return known if len(set(each)) == 1 else known | {f"{name}s": each}
    return {name: float(np.median(values)), f"{name}_map": values.astype(np.float32)}


def compute_variance(sigma, kind, sigma_unit, unit):
    """Return the variance (float64, in ``unit**2``) of an uncertainty array."""
    with np.errstate(divide="ignore"):  # an inverse variance may be 0
        variance = kind(sigma, unit=sigma_unit, copy=False).represent_as(
            VarianceUncertainty
        )
    array = np.asarray(variance.array, dtype=np.float64)
    if variance.unit is None or unit is None or variance.unit == unit**2:
        return array
    return array * variance.unit.to(unit**2)


def known_variance(values, sigma, kind, sigma_unit, unit):
    """
    Return the variance as `compute_variance` does, and where it means no information.

    There a standard deviation or variance is 0, infinite or NaN, or an inverse variance
    is 0. NaN of a negative value, the root of its counts, is a variance that is not
    known, which is NaN: without these values the mean of the others would be too high.
    """
    variance = compute_variance(sigma, kind, sigma_unit, unit)
    nothing = (variance == 0) | np.isposinf(variance)
    nothing |= np.isnan(variance) & ~(values < 0)
    return np.where(variance > 0, variance, np.nan), nothing


def check_noise_source(noise):
    """Refuse a source of the noise that is not known."""
    if noise not in _NOISE:
        msg = f"noise must be one of {', '.join(_NOISE)}, got {short_repr(noise)}"
        raise ValueError(msg)


def find_noise_source(exposures, noise, *, warn=True):
    """Return 'uncertainty' or 'detector', whichever ``noise`` ('auto' or one) means."""
    check_noise_source(noise)
    have = [exposure.has_variance for exposure in exposures]
    if noise == "uncertainty" and not all(have):
        missing = [str(i) for i, has in enumerate(have, start=1) if not has]
        msg = (
            "noise='uncertainty' needs an uncertainty of each exposure, "
            f"{', '.join(missing)} of {len(have)} have none; give it, or "
            "noise='detector' with gain and readnoise"
        )
        raise ValueError(msg)
    if warn and noise == "auto" and any(have) and not all(have):
        msg = (
            f"{sum(have)} of {len(have)} exposures have an uncertainty, which is not "
            "used: the noise is that of gain and readnoise; give all exposures one, or "
            "noise='detector'"
        )
        warn_user(msg, NoUncertaintyWarning)
    return "uncertainty" if all(have) and noise != "detector" else "detector"


def measure_parameters(data, variance, bad):
    """Return `CCDParameters` that roughly explain variances of (n, ny, nx)."""

    def use(part):
        known = np.isfinite(variance[part])
        return known if bad is None else known & ~bad[part]

    bands = cut_bands(data.shape[1:])
    parts = in_turn([(i, rows) for i in range(len(data)) for rows in bands])
    step = max(data.size // _SAMPLE, 1)
    signal, known = thinned([data, variance], use, parts, step)
    if signal.size == 0:
        return CCDParameters(1.0, 1.0, 0.0)
    low, high = np.quantile(signal, _FAINT), np.quantile(signal, _BRIGHT)
    (s0, v0), (s1, v1) = (
        (float(np.median(signal[part])), float(np.median(known[part])))
        for part in (signal <= low, signal >= high)
    )
    # Where photons do not matter, a gain that makes them negligible.
    gain = _NEGLIGIBLE * max(abs(s1), abs(s0)) / v0
    if (v1 - v0) * gain > s1 - s0:
        gain = (s1 - s0) / (v1 - v0)
    floor = max(v0 - max(s0, 0) / gain, v0 / 100)
    return CCDParameters(gain, gain * float(np.sqrt(floor)), 0.0)


@dataclass(frozen=True)
class RecordedNoise:
    """
    Gain, read noise (electron) and bias of masks, for exposures in a unit.

    ``gain`` and ``readnoise`` are as masks record them, ``bias`` is in the unit that
    the gain belongs to. Exposures that are rates have ``times`` (n,).
    """

    gain: float | np.ndarray | None
    readnoise: float | np.ndarray
    bias: float
    in_electrons: bool
    times: np.ndarray | None = None

    @classmethod
    def from_masks(cls, masks, unit, headers):
        """Return what a mask set or the like records; None if that is not enough."""
        electrons, times = is_electrons(unit), None
        if masks.readnoise is None or (masks.gain is None and not electrons):
            return None
        if is_rate(unit):
            times = exposure_times(headers)
        if not is_known(unit) or (is_rate(unit) and times is None):
            return None
        return cls(masks.gain, masks.readnoise, masks.bias or 0.0, electrons, times)

    def variance(self, data, i, *, gain=None, readnoise=None):
        """Return the variance of exposure i, or of rows of it with maps of these."""
        gain = _of_exposure(self.gain if gain is None else gain, i)
        readnoise = _of_exposure(self.readnoise if readnoise is None else readnoise, i)
        bias = self.bias
        if self.in_electrons:
            gain, bias = 1.0, bias * (1.0 if gain is None else gain)
        if self.times is not None:
            gain = gain * self.times[i]
        return model_variance(data, gain, readnoise, bias)


def _of_exposure(value, i):
    return value[i] if np.ndim(value) in {1, 3} else value


def bias_in_unit(masks, unit):
    """Return the recorded bias in the unit of the exposures."""
    return (masks.bias or 0.0) * bias_unit(masks, unit)


def bias_unit(masks, unit):
    """Return the unit of a recorded bias in that of exposures, by the median gain."""
    known = is_electrons(unit) and masks.gain is not None
    return float(np.median(masks.gain)) if known else 1.0


def model_variance(data, gain, readnoise, bias):
    """
    Return max(data - bias, 0) / gain + (readnoise / gain)^2, float32 if the data are.

    It is the variance of one electron where this is 0. ``readnoise`` is in electron;
    gain, read noise and bias may be maps of the shape of the data.
    """
    kind = np.asarray(data).dtype
    dtype = np.result_type(kind, np.float32) if kind.kind == "f" else np.dtype(float)
    signal = data
    if np.any(bias):
        signal = np.subtract(data, np.asarray(bias, dtype), dtype=dtype)
    # An array of zeros is twice as fast as the number 0.
    signal = np.maximum(signal, np.zeros(np.shape(data), dtype), dtype=dtype)
    if np.any(gain != 1):
        signal *= np.asarray(1 / gain, dtype)
    signal += np.asarray((readnoise / gain) ** 2, dtype)
    if np.any(readnoise == 0):  # pixels without signal would have no noise
        signal = np.where(signal == 0, np.asarray(gain**-2.0, dtype), signal)
    return signal
