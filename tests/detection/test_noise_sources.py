# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of gain and read noise by amplifier, and uncertainties, with known truth."""

from pathlib import Path

import numpy as np
import pytest
from astropy import log
from astropy import units as u
from astropy.nddata import (
    CCDData,
    InverseVariance,
    StdDevUncertainty,
    VarianceUncertainty,
)
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

from ccdcr import (
    CRCombiner,
    CRMaskSet,
    add_expected,
    align_exposures,
    ccd_map,
    check_equivalence,
    combine,
    detect_cosmic_rays,
    explain_pixel,
)
from ccdcr.cli import main
from ccdcr.exceptions import (
    CRMasksFileError,
    MatchingFailedWarning,
    NoiseModelWarning,
    NoUncertaintyWarning,
)
from ccdcr.exposures import CCDParameters
from ccdcr.exposures.ccd_values import find_keywords
from ccdcr.simulation import simulate_exposures
from ccdcr.single_image.detectors import LACosmic

SHAPE = (200, 200)
HALVES = ("[1:100, :]", "[101:200, :]")
READNOISE = dict(zip(HALVES, (3.0, 7.0), strict=True))
GAIN = dict(zip(HALVES, (1.2, 2.1), strict=True))
LEFT, RIGHT = np.s_[:, :100], np.s_[:, 100:]


def simulate(**options):
    """Return two amplifiers of other gain and read noise."""
    options = {"gain": GAIN, "readnoise": READNOISE, "cr_rate": 0.3} | options
    return simulate_exposures(SHAPE, seed=11, **options)


def pulls(combined, truth, masks):
    """Return the RMS of (value - truth) / uncertainty in both halves."""
    clean = ~masks.meancrt
    z = (combined.data - truth) / combined.uncertainty.array
    return [np.sqrt(np.mean(z[part][clean[part]] ** 2)) for part in (LEFT, RIGHT)]


class TestAmplifiers:
    """Two amplifiers."""

    @pytest.mark.parametrize("n", [2, 3, 7])
    def test_matched(self, n, tmp_path):
        """Few false pixels, hits are found, uncertainties are right in each half."""
        sim = simulate(n_exposures=n)
        masks = detect_cosmic_rays(sim.exposures, gain=GAIN, readnoise=READNOISE)
        near = [ndimage.binary_dilation(c > 0.1, iterations=2) for c in sim.cosmic_rays]
        assert (masks.crmasks & ~np.array(near)).sum(axis=(1, 2)).max() <= 2
        hits = sim.hits()
        assert np.count_nonzero(masks.crmasks & hits) >= 0.995 * hits.sum()
        result = CRCombiner(sim.exposures, masks).meancr_combine()
        assert pulls(result, sim.truth, masks) == pytest.approx([1, 1], abs=0.05)
        path = tmp_path / "crmasks.fits"
        masks.write(path)
        again = combine(sim.exposures, crmasks=path, mem_limit=1e6)
        assert_array_equal(again.uncertainty.array, result.uncertainty.array)

    def test_one_number_is_wrong(self):
        """The test sees the difference: one read noise for both is far off."""
        sim = simulate()
        masks = detect_cosmic_rays(sim.exposures, gain=GAIN, readnoise=READNOISE)
        result = CRCombiner(sim.exposures, masks, readnoise=5.0).meancr_combine()
        left, right = pulls(result, sim.truth, masks)
        assert left < 0.92
        assert right > 1.08

    @pytest.mark.parametrize(
        "options", [{}, {"mm_boundary_fit": "spline", "mm_nsimulations": 2}]
    )
    def test_median_minimum(self, options):
        """Noise of the noisier half is not flagged, exact or simulated."""
        sim = simulate(scene="stars", cr_rate=0)
        noise = {"gain": GAIN, "readnoise": READNOISE}
        masks = detect_cosmic_rays(
            sim.exposures, crmethod="mmcosmic", **noise, **options
        )
        assert masks.mediancr.sum() <= 9 * 2

    def test_equivalent(self):
        """Two amplifiers are no reason for a mismatch."""
        sim = simulate(scene="longslit")
        report = check_equivalence(sim.exposures, gain=GAIN, readnoise=READNOISE)
        assert not report.needed

    def test_lacosmic(self):
        """A map of one value gives what the value gives."""
        image = np.asarray(simulate(gain=1.0).exposures[0].data)
        one = LACosmic().run(image, None, 1.0, 3.0)
        of_map = LACosmic().run(image, None, 1.0, np.full(SHAPE, 3.0))
        assert_array_equal(one[0], of_map[0])
        assert one[0].any()

    def test_lamedian(self):
        """LAMEDIAN in electron replaces adu, whatever the amplifier."""
        sim = simulate(gain=GAIN, readnoise=3.0, cr_rate=0)
        parts = [np.ones(SHAPE, bool), np.ones(SHAPE, bool)]
        gain = ccd_map(SHAPE, GAIN)
        masks = CRMaskSet(
            *parts,
            np.zeros((3, *SHAPE), bool),
            lamedian=sim.truth * gain * u.electron,
            gain=gain,
            readnoise=3.0,
        )
        result = CRCombiner(sim.exposures, masks).mediancr_combine(use_lamedian=True)
        assert result.data == pytest.approx(sim.truth, rel=1e-5)


