# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Targets that are elsewhere in an exposure, and other differences not mended."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.nddata import CCDData
from numpy.testing import assert_allclose
from scipy import ndimage

from ccdcr import (
    CRMaskSet,
    MatchingFailedWarning,
    check_equivalence,
    detect_cosmic_rays,
)
from ccdcr.matching.frames import Frames, Noise, find_structure
from ccdcr.matching.unmended import (
    excess_on_structure,
    find_displacement,
    measure_patches,
)
from ccdcr.simulation import simulate_exposures

REAL = Path(__file__).resolve().parents[3] / "shared" / "field" / "real"
SHAPE = (200, 200)


def nodded(pattern, seed, peak=80.0, throw=40):
    """Return exposures of a trace on a sky with lines, at position A or B."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    places, heights = rng.uniform(0, SHAPE[1], 8), rng.uniform(20, 200, 8)
    lines = np.exp(-0.5 * ((x[0] - places[:, np.newaxis]) / 1.3) ** 2)
    sky = 20 + heights @ lines
    hits = cosmic_rays(len(pattern), seed)
    spectrum = peak * (1 + 0.3 * np.sin(x / 15 + seed))
    exposures = []
    for position, hit in zip(pattern, hits, strict=True):
        centre = 80 + throw * (position == "B") + 0.01 * x
        trace = spectrum * np.exp(-0.5 * ((y - centre) / 1.5) ** 2)
        exposures.append(rng.poisson(sky + trace) + rng.normal(0, 3, SHAPE) + hit)
    return np.array(exposures, dtype=np.float32)


def cosmic_rays(n, seed, rate=0.5):
    """Return the electrons of cosmic rays in n exposures."""
    sim = simulate_exposures(SHAPE, n_exposures=n, seed=seed, cr_rate=rate)
    return sim.cosmic_rays


def as_ccds(data, unit="electron"):
    """Return exposures as CCDData."""
    return [CCDData(plane.astype(np.float32), unit=unit) for plane in data]


class TestDisplaced:
    """The same excess at two places."""

    def test_two_tracks(self):
        """Two pairs of tracks at the same distance are no nod."""
        rng = np.random.default_rng(1)
        data = rng.normal(100, 10, (2, *SHAPE)).astype(np.float32)
        for k, (dy, dx) in enumerate([(0, 0), (21, 34)]):
            data[k, 13 + dy : 19 + dy, 3 + dx : 31 + dx] += 400
            data[k, 109 + dy : 115 + dy, 99 + dx : 127 + dx] += 400
        frames = Frames.from_arrays(data, Noise.from_detector(2, 1.0, 3.0))
        level = np.full(SHAPE, 100, np.float32)
        assert find_displacement(frames, level, np.zeros_like(level)) is None

    def test_wings(self):
        """Wings of a trace, on one side and on the other, are no nod."""
        rng, data = np.random.default_rng(3), []
        y, x = np.indices((100, 400))
        for width, shift in ((1.9, 0), (2.3, 0.3), (2.3, -0.3), (1.9, 0)):
            profile = np.exp(-(((y - 50 - 0.007 * x - shift) / width) ** 2) / 2)
            image = rng.poisson(28 + 9000 / width * profile)
            data.append(image + rng.normal(0, 4.7, image.shape))
        noise = Noise.from_detector(4, 1.0, 4.7)
        frames = Frames.from_arrays(np.array(data, dtype=np.float32), noise)
        reference = np.median(data, axis=0).astype(np.float32)
        profile = find_structure(reference, noise).profile
        assert find_displacement(frames, reference, profile) is None

    @pytest.mark.parametrize("seed", [31, 32])
    @pytest.mark.parametrize("pattern", ["AB", "ABA", "ABBA", "ABABA", "AAB"])
    def test_nod(self, pattern, seed):
        """A nodded trace is a failure that names shift and remedy."""
        match = r"nod.* displaced by \([+-]\d, [+-](39|40|41)\).*; register .* or "
        match += r"|not registered: .* [+-](39|40|41|20|13|10)\.\d+\)"
        with pytest.warns(MatchingFailedWarning, match=match):
            masks = detect_cosmic_rays(as_ccds(nodded(pattern, seed)), readnoise=3.0)
        assert masks.equivalence.failures

    @pytest.mark.filterwarnings("ignore::ccdcr.NoiseModelWarning")
    @pytest.mark.parametrize("peak", [40.0, 400.0, 10000.0])
    @pytest.mark.parametrize("throw", [5, 12, 90])
    @pytest.mark.parametrize("pattern", ["AB", "ABBA"])
    def test_throws(self, pattern, throw, peak):
        """Near and far nods of faint and bright traces are failures."""
        ccds = as_ccds(nodded(pattern, 35, peak, throw))
        with pytest.warns(MatchingFailedWarning) as caught:
            detect_cosmic_rays(ccds, readnoise=3.0)
        text = " ".join(str(warning.message) for warning in caught)
        if "not registered" in text:
            shifts = re.findall(r"\([+-][\d.]+, ([+-][\d.]+)\)", text)[:2]
            assert_allclose(float(shifts[1]) - float(shifts[0]), throw, atol=0.3)
            return
        found = re.search(r"displaced by \([+-]\d+, ([+-]\d+)\)", text)
        # Where they overlap, only the outer parts of the two are seen.
        assert abs(abs(int(found[1])) - throw) <= (2 if throw < 8 else 1)

    @pytest.mark.parametrize("seed", [40, 41])
    def test_faint(self, seed):
        """So is that of a faint trace in two small exposures."""
        ccds = as_ccds(nodded("AB", seed, 40.0))
        with pytest.warns(
            MatchingFailedWarning, match=r"displaced by \([+-]\d, \+40\)"
        ):
            detect_cosmic_rays(ccds, readnoise=3.0)

    @pytest.mark.parametrize("seed", [31, 32])
    @pytest.mark.parametrize("pattern", ["AA", "AAA", "AAAA"])
    def test_in_place(self, pattern, seed):
        """The same trace in one place is none."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            detect_cosmic_rays(as_ccds(nodded(pattern, seed)), readnoise=3.0)

    @pytest.mark.parametrize("n", [2, 3])
    def test_drift(self, n):
        """A field of stars that has moved in the last exposure."""
        shift = np.zeros((n, 2))
        shift[-1] = 6, -4
        sim = simulate_exposures(
            (300, 300),
            n_exposures=n,
            scene="stars",
            shift=shift.tolist(),
            cr_rate=0.5,
            seed=41,
        )
        with pytest.warns(
            MatchingFailedWarning, match=r"not registered: .*\([+][234]\.\d\d, -[12]\."
        ):
            check_equivalence(sim.exposures, gain=1.0, readnoise=3.0)

    @pytest.mark.parametrize("rate", [0.1, 0.5, 2.0])
    @pytest.mark.parametrize("seed", range(50, 58))
    def test_cosmic_rays(self, rate, seed):
        """Cosmic rays fall on the shape of each other by chance only."""
        data = np.random.default_rng(seed).normal(20, 5, (2, *SHAPE))
        data = (data + cosmic_rays(2, seed, rate)).astype(np.float32)
        frames = Frames.from_arrays(data, Noise.from_detector(2, 1.0, 3.0))
        lowest = data.min(axis=0)
        profile = find_structure(lowest, frames.noise).profile
        assert find_displacement(frames, lowest, profile) is None


