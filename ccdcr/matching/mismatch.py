# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Mismatch that is left after matching, and noise that is measured."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from astropy.table import Table
from scipy.optimize import brentq
from scipy.stats import norm

from ccdcr.matching.clean_reference import low_references, means_of_others, surely_clean
from ccdcr.utils import stacks as kernels
from ccdcr.utils.neighbours import median_of_nine

__all__ = [
    "EDGES",
    "Dispersion",
    "Tails",
    "expected_quantile",
    "measured_pixels",
    "noise_levels",
]

EDGES = 2.0 ** np.arange(-1, 10)  # sigmas of structure, between 12 bins
_BINS = len(EDGES) + 1
_FINE = 16  # parts of a bin, for the median level in it
_LOWEST_LEVEL = -2  # logarithm (base 2) of the lowest level that is told apart

_LEAST, _MANY = 400, 2000  # values in a bin, and in one that tells the noise
_LEAST_Q0 = 0.8  # of what is expected
_LOWEST = 1.0  # sigmas: only values above are kept
_DRAWN, _MOST_DRAWN = 100_000, 20  # values, and exposures beyond which it is alike
_STRONG = 16.0  # sigmas of structure where nothing is left out

# Quantile, and its factor to the 0.995 quantile of Gaussian values. Of two
# exposures, a hit of the other one looks the same: a lower one is safer.
_QUANTILE, _QUANTILE_OF_TWO = (0.995, 1.0), (0.8, 3.06)
_TYPICAL = (0.95, 2.0)  # leftovers of cosmic rays do not reach it; for 3 to 9 exposures


def measured_pixels(coincident, level):
    """
    Return the pixels in which non-equivalence can be measured.

    Parameters
    ----------
    coincident : 2D `~numpy.ndarray` of bool
        Pixels in which a majority of the exposures is hit, and their
        surroundings.
    level : 2D `~numpy.ndarray`
        Level of the structure in sigmas.

    Returns
    -------
    use : 2D `~numpy.ndarray` of bool
        All but these, which hold leftovers of cosmic rays; on strong structure
        all, or else non-equivalent stars would leave out themselves.
    doubtful : 2D `~numpy.ndarray` of bool
        Those of them on strong structure, which may hold either.
    """
    strong = level >= _STRONG
    return ~coincident | strong, coincident & strong


