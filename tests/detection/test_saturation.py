# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of saturation levels, and of the warning of ones that are not known."""

import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData

from ccdcr import ImplausibleMaskWarning, detect_cosmic_rays
from ccdcr.detection.saturation import frame_level, raw_level
from ccdcr.exposures import CCDParameters


@pytest.mark.parametrize("gain_map", [None, np.array([[2.0, 3.0]])])
@pytest.mark.parametrize(
    ("satlevel", "times", "expected"),
    [(4000, None, (1500, 750)), (60000, (10.0, 20.0), (2500, 500))],
)
def test_levels(satlevel, times, expected, gain_map):
    """Bias, times and factors are applied one way and undone the other."""
    unit, factors = u.adu if times is None else u.adu / u.s, np.array([2.0, 4.0])
    ccd = CCDParameters(2.0, 3.0, 1000.0, times=times, gain_map=gain_map)
    levels = frame_level(satlevel, unit, ccd, factors)
    assert tuple(levels) == expected
    most = 1 if gain_map is None else 1.5  # of the highest to the typical gain
    for i, level in enumerate(expected):
        assert raw_level(level * most, ccd, factors, i) == satlevel


@pytest.mark.filterwarnings("ignore::ccdcr.CRWarning")
class TestSaturation:
    """Stars that are cut at a level, of which the detection does not know."""

    def exposures(self, level, fluxes=(1, 0.8), *, whole=False, cut=slice(None)):
        """Return exposures of three stars; pixels are cut at a level (electron)."""
        rng, (y, x) = np.random.default_rng(1), np.mgrid[:120, :120]
        scene = np.full(x.shape, 100.0)
        for a, b in ((30, 41), (64.3, 80), (90, 35.5)):
            scene += 3e5 * np.exp(-((y - a) ** 2 + (x - b) ** 2) / 3.3)
        data = rng.poisson([scene * flux for flux in fluxes]) + rng.normal(
            0, 4, x.shape
        )
        data[0, 10:16, 60:64] += 9e4  # a hit
        data[cut] = np.minimum(data[cut], level)
        data = np.rint(data) if whole else data.astype(np.float32)
        return [CCDData(plane, unit="electron") for plane in data]

    @pytest.mark.parametrize("whole", [False, True])
    @pytest.mark.parametrize("fluxes", [(1, 0.8), (1, 0.8, 0.9)])
    def test_cut(self, whole, fluxes):
        """The warning names a level that helps."""
        ccds, match = self.exposures(6e4, fluxes, whole=whole), "ma_satlevel=59400"
        with pytest.warns(ImplausibleMaskWarning, match=f"exposure 1.*{match}"):
            detect_cosmic_rays(ccds, readnoise=4.0)
        with warnings.catch_warnings():
            warnings.simplefilter("error", ImplausibleMaskWarning)
            detect_cosmic_rays(ccds, readnoise=4.0, ma_satlevel=59400)

    def test_rates(self):
        """The level is that of counts, bias included."""
        ccds = self.exposures(6e4)
        for ccd in ccds:
            ccd.data, ccd.unit = (ccd.data + 300) / 60, "electron / s"
            ccd.meta["EXPTIME"] = 60
        options = {"readnoise": 4.0, "bias": 5.0}
        with pytest.warns(
            ImplausibleMaskWarning, match=f"ma_satlevel={0.99 * 60300:g}"
        ):
            detect_cosmic_rays(ccds, **options)

    @pytest.mark.parametrize(
        "options",
        [
            {"level": np.inf},
            {"level": np.inf, "whole": True},
            {"level": 6e4, "cut": np.s_[:, :20]},  # only a hit is
            {"level": 6e4, "fluxes": (1, 1)},  # alike in both
            {"level": 300, "cut": np.s_[:, 20:, :20]},  # fainter than others
        ],
    )
    def test_silent(self, options):
        """Nothing is said where nothing is wrong."""
        ccds = self.exposures(**options)
        with warnings.catch_warnings():
            warnings.simplefilter("error", ImplausibleMaskWarning)
            detect_cosmic_rays(ccds, readnoise=4.0)

    @pytest.mark.parametrize("n", [2, 3])
    def test_faint(self, n):
        """Many pixels of counted photons have the highest value by chance."""
        data = np.random.default_rng(n).poisson(0.2, (n, 120, 120))
        ccds = [CCDData(np.minimum(plane, 1.0), unit="electron") for plane in data]
        with warnings.catch_warnings():
            warnings.simplefilter("error", ImplausibleMaskWarning)
            detect_cosmic_rays(ccds, readnoise=0.1)
