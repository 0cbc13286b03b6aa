# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Warnings about implausible masks."""

import numpy as np
from scipy import ndimage
from scipy.stats import poisson

from ccdcr.exceptions import CoincidenceWarning, ImplausibleMaskWarning, warn_user
from ccdcr.utils.stacks import chance_of_majority

__all__ = ["warn_of_implausible"]

_LEAST = 1000  # pixels of an image of which fractions mean something
_MOST_FLAGGED = 0.2
_EIGHT = np.ones((3, 3), dtype=bool)
# Times what chance explains, with and without many more on bright pixels.
_MOST_COINCIDENT, _MOST_ALONE = 4, 10
_MOST_BRIGHT = 4  # times the fraction of faint pixels
_RARE, _FEW = 1e-6, 10  # chance of so many groups; fewer are looked at one by one


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
        If MEDIANCR has more than 10 times the pixels that chance explains, or
        4 times if it has 4 times more of the bright pixels than of the faint ones.

    Notes
    -----
    The number of groups of pixels in MEDIANCR has a Poisson distribution: one
    coincidence more than expected is no reason for a warning.
    MEANCRT is not judged: it grows with the number of exposures. Images of less
    than 1000 pixels are not, either: one hit may fill them.
    """
    if masks.mediancr.size < _LEAST:
        return
    hits = masks.crmasks if masks.low is None else masks.crmasks & ~masks.low
    planes = [masks.mediancr, *hits]
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
    chance = chance_of_majority(fractions[1:]) * masks.mediancr.size
    if _too_many(masks, chance):
        found = np.count_nonzero(masks.mediancr)
        msg = (
            f"{found:.0f} pixels are flagged in MEDIANCR, {chance:.0f} are expected by "
            f"chance{_of_bright(masks)}; look for stars, edges and hot pixels among "
            "them, and take crmethod='matched' if the exposures are not equivalent"
        )
        warn_user(msg, CoincidenceWarning)


def _too_many(masks, chance):
    """Return whether there are more coincidences than chance explains."""
    found = np.count_nonzero(masks.mediancr)
    bright = _times_brighter(masks) > _MOST_BRIGHT
    if found <= (_MOST_COINCIDENT if bright else _MOST_ALONE) * chance:
        return False
    groups = ndimage.label(masks.mediancr, _EIGHT)[1]
    return groups >= _FEW and bool(
        poisson.sf(groups - 1, chance * groups / found) < _RARE
    )


def _times_brighter(masks):
    """Return the flagged fraction of bright pixels over that of faint ones."""
    if masks.bright is None:
        return 1.0
    row = masks.bright[list(masks.bright["mask"]).index("MEDIANCR")]
    if not row["bright"] > 0:
        return 0.0
    return row["bright"] / row["faint"] if row["faint"] > 0 else np.inf


def _of_bright(masks):
    times = _times_brighter(masks)
    if not _MOST_BRIGHT < times < np.inf:
        return ""
    return f", and {times:.0f} times more of the bright pixels than of the faint ones"
