# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of padding, which is found and ignored."""

import warnings

import numpy as np
import pytest
from astropy.nddata import CCDData
from numpy.testing import assert_array_equal

from ccdcr import detect_cosmic_rays
from ccdcr.simulation import simulate_exposures
from ccdcr.utils.padding import find_padding

SHAPE = (90, 110)
RIGHT, TOP = np.s_[:, 80:], np.s_[78:]


def draw(n=2, mean=1.0, seed=1):
    """Return counted photons (n, ny, nx) without read noise."""
    return np.random.default_rng(seed).poisson(mean, (n, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize("value", [0, 200.5, 1e5])
@pytest.mark.parametrize("part", [RIGHT, TOP, np.s_[:, 7]])
def test_found(part, value):
    """Areas and columns of one value, of one of their own, too."""
    data, expected = draw(mean=200), np.zeros(SHAPE, dtype=bool)
    expected[part] = True
    for i, plane in enumerate(data):
        plane[part] = value + i
    assert_array_equal(find_padding(data, None), expected)
    data[0][part] = draw(1, 200)[0][part]
    assert not find_padding(data, None).any()


def test_lines():
    """Each column or row may have its own value."""
    data = draw(mean=200)
    data[:, :, 80:] = np.arange(30)
    data[:, :6] = np.arange(6)[:, np.newaxis]
    expected = np.zeros(SHAPE, dtype=bool)
    expected[RIGHT] = expected[:6] = True
    assert_array_equal(find_padding(data, None), expected)


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("mean", [0.003, 0.03, 0.1, 0.3])
def test_few_electrons(n, mean):
    """Where most of the pixels have 0 electrons this is their noise."""
    assert not find_padding(draw(n, mean), None).any()
    data = draw(n, 50)
    data[:, 20:70] = draw(n, mean)[:, 20:70]
    assert not find_padding(data, None).any()


def test_no_padding():
    """Constant, small and unknown images, and saturated traces, have none."""
    assert not find_padding(np.ones((2, *SHAPE), dtype=np.float32), None).any()
    assert not find_padding(np.zeros((2, 5, 90), dtype=np.float32), None).any()
    unknown = np.full((2, *SHAPE), np.nan, dtype=np.float32)
    assert not find_padding(unknown, np.ones(unknown.shape, bool)).any()
    trace = 1e5 * np.exp(-((np.arange(90.0) - 40) ** 2) / 12)
    data = np.minimum(draw(mean=100) + trace[:, np.newaxis], 60000)
    data[1] *= 0.5  # counts of another gain
    assert not find_padding(data.astype(np.float32), None).any()


@pytest.mark.parametrize("crmethod", ["matched", "mm_lacosmic"])
@pytest.mark.parametrize("value", [0.0, 40.0, 2e4])
def test_detection(value, crmethod):
    """Padding does not change the masks, and no noise is said to be wrong."""
    sim = simulate_exposures((120, 140), scene="longslit", readnoise=4.0, seed=4)
    data = np.array([ccd.data for ccd in sim.exposures])
    mask, options = np.zeros((120, 140), dtype=bool), {"gain": 1.0, "readnoise": 4.0}
    mask[:, 105:] = mask[:14] = True
    data[:, mask] = value
    options |= {"crmethod": crmethod, "la_verbose": False}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, expected = (
            detect_cosmic_rays(
                [CCDData(x, mask=bad, unit="adu") for x in data], **options
            )
            for bad in (None, mask)
        )
    assert_array_equal(found.crmasks, expected.crmasks)
    assert_array_equal(found.mediancr, expected.mediancr)


def test_gain_map():
    """Padding is that of the given values, whatever the gain of its pixels."""
    gain = np.random.default_rng(1).uniform(1, 1.5, SHAPE)
    data, mask = draw(3, 200) / gain.astype(np.float32), np.zeros(SHAPE, dtype=bool)
    data[0, ::9, ::9] += 500
    mask[RIGHT] = True
    data[:, mask] = 5
    found, expected = (
        detect_cosmic_rays(
            [CCDData(x, mask=bad, unit="adu") for x in data], gain=gain, readnoise=0.1
        )
        for bad in (None, mask)
    )
    assert found.crmasks[0].sum() >= 90
    assert_array_equal(found.crmasks, expected.crmasks)
