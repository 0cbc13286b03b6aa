# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Flux, shift, seeing and background of exposures relative to their mean.

An exposure is the mean times a factor, shifted and widened. Widened by s and shifted by
d, a profile is exp(-d D + s D^2 / 2) of it, D the derivative: a sum of derivatives of
the mean. Both are smoothed before, as noise in derivatives would attenuate the terms.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from scipy.ndimage import gaussian_filter1d

from ccdcr.matching.frames import find_profile
from ccdcr.matching.kernels import find_fitted
from ccdcr.matching.match_tiles import Tiling, match_variance, weights
from ccdcr.utils.neighbours import (
    bands_in_cache,
    in_threads,
    smooth_columns,
    with_halo,
)
from ccdcr.utils.scratch import empty, in_turn

__all__ = ["Terms", "TermsFit", "measure_terms"]

_SMOOTH, _HALO = 1.0, 5  # pixels
_EVERY = 2  # rows and columns of smooth images
_ORDERS = [(a, b) for a in range(5) for b in range(5) if a + b < 4 or a + b == a * b]
_ORDERS += [(4, 0), (0, 4)]
_GROW = 4  # pixels: wings of structure
_TOLERANCE, _CLEAR = np.float32(0.04), np.float32(9.0)  # squared mismatch, sigmas
# Flux, shift x, shift y, seeing, constant: usual sizes.
_SIZES = np.array([0.3, 0.5, 0.5, 0.6, 1000.0])
_WIDE, _ALIKE = 10.0, 0.2  # of this: the whole image, and differences between tiles
_STEPS, _SMALL = 6, 1e-4
_LEAST_FLUX = 0.1
_ACCURATE, _ALONG = 0.02, 5  # pixels, and times the error across a trace


@dataclass(frozen=True)
class Terms:
    """
    Terms of exposures relative to their mean, and their errors.

    ``image`` and ``image_errors`` are (n, 4): flux, shift_x, shift_y and seeing.
    ``tiles`` and ``tile_errors`` are (n, tiles along y, tiles along x, 4),
    ``background`` (n, tiles along y, tiles along x). Errors are infinite where nothing
    is known.
    """

    tiling: Tiling
    image: np.ndarray
    image_errors: np.ndarray
    tiles: np.ndarray
    tile_errors: np.ndarray
    background: np.ndarray


def measure_terms(fit):
    """Return the `Terms` of exposures of a `TermsFit`."""
    tiles = fit.equations()
    whole = [part.sum(axis=(1, 2)) for part in tiles]
    start = np.array([1.0, 0, 0, 0, 0])
    image, covariance = _solve(*whole, start, (_WIDE * _SIZES) ** -2)
    centre = image[:, np.newaxis, np.newaxis]
    alike = _ALIKE * _SIZES
    local, local_covariance = _solve(*tiles, centre, alike**-2)
    scatter = _scatter(local - centre, local_covariance, alike)
    if (scatter > alike).any():
        prior = np.maximum(scatter, alike)[:, np.newaxis, np.newaxis] ** -2
        local, local_covariance = _solve(*tiles, centre, prior)
    background = fit.background[..., 0] + local[..., 4]
    return Terms(
        fit.tiling,
        *_relative(image, covariance),
        *_relative(local, local_covariance),
        background - background.mean(axis=0),
    )


def _scatter(change, covariance, alike):
    """
    Return the scatter (n, 5) of tiles from changes (n, ty, tx, 5), shrunk by ``alike``.

    References: R. DerSimonian, N. Laird 1986, Controlled Clinical Trials 7, 177.
    """
    variance = np.diagonal(covariance, axis1=-2, axis2=-1)
    known = np.clip(1 - variance / alike**2, 0, 1)
    excess = np.square(change) - known * (1 - known) * alike**2
    tiles = (1, 2)
    total = np.maximum(np.square(known).sum(axis=tiles), 1)
    return np.sqrt(np.maximum(excess.sum(axis=tiles), 0) / total)


def _relative(terms, covariance):
    """Return terms (n, ..., 4) relative to the mean exposure, and their errors."""
    flux = terms[..., :1] / np.maximum(terms[..., :1].mean(axis=0), _LEAST_FLUX)
    others = terms[..., 1:4] - terms[..., 1:4].mean(axis=0)
    variances = np.diagonal(covariance, axis1=-2, axis2=-1)[..., :4]
    # Rounding of huge values spoils them: then nothing is known.
    errors = np.sqrt(np.where(variances >= 0, variances, (_WIDE * _SIZES[:4]) ** 2))
    # Across a tilted trace a small shift is the same as a large one along it.
    shifts = errors[..., 1:3]
    times = shifts / np.maximum(shifts.min(axis=-1, keepdims=True), _SMALL)
    shifts += _ACCURATE * times * (times > _ALONG)
    return np.concatenate([flux, others], axis=-1), errors


