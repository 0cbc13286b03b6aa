# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The sizes that a FITS file claims, checked before anything is allocated."""

import io
import math
import re
from pathlib import Path

from ccdcr._files import is_packed, unpack

__all__ = ["check_file", "check_structure"]

_BLOCK, _CARD = 2880, 80
_SIZES = re.compile(r"Z?NAXIS\d*|[PG]COUNT|TFIELDS|BITPIX")
_MOST = 999  # axes and columns, by the standard


def check_file(path, file=None):
    """
    Refuse a damaged exposure, or one whose headers claim impossible sizes.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        The file, which may be compressed; one that does not exist is left to its
        reader.
    file : file object, optional
        The same, if it is open.

    Raises
    ------
    ValueError
        As by `check_structure`, or if a compressed file is damaged.
    """
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
    """
    Refuse a FITS file whose headers claim impossible sizes.

    Parameters
    ----------
    file : file object
        The file, not compressed.

    Raises
    ------
    ValueError
        If the file does not begin with a header, if a size is no number, is
        negative or given twice, or if there are more data than the file holds.

    Notes
    -----
    A reader would go through a thousand million axes that a damaged header
    claims, or back and forth in the file for ever.
    """
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
    """Return the sizes that a header claims, and its own; None if it is none."""
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
    # In all the ways in which readers understand a card.
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
