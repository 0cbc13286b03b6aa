# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Detection of low values, as opposed to hits in all other exposures."""

from dataclasses import dataclass, replace

import numpy as np

from ccdcr.matching.likelihoods import (
    USUAL_RATE,
    Sample,
    cut_likelihoods,
    measure_priors,
)
from ccdcr.utils import stacks as kernels
from ccdcr.utils.neighbours import (
    EIGHT,
    bands_in_cache,
    find_places,
    in_threads,
    label_pixels,
    moved,
    pixels_of,
)
from ccdcr.utils.scratch import in_turn, limited, zeros

__all__ = ["find_low_values"]

_FAINT = 2.0  # sigmas of structure that noise may make
_DEEP = np.float32(4.5)  # sigmas
_STEP = 4  # pixels between those of a sample
_ITERATIONS = 20
_RATES = 1e-7, 1e-3  # low values per pixel and exposure
_BATCH = 1 << 13  # pixels
_PARTS = 16  # of the image, under a limit of memory


def find_low_values(frames, masks, scene, left, priors=None, *, faint=False):
    """
    Return low values (n, ny, nx), None if there are none, and the priors or None.

    ``left`` is the `Dispersion` and the variance (ny, nx) of mismatch, ``priors`` those
    of the whole image (None = measure them). With ``faint`` only pixels without
    structure around are searched.
    """
    reference, known = scene.reference, priors is not None
    pixels = pixels_of(_candidates(frames, masks))
    if pixels[0].size == 0:
        return None, priors
    cores = _cores(frames, masks, reference)
    if not known:
        priors = measure_priors(frames, masks, reference, cores)
    parts = []
    for part in in_turn(_batches(pixels)):
        sample = Sample.from_frames(frames, scene.structure, left, part)
        parts.append((*cut_likelihoods(sample, priors), sample.level <= _FAINT))
    low, clean, gain, on_faint = (
        np.concatenate(a, axis=-1) for a in zip(*parts, strict=True)
    )
    if faint:
        gain[~on_faint] = -np.inf
    likely = gain > -_most(priors)
    pixels = tuple(place[likely] for place in pixels)
    low, clean, gain = low[:, likely], clean[:, likely], gain[likely]
    on_faint = on_faint[likely]
    if gain.size == 0:
        return None, priors
    groups = _Groups.from_pixels(pixels, low, frames.shape)
    odds = groups.sums(gain) + groups.neighbours(cores, clean, priors)
    number = groups.means(low.sum(axis=0))
    odds -= groups.means(clean.sum(axis=0)) * np.log(priors.hit_rate)
    if not known:
        values = frames.data.size * _faint_part(frames, scene)
        rate = _low_rate(odds, number, groups.sums(on_faint), values)
        priors = replace(priors, low_rate=rate)
    sure = (odds + number * np.log(priors.low_rate) > 0)[groups.index]
    if not sure.any():
        return None, priors
    result = zeros(masks.shape, bool)
    result[:, *(place[sure] for place in pixels)] = low[:, sure]
    return result, priors


def _most(priors):
    """Return the largest log odds that rates and neighbours can add."""
    return 2 * np.log(1 / priors.hit_rate) + 8 * np.log(1 / priors.alone)


def _low_rate(odds, number, size, values):
    """
    Return the rate of low values by expectation maximization.

    Only faint ground counts, where mismatch is no explanation: ``size`` is the number
    of such pixels in each group, ``values`` that in all exposures.
    """
    rate = USUAL_RATE
    for _ in range(_ITERATIONS):
        chance = 1 / (1 + np.exp(-np.clip(odds + number * np.log(rate), -50, 50)))
        found = (chance * number * size).sum() + 1
        rate = np.clip(found / (values + 1 / USUAL_RATE), *_RATES)
    return float(rate)


def _faint_part(frames, scene):
    """Return the fraction of the image without structure."""
    faint = []
    for rows in in_turn(bands_in_cache(frames.shape, step=_STEP)):
        part = slice(rows.start, rows.stop, _STEP), np.s_[::_STEP]
        variance = frames.noise.at(part).mean_variance(scene.reference[part])
        level = scene.structure.level(part)
        faint.append(np.square(level) <= _FAINT**2 * variance)
    return np.concatenate(faint).mean()


