# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the simulator: numbers come from the truth or from algebra."""

import dataclasses
import math

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from astropy.time import Time
from numpy.testing import assert_allclose, assert_array_equal

from ccdcr.simulation import Simulation, cosmic_rays, scenes, simulate_exposures

SCENES = ["fibres", "longslit", "stars"]
SHAPE = (90, 110)

# Means of many values are compared within this many standard errors; with a fixed
# seed the outcome never changes.
NSIGMA = 4


def residuals(sim):
    """Return what is left of the exposures when all that is known is removed."""
    data = np.array([ccd.data for ccd in sim.exposures], dtype=float)
    return data - sim.bias - sim.expected - sim.cosmic_rays


def one_star(x=30.0, y=34.0, flux=1e5):
    """Return a scene with one star and no galaxy."""
    return scenes._Stars((64, 64), np.array([[x, y, flux]]), np.empty((0, 6)))


def one_fibre(lines):
    """Return a scene with one fibre that sees the sky with some lines only."""
    return scenes._Fibres(
        shape=(64, 64),
        y=np.array([30.0]),
        throughput=np.ones(1),
        nebula=np.zeros(1),
        velocity=np.zeros(1),
        sky_lines=np.array(lines),
        nebular_lines=np.empty((2, 0)),
    )


def star_image(scene, *args):
    """Render a scene of one star and remove the sky."""
    empty = scenes._Stars(scene.shape, np.empty((0, 3)), np.empty((0, 6)))
    return scene.render(*args) - empty.render(*args)


class TestNoise:
    """Noise of the exposures."""

    @pytest.mark.parametrize("scene", SCENES)
    @pytest.mark.parametrize("gain", [1.0, 2.0])
    def test_variance(self, scene, gain):
        """Bright and faint pixels follow the model, hit by cosmic rays or not."""
        sim = simulate_exposures(
            SHAPE, scene=scene, gain=gain, readnoise=4, bias=200, cr_rate=5, seed=1
        )
        variance = sim.expected / gain + (4 / gain) ** 2
        ratio = residuals(sim) ** 2 / variance
        bright = sim.expected > np.median(sim.expected)
        hit = sim.cosmic_rays > 0
        for pixels in (bright, ~bright, hit, ~hit):
            n = np.count_nonzero(pixels)
            # the fourth moment of Poisson noise is 3 + 1 / mean
            error = np.sqrt((2 + np.mean(1 / (gain * sim.expected[pixels]))) / n)
            assert abs(ratio[pixels].mean() - 1) < NSIGMA * error

    @pytest.mark.parametrize("gain", [1.0, 2.0])
    def test_mean(self, gain):
        """The noise has no bias, whatever the gain."""
        sim = simulate_exposures(SHAPE, gain=gain, bias=-3.5, seed=2)
        total = residuals(sim).sum()
        assert abs(total) < NSIGMA * np.sqrt(np.sum(sim.noise.astype(float) ** 2))

    def test_noise_is_independent(self):
        """The noise of two exposures is not correlated."""
        sim = simulate_exposures(SHAPE, n_exposures=2, seed=3)
        first, second = residuals(sim) / sim.noise
        assert abs(np.mean(first * second)) < NSIGMA / np.sqrt(first.size)

    def test_without_read_noise(self):
        """Without read noise and cosmic rays, whole electrons are counted."""
        sim = simulate_exposures(SHAPE, gain=2, readnoise=0, cr_rate=0, seed=4)
        electrons = 2 * sim.exposures[0].data
        assert_array_equal(electrons, np.rint(electrons))

    def test_noise_property(self):
        """The noise is that of the clean exposure, in the data unit."""
        sim = simulate_exposures(SHAPE, gain=2, readnoise=6, cr_rate=0, seed=4)
        assert_allclose(sim.noise, np.sqrt(sim.expected / 2 + 9), rtol=1e-6)


