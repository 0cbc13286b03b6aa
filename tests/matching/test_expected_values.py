# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the values that masked pixels would have without their hits."""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from scipy import ndimage

from ccdcr import CRCombiner, CRMaskSet, add_expected, detect_cosmic_rays
from ccdcr.simulation import evaluate, simulate_exposures

KNOWN = {"gain": 1.0, "readnoise": 3.0}
FLUX = {"flux": (0.8, 1.0, 1.2), "background": (0, 10, 20)}


def pulls(masks, truth):
    """Return deviations of the values from the truth (n, ny, nx), in sigmas."""
    table = masks.expected
    place = table["EXPOSURE"] - 1, table["Y"] - 1, table["X"] - 1
    return np.asarray((table["VALUE"] - truth[place]) / table["SIGMA"])


def clean_places(masks, sim):
    """
    Return which rows of the table are hit, without a missed hit in another exposure.

    Noise that was flagged is high, and that of the others low.
    """
    table, hits = masks.expected, sim.hits(0.5)
    missed = (hits & ~masks.crmasks).any(axis=0)
    place = table["Y"] - 1, table["X"] - 1
    return hits[table["EXPOSURE"] - 1, *place] & ~missed[place]


@pytest.fixture(scope="module")
def differing():
    """Return exposures of other flux and background, and their masks."""
    sim = simulate_exposures((256, 256), scene="fibres", seed=3, **FLUX)
    return sim, detect_cosmic_rays(sim.exposures, **KNOWN)


