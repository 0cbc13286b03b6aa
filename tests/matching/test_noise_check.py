# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the check of the noise model, by exposures whose fault is known."""

import warnings

import numpy as np
import pytest
from astropy.nddata import CCDData
from scipy import ndimage

from ccdcr import detect_cosmic_rays
from ccdcr.detection.detect_matched import make_frames
from ccdcr.exceptions import NoiseModelWarning
from ccdcr.exposures import CCDParameters
from ccdcr.matching.noise_check import check_noise
from ccdcr.matching.sky_levels import measure_sky_levels, with_level_skies
from ccdcr.simulation import simulate_exposures

SHAPE = (200, 200)
GAIN, READNOISE = 1.6, 4.0
SCENES = ["flat", "fibres", "longslit", "stars"]


def draw(scene, seed, n=3, **options):
    """Return exposures (n, ny, nx), with cosmic rays unless they are flat."""
    if scene == "flat":
        rng = np.random.default_rng(seed)
        photons = rng.poisson(500, (n, *SHAPE))
        return (photons + rng.normal(0, READNOISE, photons.shape)) / GAIN
    sim = simulate_exposures(
        SHAPE,
        n_exposures=n,
        scene=scene,
        seed=seed,
        gain=GAIN,
        readnoise=READNOISE,
        cr_rate=0.5,
        **options,
    )
    return np.array([ccd.data for ccd in sim.exposures], dtype=float)


def check(data, gain=GAIN, readnoise=READNOISE):
    """Return the check of exposures, with the names of the causes."""
    ccd = CCDParameters(gain, readnoise, 0.0)
    frames = make_frames(data.astype(np.float32), ccd, np.ones(len(data)))
    found = check_noise(with_level_skies(frames, measure_sky_levels(frames)))
    return found, [name for name, _ in found.causes]


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("n", [2, 3, 5])
def test_right(scene, n):
    """Nothing is wrong with right exposures."""
    for seed in range(3):
        found, causes = check(draw(scene, seed, n), readnoise=READNOISE * 1.05)
        assert causes == []
        assert len(found.levels)


@pytest.mark.parametrize(
    "options",
    [
        {"shift": [(-0.3, 0.1), (0, 0), (0.4, -0.2)], "seeing": [2.3, 2.6, 3.0]},
        {"flux": [0.85, 1, 1.1], "background": [0, 30, 100]},
        {"sky_lines": [0.8, 1, 1.3]},
        {"seeing": [1.8, 3.0, 5.0]},
        {"seeing": [1.8, 5.0, 2.5]},
    ],
)
@pytest.mark.parametrize("scene", ["fibres", "longslit"])
def test_mismatch(scene, options):
    """Exposures that differ have no other noise."""
    for seed in range(2):
        assert check(draw(scene, seed, **options))[1] == []


@pytest.mark.parametrize("photons", [0.1, 0.4, 1, 2, 4, 10, 30])
def test_counted_photons(photons):
    """Single electrons, whose quantiles are steps, are no larger noise."""
    for seed in range(3):
        data = np.random.default_rng(seed).poisson(photons, (3, *SHAPE))
        assert check(data, gain=1.0, readnoise=0.1)[1] == []
        assert check(data / 2, gain=2.0, readnoise=0.1)[1] == []


