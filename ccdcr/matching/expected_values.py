# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Values that flagged pixels would have without their hits."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.optimize import nnls
from scipy.stats import norm

from ccdcr.matching.clean_reference import FEW, REACH, with_neighbours
from ccdcr.matching.kernels import Taps
from ccdcr.matching.mismatch import EDGES
from ccdcr.utils.neighbours import (
    FOUR,
    bands_in_cache,
    cut_bands,
    find_places,
    in_threads,
    moved,
    pixels_of,
    place_type,
    with_halo,
)
from ccdcr.utils.scratch import in_parts, in_turn, release

__all__ = ["Expected", "find_expected"]

_STRONG = np.float32(256)  # squared sigmas of structure that tells mismatch
_SURE = 2.0  # errors of mismatch
_ENOUGH, _LEAST = 1 << 17, 400  # pixels, and of a level
_CLEAR, _ODD, _ODDEST = map(np.float32, (25, 20, 100))  # squared sigmas
_FITS, _ROUNDS = 4, 2  # more rounds change less than noise
_BESIDE = 4  # pixels
# Clean pixels told the fit: mismatch over what is seen there, and part of the noise.
_HIDDEN, _FITTED = np.float32(1.3), np.float32(0.03)
_BAND = 1 << 16  # pixels at once
_AT_ONCE, _TINY = 1 << 13, np.float32(1e-12)


@dataclass(frozen=True)
class Expected:
    """
    Expected values of flagged pixels and their standard deviations, (m,) each.

    ``places`` are the index arrays (exposure, row, column) in (n, ny, nx).
    """

    places: tuple
    values: np.ndarray
    sigmas: np.ndarray


def find_expected(frames, matched, masks):
    """
    Return the `Expected` of pixels in masks (n, ny, nx) of exposures `Matched`.

    It is the mean of the exposures that are clean there, each without its correction,
    with the correction of the flagged one; no correction is limited. Pixels without a
    clean exposure have none.
    """
    (ny, nx), free = frames.shape, matched.frames.data
    kind = place_type(frames.shape)

    def work(rows):
        some = masks[:, rows].any(axis=0)
        wide, inside = with_halo(rows, REACH, ny)
        if not some.any():
            return np.empty(0, dtype=kind), *np.empty((4, 0), dtype=np.float32)
        common = _common(free[:, wide], masks[:, wide], matched, wide)
        square = _squared_structure(matched, rows)
        planes = (*(plane[inside] for plane in common), square)
        place = (np.flatnonzero(some) + rows.start * nx).astype(kind)
        return place, *(p[some] for p in planes)

    parts = in_threads(work, cut_bands(frames.shape, _BAND))
    place, value, variance, number, square = map(
        np.concatenate, zip(*parts, strict=True)
    )
    parts = None
    release()
    some = variance > 0
    found = [np.flatnonzero(m.ravel()[place] & some) for m in in_turn(masks)]
    exposure = np.repeat(
        np.arange(len(masks), dtype=kind), [len(here) for here in found]
    )
    here = np.concatenate(found)
    places = exposure, *np.divmod(place[here], nx)
    beyond = _beyond_edges(matched, place)[here]
    shares = _mismatch_shares(free, matched, masks)
    mismatch = _over_dispersion(free, matched, masks, places[1:])
    mismatch *= np.maximum(2 / number[here], 1)
    mismatch = np.maximum(mismatch, shares[exposure] * square[here])
    if len(masks) == 2:
        mismatch = _mismatch_of_two(mismatch, free, matched, masks, places[1:])
    data = in_parts(frames.data.__getitem__, places)
    correction = data - in_parts(free.__getitem__, places)
    if frames.raw is not None:  # with the sky of its own
        correction += in_parts(frames.raw.__getitem__, places) - data
    alone = (number == 1) & matched.fits.fitted.ravel()[place]
    off = place[alone], value[alone] - matched.reference.ravel()[place[alone]]
    release()
    off = off[0], _settle(off, matched, masks)
    change, times, more = _by_kernels(off, matched, masks, places, alone[here])
    if len(masks) == 2:  # clean pixels have the noise of kernels, too
        mismatch = np.maximum(mismatch - more, 0)
    mismatch = np.maximum(mismatch, beyond)
    sigmas = np.sqrt(variance[here] * times**2 + more + mismatch)
    return Expected(places, value[here] + correction + change, sigmas)


