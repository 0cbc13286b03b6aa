# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the planes that detection works on."""

import numpy as np
import pytest

from ccdcr.utils.planes import fill_from_nearest, make_planes


def test_planes_by_hand():
    """Minimum, its exposure, median and mean of two pixels."""
    stack = np.array([[[4.0, 1]], [[2, 9]], [[9, 5]]], dtype=np.float32)
    planes = make_planes(stack)
    assert planes.minimum.tolist() == [[2, 1]]
    assert planes.lowest_index.tolist() == [[1, 0]]
    assert planes.median.tolist() == [[4, 5]]
    assert planes.mean.tolist() == [[5, 5]]
    assert planes.nogood is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e30])
def test_bad_values_take_no_part(value):
    """A bad value has no influence; without a good one the neighbour stands in."""
    stack = np.ones((3, 1, 3), dtype=np.float32)
    stack[1:, 0, 0] = 2, 4
    stack[0, 0, 0] = stack[:, 0, 2] = value
    bad = stack == value if np.isfinite(value) else ~np.isfinite(stack)
    planes = make_planes(stack, bad)
    assert planes.minimum.tolist() == [[2, 1, 1]]
    assert planes.lowest_index[0, 0] == 1
    assert planes.median.tolist() == [[3, 1, 1]]
    assert planes.mean.tolist() == [[3, 1, 1]]
    assert planes.nogood.tolist() == [[False, False, True]]


def test_fill_from_nearest():
    """Bad pixels get the nearest good value; an image without one is 0."""
    image = np.array([[1.0, np.nan, np.nan, 7.0]])
    filled = fill_from_nearest(image, np.isnan(image))
    assert filled.tolist() == [[1, 1, 7, 7]]
    assert fill_from_nearest(image, np.ones((1, 4), bool)).tolist() == [[0] * 4]
