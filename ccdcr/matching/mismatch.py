# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Mismatch that remains after matching, and measured noise."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from astropy.table import Table
from scipy.optimize import brentq
from scipy.stats import norm

from ccdcr.matching.clean_reference import low_references, means_of_others, surely_clean
from ccdcr.utils import stacks as kernels
from ccdcr.utils.neighbours import cut_bands, median_of_nine, with_halo
from ccdcr.utils.scratch import in_turn

__all__ = [
    "EDGES",
    "Dispersion",
    "Tails",
    "expected_quantile",
    "measured_pixels",
    "noise_levels",
    "sampled_rows",
]

EDGES = 2.0 ** np.arange(-1, 10)  # sigmas of structure, between 12 bins
_BINS = len(EDGES) + 1
_FINE = 16  # parts of a bin, for the median level in it
_LOWEST_LEVEL = -2  # logarithm (base 2) of the lowest level

_LEAST, _MANY = 400, 2000  # values in a bin, and in one that tells the noise
_LEAST_Q0 = 0.8  # of the expected one
_LOWEST = 1.0  # sigmas: only values above are kept
_DRAWN, _MOST_DRAWN = 100_000, 20  # values, and exposures: more change nothing
_STRONG = 16.0  # sigmas of structure where nothing is left out

# Quantile, and its factor to the 0.995 quantile of Gaussian values. Of two
# exposures, a hit of the other one looks the same: a lower one is safer.
_QUANTILE, _QUANTILE_OF_TWO = (0.995, 1.0), (0.8, 3.06)
_TYPICAL = (0.95, 2.0)  # leftovers of cosmic rays do not reach it; for 3 to 9 exposures
_LIKELY = 0.05  # of the level: mismatch that matching leaves, if nothing is proven
_MOST = 1e4  # of the level, whose square is finite
_ERROR, _SIGMAS = 1.9, 2.0  # relative error of a quantile times the root of the number


def measured_pixels(coincident, level):
    """
    Return pixels (ny, nx) to measure mismatch in, and those of them in doubt.

    Coincident pixels hold leftovers of cosmic rays. On strong structure they are kept
    and in doubt: otherwise stars that differ would exclude themselves.
    """
    strong = level >= _STRONG
    return ~coincident | strong, coincident & strong


@dataclass(frozen=True)
class Tails:
    """
    Counts by fine bin of structure, and the largest values with their bins.

    Doubtful values have bins of their own, after the others.
    """

    counts: np.ndarray
    bins: np.ndarray
    values: np.ndarray

    @classmethod
    def collect(cls, below, level, usable, doubtful=None):
        """Return the tails of a band, ``below`` the low references in sigmas."""
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
        """Return the tails of all bands together."""
        return cls(
            sum(part.counts for part in parts),
            np.concatenate([part.bins for part in parts]),
            np.concatenate([part.values for part in parts]),
        )


