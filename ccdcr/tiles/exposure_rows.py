# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Exposures of which some rows are read at a time."""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import (
    CCDData,
    InverseVariance,
    StdDevUncertainty,
    VarianceUncertainty,
)
from astropy.nddata.ccddata import _generate_wcs_and_update_header

from ccdcr.exposures import array_kind, check_alike, check_arrays, no_unit_message
from ccdcr.maskfile.structure import check_file
from ccdcr.tiles.rows import opened, rows_of

__all__ = ["Exposure", "open_exposures"]

_UNCERTAINTIES = {
    kind.__name__: kind
    for kind in (StdDevUncertainty, VarianceUncertainty, InverseVariance)
}
_BOOL = (bool, np.bool_)
_NOT_READ = ("format", "hdu_flags", "hdu_psf")


@dataclass
class Exposure:
    """
    An exposure of which some rows can be had.

    ``data``, ``mask`` and ``sigma`` (the array of the uncertainty, of class
    ``kind`` and with ``sigma_unit``) give an array for a slice of rows; mask
    and sigma may be None. ``meta`` and ``wcs`` are those of a CCDData.
    """

    data: Any
    unit: u.UnitBase
    mask: Any = None
    sigma: Any = None
    kind: type | None = None
    sigma_unit: u.UnitBase | None = None
    meta: Any = None
    wcs: Any = None
    from_file: bool = False

    @property
    def shape(self):
        """Shape of the image, (ny, nx)."""
        return tuple(self.data.shape)

    @property
    def planes(self):
        """The images that there are."""
        planes = (self.data, self.mask, self.sigma)
        return [plane for plane in planes if plane is not None]

    @property
    def lazy(self):
        """Whether an array is one of dask."""
        return any(array_kind(plane) == "dask" for plane in self.planes)

    @classmethod
    def of_ccd(cls, ccd):
        """Return that of a CCDData; nothing is copied."""
        uncertainty = ccd.uncertainty
        known = uncertainty is not None and uncertainty.array is not None
        mask = ccd.mask
        return cls(
            ccd.data,
            ccd.unit,
            np.broadcast_to(mask, ccd.shape) if isinstance(mask, _BOOL) else mask,
            uncertainty.array if known else None,
            type(uncertainty) if known else None,
            uncertainty.unit if known else None,
            ccd.meta,
            ccd.wcs,
        )

    def ones(self):
        """Return a row of ones with the same properties."""
        shape = (1, self.shape[1])
        sigma = None if self.sigma is None else np.ones(shape)
        data = np.ones(shape, self.data.dtype.newbyteorder("="))
        return self.frame()(data, None, sigma)

    def cut(self, rows):
        """Return the arrays of some rows."""
        planes = (self.data, self.mask, self.sigma)
        return tuple(None if plane is None else plane[rows] for plane in planes)

    def frame(self):
        """Return a function that makes a CCDData of what `cut` returns."""
        return partial(_ccd, unit=self.unit, kind=self.kind, sigma_unit=self.sigma_unit)


def _ccd(data, mask, sigma, *, unit, kind, sigma_unit):
    uncertainty = None
    if sigma is not None:
        uncertainty = kind(sigma, unit=sigma_unit, copy=False)
    mask = None if mask is None else np.asarray(mask, dtype=bool)
    return CCDData(data, unit=unit, mask=mask, uncertainty=uncertainty)


