# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the variances: worked out by hand, or random numbers."""

import numpy as np
import pytest
from astropy.nddata import (
    CCDData,
    InverseVariance,
    StdDevUncertainty,
    UnknownUncertainty,
    VarianceUncertainty,
)
from astropy.stats import mad_std
from numpy.testing import assert_allclose, assert_array_equal

from ccdcr.combination.methods import (
    mean_variance,
    median_variance,
    scatter_variance,
)
from ccdcr.exposures import Exposure
from ccdcr.exposures.ccd_parameters import compute_variance as variance_of_array
from ccdcr.exposures.ccd_parameters import model_variance

SIGMA = np.array([[1.0, 2], [3, 4], [5, 6]])


def ccd_of(uncertainty, unit="adu"):
    """Return an exposure of ones."""
    return CCDData(np.ones((3, 2)), unit=unit, uncertainty=uncertainty)


def compute_variance(ccd, rows):
    """Return the variance that some rows of an exposure come with."""
    uncertainty = ccd.uncertainty
    array, unit = uncertainty.array[rows], uncertainty.unit
    return variance_of_array(array, type(uncertainty), unit, ccd.unit)


class TestHasVariance:
    """Whether an uncertainty can be used."""

    @pytest.mark.parametrize("cls", [StdDevUncertainty, VarianceUncertainty])
    def test_yes(self, cls):
        """An array of a class that says what it is."""
        assert Exposure.from_ccd(ccd_of(cls(SIGMA))).has_variance

    @pytest.mark.parametrize(
        "uncertainty", [None, UnknownUncertainty(SIGMA), StdDevUncertainty(None)]
    )
    def test_no(self, uncertainty):
        """None, no array, or nobody knows what."""
        assert not Exposure.from_ccd(ccd_of(uncertainty)).has_variance


class TestVarianceOf:
    """The variance that an exposure comes with."""

    @pytest.mark.parametrize(
        "uncertainty",
        [
            StdDevUncertainty(SIGMA),
            VarianceUncertainty(SIGMA**2),
            InverseVariance(SIGMA**-2),
            StdDevUncertainty(SIGMA.astype("float32")),
        ],
    )
    @pytest.mark.parametrize("rows", [slice(0, 3), slice(1, 3), slice(0, 1)])
    def test_classes(self, uncertainty, rows):
        """Each class, rows by rows, in float64."""
        result = compute_variance(ccd_of(uncertainty), rows)
        assert_allclose(result, SIGMA[rows] ** 2, rtol=1e-14)
        assert result.dtype == np.float64

    @pytest.mark.parametrize(
        ("uncertainty", "factor"),
        [
            (StdDevUncertainty(SIGMA, unit="Jy"), 1),
            (StdDevUncertainty(SIGMA, unit="mJy"), 1e-6),
            (VarianceUncertainty(SIGMA**2, unit="mJy2"), 1e-6),
            (InverseVariance(SIGMA**-2, unit="mJy-2"), 1e-6),
        ],
    )
    def test_unit(self, uncertainty, factor):
        """It is in the squared unit of the exposure."""
        result = compute_variance(ccd_of(uncertainty, unit="Jy"), slice(0, 3))
        assert_allclose(result, SIGMA**2 * factor, rtol=1e-14)

    def test_inverse_of_zero(self):
        """An inverse variance of 0 is no warning."""
        result = compute_variance(
            ccd_of(InverseVariance(np.zeros((3, 2)))), slice(0, 3)
        )
        assert (result == np.inf).all()

    def test_unchanged(self):
        """The exposure keeps its uncertainty."""
        ccd = ccd_of(StdDevUncertainty(SIGMA.copy()))
        compute_variance(ccd, slice(0, 3))[:] = -1
        assert_array_equal(ccd.uncertainty.array, SIGMA)
        assert type(ccd.uncertainty) is StdDevUncertainty


class TestModelVariance:
    """The noise model of a CCD."""

    @pytest.mark.parametrize("dtype", ["float32", "float64", "uint16"])
    def test_by_hand(self, dtype):
        """Gain 2, read noise 6, bias 10."""
        data = np.array([[10, 20], [5, 110]], dtype=dtype)
        result = model_variance(data, 2.0, 6.0, 10.0)
        assert_array_equal(result, [[9, 14], [9, 59]])
        assert result.dtype == ("float32" if dtype == "float32" else "float64")

    @pytest.mark.parametrize("gain", [0.5, 1.0, 3.0])
    def test_monte_carlo(self, gain):
        """The variance of simulated photons and read noise."""
        rng = np.random.default_rng(1)
        n = 100_000
        electrons = rng.poisson(300, n) + rng.normal(0, 7, n)
        data = electrons / gain + 50
        expected = model_variance(np.array([300 / gain + 50]), gain, 7, 50)
        # the error of a variance is sqrt(2 / n) = 0.45 %
        assert data.var() == pytest.approx(expected[0], rel=0.02)