class TestAligned:
    """Two amplifiers, and exposures that were dithered by whole pixels."""

    SHIFTS = ((0, 0), (12, -7), (-9, 10))

    @pytest.fixture(params=[1.5, GAIN])
    def case(self, request):
        """Return exposures in adu, aligned ones, gain (ny, nx) and truth (electron)."""
        gain, readnoise = (
            ccd_map(SHAPE, x if isinstance(x, dict) else {"[:, :]": x})
            for x in (request.param, READNOISE)
        )
        sim = simulate_exposures(
            (240, 240), gain=1.0, readnoise=0, scene="stars", seed=1
        )
        rng, ccds = np.random.default_rng(1), []
        for (dx, dy), hits in zip(self.SHIFTS, sim.cosmic_rays, strict=True):
            part = np.s_[20 - dy : 220 - dy, 20 - dx : 220 - dx]
            electrons = rng.poisson(sim.truth[part]) + hits[part]
            electrons += readnoise * rng.standard_normal(SHAPE)
            ccds.append(CCDData(electrons.astype(np.float32) / gain, unit="adu"))
        aligned = align_exposures(ccds, self.SHIFTS)
        y, x = (20 - aligned[0].header[name] for name in ("ALIGNY", "ALIGNX"))
        truth = sim.truth[y : y + aligned[0].shape[0], x : x + aligned[0].shape[1]]
        return request.param, ccds, aligned, gain, truth

    def test_maps(self, case):
        """Maps move with the exposures, into the file and every combination."""
        given, _, aligned, _, truth = case
        masks = detect_cosmic_rays(aligned, gain=given, readnoise=READNOISE)
        known = ccd_map(SHAPE, READNOISE)
        for plane, ccd in zip(masks.readnoise, aligned, strict=True):
            x, y = ccd.header["ALIGNX"], ccd.header["ALIGNY"]
            assert_array_equal(plane[y : y + 200, x : x + 200], known)
        gains = np.broadcast_to(masks.gain, masks.readnoise.shape)
        electrons = [
            CCDData(ccd.data * g, unit="electron", mask=ccd.mask, meta=ccd.meta)
            for ccd, g in zip(aligned, gains, strict=True)
        ]
        result = CRCombiner(electrons, masks).meancr_combine()
        z = (result.data - truth) / result.uncertainty.array
        covered = ~(masks.meancrt | np.any([ccd.mask for ccd in aligned], axis=0))
        x = np.arange(z.shape[1]) - aligned[0].header["ALIGNX"]
        for part in (x < 85, (x >= 85) & (x < 115), x >= 115):
            assert z[:, part][covered[:, part]].std() == pytest.approx(1, abs=0.05)

    def test_file(self, case, tmp_path):
        """They are kept, cut and combined by rows."""
        given, _, aligned, *_ = case
        masks = detect_cosmic_rays(aligned, gain=given, readnoise=READNOISE)
        masks.write(tmp_path / "m.fits")
        again = CRMaskSet.read(tmp_path / "m.fits")
        assert again == masks
        assert again[10:50, 20:90] == masks[10:50, 20:90]
        result = CRCombiner(aligned, masks).meancr_combine()
        rows = combine(aligned, crmasks=tmp_path / "m.fits", mem_limit=2e6)
        assert_array_equal(rows.uncertainty.array, result.uncertainty.array)

    def test_original(self, case):
        """Cleaned exposures have the noise of their own amplifiers."""
        given, ccds, aligned, gain, _ = case
        masks = detect_cosmic_rays(aligned, gain=given, readnoise=READNOISE)
        for ccd, clean in zip(ccds, masks.clean(ccds), strict=True):
            variance = np.maximum(ccd.data, 0) / gain
            variance += (ccd_map(SHAPE, READNOISE) / gain) ** 2
            same = (clean.data == ccd.data) & ~clean.mask
            sigma = clean.uncertainty.array
            assert_allclose(sigma[same], np.sqrt(variance)[same], rtol=1e-4)


