# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Reader of exposures: CCDData objects or files, whole or by rows."""

import os
from collections.abc import Iterable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import (
    CCDData,
    InverseVariance,
    StdDevUncertainty,
    UnknownUncertainty,
    VarianceUncertainty,
)
from astropy.nddata.ccddata import _generate_wcs_and_update_header

from ccdcr.exceptions import MissingUnitWarning, warn_user
from ccdcr.exposures.exposure_files import (
    find_image,
    find_unit,
    has_image,
    image_rows,
    joined_header,
    temporary_folder,
    unpacked_path,
)
from ccdcr.exposures.exposure_flags import bad_bits, mask_as_recorded, mask_flagged
from ccdcr.utils.files import check_input
from ccdcr.utils.fits_structure import check_file

__all__ = [
    "Exposure",
    "array_kind",
    "check_alike",
    "check_arrays",
    "keep_names",
    "list_exposures",
    "list_labels",
    "load_ccds",
    "open_exposures",
]


def list_exposures(ccds, *, minimum=1, name="ccds"):
    """Return exposures as a list, unread, and the names of their files ('' if none)."""
    if isinstance(ccds, (str, bytes, os.PathLike, CCDData)) or not isinstance(
        ccds, Iterable
    ):
        msg = (
            f"{name} must be a list or generator of CCDData objects or file names, "
            f"got {type(ccds).__name__}"
        )
        if isinstance(ccds, str):
            msg += f"; for a pattern give sorted(glob.glob({ccds!r}))"
        raise TypeError(msg)
    items = list(ccds)
    if len(items) < minimum:
        msg = f"{name} must hold at least {minimum} exposures, got {len(items)}"
        raise ValueError(msg)
    for number, item in enumerate(items, start=1):
        if not isinstance(item, (CCDData, str, os.PathLike)):
            msg = (
                f"{name} must hold CCDData objects or file names, "
                f"got {type(item).__name__} as exposure {number}"
            )
            if hasattr(item, "shape"):
                msg += "; make each array a CCDData(array, unit='adu')"
            raise TypeError(msg)
    return items, tuple(_file_name(item) for item in items)


def _file_name(item):
    if isinstance(item, (str, os.PathLike)):
        return Path(item).name
    return getattr(item, "file_name", "")  # of those that this package has read


def array_kind(array):
    """Return the package of an array, such as ``'numpy'``."""
    if isinstance(array, np.ndarray):
        return "numpy"
    return type(array).__module__.partition(".")[0]


def check_arrays(ccds, names=None, allowed=("numpy",)):
    """Refuse CCDData whose arrays are not of the allowed packages."""
    for label, ccd in zip(list_labels(names or [""] * len(ccds)), ccds, strict=True):
        exposure = Exposure.from_ccd(ccd)
        for what, array in (
            ("data", exposure.data),
            ("mask", exposure.mask),
            ("uncertainty", exposure.sigma),
        ):
            kind = array_kind(array)
            if array is None or kind in (*allowed, "ccdcr") or np.ndim(array) == 0:
                continue
            remedy = "convert them to numpy arrays first"
            if kind == "dask":
                remedy = "use ccdcr.combine, or call compute() first"
            msg = (
                f"the exposures must be {' or '.join(allowed)} arrays, the {what} of "
                f"{label} is {type(array).__module__}.{type(array).__name__}; {remedy}"
            )
            raise TypeError(msg)


def list_labels(names):
    """Return names of exposures, numbers for those without a file."""
    return [name or f"exposure {i}" for i, name in enumerate(names, start=1)]


def check_alike(ccds, names):
    """Refuse exposures that are not real 2D images, or differ in shape or unit."""
    labels = list_labels(names)
    for ccd, label in zip(ccds, labels, strict=True):
        dtype = ccd.data.dtype
        if len(ccd.shape) != 2 or 0 in ccd.shape or dtype.kind not in "iuf":
            msg = (
                f"exposures must be 2D images of real numbers, {label} has shape "
                f"{ccd.shape} and dtype {dtype}"
            )
            if len(ccd.shape) > 2:
                msg += "; give one plane of it, such as data[0]"
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


_UNCERTAINTIES = {
    kind.__name__: kind
    for kind in (StdDevUncertainty, VarianceUncertainty, InverseVariance)
}
_BOOL = (bool, np.bool_)
_FLAGS = ("FLAGS", "DQ")  # extensions that hold flags


