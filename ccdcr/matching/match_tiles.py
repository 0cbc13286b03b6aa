# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Local matching in tiles: flux, shift, seeing and background of each exposure.

The difference of an exposure and a reference m is a sum of five terms: a factor
of the structure of m (flux), its two derivatives (shift), its Laplacian (seeing)
and a constant (background).
"""

from dataclasses import dataclass

import numpy as np

from ccdcr.matching.equivalence import TERMS
from ccdcr.utils.neighbours import bands_in_cache, in_threads, with_halo

__all__ = [
    "TileFits",
    "Tiling",
    "fit_tiles",
    "make_terms",
    "match_variance",
    "weights",
]

# Expected size of each term: stops the fit to noise.
_PRIOR = np.array([0.3, 0.5, 0.5, 0.3, 1000.0])
_ALIKE = 0.2  # of this: differences between tiles
# The first tolerance keeps bright structure in the fit, however much it deviates.
_ANNEALING = (0.5, 0.12, 0.03)
_REAL = np.float32(9.0)  # squared sigmas of structure that does not count
_STRONG = np.float32(256.0)  # squared sigmas of structure that hits do not leave
_MOST_HIT = 0.5
_CUT = np.float32(1 / 16)  # Tukey's biweight ends at 4 sigma


@dataclass(frozen=True)
class Tiling:
    """An image (ny, nx) cut into tiles of one size, but for the last ones."""

    shape: tuple
    size: tuple
    number: tuple

    @classmethod
    def from_tile(cls, shape, tile):
        """Cut an image into tiles of about ``tile`` pixels along each axis."""
        number = tuple(max(round(length / tile), 1) for length in shape)
        size = tuple(-(-n // k) for n, k in zip(shape, number, strict=True))
        return cls.from_size(shape, size)

    @classmethod
    def from_size(cls, shape, size):
        """Cut an image into tiles of a size."""
        number = tuple(-(-n // s) for n, s in zip(shape, size, strict=True))
        return cls(shape, size, number)

    def bands(self):
        """Return slices of rows that hold whole tiles."""
        return bands_in_cache(self.shape, step=self.size[0])

    def rows_of_tiles(self, rows):
        """Return the rows of tiles that a slice of rows holds."""
        return slice(rows.start // self.size[0], -(-rows.stop // self.size[0]))

    def cut(self, image):
        """Return a band as (tiles, pixels of a tile); 0 beyond the image."""
        (ty, tx), nx = self.size, self.number[1]
        ny = -(-image.shape[0] // ty)
        missing = (ny * ty - image.shape[0], nx * tx - image.shape[1])
        if any(missing):
            image = np.pad(image, [(0, more) for more in missing])
        cubes = image.reshape(ny, ty, nx, tx).swapaxes(1, 2)
        return cubes.reshape(ny * nx, ty * tx)

    def sample(self, image):
        """Return a band as (tiles, pixels), like one colour of a chessboard."""
        tiles = self.cut(image).reshape(-1, *self.size)
        parts = [tiles[:, k::2, k::2].reshape(len(tiles), -1) for k in (0, 1)]
        return np.concatenate(parts, axis=1)

    def interpolate(self, values, rows):
        """Return k images (rows, nx), bilinear between tiles of (ny, nx, k)."""
        place = (np.arange(rows.start, rows.stop) + 0.5) / self.size[0] - 0.5
        place = np.clip(place, 0, self.number[0] - 1)
        upper = np.minimum(place.astype(int) + 1, self.number[0] - 1)
        part = (place - place.astype(int))[:, np.newaxis, np.newaxis]
        bands = values[place.astype(int)] * (1 - part) + values[upper] * part
        return [self._along_rows(band) for band in np.moveaxis(bands, -1, 0)]

    def _along_rows(self, values):
        # From centre to centre a straight line; a matrix product would do the
        # same, but its threads disturb ours.
        size = self.size[1]
        values = np.pad(values, [(0, 0), (1, 1)], mode="edge").astype(np.float32)
        slope = np.diff(values, axis=1)[:, :, np.newaxis]
        ramp = (np.arange(size, dtype=np.float32) + (1 - size % 2) / 2) / size
        lines = slope * ramp.astype(np.float32)
        lines += values[:, :-1, np.newaxis]
        first = (size + 1) // 2
        return lines.reshape(len(values), -1)[:, first : first + self.shape[1]]


@dataclass(frozen=True)
class TileFits:
    """
    Fitted terms.

    ``coefficients`` are (n, tiles along y, tiles along x, 5), ``mean`` (n, 5) those of
    tiles without structure.
    """

    tiling: Tiling
    mean: np.ndarray
    coefficients: np.ndarray

    def corrections(self, rows, terms):
        """Yield the excess of each exposure over the reference, (rows, nx)."""
        for i in range(len(self.coefficients)):
            yield self.correction(i, rows, terms)

    def correction(self, i, rows, terms):
        """Return the excess of exposure i over the reference, (rows, nx)."""
        total = np.zeros(terms.shape[1:], dtype=terms.dtype)
        planes = self.tiling.interpolate(self.coefficients[i], rows)
        for plane, term in zip(planes, terms, strict=True):
            total += np.multiply(plane, term, out=plane)
        return total


def make_terms(image, structure, noise, rows):
    """
    Return the terms (5, rows, nx) of a band of the reference, as in `TERMS`.

    Where there is only noise all but the constant are 0: noise is not shifted, and
    would pull the fitted shifts to 0.
    """
    wide, _ = with_halo(rows, 1, len(image))
    edges = (int(wide.start == rows.start), int(wide.stop == rows.stop))
    part = np.pad(image[wide], (edges, (1, 1)), mode="edge")
    half = image.dtype.type(0.5)
    centre = part[1:-1, 1:-1]
    left, right = part[1:-1, :-2], part[1:-1, 2:]
    below, above = part[:-2, 1:-1], part[2:, 1:-1]
    terms = np.empty((len(TERMS), *centre.shape), dtype=image.dtype)
    terms[0] = structure.profile[rows]
    terms[1] = (right - left) * half
    terms[2] = (above - below) * half
    terms[3] = left + right + below + above - 4 * centre
    square = structure.square(rows)
    floor = _REAL * noise.at(rows).mean_variance(image[rows])
    terms[:4] *= 1 - floor / np.maximum(square, floor)
    terms[4] = 1
    return terms


def weights(residual, variance, usable=None, out=None):
    """Return Tukey's biweight over the variance, 0 beyond 4 sigma or if not usable."""
    weight = np.square(residual, out=out)
    weight *= -_CUT
    weight /= variance
    weight += 1
    np.maximum(weight, 0, out=weight)
    np.square(weight, out=weight)
    weight /= variance
    if usable is not None:
        weight *= usable
    return weight


