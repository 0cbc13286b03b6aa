# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Check of the noise model by the differences of exposures, and what is wrong."""

from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from scipy import ndimage
from scipy.special import logsumexp

from ccdcr.utils import stacks as kernels
from ccdcr.utils.neighbours import median_of_nine

__all__ = ["NoiseCheck", "check_noise"]

_BLOCK, _BAND = 16, 128  # pixels
_ENOUGH, _PAIRS = 1 << 18, 6  # pixels, and differences, that are enough
_MAD, _CLIP = 1.4826, 4.0  # sigmas
_BINS, _LEAST = 16, 600  # of signal, and pixels of a bin
_SURE = 4.0  # of the noise of a bin times the root of its pixels
_WIDE = 4.0  # sigmas of signal that tell gain from read noise
_CORRELATED = 0.1  # of neighbouring pixels
_OF_ERROR, _MODEL_ERROR = 5.5, 0.04  # of the logarithm of a variance
_OF_TENTH = 0.53  # quantile 0.1 of the median of nine, in sigmas of one
_OF_HITS = {0.0: 0.0, 0.04: 0.5, 0.08: 2.0}  # of the variance, and chi2 of it
_OF_PHOTONS = 1.5  # power of the signal: photons have 1, mismatch has 2
_MISMATCHES, _LEVELS, _OF_MISMATCH = 12, 4, 0.5  # of the variance
_ALMOST, _IMPROBABLE = 6.0, 12.0  # chi2 above the best one, with unlikely values
_MOST_CAUSES, _TINY = 3, 1e-30
_APART = 3.0  # sigmas of the mean exposure, of signals that are told apart
_FACTORS = np.linspace(-8.5, 8.5, 681)  # logarithms, of exposure times, too
_STEPS = 0.75  # electrons that whole ones may add to measured noise
_LOG_RANGE, _LEAST_SKY = 4.0, 0.05  # of a bias or sky, and part that sky is
_LEAST_BIAS, _RARE = 100.0, 3.0  # adu, and chi2 of one smaller by a factor of e
_SKY_LEFT, _MOST_LEFT = 0.06, 4.0  # of a subtracted sky, and chi2 of more
_SKY_BELOW, _SKY_NOISE = 0.3, 3.0  # of the sky that is missing, and sigmas
_FAR_BELOW, _MOST_BELOW = 5.0, 0.2  # sigmas below 0, and part of the pixels


@dataclass(frozen=True)
class NoiseCheck:
    """
    Noise of the exposures by signal, and the likeliest causes if it is off.

    ``levels`` is a table of signal ``x``, ``pixels`` and ``noise``, measured over
    expected. ``causes`` are pairs of a name and the value that explains the noise,
    none to three of them: gain, readnoise, bias, sky or resampled. ``below`` is the
    level of pixels far below 0 if there are many, else None. ``larger`` tells whether
    the noise may be too large without a cause: where there is much signal, or it is not
    known.
    """

    levels: Table
    causes: tuple = ()
    below: float | None = None
    larger: bool = True


def check_noise(frames):
    """
    Return the `NoiseCheck` of exposures whose noise is that of gain and read noise.

    Unlike the masks, it does not depend on the noise that is expected. Structure is
    fitted to the differences in blocks; an excess that grows with the signal is taken
    for what is left of it.
    """
    signal, planes, correlation = _deviations(frames)
    x, pixels, ratio = _by_signal(signal, _used(planes))
    if (kernels.is_off(np.sqrt(ratio)) & (ratio > 1)).any():
        x, pixels, ratio = _by_signal(signal, _used(planes, steps=True))
    noise = frames.noise.typical
    gain, floor = 1 / float(noise.slope.mean()), float(noise.floor.mean())
    model = _Model(gain, gain * np.sqrt(floor))
    low = x < -_FAR_BELOW * np.sqrt(np.maximum(ratio, 1) * model(x))
    if pixels[low].sum() > _MOST_BELOW * pixels.sum():
        levels = Table([x, pixels, np.sqrt(ratio)], names=("x", "pixels", "noise"))
        return NoiseCheck(levels, below=float(np.median(x[low])))
    usable = ratio * model(x) >= 1 if _is_whole(frames) else np.ones(len(x), bool)
    usable &= _has_smooth_noise(x, ratio, model)
    x, pixels, ratio = x[usable], pixels[usable], ratio[usable]
    if len(x) and np.ptp(x) < _WIDE * np.sqrt(np.median(ratio * model(x))):
        x, ratio = (np.atleast_1d(np.average(a, weights=pixels)) for a in (x, ratio))
        pixels = np.atleast_1d(pixels.sum())
    levels = Table([x, pixels, np.sqrt(ratio)], names=("x", "pixels", "noise"))
    if not len(x):
        return NoiseCheck(levels)
    measured, ratio = ratio, _without_mismatch(ratio)
    levels["noise"] = np.sqrt(ratio)
    if not _surely_off(ratio, pixels).any():
        off = _surely_off(measured, pixels) & (measured > 1) & (x > 0)
        excess = (measured - 1) * model(x)
        return NoiseCheck(levels, larger=_is_noise(x[off], excess[off]))
    if correlation > _CORRELATED and np.average(ratio, weights=pixels) < 1:
        return NoiseCheck(levels, (("resampled", correlation),))
    error = np.sqrt(np.median(ratio * model(x)) / len(frames.data))
    x, pixels, variance = _merged(x, pixels, measured * model(x), _APART * error)
    # Noise lowers the quantile of a background of one level.
    faint = np.quantile(signal, 0.1) + _OF_TENTH * error
    return NoiseCheck(levels, _likeliest(x, pixels, variance, model, faint))