class TestRandomNumbers:
    """Seeds."""

    def test_same_seed(self):
        """The same seed gives the same exposures and truth."""
        first, second = (simulate_exposures(SHAPE, seed=5) for _ in range(2))
        assert_array_equal(first.expected, second.expected)
        assert_array_equal(first.cosmic_rays, second.cosmic_rays)
        for one, other in zip(first.exposures, second.exposures, strict=True):
            assert_array_equal(one.data, other.data)

    @pytest.mark.parametrize("scene", SCENES)
    def test_other_seed(self, scene):
        """Another seed gives another scene and other cosmic rays."""
        first, second = (
            simulate_exposures(SHAPE, scene=scene, seed=seed) for seed in (5, 6)
        )
        assert not np.array_equal(first.truth, second.truth)
        assert not np.array_equal(first.cosmic_rays, second.cosmic_rays)

    def test_no_seed(self):
        """Without a seed no two simulations are the same."""
        first, second = (simulate_exposures(SHAPE, seed=None) for _ in range(2))
        assert first.seed is None
        assert not np.array_equal(first.exposures[0].data, second.exposures[0].data)

    def test_exposures_differ(self):
        """Cosmic rays of the exposures of one set differ."""
        sim = simulate_exposures(SHAPE, seed=5)
        assert not np.array_equal(sim.cosmic_rays[0], sim.cosmic_rays[1])
        assert not np.array_equal(sim.cosmic_rays[1], sim.cosmic_rays[2])

    def test_scene_depends_on_nothing_else(self):
        """Neither noise, cosmic rays nor their number change the scene."""
        first = simulate_exposures(SHAPE, seed=5)
        second = simulate_exposures(
            SHAPE, n_exposures=2, cr_rate=4, readnoise=1, seed=5
        )
        assert_array_equal(first.truth, second.truth)

    def test_global_state(self):
        """The global random numbers are left alone."""
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        simulate_exposures(SHAPE, seed=None)
        assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


