# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Statistics that the exact boundary compares, for equal and unequal exposures."""

from dataclasses import dataclass, replace

import numpy as np

from ccdcr.median_minimum.noise_distribution import PhotonNoise, make_tables
from ccdcr.median_minimum.order_statistics import (
    clean_chances,
    low_pair,
    minimum,
    unequal_minimum,
)
from ccdcr.median_minimum.prior import Prior
from ccdcr.utils import stacks as kernels
from ccdcr.utils.neighbours import cut_bands

__all__ = [
    "Compared",
    "EqualExposures",
    "UnequalExposures",
    "compared_planes",
    "describe_exposures",
    "find_rank",
    "hit_fraction",
    "lowest_used",
]

_QUIETEST = 0.3  # electrons; below it the comb of electrons would matter
_SAME = 1e-3  # relative difference of exposures that counts as equal
_SIMILAR = 0.1  # relative difference up to which 4 or more are taken as equal
_MANY = 7  # more unequal exposures take too long


@dataclass(frozen=True)
class EqualExposures:
    """
    ``n`` exposures of the same noise.

    ``noise`` is that of each exposure, ``scale`` the electrons per unit of the data,
    ``hit`` the fraction of the pixels that is hit in each.
    """

    noise: PhotonNoise
    n: int
    scale: float
    hit: float = 0.0

    def tabulate(self, nodes):
        """Return the `Tables` at nodes, in a tuple."""
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
        """Return ``n`` such exposures."""
        return replace(self, n=n)

    def fewer(self, n, prior):
        """Return ``n`` such exposures, left where others are bad, and their prior."""
        return self.as_equal(n), prior

    @property
    def _chances(self):
        return clean_chances(self.n, self.hit)


@dataclass(frozen=True)
class UnequalExposures:
    """
    Exposures whose flux or read noise differ, scaled to one level.

    ``noise`` defines the grid: that of the brightest flux, at least as quiet as all
    exposures. ``exposures`` are the noises before scaling, ``factors`` the fluxes
    relative to the brightest; ``scale`` and ``hit`` are as for `EqualExposures`.
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
        """Return the `Tables` of each exposure at nodes."""
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
        """Return ``n`` equal exposures, left where others are bad, and their prior."""
        equal = self.as_equal(n)
        signal = self.noise.signal(prior.nodes) * equal.scale / self.scale
        nodes = equal.noise.coordinate(signal)
        prior = Prior(nodes, equal.tabulate(nodes), prior.weights, prior.chi2)
        return equal, prior


def describe_exposures(detector, factors, shape=np.inf, step=0.0):
    """Return equal exposures, also if 4 or more differ little, or unequal ones."""
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


_CLEAR_HIT = 7.0  # standard deviations


@dataclass(frozen=True)
class Compared:
    """
    Planes (ny, nx) over the good exposures.

    ``reference`` is the ``minimum`` or the mean of the two lowest; ``ordered`` is the
    value that is a hit if the coincidences sought happen; ``number`` is that of good
    exposures, or None where all ``n`` are good.
    """

    n: int

    minimum: np.ndarray
    reference: np.ndarray
    ordered: np.ndarray
    highest: np.ndarray
    number: np.ndarray | None


def find_rank(n, coincidences):
    """Return which of n exposures, 1 = lowest, is a hit if ``coincidences`` happen."""
    # Fewer than falsify the median do not matter, all n cannot be seen.
    return n + 1 - min(max(coincidences, (n + 1) // 2), n - 1)


def lowest_used(n, coincidences, *, equal=True):
    """Return how many of the lowest exposures, clean ones, make the reference."""
    return 2 if equal and find_rank(n, coincidences) >= 3 else 1


def compared_planes(stack, bad, planes, coincidences, *, equal=True):
    """Return the `Compared` planes of a stack (n, ny, nx); bad pixels are ignored."""
    n = len(stack)
    shape = stack.shape[1:]
    reference, ordered, highest = (np.empty(shape, stack.dtype) for _ in range(3))
    number = None if bad is None else kernels.count(bad, n)
    simple = n == 3 and bad is None
    for rows in cut_bands(shape):
        band = stack[:, rows]
        if simple:
            reference[rows], ordered[rows] = planes.minimum[rows], planes.median[rows]
            highest[rows] = band.max(axis=0)
            continue
        if bad is not None:
            band = np.where(bad[:, rows], stack.dtype.type(np.inf), band)
        values = np.sort(band, axis=0)
        good = np.full(values.shape[1:], n) if bad is None else number[rows]
        reference[rows], ordered[rows], highest[rows] = _by_number(
            values, good, coincidences, equal=equal
        )
    if planes.nogood is not None:
        for plane in (reference, ordered, highest):
            np.copyto(plane, planes.minimum, where=planes.nogood)
    return Compared(n, planes.minimum, reference, ordered, highest, number)


def _by_number(values, good, coincidences, *, equal):
    """Return reference, ordered and highest of sorted values of which some are good."""
    reference, ordered, highest = values[0].copy(), values[0].copy(), values[0].copy()
    for n in range(2, len(values) + 1):
        here = good == n
        if not here.any():
            continue
        np.copyto(ordered, values[find_rank(n, coincidences) - 1], where=here)
        np.copyto(highest, values[n - 1], where=here)
        if lowest_used(n, coincidences, equal=equal) == 2:
            pair = (values[0] + values[1]) * values.dtype.type(0.5)
            np.copyto(reference, pair, where=here)
    return reference, ordered, highest


def hit_fraction(compared, exposures, use):
    """Return the fraction of the pixels ``use`` that is hit in each exposure."""
    hit = total = 0
    noise, scale = exposures.noise, exposures.scale
    for rows in cut_bands(compared.minimum.shape):
        low, high = compared.minimum[rows] * scale, compared.highest[rows] * scale
        clear = noise.coordinate(high) - noise.coordinate(low) > _CLEAR_HIT
        inside = slice(None) if use is None else use[rows]
        hit += np.count_nonzero(clear[inside])
        total += clear[inside].size
    return float(min(hit / max(total, 1) / exposures.n, 0.3))
