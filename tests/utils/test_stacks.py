# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the statistics over exposures, against NaN-aware ones of numpy."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from ccdcr.utils import stacks

SHAPE = (7, 11)
NUMBERS = [1, 2, 3, 4, 5, 6, 7, 9]
DTYPES = [np.float32, np.float64]


def make_stack(n, dtype=np.float64, *, masked=False, ties=False, seed=1):
    """Return random exposures, with NaN of which is bad in a second array."""
    rng = np.random.default_rng(seed + n)
    stack = rng.normal(100, 20, (n, *SHAPE)).astype(dtype)
    if ties:
        stack = np.round(stack / 20)
    if not masked:
        return stack, None, stack.astype(np.float64)
    bad = rng.random(stack.shape) < 0.3
    bad[:, 0, 0] = True  # a pixel without any exposure
    bad[:, 1, 1] = False
    truth = np.where(bad, np.nan, stack.astype(np.float64))
    # under the mask may be anything
    junk = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30])
    stack[bad] = rng.choice(junk, bad.sum())
    return stack, bad, truth


def quiet(function, *args, **kwargs):
    """Call a function of numpy that warns where all values are NaN."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return function(*args, **kwargs)


def dtype_rtol(dtype):
    """Return a few units in the last place."""
    return 4 * np.finfo(dtype).eps


class TestCount:
    """Number of exposures that take part."""

    def test_no_mask(self):
        """Without a mask all take part."""
        assert stacks.count(None, 5) == 5

    @pytest.mark.parametrize("n", NUMBERS)
    def test_mask(self, n):
        """The good ones are counted."""
        _, bad, truth = make_stack(n, masked=True)
        result = stacks.count(bad, n)
        assert result.dtype == np.int16
        assert_array_equal(result, np.isfinite(truth).sum(axis=0))


class TestWithout:
    """Bad values replaced by a number."""

    def test_nothing_bad(self):
        """No copy is made when nothing is to be done."""
        plane = np.ones(SHAPE)
        assert stacks.without(plane, None, 0) is plane
        assert stacks.without(plane, np.zeros(SHAPE, bool), 0) is plane

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_replaced(self, dtype):
        """Type and input stay as they were."""
        plane = np.array([1, np.nan, 3], dtype=dtype)
        result = stacks.without(plane, np.array([False, True, False]), -5)
        assert result.dtype == dtype
        assert_array_equal(result, [1, -5, 3])
        assert np.isnan(plane[1])


@pytest.mark.parametrize("n", NUMBERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("ties", [False, True])
class TestAgainstNumpy:
    """Results agree with the functions of numpy on values set to NaN."""

    def test_median(self, n, dtype, masked, ties):
        """The median is exact but for the rounding of the mean of two values."""
        stack, bad, truth = make_stack(n, dtype, masked=masked, ties=ties)
        result = stacks.median(stack, bad)
        expected = quiet(np.nanmedian, truth, axis=0)
        assert result.dtype == dtype
        assert np.isnan(result[0, 0]) == masked
        assert_allclose(result, expected, rtol=dtype_rtol(dtype))

    def test_lowest(self, n, dtype, masked, ties):
        """The minimum is exact, and its index the first that has it."""
        stack, bad, truth = make_stack(n, dtype, masked=masked, ties=ties)
        value, index = stacks.lowest(stack, bad)
        filled = np.where(np.isnan(truth), np.inf, truth)
        assert value.dtype == dtype
        assert index.dtype == np.int16
        assert_array_equal(value, filled.min(axis=0))
        assert_array_equal(index, filled.argmin(axis=0))
        assert np.isinf(value[0, 0]) == masked

    @pytest.mark.parametrize("weighted", ["no", "exposure", "pixel"])
    def test_mean(self, n, dtype, masked, ties, weighted):
        """The mean is that of float64, whatever the type."""
        stack, bad, truth = make_stack(n, dtype, masked=masked, ties=ties)
        rng = np.random.default_rng(n)
        weights = {
            "no": None,
            "exposure": rng.uniform(0.5, 2, n),
            "pixel": rng.uniform(0.5, 2, stack.shape),
        }[weighted]
        result = stacks.mean(stack, bad, weights)
        full = np.ones(n) if weights is None else weights
        full = np.broadcast_to(full.reshape(n, *full.shape[1:] or (1, 1)), stack.shape)
        good = np.isfinite(truth)
        total = np.where(good, truth * full, 0).sum(axis=0)
        expected = quiet(np.divide, total, np.where(good, full, 0).sum(axis=0))
        assert result.dtype == np.float64
        assert np.isnan(result[0, 0]) == masked
        assert_allclose(result, expected, rtol=1e-13)


class TestByHand:
    """Results that can be seen."""

    stack = np.array([[1.0, 8], [5, 2], [3, 9], [100, 4]])
    bad = np.array([[0, 1], [0, 0], [0, 1], [1, 1]], dtype=bool)

    def test_median(self):
        """Three good values, one good value."""
        assert_array_equal(stacks.median(self.stack, self.bad), [3, 2])
        assert_array_equal(stacks.median(self.stack), [4, 6])

    def test_median_of_two(self):
        """Two good values of four."""
        bad = np.array([[0, 0], [1, 1], [0, 0], [1, 1]], dtype=bool)
        assert_array_equal(stacks.median(self.stack, bad), [2, 8.5])

    def test_above_others(self):
        """Values above the median of the others; NaN are ignored."""
        above = stacks.above_others(np.where(self.bad, np.nan, self.stack))
        assert_array_equal(above.T, [[-3, 3, 0, np.nan], [np.nan] * 4])

    def test_mean(self):
        """With and without weights."""
        assert_array_equal(stacks.mean(self.stack, self.bad), [3, 2])
        weights = np.array([2, 1, 1, 50])
        assert_array_equal(stacks.mean(self.stack, self.bad, weights), [2.5, 2])

    def test_lowest(self):
        """Value and index."""
        value, index = stacks.lowest(self.stack, ~self.bad)
        assert_array_equal(value, [100, 4])
        assert_array_equal(index, [3, 3])

    def test_weight_zero(self):
        """A pixel whose weights are all zero has no mean."""
        result = stacks.mean(self.stack, None, np.zeros(4))
        assert_array_equal(result, [np.nan, np.nan])

    def test_mean_accumulates_in_float64(self):
        """A float32 sum would lose the small value."""
        stack = np.array([[1e8], [1], [-1e8]], dtype=np.float32)
        assert_allclose(stacks.mean(stack), 1 / 3, rtol=1e-15)


class TestManyExposures:
    """Above the number for which there are networks."""

    @pytest.mark.parametrize("n", [64, 65, 66, 101])
    @pytest.mark.parametrize("with_bottleneck", [False, True])
    @pytest.mark.parametrize("masked", [False, True])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_median(self, n, with_bottleneck, masked, dtype, monkeypatch):
        """With bottleneck and without it."""
        if not with_bottleneck:
            monkeypatch.setattr(stacks, "bottleneck", None)
        elif stacks.bottleneck is None:
            pytest.skip("bottleneck is not installed")
        stack, bad, truth = make_stack(n, dtype, masked=masked)
        result = stacks.median(stack, bad)
        assert result.dtype == dtype
        expected = quiet(np.nanmedian, truth, axis=0)
        assert_allclose(result, expected, rtol=dtype_rtol(dtype))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("n", [3, 4, 5, 8])
def test_pixels_apart(n, masked):
    """A pixel has the same bits whatever is combined with it, zeros included."""
    stack, bad, _ = make_stack(n, np.float32, masked=masked, ties=True)
    stack = np.where(np.isfinite(stack), stack - 5, stack)
    stack[np.random.default_rng(1).random(stack.shape) < 0.3] = -0.0
    whole = stacks.median(stack, bad)
    for y, x in np.ndindex(SHAPE):
        pixel = np.s_[:, y : y + 1, x : x + 1]
        part = stacks.median(stack[pixel], None if bad is None else bad[pixel])
        assert part.tobytes() == whole[y, x].tobytes()


class TestPermutations:
    """The networks sort whatever the order."""

    @pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 7, 8, 11, 15])
    def test_all_orders_of_zeros_and_ones(self, n):
        """A network that is right for all zeros and ones is right for all numbers."""
        columns = np.arange(2**n)
        stack = ((columns >> np.arange(n)[:, np.newaxis]) & 1).astype(float)
        assert_array_equal(stacks.median(stack), np.median(stack, axis=0))

    @pytest.mark.parametrize("n", [3, 4, 5])
    def test_all_masks(self, n):
        """Every combination of bad exposures."""
        columns = np.arange(2**n)
        bad = ((columns >> np.arange(n)[:, np.newaxis]) & 1).astype(bool)
        stack = np.random.default_rng(4).normal(size=bad.shape)
        expected = quiet(np.nanmedian, np.where(bad, np.nan, stack), axis=0)
        assert_allclose(stacks.median(stack, bad), expected, rtol=1e-15)


@pytest.mark.parametrize("n", NUMBERS)
@pytest.mark.parametrize("function", ["median", "mean", "lowest"])
@pytest.mark.parametrize("masked", [False, True])
def test_input_not_modified(n, function, masked):
    """Neither the stack nor the mask changes, and the result is no view."""
    stack, bad, _ = make_stack(n, masked=masked)
    before = stack.copy(), None if bad is None else bad.copy()
    result = getattr(stacks, function)(stack, bad)
    result = result[0] if function == "lowest" else result
    assert not np.shares_memory(result, stack)
    assert_array_equal(stack, before[0])
    if masked:
        assert_array_equal(bad, before[1])


@pytest.mark.parametrize("function", ["median", "mean", "lowest"])
def test_mask_of_nothing(function):
    """A mask that is False everywhere changes nothing."""
    stack, _, _ = make_stack(4)
    first = getattr(stacks, function)(stack)
    second = getattr(stacks, function)(stack, np.zeros(stack.shape, bool))
    assert_array_equal(np.asarray(first), np.asarray(second))
