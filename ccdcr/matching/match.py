# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Matched detection in arrays, in the whole image or around one pixel."""

from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
from astropy.table import Table

from ccdcr.matching.clean_reference import (
    OF_LOW,
    REACH,
    clean_reference,
    expected_values,
    lower_middle,
    mean_reference,
    means_of_others,
)
from ccdcr.matching.correct import Scene, match, unmatched_dispersion
from ccdcr.matching.flag_pixels import (
    Limits,
    coincident_pixels,
    faint_groups,
    first_limit,
    first_masks,
    measure_leak,
    next_masks,
)
from ccdcr.matching.frames import find_structure
from ccdcr.matching.kernels import are_told, find_fitted, fit_kernels
from ccdcr.matching.low_values import find_low_values
from ccdcr.matching.match_tiles import Tiling, fit_tiles
from ccdcr.matching.mismatch import noise_levels, sampled_rows
from ccdcr.matching.terms import TermsFit, measure_terms
from ccdcr.utils.neighbours import (
    FOUR,
    bands_in_cache,
    groups_with_seed,
    in_seeded_groups,
    in_threads,
    label_pixels,
    median_of_nine,
    moved,
    running,
)
from ccdcr.utils.planes import fill_from_nearest
from ccdcr.utils.scratch import empty, in_turn, keep, zeros

__all__ = [
    "Decision",
    "Deviations",
    "Found",
    "Known",
    "Matched",
    "Options",
    "decide",
    "decision_at",
    "find_hits",
    "match_exposures",
    "match_masked",
    "surroundings",
]

_CELLS = 100, 115
_LOWEST, _HIGHEST = -8.0, 15.0  # sigma
_PART = 0.0005  # of the pixels beyond either end of the levels
_ENOUGH = 2_000_000  # pixels of all exposures
_SAMPLE = 4  # columns


@dataclass(frozen=True)
class Deviations:
    """
    Histogram of clean signal and deviation, of all exposures.

    ``counts`` is (levels, deviations) with the edges ``x`` and ``y``; ``number``
    (levels,) includes deviations beyond the edges. Every ``step``-th row was counted.
    """

    counts: np.ndarray
    x: np.ndarray
    y: np.ndarray
    number: np.ndarray
    step: int

    @classmethod
    def count(cls, level, z, step=1):
        """Count pixels by level (ny, nx) and z of every ``step``-th row."""
        counter = _Counter(level, step)
        counter.count(level[::step], z)
        return counter.deviations()


class _Counter:
    """Counter of `Deviations` of every ``step``-th row, band by band."""

    def __init__(self, level, step):
        self._level, self._step = level, step
        self._counts = np.zeros((_CELLS[0], _CELLS[1] + 2), dtype=np.intp)
        sample = level[::step, ::_SAMPLE]
        low, high = np.quantile(sample, [_PART, 1 - _PART])
        self._x = np.linspace(low, max(high, low + 1), _CELLS[0] + 1)
        self._y = np.linspace(_LOWEST, _HIGHEST, _CELLS[1] + 1)

    def add(self, rows, z):
        """Count those of deviations (n, rows, nx), in any order."""
        every = slice(-rows.start % self._step, None, self._step)
        self.count(self._level[rows][every], z[:, every])

    def count(self, level, z):
        """Count all pixels of levels (rows, nx) and z (n, rows, nx)."""
        nx, ny = _CELLS
        column = _cells(level, self._x)
        inside = (column >= 0) & (column < nx)
        for plane in z:
            known = inside & np.isfinite(plane)
            row = np.clip(_cells(plane[known], self._y), -1, ny) + 1
            cells = column[known] * (ny + 2) + row  # and what is beyond
            counts = np.bincount(cells, minlength=self._counts.size)
            self._counts += counts.reshape(self._counts.shape)

    def deviations(self):
        """Return the `Deviations` that were counted."""
        counts = self._counts
        known = self._x, self._y, counts.sum(axis=1), self._step
        return Deviations(counts[:, 1:-1], *known)


