# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Exposures whose skies differ by any amount."""

import numpy as np
import pytest
from astropy.nddata import CCDData
from numpy.testing import assert_allclose, assert_array_equal

from ccdcr import detect_cosmic_rays
from ccdcr.matching.frames import Frames, Noise
from ccdcr.matching.sky_levels import measure_sky_levels, with_level_skies
from ccdcr.simulation import simulate_exposures

# Skies of any ratio, from 0.1 to 20, are what matching is for.
pytestmark = pytest.mark.filterwarnings("ignore::ccdcr.NotEquivalentWarning")

SHAPE, READNOISE = (160, 160), 4.0
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]] / 160 - 0.5


def exposures(skies, signal=0.0, seed=1):
    """Return exposures of a signal, each with its own sky: electrons, (n, ny, nx)."""
    rng = np.random.default_rng(seed)
    expected = [np.broadcast_to(signal + sky, SHAPE) for sky in skies]
    noise = rng.normal(0, READNOISE, (len(expected), *SHAPE))
    return (rng.poisson(expected) + noise).astype(np.float32)


def frames_of(data, bad=None):
    """Return exposures as the detection sees them."""
    return Frames.from_arrays(data, Noise.from_detector(len(data), 1.0, READNOISE), bad)


def detect(data):
    """Detect with the right noise."""
    ccds = [CCDData(plane, unit="electron") for plane in data]
    return detect_cosmic_rays(ccds, readnoise=READNOISE)


def stars(seed):
    """Return stars without a sky."""
    sim = simulate_exposures(SHAPE, scene="stars", seed=seed, cr_rate=0)
    return sim.expected[0] - np.median(sim.expected[0])


class TestMeasured:
    """Levels relative to the median exposure."""

    def test_equal(self):
        """Equal skies are left alone."""
        frames = frames_of(exposures([200, 200, 202]))
        assert measure_sky_levels(frames) is None
        assert with_level_skies(frames, None) is frames

    def test_partial_tiles(self):
        """A trace that fills the small tiles at an edge is not their sky."""
        rng, (y, x) = np.random.default_rng(1), np.mgrid[:272, :160]
        trace = 7000 * np.exp(-((x - 90 - 0.08 * (y - 136)) ** 2) / 23)
        data = rng.poisson(20 + np.multiply.outer([1, 1.1, 0.9], trace))
        data = (data + rng.normal(0, READNOISE, data.shape)).astype(np.float32)
        sky = measure_sky_levels(frames_of(data))
        assert sky is None or np.abs(sky.values).max() < 4

    @pytest.mark.parametrize("structure", [False, True])
    def test_gradient(self, structure):
        """A slope is followed to the edges of the image."""
        skies = [200, 200, 2000 * (1 + 0.6 * Y - 0.4 * X)]
        data = exposures(skies, stars(3) if structure else 0)
        sky = measure_sky_levels(frames_of(data))
        # The noise of a level is that of the median of a quarter of a tile.
        assert_allclose(sky.planes()[2], skies[2] - 200, atol=25)
        assert_allclose(sky.planes()[:2], 0, atol=6)

    def test_darkest(self):
        """The slope of most exposures is not left in all of them."""
        slope = 4000 * (1 + 0.6 * X)
        sky = measure_sky_levels(frames_of(exposures([200, slope, slope])))
        assert_array_equal(sky.planes()[0], 0)
        assert_allclose(sky.planes()[1:], [slope - 200] * 2, atol=25)

    def test_trace(self):
        """A bright trace of another flux, which fills a tile, is no sky."""
        trace = 90_000 * np.exp(-0.5 * ((Y * 160 - 1) / 7) ** 2)
        skies = [200 + trace, 200 + 0.9 * trace, 250 + 1.1 * trace]
        planes = measure_sky_levels(frames_of(exposures(skies))).planes()
        # The noise as in a slope; the other skies are 0 or 50.
        assert_allclose(planes.mean(axis=(1, 2)), [0, 0, 50], atol=3)
        assert_allclose(planes[:, Y[:, 0] < -0.25].max(axis=(1, 2)), [0, 0, 50], atol=9)

    def test_part(self):
        """A part of the levels are the levels of a part."""
        sky = measure_sky_levels(frames_of(exposures([200, 200, 900 * (1 + Y)])))
        bounds = np.s_[20:90, 33:160]
        assert_allclose(sky.cut(bounds).planes(), sky.planes()[:, *bounds], rtol=1e-6)

    def test_bad(self):
        """What is bad does not count, be it a whole tile."""
        data, bad = exposures([200, 200, 500]), np.zeros((3, *SHAPE), dtype=bool)
        bad[2, :60, :80] = True
        data[bad] = np.nan
        planes = measure_sky_levels(frames_of(data, bad)).planes()
        assert_allclose(planes[2], 300, atol=10)

    def test_cosmic_rays(self):
        """Hits change nothing, be they on a tenth of the pixels."""
        rng, data = np.random.default_rng(4), exposures([200, 200, 500])
        hits = rng.random(data.shape) < 0.1
        data[hits] += rng.uniform(100, 5000, hits.sum())
        planes = measure_sky_levels(frames_of(data)).planes()
        # A median of 400 differences, extrapolated to the corners: 4.1.
        assert_allclose(planes[2], 300, atol=16)


