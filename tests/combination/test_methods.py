# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the methods on plain arrays; most numbers are worked out by hand."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from ccdcr.combination.methods import (
    METHODS,
    Stack,
    meancr,
    meancrt,
    mediancr,
)

# Four pixels of three exposures: medians 3, 5, 7, 2; means 4, 6, 20 / 3, 3.
DATA = np.array([[1.0, 5, 8, 2], [3, 4, 7, 1], [8, 9, 5, 6]])
VARIANCES = [np.full(4, 9.0), np.full(4, 16.0), np.full(4, 144.0)]
NONE = np.zeros(4, bool)


def sd_of_median(*sigmas):
    """Return that of three Gaussian values, by integration over its density."""
    x, step = np.linspace(-12 * max(sigmas), 12 * max(sigmas), 20001, retstep=True)
    pdf = [stats.norm.pdf(x, scale=s) for s in sigmas]
    cdf = [stats.norm.cdf(x, scale=s) for s in sigmas]
    density = sum(
        pdf[i] * (cdf[j] * (1 - cdf[k]) + cdf[k] * (1 - cdf[j]))
        for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1))
    )
    return np.sqrt(np.sum(x**2 * density) * step)


def mask(*pixels):
    """Return a mask of four pixels."""
    return np.isin(np.arange(4), pixels)


class TestStack:
    """The exposures and what is made of them."""

    def test_median(self):
        """The median and its variance."""
        value, variance = Stack(DATA, variances=VARIANCES).median()
        assert_array_equal(value, [3, 5, 7, 2])
        assert_allclose(variance, sd_of_median(3, 4, 12) ** 2, rtol=1e-6)

    def test_median_bad(self):
        """The median of two is their mean; of none it is NaN."""
        bad = np.array([mask(0, 3), mask(3), mask(3)])
        value, variance = Stack(DATA, bad, variances=VARIANCES).median()
        assert_array_equal(value, [5.5, 5, 7, np.nan])
        assert_allclose(variance[0], 160 / 4)
        assert np.isnan(variance[3])

    def test_mean(self):
        """The mean leaves out what is bad, and only that."""
        bad = np.array([mask(1), NONE, mask(2)])
        value, variance = Stack(DATA, bad, variances=VARIANCES).mean()
        assert_allclose(value, [4, 6.5, 7.5, 3])
        assert_allclose(variance, [169 / 9, 160 / 4, 25 / 4, 169 / 9])
        value, variance = Stack(DATA).mean()
        assert_allclose(value, [4, 6, 20 / 3, 3])

    @pytest.mark.parametrize("per_pixel", [False, True])
    def test_weights(self, per_pixel):
        """Weights 4, 3 and 0."""
        weights = np.array([4.0, 3.0, 0.0])
        if per_pixel:
            weights = np.repeat(weights[:, np.newaxis], 4, axis=1)
        value, variance = Stack(DATA, weights=weights, variances=VARIANCES).mean()
        assert_allclose(value, np.array([13, 32, 53, 11]) / 7)
        assert_allclose(variance, 288 / 49)

    def test_lowest(self):
        """The minimum, with the variance of the exposure that has it."""
        value, variance = Stack(DATA, variances=VARIANCES).lowest()
        assert_array_equal(value, [1, 4, 5, 1])
        assert_array_equal(variance, [9, 16, 144, 16])

    def test_lowest_bad(self):
        """A bad exposure is not the minimum, whatever its value."""
        bad = np.array([mask(0), mask(1), mask(2), mask(3)])[:3]
        data = np.where(bad, -1e30, DATA)
        value, variance = Stack(data, bad, variances=VARIANCES).lowest()
        assert_array_equal(value, [3, 5, 7, 1])
        assert_array_equal(variance, [16, 9, 16, 16])

    def test_substitute(self):
        """What stands in for the minimum."""
        stack = Stack(DATA, variances=VARIANCES, substitute=np.arange(4.0))
        value, variance = stack.lowest()
        assert_array_equal(value, [0, 1, 2, 3])
        assert (variance > 0).all()

    @pytest.mark.parametrize("kind", ["median", "mean", "lowest"])
    def test_no_variance(self, kind):
        """No variance is made of none."""
        assert getattr(Stack(DATA), kind)()[1] is None

    def test_scatter(self):
        """The scatter, and the given variance where there is none."""
        data = np.array([[1.0, 2], [3, 2], [8, 2]])
        stack = Stack(data, variances=[v[:2] for v in VARIANCES], scatter=True)
        # deviations -3, -1, 4 from the mean; 2, 0, 5 from the median
        assert_allclose(stack.mean()[1], [26 / 9, 169 / 9])
        assert_allclose(
            stack.median()[1],
            [(1.482602218505602 * 2) ** 2 / 3, sd_of_median(3, 4, 12) ** 2],
            rtol=1e-6,
        )
        # one exposure has no scatter
        assert_array_equal(stack.lowest()[1], [9, 9])

    @pytest.mark.parametrize("per_pixel", [False, True])
    @pytest.mark.parametrize("with_all", [False, True])
    def test_at(self, per_pixel, with_all):
        """Some pixels of all arrays that there are."""
        weights = np.arange(12.0).reshape(3, 4) if per_pixel else np.arange(3.0)
        bad = np.array([mask(0), mask(1), mask(2)])
        stack = Stack(DATA)
        if with_all:
            stack = Stack(DATA, bad, weights, VARIANCES, True, np.arange(4.0))
        part = stack.at(np.array([1, 3]))
        assert_array_equal(part.data, [[5, 2], [4, 1], [9, 6]])
        assert part.scatter is with_all
        if not with_all:
            assert part.bad is part.weights is part.variances is part.substitute is None
            return
        assert_array_equal(part.bad, [[False, False], [True, False], [False, False]])
        expected = [[1, 3], [5, 7], [9, 11]] if per_pixel else [0, 1, 2]
        assert_array_equal(part.weights, expected)
        assert_array_equal(part.variances, [[9, 9], [16, 16], [144, 144]])
        assert_array_equal(part.substitute, [1, 3])


