# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Flagging of pixels by their deviations, and growth of seeds into masks."""

from dataclasses import dataclass

import numpy as np

from ccdcr.matching.clean_reference import (
    OF_LOW,
    REACH,
    expected_values,
    low_references,
)
from ccdcr.utils import stacks as kernels
from ccdcr.utils.neighbours import (
    EIGHT,
    FOUR,
    cut_bands,
    find_places,
    in_seeded_groups,
    moved,
    pixels_of,
    place_type,
    with_halo,
)
from ccdcr.utils.scratch import in_turn, limited, release, zeros

__all__ = [
    "CHARGED",
    "LEAST_OF_MEDIAN",
    "USUAL_LEAK",
    "Limits",
    "Outliers",
    "coincident_pixels",
    "faint_groups",
    "first_limit",
    "first_masks",
    "grow",
    "measure_leak",
    "needed_of_median",
    "next_masks",
]

USUAL_LEAK = 0.02
CHARGED = 1.0  # sigmas: more charge costs the mean more than a value less

_BRIGHT, _BRIGHTEST = 100.0, 3000.0  # sigmas of hits whose neighbours tell the leak
_LEAST_HITS, _QUANTILE = 100, 1 / 3
_RANGE = (0.01, 0.1)
_BAND = 1 << 17  # pixels: more need much memory, as there are many planes
_ROWS = 32  # of a band, at least: those beside are measured, too


@dataclass(frozen=True)
class Outliers:
    """
    Deviations in sigmas of exposures of a ``shape`` (ny, nx), -inf = never flagged.

    Only pixels above a limit and those beside them are kept: their flat ``places``, in
    order, and ``values`` of each exposure. Of some rows all are ``kept`` (n, rows, nx).
    """

    shape: tuple
    places: list
    values: list
    kept: np.ndarray | None = None

    @classmethod
    def of(cls, z, least, inside=np.s_[:]):
        """Return those of deviations (n, ny, nx), of some rows of them."""
        high = z > least
        near = high.copy()
        near[:, 1:] |= high[:, :-1]
        near[:, :-1] |= high[:, 1:]
        near[:, :, 1:] |= high[:, :, :-1]
        near[:, :, :-1] |= high[:, :, 1:]
        places = [np.flatnonzero(plane).astype(np.int32) for plane in near[:, inside]]
        pairs = zip(z[:, inside], places, strict=True)
        return cls(z[0, inside].shape, places, [p.ravel()[here] for p, here in pairs])

    @classmethod
    def find(cls, measure, frames, least, rows=(), look=None):
        """
        Return those that ``measure(rows)`` returns (n, rows, nx) for bands.

        ``look(rows, z)`` is called with all of them.
        """
        ny, nx = frames.shape
        rows = np.asarray(rows, dtype=int)
        kept = np.empty((len(frames), len(rows), nx), dtype=np.float32)

        def work(band):
            wide, inside = with_halo(band, 1, ny)
            z = measure(wide)
            _forbid(z, frames, wide)
            here = slice(*np.searchsorted(rows, (band.start, band.stop)))
            kept[:, here] = z[:, rows[here] - wide.start]
            if look is not None:
                look(band, z[:, inside])
            return cls.of(z, least, inside)

        bands = cut_bands(frames.shape, _BAND if limited() else max(_BAND, _ROWS * nx))
        parts = [work(band) for band in in_turn(bands)]  # threads need smaller ones
        starts = [band.start * nx for band in bands]
        places, values, kind = [], [], place_type(frames.shape)
        for _ in range(len(frames)):
            pairs = zip(parts, starts, strict=True)
            found = [np.add(p.places.pop(0), k, dtype=kind) for p, k in pairs]
            places.append(np.concatenate(found))
            values.append(np.concatenate([part.values.pop(0) for part in parts]))
        return cls(frames.shape, places, values, kept)

    def __len__(self):
        return len(self.places)

    def grown(self, high, limits, unused=None):
        """
        Return the masks (n, ny, nx) grown from seeds above a limit.

        Charge alone does not mask a pixel in the last exposure that is clean.
        """
        masks = zeros((len(self), *self.shape), bool)
        for place, z, mask in in_turn(
            zip(self.places, self.values, masks, strict=True)
        ):
            mask.ravel()[grow(place, z, self.shape, high, limits)] = True
        self._spare_last(masks, min(limits.low, limits.tail), unused)
        return masks

    def _spare_last(self, masks, faint, unused):
        """Unset masks, in place, of the lowest where all are hit, if it is faint."""
        hit = np.ones(self.shape, dtype=bool)
        for i, mask in enumerate(masks):
            hit &= mask if unused is None else mask | unused[i]
        hit = np.flatnonzero(hit)
        flat = masks.reshape(len(masks), -1)
        z = np.full((len(masks), len(hit)), np.inf, dtype=np.float32)
        for i, (place, values) in enumerate(zip(self.places, self.values, strict=True)):
            some = flat[i, hit]
            z[i, some] = values[find_places(place, hit[some])[0]]
        here = z.min(axis=0) <= faint
        flat[z.argmin(axis=0)[here], hit[here]] = False


