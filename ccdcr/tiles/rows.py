# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Images in files of which some rows are in memory at a time."""

import os
import tempfile
import weakref

import numpy as np
from astropy.io import fits

from ccdcr._files import is_packed, unpack

__all__ = ["Mapped", "Scratch", "Sections", "opened", "rows_of"]

_BLOCK = 1 << 22  # bytes that are copied at once


class Mapped:
    """
    An array in a file, of which rows are mapped when they are asked for.

    Pages of a mapping count as memory until it is closed, so that each request
    has a mapping of its own.
    """

    mode = "r"

    def __init__(self, file, dtype, shape, offset=0):
        self.dtype, self.shape = np.dtype(dtype), tuple(shape)
        self._file, self._offset = file, offset

    def __getitem__(self, rows):
        start, stop, _ = rows.indices(self.shape[0])
        shape = (stop - start, *self.shape[1:])
        row = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        offset = self._offset + start * row
        return np.memmap(self._file, self.dtype, self.mode, offset, shape)


class Scratch(Mapped):
    """An array in a temporary file that is gone with it."""

    mode = "r+"

    def __init__(self, shape, dtype, folder=None):
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        super().__init__(file, dtype, shape)
        weakref.finalize(self, file.close)
        size = int(np.prod(shape)) * self.dtype.itemsize
        _reserve(file, size, folder or tempfile.gettempdir())

    def __setitem__(self, rows, values):
        self[rows][...] = values

    def whole(self):
        """Return the array itself; what is not used is not in memory."""
        return self[:].view(np.ndarray)


class Sections:
    """An image of a FITS file, of which rows are read and scaled."""

    def __init__(self, hdu):
        self._hdu, self.shape = hdu, hdu.shape
        self.dtype = np.asarray(hdu.section[:1]).dtype

    def __getitem__(self, rows):
        return np.asarray(self._hdu.section[rows])


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


def opened(stack, path, folder=None):
    """
    Open a file once; a compressed one is unpacked into a temporary file.

    Parameters
    ----------
    stack : `~contextlib.ExitStack`
        Closes the file.
    path : str or `~pathlib.Path`
        The file.
    folder : str or `~pathlib.Path`, optional
        Where the temporary file is.

    Returns
    -------
    file : file object
        The file that holds plain FITS.
    """
    file = stack.enter_context(path.open("rb"))
    if not is_packed(file):
        return file
    unpacked = stack.enter_context(
        tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
    )
    unpack(path, file, unpacked)
    # Astropy wants a file that is open for reading only.
    return stack.enter_context(os.fdopen(os.dup(unpacked.fileno()), "rb"))


def rows_of(hdu, file, folder=None, *, memmap=True):
    """
    Return the image of an extension, by rows.

    Parameters
    ----------
    hdu : `~astropy.io.fits.ImageHDU`
        The extension, opened without memory mapping.
    file : file object
        Its file.
    folder : str or `~pathlib.Path`, optional
        Where a compressed image is unpacked.
    memmap : bool, optional
        Whether the file may be mapped. Default is True.

    Returns
    -------
    image : `Mapped` or `Sections`
        The image; ``image[rows]`` is an array.
    """
    if isinstance(hdu, fits.CompImageHDU):
        return _unpacked(hdu, folder)
    header = hdu.header
    scaled = (header.get("BSCALE", 1), header.get("BZERO", 0)) != (1, 0)
    if scaled or "BLANK" in header or not memmap:
        return Sections(hdu)
    bitpix = header["BITPIX"]
    kind = "f" if bitpix < 0 else "u" if bitpix == 8 else "i"
    dtype = f">{kind}{abs(bitpix) // 8}"
    return Mapped(file, dtype, hdu.shape, hdu.fileinfo()["datLoc"])


def _unpacked(hdu, folder):
    image = Sections(hdu)
    scratch = Scratch(image.shape, image.dtype.newbyteorder("="), folder)
    # Whole compression tiles, so that none is unpacked twice.
    tile = hdu.tile_shape[0]
    row = int(np.prod(image.shape[1:])) * image.dtype.itemsize
    height = max(_BLOCK // (row * tile), 1) * tile
    for start in range(0, image.shape[0], height):
        rows = slice(start, min(start + height, image.shape[0]))
        scratch[rows] = image[rows]
    return scratch
