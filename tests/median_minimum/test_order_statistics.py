# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Tests of the densities of order statistics.

Each is compared with an integral or a sum that is done otherwise: closed forms for
normal noise, scipy's quadrature, and enumeration of what each exposure does.
"""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.special import comb
from scipy.stats import norm

from ccdcr.median_minimum.noise_distribution import (
    STEP,
    PhotonNoise,
    exposure_distribution,
    make_tables,
)
from ccdcr.median_minimum.order_statistics import (
    REACH,
    Given,
    GivenIndex,
    Ordered,
    clean_chances,
    low_pair,
    minimum,
    unequal_minimum,
)

# Read noise alone: where signals are far below 0 compared with it, t = u / sigma.
NORMAL = PhotonNoise(1e4)
ROWS = (-40, 200)
NODE = 24.0  # of normal noise, so that the grid is nowhere below 0 signal


def at_node(function, noise, node, *args):
    """Return densities for 1000 pixels of one signal, and the grid of a."""
    tables = make_tables(np.array([node]), noise)
    kernel, exceeding = function(tables, np.array([1000.0]), ROWS, *args)
    return ROWS[0] + np.arange(ROWS[1]), kernel / 1000, [e / 1000 for e in exceeding]


def per_step(noise, level):
    """Return density per step, survival and distribution at grid points."""

    def of(points):
        values = noise.signal(STEP * np.asarray(points, dtype=float))
        above, below, density = exposure_distribution(
            np.array([level]), np.atleast_2d(values), noise
        )
        return density[0] * STEP * noise.deviation(values), above[0], below[0]

    return of


class TestTerms:
    """Chances of exposures above the reference."""

    @pytest.mark.parametrize("lowest", [1, 2])
    @pytest.mark.parametrize(("n", "rank"), [(3, 2), (4, 3), (5, 3), (5, 5), (7, 4)])
    def test_ordered(self, n, rank, lowest):
        """All subsets of exposures that exceed b are summed."""
        rest, r = n - lowest, 0.3
        expected = 0.0
        for above in itertools.product([0, 1], repeat=rest):
            k = sum(above)
            # The rank-th lowest is above b if at least n + 1 - rank are.
            if k >= n + 1 - rank:
                expected += r**k * (1 - r) ** (rest - k)
        terms = Ordered(rank).terms(rest, lowest)
        assert np.polyval(terms[::-1], r) == pytest.approx(expected, rel=1e-12)

    def test_given(self):
        """A given exposure is above the minimum in (n - 1) / n of the cases."""
        for n in (3, 4, 7):
            terms = Given(n).terms(n - 1, 1)
            assert np.polyval(terms[::-1], 0.2) == pytest.approx((n - 1) / n * 0.2)

    @pytest.mark.parametrize("n", [3, 5])
    def test_clean_chances(self, n):
        """The binomial distribution."""
        chances = clean_chances(n, 0.1)
        assert sum(chances) == pytest.approx(1)
        for c, chance in enumerate(chances):
            assert chance == pytest.approx(comb(n, c) * 0.9**c * 0.1 ** (n - c))


@pytest.mark.parametrize("n", [2, 3, 4, 5, 7])
class TestNormal:
    """Normal noise, for which there are closed forms."""

    # The noise of 1e4 changes by 1e-3 from node to 10 sigma above.
    RTOL = 0.02

    @staticmethod
    def z(a):
        """Return the standardised values at grid points."""
        level = NORMAL.signal(np.array([NODE]))
        deviation = NORMAL.deviation(level)
        return (NORMAL.signal(STEP * a) - level) / deviation, deviation

    def test_kernel(self, n):
        """It is n f S^(n-1), which sums up to 1."""
        a, kernel, _ = at_node(minimum, NORMAL, NODE, clean_chances(n))
        z, deviation = self.z(a)
        width = STEP * NORMAL.deviation(NORMAL.signal(STEP * a)) / deviation
        expected = n * norm.pdf(z) * norm.sf(z) ** (n - 1) * width
        used = expected > 1e-6
        assert_allclose(kernel[used], expected[used], rtol=self.RTOL)
        assert kernel.sum() == pytest.approx(1, abs=1e-4)

    def test_any(self, n):
        """The highest exceeds b unless none of the others does."""
        a, _, (density,) = at_node(
            minimum, NORMAL, NODE, clean_chances(n), [Ordered(n)]
        )
        z, deviation = self.z(a)
        width = STEP * NORMAL.deviation(NORMAL.signal(STEP * a)) / deviation
        for steps in (0, 7, 20):
            b, _ = self.z(a + steps)
            none = (norm.sf(z) - norm.sf(b)) ** (n - 1)
            expected = n * norm.pdf(z) * (norm.sf(z) ** (n - 1) - none) * width
            used = expected > 1e-6
            assert_allclose(density[used, steps], expected[used], rtol=self.RTOL)

    def test_given(self, n):
        """One given exposure exceeds b, another one is the lowest."""
        a, _, (density,) = at_node(minimum, NORMAL, NODE, clean_chances(n), [Given(n)])
        z, deviation = self.z(a)
        width = STEP * NORMAL.deviation(NORMAL.signal(STEP * a)) / deviation
        for steps in (3, 12):
            b, _ = self.z(a + steps)
            others = norm.sf(z) ** (n - 2)
            expected = (n - 1) * norm.pdf(z) * others * norm.sf(b) * width
            used = expected > 1e-6
            assert_allclose(density[used, steps], expected[used], rtol=self.RTOL)


@pytest.mark.parametrize("shape", [np.inf, 20.0])
@pytest.mark.parametrize("level", [0.0, 30.0, 3000.0])
class TestMinimum:
    """Photons and read noise, compared with quadrature."""

    def test_median_of_three(self, level, shape):
        """3 f S(b)^2: both others are above."""
        noise = PhotonNoise(3.0, shape)
        node = float(noise.coordinate(level))
        node = STEP * round(node / STEP)
        level = float(noise.signal(node))
        rows = (round(node / STEP) - 40, 90)
        tables = make_tables(np.array([node]), noise)
        kernel, (median,) = minimum(
            tables, np.ones(1), rows, clean_chances(3), [Ordered(2)]
        )
        of = per_step(noise, level)
        a = rows[0] + np.arange(rows[1])
        density, above, _ = of(a)
        used = (a >= tables.start[0]) & (a < tables.start[0] + tables.last)
        assert_allclose(kernel[used], (3 * density * above**2)[used], rtol=1e-8)
        for steps in (0, 5, 15):
            expected = 3 * density * of(a + steps)[1] ** 2
            inside = used & (a + steps < tables.start[0] + tables.width)
            assert_allclose(median[inside, steps], expected[inside], rtol=1e-6)

    def test_total(self, level, shape):
        """All pixels have a minimum somewhere, and a median above it."""
        noise = PhotonNoise(3.0, shape)
        node = float(noise.coordinate(level))
        rows = (round(node / STEP) - 40, 90)
        tables = make_tables(np.array([node]), noise)
        for n in (3, 5):
            kernel, (any_,) = minimum(
                tables, np.full(1, 700.0), rows, clean_chances(n), [Ordered(n)]
            )
            # The grid is a little too coarse where the noise changes its slope.
            assert kernel.sum() == pytest.approx(700, rel=1e-3)
            assert_allclose(any_[:, 0], kernel, rtol=1e-6, atol=1e-9)


class TestLowPair:
    """The mean of the two lowest."""

    @pytest.mark.parametrize("n", [4, 5, 7])
    def test_kernel(self, n):
        """Normal noise: the integral over the second lowest, by scipy."""
        a, kernel, _ = at_node(low_pair, NORMAL, NODE, clean_chances(n))
        z, deviation = TestNormal.z(a)
        width = STEP * NORMAL.deviation(NORMAL.signal(STEP * a)) / deviation
        for i in np.flatnonzero(kernel > 1e-4)[::5]:
            x = z[i]

            def integrand(w, x=x):
                pair = norm.pdf(2 * x - w) * norm.pdf(w)
                return 2 * n * (n - 1) * pair * norm.sf(w) ** (n - 2)

            expected = quad(integrand, x, x + 12)[0] * width[i]
            assert kernel[i] == pytest.approx(expected, rel=0.03)
        assert kernel.sum() == pytest.approx(1, abs=2e-3)

    @pytest.mark.parametrize(
        ("n", "statistic"),
        [(4, Ordered(3)), (5, Ordered(3)), (5, Ordered(5)), (7, Ordered(6)), (4, None)],
    )
    @pytest.mark.parametrize("level", [40.0, 2000.0])
    def test_exceeding(self, n, statistic, level):
        """Photons and read noise: the integral over the second lowest, by scipy."""
        noise = PhotonNoise(3.0)
        node = STEP * round(float(noise.coordinate(level)) / STEP)
        level = float(noise.signal(node))
        rank = None if statistic is None else statistic.rank
        tables = make_tables(np.array([node]), noise)
        rows = (round(node / STEP) - 30, 50)
        statistics = [Given(n) if rank is None else statistic]
        kernel, (found,) = low_pair(
            tables, np.ones(1), rows, clean_chances(n), statistics
        )

        def parts(u):
            values = np.atleast_2d(np.asarray(u, dtype=float))
            return [
                p[0] for p in exposure_distribution(np.array([level]), values, noise)
            ]

        def chance(above_w, above_b):
            r = np.minimum(above_b / above_w, 1)
            if rank is None:
                return (n - 2) / n * r
            # At least n + 1 - rank of the n - 2 others exceed b.
            return sum(
                comb(n - 2, k) * r**k * (1 - r) ** (n - 2 - k)
                for k in range(n + 1 - rank, n - 1)
            )

        for i in np.flatnonzero(kernel > 1e-3)[::4]:
            a = float(noise.signal(STEP * (rows[0] + i)))
            for steps in (0, 8, 20):
                b = float(noise.signal(STEP * (rows[0] + i + steps)))
                # Simpson's rule on a fine grid, in two parts as there is a kink at b.
                top = a + 14 * float(noise.deviation(level))
                total = 0.0
                for low, high in ((a, b), (b, top)):
                    if high <= low:
                        continue
                    w = np.linspace(low, high, 801)
                    above, _, density = parts(w)
                    mirror = parts(2 * a - w)[2]
                    above_b = parts([b])[0]
                    values = (
                        mirror * density * above ** (n - 2) * chance(above, above_b)
                    )
                    weights = np.tile([2.0, 4.0], 401)[:801]
                    weights[[0, -1]] = 1
                    total += values @ weights * (w[1] - w[0]) / 3
                width = STEP * float(noise.deviation(a))
                expected = 2 * n * (n - 1) * total * width
                # Tenth of a percent of a standard deviation of the boundary.
                assert found[i, steps] == pytest.approx(expected, rel=0.02, abs=1e-9)


def brute_force(tables, hit, b_steps, statistic):
    """Sum over what each exposure does: hit, at a, between a and b, or above b."""
    n = len(tables)
    total = np.zeros(tables[0].last)
    for c in range(len(total)):
        density = [t.density[0, c] for t in tables]
        above_a = [t.above[0, c] for t in tables]
        above_b = [t.beyond(c, REACH + 1)[0, b_steps] for t in tables]
        chances = [
            {
                "hit": hit,
                "low": (1 - hit) * f,
                "mid": (1 - hit) * (s_a - s_b),
                "high": (1 - hit) * s_b,
            }
            for f, s_a, s_b in zip(density, above_a, above_b, strict=True)
        ]
        for states in itertools.product(("hit", "low", "mid", "high"), repeat=n):
            if states.count("low") == 1 and statistic(states):
                total[c] += np.prod(
                    [chance[s] for chance, s in zip(chances, states, strict=True)]
                )
    return total


def ordered_exceeds(rank):
    """Tell whether the rank-th lowest is clean and above b."""

    def exceeds(states):
        # From low to high; a hit exposure is above everything.
        order = sorted(states, key=["low", "mid", "high", "hit"].index)
        return order[rank - 1] == "high"

    return exceeds


class TestHits:
    """A mixture of pixels with and without hits, by enumeration."""

    @pytest.mark.parametrize(("n", "rank"), [(3, 2), (3, 3), (4, 3), (5, 3)])
    def test_equal(self, n, rank):
        """The rank-th lowest of clean and hit exposures."""
        noise, hit = PhotonNoise(3.0), 0.07
        node = 10.0
        tables = make_tables(np.array([node]), noise)
        rows = (int(tables.start[0]), tables.last)
        kernel, (ordered,) = minimum(
            tables, np.ones(1), rows, clean_chances(n, hit), [Ordered(rank)]
        )
        expected = brute_force([tables] * n, hit, 6, ordered_exceeds(rank))
        assert_allclose(ordered[:, 6], expected, rtol=1e-9, atol=1e-16)
        lowest = brute_force([tables] * n, hit, 6, lambda _: True)
        assert_allclose(kernel, lowest, rtol=1e-9, atol=1e-16)

    def test_given(self):
        """A given clean exposure of pixels with and without hits."""
        noise, hit, n = PhotonNoise(3.0), 0.07, 4
        tables = make_tables(np.array([10.0]), noise)
        rows = (int(tables.start[0]), tables.last)
        _, (given,) = minimum(
            tables, np.ones(1), rows, clean_chances(n, hit), [Given(n)]
        )
        expected = brute_force([tables] * n, hit, 6, lambda s: s[1] == "high")
        assert_allclose(given[:, 6], expected, rtol=1e-9, atol=1e-16)


class TestUnequal:
    """Exposures with different noise."""

    @pytest.mark.parametrize("hit", [0.0, 0.05])
    @pytest.mark.parametrize("n", [3, 4, 5])
    def test_equal(self, n, hit):
        """Equal ones are a special case."""
        noise = PhotonNoise(3.0)
        tables = make_tables(np.array([1.0, 12.0]), noise)
        weights = np.array([3.0, 2.0])
        rows = (-40, 140)
        statistics = [Ordered(2), Ordered(n)]
        equal = minimum(
            tables, weights, rows, clean_chances(n, hit), [*statistics, Given(n)]
        )
        unequal = unequal_minimum(
            [tables] * n, weights, rows, hit, [*statistics, GivenIndex(n - 1)]
        )
        assert_allclose(unequal[0], equal[0], rtol=1e-9, atol=1e-18)
        for ours, theirs in zip(unequal[1], equal[1], strict=True):
            assert_allclose(ours, theirs, rtol=1e-7, atol=1e-15)

    @pytest.mark.parametrize("hit", [0.0, 0.06])
    def test_brute_force(self, hit):
        """Every state of each exposure is summed."""
        noise = PhotonNoise(3.0)
        factors, sigmas = (0.6, 1.0, 0.8, 0.9), (3.0, 3.5, 6.0, 4.0)
        tables = [
            make_tables(np.array([9.0]), noise, PhotonNoise(s), f, widening=2.2)
            for f, s in zip(factors, sigmas, strict=True)
        ]
        rows = (int(tables[0].start[0]), tables[0].last)
        statistics = [Ordered(3), Ordered(4), GivenIndex(2)]
        kernel, found = unequal_minimum(tables, np.ones(1), rows, hit, statistics)
        checks = [ordered_exceeds(3), ordered_exceeds(4), lambda s: s[2] == "high"]
        for ours, check in zip(found, checks, strict=True):
            expected = brute_force(tables, hit, 9, check)
            assert_allclose(ours[:, 9], expected, rtol=1e-9, atol=1e-16)
        assert kernel.sum() == pytest.approx(1 - hit**4, rel=2e-3)

    def test_simulation(self):
        """Three exposures of different flux, by drawing."""
        rng = np.random.default_rng(2)
        noise, level, factors = PhotonNoise(3.0), 200.0, np.array([0.6, 1.0, 0.8])
        size = 400_000
        photons = rng.poisson(factors[:, np.newaxis] * level, (3, size))
        drawn = (photons + rng.normal(0, 3, (3, size))) / factors[:, np.newaxis]
        low, median = np.sort(drawn, axis=0)[:2]
        node = float(noise.coordinate(level))
        tables = [
            make_tables(np.array([node]), noise, noise, f, widening=1.7)
            for f in factors
        ]
        rows = (round(node / STEP) - 40, 80)
        kernel, (found,) = unequal_minimum(tables, np.ones(1), rows, 0.0, [Ordered(2)])
        t_low, t_median = noise.coordinate(low) / STEP, noise.coordinate(median) / STEP
        # Points of b that are so many steps above a.
        for steps in (2, 6, 10):
            number = np.count_nonzero(t_median - t_low > steps)
            expected = size * found[:, steps].sum()
            assert abs(number - expected) < 4 * np.sqrt(number)
        assert kernel.sum() == pytest.approx(1, abs=1e-3)
