# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Likelihoods of hits and of low values, with priors measured on single hits."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ccdcr.matching.frames import Noise, structure_level
from ccdcr.matching.mismatch import expected_quantile
from ccdcr.utils import stacks as kernels
from ccdcr.utils.neighbours import EIGHT, moved, pixels_of
from ccdcr.utils.scratch import in_turn, release

__all__ = ["USUAL_RATE", "LowPriors", "Sample", "cut_likelihoods", "measure_priors"]

_BOX = np.array([(a, b) for a in range(-2, 3) for b in range(-2, 3)])
_RING = np.abs(_BOX).max(axis=1) == 2
_MAD = 1.4826  # sigma over median absolute deviation
_RANGE = 4.0  # of 25 Gaussian values, in sigmas
_OF_MEDIAN = np.pi / 2  # variance of a median over that of the mean
_LEAST_RATE = 1e-5
USUAL_RATE = 1e-5  # low values per pixel and exposure, before they are counted
_EDGES = np.linspace(0, np.log(1e4), 21)  # logarithm of charges in sigmas
_SMOOTH = 1.0  # bins
_UNIFORM = 20.0  # hits that a uniform distribution of the logarithm stands for
_ALONE, _ALONE_OF = 0.08, 25.0  # part of hits without neighbours, and of how many
_MOST = 6_000  # hits in the sample
_FARTHEST = 4.0  # sigmas that a pixel may differ from those around
_LEAST_ASTRAY, _SAMPLE, _PARTS = 1e-3, 6_000, 16


@dataclass(frozen=True)
class LowPriors:
    """
    Priors of hits and low values, measured in an image.

    ``hit_rate`` and ``low_rate`` are per pixel and exposure, ``charges`` the density of
    the logarithm of charges in sigmas, ``alone`` the part of hits without a hit
    neighbour, ``astray`` that of clean pixels that differ from those around.
    """

    hit_rate: float
    charges: np.ndarray
    alone: float
    astray: float
    low_rate: float = USUAL_RATE

    def log_charge(self, charge):
        """Return the log density of charges, per sigma."""
        charge = np.maximum(charge, 1)
        place = (np.log(charge) / (_EDGES[1] - _EDGES[0])).astype(int)
        density = self.charges[np.minimum(place, len(self.charges) - 1)]
        return np.log(density) - np.log(charge)

    @staticmethod
    def log_depth(depth):
        """Return the log density of depths, per sigma: uniform in the logarithm."""
        return -np.log(np.maximum(depth, 1)) - np.log(_EDGES[-1])