class TestExposures:
    """Gain and read noise of each exposure."""

    def test_readnoise(self, tmp_path):
        """The uncertainty of each exposure counts, also from a file."""
        readnoise = [3.0, 9.0, 5.0, 3.0]
        sim = simulate(gain=1.5, readnoise=readnoise, n_exposures=4)
        masks = detect_cosmic_rays(sim.exposures, gain="GAIN", readnoise="RDNOISE")
        assert masks.readnoise == pytest.approx(readnoise)
        masks.write(tmp_path / "crmasks.fits")
        masks = CRMaskSet.read(tmp_path / "crmasks.fits")
        assert masks.readnoise == pytest.approx(readnoise)
        result = CRCombiner(sim.exposures, masks).meancr_combine()
        assert pulls(result, sim.truth, masks) == pytest.approx([1, 1], abs=0.05)

    @pytest.mark.parametrize("crmethod", ["matched", "mmcosmic"])
    def test_gain(self, crmethod):
        """Exposures of other gain are brought to one level by their flux factors."""
        sim = simulate(gain=[1.0, 2.0, 1.0], readnoise=3.0)
        masks = detect_cosmic_rays(
            sim.exposures, gain=[1.0, 2.0, 1.0], readnoise=3.0, crmethod=crmethod
        )
        assert masks.flux_factor == pytest.approx([1, 0.5, 1])
        hits = sim.hits()
        assert np.count_nonzero(masks.crmasks & hits) >= 0.99 * hits.sum()
        near = [ndimage.binary_dilation(c > 0.1, iterations=3) for c in sim.cosmic_rays]
        assert (masks.crmasks & ~np.array(near)).sum() <= 9
        combiner = CRCombiner(sim.exposures, masks)
        result = combiner.meancr_combine(apply_flux_factor=True)
        assert pulls(result, sim.truth, masks) == pytest.approx([1, 1], abs=0.05)


class TestMaskSet:
    """Maps in mask sets and their files."""

    PARTS = (np.zeros((3, 4), bool), np.zeros((3, 4), bool), np.zeros((2, 3, 4), bool))

    def test_file_and_slice(self, tmp_path):
        """Maps are written, read, compared and cut."""
        gain = np.arange(1.0, 13.0, dtype=np.float32).reshape(3, 4)
        masks = CRMaskSet(*self.PARTS, gain=gain, readnoise=[2.0, 3.0])
        masks.write(tmp_path / "crmasks.fits")
        hdus = masks.to_hdulist()
        assert_array_equal(hdus["GAINMAP"].data, gain)
        assert "RNMAP" not in hdus
        assert hdus[0].header["CRGAIN"] == 6.5
        again = CRMaskSet.read(tmp_path / "crmasks.fits")
        assert again == masks
        assert_array_equal(again.readnoise, [2, 3])
        assert_array_equal(again[1:, :2].gain, gain[1:, :2])
        assert again != CRMaskSet(*self.PARTS, gain=gain + 1, readnoise=[2.0, 3.0])

    def test_wrong_map(self):
        """A map that is not positive is refused, in a file, too."""
        gain = np.ones((3, 4))
        gain[0, 0] = 0
        with pytest.raises(ValueError, match="gain must be a finite number > 0, got 0"):
            CRMaskSet(*self.PARTS, gain=gain)
        hdus = CRMaskSet(*self.PARTS, gain=np.ones((3, 4))).to_hdulist()
        hdus["GAINMAP"].data = np.zeros((3, 4))
        with pytest.raises(CRMasksFileError, match="gain must be a finite number"):
            CRMaskSet.from_hdulist(hdus)


def test_parameters_of_a_part():
    """A part of the image has its part of the maps."""
    gain, readnoise = ccd_map(SHAPE, GAIN), ccd_map(SHAPE, READNOISE)
    part = CCDParameters.from_values(gain, readnoise).at(np.s_[:2, 99:101])
    assert_array_equal(part.every_gain, np.float32([[1.2, 2.1]] * 2))
    assert_array_equal(part.every_readnoise, [[3, 7]] * 2)


@pytest.mark.parametrize("method", ["average", "median"])
def test_no_effect(method):
    """The methods of ccdproc use no gain."""
    with pytest.raises(ValueError, match="readnoise has no effect"):
        combine(simulate().exposures, method=method, readnoise=3.0)


