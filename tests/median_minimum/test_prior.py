# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the prior: the deconvolution of scenes that are known."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from ccdcr.exposures import CCDParameters
from ccdcr.median_minimum.exact_statistics import (
    EqualExposures,
    UnequalExposures,
    describe_exposures,
)
from ccdcr.median_minimum.noise_distribution import STEP, PhotonNoise
from ccdcr.median_minimum.prior import Histogram, deconvolve, find_prior, make_histogram

SHAPE = (400, 500)
GAIN, READNOISE = 2.0, 3.0


def draw(level, n=3, seed=1):
    """Return exposures of a scene in electrons, in adu."""
    rng = np.random.default_rng(seed)
    level = np.broadcast_to(level, SHAPE)
    electrons = rng.poisson(level, (n, *SHAPE)) + rng.normal(0, READNOISE, (n, *SHAPE))
    return (electrons / GAIN).astype(np.float32)


def prior_of(stack):
    """Return the prior of exposures, and how they are described."""
    exposures = EqualExposures(PhotonNoise(READNOISE), len(stack), GAIN)
    histogram = make_histogram(stack.min(axis=0), None, exposures)
    return deconvolve(histogram, exposures), exposures


class TestHistogram:
    """The histogram of the minimum."""

    @pytest.mark.parametrize("masked", [False, True])
    def test_numpy(self, masked):
        """Cells are centred on the grid of the coordinate."""
        image = np.random.default_rng(1).uniform(-20, 4000, SHAPE).astype(np.float32)
        use = np.random.default_rng(2).random(SHAPE) < 0.7 if masked else None
        noise = PhotonNoise(READNOISE)
        histogram = make_histogram(image, use, EqualExposures(noise, 3, GAIN))
        values = image.ravel() if use is None else image[use]
        t = noise.coordinate(np.multiply(values, GAIN, dtype=float)) / STEP
        edges = histogram.first - 0.5 + np.arange(len(histogram.counts) + 1)
        expected = np.histogram(np.maximum(t, -32), edges)[0]
        assert histogram.total == values.size
        # Of 200000 values a few are rounded to the other side of an edge.
        assert np.abs(histogram.counts - expected).sum() <= 20

    def test_outside(self):
        """What is beyond the grid, and not finite, is in its outer cells."""
        image = np.full(SHAPE, 10, np.float32)
        image[0, :3] = [-1e30, -1e9, 1e30]
        exposures = EqualExposures(PhotonNoise(READNOISE), 3, GAIN)
        histogram = make_histogram(image, None, exposures)
        assert histogram.total == image.size
        assert histogram.first * STEP == -8
        assert histogram.counts[0] == 2
        assert histogram.counts[-1] == 1

    def test_nothing(self):
        """Without pixels there is an empty histogram."""
        exposures = EqualExposures(PhotonNoise(READNOISE), 3, GAIN)
        nothing = make_histogram(np.ones(SHAPE), np.zeros(SHAPE, bool), exposures)
        assert nothing.total == 0


class TestDeconvolve:
    """The expected signals of scenes that are known."""

    @pytest.mark.parametrize("n", [3, 5])
    @pytest.mark.parametrize("level", [0.0, 50.0, 5000.0])
    def test_flat(self, level, n):
        """All pixels expect one signal, within a fraction of the noise."""
        prior, exposures = prior_of(draw(level, n))
        # What expectation maximisation conserves.
        assert prior.weights.sum() == pytest.approx(SHAPE[0] * SHAPE[1], rel=1e-3)
        assert np.all(prior.weights >= 0)
        mean = np.average(prior.nodes, weights=prior.weights)
        true = float(exposures.noise.coordinate(level))
        # The mean is known to 1 / sqrt(200000); the spread shrinks slowly.
        assert mean == pytest.approx(true, abs=0.1)
        spread = np.sqrt(np.average((prior.nodes - true) ** 2, weights=prior.weights))
        assert spread < 0.35

    def test_two_levels(self):
        """A quarter of the pixels is bright."""
        level = np.full(SHAPE, 40.0)
        level[:, 375:] = 400
        prior, exposures = prior_of(draw(level))
        assert prior.chi2 < 3
        middle = float(exposures.noise.coordinate(150.0))
        bright = prior.nodes > middle
        assert prior.weights[bright].sum() == pytest.approx(level.size / 4, rel=0.005)
        for part, true in ((~bright, 40.0), (bright, 400.0)):
            mean = np.average(prior.nodes[part], weights=prior.weights[part])
            expected = float(exposures.noise.coordinate(true))
            assert mean == pytest.approx(expected, abs=0.1)

    @pytest.mark.parametrize("n", [3, 4, 7])
    def test_smooth(self, n):
        """The histogram of a scene with all signals is explained: chi2 near 1."""
        level = np.geomspace(5, 20_000, SHAPE[0] * SHAPE[1]).reshape(SHAPE)
        prior, exposures = prior_of(draw(level, n))
        assert 0.5 < prior.chi2 < 1.3
        # Numbers of pixels between signals, to a few per cent.
        edges = np.array([20.0, 100, 1000, 10_000])
        found = np.histogram(
            prior.nodes, exposures.noise.coordinate(edges), weights=prior.weights
        )[0]
        assert_allclose(found, np.histogram(level, edges)[0], rtol=0.03)

    def test_wrong_noise(self):
        """With half the read noise that there is, the histogram is not explained."""
        stack = draw(0.0)
        exposures = EqualExposures(PhotonNoise(READNOISE / 2), 3, GAIN)
        histogram = make_histogram(stack.min(axis=0), None, exposures)
        assert deconvolve(histogram, exposures).chi2 > 20

    def test_empty(self):
        """No pixels, no weights."""
        exposures = EqualExposures(PhotonNoise(READNOISE), 3, GAIN)
        prior = deconvolve(Histogram(np.zeros(1), 0), exposures)
        assert prior.weights.sum() == pytest.approx(0, abs=1e-6)
        assert prior.chi2 == 0

    def test_repeated(self):
        """There is nothing random."""
        stack = draw(50.0)
        first, second = prior_of(stack)[0], prior_of(stack)[0]
        assert_array_equal(first.weights, second.weights)


