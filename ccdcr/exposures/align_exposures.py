# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Alignment of dithered exposures by whole pixels."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
from numbers import Real
from threading import Lock
from types import MappingProxyType

import numpy as np
from astropy.nddata import CCDData
from astropy.wcs import Sip

from ccdcr.exposures.exposure_files import PaddedRows
from ccdcr.exposures.exposure_flags import map_planes
from ccdcr.exposures.open_exposures import (
    Exposure,
    keep_names,
    list_exposures,
    list_labels,
    open_exposures,
)
from ccdcr.exposures.registration import measure_registration
from ccdcr.utils.scratch import ScratchSpace

__all__ = [
    "align_exposures",
    "alignment_cards",
    "check_offsets",
    "find_places",
    "read_alignment",
    "take_part",
    "without_alignment",
]

_WAYS = ("measure", "wcs", "wcs+measure")
_LEAST_OVERLAP = 0.2  # of the pixels of an exposure
_MOST_TURN, _MOST_ERROR = 0.5, 0.25  # pixels
_PLACE = ("ALIGNX", "ALIGNY")  # pixels of the union before the first of an exposure
_SIZE = ("ALIGNNX", "ALIGNNY")  # size of an exposure before it was aligned
_ADVICE = (
    "whole pixels cannot align it; detect in exposures of one orientation and scale "
    "(interpolation would correlate the noise and smear hits), then reproject them"
)


def align_exposures(ccds, offsets="measure", *, axes="xy", extension=None, unit=None):
    """
    Align dithered exposures by whole pixels.

    Each exposure is put on the smallest grid that contains all of them, without
    interpolation, so that noise stays uncorrelated and hits stay sharp.
    ``crmethod="matched"`` corrects the remaining fraction of a pixel.

    Parameters
    ----------
    ccds : iterable of `~astropy.nddata.CCDData`, str or `~pathlib.Path`
        Two or more exposures or their files, all of one shape (ny, nx) and unit.
    offsets : {'measure', 'wcs', 'wcs+measure'} or sequence of (dx, dy), optional
        Position of the scene in each exposure relative to the first, in pixels along x
        and y: measured in the images (the default; hits, hot pixels and bad columns do
        not matter), taken from the WCS, taken from the WCS and then measured (for
        offsets of more than half an image, or a WCS that is wrong by some tens of
        pixels), or given.
    axes : {'xy', 'x', 'y'}, optional
        Axes along which exposures are moved, such as ``'y'`` for a target that is
        nodded along a slit. Default is both. ``"measure y"`` is short for
        ``offsets="measure", axes="y"``, as in a YAML file. Given offsets must be equal
        along the other axis.
    extension, unit : optional
        As for `~ccdcr.detect_cosmic_rays`.

    Returns
    -------
    aligned : list of `~astropy.nddata.CCDData`
        New exposures of one larger shape. Pixels that an exposure does not cover are
        masked (True = bad). Mask, uncertainty, flags and WCS are moved, too. The header
        keywords ALIGNX and ALIGNY are the numbers of columns and rows before the first
        pixel of the exposure, ALIGNNX and ALIGNNY its size. Masks of these exposures
        record them, so that `~ccdcr.CRMaskSet.apply_to` and `~ccdcr.CRMaskSet.clean`
        also accept the original exposures. Data and masks are read and padded when they
        are first used: until then, what changes the originals in place, or their files,
        changes them, too.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not allowed, or if an exposure is rotated or scaled by more
        than half a pixel, overlaps too little with all others or has too little
        structure to be measured.

    Examples
    --------
    >>> from ccdcr import align_exposures
    >>> from ccdcr.simulation import simulate_exposures
    >>> sim = simulate_exposures(
    ...     (150, 160), scene="stars", shift=[(0, 0), (5, -3), (-4, 6)], seed=2
    ... )
    >>> aligned = align_exposures(sim.exposures)
    >>> [(ccd.header["ALIGNX"], ccd.header["ALIGNY"]) for ccd in aligned]
    [(5, 6), (0, 9), (9, 0)]
    >>> aligned[0].shape
    (159, 169)
    """
    offsets, axes = _find_way(offsets, axes)
    items, names = list_exposures(ccds, minimum=2)
    labels = list_labels(names)
    options = {"extension": extension, "unit": unit, "allowed": ("numpy",)}
    with open_exposures(items, **options) as opened:
        exposures = [exposure.lasting() for exposure in opened]
    if not isinstance(offsets, str):
        shifts = _given(offsets, len(exposures))
        _check_along(shifts, axes)
    elif offsets == "measure":
        shifts = _measured(exposures, labels, axes)
    else:
        shifts = _from_wcs(exposures, labels, offsets)
        if offsets == "wcs+measure":
            near = _places(shifts)
            rough = map(Exposure.from_ccd, _on_union(exposures, near))
            shifts = _measured(list(rough), labels, axes) - (near - near[0])
    shifts = shifts * [axis in axes for axis in "xy"]
    places = _places(shifts)
    _check_overlap(places, exposures[0].shape, labels)
    ScratchSpace.trim()  # after the measurement, before a detection
    aligned = _on_union(exposures, places)
    keep_names(aligned, names)
    return aligned