class TestValues:
    """Values against the truth."""

    def test_pull(self, differing):
        """Values scatter around the truth of their own exposure as SIGMA says."""
        sim, masks = differing
        pull = pulls(masks, sim.expected)[clean_places(masks, sim)]
        assert len(pull) > 5000
        assert abs(np.median(pull)) < 0.1
        assert np.std(pull) == pytest.approx(1, abs=0.1)

    def test_which_pixels(self, differing):
        """All masked pixels have one that are clean in another exposure."""
        _, masks = differing
        found = np.zeros_like(masks.crmasks)
        table = masks.expected
        found[table["EXPOSURE"] - 1, table["Y"] - 1, table["X"] - 1] = True
        assert (found == masks.crmasks & ~masks.crmasks.all(axis=0)).all()

    @pytest.mark.parametrize("n", [2, 5])
    def test_numbers(self, n):
        """Two and many exposures."""
        sim = simulate_exposures((128, 128), n_exposures=n, scene="stars", seed=4)
        masks = detect_cosmic_rays(sim.exposures, **KNOWN)
        pull = pulls(masks, sim.expected)[clean_places(masks, sim)]
        assert np.std(pull) == pytest.approx(1, abs=0.15)

    def test_without_mismatch(self):
        """Missed hits in the sky are no mismatch of stars, whose noise is that of K."""
        sim = simulate_exposures(
            (128, 128), n_exposures=4, scene="stars", cr_rate=2.0, seed=6
        )
        masks = detect_cosmic_rays(sim.exposures, **KNOWN)
        table = masks.expected
        place = table["EXPOSURE"] - 1, table["Y"] - 1, table["X"] - 1
        bright = sim.expected[place] > np.quantile(sim.expected, 0.97)
        number = (~masks.crmasks).sum(axis=0)[place[1:]]
        noise = sim.noise[place] / np.sqrt(number)
        ratio = np.asarray(table["SIGMA"] / noise)[bright]
        assert np.sqrt(np.mean(ratio**2)) == pytest.approx(1, abs=0.25)

    @pytest.mark.parametrize("seeing", [(2.2, 2.8), (2.8, 2.2)])
    def test_sharper(self, seeing):
        """Noise grows where an exposure is made as sharp as another one."""
        sim = simulate_exposures(
            (256, 256), n_exposures=2, scene="fibres", seeing=seeing, seed=4
        )
        masks = detect_cosmic_rays(sim.exposures, **KNOWN)
        use = clean_places(masks, sim) & (masks.expected["EXPOSURE"] == 1)
        pull = pulls(masks, sim.expected)[use]
        assert len(pull) > 1000
        assert np.sqrt(np.mean(pull**2)) == pytest.approx(1, abs=0.2)

    def test_cores_of_two(self):
        """Cores of stars of other seeing are no hits of one of two exposures."""
        sim = simulate_exposures(
            (160, 160), n_exposures=2, scene="stars", seeing=(2.25, 2.75), seed=32
        )
        masks = detect_cosmic_rays(sim.exposures, **KNOWN)
        bright = sim.expected.mean(axis=0) > 2000
        assert bright.any()
        assert not (masks.crmasks & ~sim.hits(1) & bright).any()

    @pytest.mark.parametrize(
        ("scene", "seed", "differ", "brightest", "most"),
        [
            # A track over the wing of a star would be matched to itself.
            ("stars", 12004, {"seeing": (2.25, 2.75)}, 0.01, (3.3, 1.3)),
            # Lines vary on their own, by less than what mismatch would hide.
            ("fibres", 12001, {"sky_lines": (1.06, 0.94)}, 0.01, (1.45, 1.3)),
            # Structure that is hit in both is no mismatch.
            ("longslit", 13003, {}, 0.05, (1.45, 1.1)),
        ],
    )
    def test_bright_of_two(self, scene, seed, differ, brightest, most):
        """Means of two exposures are right where structure is bright, as they claim."""
        sim = simulate_exposures(
            (300, 300), n_exposures=2, scene=scene, cr_rate=1.0, seed=seed, **differ
        )
        masks = detect_cosmic_rays(sim.exposures, **KNOWN)
        means = {"mean": CRCombiner(sim.exposures, masks).meancr_combine()}
        found = evaluate(masks, means, sim).masked
        row = found[found["brightest"] == brightest][0]
        error, pull = most
        assert row["error"] < error
        assert 2 - pull < row["pull"] < pull

    @pytest.mark.parametrize("n", [2, 3])
    def test_hit_cores(self, n):
        """Hits on cores of stars of other seeing do not tell how the cores differ."""
        rng = np.random.default_rng(n)
        y, x = np.mgrid[:208, :208]
        truth = np.full((n, 208, 208), 100.0)
        hits = np.zeros_like(truth)
        sigma = np.linspace(2.25, 2.75, n)[:, None, None] / np.sqrt(8 * np.log(2))
        for k, corner in enumerate(np.ndindex(8, 8)):
            place = 26 * np.array(corner) + 13 + rng.uniform(-0.5, 0.5, 2)
            square = (y - place[0]) ** 2 + (x - place[1]) ** 2
            truth += 2e4 / (2 * np.pi * sigma**2) * np.exp(-square / 2 / sigma**2)
            if k % 4 == 0:
                row, column = np.round(place).astype(int)
                hits[k // 4 % n, row, column - 1 : column + 2] = 4000
        data = rng.poisson(truth) + rng.normal(0, 3, truth.shape) + hits
        ccds = [CCDData(plane.astype(np.float32), unit="electron") for plane in data]
        masks = detect_cosmic_rays(ccds, **KNOWN)
        table = masks.expected
        i, row, column = table["EXPOSURE"] - 1, table["Y"] - 1, table["X"] - 1
        core = (hits[i, row, column] > 0) & (
            masks.crmasks.sum(axis=0)[row, column] == 1
        )
        assert core.sum() > 40
        error = (table["VALUE"] - truth[i, row, column])[core]
        noise = np.sqrt(truth.mean(axis=0) / (n - 1))[row, column][core]
        assert np.sqrt(np.mean((error / noise) ** 2)) < 2.5
        # Noise in the reference would make the sharp ones too faint.
        for k in range(n):
            assert abs(np.mean((error / noise)[i[core] == k])) < 1

    def test_bias_and_exposure_times(self):
        """Values are in the unit of the exposures, with bias and at their own flux."""
        sim = simulate_exposures(
            (128, 128), seed=5, gain=2.0, bias=300.0, flux=(0.5, 1, 2), scene="longslit"
        )
        for ccd, flux in zip(sim.exposures, sim.flux, strict=True):
            ccd.header["EXPTIME"] = 100 * flux
        masks = detect_cosmic_rays(sim.exposures, gain=2.0, readnoise=3.0, bias=300.0)
        assert masks.expected_unit == u.adu
        pull = pulls(masks, sim.expected + 300)[clean_places(masks, sim)]
        assert abs(np.median(pull)) < 3 * 1.25 / np.sqrt(len(pull))
        assert np.std(pull) == pytest.approx(1, abs=0.15)

    def test_gain_map(self):
        """A map of the gain scales back to each pixel's own unit."""
        sim = simulate_exposures((128, 128), seed=6)
        gain = np.where(np.arange(128) < 64, 1.0, 2.0) * np.ones((128, 1))
        ccds = [CCDData(ccd.data / gain, unit="adu") for ccd in sim.exposures]
        masks = detect_cosmic_rays(ccds, gain=gain, readnoise=3.0)
        pull = pulls(masks, sim.expected / gain)[clean_places(masks, sim)]
        assert abs(np.median(pull)) < 0.1
        assert np.std(pull) == pytest.approx(1, abs=0.15)

    def test_bad_and_saturated(self):
        """Bad pixels have no value and are in no mean; saturated hits have one."""
        sim = simulate_exposures((128, 128), cr_rate=0.0, seed=7)
        ccds = [ccd.copy() for ccd in sim.exposures]
        ccds[0].data[60, 60:64] = 65535
        ccds[1].mask = np.zeros((128, 128), bool)
        ccds[1].mask[60, 60:64] = True
        ccds[1].data[60, 60:64] = 1e6
        masks = detect_cosmic_rays(ccds, **KNOWN)
        table = masks.expected
        part = table[(table["Y"] == 61) & (table["X"] > 60) & (table["X"] <= 64)]
        assert list(part["EXPOSURE"]) == [1] * 4
        error = part["VALUE"] - sim.expected[0, 60, 60:64]
        assert np.abs(error / part["SIGMA"]).max() < 4


class TestAddExpected:
    """Values for masks of other methods."""

    def test_incomplete_masks(self):
        """Hits that masks miss are no mismatch: SIGMA stays that of the noise."""
        sim = simulate_exposures((150, 150), scene="stars", seed=8)
        crmasks = sim.hits(0.5)
        labels = [ndimage.label(plane, np.ones((3, 3)))[0] for plane in crmasks]
        crmasks &= np.mod(labels, 20) != 1
        missed = sim.hits(0.5) & ~crmasks
        assert missed.any(axis=0).sum() > 50
        plain = CRMaskSet(crmasks.all(axis=0), crmasks.any(axis=0), crmasks)
        masks = add_expected(sim.exposures, plain, **KNOWN)
        pull = pulls(masks, sim.expected)[clean_places(masks, sim)]
        assert np.sqrt(np.mean(pull**2)) == pytest.approx(1, abs=0.15)

    def test_other_masks(self, differing):
        """Masks that record nothing get the same values, but for a better fit."""
        sim, masks = differing
        plain = CRMaskSet(masks.mediancr, masks.meancrt, masks.crmasks)
        added = add_expected(sim.exposures, plain, **KNOWN)
        assert plain.expected is None
        assert added.uuid == plain.uuid
        for name in ("EXPOSURE", "X", "Y"):
            assert (added.expected[name] == masks.expected[name]).all()
        pull = pulls(added, sim.expected)[clean_places(masks, sim)]
        assert np.std(pull) == pytest.approx(1, abs=0.1)

    def test_file_and_electrons(self, tmp_path):
        """Gain, read noise and bias are those of the file, in the exposures' unit."""
        sim = simulate_exposures((100, 100), seed=8, gain=2.0, bias=100.0)
        masks = detect_cosmic_rays(
            sim.exposures,
            gain=2.0,
            readnoise=3.0,
            bias=100.0,
            crmethod="lacosmic",
            la_verbose=False,
        )
        assert masks.expected is None
        masks.write(tmp_path / "m.fits")
        in_adu = add_expected(sim.exposures, tmp_path / "m.fits").expected
        ccds = [CCDData(ccd.data * 2, unit="electron") for ccd in sim.exposures]
        in_electrons = add_expected(ccds, masks).expected
        assert in_electrons["VALUE"].unit == u.electron
        for name in ("VALUE", "SIGMA"):
            assert np.allclose(in_electrons[name], 2 * in_adu[name], rtol=1e-4)

    @pytest.mark.parametrize(
        ("unit", "gain", "known", "bias"),
        [
            ("adu", 2, {}, 300),
            ("electron", None, {}, 600),
            ("electron", None, {"gain": 2.0}, 300),
            ("adu", None, {"gain": 2.0, "bias": 0.0}, 300),
            ("adu", None, {"gain": 2.0, "bias": 290.0}, 290),
            ("adu", None, {"gain": 2.0, "bias": 0.0, "lamedian": np.ones((90, 90))}, 0),
        ],
    )
    def test_bias(self, unit, gain, known, bias):
        """It is recorded in the unit of the gain, unless the masks know one."""
        sim = simulate_exposures((90, 90), seed=8, gain=2.0, bias=300.0)
        factor = 1 if unit == "adu" else 2
        ccds = [CCDData(ccd.data * factor, unit=unit) for ccd in sim.exposures]
        crmasks = sim.hits(5)
        half = 2 * crmasks.sum(axis=0) >= 3
        masks = CRMaskSet(half, crmasks.any(axis=0), crmasks, **known)
        given = {"gain": gain, "readnoise": 3.0, "bias": 300.0 * factor}
        masks = add_expected(ccds, masks, **given)
        assert masks.bias == bias
        if bias in (300, 600):
            sigma = CRCombiner(ccds, masks).meancr_combine().uncertainty.array / factor
            ratio = sigma / np.sqrt(np.square(sim.noise).sum(axis=0)) * 3
            assert np.median(ratio) == pytest.approx(1, abs=0.02)

    def test_refused(self, differing):
        """What does not fit is refused."""
        sim, masks = differing
        with pytest.raises(TypeError, match="masks must be a CRMaskSet or a file"):
            add_expected(sim.exposures, masks.crmasks, **KNOWN)
        with pytest.raises(ValueError, match="ccds must be 3 exposures of shape"):
            add_expected(sim.exposures[:2], masks, **KNOWN)
        plain = CRMaskSet(masks.mediancr, masks.meancrt, masks.crmasks)
        with pytest.raises(ValueError, match="gain must be given"):
            add_expected(sim.exposures, plain)


class TestStars:
    """Stars that are hit in their core, each in one exposure."""

    SIZE, STEP = 384, 32

    def exposures(self, seed, diffusion=0.4):
        """Return expected images, data and hits (n, ny, nx), and the stars' pixels."""
        rng = np.random.default_rng(seed)
        grid = np.arange(self.STEP // 2, self.SIZE, self.STEP)
        stars = np.stack(np.meshgrid(grid, grid, indexing="ij")).reshape(2, -1).T
        places = stars + rng.uniform(-0.5, 0.5, stars.shape)
        peaks = 3000 * 10 ** rng.uniform(-0.7, 0, len(stars))
        pixels = np.mgrid[: self.SIZE, : self.SIZE]
        expected, hits = (
            np.full((3, self.SIZE, self.SIZE), 60.0),
            np.zeros((3, 384, 384)),
        )
        settings = ((0.9, 2.4, -0.1), (1.0, 2.5, 0.0), (1.1, 2.6, 0.1))
        for i, (flux, fwhm, shift) in enumerate(settings):
            for (y, x), peak in zip(places, peaks, strict=True):
                part = np.s_[int(y) - 12 : int(y) + 14, int(x) - 12 : int(x) + 14]
                square = (pixels[0][part] - y) ** 2 + (pixels[1][part] - x - shift) ** 2
                star = (
                    peak * (2.5 / fwhm) ** 2 * np.exp(-4 * np.log(2) * square / fwhm**2)
                )
                expected[i][part] += star
            expected[i] *= flux
        for k, (y, x) in enumerate(stars):
            for step in range(-2, 3):
                hits[k % 3, y + step, x + step * (k % 2)] = rng.uniform(2000, 8000)
        hits = ndimage.gaussian_filter(hits, (0, diffusion, diffusion))
        data = rng.poisson(expected) + rng.normal(0, 3, expected.shape)
        return expected, data, hits, stars

    def measure(self, image, stars):
        """Return flux and FWHM of the stars."""
        offset = np.arange(-6, 7)
        y, x = (s[:, np.newaxis, np.newaxis] for s in stars.T)
        stamps = image[y + offset[:, np.newaxis], x + offset] - 60
        flux = stamps.sum(axis=(1, 2))
        square = offset[:, np.newaxis] ** 2 + offset**2
        return flux, np.sqrt((stamps * square).sum(axis=(1, 2)) / flux)

    def test_flux_and_width(self):
        """Stars are as if never hit: flux and FWHM on average within 0.1 sigma."""
        expected, data, hits, stars = self.exposures(1)
        assert len(stars) > 100
        noise = np.sqrt(expected + 9)
        crmasks = hits > 0.05 * noise
        masks = CRMaskSet(crmasks.sum(axis=0) > 1, crmasks.any(axis=0), crmasks)
        ccds = [CCDData(plane, unit="adu") for plane in (data + hits).astype("f4")]
        masks = add_expected(ccds, masks, **KNOWN)
        never, ideal = (self.measure(x.mean(axis=0), stars) for x in (data, expected))
        combiner, options = CRCombiner(ccds, masks), {"uncertainty": None}
        flux, width = self.measure(combiner.meancr_combine(**options).data, stars)
        sigma = np.std(never[0] - ideal[0])
        difference = (flux - never[0]) / sigma
        assert abs(difference.mean()) < 0.1
        assert np.std(difference) < 0.7
        assert abs((width - never[1]).mean()) < 0.1 * np.std(never[1] - ideal[1])
        image = combiner.meancr_combine(use_expected=False, **options)
        flux, _ = self.measure(image.data, stars)
        assert np.std((flux - never[0]) / sigma) > 2

    @pytest.mark.filterwarnings("ignore:the exposures differ too much")
    @pytest.mark.parametrize("diffusion", [0, 0.4])
    def test_own_masks(self, diffusion):
        """Hits on stars do not bend the values of detected hits, nor does growth."""
        expected, data, hits, stars = self.exposures(5, diffusion)
        ccds = [CCDData(plane, unit="adu") for plane in (data + hits).astype("f4")]
        masks = detect_cosmic_rays(ccds, **KNOWN)
        never, ideal = (self.measure(x.mean(axis=0), stars) for x in (data, expected))
        flux, _ = self.measure(CRCombiner(ccds, masks).meancr_combine().data, stars)
        difference = (flux - never[0]) / np.std(never[0] - ideal[0])
        assert abs(difference.mean()) < 0.1
        assert np.std(difference) < 0.8