KINDS = {
    StdDevUncertainty: np.sqrt,
    VarianceUncertainty: lambda variance: variance,
    InverseVariance: lambda variance: 1 / variance,
}


SKIES = {"equal": (200.0,) * 7, "other": (100.0, 200.0, 300.0, 150.0, 250.0)}


class Reduced:
    """Exposures with a sky subtracted, divided by a flat, and their truth."""

    def __init__(self, n=3, kind=StdDevUncertainty, skies="equal", **options):
        y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] / SHAPE[0]
        flat = 1.1 - 0.8 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)
        skies = SKIES[skies][:n]
        self.sim = simulate_exposures(
            SHAPE,
            n_exposures=n,
            gain=1.5,
            readnoise=4.0,
            cr_rate=0.3,
            background=skies,
            flat=flat,
            **{"scene": "stars", "seed": 3} | options,
        )
        self.truth, self.flat = self.sim.truth / flat, flat
        self.ccds = []
        for ccd, sky in zip(self.sim.exposures, skies, strict=True):
            variance = np.maximum(ccd.data, 0) / 1.5 + (4 / 1.5) ** 2
            data = ccd.data / flat - sky / 1.5
            uncertainty = kind(KINDS[kind](variance / flat**2))
            self.ccds.append(CCDData(data, unit="adu", uncertainty=uncertainty))

    def false(self, masks):
        """Return the number of flagged pixels of each exposure far from hits."""
        planes = self.sim.cosmic_rays
        near = [ndimage.binary_dilation(c > 0.1, iterations=3) for c in planes]
        return (masks.crmasks & ~np.array(near)).sum(axis=(1, 2))

    def recall(self, masks):
        """Return the part of the hits that is flagged."""
        hits = self.sim.hits()
        if len(masks) == 2:
            # Their difference has sqrt(2) of the noise, and the fainter of two hits
            # of one pixel cannot be found.
            hits = self.sim.hits(5 * np.sqrt(2))
            hits &= (self.sim.cosmic_rays > self.sim.noise).sum(axis=0) == 1
        return np.count_nonzero(masks.crmasks & hits) / hits.sum()


