# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The door: exposures come in as CCDData or files and leave as plain arrays."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData

from ccdcr.maskfile.structure import check_file

__all__ = [
    "Detector",
    "Exposures",
    "array_kind",
    "check_alike",
    "check_arrays",
    "list_exposures",
    "load_ccds",
    "load_exposures",
    "no_unit_message",
]

_PER_ADU = u.electron / u.adu
# Squares of such values, in any unit, are numbers of float32.
_MOST_SIGNAL, _MOST_GAIN, _MOST_READNOISE = 1e12, 1e6, 1e6


@dataclass(frozen=True)
class Detector:
    """
    Gain (electron per unit of the data), read noise (electron), bias (data).

    ``readnoise`` stands for all exposures and pixels; ``readnoises`` are those
    of each exposure or None, ``readnoise_map`` that of each pixel or None.
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

    def noise_of(self, expected):
        """Return the noise of an expected image without bias, in its unit."""
        return np.sqrt(np.maximum(expected, 0) / self.gain + self.noise**2)


@dataclass(frozen=True)
class Exposures:
    """
    Exposures as plain arrays.

    ``data`` is (n, ny, nx) float32 without bias; ``bad`` is (n, ny, nx), True =
    masked or not finite, or None where nothing is. Where the gain is a map the
    data are scaled to its median, by ``gain_ratio``.
    ``headers`` are as they came.
    """

    data: np.ndarray
    bad: np.ndarray | None
    unit: u.UnitBase
    detector: Detector
    names: tuple
    headers: tuple = ()
    gain_ratio: np.ndarray | None = None

    def __len__(self):
        return len(self.data)

    @property
    def shape(self):
        """Shape of each exposure, (ny, nx)."""
        return self.data.shape[1:]


def load_ccds(
    ccd_iter, *, minimum=1, name="ccd_iter", allowed=("numpy",), **read_kwargs
):
    """
    Return exposures as CCDData objects, together with their file names.

    Parameters
    ----------
    ccd_iter : iterable of `~astropy.nddata.CCDData`, str or `~pathlib.Path`
        The exposures, or the files that hold them.
    minimum : int, optional
        Least number of exposures.
    name : str, optional
        Name of the parameter in messages.
    allowed : sequence of str, optional
        Packages whose arrays the exposures may hold.
    **read_kwargs
        Arguments for `astropy.nddata.CCDData.read`.

    Returns
    -------
    ccds : list of `~astropy.nddata.CCDData`
        The exposures; all are 2D images of one shape and unit.
    names : tuple of str
        Their file names, empty for those that are not from a file.
    """
    items, names = list_exposures(ccd_iter, minimum=minimum, name=name)
    ccds = [_read(item, read_kwargs) for item in items]
    check_arrays(ccds, names, allowed)
    check_alike(ccds, names)
    return ccds, names


def list_exposures(ccd_iter, *, minimum=1, name="ccd_iter"):
    """Return exposures as a list, not yet read, and the names of their files."""
    if isinstance(ccd_iter, (str, bytes, os.PathLike, CCDData)) or not isinstance(
        ccd_iter, Iterable
    ):
        msg = (
            f"{name} must be a list or generator of CCDData objects or file names, "
            f"got {type(ccd_iter).__name__}"
        )
        raise TypeError(msg)
    items = list(ccd_iter)
    if len(items) < minimum:
        msg = f"{name} must hold at least {minimum} exposures, got {len(items)}"
        raise ValueError(msg)
    _check_kinds(items, name)
    names = tuple(
        Path(item).name if isinstance(item, (str, os.PathLike)) else ""
        for item in items
    )
    return items, names


def _check_kinds(items, name):
    for number, item in enumerate(items, start=1):
        if not isinstance(item, (CCDData, str, os.PathLike)):
            msg = (
                f"{name} must hold CCDData objects or file names, "
                f"got {type(item).__name__} as exposure {number}"
            )
            raise TypeError(msg)


def _read(item, read_kwargs):
    if isinstance(item, CCDData):
        return item
    check_file(item)
    try:
        return CCDData.read(item, **read_kwargs)
    except ValueError as err:
        if "unit" not in str(err):
            raise
        raise ValueError(no_unit_message(item)) from err


def no_unit_message(path):
    """Return what is said of a file without a unit."""
    return (
        f"{path} does not say its unit (keyword BUNIT); "
        "give CCDData.read(file, unit='adu') in its place"
    )


def array_kind(array):
    """Return the package that an array is of, such as ``'numpy'``."""
    if isinstance(array, np.ndarray):
        return "numpy"
    return type(array).__module__.partition(".")[0]


def check_arrays(ccds, names=None, allowed=("numpy",)):
    """
    Refuse exposures whose arrays are of other packages than those allowed.

    Parameters
    ----------
    ccds : list of `~astropy.nddata.CCDData`
        The exposures.
    names : sequence of str, optional
        Names of their files.
    allowed : sequence of str, optional
        Names of the packages.

    Raises
    ------
    TypeError
        If an array is of another package.
    """
    for label, ccd in zip(_labels(names or [""] * len(ccds)), ccds, strict=True):
        uncertainty = None if ccd.uncertainty is None else ccd.uncertainty.array
        for what, array in (
            ("data", ccd.data),
            ("mask", ccd.mask),
            ("uncertainty", uncertainty),
        ):
            kind = array_kind(array)
            if array is None or np.ndim(array) == 0 or kind in allowed:
                continue
            remedy = "convert them to numpy arrays first"
            if kind == "dask":
                remedy = "use ccdcr.combine, or call compute() first"
            msg = (
                f"the exposures must be {' or '.join(allowed)} arrays, the {what} of "
                f"{label} is {type(array).__module__}.{type(array).__name__}; {remedy}"
            )
            raise TypeError(msg)


def _labels(names):
    return [name or f"exposure {i}" for i, name in enumerate(names, start=1)]


def check_alike(ccds, names):
    """Refuse what is no 2D image of real numbers, or differs in shape or unit."""
    labels = _labels(names)
    for ccd, label in zip(ccds, labels, strict=True):
        dtype = ccd.data.dtype
        if len(ccd.shape) != 2 or 0 in ccd.shape or dtype.kind not in "iuf":
            msg = (
                f"exposures must be 2D images of real numbers, {label} has shape "
                f"{ccd.shape} and dtype {dtype}"
            )
            raise ValueError(msg)
    for what, values in (
        ("shape", [ccd.shape for ccd in ccds]),
        ("unit", [ccd.unit for ccd in ccds]),
    ):
        if any(value != values[0] for value in values):
            found = ", ".join(
                f"{label}: {value}" for label, value in zip(labels, values, strict=True)
            )
            msg = f"all exposures must have the same {what}, got {found}"
            raise ValueError(msg)


def load_exposures(ccd_iter, *, gain, readnoise, bias, minimum):
    """
    Return exposures as plain arrays, with what is known of the detector.

    Parameters
    ----------
    ccd_iter : iterable of `~astropy.nddata.CCDData`, str or `~pathlib.Path`
        The exposures, in adu or electron.
    gain, readnoise, bias : float, `~astropy.units.Quantity`, str or None
        Numbers, quantities or names of header keywords.
    minimum : int
        Least number of exposures.

    Returns
    -------
    exposures : `Exposures`
        The exposures.
    """
    ccds, names = load_ccds(ccd_iter, minimum=minimum)
    unit = ccds[0].unit
    gain, ratio = _split_gain_map(gain, ccds[0].shape)
    detector = find_detector(ccds, gain=gain, readnoise=readnoise, bias=bias)
    data = np.empty((len(ccds), *ccds[0].shape), dtype=np.float32)
    bad = np.empty(data.shape, dtype=bool)
    for i, ccd in enumerate(ccds):
        with np.errstate(over="ignore"):  # beyond float32 is not finite either
            np.subtract(ccd.data, detector.bias, out=data[i], casting="unsafe")
        if ratio is not None:
            data[i] *= ratio
        _drop_impossible(data[i], bad[i], _MOST_SIGNAL / detector.gain)
        if ccd.mask is not None:
            bad[i] |= np.asarray(ccd.mask, dtype=bool)
    headers = tuple(ccd.meta for ccd in ccds)
    bad = bad if bad.any() else None
    return Exposures(data, bad, unit, detector, names, headers, ratio)


def _drop_impossible(image, bad, limit):
    """Mark what is not finite; what is beyond the limit is not, either."""
    with np.errstate(invalid="ignore"):
        np.less_equal(np.abs(image), np.float32(limit), out=bad)
    np.logical_not(bad, out=bad)
    image[bad] = np.nan


def _split_gain_map(gain, shape):
    """Return a gain, and what the data must be multiplied by to have it."""
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


def find_detector(ccds, *, gain, readnoise, bias):
    """
    Return the detector parameters of some exposures.

    Parameters
    ----------
    ccds : list of `~astropy.nddata.CCDData`
        The exposures, in adu or electron.
    gain, readnoise, bias : float, `~astropy.units.Quantity`, str or None
        As for `ccdcr.detect_cosmic_rays`.

    Returns
    -------
    detector : `Detector`
        The parameters as plain numbers.
    """
    unit = ccds[0].unit
    if unit not in {u.adu, u.electron}:
        msg = f"exposures must be in adu or electron, got {unit}; set ccd.unit"
        raise ValueError(msg)
    gain = _find_gain(ccds, gain, unit)
    if readnoise is None:
        msg = (
            "readnoise must be given: a number or Quantity in electron, "
            "or the name of a header keyword"
        )
        raise ValueError(msg)
    readnoise = _per_exposure(ccds, readnoise)
    if isinstance(readnoise, u.Quantity) and readnoise.unit.is_equivalent(u.adu):
        readnoise = readnoise * (gain * u.electron / unit)
    known = _readnoises(ccds, readnoise)
    bias = 0.0 if bias is None else _value(ccds, "bias", bias)
    if known["readnoise"] > _MOST_READNOISE:
        msg = f"readnoise must be up to {_MOST_READNOISE:g} electron, got {readnoise!r}"
        raise ValueError(msg)
    bias = _number("bias", bias, unit)
    if abs(bias) > _MOST_SIGNAL:
        msg = f"bias must be up to {_MOST_SIGNAL:g} {unit}, got {bias:g}"
        raise ValueError(msg)
    return Detector(gain, bias=bias, **known)


def _per_exposure(ccds, readnoise):
    """Look the read noise up in the headers, where exposures may differ."""
    if not isinstance(readnoise, str):
        return readnoise
    values = [_keyword(ccd, "readnoise", readnoise, i) for i, ccd in enumerate(ccds, 1)]
    return values[0] if len(set(values)) == 1 else values


def _readnoises(ccds, readnoise):
    """Return the read noise: of all, of each exposure, of each pixel."""
    if np.ndim(readnoise) == 0:
        return {"readnoise": _number("readnoise", readnoise, u.electron, minimum=0)}
    if isinstance(readnoise, u.Quantity):
        readnoise = readnoise.to_value(u.electron)
    values = np.asarray(readnoise, dtype=float)
    if values.ndim == 2:
        _check_map("readnoise", values, ccds[0].shape)
        return {
            "readnoise": float(np.median(values)),
            "readnoise_map": values.astype(np.float32),
        }
    if values.shape != (len(ccds),):
        msg = (
            f"readnoise must be one number, one for each of the {len(ccds)} exposures "
            f"or a map, got shape {values.shape}"
        )
        raise ValueError(msg)
    each = tuple(_number("readnoise", v, u.electron, minimum=0) for v in values)
    known = {"readnoise": float(np.sqrt(np.mean(np.square(each))))}
    return known if len(set(each)) == 1 else known | {"readnoises": each}


def _find_gain(ccds, gain, unit):
    if gain is None and unit == u.adu:
        msg = (
            "gain must be given for exposures in adu: a number or Quantity in "
            "electron/adu, or the name of a header keyword"
        )
        raise ValueError(msg)
    value = 1.0 if gain is None else _value(ccds, "gain", gain)
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


def _value(ccds, name, value):
    """Look a value up in the headers when it is the name of a keyword."""
    if not isinstance(value, str):
        return value
    values = [_keyword(ccd, name, value, i) for i, ccd in enumerate(ccds, start=1)]
    if len(set(values)) > 1:
        msg = f"{name}={value!r} must be the same in all exposures, got {values}"
        raise ValueError(msg)
    return values[0]


def _keyword(ccd, name, keyword, number):
    found = ccd.header.get(keyword)
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
