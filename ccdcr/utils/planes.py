# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Minimum, median and mean images of a stack of exposures."""

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

    ``nogood`` is True where no exposure is good; the others have the value of the
    nearest good pixel there. ``lowest_index`` is the exposure that has the minimum.
    """

    minimum: np.ndarray
    lowest_index: np.ndarray
    median: np.ndarray
    mean: np.ndarray
    nogood: np.ndarray | None


@dataclass(frozen=True)
class Observed:
    """
    Exposures with their statistics, as the stages of a detection use them.

    ``stack`` is (n, ny, nx) without bias, ``bad`` of the same shape (True =
    ignored) or None. ``factors`` are the flux factors that the stack still
    contains, ``exposed`` those of the original exposures; ``detector`` has gain and
    read noise.
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
        """Pixels that cannot be flagged, (ny, nx) or None, by name of the mask."""
        unusable = dict.fromkeys(("MEDIANCR", "MEANCRT", "MEANCR"), self.planes.nogood)
        planes = [None] * len(self.stack) if self.bad is None else self.bad
        return unusable | dict(zip(self.names, planes, strict=True))

    @property
    def images(self):
        """Pairs of image and bad pixels or None, each (ny, nx), by name of the mask."""
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
    """Return the `Planes` of a stack (n, ny, nx) over its good exposures."""
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
    """Return a stack (n, ny, nx) divided by the flux factors (n,)."""
    if np.all(factors == 1):
        return stack
    return stack / np.float32(factors)[:, np.newaxis, np.newaxis]


def fill_from_nearest(image, bad):
    """Return an image (ny, nx) with bad pixels replaced by the nearest good ones."""
    if bad.all():
        return np.zeros_like(image)
    nearest = ndimage.distance_transform_edt(
        bad, return_distances=False, return_indices=True
    )
    filled = image.copy()
    filled[bad] = image[tuple(nearest[:, bad])]
    return filled


def clean_mean(observed, crmasks):
    """Return the mean (ny, nx) of pixels not in ``crmasks``; the minimum if all are."""
    unused = np.stack(crmasks)
    if observed.bad is not None:
        unused |= observed.bad
    mean = kernels.mean(observed.stack, unused).astype(observed.stack.dtype)
    return np.where(np.isnan(mean), observed.planes.minimum, mean)