def grow(place, z, shape, high, limits):
    """
    Return the flat indices of pixels grown from seeds above a limit.

    ``place`` are flat indices in order, ``z`` the deviations there. Pixels above the
    ``low`` limit that are connected to a seed are flagged. So are their four neighbours
    if the charge received, ``leak`` times the z of those beside it, is more than 1
    sigma, whatever their noise, or if z plus this charge is above ``tail``: a low limit
    on z alone would select noise.
    """
    leak = USUAL_LEAK if limits.leak is None else limits.leak
    above = np.flatnonzero(z > limits.low)
    core = in_seeded_groups(place[above], shape[1], z[above] > high)
    core = above[core]
    values = z[core]
    y, x = np.divmod(place[core], shape[1])
    charge = np.zeros_like(z)
    ring = []
    for dy, dx in FOUR:
        inside = (y + dy >= 0) & (y + dy < shape[0]) & (x + dx >= 0)
        inside &= x + dx < shape[1]
        index = find_places(place, place[core[inside]] + (dy * shape[1] + dx))[0]
        # One shift hits no pixel twice, so that no value is lost.
        charge[index] += z.dtype.type(leak) * values[inside]
        ring.append(index)
    ring = np.concatenate(ring)
    charged = (charge > CHARGED) & (z > -np.inf) | (z + charge > limits.tail)
    ring = ring[charged[ring]]
    return place[np.concatenate([core, ring])]


def measure_leak(z, masks):
    """
    Return the part of its charge that a hit loses to each neighbour, 0.01 to 0.1.

    The lowest of the four neighbours is beside the track and got its charge by
    diffusion, or more where the track passes near it: hence a low quantile. 0.02 if
    there are fewer than 100 bright hits.
    """
    number = masks.sum(axis=0, dtype=np.uint8)
    release()
    alone = in_turn(zip(z.places, z.values, masks, strict=True))
    shares = [_lowest_shares(*found, number) for found in alone]
    shares = np.concatenate(shares)
    if len(shares) < _LEAST_HITS:
        return USUAL_LEAK
    return float(np.clip(np.quantile(shares, _QUANTILE), *_RANGE))


def _lowest_shares(places, z, mask, number):
    """Return shares of charge in lowest neighbours of maxima hit in this one only."""
    ny, nx = mask.shape
    bright = np.flatnonzero((z > _BRIGHT) & (z < _BRIGHTEST))
    y, x = np.divmod(places[bright], nx)
    inner = (y > 0) & (y < ny - 1) & (x > 0) & (x < nx - 1)
    bright = bright[inner & mask[y, x] & (number[y, x] == 1)]
    value = z[bright]
    lowest = np.full(len(value), np.inf, dtype=z.dtype)
    highest = np.zeros_like(lowest)
    for dy, dx in FOUR if len(value) else ():
        index = find_places(places, places[bright] + (dy * nx + dx))[0]
        lowest = np.minimum(lowest, z[index])
        highest = np.maximum(highest, z[index])
    good = (highest <= value) & np.isfinite(lowest)
    return lowest[good] / value[good]


# Sigmas: above the limit that chance may reach, beside pixels that are alone, and
# those that matching may leave on structure.
_DOUBTFUL, _ALONE, _ON_STRUCTURE = 3.0, 3.0, np.float32(0.75)
_MORE = 1.0  # sigmas: the low reference is the noisier one
_LOW = np.float32(4.0)  # sigmas that noise may make the low reference too low
_SATURATED = np.float32(0.05)  # of the signal
LEAST_OF_MEDIAN = 2.3  # sigmas of a deviation
_PEAK = 8.0  # sigmas: most groups of hits are brighter, what matching leaves is not


@dataclass(frozen=True)
class Limits:
    """Limits of `grow` in sigmas, and its leak; None = measured."""

    high: float = 5.0
    low: float = 4.0
    leak: float | None = None
    tail: float = 2.5


def first_masks(frames, limits, level=None, extra=None):
    """
    Return masks (n, ny, nx) of deviations from the low references.

    The noise is that of the smooth signal ``level`` (ny, nx) at least: that of a low
    reference would be too small. ``extra`` (ny, nx) is the variance of mismatch.
    """
    unused = frames.unused

    def measure(rows):
        stack, noise = frames.data[:, rows], frames.noise.at(rows)
        part = None if unused is None else unused[:, rows]
        references, lows = low_references(stack, part)
        z = np.empty_like(stack)
        for i, low in enumerate(references):
            signal = low
            if level is not None:
                most = low + _LOW * np.sqrt(noise.variance(low, i))
                signal = np.maximum(low, np.minimum(level[rows], most))
            others = noise.variance_of_others(signal, i)
            variance = noise.variance(signal, i) + OF_LOW * others
            if extra is not None:
                variance += extra[rows]
            _allow_saturated(variance, frames, i, rows, low)
            with np.errstate(invalid="ignore"):
                deviation = stack[i] - low + lows[i] * np.sqrt(others)
                z[i] = deviation / np.sqrt(variance)
        return z

    found = Outliers.find(measure, frames, limits.low)
    return found.grown(first_limit(limits), limits, unused)


