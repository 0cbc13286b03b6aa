# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Bands of rows, threads, small windows, and 8-connected groups of pixels."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ccdcr.utils.scratch import limited

__all__ = [
    "EIGHT",
    "FOUR",
    "along",
    "bands_in_cache",
    "box_sums",
    "cut_bands",
    "dilate",
    "find_places",
    "groups_with_seed",
    "in_seeded_groups",
    "in_threads",
    "label_groups",
    "label_pixels",
    "median_of_nine",
    "moved",
    "number_of_threads",
    "pixels_of",
    "pixels_of_seeded_groups",
    "place_type",
    "running",
    "smooth_columns",
    "with_halo",
]

# Steps (dy, dx) to the pixels beside and around a pixel.
FOUR = ((-1, 0), (1, 0), (0, -1), (0, 1))
EIGHT = (*FOUR, (-1, -1), (-1, 1), (1, -1), (1, 1))

_BAND = 1 << 20  # pixels that are worked on at once
_MOST_OF_32_BITS = 1 << 30  # pixels
_CACHE = 1 << 17  # pixels of which several float32 planes fit into a cache


def cut_bands(shape, pixels=None, step=1):
    """
    Return slices of rows that cover (ny, nx), with at most ``pixels`` (2**20) each.

    All but the last have a multiple of ``step`` rows, even if these are more pixels.
    """
    ny, nx = shape
    height = max((pixels or _BAND) // (nx * step), 1) * step
    return [slice(y, min(y + height, ny)) for y in range(0, ny, height)]


def bands_in_cache(shape, *, longer=1, step=1):
    """Return `cut_bands` a size that fits into a cache, or ``longer`` times larger."""
    return cut_bands(shape, longer * _CACHE, step)


def with_halo(rows, halo, length):
    """Return ``rows`` wider by ``halo`` on both sides, and where they are in it."""
    start = max(rows.start - halo, 0)
    wide = slice(start, min(rows.stop + halo, length))
    return wide, slice(rows.start - start, rows.stop - start)


def place_type(shape):
    """Return the integers that flat places in (ny, nx), and beside, need."""
    return np.int32 if np.prod(shape) < _MOST_OF_32_BITS else np.int64


def in_threads(function, items, most=8):
    """Return ``function(item)`` of all items in order, using up to ``most`` threads."""
    if (space := limited()) is not None:
        function, most = space.releasing(function), min(most, space.threads)
    workers = min(len(items), number_of_threads(most))
    if workers < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, items))


def number_of_threads(most):
    """Return the number of available processors, at most ``most``."""
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), most)
    return min(os.cpu_count() or 1, most)


