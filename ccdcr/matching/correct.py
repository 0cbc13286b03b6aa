# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Correction of exposures to a common reference, by tiles and strips."""

from dataclasses import dataclass

import numpy as np

from ccdcr.matching.clean_reference import OF_LOW, low_references, majority
from ccdcr.matching.match_tiles import make_terms, match_variance, weights
from ccdcr.matching.mismatch import (
    Dispersion,
    Tails,
    measured_pixels,
)
from ccdcr.utils import stacks as kernels
from ccdcr.utils.neighbours import (
    bands_in_cache,
    dilate,
    in_threads,
    running,
    sums_along,
    with_halo,
)

__all__ = ["HALO", "Limited", "Scene", "match", "match_along", "unmatched_dispersion"]

# Three lines together: differences are as wide as the structure, a track is not.
_LENGTH, _WIDTH = 41, 3
_ANNEALING = (0.5, 0.15, 0.05)
_PRIOR = 0.3
_RANGE = (-0.7, 2.0)
_SIGNIFICANT = 16.0  # squared sigmas
HALO = _WIDTH // 2 * len(_ANNEALING)  # lines on both sides that change a result


def match_along(axis, difference, height, variance, bad=None):
    """
    Subtract a multiple of the structure along rows or columns, in place.

    In running strips of 41 x 3 pixels along ``axis`` the factor of ``height`` is fitted
    with decreasing tolerance, then shrunk by its significance, so that equivalent
    exposures do not change.
    """
    if not height.any():
        return
    usable = None if bad is None or not bad.any() else ~bad
    square = np.square(height)
    product = height * difference
    residual = difference
    for q in _ANNEALING:
        tolerance = np.float32(q**2) * square
        tolerance += variance
        weight = weights(residual, tolerance, usable)
        norm = _sums(weight * square, axis)
        norm += np.float32(_PRIOR**-2)
        weight *= product
        factor = _sums(weight, axis)
        factor /= norm
        np.clip(factor, *map(np.float32, _RANGE), out=factor)
        residual = difference - factor * height
    norm *= np.square(factor)
    with np.errstate(divide="ignore"):
        shrink = np.maximum(1 - np.float32(_SIGNIFICANT) / norm, 0)
    factor *= shrink
    factor *= height
    difference -= factor


def _sums(values, axis):
    # With zeros beyond the image its last pixel does not count 20 times.
    sums = sums_along(values, _LENGTH, axis, mode="constant")
    return sums_along(sums, _WIDTH, 1 - axis, mode="constant")


_HOLE = np.float32(2.0)  # sigmas: no correction makes an exposure lower than this


class Scene:
    """
    Clean reference (ny, nx) of the exposures and its `Structure`.

    ``hit`` are pixels hit in a majority of the exposures (in any of two), dilated;
    ``flagged`` are those with any hit in 3 x 3 pixels.
    """

    def __init__(self, reference, structure, masks):
        self.reference = reference
        self.structure = structure
        number = masks.sum(axis=0, dtype=np.uint8)
        n = len(masks)
        # Of two exposures any hit puts one far below the other.
        self.hit = dilate(number >= (1 if n == 2 else majority(n)), 2)
        self.flagged = running(np.maximum, number > 0, 3)


@dataclass(frozen=True)
class Limited:
    """Flat places in (n, ny, nx) where a correction was limited, and free values."""

    places: np.ndarray
    values: np.ndarray

    @classmethod
    def find(cls, free, matched, columns):
        """Return where free values (n, ny, columns) are not the matched ones."""
        i, y, x = np.nonzero(free != matched[:, :, columns])
        places = np.ravel_multi_index((i, y, x + columns.start), matched.shape)
        return cls(places, free[i, y, x])

    @classmethod
    def join(cls, parts):
        """Return those of all parts of an image together."""
        pairs = [(part.places, part.values) for part in parts]
        return cls(*map(np.concatenate, zip(*pairs, strict=True)))

    def freed(self, matched):
        """Return a copy of the matched exposures whose corrections are not limited."""
        free = matched.copy()
        free.ravel()[self.places] = self.values
        return free


