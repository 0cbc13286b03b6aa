# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Joint distribution of the minimum and the order statistics of exposures."""

from dataclasses import dataclass
from functools import partial
from math import comb

import numpy as np

from ccdcr.median_minimum.noise_distribution import STEP

__all__ = [
    "REACH",
    "Given",
    "GivenIndex",
    "Ordered",
    "clean_chances",
    "low_pair",
    "minimum",
    "sum_columns",
    "unequal_minimum",
]

REACH = round(18 / STEP)  # of b above a, in steps


@dataclass(frozen=True)
class Ordered:
    """
    The ``rank``-th lowest exposure; with ``rank`` = n the highest one.

    Given that ``rest`` exposures are above the reference, each exceeds b with
    the chance r = S(b) / S(a), and the statistic does if at most
    ``rank - 1 - (number in the reference)`` of them do not.
    """

    rank: int

    def terms(self, rest, lowest):
        """Return the coefficients of the powers of r, from 0 to ``rest``."""
        coefficients = np.zeros(rest + 1)
        for s in range(min(self.rank - lowest, rest + 1)):
            # C(rest, s) (1 - r)^s r^(rest - s)
            for i in range(s + 1):
                term = comb(rest, s) * comb(s, i) * (-1) ** i
                coefficients[rest - s + i] += term
        return coefficients

    @property
    def clean(self):
        """Least number of clean exposures; with fewer, the statistic is a hit."""
        return self.rank


@dataclass(frozen=True)
class Given:
    """One given exposure of ``n``, which may be among those above the reference."""

    n: int

    def terms(self, rest, lowest):  # noqa: ARG002
        """Return the coefficients of the powers of r, from 0 to ``rest``."""
        coefficients = np.zeros(rest + 1)
        if rest:
            coefficients[1] = rest / self.n
        return coefficients

    @property
    def clean(self):
        """Least number of clean exposures; with fewer, the statistic is a hit."""
        return 2


def clean_chances(n, hit=0.0):
    """Return the chances that 0 to n of n exposures of a pixel are not hit."""
    return [comb(n, c) * (1 - hit) ** c * hit ** (n - c) for c in range(n + 1)]


def minimum(tables, weights, rows, chances, statistics=()):
    r"""
    Return densities with the minimum as the reference.

    The kernel (a,) holds the expected pixels whose minimum is a, per step of the grid;
    exceeding, by statistic, those (a, REACH + 1) that also exceed b = a, a + 1 step ...
    ``rows`` is the first a and their number. With n exposures of one distribution,
    density f, chance S to be above,

    .. math:: E_0(a) = n f(a) S(a)^{n-1}, \quad
              E(a, b) = n f(a) \sum_m t_m S(b)^m S(a)^{n-1-m}

    where t are the terms of the statistic. A hit exposure is above everything; sums go
    over the number of clean ones.

    References: H. A. David and H. N. Nagaraja 2003, Order Statistics, Wiley, chapter 2.
    """
    factors = _polynomials(chances, 1, statistics)

    def column(c):
        at_a = weights * tables.density[:, c]
        above = tables.above[:, c]
        behind = tables.beyond(c, REACH + 1)
        yield at_a * np.polynomial.polynomial.polyval(above, factors[0][0])
        for terms in factors[1:]:
            inner = np.polynomial.polynomial.polyval(above, terms.T)
            yield _horner(behind, at_a * inner)

    return sum_columns(tables, rows, len(statistics), column)