class TestScenes:
    """Scenes with their shift, seeing and flux."""

    @pytest.mark.parametrize("scene", SCENES)
    def test_flux(self, scene):
        """With equal seeing and no shift, exposures are multiples of the truth."""
        flux = [1.0, 0.5, 1.7]
        sim = simulate_exposures(SHAPE, scene=scene, flux=flux, gain=1.6, seed=7)
        for expected, factor in zip(sim.expected, flux, strict=True):
            assert_allclose(expected, factor * sim.truth, rtol=1e-6)

    @pytest.mark.parametrize("scene", SCENES)
    def test_whole_shift(self, scene):
        """A shift by whole pixels moves the image rigidly."""
        sim = simulate_exposures(
            SHAPE, n_exposures=2, scene=scene, shift=[(0, 0), (3, -2)], seed=8
        )
        # 0.02 electrons is where profiles end
        assert_allclose(
            sim.expected[1][:-2, 3:], sim.expected[0][2:, :-3], rtol=1e-5, atol=0.05
        )
        assert_array_equal(sim.expected[0], sim.truth)

    @pytest.mark.parametrize("shift", [(0.0, 0.0), (0.3, -0.4), (-1.25, 2.6)])
    def test_centroid(self, shift):
        """The centroid of a star moves by the shift."""
        image = star_image(one_star(), *shift, 2.5)
        y, x = np.indices(image.shape)
        # the wings are cut off where they are below 0.02 of 1e5 electrons
        assert_allclose(np.sum(x * image) / image.sum(), 30 + shift[0], atol=2e-3)
        assert_allclose(np.sum(y * image) / image.sum(), 34 + shift[1], atol=2e-3)

    @pytest.mark.parametrize("seeing", [2.0, 2.5, 4.0])
    def test_seeing(self, seeing):
        """Half the seeing away from its centre, a star has half its peak."""
        scene = one_star()
        peak = star_image(scene, 0, 0, seeing)[34, 30]
        half = star_image(scene, seeing / 2, 0, seeing)[34, 30]
        assert_allclose(half, peak / 2)

    @pytest.mark.parametrize("seeing", [2.5, 4.0])
    def test_seeing_keeps_flux(self, seeing):
        """The flux of a star does not depend on the seeing."""
        # of a Moffat profile with beta = 3, (1 + r**2 / a**2)**-2 is outside of r
        total = star_image(one_star(), 0, 0, seeing).sum()
        assert_allclose(total, 1e5, rtol=2e-3)

    def test_seeing_keeps_flux_of_galaxy(self):
        """The flux of a disc is 2 pi times peak, axis ratio and scale squared."""
        disc = np.array([[60.0, 60.0, 500.0, 4.0, 0.6, 0.3]])
        scene = scenes._Stars((121, 121), np.empty((0, 3)), disc)
        total = star_image(scene, 0, 0, 3.0).sum()
        assert_allclose(total, 2 * np.pi * 500 * 0.6 * 4**2, rtol=2e-3)

    @pytest.mark.parametrize("scene", SCENES)
    def test_seeing_of_exposures(self, scene):
        """The truth has the mean seeing, and better seeing gives higher peaks."""
        options = {"shape": SHAPE, "scene": scene, "seed": 9}
        sim = simulate_exposures(n_exposures=2, seeing=[2, 4], **options)
        mean = simulate_exposures(n_exposures=1, seeing=3, **options)
        assert_array_equal(sim.truth, mean.truth)
        contrast = sim.expected.std(axis=(1, 2))
        assert contrast[0] > contrast[1]

    def test_seeing_keeps_light_of_slit(self):
        """The light of a spectrum does not depend on the seeing."""
        sim = simulate_exposures(
            (200, 200), n_exposures=2, scene="longslit", seeing=[2, 4], seed=9
        )
        first, second = sim.expected.sum(axis=1)
        assert_allclose(first, second, rtol=1e-5)

    def test_seeing_keeps_light_of_fibre(self):
        """The light of a line in a fibre does not depend on the focus."""
        line, dark = one_fibre(lines=[[32.0], [1000.0]]), one_fibre(lines=[[], []])
        first, second = (
            np.sum(line.render(0, 0, seeing) - dark.render(0, 0, seeing))
            for seeing in (2, 4)
        )
        assert_allclose(first, second, rtol=1e-5)

    def test_fibre_profile(self):
        """The width of a fibre is that of seeing and fibre in quadrature."""
        line, dark = one_fibre(lines=[[32.0], [1000.0]]), one_fibre(lines=[[], []])
        profile = (line.render(0, 0, 2.5) - dark.render(0, 0, 2.5))[:, 32]
        y = np.arange(64)
        centre = np.sum(y * profile) / profile.sum()
        width = np.sqrt(np.sum((y - centre) ** 2 * profile) / profile.sum())
        assert_allclose(math.sqrt(8 * math.log(2)) * width, np.hypot(2.5, 1.66), 1e-4)

    def test_large_shift(self):
        """Light stays positive far outside of the scene."""
        for scene in SCENES:
            sim = simulate_exposures(
                (40, 40), n_exposures=1, scene=scene, shift=(300, -300), seed=1
            )
            assert sim.expected.min() > 0

    @pytest.mark.parametrize("scene", SCENES)
    @pytest.mark.parametrize("shape", [(1, 1), (3, 40), (40, 3)])
    def test_small(self, scene, shape):
        """Any shape will do."""
        sim = simulate_exposures(shape, scene=scene, cr_rate=50, seed=1)
        assert sim.expected.shape == sim.cosmic_rays.shape == (3, *shape)


