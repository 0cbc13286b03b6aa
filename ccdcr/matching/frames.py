# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Data, noise and structure of the exposures that are matched."""

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from scipy import ndimage

from ccdcr.utils.neighbours import (
    bands_in_cache,
    box_sums,
    in_threads,
    median_of_nine,
    running,
    smooth_columns,
    with_halo,
)
from ccdcr.utils.planes import fill_from_nearest
from ccdcr.utils.scratch import empty, in_turn, zeros
from ccdcr.utils.stacks import thinned

__all__ = [
    "Frames",
    "Noise",
    "Structure",
    "either",
    "find_profile",
    "find_structure",
    "structure_level",
    "typical_skies",
]

_ALIKE = 1e-3  # of the variance
_STEP = 8  # pixels: a sky is smooth


@dataclass(frozen=True)
class Noise:
    """
    Variance of each exposure, ``floor + slope * signal``.

    ``floor`` (n,) or, if it is not the same everywhere, (n, ny, nx) and ``slope`` (n,)
    are float32; ``alike`` tells whether a floor (n, ny, nx) is that of all exposures.
    ``sky`` (n, ny, nx) is what was subtracted from each exposure, or None, and
    ``added`` (ny, nx) what it adds to all variances. ``own`` (n, ny, nx; NaN = unknown)
    are the variances by the uncertainties of the exposures, ``model`` the noise where
    none is known; either may be None.
    """

    floor: np.ndarray
    slope: np.ndarray
    sky: np.ndarray | None = None
    added: np.ndarray | None = None
    alike: bool | None = None
    own: np.ndarray | None = None
    model: Any = None

    @classmethod
    def from_detector(cls, n, gain, readnoise, factors=None):
        """
        Return the noise of n exposures that were divided by ``factors`` (n,).

        ``gain`` is in electron per unit of the data, ``readnoise`` in electron (0
        counts as 1): a number, one of each exposure (n,), or one or n maps (ny, nx).
        """
        factors = np.broadcast_to(1.0 if factors is None else factors, n)
        readnoise = np.asarray(readnoise, dtype=float)
        floor = np.square(np.where(readnoise > 0, readnoise, 1) / gain)
        slope = (1 / (gain * np.asarray(factors))).astype(np.float32)
        if floor.ndim < 2:
            return cls((floor / np.square(factors)).astype(np.float32), slope)
        if alike := floor.ndim == 2 and _is_alike(slope):
            one = (floor / factors[0] ** 2).astype(np.float32)
            floor = np.broadcast_to(one, (n, *one.shape))
        else:
            floor = floor / np.square(factors)[:, np.newaxis, np.newaxis]
        return cls(floor.astype(np.float32, copy=False), slope, alike=alike)

    @classmethod
    def from_variances(cls, own, model=None):
        """Return the noise of exposures by their variances, before it is `measured`."""
        slope = np.zeros(len(own), dtype=np.float32)
        return cls(own, slope, alike=False, own=own, model=model)

    def measured(self, data, masks, unused, curves=None):
        """
        Return the noise that exposures have where they are clean, and its curves.

        An exposure is not judged by its own variance, which contains its hits: each has
        that of the others that are clean by ``masks`` (n, ny, nx), or of the lowest
        exposure if that is None. ``curves``, measured unless they are given, bring it
        to the level of the exposure.
        """
        lowest, floor = empty(data.shape[1:]), empty(data.shape)
        bands = bands_in_cache(lowest.shape)

        def known(rows, i=np.s_[:]):
            found = np.isfinite(self.own[i, rows])
            return found if unused is None else found & ~unused[i, rows]

        def clean(rows, i=np.s_[:]):
            return known(rows, i) & (True if masks is None else ~masks[i, rows])

        def find_lowest(rows):
            lowest[rows] = _of_lowest(self.own[:, rows], data[:, rows], known(rows))

        def find_base(rows):
            wide, inside = with_halo(rows, 1, len(lowest))
            use = None if masks is None else clean(wide)
            others = _variances_of_others(self.own[:, wide], use, lowest[wide])
            for target, base in zip(floor, others, strict=True):
                target[rows] = base[inside]

        in_threads(find_lowest, bands)
        lowest = self._filled(lowest, data)
        in_threads(find_base, bands)
        if curves is None:
            pairs = enumerate(zip(floor, self.own, strict=True))
            curves = [_find_curve(*p, partial(clean, i=i), bands) for i, p in pairs]
        for base, curve in zip(floor, curves, strict=True):
            for rows in in_turn(bands):
                base[rows] *= np.interp(np.log(base[rows]), *curve)
        return replace(self, floor=floor), tuple(curves)

    def _filled(self, variance, data):
        """Return a variance (ny, nx) by the model or nearest pixels where it is NaN."""
        unknown = np.isnan(variance)
        if not unknown.any():
            return variance
        if self.model is None:
            return np.maximum(fill_from_nearest(variance, unknown), np.float32(_TINY))
        variance[unknown] = self.model.mean_variance(data[:, unknown].min(axis=0))
        return variance

    def __len__(self):
        return len(self.floor)

    def with_sky(self, sky):
        """Return the noise of exposures that had a sky (n, ny, nx) of their own."""
        added = sum(slope * plane for slope, plane in zip(self.slope, sky, strict=True))
        return replace(self, sky=sky, added=added)

    @property
    def equal(self):
        """Whether all exposures have the same noise."""
        alike = _is_alike(self.floor) if self.alike is None else self.alike
        return self.sky is None and alike and _is_alike(self.slope)

    def at(self, part):
        """Return the noise in a part of the image, an index of (ny, nx)."""
        if self.sky is None and self.floor.ndim == 1:
            return self
        part = part if isinstance(part, tuple) else (part,)
        every = (slice(None), *part)
        floor = self.floor if self.floor.ndim == 1 else self.floor[every]
        if self.sky is None:
            return replace(self, floor=floor)
        return replace(self, floor=floor, sky=self.sky[every], added=self.added[part])

    @property
    def typical(self):
        """The noise with one floor and one sky for the whole image."""
        noise, part = self, np.s_[:, ::_STEP, ::_STEP]
        if self.floor.ndim > 1:
            noise = replace(noise, floor=np.median(self.floor[part], axis=(1, 2)))
        if self.sky is None:
            return noise
        return noise.with_sky(np.median(self.sky[part], axis=(1, 2)))

    def variance(self, signal, i):
        """Return the variance of exposure i at a signal."""
        if self.sky is not None:
            signal = signal + self.sky[i]
        return self.floor[i] + _photons(self.slope[i], signal)

    def third_moment(self, signal, i):
        """Return the third central moment of exposure i at a signal."""
        if self.sky is not None:
            signal = signal + self.sky[i]
        return self.slope[i] * _photons(self.slope[i], signal)

    def mean_variance(self, signal):
        """Return the variance of a typical exposure at a signal."""
        floor, slope = self.floor.mean(axis=0), self.slope.mean()
        photons = _photons(slope, signal)
        if self.sky is not None:
            photons += self.added / np.float32(len(self))
            photons = np.maximum(photons, np.float32(0))
        return floor + photons

    def variance_of_others(self, signal, i):
        """Return the variance of a typical exposure other than i at a signal."""
        n = np.float32(len(self) - 1)
        floor = (self.floor.sum(axis=0) - self.floor[i]) / n
        slope = (self.slope.sum() - self.slope[i]) / n
        photons = _photons(slope, signal)
        if self.sky is not None:
            photons += (self.added - self.slope[i] * self.sky[i]) / n
            photons = np.maximum(photons, np.float32(0))
        return floor + photons

    def variance_of_difference(self, signal, i, part):
        """
        Return the variance of exposure i minus a reference, over 1 + ``part``.

        ``part`` is the variance of the reference over that of one of the others.
        """
        own = self.variance(signal, i)
        if self.equal:
            return own
        return (own + part * self.variance_of_others(signal, i)) / (1 + part)

    def variance_of_weight(self, signal, i):
        """Return the variance over 1 / weight of a mean of exposures without i."""
        # Alike they have no weights; else that of the first one is 1.
        if self.equal:
            return self.variance_of_others(signal, i)
        return self.variance(signal, 0)

    def weights(self, signal):
        """Return the weights of exposures in a mean, None where they are alike."""
        if self.equal:
            return None
        variances = [self.variance(signal, i) for i in range(len(self))]
        return [variances[0] / variance for variance in variances]


