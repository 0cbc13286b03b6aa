# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Sky levels of the exposures relative to each other."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from ccdcr.matching.frames import typical_skies
from ccdcr.matching.match_tiles import Tiling
from ccdcr.utils import stacks as kernels
from ccdcr.utils.neighbours import (
    bands_in_cache,
    in_threads,
    median_of_nine,
    with_halo,
)
from ccdcr.utils.planes import fill_from_nearest
from ccdcr.utils.scratch import empty, in_turn

__all__ = ["SkyLevels", "measure_sky_levels", "with_level_skies"]

_TILE, _SMALLEST, _TILES = 64, 16, 4  # pixels of a tile, tiles along an axis
_BACKGROUND = 0.25  # of the pixels of a tile, the faintest ones
_STEP = 2  # pixels between those of a sample
_LEAST = 16  # pixels of a tile
_LEVEL = 0.5  # sigmas: the fit in tiles corrects smaller differences


@dataclass(frozen=True)
class SkyLevels:
    """
    Sky of each exposure minus that of the darkest one, in tiles.

    ``values`` are (n, tiles along y, tiles along x), ``centres`` the rows and columns
    of their centres, ``start`` and ``shape`` the part of the image.
    """

    values: np.ndarray
    centres: tuple
    start: tuple
    shape: tuple

    def cut(self, bounds):
        """Return the levels of a part of the image; slices along y and x."""
        start = tuple(a + b.start for a, b in zip(self.start, bounds, strict=True))
        shape = tuple(b.stop - b.start for b in bounds)
        return replace(self, start=start, shape=shape)

    def planes(self, rows=np.s_[:], columns=np.s_[:]):
        """Return the levels (n, ny, nx) in a part, beyond the centres extrapolated."""
        planes = self.values
        for axis, chosen in ((2, columns), (1, rows)):
            lower, upper, part = (a[chosen] for a in self._places(axis - 1))
            low, high = (np.take(planes, place, axis) for place in (lower, upper))
            planes = low + (high - low) * np.expand_dims(part, (0, 3 - axis))
        return planes

    def _places(self, axis):
        """Return the tile before each pixel, and the fraction to the next one."""
        centres = self.centres[axis]
        place = self.start[axis] + np.arange(self.shape[axis])
        last = len(centres) - 1
        lower = np.clip(np.searchsorted(centres, place) - 1, 0, max(last - 1, 0))
        upper = np.minimum(lower + 1, last)
        width = np.maximum(centres[upper] - centres[lower], 1)
        return lower, upper, ((place - centres[lower]) / width).astype(np.float32)

    def at_tiles(self, tiling):
        """Return the levels at the centres of other tiles, (n, tiles y, tiles x)."""
        rows, columns = (
            np.minimum((np.arange(k) * size + size // 2), length - 1)
            for k, size, length in zip(
                tiling.number, tiling.size, tiling.shape, strict=True
            )
        )
        return self.planes(rows, columns)


def with_level_skies(frames, sky):
    """Return frames with a common sky, and the noise of their own; None = no change."""
    if sky is None:
        return frames
    data, planes = (empty(frames.data.shape) for _ in range(2))
    added = empty(frames.shape)

    def work(rows):
        planes[:, rows] = sky.planes(rows)
        data[:, rows] = frames.data[:, rows] - planes[:, rows]
        added[rows] = frames.noise.with_sky(planes[:, rows]).added

    in_threads(work, bands_in_cache(frames.shape))
    noise = replace(frames.noise, sky=planes, added=added)
    raw = frames.data if frames.raw is None else frames.raw
    return replace(frames, data=data, noise=noise, raw=raw)


def measure_sky_levels(frames):
    """
    Return the `SkyLevels`, None if they differ by less than half a sigma.

    The median difference of each tile, first of all pixels, then of the faintest ones
    of the mean exposure, depends neither on cosmic rays nor on structure of another
    flux. They are relative to the darkest exposure: a slope that is left in all would
    look like structure.
    """
    tiling = _tiling(frames.shape)
    medians, darkest = _medians_of_exposures(frames)
    levels = medians - medians[darkest]
    values = np.zeros((len(frames), *tiling.number), dtype=np.float32)
    values += levels[:, np.newaxis, np.newaxis]
    centres = tuple(map(_centres, tiling.shape, tiling.size))
    sky = SkyLevels(values, centres, (0, 0), frames.shape)
    level = frames, sky if values.any() else None
    difference, height = _differences(*level, darkest, tiling)
    values = sky.values + difference
    limit = _LEVEL * np.sqrt(frames.noise.typical.mean_variance(height))
    if not (np.abs(values) > limit).any():
        return None
    # Bright structure may fill most of a tile, but not its faintest pixels.
    faint = sky.values + _differences(*level, darkest, tiling, faint=True)[0]
    lowest, highest = (
        function(faint, (1, 3, 3), mode="nearest")
        for function in (ndimage.minimum_filter, ndimage.maximum_filter)
    )
    reach = highest - lowest  # a slope goes on beyond the outer tiles
    values = np.clip(values, lowest - reach, highest + reach)
    sky = replace(sky, values=values)
    difference, _ = _differences(frames, sky, darkest, tiling, faint=True)
    return replace(sky, values=sky.values + difference)


def _tiling(shape):
    """Return the tiles of an image, at least two along an axis if it is long enough."""
    size = [min(max(n // _TILES, _SMALLEST), _TILE, n) for n in shape]
    return Tiling.from_size(shape, tuple(size))


def _centres(length, size):
    """Return the centres of tiles along an axis, pixels from 0."""
    starts = np.arange(0, length, size)
    return (starts + np.minimum(starts + size, length) - 1) / 2


def _medians_of_exposures(frames):
    """Return the median of each exposure (n,), and which one is the darkest."""
    part = np.s_[::_STEP, ::_STEP]
    medians, number = np.zeros((2, len(frames)), dtype=np.float32)
    for i, plane in enumerate(in_turn(frames.data)):
        values = plane[part]
        if frames.unused is not None:
            values = values[~frames.unused[i][part]]
        number[i] = values.size
        if values.size:
            medians[i] = np.median(values)
    enough = 2 * number >= number.max()
    return medians, int(np.argmin(np.where(enough, medians, np.inf)))


def _differences(frames, sky, darkest, tiling, *, faint=False):
    """
    Return medians in tiles: exposures minus the darkest one, and the darkest one.

    The ``sky`` is subtracted before, unless it is None.
    """
    shares = _shares(frames, sky, darkest) if faint else None
    nothing = [None] * len(frames)

    def work(rows):
        data = _level(frames, sky, rows)
        bad = nothing if frames.unused is None else frames.unused[:, rows]
        outside = ~tiling.cut(np.ones(data.shape[1:], dtype=bool))
        chosen = _faintest(frames, sky, shares, tiling, rows) if faint else None
        found = []
        for i, (plane, own) in enumerate(zip(data, bad, strict=True)):
            if i != darkest:
                own = None if own is None else own | bad[darkest]  # noqa: PLW2901
                plane = plane - data[darkest]  # noqa: PLW2901
            found.append(_medians(tiling, chosen, plane, outside, own))
        return found

    found = np.concatenate(in_threads(work, tiling.bands()), axis=-1)
    medians, few = (found[:, k].reshape(-1, *tiling.number) for k in (0, 1))
    results = [
        fill_from_nearest(*pair) if pair[1].any() else pair[0]
        for pair in zip(medians, few > 0, strict=True)
    ]
    height, results[darkest] = results[darkest], np.zeros_like(results[darkest])
    return np.array(results), height


def _level(frames, sky, rows):
    """Return exposures (n, rows, nx) without their skies."""
    data = frames.data[:, rows]
    return data if sky is None else data - sky.planes(rows)


def _shares(frames, sky, darkest):
    """Return the weights (n,) of the exposures in a mean."""
    # A mean with these weights is not correlated with the differences of exposures:
    # no pixel is chosen for its noise.
    every = np.s_[::_STEP]
    sample, noise = frames.data[darkest, every, every], frames.noise.typical
    if sky is not None:
        sample = sample - sky.planes(every, every)[darkest]
        noise = noise.with_sky(typical_skies(sky.planes))
    signal = np.median(sample)
    weights = 1 / np.array([noise.variance(signal, i) for i in range(len(frames))])
    return (weights / weights.sum()).astype(sample.dtype)


def _faintest(frames, sky, shares, tiling, rows):
    """Return places (tiles, pixels) of the faintest pixels of tiles, or outside."""
    wide, inside = with_halo(rows, 1, frames.shape[0])
    data = _level(frames, sky, wide)
    if frames.unused is None:
        level = np.tensordot(shares, data, axes=1)
    else:
        level = kernels.mean(data, frames.unused[:, wide], shares)
        nowhere = np.isnan(level)
        level = np.where(nowhere, np.inf, level).astype(data.dtype)
    level = median_of_nine(level)[inside]
    outside = ~tiling.cut(np.ones(level.shape, dtype=bool))
    level = tiling.cut(level)
    level[outside] = np.inf
    number = max(int(_BACKGROUND * level.shape[1]), min(_LEAST, level.shape[1]))
    chosen = np.argpartition(level, number - 1, axis=1)[:, :number]
    # Tiles at an edge may have fewer pixels, and so fewer faint ones.
    partial = outside.any(axis=1)
    order = np.argsort(level[partial], axis=1)
    pixels = np.count_nonzero(~outside[partial], axis=1, keepdims=True)
    wanted = np.maximum(_BACKGROUND * pixels, np.minimum(_LEAST, pixels))
    faintest = np.arange(number) < wanted
    chosen[partial] = np.where(faintest, order[:, :number], order[:, -1:])
    return chosen


def _medians(tiling, chosen, image, outside, unused=None):
    """Return the median of each tile of a band, and whether few pixels are good."""
    values, bad = tiling.cut(image), outside
    if unused is not None:
        bad = bad | tiling.cut(unused)
    if chosen is not None:
        values, bad = (np.take_along_axis(a, chosen, axis=1) for a in (values, bad))
    if not bad.any():
        medians = np.median(values, axis=1)
        return medians, np.zeros_like(medians)
    number = values.shape[1] - bad.sum(axis=1)
    ordered = np.sort(np.where(bad, np.float32(np.inf), values), axis=1)
    middle = [np.maximum(number - k, 0) // 2 for k in (1, 0)]
    middle = [np.minimum(m, values.shape[1] - 1)[:, np.newaxis] for m in middle]
    medians = sum(np.take_along_axis(ordered, m, axis=1) for m in middle)[:, 0] / 2
    few = number < min(_LEAST, values.shape[1])
    return np.where(number > 0, medians, 0), few.astype(medians.dtype)