class TestCosmicRays:
    """Cosmic rays: physics and geometry."""

    def test_charge_is_kept(self):
        """Diffusion moves charge and keeps its sum, at the edges too."""
        rng = np.random.default_rng(10)
        n = 500
        samples = np.stack(
            [
                rng.uniform(-20, 60, n),
                rng.uniform(-30, 50, n),
                rng.uniform(10, 1000, n),
                rng.uniform(0.2, 0.45, n),
            ]
        )
        image = cosmic_rays._deposit(samples, (30, 40))
        assert_allclose(image.sum(), samples[2].sum(), rtol=1e-12)
        assert image.min() >= 0

    def test_corner(self):
        """Charge that leaves the image comes in on the other side."""
        samples = np.array([[-0.5], [-0.5], [100.0], [0.2]])
        image = cosmic_rays._deposit(samples, (10, 12))
        assert_allclose(image[[0, 0, -1, -1], [0, -1, 0, -1]], 25, rtol=1e-5)

    @pytest.mark.parametrize("sigma", [0.2, 0.3, 0.45])
    def test_diffusion(self, sigma):
        """The width is that of the cloud and the pixel in quadrature."""
        position = 7 + (np.arange(1000) + 0.5) / 1000
        pixels, weights = cosmic_rays._shares(position, np.full(1000, sigma), 20)
        distance = pixels - position[:, np.newaxis]
        width = np.mean(np.sum(weights * distance**2, axis=1))
        assert_allclose(width, sigma**2 + 1 / 12, rtol=1e-3)
        assert_allclose(np.mean(np.sum(weights * distance, axis=1)), 0, atol=1e-6)

    def test_depth(self):
        """Charge from the far side of the device spreads most."""
        sigma = cosmic_rays._diffusion(np.linspace(0, 1, 11))
        assert_allclose(sigma[[0, -1]], [0.2, 0.45])
        assert np.all(np.diff(sigma) > 0)

    def test_muons_are_straight(self):
        """All samples of a muon are on one line, at equal distances."""
        x, y, charge, _ = cosmic_rays._muons(1, SHAPE, np.random.default_rng(11))
        assert x.size > 10
        assert_allclose(np.diff(x), x[1] - x[0], atol=1e-9)
        assert_allclose(np.diff(y), y[1] - y[0], atol=1e-9)
        assert charge.min() > 0

    def test_muon_charge(self):
        """The mean charge is the mean path times the mean energy loss."""
        n = 4000
        charge = cosmic_rays._muons(n, SHAPE, np.random.default_rng(12))[2]
        # of 1 / cosine, with density 2 cosine above 0.03 and the rest at 0.03
        mean = 2 * 0.97 + 0.03
        variance = 2 * math.log(1 / 0.03) + 1 - mean**2
        unit = cosmic_rays._THICKNESS * cosmic_rays._ELECTRONS_PER_PIXEL
        error = NSIGMA * math.sqrt(variance / n) * unit
        assert abs(charge.sum() / n - mean * unit) < error

    def test_energy_loss(self):
        """The energy loss has the mean it should and a tail to high values."""
        n = 100_000
        loss = cosmic_rays._energy_loss(n, np.random.default_rng(13))
        loss = loss / cosmic_rays._ELECTRONS_PER_PIXEL
        # the standard deviation of a Moyal number is pi / sqrt(2)
        error = 0.25 * np.pi / np.sqrt(2 * n)
        assert abs(loss.mean() - 1) < NSIGMA * error
        # its median is 0.787598 and its mean 1.270363
        median = 1 + 0.25 * (0.787598 - 1.270363)
        assert abs(np.median(loss) - median) < 0.01
        assert loss.min() > 0

    def test_worms_turn(self):
        """Worms change their direction from step to step, and do not jump."""
        x, y, _, _ = cosmic_rays._worms(1, SHAPE, np.random.default_rng(14))
        steps = np.hypot(np.diff(x), np.diff(y))
        assert x.size > 10
        assert_allclose(steps, steps[0])
        assert np.ptp(np.arctan2(np.diff(y), np.diff(x))) > 0.1

    @pytest.mark.parametrize("kind", ["_muons", "_worms", "_spots"])
    def test_none(self, kind):
        """No hit is a possible number of hits."""
        samples = getattr(cosmic_rays, kind)(0, SHAPE, np.random.default_rng(1))
        assert samples.shape == (4, 0)

    def test_reflect(self):
        """Depths outside of the device are folded back."""
        depth = cosmic_rays._reflect(np.array([-0.3, 0.0, 0.4, 1.0, 1.2, 2.1]))
        assert_allclose(depth, [0.3, 0, 0.4, 1, 0.8, 0.1])

    def test_rate_zero(self):
        """Without cosmic rays there are none."""
        sim = simulate_exposures(SHAPE, cr_rate=0, seed=15)
        assert not sim.cosmic_rays.any()
        assert not sim.hits().any()


