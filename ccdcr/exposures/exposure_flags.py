# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Flags of exposures: images of bits, which of them mean bad, and their union."""

from copy import copy, deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.nddata import CCDData, FlagCollection
from astropy.nddata.bitmask import extend_bit_flag_map, interpret_bit_flags

from ccdcr.exceptions import ForeignMasksWarning, short_repr, warn_user
from ccdcr.utils.neighbours import cut_bands

__all__ = [
    "BAD_FLAGS",
    "CLEANED",
    "FLAG_NAMES",
    "bad_bits",
    "flag_hdus",
    "map_planes",
    "mask_as_recorded",
    "mask_flagged",
    "replaced_plane",
    "union_of_flags",
    "with_replaced",
]

BAD_FLAGS = "BADFLAGS"  # keyword of the bits that mean bad, in meta of mask sets
_REPLACED = "replaced"
CLEANED = "CRCLEAN"  # keyword of cleaned exposures: UUID of the masks, and number

_PYPEIT = "BPM,CR,SATURATION,MINCOUNTS,OFFSLITS,IS_NAN,IVAR0,IVAR_NAN,EXTRACT"
_GEMINI = "BAD_PIXEL,NON_LINEAR,SATURATED,COSMIC_RAY,NO_DATA,OVERLAP,UNILLUMINATED"
_OURS = "COSMIC,COINCIDENT,EXPECTED,LOW,USER,ALL_HIT"
_JWST = "DO_NOT_USE,SATURATED,JUMP_DET,DROPOUT,OUTLIER"
_HST = {"BADPIX": 4, "HOT": 16, "WARM": 64, "SATURATED": 256, "ATODSAT": 2048}


def _numbered(names):
    return {name: 1 << bit for bit, name in enumerate(names.split(","))}


# Names of bits by convention; those of HST are the ones of ACS.
FLAG_NAMES = {
    "ccdcr": _numbered(_OURS),
    "hst": {**_HST, "CRDRIZ": 4096, "CRREJ": 8192},
    "jwst": _numbered(_JWST),
    "gemini": _numbered(_GEMINI),
    "pypeit": _numbered(_PYPEIT),
}


def bad_bits(ignore_flags, flag_name_map=None):
    """Return the bits that mean bad as an integer (-1 = all), None if none does."""
    names = flag_name_map
    if isinstance(flag_name_map, str):
        if flag_name_map.lower() not in FLAG_NAMES:
            known = ", ".join(FLAG_NAMES)
            msg = f"flag_name_map must be one of {known} or a BitFlagNameMap, got "
            raise ValueError(msg + repr(flag_name_map))
        names = extend_bit_flag_map("Flags", **FLAG_NAMES[flag_name_map.lower()])
    try:
        ignored = interpret_bit_flags(ignore_flags, flag_name_map=names)
    except (AttributeError, KeyError, TypeError, ValueError) as err:
        msg = (
            "ignore_flags must be None, an integer, or names or numbers of bits as for "
            f"astropy.nddata.bitmask, got {short_repr(ignore_flags)} ({err})"
        )
        raise ValueError(msg) from err
    return None if ignored is None else ~int(ignored)


def _is_bad(flags, bits):
    """Return where flags (ny, nx) have one of the bits."""
    if flags.dtype == bool:
        return flags if bits & 1 else np.zeros_like(flags)
    width = 8 * flags.dtype.itemsize
    wanted = np.array(bits % (1 << width), dtype=f"u{width // 8}")
    return (flags & wanted.astype(flags.dtype.newbyteorder("="))) != 0


@dataclass(frozen=True)
class _FlaggedRows:
    """Rows of a mask, True where it is or where flags have bad bits."""

    mask: Any
    flags: Any
    bits: int
    dtype = np.dtype(bool)

    @property
    def shape(self):
        return self.flags.shape

    def __getitem__(self, rows):
        bad = _is_bad(np.asarray(self.flags[rows]), self.bits)
        return bad if self.mask is None else bad | np.asarray(self.mask[rows], bool)


def mask_flagged(exposure, bits, label):
    """Return an `Exposure` or CCDData, masked where flags have bad bits, too."""
    if not bits:
        return exposure
    flags = exposure.flags
    if flags is None or isinstance(flags, FlagCollection):
        what = "no flags" if flags is None else "a FlagCollection"
        msg = f"ignore_flags needs one image of flags, {label} has {what}"
        raise ValueError(msg)
    if flags.dtype.kind not in "iub" or tuple(flags.shape) != exposure.shape:
        msg = (
            f"flags of {label} must be integers of shape {exposure.shape}, got "
            f"{flags.dtype} of shape {tuple(flags.shape)}"
        )
        raise ValueError(msg)
    mask = exposure.mask
    mask = np.broadcast_to(mask, flags.shape) if np.isscalar(mask) else mask
    rows = _FlaggedRows(mask, flags, bits)
    if not isinstance(exposure, CCDData):
        return replace(exposure, mask=rows)
    masked = copy(exposure)
    masked.mask = rows[:]
    return masked


