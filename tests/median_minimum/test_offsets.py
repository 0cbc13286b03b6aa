# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the offsets; the truth is what simulations were made with."""

import numpy as np
import pytest
from scipy import ndimage

from ccdcr.exposures import CCDParameters
from ccdcr.median_minimum.criteria import measure_offsets
from ccdcr.simulation import simulate_exposures

DETECTOR = CCDParameters(gain=1.0, readnoise=3.0, bias=0.0)
SUBPIXEL = [(-0.3, 0.2), (0.0, 0.0), (0.4, -0.25)]
PIXELS = [(0.0, 0.0), (1.6, -1.2), (-1.1, 2.0)]


def measured(sim, region=None):
    """Return the offsets of simulated exposures, (n, 2)."""
    stack = np.stack([ccd.data for ccd in sim.exposures])
    ny, nx = stack.shape[1:]
    region = (1, nx, 1, ny) if region is None else region
    offsets = measure_offsets(
        stack, np.median(stack, axis=0), DETECTOR.compute_noise, region
    )
    return np.array(offsets)


def relative(shift):
    """Return shifts whose median is 0: the median exposure does not move."""
    return np.array(shift) - np.median(shift, axis=0)


@pytest.mark.parametrize("scene", ["fibres", "longslit", "stars"])
@pytest.mark.parametrize("shift", [SUBPIXEL, PIXELS], ids=["subpixel", "pixels"])
def test_truth(scene, shift):
    """The injected shifts come out to 0.05 pixels in spite of cosmic rays."""
    sim = simulate_exposures((200, 200), scene=scene, shift=shift, seed=1)
    np.testing.assert_allclose(measured(sim), relative(shift), atol=0.05)


def test_equal_exposures():
    """Exposures that are not shifted have no offsets."""
    sim = simulate_exposures((160, 160), scene="stars", seed=1)
    np.testing.assert_allclose(measured(sim), 0, atol=0.05)


def test_sign():
    """The median that is moved by an offset coincides with the exposure."""
    sim = simulate_exposures(
        (200, 220), scene="stars", shift=[(0, 0), (0, 0), (2, -1)], cr_rate=0, seed=2
    )
    offsets = measured(sim)
    np.testing.assert_allclose(offsets, [[0, 0], [0, 0], [2, -1]], atol=0.1)
    dx, dy = offsets[2]
    moved = ndimage.shift(sim.expected[0], (dy, dx))
    inside = np.s_[10:-10, 10:-10]
    difference, before = (
        np.std((image - sim.expected[2])[inside]) for image in (moved, sim.expected[0])
    )
    assert difference < 0.1 * before


def test_five_exposures():
    """Any number of exposures; one (dx, dy) of plain numbers for each."""
    shift = [(0.4, 0.1), (0, 0), (-0.5, 0.3), (0.2, -0.2), (-0.1, -0.4)]
    sim = simulate_exposures((128, 128), n_exposures=5, shift=shift, seed=3)
    np.testing.assert_allclose(measured(sim), relative(shift), atol=0.05)
    stack = [ccd.data for ccd in sim.exposures]
    offsets = measure_offsets(
        stack, np.median(stack, axis=0), DETECTOR.compute_noise, (1, 128, 1, 128)
    )
    assert all(type(value) is float for offset in offsets for value in offset)


def test_region():
    """Only the region matters; it is in FITS style, limits inclusive."""
    sim = simulate_exposures((160, 160), shift=SUBPIXEL, seed=1)
    alone = simulate_exposures((160, 160), shift=SUBPIXEL, seed=1)
    inside = np.s_[19:150, 9:140]
    for i, ccd in enumerate(alone.exposures):
        noise = np.random.default_rng(i).uniform(0, 1e4, ccd.shape)
        noise[inside] = ccd.data[inside]
        ccd.data = noise.astype(np.float32)
    region = (10, 140, 20, 150)
    np.testing.assert_array_equal(measured(alone, region), measured(sim, region))
    np.testing.assert_allclose(measured(sim, region), relative(SUBPIXEL), atol=0.05)