def _solve(normal, right, scatter, centre, prior):
    """Return terms (..., 5) near a centre and their covariance (..., 5, 5)."""
    terms = np.broadcast_to(centre, (*right.shape[:-1], 5)).copy()
    precision = prior[..., np.newaxis] * np.eye(5)
    for _ in range(_STEPS):
        slope = _slopes(terms)
        matrix = np.swapaxes(slope, -1, -2) @ normal @ slope + precision
        left = right - (normal @ _factors(terms)[..., np.newaxis])[..., 0]
        step = (left[..., np.newaxis, :] @ slope)[..., 0, :] + prior * (centre - terms)
        terms += np.linalg.solve(matrix, step[..., np.newaxis])[..., 0]
    inverse = np.linalg.inv(matrix)
    noise = np.swapaxes(slope, -1, -2) @ scatter @ slope + precision
    return terms, inverse @ noise @ inverse


def _factors(terms):
    """Return the factors (..., k) of the derivatives of the mean, minus itself."""
    flux, x, y, seeing, constant = np.moveaxis(terms, -1, 0)
    along_y, along_x = _series(y, seeing), _series(x, seeing)
    factors = [flux * along_y[a] * along_x[b] for a, b in _ORDERS]
    factors[0] = factors[0] - 1
    return np.stack([*factors, constant], axis=-1)


def _series(d, s):
    """Return the factors of derivatives of order 0 to 4 along an axis."""
    d = -d
    return (
        np.ones_like(d),
        d,
        (d**2 + s) / 2,
        d**3 / 6 + d * s / 2,
        d**4 / 24 + d**2 * s / 4 + s**2 / 8,
    )


def _slopes(terms):
    """Return the derivatives (..., k, 5) of the factors by the terms."""
    steps = np.eye(5) * _SMALL
    pairs = (_factors(terms + step) - _factors(terms - step) for step in steps)
    return np.stack(list(pairs), axis=-1) / (2 * _SMALL)