def check_offsets(align, n):
    """Refuse what is no way to align n exposures."""
    offsets, _ = _find_way(align, "xy", "align")
    if not isinstance(offsets, str):
        _given(offsets, n, "align")


def _find_way(offsets, axes, name="offsets"):
    """Return offsets and axes, which may be one word; refuse those that are unknown."""
    way = offsets
    if isinstance(offsets, str) and offsets[-2:] in {" x", " y"}:
        way, axes = offsets[:-2].rstrip(), offsets[-1]
    if isinstance(way, str) and way not in _WAYS:
        msg = (
            f"{name} must be one of {', '.join(_WAYS)}, with x or y after it to align "
            "along one axis, or a list of [dx, dy], one for each exposure, got "
            f"{offsets!r}"
        )
        raise ValueError(msg)
    if axes not in ("xy", "x", "y"):
        msg = f"axes must be 'xy', 'x' or 'y', got {axes!r}"
        raise ValueError(msg)
    return way, axes


def _given(offsets, n, name="offsets"):
    """Return given offsets (n, 2)."""
    try:
        pairs = [tuple(map(_number, pair)) for pair in offsets]
    except TypeError:
        pairs = []
    if len(pairs) != n or not all(len(p) == 2 and np.isfinite(p).all() for p in pairs):
        msg = f"{name} must be {n} pairs [dx, dy], one per exposure, got {offsets!r}"
        raise ValueError(msg)
    return np.array(pairs)


def _check_along(shifts, axes):
    """Refuse given offsets (n, 2) along an axis that exposures are not moved along."""
    for axis, values in zip("xy", shifts.T, strict=True):
        if axis not in axes and np.ptp(values) > 0:
            msg = (
                f"offsets along {axis} must be equal with axes={axes!r}, got "
                f"{', '.join(f'{value:g}' for value in values)}; use axes='xy'"
            )
            raise ValueError(msg)


def _number(value):
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError
    return float(value)


@dataclass(frozen=True)
class _Planes:
    """Arrays (ny, nx) of exposures, each read when it is used."""

    exposures: list
    read: Callable

    def __len__(self):
        return len(self.exposures)

    def __getitem__(self, i):
        return self.read(self.exposures[i])


def _data(exposure):
    data = exposure.data[:]
    return np.asarray(data, data.dtype.newbyteorder("="))


def _bad(exposure):
    bad = ~np.isfinite(exposure.data[:])
    return bad if exposure.mask is None else bad | np.asarray(exposure.mask[:], bool)


def _measured(exposures, labels, axes):
    """Return the measured offsets (n, 2) relative to the first exposure."""
    planes = _Planes(exposures, _data), _Planes(exposures, _bad)
    found = measure_registration(*planes, refine=True)
    turns = found.corners - np.nan_to_num(found.offsets)[:, np.newaxis]
    _check_turn(turns, labels, found.errors[:, 1])
    sure = np.isfinite(found.offsets) & (found.errors[:, :1] < _MOST_ERROR)
    missing = [
        [axis for axis, known in zip("xy", row, strict=True) if not known]
        for row in sure | [axis not in axes for axis in "xy"]
    ]
    unknown = [
        f"{label} along {' and '.join(along)}"
        for label, along in zip(labels, missing, strict=True)
        if along
    ]
    if unknown:
        msg = (
            "offsets='measure' finds too little common structure or overlap for "
            f"{', '.join(unknown)}; give offsets as numbers, 'wcs' or 'wcs+measure', "
            "or 'measure y' to align along y only"
        )
        raise ValueError(msg)
    return np.nan_to_num(found.offsets)


