# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The noise of an exposure, and a coordinate in which it is everywhere the same."""

from dataclasses import dataclass

import numpy as np

__all__ = ["PhotonNoise"]


@dataclass(frozen=True)
class PhotonNoise:
    """
    Noise of a signal in electrons: photons and read noise.

    ``readnoise`` is in electrons; ``shape`` is that of a negative binomial
    distribution of the photons, infinite for Poisson's.
    """

    readnoise: float
    shape: float = np.inf

    def deviation(self, signal):
        """Return the standard deviation of a signal, both in electrons."""
        photons = np.maximum(signal, 0)
        variance = photons + self.readnoise**2
        if np.isfinite(self.shape):
            variance = variance + photons**2 / self.shape
        return np.sqrt(variance)

    def coordinate(self, signal):
        """
        Return the number of standard deviations from 0 to a signal.

        Parameters
        ----------
        signal : `~numpy.ndarray`
            Signal in electrons; may be negative.

        Returns
        -------
        t : `~numpy.ndarray` of float64
            The integral of 1 / `deviation` from 0 to the signal.
        """
        signal = np.asarray(signal, dtype=float)
        sigma, root = self.readnoise, np.sqrt(self.shape)
        deviation = self.deviation(signal)
        if np.isinf(self.shape):
            above = 2 * (deviation - sigma)
        else:
            photons = np.maximum(signal, 0)
            above = root * np.log(
                (2 * deviation / root + 2 * photons / self.shape + 1)
                / (2 * sigma / root + 1)
            )
        return np.where(signal < 0, signal / sigma, above)

    def signal(self, t):
        """Return the signal in electrons at a coordinate; undoes `coordinate`."""
        t = np.asarray(t, dtype=float)
        sigma, shape = self.readnoise, self.shape
        above = np.maximum(t, 0)
        if np.isinf(shape):
            photons = above**2 / 4 + sigma * above
        else:
            root = np.sqrt(shape)
            grown = (2 * sigma / root + 1) * np.exp(above / root)
            photons = ((grown + (1 - 4 * sigma**2 / shape) / grown) / 2 - 1) * shape / 2
        return np.where(t < 0, t * sigma, photons)
