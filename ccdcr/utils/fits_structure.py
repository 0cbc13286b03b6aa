# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Structure of FITS files: checks before reading, writing in parts, checksums."""

import bz2
import gzip
import io
import lzma
import math
import re
from pathlib import Path

import numpy as np

from ccdcr.utils.files import atomic_path, is_packed, unpack
from ccdcr.utils.neighbours import cut_bands

__all__ = ["check_file", "check_structure", "checksum", "ones_sum", "write_images"]

_BLOCK, _CARD = 2880, 80
_SIZES = re.compile(r"Z?NAXIS\d*|[PG]COUNT|TFIELDS|BITPIX")
_MOST = 999  # axes and columns, by the standard


def check_file(path, file=None):
    """Refuse a damaged exposure; it may be compressed. A missing file is ignored."""
    if file is None:
        if Path(path).is_file():
            with Path(path).open("rb") as file:  # noqa: PLR1704
                check_file(path, file)
        return
    if is_packed(file):
        with io.BytesIO() as unpacked:
            unpack(path, file, unpacked)
            check_file(path, unpacked)
        return
    try:
        check_structure(file)
    except ValueError as err:
        msg = f"{path} is damaged: {err}"
        raise ValueError(msg) from err


def check_structure(file):
    """Refuse an uncompressed FITS file whose headers claim impossible sizes."""
    length, start = file.seek(0, io.SEEK_END), 0
    if length == 0:
        msg = "the file has no content"
        raise ValueError(msg)
    while start < length:
        file.seek(start)
        header, size = _header(file)
        if header is None:
            if start == 0:
                msg = "it does not begin with the header of a FITS file"
                raise ValueError(msg)
            break
        start += size + -(-_data_size(header) // _BLOCK) * _BLOCK
        if start > length + _BLOCK:
            msg = f"a header claims data up to byte {start} of {length}"
            raise ValueError(msg)
    file.seek(0)


def _header(file):
    """Return the sizes that a header claims and its length; None if it is no header."""
    sizes, length = {}, 0
    while len(block := file.read(_BLOCK)) == _BLOCK:
        if length == 0 and block[:8].upper() not in {b"SIMPLE  ", b"XTENSION"}:
            break
        length += _BLOCK
        for place in range(0, _BLOCK, _CARD):
            card = block[place : place + _CARD].decode("latin-1")
            if card.rstrip() == "END":
                return sizes, length
            _note_size(sizes, card)
    return None, length


def _note_size(sizes, card):
    # In all spellings that some reader accepts.
    keyword, equals, text = card.partition("=")
    keyword = keyword.removeprefix("HIERARCH ").strip().upper()
    if keyword == "END":
        msg = f"the card END must hold nothing, got {text.strip()!r}"
        raise ValueError(msg)
    if not equals or not _SIZES.fullmatch(keyword):
        return
    if keyword in sizes:
        msg = f"{keyword} is given twice in one header"
        raise ValueError(msg)
    sizes[keyword] = _size(keyword, text)


def _size(keyword, text):
    text = text.partition("/")[0].strip()
    if not re.fullmatch(r"[+-]?\d{1,18}", text, flags=re.ASCII):
        msg = f"{keyword} must be an integer, got {text!r}"
        raise ValueError(msg)
    number = int(text)
    many = keyword in {"NAXIS", "ZNAXIS", "TFIELDS"} and number > _MOST
    if many or (number < 0 and keyword != "BITPIX"):
        msg = f"{keyword} must be a possible number, got {number}"
        raise ValueError(msg)
    return number


def _data_size(sizes):
    number = sizes.get("NAXIS", 0)
    axes = [sizes.get(f"NAXIS{i}", 0) for i in range(1, number + 1)]
    pixels = math.prod(axes) if axes else 0
    values = sizes.get("GCOUNT", 1) * (sizes.get("PCOUNT", 0) + pixels)
    return values * abs(sizes.get("BITPIX", 8)) // 8


_BAND = 1 << 18  # pixels that are written at once
_OPENERS = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_PUNCTUATION = {*range(0x3A, 0x41), *range(0x5B, 0x61)}


def write_images(path, images, *, overwrite, remedy):
    """Write pairs of header and image to a FITS file, whole or not at all."""
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
    """Yield the bytes of an image (ny, nx) in the byte order of FITS."""
    dtype = np.dtype(np.uint8 if image.dtype == bool else image.dtype)
    height = max(_BAND // image.shape[1] // 4, 1) * 4  # whole words of a checksum
    for rows in cut_bands(image.shape, height * image.shape[1]):
        yield image[rows].astype(dtype.newbyteorder(">")).tobytes()


def _with_checksum(header, datasum):
    header = header.copy()
    header["CHECKSUM"] = ("0" * 16, "HDU checksum")
    header["DATASUM"] = (str(datasum), "data unit checksum")
    total = ones_sum(header.tostring().encode("ascii"), datasum)
    header["CHECKSUM"] = checksum(total)
    return header.tostring().encode("ascii")


def ones_sum(content, total=0):
    """Return ``total`` plus the ones' complement sum of the 32-bit words of bytes."""
    words = np.frombuffer(content + bytes(-len(content) % 4), dtype=">u4")
    total += int(words.sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def checksum(total):
    """
    Return the CHECKSUM text for an extension whose sum with 16 zeros is ``total``.

    References: FITS Standard 4.0, appendix J.
    """
    columns = [_four_letters(byte) for byte in (~total & 0xFFFFFFFF).to_bytes(4, "big")]
    letters = [column[k] for k in range(4) for column in columns]
    return bytes(letters[-1:] + letters[:-1]).decode("ascii")


def _four_letters(byte):
    """Return four letters or digits that add up to ``byte`` plus four zeros."""
    quarter, rest = divmod(byte, 4)
    letters = [quarter + rest + 0x30, *[quarter + 0x30] * 3]
    while _PUNCTUATION & set(letters):
        for k in (0, 2):
            if _PUNCTUATION & set(letters[k : k + 2]):
                letters[k] += 1
                letters[k + 1] -= 1
    return letters