def _check_turn(turns, labels, errors=0):
    """Refuse exposures whose corners (n, k, 2) are displaced by rotation or scale."""

    def distances(middle):
        return np.hypot(*np.moveaxis(turns - middle, -1, 0)).max(axis=1) - errors

    if distances(turns.mean(axis=0)).max() <= _MOST_TURN:
        return
    # Those that differ from most are named.
    turn = distances(np.median(turns, axis=0))
    turned = [
        f"{label} by {pixels:.2f} pixels at a corner"
        for label, pixels in zip(labels, turn, strict=True)
        if pixels >= min(_MOST_TURN, turn.max())
    ]
    msg = f"exposures must not be rotated or scaled, {', '.join(turned)}: {_ADVICE}"
    raise ValueError(msg)


def _from_wcs(exposures, labels, offsets):
    """Return the offsets (n, 2) of the centre by the WCS of each exposure."""
    missing = [
        label
        for label, exposure in zip(labels, exposures, strict=True)
        if exposure.wcs is None or not exposure.wcs.has_celestial
    ]
    if missing:
        msg = (
            f"offsets={offsets!r} needs a celestial WCS, missing in "
            f"{', '.join(missing)}; use offsets='measure', or give them as numbers"
        )
        raise ValueError(msg)
    ny, nx = exposures[0].shape
    x, y = (a.ravel() for a in np.meshgrid([0, nx / 2, nx], [0, ny / 2, ny]))
    every = [exposure.wcs.celestial for exposure in exposures]
    sky = every[0].pixel_to_world(x, y)
    moved = np.array([wcs.world_to_pixel(sky) for wcs in every])
    moved -= moved[0]
    shifts = np.median(moved, axis=-1)
    _check_turn(np.moveaxis(moved - shifts[..., np.newaxis], 1, -1), labels)
    return shifts


def _places(shifts):
    """Return the first pixels (n, 2), x and y, on the union, so that little is left."""
    best, least = None, np.inf
    for phase in np.linspace(-0.5, 0.5, 21)[:-1]:
        whole = np.rint(shifts + phase)
        left = np.ptp(shifts - whole, axis=0)
        if best is None:
            best, least = whole, left
        best = np.where(left < least - 1e-9, whole, best)
        least = np.minimum(left, least)
    return (best.max(axis=0) - best).astype(int)


def _check_overlap(places, shape, labels):
    ny, nx = shape
    for i, label in enumerate(labels):
        dx, dy = np.abs(np.delete(places, i, axis=0) - places[i]).T
        overlap = np.maximum(1 - dx / nx, 0) * np.maximum(1 - dy / ny, 0)
        if overlap.max() < _LEAST_OVERLAP:
            msg = (
                f"exposures must overlap by {_LEAST_OVERLAP:.0%} of their pixels, "
                f"{label} does by {overlap.max():.0%} at most; leave it out"
            )
            raise ValueError(msg)


def _on_union(exposures, places):
    ny, nx = exposures[0].shape
    width, height = np.add(places.max(axis=0), (nx, ny))
    shape = int(height), int(width)
    pairs = zip(exposures, places.tolist(), strict=True)
    return [_moved(exposure, place, shape) for exposure, place in pairs]


_PADDING = Lock()


def _made_when_used(name):
    """Return a property of CCDData whose array is padded when it is first used."""
    plain = getattr(CCDData, name)

    def get(self):
        if name in self.padded:
            with _PADDING:  # in one thread, and completely before it counts as done
                if name in self.padded:
                    setattr(self, f"_{name}", self.padded[name][:])
                    del self.padded[name]
        return plain.fget(self)

    def put(self, value):
        plain.fset(self, value)
        if name in self.padded:
            del self.padded[name]

    return property(get, put, doc=plain.__doc__)


def _padded(rows, place, shape):
    return PaddedRows(rows, place, shape, np.nan if rows.dtype.kind == "f" else 0)


