# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What warnings say of noise that is not expected, and when they come."""

import warnings

import numpy as np
import pytest
from astropy.nddata import CCDData

from ccdcr import MatchingFailedWarning, NoiseModelWarning, detect_cosmic_rays
from ccdcr.simulation import simulate_exposures


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_faint_noise(n, whole):
    """The noise is 1 times what is expected of 4 electrons, and Q / Q0 is 1."""
    rng = np.random.default_rng(n)
    data = rng.poisson(4, (n, 250, 250)) + rng.normal(0, 4, (n, 250, 250))
    data = np.rint(data) if whole else data
    ccds = [CCDData(plane.astype(np.float32), unit="electron") for plane in data]
    masks = detect_cosmic_rays(ccds, readnoise=4.0)
    noise = masks.diagnostics.matching.noise["noise"]
    # Half of the values count, and rounding adds a twelfth to a variance of 20.
    assert abs(np.median(noise) - 1) < 0.015
    levels = masks.equivalence.levels
    rich = levels["values"] > 20000
    assert np.abs(levels["after"][rich] - 1).max() < 0.05


def test_noise_beside_failure():
    """A failure does not hide that the noise is wrong."""
    sim = simulate_exposures((256, 256), shift=[(-0.9, 0), (0, 0), (0.9, 0)], seed=4)
    with (
        pytest.warns(NoiseModelWarning, match="check"),
        pytest.warns(MatchingFailedWarning),
    ):
        detect_cosmic_rays(sim.exposures, gain=1.0, readnoise=12.0)


def test_noise_by_failure():
    """Nor that it is the cause, as where only faint pixels have more noise."""
    options = {"scene": "longslit", "gain": 1.5, "readnoise": 4.0, "seed": 1}
    sim = simulate_exposures((256, 256), **options)
    with (
        pytest.warns(NoiseModelWarning, match="check readnoise"),
        pytest.warns(MatchingFailedWarning, match="check gain, read noise"),
    ):
        detect_cosmic_rays(sim.exposures, gain=1.5, readnoise=0.1)


class TestNoNoise:
    """Few electrons without read noise, and values that no model allows."""

    def exposures(self, n, *, sky, readnoise, times=1.0, values=0.0):
        """Return exposures of a trace with a few impossible values."""
        rng, y = np.random.default_rng(1), np.arange(72.0)[:, np.newaxis]
        trace = 3000 * np.exp(-((y - 36) ** 2) / 8) + sky + np.zeros((n, 72, 88))
        data = rng.poisson(trace) + rng.normal(0, readnoise, trace.shape)
        data[rng.random(data.shape) < 0.001] += values
        data[0, 10:13, 20:23] += 1000
        return [CCDData(times * plane, unit="electron") for plane in data]

    @pytest.mark.filterwarnings("ignore::ccdcr.CRWarning")
    @pytest.mark.parametrize("n", [2, 3])
    @pytest.mark.parametrize(
        "options",
        [
            {"sky": 0.1, "readnoise": 0.0},
            {"sky": 0.1, "readnoise": 0.0, "values": 9e11},
            {"sky": 0.0, "readnoise": 0.01, "values": -9e11},
            {"sky": 0.0, "readnoise": 0.01, "times": 1e6},
        ],
    )
    def test_computed(self, n, options):
        """Nothing overflows, and the hit is found."""
        ccds = self.exposures(n, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            masks = detect_cosmic_rays(ccds, readnoise=options["readnoise"])
        # Values far below 0 spoil what is expected around them.
        is_low = options.get("values", 0) < 0
        assert is_low or masks.crmasks[0, 10:13, 20:23].all()