class TestCauses:
    """The likeliest causes hold the true one, and it is the first where it is clear."""

    @pytest.mark.parametrize("factor", [0.4, 2.0, 10.0])
    @pytest.mark.parametrize("scene", SCENES)
    @pytest.mark.parametrize("n", [2, 3])
    def test_gain(self, factor, scene, n):
        """A wrong gain; its true value is found where the signal has a range."""
        found, causes = check(draw(scene, n, n), gain=factor * GAIN)
        assert "gain" in causes
        if scene in {"fibres", "longslit"}:
            assert causes[0] == "gain"
            assert dict(found.causes)["gain"] == pytest.approx(GAIN, rel=0.1)

    @pytest.mark.parametrize("factor", [0.025, 0.4, 2.5])
    @pytest.mark.parametrize("scene", ["fibres", "longslit"])
    @pytest.mark.parametrize("n", [2, 3])
    def test_readnoise(self, factor, scene, n):
        """A wrong read noise, where it matters."""
        found, causes = check(draw(scene, n, n), readnoise=factor * READNOISE)
        assert causes[0] == "readnoise"
        assert dict(found.causes)["readnoise"] == pytest.approx(READNOISE, rel=0.2)

    def test_little_effect(self):
        """
        On a bright sky a wrong read noise changes little, a wrong gain much.

        A small change can have many wrong values of the read noise, and few of the
        gain.
        """
        for seed in range(3):
            data = draw("stars", seed)
            assert check(data, readnoise=4 * READNOISE)[1][0] == "readnoise"
            assert check(data, gain=4 * GAIN)[1][0] == "gain"

    @pytest.mark.parametrize("bias", [100.0, 1000.0])
    @pytest.mark.parametrize("scene", ["fibres", "longslit", "stars"])
    @pytest.mark.parametrize("n", [2, 3])
    def test_bias(self, bias, scene, n):
        """A bias that was not subtracted is no wrong read noise."""
        causes = check(draw(scene, n, n) + bias)[1]
        assert "bias" in causes
        assert scene == "stars" or causes[0] == "bias"

    @pytest.mark.parametrize("scene", SCENES)
    @pytest.mark.parametrize("n", [2, 3])
    def test_sky(self, scene, n):
        """A sky that was subtracted has left its noise."""
        data, rng = draw(scene, n, n), np.random.default_rng(n)
        data += rng.poisson(200, data.shape) / GAIN
        data -= np.quantile(data, 0.1)
        assert "sky" in check(data)[1]

    @pytest.mark.parametrize("n", [2, 3])
    def test_below(self, n):
        """Too much was subtracted: what most pixels have is below 0."""
        # Of 500 electrons 600 adu were subtracted.
        found = check(draw("flat", n, n) - 600)[0]
        assert found.causes == ()
        assert found.below == pytest.approx(500 / GAIN - 600, rel=0.02)

    def test_same_noise(self):
        """Causes that one level of signal cannot tell apart are all named."""
        rng, size = np.random.default_rng(1), (3, *SHAPE)
        # At 0 a variance of 9 times RN^2 / g^2 has three explanations.
        causes = check(rng.normal(0, 3 * READNOISE / GAIN, size))[1]
        assert set(causes) == {"sky", "readnoise", "gain"}
        # Less than half of the expected photon noise is not that of the read noise.
        assert set(check(draw("flat", 1), gain=0.4 * GAIN)[1]) == {"gain", "bias"}

    @pytest.mark.parametrize("scene", SCENES)
    @pytest.mark.parametrize("n", [2, 3])
    def test_resampled(self, scene, n):
        """Interpolated exposures have less noise, which neighbours share."""
        data = draw(scene, n, n)
        shifts = [(0.5 + 0.1 * i, 0.4) for i in range(n)]
        data = [ndimage.shift(x, s, order=1) for x, s in zip(data, shifts, strict=True)]
        assert check(np.array(data)[:, 2:-2, 2:-2])[1] == ["resampled"]


