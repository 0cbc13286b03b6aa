# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Search for groups of one exposure only that have the shape of a point source."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.stats import chi2, norm

from ccdcr.matching.clean_reference import means_of_others
from ccdcr.utils.neighbours import label_groups

__all__ = ["PointSpread", "find_point_like", "measure_psf"]

_HALF = 4  # pixels: sources are compared in 9 x 9
_FAR = 3.5  # pixels from the centre, where a star has nearly ended
_BRIGHT, _ENDED = 12.0, 0.15  # sigmas of a star, and its height at the edge
_NOISE = 3.0  # sigmas that the highest pixel around has by noise
_LEAST_STARS, _MANY_STARS, _MOST_STARS = 5, 15, 200
_LEAST_AREA = 6.0  # pixels: sharper ones look like hits
_LEAST_ERROR = 0.02  # of the peak
_ITERATIONS = 5
_OFFSETS = np.arange(-3, 4) / 4  # pixels
_LEAST_PIXELS, _LEAST_SIGMAS = 3, 10.0  # of a group, and of its flux
_SHARED = 0.3  # of a group, by hits of other exposures
_RARE = 1e-4  # chance that a point source differs so much
_SHARP = 0.4  # pixels: sigma of the charge of a hit in one place
_AT_ONCE = 2000  # groups

_GRID = np.arange(-_HALF, _HALF + 1)
_Y, _X = (grid.ravel() for grid in np.meshgrid(_GRID, _GRID, indexing="ij"))
_RADIUS = np.hypot(_Y, _X)


@dataclass(frozen=True)
class PointSpread:
    """
    Point-spread function of an exposure, from its stars.

    ``templates`` (offsets, pixels) have a sum of 1, at 49 offsets of the centre;
    ``error`` (pixels,) is how much stars differ from it.
    """

    templates: np.ndarray
    error: np.ndarray


def find_point_like(frames, matched, masks):
    """
    Return the pixels (n, ny, nx) of groups that look like point sources, or None.

    A group is masked in one exposure only. ``frames`` are not matched yet: their stars
    tell the shape. None if there are too few stars, so that nothing is known.
    """
    stars = _find_stars(matched, frames.noise)
    spreads = _measure_all(frames, stars, masks)
    if all(psf is None for psf in spreads):
        return None
    matched_frames, level = matched.frames, matched.level
    noise, unused = matched_frames.noise, matched_frames.unused
    number = masks.sum(axis=0, dtype=np.uint16)
    others = means_of_others(matched_frames.data, masks, unused, noise.weights(level))
    found = np.zeros_like(masks)
    for i, (value, count, _) in enumerate(others):
        psf = spreads[i]
        if psf is None:
            continue
        data = matched_frames.data[i]
        variance = noise.variance_of_others(level, i) + matched.extra
        variance /= np.maximum(count, 1)
        variance += noise.variance(np.maximum(data, level), i)
        use = np.isfinite(value) & (count > 0)
        if unused is not None:
            use &= ~unused[i]
        weight = np.where(use, 1 / variance, 0)
        excess = np.where(use, data - value, 0)
        found[i] = _select(excess, weight, masks[i], number > 1, psf)
    return found


def _find_stars(matched, noise):
    """Return rows and columns (m, 2) of isolated stars, the brightest ones."""
    profile = matched.profile
    sigma = np.sqrt(noise.mean_variance(matched.reference - profile))
    peak = (profile > _BRIGHT * sigma) & (
        profile == ndimage.maximum_filter(profile, 2 * _HALF + 1)
    )
    peak[:_HALF] = peak[-_HALF:] = peak[:, :_HALF] = peak[:, -_HALF:] = False
    y, x = np.nonzero(peak)
    order = np.argsort(profile[y, x])[::-1][: 4 * _MOST_STARS]
    places = np.column_stack([y, x])[order]
    stamps = _cut(profile, places)
    around = stamps[:, _RADIUS >= _FAR].max(axis=1)
    limit = _ENDED * profile[tuple(places.T)] + _NOISE * sigma[tuple(places.T)]
    return places[around < limit][:_MOST_STARS]


def _cut(image, places):
    """Return stamps (m, pixels) around places (m, 2) inside an image."""
    return image[places[:, :1] + _Y, places[:, 1:] + _X]


def measure_psf(stamps):
    """
    Return the `PointSpread` of centred stars (m, pixels), or None.

    It is None where there are less than five, and where they are as sharp as hits.
    """
    if len(stamps) < _LEAST_STARS:
        return None
    middle = np.median(stamps, axis=0)
    psf = np.maximum(middle, 0) / np.maximum(middle, 0).sum()
    if 1 / np.square(psf).sum() < _LEAST_AREA:
        return None
    spread = np.median(np.abs(stamps - middle), axis=0) / norm.ppf(0.75)
    error = np.maximum(spread, _LEAST_ERROR * psf.max())
    dy, dx = (grid.ravel() for grid in np.meshgrid(_OFFSETS, _OFFSETS))
    return PointSpread(_shifted(np.tile(psf, (len(dy), 1)), -dy, -dx), error)


def _centred_stars(data, stars, ignored):
    """Return stamps (k, pixels) of a sum of 1 of the stars (m, 2) of one exposure."""
    stars = stars[~_cut(ignored, stars)[:, _RADIUS <= _HALF].any(axis=1)]
    stamps = _cut(data, stars)
    stamps = stamps - np.median(stamps[:, _RADIUS > _HALF], axis=1, keepdims=True)
    centred = _shifted(stamps, *_centroids(stamps))
    total = centred[:, _RADIUS < _FAR].sum(axis=1, keepdims=True)
    return centred / np.maximum(total, 1)