class TestUncertainty:
    """The noise by the uncertainties of the exposures."""

    @pytest.mark.parametrize(
        ("n", "kind"),
        [*zip((2, 4, 7), KINDS, strict=True), *((3, kind) for kind in KINDS)],
    )
    def test_matched(self, n, kind):
        """Gain and read noise are not needed; hits are found and nothing else."""
        case = Reduced(n, kind)
        masks = detect_cosmic_rays(case.ccds)
        assert masks.noise == "uncertainty"
        assert masks.gain is masks.readnoise is None
        assert case.false(masks).max() <= 2
        assert case.recall(masks) >= 0.99
        result = CRCombiner(case.ccds, masks).meancr_combine()
        z = (result.data - case.truth) / result.uncertainty.array
        assert z[~masks.meancrt].std() == pytest.approx(1, abs=0.05)

    def test_other_skies(self):
        """Each exposure has the noise of its own sky, also after subtraction."""
        case = Reduced(5, skies="other", seed=4)
        masks = detect_cosmic_rays(case.ccds)
        assert case.false(masks).max() <= 2
        assert case.recall(masks) >= 0.99

    @pytest.mark.parametrize("crmethod", ["mmcosmic", "mm_lacosmic"])
    def test_median_minimum(self, crmethod):
        """It needs gain and read noise, and knows the noise of the sky."""
        case = Reduced()
        with pytest.raises(ValueError, match="gain must be given"):
            detect_cosmic_rays(case.ccds, crmethod=crmethod)
        noise = {"gain": 1.5, "readnoise": 4.0}
        masks = detect_cosmic_rays(
            case.ccds, crmethod=crmethod, la_verbose=False, **noise
        )
        # A false pixel is dilated to nine.
        assert case.false(masks).max() <= 9
        assert case.recall(masks) >= 0.99

    def test_lacosmic(self):
        """L.A. Cosmic flags no noise, and needs no gain."""
        case = Reduced()
        masks = detect_cosmic_rays(case.ccds, crmethod="lacosmic", la_verbose=False)
        assert case.false(masks).max() == 0
        assert masks.meancrt.any()
        assert masks.lamedian.unit == u.adu

    def test_detector(self):
        """On demand gain and read noise count, here with many false pixels."""
        case = Reduced()
        noise = {"gain": 1.5, "readnoise": 4.0, "noise": "detector"}
        with pytest.warns(NoiseModelWarning):
            masks = detect_cosmic_rays(case.ccds, **noise)
        assert masks.noise == "detector"
        assert case.false(masks).max() > 10

    def test_some(self):
        """Of some exposures only: gain and read noise, and one warning."""
        sim = simulate(gain=1.0, readnoise=3.0)
        ccds = [ccd.copy() for ccd in sim.exposures]
        ccds[0].uncertainty = StdDevUncertainty(np.full(SHAPE, 1e3))
        with pytest.warns(NoUncertaintyWarning, match="1 of 3 exposures .* not used"):
            masks = detect_cosmic_rays(ccds, gain=1.0, readnoise=3.0)
        plain = detect_cosmic_rays(sim.exposures, gain=1.0, readnoise=3.0)
        assert_array_equal(masks.crmasks, plain.crmasks)
        with pytest.raises(ValueError, match="needs an uncertainty of each exposure"):
            detect_cosmic_rays(ccds, noise="uncertainty")
        with pytest.raises(ValueError, match="noise must be one of auto, uncertainty"):
            detect_cosmic_rays(ccds, noise="model")

    def test_no_information(self):
        """Pixels without information are ignored, NaN of negative data is not that."""
        case = Reduced()
        for ccd in case.ccds:
            ccd.uncertainty.array[:, 150:][ccd.data[:, 150:] < 0] = np.nan
        case.ccds[1].uncertainty.array[:50] = 0
        case.ccds[1].uncertainty.array[:50, ::2] = np.nan
        case.ccds[1].data[:50] = 1e6
        masks = detect_cosmic_rays(case.ccds, gain=1.5, readnoise=4.0)
        assert not masks.crmasks[1, :50].any()
        assert case.false(masks).max() <= 2
        result = CRCombiner(case.ccds, masks).meancr_combine()
        z = (result.data - case.truth) / result.uncertainty.array
        clean = ~masks.meancrt
        assert z[:50][clean[:50]].std() == pytest.approx(1, abs=0.05)
        assert abs(z[:, 150:][clean[:, 150:]].mean()) < 0.1

    def test_small(self):
        """Few pixels have uncertainties that depend on the signal."""
        sim = simulate_exposures(
            (20, 20), n_exposures=2, scene="stars", seed=0, cr_rate=5.0
        )
        rng = np.random.default_rng(0)
        for ccd in sim.exposures:
            ccd.mask = rng.random((20, 20)) < 0.2
            ccd.uncertainty = StdDevUncertainty(np.sqrt(np.clip(ccd.data, 0, None) + 9))
        masks = detect_cosmic_rays(sim.exposures, gain=1.0, readnoise=3.0)
        found = (masks.crmasks & sim.hits(50)).sum()
        assert found > 0.7 * (sim.hits(50) & [~ccd.mask for ccd in sim.exposures]).sum()

    def test_nothing_at_all(self):
        """An uncertainty of 0 everywhere is a mistake."""
        case = Reduced()
        case.ccds[2].uncertainty = StdDevUncertainty(np.zeros(SHAPE))
        with pytest.raises(ValueError, match="exposure 3 means no information in all"):
            detect_cosmic_rays(case.ccds)

    @pytest.mark.parametrize("factor", [0.5, 2.0])
    def test_wrong(self, factor):
        """Wrong uncertainties are said to be wrong."""
        case = Reduced()
        for ccd in case.ccds:
            ccd.uncertainty.array *= factor
        with pytest.warns(NoiseModelWarning, match="what their uncertainties say"):
            detect_cosmic_rays(case.ccds)

    def test_far_too_small(self):
        """Where matching fails by them, the uncertainties are named, not the gain."""
        sim = simulate_exposures((128, 128), scene="longslit", seed=1)
        for ccd, noise in zip(sim.exposures, sim.noise, strict=True):
            ccd.uncertainty = StdDevUncertainty(noise / 10)
        with pytest.warns(MatchingFailedWarning, match="check the uncertainties, reg"):
            detect_cosmic_rays(sim.exposures)

    def test_file(self, tmp_path):
        """The source is kept in the file, and printed."""
        masks = detect_cosmic_rays(Reduced().ccds)
        masks.write(tmp_path / "crmasks.fits")
        again = CRMaskSet.read(tmp_path / "crmasks.fits")
        assert again.noise == again[:9].noise == "uncertainty"
        assert "noise: by the uncertainties of the exposures" in str(again)

    def test_expected(self):
        """Expected values have the noise of the masks, or the one given, if wrong."""
        case = Reduced()
        masks = detect_cosmic_rays(case.ccds)
        sigma = masks.expected["SIGMA"].data
        again = add_expected(case.ccds, masks).expected["SIGMA"].data
        assert np.median(again / sigma) == pytest.approx(1, abs=0.02)
        noise = {"gain": 1.5, "readnoise": 60.0, "noise": "detector"}
        with pytest.warns(NoiseModelWarning, match=r"0\.3\d times .* check readnoise"):
            other = add_expected(case.ccds, masks, **noise).expected["SIGMA"].data
        # That of the mean of two exposures.
        assert np.median(other) == pytest.approx(60 / 1.5 / np.sqrt(2), rel=0.03)

    def test_explained(self):
        """The deviation of a pixel is that of the detection."""
        case = Reduced()
        masks = detect_cosmic_rays(case.ccds)
        y, x = np.argwhere(masks.crmasks[1] & case.sim.hits(8)[1])[0]
        rows = {r["item"]: r for r in explain_pixel(case.ccds, masks, x + 1, y + 1)}
        row = rows["matched exposure 2: minus the others"]
        sigma = case.ccds[0].uncertainty.array[y, x]
        assert row["noise"] == pytest.approx(sigma * np.sqrt(1.5), rel=0.15)
        value = case.sim.cosmic_rays[1, y, x] / case.flat[y, x]
        assert row["value"] == pytest.approx(value, abs=5 * sigma)


