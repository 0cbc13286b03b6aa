# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Matched detection from arrays to masks: the order of the stages."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from astropy.table import Table

from ccdcr._threads import in_threads
from ccdcr.detection.matched.decide import (
    Limits,
    coincident_pixels,
    first_masks,
    next_masks,
)
from ccdcr.detection.matched.deviations import Deviations
from ccdcr.detection.matched.growth import measure_leak
from ccdcr.detection.matched.matching import Scene, match, unmatched_dispersion
from ccdcr.detection.matched.noise_levels import noise_levels
from ccdcr.detection.matched.reference import clean_reference
from ccdcr.detection.matched.structure import find_structure
from ccdcr.detection.matched.tiles import Tiling, fit_tiles
from ccdcr.detection.matched.windows import median_of_nine
from ccdcr.detection.planes import fill_from_nearest
from ccdcr.utils.row_bands import bands_in_cache, with_halo

__all__ = [
    "Found",
    "Known",
    "Matched",
    "Options",
    "decide",
    "find_hits",
    "match_exposures",
]


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
    without structure take, ``dispersions`` those after matching, of each pass.
    ``leak`` is the part of a hit that a neighbour gets, None before it is measured.
    """

    tile: tuple
    terms: tuple
    dispersions: tuple
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
    frames : `~ccdcr.detection.matched.frames.Frames`
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
    limits : `~ccdcr.detection.matched.decide.Limits`
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
    current, before, terms, dispersions = frames, None, [], []
    tiling = Tiling.of(frames.shape, options.tile)
    if known is not None:
        tiling = Tiling.of_size(frames.shape, known.tile)
    masks = first_masks(frames, options.limits)
    for k in range(options.passes):
        reference = _reference(current, masks)
        scene = Scene(reference, find_structure(reference, frames.noise), masks)
        before = before or unmatched_dispersion(frames, scene)
        fits = fit_tiles(
            frames,
            scene,
            tiling,
            mean=None if known is None else known.terms[k],
            whole=k == options.passes - 1,
        )
        data, after = match(frames, scene, fits, strips=options.strips)
        if known is not None:
            after = known.dispersions[k]
        terms.append(fits.mean)
        dispersions.append(after)
        current = frames.replace(data)
        extra = _extra_variance(after, scene, frames.noise)
        level = _smooth(reference)
        masks = first_masks(current, options.limits, level, extra)
    leak = None if known is None else known.leak
    known = Known(tiling.size, tuple(terms), tuple(dispersions), leak)
    return Matched(current, masks, reference, level, extra, fits, before, after, known)


def _reference(frames, masks):
    """Return the clean reference, defined in every pixel."""
    reference = np.empty(frames.shape, dtype=frames.data.dtype)
    unused = frames.unused

    def work(rows):
        part = None if unused is None else unused[:, rows]
        reference[rows] = clean_reference(frames.data[:, rows], masks[:, rows], part)

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
        variance = noise.mean_variance(scene.reference[rows])
        level = scene.structure.level(rows) / np.sqrt(variance)
        extra[rows] = dispersion.variance(level, variance)

    in_threads(work, bands_in_cache(extra.shape))
    return extra