def _cells(values, edges):
    """Return the cell of each value between evenly spaced edges."""
    scale = (len(edges) - 1) / (edges[-1] - edges[0])
    places = (values - values.dtype.type(edges[0])) * values.dtype.type(scale)
    # Values far beyond must fit into an integer.
    return np.floor(np.clip(places, -1, len(edges))).astype(np.int32)


@dataclass(frozen=True)
class Options:
    """Options of matching, and limits of flagging."""

    passes: int = 2
    tile: int = 64
    strips: bool = True
    limits: Limits = field(default_factory=Limits)

    def choose(self, frames):
        """Return the frames that tell strips, None for no strips."""
        return frames if self.strips else None


@dataclass(frozen=True)
class Known:
    """
    Measurements in the whole image that a part of it is searched with.

    ``tile`` is the size of the tiles (ny, nx). ``terms`` (n, 5) of tiles without
    structure are by pass, ``dispersions`` before matching and after each pass, ``lows``
    the `LowPriors` of each search or None. ``kernels`` (n, k) are those of the whole
    image. ``leak`` is None before it is measured. ``curves`` are those of the noise and
    ``differ`` whether cores of structure were flagged, each time that it was measured.
    ``told`` is whether pixels that are clean in both of two exposures tell kernels.
    """

    tile: tuple
    terms: tuple
    dispersions: tuple
    lows: tuple
    kernels: np.ndarray
    leak: float | None = None
    curves: tuple = ()
    differ: tuple = ()
    told: bool = False


@dataclass(frozen=True)
class Matched:
    """
    Matched exposures and what was measured.

    ``frames`` are the corrected exposures, ``masks`` (n, ny, nx) those of the low
    references, or what `find_hits` returns. ``reference``, ``profile`` (its signal
    above the local background), ``strength`` (the level of its structure) and ``extra``
    (the variance of mismatch) are (ny, nx), ``level`` is its `SmoothLevel`. ``fits``
    are the `KernelFits`, ``before`` and ``after`` the dispersions before and after
    matching, ``limited`` says where corrections were `Limited`; ``terms`` are the
    `Terms` if measured.
    """

    frames: Any
    masks: np.ndarray
    reference: np.ndarray
    profile: np.ndarray
    strength: np.ndarray
    level: Any
    extra: np.ndarray
    fits: Any
    before: Any
    after: Any
    known: Any
    limited: Any
    terms: Any = None


@dataclass(frozen=True)
class Found:
    """
    Masks (n, ny, nx), coincident pixels (ny, nx), and what they were found in.

    ``faint`` are the flat places of `faint_groups`, ``noise`` is the table of
    `~ccdcr.matching.mismatch.noise_levels`.
    """

    masks: np.ndarray
    coincident: np.ndarray
    matched: Matched
    deviations: Deviations
    faint: list
    noise: Table


def find_hits(frames, options, advance=None):
    """
    Return the hits `Found` in two or more exposures of about the same flux.

    ``advance()`` is called after each pass.
    """
    matched = match_exposures(frames, options, advance=advance)
    step = max(round(frames.data.size / _ENOUGH), 1)
    counter, rows = _Counter(matched.reference, step), sampled_rows(frames.shape)
    masks, z, _, leak = decide(matched, options.limits, rows, counter.add)
    _ = None  # the masks of before
    known = replace(matched.known, leak=leak)
    matched = replace(matched, masks=masks, known=known)
    # Saturated exposures are in the median, too.
    coincident = keep(coincident_pixels(z, masks, frames.bad))
    frames = replace(frames, noise=matched.frames.noise)
    noise = noise_levels(frames, matched, masks, z.kept)
    faint = faint_groups(z, masks)
    deviations = counter.deviations()
    return Found(masks, coincident, matched, deviations, faint, noise)


