# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The noise of exposures that may have been scaled."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Noise"]


@dataclass(frozen=True)
class Noise:
    """
    The variance of each exposure, ``floor + slope * signal``.

    Parameters
    ----------
    floor : 1D `~numpy.ndarray` of float32
        Variance without signal, by exposure.
    slope : 1D `~numpy.ndarray` of float32
        Variance for each unit of signal, by exposure.

    Examples
    --------
    >>> from ccdcr.detection.matched.noise import Noise
    >>> noise = Noise.of_detector(2, gain=2.0, readnoise=4.0)
    >>> float(noise.variance(100.0, 0))
    54.0
    """

    floor: np.ndarray
    slope: np.ndarray

    @classmethod
    def of_detector(cls, n, gain, readnoise, factors=None):
        """
        Return the noise of exposures that were divided by factors.

        Parameters
        ----------
        n : int
            Number of exposures.
        gain : float
            Electrons per unit of the data.
        readnoise : float
            Read noise in electron.
        factors : sequence of float, optional
            What the exposures were divided by. Default is 1.

        Returns
        -------
        noise : `Noise`
            The noise; without read noise that of one electron at least.
        """
        factors = np.broadcast_to(1.0 if factors is None else factors, n)
        floor = (readnoise / gain if readnoise > 0 else 1 / gain) ** 2
        return cls(
            (floor / np.square(factors)).astype(np.float32),
            (1 / (gain * np.asarray(factors))).astype(np.float32),
        )

    def __len__(self):
        return len(self.floor)

    def variance(self, signal, i):
        """Return the variance of exposure i at a signal."""
        return self.floor[i] + self.slope[i] * np.maximum(signal, np.float32(0))

    def mean_variance(self, signal):
        """Return the variance of a typical exposure at a signal."""
        floor, slope = self.floor.mean(), self.slope.mean()
        return floor + slope * np.maximum(signal, np.float32(0))

    def variance_of_others(self, signal, i):
        """Return the variance of a typical exposure other than i at a signal."""
        n = np.float32(len(self) - 1)
        floor = (self.floor.sum() - self.floor[i]) / n
        slope = (self.slope.sum() - self.slope[i]) / n
        return floor + slope * np.maximum(signal, np.float32(0))
