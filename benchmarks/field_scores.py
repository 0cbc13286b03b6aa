# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Scores of masks and a combined image against what is known about a scene."""

import numpy as np
from accuracy import far_from

SCORES = {
    "recall": "pixels hit in half of the exposures or more that are masked in as many",
    "false": "pixels per Mpixel masked in half or more, 3 pixels from any such pixel",
    "own_recall": "hit pixels of the exposures that are masked",
    "own_false": "pixels per Mpixel and exposure masked 3 pixels from any cosmic ray",
    "lost": "percent of the flux lost in the brightest 1% of the pixels, where not hit",
    "error": "RMS error at masked pixels in units of the noise of the mean of all",
    "pull": "RMS error at masked pixels in units of what the combination claims",
    "efficiency": "squared ratio of the RMS error of the mean of all that is not hit",
    "seconds": "CPU time of the rule and its combination of one scene",
}


def count(scene, masks, image, sigma=None):
    """Return sums of counts and squares, by name; they add up over scenes."""
    sums = _count_flux(scene, image)
    if masks is not None:
        sums |= _count_masks(scene, masks)
    if scene.expected is not None:
        sums |= _count_errors(scene, masks, image, sigma)
    return sums


def _often(masks):
    return 2 * masks.sum(axis=0) >= len(masks)


def _count_masks(scene, masks):
    window, n = scene.window, len(masks)
    hits, own = scene.hits & window, masks & ~scene.wrong & window
    twice = _often(scene.hits) & window
    false = sum(
        np.count_nonzero(mask & far_from(trace))
        for mask, trace in zip(own, scene.traces, strict=True)
    )
    away = _often(own) & window & far_from(_often(scene.traces))
    return {
        "coincidences": np.count_nonzero(twice),
        "found": np.count_nonzero(_often(masks) & twice),
        "away": np.count_nonzero(away),
        "hits": np.count_nonzero(hits),
        "own": np.count_nonzero(masks & hits),
        "own_away": false / n,
        "pixels": np.count_nonzero(window),
    }


def _count_flux(scene, image):
    """Compare with the mean, which is right where nothing is hit and nothing wrong."""
    clean = scene.window & ~(scene.traces | scene.wrong).any(axis=0)
    mean = scene.stack.mean(axis=0, dtype=float)
    bright = clean & (mean >= np.quantile(mean[clean], 0.99))
    return {"flux": mean[bright].sum(), "kept": image[bright].sum()}


def _count_errors(scene, masks, image, sigma):
    noise, error = scene.noise, image - scene.expected.mean(axis=0)
    mean_noise = np.sqrt((noise**2).sum(axis=0)) / len(noise)
    good = ~(scene.touched | scene.wrong)
    use = good.any(axis=0) & scene.window
    ideal = np.where(good, scene.stack - scene.expected, 0).sum(axis=0)
    ideal /= np.maximum(good.sum(axis=0), 1)
    sums = {
        "ideal": np.sum((ideal / mean_noise)[use] ** 2),
        "squares": np.sum((error / mean_noise)[use] ** 2),
    }
    if masks is None:
        return sums
    if sigma is None:
        left = np.where(masks, 0, noise**2).sum(axis=0)
        sigma = np.sqrt(left) / np.maximum((~masks).sum(axis=0), 1)
    missed = (scene.traces & ~masks).any(axis=0) | scene.wrong.any(axis=0)
    part = use & masks.any(axis=0) & ~masks.all(axis=0) & ~missed & (sigma > 0)
    return sums | {
        "masked": np.count_nonzero(part),
        "masked_squares": np.sum((error / mean_noise)[part] ** 2),
        "pull_squares": np.sum((error[part] / sigma[part]) ** 2),
    }


def score(sums):
    """Return the scores of added sums, by name; NaN where there is nothing to judge."""

    def ratio(above, below):
        return sums[above] / sums[below] if sums.get(below) else np.nan

    return {
        "recall": ratio("found", "coincidences"),
        "false": 1e6 * ratio("away", "pixels"),
        "own_recall": ratio("own", "hits"),
        "own_false": 1e6 * ratio("own_away", "pixels"),
        "lost": 100 * (1 - ratio("kept", "flux")),
        "error": np.sqrt(ratio("masked_squares", "masked")),
        "pull": np.sqrt(ratio("pull_squares", "masked")),
        "efficiency": ratio("ideal", "squares"),
    }