def low_pair(tables, weights, rows, chances, statistics=()):
    r"""
    Return densities as `minimum` does, with the mean of the two lowest as reference.

    With w the second lowest, the lowest is 2a - w, and

    .. math:: E(a, b) = 2 n (n-1) \int_a^\infty f(2a - w) f(w) S(w)^{n-2}
              g(\min(S(b) / S(w), 1)) dw

    where g is the polynomial of the statistic.
    """
    factors = _polynomials(chances, 2, statistics)
    signal, width = _grid(tables, rows)
    log_density = np.log(np.maximum(tables.density, 1e-300))
    polyval = np.polynomial.polynomial.polyval

    def column(c):
        lower = _mirrored(tables, log_density, c, signal, width)
        tail = tables.density[:, c : c + REACH + 1]
        second = np.pad(tail, ((0, 0), (0, REACH + 1 - tail.shape[1])))
        pair = 2 * weights[:, np.newaxis] * lower * second
        above = tables.beyond(c, REACH + 1)
        cumulative = partial(_cumulative, pair)
        yield cumulative(polyval(above, factors[0][0]))[:, -1]
        for terms in factors[1:]:
            behind = cumulative(polyval(above, _merged(terms)))
            total = behind[:, -1:] - behind
            power = np.ones_like(above)
            for term in terms:
                if term.any():
                    total += power * cumulative(polyval(above, term))
                power = power * above
            yield total

    return sum_columns(tables, rows, len(statistics), column)


def _polynomials(chances, lowest, statistics):
    """Return coefficients [m, p] of S(b)^m S(a)^p, of the kernel and each statistic."""
    n = len(chances) - 1
    factors = np.zeros((len(statistics) + 1, n + 1, n + 1))
    for c in range(lowest, n + 1):
        rest = c - lowest
        ways = chances[c] * (c if lowest == 1 else c * (c - 1))
        factors[0, 0, rest] += ways
        for factor, statistic in zip(factors[1:], statistics, strict=True):
            if c >= statistic.clean:
                terms = statistic.terms(rest, lowest)
                m = np.arange(rest + 1)
                factor[m, rest - m] += ways * terms
    return factors


def _horner(x, coefficients):
    """Evaluate polynomials of x (n, m) with coefficients (degree + 1, n)."""
    used = np.flatnonzero(coefficients.any(axis=1))
    if not used.size:
        return np.zeros_like(x)
    total = np.repeat(coefficients[used[-1], :, np.newaxis], x.shape[1], axis=1)
    for m in range(used[-1] - 1, -1, -1):
        total *= x
        if coefficients[m].any():
            total += coefficients[m, :, np.newaxis]
    return total


def _merged(terms):
    """Return the coefficients of the polynomial in S for b = a."""
    return [
        np.trace(terms[::-1], degree - len(terms) + 1) for degree in range(len(terms))
    ]


def _cumulative(pair, factor):
    """Integrate over the grid from its first column, exactly for cubics."""
    values = pair * factor
    curvature = np.empty_like(values)
    curvature[:, 1:-1] = values[:, 2:] - 2 * values[:, 1:-1] + values[:, :-2]
    curvature[:, 0] = 2 * curvature[:, 1] - curvature[:, 2]
    curvature[:, -1] = 0
    values -= curvature / 12
    total = np.cumsum(values, axis=1)
    total -= (values + values[:, :1]) / 2
    return total


def _grid(tables, rows):
    """Return signal and width of a step, on the grid that the tables cover."""
    first, n_rows = rows
    low = min(first, tables.start[0])
    high = max(first + n_rows, tables.start[-1] + tables.width) + REACH + 2
    signal = tables.noise.signal(STEP * np.arange(low, high))
    width = STEP * tables.noise.deviation(signal)
    return (low, signal), (low, width)


def _mirrored(tables, log_density, c, signal, width):
    """Return the density at 2a - w, per step at a, for w from a on."""
    low, signal = signal
    width = width[1]
    a = tables.start + c - low
    ahead = a[:, np.newaxis] + np.arange(REACH + 1)
    mirror = 2 * signal[a][:, np.newaxis] - signal[ahead]
    place = tables.noise.coordinate(mirror) / STEP - tables.start[:, np.newaxis]
    middle = np.clip(np.rint(place).astype(int), 1, tables.width - 2)
    d = place - middle
    below, at, above = (
        np.take_along_axis(log_density, middle + i, axis=1) for i in (-1, 0, 1)
    )
    logs = at + d * (above - below) / 2 + d**2 * (above + below - 2 * at) / 2
    density = np.exp(np.minimum(logs, 50)) * (place >= 0)
    ratio = width[a][:, np.newaxis] / (STEP * tables.noise.deviation(mirror))
    return density * ratio


