# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Exposures of one scene, as far as their noise is concerned."""

from dataclasses import dataclass, replace

import numpy as np

from ccdcr.detection.exact.noise import PhotonNoise
from ccdcr.detection.exact.order_statistics import clean_chances, low_pair, minimum
from ccdcr.detection.exact.prior import Prior
from ccdcr.detection.exact.tables import make_tables
from ccdcr.detection.exact.unequal import unequal_minimum

__all__ = ["EqualExposures", "UnequalExposures", "exposures_of"]

_QUIETEST = 0.3  # electrons; below it the comb of electrons would matter
_SAME = 1e-3  # difference between fluxes that is none
_SIMILAR = 0.1  # up to which unequal exposures may be taken for equal ones
_MANY = 7  # exposures beyond which unequal ones take too long


@dataclass(frozen=True)
class EqualExposures:
    """
    Exposures that have the same noise.

    ``noise`` is that of each of the ``n`` exposures, ``scale`` the electrons
    per unit of the data, ``hit`` the fraction of the pixels that is hit in each.
    """

    noise: PhotonNoise
    n: int
    scale: float
    hit: float = 0.0

    def tabulate(self, nodes):
        """Return the distribution at nodes."""
        return (make_tables(nodes, self.noise),)

    def kernel(self, tables):
        """Return the first grid points and the density of the minimum there."""
        (tables,) = tables
        ways = [c * chance for c, chance in enumerate(self._chances)][1:]
        at_least = np.polynomial.polynomial.polyval(tables.above, ways)
        return tables.start, tables.density * at_least

    def densities(self, prior, rows, lowest, statistics):
        """Return the kernel and the exceeding densities of statistics."""
        function = minimum if lowest == 1 else low_pair
        return function(prior.tables[0], prior.weights, rows, self._chances, statistics)

    def as_equal(self, n):
        """Return ``n`` of them."""
        return replace(self, n=n)

    def fewer(self, n, prior):
        """Return what is left where exposures are bad, with its prior."""
        return self.as_equal(n), prior

    @property
    def _chances(self):
        return clean_chances(self.n, self.hit)


@dataclass(frozen=True)
class UnequalExposures:
    """
    Exposures whose flux or read noise differ, scaled to one level.

    ``noise`` defines the grid, that of an exposure at least as quiet as all of
    them, whose flux is that of the brightest. ``exposures`` are the noises
    before scaling, ``factors`` the fluxes relative to the brightest; ``scale``
    and ``hit`` are as for `EqualExposures`.
    """

    noise: PhotonNoise
    exposures: tuple
    factors: tuple
    scale: float
    hit: float = 0.0

    @property
    def n(self):
        """Number of exposures."""
        return len(self.exposures)

    def tabulate(self, nodes):
        """Return the distribution of each exposure at nodes."""
        pairs = tuple(zip(self.exposures, self.factors, strict=True))
        widening = max(
            max(noise.readnoise / factor / self.noise.readnoise, factor**-0.5)
            for noise, factor in pairs
        )
        return tuple(
            make_tables(nodes, self.noise, noise, factor, widening)
            for noise, factor in pairs
        )

    def kernel(self, tables):
        """Return the first grid points and the density of the minimum there."""
        total = 0
        for i, table in enumerate(tables):
            density = table.density.copy()
            for other in (*tables[:i], *tables[i + 1 :]):
                density *= self.hit + (1 - self.hit) * other.above
            total += (1 - self.hit) * density
        return tables[0].start, total

    def densities(self, prior, rows, lowest, statistics):
        """Return the kernel and the exceeding densities of statistics."""
        if lowest != 1:
            msg = "unequal exposures are compared with their minimum"
            raise NotImplementedError(msg)
        tables = prior.tables
        return unequal_minimum(tables, prior.weights, rows, self.hit, statistics)

    def as_equal(self, n):
        """Return ``n`` equal exposures of about the same noise."""
        inverse = float(np.mean([1 / factor for factor in self.factors]))
        pairs = zip(self.exposures, self.factors, strict=True)
        variance = np.mean([(noise.readnoise / f) ** 2 for noise, f in pairs])
        noise = PhotonNoise(float(np.sqrt(variance)) / inverse, self.noise.shape)
        return EqualExposures(noise, n, self.scale / inverse, self.hit)

    def fewer(self, n, prior):
        """Return about what is left where exposures are bad, with its prior."""
        equal = self.as_equal(n)
        signal = self.noise.signal(prior.nodes) * equal.scale / self.scale
        nodes = equal.noise.coordinate(signal)
        prior = Prior(nodes, equal.tabulate(nodes), prior.weights, prior.chi2)
        return equal, prior


def exposures_of(detector, factors, shape=np.inf, step=0.0):
    """
    Describe exposures.

    Parameters
    ----------
    detector : `~ccdcr.exposures.Detector`
        Gain and read noise.
    factors : 1D `~numpy.ndarray`
        Flux factors, by which the exposures were divided.
    shape : float, optional
        Shape of a negative binomial distribution. Default is Poisson's.
    step : float, optional
        Step of rounded values, in the unit of the data. Default is 0.

    Returns
    -------
    exposures : `EqualExposures` or `UnequalExposures`
        The exposures. Four or more that differ little are taken for equal ones.

    Raises
    ------
    ValueError
        If there are more unequal exposures than the exact boundary allows.
    """
    n, gain = len(factors), detector.gain
    readnoises = np.array(detector.readnoises or (detector.readnoise,) * n)
    sigmas = np.sqrt(readnoises**2 + (step * gain) ** 2 / 12)
    sigmas = np.maximum(sigmas, _QUIETEST)
    relative = factors / factors.max()
    unequal = UnequalExposures(
        PhotonNoise(float((sigmas / relative).min()), shape),
        tuple(PhotonNoise(sigma, shape) for sigma in sigmas.tolist()),
        tuple(relative.tolist()),
        gain * float(factors.max()),
    )
    spread = np.abs(factors / factors.mean() - 1).max()
    spread = max(spread, np.abs(sigmas / sigmas.mean() - 1).max())
    if spread < _SAME:
        return EqualExposures(unequal.noise, n, gain * float(factors.mean()))
    if n > 3 and spread <= _SIMILAR:
        return unequal.as_equal(n)
    if n > _MANY:
        msg = (
            f"mm_boundary_fit='exact' allows {_MANY} exposures at most if their flux "
            f"factors or readnoise differ by more than 10 %, got {n} exposures with "
            f"factors {np.round(factors, 3).tolist()}; use mm_boundary_fit='spline'"
        )
        raise ValueError(msg)
    return unequal
