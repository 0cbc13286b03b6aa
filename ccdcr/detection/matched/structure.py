# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What there is in an image beside its background: where mismatch would show."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ccdcr._threads import in_threads
from ccdcr.detection.matched.bands import bands, with_halo

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
        return np.hypot(self.contrast[rows], np.float32(0.1) * self.height[rows])


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

    in_threads(work, bands(*image.shape, longer=4))
    return Structure(*planes)


def _measure(image, noise):
    """Return profile, height and contrast of a band."""
    variance = noise.mean_variance(image)
    smooth = ndimage.gaussian_filter(image, 1, mode="nearest")
    lowest = ndimage.minimum_filter(smooth, _WINDOW, mode="nearest")
    profile = image - ndimage.uniform_filter(lowest, _WINDOW, mode="nearest")
    height = _debiased(np.maximum(profile, 0), 4 * variance)
    spread = ndimage.maximum_filter(image, 3, mode="nearest")
    spread -= ndimage.minimum_filter(image, 3, mode="nearest")
    return profile, height, _debiased(spread, 16 * variance) / 2


def _debiased(value, variance):
    return np.sqrt(np.maximum(np.square(value) - variance, 0))
