# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Mask sets as flags, DQ extensions and regions of DS9."""

import os
from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy import ndimage

from ccdcr.exposures.exposure_files import find_image
from ccdcr.exposures.exposure_flags import FLAG_NAMES
from ccdcr.utils.files import atomic_path, check_output, write_hdulist
from ccdcr.utils.neighbours import label_groups

__all__ = [
    "HIT_FLAGS",
    "list_boxes",
    "make_flags",
    "only_hits",
    "write_dq",
    "write_ds9",
]

# Value of a cosmic ray by convention. JWST ignores an OUTLIER that may be used.
HIT_FLAGS = {
    "hst": FLAG_NAMES["hst"]["CRREJ"],
    "astrodrizzle": FLAG_NAMES["hst"]["CRDRIZ"],
    "jwst": FLAG_NAMES["jwst"]["OUTLIER"] | FLAG_NAMES["jwst"]["DO_NOT_USE"],
    "gemini": FLAG_NAMES["gemini"]["COSMIC_RAY"],
    "pypeit": FLAG_NAMES["pypeit"]["CR"],
}
_LARGEST = 1 << 30


def only_hits(masks):
    """Return the masks of exposures (n, ny, nx) without low values."""
    return masks.crmasks if masks.low is None else masks.crmasks & ~masks.low


def make_flags(masks, convention):
    """Return the flags of each exposure of a mask set, (n, ny, nx)."""
    if convention == "ccdcr":
        return _our_flags(masks)
    value = _hit_value(convention)
    dtype = next(t for t in (np.uint8, np.int16, np.int32) if value <= np.iinfo(t).max)
    return masks.crmasks * dtype(value)


def _hit_value(convention):
    if isinstance(convention, str) and convention in HIT_FLAGS:
        return HIT_FLAGS[convention]
    is_number = isinstance(convention, (int, np.integer))
    if is_number and not isinstance(convention, bool) and 0 < convention <= _LARGEST:
        return int(convention)
    known = ", ".join(["ccdcr", *HIT_FLAGS])
    msg = f"convention must be one of {known} or a number > 0, got {convention!r}"
    raise ValueError(msg)


def _our_flags(masks):
    """Return the flags by the names of ccdcr; 0 where an exposure is not masked."""
    n, names = len(masks), FLAG_NAMES["ccdcr"]
    low = np.zeros_like(masks.crmasks) if masks.low is None else masks.low
    hit = only_hits(masks)
    number = hit.sum(axis=0)
    planes = {
        "COSMIC": hit,
        "COINCIDENT": hit & (number >= n / 2),
        "EXPECTED": _pixels_of(masks.expected, hit.shape),
        "LOW": low,
        "USER": hit & _pixels_of_user(masks),
        "ALL_HIT": hit & (number == n),
    }
    flags = np.zeros(hit.shape, np.uint8)
    for name, plane in planes.items():
        flags |= plane * np.uint8(names[name])
    return flags


def _pixels_of(table, shape):
    """Return where (n, ny, nx) a table with EXPOSURE, X, Y has rows."""
    found = np.zeros(shape, bool)
    if table is not None:
        index = (np.asarray(table[name]) - 1 for name in ("EXPOSURE", "Y", "X"))
        found[tuple(index)] = True
    return found


def _pixels_of_user(masks):
    """Return where (ny, nx) the requirements flag pixels."""
    found = np.zeros(masks.shape, bool)
    pixels = masks.requirements and masks.requirements.pixels_to_be_flagged_as_cr
    for x, y in pixels or ():
        if y <= found.shape[0] and x <= found.shape[1]:
            found[y - 1, x - 1] = True
    return found


def write_dq(flags, paths, folder, *, extension, overwrite):
    """Write copies of files with flags (ny, nx) added to their DQ; return the paths."""
    folder = Path(folder)
    targets = [folder / Path(path).name for path in paths]
    if len(set(targets)) < len(targets):
        msg = "the exposures must have different names"
        raise ValueError(msg)
    folder.mkdir(parents=True, exist_ok=True)
    for target in targets:
        check_output(target, overwrite=overwrite, inputs=paths)
    for path, target, plane in zip(paths, targets, flags, strict=True):
        with fits.open(os.fspath(path), memmap=False) as hdus:
            number = find_image(hdus, extension, path)
            _add_dq(hdus, hdus[number].ver if number else 1, plane, path)
            write_hdulist(hdus, target, overwrite=overwrite)
    return targets


def _add_dq(hdus, version, plane, path):
    """Add flags to the DQ extension of a version, or a new one."""
    if ("DQ", version) not in hdus:
        hdus.append(fits.ImageHDU(plane, name="DQ", ver=version))
        return
    hdu = hdus["DQ", version]
    known = hdu.data
    if known is None or known.dtype.kind not in "iu" or known.shape != plane.shape:
        found = None if known is None else (known.dtype.name, known.shape)
        msg = f"DQ of {path} must be integers of shape {plane.shape}, got {found}"
        raise ValueError(msg)
    dtype = np.promote_types(known.dtype, plane.dtype).newbyteorder("=")
    hdu.data = known.astype(dtype) | plane.astype(dtype)


def list_boxes(mask):
    """Return boxes (x, y, width, height) of the groups of a mask, in FITS pixels."""
    labels, _ = label_groups(mask)
    boxes = []
    for rows, columns in ndimage.find_objects(labels):
        width, height = columns.stop - columns.start, rows.stop - rows.start
        x, y = columns.start + (width + 1) / 2, rows.start + (height + 1) / 2
        boxes.append((x, y, width, height))
    return boxes


def write_ds9(boxes, path, *, title, overwrite):
    """Write boxes to a file of DS9."""
    lines = ["# Region file format: DS9", f"# {title}", "image"]
    lines += [
        f"box({x:g},{y:g},{width},{height},0) # text={{{number}}}"
        for number, (x, y, width, height) in enumerate(boxes, start=1)
    ]
    check_output(path, overwrite=overwrite)
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
