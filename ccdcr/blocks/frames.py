# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The exposures of a block: where they are, and what their headers say."""

import glob
import os
from pathlib import Path

from astropy import log
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData

from ccdcr.maskfile.structure import check_file

__all__ = [
    "GAIN_KEYWORDS",
    "READNOISE_KEYWORDS",
    "find_detector_keywords",
    "find_frames",
    "folders_of",
    "read_exposure",
]

# Tried in this order where neither the block nor the caller gives a value.
GAIN_KEYWORDS = ("GAIN", "EGAIN")
READNOISE_KEYWORDS = ("RDNOISE", "READNOIS", "RON", "ENOISE")
_STRUCTURE = {"SIMPLE", "EXTEND", "NEXTEND", "CHECKSUM", "DATASUM"}


def folders_of(block, datadir):
    """
    Return the folders where the files of a block are looked for.

    Parameters
    ----------
    block : `~ccdcr.ObservingBlock`
        The block.
    datadir : `~pathlib.Path` or None
        The folder of the data; None is ``data`` beside the YAML file.

    Returns
    -------
    folders : list of `~pathlib.Path`
        Absolute paths in the order of the search.
    """
    base = (Path() if block.path is None else block.path.parent).absolute()
    data = base / "data" if datadir is None else Path(datadir).absolute()
    return [data, base]


def find_frames(block, datadir):
    """
    Return the files of the exposures of a block.

    Parameters
    ----------
    block : `~ccdcr.ObservingBlock`
        The block; its names may hold the wildcards ``*``, ``?`` and ``[]``.
    datadir : `~pathlib.Path` or None
        As for `folders_of`.

    Returns
    -------
    paths : tuple of `~pathlib.Path`
        Absolute paths.
    """
    folders = folders_of(block, datadir)
    paths = [path for name in block.frames for path in _matches(name, folders)]
    seen = set()
    for path in paths:
        if path.resolve() in seen:
            msg = f"frames must be different files, {path} is named twice"
            raise ValueError(msg)
        seen.add(path.resolve())
    return tuple(paths)


def _matches(name, folders):
    for folder in folders:
        path = Path(os.path.normpath(folder / name))
        if path.is_file():
            return [path]
        if glob.has_magic(name):
            pattern = name if Path(name).is_absolute() else _inside(folder, name)
            if found := sorted(filter(os.path.isfile, glob.glob(pattern))):  # noqa: PTH207
                return [Path(os.path.normpath(path)) for path in found]
    where = "" if Path(name).is_absolute() else f" in {', '.join(map(str, folders))}"
    msg = f"the frame {name} does not exist{where}"
    raise FileNotFoundError(msg)


def _inside(folder, name):
    return str(Path(glob.escape(str(folder))) / name)


def read_exposure(path, *, extension=None, unit=None):
    """
    Read an exposure from the extension that holds it.

    Parameters
    ----------
    path : `~pathlib.Path`
        The FITS file, which may be compressed (``.gz``, ``.fz``).
    extension : int or str, optional
        Number or name of the extension. Default, and for number 0 without an
        image, is the first one with an image.
    unit : str or `~astropy.units.Unit`, optional
        The unit. Default is the keyword BUNIT, or adu without it.

    Returns
    -------
    ccd : `~astropy.nddata.CCDData`
        The exposure; keywords of the primary header are added to its header.
    """
    check_file(path)
    try:
        with fits.open(path) as hdulist:
            number = _extension(hdulist, extension)
            primary = hdulist[0].header.copy()
            unit = _unit(hdulist[number].header, primary) if unit is None else unit
        ccd = CCDData.read(path, hdu=number, unit=unit)
    except (OSError, TypeError, ValueError) as err:
        msg = f"{path}: {err}"
        raise ValueError(msg) from err
    if number > 0:
        for keyword in _STRUCTURE:
            primary.remove(keyword, ignore_missing=True)
        ccd.header.extend(primary, unique=True, strip=True)
    return ccd


def _unit(header, primary):
    """Return the unit where astropy would not find one, or None."""
    if str(header.get("BUNIT", "")).strip():
        return None
    unit = str(primary.get("BUNIT", "")).strip()
    return u.adu if unit.lower() in {"", "adu"} else unit


def _extension(hdulist, extension):
    """Return the number of the extension with the image."""
    if extension is None or (extension == 0 and not _is_image(hdulist[0])):
        for number, hdu in enumerate(hdulist):
            if _is_image(hdu):
                return number
        msg = "the file holds no image"
        raise ValueError(msg)
    try:
        number = hdulist.index_of(extension)
        hdu = hdulist[number]
    except (KeyError, IndexError) as err:
        names = ", ".join(f"{i} {hdu.name}" for i, hdu in enumerate(hdulist))
        msg = f"the file has no extension {extension!r}; it has {names}"
        raise ValueError(msg) from err
    if not _is_image(hdu):
        msg = f"extension {extension!r} holds no image"
        raise ValueError(msg)
    return number


def _is_image(hdu):
    return hdu.is_image and len(hdu.shape) > 0


def find_detector_keywords(ccds, *, gain, readnoise):
    """
    Name header keywords for detector parameters that are not given.

    Parameters
    ----------
    ccds : list of `~astropy.nddata.CCDData`
        The exposures.
    gain, readnoise : object or None
        What is given; it is returned as it is.

    Returns
    -------
    found : dict
        ``gain`` and ``readnoise``, None where no keyword is known.
    """
    if gain is None and ccds[0].unit != u.electron:
        gain = _keyword(ccds, "gain", GAIN_KEYWORDS)
    if readnoise is None:
        readnoise = _keyword(ccds, "readnoise", READNOISE_KEYWORDS)
    return {"gain": gain, "readnoise": readnoise}


def _keyword(ccds, name, keywords):
    for keyword in keywords:
        if all(keyword in ccd.header for ccd in ccds):
            value = ccds[0].header[keyword]
            log.info(f"{name} is {value}, from the header keyword {keyword}")
            return keyword
    return None
