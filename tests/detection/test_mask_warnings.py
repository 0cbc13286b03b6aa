# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What warnings say of differences and coincidences, and when they come."""

import warnings

import numpy as np
import pytest
from astropy.nddata import CCDData
from astropy.table import Table
from scipy import stats

from ccdcr import (
    CoincidenceWarning,
    CRMaskSet,
    ImplausibleMaskWarning,
    MatchingFailedWarning,
    NotEquivalentWarning,
    detect_cosmic_rays,
)
from ccdcr.detection.mask_warnings import warn_of_implausible, warn_of_mismatch
from ccdcr.matching.mismatch import expected_quantile
from ccdcr.simulation import simulate_exposures


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8])
def test_expected_quantile(n):
    """It is that of so many Gaussian values."""
    rng, clean = np.random.default_rng(n), max(n - n // 2 - 1, 1)
    values = rng.normal(size=(300_000, n))
    low = np.sort(values[:, 1:], axis=1)[:, :clean].mean(axis=1)
    expected = np.quantile(low - values[:, 0], 0.995)
    # The error of a quantile of so many values is 0.01.
    assert abs(expected_quantile(n) - expected) < 0.04
    assert expected_quantile(2) == pytest.approx(
        np.sqrt(2) * stats.norm.isf(0.005), 1e-4
    )


@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("scene", ["fibres", "stars", "longslit"])
def test_mended(scene, n):
    """Differences that matching mends are no reason for a warning."""
    sim = simulate_exposures(
        (256, 256),
        scene=scene,
        n_exposures=n,
        flux=np.linspace(0.95, 1.05, n).tolist(),
        background=np.linspace(0, 60, n).tolist(),
        seed=21,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        masks = detect_cosmic_rays(sim.exposures, gain=sim.gain, readnoise=3.0)
    assert masks.equivalence.needed
    assert masks.equivalence.left < 1.3


def test_left():
    """What matching leaves is one sentence with what to do."""
    sim = simulate_exposures((128, 128), seed=3)
    report = detect_cosmic_rays(sim.exposures, gain=1.0, readnoise=3.0).equivalence
    for column in ("before", "after"):
        report.levels[column][3] = 1.6
    report.levels["values"][3] = 5000
    with pytest.warns(
        NotEquivalentWarning, match=r"still differ .* 1\.60 times .* see masks"
    ):
        warn_of_mismatch(report)
    with pytest.warns(NotEquivalentWarning, match="structure of exposures 3, 2; see"):
        warn_of_mismatch(report, [0, 4, 9])
    report.levels["after"][3] = 1
    with pytest.warns(NotEquivalentWarning, match=r"matching: hits .* exposure 1; see"):
        warn_of_mismatch(report, [20, 2, 0])
    with pytest.warns(NotEquivalentWarning, match=r"matching: hits .* exposure 2; see"):
        warn_of_mismatch(report, [1, 3, 0], [0, 3.5, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_mismatch(report, [7, 2, 0], [2.9, 2, 0])


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("shape", [(3, 50), (60, 7), (12, 12)])
def test_small(shape, n):
    """Too few pixels to match exposures; twice as many are enough."""
    options = {"n_exposures": n, "cr_rate": 0.0, "readnoise": 3.0, "seed": 1}
    small = simulate_exposures(shape, **options).exposures
    with pytest.warns(MatchingFailedWarning, match=f"{shape[1]} x {shape[0]} pixels"):
        detect_cosmic_rays(small, gain=1.0, readnoise=3.0)
    large = simulate_exposures([max(length, 16) for length in shape], **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detect_cosmic_rays(large.exposures, gain=1.0, readnoise=3.0)


@pytest.mark.filterwarnings("ignore::ccdcr.NotEquivalentWarning")
class TestDeadLines:
    """Columns and rows of one value in one exposure."""

    def detect(self, n, lines, *, axis, masked=False):
        """Detect where some columns or rows of the last exposure have values."""
        sim = simulate_exposures((130, 150), n_exposures=n, scene="longslit", seed=4)
        data = np.array([ccd.data for ccd in sim.exposures])
        if axis == "y":
            data = data.swapaxes(1, 2).copy()
        for line, value in lines.items():
            data[-1, ..., line] = value
        mask = np.zeros(data.shape, dtype=bool)
        mask[-1][..., list(lines)] = masked
        planes = zip(data, mask, strict=True)
        if axis == "y":
            planes = ((plane.T, bad.T) for plane, bad in planes)
        ccds = [CCDData(x, mask=bad, unit="adu") for x, bad in planes]
        return detect_cosmic_rays(ccds, gain=1.0, readnoise=3.0)

    @pytest.mark.parametrize("axis", ["x", "y"])
    @pytest.mark.parametrize("n", [2, 3])
    def test_dead(self, n, axis):
        """They are named, because they look like hits of the others."""
        match = rf"{axis} = 43, {axis} = 71 of exposure {n}, .* mask them"
        with pytest.warns(ImplausibleMaskWarning, match=match):
            detected = self.detect(n, {42: 13, 70: 13}, axis=axis)
        flagged = detected.crmasks if axis == "x" else detected.crmasks.swapaxes(1, 2)
        assert flagged[0, :, [42, 70]].mean() > 0.2

    @pytest.mark.parametrize("axis", ["x", "y"])
    def test_silent(self, axis):
        """Nothing is said of those that are masked, or that are flagged themselves."""
        with warnings.catch_warnings():
            warnings.simplefilter("error", ImplausibleMaskWarning)
            self.detect(2, {42: 13, 70: 13}, axis=axis, masked=True)
            self.detect(2, {42: 9000}, axis=axis)

    @pytest.mark.filterwarnings("ignore::ccdcr.exceptions.NotEquivalentWarning")
    @pytest.mark.filterwarnings("ignore::ccdcr.exceptions.MatchingFailedWarning")
    def test_saturated_trace(self):
        """The highest value is that of saturation."""
        trace = 100 + 7e4 * np.exp(-((np.arange(200) - 100.0) ** 2) / 12.5)
        image = np.tile(trace, (300, 1))
        rng = np.random.default_rng(2)
        data = [np.minimum(rng.poisson(image * f), 65535.0) for f in (0.8, 1, 1.2)]
        ccds = [CCDData(plane.astype(np.float32), unit="adu") for plane in data]
        with warnings.catch_warnings():
            warnings.simplefilter("error", ImplausibleMaskWarning)
            detect_cosmic_rays(ccds, gain=1.0, readnoise=3.0, ma_satlevel=65000.0)


class TestCoincidences:
    """More coincidences than chance explains."""

    def masks(self, groups, bright=None, seed=1):
        """Return masks of 0.5 % each, with more groups of 4 pixels in all."""
        rng = np.random.default_rng(seed)
        crmasks = rng.random((3, 200, 200)) < 0.005
        for y, x in rng.integers(0, 198, (groups, 2)):
            crmasks[:, y : y + 2, x : x + 2] = True
        mediancr = crmasks.sum(axis=0) > 1
        if bright is not None:
            columns = [["MEDIANCR"], [bright], [0.001]]
            bright = Table(columns, names=("mask", "bright", "faint"))
        masks = CRMaskSet(mediancr, crmasks.any(axis=0), crmasks, bright=bright)
        return masks, crmasks

    def test_many(self):
        """Ten times more, and significant."""
        with pytest.warns(CoincidenceWarning, match="flagged in MEDIANCR, "):
            warn_of_implausible(*self.masks(30))

    def test_bright(self):
        """Fewer are enough where they are on bright pixels."""
        match = "and 26 times more of the bright pixels than of the faint ones"
        with pytest.warns(CoincidenceWarning, match=match):
            warn_of_implausible(*self.masks(12, bright=0.026))

    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("groups", [0, 2])
    def test_chance(self, groups, seed):
        """What chance explains is no reason for a warning."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warn_of_implausible(*self.masks(groups, bright=0.001, seed=seed))

    def test_single_image(self):
        """Structure that L.A. Cosmic takes for hits is noticed."""
        sim = simulate_exposures((256, 256), scene="fibres", seed=5)
        with pytest.warns(CoincidenceWarning, match="times more of the bright pixels"):
            detect_cosmic_rays(
                sim.exposures,
                gain=1.0,
                readnoise=3.0,
                crmethod="lacosmic",
                la_verbose=False,
            )
