# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Strength of the mismatch at levels with few values."""

from pathlib import Path

import numpy as np
import pytest
from astropy.nddata import CCDData
from scipy import ndimage

from ccdcr import detect_cosmic_rays
from ccdcr.matching.mismatch import Dispersion, Tails
from ccdcr.simulation import simulate_exposures

REAL = Path(__file__).resolve().parents[3] / "shared" / "field" / "real"


def as_ccds(data, unit):
    """Return exposures as CCDData."""
    return [CCDData(plane.astype(np.float32), unit=unit) for plane in data]


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
    """Equivalent exposures have hardly any mismatch on levels with few values."""
    numbers = {0.3: 100_000, 0.8: 2000, 1.4: 1500, 40.0: 60}
    strengths = [disperse(numbers, 0, seed).strength[-1] for seed in range(100)]
    # Two standard deviations are exceeded by chance in a few of a hundred.
    assert np.count_nonzero(np.array(strengths) > 0.05) <= 8
    assert max(strengths) < 0.35


@pytest.mark.parametrize("seed", range(5))
def test_carried(seed):
    """A mismatch that is certain holds for the higher levels."""
    found = disperse({0.3: 100_000, 12.0: 1500, 100.0: 60}, 0.2, seed)
    measured = found.strength[5]
    assert found.strength[-1] == found.strength[8]
    # Of 1500 values a quantile is good to 5 %, and twice that is left out.
    assert 0.8 * measured < found.strength[-1] < measured


def test_stars_and_double_hits():
    """Cores of stars are not flagged, and hits beside double hits are."""
    wrong, found = 0, []
    for seed in range(1, 3):
        sim = simulate_exposures(
            (200, 200),
            n_exposures=2,
            scene="stars",
            cr_rate=0.5,
            flux=[0.95, 1.05],
            shift=[[-0.15, 0.1], [0.15, -0.1]],
            seeing=[2.375, 2.625],
            background=[0, 40],
            seed=seed,
        )
        masks = detect_cosmic_rays(sim.exposures, gain=1.0, readnoise=3.0).crmasks
        hit = [ndimage.maximum_filter(h, 5) for h in sim.cosmic_rays > sim.noise]
        wrong += np.count_nonzero(masks & ~np.array(hit))
        rng = np.random.default_rng(seed)
        data = rng.normal(27, 7, (2, 200, 200))
        places = tuple(rng.integers(3, 197, (2, 30)))
        data[:, *places] += 2000
        beside = places[0], places[1] + 1
        data[1, *beside] += 300
        masks = detect_cosmic_rays(as_ccds(data, "electron"), readnoise=5.0).crmasks
        found.append(masks[1, *beside].mean())
    assert wrong <= 5
    assert min(found) > 0.9


@pytest.mark.skipif(not REAL.is_dir(), reason="the real exposures are not at hand")
def test_double_hit():
    """A hit beside a pixel that is hit in both of two real exposures is found."""
    with np.load(REAL / "double_hit_n2.npz") as file:
        ccds = as_ccds(file["exposures"], "adu")
        y, x = file["y"], file["x"]
        masks = detect_cosmic_rays(
            ccds, gain=float(file["gain"]), readnoise=float(file["readnoise"])
        )
    assert masks.crmasks[:, y, x].tolist() == [False, True]