def with_replaced(flags, replaced):
    """
    Return flags (an array, a FlagCollection or None) with the replaced pixels (ny, nx).

    Their bit 1 is set, or that of a plane of its own in a collection.
    """
    if isinstance(flags, FlagCollection):
        flags = deepcopy(flags)
        flags[_REPLACED] = with_replaced(flags.get(_REPLACED), replaced)
        return flags
    if flags is None:
        return replaced.astype(np.uint8)
    if flags.dtype.kind not in "iub":
        msg = f"flags must be integers, got {flags.dtype}; convert them first"
        raise ValueError(msg)
    return flags | (replaced * flags.dtype.type(1))


def replaced_plane(flags):
    """Return the plane whose bit 1 is set in replaced pixels, None if not known."""
    return flags.get(_REPLACED) if isinstance(flags, FlagCollection) else flags


def mask_as_recorded(exposures, meta):
    """Return exposures masked by flags as ``meta`` of their masks records."""
    bits = meta.get(BAD_FLAGS)
    if not isinstance(bits, int) or isinstance(bits, bool) or bits == 0:
        return exposures
    labels = [f"exposure {i}" for i in range(1, len(exposures) + 1)]
    pairs = list(zip(exposures, labels, strict=True))
    if lacking := [n for e, n in pairs if e.flags is None and CLEANED not in e.meta]:
        msg = (
            f"the masks were made without the flagged pixels of {', '.join(lacking)}, "
            "whose flags are missing, so that bad pixels are used; keep the flags with "
            "the exposures, or combine with ignore_flags=-1"
        )
        warn_user(msg, ForeignMasksWarning)
    # Bit 1 of cleaned ones is that of replaced pixels.
    own = [bits & ~1 if CLEANED in e.meta else bits for e in exposures]
    return [
        e if e.flags is None else mask_flagged(e, each, name)
        for (e, name), each in zip(pairs, own, strict=True)
    ]


def union_of_flags(exposures):
    """Return the union of the flags of exposures: (ny, nx), FlagCollection or None."""
    given = [e.flags for e in exposures if e.flags is not None]
    if not given:
        return None
    collections = [flags for flags in given if isinstance(flags, FlagCollection)]
    if collections:
        union = FlagCollection(shape=exposures[0].shape)
        for name in dict.fromkeys(name for flags in collections for name in flags):
            union[name] = _union([f[name] for f in collections if name in f])
        return union
    fitting = [f for f in given if tuple(f.shape) == exposures[0].shape]
    fitting = [f for f in fitting if f.dtype.kind in "iub"]
    return _union(fitting) if fitting else None


def _union(planes):
    """Return the union of planes of bits (ny, nx), which may be in files."""
    dtype = np.result_type(*(plane.dtype for plane in planes)).newbyteorder("=")
    union = np.zeros(planes[0].shape, dtype)
    for rows in cut_bands(union.shape):
        for plane in planes:
            union[rows] |= np.asarray(plane[rows], dtype=dtype)
    return union


def map_planes(function, flags):
    """Return ``function(flags)``, or a FlagCollection of that of each plane."""
    if not isinstance(flags, FlagCollection):
        return function(flags)
    planes = {name: function(plane) for name, plane in flags.items()}
    collection = FlagCollection(shape=function(np.empty(flags.shape, bool)).shape)
    collection.update(planes)
    return collection


def flag_hdus(flags):
    """Return the FITS extensions of flags (an array, a FlagCollection or None)."""
    if flags is None:
        return []
    if isinstance(flags, FlagCollection):
        named = {f"FLAGS_{name}": plane for name, plane in flags.items()}
    else:
        named = {"FLAGS": flags}
    return [fits.ImageHDU(_signed(plane), name=name) for name, plane in named.items()]


def _signed(plane):
    """Return flags as a type that FITS has without scaling."""
    plane = np.asarray(plane)
    if plane.dtype == bool:
        return plane.astype(np.uint8)
    if plane.dtype.kind != "u" or plane.dtype.itemsize == 1:
        return plane
    return plane.astype(f"i{min(2 * plane.dtype.itemsize, 8)}")