@dataclass(frozen=True)
class Dispersion:
    """
    Quantile Q of the mirror statistic by level of structure.

    In 12 bins: median ``level`` in sigmas, ``number`` of values, and ``quantile`` Q
    (0.995), NaN if there are few. ``noise_quantile`` is Q0, that without structure.
    """

    level: np.ndarray
    number: np.ndarray
    quantile: np.ndarray
    noise_quantile: float

    @classmethod
    def measure(cls, tails, n_exposures):
        """
        Return the quantiles of the `Tails` of the whole image.

        Doubtful values count as far as the bulk of their bin is as wide: mismatch
        widens all values, a few cosmic rays only the tail.
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
        q0 = max(_lowest(quantile[:2], number[:2], expected), _LEAST_Q0 * expected)
        return cls(_median_levels(counts.sum(axis=0)), number, quantile, float(q0))

    @property
    def ratio(self):
        """Q / Q0 by bin, 1 for equivalent exposures; NaN where unknown."""
        return self.quantile / self.noise_quantile

    @property
    def strength(self):
        """
        The standard deviation left by mismatch, in units of the level.

        Levels with few values take what measured ones below prove, or up to 5 % that
        they allow: near the noise a quantile that is high by chance would hide any hit
        on a higher level, and without a mismatch cores of stars would look hit.
        """
        error = _errors(self.number)
        strength, least, most = (
            self._strength(self.quantile * factor)
            for factor in (1, np.maximum(1 - error, 0), 1 + error)
        )
        carried = 0.0
        for k, value in enumerate(strength):
            if np.isnan(value):
                strength[k] = carried
            else:
                carried = max(least[k], min(carried, most[k]), min(value, _LIKELY))
        return np.minimum(strength, _MOST)

    def _strength(self, quantile):
        excess = np.maximum(quantile**2 - self.noise_quantile**2, 0)
        return np.sqrt(excess) / 2 / self.level

    def variance(self, level, variance):
        """Return the variance that mismatch adds, at a level in sigmas."""
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


def _errors(number):
    """Return the relative errors of quantiles that chance allows."""
    return _SIGMAS * _ERROR / np.sqrt(np.maximum(number, 1))


def _lowest(quantile, number, expected):
    """Return the quantile of the richest bin, or of one that is surely lower."""
    if number.max() < _MANY:
        return expected
    most = np.where(number >= _MANY, quantile * (1 + _errors(number)), np.inf)
    return min(quantile[np.argmax(number)], most.min())


def _median_levels(counts):
    """Return the median level in each bin, its centre where it is empty."""
    total = counts.sum(axis=1, keepdims=True)
    below = np.cumsum(counts, axis=1) - counts / 2
    middle = np.argmin(np.abs(below - total / 2), axis=1)
    middle = np.where(total[:, 0] == 0, _FINE // 2, middle) + 0.5
    bins = np.arange(len(counts)) + _LOWEST_LEVEL
    return 2.0 ** (bins + middle / _FINE)


_BLOCK = 16  # pixels: the signal of one pixel is too uncertain
_ENOUGH, _PART = 1 << 18, 1 << 15  # pixels, and those at once
_LEAST_PIXELS, _SIGNAL_BINS = 1000, 12  # pixels of a bin
_MISMATCH = 0.1  # of the variance
_FARTHEST = np.float32(5.0)  # sigmas
_HALF = np.sqrt(2 / np.pi)  # mean of the lower half of Gaussian values, in sigmas


def sampled_rows(shape):
    """Return the row numbers of the sample that `noise_levels` has."""
    return _rows(shape, min(_BLOCK, shape[0]))


def noise_levels(frames, matched, masks, z):
    """
    Return a table by signal ``x``: ``pixels`` and ``noise``, measured over expected.

    ``z`` are the deviations (n, rows, nx) of `sampled_rows`.
    Only values below the mean of the others count, as leftovers of cosmic rays are
    above. Empty if there are less than 1000 pixels. Of data that are integers, signals
    with an expected noise below 1 are left out.
    """
    size = [min(_BLOCK, length) for length in frames.shape]
    rows = sampled_rows(frames.shape)
    noise, reference = frames.noise.at(rows), matched.reference[rows]
    variance = noise.mean_variance(reference)
    use = ~masks[:, rows].any(axis=0) & np.isfinite(z).any(axis=0)
    use &= matched.extra[rows] < np.float32(_MISMATCH) * variance
    sums = np.zeros((2, *reference.shape), dtype=np.float32)
    for part in in_turn(cut_bands(reference.shape, _PART)):
        wide, inside = with_halo(part, 1, len(rows))
        deviations = _deviations(frames, matched, rows[wide])
        for known, deviation in zip(z[:, part], deviations, strict=True):
            deviation = deviation[inside]  # noqa: PLW2901
            below = use[part] & (deviation < 0) & np.isfinite(known)
            far = np.where(below, np.minimum(-deviation, _FARTHEST), 0)
            sums[:, part] += below, far
    planes = (use, np.where(use, reference, 0), *sums)
    levels = _by_signal(*(_in_blocks(plane, size) for plane in planes))
    raw = frames.data if frames.raw is None else frames.raw
    bands = in_turn(cut_bands(frames.shape, _ENOUGH))
    if all((raw[:, band] % 1 == 0).all() for band in bands):
        variance = frames.noise.typical.mean_variance
        levels = levels[variance(np.asarray(levels["x"])) >= 1]
    return levels


def _deviations(original, matched, rows):
    """
    Yield deviations (rows, nx) from the mean of the others, in sigmas, by exposure.

    The noise is that of the smooth signal: that of the mean of few others would be
    large where they are high and the exposure is below them.
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
        one = noise.variance_of_weight(level, i)
        variance = noise.variance(level, i) + one / np.where(number > 0, weight, np.inf)
        variance += extra * np.maximum(2 / np.maximum(number, 1), 1)
        with np.errstate(invalid="ignore"):
            yield (stack[i] - value) / np.sqrt(variance)


def _rows(shape, height):
    """Return the row numbers of a sample of blocks."""
    every = max(round(shape[0] * shape[1] / _ENOUGH), 1)
    first = np.arange(0, shape[0] - height + 1, height)[::every]
    return (first[:, np.newaxis] + np.arange(height)).ravel()


def _in_blocks(plane, size):
    """Return the sums of a plane (ny, nx) over whole blocks, flat."""
    (y, x), width = size, plane.shape[1] // size[1]
    blocks = plane[:, : width * x].reshape(-1, y, width, x)
    return blocks.sum(axis=(1, 3), dtype=float).ravel()


def _by_signal(pixels, signal, number, low):
    """Return the table of `noise_levels` from sums over blocks."""
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
