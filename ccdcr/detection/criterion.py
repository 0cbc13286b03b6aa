# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What makes a pixel of an image a cosmic ray for the Median-Minimum method."""

from dataclasses import dataclass

import numpy as np

from ccdcr.detection.diagram import Diagram
from ccdcr.utils.morphology import dilate
from ccdcr.utils.row_bands import bands_of

__all__ = ["Criterion", "candidates_of", "least_excess", "limit_of"]


@dataclass(frozen=True)
class Criterion:
    """
    What makes a pixel of an image a cosmic ray.

    ``reference`` is the low reference x, ``limit`` what a hit must exceed,
    ``candidates`` are pixels whose maximum over the exposures is high enough,
    ``threshold`` is the least excess over the reference. ``statistic`` is
    compared in place of the image if it is given. The limit is the reference
    plus the ``boundary``.
    """

    reference: np.ndarray
    limit: np.ndarray
    candidates: np.ndarray
    threshold: float
    dilation: int
    boundary: object
    diagram: Diagram | None = None
    statistic: np.ndarray | None = None

    def __call__(self, image):
        """Return the pixels of an image that are cosmic rays, True = hit."""
        mask = self.compared(image) > self.limit
        mask &= self.candidates
        return dilate(mask, self.dilation)

    def compared(self, image):
        """Return what is compared with the reference."""
        return image if self.statistic is None else self.statistic

    def excess(self, image):
        """Return by how much it exceeds the reference."""
        return self.compared(image) - self.reference


def limit_of(reference, boundary, threshold, number=None):
    """
    Return what a hit must exceed, pixel by pixel.

    Parameters
    ----------
    reference : 2D `~numpy.ndarray`
        The low reference.
    boundary : callable
        The largest excess over it that noise explains. Its ``fewer`` are those
        that hold where fewer exposures are good.
    threshold : float
        The least excess.
    number : 2D `~numpy.ndarray` of int, optional
        Number of good exposures. Where it is 1 or 0 nothing can be a hit.

    Returns
    -------
    limit : 2D `~numpy.ndarray`
        The limit.
    """

    def limit_at(boundary, x):
        return x + np.maximum(boundary(x), np.float32(threshold))

    limit = np.empty_like(reference)
    for rows in bands_of(limit.shape):
        limit[rows] = limit_at(boundary, reference[rows])
    if number is not None:
        limit[number < 2] = np.inf
        for other in boundary.fewer:
            pixels = number == other.n_exposures
            limit[pixels] = limit_at(other, reference[pixels])
    return limit


def candidates_of(observed, settings):
    """Return the pixels whose highest good exposure is high enough."""
    stack, bad = observed.stack, observed.bad
    highest = np.full(stack.shape[1:], -np.inf, dtype=stack.dtype)
    for i, plane in enumerate(stack):
        np.maximum(highest, plane, out=highest, where=True if bad is None else ~bad[i])
    return highest > settings.mm_minimum_max2d_rnoise * observed.detector.noise


def least_excess(settings, detector):
    """Return the least excess of a hit in the unit of the data."""
    return settings.mm_threshold + settings.mm_threshold_rnoise * detector.noise