@dataclass(frozen=True)
class Tails:
    """
    Counts by fine bin of structure, and the largest values with their bin.

    Doubtful values have bins of their own, after the others. Made of bands by
    `of` and put together by `join`.
    """

    counts: np.ndarray
    bins: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, below, level, usable, doubtful=None):
        """
        Collect the values of one band.

        Parameters
        ----------
        below : sequence of `~numpy.ndarray`
            How far each exposure is below the low reference of the others, in
            sigmas.
        level : `~numpy.ndarray`
            Level of the structure in sigmas.
        usable : sequence of `~numpy.ndarray` of bool
            Pixels that count, by exposure.
        doubtful : `~numpy.ndarray` of bool, optional
            Pixels whose values may be those of cosmic rays.

        Returns
        -------
        tails : `Tails`
            The values of this band.
        """
        least = np.float32(2.0**_LOWEST_LEVEL)
        fine = np.log2(np.maximum(level, least))
        fine -= np.float32(_LOWEST_LEVEL)
        fine *= np.float32(_FINE)
        last = _FINE * _BINS - 1
        fine = np.minimum(fine, last, out=fine).astype(np.uint16).ravel()
        if doubtful is not None:
            fine[doubtful.ravel()] += np.uint16(last + 1)
        counts = np.zeros(2 * (last + 1), dtype=np.int64)
        bins, values = [], []
        for value, use in zip(below, usable, strict=True):
            counts += np.bincount(fine[use.ravel()], minlength=len(counts))
            high = np.flatnonzero((value > _LOWEST) & use)
            bins.append((fine[high] // np.uint16(_FINE)).astype(np.uint8))
            values.append(value.ravel()[high])
        return cls(counts, np.concatenate(bins), np.concatenate(values))

    @classmethod
    def join(cls, parts):
        """Put the bands together."""
        return cls(
            sum(part.counts for part in parts),
            np.concatenate([part.bins for part in parts]),
            np.concatenate([part.values for part in parts]),
        )


@dataclass(frozen=True)
class Dispersion:
    """
    Quantile Q of the mirror statistic by level of structure.

    Attributes
    ----------
    level : 1D `~numpy.ndarray`
        Median level of the structure in each of 12 bins, in sigmas.
    number : 1D `~numpy.ndarray` of int
        Values in each bin.
    quantile : 1D `~numpy.ndarray`
        Q, the 0.995 quantile; NaN in bins that are too poor.
    noise_quantile : float
        Q0, the same where there is no structure.
    """

    level: np.ndarray
    number: np.ndarray
    quantile: np.ndarray
    noise_quantile: float

    @classmethod
    def of(cls, tails, n_exposures):
        """
        Measure the quantiles.

        Parameters
        ----------
        tails : `Tails`
            The values of the whole image.
        n_exposures : int
            Number of exposures.

        Returns
        -------
        dispersion : `Dispersion`
            The result.

        Notes
        -----
        Doubtful values count as far as the bulk of the values of a bin is as
        wide: mismatch widens all of them, a few cosmic rays only the tail.
        """
        counts = tails.counts.reshape(2, _BINS, _FINE)
        sure, doubtful = counts.sum(axis=2)
        number = sure + doubtful
        rank = _QUANTILE_OF_TWO if n_exposures == 2 else _QUANTILE
        quantile = np.full(_BINS, np.nan)
        for k in np.flatnonzero(number >= _LEAST):
            certain = tails.values[tails.bins == k]
            tail = np.append(certain, tails.values[tails.bins == k + _BINS])
            quantile[k] = _quantile(tail, number[k], rank)
            if doubtful[k] and n_exposures > 2:
                typical = _quantile(tail, number[k], _TYPICAL)
                least = max(_quantile(certain, sure[k], rank), typical)
                quantile[k] = min(quantile[k], least)
        expected = expected_quantile(n_exposures)
        low = quantile[:2][number[:2] >= _MANY]
        q0 = max(low.min(), _LEAST_Q0 * expected) if len(low) else expected
        return cls(_median_levels(counts.sum(axis=0)), number, quantile, float(q0))

    @property
    def ratio(self):
        """Q / Q0 by bin, 1 for equivalent exposures; NaN where unknown."""
        return self.quantile / self.noise_quantile

    @property
    def strength(self):
        """The standard deviation left by mismatch, in units of the level."""
        excess = np.maximum(self.quantile**2 - self.noise_quantile**2, 0)
        strength = np.sqrt(excess) / 2 / self.level
        last = 0.0
        for k, value in enumerate(strength):
            last = strength[k] = last if np.isnan(value) else value
        return strength

    def variance(self, level, variance):
        """
        Return what mismatch adds to the variance.

        Parameters
        ----------
        level : `~numpy.ndarray`
            Level of the structure in sigmas.
        variance : `~numpy.ndarray`
            Variance of an exposure.

        Returns
        -------
        extra : `~numpy.ndarray`
            The variance to be added.
        """
        if not self.strength.any():
            return np.zeros_like(level)
        place = np.log(np.maximum(level, np.float32(2.0**_LOWEST_LEVEL)))
        extra = np.interp(place, np.log(self.level), self.strength)
        extra = (extra * level).astype(level.dtype)
        return np.square(extra, out=extra) * variance


@lru_cache(maxsize=128)
def expected_quantile(n):
    """Return the 0.995 quantile of the mirror statistic of n Gaussian exposures."""
    if surely_clean(n) > 1:
        n = min(n, _MOST_DRAWN)
        stack = np.random.default_rng(0).normal(size=(n, _DRAWN)).astype(np.float32)
        low = low_references(stack)[0]
        return float(np.quantile(np.array(low) - stack, 0.995))
    # The lowest of the others is above the exposure by more.
    x = np.linspace(-9, 9, 3601)
    density = norm.pdf(x) * (x[1] - x[0])
    return float(brentq(lambda q: density @ norm.sf(x + q) ** (n - 1) - 0.005, 0, 9))


def _quantile(tail, number, rank):
    quantile, factor = rank
    above = round((1 - quantile) * number)
    if len(tail) <= above:
        return _LOWEST * factor
    return factor * float(np.partition(tail, len(tail) - 1 - above)[-1 - above])


def _median_levels(counts):
    """Return the median level in each bin, its centre where it is empty."""
    total = counts.sum(axis=1, keepdims=True)
    below = np.cumsum(counts, axis=1) - counts / 2
    middle = np.argmin(np.abs(below - total / 2), axis=1)
    middle = np.where(total[:, 0] == 0, _FINE // 2, middle) + 0.5
    bins = np.arange(len(counts)) + _LOWEST_LEVEL
    return 2.0 ** (bins + middle / _FINE)


_BLOCK = 16  # pixels: of one pixel the signal is not known well enough
_ENOUGH = 1 << 18  # pixels
_LEAST_PIXELS, _SIGNAL_BINS = 1000, 12  # pixels of a bin
_MISMATCH = 0.1  # of the variance
_FARTHEST = np.float32(5.0)  # sigmas
_HALF = np.sqrt(2 / np.pi)  # mean of the lower half of Gaussian values, in sigmas


def noise_levels(frames, matched, masks, z):
    """
    Measure the noise in units of what was expected.

    Parameters
    ----------
    frames : `~ccdcr.matching.frames.Frames`
        The exposures as they came.
    matched : `~ccdcr.matching.match.Matched`
        The matched exposures.
    masks : 3D `~numpy.ndarray` of bool
        The masks of the exposures, True = hit.
    z : 3D `~numpy.ndarray`
        Deviations in sigmas, minus infinity where an exposure takes no part.

    Returns
    -------
    levels : `~astropy.table.Table`
        By signal ``x``: number of ``pixels``, and observed ``noise``. Empty where
        there are less than 1000 pixels.

    Notes
    -----
    Only what is below the mean of the others counts: what is left of cosmic rays is
    above. Where the steps of whole numbers are wider than the noise, nothing can be
    told.
    """
    size = [min(_BLOCK, length) for length in frames.shape]
    rows = _rows(frames.shape, size[0])
    noise, reference = frames.noise.at(rows), matched.reference[rows]
    variance = noise.mean_variance(reference)
    use = ~masks[:, rows].any(axis=0) & np.isfinite(z[:, rows]).any(axis=0)
    use &= matched.extra[rows] < np.float32(_MISMATCH) * variance
    sums = np.zeros((2, *reference.shape), dtype=np.float32)
    deviations = _deviations(frames, matched, rows)
    for known, deviation in zip(z[:, rows], deviations, strict=True):
        below = use & (deviation < 0) & np.isfinite(known)
        sums += below, np.where(below, np.minimum(-deviation, _FARTHEST), 0)
    planes = (use, np.where(use, reference, 0), *sums)
    levels = _by_signal(*(_in_blocks(plane, size) for plane in planes))
    raw = frames.data if frames.raw is None else frames.raw
    if (raw % 1 == 0).all():
        variance = frames.noise.typical.mean_variance
        levels = levels[variance(np.asarray(levels["x"])) >= 1]
    return levels


def _deviations(original, matched, rows):
    """
    Yield the deviations of some rows from the mean of the others, in sigmas.

    The noise is that of the smooth signal: that of the mean of few others would be
    large where they are high, and the exposure below them.
    """
    frames = matched.frames
    noise, stack = frames.noise.at(rows), frames.data[:, rows]
    unused = None if frames.unused is None else frames.unused[:, rows]
    # The clean reference is not the mean: it is the lower one of two in the middle.
    level = kernels.mean(original.data[:, rows], unused).astype(stack.dtype)
    level = median_of_nine(np.where(np.isfinite(level), level, matched.level[rows]))
    weights, extra = noise.weights(level), matched.extra[rows]
    nothing = np.zeros_like(stack, dtype=bool)
    for i, (value, number, weight) in enumerate(
        means_of_others(stack, nothing, unused, weights)
    ):
        one = (
            noise.variance(level, 0) if weights else noise.variance_of_others(level, i)
        )
        variance = noise.variance(level, i) + one / np.where(number > 0, weight, np.inf)
        variance += extra * np.maximum(2 / np.maximum(number, 1), 1)
        with np.errstate(invalid="ignore"):
            yield (stack[i] - value) / np.sqrt(variance)


def _rows(shape, height):
    """Return the rows of every so many blocks."""
    every = max(round(shape[0] * shape[1] / _ENOUGH), 1)
    first = np.arange(0, shape[0] - height + 1, height)[::every]
    return (first[:, np.newaxis] + np.arange(height)).ravel()


def _in_blocks(plane, size):
    """Return the sums of whole blocks."""
    (y, x), width = size, plane.shape[1] // size[1]
    blocks = plane[:, : width * x].reshape(-1, y, width, x)
    return blocks.sum(axis=(1, 3), dtype=float).ravel()


def _by_signal(pixels, signal, number, low):
    """Return the table of sums over blocks of about the same signal."""
    names = ("x", "pixels", "noise")
    n_bins = min(_SIGNAL_BINS, int(pixels.sum()) // _LEAST_PIXELS)
    if n_bins == 0:
        return Table(names=names)
    place = np.flatnonzero(pixels)
    place = place[np.argsort(signal[place] / pixels[place])]
    total = np.cumsum(pixels[place])
    ends = np.searchsorted(total, np.arange(1, n_bins) * (total[-1] / n_bins))
    starts = np.unique(np.append(0, ends))
    pixels, signal, number, low = (
        np.add.reduceat(values[place], starts)
        for values in (pixels, signal, number, low)
    )
    noise = low / np.maximum(number, 1) / _HALF
    return Table([signal / pixels, pixels.astype(int), noise], names=names)