@dataclass
class Exposure:
    """
    An exposure that is read by rows.

    ``data``, ``mask``, ``sigma`` (the array of the uncertainty, of class ``kind`` and
    with ``sigma_unit``) and ``flags`` give an array (rows, nx) for a slice of rows; all
    but data may be None. ``meta`` and ``wcs`` are those of a CCDData, ``path`` is that
    of a file.
    """

    data: Any
    unit: u.UnitBase
    mask: Any = None
    sigma: Any = None
    kind: type | None = None
    sigma_unit: u.UnitBase | None = None
    meta: Any = None
    wcs: Any = None
    path: Path | None = None
    flags: Any = None

    @classmethod
    def from_ccd(cls, ccd):
        """Return the exposure of a CCDData; nothing is copied."""
        padded = getattr(ccd, "padded", {})
        data, mask, uncertainty = (
            padded[name] if name in padded else getattr(ccd, name)
            for name in ("data", "mask", "uncertainty")
        )
        known = uncertainty is not None and uncertainty.array is not None
        return cls(
            data,
            ccd.unit,
            np.broadcast_to(mask, ccd.shape) if isinstance(mask, _BOOL) else mask,
            uncertainty.array if known else None,
            type(uncertainty) if known else None,
            uncertainty.unit if known else None,
            ccd.meta,
            ccd.wcs,
            flags=ccd.flags,
        )

    @property
    def from_file(self):
        """Whether it is read from a file."""
        return self.path is not None

    @property
    def shape(self):
        """Shape of the image, (ny, nx)."""
        return tuple(self.data.shape)

    @property
    def planes(self):
        """Data, mask and sigma, without those that are None."""
        planes = (self.data, self.mask, self.sigma)
        return [plane for plane in planes if plane is not None]

    @property
    def lazy(self):
        """Whether an array is a dask array."""
        return any(array_kind(plane) == "dask" for plane in self.planes)

    @property
    def has_variance(self):
        """Whether the uncertainty can be converted to a variance."""
        return self.kind is not None and not issubclass(self.kind, UnknownUncertainty)

    def cut(self, rows):
        """Return data, mask and sigma of some rows."""
        planes = (self.data, self.mask, self.sigma)
        return tuple(None if plane is None else plane[rows] for plane in planes)

    def good_rows(self, rows, columns=np.s_[:]):
        """Return some rows as float32, NaN where they are masked."""
        with np.errstate(over="ignore", invalid="ignore"):  # not finite in float32
            data = np.array(self.data[rows], np.float32)[:, columns]
        bad = ~np.isfinite(data)
        if self.mask is not None:
            bad |= np.asarray(self.mask[rows], bool)[:, columns]
        data[bad] = np.nan
        return data

    def lasting(self):
        """Return the exposure with what is in temporary files read into memory."""

        def read(rows):
            path = getattr(rows, "path", self.path)
            return rows if path == self.path else rows[:]

        planes = ("data", "mask", "sigma", "flags")
        return replace(self, **{name: read(getattr(self, name)) for name in planes})

    def to_ccd(self):
        """Return a CCDData of the whole exposure."""
        data, mask, sigma = self.cut(np.s_[:])
        native = data.dtype.newbyteorder("=")
        uncertainty = None
        if sigma is not None:
            uncertainty = self.kind(sigma, unit=self.sigma_unit)
        return CCDData(
            np.asarray(data, native),
            unit=self.unit,
            mask=None if mask is None else np.asarray(mask, dtype=bool),
            uncertainty=uncertainty,
            meta=self.meta,
            wcs=self.wcs,
            flags=None if self.flags is None else self.flags[:],
        )


@contextmanager
def open_exposures(
    items,
    *,
    minimum=1,
    name="ccds",
    extension=None,
    unit=None,
    folder=None,
    allowed=("numpy", "dask"),
    ignore_flags=None,
    flag_name_map=None,
    recorded=None,
    **names,
):
    """
    Yield a list of `Exposure` of one shape and unit from CCDData objects and files.

    Files are open only while they are read. ``folder`` is for unpacked files,
    ``allowed`` names the packages of arrays, ``names`` are the options ``hdu_mask``,
    ``hdu_uncertainty``, ``hdu_flags`` and ``key_uncertainty_type`` of
    `astropy.nddata.CCDData.read`. Flags but those that are ignored mask pixels; the
    default is that of ``recorded``, the meta of masks.
    """
    bits = bad_bits(ignore_flags, flag_name_map)
    items, labels = list_exposures(items, minimum=minimum, name=name)
    ccds = {i: item for i, item in enumerate(items) if isinstance(item, CCDData)}
    given = [labels[i] or f"exposure {i + 1}" for i in ccds]
    for i, item in enumerate(items):
        if i not in ccds:
            check_input(item, f"exposure {i + 1} of {name}")
    check_arrays(list(ccds.values()), given, allowed)
    if len(ccds) == len(items):
        known = all(ccd.unit == unit for ccd in ccds.values())
        _refuse_reading(extension=extension, unit=None if known else unit)
    with ExitStack() as stack:
        temporary = temporary_folder(stack, folder)
        exposures = [
            Exposure.from_ccd(item)
            if isinstance(item, CCDData)
            else _open(item, temporary, extension=extension, unit=unit, **names)
            for item in items
        ]
        _settle_units(exposures, labels)
        check_alike(exposures, labels)
        for label, exposure in zip(labels, exposures, strict=True):
            _check_planes(label, exposure)
        if bits is None:
            exposures = mask_as_recorded(exposures, recorded or {})
        pairs = zip(exposures, list_labels(labels), strict=True)
        yield [mask_flagged(exposure, bits, label) for exposure, label in pairs]


