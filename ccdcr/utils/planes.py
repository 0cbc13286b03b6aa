# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Planes of statistics over the exposures."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from ccdcr.utils import stacks as kernels

__all__ = [
    "Observed",
    "Planes",
    "clean_mean",
    "fill_from_nearest",
    "make_planes",
    "scaled",
]


@dataclass(frozen=True)
class Planes:
    """
    Statistics over the exposures, each (ny, nx).

    ``nogood`` is True where no exposure is good; values there are those of the
    nearest good pixel. ``lowest_index`` says which exposure has the minimum.
    """

    minimum: np.ndarray
    lowest_index: np.ndarray
    median: np.ndarray
    mean: np.ndarray
    nogood: np.ndarray | None


@dataclass(frozen=True)
class Observed:
    """
    What the stages work on.

    ``stack`` is (n, ny, nx) without bias, ``bad`` of the same shape (True =
    takes no part) or None. ``factors`` are the flux factors that the stack
    still contains, ``exposed`` those with which it was exposed; ``detector`` has
    gain and read noise.
    """

    stack: np.ndarray
    bad: np.ndarray | None
    planes: Planes
    factors: np.ndarray
    detector: Any
    exposed: np.ndarray | None = None

    @property
    def names(self):
        """Names of the masks of the exposures."""
        return [f"CRMASK{i}" for i in range(1, len(self.stack) + 1)]

    @property
    def unusable(self):
        """Pixels that cannot be flagged, by name of the mask; or None."""
        unusable = dict.fromkeys(("MEDIANCR", "MEANCRT", "MEANCR"), self.planes.nogood)
        planes = [None] * len(self.stack) if self.bad is None else self.bad
        return unusable | dict(zip(self.names, planes, strict=True))

    @property
    def images(self):
        """The images to search with their bad pixels, by name of the mask."""
        unusable = self.unusable
        images = {"MEDIANCR": self.planes.median, "MEANCRT": self.planes.mean}
        for name, plane in zip(self.names, self.stack, strict=True):
            bad = unusable[name]
            # What is under a mask must not leak into filters.
            images[name] = (
                plane if bad is None else np.where(bad, self.planes.median, plane)
            )
        return {name: (image, unusable[name]) for name, image in images.items()}


def make_planes(stack, bad=None):
    """
    Return minimum, median and mean of a stack over its good exposures.

    Parameters
    ----------
    stack : `~numpy.ndarray`
        The exposures, (n, ny, nx).
    bad : `~numpy.ndarray` of bool, optional
        Of the same shape, True = takes no part.

    Returns
    -------
    planes : `Planes`
        The planes, of the dtype of the stack.
    """
    minimum, index = kernels.lowest(stack, bad)
    median = kernels.median(stack, bad)
    mean = kernels.mean(stack, bad).astype(stack.dtype)
    nogood = None if bad is None else bad.all(axis=0)
    if nogood is not None and nogood.any():
        minimum, median, mean = (
            fill_from_nearest(plane, nogood) for plane in (minimum, median, mean)
        )
    return Planes(minimum, index, median, mean, nogood)


def scaled(stack, factors):
    """Return a stack divided by the flux factors of its exposures."""
    if np.all(factors == 1):
        return stack
    return stack / np.float32(factors)[:, np.newaxis, np.newaxis]


def fill_from_nearest(image, bad):
    """Return an image whose bad pixels have the value of the nearest good one."""
    if bad.all():
        return np.zeros_like(image)
    nearest = ndimage.distance_transform_edt(
        bad, return_distances=False, return_indices=True
    )
    return image[tuple(nearest)]


def clean_mean(observed, crmasks):
    """
    Return the mean over the exposures that are not hit.

    Parameters
    ----------
    observed : `Observed`
        The exposures.
    crmasks : sequence of 2D `~numpy.ndarray` of bool
        The mask of each exposure, True = hit.

    Returns
    -------
    image : 2D `~numpy.ndarray`
        The mean; the minimum where no exposure is left.
    """
    unused = np.stack(crmasks)
    if observed.bad is not None:
        unused |= observed.bad
    mean = kernels.mean(observed.stack, unused).astype(observed.stack.dtype)
    return np.where(np.isnan(mean), observed.planes.minimum, mean)
