# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Signs that exposures differ by more than matching mends, in what is flagged."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ccdcr.matching.displaced import find_displacement

__all__ = ["Patches", "find_reasons", "measure_patches"]

_BOX, _FILLED = 7, 0.7  # pixels, and the part that no track of a cosmic ray fills
_LEAST_PIXELS, _LEAST_FRACTION, _LEAST_SHARE = 100, 0.002, 0.15
_MOST = 1.2  # times its share


@dataclass(frozen=True)
class Patches:
    """
    Flagged pixels in patches that are too large for cosmic rays.

    ``fractions`` (n,) are those of the exposures, ``flagged`` (n,) the fractions of all
    flagged pixels; ``large`` (n,) tells where there are too many.
    """

    fractions: np.ndarray
    flagged: np.ndarray
    large: np.ndarray

    def __str__(self):
        names = ", ".join(
            f"{self.fractions[i]:.1%} of exposure {i + 1}"
            for i in np.flatnonzero(self.large)
        )
        share = self.flagged / self.flagged.sum()
        worst = int(np.argmax(share))
        text = f"patches too large for cosmic rays are flagged, {names}"
        if share[worst] * len(share) > _MOST:
            text += f"; exposure {worst + 1} has {share[worst]:.0%} of all that is"
        return (
            f"{text}: scale the exposures by what they show or subtract their sky "
            "first, look whether they are of the same field, and leave out one that "
            "differs"
        )


def measure_patches(masks):
    """Return the `Patches` of masks (n, ny, nx)."""
    fractions, flagged = np.zeros((2, len(masks)))
    least = _LEAST_PIXELS / masks[0].size
    for i, mask in enumerate(masks):
        flagged[i] = np.count_nonzero(mask) / mask.size
        if flagged[i] < least:
            continue
        filled = ndimage.uniform_filter(mask.astype(np.float32), _BOX, mode="constant")
        fractions[i] = np.count_nonzero(mask & (filled > _FILLED)) / mask.size
    large = fractions >= max(least, _LEAST_FRACTION)
    large &= fractions > _LEAST_SHARE * flagged
    return Patches(fractions, flagged, large)


def find_reasons(frames, matched, masks):
    """
    Return why matching is not enough, a list of text with remedies; or empty.

    ``frames`` are not matched yet, ``matched`` are the same `Matched`, and ``masks``
    (n, ny, nx) are what is flagged after matching.
    """
    displacement = find_displacement(frames, matched.reference - matched.profile)
    if displacement is not None:
        return [str(displacement)]
    low = matched.frames.low
    patches = measure_patches(masks if low is None else masks | low)
    return [str(patches)] if patches.large.any() else []