class TestMethods:
    """The methods as functions."""

    def test_mediancr(self):
        """The median, the minimum where it is wrong."""
        result = mediancr(Stack(DATA, variances=VARIANCES), {"MEDIANCR": mask(0, 2)})
        assert_array_equal(result.value, [1, 5, 5, 2])
        middle = sd_of_median(3, 4, 12) ** 2
        assert_allclose(result.variance, [9, middle, 144, middle], rtol=1e-6)
        assert_array_equal(result.replaced, mask(0, 2))

    def test_meancrt(self):
        """The mean; the median where hit, the minimum where that is wrong."""
        masks = {"MEANCRT": mask(0, 1), "MEDIANCR": mask(1, 2)}
        result = meancrt(Stack(DATA, variances=VARIANCES), masks)
        assert_allclose(result.value, [3, 4, 20 / 3, 3])
        expected = [sd_of_median(3, 4, 12) ** 2, 16, 169 / 9, 169 / 9]
        assert_allclose(result.variance, expected, rtol=1e-6)
        assert_array_equal(result.replaced, mask(0, 1))

    def test_meancr(self):
        """The mean without hits; the minimum where none is left."""
        crmasks = np.array([mask(1, 2), mask(2), mask(0, 2)])
        result = meancr(Stack(DATA, variances=VARIANCES), {"CRMASKS": crmasks})
        assert_allclose(result.value, [2, 6.5, 5, 3])
        assert_allclose(result.variance, [25 / 4, 160 / 4, 144, 169 / 9])
        assert_array_equal(result.replaced, mask(2))

    def test_meancr2(self):
        """Also the minimum where MEANCR is set."""
        crmasks = np.array([mask(1), mask(1), mask(0, 1)])
        masks = {"CRMASKS": crmasks, "MEANCR": mask(0, 3)}
        result = meancr(Stack(DATA), masks)
        assert_allclose(result.value, [1, 4, 20 / 3, 1])
        assert_array_equal(result.replaced, mask(0, 1, 3))
        assert_array_equal(masks["MEANCR"], mask(0, 3))

    @pytest.mark.parametrize("name", METHODS)
    def test_bad(self, name):
        """Bad exposures count for nothing; all bad is not a number."""
        data = np.vstack([DATA, np.full(4, -1e30)])
        bad = np.array([mask(3), mask(3), mask(3), mask(0, 1, 2, 3)])
        masks = {
            "MEDIANCR": mask(0),
            "MEANCRT": mask(0),
            "CRMASKS": np.array([mask(0)] * 4),
            "MEANCR": mask(0),
        }
        function, needed = METHODS[name]
        result = function(Stack(data, bad), {key: masks[key] for key in needed})
        expected = [1, 5, 7] if name == "mediancr" else [1, 6, 20 / 3]
        assert_allclose(result.value[:3], expected)
        assert not np.isfinite(result.value[3])

    @pytest.mark.parametrize("name", METHODS)
    def test_unchanged(self, name):
        """The exposures and masks are not modified."""
        data, masks = (
            DATA.copy(),
            {
                "MEDIANCR": mask(0),
                "MEANCRT": mask(0, 1),
                "CRMASKS": np.array([mask(2)] * 3),
                "MEANCR": mask(1),
            },
        )
        variances = [v.copy() for v in VARIANCES]
        METHODS[name][0](Stack(data, variances=variances), masks)
        assert_array_equal(data, DATA)
        assert_array_equal(variances, VARIANCES)
        assert_array_equal(masks["MEANCR"], mask(1))
        assert_array_equal(masks["CRMASKS"], [mask(2)] * 3)

    def test_table(self):
        """The masks that each method reads."""
        assert {name: needed for name, (_, needed) in METHODS.items()} == {
            "mediancr": ("MEDIANCR",),
            "meancrt": ("MEANCRT", "MEDIANCR"),
            "meancr": ("CRMASKS",),
            "meancr2": ("CRMASKS", "MEANCR"),
        }


def test_substitute_that_is_not_finite():
    """Where LAMEDIAN has no value the minimum is taken."""
    stack = Stack(
        np.array([[5.0, 5], [7, 7], [9, 9]]), substitute=np.array([np.nan, 6])
    )
    combined = mediancr(stack, {"MEDIANCR": np.array([True, True])})
    assert combined.value.tolist() == [5, 6]