class TestChance:
    """Pixels touched as chance predicts."""

    def test_coverage(self):
        """The untouched fraction at four times the rate is the fourth power.

        Hits at random places leave ``exp(-rate * area)`` of the pixels untouched.
        """
        rng = np.random.default_rng(16)
        logs, errors = [], []
        for rate in (1, 4):
            images = [
                cosmic_rays._cosmic_rays((256, 256), rate, rng) for _ in range(12)
            ]
            values = [np.log(np.mean(image < 50)) for image in images]
            logs.append(np.mean(values))
            errors.append(np.std(values, ddof=1) / np.sqrt(len(values)))
        error = np.hypot(4 * errors[0], errors[1])
        assert abs(logs[1] - 4 * logs[0]) < NSIGMA * error

    def test_pairs(self):
        """The overlap of two exposures is one of those at all cyclic shifts.

        The mean of these is the product of the fractions. By chance, the share of
        shifts with a smaller overlap is uniform between 0 and 1.
        """
        n = 8
        shares = []
        sim = simulate_exposures((200, 200), n_exposures=n, scene="stars", seed=17)
        hits = sim.hits()
        transforms = np.fft.rfft2(hits)
        for i, j in zip(*np.triu_indices(n, 1), strict=True):
            product = transforms[i] * transforms[j].conj()
            overlap = np.fft.irfft2(product, s=hits.shape[1:])
            chance = hits[i].mean() * hits[j].mean() * hits[i].size
            assert_allclose(overlap.mean(), chance)
            assert_allclose(overlap[0, 0], np.sum(hits[i] & hits[j]), atol=1e-6)
            overlap = np.rint(overlap)
            smaller, larger = overlap < overlap[0, 0], overlap > overlap[0, 0]
            shares.append(0.5 + 0.5 * (smaller.mean() - larger.mean()))
        assert abs(np.mean(shares) - 0.5) < NSIGMA / np.sqrt(12 * len(shares))

    @pytest.mark.parametrize("scene", SCENES)
    def test_default(self, scene):
        """By default a few percent are touched, and some pixels twice."""
        sim = simulate_exposures(scene=scene, seed=18)
        fraction = sim.hits().mean(axis=(1, 2))
        assert np.all((fraction > 0.01) & (fraction < 0.04))
        first, second, third = fraction
        chance = first * second + first * third + second * third
        chance = (chance - 2 * first * second * third) * sim.truth.size
        # a crossing of two tracks has about ten pixels
        error = np.sqrt(10 * chance)
        assert abs(sim.coincidences().sum() - chance) < NSIGMA * error