class AlignedCCD(CCDData):
    """
    An exposure on a larger grid, a CCDData.

    Its arrays are made when they are first used. `detect_cosmic_rays` and `combine`
    read it by rows, without a copy.
    """

    padded = MappingProxyType({})  # of each its own
    data = _made_when_used("data")
    mask = _made_when_used("mask")

    @property
    def shape(self):
        """Shape (ny, nx)."""
        return self.padded["data"].shape if "data" in self.padded else self.data.shape

    def __copy__(self):
        copied = type(self).__new__(type(self))
        vars(copied).update(vars(self), padded=dict(self.padded))
        return copied

    @classmethod
    def from_exposure(cls, exposure, place, shape, **new):
        """Return a CCDData whose first pixel is at a place x, y of a grid (ny, nx)."""
        data = _padded(exposure.data, place, shape)
        aligned = cls(np.broadcast_to(data.dtype.type(0), shape), **new)
        mask = exposure.mask
        if mask is None:
            mask = np.broadcast_to(np.False_, exposure.shape)
        mask = PaddedRows(mask, place, shape, fill=True, dtype=bool)
        aligned.padded = {"data": data, "mask": mask}
        return aligned


def _moved(exposure, place, shape):
    """Return a CCDData on a grid (ny, nx) where its first pixel is at a place x, y."""
    (x, y), (ny, nx) = place, exposure.shape
    header = exposure.meta.copy()
    for keyword, step in zip(("CRPIX1", "CRPIX2"), place, strict=True):
        if keyword in header:
            header[keyword] += step
    header.update(zip((*_PLACE, *_SIZE), (x, y, nx, ny), strict=True))
    new = {"unit": exposure.unit, "meta": header}
    new["wcs"] = None if exposure.wcs is None else _moved_wcs(exposure.wcs, place)
    moved = AlignedCCD.from_exposure(exposure, place, shape, **new)
    if exposure.sigma is not None:
        array = _padded(exposure.sigma, place, shape)[:]
        unit = exposure.sigma_unit
        moved.uncertainty = exposure.kind(array, unit=unit, copy=False)
    if getattr(exposure.flags, "shape", None) == exposure.shape:
        moved.flags = map_planes(
            lambda plane: _padded(plane, place, shape)[:], exposure.flags
        )
    return moved


def _moved_wcs(wcs, place):
    """Return the WCS of an image whose first pixel is at a place x, y."""
    wcs = deepcopy(wcs)
    wcs.wcs.crpix += place
    if wcs.sip is not None:
        sip = wcs.sip
        wcs.sip = Sip(sip.a, sip.b, sip.ap, sip.bp, sip.crpix + place)
    return wcs


def take_part(aligned, part, original):
    """Return the part of an aligned exposure that its original covers."""
    ccd = aligned[part]
    ccd.meta = original.meta.copy()
    if aligned.flags is not None:
        ccd.flags = map_planes(lambda plane: plane[part], aligned.flags)
    return ccd


def alignment_cards(headers):
    """Return the FITS cards of a mask set of aligned exposures, a dict; or empty."""
    if not headers or not all(key in h for h in headers for key in (*_PLACE, *_SIZE)):
        return {}
    cards = {key: int(headers[0][key]) for key in _SIZE}
    for i, header in enumerate(headers, start=1):
        cards |= {f"{key}{i}": int(header[key]) for key in _PLACE}
    return cards


def read_alignment(cards, n):
    """Return the places (n, 2) of exposures on the union, x and y, and their shape."""
    keys = [[f"{key}{i}" for key in _PLACE] for i in range(1, n + 1)]
    if not all(key in cards for key in (*_SIZE, *chain(*keys))):
        return None, None
    places = np.array([[cards[key] for key in row] for row in keys])
    return places, tuple(cards[key] for key in _SIZE[::-1])


def find_places(headers):
    """Return the places (n, 2) of aligned exposures on the union, None of others."""
    return read_alignment(alignment_cards(headers), len(headers))[0]


def without_alignment(cards):
    """Return cards without those of an alignment, which do not hold for a part."""
    ours = {*_PLACE, *_SIZE}
    return {k: v for k, v in cards.items() if k.rstrip("0123456789") not in ours}