def first_limit(limits):
    """Return the limit of seeds, in sigmas, in `first_masks`."""
    return limits.high + _MORE


def next_masks(masks, limits, frames, level, extra=None, *, structure=None, **seen):
    """
    Return masks of deviations from the mean of clean others, and the `Outliers`.

    A pixel alone, as most noise is and few hits are, must be as rare as the limit says:
    counts are skewed, and on ``structure`` (ny, nx; bool) matching may leave something.
    ``seen`` are rows and look of `Outliers.find`.
    """
    unused = frames.unused

    def measure(rows):
        wide, inside = with_halo(rows, REACH, frames.shape[0])
        stack, smooth, noise = frames.data[:, wide], level[wide], frames.noise.at(wide)
        part = None if unused is None else unused[:, wide]
        expected = expected_values(stack, masks[:, wide], smooth, noise, part)
        z = np.empty_like(stack[:, inside])
        for i, (value, uncertain, number) in enumerate(expected):
            variance = uncertain + noise.variance(np.maximum(value, smooth), i)
            if extra is not None:
                # The mismatch of a single other exposure is not averaged.
                variance += extra[wide] * np.maximum(2 / number, 1)
            _allow_saturated(variance, frames, i, wide, value)
            with np.errstate(invalid="ignore"):
                deviation = (stack[i] - value) / np.sqrt(variance)
            alone = _alone_above(deviation, limits)
            third = noise.at(alone).third_moment(smooth[alone], i)
            third *= 1 - 1 / np.square(number[alone])  # without that of the mean
            rare = _as_gaussian(deviation[alone], third / variance[alone] ** 1.5)
            if structure is not None:
                rare -= _ON_STRUCTURE * structure[wide][alone]
            deviation[alone] = rare
            z[i] = deviation[inside]
        return z

    found = Outliers.find(measure, frames, min(limits.low, _BRIGHT), **seen)
    return found.grown(limits.high, limits, unused), found


def _alone_above(z, limits):
    """Return rows and columns (m,) of seeds (rows, nx) with no high pixel beside."""
    y, x = pixels_of((z > limits.high) & (z < limits.high + _DOUBTFUL))
    highest = np.full(len(y), -np.inf, dtype=z.dtype)
    for step in EIGHT:
        row, column = moved((y, x), step, z.shape)
        other = (row != y) | (column != x)
        highest = np.fmax(highest, np.where(other, z[row, column], -np.inf))
    alone = highest < _ALONE
    return y[alone], x[alone]


def _as_gaussian(z, skewness):
    """
    Return Gaussian deviations that are as rare as those of skewed noise, each (m,).

    References: E. Wilson, M. Hilferty 1931, Proc. Natl. Acad. Sci. 17, 684.
    """
    skewness = np.maximum(skewness, np.float32(1e-3))
    root = np.cbrt(1 + skewness * np.maximum(z, 0) / 2)
    return 6 / skewness * (root - 1) + skewness / 6


def _allow_saturated(variance, frames, i, rows, signal):
    """Add to a variance what saturated pixels may differ, for no fit has seen them."""
    if frames.saturated is not None:
        allowed = np.square(_SATURATED * signal)
        np.add(variance, allowed, out=variance, where=frames.saturated[i, rows])


def _forbid(z, frames, rows):
    """Set z to -inf, in place, in bad and low pixels and where it is not finite."""
    for never in (frames.bad, frames.low):
        if never is not None:
            z[never[:, rows]] = -np.inf
    if frames.unused is not None:
        z[~np.isfinite(z)] = -np.inf


def coincident_pixels(z, masks, bad=None):
    """
    Return the pixels (ny, nx) with so many hits that the median is wrong.

    Half of the good exposures are enough: they are in the mean of the two middle
    values. Only z > 2.3 counts, as neighbours may have got charge from adjacent hits.
    """
    number = np.zeros(masks.shape[1:], dtype=np.uint16)
    for places, values, mask in in_turn(zip(z.places, z.values, masks, strict=True)):
        here = places[(values > LEAST_OF_MEDIAN) & mask.ravel()[places]]
        number.ravel()[here] += 1
    result = number >= needed_of_median(len(masks))
    if bad is not None:
        some = bad.any(axis=0)
        good = kernels.count(bad, len(masks))[some]
        result[some] = number[some] >= needed_of_median(good)
    return result


def faint_groups(z, masks):
    """Return the flat places of flagged groups without a bright pixel, by exposure."""
    found = []
    for places, values, mask in zip(z.places, z.values, masks, strict=True):
        flagged = np.flatnonzero(mask)
        index = find_places(places, flagged)[0]
        bright = in_seeded_groups(flagged, mask.shape[1], values[index] > _PEAK)
        found.append(flagged[~bright])
    return found


def needed_of_median(good):
    """Return how many hits, at least 1, spoil the median of some good exposures."""
    return np.maximum((good + 1) // 2, 1)
