# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Images of exposure files: choice of the extension, and reading by rows."""

import os
import re
import tempfile
import weakref
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits

from ccdcr.utils.files import is_packed, unpack
from ccdcr.utils.scratch import map_file, reserve

__all__ = [
    "FileRows",
    "PaddedRows",
    "Scratch",
    "SectionRows",
    "find_image",
    "find_unit",
    "has_image",
    "image_rows",
    "joined_header",
    "temporary_folder",
    "unpacked_path",
]

# Extensions that are not images of the sky.
_NOT_DATA = re.compile(
    r"(CR)?MASK\w*|BPM|DQ\w*|FLAGS?\w*|UNCERT\w*|ERR\w*|VAR\w*|STD\w*|STDDEV|SIGMA"
    r"|I?VAR\w*|NOISE|WHT|WEIGHT\w*|NUSED|PSFIMAGE|EXPMAP|RNMAP|GAINMAP",
    re.IGNORECASE,
)
_STRUCTURE = {"SIMPLE", "EXTEND", "NEXTEND", "CHECKSUM", "DATASUM"}


def find_image(hdus, extension, path):
    """
    Return the number of ``extension``; if it is None, of the only image.

    That is the primary image, else the only image whose name is not that of a mask
    or an uncertainty. 0 means None if the primary extension has no image.
    """
    _check_extension(extension)
    if extension is None or (extension == 0 and not _is_image(hdus[0])):
        return _only_image(hdus, path)
    try:
        number = range(len(hdus))[hdus.index_of(extension)]
        hdu = hdus[number]
    except (KeyError, IndexError) as err:
        msg = f"{path} has no extension {extension!r}; it has {_listed(hdus)}"
        raise ValueError(msg) from err
    if not _is_image(hdu):
        msg = f"{path} has no image in extension {extension!r}; it has {_listed(hdus)}"
        raise ValueError(msg)
    return number


def _check_extension(extension):
    pair = isinstance(extension, tuple) and len(extension) == 2
    name = extension[0] if pair else extension
    if isinstance(name, bool) or not isinstance(name, (int, str, type(None))):
        msg = (
            "extension must be a number, a name, or a name and a version, "
            f"got {extension!r}"
        )
        raise TypeError(msg)


def has_image(hdus, extension):
    """Return whether there is an extension with an image; None is no extension."""
    if extension is None or extension not in hdus:
        return False
    return _is_image(hdus[extension])


def _is_image(hdu):
    return hdu.is_image and len(hdu.shape) > 0


def _listed(hdus):
    names = (hdu.name or "(no name)" for hdu in hdus)
    return ", ".join(f"{number} {name}" for number, name in enumerate(names))


def _only_image(hdus, path):
    if _is_image(hdus[0]):
        return 0
    images = [number for number, hdu in enumerate(hdus) if _is_image(hdu)]
    if not images:
        msg = f"{path} has no image in any extension; it has {_listed(hdus)}"
        raise ValueError(msg)
    data = [number for number in images if not _NOT_DATA.fullmatch(hdus[number].name)]
    if len(data) != 1:
        msg = (
            f"{path} must have one image, it has {len(data)} ({_listed(hdus)}); "
            "name one by extension=, or give CCDData objects"
        )
        raise ValueError(msg)
    return data[0]


def joined_header(hdus, number):
    """Return the header of an extension, extended by that of the primary extension."""
    header = hdus[number].header.copy()
    if number > 0:
        primary = hdus[0].header.copy()
        for keyword in _STRUCTURE:
            primary.remove(keyword, ignore_missing=True)
        header.extend(primary, unique=True, strip=True)
    return header


def find_unit(header, path, unit=None):
    """Return the given unit or that of BUNIT; None if there is neither."""
    if isinstance(unit, u.UnitBase):
        return unit
    given = unit is not None
    text = str(unit if given else header.get("BUNIT", "")).strip()
    if not text and not given:
        return None
    try:
        return _parse_unit(text)
    except ValueError as err:
        if given:
            msg = f"unit must be a unit such as adu or electron, got {unit!r}"
        else:
            msg = f"{path} has BUNIT = {text!r}, which is not a unit; give unit="
        raise ValueError(msg) from err


# Usual spellings in lower case, most of which astropy does not know.
_USUAL = {
    **dict.fromkeys(("adu", "adus"), u.adu),
    **dict.fromkeys(("dn", "dns"), u.DN),
    **dict.fromkeys(("count", "counts", "ct", "cts"), u.count),
    **dict.fromkeys(("electron", "electrons", "e-"), u.electron),
    **dict.fromkeys(("photon", "photons", "ph"), u.photon),
}
_SECONDS = {"s", "sec", "second", "seconds"}


def _parse_unit(text):
    """Return the unit of a text; a number or nothing is not one."""
    name, slash, time = (part.strip().lower() for part in text.partition("/"))
    if name in _USUAL and (not slash or time in _SECONDS):
        return _USUAL[name] / u.s if slash else _USUAL[name]
    unit = u.Unit(text)
    if unit.is_equivalent(u.dimensionless_unscaled):
        msg = f"{text!r} is a number"
        raise ValueError(msg)
    return unit