def typical_skies(planes):
    """Return the sky of each exposure (n,) of `Noise.typical`, from a function."""
    return np.median(planes(np.s_[::_STEP], np.s_[::_STEP]), axis=(1, 2))


def _photons(slope, signal):
    """Return the variance of a signal, which is infinite where no exposure is good."""
    with np.errstate(invalid="ignore"):
        return slope * np.maximum(signal, np.float32(0))


_TINY = 1e-30
_CURVE_BINS, _CURVE_LEAST, _CURVE_SAMPLE = 10, 100, 1 << 18


def _of_lowest(own, data, known):
    """Return the variance (ny, nx) of the lowest exposure whose variance is known."""
    values = np.where(known, data, np.float32(np.inf))
    index = values.argmin(axis=0)[np.newaxis]
    chosen = np.take_along_axis(own, index, axis=0)[0]
    return np.where(known.any(axis=0), chosen, np.float32(np.nan))


def _variances_of_others(own, clean, lowest):
    """Yield the variance (ny, nx) of the clean others of each exposure, smoothed up."""
    if clean is None:
        base = np.maximum(lowest, median_of_nine(lowest))
        for _ in own:
            yield base
        return
    values = np.where(clean, own, np.float32(0))
    total, number = values.sum(axis=0), clean.sum(axis=0)
    for value, use in zip(values, clean, strict=True):
        others = number - use
        base = (total - value) / np.maximum(others, 1).astype(np.float32)
        base = np.where((others > 0) & (base > 0), base, lowest)
        yield np.maximum(base, median_of_nine(base))