class TestPatches:
    """Patches that are too large for cosmic rays."""

    @pytest.mark.parametrize("rate", [0.5, 1.5])
    @pytest.mark.parametrize("seed", range(60, 66))
    def test_cosmic_rays(self, rate, seed):
        """Tracks are thin."""
        masks = cosmic_rays(2, seed, rate) > 12
        assert not measure_patches(masks).large.any()

    def test_named(self):
        """The exposure with most of them is named."""
        masks = cosmic_rays(3, 60) > 12
        masks[1, 50:70, 20:60] = True
        patches = measure_patches(masks)
        assert patches.large.tolist() == [False, True, False]
        # At the edge 4 of 9 lines of the box are empty; 5 pixels more at each corner.
        alone = np.zeros_like(masks)
        alone[1, 50:70, 20:60] = True
        count = 18 * 38 - 4 * 5
        assert measure_patches(alone).fractions[1] == pytest.approx(count / 40000)
        assert "of exposure 2; exposure 2 has" in str(patches)


class TestExcess:
    """Flags on structure that hits do not explain."""

    def test_hits(self):
        """Hits are anywhere, and in groups; on structure they are no excess."""
        rng, structure = np.random.default_rng(1), np.zeros((300, 300), dtype=bool)
        structure[100:160] = True
        seeds = rng.random((3, 300, 300)) < np.reshape([0.001, 0.002, 0.001], (3, 1, 1))
        masks = ndimage.binary_dilation(seeds, np.ones((1, 3, 3), dtype=bool))
        flagged = [np.flatnonzero(mask) for mask in masks]
        assert excess_on_structure(flagged, structure).max() < 2.5
        masks[2, 120:126, 50:250] = True
        flagged[2] = np.flatnonzero(masks[2])
        excess = excess_on_structure(flagged, structure)
        assert (excess > 12).tolist() == [0, 0, 1]
        assert excess_on_structure(flagged, structure, times=3)[2] < excess[2]
        assert excess_on_structure(flagged, ~structure)[2] < 0