class TermsFit:
    """
    Exposures with hits filled, which `measure_terms` compares.

    ``matched`` are the exposures that `TileFits` made like that of a `Scene`.
    """

    def __init__(self, frames, matched, scene, masks, fits):
        self.frames, self.matched = frames, matched
        self.reference = scene.reference
        self.tiling, self.background = fits.tiling, fits.coefficients[..., -1:]
        self.square = empty([-(-length // _EVERY) for length in frames.shape])

        def work(rows):
            square, hit = scene.structure.square(rows), []
            for i, mask in enumerate(masks):
                residual, tolerance = self._residual(i, rows, square)
                # What is small compared with the structure may be a mismatch.
                doubtful = np.square(residual) > _CLEAR * tolerance
                hit.append(np.packbits(mask[rows] & doubtful, axis=1))
            first = rows.start % _EVERY
            here = slice(-(-rows.start // _EVERY), -(-rows.stop // _EVERY))
            self.square[here] = square[first::_EVERY, ::_EVERY]
            return np.stack(hit)

        hit = in_threads(work, bands_in_cache(frames.shape))
        self._hit_bits = np.concatenate(hit, axis=1)

    def _hit(self, i, rows):
        """Return where an exposure is hit, in rows (rows, nx), a slice."""
        bits, width = self._hit_bits[i, rows], self.frames.shape[1]
        return np.unpackbits(bits, axis=1, count=width).view(bool)

    @cached_property
    def mean(self):
        """The mean exposure (ny, nx)."""
        mean = empty(self.frames.shape)

        def average(rows):
            total = np.zeros_like(mean[rows])
            for i in range(len(self.frames)):
                total += self._filled(i, rows)
            mean[rows] = total / np.float32(len(self.frames))

        in_threads(average, bands_in_cache(mean.shape))
        return mean

    @cached_property
    def profile(self):
        """The mean exposure above the local background."""
        return find_profile(self.mean)

    @cached_property
    def fitted(self):
        """The pixels (ny, nx) that are fitted."""
        return find_fitted(self.mean, self.profile, self.frames.noise, _GROW)

    def _filled(self, i, rows):
        """Return exposure i (rows, nx), where it is hit what it was matched to."""
        data, left_out = self.frames.data[i, rows], self._hit(i, rows)
        if self.frames.unused is not None:
            left_out |= self.frames.unused[i, rows]
        residual = self.matched.data[i, rows] - self.reference[rows]
        return np.where(left_out, data - residual, data)

    def _residual(self, i, part, square):
        """Return what matching left in a part, and the square that is tolerated."""
        m, noise = self.reference[part], self.frames.noise.at(part)
        tolerance = square * _TOLERANCE
        tolerance += match_variance(m, noise, i)
        return self.matched.data[i][part] - m, tolerance

    def equations(self):
        """Return normal, right and the variance of right, each (n, ty, tx, k, ...)."""
        shape, k = (len(self.frames), *self.tiling.number), len(_ORDERS) + 1
        image = self.fitted
        results = [np.zeros((*shape, *size)) for size in ((k, k), (k,), (k, k))]

        def work(rows):
            fitted = image[self._sampled(rows)]
            if not fitted.any():
                return
            terms = self._derivatives(rows)
            planes = [self._planes(i, rows) for i in range(shape[0])]
            for a, b in product(
                range(*self.tiling.rows_of_tiles(rows).indices(shape[1])),
                range(shape[2]),
            ):
                tile = self._pixels(a, b, rows)
                here = fitted[tile]
                if not here.any():
                    continue
                part = terms[:, *tile][:, here]
                for i, exposure in enumerate(planes):
                    values = (plane[tile][here] for plane in exposure)
                    for result, value in zip(
                        results, _equations(part, *values), strict=True
                    ):
                        result[i, a, b] = value

        # Threads need more memory, and wait for each other in small tiles.
        for rows in in_turn(self.tiling.bands()):
            work(rows)
        return results

    def _sampled(self, rows):
        """Return the even rows and columns of a band: they tell all that is smooth."""
        start = rows.start + rows.start % _EVERY
        return slice(start, rows.stop, _EVERY), slice(None, None, _EVERY)

    def _pixels(self, a, b, rows):
        """Return the part of the sampled band that is in a tile."""
        starts = rows.start + rows.start % _EVERY, 0
        return tuple(
            slice(*(max(-((start - i * side) // _EVERY), 0) for i in (k, k + 1)))
            for k, side, start in zip((a, b), self.tiling.size, starts, strict=True)
        )

    def _derivatives(self, rows):
        """Return the derivatives of the smooth mean and 1, (k, rows, columns)."""
        wide, inside = with_halo(rows, _HALO, len(self.mean))
        profile = self.profile[wide]
        along = [self._smooth(profile, rows, inside, order) for order in range(5)]
        planes = [
            gaussian_filter1d(along[a], _SMOOTH, 1, b, mode="nearest")[:, ::_EVERY]
            for a, b in _ORDERS
        ]
        return np.stack([*planes, np.ones_like(planes[0])])

    def _smooth(self, plane, rows, inside, order=0):
        """Return the sampled rows of a plane (wide rows, nx), smooth along columns."""
        first = inside.start + rows.start % _EVERY
        smooth = smooth_columns(plane[first % _EVERY :], _SMOOTH, order, _EVERY)
        number = len(range(*self._sampled(rows)[0].indices(rows.stop)))
        return smooth[first // _EVERY :][:number]

    def _planes(self, i, rows):
        """Return the smooth difference, its variance and weight of an exposure."""
        wide, inside = with_halo(rows, _HALO, len(self.mean))
        difference = self._filled(i, wide) - self.mean[wide]
        difference -= self.tiling.interpolate(self.background[i], wide)[0]
        difference = self._smooth(difference, rows, inside)
        difference = gaussian_filter1d(difference, _SMOOTH, mode="nearest")
        sampled = self._sampled(rows)
        noise = self.frames.noise.at(sampled)
        variance = match_variance(self.mean[sampled], noise, i)
        square = self.square[slice(*(-(-k // _EVERY) for k in (rows.start, rows.stop)))]
        residual, tolerance = self._residual(i, sampled, square)
        residual[self._hit(i, sampled[0])[:, sampled[1]]] = 0
        unused = self.frames.unused
        usable = None if unused is None else ~unused[i][sampled]
        return difference[:, ::_EVERY], variance, weights(residual, tolerance, usable)


def _equations(terms, difference, variance, weight):
    """Return normal (k, k), right (k,) and its variance (k, k) of a tile."""
    weighted = _EVERY**2 * terms * weight
    noisy = weighted * variance
    # Smooth differences have as much noise in a sum as those of all pixels.
    noise = noisy @ weighted.T / _EVERY**2
    return weighted @ terms.T, weighted @ difference, noise
