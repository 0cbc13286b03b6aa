# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Warnings about implausible masks, unexpected noise and exposures that differ."""

import numpy as np
from astropy.table import Table

from ccdcr.exceptions import (
    CoincidenceWarning,
    ImplausibleMaskWarning,
    MatchingFailedWarning,
    NoiseModelWarning,
    NotEquivalentWarning,
    warn_user,
)
from ccdcr.utils.stacks import chance_of_majority

__all__ = [
    "flagged_fractions",
    "warn_of_implausible",
    "warn_of_mismatch",
    "warn_of_noise",
]

_LEAST = 1000  # pixels of an image of which fractions mean something
_MOST_FLAGGED = 0.2
_MOST_COINCIDENT = 4  # times what chance explains
_TOLERATED = 0.05  # of the pixels, beside these
_SAMPLE = 100_000  # pixels that are enough for percentiles
_PERCENTILE = 95
_FAINT, _BRIGHT = 2.0, 5.0  # sigmas above the median
_REMEDIES = {
    "readnoise": "check readnoise",
    "gain": "check gain",
    "equivalence": "the exposures seem not to be equivalent: register them, or use "
    "flux_factor='auto'",
}


def warn_of_implausible(masks):
    """
    Warn of masks that can hardly be those of cosmic rays.

    Parameters
    ----------
    masks : `~ccdcr.CRMaskSet`
        The masks.

    Warns
    -----
    ImplausibleMaskWarning
        If more than 20 % of the pixels are flagged in MEDIANCR or in an exposure.
    CoincidenceWarning
        If MEDIANCR has more than 4 times the pixels that chance explains, and
        these are more than 5 % of the image.

    Notes
    -----
    MEANCRT is not judged: it grows with the number of exposures. Images of less
    than 1000 pixels are not, either: one hit may fill them.
    """
    if masks.mediancr.size < _LEAST:
        return
    planes = [masks.mediancr, *masks.crmasks]
    names = ["MEDIANCR", *(f"CRMASK{i}" for i in range(1, len(planes)))]
    fractions = [np.count_nonzero(plane) / plane.size for plane in planes]
    full = [
        f"{name} {fraction:.0%}"
        for name, fraction in zip(names, fractions, strict=True)
        if fraction > _MOST_FLAGGED
    ]
    if full:
        msg = (
            f"too many pixels are flagged to be cosmic rays: {', '.join(full)}; check "
            "gain, readnoise, bias and whether the exposures are of the same field"
        )
        warn_user(msg, ImplausibleMaskWarning)
        return
    found, chance = fractions[0], chance_of_majority(fractions[1:])
    if found > _MOST_COINCIDENT * chance + _TOLERATED:
        size = masks.mediancr.size
        msg = (
            f"{found * size:.0f} pixels are flagged in MEDIANCR, {chance * size:.0f} "
            "are expected by chance; look for stars, edges and hot pixels among them"
        )
        warn_user(msg, CoincidenceWarning)


def warn_of_mismatch(equivalence):
    """Warn if matching was needed, and more strongly if it failed."""
    if equivalence.failures:
        warn_user(_failed(equivalence), MatchingFailedWarning)
    elif equivalence.needed:
        msg = (
            "the exposures are not equivalent and were matched: "
            f"{equivalence.describe()}"
        )
        warn_user(msg, NotEquivalentWarning)


def _failed(equivalence):
    reasons = "; ".join(equivalence.failures)
    return f"the exposures differ too much to be matched: {reasons}"


def warn_of_noise(levels, cause):
    """Warn of the level that is off most, unless there is no cause."""
    if cause is None:
        return
    ratio = np.asarray(levels["noise"])
    worst = np.argmax(np.abs(np.log(np.maximum(ratio, 1e-3))))
    msg = (
        f"the noise of the exposures is {ratio[worst]:.2f} times what gain and "
        f"readnoise explain at a signal of {levels['x'][worst]:.4g}; "
        f"{_REMEDIES[cause]}"
    )
    warn_user(msg, NoiseModelWarning)


def flagged_fractions(masks, image, noise_of):
    """
    Return how much is flagged on bright and on faint pixels.

    Parameters
    ----------
    masks : dict of 2D `~numpy.ndarray` of bool
        The masks by name, True = flagged.
    image : 2D `~numpy.ndarray`
        A clean image of the scene.
    noise_of : callable
        Returns the noise at a signal.

    Returns
    -------
    fractions : `~astropy.table.Table`
        Columns: mask, bright and faint, the flagged fraction of the pixels of
        structure, the brightest 5% at most, and of those near the median of the
        image or below; NaN if there are none.

    Notes
    -----
    Cosmic rays do not care where they fall: a much larger fraction on bright
    pixels means that real signal is flagged.
    """
    sample = image.ravel()[:: max(image.size // _SAMPLE, 1)]
    middle, high = np.percentile(sample, (50, _PERCENTILE))
    # Beyond the noise: the median is higher where an exposure is hit.
    sigma = noise_of(middle)
    parts = {
        "bright": image > max(high, middle + _BRIGHT * sigma),
        "faint": image <= middle + _FAINT * sigma,
    }
    rows = {"mask": list(masks)} | {
        name: [_fraction(mask, part) for mask in masks.values()]
        for name, part in parts.items()
    }
    return Table(rows)


def _fraction(mask, part):
    number = np.count_nonzero(part)
    return np.count_nonzero(mask & part) / number if number else np.nan