class TestWarning:
    """What a detection says."""

    @pytest.mark.filterwarnings("ignore::ccdcr.CRWarning")
    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("n", [2, 3])
    def test_flat(self, seed, n):
        """Where all is flagged because of a wrong gain, it is said."""
        ccds = [CCDData(x, unit="adu") for x in draw("flat", seed, n)]
        with pytest.warns(NoiseModelWarning, match=r"3\.\d+ times .* check gain"):
            detect_cosmic_rays(ccds, gain=10 * GAIN, readnoise=READNOISE)

    @pytest.mark.filterwarnings("ignore::ccdcr.CRWarning")
    @pytest.mark.parametrize("crmethod", ["matched", "mmcosmic"])
    def test_bias(self, crmethod):
        """The remedy is that of the cause."""
        ccds = [CCDData(x + 300, unit="adu") for x in draw("fibres", 1)]
        options = {"gain": GAIN, "readnoise": READNOISE, "crmethod": crmethod}
        message = "a bias seems to be left in the exposures: give bias"
        with pytest.warns(NoiseModelWarning, match=message):
            detect_cosmic_rays(ccds, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("error", NoiseModelWarning)
            detect_cosmic_rays(ccds, bias=300, **options)

    @pytest.mark.filterwarnings("ignore::ccdcr.CRWarning")
    @pytest.mark.parametrize("scene", SCENES)
    def test_rates(self, scene):
        """Values divided by the exposure time, whose unit does not say so."""
        data = draw(scene, 1)
        options = {"gain": GAIN, "readnoise": READNOISE}
        for time in (30, 1200):
            meta = {"EXPTIME": time}
            ccds = [CCDData(x / time, unit="adu", meta=meta) for x in data]
            with pytest.warns(NoiseModelWarning, match=rf"{time} s\): set .* adu / s"):
                detect_cosmic_rays(ccds, **options)
            for ccd in ccds:
                ccd.unit = "adu / s"
            with warnings.catch_warnings():
                warnings.simplefilter("error", NoiseModelWarning)
                detect_cosmic_rays(ccds, **options)

    @pytest.mark.filterwarnings("ignore::ccdcr.CRWarning")
    def test_value(self):
        """A gain or read noise that explains the noise is said, of rates, too."""
        ccds = [CCDData(x / 60, unit="adu / s") for x in draw("fibres", 1)]
        for ccd in ccds:
            ccd.meta["EXPTIME"] = 60
        with pytest.warns(NoiseModelWarning, match=r"check gain: 1\.[567]\d* would"):
            detect_cosmic_rays(ccds, gain=4 * GAIN, readnoise=READNOISE)
        with pytest.warns(NoiseModelWarning, match=r"check readnoise: (3\.[6-9]|4) wo"):
            detect_cosmic_rays(ccds, gain=GAIN, readnoise=READNOISE / 40)

    @pytest.mark.filterwarnings("ignore::ccdcr.MatchingFailedWarning")
    @pytest.mark.parametrize("n", [3, 5])
    def test_sky(self, n):
        """It is said where matching fails because of the noise."""
        data, rng = draw("fibres", n, n), np.random.default_rng(n)
        data += (rng.poisson(4000, data.shape) - 4000) / GAIN
        ccds = [CCDData(plane, unit="adu") for plane in data]
        with pytest.warns(NoiseModelWarning, match="a sky seems to have been sub"):
            detect_cosmic_rays(ccds, gain=GAIN, readnoise=READNOISE)

    @pytest.mark.filterwarnings("ignore::ccdcr.CRWarning")
    @pytest.mark.parametrize("n", [2, 3])
    @pytest.mark.parametrize("scene", SCENES)
    def test_below(self, scene, n):
        """A sky of which too much was subtracted, whether matching fails or not."""
        ccds = [CCDData(x - 500, unit="adu") for x in draw(scene, n, n)]
        with pytest.warns(NoiseModelWarning, match=r"far below 0, .* subtract less"):
            detect_cosmic_rays(ccds, gain=GAIN, readnoise=READNOISE)

    @pytest.mark.filterwarnings("ignore::ccdcr.CRWarning")
    @pytest.mark.parametrize("seed", [0, 1])
    @pytest.mark.parametrize(
        "options",
        [{"shift": [(2 * i, -3 * i) for i in range(3)]}, {"seeing": [1.8, 3.0, 5.0]}],
    )
    def test_different(self, seed, options):
        """Differences by displacement or seeing are no noise, however large."""
        data = draw("fibres", seed, 3, **options)
        ccds = [CCDData(plane, unit="adu") for plane in data]
        with warnings.catch_warnings():
            warnings.simplefilter("error", NoiseModelWarning)
            detect_cosmic_rays(ccds, gain=GAIN, readnoise=READNOISE)


def test_few():
    """Small images, and pixels that are all bad, tell nothing."""
    assert check(draw("flat", 1)[:, :9, :30])[1] == []
    data = draw("flat", 1)
    ccd = CCDParameters(10 * GAIN, READNOISE, 0.0)
    bad = np.ones(data.shape, dtype=bool)
    frames = make_frames(data.astype(np.float32), ccd, np.ones(3), bad=bad)
    assert check_noise(frames).causes == ()


def test_large():
    """Of large images some rows are enough."""
    rng = np.random.default_rng(1)
    data = rng.poisson(100, (2, 1200, 600)) / GAIN
    found, causes = check(data, gain=3 * GAIN, readnoise=0.6)
    assert found.levels["pixels"].sum() < 4e5
    assert "gain" in causes