def decide(matched, limits, rows=(), look=None):
    """
    Return masks, `Outliers`, the masks that the means leave out, and the leak.

    Deviations from the mean of the clean others are flagged twice; in between the leak
    is measured unless it is known. All deviations are kept of some rows, and given to
    ``look(rows, z)``.
    """
    given = matched.frames, matched.level, matched.extra
    on = {"structure": matched.fits.fitted}
    before, z = next_masks(matched.masks, limits, *given, **on)
    leak = matched.known.leak if limits.leak is None else limits.leak
    if leak is None:
        leak = measure_leak(z, before)
    z, limits = None, replace(limits, leak=leak)  # two z would need too much memory
    masks, z = next_masks(before, limits, *given, **on, rows=rows, look=look)
    return masks, z, before, leak


def match_exposures(frames, options, known=None, advance=None):
    """
    Return exposures `Matched` in a few passes, each from the original exposures.

    ``known`` is given if the frames are whole tiles of a larger image; ``advance()`` is
    called after each pass.
    """
    tiling = Tiling.from_tile(frames.shape, options.tile)
    if known is not None:
        tiling = Tiling.from_size(frames.shape, known.tile)
    record = _Record(known)
    frames = record.measured(frames, None)
    masks = first_masks(frames, options.limits)
    frames = record.measured(frames, masks)
    masks, scene = _first_scene(frames, masks, tiling, options.limits, record)
    before = record.mismatch(unmatched_dispersion(frames, scene))
    extra = _extra_variance(before, scene, frames.noise)
    # A low value must not look like structure that exposures are matched to.
    frames = record.without_low(frames, masks, scene, extra, faint=True)
    current, extra = frames, None
    if frames.low is not None:
        scene = None  # two of them would need too much memory
        masks = first_masks(frames, options.limits)
        masks, scene = _first_scene(frames, masks, tiling, options.limits, record)
    for k in range(options.passes):
        if k > 0:
            rules = {"limits": options.limits, "record": record}
            _unflag_cores(current, masks, scene, extra, **rules)
            scene = level = extra = data = limited = None
            scene = _scene(current, masks, mean=True)
        # In the first pass much of the structure may be flagged.
        hits, current, masks = masks if k > 0 else None, None, None
        fits = fit_tiles(frames, scene, tiling, mean=record.term(k))
        record.terms.append(fits.mean)
        if k == options.passes - 1:
            scene.alone = record.alone(frames, scene, tiling)
            fits = fit_kernels(frames, scene, fits, wholes=record.kernels)
            record.kernels = fits.wholes
            scene.structure = replace(scene.structure, profile=fits.taps.middle)
        told = options.choose(_without_hits(frames, hits, scene))
        data, after, limited = match(frames, scene, fits, strips=told, fine=k > 0)
        hits = told = None
        extra = _extra_variance(record.mismatch(after), scene, frames.noise)
        if k == options.passes - 1:
            y, x, more = fits.beyond_edges(scene.structure.profile)
            extra[y, x] += more
        level = SmoothLevel(scene, frames.noise)
        current = frames.replace(data).without(None)
        masks = first_masks(current, options.limits, level, extra)
        current = record.without_low(current, masks, scene, extra)
        current = record.measured(current, masks)
        frames = replace(frames.without(current.low), noise=current.noise)
        if current.low is not None:
            masks = first_masks(current, options.limits, level, extra)
        if advance is not None:
            advance()
    terms = known is None and TermsFit(frames, current, scene, masks, fits)
    planes = _planes(scene)
    scene = None  # the fit of terms needs the room
    return Matched(
        current,
        masks,
        *planes,
        level,
        extra,
        fits,
        before,
        record.dispersions[-1],
        record.known(tiling.size),
        limited,
        measure_terms(terms) if terms else None,
    )


def _without_hits(frames, hits, scene):
    """
    Return frames that ignore hits (or None), and pixels that most exposures are hit in.

    The hits change in place.
    """
    if hits is None:
        return frames
    # There the reference is of few exposures, which would be matched to themselves.
    for mask in in_turn(hits):
        np.logical_or(mask, scene.hit, out=mask)
    return frames.ignoring(hits)


