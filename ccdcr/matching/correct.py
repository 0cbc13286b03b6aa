# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Correction of exposures to a common reference, by tiles and strips."""

from dataclasses import dataclass
from itertools import product

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
    cut_bands,
    dilate,
    in_threads,
    pixels_of,
    running,
    with_halo,
)
from ccdcr.utils.scratch import empty, keep, limited

__all__ = ["HALO", "Limited", "Scene", "match", "match_along", "unmatched_dispersion"]

# Three lines together: differences are as wide as the structure, a track is not.
_BLOCK, _LENGTH, _WIDTH = 4, 11, 3  # pixels, blocks and lines of strips
# Tolerance of mismatch on structure, squared sigmas that are significant, and how soon
# these count in full. Hits that are not known would bend finer strips.
_COARSE, _FINE = ((0.5, 0.15, 0.05), 16.0, 1.0), ((0.15, 0.05, 0.015), 16.0, 4.0)
_IN_COMMON = 9.0, 2.0  # the same of three strips
_ALIKE = np.float32(2.0)  # sigmas, of strips that have something in common
_PRIOR = 0.3
_RANGE = (-0.7, 2.0)
_STEPS = len(_FINE[0])
HALO = _WIDTH // 2 * _STEPS  # lines on both sides that change a result
_FAR = _BLOCK * ((_LENGTH // 2 + 2) * _STEPS + _LENGTH)  # pixels along them, likewise
_HIGH, _CACHED = 64 * _BLOCK, 1 << 18  # rows and pixels of blocks under a limit


def match_along(axis, difference, height, variance, bad=None, *, fine=False):
    """
    Subtract a multiple of the structure along rows or columns, in place.

    In running strips of 44 x 3 pixels along ``axis`` the factor of ``height`` is fitted
    with decreasing tolerance, then shrunk by its significance, so that equivalent
    exposures do not change. The factors are known every 4 pixels. They are ``fine``
    if ``bad`` tells the hits: then what strips of three times this length have in
    common counts by its own significance.
    """
    if not height.any():
        return
    # Views: strips are along the first axis, whatever the order in memory.
    planes = difference, height, variance, bad
    if axis == 1:
        planes = [plane if plane is None else plane.T for plane in planes]
    part = _matched_part(*planes, fine)
    difference -= part.T if axis == 1 else part


def _matched_part(difference, height, variance, bad, fine):
    """Return the multiple of the structure along columns that is to be subtracted."""
    steps, *rule = _FINE if fine else _COARSE
    usable = None if bad is None or not bad.any() else ~bad
    # Arrays are used again: new ones would take as long as the arithmetic.
    square, tolerance, weight = np.square(height), *map(np.empty_like, [height] * 2)
    left, blocks = _empty_blocks(square)
    left[:] = difference
    for q in steps:
        np.multiply(square, np.float32(q**2), out=tolerance)
        tolerance += variance
        weights(left, tolerance, usable, out=weight)
        norm = _sums(np.multiply(weight, square, out=tolerance))
        norm += np.float32(_PRIOR**-2)
        weight *= height
        weight *= difference
        factor = _sums(weight)
        factor /= norm
        np.clip(factor, *map(np.float32, _RANGE), out=factor)
        if q > steps[-1]:
            _interpolate(factor, blocks)
            left *= height
            np.subtract(difference, left, out=left)
    common = _common(factor, norm) if fine else np.float32(0)
    factor -= common
    _shrink(factor, norm, rule)
    factor += common
    _interpolate(factor, blocks)
    left *= height
    return left


def _common(factor, norm):
    """
    Return what factors (blocks, nx) have in common with those before and after.

    Those that differ count as if they were closer: a part of a line that differs
    alone must not change the rest of it.
    """
    total, weight = factor * norm, norm.copy(order="K")
    ends = np.s_[_LENGTH:], np.s_[:-_LENGTH]
    for here, there in (ends, ends[::-1]):
        own, other = norm[here], norm[there]
        most = _ALIKE * np.sqrt(1 / own + 1 / other)
        away = np.clip(factor[there] - factor[here], -most, most)
        total[here] += other * (factor[here] + away)
        weight[here] += other
    total /= weight
    _shrink(total, weight, _IN_COMMON)
    return total


def _shrink(factor, norm, rule):
    """Shrink factors (blocks, nx) of a norm (1 / variance), in place."""
    significant, slope = map(np.float32, rule)
    with np.errstate(divide="ignore"):
        share = slope * (1 - significant / (norm * np.square(factor)))
    factor *= np.clip(share, 0, 1, out=share)


def _empty_blocks(values):
    """Return an array like (ny, nx), and the same as (blocks, pixels, nx)."""
    (ny, nx), number = values.shape, -(-len(values) // _BLOCK)
    if values.flags.c_contiguous:
        blocks = np.empty((number, _BLOCK, nx), dtype=values.dtype)
        return blocks.reshape(-1, nx)[:ny], blocks
    lines = np.empty((nx, number * _BLOCK), dtype=values.dtype)
    return lines.T[:ny], lines.reshape(nx, number, _BLOCK).transpose(1, 2, 0)


def _sums(values):
    """Return the sums (blocks, nx) of (ny, nx) in strips; beyond the image it is 0."""
    ny, nx = values.shape
    half, number = _LENGTH // 2, -(-ny // _BLOCK)
    order = "C" if values.flags.c_contiguous else "F"
    blocks = np.zeros((number + 2 * half, nx), values.dtype, order)
    for k in range(_BLOCK):
        part = values[k::_BLOCK]
        blocks[half : half + len(part)] += part
    two = blocks[:-1] + blocks[1:]
    four = two[:-2] + two[2:]
    sums = four[:-4] + four[4:]
    sums = sums[:number] + two[8 : 8 + number] + blocks[10:]  # 8 + 2 + 1 blocks
    total = sums.copy(order="K")
    total[:, 1:] += sums[:, :-1]
    total[:, :-1] += sums[:, 1:]
    return total


def _interpolate(factor, values):
    """Set the values (blocks, pixels, nx) from those of blocks (blocks, nx)."""
    order = "C" if factor.flags.c_contiguous else "F"
    steps = np.zeros((len(factor) + 1, factor.shape[1]), factor.dtype, order)
    np.subtract(factor[1:], factor[:-1], out=steps[1:-1])
    for k in range(_BLOCK):
        part = np.float32((k + 0.5) / _BLOCK - 0.5)
        np.multiply(steps[:-1] if part < 0 else steps[1:], part, out=values[:, k])
        values[:, k] += factor


_HOLE = np.float32(2.0)  # sigmas: no correction makes an exposure lower than this


class Scene:
    """
    Clean reference (ny, nx) of the exposures and its `Structure`.

    ``hit`` are pixels hit in a majority of the exposures (in any of two), dilated;
    ``flagged`` are those with any hit in 3 x 3 pixels, ``alone`` those where one of two
    exposures is the reference, to which it has no difference (None of more), ``fitted``
    (or None) those that kernels are applied to.
    """

    def __init__(self, reference, structure, masks, fitted=None):
        self.reference = reference
        self.structure = structure
        self.fitted = fitted
        number = masks.sum(axis=0, dtype=np.uint8)
        n = len(masks)
        # Of two exposures any hit puts one far below the other.
        self.hit = keep(dilate(number >= (1 if n == 2 else majority(n)), 2))
        some = number > 0
        self.alone = keep(some) if n == 2 else None
        self.flagged = keep(running(np.maximum, some, 3))


@dataclass(frozen=True)
class Limited:
    """Flat places in (n, ny, nx) where a correction was limited, and free values."""

    places: np.ndarray
    values: np.ndarray

    @classmethod
    def find(cls, free, matched, part):
        """Return where free values (n, rows, columns) are not the matched ones."""
        corrected = matched[:, *part]
        # NaN, outside aligned exposures, is not limited.
        differs = (free != corrected) & ~np.isnan(corrected)
        i, y, x = found = pixels_of(differs)
        rows, columns = part
        place = i, y + rows.start, x + columns.start
        return cls(np.ravel_multi_index(place, matched.shape), free[found])

    @classmethod
    def join(cls, parts):
        """Return those of all parts of an image together."""
        pairs = [(part.places, part.values) for part in parts]
        return cls(*map(np.concatenate, zip(*pairs, strict=True)))

    def free(self, matched):
        """Set the free values in the matched exposures, in place."""
        matched.ravel()[self.places] = self.values


def match(frames, scene, fits, *, strips=None, fine=False, place=None):
    """
    Return the corrected exposures (n, ny, nx), the `Dispersion` left, and `Limited`.

    No correction takes a pixel below -2 sigma: the other exposures would look hit
    there. The dispersion is measured without this limit. Bad and low pixels do not
    change; saturated ones do, which may be flagged. There are strips if the frames
    whose pixels tell them are given: hits on bright structure would bend their own.
    They are ``fine`` if these frames ignore the hits. The corrected exposures take the
    ``place`` of an array, if one is given.
    """
    differences = empty(frames.data.shape) if place is None else place

    def tiles_and_rows(rows):
        wide, inside = with_halo(rows, HALO, frames.shape[0])
        terms = make_terms(scene.reference, scene.structure, frames.noise, wide)
        part = np.s_[wide, :]
        for i, correction in enumerate(fits.corrections(wide, terms)):
            difference = _difference(frames, scene, i, part)
            difference -= correction
            if strips is not None:
                _match_strips(difference, strips, scene, i, part, axis=1, fine=fine)
            differences[i, rows] = difference[inside]

    in_threads(tiles_and_rows, fits.tiling.bands())
    blocks = _Blocks(differences)
    matched = blocks.after

    def columns(part):
        wide, inside = blocks.around(part)
        free = np.empty_like(matched[:, *part])
        reference = scene.reference[part]
        for i in range(len(frames)):
            difference = blocks.cut(i, part)
            if strips is not None:
                _match_strips(difference, strips, scene, i, wide, axis=0, fine=fine)
            difference = difference[inside]
            free[i] = reference + difference
            guarded = _guarded(difference, frames, scene, i, part)
            matched[i][part] = reference + guarded
        found = Limited.find(free, matched, part)
        return _tails(free, matched[:, *part], frames, scene, part), found

    parts = in_threads(columns, blocks.parts)
    tails, found = zip(*parts, strict=True)
    dispersion = Dispersion.measure(Tails.join(tails), len(frames))
    return matched, dispersion, Limited.join(found)


class _Blocks:
    """
    Blocks of a stack (n, ny, nx), ``parts``, for strips along columns.

    Results replace the stack, but under a limit of memory, where blocks are smaller.
    ``after`` is the stack of the results.
    """

    def __init__(self, stack):
        self._before, self.after, self._edges = stack, stack, {}
        ny, nx = shape = stack.shape[1:]
        rows, columns = (
            [slice(0, ny)],
            bands_in_cache(shape[::-1], step=HALO + 1),
        )
        if limited():
            self.after = empty(stack.shape)
            rows = cut_bands(shape, _HIGH * nx)
            columns = cut_bands((nx, _HIGH), _CACHED)
        else:
            starts = [band.start for band in columns[1:]]
            self._edges = {x: stack[..., x - HALO : x + HALO].copy() for x in starts}
        self.parts = list(product(rows, columns))

    def around(self, part):
        """Return the part around a block that changes it, and the block in it."""
        pairs = zip(part, (_FAR, HALO), self.after.shape[1:], strict=True)
        return tuple(zip(*(with_halo(*pair) for pair in pairs), strict=True))

    def cut(self, i, part):
        """Return a copy of exposure i around a block, as it was before."""
        wide, (_, inside) = self.around(part)
        block, columns = self._before[i][wide].copy(), part[1]
        if columns.start in self._edges:
            block[:, : inside.start] = self._edges[columns.start][i, :, :HALO]
        if columns.stop in self._edges:
            block[:, inside.stop :] = self._edges[columns.stop][i, :, HALO:]
        return block


def unmatched_dispersion(frames, scene):
    """Return the `Dispersion` of the exposures before matching."""

    def work(rows):
        data = frames.data[:, rows]
        return _tails(data, data, frames, scene, np.s_[rows, :])

    parts = in_threads(work, bands_in_cache(frames.shape))
    return Dispersion.measure(Tails.join(parts), len(frames))


def _difference(frames, scene, i, part):
    return frames.data[i][part] - scene.reference[part]


def _match_strips(difference, frames, scene, i, part, *, axis, fine):
    """Match exposure i along columns (axis 0) or rows, in place."""
    variance = match_variance(scene.reference[part], frames.noise.at(part), i)
    bad = None if frames.unused is None else frames.unused[i][part]
    height = scene.structure.height[part]
    match_along(axis, difference, height, variance, bad, fine=fine)


def _guarded(difference, frames, scene, i, part):
    """Return the correction limited to -2 sigma; bad and low pixels have none."""
    original = _difference(frames, scene, i, part)
    noise = np.sqrt(match_variance(scene.reference[part], frames.noise.at(part), i))
    guarded = np.maximum(difference, np.minimum(original, -_HOLE * noise))
    for never in (frames.bad, frames.low):
        if never is not None:
            unused = never[i][part]
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
