# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What there is in an image beside its background: where mismatch would show."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ccdcr._threads import in_threads
from ccdcr.detection.matched.windows import running, sums_along
from ccdcr.utils.row_bands import bands_in_cache, with_halo

__all__ = ["Structure", "find_structure"]

_WINDOW = 25  # pixels: wider than what may differ between exposures
_HALO = 2 * (_WINDOW // 2) + 4


@dataclass(frozen=True)
class Structure:
    """
    The structure of an image, three images (ny, nx) in its unit.

    ``profile`` is what is above the local background, noise included.
    ``height`` and ``contrast`` are the same and half the local range, both
    without what noise alone would give.
    """

    profile: np.ndarray
    height: np.ndarray
    contrast: np.ndarray

    def level(self, rows=np.s_[:]):
        """Return what mismatch is proportional to, in the unit of the image."""
        level = np.square(np.float32(0.1) * self.height[rows])
        level += np.square(self.contrast[rows])
        return np.sqrt(level, out=level)


def find_structure(image, noise):
    """
    Measure the structure of an image.

    Parameters
    ----------
    image : 2D `~numpy.ndarray`
        A clean image without bad pixels.
    noise : `~ccdcr.detection.matched.noise.Noise`
        The noise of the exposures.

    Returns
    -------
    structure : `Structure`
        The structure.
    """
    planes = [np.empty_like(image) for _ in range(3)]

    def work(rows):
        wide, inside = with_halo(rows, _HALO, len(image))
        for plane, part in zip(planes, _measure(image[wide], noise), strict=True):
            plane[rows] = part[inside]

    in_threads(work, bands_in_cache(image.shape, longer=4))
    return Structure(*planes)


def _measure(image, noise):
    """Return profile, height and contrast of a band."""
    variance = noise.mean_variance(image)
    smooth = ndimage.gaussian_filter(image, 1, mode="nearest")
    lowest = running(np.minimum, smooth, _WINDOW)
    sums = sums_along(sums_along(lowest, _WINDOW, 0), _WINDOW, 1)
    profile = image - sums / np.float32(_WINDOW**2)
    height = _debiased(np.maximum(profile, 0), 4 * variance)
    spread = running(np.maximum, image, 3) - running(np.minimum, image, 3)
    return profile, height, _debiased(spread, 16 * variance) / 2


def _debiased(value, variance):
    return np.sqrt(np.maximum(np.square(value) - variance, 0))