def open_exposures(stack, items, names, folder=None, **ccdkwargs):
    """
    Open exposures; each file once, and nothing of it is kept in memory.

    Parameters
    ----------
    stack : `~contextlib.ExitStack`
        Closes the files.
    items : list of `~astropy.nddata.CCDData`, str or `~pathlib.Path`
        The exposures or their files.
    names : sequence of str
        Their names for messages.
    folder : str or `~pathlib.Path`, optional
        Where compressed files are unpacked.
    **ccdkwargs
        Arguments for `astropy.nddata.CCDData.read`.

    Returns
    -------
    exposures : list of `Exposure`
        The exposures, of one shape and unit.
    """
    ccds = {i: item for i, item in enumerate(items) if isinstance(item, CCDData)}
    given = [names[i] or f"exposure {i + 1}" for i in ccds]
    check_arrays(list(ccds.values()), given, ("numpy", "dask"))
    exposures = [
        Exposure.of_ccd(item)
        if isinstance(item, CCDData)
        else _open(stack, Path(os.fspath(item)).expanduser(), folder, **ccdkwargs)
        for item in items
    ]
    check_alike(exposures, names)
    for name, exposure in zip(names, exposures, strict=True):
        _check_planes(name, exposure)
    return exposures


def _check_planes(name, exposure):
    for plane in exposure.planes[1:]:
        if tuple(plane.shape) != exposure.shape:
            msg = (
                f"mask and uncertainty of {name or 'an exposure'} must have the shape "
                f"of its data, {exposure.shape}, got {tuple(plane.shape)}"
            )
            raise ValueError(msg)


def _open(
    stack,
    path,
    folder,
    *,
    hdu=0,
    unit=None,
    hdu_uncertainty="UNCERT",
    hdu_mask="MASK",
    key_uncertainty_type="UTYPE",
    memmap=True,
    **kwargs,
):
    """Open a file as `astropy.nddata.CCDData.read` does, by the same arguments."""
    for name in _NOT_READ:
        kwargs.pop(name, None)
    file = opened(stack, path, folder)
    check_file(path, file)
    hdus = stack.enter_context(fits.open(file, memmap=False, **kwargs))

    def rows(extension):
        return rows_of(hdus[extension], file, folder, memmap=memmap is not False)

    extension, header = _find(hdus, hdu, path)
    unit = _unit(header, unit, path)
    exposure = Exposure(rows(extension), unit, from_file=True)
    exposure.meta, exposure.wcs = _generate_wcs_and_update_header(
        _unscaled(header, exposure.data.dtype)
    )
    if hdu_mask is not None and hdu_mask in hdus:
        exposure.mask = rows(hdu_mask)
    if hdu_uncertainty is not None and hdu_uncertainty in hdus:
        exposure.sigma = rows(hdu_uncertainty)
        name = hdus[hdu_uncertainty].header.get(key_uncertainty_type, "None")
        exposure.kind = _UNCERTAINTIES.get(name, StdDevUncertainty)
    return exposure


def _find(hdus, hdu, path):
    """Return the extension that has the image, and its header."""
    header = hdus[hdu].header
    if hdu == 0 and not hdus[0].shape:
        for number, other in enumerate(hdus):
            if type(other) is fits.ImageHDU and other.shape:
                header = other.header.copy()
                header.extend(hdus[0].header, unique=True)
                return number, header
    if not getattr(hdus[hdu], "shape", ()):
        msg = f"{path} has no image in extension {hdu!r}; say where by hdu="
        raise ValueError(msg)
    return hdu, header


def _unit(header, unit, path):
    if unit is not None:
        return u.Unit(unit)
    text = str(header.get("BUNIT", "")).strip()
    if not text:
        raise ValueError(no_unit_message(path))
    text = "adu" if text.lower() == "adu" else text
    text = CCDData.known_invalid_fits_unit_strings.get(text, text)
    try:
        return u.Unit(text)
    except ValueError as err:
        msg = f"{path} has BUNIT = {text!r}, which is no unit; give unit="
        raise ValueError(msg) from err


def _unscaled(header, dtype):
    """Return the header as it is once the image is scaled."""
    header = header.copy()
    scaled = (header.get("BSCALE", 1), header.get("BZERO", 0)) != (1, 0)
    if scaled and dtype.kind != "u":
        header["BITPIX"] = -8 * dtype.itemsize
        for keyword in ("BSCALE", "BZERO", "BLANK"):
            header.remove(keyword, ignore_missing=True)
    return header
