# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Matched detection from arrays to masks: the stages in their order."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from astropy.table import Table

from ccdcr.matching.clean_reference import (
    REACH,
    clean_reference,
    expected_values,
    means_of_others,
)
from ccdcr.matching.correct import Scene, match, unmatched_dispersion
from ccdcr.matching.flag_pixels import (
    Limits,
    coincident_pixels,
    first_masks,
    measure_leak,
    next_masks,
)
from ccdcr.matching.frames import find_structure
from ccdcr.matching.low_values import find_low_values
from ccdcr.matching.match_tiles import Tiling, fit_tiles
from ccdcr.matching.mismatch import noise_levels
from ccdcr.utils.neighbours import (
    bands_in_cache,
    groups_with_seed,
    in_threads,
    median_of_nine,
    with_halo,
)
from ccdcr.utils.planes import fill_from_nearest

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
    Numbers of pixels by clean signal and deviation, of all exposures.

    ``counts`` is (levels, deviations), with the edges ``x`` and ``y`` of its cells;
    ``number`` are all pixels of a level, also those beyond the edges. Every
    ``step``-th row was counted.
    """

    counts: np.ndarray
    x: np.ndarray
    y: np.ndarray
    number: np.ndarray
    step: int

    @classmethod
    def of(cls, level, z):
        """
        Count the pixels, in large images those of some rows.

        Parameters
        ----------
        level : 2D `~numpy.ndarray`
            Clean signal.
        z : 3D `~numpy.ndarray`
            Deviations in sigmas, minus infinity where nothing may be flagged.

        Returns
        -------
        deviations : `Deviations`
            The numbers.
        """
        step = max(round(z.size / _ENOUGH), 1)
        level = level[::step]
        low, high = np.quantile(level[:, ::_SAMPLE], [_PART, 1 - _PART])
        nx, ny = _CELLS
        x = np.linspace(low, max(high, low + 1), nx + 1)
        y = np.linspace(_LOWEST, _HIGHEST, ny + 1)
        column = _cells(level, x)
        inside = (column >= 0) & (column < nx)
        shape = nx, ny + 2  # and what is beyond
        counts = np.zeros(shape, dtype=np.intp)
        for plane in z[:, ::step]:
            known = inside & np.isfinite(plane)
            row = np.clip(_cells(plane[known], y), -1, ny) + 1
            cells = column[known] * shape[1] + row
            counts += np.bincount(cells, minlength=counts.size).reshape(shape)
        return cls(counts[:, 1:-1], x, y, counts.sum(axis=1), step)


def _cells(values, edges):
    """Return the cell of each value between evenly spaced edges."""
    scale = (len(edges) - 1) / (edges[-1] - edges[0])
    places = (values - values.dtype.type(edges[0])) * values.dtype.type(scale)
    # Whatever is far beyond must fit into an integer.
    return np.floor(np.clip(places, -1, len(edges))).astype(np.int32)


@dataclass(frozen=True)
class Options:
    """How exposures are matched and what is flagged."""

    passes: int = 2
    tile: int = 64
    strips: bool = True
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Known:
    """
    What a part of the image needs of the whole, to be searched like it.

    ``tile`` is the size of the tiles (ny, nx); ``terms`` (n, 5) are what tiles
    without structure take, of each pass, ``dispersions`` those before matching and
    after each pass.
    ``lows`` is what low values are judged by. ``leak`` is the part of a hit that a
    neighbour gets, None before it is measured.
    """

    tile: tuple
    terms: tuple
    dispersions: tuple
    lows: tuple
    leak: float | None = None


@dataclass(frozen=True)
class Matched:
    """
    Matched exposures and what was measured.

    ``frames`` are the corrected exposures, ``masks`` those of the low
    reference, ``reference`` is the clean reference, ``level`` the same without noise
    and ``extra`` what mismatch adds to the variance. ``fits`` are the fitted terms,
    ``before`` and ``after`` the dispersions before and after matching. ``known`` is
    what a part needs to be searched again.
    """

    frames: Any
    masks: np.ndarray
    reference: np.ndarray
    level: np.ndarray
    extra: np.ndarray
    fits: Any
    before: Any
    after: Any
    known: Known


@dataclass(frozen=True)
class Found:
    """
    What was found: ``masks`` (n, ny, nx) and ``coincident`` (ny, nx), True = hit.

    ``matched`` is what it was found in, ``deviations`` how far the exposures are
    from each other, ``noise`` their noise by signal in units of what was expected.
    """

    masks: np.ndarray
    coincident: np.ndarray
    matched: Matched
    deviations: Deviations
    noise: Table


def find_hits(frames, options):
    """
    Find what is hit in exposures that are not quite equivalent.

    Parameters
    ----------
    frames : `~ccdcr.matching.frames.Frames`
        Two or more exposures of about the same flux.
    options : `Options`
        How they are matched.

    Returns
    -------
    found : `Found`
        Masks and what was measured.
    """
    matched = match_exposures(frames, options)
    masks, z, _, leak = decide(matched, options.limits)
    matched = replace(matched, known=replace(matched.known, leak=leak))
    deviations = Deviations.of(matched.reference, z)
    coincident = coincident_pixels(z, masks, frames.unused)
    noise = noise_levels(frames, matched, masks, z)
    return Found(masks, coincident, matched, deviations, noise)


def decide(matched, limits):
    """
    Flag what deviates from the mean of the others, twice.

    Parameters
    ----------
    matched : `Matched`
        The matched exposures.
    limits : `~ccdcr.matching.flag_pixels.Limits`
        The limits.

    Returns
    -------
    masks : 3D `~numpy.ndarray` of bool
        True = hit.
    z : 3D `~numpy.ndarray` of float32
        Deviations in sigmas.
    before : 3D `~numpy.ndarray` of bool
        The masks that the means leave out.
    leak : float
        That of the limits, or what was measured.
    """
    given = matched.frames, matched.level, matched.extra
    before, z = next_masks(matched.masks, limits, *given)
    leak = matched.known.leak if limits.leak is None else limits.leak
    if leak is None:
        leak = measure_leak(z, before)
    masks, z = next_masks(before, replace(limits, leak=leak), *given)
    return masks, z, before, leak


def match_exposures(frames, options, known=None):
    """
    Match the exposures to each other, in a few passes.

    Parameters
    ----------
    frames, options
        As for `find_hits`.
    known : `Known`, optional
        What is known of the whole image, where the frames are whole tiles of it.

    Returns
    -------
    matched : `Matched`
        Corrected exposures and first masks.

    Notes
    -----
    Each pass begins with the exposures as they came, with a better reference.
    """
    tiling = Tiling.of(frames.shape, options.tile)
    if known is not None:
        tiling = Tiling.of_size(frames.shape, known.tile)
    record = _Record(known)
    masks = first_masks(frames, options.limits)
    scene = _scene(frames, masks)
    before = record.mismatch(unmatched_dispersion(frames, scene))
    extra = _extra_variance(before, scene, frames.noise)
    # A low value must not look like structure that exposures are matched to.
    frames = record.without_low(frames, masks, scene, extra, faint=True)
    current = frames
    if frames.low is not None:
        masks = first_masks(frames, options.limits)
    for k in range(options.passes):
        if k > 0 or frames.low is not None:
            scene = _scene(current, masks)
        last = k == options.passes - 1
        fits = fit_tiles(frames, scene, tiling, mean=record.term(k), whole=last)
        record.terms.append(fits.mean)
        data, after = match(frames, scene, fits, strips=options.strips)
        extra = _extra_variance(record.mismatch(after), scene, frames.noise)
        level = _smooth(scene.reference)
        current = frames.replace(data).without(None)
        masks = first_masks(current, options.limits, level, extra)
        current = record.without_low(current, masks, scene, extra)
        frames = frames.without(current.low)
        if current.low is not None:
            masks = first_masks(current, options.limits, level, extra)
    return Matched(
        current,
        masks,
        scene.reference,
        level,
        extra,
        fits,
        before,
        record.dispersions[-1],
        record.known(tiling.size),
    )


class _Record:
    """What is measured in each pass, or known of the whole image already."""

    def __init__(self, known):
        self._known = known
        self.terms, self.dispersions, self.lows = [], [], []

    def term(self, k):
        """Return the terms that tiles without structure take, None if not known."""
        return None if self._known is None else self._known.terms[k]

    def mismatch(self, measured):
        """Return what mismatch is left, as it was measured or is known."""
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
        """Return what a part of the image needs to be searched again."""
        leak = None if self._known is None else self._known.leak
        lists = self.terms, self.dispersions, self.lows
        return Known(tile, *map(tuple, lists), leak)


def _scene(frames, masks):
    """Return what exposures have in common, by their masks so far."""
    reference = _reference(frames, masks)
    return Scene(reference, find_structure(reference, frames.noise), masks)


def _reference(frames, masks):
    """Return the clean reference, defined in every pixel."""
    reference = np.empty(frames.shape, dtype=frames.data.dtype)
    unused = frames.unused

    def work(rows):
        part = None if unused is None else unused[:, rows]
        stack, noise = frames.data[:, rows], frames.noise.at(rows)
        reference[rows] = clean_reference(stack, masks[:, rows], part, noise)

    in_threads(work, bands_in_cache(frames.shape))
    if unused is None or not (nowhere := unused.all(axis=0)).any():
        return reference
    return fill_from_nearest(reference, nowhere)


def _smooth(image):
    """Return the median of 3 x 3 pixels."""
    smooth = np.empty_like(image)

    def work(rows):
        wide, inside = with_halo(rows, 1, len(image))
        smooth[rows] = median_of_nine(image[wide])[inside]

    in_threads(work, bands_in_cache(image.shape))
    return smooth


def _extra_variance(dispersion, scene, noise):
    extra = np.empty_like(scene.reference)

    def work(rows):
        variance = noise.at(rows).mean_variance(scene.reference[rows])
        level = scene.structure.level(rows) / np.sqrt(variance)
        extra[rows] = dispersion.variance(level, variance)

    in_threads(work, bands_in_cache(extra.shape))
    return extra


_REACH = 128  # pixels: beyond, nothing changes the fourth digit
_FOUR = ((-1, 0), (1, 0), (0, -1), (0, 1))


@dataclass(frozen=True)
class Decision:
    """
    What decided about the exposures of a pixel, arrays of length n.

    ``value`` is the matched exposure, ``reference`` what the others are that were
    not flagged before (``used``), ``noise`` that of the difference (NaN where it is
    not known) and ``z`` the deviation in sigmas, minus infinity where nothing may
    be flagged. ``around`` says whether pixels around take part in the reference,
    ``joined`` whether the pixel is connected to one that is hit for sure,
    ``charge`` is the deviation with the charge of the brightest neighbour, NaN
    where none is hit, and ``hit`` and ``low`` the result.
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
    """
    Return the whole tiles around a pixel.

    Parameters
    ----------
    pixel : tuple of int
        Row and column, from 0.
    shape, tile : tuple of int
        Size of the image and of its tiles, (ny, nx).

    Returns
    -------
    bounds : tuple of slice
        Rows and columns.
    """
    bounds = []
    for place, length, size in zip(pixel, shape, tile, strict=True):
        start = max(place - _REACH, 0) // size * size
        stop = -(-(place + _REACH) // size) * size
        bounds.append(slice(start, min(stop, length)))
    return tuple(bounds)


def decision_at(pixel, frames, options, known):
    """
    Search the surroundings of a pixel again.

    Parameters
    ----------
    pixel : tuple of int
        Row and column in the frames, from 0.
    frames : `~ccdcr.matching.frames.Frames`
        The exposures in the surroundings.
    options : `~ccdcr.matching.match.Options`
        How the exposures were matched.
    known : `~ccdcr.matching.match.Known`
        What was measured in the whole image.

    Returns
    -------
    decision : `Decision`
        What decides.
    """
    matched = match_exposures(frames, options, known)
    masks, z, before, leak = decide(matched, options.limits)
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
    """Return what a pixel is compared with, and whether pixels around take part."""
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
    """Return whether a pixel is joined to a hit, and its deviation with charge."""
    core = groups_with_seed(z > limits.low, z > limits.high)
    around = np.pad(np.where(core, z, np.nan), 1, constant_values=np.nan)
    row, column = pixel
    neighbours = [around[row + 1 + dy, column + 1 + dx] for dy, dx in _FOUR]
    brightest = np.nanmax(neighbours) if np.isfinite(neighbours).any() else np.nan
    return core[pixel], z[pixel] + limits.leak * brightest