def _measure_all(frames, stars, masks):
    """Return the `PointSpread` or None of each exposure, of all if it has few stars."""
    stamps = []
    for i, mask in enumerate(masks):
        ignored = mask if frames.unused is None else mask | frames.unused[i]
        stamps.append(_centred_stars(frames.data[i], stars, ignored))
    every = measure_psf(np.concatenate(stamps))
    return [measure_psf(s) if len(s) >= _MANY_STARS else every for s in stamps]


def _centroids(stamps):
    """Return the centroids (m,) along y and x of stamps, weighted by a Gaussian."""
    y, x = np.zeros((2, len(stamps), 1))
    for _ in range(_ITERATIONS):
        weight = np.exp(-(np.square(_Y - y) + np.square(_X - x)) / 4.5)
        weight *= np.maximum(stamps, 0)
        total = np.maximum(weight.sum(axis=1, keepdims=True), 1e-9)
        # A weight as wide as the star halves the step.
        y = y + 1.5 * ((weight * (_Y - y)).sum(axis=1, keepdims=True) / total)
        x = x + 1.5 * ((weight * (_X - x)).sum(axis=1, keepdims=True) / total)
        y, x = np.clip(y, -1, 1), np.clip(x, -1, 1)
    return y[:, 0], x[:, 0]


def _shifted(stamps, dy, dx):
    """Return stamps (m, pixels) resampled at (y + dy, x + dx), each (m,)."""
    side = len(_GRID)
    images = np.pad(
        stamps.reshape(-1, side, side), ((0, 0), (_HALF,) * 2, (_HALF,) * 2)
    )
    wide = images.shape[1]
    frequency = np.fft.fftfreq(wide)
    phase = np.multiply.outer(dy, frequency)[:, :, np.newaxis]
    phase = phase + np.multiply.outer(dx, frequency)[:, np.newaxis, :]
    spectra = np.fft.fft2(images) * np.exp(2j * np.pi * phase)
    inner = slice(_HALF, _HALF + side)
    return np.fft.ifft2(spectra).real[:, inner, inner].reshape(-1, side**2)


def _select(excess, weight, mask, several, psf):
    """Return the groups of a mask (ny, nx) with the shape of a point source."""
    labels, number = label_groups(mask)
    index = np.arange(1, number + 1)
    size = np.bincount(labels.ravel(), minlength=number + 1)[1:]
    shared = np.bincount(labels[several], minlength=number + 1)[1:]
    alone = shared <= _SHARED * size
    index = index[(size >= _LEAST_PIXELS) & alone]
    if len(index) == 0:
        return np.zeros_like(mask)
    places = np.array(ndimage.maximum_position(excess, labels, index))
    planes = [np.pad(plane, _HALF) for plane in (excess, weight, labels)]
    chosen = np.zeros(number + 1, dtype=bool)
    for start in range(0, len(index), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        value, known, label = (_cut(p, places[part] + _HALF) for p in planes)
        other = (label > 0) & (label != index[part, np.newaxis])
        chosen[index[part]] = _fits(value, np.where(other, 0, known), psf)
    return chosen[labels]


def _fits(value, weight, psf):
    """Return which stamps (m, pixels) of excess look like a point source."""
    templates = psf.templates
    # As from the stars, the level around is subtracted.
    ring = weight * (_RADIUS > _HALF)
    around = (ring * value).sum(axis=1) / np.maximum(ring.sum(axis=1), 1e-30)
    value = value - around[:, np.newaxis]
    flux = _flux(value, weight, templates).max(axis=1)
    shape_error = np.square(np.maximum(flux, 0)[:, np.newaxis] * psf.error)
    total = np.where(weight > 0, 1 / (1 / np.maximum(weight, 1e-30) + shape_error), 0)
    misfit, flux = _misfit(value, total, templates)
    sharper = _misfit(value, total, _sharp_templates())[0]
    pixels = np.count_nonzero(weight, axis=1)
    limit = chi2.isf(_RARE, np.maximum(pixels - 3, 1))
    strength = flux * np.sqrt((weight * np.square(templates[24])).sum(axis=1))
    whole = pixels > len(_X) // 2
    return whole & (misfit < limit) & (misfit < sharper) & (strength > _LEAST_SIGMAS)


def _flux(value, weight, templates):
    """Return the fluxes (m, offsets) of templates that fit stamps best."""
    norms = weight @ np.square(templates).T
    return (weight * value) @ templates.T / np.maximum(norms, 1e-30)


def _misfit(value, weight, templates):
    """Return the least chi square (m,) of templates, and their flux."""
    norms = weight @ np.square(templates).T
    product = (weight * value) @ templates.T
    gain = np.square(np.maximum(product, 0)) / np.maximum(norms, 1e-30)
    best = np.argmax(gain, axis=1)
    each = np.arange(len(value))
    total = (weight * np.square(value)).sum(axis=1)
    flux = product[each, best] / np.maximum(norms[each, best], 1e-30)
    return total - gain[each, best], flux


def _sharp_templates():
    """Return a hit in one place at the offsets (offsets, pixels)."""
    dy, dx = (grid.ravel() for grid in np.meshgrid(_OFFSETS, _OFFSETS))

    def shares(places, offset):
        edges = places - offset[:, np.newaxis]
        return norm.cdf((edges + 0.5) / _SHARP) - norm.cdf((edges - 0.5) / _SHARP)

    return shares(_Y, dy) * shares(_X, dx)