def _has_smooth_noise(x, ratio, model):
    """Return where single electrons are no large part of the measured noise."""
    electrons = np.maximum(x, 0) * model.gain
    smooth = kernels.has_smooth_noise(electrons, model.readnoise)
    return smooth | (np.sqrt(ratio * model(x)) * model.gain > electrons**0.5 + _STEPS)


def _surely_off(ratio, pixels):
    """Return where noise is off by more than is tolerated; an excess surely so."""
    error = np.where(ratio > 1, 2 * np.sqrt(_OF_ERROR / pixels), 0)
    return kernels.is_off(np.sqrt(ratio - np.minimum(error, np.abs(ratio - 1))))


def _is_noise(x, excess):
    """Return whether variance grows with signal as that of photons, not of mismatch."""
    if len(x) < _LEVELS:
        return False
    return bool(np.polyfit(np.log(x), np.log(excess), 1)[0] < _OF_PHOTONS)


@dataclass(frozen=True)
class _Model:
    """Variance of an exposure by gain and read noise (electron)."""

    gain: float
    readnoise: float

    def __call__(self, x, *, gain=1.0, readnoise=1.0, added=0.0):
        """Return the variance at signal x, with factors of both and signal added."""
        gain = self.gain * gain
        return (self.readnoise * readnoise / gain) ** 2 + np.maximum(
            x + added, 0
        ) / gain


def _merged(x, pixels, values, width):
    """
    Return means of bins whose signals differ by less than a width.

    Noise sorts pixels into the wrong ones of these, as if it changed with the signal.
    """
    starts = [0]
    for i in range(1, len(x)):
        if x[i] - x[starts[-1]] > width:
            starts.append(i)
    number = np.add.reduceat(pixels, starts)
    x, values = (np.add.reduceat(pixels * a, starts) / number for a in (x, values))
    return x, number, values


def _without_mismatch(ratio):
    """
    Return ratios whose distance from 1 does not grow with signal.

    By a wrong noise model it is largest where there is little signal; by mismatch it
    grows.
    """
    above = np.maximum(np.minimum.accumulate(ratio), 1)
    below = np.minimum(np.maximum.accumulate(ratio), 1)
    return np.where(ratio > 1, above, below)


def _explanations(x, model, faint):
    """
    Return variances (m, bins), values (m,) and priors of them by cause.

    A prior is -2 times the logarithm of the probability of each value.
    """
    factors = np.exp(_FACTORS)
    bias = max(faint, 1e-9) * np.linspace(0.002, 1.1, 550)
    start = max(model.readnoise**2 / model.gain, 1 / model.gain)
    sky = start * np.geomspace(1e-3, 1e4, 281)
    small = _RARE * np.square(np.log(np.minimum(bias / _LEAST_BIAS, 1)))
    # As likely as the sky above it: a level is its sum with a sky of any size.
    small += 2 * np.log(np.maximum(1 - bias / max(faint, 1e-9), _LEAST_SKY))
    # A sky that was subtracted leaves a background of about 0.
    left = np.square(np.maximum(faint, 0) / (_SKY_LEFT * sky))
    far, flat = np.square(_FACTORS) + np.log(2 * np.pi), 2 * np.log(_LOG_RANGE)
    known = {
        "gain": ({"gain": factors}, factors * model.gain, far),
        "readnoise": ({"readnoise": factors}, factors * model.readnoise, far),
        "bias": ({"added": -bias}, bias, flat + small),
        "sky": ({"added": sky}, sky, flat + np.minimum(left, _MOST_LEFT)),
    }
    return {
        name: (
            model(x, **{key: a[:, np.newaxis] for key, a in changed.items()}),
            values,
            prior - 2 * np.log(np.gradient(np.log(values))),
        )
        for name, (changed, values, prior) in known.items()
    }


