# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the pixels that are replaced by the median of a box around them."""

from statistics import median

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from ccdcr.combination.combine_rows import replace_by_local_median

#  y = 3:   9 10 11 12
#  y = 2:   5  6  7  8
#  y = 1:   1  2  3  4
DATA = np.arange(1.0, 13).reshape(3, 4)


def run(boxes, masked=(), data=DATA, sigma=None):
    """Return the image after the replacement and the pixels that failed."""
    data = data.copy()
    mask = np.zeros(data.shape, bool)
    for x, y in masked:
        mask[y - 1, x - 1] = True
        data[y - 1, x - 1] = np.nan
    failed = replace_by_local_median(data, mask, np.array(boxes), sigma)
    return data, failed


class TestReplaceByLocalMedian:
    """The value of single pixels."""

    @pytest.mark.parametrize(
        ("box", "expected"),
        [
            # 1 2 3 5 7 9 10 11 without the 6 itself
            ((2, 2, 3, 3), 6),
            ((2, 2, 3, 1), 6),
            ((3, 2, 1, 3), 7),
            # 3 4 8 11 12
            ((3, 2, 3, 3), (6 + 8) / 2),
            # corners: three neighbours
            ((1, 1, 3, 3), 5),
            ((4, 1, 3, 3), 7),
            ((1, 3, 3, 3), 6),
            ((4, 3, 3, 3), 8),
            # edges
            ((2, 1, 3, 3), 5),
            ((1, 2, 1, 3), 5),
            # wider than the image
            ((1, 1, 99, 1), 3),
            ((1, 1, 99, 99), 7),
            ((2, 2, 5, 1), 7),
        ],
    )
    def test_box(self, box, expected):
        """The box is cut at the edges and leaves out its pixel."""
        data, failed = run([box])
        x, y = box[:2]
        assert data[y - 1, x - 1] == expected
        data[y - 1, x - 1] = DATA[y - 1, x - 1]
        assert_array_equal(data, DATA)
        assert failed == []

    def test_order(self):
        """A box sees the results of the boxes before it."""
        data, _ = run([(1, 1, 3, 1), (2, 1, 3, 1), (1, 1, 3, 1)])
        # 2; then the median of 2 and 3; then that
        assert_array_equal(data[0], [2.5, 2.5, 3, 4])
        data, _ = run([(2, 1, 3, 1), (1, 1, 3, 1)])
        assert_array_equal(data[0], [2, 2, 3, 4])

    def test_masked_neighbours(self):
        """Masked pixels take no part."""
        data, failed = run([(2, 2, 3, 3)], masked=[(1, 1), (2, 1), (3, 1), (1, 2)])
        assert data[1, 1] == (9 + 10) / 2
        assert failed == []

    def test_no_neighbour(self):
        """Nothing is changed if all neighbours are masked; the rest is done."""
        sigma = np.ones(DATA.shape)
        boxes = [(1, 1, 3, 1), (4, 3, 3, 1), (3, 1, 3, 1)]
        data, failed = run(boxes, masked=[(2, 1), (3, 3)], sigma=sigma)
        assert failed == [(1, 1), (4, 3)]
        assert all(type(value) is int for pixel in failed for value in pixel)
        assert data[0, 0] == 1
        assert data[2, 3] == 12
        assert data[0, 2] == 4
        assert sigma[0, 0] == sigma[2, 3] == 1

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_random(self, dtype):
        """Many overlapping boxes, compared with a loop over all pixels."""
        rng = np.random.default_rng(3)
        image = rng.normal(100, 10, (9, 11)).astype(dtype)
        mask = rng.random(image.shape) < 0.3
        y, x = (index + 1 for index in np.nonzero(~mask))
        boxes = np.column_stack([x, y, *rng.choice([3, 5, 7], (2, len(x)))])
        rng.shuffle(boxes)
        expected = image.copy()
        for x, y, width, height in boxes:
            neighbours = [
                expected[j, i]
                for j, i in np.ndindex(image.shape)
                if abs(j + 1 - y) <= height // 2
                and abs(i + 1 - x) <= width // 2
                and (i + 1, j + 1) != (x, y)
                and not mask[j, i]
            ]
            expected[y - 1, x - 1] = median(neighbours)
        assert replace_by_local_median(image, mask, boxes) == []
        assert_allclose(image, expected, rtol=1e-6)
        assert image.dtype == dtype


class TestSigma:
    """The standard deviation of the median of the neighbours."""

    @pytest.mark.parametrize(
        ("box", "expected"),
        [
            # one neighbour has its own variance
            ((1, 1, 3, 1), 4),
            # two neighbours, the mean of variances 1 and 9 over 2
            ((2, 1, 3, 1), 2.5),
            # three, of which the median is 3 (1 - sqrt(3) / pi) worse than the mean
            ((2, 1, 99, 1), (1 + 9 + 25) / 3 * (1 - np.sqrt(3) / np.pi)),
        ],
    )
    def test_by_hand(self, box, expected):
        """Variances 1, 4, 9 and 25."""
        sigma = np.array([[1.0, 2, 3, 5]])
        run([box], data=DATA[:1], sigma=sigma)
        assert sigma[0, box[0] - 1] ** 2 == pytest.approx(expected, rel=1e-6)

    def test_masked(self):
        """Masked neighbours take no part."""
        sigma = np.array([[np.nan, 2, 3, 5]])
        run([(2, 1, 3, 1)], masked=[(1, 1)], data=DATA[:1], sigma=sigma)
        assert_array_equal(sigma, [[np.nan, 3, 3, 5]])

    @pytest.mark.parametrize("width", [3, 5, 13])
    def test_monte_carlo(self, width):
        """The variance of many medians, up to 168 neighbours."""
        rng = np.random.default_rng(width)
        n, center = 3000, width // 2 + 1
        boxes = np.array([(center, center, width, width)])
        values, mask = np.empty(n), np.zeros((width, width), bool)
        for i in range(n):
            image = rng.normal(0, 3, mask.shape)
            sigma = np.full(mask.shape, 3.0)
            replace_by_local_median(image, mask, boxes, sigma)
            values[i] = image[center - 1, center - 1]
        # the error of a variance is sqrt(2 / n) = 2.6 %
        variance = sigma[center - 1, center - 1] ** 2
        assert values.var() == pytest.approx(variance, rel=0.1)
