# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the flux factors; the truth is what simulations were made with."""

import numpy as np
import pytest

from ccdcr.exposures import CCDParameters
from ccdcr.exposures.load_exposures import measure_flux_factors
from ccdcr.simulation import simulate_exposures

DETECTOR = CCDParameters(gain=1.0, readnoise=3.0, bias=0.0)
# The factors must be this good.
ACCURACY = 0.005
UNEQUAL = (0.8, 1.0, 1.2)


def stack_of(flux, shape=(256, 256), **kwargs):
    """Return simulated exposures with cosmic rays as an array."""
    sim = simulate_exposures(shape, n_exposures=len(flux), flux=flux, **kwargs)
    return np.stack([ccd.data for ccd in sim.exposures])


def relative(flux):
    """Return factors whose median is 1."""
    return np.array(flux) / np.median(flux)


@pytest.mark.parametrize("scene", ["fibres", "longslit", "stars"])
@pytest.mark.parametrize(
    "flux",
    [
        UNEQUAL,
        (0.95, 1.0, 1.05),
        (1.2, 0.8, 1.0),
        (1.0, 1.0, 1.0),
        (0.9, 1.3, 1.0, 0.7),
        (0.8, 1.1, 1.0, 1.2, 0.9),
    ],
)
def test_truth(scene, flux):
    """The injected factors come out, in any order, in spite of cosmic rays."""
    factors = measure_flux_factors(
        stack_of(flux, scene=scene, seed=3), None, DETECTOR.compute_noise
    )
    assert np.median(factors) == pytest.approx(1)
    np.testing.assert_allclose(factors, relative(flux), atol=ACCURACY)


@pytest.mark.parametrize("rate", [0, 3])
def test_cosmic_rays(rate):
    """Factors do not depend on the number of cosmic rays."""
    stack = stack_of(UNEQUAL, cr_rate=rate, seed=1)
    factors = measure_flux_factors(stack, None, DETECTOR.compute_noise)
    np.testing.assert_allclose(factors, UNEQUAL, atol=ACCURACY)


def test_one_exposure_is_hit_more():
    """Many hits in one exposure do not raise its factor."""
    stack = stack_of((1, 1, 1), cr_rate=0, seed=1)
    many = simulate_exposures((256, 256), cr_rate=5, seed=2).cosmic_rays[0]
    stack[1] += many
    assert stack[1].sum() > 1.2 * stack[0].sum()
    factors = measure_flux_factors(stack, None, DETECTOR.compute_noise)
    np.testing.assert_allclose(factors, 1, atol=ACCURACY)


def test_negative_outliers():
    """Pixels that are far too low are no better than hits."""
    stack = stack_of((1, 1, 1), cr_rate=0, seed=1)
    stack[1][np.random.default_rng(2).random(stack[1].shape) < 0.01] -= 1000
    factors = measure_flux_factors(stack, None, DETECTOR.compute_noise)
    np.testing.assert_allclose(factors, 1, atol=ACCURACY)


def test_gain():
    """The noise is that of the detector: other units, the same factors."""
    stack = stack_of(UNEQUAL, seed=5)
    other = CCDParameters(gain=4.0, readnoise=3.0, bias=0.0)
    factors = measure_flux_factors(stack / np.float32(4), None, other.compute_noise)
    expected = measure_flux_factors(stack, None, DETECTOR.compute_noise)
    np.testing.assert_allclose(factors, expected, rtol=1e-5)


def test_regions():
    """Only the given pixels matter."""
    stack = stack_of(UNEQUAL, seed=1)
    other = stack_of((1.0, 1.0, 0.5), seed=1)
    use = np.zeros((256, 256), dtype=bool)
    use[:, :128] = True
    mixed = np.where(use, stack, other)
    left, right = (
        measure_flux_factors(mixed, None, DETECTOR.compute_noise, part)
        for part in (use, ~use)
    )
    np.testing.assert_allclose(left, UNEQUAL, atol=2 * ACCURACY)
    np.testing.assert_allclose(right, [1, 1, 0.5], atol=2 * ACCURACY)
    assert use.sum() == 128 * 256  # the mask of the caller is not modified


@pytest.mark.parametrize("value", [0.0, 1e6, -1e6])
def test_bad_pixels(value):
    """Values under a mask have no influence."""
    stack = stack_of(UNEQUAL, seed=1)
    bad = np.random.default_rng(3).random(stack.shape) < 0.1
    bad[0, :80] = True
    stack[bad] = value
    factors = measure_flux_factors(stack, bad, DETECTOR.compute_noise)
    np.testing.assert_allclose(factors, UNEQUAL, atol=ACCURACY)


class TestTooLittleSignal:
    """Without signal there is an error, not a random number."""

    MATCH = "flux_factor='auto' needs signal in flux_factor_regions.*as a list"

    @pytest.mark.parametrize("level", [-1.0, 0.0, 0.1])
    def test_dark(self, level):
        """Bias frames have no flux."""
        rng = np.random.default_rng(1)
        stack = (level + 3 * rng.standard_normal((3, 60, 60))).astype(np.float32)
        with pytest.raises(ValueError, match=self.MATCH):
            measure_flux_factors(stack, None, DETECTOR.compute_noise)

    def test_few_pixels(self):
        """Two pixels of 100 electrons are not enough for 2 %."""
        stack = stack_of((1, 1, 1), scene="stars", cr_rate=0, seed=1)
        use = np.zeros(stack.shape[1:], dtype=bool)
        use[10, 10:12] = True
        with pytest.raises(ValueError, match=self.MATCH):
            measure_flux_factors(stack, None, DETECTOR.compute_noise, use)

    @pytest.mark.parametrize("by_mask", [True, False])
    def test_no_pixel(self, by_mask):
        """No usable pixel at all."""
        stack = stack_of((1, 1, 1), shape=(40, 40), seed=1)
        bad = np.full(stack.shape, by_mask)
        use = np.full(stack.shape[1:], by_mask)
        with pytest.raises(ValueError, match=self.MATCH):
            measure_flux_factors(stack, bad, DETECTOR.compute_noise, use)