def match_masked(frames, masks, options, current=None):
    """
    Return exposures `Matched` with given masks (n, ny, nx), free of limits.

    ``current`` are those that were matched before, if any, for the last pass alone.
    """
    tiling = Tiling.from_tile(frames.shape, options.tile)
    frames = _Record(None).measured(frames, masks)
    fitted = frames.ignoring(masks)
    first = 0 if current is None else options.passes - 1
    current = frames if current is None else current
    for k in range(first, options.passes):
        scene = _scene(current, masks, mean=k > 0)
        fits = fit_tiles(fitted, scene, tiling)
        if k == options.passes - 1:
            scene.alone = _Record(None).alone(fitted, scene, tiling)
            fits = fit_kernels(fitted, scene, fits, cores=True)
        hits = zeros(masks.shape, bool)
        np.copyto(hits, masks)
        told = options.choose(_without_hits(frames, hits, scene))
        place = None if current is frames else current.data
        rules = {"strips": told, "fine": k > 0, "place": place}
        data, after, limited = match(fitted, scene, fits, **rules)
        current = frames.replace(data)
    level = SmoothLevel(scene, frames.noise)
    extra = _extra_variance(after, scene, frames.noise)
    limited.free(data)
    planes = *_planes(scene), level, extra
    return Matched(current, masks, *planes, fits, None, after, None, limited)


def _planes(scene):
    """Return reference, profile and level of structure, which replaces its contrast."""
    structure = scene.structure

    def work(rows):
        structure.contrast[rows] = structure.level(rows)

    in_threads(work, bands_in_cache(scene.reference.shape))
    return scene.reference, structure.profile, structure.contrast


class _Record:
    """Measurements of each pass, or those `Known` of the whole image."""

    def __init__(self, known):
        self._known = known
        self.terms, self.dispersions, self.lows, self.curves = [], [], [], []
        self.differ = []
        self.kernels = known and known.kernels
        self.told = known is not None and known.told

    def measured(self, frames, masks):
        """Return frames whose noise is that of the exposures clean by masks."""
        if frames.noise.own is None:
            return frames
        known = self._known and self._known.curves[len(self.curves)]
        frames, curves = frames.measured(masks, known)
        self.curves.append(curves)
        return frames

    def differ_as_known(self, differ):
        """Return and record whether cores of structure differ, here or as known."""
        if self._known is not None:
            differ = self._known.differ[len(self.differ)]
        self.differ.append(differ)
        return differ

    def alone(self, frames, scene, tiling):
        """Return pixels (ny, nx) of one exposure alone, if kernels leave them out."""
        if self._known is None:
            self.told = scene.alone is not None and are_told(frames, scene, tiling)
        return scene.alone if self.told else None

    def term(self, k):
        """Return the terms of tiles without structure in pass k, None if not known."""
        return None if self._known is None else self._known.terms[k]

    def mismatch(self, measured):
        """Return and record the dispersion, measured or known."""
        if self._known is not None:
            measured = self._known.dispersions[len(self.dispersions)]
        self.dispersions.append(measured)
        return measured

    def without_low(self, frames, masks, scene, extra, *, faint=False):
        """Return frames whose low values are ignored."""
        priors = None if self._known is None else self._known.lows[len(self.lows)]
        if priors is None and self._known is not None:  # there was nothing to find
            self.lows.append(None)
            return frames.without(None)
        left = self.dispersions[-1], extra
        low, priors = find_low_values(frames, masks, scene, left, priors, faint=faint)
        self.lows.append(priors)
        return frames.without(low)

    def known(self, tile):
        """Return the `Known` of what was recorded."""
        leak = None if self._known is None else self._known.leak
        lists = self.terms, self.dispersions, self.lows, self.curves, self.differ
        *first, curves, differ = map(tuple, lists)
        return Known(tile, *first, self.kernels, leak, curves, differ, self.told)


_LEFT = np.float32(0.3)  # of the level of structure: what the five terms may leave
# Squared sigmas of clear structure, and its pixels of 25 and of 81 around a star.
_CLEAR, _LEAST_BESIDE, _MOST_AROUND = np.float32(64), 6, 20


