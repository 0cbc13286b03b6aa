# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Warnings about implausible masks."""

import numpy as np

from ccdcr.exceptions import CoincidenceWarning, ImplausibleMaskWarning, warn_user
from ccdcr.utils.stacks import chance_of_majority

__all__ = ["warn_of_implausible"]

_LEAST = 1000  # pixels of an image of which fractions mean something
_MOST_FLAGGED = 0.2
_MOST_COINCIDENT = 4  # times what chance explains
_TOLERATED = 0.05  # of the pixels, beside these


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