class TestSimulation:
    """The result."""

    def test_shapes(self):
        """All that is known is there, for one value or one per exposure."""
        sim = simulate_exposures(SHAPE, n_exposures=4, seed=19)
        assert isinstance(sim, Simulation)
        assert sim.truth.shape == SHAPE
        assert sim.expected.shape == sim.cosmic_rays.shape == (4, *SHAPE)
        assert sim.noise.shape == sim.hits().shape == (4, *SHAPE)
        assert sim.coincidences().shape == SHAPE
        assert sim.hits().dtype == sim.coincidences().dtype == bool
        assert_array_equal(sim.flux, [1, 1, 1, 1])
        assert_array_equal(sim.seeing, [2.5, 2.5, 2.5, 2.5])
        assert_array_equal(sim.shift, np.zeros((4, 2)))

    def test_frozen(self):
        """The result cannot be changed by accident."""
        sim = simulate_exposures((20, 20), seed=1)
        with pytest.raises(dataclasses.FrozenInstanceError, match="gain"):
            sim.gain = 2

    def test_repr(self):
        """The representation is one short line."""
        sim = simulate_exposures((20, 30), n_exposures=2, scene="stars", seed=4)
        assert repr(sim) == (
            "<Simulation(scene='stars', n_exposures=2, shape=(20, 30), seed=4)>"
        )

    def test_exposures(self):
        """Exposures are CCDData with the header cards of an observation."""
        sim = simulate_exposures(
            SHAPE, gain=1.5, readnoise=4, exptime=900, scene="longslit", seed=1
        )
        for ccd in sim.exposures:
            assert isinstance(ccd, CCDData)
            assert ccd.unit == u.adu
            assert ccd.data.dtype == np.float32
            assert ccd.header["OBJECT"] == "simulated longslit"
            assert ccd.header["EXPTIME"] == 900
            assert ccd.header["GAIN"] == 1.5
            assert ccd.header["RDNOISE"] == 4
        dates = Time([ccd.header["DATE-OBS"] for ccd in sim.exposures])
        assert np.all(np.diff(dates.unix) >= 900)

    def test_gain(self):
        """The gain divides the signal of the scene and of the cosmic rays."""
        electrons = simulate_exposures(SHAPE, unit="electron", seed=20)
        adu = simulate_exposures(SHAPE, gain=2, seed=20)
        assert electrons.exposures[0].unit == u.electron
        assert_allclose(adu.truth, electrons.truth / 2)
        assert_allclose(adu.expected, electrons.expected / 2)
        assert_allclose(adu.cosmic_rays, electrons.cosmic_rays / 2)
        assert_allclose(adu.noise, electrons.noise / 2, rtol=1e-6)
        assert_array_equal(adu.hits(), electrons.hits())

    def test_bias(self):
        """The bias is in the data and not in the truth."""
        plain = simulate_exposures(SHAPE, gain=2, seed=21)
        raised = simulate_exposures(SHAPE, gain=2, bias=1000, seed=21)
        assert_array_equal(raised.truth, plain.truth)
        # float32 has steps of 0.0001 at 1000
        difference = raised.exposures[0].data - plain.exposures[0].data
        assert_allclose(difference, 1000, atol=0.001)

    @pytest.mark.parametrize(
        ("hits", "result"),
        [([1], 1), ([1, 0], 1), ([1, 0, 0], 0), ([1, 0, 1], 1), ([1, 1, 0, 0], 1)],
    )
    def test_coincidences(self, hits, result):
        """Half of the exposures or more must have been hit."""
        sim = simulate_exposures((1, 1), n_exposures=len(hits), cr_rate=0, seed=1)
        signal = 5.01 * sim.noise * np.reshape(hits, (-1, 1, 1))
        sim = dataclasses.replace(sim, cosmic_rays=signal)
        assert_array_equal(sim.hits()[:, 0, 0], np.array(hits, dtype=bool))
        assert_array_equal(sim.coincidences(), [[bool(result)]])
        assert not sim.coincidences(nsigma=5.1).any()