class TestMeanVariance:
    """The variance of a weighted mean."""

    VARIANCES = (np.array([9.0, 9, 9]), np.array([16.0, 16, 16]), np.full(3, 144.0))

    def test_plain(self):
        """(9 + 16 + 144) / 9."""
        assert_allclose(mean_variance(self.VARIANCES), 169 / 9)

    def test_bad(self):
        """Over what is good; NaN where nothing is."""
        bad = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 1]], dtype=bool)
        variances = np.where(bad, np.nan, self.VARIANCES)
        assert_allclose(mean_variance(variances, bad), [25 / 4, 9, np.nan])

    @pytest.mark.parametrize("per_pixel", [False, True])
    def test_weights(self, per_pixel):
        """Weights 4, 3, 1: (12^2 + 12^2 + 12^2) / 64; 288 / 49 without the last."""
        weights = np.array([4.0, 3.0, 1.0])
        if per_pixel:
            weights = np.repeat(weights[:, np.newaxis], 3, axis=1)
        bad = np.zeros((3, 3), bool)
        bad[2, 1] = True
        expected = [432 / 64, 288 / 49, 432 / 64]
        assert_allclose(mean_variance(self.VARIANCES, bad, weights), expected)
        assert_allclose(mean_variance(self.VARIANCES, None, weights), 432 / 64)

    @pytest.mark.parametrize("value", [np.inf, np.nan])
    @pytest.mark.parametrize("per_pixel", [False, True])
    def test_weight_zero(self, value, per_pixel):
        """What has no weight takes no part, also if its variance is not finite."""
        weights = np.array([1.0, 1.0, 0.0])
        if per_pixel:
            weights = np.repeat(weights[:, np.newaxis], 3, axis=1)
        variances = [*self.VARIANCES[:2], np.full(3, value)]
        assert_allclose(mean_variance(variances, None, weights), 25 / 4)


class TestMedianVariance:
    """The variance of a median."""

    # efficiency of the median of n values (Dixon & Massey, table 8a)
    EFFICIENCY = ((1, 1.0), (2, 1.0), (3, 0.743), (4, 0.838), (5, 0.697), (6, 0.776))

    @pytest.mark.parametrize(("n", "efficiency"), EFFICIENCY)
    def test_plain(self, n, efficiency):
        """The variance of the mean over the efficiency."""
        result = median_variance([np.array([9.0])] * n)
        assert_allclose(result, 9 / n / efficiency, rtol=1e-3)

    @pytest.mark.parametrize(("n", "efficiency"), EFFICIENCY)
    def test_bad(self, n, efficiency):
        """What counts is the number of good exposures."""
        bad = np.arange(6)[:, np.newaxis] >= n
        variances = np.where(bad, np.nan, 9.0)
        assert_allclose(median_variance(variances, bad), 9 / n / efficiency, rtol=1e-3)

    @pytest.mark.parametrize(
        "sigmas",
        [
            [1, 1.15, 1.2],
            [1, 2, 3],
            [3, 4, 12],
            [1, 1, 100],
            [1, 1.5, 2, 2],
            [1, 2, 3, 1.5, 1],
            [1, 1, 1, 1, 30],
            [1, 1.2, 1.4, 1.6, 1.8, 2],
            [0.5, 0.7, 1, 1.2, 1.5, 1, 1.5],
        ],
    )
    @pytest.mark.parametrize("more", [0, 2])
    def test_unequal(self, sigmas, more):
        """Monte Carlo: the standard deviation is right to 6 percent."""
        rng = np.random.default_rng(4)
        values = rng.normal(0, np.array(sigmas)[:, np.newaxis], (len(sigmas), 40000))
        variances = np.square(np.array(sigmas + [np.nan] * more))[:, np.newaxis]
        bad = np.isnan(variances) if more else None
        result = np.sqrt(median_variance(list(variances), bad))
        assert_allclose(result, np.median(values, axis=0).std(), rtol=0.06)

    def test_unknown(self):
        """One infinite variance of three hardly matters, two do."""
        inf = np.array([np.inf])
        one = median_variance([np.ones(1), np.ones(1), inf])
        # an endless value on either side: the larger or the lower one of two
        assert_allclose(one, 1, rtol=1e-3)
        assert median_variance([np.ones(1), inf, inf]) == np.inf
        assert median_variance([inf, inf, inf, inf]) == np.inf

    def test_none_good(self):
        """NaN where every exposure is bad."""
        result = median_variance(np.ones((2, 1)), np.ones((2, 1), bool))
        assert np.isnan(result).all()


class TestScatterVariance:
    """ccdproc's convention."""

    @pytest.mark.parametrize("n", [2, 3, 4, 5, 7])
    @pytest.mark.parametrize("kind", ["mean", "median"])
    def test_plain(self, n, kind):
        """Standard deviation or MAD over the root of the number."""
        stack = np.random.default_rng(n).normal(50, 5, (n, 20))
        spread = stack.std(axis=0) if kind == "mean" else mad_std(stack, axis=0)
        result = scatter_variance(stack, None, kind)
        assert_allclose(result, spread**2 / n, rtol=1e-10)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
    def test_bad(self, dtype, value):
        """1, 3 and 8 are good; then 1 and 3; then 1; then nothing."""
        stack = np.tile(np.array([[1], [3], [8], [5]], dtype), 4)
        bad = np.zeros(stack.shape, bool)
        for i in range(4):
            bad[3 - i :, i] = True
        stack[bad] = value
        mean = scatter_variance(stack, bad, "mean")
        assert_allclose(mean[:2], [26 / 9, 0.5], rtol=1e-6)
        median = scatter_variance(stack, bad, "median")
        expected = 1.482602218505602**2 * np.array([4 / 3, 1 / 2])
        assert_allclose(median[:2], expected, rtol=1e-6)
        for result in (mean, median):
            assert result[2] == 0
            assert np.isnan(result[3])
            assert result.dtype == np.float64


def test_no_signal_without_read_noise():
    """The variance is never 0: at least that of one electron, in adu."""
    variance = model_variance(np.array([-3.0, 0.0, 8.0]), 2.0, 0.0, 0.0)
    np.testing.assert_allclose(variance, [0.25, 0.25, 4.0])