TIMES = (200.0, 1000.0, 600.0)


def test_bad_in_all():
    """A column that is bad in all exposures is no reason for a message of numpy."""
    sim = simulate_exposures((64, 64), scene="longslit", seed=2)
    ccds = []
    for ccd in sim.exposures:
        bad = np.zeros(ccd.shape, bool)
        bad[:, 30] = True
        variance = VarianceUncertainty(ccd.data.clip(0) + 9)
        ccds.append(CCDData(ccd.data, unit="electron", mask=bad, uncertainty=variance))
    masks = detect_cosmic_rays(ccds)
    assert masks.crmasks.any()
    assert not masks.crmasks[:, :, 30].any()


class TestUnits:
    """Counts and electrons, and rates of them."""

    @pytest.mark.parametrize("unit", ["adu", "count", "DN"])
    def test_counts(self, unit):
        """All counts have a gain, which may be per adu or per their own unit."""
        sim = simulate(gain=1.5, readnoise=4.0)
        ccds = [CCDData(ccd.data, unit=unit) for ccd in sim.exposures]
        noise = {"gain": 1.5 * u.electron / u.Unit(unit), "readnoise": 4.0}
        masks = detect_cosmic_rays(ccds, **noise)
        plain = detect_cosmic_rays(sim.exposures, gain=1.5, readnoise=4.0)
        assert_array_equal(masks.crmasks, plain.crmasks)
        result = CRCombiner(ccds, masks).meancr_combine()
        assert result.unit == u.Unit(unit)
        assert pulls(result, sim.truth, masks) == pytest.approx([1, 1], abs=0.05)

    @pytest.mark.parametrize("unit", ["electron", "photon"])
    def test_electrons(self, unit):
        """They need no gain, and take none."""
        sim = simulate(gain=1.0, readnoise=4.0)
        ccds = [CCDData(ccd.data, unit=unit) for ccd in sim.exposures]
        masks = detect_cosmic_rays(ccds, readnoise=4.0)
        result = CRCombiner(ccds, masks).meancr_combine()
        assert pulls(result, sim.truth, masks) == pytest.approx([1, 1], abs=0.05)
        with pytest.raises(ValueError, match="gain must not be given for exposures"):
            detect_cosmic_rays(ccds, gain=2.0, readnoise=4.0)

    def rates(self, unit, gain, **header):
        """Return a simulation of unequal times and its exposures per second."""
        gain = ccd_map(SHAPE, gain) if isinstance(gain, dict) else gain
        sim = simulate(gain=gain, readnoise=4.0, exptime=TIMES)
        ccds = [
            CCDData(ccd.data / time, unit=unit, meta={"EXPTIME": time} | header)
            for ccd, time in zip(sim.exposures, TIMES, strict=True)
        ]
        return sim, ccds

    @pytest.mark.parametrize(
        ("unit", "gain", "crmethod"),
        [
            ("electron / s", 1.0, "matched"),
            ("adu / s", 1.5, "matched"),
            ("DN / s", 1.5, "mmcosmic"),
            ("adu / s", GAIN, "matched"),
        ],
    )
    def test_rates(self, unit, gain, crmethod):
        """The noise is that of the exposure times; the flux factors are 1."""
        sim, ccds = self.rates(unit, gain)
        given = {} if unit == "electron / s" else {"gain": gain}
        masks = detect_cosmic_rays(ccds, readnoise=4.0, crmethod=crmethod, **given)
        assert_array_equal(masks.flux_factor, 1)
        if crmethod == "mmcosmic":
            counts = {"gain": gain, "readnoise": 4.0, "crmethod": crmethod}
            plain = detect_cosmic_rays(sim.exposures, **counts)
            assert_array_equal(masks.crmasks, plain.crmasks)
        else:
            planes = sim.cosmic_rays
            near = [ndimage.binary_dilation(c > 0.1, iterations=3) for c in planes]
            assert (masks.crmasks & ~np.array(near)).sum(axis=(1, 2)).max() <= 2
        hits = sim.hits(6)
        assert np.count_nonzero(masks.crmasks & hits) >= 0.99 * hits.sum()
        result = CRCombiner(ccds, masks).meancr_combine()
        truth = sim.truth / np.median(TIMES)
        assert pulls(result, truth, masks) == pytest.approx([1, 1], abs=0.05)
        again = combine(ccds, crmasks=masks)
        assert_array_equal(again.uncertainty.array, result.uncertainty.array)

    @pytest.mark.parametrize("unit", ["adu / s", "DN / s", "ct / s"])
    def test_file(self, unit, tmp_path):
        """The mask set has the gain that was given, and is read as it was written."""
        _, ccds = self.rates(unit, 1.5)
        masks = detect_cosmic_rays(ccds, gain=1.5, readnoise=4.0)
        assert masks.gain == 1.5
        masks.write(tmp_path / "crmasks.fits")
        again = CRMaskSet.read(tmp_path / "crmasks.fits")
        assert again == masks
        assert again.expected_unit == masks.expected_unit == u.Unit(unit)

    def test_no_time(self):
        """Without EXPTIME the remedy is said; uncertainties need none."""
        _, ccds = self.rates("electron / s", 1.0)
        del ccds[1].meta["EXPTIME"]
        message = "need the keyword EXPTIME .* got None in exposure 2"
        with pytest.raises(ValueError, match=message):
            detect_cosmic_rays(ccds, readnoise=4.0)
        for ccd, time in zip(ccds, TIMES, strict=True):
            variance = np.maximum(ccd.data * time, 0) + 16
            ccd.uncertainty = StdDevUncertainty(np.sqrt(variance) / time)
        assert detect_cosmic_rays(ccds).noise == "uncertainty"

    def test_saturation(self):
        """The level is that of raw counts: here 60000 adu in each exposure."""
        _, ccds = self.rates("adu / s", 1.5)
        for ccd, time in zip(ccds, TIMES, strict=True):
            ccd.data[90:110, 90:110] = 60000 / time
        options = {"gain": 1.5, "readnoise": 4.0, "ma_satlevel": 59000}
        masks = detect_cosmic_rays(ccds, **options)
        assert masks.equivalence.terms["flux"] == pytest.approx([1, 1, 1], abs=0.1)

    @pytest.mark.parametrize("unit", ["", "m", "adu / min"])
    def test_unknown(self, unit):
        """Other units are refused with the remedy."""
        ccds = [CCDData(np.ones(SHAPE), unit=unit) for _ in range(3)]
        message = r"in adu, electron, count, DN or photon.* give unit= for"
        with pytest.raises(ValueError, match=message):
            detect_cosmic_rays(ccds, gain=1.0, readnoise=3.0)


