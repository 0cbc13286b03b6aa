# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""From the histogram of the minimum to the boundaries, without simulations."""

from dataclasses import dataclass

import numpy as np

from ccdcr.detection.exact.boundary import LEVELS, ExactBoundary, invert
from ccdcr.detection.exact.prior import Histogram, deconvolve
from ccdcr.detection.exact.tables import STEP
from ccdcr.utils.row_bands import bands_of

__all__ = ["Surfaces", "find_prior", "histogram_of", "make_surfaces"]

_BRIGHTEST = 1e6  # electrons; the boundary grows like the noise above
_FAINTEST = -8  # standard deviations


def histogram_of(image, use, exposures):
    """
    Count the pixels of the minimum in cells of the coordinate.

    Parameters
    ----------
    image : 2D `~numpy.ndarray`
        The minimum over the exposures, in the unit of the data.
    use : 2D `~numpy.ndarray` of bool or None
        Pixels that are counted; None counts all.
    exposures : `~ccdcr.detection.exact.exposures.EqualExposures` or the like
        The exposures.

    Returns
    -------
    histogram : `~ccdcr.detection.exact.prior.Histogram`
        The numbers of pixels. Those beyond the grid are in its outer cells.
    """
    noise = exposures.noise
    low = round(_FAINTEST / STEP)
    high = round(float(noise.coordinate(_BRIGHTEST)) / STEP)
    counts = np.zeros(high - low + 1, dtype=np.int64)
    for rows in bands_of(image.shape):
        values = image[rows] if use is None else image[rows][use[rows]]
        signal = np.clip(values * np.float32(exposures.scale), -1e9, _BRIGHTEST)
        cells = np.rint(noise.coordinate(signal) / STEP).astype(np.int64)
        cells = np.clip(cells, low, high) - low
        counts += np.bincount(cells.ravel(), minlength=len(counts))
    filled = np.flatnonzero(counts)
    if not filled.size:
        return Histogram(np.zeros(1), 0)
    begin, end = filled[0], filled[-1] + 1
    return Histogram(counts[begin:end], low + begin)


def find_prior(histogram, exposures):
    """Return the prior that the histogram of the minimum of exposures says."""
    prior = deconvolve(histogram, exposures)
    return prior.with_flat().thinned()


@dataclass(frozen=True)
class Surfaces:
    """
    How often statistics exceed a and b, and the boundaries that follow.

    ``first`` is the first grid point of a; ``exceeding`` holds the density of
    each statistic by name.
    """

    exposures: object
    first: int
    kernel: np.ndarray
    exceeding: dict

    def boundary(self, name, p_value):
        """Return the `ExactBoundary` of a statistic for a p-value."""
        noise = self.exposures.noise
        levels = np.concatenate([[np.sqrt(-np.log(p_value))], LEVELS])
        excess = invert(self.kernel, self.exceeding[name], noise, self.first, levels)
        return ExactBoundary(
            name,
            self.exposures.n,
            float(p_value),
            self.exposures.scale,
            noise,
            self.first,
            excess[:, 0],
            excess[:, 1:].astype(np.float32),
        )


def make_surfaces(prior, exposures, lowest, statistics):
    """
    Compute how often statistics of clean pixels exceed what.

    Parameters
    ----------
    prior : `~ccdcr.detection.exact.prior.Prior`
        How many pixels expect which signal.
    exposures : `~ccdcr.detection.exact.exposures.EqualExposures` or the like
        The exposures.
    lowest : {1, 2}
        How many of the lowest exposures make the reference.
    statistics : dict
        The statistics by name.

    Returns
    -------
    surfaces : `Surfaces`
        The densities.
    """
    first = round(_FAINTEST / STEP)
    n_rows = round(prior.nodes[-1] / STEP) - first
    kernel, exceeding = exposures.densities(
        prior, (first, n_rows), lowest, list(statistics.values())
    )
    used = np.flatnonzero(kernel > 0)
    begin, end = int(used[0]), int(used[-1]) + 1
    return Surfaces(
        exposures,
        first + begin,
        kernel[begin:end],
        {
            name: density[begin:end]
            for name, density in zip(statistics, exceeding, strict=True)
        },
    )
