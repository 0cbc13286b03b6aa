# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Where the image of an exposure file is, and its unit: one rule for all readers."""

import re

from astropy import units as u
from astropy.nddata import CCDData

__all__ = ["find_image", "find_unit", "joined_header"]

# Names of extensions that are no image of the sky.
_NOT_DATA = re.compile(
    r"(CR)?MASK\w*|BPM|DQ\w*|FLAGS?\w*|UNCERT\w*|ERR\w*|VAR\w*|STD\w*|STDDEV|SIGMA"
    r"|I?VAR\w*|NOISE|WHT|WEIGHT\w*|NUSED|PSFIMAGE|EXPMAP|RNMAP|GAINMAP",
    re.IGNORECASE,
)
_STRUCTURE = {"SIMPLE", "EXTEND", "NEXTEND", "CHECKSUM", "DATASUM"}


def find_image(hdus, extension, path):
    """
    Return the number of the extension with the image.

    That is ``extension``, by number or name; if it is None (or 0 without an image),
    the primary image, else the only extension whose name is not that of a mask or an
    uncertainty.
    """
    if extension is None or (extension == 0 and not _is_image(hdus[0])):
        return _only_image(hdus, path)
    try:
        number = hdus.index_of(extension)
        hdu = hdus[number]
    except (KeyError, IndexError) as err:
        msg = f"{path} has no extension {extension!r}; it has {_listed(hdus)}"
        raise ValueError(msg) from err
    if not _is_image(hdu):
        msg = f"{path} has no image in extension {extension!r}; it has {_listed(hdus)}"
        raise ValueError(msg)
    return number


def _is_image(hdu):
    return hdu.is_image and len(hdu.shape) > 0


def _listed(hdus):
    return ", ".join(f"{number} {hdu.name}" for number, hdu in enumerate(hdus))


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
            "name one by extension= (--extension)"
        )
        raise ValueError(msg)
    return data[0]


def joined_header(hdus, number):
    """Return the header of an extension, with what only the primary header has."""
    header = hdus[number].header.copy()
    if number > 0:
        primary = hdus[0].header.copy()
        for keyword in _STRUCTURE:
            primary.remove(keyword, ignore_missing=True)
        header.extend(primary, unique=True, strip=True)
    return header


def find_unit(header, path, unit=None):
    """Return the unit that is given or that of BUNIT; None if there is neither."""
    if unit is not None:
        return u.Unit(unit)
    text = str(header.get("BUNIT", "")).strip()
    if not text:
        return None
    text = "adu" if text.lower() == "adu" else text
    text = CCDData.known_invalid_fits_unit_strings.get(text, text)
    try:
        return u.Unit(text)
    except ValueError as err:
        msg = f"{path} has BUNIT = {text!r}, which is not a unit; give unit= (--unit)"
        raise ValueError(msg) from err
