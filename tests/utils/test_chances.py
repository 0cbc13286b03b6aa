# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the small results of probability theory."""

from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import integrate, stats

from ccdcr.utils.stacks import chance_of_all, chance_of_half, median_factor


class TestChances:
    """Coincidences of independent events."""

    @pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8])
    @pytest.mark.parametrize("chance", [0, 1e-3, 0.3, 0.5, 1])
    def test_equal(self, n, chance):
        """Equal chances: the binomial distribution."""
        chances = [chance] * n
        distribution = stats.binom(n, chance)
        # sf(k) is the probability of more than k
        assert_allclose(
            chance_of_half(chances), distribution.sf((n + 1) // 2 - 1), rtol=1e-12
        )
        assert_allclose(chance_of_all(chances), distribution.pmf(n), rtol=1e-12)

    @pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
    def test_different(self, n):
        """Different chances: the sum over all outcomes."""
        chances = np.random.default_rng(n).random(n)
        half = every = 0
        for outcome in product([0, 1], repeat=n):
            happened = np.array(outcome, dtype=bool)
            probability = np.where(happened, chances, 1 - chances).prod()
            half += probability * (happened.sum() >= n / 2)
            every += probability * happened.all()
        assert_allclose(chance_of_half(chances), half, rtol=1e-13)
        assert_allclose(chance_of_all(chances), every, rtol=1e-13)

    def test_by_hand(self):
        """Two of three: pq(1-r) + pr(1-q) + qr(1-p) + pqr."""
        # 0.5*0.2*0.9 + 0.5*0.1*0.8 + 0.2*0.1*0.5 + 0.5*0.2*0.1
        assert_allclose(chance_of_half([0.5, 0.2, 0.1]), 0.15)
        assert_allclose(chance_of_all([0.5, 0.2, 0.1]), 0.01)

    def test_half_is_enough(self):
        """Two of four are half."""
        assert chance_of_half([1, 0, 0, 0]) == 0
        assert chance_of_half([1, 1, 0, 0]) == 1

    def test_plain_float(self):
        """Results are numbers of Python."""
        assert type(chance_of_all(np.array([0.5]))) is float
        assert type(chance_of_half(np.array([0.5]))) is float


class TestMedianFactor:
    """How much noisier the median is than the mean."""

    @pytest.mark.parametrize(
        ("n", "expected"), [(1, 1), (2, 1), (3, 1.160), (4, 1.092), (5, 1.198)]
    )
    def test_documented(self, n, expected):
        """The values of the specification, which has three digits."""
        assert_allclose(median_factor(n), expected, atol=5e-4)

    def test_closed_form(self):
        """The variance of the median of three is 1 - sqrt(3) / pi."""
        expected = np.sqrt(3 * (1 - np.sqrt(3) / np.pi))
        assert_allclose(median_factor(3), expected, rtol=1e-9)

    @pytest.mark.parametrize("n", [3, 5, 7, 15, 51])
    def test_odd(self, n):
        """The density of the middle order statistic, integrated by quadrature."""
        middle = stats.beta((n + 1) / 2, (n + 1) / 2)

        def integrand(x):
            return x**2 * middle.pdf(stats.norm.cdf(x)) * stats.norm.pdf(x)

        variance = integrate.quad(integrand, -8, 8, epsabs=1e-13)[0]
        assert_allclose(median_factor(n), np.sqrt(n * variance), rtol=1e-8)

    @pytest.mark.parametrize("n", [4, 6, 10])
    def test_even(self, n):
        """Simulation: the relative error of a scatter is 1 / sqrt(2 trials)."""
        trials = 200_000
        values = np.random.default_rng(n).normal(size=(trials, n))
        expected = np.median(values, axis=1).std() * np.sqrt(n)
        assert_allclose(median_factor(n), expected, rtol=4 / np.sqrt(2 * trials))

    @pytest.mark.parametrize("n", [4, 6])
    def test_even_integral(self, n):
        """The joint density of the two middle order statistics, on a grid."""
        x, step = np.linspace(-7, 7, 1401, retstep=True)
        below, density = stats.norm.cdf(x), stats.norm.pdf(x)
        k = n // 2 - 1
        first, second = np.meshgrid(x, x, indexing="ij")
        joint = np.outer(below**k * density, (1 - below) ** k * density)
        joint *= (first < second) + 0.5 * (first == second)
        variance = np.sum(joint * ((first + second) / 2) ** 2) / joint.sum()
        assert_allclose(median_factor(n), np.sqrt(n * variance), rtol=step**2)

    def test_limit(self):
        """It tends to sqrt(pi / 2) from below, odd and even numbers alike."""
        limit = np.sqrt(np.pi / 2)
        for start in (3, 4):
            factors = [median_factor(n) for n in range(start, 60, 2)]
            assert np.all(np.diff(factors) > 0)
            assert factors[-1] < limit
        # the variance deviates by about (pi / 2 - 1) / n
        for n in (60, 61, 400, 401):
            deviation = 1 - median_factor(n) / limit
            assert 0 < deviation < 1 / n

    def test_many(self):
        """No overflow, however many values."""
        assert_allclose(median_factor(5001), np.sqrt(np.pi / 2), rtol=1e-3)

    @pytest.mark.parametrize("n", [101, 1001, 10_001, 100_001])
    def test_odd_many(self, n):
        """As test_odd, where an expansion is used; the next term is n^-2 / 7."""
        middle = stats.beta((n + 1) / 2, (n + 1) / 2)
        limit = 15 / np.sqrt(n)

        def integrand(x):
            return x**2 * middle.pdf(stats.norm.cdf(x)) * stats.norm.pdf(x)

        variance = integrate.quad(integrand, -limit, limit, epsabs=0, limit=200)[0]
        assert_allclose(median_factor(n), np.sqrt(n * variance), rtol=2e-5)

    @pytest.mark.parametrize("n", [10, 50, 100, 102, 200, 1000, 100_000])
    def test_even_many(self, n):
        """The two middle values by quadrature over the first and their distance."""
        nodes, weights = np.polynomial.legendre.leggauss(200)
        x = np.minimum(8, 12 / np.sqrt(n)) * nodes[:, np.newaxis]
        distance = np.minimum(8, 150 / n) * (nodes + 1) / 2
        # n / 2 - 1 values lie below the first, as many above the second
        logs = (n // 2 - 1) * (stats.norm.logcdf(x) + stats.norm.logsf(x + distance))
        logs += stats.norm.logpdf(x) + stats.norm.logpdf(x + distance)
        joint = np.exp(logs - logs.max()) * np.outer(weights, weights)
        variance = np.sum(joint * (x + distance / 2) ** 2) / joint.sum()
        assert_allclose(median_factor(n), np.sqrt(n * variance), rtol=5e-5)

    def test_plain_float(self):
        """Results are numbers of Python."""
        assert type(median_factor(4)) is float
        assert type(median_factor(1)) is float
