# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of bands of rows."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from ccdcr.utils.neighbours import bands_in_cache, cut_bands, with_halo


@pytest.mark.parametrize("pixels", [1, 11, 25, 1000])
def test_all_rows(pixels):
    """Each row is in one band, and none is beyond the image."""
    bands = cut_bands((7, 11), pixels)
    rows = [y for band in bands for y in range(band.start, band.stop)]
    assert rows == list(range(7))
    assert max(band.stop - band.start for band in bands) <= max(pixels // 11, 1)


@pytest.mark.parametrize(
    ("shape", "step", "longer"),
    [((10, 7), 1, 1), ((5000, 900), 64, 1), ((5000, 900), 1, 4)],
)
def test_in_cache(shape, step, longer):
    """They hold about as many pixels each, in multiples of the step."""
    bands = bands_in_cache(shape, step=step, longer=longer)
    rows = [y for band in bands for y in range(band.start, band.stop)]
    assert rows == list(range(shape[0]))
    heights = [band.stop - band.start for band in bands]
    assert all(height % step == 0 for height in heights[:-1])
    assert all(height <= longer * 2**17 / shape[1] for height in heights)


def test_halo():
    """The inner slice of the wider one is the slice itself."""
    rows = np.arange(100)
    for part in (slice(0, 20), slice(40, 60), slice(95, 100)):
        wide, inside = with_halo(part, 7, 100)
        assert_array_equal(rows[wide][inside], rows[part])
        assert wide.start == max(part.start - 7, 0)