def _by_kernels(off, matched, masks, places, alone):
    """
    Return changes, factors of the noise, and variances (m,) at places of one exposure.

    Where one exposure is clean (m,) alone, the reference that was fitted to is its own
    of the pass before, with its noise. Here it is the value that was found; ``off`` are
    flat places and values of the difference. What makes it sharper makes its noise
    larger.
    """
    fits, n = matched.fits, len(masks)
    change = np.zeros((3, len(alone)), dtype=np.float32)
    change[1] = 1
    found = np.flatnonzero(alone)
    for part, around in in_turn(_taps_around(found, off, matched, places[1:])):
        i, y, x = (axis[part] for axis in places)
        clean = fits.at(_first_clean(matched, masks, y, x), y, x)
        kernels = fits.at(i, y, x) - clean
        middle = np.s_[:, kernels.shape[1] // 2]
        change[0, part] = np.einsum("mt,tm->m", kernels, around)
        change[1, part] += kernels[middle] / (1 + clean[middle])
        kernels[middle] = 0
        noise = matched.frames.noise.at((y, x)).mean_variance(matched.level[y, x])
        # Beside it the reference is the mean of all, or that of one exposure, too.
        shares = np.where(around != 0, np.float32(1), np.float32(1 / n))
        change[2, part] = noise * np.einsum("mt,tm->m", np.square(kernels), shares)
    return change


def _settle(off, matched, masks):
    """Return values (m,) of ``off`` for references that their own kernels see."""
    places, first = off
    y, x = np.divmod(places, matched.extra.shape[1])
    values, every = first, np.arange(len(places))
    for _ in range(_ROUNDS):
        seen = np.zeros_like(first)
        around = _taps_around(every, (places, values), matched, (y, x))
        for part, taps in in_turn(around):
            here = y[part], x[part]
            kernels = matched.fits.at(_first_clean(matched, masks, *here), *here)
            seen[part] = np.einsum("mt,tm->m", kernels, taps)
        values = first - seen
    return values


def _first_clean(matched, masks, y, x):
    """Return the first exposure (m,) that is clean at places."""
    usable = ~masks[:, y, x]
    if matched.frames.unused is not None:
        usable &= ~matched.frames.unused[:, y, x]
    return usable.argmax(axis=0)


def _beyond_edges(matched, place):
    """Return the variance at flat places (m,) of structure that is cut by an edge."""
    y, x, variance = matched.fits.beyond_edges(matched.profile)
    if not len(y):
        return np.zeros(len(place), dtype=np.float32)
    index, inside = find_places(y * matched.extra.shape[1] + x, place)
    return np.where(inside, variance[index], np.float32(0))


def _taps_around(found, off, matched, places):
    """
    Yield some of the indices found, and what taps see around their places, (taps, m).

    It is the values of ``off`` at its places, 0 elsewhere.
    """
    (ny, nx), half = matched.extra.shape, matched.fits.taps.half
    y, x = places
    for rows in bands_in_cache((ny, nx)) if len(found) else ():
        wide, _ = with_halo(rows, half, ny)
        here = slice(*np.searchsorted(off[0], (wide.start * nx, wide.stop * nx)))
        image = np.zeros((wide.stop - wide.start, nx), dtype=np.float32)
        image.ravel()[off[0][here] - wide.start * nx] = off[1][here]
        taps = Taps.of_image(image, half)
        inside = found[(y[found] >= rows.start) & (y[found] < rows.stop)]
        for start in range(0, len(inside), _AT_ONCE):
            part = inside[start : start + _AT_ONCE]
            yield part, taps.at((y[part] - wide.start, x[part]))[:-1]


def _over_dispersion(free, matched, masks, here):
    """
    Return the variance (m,) that mismatch adds at pixels, by their level of structure.

    It is the mean square of clean pixels: that of the detection is a high quantile.
    """
    frames = matched.frames
    rows = np.s_[:: max(matched.extra.size // _ENOUGH, 1)]
    variance, level = _levels(matched, rows)
    clean = ~masks[:, rows].any(axis=0) & (variance > 0)
    if frames.unused is not None:
        clean &= ~frames.unused[:, rows].any(axis=0)
    values, level = free[:, rows][:, clean], level[clean]
    square = np.square(values - values.mean(axis=0)).sum(axis=0) / (len(free) - 1)
    # Masks of other methods miss hits.
    likely = square < _ODD * (variance + matched.extra[rows])[clean]
    square, level = (square / variance[clean])[likely], level[likely]
    bins = np.searchsorted(EDGES, level)
    number, levels, squares = (np.bincount(bins, w) for w in (None, level, square))
    some = number >= _LEAST
    if not some.any():
        return in_parts(matched.extra.__getitem__, here)
    number, levels, squares = number[some], levels[some], squares[some]
    excess, error, levels = squares / number - 1, np.sqrt(2 / number), levels / number
    # Without structure it is not mismatch, which grows with structure.
    sure = np.where((excess > _SURE * error) & (levels > EDGES[1]), excess, 0)
    # The mean of what it may be, which is not negative.
    mean = error * np.exp(norm.logpdf(excess / error) - norm.logcdf(excess / error))
    factors = np.sqrt(sure) / levels, excess + mean - sure

    def extra(places):
        variance, level = _levels(matched, places)
        strength, rest = (np.interp(np.log(level), np.log(levels), k) for k in factors)
        found = (np.square(strength * level) + rest) * variance
        # Higher levels have too few pixels to tell.
        higher = np.maximum(found, matched.extra[places])
        return np.where(level > levels[-1], higher, found)

    return in_parts(extra, here)


def _mismatch_of_two(mismatch, free, matched, masks, here):
    """
    Return the variance (m,) of mismatch of two exposures, by the shape of structure.

    It is the given one, but on clear structure. There it is the sum of the noise and of
    the squares of height, slope and curvature, each times a factor that clean pixels
    tell.
    """
    frames, profile = matched.frames, matched.profile

    def variance(part):  # peaks are lower in the level without noise
        return frames.noise.at(part).mean_variance(matched.reference[part])

    def terms(places):
        noise = 2 * variance(places)
        return np.stack([noise, *_squared_shape(profile, places)])

    def is_clear(part):
        return np.square(np.maximum(profile[part], 0)) > _CLEAR * variance(part)

    step = max(matched.extra.size // _ENOUGH, 1)
    rows = np.s_[::step]
    clean = ~_near_hits(masks, step) & is_clear(rows)
    if frames.unused is not None:
        clean &= ~frames.unused[:, rows].any(axis=0)
    y, x = pixels_of(clean)
    places = y * step, x
    if len(y) < _LEAST:
        return mismatch
    square = np.square(free[0][places] - free[1][places])
    found = terms(places)
    noise, factors = found[0], np.zeros(len(found), dtype=np.float32)
    for _ in range(_FITS):
        total = noise + factors @ found
        excess = np.minimum(square, _ODD * total) - noise  # without hits
        factors = nnls((found / total).T, excess / total)[0].astype(np.float32)
    factors *= _HIDDEN
    factors[0] += _FITTED
    told = factors @ in_parts(terms, here)
    return np.where(in_parts(is_clear, here), told, mismatch)


def _near_hits(masks, step):
    """
    Return the pixels of every ``step``-th row that have hits of any exposure near.

    There may be pixels that are hit in both and not known.
    """
    rows = np.arange(0, masks.shape[1], step)
    near = np.zeros((len(rows), masks.shape[2]), dtype=bool)
    for shift in range(-_BESIDE, _BESIDE + 1):
        near |= masks[:, np.clip(rows + shift, 0, masks.shape[1] - 1)].any(axis=0)
    return ndimage.binary_dilation(near, np.ones((1, 2 * _BESIDE + 1)))


def _squared_shape(profile, places):
    """Return squared height, slope and curvature (3, m) of structure at places."""
    middle, up, down, left, right = (
        np.maximum(profile[moved(places, step, profile.shape)], 0)
        for step in ((0, 0), *FOUR)
    )
    slope = (np.square(down - up) + np.square(right - left)) / 4
    curvature = up + down + left + right - 4 * middle
    return np.stack([np.square(middle), slope, np.square(curvature)])


def _levels(matched, part):
    """Return variance and level of structure (sigmas) in a part of (ny, nx)."""
    variance = matched.frames.noise.at(part).mean_variance(matched.reference[part])
    level = matched.strength[part] / np.sqrt(np.maximum(variance, _TINY))
    return variance, np.maximum(level, np.float32(EDGES[0] / 2))


def _squared_structure(matched, rows):
    """Return squared structure (rows, nx), 0 where noise may be its cause."""
    variance = matched.frames.noise.at(rows).mean_variance(matched.level[rows])
    square = np.square(np.maximum(matched.profile[rows], 0))
    square[square < _STRONG * variance] = 0
    return square


def _mismatch_shares(free, matched, masks):
    """
    Return the variance of mismatch over squared structure, (n,).

    It is measured where structure is so bright that mismatch is more than the noise;
    0 where noise may be its cause.
    """

    def work(rows):
        return _mismatch_sums(free, matched, masks, rows)

    sums = in_threads(work, cut_bands(matched.extra.shape, _BAND))
    share, norm, noise = np.sum(sums, axis=0)
    norm = np.maximum(norm, 1e-30)
    share, error = share / norm, np.sqrt(2 * noise) / norm
    return np.where(share > _SURE * error, share, 0).astype(np.float32)


def _mismatch_sums(free, matched, masks, rows):
    """Return the sums (3, n) over strong structure that tell mismatch."""
    unused = matched.frames.unused
    square = _squared_structure(matched, rows)
    pixels = pixels_of(square)
    square = square[pixels]
    noise = matched.frames.noise.at(rows)
    level = matched.level[rows][pixels]
    variance = noise.at(pixels).mean_variance(level)
    usable, values = ~masks[:, rows][:, *pixels], free[:, rows][:, *pixels]
    if unused is not None:
        usable &= ~unused[:, rows][:, *pixels]
    total, number = np.where(usable, values, 0).sum(axis=0), usable.sum(axis=0)
    sums, extra = np.zeros((3, len(free))), matched.extra[rows][pixels]
    others = np.maximum(number - 1, 1)
    for i, (value, use) in enumerate(zip(values, usable, strict=True)):
        noise = variance * (1 + 1 / others)
        excess = np.square(value - (total - value) / others) - noise
        likely = use & (number > 1) & (excess < _ODDEST * (noise + extra))
        weight = square / noise**2 * likely
        terms = weight * excess, weight * square, np.square(weight * noise)
        sums[:, i] = [term.sum(dtype=float) for term in terms]
    return sums


def _common(stack, masks, matched, rows):
    """Return mean, variance (0 if none) and number of the clean, each (rows, nx)."""
    frames, level = matched.frames, matched.level[rows]
    usable = ~masks if frames.unused is None else ~(masks | frames.unused[:, rows])
    noise = frames.noise.at(rows)
    weights = noise.weights(level)
    shares = usable if weights is None else np.where(usable, np.stack(weights), 0)
    number, weight = usable.sum(axis=0, dtype=np.float32), shares.sum(axis=0)
    total = np.where(usable, stack * shares, np.float32(0)).sum(axis=0)
    some = np.where(number > 0, weight, 1).astype(np.float32)
    value = total / some
    one = noise.variance_of_weight(np.maximum(value, level), 0)
    variance = one / some
    few = (masks.sum(axis=0, dtype=np.uint16) > 1) & (number > 0) & (number <= FEW)
    few |= number == 1
    if few.any():
        weight = weight.astype(np.float32)
        value[few], variance[few] = with_neighbours(value, weight, one, few)
    return value, np.where(number > 0, variance, 0), number
