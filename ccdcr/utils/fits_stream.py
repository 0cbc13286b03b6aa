# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Writing FITS images that are never in memory as a whole."""

import bz2
import gzip
import lzma

import numpy as np

from ccdcr._files import atomic_path
from ccdcr.utils.row_bands import bands_of

__all__ = ["checksum", "ones_sum", "write_images"]

_BAND = 1 << 18  # pixels that are written at once
_BLOCK = 2880
_OPENERS = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_PUNCTUATION = {*range(0x3A, 0x41), *range(0x5B, 0x61)}


def write_images(path, images, *, overwrite, remedy):
    """
    Write images to a FITS file with checksums, whole or not at all.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        The file; it is compressed if its suffix says so.
    images : list of tuple
        Header and image of each extension, ``image[rows]`` is an array (ny, nx)
        of a type that FITS has, or of bool.
    overwrite : bool
        Whether an existing file may be replaced.
    remedy : str
        How the user allows it.
    """
    with atomic_path(path, overwrite=overwrite, remedy=remedy) as temporary:
        opener = _OPENERS.get(temporary.suffix, open)
        with opener(temporary, "wb") as file:
            for header, image in images:
                _write(file, header, image)


def _write(file, header, image):
    datasum, size = 0, 0
    for part in _parts(image):
        datasum = ones_sum(part, datasum)
        size += len(part)
    file.write(_with_checksum(header, datasum))
    for part in _parts(image):
        file.write(part)
    file.write(bytes(-size % _BLOCK))


def _parts(image):
    """Yield the bytes of an image in the order of FITS."""
    dtype = np.dtype(np.uint8 if image.dtype == bool else image.dtype)
    height = max(_BAND // image.shape[1] // 4, 1) * 4  # whole words of a checksum
    for rows in bands_of(image.shape, height * image.shape[1]):
        yield image[rows].astype(dtype.newbyteorder(">")).tobytes()


def _with_checksum(header, datasum):
    header = header.copy()
    header["CHECKSUM"] = ("0" * 16, "HDU checksum")
    header["DATASUM"] = (str(datasum), "data unit checksum")
    total = ones_sum(header.tostring().encode("ascii"), datasum)
    header["CHECKSUM"] = checksum(total)
    return header.tostring().encode("ascii")


def ones_sum(content, total=0):
    """
    Return the ones' complement sum of 32-bit words that FITS uses.

    Parameters
    ----------
    content : bytes
        The words; zeros are added to the last one.
    total : int, optional
        The sum of what is before them. Default is 0.

    Returns
    -------
    total : int
        The sum.
    """
    words = np.frombuffer(content + bytes(-len(content) % 4), dtype=">u4")
    total += int(words.sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def checksum(total):
    """
    Return the text that makes the sum of an extension zero.

    Parameters
    ----------
    total : int
        The sum of the extension with a CHECKSUM of 16 zeros.

    Returns
    -------
    text : str
        The value of CHECKSUM.

    References
    ----------
    .. [1] FITS Standard 4.0, appendix J, https://fits.gsfc.nasa.gov/fits_standard.html
    """
    columns = [_four_letters(byte) for byte in (~total & 0xFFFFFFFF).to_bytes(4, "big")]
    letters = [column[k] for k in range(4) for column in columns]
    return bytes(letters[-1:] + letters[:-1]).decode("ascii")


def _four_letters(byte):
    """Return four letters or digits that add up to a byte above four zeros."""
    quarter, rest = divmod(byte, 4)
    letters = [quarter + rest + 0x30, *[quarter + 0x30] * 3]
    while _PUNCTUATION & set(letters):
        for k in (0, 2):
            if _PUNCTUATION & set(letters[k : k + 2]):
                letters[k] += 1
                letters[k + 1] -= 1
    return letters