def _batches(pixels):
    number = max(-(-pixels[0].size // _BATCH), _PARTS if limited() else 1)
    return zip(*(np.array_split(place, number) for place in pixels), strict=True)


def _cores(frames, masks, reference):
    """Return hit pixels (n, ny, nx) that exceed the reference by 4.5 sigmas."""
    cores = zeros(masks.shape, bool)

    def work(rows):
        noise, level = frames.noise.at(rows), reference[rows]
        for i, mask in enumerate(masks[:, rows]):
            place = pixels_of(mask)
            signal = level[place]
            sigma = np.sqrt(noise.at(place).variance(signal, i))
            excess = frames.data[i, rows][place] - signal
            cores[i, rows][place] = excess > _DEEP * sigma

    in_threads(work, bands_in_cache(frames.shape))
    return cores


def _candidates(frames, masks):
    """Return where half of the exposures look hit, or one is far below the median."""
    found = np.zeros(frames.shape, dtype=bool)
    unused = frames.unused

    def work(rows):
        noise, hit, stack = frames.noise.at(rows), masks[:, rows], frames.data[:, rows]
        median = kernels.median(stack, None if unused is None else unused[:, rows])
        good = len(masks)
        if unused is not None:
            good = good - unused[:, rows].sum(axis=0, dtype=np.int16)
        number = hit.sum(axis=0, dtype=np.int16)
        here = (2 * number >= good) & (number > 0) & (number < good)
        limit = np.float32(_DEEP**2)
        for i, plane in enumerate(stack):
            variance = noise.variance(median, i)
            below = np.minimum(plane - median, 0)
            deep = np.square(below) > limit * variance
            here |= deep if unused is None else deep & ~unused[i, rows]
        found[rows] = here

    in_threads(work, bands_in_cache(frames.shape))
    return found


@dataclass(frozen=True)
class _Groups:
    """
    Groups of connected pixels that are low in the same exposures.

    ``pixels`` are rows and columns, in order, ``index`` the group of each, ``number``
    the number of groups.
    """

    pixels: tuple
    index: np.ndarray
    number: int

    @classmethod
    def from_pixels(cls, pixels, low, shape):
        """Put pixels into groups by place and by the exposures that are low."""
        label = label_pixels(np.ravel_multi_index(pixels, shape), shape[1])
        keys = np.column_stack([label, np.packbits(low, axis=0).T])
        index = np.unique(keys, axis=0, return_inverse=True)[1].ravel()
        return cls(pixels, index, int(index.max()) + 1)

    def sums(self, values):
        """Return the sum of values over each group."""
        return np.bincount(self.index, values, minlength=self.number)

    def means(self, values):
        """Return the mean of values over each group."""
        return self.sums(values) / self.sums(np.ones(len(self.index)))

    def neighbours(self, cores, clean, priors):
        """
        Return the log odds (groups,) of low values, from the pixels around.

        A track continues in its own exposure beyond the group: in neighbours that are
        hit there, but not in all of the exposures that look hit in the group.
        """
        (ny, nx), (y, x) = cores.shape[1:], self.pixels
        place = y * nx + x
        all_, on, off = clean.sum(axis=0), np.zeros_like(clean), 0
        for dy, dx in EIGHT:
            there = moved((y, x), (dy, dx), (ny, nx))
            inside = (there[0] == y + dy) & (there[1] == x + dx)
            index, found = find_places(place, place + (dy * nx + dx))
            other = ~(found & inside & (self.index[index] == self.index))
            hit = cores[:, *there] & clean & inside
            some = hit.sum(axis=0)
            on |= hit & (other & ((some < all_) | (all_ == 1)))
            off = off + other
        around = self.sums(off)
        odds = np.zeros(self.number)
        by_chance = np.exp(around * np.log1p(-priors.hit_rate))
        by_chance = np.clip(by_chance, priors.hit_rate, 1 - priors.hit_rate)
        alone = np.log(by_chance / priors.alone)
        joined = np.log((1 - by_chance) / (1 - priors.alone))
        for exposure, goes_on in zip(clean, on, strict=True):
            looks_hit = self.sums(exposure) > 0
            odds += np.where(looks_hit, np.where(self.sums(goes_on), joined, alone), 0)
        return odds
