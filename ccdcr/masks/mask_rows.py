# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Mask sets of large files, read by rows."""

import os
from contextlib import ExitStack
from uuid import uuid4

import numpy as np
from astropy.io import fits

from ccdcr.exceptions import CRMasksFileError
from ccdcr.exposures.exposure_files import temporary_folder, unpacked_path
from ccdcr.masks.fits_reader import (
    CRMASK,
    EXPECTED,
    EXTENSIONS,
    IMAGES,
    LOW,
    MAPS,
    Source,
)
from ccdcr.masks.mask_set import CRMaskSet
from ccdcr.utils.files import check_input
from ccdcr.utils.fits_structure import check_structure, ones_sum

__all__ = ["MasksInFile", "check_not_swapped", "open_masks", "read_masks"]

_MAPS = {extension for _, extension in MAPS.values()}
_BLOCK = 1 << 22  # bytes whose checksum is made at once


def check_not_swapped(ccds, masks, names="ccds and masks"):
    """Refuse masks and exposures in the wrong order."""
    files = (str, os.PathLike)
    if isinstance(ccds, (CRMaskSet, *files)) and not isinstance(
        masks, (CRMaskSet, *files, type(None))
    ):
        msg = f"{names} are swapped: give the exposures first, then the masks"
        raise TypeError(msg)


def read_masks(masks, name):
    """Return a mask set, read if it is a file."""
    if isinstance(masks, (str, os.PathLike)):
        return CRMaskSet.read(check_input(masks, name))
    if not isinstance(masks, CRMaskSet):
        msg = f"{name} must be a CRMaskSet or a file, got {type(masks).__name__}"
        raise TypeError(msg)
    return masks


def open_masks(stack, crmasks, limit, folder=None):
    """Return a `~ccdcr.CRMaskSet`, or `MasksInFile` of a file above ``limit`` bytes."""
    if not isinstance(crmasks, (str, os.PathLike)):
        return read_masks(crmasks, "crmasks")
    path = check_input(crmasks, "crmasks")
    with ExitStack() as own:
        plain = unpacked_path(path, temporary_folder(own, folder))
        if plain.stat().st_size > limit:
            file = own.enter_context(plain.open("rb"))
            masks = MasksInFile(own, file, path)
            stack.push(own.pop_all())
            return masks
    return CRMaskSet.read(path)


class MasksInFile:
    """Masks of an uncompressed file, read by rows; ``stack`` closes its extensions."""

    def __init__(self, stack, file, path):
        self._path = path
        try:
            check_structure(file)
            self._hdus = stack.enter_context(fits.open(file, memmap=False))
            _check_sums(self._hdus, file)
        except (OSError, ValueError, TypeError) as err:
            msg = f"{path} is not a readable FITS file with correct checksums: {err}"
            raise CRMasksFileError(msg) from err
        self._primary = self._hdus[0].header.copy()
        file = Source(self._hdus, str(path))
        file.check_number()
        self._primary.remove(EXTENSIONS, ignore_missing=True)
        # The same for all rows.
        self._primary["UUID"] = file.uuid() or str(uuid4())
        self.shape = file.shape = self._shape(file)
        self.local_median_pixels = file.boxes()
        table = file.expected()
        self.expected_unit = None if table is None else table["VALUE"].unit
        self._row = self[:1]

    def _shape(self, file):
        shapes = {
            name: getattr(hdu, "shape", ())
            for name, hdu in file.hdus.items()
            if name in IMAGES or CRMASK.match(name)
        }
        for name, shape in shapes.items():
            expected = next(iter(shapes.values()))
            if name in _MAPS and len(shape) == 3:
                shape = shape[1:]  # noqa: PLW2901
            if len(shape) != 2:
                file.fail(name, f"data of shape {shape}", "an image (ny, nx)")
            if shape != expected:
                file.fail(name, f"shape {shape}", f"{expected}, as before it")
        if not shapes:
            file.fail("MEDIANCR", "missing; found none", "it")
        return expected

    def __len__(self):
        return len(self._row)

    def __getattr__(self, name):
        """Return an attribute that is the same for all rows, such as ``gain``."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._row, name)

    def __getitem__(self, rows):
        """Return the mask set of some rows."""
        hdus = fits.HDUList([fits.PrimaryHDU(header=self._primary)])
        for hdu in self._hdus[1:]:
            if hdu.name in IMAGES or CRMASK.match(hdu.name):
                every = (slice(None),) * (len(hdu.shape) - 2)
                data = np.array(hdu.section[*every, rows])
                part = fits.ImageHDU(data, name=hdu.name)
                if "BUNIT" in hdu.header:
                    part.header["BUNIT"] = hdu.header["BUNIT"]
                hdus.append(part)
            elif hdu.name in {LOW, EXPECTED}:
                hdus.append(_table_of_rows(hdu, *rows.indices(self.shape[0])[:2]))
        return CRMaskSet.from_hdulist(hdus, name=str(self._path))


def _table_of_rows(hdu, start, stop):
    """Return a table of pixels of some rows."""
    y = hdu.data["Y"]
    data = hdu.data[(y > start) & (y <= stop)].copy()
    data["Y"] -= start
    return fits.BinTableHDU(data, header=hdu.header, name=hdu.name)


def _check_sums(hdus, file):
    """Compare CHECKSUM and DATASUM of each extension, block by block."""
    for hdu in hdus:
        if isinstance(hdu, fits.CompImageHDU):
            continue
        info = hdu.fileinfo()
        header, data = info["hdrLoc"], info["datLoc"]
        sums = {
            "CHECKSUM": _sum(file, header, data + info["datSpan"]),
            "DATASUM": _sum(file, data, data + info["datSpan"]),
        }
        recorded = hdu.header.get("DATASUM")
        if recorded is not None and sums["DATASUM"] != int(recorded):
            msg = f"Datasum verification failed for HDU {hdu.name!r}"
            raise ValueError(msg)
        if "CHECKSUM" in hdu.header and sums["CHECKSUM"] not in {0, 0xFFFFFFFF}:
            msg = f"Checksum verification failed for HDU {hdu.name!r}"
            raise ValueError(msg)


def _sum(file, start, stop):
    total = 0
    for position in range(start, stop, _BLOCK):
        file.seek(position)
        total = ones_sum(file.read(min(_BLOCK, stop - position)), total)
    return total