def running(function, image, size):
    """Return `numpy.minimum`, `maximum` or `logical_or` in windows of odd size."""
    image = np.pad(image, size // 2, mode="edge")
    for axis in (0, 1):
        image = along(function, image, size, axis)
    return image


def along(function, image, size, axis):
    """Combine windows of 2, 4, 8 ... pixels; two of them overlap in the last step."""
    width = 1
    while width < size:
        step = min(width, size - width)
        image = function(_part(image, axis, 0, -step), _part(image, axis, step, None))
        width += step
    return image


def _part(image, axis, start, stop):
    return image[:, start:stop] if axis else image[start:stop]


def box_sums(image, size, mode="edge"):
    """
    Return the sums of (ny, nx) in windows of odd ``size``.

    Sums of 2, 4, 8 ... pixels are added. Float32 is precise enough for these,
    unlike for running sums. ``mode`` is that of `numpy.pad`.
    """
    image = np.pad(image, size // 2, mode=mode)
    for axis in (0, 1):
        image = _sums_along(image, size, axis)
    return image


def _sums_along(sums, size, axis):
    """Return the sums in windows along an axis, shorter by ``size`` - 1."""
    length = sums.shape[axis] - size + 1
    width, done, total = 1, 0, None
    while True:
        if size & width:
            part = _part(sums, axis, done, done + length)
            total = part if total is None else total + part
            done += width
        if done == size:
            return total
        sums = _part(sums, axis, 0, -width) + _part(sums, axis, width, None)
        width *= 2


def smooth_columns(image, sigma, order=0, step=1):
    """
    Return every ``step`` th row of (ny, nx) filtered by a Gaussian along columns.

    It is `scipy.ndimage.gaussian_filter1d` with edges repeated, and faster as it adds
    whole rows. ``order`` is that of the derivative.
    """
    weights = _gaussian_weights(sigma, order)
    half = len(weights) // 2
    length, image = len(image), np.pad(image, ((half, half), (0, 0)), mode="edge")
    rows = [image[k : k + length : step] for k in range(2 * half + 1)]
    combine = np.subtract if order % 2 else np.add
    total = rows[half] * weights[half]
    pair = np.empty_like(total)
    for k in range(1, half + 1):
        combine(rows[half + k], rows[half - k], out=pair)
        pair *= weights[half + k]
        total += pair
    return total


@lru_cache
def _gaussian_weights(sigma, order):
    """Return the weights of a Gaussian filter, from its response to one pixel."""
    half = int(4 * sigma + 0.5)
    pixel = np.zeros(2 * half + 1)
    pixel[half] = 1
    response = ndimage.gaussian_filter1d(pixel, sigma, order=order, mode="constant")
    return response[::-1].astype(np.float32)


def median_of_nine(image, part=np.s_[:]):
    """
    Return the median of an image (ny, nx) in windows of 3 x 3 pixels, or a part of it.

    It is the median of three: the largest minimum, the median of the medians and
    the smallest maximum of sorted columns of three. The part is rows or rows and
    columns, slices or index arrays.
    """
    part = part if isinstance(part, tuple) else (part, np.s_[:])
    if not all(isinstance(axis, slice) for axis in part):
        return _median_at(image, part)
    ends = [axis.indices(n)[:2] for axis, n in zip(part, image.shape, strict=True)]
    wide = tuple(slice(max(start - 1, 0), stop + 1) for start, stop in ends)
    edges = [
        (int(start == 0), int(stop == n))
        for (start, stop), n in zip(ends, image.shape, strict=True)
    ]
    rows = np.pad(image[wide], edges, mode="edge")
    columns = _sorted(rows[:-2], rows[1:-1], rows[2:])
    rows = None
    return _median_of_sorted(*([c[:, :-2], c[:, 1:-1], c[:, 2:]] for c in columns))


def _median_at(image, part):
    """Return the `median_of_nine` at rows, and columns or all of them."""
    y, x = part
    if isinstance(x, slice):
        y, x = y[:, np.newaxis], np.arange(image.shape[1])
    places = [
        [np.clip(k + d, 0, n - 1) for d in (-1, 0, 1)]
        for k, n in zip((y, x), image.shape, strict=True)
    ]
    columns = (_sorted(*(image[row, x] for row in places[0])) for x in places[1])
    return _median_of_sorted(*zip(*columns, strict=True))


def _median_of_sorted(low, middle, high):
    """Return the median of three columns: their lowest, middle and highest pixels."""
    lowest = np.maximum(low[0], low[1])
    np.maximum(lowest, low[2], out=lowest)
    highest = np.minimum(high[0], high[1])
    np.minimum(highest, high[2], out=highest)
    return _middle(lowest, _middle(*middle), highest)


def _sorted(a, b, c):
    low, high = np.minimum(a, b), np.maximum(a, b)
    middle = np.minimum(high, c)
    np.maximum(high, c, out=high)
    np.maximum(low, middle, out=middle)
    return np.minimum(low, c, out=low), middle, high


def _middle(a, b, c):
    low, high = np.minimum(a, b), np.maximum(a, b)
    return np.maximum(low, np.minimum(high, c, out=high), out=low)


_EIGHT = np.ones((3, 3), dtype=bool)


def pixels_of(mask):
    """Return the same as `numpy.nonzero`, faster where few pixels are True."""
    return np.unravel_index(np.flatnonzero(mask), mask.shape)


def moved(places, step, shape):
    """Return rows and columns moved by a step (dy, dx), at most to the image's edge."""
    return tuple(
        np.clip(k + d, 0, n - 1) for k, d, n in zip(places, step, shape, strict=True)
    )


def label_groups(mask):
    """Return the labels 1 ... n of the 8-connected groups of a mask (ny, nx), and n."""
    return ndimage.label(mask, _EIGHT)


def groups_with_seed(mask, seed):
    """Return the 8-connected groups of a mask (ny, nx) that hold a pixel of a seed."""
    kept = np.zeros(mask.shape, dtype=bool)
    kept.ravel()[pixels_of_seeded_groups(mask, seed)] = True
    return kept


def pixels_of_seeded_groups(mask, seed):
    """Return the flat indices of the pixels of `groups_with_seed`, in order."""
    place = np.flatnonzero(mask)
    return place[in_seeded_groups(place, mask.shape[1], seed.ravel()[place])]


def in_seeded_groups(place, width, seed):
    """Return which pixels (m,), flat indices in order, are in groups with a seed."""
    if not seed.any():
        return seed
    label = label_pixels(place, width)
    wanted = np.zeros(label.max() + 1, dtype=bool)
    wanted[label[seed]] = True
    return wanted[label]


def label_pixels(place, width):
    """Return the labels of the 8-connected groups of pixels, flat indices in order."""
    column = place % width
    pairs = []
    for dy, dx in ((0, 1), (1, -1), (1, 0), (1, 1)):
        index, found = find_places(place, place + (dy * width + dx))
        found &= (column + dx >= 0) & (column + dx < width)
        pairs.append((np.flatnonzero(found), index[found]))
    first, second = map(np.concatenate, zip(*pairs, strict=True))
    edges = np.ones(len(first), dtype=bool), (first, second)
    shape = len(place), len(place)
    return connected_components(coo_array(edges, shape), directed=False)[1]


def find_places(places, wanted):
    """Return the indices of wanted values in sorted places, and which are there."""
    index = np.minimum(np.searchsorted(places, wanted), len(places) - 1)
    return index, places[index] == wanted


def dilate(mask, times):
    """Return a copy of a mask (ny, nx), dilated in all eight directions n times."""
    if times == 0 or not mask.any():
        return mask.copy()
    # n dilations by 3 x 3 pixels are one by a larger square.
    return running(np.logical_or, mask, 2 * times + 1)