def _likeliest(x, pixels, variance, model, faint):
    """
    Return up to three causes with their values, the likeliest first.

    It is the one with the highest probability of all its values: not all of them can
    explain noise of one level. Others are named if they explain it as well.
    """
    error = _OF_ERROR / pixels + _MODEL_ERROR**2
    found, misfits, explained = {}, {}, {}
    mismatch, hits = _mismatch(x, variance, faint), list(_OF_HITS.items())
    for name, known in _explanations(np.maximum(x, 0), model, faint).items():
        variances, values, prior = known
        excess = np.log(np.maximum(variance, _TINY) / (variances + mismatch))
        of_hits = [(np.square(excess - c) / error).sum(axis=-1) + p for c, p in hits]
        misfit = np.min(of_hits, axis=(0, 1))
        best = int(np.argmin(misfit + prior))
        misfits[name], explained[name] = misfit[best], float(values[best])
        found[name] = -2 * logsumexp(-(misfit + prior) / 2)
    most = min(_SKY_BELOW * explained["sky"], _SKY_NOISE * np.median(variance) ** 0.5)
    if faint > most:
        del found["sky"]
    order = sorted(found, key=found.get)[:_MOST_CAUSES]
    chi2, misfit = found[order[0]] + _IMPROBABLE, misfits[order[0]] + _ALMOST
    return tuple(
        (name, explained[name])
        for name in order
        if found[name] <= chi2 and misfits[name] <= misfit
    )


def _mismatch(x, variance, faint):
    """Return variances (k, 1, bins) that mismatch may add, as squared structure."""
    square = np.square(np.maximum(x - faint, 0))
    most = 0.0
    if len(x) >= _LEVELS:
        most = _OF_MISMATCH * (variance / np.maximum(square, 1e-9)).min()
    return np.linspace(0, most, _MISMATCHES)[:, np.newaxis, np.newaxis] * square


def _is_whole(frames):
    raw = frames.data if frames.raw is None else frames.raw
    return bool((raw[:, :_BAND] % 1 == 0).all())