def _find_curve(base, own, clean, bands):
    """
    Return nodes, and own variance over a base (ny, nx) at its logarithm there.

    ``clean`` tells of some rows where to measure them.
    """
    number = sum(np.count_nonzero(clean(rows)) for rows in in_turn(bands))
    step = max(number // _CURVE_SAMPLE, 1)
    base, own = thinned([base, own], clean, in_turn(bands), step)
    x, ratio = np.log(base), own / base
    if not x.size:
        return [0.0], [1.0]
    low, high = np.quantile(x, (0.001, 0.999))
    place = (x - low) * (_CURVE_BINS / max(high - low, _TINY))
    place = np.clip(place, 0, _CURVE_BINS - 1).astype(int)
    few = np.bincount(place, minlength=_CURVE_BINS) < _CURVE_LEAST
    if few.all():
        return [0.0], [float(np.median(ratio))]
    found = [
        (float(np.median(x[here])), float(np.median(ratio[here])))
        for here in (place == k for k in np.flatnonzero(~few))
    ]
    return tuple(map(list, zip(*found, strict=True)))


def _is_alike(values):
    """Return whether the values (n,) are the same for all exposures."""
    return bool(np.ptp(values) <= _ALIKE * values[0])


_ROUNDED = np.float32(1 - 1e-6)  # products in another order differ by less


@dataclass(frozen=True)
class Frames:
    """
    Exposures (n, ny, nx) float32 without bias, their noise and unused pixels.

    ``bad``, ``saturated`` and ``low`` are bool (n, ny, nx) or None. All are ignored in
    sorts, means and fits; only saturated ones may be flagged as hit. ``raw`` is the
    data before the skies were made equal, None if they were not.
    """

    data: np.ndarray
    noise: Noise
    bad: np.ndarray | None = None
    saturated: np.ndarray | None = None
    low: np.ndarray | None = None
    raw: np.ndarray | None = None

    @classmethod
    def from_arrays(
        cls, data, noise, bad=None, level=np.inf, *, ratio=None, in_place=False
    ):
        """
        Return finite frames with values at the saturation ``level`` marked.

        ``level`` is one number, or one for each exposure, before data were multiplied
        by the ``ratio`` of gains, (ny, nx), (n, ny, nx) or None; values under ``bad``
        may be anything. Data change if ``in_place``.
        """
        level = np.broadcast_to(np.float32(level), len(data))
        if ratio is not None:
            ratio = np.broadcast_to(ratio, data.shape)
            pairs = zip(level, ratio, strict=True)
            level = (most * plane * _ROUNDED for most, plane in pairs)
        saturated = empty(data.shape, bool)
        with np.errstate(invalid="ignore"):
            planes = zip(data, saturated, level, strict=True)
            for plane, target, most in in_turn(planes):
                np.greater_equal(plane, most, out=target)
        if bad is not None:
            data = data if in_place else data.copy()
            for plane, target, mask in in_turn(zip(data, saturated, bad, strict=True)):
                np.logical_and(target, ~mask, out=target)
                plane[mask] = 0
        return cls(data, noise, bad, saturated if saturated.any() else None)

    @cached_property
    def unused(self):
        """Ignored pixels, (n, ny, nx), or None."""
        masks = [m for m in (self.bad, self.saturated, self.low) if m is not None]
        if len(masks) < 2:
            return masks[0] if masks else None
        return either(masks)

    def replace(self, data):
        """Return the same with other data."""
        frames = replace(self, data=data)
        vars(frames)["unused"] = self.unused
        return frames

    def measured(self, masks, curves=None):
        """Return frames with the noise of the clean exposures, and its curves."""
        noise, curves = self.noise.measured(self.data, masks, self.unused, curves)
        return replace(self, noise=noise), curves

    def ignoring(self, masks):
        """Return the same with masks (n, ny, nx) ignored, too."""
        bad = masks if self.bad is None else either([self.bad, masks])
        return replace(self, bad=bad)

    def without(self, low):
        """Return the same with these low values; None = nothing is low."""
        return self if low is self.low else replace(self, low=low)

    @property
    def shape(self):
        """Shape of each exposure, (ny, nx)."""
        return self.data.shape[1:]

    def __len__(self):
        return len(self.data)


def either(stacks):
    """Return where one of some masks (n, ny, nx) is True."""
    result = zeros(stacks[0].shape, bool)
    for target, *planes in in_turn(zip(result, *stacks, strict=True)):
        for plane in planes:
            np.logical_or(target, plane, out=target)
    return result


_WINDOW = 25  # pixels: wider than what may differ between exposures
_HALO = 2 * (_WINDOW // 2) + 4


@dataclass(frozen=True)
class Structure:
    """
    Structure of an image: ``profile``, ``height`` and ``contrast``, each (ny, nx).

    ``profile`` is the signal above the local background, noise included. ``height`` is
    the same and ``contrast`` half the local range, both corrected for noise.
    """

    profile: np.ndarray
    height: np.ndarray
    contrast: np.ndarray

    def square(self, part):
        """Return the squared height and contrast together, in a part of (ny, nx)."""
        return np.square(self.height[part]) + np.square(self.contrast[part])

    def level(self, rows=np.s_[:]):
        """Return the level (ny, nx) of structure, to which mismatch is proportional."""
        return structure_level(self.height[rows], self.contrast[rows])


def structure_level(height, contrast):
    """Return the level of structure of a height and a contrast, of any shape."""
    level = np.square(np.float32(0.1) * height) + np.square(contrast)
    return np.sqrt(level, out=level)


def find_structure(image, noise):
    """Return the `Structure` of a clean image (ny, nx) without bad pixels."""
    planes = [empty(image.shape) for _ in range(3)]

    def work(rows):
        wide, inside = with_halo(rows, _HALO, len(image))
        for plane, part in zip(
            planes, _measure(image[wide], noise.at(wide)), strict=True
        ):
            plane[rows] = part[inside]

    in_threads(work, _bands(image.shape))
    return Structure(*planes)


def find_profile(image):
    """Return the signal of a clean image (ny, nx) above the local background."""
    profile = empty(image.shape)

    def work(rows):
        wide, inside = with_halo(rows, _HALO, len(image))
        profile[rows] = _profile(image[wide])[inside]

    in_threads(work, _bands(image.shape))
    return profile


def _bands(shape):
    """Return bands of (ny, nx): lower ones of wide images would be mostly halo."""
    return bands_in_cache(shape, longer=2, step=4 * _HALO)


def _profile(image):
    """Return the profile of a band (ny, nx)."""
    smooth = smooth_columns(ndimage.gaussian_filter1d(image, 1, mode="nearest"), 1)
    smooth = box_sums(running(np.minimum, smooth, _WINDOW), _WINDOW)
    smooth /= np.float32(_WINDOW**2)
    return np.subtract(image, smooth, out=smooth)


def _measure(image, noise):
    """Return profile, height and contrast of a band, each (ny, nx)."""
    profile, variance = _profile(image), noise.mean_variance(image)
    height = _debiased(np.maximum(profile, 0), 4 * variance)
    spread = running(np.maximum, image, 3) - running(np.minimum, image, 3)
    return profile, height, _debiased(spread, 16 * variance) / 2


def _debiased(value, variance):
    return np.sqrt(np.maximum(np.square(value) - variance, 0))
