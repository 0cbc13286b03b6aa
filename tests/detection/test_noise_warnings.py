# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What warnings say of noise that is not expected, and when they come."""

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
