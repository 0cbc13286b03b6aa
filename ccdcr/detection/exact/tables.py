# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The distributions at all signal levels, tabulated on one grid."""

from dataclasses import dataclass

import numpy as np

from ccdcr.detection.exact.distribution import exposure_distribution
from ccdcr.detection.exact.noise import PhotonNoise

__all__ = ["STEP", "Tables", "make_tables"]

STEP = 0.25  # of the grid, in standard deviations
_BELOW, _ABOVE = -9, 10  # range of a table, in standard deviations


@dataclass(frozen=True)
class Tables:
    """
    Distributions of one exposure at the nodes, its expected signals.

    Row i belongs to the i-th node; column c to the grid point ``start[i] + c``,
    where grid point g is the signal at the coordinate ``STEP * g``. ``above``
    and ``below`` are probabilities, ``density`` is per step of the grid.
    """

    noise: PhotonNoise
    start: np.ndarray
    above: np.ndarray
    below: np.ndarray
    density: np.ndarray

    @property
    def width(self):
        """Number of columns."""
        return self.above.shape[1]

    @property
    def last(self):
        """Columns up to this one hold nearly all values of an exposure."""
        return self.width - round(4.5 / STEP)

    def select(self, rows):
        """Return the tables of some nodes."""
        return Tables(
            self.noise,
            self.start[rows],
            self.above[rows],
            self.below[rows],
            self.density[rows],
        )

    def beyond(self, column, length):
        """Return ``above`` from a column on, zero behind the table."""
        tail = self.above[:, column : column + length]
        return np.pad(tail, ((0, 0), (0, length - tail.shape[1])))


def make_tables(nodes, noise, exposure=None, factor=1.0, widening=1.0):
    """
    Tabulate the distribution of an exposure at some signals.

    Parameters
    ----------
    nodes : 1D `~numpy.ndarray`
        Coordinates of the expected signals, not negative, ascending.
    noise : `~ccdcr.detection.exact.noise.PhotonNoise`
        The noise that defines the grid.
    exposure : `~ccdcr.detection.exact.noise.PhotonNoise`, optional
        The noise of the exposure. Default is ``noise``.
    factor : float, optional
        Flux factor of the exposure, by which its values were divided. Default
        is 1.
    widening : float, optional
        How much wider the tables are made than for ``noise``. Default is 1.

    Returns
    -------
    tables : `Tables`
        The tables.
    """
    nearest = np.rint(nodes / STEP).astype(int)
    low, high = (round(limit * widening / STEP) for limit in (_BELOW, _ABOVE))
    start = nearest + low
    grid = STEP * (start[:, np.newaxis] + np.arange(high - low + 1))
    values = noise.signal(grid)
    above, below, density = exposure_distribution(
        factor * noise.signal(nodes), factor * values, exposure or noise
    )
    density *= factor * STEP * noise.deviation(values)
    return Tables(noise, start, above, below, density)