def load_ccds(
    ccds, *, minimum=1, name="ccds", extension=None, unit=None, allowed=("numpy",)
):
    """
    Return CCDData objects, the given ones unchanged, and the names of their files.

    Options are those of `open_exposures`.
    """
    items, names = list_exposures(ccds, minimum=minimum, name=name)
    options = {"extension": extension, "unit": unit, "allowed": allowed}
    with open_exposures(items, name=name, **options) as exposures:
        loaded = [
            item if isinstance(item, CCDData) else exposure.to_ccd()
            for item, exposure in zip(items, exposures, strict=True)
        ]
    keep_names(loaded, names)
    return loaded, names


def keep_names(ccds, names):
    """Set the names of files of CCDData that are not the caller's."""
    for ccd, name in zip(ccds, names, strict=True):
        if name:
            ccd.file_name = name


def _refuse_reading(**options):
    """Refuse options of files for exposures that are all CCDData objects."""
    for name, value in options.items():
        if value is not None:
            remedy = "; leave it out" + (", or set ccd.unit" if name == "unit" else "")
            msg = f"{name} is for files, and has no effect on CCDData objects{remedy}"
            raise ValueError(msg)


def _settle_units(exposures, labels):
    """Set files without a unit to adu, with one warning."""
    unknown = [i for i, exposure in enumerate(exposures) if exposure.unit is None]
    files = [labels[i] for i in unknown if exposures[i].from_file]
    for i in unknown:
        if exposures[i].from_file:
            exposures[i].unit = u.adu
    if files:
        msg = (
            f"no unit (keyword BUNIT) in {', '.join(files)}, adu is assumed; give "
            "unit=, or CCDData objects"
        )
        warn_user(msg, MissingUnitWarning)


def _check_planes(name, exposure):
    for plane in exposure.planes[1:]:
        if tuple(plane.shape) != exposure.shape:
            msg = (
                f"mask and uncertainty of {name or 'an exposure'} must have the shape "
                f"of its data, {exposure.shape}, got {tuple(plane.shape)}"
            )
            raise ValueError(msg)


def _open(item, temporary, **options):
    """Return the exposure of a file; errors name the file."""
    path = Path(os.fspath(item)).expanduser()
    try:
        plain = unpacked_path(path, temporary).absolute()
        with plain.open("rb") as file:
            check_file(path, file)
        with fits.open(plain, memmap=False) as hdus:
            return _exposure(hdus, path, plain, temporary, **options)
    except OSError as err:
        if err.errno is not None:  # of the disk, not of the content
            raise
        msg = f"{path}: {err}"
        raise ValueError(msg) from err
    except (TypeError, ValueError) as err:
        if str(path) in str(err):
            raise
        msg = f"{path}: {err}"
        raise ValueError(msg) from err


def _exposure(
    hdus,
    path,
    plain,
    temporary,
    *,
    extension,
    unit,
    hdu_uncertainty="UNCERT",
    hdu_mask="MASK",
    hdu_flags=None,
    key_uncertainty_type="UTYPE",
):
    number = find_image(hdus, extension, path)
    header = joined_header(hdus, number)

    def rows(which):
        return image_rows(hdus, which, plain, temporary)

    exposure = Exposure(rows(number), find_unit(header, path, unit))
    exposure.path = path.absolute()
    header = _without_scaling(header, exposure.data.dtype)
    exposure.meta, exposure.wcs = _generate_wcs_and_update_header(header)
    if has_image(hdus, hdu_mask):
        exposure.mask = rows(hdu_mask)
    if has_image(hdus, hdu_uncertainty):
        exposure.sigma = rows(hdu_uncertainty)
        name = hdus[hdu_uncertainty].header.get(key_uncertainty_type, "None")
        exposure.kind = _UNCERTAINTIES.get(name, StdDevUncertainty)
    version = hdus[number].ver if number else 1
    names = _FLAGS if hdu_flags is None else (hdu_flags,)
    names = [name for name in names if has_image(hdus, (name, version))]
    exposure.flags = rows((names[0], version)) if names else None
    return exposure


def _without_scaling(header, dtype):
    """Return the header (a copy) for an image whose values are already scaled."""
    header = header.copy()
    scaled = (header.get("BSCALE", 1), header.get("BZERO", 0)) != (1, 0)
    if scaled and dtype.kind != "u":
        header["BITPIX"] = -8 * dtype.itemsize
        for keyword in ("BSCALE", "BZERO", "BLANK"):
            header.remove(keyword, ignore_missing=True)
    return header