def _unflag_cores(frames, masks, scene, extra, *, limits, record):
    """
    Clear groups of two exposures' masks, in place, that mismatch on structure may make.

    The five terms do not match the core of a bright star that differs much. Flagged,
    it would have the shape of one exposure in the reference that kernels are fitted to.
    A group stays if one of its pixels deviates by more than mismatch.
    """
    if len(frames) != 2 or not record.differ[-1]:
        return
    flagged, nx = masks.any(axis=0), frames.shape[1]

    def is_strong(place):
        here = np.unravel_index(place, flagged.shape)
        noise = frames.noise.at(here).mean_variance(scene.reference[here])
        return scene.structure.square(here) > _STRONG * noise

    for i, mask in enumerate(masks):
        place = np.flatnonzero(mask)
        place = place[in_seeded_groups(place, nx, is_strong(place))]
        here = np.unravel_index(place, mask.shape)
        noise, signal = frames.noise.at(here), scene.reference[here]
        beside = _around(here, mask.shape, 1)
        level = np.max([scene.structure.level(part) for part in beside], axis=0)
        variance = noise.variance(signal, i)
        variance += OF_LOW * noise.variance_of_others(signal, i)
        variance += np.maximum(extra[here], np.square(_LEFT * level))
        deviation = frames.data[i][here] - frames.data[1 - i][here]
        sure = deviation > first_limit(limits) * np.sqrt(variance)
        place = place[~in_seeded_groups(place, nx, sure)]
        core = is_strong(place)
        here = np.unravel_index(place[core], mask.shape)
        core[core] = _in_stars(frames, scene, flagged, here)
        mask.ravel()[place[in_seeded_groups(place, nx, core)]] = False


def _in_stars(frames, scene, flagged, places):
    """
    Return which places (m,) have clear structure beside them, but no dense one around.

    What both exposures' hits have in common has none beside it. Where structure is
    dense, other pixels tell the kernels.
    """

    def number(reach, step, flags):
        total = np.zeros(len(places[0]), dtype=int)
        for part in _around(places, flagged.shape, reach, step):
            variance = frames.noise.at(part).mean_variance(scene.reference[part])
            found = scene.structure.square(part) > _CLEAR * variance
            total += found & ~flags[part] if flags is not None else found
        return total

    beside = number(2, 1, flagged) >= _LEAST_BESIDE
    return beside & (number(24, 6, None) <= _MOST_AROUND)


def _around(places, shape, reach, step=1):
    """Yield the places (m,) around places, every ``step`` pixels."""
    steps = range(-reach, reach + 1, step)
    for both in product(steps, steps):
        yield moved(places, both, shape)


# Squared sigmas of structure; pixels and part of a tile's that hits do not flag.
_STRONG, _MANY, _MOST = np.float32(256), 60, 0.25
_CORES, _FEW = np.float32(1024), 4  # squared sigmas and pixels in the whole image
_MEDIAN = 10  # exposures, whose median is right where they differ
_UNLIKE = np.float32(1)  # of the level of structure: mismatch of exposures there
_MOSTLY = 0.7  # of a group's pixels


def _first_scene(frames, masks, tiling, limits, record):
    """
    Return masks and `Scene` before matching, without flags of mismatch.

    In tiles where much of the structure is flagged the exposures differ. Only groups
    count there most of whose flags no mismatch makes, and single such flags; the
    reference is the mean: the lowest exposures would have edges that none has. So are
    the tiles beside: a trace on their border would have one.
    """
    scene = _scene(frames, masks)
    unlike = _unlike_tiles(frames, masks, scene, tiling, record)
    if not unlike.any():
        return masks, scene
    unlike = running(np.logical_or, unlike, 3)
    unlike = np.repeat(np.repeat(unlike, tiling.size[0], 0), tiling.size[1], 1)
    unlike = unlike[tuple(map(slice, frames.shape))]
    extra = np.square(_UNLIKE * scene.structure.level()) * unlike
    sure = first_masks(frames, limits, scene.reference, extra)
    scene = None
    _add_groups(sure, masks)
    masks = np.where(unlike, sure, masks)
    # Without the brightest exposures the mean would have a step.
    frames = replace(frames, saturated=None)
    return masks, _scene(frames, masks, mean=True, where=unlike)


