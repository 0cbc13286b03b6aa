# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Strength of the mismatch at levels with few values."""

from pathlib import Path

import numpy as np
import pytest
from astropy.nddata import CCDData

from ccdcr import detect_cosmic_rays
from ccdcr.matching.mismatch import Dispersion, Tails

REAL = Path(__file__).resolve().parents[3] / "shared" / "field" / "real"


def disperse(numbers, mismatch, seed):
    """Return the `Dispersion` of pairs that differ by a share of each level."""
    rng = np.random.default_rng(seed)
    tails = []
    for level, number in numbers.items():
        # Each exposure has half of the difference; one is below the other by it.
        first, second = rng.normal(size=(2, number // 2, 1))
        change = mismatch * level * rng.normal(size=first.shape)
        below = np.stack([first - second + change, second - first - change])
        place = np.full(first.shape, level, dtype=np.float32)
        tails.append(Tails.collect(below, place, np.ones(below.shape, bool)))
    return Dispersion.measure(Tails.join(tails), 2)


def test_equivalent():
    """Equivalent exposures have no mismatch on levels with few values."""
    numbers = {0.3: 100_000, 0.8: 2000, 1.4: 1500, 40.0: 60}
    strengths = [disperse(numbers, 0, seed).strength[-1] for seed in range(100)]
    # Two standard deviations are exceeded by chance in a few of a hundred.
    assert np.count_nonzero(strengths) <= 8
    assert max(strengths) < 0.35


@pytest.mark.parametrize("seed", range(5))
def test_carried(seed):
    """A mismatch that is certain holds for the higher levels."""
    found = disperse({0.3: 100_000, 12.0: 1500, 100.0: 60}, 0.2, seed)
    measured = found.strength[5]
    assert found.strength[-1] == found.strength[8]
    # Of 1500 values a quantile is good to 5 %, and twice that is left out.
    assert 0.8 * measured < found.strength[-1] < measured


@pytest.mark.skipif(not REAL.is_dir(), reason="the real exposures are not at hand")
def test_double_hit():
    """A hit beside a pixel that is hit in both of two real exposures is found."""
    with np.load(REAL / "double_hit_n2.npz") as file:
        ccds = [CCDData(e.astype(np.float32), unit="adu") for e in file["exposures"]]
        y, x = file["y"], file["x"]
        masks = detect_cosmic_rays(
            ccds, gain=float(file["gain"]), readnoise=float(file["readnoise"])
        )
    assert masks.crmasks[:, y, x].tolist() == [False, True]
