# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the registration of exposures."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import ndimage

from ccdcr import MatchingFailedWarning, detect_cosmic_rays
from ccdcr.exposures.registration import measure_registration
from ccdcr.simulation import simulate_exposures

SHAPE = (260, 300)


def exposures(scene, shift, seed=1, angles=None, **options):
    """Return exposures with hits, hot pixels and bad columns; angles in degree."""
    sim = simulate_exposures(
        SHAPE, n_exposures=len(shift), scene=scene, shift=shift, seed=seed, **options
    )
    rng = np.random.default_rng(seed)
    images = list(sim.expected)
    for i, angle in enumerate(angles or []):
        images[i] = ndimage.rotate(images[i], angle, reshape=False, mode="nearest")
    noise = rng.normal(0, 3, (len(shift), *SHAPE))
    data = rng.poisson(np.maximum(images, 0)) + noise + sim.cosmic_rays
    y, x = rng.integers(0, SHAPE, (150, 2)).T
    data[:, y, x] += rng.lognormal(6, 1, 150)
    data[:, 40:, 77:79] += 3000
    data[:, :200, 150] -= 80
    return data.astype(np.float32)


class TestOffsets:
    """Offsets are right, with all defects of the detector, which do not move."""

    @pytest.mark.parametrize("scene", ["stars", "fibres", "longslit"])
    @pytest.mark.parametrize(
        "shift", [[(0, 0), (0.9, -0.6)], [(0, 0), (12.3, -7.6), (-40.4, 21.2)]]
    )
    def test_offsets(self, scene, shift):
        """Fractions of pixels and many pixels."""
        data = exposures(
            scene, shift, seeing=2.6, flux=np.linspace(0.8, 1.1, len(shift))
        )
        found = measure_registration(data)
        # Spectra are not only shifted, their light goes on beyond the edges.
        assert_allclose(found.offsets, shift, atol=0.2 if scene == "stars" else 0.35)
        assert not found.registered
        fine = measure_registration(data, refine=True)
        assert_allclose(fine.offsets, shift, atol=0.1)

    @pytest.mark.parametrize("slopes", [(0.7, 0.7), (-0.2, 1.3), (0.25,)])
    def test_trails(self, slopes):
        """Trails of satellites are not the scene, even if they are parallel."""
        shift = [(0, 0), (6, -3), (-4, 8)]
        data = exposures("stars", shift, seed=3, seeing=2.6)
        y, x = np.indices(SHAPE)
        for k, slope in enumerate(slopes):
            away = (y - 130 - slope * (x - 150) - 25 * k) / np.hypot(1, slope)
            data[k] += 300 * np.exp(-(away**2) / 8)
        assert_allclose(
            measure_registration(data, refine=True).offsets, shift, atol=0.1
        )

    @pytest.mark.parametrize("seed", [0, 1])
    def test_tilted_trace(self, seed):
        """A tilted trace, all the structure of an image, is no trail."""
        rng = np.random.default_rng(seed)
        y, x = np.indices((160, 200))
        away = np.array([y - 70 - dy - 0.15 * (x - 100) for dy in (0, 4)])
        data = rng.poisson(30 + 400 * np.exp(-(away**2) / 12.5)).astype(np.float32)
        data += rng.normal(0, 3, data.shape)
        assert not measure_registration(data).registered

    def test_wide(self):
        """Rows at the end that are no whole run have the columns of those before."""
        data = np.random.default_rng(1).normal(100, 10, (2, 38, 40_000))
        data[:, :, [500, 30_000]] += 3000
        assert measure_registration(data.astype(np.float32)).registered

    @pytest.mark.parametrize(("columns", "seed"), [((-80, -160), 6), ((3000, 6000), 7)])
    def test_unequal_columns(self, columns, seed):
        """Columns of the detector beside each other are not the scene."""
        shift = [(0, 0), (11.2, -7.4), (-9.6, 4.3)]
        data = exposures("stars", shift, seed, seeing=2.6)[:, :200, :220]
        data[:, :, 110:112] += np.array(columns, dtype=np.float32)
        found = measure_registration(data)
        assert not found.registered
        assert_allclose(found.offsets, shift, atol=0.2)

    @pytest.mark.parametrize("scene", ["stars", "fibres", "longslit"])
    @pytest.mark.parametrize("seed", [3, 4])
    def test_registered(self, scene, seed):
        """Small shifts, seeing and flux are no reason."""
        shift = [(0.3, -0.1), (-0.2, 0.2), (0, -0.2)]
        options = {"seeing": (2.4, 2.7, 2.6), "sky_lines": (1, 1.3, 0.9)}
        assert measure_registration(exposures(scene, shift, seed, **options)).registered

    @pytest.mark.parametrize("scene", ["stars", "fibres", "longslit"])
    @pytest.mark.parametrize("corner", [0.8, 3.0])
    def test_rotation(self, scene, corner):
        """Corners of the last exposure are displaced from the mean position."""
        angle = np.rad2deg(1.5 * corner / (np.hypot(*SHAPE) / 2))
        data = exposures(scene, [(0, 0)] * 3, 5, [0, 0, angle])
        found = measure_registration(data)
        assert not found.registered
        assert_allclose(found.distortion[2], corner, atol=0.3 + 0.1 * corner)
        assert "rotation or scale" in str(found)

    @pytest.mark.parametrize("seed", [5, 7])
    def test_large_rotation(self, seed):
        """Two exposures whose corners are 8 pixels apart are alike at no offset."""
        angle = np.rad2deg(8 / (np.hypot(*SHAPE) / 2))
        found = measure_registration(
            exposures("fibres", [(0, 0)] * 2, seed, [0, angle])
        )
        assert not found.registered
        assert_allclose(found.distortion, 4, atol=0.3)

    def test_lost_rotation(self):
        """Few stars that are rotated are as alike at no offset."""
        angle = np.rad2deg(2.4 / (np.hypot(*SHAPE) / 2))
        data = exposures("stars", [(0, 0)] * 2, 39, [0, angle])[:, :200, :220]
        found = measure_registration(data)
        assert not found.registered
        # The part of the image is as much smaller.
        corner = 1.2 * np.hypot(200, 220) / np.hypot(*SHAPE)
        assert_allclose(found.distortion, corner, atol=0.15)

    def test_one_axis(self):
        """A smooth trace does not tell the position along it."""
        rng = np.random.default_rng(6)
        y = np.arange(200)[:, np.newaxis]
        traces = [200 * np.exp(-0.5 * ((y - 90 - dy) / 1.3) ** 2) for dy in (0, 4.3)]
        data = [rng.poisson(trace + 20, (200, 300)) for trace in traces]
        found = measure_registration(np.array(data, dtype=np.float32))
        assert_allclose(found.offsets[1], [np.nan, 4.3], atol=0.1)

    @pytest.mark.parametrize("across", [False, True])
    @pytest.mark.parametrize("amplitude", [100, 1000, 30000])
    @pytest.mark.parametrize("tilt", [0, -0.0072, 0.02, 0.2, 0.35])
    @pytest.mark.parametrize("width", [1.3, 3.4])
    def test_smooth_trace(self, across, amplitude, tilt, width):
        """Noise of a trace that has no features is no displacement along it."""
        rng = np.random.default_rng(8)
        y, x = np.mgrid[:160, :256]
        trace = amplitude * np.exp(-0.5 * ((y - 80 - tilt * (x - 128)) / width) ** 2)
        data = rng.poisson(trace * (1 + x / 512) + 20, (3, *trace.shape))
        data = data + rng.normal(0, 4, data.shape)
        data = data.swapaxes(1, 2) if across else data
        found = measure_registration(data.astype(np.float32))
        assert found.registered
        assert np.nanmax(np.abs(found.offsets)) < 0.1

    @pytest.mark.parametrize("seed", [65, 71])
    def test_unlike_skies(self, seed):
        """Faint structure that a bright sky hides is no displacement of the rest."""
        sim = simulate_exposures((160, 160), scene="longslit", seed=seed, cr_rate=0)
        y, x = np.mgrid[:160, :160] / 160 - 0.5
        rng = np.random.default_rng(seed)
        angle = rng.uniform(0, 2 * np.pi)
        bright = 4000 * (1 + np.cos(angle) * x + np.sin(angle) * y)
        data = rng.poisson(sim.expected[0] + [np.full_like(bright, 200), bright])
        found = measure_registration(data.astype(np.float32))
        assert found.registered
        assert_allclose(found.offsets[1], 0, atol=0.2)

    def test_nothing(self):
        """Noise and hits tell nothing."""
        sim = simulate_exposures(SHAPE, seed=7)
        noise = np.random.default_rng(7).normal(100, 10, (3, *SHAPE))
        found = measure_registration((noise + sim.cosmic_rays).astype(np.float32))
        assert found.registered
        assert np.isnan(found.offsets[1:]).all()

    @pytest.mark.parametrize(("shape", "seed"), [((64, 300), 4), ((500, 33), 1)])
    def test_elongated(self, shape, seed):
        """Noise and a hit in long images tell nothing, wherever these are alike."""
        rng = np.random.default_rng(seed)
        stack = rng.normal(100, 10.5, (6, *shape)).astype(np.float32)
        for i, image in enumerate(stack):
            image.flat[37 * i] += 2000
        assert measure_registration(stack).registered

    def test_masked(self):
        """What is masked is ignored."""
        shift = [(0, 0), (6.2, 3.4)]
        data = exposures("stars", shift)
        bad = np.zeros(data.shape, dtype=bool)
        bad[0, :60] = bad[1, :, -40:] = True
        data[bad] = np.nan
        assert_allclose(measure_registration(data, bad).offsets, shift, atol=0.25)


@pytest.mark.filterwarnings("ignore::ccdcr.NoiseModelWarning")
@pytest.mark.filterwarnings("ignore::ccdcr.CoincidenceWarning")
@pytest.mark.parametrize("method", ["matched", "mm_lacosmic"])
def test_warning(method):
    """Each method says so, unless offsets are given to one that can use them."""
    shift = [(-2, 0), (0, 0), (2, 0)]
    sim = simulate_exposures((160, 160), scene="stars", shift=shift, seed=2)
    known = {"gain": 1.0, "readnoise": 3.0, "crmethod": method}
    with pytest.warns(MatchingFailedWarning, match="not registered: exposures 1 to 3"):
        detect_cosmic_rays(sim.exposures, **known)