class TestOtherUnits:
    """Masks of exposures in adu or adu / s, with a bias, for these in other units."""

    @pytest.mark.parametrize("unit", ["adu", "electron", "photon"])
    @pytest.mark.parametrize("gain", [GAIN, (1.2, 1.7, 2.1)])
    @pytest.mark.parametrize(
        ("times", "given"),
        [(None, {}), ((20.0, 10.0, 5.0), {}), ((20.0, 10.0, 5.0), {"readnoise": 7.0})],
    )
    def test_pull(self, unit, gain, times, given):
        """The noise of combined and of cleaned exposures is right."""
        rng, size = np.random.default_rng(5), (3, *SHAPE)
        electrons = rng.poisson(100, size) + 7.0 * rng.standard_normal(size)
        gain = ccd_map(SHAPE, gain) if isinstance(gain, dict) else np.array(gain)
        own = gain[:, np.newaxis, np.newaxis] if gain.ndim == 1 else gain
        seconds = 1 if times is None else np.reshape(times, (3, 1, 1))
        to_unit = 1 if unit == "adu" else own
        data, truth = ((30 + x / own / seconds) * to_unit for x in (electrons, 100))
        truth = np.broadcast_to(truth, size)
        ccds = [
            CCDData(plane, unit=unit if times is None else f"{unit} / s")
            for plane in data
        ]
        for ccd, time in zip(ccds, times or (), strict=times is not None):
            ccd.meta["EXPTIME"] = time
        none = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool), np.zeros(size, bool)
        recorded = {"gain": gain, "readnoise": 60.0 if given else 7.0, "bias": 30.0}
        masks = CRMaskSet(*none, **recorded)
        result = CRCombiner(ccds, masks, **given).meancr_combine()
        z = (result.data - truth.mean(axis=0)) / result.uncertainty.array
        assert z.std() == pytest.approx(1, abs=0.03)
        assert_array_equal(
            combine(ccds, crmasks=masks, **given).uncertainty.array,
            result.uncertainty.array,
        )
        for ccd, expected in zip(
            [] if given else masks.clean(ccds), truth, strict=False
        ):
            z = (ccd.data - expected) / ccd.uncertainty.array
            assert [z[LEFT].std(), z[RIGHT].std()] == pytest.approx([1, 1], abs=0.03)


