# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Local matching by kernels: small images that turn the reference into an exposure.

On structure the difference of an exposure and the reference is the structure of the
reference convolved with a kernel of free pixels (taps), and a constant. It holds flux,
shift, seeing, their second order and asymmetries.

References: C. Alard, R. Lupton 1998, ApJ 503, 325; D. Bramich 2008, MNRAS 386, L77.
"""

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import chain, pairwise, product

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ccdcr.matching.match_tiles import TileFits, match_variance, weights
from ccdcr.utils.neighbours import (
    bands_in_cache,
    dilate,
    in_threads,
    moved,
    pixels_of,
    running,
    with_halo,
)
from ccdcr.utils.scratch import empty, in_turn
from ccdcr.utils.stacks import multiply

__all__ = ["KernelFits", "Taps", "are_told", "find_fitted", "fit_kernels"]

_HALF = 2  # pixels on each side of the middle of a kernel
_THRESHOLD, _GROW = np.float32(5.0), 2  # sigmas of structure, and pixels around
# Taps of faint structure are noise, which attenuates a kernel: half the weight here.
_FAINT = np.float32(400.0)  # squared sigmas
# Beside what is bright they are not, and without wings a kernel is wrong there; with
# their whole weight it would be wrong in the cores of stars of other seeing.
_BESIDE_BRIGHT = np.float32(0.1)  # of the squared structure that taps see
# Steps of the whole image: tolerance of mismatch on structure, and the prior of taps
# that are free: first only flux, shift and seeing, as a hit bends a free kernel.
_STEPS = ((0.5, 0.003), (0.1, 0.01), (0.01, 0.02))
_SIZES = (0.3, 0.5, 0.5, 0.3, 0.3, 0.3)  # of flux, shifts and second derivatives
_ALIKE, _ALIKE_FREE = 0.2, 0.01  # of this, and on each tap: differences between tiles
# Steps of a tile: of how many pixels one counts, and tolerance. The first tells where
# to start: beyond a small tolerance of the whole image's kernel the core of a bright
# star would be left out.
_STEPS_OF_TILES = (3, 0.06), (1, 0.01)
# Weight of tiles beside, and the filled part of a tile from which on it is 0.
_BESIDE, _DENSE_TILE, _RAMP = 0.5, 0.6, 0.4
_ENOUGH, _LEAST = 100_000, 50  # pixels, for the kernel of the whole image; of a tile
_DENSE = 0.5  # of a part: all pixels are as quick as these
# Noise in the taps makes kernels too small. What they tell above some sigmas, squared,
# shows by how much; the prior is that of a slope of 1, in squared sigmas.
_CLEAR, _PRIOR_OF_SLOPE, _SLOPES = np.float32(36), 100.0, (0.8, 1.3)
_AT_ONCE = 256  # pixels
_BEYOND = np.float32(4)  # squared error of what is outside, of its last change
_CONSTANT = 1e-6  # prior of the constant, 1 / variance
_STRONG = np.float32(256.0)  # squared sigmas of structure that hits do not leave
_MOST_ALONE = 0.7  # of the squared structure of a tile


@dataclass(frozen=True)
class Taps:
    """
    Shifted copies of an image (ny, nx), the columns of the fit of a kernel.

    ``half`` is the number of pixels on each side of the middle.
    """

    image: np.ndarray
    half: int
    width: int
    offsets: np.ndarray = field(repr=False)

    @classmethod
    def of_image(cls, image, half):
        """Pad an image for kernels of 2 half + 1 pixels."""
        padded = _padded(image, half)
        dy, dx = _tap_places(half)
        return cls(padded.ravel(), half, padded.shape[1], dy * padded.shape[1] + dx)

    @property
    def middle(self):
        """The image (ny, nx) itself, a view."""
        inner = slice(self.half, -self.half)
        return self.image.reshape(-1, self.width)[inner, inner]

    @property
    def number(self):
        """The number of taps and the constant."""
        return len(self.offsets) + 1

    def at(self, places):
        """
        Return the taps and the constant 1 (taps + 1, m).

        ``places`` are rows and columns, each (m,), or slices of an image.
        """
        rows, columns = places
        if isinstance(rows, slice):
            return self._of_block(rows, columns)
        place = (rows + self.half) * self.width + columns + self.half
        values = np.empty((self.number, len(place)), dtype=self.image.dtype)
        index = place + self.offsets[:, np.newaxis]
        # Other modes than "clip" copy to a buffer first.
        np.take(self.image, index, out=values[:-1], mode="clip")
        values[-1] = 1
        return values

    def _of_block(self, rows, columns):
        """Return the taps and the constant 1 of slices, faster than one by one."""
        block = self._shifted[:, :, rows, columns]
        values = np.ones((self.number, *block.shape[2:]), dtype=self.image.dtype)
        values[:-1].reshape(block.shape)[:] = block
        return values.reshape(self.number, -1)

    @cached_property
    def _shifted(self):
        """The shifted copies as a view (dy, dx, ny, nx)."""
        image, size = self.image.reshape(-1, self.width), 2 * self.half + 1
        return sliding_window_view(image, (size, size)).transpose(2, 3, 0, 1)


def _padded(image, half):
    """Return an image (ny, nx) that goes on beyond its edges, reflected."""
    ny, nx = image.shape
    padded = empty((ny + 2 * half, nx + 2 * half))
    for rows in in_turn(bands_in_cache(image.shape, longer=8)):
        wide, inside = with_halo(rows, half, ny)
        edges = half * (wide.start == 0), half * (wide.stop == ny)
        pads = edges, (half, half)
        part = np.pad(image[wide], pads, mode="reflect", reflect_type="odd")
        start = 0 if rows.start == 0 else inside.start + edges[0]
        stop = len(part) if rows.stop == ny else inside.stop + edges[0]
        first = 0 if rows.start == 0 else rows.start + half
        padded[first : first + stop - start] = part[start:stop]
    return padded


def _tap_places(half):
    """Return dy and dx (taps,) of the taps, the pixel that is seen at the middle."""
    steps = np.arange(-half, half + 1)
    dy, dx = np.meshgrid(steps, steps, indexing="ij")
    return dy.ravel(), dx.ravel()


def find_fitted(image, profile, noise, grow=_GROW):
    """Return the pixels (ny, nx) of structure in an image, and ``grow`` around."""
    fitted = empty(image.shape, bool)

    def work(rows):
        wide, inside = with_halo(rows, grow + 2, len(fitted))
        sigma = np.sqrt(noise.at(wide).mean_variance(image[wide]))
        found = profile[wide] > _THRESHOLD * sigma
        fitted[rows] = dilate(_wide(found), grow)[inside]

    in_threads(work, bands_in_cache(fitted.shape))
    return fitted


def _wide(mask):
    """Return the pixels of a mask (ny, nx) that are in a block of 2 x 2 of them."""
    block = mask[:-1] & mask[1:]
    block = block[:, :-1] & block[:, 1:]
    wide = np.zeros_like(mask)
    for y, x in product((np.s_[:-1], np.s_[1:]), repeat=2):
        wide[y, x] |= block
    return wide


@dataclass(frozen=True)
class KernelFits:
    """
    Kernels minus the identity, which replace all but the constant of `TileFits`.

    ``wholes`` (n, taps + 1) are those of the whole image, ``kernels`` (n, tiles along
    y, tiles along x, taps + 1) those of the tiles with their constant. ``fitted``
    (ny, nx) are the pixels that kernels are applied to.
    """

    fits: TileFits
    taps: Taps
    fitted: np.ndarray
    wholes: np.ndarray
    kernels: np.ndarray

    @property
    def tiling(self):
        """The `Tiling`."""
        return self.fits.tiling

    @property
    def coefficients(self):
        """The coefficients of `TileFits`."""
        return self.fits.coefficients

    def corrections(self, rows, terms):
        """Yield the excess of each exposure over the reference, (rows, nx)."""
        fitted = self.fitted[rows]
        if not fitted.any():
            yield from self.fits.corrections(rows, terms)
            return
        terms[:-1] *= ~fitted
        outside = self.fits.corrections(rows, terms)
        for plane, more in zip(outside, self._on_structure(rows), strict=True):
            yield np.add(plane, more, out=plane)

    def at(self, i, y, x):
        """Return the taps of the kernels (m, taps) at pixels (m,) of exposures i."""
        sides = [self._sides(axis, place) for axis, place in enumerate((y, x))]
        kernels = self.kernels[..., :-1].astype(np.float32)
        return sum(
            kernels[i, a, b] * (p * q)[:, np.newaxis]
            for (a, p), (b, q) in product(*sides)
        )

    def beyond_edges(self, profile):
        """
        Return rows, columns and variance (m,) of structure that is cut by an edge.

        Taps outside go on as the last two pixels do, with an error of that change.
        """
        half, edge = self.taps.half, empty(self.fitted.shape, bool)
        edge[:] = self.fitted
        edge[half:-half, half:-half] = False
        y, x = pixels_of(edge)
        steps = (step[:, np.newaxis] for step in _tap_places(half))
        nearest = profile[moved((y, x), steps, profile.shape)]
        change = self.taps.at((y, x))[:-1] - nearest
        square = np.zeros(len(y), dtype=np.float32)
        for i in range(len(self.kernels)):
            square += np.square(np.einsum("mt,tm->m", self.at(i, y, x), change))
        return y, x, _BEYOND * square / len(self.kernels)

    def _sides(self, axis, place):
        """Return the tiles before and after places (m,) with their shares."""
        last = self.tiling.number[axis] - 1
        first = np.floor((place + 0.5) / self.tiling.size[axis] - 0.5)
        first = np.clip(first, 0, last).astype(int)
        part = _part(place, self.tiling, axis, first)
        return (first, 1 - part), (np.minimum(first + 1, last), part)

    def _on_structure(self, rows):
        """Return what the kernels tell, (n, rows, nx)."""
        n, width = len(self.kernels), self.fitted.shape[1]
        total = np.zeros((n, rows.stop - rows.start, width), dtype=np.float32)
        for ys, (y0, y1) in _cells(self.tiling, 0, rows):
            for xs, (x0, x1) in _cells(self.tiling, 1, slice(0, width)):
                places = _find_places(self.fitted, ys, xs)
                if places is None:
                    continue
                y, x = _open(places)
                py = _part(y, self.tiling, 0, y0)
                px = _part(x, self.tiling, 1, x0)
                shares = (1 - py) * (1 - px), (1 - py) * px, py * (1 - px), py * px
                corners = self.kernels[:, [y0, y0, y1, y1], [x0, x1, x0, x1]]
                values = multiply(corners.astype(np.float32), self.taps.at(places))
                values *= np.stack(shares).reshape(4, -1)
                here = np.s_[:, *_from(rows.start, places)]
                total[here] = values.sum(axis=1).reshape(total[here].shape)
        total *= self.fitted[rows]
        return total


def _find_places(fitted, rows, columns, most=None):
    """
    Return the rows and columns, each (m,), of fitted pixels (ny, nx) in slices.

    There are at most about ``most``. It is None if there are none, and the slices if
    most pixels are fitted and all are wanted.
    """
    part = fitted[rows, columns]
    number = np.count_nonzero(part)
    if number == 0:
        return None
    if most is None and number > _DENSE * part.size:
        return rows, columns
    step = 1 if most is None else -(-number // most)
    y, x = (place[::step] for place in pixels_of(part))
    return y + rows.start, x + columns.start


def _open(places):
    """Return places, of slices their rows (h, 1) and columns (w,)."""
    if not isinstance(places[0], slice):
        return places
    y, x = (np.arange(part.start, part.stop) for part in places)
    return y[:, np.newaxis], x


def _from(start, places):
    """Return places whose rows are counted from ``start``."""
    y, x = places
    if isinstance(y, slice):
        return slice(y.start - start, y.stop - start), x
    return y - start, x


def _cells(tiling, axis, part):
    """Yield slices between centres of tiles, and the tiles of both ends."""
    size, number = tiling.size[axis], tiling.number[axis]
    middle = [int(np.ceil((k + 0.5) * size - 0.5)) for k in range(number)]
    edges = [0, *middle, tiling.shape[axis]]
    for k, ends in enumerate(pairwise(edges)):
        cell = slice(max(ends[0], part.start), min(ends[1], part.stop))
        if cell.start < cell.stop:
            yield cell, (max(k - 1, 0), min(k, number - 1))


def _part(place, tiling, axis, first):
    """Return how far places are from the centre of a tile to the next, 0 to 1."""
    part = (place + 0.5) / tiling.size[axis] - 0.5 - first
    return np.clip(part, 0, 1).astype(np.float32)


def are_told(frames, scene, tiling):
    """
    Return whether pixels that are clean in both of two exposures tell kernels.

    They do in most of the tiles that have strong structure.
    """

    def work(rows):
        level = scene.structure.square(rows)
        level = level / frames.noise.at(rows).mean_variance(scene.reference[rows])
        level *= level > _STRONG
        total, alone = (
            tiling.cut(plane).sum(axis=1)
            for plane in (level, level * scene.alone[rows])
        )
        few = alone > _MOST_ALONE * total
        return np.count_nonzero(few), np.count_nonzero(total)

    few, number = np.sum(in_threads(work, tiling.bands()), axis=0)
    return 2 * few < number


def fit_kernels(frames, scene, fits, *, wholes=None, cores=False):
    """
    Return the `KernelFits` of the exposures, with the constants of `TileFits`.

    Kernels of the whole image, then those of the tiles near the last, each by weighted
    least squares with decreasing tolerance of mismatch on structure. Pixels of tiles
    beside count half, unless structure is dense: a part of a profile would not tell its
    seeing. ``wholes`` (n, taps + 1) are given if the frames are whole tiles of a larger
    image. With ``cores`` the kernels are right in cores of structure, not around.
    """
    profile = scene.structure.profile
    fitted = scene.fitted
    if fitted is None:
        fitted = find_fitted(scene.reference, profile, frames.noise)
    fit = _Fit(frames, scene, fits, Taps.of_image(profile, _HALF), fitted)
    if wholes is None:
        wholes = _fit_whole(fit)
    kernels = fit.of_tiles(wholes)
    if cores:
        kernels[..., :-1] *= fit.slopes(kernels).reshape(-1, 1, 1, 1)
    return KernelFits(fits, fit.taps, fitted, wholes, kernels)


def _fit_whole(fit):
    """Return the kernels (n, taps + 1) of the whole image."""
    sample = fit.sample()

    def work(i):
        kernel = np.zeros(fit.taps.number)
        for q, free in _STEPS:
            start = kernel.astype(np.float32)
            parts = [pixels.equations(i, q, start) for pixels in sample]
            normal, right = (sum(part) for part in zip(*parts, strict=True))
            prior = _prior_precision(fit.taps.half, 1.0, free)
            kernel = np.linalg.solve(normal + prior, right)
        return kernel

    if not sample:  # there is no structure
        return np.zeros((len(fit.frames), fit.taps.number))
    return np.array(in_threads(work, range(len(fit.frames))))


@lru_cache
def _prior_precision(half, scale, free):
    """
    Return the inverse covariance (k, k) of the prior of a kernel and its constant.

    Flux, shift and second derivatives are ``scale`` times their usual sizes; on each
    tap ``free`` is added.
    """
    taps = np.stack(_tap_places(half))
    zero, odd = taps == 0, np.where(np.abs(taps) == 1, taps / 2, 0)
    even = (np.abs(taps) == 1) - 2.0 * zero
    orders = {0: zero.astype(float), 1: odd, 2: even}
    pairs = (0, 0), (0, 1), (1, 0), (0, 2), (2, 0), (1, 1)
    terms = np.array([orders[y][0] * orders[x][1] for y, x in pairs])
    terms *= scale * np.array(_SIZES)[:, np.newaxis]
    result = np.diag(np.append(np.zeros(len(terms.T)), _CONSTANT))
    covariance = terms.T @ terms + np.eye(len(terms.T)) * free**2
    result[:-1, :-1] = np.linalg.inv(covariance)
    return result


def _with_beside(sums, part):
    """Return sums (n, ty, tx, ...) with a part (ty, tx) of those of tiles beside."""
    for axis in (1, 2):
        share = part.reshape(part.shape + (1,) * (sums.ndim - 3))
        sums, share = np.moveaxis(sums, axis, 0), np.moveaxis(share, axis - 1, 0)
        total = sums.copy()
        total[1:] += sums[:-1] * share[1:, np.newaxis]
        total[:-1] += sums[1:] * share[:-1, np.newaxis]
        sums = np.moveaxis(total, 0, axis)
    return sums


def _solve(matrix, vector):
    return np.linalg.solve(matrix, vector[..., np.newaxis])[..., 0]


@dataclass(frozen=True)
class _Pixels:
    """
    Pixels (m,) of a fit: ``taps`` (k, m) and the squared ``level`` of structure (m,).

    ``around`` is the same or a part of the highest that the taps see. ``exposures`` are
    the difference, its variance and what is usable, each (m,).
    """

    taps: np.ndarray
    level: np.ndarray
    around: np.ndarray
    exposures: list

    @classmethod
    def join(cls, parts):
        """Return the pixels of all parts."""
        exposures = zip(*(part.exposures for part in parts), strict=True)
        return cls(
            np.concatenate([part.taps for part in parts], axis=1),
            np.concatenate([part.level for part in parts]),
            np.concatenate([part.around for part in parts]),
            [
                list(map(np.concatenate, zip(*planes, strict=True)))
                for planes in exposures
            ],
        )

    def equations(self, i, q, kernel, every=1):
        """
        Return normal (k, k) and right (k,) of exposure i, from a kernel (k,).

        Of ``every`` pixels one is used, which counts for all.
        """
        taps = self.taps[:, ::every]
        level, around = self.level[::every], self.around[::every]
        difference, floor, usable = (p[::every] for p in self.exposures[i])
        residual = difference - np.einsum("k,km->m", kernel, taps)
        weight = weights(residual, floor + np.float32(q**2) * level, usable)
        weight *= every * around / (around + _FAINT * floor)
        root = np.sqrt(weight, out=weight)
        weighted = np.empty((len(taps) + 1, len(root)), dtype=taps.dtype)
        np.multiply(taps, root, out=weighted[:-1])
        np.multiply(difference, root, out=weighted[-1])
        products = _own_product(weighted).astype(np.float64)
        return products[:-1, :-1], products[:-1, -1]

    def slope_of(self, i, kernel):
        """Return what tells the slope of exposure i where a kernel (k,) tells much."""
        difference, floor, usable = self.exposures[i]
        told = np.einsum("k,km->m", kernel[:-1], self.taps[:-1])
        measured = difference - kernel[-1]
        _, q = _STEPS_OF_TILES[-1]
        variance = floor + np.float32(q**2) * self.level
        weight = weights(measured - told, variance, usable)
        weight *= told * (np.square(told) > _CLEAR * floor)
        return np.dot(weight, measured), np.dot(weight, told)


def _own_product(values):
    """
    Return the product (k, k) of values (k, m) and their transpose, of parts of them.

    The product of all would have threads of its own, which disturb ours.
    """
    whole = values.shape[1] // _AT_ONCE * _AT_ONCE
    parts = values[:, :whole].reshape(len(values), -1, _AT_ONCE).swapaxes(0, 1)
    rest = values[:, whole:]
    return np.matmul(parts, parts.swapaxes(1, 2)).sum(axis=0) + rest @ rest.T


@dataclass(frozen=True)
class _Fit:
    """Exposures, reference and pixels that the normal equations are made of."""

    frames: object
    scene: object
    fits: TileFits
    taps: Taps
    fitted: np.ndarray

    def of_tiles(self, wholes):
        """Return the kernels (n, ty, tx, k) of the tiles, near the ``wholes``."""
        n, k = wholes.shape
        shape = n, *self.fits.tiling.number, k
        normal, right = np.zeros((*shape, k)), np.zeros(shape)
        prior = _prior_precision(self.taps.half, _ALIKE, _ALIKE_FREE)
        near = wholes @ prior

        def work(rows):
            for a, b, pixels in self._tiles(rows):
                here, start = np.s_[:, a, b], wholes
                for step, (every, q) in enumerate(_STEPS_OF_TILES):
                    if step > 0:
                        start = _solve(normal[here] + prior, right[here] + near)
                    starts = start.astype(np.float32)
                    parts = [pixels.equations(i, q, starts[i], every) for i in range(n)]
                    normal[here], right[here] = map(np.stack, zip(*parts, strict=True))

        in_threads(work, self.fits.tiling.bands())
        part = self._part_beside()
        normal, right = _with_beside(normal, part), _with_beside(right, part)
        return _solve(normal + prior, right + near[:, np.newaxis, np.newaxis])

    def slopes(self, kernels):
        """Return by how much (n,) differences are larger than kernels of tiles tell."""
        kernels = kernels.astype(np.float32)

        def work(rows):
            sums = np.zeros((len(kernels), 2))
            for a, b, pixels in self._tiles(rows, self._most):
                sums += [pixels.slope_of(i, k[a, b]) for i, k in enumerate(kernels)]
            return sums

        sums = sum(in_threads(work, self.fits.tiling.bands())) + _PRIOR_OF_SLOPE
        return np.clip(sums[:, 0] / sums[:, 1], *_SLOPES)

    def _part_beside(self):
        """Return how much the tiles beside count (ty, tx): 0 if structure is dense."""
        tiling = self.fits.tiling
        filled = tiling.cut(self.fitted).mean(axis=1).reshape(tiling.number)
        return np.clip((_DENSE_TILE - filled) / _RAMP, 0, _BESIDE)

    def sample(self):
        """Return `_Pixels` of the whole image, at most about 100 000."""

        def work(rows):
            tiles = [pixels for _, _, pixels in self._tiles(rows, self._most)]
            return [_Pixels.join(tiles)] if tiles else []

        return list(chain(*in_threads(work, self.fits.tiling.bands())))

    @property
    def _most(self):
        """The number of pixels of a tile that are enough for the whole image."""
        return max(_ENOUGH // np.prod(self.fits.tiling.number), _LEAST)

    def _tiles(self, rows, most=None):
        """Yield the indices of each tile and its `_Pixels`, at most about ``most``."""
        if not self.fitted[rows].any():
            return
        tiling = self.fits.tiling
        level, around = self._levels(rows)
        planes = self._planes(rows, level)
        tiles = range(*tiling.rows_of_tiles(rows).indices(tiling.number[0]))
        for a, b in product(tiles, range(tiling.number[1])):
            tile = [
                slice(k * side, min((k + 1) * side, length))
                for k, side, length in zip(
                    (a, b), tiling.size, tiling.shape, strict=True
                )
            ]
            places = _find_places(self.fitted, *tile, most)
            if places is None:
                continue
            here = _from(rows.start, places)
            exposures = [[plane[here].ravel() for plane in parts] for parts in planes]
            levels = level[here].ravel(), around[here].ravel()
            yield a, b, _Pixels(self.taps.at(places), *levels, exposures)

    def _levels(self, rows):
        """Return squared level, and the same or a part of what taps see around."""
        wide, inside = with_halo(rows, _HALF, len(self.fitted))
        square = self.scene.structure.square(wide)
        around = running(np.maximum, square, 2 * _HALF + 1)[inside]
        level = square[inside]
        return level, np.maximum(level, _BESIDE_BRIGHT * around)

    def _planes(self, rows, level):
        """Return difference, variance and use of each exposure."""
        frames, scene = self.frames, self.scene
        m, noise = scene.reference[rows], frames.noise.at(rows)
        clear = ~scene.flagged[rows] | (level > _STRONG * noise.mean_variance(m))
        clear &= self.fitted[rows]
        if scene.alone is not None:
            clear &= ~scene.alone[rows]
        planes = []
        for i, coefficients in enumerate(self.fits.coefficients):
            difference = frames.data[i, rows] - m
            difference -= self.fits.tiling.interpolate(coefficients[..., -1:], rows)[0]
            usable = clear
            if frames.unused is not None:
                usable = clear & ~frames.unused[i, rows]
            planes.append((difference, match_variance(m, noise, i), usable))
        return planes