class TestPrior:
    """What is done to it."""

    def test_flat_part(self):
        """0.2 pixels for each step of the grid, however fine the nodes are."""
        prior, _ = prior_of(draw(50.0))
        added = prior.with_flat().weights - prior.weights
        length = (prior.nodes[-1] - prior.nodes[0]) / STEP
        assert added.sum() == pytest.approx(0.2 * length, abs=0.3)
        assert np.all(added > 0)

    def test_thinned(self):
        """Fewer nodes, the same pixels at the same mean signal."""
        level = np.geomspace(5, 20_000, SHAPE[0] * SHAPE[1]).reshape(SHAPE)
        prior, _ = prior_of(draw(level))
        thin = prior.thinned()
        assert len(thin.nodes) < 0.8 * len(prior.nodes)
        assert thin.weights.sum() == pytest.approx(prior.weights.sum(), rel=1e-12)
        first, second = (np.average(p.nodes, weights=p.weights) for p in (prior, thin))
        assert second == pytest.approx(first, rel=1e-6)
        assert len(thin.tables[0].start) == len(thin.nodes)

    def test_all_is_found(self):
        """With its flat part and thinned, no pixel is lost."""
        stack = draw(50.0)
        exposures = EqualExposures(PhotonNoise(READNOISE), 3, GAIN)
        histogram = make_histogram(stack.min(axis=0), None, exposures)
        prior = find_prior(histogram, exposures)
        assert prior.weights.sum() == pytest.approx(stack[0].size, rel=2e-3)


class TestExposures:
    """Which exposures are equal."""

    DETECTOR = CCDParameters(GAIN, READNOISE, 0.0)

    @pytest.mark.parametrize(
        ("factors", "kind"),
        [
            ((1, 1, 1), EqualExposures),
            ((2, 2, 2), EqualExposures),
            ((0.95, 1, 1.05), UnequalExposures),
            ((0.95, 1, 1, 1.05), EqualExposures),
            ((0.8, 1, 1, 1.2), UnequalExposures),
            ((0.95,) * 5 + (1.05,) * 5, EqualExposures),
        ],
    )
    def test_kind(self, factors, kind):
        """Up to 10 % they are taken for equal, but for three."""
        exposures = describe_exposures(self.DETECTOR, np.array(factors, dtype=float))
        assert isinstance(exposures, kind)
        assert exposures.n == len(factors)

    def test_equal_flux_of_two(self):
        """Exposures of twice the flux, divided by it, have the noise of twice."""
        exposures = describe_exposures(self.DETECTOR, np.full(3, 2.0))
        assert exposures.scale == 2 * GAIN
        assert exposures.noise.readnoise == READNOISE

    def test_many(self):
        """More than 7 unequal ones take too long; the remedy is told."""
        factors = np.linspace(0.5, 1.5, 8)
        with pytest.raises(ValueError, match=r"allows 7 exposures.+got 8.+'spline'"):
            describe_exposures(self.DETECTOR, factors)

    def test_rounding(self):
        """Whole numbers add the variance of rounding, 1 / 12 of a unit."""
        exposures = describe_exposures(self.DETECTOR, np.ones(3), step=1.0)
        expected = np.sqrt(READNOISE**2 + GAIN**2 / 12)
        assert exposures.noise.readnoise == pytest.approx(expected)

    def test_least_readnoise(self):
        """Read noise is not below 0.3 electrons."""
        exposures = describe_exposures(CCDParameters(GAIN, 0.0, 0.0), np.ones(3))
        assert exposures.noise.readnoise == 0.3