class TestKeywords:
    """Gain and read noise of headers, where nobody has named a keyword."""

    @pytest.mark.parametrize(
        ("header", "gain"),
        [
            ({"GAIN": 1.9}, 1.9),
            ({"GAIN": 120, "EGAIN": 1.2}, 1.2),
            ({"GAIN": 1.9, "EGAIN": 1.2}, 1.2),
            ({"GAIN": 120}, None),
            ({"GAIN": 0}, None),
            ({}, None),
        ],
    )
    def test_gain(self, header, gain):
        """EGAIN is electron/adu; a GAIN may be a setting."""
        ccds = [CCDData(np.ones((3, 4)), unit="adu", meta=header)] * 2
        with log.log_to_list() as messages:
            found = find_keywords(ccds, gain=None, readnoise=3.0)["gain"]
        assert (None if found is None else header[found]) == gain
        warned = [m.getMessage() for m in messages if m.levelname == "WARNING"]
        if gain is not None:
            assert warned == [f"gain is {gain}, from the header keyword {found}"]
        elif header:
            assert "is a setting of the camera" in warned[0]


class TestCommandLine:
    """Sections and the source of the noise on the command line."""

    @pytest.fixture
    def files(self, tmp_path):
        """Return the files of exposures with uncertainties."""
        paths = []
        for i, ccd in enumerate(Reduced().ccds):
            paths.append(str(tmp_path / f"e{i}.fits"))
            ccd.write(paths[-1])
        return paths

    def detect(self, files, *options):
        """Return the status of ``ccdcr detect`` and the masks, if there are any."""
        output = Path(files[0]).with_name("m.fits")
        status = main(["detect", *files, "-o", str(output), "--overwrite", *options])
        return status, CRMaskSet.read(output) if output.exists() else None

    def test_uncertainty(self, files):
        """Gain and read noise are not needed, in a dry run neither."""
        assert self.detect(files, "--dry-run") == (0, None)
        status, masks = self.detect(files)
        assert status == 0
        assert masks.noise == "uncertainty"

    @pytest.mark.filterwarnings("ignore::ccdcr.NoiseModelWarning")
    def test_sections(self, files):
        """Sections are a mapping of YAML; they must cover the image."""
        noise = ("--noise", "detector", "--gain", "1.5", "--readnoise")
        sections = '{"[1:100, :]": 3.0, "[101:200, :]": 4.0}'
        assert self.detect(files, *noise, sections.replace("200", "150"))[0] != 0
        status, masks = self.detect(files, *noise, sections)
        assert status == 0
        assert masks.noise == "detector"
        assert_array_equal(np.unique(masks.readnoise), [3, 4])

    @pytest.mark.filterwarnings("ignore::ccdcr.NoiseModelWarning")
    @pytest.mark.parametrize("option", [None, "uncertainty"])
    @pytest.mark.usefixtures("files")
    def test_yaml(self, option, tmp_path, monkeypatch):
        """It is a key beside gain and read noise, and an option wins."""
        monkeypatch.chdir(tmp_path)
        text = "id: a\nframes: [e*.fits]\ngain: 1.5\nreadnoise: 4\nnoise: detector"
        Path("a.yaml").write_text(text + "\nrequirements: {crmethod: lacosmic}\n")
        assert main(["run", "a.yaml", *(["--noise", option] if option else [])]) == 0
        assert CRMaskSet.read("obsida_results/crmasks.fits").noise == (
            option or "detector"
        )
