# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of 8-connected groups and dilation."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import ndimage

from ccdcr.utils.neighbours import dilate, groups_with_seed, label_groups, moved


@pytest.mark.parametrize("times", [0, 1, 2, 3])
def test_dilate(times):
    """The same as that many dilations by a square of 3 x 3."""
    mask = np.random.default_rng(1).random((30, 40)) > 0.98
    expected = mask
    for _ in range(times):
        expected = ndimage.binary_dilation(expected, np.ones((3, 3)))
    dilated = dilate(mask, times)
    assert_array_equal(dilated, expected)
    assert dilated is not mask


def test_label():
    """Groups touch at corners, too."""
    labels, number = label_groups(np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]]) > 0)
    assert number == 1
    assert labels.sum() == 3


def test_seed():
    """Groups touch at corners and need a seed; seeds elsewhere do not matter."""
    mask = np.array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=bool)
    seed = np.zeros_like(mask)
    seed[0, 0] = seed[0, 2] = True
    expected = np.zeros_like(mask)
    expected[0, 0] = expected[1, 1] = True
    assert_array_equal(groups_with_seed(mask, seed), expected)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("share", [0, 0.01, 1])
def test_propagation(share, order):
    """The same as seeds that spread in the mask, whatever its layout."""
    rng = np.random.default_rng(2)
    mask = np.asarray(rng.random((40, 50)) < 0.3, order=order)
    seed = rng.random(mask.shape) < share
    expected = ndimage.binary_propagation(seed & mask, np.ones((3, 3)), mask)
    assert_array_equal(groups_with_seed(mask, seed), expected)


def test_moved():
    """Places do not leave the image."""
    y, x = moved((np.array([0, 2, 4]), np.array([1, 6, 3])), (-1, 1), (5, 7))
    assert_array_equal(y, [0, 1, 3])
    assert_array_equal(x, [2, 6, 4])
