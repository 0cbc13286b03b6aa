# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Published rules that reject cosmic rays in a few exposures, as functions of arrays.

Each takes the stack (n, ny, nx) in adu without bias, the gain in electrons per adu and
the read noise in electrons, and returns the masks (n, ny, nx), True = rejected, or
None, and the combined image (ny, nx). All are written from published descriptions,
named in the docstrings. ``RULES`` names them with the settings that are compared.
"""

from dataclasses import dataclass, field

import ccdproc
import numpy as np
from astropy.nddata import CCDData
from astropy.stats import SigmaClip, mad_std
from scipy import ndimage

_SQUARE = np.ones((3, 3), dtype=bool)


def variance(signal, gain, readnoise):
    """Return the variance in adu squared of a noise-free ``signal``."""
    return np.maximum(signal, 0) / gain + (readnoise / gain) ** 2


def clean_mean(stack, masks):
    """Return the mean of what is not masked, the minimum where all is."""
    number = (~masks).sum(axis=0)
    total = np.where(masks, 0, stack).sum(axis=0, dtype=float)
    return np.where(number > 0, total / np.maximum(number, 1), stack.min(axis=0))


def sky(stack):
    """Return the level of each exposure against their mean, (n, 1, 1)."""
    level = np.median(stack, axis=(1, 2), keepdims=True)
    return level - level.mean()


def median(stack, gain, readnoise):
    """Take the median; nothing is rejected."""
    del gain, readnoise
    return None, np.median(stack, axis=0)


def mean(stack, gain, readnoise):
    """Take the mean; nothing is rejected."""
    del gain, readnoise
    return None, stack.mean(axis=0, dtype=float)


def sigma_clip(stack, gain, readnoise, *, sigma=3.0, robust=False):
    """
    Clip by the scatter of the values of a pixel, with ``ccdproc.Combiner``.

    Its defaults are 3 standard deviations from the mean; ``robust`` uses the median
    and the median absolute deviation. https://ccdproc.readthedocs.io
    """
    del gain, readnoise
    combiner = ccdproc.Combiner([CCDData(plane, unit="adu") for plane in stack])
    how = {"func": np.ma.median, "dev_func": mad_std} if robust else {}
    combiner.sigma_clipping(low_thresh=sigma, high_thresh=sigma, **how)
    masks = np.array(getattr(combiner, "data_arr", combiner).mask)
    return masks, clean_mean(stack, masks)


def clip_extrema(stack, gain, readnoise, *, part=None):
    """
    Clip the highest value, or a ``part`` of all, with ``ccdproc.Combiner``.

    https://ccdproc.readthedocs.io
    """
    del gain, readnoise
    combiner = ccdproc.Combiner([CCDData(plane, unit="adu") for plane in stack])
    number = 1 if part is None else int(part * len(stack))
    combiner.clip_extrema(nlow=0, nhigh=number)
    masks = np.array(getattr(combiner, "data_arr", combiner).mask)
    return masks, clean_mean(stack, masks)


def crrej(
    stack,
    gain,
    readnoise,
    *,
    sigmas=(6.5, 5.5, 4.5),
    scalenoise=0.0,
    radius=2.1,
    spill=0.5555,
):
    """
    Start from the minimum and reject by a noise model in three passes.

    The family crrej, ocrrej, acsrej and wf3rej: the sky of each exposure is subtracted;
    a pixel is rejected if it deviates from the comparison image by more than
    ``sigmas[k]`` in pass k, and one within ``radius`` pixels of it already if by more
    than ``spill`` of this; then the mean of the rest is the comparison image. The noise
    is that of electrons and read-out, and ``scalenoise`` times the signal.
    WFC3 Data Handbook, section 3.4.5;
    http://www.stsci.edu/ftp/science/hdf/pipeline/crreject.html;
    https://wfc3tools.readthedocs.io/en/latest/wfc3tools/wf3rej.html
    """
    level = sky(stack)
    flat = stack - level
    comparison = flat.min(axis=0)
    reach = int(radius)
    y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    near = (y**2 + x**2 <= radius**2)[np.newaxis]
    for limit in sigmas:
        noise = np.sqrt(
            variance(comparison + level, gain, readnoise)
            + (scalenoise * np.maximum(comparison, 0)) ** 2
        )
        z = np.abs(flat - comparison) / noise
        seeds = z > limit
        masks = seeds | (ndimage.binary_dilation(seeds, near) & (z > spill * limit))
        comparison = clean_mean(flat, masks)
    return masks, comparison


def scaled_minimum(stack, gain, readnoise, *, sigma=5.0, few=5):
    """
    Compare each visit with the minimum of all, scaled by its flux.

    A rule of fibre pipelines: with fewer than ``few`` visits the reference is their
    minimum, else their median. The flux scale of each visit and the scatter about it
    are measured on bright pixels; the scatter times the signal is noise, too. No
    published source of its numbers was found: 5 sigma is assumed.
    """
    reduce = np.min if len(stack) < few else np.median
    middle = np.median(stack, axis=0)
    bright = middle > np.quantile(middle, 0.9)
    scale = np.median(stack[:, bright] / middle[bright], axis=1)[:, None, None]
    reference = reduce(stack / scale, axis=0)
    z, expected = np.empty(stack.shape), np.maximum(reference, 0)
    for i, plane in enumerate(stack):
        model = scale[i] * expected
        ratio = plane[bright] / np.maximum(model[bright], 1e-3)
        counted = variance(middle[bright], gain, readnoise) / middle[bright] ** 2
        scatter = max(mad_std(ratio) ** 2 - np.median(counted), 0.0)
        noise = np.sqrt(variance(model, gain, readnoise) + scatter * model**2)
        z[i] = (plane - scale[i] * reference) / noise
    masks = z > sigma
    return masks, clean_mean(stack, masks)


def clip_by_number(stack, gain, readnoise, *, sigma=None):
    """
    Clip around the median by median absolute deviations, more the fewer exposures.

    PypeIt's combination: 1.1, 1.3, 1.6, 1.9 and 2.0 sigma for 3, 4, 5, 6 and more
    exposures, 5 iterations; two are not clipped. Prochaska et al. 2020, JOSS 5, 2308;
    https://pypeit.readthedocs.io, ``pypeit.core.combine.weighted_combine``
    """
    del gain, readnoise
    if len(stack) < 3:
        masks = np.zeros(stack.shape, dtype=bool)
        return masks, clean_mean(stack, masks)
    sigma = sigma or {3: 1.1, 4: 1.3, 5: 1.6, 6: 1.9}.get(len(stack), 2.0)
    clip = SigmaClip(sigma, maxiters=5, cenfunc="median", stdfunc="mad_std")
    masks = np.ma.getmaskarray(clip(np.asarray(stack, dtype=float), axis=0))
    return masks, clean_mean(stack, masks)


def minmed(stack, gain, readnoise, nsigma=(4.0, 3.0)):
    """
    Return the median, or the minimum where the median is too high above it.

    The default image of AstroDrizzle for few exposures; the second limit holds next to
    pixels in which the first is exceeded.
    """
    low, middle = stack.min(axis=0), np.median(stack, axis=0)
    z = (middle - low) / np.sqrt(variance(low, gain, readnoise))
    seeds = z > nsigma[0]
    use_low = seeds | (ndimage.binary_dilation(seeds, _SQUARE) & (z > nsigma[1]))
    return np.where(use_low, low, middle)


def derivative(image):
    """Return the largest absolute difference of each pixel to its four neighbours."""
    padded = np.pad(image, 1, mode="edge")
    shifts = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return np.max([np.abs(image - other) for other in shifts], axis=0)


def driz_cr(stack, gain, readnoise, *, scale=(1.2, 0.7), snr=(3.5, 3.0), factor=1.0):
    """
    Reject what deviates by more than noise and the derivative of the clean image.

    ``|data - blotted| > scale * derivative + snr * noise``, and with the second of both
    pairs next to what was rejected with the first. ``factor`` multiplies both ``snr``.
    The exposures are registered, so that the blotted image is their combination.
    Fruchter & Hook 2002, PASP 114, 144; DrizzlePac Handbook, section 4.2;
    http://stsdas.stsci.edu/cgi-bin/gethelp.cgi?driz_cr
    """
    level = sky(stack)
    blotted = minmed(stack - level, gain, readnoise)
    steep = derivative(blotted)
    noise = np.sqrt(variance(blotted + level, gain, readnoise))
    away = np.abs(stack - level - blotted)
    seeds, wide = (
        away > s * steep + factor * k * noise for s, k in zip(scale, snr, strict=True)
    )
    masks = seeds | (ndimage.binary_dilation(seeds, _SQUARE[np.newaxis]) & wide)
    return masks, clean_mean(stack - level, masks)


def few_epochs(stack, gain, readnoise, *, sigma=5.0, spatial=0.5):
    """
    Reject what deviates from the static sky in few epochs, and keep what often does.

    A region of pixels above ``sigma`` is an artifact if more than the part ``spatial``
    of it deviates in no more than min(0.4 N, 2 + 0.03 N) epochs. AlSayyad 2018,
    DMTN-080, https://dmtn-080.lsst.io. Here the static sky is the median (clipping does
    nothing to three values), and the seeing of the exposures is left as it is.
    """
    number = len(stack)
    most = min(0.4 * number, 2 + 0.03 * number)
    level = sky(stack)
    static = np.median(stack - level, axis=0)
    noise = np.sqrt(variance(static + level, gain, readnoise))
    deviant = np.abs(stack - level - static) > sigma * noise
    few = deviant.sum(axis=0) <= most
    masks = np.zeros(stack.shape, dtype=bool)
    for mask, plane in zip(masks, deviant, strict=True):
        labels, count = ndimage.label(plane, _SQUARE)
        part = ndimage.mean(few, labels, np.arange(count + 1))
        mask[:] = plane & (np.nan_to_num(part) > spatial)[labels]
    return masks, clean_mean(stack - level, masks)


def running_shares(stack, gain, readnoise, *, sigma=3.5, half=50):
    """
    Replace what exceeds the running share of its exposure in a row.

    The share of each exposure in the sum of all is measured in a running window of
    ``half`` pixels to both sides of a row, in which hits are smoothed out; the median
    of the exposures over their shares, times the share, predicts each. What is higher
    by ``sigma`` is replaced by the prediction; two exposures are summed as they are.
    The package REDUCE: Piskunov & Valenti 2002, A&A 385, 1095.
    """
    masks = np.zeros(stack.shape, dtype=bool)
    if len(stack) < 3:
        return masks, clean_mean(stack, masks)
    smooth = ndimage.median_filter(stack, (1, 1, 7))
    running = ndimage.uniform_filter1d(np.maximum(smooth, 0), 2 * half + 1, axis=2)
    share = running / np.maximum(running.mean(axis=0), 1e-3)
    share = np.where(share > 0, share, 1.0)
    predicted = np.median(stack / share, axis=0) * share
    noise = np.sqrt(variance(predicted, gain, readnoise))
    masks = stack - predicted > sigma * noise
    return masks, np.where(masks, predicted, stack).mean(axis=0, dtype=float)


def astroscrappy(stack, gain, readnoise, **options):
    """
    Run L.A. Cosmic on each exposure alone, with astroscrappy.

    van Dokkum 2001, PASP 113, 1420; McCully et al., doi:10.5281/zenodo.1482018
    """
    from astroscrappy import detect_cosmics

    options = {"gain": gain, "readnoise": readnoise, **options}
    masks = np.array([detect_cosmics(plane, **options)[0] for plane in stack])
    return masks, clean_mean(stack, masks)


def lacosmic(stack, gain, readnoise, *, contrast=5.0, cr_threshold=5.0):
    """
    Run L.A. Cosmic on each exposure alone, with lacosmic.

    Bradley, https://lacosmic.readthedocs.io. It has no defaults: those of the paper.
    """
    from lacosmic import remove_cosmics

    options = {"effective_gain": gain, "readnoise": readnoise}
    masks = [
        remove_cosmics(plane, contrast, cr_threshold, 0.3, **options)[1]
        for plane in np.asarray(stack, dtype=float)
    ]
    return np.array(masks), clean_mean(stack, np.array(masks))


def ours(stack, gain, readnoise, **requirements):
    """Detect and combine with this package; also the 1-sigma uncertainty, (ny, nx)."""
    from ccdcr import CRCombiner, detect_cosmic_rays

    ccds = [CCDData(plane, unit="adu") for plane in stack]
    known = {"gain": gain, "readnoise": readnoise, "la_verbose": False}
    masks = detect_cosmic_rays(ccds, **known, **requirements)
    image = CRCombiner(ccds, masks).meancr_combine()
    rejected = masks.crmasks if masks.low is None else masks.crmasks | masks.low
    return rejected, image.data, image.uncertainty.array


def numina(stack, gain, readnoise, *, python):
    """
    Let numina find them (``mm_lacosmic``), in its own Python.

    https://guaix-ucm.github.io/megaradrp-cookbook/crmasks.html
    """
    from accuracy import find_by_numina

    masks, _ = find_by_numina(python, stack, gain, readnoise)
    return masks, clean_mean(stack, masks)


@dataclass(frozen=True)
class Rule:
    """A function, its settings by name, and those that ``--tune`` tries."""

    function: object
    settings: dict = field(default_factory=lambda: {"default": {}})
    grid: tuple = ()
    least: int = 2
    needs: str | None = None


def _default_and(**tuned):
    return {"default": {}, "tuned": tuned}


_CRREJ = [
    {"sigmas": tuple(round(k * s, 2) for s in (6.5, 5.5, 4.5)), "scalenoise": part}
    for k in (0.7, 1.0, 1.4)
    for part in (0.0, 0.05, 0.1, 0.2, 0.3)
]

RULES = {
    "mean": Rule(mean),
    "median": Rule(median),
    "sigma clip": Rule(
        sigma_clip,
        _default_and(sigma=2.0, robust=True),
        tuple({"sigma": k, "robust": True} for k in (2.0, 3.0, 5.0, 8.0, 12.0)),
    ),
    "clip highest": Rule(
        clip_extrema, _default_and(part=0.5), ({"part": 0.5}, {"part": 0.7})
    ),
    "crrej": Rule(
        crrej,
        {
            "default": {},
            "noise 10%": {"scalenoise": 0.1},
            "tuned": {"sigmas": (9.1, 7.7, 6.3), "scalenoise": 0.05},
        },
        tuple(_CRREJ),
    ),
    "scaled minimum": Rule(
        scaled_minimum,
        {"assumed": {}},  # is the best of those
        tuple({"sigma": k} for k in (3.0, 4.0, 5.0, 6.0, 8.0, 10.0)),
    ),
    "clip by number": Rule(
        clip_by_number,
        _default_and(sigma=3.0),
        tuple({"sigma": k} for k in (2.0, 3.0, 5.0, 8.0, 12.0)),
    ),
    "driz_cr": Rule(
        driz_cr,
        _default_and(factor=1.5, scale=(0.72, 0.42)),
        tuple(
            {"factor": k, "scale": (1.2 * s, 0.7 * s)}
            for k in (0.8, 1.0, 1.5, 2.0)
            for s in (0.3, 0.6, 1.0, 1.5)
        ),
    ),
    "few epochs": Rule(
        few_epochs,
        _default_and(sigma=7.0),
        tuple({"sigma": k} for k in (3.0, 4.0, 5.0, 7.0, 10.0)),
    ),
    "running shares": Rule(
        running_shares,
        {"default": {}},  # is the best of those
        tuple({"sigma": k} for k in (3.5, 5.0, 7.0, 10.0)),
    ),
    "astroscrappy": Rule(
        astroscrappy,
        _default_and(objlim=1.0),
        tuple({"sigclip": k, "objlim": c} for k in (4.5, 6.0) for c in (1.0, 2.0, 3.0)),
    ),
    "lacosmic": Rule(
        lacosmic,
        _default_and(contrast=1.0, cr_threshold=4.0),
        tuple(
            {"cr_threshold": k, "contrast": c}
            for k in (4.0, 5.0)
            for c in (1.0, 1.5, 2.0)
        ),
        needs="lacosmic",
    ),
    "deepCR": Rule(
        lambda *args: ours(*args, crmethod="deepcr"), least=3, needs="deepCR"
    ),
    "Cosmic-CoNN": Rule(
        lambda *args: ours(*args, crmethod="conn"), least=3, needs="cosmic_conn"
    ),
    "mm_lacosmic": Rule(lambda *args: ours(*args, crmethod="mm_lacosmic"), least=3),
    "matched": Rule(ours),
}