class TestNoise:
    """Each exposure has the noise of its own sky."""

    def test_variance(self):
        """The Poisson noise is that of all that was in an exposure."""
        sky = np.array([0.0, 90.0, -10.0], dtype=np.float32)
        noise = Noise.from_detector(3, 1.0, 2.0).with_sky(sky[:, None, None])
        signal = np.full((1, 1), 10.0)
        found = [float(noise.variance(signal, i)[0, 0]) for i in range(3)]
        assert found == [14, 104, 4]
        below = np.full((1, 1), 5.0)  # no signal below zero
        assert float(noise.variance(below, 2)[0, 0]) == 4
        assert_allclose(noise.mean_variance(signal), np.mean(found))
        assert_allclose(noise.variance_of_others(signal, 1), np.mean([14, 4]))
        weights = np.ravel(noise.weights(signal))
        assert_allclose(
            weights / weights.sum(), 1 / np.array(found) / (1 / 14 + 1 / 104 + 1 / 4)
        )

    @pytest.mark.parametrize("n", [2, 3, 4])
    def test_deviations(self, n):
        """Deviations are those of Gaussian values in every exposure."""
        data = exposures([2000] + [100] * (n - 1), seed=n)
        sky = measure_sky_levels(frames_of(data))
        noise = with_level_skies(frames_of(data), sky).noise
        level = np.full(SHAPE, 100, dtype=np.float32)
        sigma = [np.sqrt(noise.variance(level, i)) for i in range(n)]
        for i, plane in enumerate(data):
            assert_allclose(np.std(plane) / np.median(sigma[i]), 1, atol=0.02)


class TestDetection:
    """Nothing is flagged because of the sky, and every hit is."""

    @pytest.mark.parametrize("n", [2, 3, 5])
    @pytest.mark.parametrize("ratio", [0.1, 2.0, 20.0])
    @pytest.mark.parametrize("scene", ["sky", "stars"])
    def test_nothing(self, n, ratio, scene):
        """Without cosmic rays nearly nothing is found."""
        slope = 1 + 0.4 * X if scene == "sky" else 1
        signal = 0 if scene == "sky" else stars(n)
        data = exposures([200] * (n - 1) + [200 * ratio * slope], signal, seed=n)
        masks = detect(data)
        assert masks.crmasks.sum(axis=(1, 2)).max() <= 3
        assert masks.mediancr.sum() == 0
        expected = [np.mean(plane) for plane in data]
        assert_allclose(
            masks.equivalence.terms["background"],
            expected - np.mean(expected),
            atol=0.1 * 200 * max(ratio, 1) ** 0.5,
        )

    @pytest.mark.parametrize(("n", "bright"), [(4, 2), (5, 3)])
    @pytest.mark.parametrize("seed", [2, 4])
    def test_half_bright(self, n, bright, seed):
        """Noise of the bright ones does not look like structure."""
        slope = 4000 * (1 + 0.6 * X)
        skies = [200] * (n - bright) + [slope] * bright
        masks = detect(exposures(skies, stars(seed), seed=seed + 10))
        assert masks.crmasks.sum(axis=(1, 2)).max() <= 3

    @pytest.mark.parametrize("bright", [0, 2])
    def test_hits(self, bright):
        """Hits of 12 sigmas of their own noise are found, whatever the others are."""
        skies = [200.0] * 3
        skies[bright] = 3000.0
        data = exposures(skies, seed=5)
        hits = np.zeros(data.shape, dtype=bool)
        rng = np.random.default_rng(6)
        for plane in hits:
            plane.ravel()[rng.choice(plane.size, 60, replace=False)] = True
        hits &= hits.sum(axis=0) == 1
        for plane, hit, sky in zip(data, hits, skies, strict=True):
            plane[hit] += 12 * np.sqrt(sky + READNOISE**2)
        masks = detect(data)
        assert (masks.crmasks & hits).sum() >= 0.97 * hits.sum()
        assert (masks.crmasks & ~hits).sum() <= 9

    def test_file(self, tmp_path):
        """The report on skies is the same in the file."""
        masks = detect(exposures([200, 500, 4000]))
        masks.write(tmp_path / "crmasks.fits")
        found = type(masks).read(tmp_path / "crmasks.fits").equivalence.terms
        assert_array_equal(found["background"], masks.equivalence.terms["background"])
