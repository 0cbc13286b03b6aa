# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Tests of the distribution of one exposure.

The coordinate is compared with a numerical integral, probabilities with sums of
scipy's distributions over the number of photons.
"""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.stats import nbinom, norm, poisson

from ccdcr.median_minimum.noise_distribution import (
    STEP,
    PhotonNoise,
    exposure_distribution,
    make_tables,
)

SHAPES = [np.inf, 1000.0, 20.0, 5.0]


class TestNoise:
    """Standard deviation, and the coordinate in which it is 1."""

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("readnoise", [0.3, 3.0, 12.0])
    def test_deviation(self, readnoise, shape):
        """Variance of the photons, by scipy, plus read noise."""
        signal = np.array([0.5, 7.0, 4000.0])
        photons = poisson(signal)
        if np.isfinite(shape):
            photons = nbinom(shape, shape / (shape + signal))
        found = PhotonNoise(readnoise, shape).deviation(signal)
        assert_allclose(found, np.sqrt(photons.var() + readnoise**2), rtol=1e-9)

    def test_deviation_below(self):
        """Below 0 there is read noise only."""
        for shape in SHAPES:
            assert PhotonNoise(3.0, shape).deviation(np.array([-50.0, 0])).tolist() == [
                3,
                3,
            ]

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("readnoise", [0.3, 3.0, 12.0])
    def test_coordinate(self, readnoise, shape):
        """It is the integral of 1 / sd, of either sign."""
        noise = PhotonNoise(readnoise, shape)

        def inverse(u):
            photons = max(u, 0.0)
            return (readnoise**2 + photons + photons**2 / shape) ** -0.5

        for signal in (-40.0, -1.0, 0.0, 0.1, 5.0, 300.0, 5e4):
            # Split, as the integrand changes over decades.
            knots = [0, *(p for p in (1.0, 30.0, 1000.0) if p < signal), signal]
            expected = sum(
                quad(inverse, a, b, epsabs=0, epsrel=1e-10)[0]
                for a, b in itertools.pairwise(knots)
            )
            assert float(noise.coordinate(signal)) == pytest.approx(expected, rel=1e-8)

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("readnoise", [0.3, 3.0, 12.0])
    def test_inverse(self, readnoise, shape):
        """Signal and coordinate undo each other."""
        noise = PhotonNoise(readnoise, shape)
        signal = np.concatenate([-np.logspace(2, -2, 20), [0], np.logspace(-2, 6, 60)])
        t = noise.coordinate(signal)
        assert np.all(np.diff(t) > 0)
        assert_allclose(noise.signal(t), signal, rtol=1e-6, atol=1e-9)


def summed(expected, values, noise):
    """Return survival, distribution and density by a sum of scipy's."""
    photons = np.arange(int(expected + 60 * noise.deviation(expected) + 100))
    if np.isinf(noise.shape):
        chances = poisson.pmf(photons, expected)
    else:
        p = noise.shape / (noise.shape + expected)
        chances = nbinom.pmf(photons, noise.shape, p)
    parts = norm(photons[:, np.newaxis], noise.readnoise)
    return [
        (chances[:, np.newaxis] * part).sum(axis=0)
        for part in (parts.sf(values), parts.cdf(values), parts.pdf(values))
    ]


def values_near(expected, noise, limit=6.5):
    """Return values within some standard deviations."""
    return expected + np.linspace(-limit, limit, 81) * noise.deviation(expected)


class TestDirect:
    """Sums over the number of photons."""

    @pytest.mark.parametrize(
        ("shape", "level"),
        [(np.inf, 0.0), (np.inf, 0.3), (np.inf, 20.0), (np.inf, 99.0), (5.0, 15.0)],
    )
    @pytest.mark.parametrize("readnoise", [0.3, 3.0])
    def test_scipy(self, level, shape, readnoise):
        """The same as scipy's distributions."""
        noise = PhotonNoise(readnoise, shape)
        values = values_near(level, noise)
        found = exposure_distribution(np.array([level]), values[np.newaxis], noise)
        for ours, theirs in zip(found, summed(level, values, noise), strict=True):
            assert_allclose(ours[0], theirs, rtol=1e-8, atol=1e-15)

    def test_integral(self):
        """The density integrates to the probability to be above."""
        noise = PhotonNoise(2.0)

        def density(u):
            values = np.array([[u]])
            return float(exposure_distribution(np.array([6.0]), values, noise)[2][0, 0])

        above = exposure_distribution(np.array([6.0]), np.array([[9.0]]), noise)[0]
        integral = quad(density, 9, 60, epsrel=1e-9)[0]
        assert float(above[0, 0]) == pytest.approx(integral, rel=1e-7)