_BLOCK = 1 << 22  # bytes that are copied at once


class FileRows:
    """
    Rows of an array in a file that is open only while they are read.

    Rows are not mapped, because each mapping would keep a descriptor.
    """

    def __init__(self, path, dtype, shape, offset=0):
        self.dtype, self.shape = np.dtype(dtype), tuple(shape)
        self.path, self._offset = path, offset

    def __getitem__(self, rows):
        start, stop, _ = rows.indices(self.shape[0])
        length = int(np.prod(self.shape[1:]))
        values = np.fromfile(
            self.path,
            self.dtype,
            max(stop - start, 0) * length,
            offset=self._offset + start * length * self.dtype.itemsize,
        )
        if values.size != max(stop - start, 0) * length:
            msg = f"{self.path} ends before its image does"
            raise OSError(msg)
        return values.reshape(-1, *self.shape[1:])


class SectionRows:
    """Rows of an image of a FITS file whose values must be scaled."""

    def __init__(self, path, number, hdu):
        self.path, self._number = path, number
        self.shape = hdu.shape
        self.dtype = np.asarray(hdu.section[:1]).dtype

    def __getitem__(self, rows):
        with fits.open(self.path, memmap=False) as hdus:
            return np.asarray(hdus[self._number].section[rows])


class PaddedRows:
    """Rows of an image on a grid (ny, nx), its first pixel at a place x, y."""

    def __init__(self, image, place, shape, fill, dtype=None):
        self.dtype = np.dtype(dtype or image.dtype).newbyteorder("=")
        self.shape = tuple(shape)
        self._image, self._place, self._fill = image, place, fill

    def __getitem__(self, rows):
        start, stop, _ = rows.indices(self.shape[0])
        padded = np.full((stop - start, self.shape[1]), self._fill, self.dtype)
        (x, y), (height, width) = self._place, self._image.shape
        first, last = max(start, y), min(stop, y + height)
        if first < last:
            image = self._image[first - y : last - y]
            padded[first - start : last - start, x : x + width] = image
        return padded


class Scratch:
    """An array in a temporary file that is deleted with it; rows are mapped."""

    def __init__(self, shape, dtype, folder=None):
        self.dtype, self.shape = np.dtype(dtype), tuple(shape)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        size = int(np.prod(shape)) * self.dtype.itemsize
        reserve(self._file, size, folder)

    def __getitem__(self, rows):
        start, stop, _ = rows.indices(self.shape[0])
        row = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        # A mapping's pages count as memory until it is closed: one per request.
        shape = (stop - start, *self.shape[1:])
        return np.memmap(self._file, self.dtype, "r+", start * row, shape)

    def __setitem__(self, rows, values):
        self[rows][...] = values

    def whole(self):
        """Return the whole array; unused pages are not in memory."""
        return map_file(self._file, self.shape, self.dtype)


def temporary_folder(stack, folder):
    """Return a function that makes a temporary folder at its first call."""
    made = []

    def temporary():
        if not made:
            made.append(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        return made[0]

    return temporary


def unpacked_path(path, temporary):
    """Return the path of a file, or of its unpacked copy in ``temporary()``."""
    with Path(path).open("rb") as file:
        if not is_packed(file):
            return path
        handle, target = tempfile.mkstemp(dir=temporary())
        with os.fdopen(handle, "wb+") as unpacked:
            unpack(path, file, unpacked)
    return Path(target)


def image_rows(hdus, extension, path, temporary):
    """Return the rows of an extension of the uncompressed file ``path``."""
    number = hdus.index_of(extension)
    hdu = hdus[number]
    if isinstance(hdu, fits.CompImageHDU):
        return _decompressed(hdu, path, number, temporary)
    header = hdu.header
    scaled = (header.get("BSCALE", 1), header.get("BZERO", 0)) != (1, 0)
    if scaled or "BLANK" in header:
        return SectionRows(path, number, hdu)
    bitpix = header["BITPIX"]
    kind = "f" if bitpix < 0 else "u" if bitpix == 8 else "i"
    dtype = f">{kind}{abs(bitpix) // 8}"
    return FileRows(path, dtype, hdu.shape, hdu.fileinfo()["datLoc"])


def _decompressed(hdu, path, number, temporary):
    """Return the rows of a tile-compressed image from a temporary copy."""
    image = SectionRows(path, number, hdu)
    dtype = image.dtype.newbyteorder("=")
    handle, target = tempfile.mkstemp(dir=temporary())
    # Whole compression tiles, so that none is decompressed twice.
    tile = hdu.tile_shape[0]
    row = int(np.prod(image.shape[1:])) * image.dtype.itemsize
    height = max(_BLOCK // (row * tile), 1) * tile
    with os.fdopen(handle, "wb") as file:
        for start in range(0, image.shape[0], height):
            hdu.section[start : start + height].astype(dtype).tofile(file)
    return FileRows(target, dtype, image.shape)