def measure_priors(frames, masks, reference, cores):
    """
    Return `LowPriors` from hits in one exposure only; usual values if they are few.

    ``masks`` and ``cores`` (n, ny, nx) are pixels that look hit, and those of them that
    clearly exceed the reference (ny, nx).
    """
    single = masks.sum(axis=0, dtype=np.uint16) == 1
    release()
    charges, alone, number, looked_at = [], 0, 0, 0
    for i, core in enumerate(in_turn(cores)):
        y, x = pixels_of(core & single)
        number += len(y)
        step = max(len(y) // (_MOST // len(cores)), 1)
        y, x = y[::step], x[::step]
        for part in in_turn(_parts(y, x)):
            signal = reference[part]
            sigma = np.sqrt(frames.noise.at(part).variance(signal, i))
            charges.append((frames.data[i][part] - signal) / sigma)
        padded = np.pad(core, 1)
        around = [padded[y + 1 + dy, x + 1 + dx] for dy, dx in EIGHT]
        alone += np.count_nonzero(~np.any(around, axis=0))
        looked_at += len(y)
    return LowPriors(
        hit_rate=max(number / frames.data.size, _LEAST_RATE),
        charges=_density(np.concatenate(charges)),
        alone=(alone + _ALONE * _ALONE_OF) / (looked_at + _ALONE_OF),
        astray=_astray(frames, masks, reference),
    )


def _parts(y, x):
    """Return places (m,) in some parts, each in a part of the image."""
    return zip(*(np.array_split(a, _PARTS) for a in (y, x)), strict=True)


def _density(charges):
    """Return the smooth density of the logarithm of charges (bins,), nowhere 0."""
    counts = np.histogram(np.log(np.maximum(charges, 1)), _EDGES)[0].astype(float)
    counts = ndimage.gaussian_filter1d(counts, _SMOOTH, mode="nearest")
    counts += _UNIFORM / len(counts)
    return counts / counts.sum() / (_EDGES[1] - _EDGES[0])


def _astray(frames, masks, reference):
    """Return the fraction of clean pixels that are far from those around them."""
    step = max(round(np.sqrt(reference.size / _SAMPLE)), 1)
    y, x = (
        a.ravel() for a in np.mgrid[: frames.shape[0] : step, : frames.shape[1] : step]
    )
    clean = ~masks[:, y, x].any(axis=0)
    y, x = y[clean], x[clean]
    if len(y) == 0:
        return _LEAST_ASTRAY
    far = 0
    for part in in_turn(_parts(y, x)):
        boxes = box_medians(frames.data, frames.unused, part)
        middle, variance = ring_values(boxes)
        signal = reference[part]
        noise = frames.noise.at(part).mean_variance(signal) / len(frames.data)
        away = np.square(signal - middle) > _FARTHEST**2 * (variance + noise)
        far += np.count_nonzero(away)
    return max(far / len(y), _LEAST_ASTRAY)


# Of a low value, in sigmas: hits are far more common, so that it must be clearer.
_DEEP = 6.0
_DECADES = np.log(1e4)  # of sigmas that a pixel may differ from those around


@dataclass(frozen=True)
class Sample:
    """
    Values of n exposures in m pixels, in ascending order, and what is known of them.

    ``order`` (n, m) are the exposures of ``values``, of which the first ``good`` (m,)
    are used. ``noise`` is that in the pixels, ``extra`` the variance of mismatch;
    ``middle`` and ``spread`` are value and variance expected from the pixels around,
    ``level`` the structure there in sigmas, each (m,). ``scale`` is the measured noise
    over that of the model.
    """

    values: np.ndarray
    order: np.ndarray
    good: np.ndarray
    noise: Noise
    extra: np.ndarray
    middle: np.ndarray
    spread: np.ndarray
    level: np.ndarray
    scale: float

    @classmethod
    def from_frames(cls, frames, structure, left, pixels):
        """Return the sample at pixels (rows, columns); ``left`` is the mismatch."""
        mismatch, extra = left
        here = (slice(None), *pixels)
        values, unused = frames.data[here].astype(float), frames.unused
        good = np.full(values.shape[1], len(values))
        if unused is not None:
            values[unused[here]] = np.inf
            good -= unused[here].sum(axis=0)
        order = np.argsort(values, axis=0)
        noise, box = frames.noise.at(pixels), box_medians(frames.data, unused, pixels)
        middle, spread = ring_values(box)
        variance = noise.mean_variance(middle)
        # A low value may be structure of the reference, but not of the median.
        contrast = box_contrast(box, variance * np.float32(_OF_MEDIAN / len(values)))
        height = structure.height[box_places(pixels, frames.shape)].max(axis=0)
        level = structure_level(height, contrast)
        level /= np.sqrt(variance)
        around = mismatch.variance(level, variance)
        return cls(
            np.take_along_axis(values, order, axis=0),
            order,
            good,
            noise,
            np.minimum(around, extra[pixels]).astype(float),
            middle,
            spread,
            level,
            max(mismatch.noise_quantile / expected_quantile(len(values)), 1),
        )

    def variances(self, mean):
        """Return the variances (n, m) of the ordered exposures at a mean (m,)."""
        if self.noise.equal:
            variance = self.noise.mean_variance(mean) + self.extra
            return np.broadcast_to(variance, self.values.shape)
        planes = [self.noise.variance(mean, i) for i in range(len(self.values))]
        ordered = np.take_along_axis(np.array(planes), self.order, axis=0)
        return ordered + self.extra


def cut_likelihoods(sample, priors):
    """
    Return low and clean (n, m), and the log likelihood ratio (m,) of low values.

    The likeliest cut of the ordered values with low exposures is compared with the
    likeliest without, in which those of ``clean`` are hit. The ratio excludes the rates
    of low values and of these hits.
    """
    n, m = sample.values.shape
    best = {False: _Cuts.nothing(m), True: _Cuts.nothing(m)}
    for start in range(n // 2 + 1):
        for stop in range(start + 1, n + 1):
            possible = stop <= sample.good
            if start:  # at least as many are clean as low or hit
                rest = np.maximum(sample.good - stop, 0)
                possible &= stop - start >= np.maximum(rest, start)
            if possible.any():
                value = _log_likelihood(sample, start, stop, priors)
                best[start > 0].update(np.where(possible, value, -np.inf), start, stop)
    rank, with_low, without = np.arange(n)[:, np.newaxis], best[True], best[False]
    low = rank < with_low.start
    clean = (rank >= without.stop) & (rank < with_low.stop) & ~low
    gain = with_low.value - without.value
    gain += clean.sum(axis=0) * np.log(priors.hit_rate)
    gain -= with_low.start * np.log(USUAL_RATE)
    return *(_in_order(ranked, sample.order) for ranked in (low, clean)), gain


@dataclass
class _Cuts:
    """Likeliest cuts: value, and start and stop of the clean exposures, each (m,)."""

    value: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    @classmethod
    def nothing(cls, m):
        """Return cuts of no likelihood."""
        return cls(np.full(m, -np.inf), np.zeros(m, dtype=int), np.zeros(m, dtype=int))

    def update(self, value, start, stop):
        """Take a cut where it is likelier, in place."""
        better = value > self.value
        self.value[better] = value[better]
        self.start[better], self.stop[better] = start, stop


def _in_order(ranked, order):
    """Return an array (n, m) of ordered exposures in the order of exposures."""
    result = np.empty_like(ranked)
    np.put_along_axis(result, order, ranked, axis=0)
    return result


def _log_likelihood(sample, start, stop, priors):
    """Return the log likelihood of a cut, rates included, (m,)."""
    block = sample.values[start:stop]
    # Unused values are infinite, and their cut is not possible.
    block = np.where(np.isfinite(block), block, 0)
    variances = sample.variances(block.mean(axis=0))
    weights = 1 / variances[start:stop]
    total = weights.sum(axis=0)
    mean = (weights * block).sum(axis=0) / total
    result = -(weights * np.square(block - mean)).sum(axis=0) / 2
    result += (np.log(weights).sum(axis=0) - np.log(total)) / 2
    result -= (stop - start - 1) / 2 * np.log(2 * np.pi)
    result += _log_prior(sample, mean, 1 / total, priors.astray)
    sigmas = np.sqrt(variances)
    for k in range(start):
        depth = (mean - sample.values[k]) / sigmas[k]
        # More significant than a hit must be.
        limit = _DEEP * sample.scale * np.sqrt(1 + 1 / (stop - start))
        result[depth < limit] = -np.inf
        result += priors.log_depth(depth) - np.log(sigmas[k]) + np.log(USUAL_RATE)
    for k in range(stop, len(sample.values)):
        hit = k < sample.good
        charge = np.where(hit, sample.values[k] - mean, 0) / sigmas[k]
        density = priors.log_charge(charge) - np.log(sigmas[k])
        result += np.where(hit, density + np.log(priors.hit_rate), 0)
    return result


def _log_prior(sample, mean, variance, astray):
    """Return the log density (m,) of a clean mean, from the pixels around."""
    variance = variance + sample.spread
    away = np.abs(mean - sample.middle)
    near = np.exp(-np.square(away) / 2 / variance) / np.sqrt(2 * np.pi * variance)
    far = 1 / (2 * np.maximum(away, np.sqrt(variance)) * _DECADES)
    return np.log((1 - astray) * near + astray * far)


def box_places(pixels, shape):
    """Return rows and columns of 5 x 5 pixels, each (25, m), clipped to the image."""
    return moved(pixels, _BOX.T[..., np.newaxis], shape)


def box_medians(stack, unused, pixels):
    """Return the median exposure in the 5 x 5 pixels around pixels, (25, m)."""
    places = box_places(pixels, stack.shape[1:])
    bad = None if unused is None else unused[:, *places]
    if bad is not None:
        bad &= ~bad.all(axis=0)
    return kernels.median(stack[:, *places], bad)


def box_contrast(box, variance):
    """Return half the range of boxes (25, m) beyond that of noise, (m,)."""
    spread = np.square(np.ptp(box, axis=0))
    return np.sqrt(np.maximum(spread - _RANGE**2 * variance, 0)) / 2


def ring_values(box):
    """Return the median at the edge of boxes (25, m), and the variance of a pixel."""
    around = box[_RING]
    middle = np.median(around, axis=0)
    variance = np.square(_MAD * np.median(np.abs(around - middle), axis=0))
    return middle, variance * (1 + _OF_MEDIAN / len(around))