def _add_groups(sure, masks):
    """Add groups of masks (n, ny, nx) that are mostly sure, as tracks over stars."""
    for plane, mask in zip(sure, masks, strict=True):
        place = np.flatnonzero(mask)
        label = label_pixels(place, mask.shape[1])
        number = np.bincount(label)
        mostly = np.bincount(label, plane.ravel()[place]) > _MOSTLY * number
        plane.ravel()[place[mostly[label]]] = True


def _unlike_tiles(frames, masks, scene, tiling, record):
    """
    Return the tiles (ty, tx) where much structure is flagged in an exposure.

    A tile with few stars cannot tell: those with cores of stars are, too, if many of
    all cores in the image are flagged in one of few exposures.
    """
    unlike, cores = np.zeros((2, *tiling.number), dtype=bool)

    def work(rows):
        variance = frames.noise.at(rows).mean_variance(scene.reference[rows])
        square = scene.structure.square(rows)
        strong = square > _STRONG * variance
        if not strong.any():
            return np.zeros(len(masks) + 1, dtype=int)
        parts = True, *masks[:, rows]
        number = [np.count_nonzero(tiling.cut(strong & m), axis=1) for m in parts]
        most = np.max(number[1:], axis=0) > np.maximum(_MOST * number[0], _MANY)
        here, most = tiling.rows_of_tiles(rows), most.reshape(-1, tiling.number[1])
        unlike[here] = most
        strong &= square > _CORES * variance
        cores[here] = tiling.cut(strong).any(axis=1).reshape(most.shape)
        return np.array([np.count_nonzero(strong & mask) for mask in parts])

    number, *flagged = sum(in_threads(work, tiling.bands()))
    many = len(masks) < _MEDIAN and max(flagged) > max(_MOST * number, _FEW)
    return unlike | cores if record.differ_as_known(many) else unlike


def _scene(frames, masks, *, mean=False, where=None):
    """Return the `Scene` of exposures with their masks; on structure of their mean."""
    reference = _reference(frames, masks, clean_reference)
    structure = find_structure(reference, frames.noise)
    if not mean:
        return Scene(reference, structure, masks)
    # Elsewhere what is in one exposure alone would look like structure.
    fitted = find_fitted(reference, structure.profile, frames.noise)
    if where is not None:
        fitted &= where
    change = _reference(frames, masks, mean_reference, fitted)

    def work(rows):
        change[rows] -= reference[rows]
        change[rows] *= fitted[rows]
        reference[rows] += change[rows]
        structure.profile[rows] += change[rows]

    in_threads(work, bands_in_cache(frames.shape))
    return Scene(reference, structure, masks, fitted)


def _reference(frames, masks, function, where=None):
    """Return a reference by a function of rows, defined in every pixel ``where``."""
    reference = empty(frames.shape)
    unused = frames.unused

    def work(rows):
        if where is not None and not where[rows].any():
            reference[rows] = 0
            return
        part = None if unused is None else unused[:, rows]
        stack, noise = frames.data[:, rows], frames.noise.at(rows)
        reference[rows] = function(stack, masks[:, rows], part, noise)

    in_threads(work, bands_in_cache(frames.shape))
    if unused is None or not (nowhere := unused.all(axis=0)).any():
        return reference
    return keep(fill_from_nearest(reference, nowhere))


class SmoothLevel:
    """
    The reference without noise: the median of 3 x 3 pixels, of parts of (ny, nx).

    The lower one of two exposures in the middle is low by a part of sigma, but where
    the reference is the mean.
    """

    def __init__(self, scene, noise):
        self._image, self._fitted = scene.reference, scene.fitted
        self._low = np.float32(lower_middle(len(noise)))
        self._noise = noise if self._low else None

    def __getitem__(self, part):
        smooth = median_of_nine(self._image, part)
        if self._low:
            sigma = np.sqrt(self._noise.at(part).mean_variance(smooth))
            if self._fitted is not None:
                sigma *= ~self._fitted[part]
            smooth -= self._low * sigma
        return smooth