def sum_columns(tables, rows, n_statistics, column):
    """Return kernel and exceeding densities, summed over nodes by column of tables."""
    first, n_rows = rows
    groups, starts = np.unique(tables.start, return_index=True)
    kernel = np.zeros(n_rows)
    exceeding = [np.zeros((n_rows, REACH + 1)) for _ in range(n_statistics)]
    for c in range(tables.last):
        targets = groups + c - first
        inside = (targets >= 0) & (targets < n_rows)
        targets = targets[inside]
        for total, values in zip([kernel, *exceeding], column(c), strict=True):
            total[targets] += np.add.reduceat(values, starts, axis=0)[inside]
    return kernel, exceeding


@dataclass(frozen=True)
class GivenIndex:
    """One exposure, by its index."""

    index: int


def unequal_minimum(tables, weights, rows, hit, statistics=()):
    r"""
    Return densities as `minimum` does, from a table of each exposure on one grid.

    Exposures are added one by one: Q[h, s] is the chance that h of them are hit, s are
    clean and between a and b and the rest is above b; R is the same with one more of
    them at a. An exposure with density f, chance S to be above and p to be between
    changes them to

    .. math:: R_{h,s} &\leftarrow q R_{h-1,s} + (1-q)
              [R_{h,s} S(b) + R_{h,s-1} p + Q_{h,s} f(a)] \\
              Q_{h,s} &\leftarrow q Q_{h-1,s} + (1-q) [Q_{h,s} S(b) + Q_{h,s-1} p]

    with q = ``hit`` the chance of a hit. The j-th lowest of n clean or hit exposures is
    clean and above b in the sum of R over s < j - 1 and h <= n - j.
    """

    def column(c):
        at = [table.density[:, c, np.newaxis] for table in tables]
        above = [table.above[:, c, np.newaxis] for table in tables]
        behind = [table.beyond(c, REACH + 1) for table in tables]
        w = weights[:, np.newaxis]
        yield (w * _at_minimum(at, above, hit)).ravel()
        for statistic in statistics:
            if isinstance(statistic, Ordered):
                yield w * _ordered(statistic.rank, at, above, behind, hit)
            else:
                yield w * _given(statistic.index, at, above, behind, hit)

    return sum_columns(tables[0], rows, len(statistics), column)


def _at_minimum(at, above, hit):
    """Return the chance that one exposure is at a and all others above."""
    total = 0
    for i, density in enumerate(at):
        others = [hit + (1 - hit) * s for j, s in enumerate(above) if j != i]
        total = total + (1 - hit) * density * np.prod(others, axis=0)
    return total


def _given(index, at, above, behind, hit):
    """Return the chance that an exposure exceeds b and another one is at a."""
    others = [i for i in range(len(at)) if i != index]
    lowest = _at_minimum([at[i] for i in others], [above[i] for i in others], hit)
    return (1 - hit) * lowest * behind[index]


def _ordered(rank, at, above, behind, hit):
    n_hits, n_between = len(at) - rank + 1, rank - 1
    shape = behind[0].shape
    without = {(0, 0): np.ones(shape)}
    with_one = {}
    for density, s_a, s_b in zip(at, above, behind, strict=True):
        between = np.maximum(s_a - s_b, 0)
        grown = _added(with_one, s_b, between, hit)
        for key, chance in without.items():
            grown[key] = grown.get(key, 0) + (1 - hit) * chance * density
        with_one = _kept(grown, n_hits, n_between)
        without = _kept(_added(without, s_b, between, hit), n_hits, n_between)
    return sum(with_one.values(), np.zeros(shape))


def _added(chances, above, between, hit):
    """Return chances by (hits, exposures between) with one more exposure."""
    total = {}
    for (h, s), chance in chances.items():
        total[h, s] = total.get((h, s), 0) + (1 - hit) * chance * above
        total[h, s + 1] = total.get((h, s + 1), 0) + (1 - hit) * chance * between
        if hit:
            total[h + 1, s] = total.get((h + 1, s), 0) + hit * chance
    return total


def _kept(chances, n_hits, n_between):
    return {
        (h, s): chance
        for (h, s), chance in chances.items()
        if h < n_hits and s < n_between
    }
