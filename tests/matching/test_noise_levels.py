# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Whether gain and read noise explain the noise of matched exposures."""

import warnings

import numpy as np
import pytest
from astropy.nddata import CCDData
from astropy.table import Table
from numpy.testing import assert_allclose

from ccdcr import detect_cosmic_rays
from ccdcr.exceptions import (
    MatchingFailedWarning,
    NoiseModelWarning,
    NotEquivalentWarning,
)
from ccdcr.matching.frames import Frames, Noise
from ccdcr.matching.match import Options, find_hits
from ccdcr.median_minimum.exact_boundary import likeliest_cause
from ccdcr.simulation import simulate_exposures

GAIN, READNOISE = 2.0, 6.0


def draw(n=3, shape=(256, 256), low=0.0, high=400.0, *, scale=1.0, seed=5):
    """Return exposures of a slope in electron, with ``scale`` times the noise."""
    rng = np.random.default_rng(seed)
    signal = np.linspace(low, high, shape[1])
    sigma = scale * np.sqrt(signal + READNOISE**2)
    return rng.normal(signal, sigma, (n, *shape)).astype(np.float32) / GAIN


def noise_of(data, bad=None):
    """Return the noise by signal, in units of that of the detector."""
    noise = Noise.from_detector(len(data), GAIN, READNOISE)
    return find_hits(Frames.from_arrays(data, noise, bad), Options()).noise


def detect(data, gain=GAIN, readnoise=READNOISE, **options):
    """Return the masks of exposures."""
    ccds = [CCDData(plane, unit="adu") for plane in data]
    return detect_cosmic_rays(ccds, gain=gain, readnoise=readnoise, **options)


class TestLevels:
    """The noise is measured as it was drawn."""

    @pytest.mark.parametrize("scale", [0.5, 1, 1.5])
    @pytest.mark.parametrize("n", [2, 3, 5])
    def test_scale(self, n, scale):
        """At each signal."""
        levels = noise_of(draw(n, scale=scale))
        assert len(levels) == 12
        assert_allclose(levels["noise"], scale, rtol=0.1)
        assert_allclose(levels["x"], np.linspace(8, 192, 12), atol=6)
        # What looks hit by so much noise is left out.
        assert 0.5 * 256**2 < levels["pixels"].sum() <= 256**2

    def test_hits(self):
        """Cosmic rays change it little."""
        data = draw()
        rng = np.random.default_rng(6)
        data[rng.random(data.shape) < 0.02] += 500
        assert_allclose(noise_of(data)["noise"], 1, atol=0.1)

    def test_bad(self):
        """Bad pixels do not count, whatever they hold."""
        data, bad = draw(), np.zeros((3, 256, 256), dtype=bool)
        bad[0, :, :128] = bad[:, 100:110] = True
        data[bad] = -1e6
        levels = noise_of(data, bad)
        assert_allclose(levels["noise"], 1, atol=0.1)
        assert levels["pixels"].sum() <= 246 * 256

    def test_mismatch(self):
        """Structure that does not match does not count."""
        sim = simulate_exposures(
            (256, 256), scene="stars", seed=3, shift=[(-0.6, 0), (0, 0), (0.6, 0.4)]
        )
        data = np.stack([ccd.data for ccd in sim.exposures])
        noise = Noise.from_detector(3, sim.gain, sim.readnoise)
        found = find_hits(Frames.from_arrays(data, noise), Options())
        assert np.nanmax(found.matched.after.ratio) > 1.1
        assert_allclose(found.noise["noise"], 1, atol=0.1)

    @pytest.mark.parametrize("shape", [(1, 900), (30, 30), (5, 8)])
    def test_few(self, shape):
        """Less than 1000 pixels tell nothing."""
        assert len(noise_of(draw(shape=shape))) == 0

    @pytest.mark.parametrize("shape", [(1, 4000), (4000, 1), (5, 400), (100, 17)])
    def test_narrow(self, shape):
        """Images that are smaller than a block are cut as they are."""
        levels = noise_of(draw(shape=shape, low=100, high=100))
        assert len(levels) >= 1
        assert_allclose(
            np.average(levels["noise"], weights=levels["pixels"]), 1, atol=0.2
        )

    def test_whole_numbers(self):
        """Steps wider than the noise tell nothing; narrower ones do."""
        data = np.rint(draw())
        assert_allclose(noise_of(data)["noise"], 1, atol=0.1)
        noise = Noise.from_detector(3, 20.0, 6.0)
        coarse = Frames.from_arrays(np.rint(draw(high=200) * GAIN / 20), noise)
        assert len(find_hits(coarse, Options()).noise) == 0
        fine = Frames.from_arrays(draw(high=200) * np.float32(GAIN / 20), noise)
        assert_allclose(find_hits(fine, Options()).noise["noise"], 1, atol=0.1)

    def test_large(self):
        """Of a large image some rows are enough."""
        levels = noise_of(draw(shape=(1024, 1024)))
        assert levels["pixels"].sum() == pytest.approx(1 << 18, rel=0.1)
        assert_allclose(levels["noise"], 1, atol=0.1)