class TestSaddlepoint:
    """Where the variance is 100 or more."""

    @pytest.mark.parametrize(
        ("shape", "readnoise", "level", "above", "below", "density"),
        [
            # The largest relative errors where S > 1e-11, F > 1e-9 and f sd > 1e-10,
            # as they have been measured once, about twice as large.
            (np.inf, 1.0, 100.0, 6e-6, 2e-5, 6e-7),
            (np.inf, 1.0, 1e4, 8e-7, 4e-8, 1e-8),
            (np.inf, 3.0, 100.0, 1.2e-5, 1e-4, 6e-6),
            (np.inf, 3.0, 1e4, 8e-7, 4e-8, 1.2e-10),
            (np.inf, 12.0, 100.0, 1e-5, 2e-6, 1.4e-7),
            (np.inf, 12.0, 1e4, 8e-7, 2e-8, 6e-11),
            (50.0, 3.0, 100.0, 4e-4, 1.4e-4, 1.2e-5),
            (50.0, 3.0, 1000.0, 4e-4, 1.4e-4, 2e-6),
            (5.0, 3.0, 100.0, 1.2e-2, 4e-2, 4e-3),
            (5.0, 3.0, 1000.0, 1.2e-2, 1.2e-2, 1.5e-3),
            # With little read noise the comb of electrons shows in the density.
            (np.inf, 0.5, 100.0, 2.4e-3, 2.8e-3, 3e-2),
        ],
    )
    def test_direct(self, shape, readnoise, level, above, below, density):
        """Close to the sum, far into both tails."""
        noise = PhotonNoise(readnoise, shape)
        values = values_near(level, noise, 6.8)
        values = values[values > -5 * readnoise]
        found = exposure_distribution(np.array([level]), values[np.newaxis], noise)
        exact = summed(level, values, noise)
        sd = noise.deviation(level)
        used = [exact[0] > 1e-11, exact[1] > 1e-9, exact[2] * sd > 1e-10]
        for ours, theirs, where, tolerance in zip(
            found, exact, used, (above, below, density), strict=True
        ):
            assert where.sum() > 50
            assert_allclose(ours[0][where], theirs[where], rtol=tolerance)

    @pytest.mark.parametrize("shape", [np.inf, 20.0])
    def test_no_step_at_the_change(self, shape):
        """Below and above a variance of 100 the probabilities are continuous."""
        noise = PhotonNoise(3.0, shape)
        level = 100.0 if np.isinf(shape) else 10 * (np.sqrt(1 + 20) - 1)
        levels = level * np.array([1 - 1e-9, 1 + 1e-9])
        values = np.stack([values_near(level, noise, 6)] * 2)
        for part in exposure_distribution(levels, values, noise):
            assert_allclose(part[0], part[1], rtol=5e-3)

    def test_normal(self):
        """With much read noise, or many photons, it is a normal distribution."""
        z = np.linspace(-4, 4, 41)
        for level, readnoise in ((400.0, 1000.0), (1e10, 3.0)):
            noise = PhotonNoise(readnoise)
            sd = np.sqrt(level + readnoise**2)
            found = exposure_distribution(
                np.array([level]), (level + z * sd)[np.newaxis], noise
            )
            expected = norm.sf(z), norm.cdf(z), norm.pdf(z) / sd
            for ours, theirs in zip(found, expected, strict=True):
                assert_allclose(ours[0], theirs, rtol=5e-4)


class TestTables:
    """Distributions on the grid."""

    @pytest.mark.parametrize("shape", [np.inf, 20.0])
    def test_grid(self, shape):
        """Rows start at their grid point; densities sum up to 1."""
        noise = PhotonNoise(3.0, shape)
        nodes = np.array([0.0, 3.1, 12.25])
        tables = make_tables(nodes, noise)
        assert tables.above.shape == tables.density.shape == (3, tables.width)
        for i, node in enumerate(nodes):
            t = STEP * (tables.start[i] + np.arange(tables.width))
            level = float(noise.signal(node))
            exact = summed(level, noise.signal(t), noise)
            assert_allclose(tables.above[i], exact[0], rtol=2e-3, atol=1e-13)
            # Trapezoids, on a grid whose density of points bends at 0.
            assert tables.density[i].sum() == pytest.approx(1, abs=5e-4)

    def test_factor(self):
        """An exposure of another flux is divided by its factor."""
        noise, other = PhotonNoise(3.0), PhotonNoise(5.0)
        nodes = noise.coordinate(np.array([20.0, 500.0]))
        tables = make_tables(nodes, noise, other, 0.6, widening=2.0)
        assert tables.width > make_tables(nodes, noise).width
        for i, level in enumerate((20.0, 500.0)):
            t = STEP * (tables.start[i] + np.arange(tables.width))
            values = noise.signal(t)
            exact = summed(0.6 * level, 0.6 * values, other)
            assert_allclose(tables.above[i], exact[0], rtol=2e-3, atol=1e-13)
            assert tables.density[i].sum() == pytest.approx(1, abs=5e-4)
            mean = (tables.density[i] * values).sum()
            assert mean == pytest.approx(level, rel=1e-3)

    def test_beyond(self):
        """Behind a table nothing is left."""
        tables = make_tables(np.array([10.0]), PhotonNoise(3.0))
        tail = tables.beyond(tables.width - 2, 5)
        assert tail[0, :2].tolist() == tables.above[0, -2:].tolist()
        assert not tail[0, 2:].any()