def _extra_variance(dispersion, scene, noise):
    extra = empty(scene.reference.shape)

    def work(rows):
        variance = noise.at(rows).mean_variance(scene.reference[rows])
        level = scene.structure.level(rows) / np.sqrt(variance)
        extra[rows] = dispersion.variance(level, variance)

    in_threads(work, bands_in_cache(extra.shape))
    return extra


_REACH = 128  # pixels farther away do not change the fourth digit


@dataclass(frozen=True)
class Decision:
    """
    Quantities that decide about a pixel, each an array (n,).

    ``value`` is the matched exposure, ``reference`` what is expected from the others
    that are ``used``, ``noise`` that of the difference (NaN if unknown), ``z`` the
    deviation in sigmas (-inf = never flagged). ``around`` tells whether pixels around
    contribute to the reference, ``joined`` whether the pixel is connected to a seed;
    ``charge`` is that of the neighbours in sigmas, NaN if none is hit. ``hit`` and
    ``low`` are the result.
    """

    value: np.ndarray
    reference: np.ndarray
    noise: np.ndarray
    used: np.ndarray
    z: np.ndarray
    around: np.ndarray
    joined: np.ndarray
    charge: np.ndarray
    hit: np.ndarray
    low: np.ndarray


def surroundings(pixel, shape, tile):
    """Return slices of rows and columns: whole tiles around a pixel (row, column)."""
    bounds = []
    for place, length, size in zip(pixel, shape, tile, strict=True):
        start = max(place - _REACH, 0) // size * size
        stop = -(-(place + _REACH) // size) * size
        bounds.append(slice(start, min(stop, length)))
    return tuple(bounds)


def decision_at(pixel, frames, options, known):
    """Return the `Decision` at a pixel (row, column) of the frames around it."""
    matched = match_exposures(frames, options, known)
    rows = np.arange(frames.shape[0])
    masks, z, before, leak = decide(matched, options.limits, rows)
    z = z.kept
    limits = replace(options.limits, leak=leak)
    here = (slice(None), *pixel)
    value, deviation = matched.frames.data[here], z[here]
    reference, around = _references(pixel, matched, before)
    known = np.isfinite(deviation) & (deviation != 0)
    noise = np.full(len(z), np.nan)
    noise[known] = (value - reference)[known] / deviation[known]
    joined, charge = np.transpose([_growth(plane, limits, pixel) for plane in z])
    unused, low = matched.frames.unused, matched.frames.low
    return Decision(
        value=value,
        reference=reference,
        noise=noise,
        used=~before[here] if unused is None else ~(before | unused)[here],
        z=deviation,
        around=around,
        joined=joined.astype(bool),
        charge=charge,
        hit=masks[here],
        low=np.zeros(len(z), bool) if low is None else low[here],
    )


def _references(pixel, matched, masks):
    """Return the references (n,) of a pixel, and whether pixels around contribute."""
    frames, start = matched.frames, [max(place - REACH, 0) for place in pixel]
    near = tuple(slice(a, b + REACH + 1) for a, b in zip(start, pixel, strict=True))
    every, here = (slice(None), *near), tuple(np.subtract(pixel, start))
    unused = None if frames.unused is None else frames.unused[every]
    stack, hit = frames.data[every], masks[every]
    level = matched.level[near]
    noise = frames.noise.at(near)
    found = list(expected_values(stack, hit, level, noise, unused))
    alone = means_of_others(stack, hit, unused, noise.weights(level))
    reference = np.array([value[here] for value, _, _ in found])
    mean = np.array([value[here] for value, *_ in alone])
    return reference, reference != mean


def _growth(z, limits, pixel):
    """Return whether a pixel is joined to a seed, and the charge that it received."""
    core = groups_with_seed(z > limits.low, z > limits.high)
    around = np.pad(np.where(core, z, np.nan), 1, constant_values=np.nan)
    row, column = pixel
    neighbours = [around[row + 1 + dy, column + 1 + dx] for dy, dx in FOUR]
    received = np.nansum(neighbours) if np.isfinite(neighbours).any() else np.nan
    return core[pixel], limits.leak * received