def fit_tiles(frames, scene, tiling, *, mean=None):
    """
    Return the `TileFits` of the exposures.

    Weighted least squares with Gaussian priors, repeated with decreasing tolerance of
    mismatch on structure. Tiles without structure take ``mean`` (n, 5), by default that
    of the image.
    """
    structure = scene.structure
    shape, k = (len(frames), *tiling.number), len(TERMS)
    results = [np.zeros((*shape, *size)) for size in ((k, k), (k,))]

    def work(rows):
        place = tiling.rows_of_tiles(rows)
        terms = make_terms(scene.reference, structure, frames.noise, rows)
        terms = np.stack([tiling.sample(term) for term in terms], axis=1)
        level = structure.square(rows)
        # Faint structure where an exposure is hit may be left by hits; where most of
        # a tile looks hit, the exposures differ.
        noise = frames.noise.at(rows)
        faint = level < _STRONG * noise.mean_variance(scene.reference[rows])
        level, left = tiling.sample(level), tiling.sample(faint & scene.flagged[rows])
        left &= left.mean(axis=1, keepdims=True) < _MOST_HIT
        for i in range(len(frames)):
            difference, floor, usable = _parts(frames, scene, tiling, rows, i)
            usable &= ~left
            found = _fit(terms, level, difference, floor, usable)
            for target, value in zip(results, found, strict=True):
                rows_of_tiles = value.reshape(-1, tiling.number[1], *value.shape[1:])
                target[i, place] = rows_of_tiles

    in_threads(work, tiling.bands())
    if mean is None:
        normal, right = (part.sum(axis=(1, 2)) for part in results)
        mean = _solve(normal + np.diag(_PRIOR**-2), right)
    coefficients = _solve_near(mean, *results)
    if len(frames) % 2 == 0 and len(frames) > 2:
        # The reference, the lower one of two, is below the mean exposure.
        coefficients[..., -1] -= coefficients[..., -1].mean(axis=0)
    return TileFits(tiling, mean, coefficients)


def _solve_near(mean, normal, right):
    """Solve the equations of all tiles, with a prior around the mean (n, 5)."""
    alike = (_ALIKE * _PRIOR) ** -2
    right = right + (alike * mean)[:, np.newaxis, np.newaxis]
    return _solve(normal + np.diag(alike), right)


def _solve(matrix, vector):
    return np.linalg.solve(matrix, vector[..., np.newaxis])[..., 0]


def _parts(frames, scene, tiling, rows, i):
    """Return difference, variance and usable pixels of exposure i, (tiles, pixels)."""
    m = scene.reference[rows]
    difference = tiling.sample(frames.data[i, rows] - m)
    floor = tiling.sample(match_variance(m, frames.noise.at(rows), i))
    usable = floor > 0  # the margin beyond the image is 0
    floor[~usable] = 1
    if frames.unused is not None:
        usable &= ~tiling.sample(frames.unused[i, rows])
        difference[~usable] = 0
    return difference, floor, usable


def match_variance(m, noise, i):
    """Return the variance of exposure i minus a clean reference."""
    if noise.equal:
        return np.float32(1.44) * noise.mean_variance(m)
    return noise.variance(m, i) + np.float32(0.44) * noise.mean_variance(m)


def _fit(terms, level, difference, floor, usable):
    """Return the last equations of tiles of one exposure."""
    residual = difference
    usable = None if usable.all() else usable
    for q in _ANNEALING:
        weight = weights(residual, floor + np.float32(q**2) * level, usable)
        normal, right = _normal_equations(terms, weight, difference)
        solution = _solve(normal + np.diag(_PRIOR**-2), right).astype(terms.dtype)
        residual = difference - np.matmul(solution[:, np.newaxis], terms)[:, 0]
    return normal, right


def _normal_equations(terms, weight, difference):
    weighted = terms * weight[:, np.newaxis]
    normal = np.matmul(weighted, terms.swapaxes(1, 2))
    right = np.matmul(weighted, difference[:, :, np.newaxis])
    return normal.astype(np.float64), right[:, :, 0].astype(np.float64)
