# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Check of the noise model by the differences of exposures, and what is wrong."""

from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from scipy import ndimage

from ccdcr.utils import stacks as kernels
from ccdcr.utils.neighbours import median_of_nine

__all__ = ["NoiseCheck", "check_noise"]

_BLOCK, _BAND = 16, 128  # pixels
_ENOUGH, _PAIRS = 1 << 18, 6  # pixels, and differences, that are enough
_MAD, _CLIP = 1.4826, 4.0  # sigmas
_BINS, _LEAST = 16, 600  # of signal, and pixels of a bin
_WIDE = 4.0  # sigmas of signal that tell gain from read noise
_CORRELATED = 0.1  # of neighbouring pixels
_OF_ERROR, _MODEL_ERROR = 5.5, 0.02  # of the logarithm of a variance
_ALMOST, _IMPROBABLE = 6.0, 12.0  # chi2 above the best one, with unlikely values
_MOST_CAUSES = 3
_APART = 3.0  # sigmas of the mean exposure, of signals that are told apart
_FACTORS = np.linspace(-3.5, 3.5, 281)  # logarithms
_UNLIKELY = 3.0  # chi2 of an error by a factor of e
_SKY_BELOW, _SKY_NOISE = 0.3, 3.0  # of the sky that is missing, and sigmas


@dataclass(frozen=True)
class NoiseCheck:
    """
    Noise of the exposures by signal, and the likeliest causes if it is off.

    ``levels`` is a table of signal ``x``, ``pixels`` and ``noise``, measured over
    expected. ``causes`` are pairs of a name and the value that explains the noise,
    none to three of them: gain, readnoise, bias, sky or resampled.
    """

    levels: Table
    causes: tuple = ()


def check_noise(frames):
    """
    Return the `NoiseCheck` of exposures whose noise is that of gain and read noise.

    Unlike the masks, it does not depend on the noise that is expected. Structure is
    fitted to the differences in blocks; an excess that grows with the signal is taken
    for what is left of it.
    """
    signal, z, correlation = _deviations(frames)
    x, pixels, ratio = _by_signal(signal, z)
    noise = frames.noise.typical
    gain, floor = 1 / float(noise.slope.mean()), float(noise.floor.mean())
    model = _Model(gain, gain * np.sqrt(floor))
    usable = ratio * model(x) >= 1 if _is_whole(frames) else np.ones(len(x), bool)
    usable &= kernels.has_smooth_noise(x * gain, model.readnoise)
    x, pixels, ratio = x[usable], pixels[usable], ratio[usable]
    if len(x) and np.ptp(x) < _WIDE * np.sqrt(np.median(ratio * model(x))):
        x, ratio = (np.atleast_1d(np.average(a, weights=pixels)) for a in (x, ratio))
        pixels = np.atleast_1d(pixels.sum())
    levels = Table([x, pixels, np.sqrt(ratio)], names=("x", "pixels", "noise"))
    if not len(x):
        return NoiseCheck(levels)
    ratio = _without_mismatch(ratio)
    levels["noise"] = np.sqrt(ratio)
    if not kernels.is_off(levels["noise"]).any():
        return NoiseCheck(levels)
    if correlation > _CORRELATED and np.average(ratio, weights=pixels) < 1:
        return NoiseCheck(levels, (("resampled", correlation),))
    faint = np.quantile(signal, 0.1)
    width = _APART * np.sqrt(np.median(ratio * model(x)) / len(frames.data))
    x, pixels, variance = _merged(x, pixels, ratio * model(x), width)
    return NoiseCheck(levels, _likeliest(x, pixels, variance, model, faint))


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


def _explanations(x, model):
    """Return variances (m, bins), values (m, 1) and penalties of them by cause."""
    factors = np.exp(_FACTORS)[:, np.newaxis]
    bias = np.linspace(0, max(x.max(), 1e-9), 400)[:, np.newaxis]
    start = max(model.readnoise**2 / model.gain, 1 / model.gain)
    sky = start * np.geomspace(1e-3, 1e4, 281)[:, np.newaxis]
    far = _UNLIKELY * np.square(_FACTORS)
    return {
        "gain": (model(x, gain=factors), factors * model.gain, far),
        "readnoise": (model(x, readnoise=factors), factors * model.readnoise, far),
        "bias": (model(x, added=-bias), bias, 1.0),
        "sky": (model(x, added=sky), sky, 0.0),
    }


def _likeliest(x, pixels, variance, model, faint):
    """
    Return up to three causes with their values, the likeliest first.

    Others are named if they explain the noise as well, by values that can be.
    """
    error = _OF_ERROR / pixels + _MODEL_ERROR**2
    found, misfits, explained = {}, {}, {}
    for name, known in _explanations(np.maximum(x, 0), model).items():
        variances, values, penalty = known
        misfit = np.square(np.log(variance / variances)) / error
        misfit = misfit.sum(axis=1)
        best = int(np.argmin(misfit + penalty))
        misfits[name], found[name] = misfit[best], (misfit + penalty)[best]
        explained[name] = float(values[best, 0])
    # A sky that was subtracted leaves a background of about 0.
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
    Return signal and deviation in sigmas (m,) of differences, and their correlation.

    The median exposure, its slopes and curvature, and a constant are fitted in blocks.
    """
    rows = _rows(frames.shape)
    stack, noise = frames.data[:, rows], frames.noise.at(rows)
    unused = None if frames.unused is None else frames.unused[:, rows]
    signal = np.nan_to_num(kernels.median(stack, unused)).astype(np.float32)
    signal = median_of_nine(signal)
    if min(signal.shape) < _BLOCK:
        return np.empty(0), np.empty(0), 0.0
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
        signals.append(blocks[use])
        deviations.append(left[use])
        correlations.append(_correlation(np.where(use, left, 0)))
    return np.concatenate(signals), np.concatenate(deviations), np.mean(correlations)


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
    """Return signal, number and squared noise (measured over expected) of bins."""
    if signal.size < _LEAST:
        return np.empty((3, 0))
    order = np.argsort(signal)
    signal, z = signal[order], np.abs(z[order])
    # Bins of as many pixels, and of as wide a range of signal.
    number = np.quantile(signal, np.linspace(0, 1, _BINS // 2 + 1)[1:-1])
    wide = np.linspace(*np.quantile(signal, (0.02, 0.998)), _BINS // 2)
    ends = np.searchsorted(signal, np.sort(np.concatenate([number, wide])))
    rows, start = [], 0
    for end in (*ends, signal.size):
        if end - start >= _LEAST:
            part = slice(start, end)
            noise = _MAD * np.median(z[part])
            rows.append((np.median(signal[part]), end - start, noise**2))
            start = end
    return np.array(rows, dtype=float).T