class TestErrors:
    """Messages about bad parameters."""

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"shape": 5}, r"shape must be two positive integers .* got 5"),
            ({"shape": (5.0, 5)}, r"shape must be two positive .* got \(5\.0, 5\)"),
            ({"n_exposures": 2.5}, r"n_exposures must be an integer .* got 2\.5"),
            ({"n_exposures": True}, r"n_exposures must be an integer .* got True"),
            ({"scene": 3}, "scene must be one of 'fibres', 'longslit', 'stars', got 3"),
            ({"gain": "2"}, "gain must be a finite number > 0, got '2'"),
            ({"readnoise": None}, "readnoise must be a finite number .* got None"),
            (
                {"exptime": 20 * u.min},
                "exptime must be a .* number > 0 or 3 of them, .* got <Quantity 20",
            ),
            ({"flux": "bright"}, "flux must be a finite number > 0 or 3 .* 'bright'"),
            ({"flux": [1, 2, 3] * u.adu}, r"flux must be .* or 3 .* got <Quantity"),
            ({"shift": None}, r"shift must be one pair \(dx, dy\) or 3 .* got None"),
            ({"unit": u.adu}, "unit must be one of 'adu', 'electron', got Unit"),
            ({"seed": 1.5}, r"seed must be none or an integer >= 0, got 1\.5"),
            ({"shift": 1.0}, r"shift must be one pair \(dx, dy\) or 3 .* got 1\.0"),
            ({"shift": [(0, 0), 1, 2]}, r"shift must be one pair .* got \[\(0, 0\), 1"),
        ],
    )
    def test_type(self, options, match):
        """The wrong kind of object."""
        with pytest.raises(TypeError, match=match):
            simulate_exposures(**options)

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"shape": (5, 5, 5)}, r"shape must be two .* got \(5, 5, 5\)"),
            ({"shape": (0, 5)}, r"shape must be two positive .* got \(0, 5\)"),
            ({"n_exposures": 0}, "n_exposures must be an integer >= 1, got 0"),
            ({"scene": "sky"}, "scene must be one of 'fibres', .* got 'sky'"),
            ({"gain": 0}, "gain must be a finite number > 0, got 0"),
            ({"gain": 2, "unit": "electron"}, "gain must be 1 when unit is 'electron'"),
            ({"readnoise": -1}, "readnoise must be .* >= 0, got -1"),
            ({"bias": np.nan}, "bias must be a finite number, got nan"),
            ({"cr_rate": -0.1}, r"cr_rate must be .* >= 0, got -0\.1"),
            ({"exptime": 0}, "exptime must be .* > 0 or 3 of them, .* got 0"),
            ({"gain": [1, 2]}, r"gain must be one number, one .* got shape \(2,\)"),
            ({"readnoise": {"[1:9, :]": 3}}, "sections must cover the image of"),
            ({"flat": np.zeros((512, 512))}, "flat must hold numbers > 0"),
            ({"flux": 0}, "flux must be .* > 0 or 3 of them, .* got 0"),
            ({"flux": [1, 2]}, r"flux must be .* or 3 of them, .* got \[1, 2\]"),
            ({"seeing": 0.9}, r"seeing must be .* >= 1 or 3 of them, .* got 0\.9"),
            ({"seeing": [3, 3, np.inf]}, r"seeing must be .* got \[3, 3, inf\]"),
            ({"shift": [(0, 0)] * 2}, r"shift must be .* got \[\(0, 0\), \(0, 0\)\]"),
            ({"shift": (0, np.nan)}, r"shift must be .* got \(0, nan\)"),
            ({"unit": "photon"}, "unit must be one of 'adu', 'electron', got 'photon'"),
            ({"seed": -1}, "seed must be none or an integer >= 0, got -1"),
        ],
    )
    def test_value(self, options, match):
        """A wrong value."""
        with pytest.raises(ValueError, match=match):
            simulate_exposures(**options)

    def test_keywords_only(self):
        """Only the shape is positional."""
        with pytest.raises(TypeError, match="positional argument"):
            simulate_exposures((20, 20), 3, seed=1)


class TestSky:
    """Sky lines and background that differ from exposure to exposure."""

    @pytest.mark.parametrize("scene", ["fibres", "longslit", "stars"])
    def test_sky_lines(self, scene):
        """They are added in proportion to their factor; images have none."""
        known = {"scene": scene, "seed": 4, "cr_rate": 0}
        sim = simulate_exposures((60, 80), sky_lines=(0, 1, 2), **known)
        usual = simulate_exposures((60, 80), **known)
        np.testing.assert_array_equal(sim.expected[1], usual.expected[1])
        lines = sim.expected[1] - sim.expected[0]
        np.testing.assert_allclose(
            sim.expected[2] - sim.expected[1], lines, rtol=1e-3, atol=1e-2
        )
        assert (lines.max() > 10) == (scene != "stars")
        assert lines.min() > -1e-2
        assert sim.sky_lines.tolist() == [0, 1, 2]

    def test_background(self):
        """Electrons that are added everywhere."""
        known = {"seed": 4, "cr_rate": 0, "gain": 2.0}
        sim = simulate_exposures((60, 80), background=(0, 5, 30), **known)
        usual = simulate_exposures((60, 80), **known)
        added = (sim.expected - usual.expected) * 2
        for plane, expected in zip(added, (0, 5, 30), strict=True):
            np.testing.assert_allclose(plane, expected, atol=1e-2)

    @pytest.mark.parametrize("name", ["sky_lines", "background"])
    @pytest.mark.parametrize("value", [-1, (1, 2), np.nan])
    def test_wrong(self, name, value):
        """One number that is not negative, or one for each exposure."""
        with pytest.raises(ValueError, match=f"{name} must be a .* >= 0 or 3 of them"):
            simulate_exposures((20, 20), **{name: value})