class TestCause:
    """Which of gain and read noise is wrong."""

    @pytest.mark.parametrize(
        ("gain", "readnoise", "cause"),
        [
            (GAIN, READNOISE, None),
            (GAIN, 1.1 * READNOISE, None),
            (GAIN, 2 * READNOISE, "readnoise"),
            (GAIN, READNOISE / 3, "readnoise"),
            (2 * GAIN, 2 * READNOISE, "gain"),
            (GAIN / 2, READNOISE / 2, "gain"),
        ],
    )
    def test_cause(self, gain, readnoise, cause):
        """The noise that should be follows from algebra."""
        x = np.linspace(5, 500, 12)
        true = x / GAIN + (READNOISE / GAIN) ** 2
        model = x / gain + (readnoise / gain) ** 2
        levels = Table({"x": x, "noise": np.sqrt(true / model)})
        found = likeliest_cause(levels, gain, readnoise, equivalent=True)
        assert found == cause

    def test_equivalence(self):
        """Mismatch grows with the signal."""
        x = np.linspace(5, 5000, 12)
        variance = x * 2 + 25
        levels = Table({"x": x, "noise": np.sqrt(1 + (0.05 * 2 * x) ** 2 / variance)})
        assert likeliest_cause(levels, 2.0, 5.0) == "equivalence"


class TestWarning:
    """A detection says what to check."""

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"readnoise": 3 * READNOISE}, r"0\.[34]\d times what gain and readnoise"),
            ({"readnoise": 3 * READNOISE}, "check readnoise"),
            ({"gain": 4 * GAIN, "readnoise": 4 * READNOISE}, "check gain"),
        ],
    )
    @pytest.mark.parametrize("crmethod", ["matched", "matched_lacosmic"])
    def test_wrong(self, changes, message, crmethod):
        """Once, with the remedy."""
        with pytest.warns(NoiseModelWarning, match=message) as caught:
            masks = detect(draw(), crmethod=crmethod, **changes)
        assert sum(w.category is NoiseModelWarning for w in caught) == 1
        levels = masks.diagnostics.matching.noise
        assert np.abs(levels["noise"] - 1).max() > 0.2

    @pytest.mark.parametrize("readnoise", [READNOISE, 0.9 * READNOISE])
    def test_right(self, readnoise):
        """Nothing is said where the noise is about right."""
        with warnings.catch_warnings():
            warnings.simplefilter("error", NoiseModelWarning)
            detect(draw(), readnoise=readnoise)

    def test_once(self):
        """Exposures that cannot be matched have a warning of their own."""
        sim = simulate_exposures(
            (200, 200), scene="fibres", seed=1, shift=[(-2, 0), (0, 0), (2, 2)]
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            detect_cosmic_rays(sim.exposures, gain=1.0, readnoise=3.0)
        found = {w.category for w in caught}
        assert MatchingFailedWarning in found
        assert NoiseModelWarning not in found

    def test_units(self):
        """The gain of exposures in electron is 1."""
        ccds = [CCDData(plane * GAIN, unit="electron") for plane in draw()]
        with warnings.catch_warnings():
            warnings.simplefilter("error", NoiseModelWarning)
            warnings.simplefilter("ignore", NotEquivalentWarning)
            detect_cosmic_rays(ccds, readnoise=READNOISE)