@pytest.mark.filterwarnings("ignore::ccdcr.NoiseModelWarning")
@pytest.mark.parametrize("scene", ["fibres", "longslit"])
@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("factor", [10, 30])
class TestScaled:
    """One exposure whose object and sky are fainter alike."""

    def simulate(self, scene, n, factor):
        """Return simulated exposures, the last one is fainter."""
        flux = [1.0] * (n - 1) + [1 / factor]
        return simulate_exposures(
            SHAPE, n_exposures=n, scene=scene, flux=flux, cr_rate=0.5, seed=70
        )

    def test_unknown(self, scene, n, factor):
        """Without exposure times it is a failure that says to scale them."""
        sim = self.simulate(scene, n, factor)
        ccds = as_ccds(np.array([ccd.data for ccd in sim.exposures]))
        with pytest.warns(MatchingFailedWarning, match="scale the exposures"):
            detect_cosmic_rays(ccds, readnoise=3.0)

    def test_exposure_times(self, scene, n, factor):
        """With their exposure times they are equivalent."""
        sim = self.simulate(scene, n, factor)
        for ccd, flux in zip(sim.exposures, sim.flux, strict=True):
            ccd.header["EXPTIME"] = 600 * flux
        masks = detect_cosmic_rays(sim.exposures, gain=1.0, readnoise=3.0)
        assert not masks.equivalence.failures
        assert masks.crmasks.mean(axis=(1, 2)).max() < 0.03


@pytest.mark.skipif(not REAL.is_dir(), reason="the real exposures are not at hand")
@pytest.mark.filterwarnings("ignore::ccdcr.NoiseModelWarning")
class TestReal:
    """Real exposures that differ."""

    def detect(self, name, unit, match, **options):
        """Detect in real exposures that fail, and return the masks."""
        with np.load(REAL / f"{name}.npz") as file:
            ccds = as_ccds(file["exposures"], unit)
            options["readnoise"] = float(file["readnoise"])
        with pytest.warns(MatchingFailedWarning, match=match):
            return detect_cosmic_rays(ccds, **options)

    def test_nod(self, tmp_path):
        """A target nodded along the slit; the file keeps the reason."""
        masks = self.detect("nodded_n2", "adu", r"nod .*\(\+186, \+0\)", gain=0.16)
        masks.write(tmp_path / "masks.fits")
        read = CRMaskSet.read(tmp_path / "masks.fits").equivalence
        assert read.reasons == masks.equivalence.reasons
        assert read.failures == masks.equivalence.failures

    def test_exposure_times(self):
        """Exposures of 600 s and 25 s whose sky and object differ alike."""
        self.detect("exptime_600_25", "electron", "patches .*; exposure [12] has 7")