def match(frames, scene, fits, *, strips=True, free_only=False):
    """
    Return the corrected exposures (n, ny, nx), the `Dispersion` left, and `Limited`.

    No correction takes a pixel below -2 sigma: the other exposures would look hit
    there. The dispersion is measured without this limit. Unused pixels do not change.
    With ``free_only`` the exposures alone are returned, without this limit.
    """
    matched, differences = (np.empty_like(frames.data) for _ in range(2))

    def tiles_and_rows(rows):
        wide, inside = with_halo(rows, HALO, frames.shape[0])
        terms = make_terms(scene.reference, scene.structure, frames.noise, wide)
        part = np.s_[wide, :]
        for i in range(len(frames)):
            difference = _difference(frames, scene, i, part)
            difference -= fits.correction(i, wide, terms)
            if strips:
                _match_strips(difference, frames, scene, i, part, axis=1)
            differences[i, rows] = difference[inside]

    def columns(columns):
        wide, inside = with_halo(columns, HALO, frames.shape[1])
        part = np.s_[:, columns]
        reference = scene.reference[part]
        free = np.empty_like(matched[:, :, columns])
        for i in range(len(frames)):
            difference = differences[i, :, wide].copy()
            if strips:
                _match_strips(difference, frames, scene, i, np.s_[:, wide], axis=0)
            difference = difference[:, inside]
            free[i] = reference + difference
            if free_only:
                continue
            matched[i][part] = reference + _guarded(difference, frames, scene, i, part)
        if free_only:
            matched[:, :, columns] = free
            return None
        limited = Limited.find(free, matched, columns)
        return _tails(free, matched[:, :, columns], frames, scene, part), limited

    in_threads(tiles_and_rows, fits.tiling.bands())
    of_columns = bands_in_cache(frames.shape[::-1], longer=2)
    parts = in_threads(columns, of_columns)
    if free_only:
        return matched
    tails, limited = zip(*parts, strict=True)
    dispersion = Dispersion.measure(Tails.join(tails), len(frames))
    return matched, dispersion, Limited.join(limited)


def unmatched_dispersion(frames, scene):
    """Return the `Dispersion` of the exposures before matching."""

    def work(rows):
        data = frames.data[:, rows]
        return _tails(data, data, frames, scene, np.s_[rows, :])

    parts = in_threads(work, bands_in_cache(frames.shape))
    return Dispersion.measure(Tails.join(parts), len(frames))


def _difference(frames, scene, i, part):
    return frames.data[i][part] - scene.reference[part]


def _match_strips(difference, frames, scene, i, part, *, axis):
    """Match exposure i along columns (axis 0) or rows, in place."""
    variance = match_variance(scene.reference[part], frames.noise.at(part), i)
    bad = None if frames.unused is None else frames.unused[i][part]
    match_along(axis, difference, scene.structure.height[part], variance, bad)


def _guarded(difference, frames, scene, i, part):
    """Return the correction limited to -2 sigma; unused pixels are not corrected."""
    original = _difference(frames, scene, i, part)
    noise = np.sqrt(match_variance(scene.reference[part], frames.noise.at(part), i))
    guarded = np.maximum(difference, np.minimum(original, -_HOLE * noise))
    if frames.unused is not None:
        unused = frames.unused[i][part]
        guarded[unused] = original[unused]
    return guarded


def _tails(free, stack, frames, scene, part):
    """Return the `Tails` of exposures below the low references of a stack."""
    noise, reference = frames.noise.at(part), scene.reference[part]
    unused = None if frames.unused is None else frames.unused[(slice(None), *part)]
    level = scene.structure.level(part) / np.sqrt(noise.mean_variance(reference))
    use, doubtful = measured_pixels(scene.hit[part], level)
    if unused is not None:
        # Of fewer than three, any hit puts one far below the other.
        use &= kernels.count(unused, len(stack)) >= min(len(stack), 3)
    below, usable = [], []
    for i, low in enumerate(low_references(stack, unused)[0]):
        variance = noise.variance_of_difference(reference, i, OF_LOW)
        below.append((low - free[i]) / np.sqrt(variance))
        usable.append(use if unused is None else use & ~unused[i] & np.isfinite(low))
    return Tails.collect(below, level, usable, doubtful)
