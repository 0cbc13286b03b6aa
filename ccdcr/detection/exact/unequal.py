# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Order statistics of exposures whose noise differs, exposure by exposure."""

from dataclasses import dataclass

import numpy as np

from ccdcr.detection.exact.order_statistics import REACH, Ordered, sum_columns

__all__ = ["GivenIndex", "unequal_minimum"]


@dataclass(frozen=True)
class GivenIndex:
    """One exposure, by its index."""

    index: int


def unequal_minimum(tables, weights, rows, hit, statistics=()):
    r"""
    Return densities with the minimum as the reference.

    Parameters
    ----------
    tables : list of `~ccdcr.detection.exact.tables.Tables`
        The distributions of each exposure at the nodes, on one grid.
    weights, rows
        As for `~ccdcr.detection.exact.order_statistics.minimum`.
    hit : float
        Fraction of the pixels that is hit in each exposure.
    statistics : sequence of `Ordered` or `GivenIndex`
        What must exceed b.

    Returns
    -------
    kernel, exceeding
        As from `~ccdcr.detection.exact.order_statistics.minimum`.

    Notes
    -----
    Exposures are added one by one: Q[h, s] is the chance that h of them are
    hit, s are clean and between a and b and the rest is above b; R is the same
    with one more of them at a. An exposure with density f, chance S to be above
    and p to be between changes them to

    .. math:: R_{h,s} &\leftarrow q R_{h-1,s} + (1-q)
              [R_{h,s} S(b) + R_{h,s-1} p + Q_{h,s} f(a)] \\
              Q_{h,s} &\leftarrow q Q_{h-1,s} + (1-q) [Q_{h,s} S(b) + Q_{h,s-1} p]

    with q the chance of a hit. The j-th lowest of n clean or hit exposures is
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
    """Return the chance that an exposure exceeds b, and another one is at a."""
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
