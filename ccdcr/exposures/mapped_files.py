# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Images in files, of which some rows are in memory at a time."""

import os
import tempfile
import weakref
from pathlib import Path

import numpy as np
from astropy.io import fits

from ccdcr._files import is_packed, unpack

__all__ = [
    "FileRows",
    "Scratch",
    "SectionRows",
    "image_rows",
    "temporary_folder",
    "unpacked_path",
]

_BLOCK = 1 << 22  # bytes that are copied at once


class FileRows:
    """
    Rows of an array in a file; the file is open only while they are read.

    Rows are read and not mapped: each mapping would keep a descriptor.
    """

    def __init__(self, path, dtype, shape, offset=0):
        self.dtype, self.shape = np.dtype(dtype), tuple(shape)
        self._path, self._offset = path, offset

    def __getitem__(self, rows):
        start, stop, _ = rows.indices(self.shape[0])
        length = int(np.prod(self.shape[1:]))
        values = np.fromfile(
            self._path,
            self.dtype,
            max(stop - start, 0) * length,
            offset=self._offset + start * length * self.dtype.itemsize,
        )
        if values.size != max(stop - start, 0) * length:
            msg = f"{self._path} ends before its image does"
            raise OSError(msg)
        return values.reshape(-1, *self.shape[1:])


class SectionRows:
    """Rows of an image of a FITS file whose values must be scaled."""

    def __init__(self, path, number, hdu):
        self._path, self._number = path, number
        self.shape = hdu.shape
        self.dtype = np.asarray(hdu.section[:1]).dtype

    def __getitem__(self, rows):
        with fits.open(self._path, memmap=False) as hdus:
            return np.asarray(hdus[self._number].section[rows])


class Scratch:
    """An array in a temporary file that is gone with it; rows are mapped."""

    def __init__(self, shape, dtype, folder=None):
        self.dtype, self.shape = np.dtype(dtype), tuple(shape)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        size = int(np.prod(shape)) * self.dtype.itemsize
        _reserve(self._file, size, folder or tempfile.gettempdir())

    def __getitem__(self, rows):
        start, stop, _ = rows.indices(self.shape[0])
        row = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        # Pages of a mapping count as memory until it is closed: one for each request.
        shape = (stop - start, *self.shape[1:])
        return np.memmap(self._file, self.dtype, "r+", start * row, shape)

    def __setitem__(self, rows, values):
        self[rows][...] = values

    def whole(self):
        """Return the array itself; unused pages are not in memory."""
        return self[:].view(np.ndarray)


def _reserve(file, size, folder):
    """Make room now: that a full disk lacks it later would kill the process."""
    if not size or not hasattr(os, "posix_fallocate"):
        file.truncate(size)
        return
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as err:
        err.filename = f"{size} bytes for a temporary file in {folder}"
        raise


def temporary_folder(stack, folder):
    """Return a function that makes a temporary folder when it is first called."""
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
    """Return the rows of an extension of the plain file ``path``, opened as hdus."""
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
    """Return the rows of a compressed image, copied to a temporary file."""
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