def _rows(shape):
    """Return the row numbers of some bands."""
    if shape[0] * shape[1] <= _ENOUGH:
        return np.arange(shape[0])
    number = max(_ENOUGH // (_BAND * shape[1]), 1)
    starts = np.linspace(0, max(shape[0] - _BAND, 0), number + 2)[1:-1].astype(int)
    rows = (starts[:, np.newaxis] + np.arange(_BAND)).ravel()
    return np.unique(np.minimum(rows, shape[0] - 1))


def _in_blocks(plane):
    """Return a plane (ny, nx) as blocks (m, 256)."""
    y, x = (length // _BLOCK for length in plane.shape)
    blocks = plane[: y * _BLOCK, : x * _BLOCK].reshape(y, _BLOCK, x, _BLOCK)
    return blocks.swapaxes(1, 2).reshape(y * x, _BLOCK**2)


def _deviations(frames):
    """
    Return signal (m,), deviations in sigmas of differences, and their correlation.

    The deviations are a list of blocks (m, 256), NaN where they are not used. The
    median exposure, its slopes and curvature, and a constant are fitted in blocks.
    """
    rows = _rows(frames.shape)
    stack, noise = frames.data[:, rows], frames.noise.at(rows)
    unused = None if frames.unused is None else frames.unused[:, rows]
    signal = np.nan_to_num(kernels.median(stack, unused)).astype(np.float32)
    signal = median_of_nine(signal)
    if min(signal.shape) < _BLOCK:
        return np.empty(0), [np.empty((0, 256))], 0.0
    slopes = (*np.gradient(signal), ndimage.laplace(signal))
    slopes = (_in_blocks(slope) for slope in slopes)
    blocks = _in_blocks(signal)
    terms = [np.ones_like(blocks), blocks - blocks.mean(axis=1, keepdims=True), *slopes]
    terms = np.stack(terms, axis=-1)
    terms /= np.sqrt(np.mean(terms**2, axis=1, keepdims=True)) + np.float32(1e-12)
    rng = np.random.default_rng(0) if _is_whole(frames) else None
    signals, deviations, correlations = [], [], []
    for i in range(min(len(stack) - 1, _PAIRS)):
        variance = noise.variance(signal, i) + noise.variance(signal, i + 1)
        difference = stack[i] - stack[i + 1]
        if rng is not None:  # steps of whole numbers are spread evenly
            one, other = rng.random((2, *difference.shape), dtype=np.float32)
            difference += one - other
            variance = variance + np.float32(1 / 3)
        good = np.ones(difference.shape, bool)
        if unused is not None:
            good = ~(unused[i] | unused[i + 1])
        planes = (_in_blocks(p) for p in (difference, np.sqrt(variance), good))
        left, use = _residuals(*planes, terms)
        left = np.where(use, left, np.nan)
        signals.append(blocks[use])
        deviations.append(left)
        correlations.append(_correlation(np.nan_to_num(left)))
    return np.concatenate(signals), deviations, np.mean(correlations)


def _used(planes, *, steps=False):
    """Return deviations (1, m), with ``steps`` also those along y and x (3, m)."""
    used = [np.isfinite(plane) for plane in planes]
    kinds = zip(*[(p, *(_steps(p) if steps else ())) for p in planes], strict=True)
    pairs = [zip(kind, used, strict=True) for kind in kinds]
    return np.stack([np.concatenate([p[use] for p, use in pair]) for pair in pairs])


def _residuals(difference, sigma, good, terms):
    """Return residuals of a fit in sigmas, and where they count, (m, 256) each."""
    middle = np.nan_to_num(kernels.median(difference.T, ~good.T))
    away = np.abs(difference - middle[:, np.newaxis]) / sigma
    width = _MAD * np.median(away, axis=1, keepdims=True)
    use = good & (away < _CLIP * width)
    use[use.sum(axis=1) <= _BLOCK**2 / 2] = False
    weighted = terms * use[..., np.newaxis]
    matrix = np.einsum("bpi,bpj->bij", weighted, terms)
    matrix += np.float32(1e-3) * np.eye(terms.shape[-1], dtype=np.float32)
    vector = np.einsum("bpi,bp->bi", weighted, np.where(use, difference, 0))
    factors = np.linalg.solve(matrix, vector[..., np.newaxis])
    left = (difference - (terms @ factors)[..., 0]) / sigma
    number = use.sum(axis=1, keepdims=True)
    lost = np.maximum(number - terms.shape[-1], 1)
    return left * np.sqrt(number / lost), use


def _steps(z):
    """Return differences of neighbours along y and x over sqrt 2, (m, 256) each."""
    planes = z.reshape(-1, _BLOCK, _BLOCK)
    for axis in (1, 2):
        step = planes - np.roll(planes, 1, axis=axis)
        step[(slice(None),) * axis + (0,)] = np.nan
        yield (step * np.float32(np.sqrt(0.5))).reshape(z.shape)


def _correlation(z):
    """Return the correlation of neighbouring pixels in blocks (m, 256), 0 = ignored."""
    planes = z.reshape(-1, _BLOCK, _BLOCK)
    found = []
    for pair in (
        (planes[:, 1:], planes[:, :-1]),
        (planes[:, :, 1:], planes[:, :, :-1]),
    ):
        both = (pair[0] != 0) & (pair[1] != 0)
        one, other = (plane[both].astype(float) for plane in pair)
        found.append((one @ other) / max(np.sqrt((one @ one) * (other @ other)), 1e-30))
    return float(np.mean(found))


def _by_signal(signal, z):
    """
    Return signal, number and squared noise (measured over expected) of bins.

    ``z`` (1 or 3, m) are deviations, and those of neighbours along y and x. What is
    left of structure is often smooth along one of them: there the least noise is that
    of the exposures.
    """
    if signal.size < _LEAST:
        return np.empty((3, 0))
    order = np.argsort(signal)
    signal, z = signal[order], np.abs(z[:, order])
    # Bins of as many pixels, and of as wide a range of signal.
    number = np.quantile(signal, np.linspace(0, 1, _BINS // 2 + 1)[1:-1])
    wide = np.linspace(*np.quantile(signal, (0.02, 0.998)), _BINS // 2)
    ends = np.searchsorted(signal, np.sort(np.concatenate([number, wide])))
    rows, start = [], 0
    for end in (*ends, signal.size):
        if end - start >= _LEAST:
            part = slice(start, end)
            noise = _MAD * np.median(z[0, part])
            along = [_MAD * np.nanmedian(plane[part]) for plane in z[1:]]
            if along and min(along) < noise * (1 - _SURE / np.sqrt(end - start)):
                noise = min(along)
            rows.append((np.median(signal[part]), end - start, noise**2))
            start = end
    return np.array(rows, dtype=float).T
