# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the detection as a whole."""

import warnings

import numpy as np
import pytest
from astropy import log
from astropy import units as u
from astropy.nddata import CCDData
from scipy import ndimage

from ccdcr import (
    CRMaskSet,
    CRWarning,
    ImplausibleMaskWarning,
    NoiseModelWarning,
    Requirements,
    UnusedRequirementWarning,
    detect_cosmic_rays,
)
from ccdcr.simulation import simulate_exposures

KNOWN = {
    "gain": 1.0,
    "readnoise": 3.0,
    "crmethod": "lacosmic",
    "la_fsmode": "median",
    "la_verbose": False,
}


@pytest.fixture(scope="module")
def sim():
    """Three exposures with truth."""
    return simulate_exposures((120, 140), scene="stars", seed=5)


@pytest.fixture(scope="module")
def masks(sim):
    """Their masks."""
    return detect_cosmic_rays(sim.exposures, **KNOWN)


class TestResult:
    """What comes out for simulated exposures."""

    def test_finds_the_truth(self, sim, masks):
        """Most hits are found, and little else."""
        hits = sim.hits(10)
        recall = (masks.crmasks & hits).sum() / hits.sum()
        assert recall > 0.9
        far = ~(sim.cosmic_rays > 0)
        assert (masks.crmasks & far).sum() < 0.02 * far.sum()

    def test_record(self, masks):
        """The set says how it was made."""
        assert isinstance(masks, CRMaskSet)
        assert masks.requirements.la_fsmode == "median"
        assert (masks.gain, masks.readnoise, masks.bias) == (1, 3, 0)
        assert masks.flux_factor.tolist() == [1, 1, 1]
        assert masks.meta == {}

    def test_diagnostics(self, masks):
        """Origins agree with the masks; every stage is timed."""
        flags = masks.diagnostics.flags
        assert flags.keys() == masks.planes.keys()
        for name, mask in masks.planes.items():
            np.testing.assert_array_equal(flags[name] > 0, mask)
            assert set(np.unique(flags[name])) <= {0, 1, 3}
        assert all(seconds >= 0 for seconds in masks.diagnostics.timing.values())

    def test_progress(self, sim):
        """The progress bar goes through the stages, and both passes of matching."""
        seen = []

        def progress_bar(names):
            for name in names:
                seen.append(name)
                yield name
            seen.append("all done")

        found = detect_cosmic_rays(
            sim.exposures, gain=1, readnoise=3, progress_bar=progress_bar
        )
        assert len(seen) == len(set(seen))
        assert seen[-1] == "all done"
        assert {
            name.split(",")[0] for name in seen[:-1]
        } >= found.diagnostics.timing.keys()
        assert sum(name.startswith("matching") for name in seen) == 2

    def test_reproducible(self, sim, masks):
        """Twice the same; a generator is as good as a list."""
        again = detect_cosmic_rays((ccd for ccd in sim.exposures), **KNOWN)
        assert again == masks
        assert again.uuid != masks.uuid

    def test_order(self, sim, masks):
        """Another order of the exposures changes the order of their masks only."""
        other = detect_cosmic_rays(sim.exposures[::-1], **KNOWN)
        np.testing.assert_array_equal(other.mediancr, masks.mediancr)
        np.testing.assert_array_equal(other.meancrt, masks.meancrt)
        np.testing.assert_array_equal(other.crmasks, masks.crmasks[::-1])

    def test_input_is_not_modified(self):
        """Exposures stay as they are, read-only ones are accepted."""
        ccds = simulate_exposures((40, 50), seed=1).exposures
        copies = [ccd.copy() for ccd in ccds]
        for ccd in ccds:
            ccd.data.flags.writeable = False
        detect_cosmic_rays(ccds, **KNOWN)
        for ccd, copy in zip(ccds, copies, strict=True):
            np.testing.assert_array_equal(ccd.data, copy.data)
            assert ccd.mask is None

    def test_files(self, sim, masks, tmp_path):
        """Files are as good as objects, and their names are kept."""
        paths = []
        for i, ccd in enumerate(sim.exposures):
            path = tmp_path / f"e{i}.fits"
            ccd.write(path)
            paths.append(path if i else str(path))
        found = detect_cosmic_rays(
            paths, **KNOWN | {"gain": "GAIN", "readnoise": "RDNOISE"}
        )
        assert found == masks
        assert found.meta == {
            "FILE1": "e0.fits",
            "FILE2": "e1.fits",
            "FILE3": "e2.fits",
        }


class TestDetector:
    """Gain, read noise, bias and units."""

    def test_adu_and_electron(self, sim, masks):
        """The same exposures in adu with a gain and a bias give the same masks."""
        ccds = [
            CCDData(ccd.data.astype(float) / 2 + 100, unit="adu")
            for ccd in sim.exposures
        ]
        found = detect_cosmic_rays(
            ccds,
            **KNOWN
            | {
                "gain": 2 * u.electron / u.adu,
                "readnoise": 1.5 * u.adu,
                "bias": 100 * u.adu,
            },
        )
        different = found.crmasks ^ masks.crmasks
        # Rounding may decide at a threshold.
        assert different.sum() <= 1e-3 * masks.crmasks.sum()
        assert (found.gain, found.readnoise, found.bias) == (2, 3, 100)
        assert found.lamedian.unit == u.electron
        # Without the bias, in electron: the level of the scene.
        np.testing.assert_allclose(
            np.median(found.lamedian.value), np.median(masks.lamedian.value), rtol=1e-3
        )

    def test_lamedian_in_the_unit_of_the_data(self, sim):
        """With la_gain_apply=False it is in adu."""
        known = KNOWN | {"gain": 2.0}
        electrons = detect_cosmic_rays(sim.exposures, **known).lamedian
        adu = detect_cosmic_rays(sim.exposures, la_gain_apply=False, **known).lamedian
        assert adu.unit == u.adu
        np.testing.assert_allclose(electrons.value, 2 * adu.value, rtol=1e-6)

    def test_electrons(self, sim, masks):
        """Exposures in electron need no gain."""
        ccds = [CCDData(ccd.data, unit="electron") for ccd in sim.exposures]
        found = detect_cosmic_rays(ccds, **KNOWN | {"gain": None})
        assert found == masks


class TestMasks:
    """Bad pixels of the exposures."""

    @pytest.mark.parametrize("value", [np.nan, np.inf, 1e30, -1e30])
    def test_no_influence(self, sim, value):
        """What is under a mask matters nowhere, and is not flagged."""
        rng = np.random.default_rng(2)
        bad = rng.random((3, *sim.truth.shape)) < 0.01
        bad[:, 30:33, 40:42] = True
        sets = []
        for fill in (0.0, value):
            ccds = [
                CCDData(np.where(mask, fill, ccd.data), mask=mask, unit="adu")
                for ccd, mask in zip(sim.exposures, bad, strict=True)
            ]
            sets.append(detect_cosmic_rays(ccds, **KNOWN))
        assert sets[0] == sets[1]
        assert not (sets[1].crmasks & bad).any()
        assert not sets[1].meancrt[30:33, 40:42].any()
        assert sets[1].meancrt.any()
        assert np.isfinite(sets[1].lamedian).all()

    def test_nan_is_a_mask(self, sim):
        """A pixel that is not finite is as if masked."""
        ccds = [ccd.copy() for ccd in sim.exposures]
        ccds[1].data[50, 60] = np.nan
        by_nan = detect_cosmic_rays(ccds, **KNOWN)
        ccds[1].mask = np.isnan(ccds[1].data)
        ccds[1].data[50, 60] = 3
        assert detect_cosmic_rays(ccds, **KNOWN) == by_nan

    @pytest.mark.filterwarnings("ignore::ccdcr.CRWarning")
    def test_nothing_left(self, sim):
        """An exposure that is masked completely does no harm."""
        ccds = [ccd.copy() for ccd in sim.exposures]
        ccds[0].mask = np.ones(ccds[0].shape, bool)
        found = detect_cosmic_rays(ccds, **KNOWN)
        assert not found.crmasks[0].any()
        assert found.crmasks[1].any()


class TestRequirements:
    """Requirements that change the result, in the documented way."""

    def test_ways_to_give_them(self, sim, tmp_path):
        """Object, mapping, file and keywords are the same; keywords win."""
        detector = {"gain": 1.0, "readnoise": 3.0}
        requirements = Requirements(crmethod="lacosmic", dilation=2, la_verbose=False)
        requirements.to_yaml(tmp_path / "r.yaml")
        for given in (
            requirements,
            {"crmethod": "lacosmic", "dilation": 2, "la_verbose": False},
            tmp_path / "r.yaml",
            str(tmp_path / "r.yaml"),
        ):
            found = detect_cosmic_rays(sim.exposures, given, dilation=3, **detector)
            assert found.requirements == requirements.replace(dilation=3)

    def test_dilation(self, sim, masks):
        """
        More dilation, more pixels; none is the core of each hit.

        MEANCR is what is left in the mean that the other masks leave, and may do
        without a pixel that a wider mask has taken out.
        """
        previous = detect_cosmic_rays(sim.exposures, dilation=0, **KNOWN)
        for larger in (masks, detect_cosmic_rays(sim.exposures, dilation=2, **KNOWN)):
            for name, mask in previous.planes.items():
                # MEANCR is what the masks of the exposures leave.
                assert name == "MEANCR" or np.all(larger.planes[name] >= mask)
            assert larger.meancrt.sum() > previous.meancrt.sum()
            previous = larger

    def test_lists_win(self, sim, masks):
        """Regions and pixels of the user win over the detection."""
        y, x = np.argwhere(masks.mediancr)[0]
        free_y, free_x = np.argwhere(~masks.meancrt)[0]
        found = detect_cosmic_rays(
            sim.exposures,
            pixels_to_be_ignored_as_cr=[[x + 1, y + 1]],
            pixels_to_be_flagged_as_cr=[[free_x + 1, free_y + 1]],
            regions_to_be_skipped=[[1, 140, 61, 120]],
            pixels_to_be_replaced_by_local_median=[[4, 5, 3, 3]],
            **KNOWN,
        )
        planes = found.planes.values()
        assert not any(plane[y, x] for plane in planes)
        assert not any(plane[60:].any() for plane in planes)
        assert found.mediancr[free_y, free_x]
        assert found.crmasks[:, free_y, free_x].sum() == 2
        assert found.local_median_pixels.tolist() == [[4, 5, 3, 3]]
        assert masks.meancrt[60:].any()

    def test_flux_factors(self, sim):
        """Given factors are recorded, and applied to the exposures if wanted."""
        factors = [0.5, 1.0, 2.0]
        ccds = [
            CCDData(ccd.data * factor, unit="adu")
            for ccd, factor in zip(sim.exposures, factors, strict=True)
        ]
        found = detect_cosmic_rays(
            ccds, flux_factor=factors, apply_flux_factor_to="original", **KNOWN
        )
        assert found.flux_factor.tolist() == factors
        # Powers of two scale exactly: the same as without factors.
        plain = detect_cosmic_rays(sim.exposures, **KNOWN)
        np.testing.assert_array_equal(found.crmasks, plain.crmasks)
        single = detect_cosmic_rays(ccds, flux_factor=2, **KNOWN)
        assert single.flux_factor.tolist() == [2, 2, 2]

    def test_verbose(self, sim):
        """la_verbose is information, without it nothing is said."""
        with log.log_to_list() as lines:
            detect_cosmic_rays(sim.exposures, **KNOWN)
        assert [line for line in lines if line.levelname == "INFO"] == []
        with log.log_to_list() as lines:
            detect_cosmic_rays(sim.exposures, **KNOWN | {"la_verbose": True})
        assert sum("pixels by the single-image" in line.msg for line in lines) == 5

    def test_progress_bar(self, sim, masks):
        """The callable wraps the images that are searched."""
        seen = []

        def progress_bar(items):
            for item in items:
                seen.append(item[0])
                yield item

        found = detect_cosmic_rays(sim.exposures, progress_bar=progress_bar, **KNOWN)
        assert found == masks
        assert seen == ["MEDIANCR", "MEANCRT", "CRMASK1", "CRMASK2", "CRMASK3"]


class TestBadInput:
    """Errors before any work, one message each."""

    @pytest.fixture
    def ccds(self):
        """Small exposures."""
        return [CCDData(np.ones((6, 8)), unit="adu") for _ in range(3)]

    @pytest.mark.parametrize(
        ("change", "error", "match"),
        [
            ({"gain": None}, ValueError, "gain must be given for exposures in adu"),
            ({"readnoise": None}, ValueError, "readnoise must be given"),
            ({"gain": 0}, ValueError, "gain must be a finite number > 0, got 0"),
            (
                {"gain": "NOGAIN"},
                ValueError,
                "gain='NOGAIN' must name a header keyword",
            ),
            ({"dilatation": 2}, TypeError, "did you mean 'dilation'"),
            ({"rdnoise": 2}, TypeError, "did you mean 'readnoise'"),
            ({"requirements": 5}, TypeError, "requirements must be a Requirements"),
            ({"progress_bar": 5}, TypeError, "progress_bar must be a callable"),
            (
                {"regions_to_be_skipped": [[1, 9, 1, 2]]},
                ValueError,
                "regions_to_be_skipped must lie in the image of 8 x 6",
            ),
            (
                {"flux_factor": [1, 1, 1], "flux_factor_regions": [[1, 2, 1, 7]]},
                ValueError,
                "flux_factor_regions must lie in the image of 8 x 6",
            ),
            (
                {"pixels_to_be_replaced_by_local_median": [[2, 2, 4, 3]]},
                ValueError,
                "widths must be odd, got 4 x 3",
            ),
            (
                {"flux_factor": [1, 2]},
                ValueError,
                "flux_factor must hold 3 entries, one per exposure, got 2",
            ),
        ],
    )
    def test_parameters(self, ccds, change, error, match):
        """Parameter, rule, what came, remedy."""
        with pytest.raises(error, match=match):
            detect_cosmic_rays(ccds, **KNOWN | change)

    def test_exposures(self, ccds):
        """Too few, of different shapes, of different units, in electron with gain."""
        with pytest.raises(ValueError, match="at least 3 exposures, got 2"):
            detect_cosmic_rays(ccds[:2], **KNOWN)
        other = CCDData(np.ones((6, 7)), unit="adu")
        with pytest.raises(ValueError, match=r"same shape.*\(6, 8\).*\(6, 7\)"):
            detect_cosmic_rays([*ccds, other], **KNOWN)
        other = CCDData(np.ones((6, 8)), unit="electron")
        with pytest.raises(ValueError, match=r"same unit.*adu.*electron"):
            detect_cosmic_rays([*ccds, other], **KNOWN)
        with pytest.raises(ValueError, match=r"gain must not be given .* electron"):
            detect_cosmic_rays([other] * 3, **KNOWN | {"gain": 2.0})

    def test_unused_requirements(self, ccds):
        """One warning names what was set in vain; defaults are not named."""
        with pytest.warns(
            UnusedRequirementWarning, match="mm_seed, mm_dilation|mm_dilation, mm_seed"
        ) as record:
            detect_cosmic_rays(
                ccds, mm_seed=5, mm_dilation=1, mm_knots_splfit=3, **KNOWN
            )
        assert len(record) == 1
        assert "mm_knots_splfit" not in str(record[0].message)
        assert record[0].filename == __file__


class TestNothingToFind:
    """Exposures that cannot show what is a hit, and values that hide all."""

    @pytest.fixture
    def ccds(self):
        """Return two exposures, whose masks are odd where one is given twice."""
        return simulate_exposures(
            (40, 50), scene="stars", n_exposures=2, seed=66
        ).exposures

    @pytest.mark.parametrize("crmethod", ["matched", "mmcosmic"])
    def test_identical(self, ccds, crmethod):
        """The same exposure twice is named, and nothing that comes of it."""
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            detect_cosmic_rays([*ccds, ccds[0]], gain=1, readnoise=3, crmethod=crmethod)
        found = [each for each in found if issubclass(each.category, CRWarning)]
        (text,) = (str(each.message) for each in found)
        assert text.startswith("exposures 1 and 3 are identical: give each exposure")

    @pytest.mark.filterwarnings("ignore::ccdcr.exceptions.MatchingFailedWarning")
    def test_constant(self):
        """An exposure of one value is named, one of them that has a mask, too."""
        sim = simulate_exposures((64, 64), seed=1)
        dead = sim.exposures[1]
        dead.data[:] = 0
        dead.data[20], dead.mask = 7, np.zeros((64, 64), bool)
        dead.mask[20] = True
        with pytest.warns(ImplausibleMaskWarning, match="exposure 2 have one value"):
            detect_cosmic_rays(sim.exposures, gain=1, readnoise=3)

    @pytest.mark.parametrize("dead", [slice(None), slice(2, 3)])
    def test_unread(self, dead):
        """So is one with an amplifier that was not read, but not what all lack."""
        ccds = simulate_exposures((64, 96), seed=1).exposures
        for ccd in ccds[dead]:
            ccd.data[32:, 48:] = 0
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            detect_cosmic_rays(ccds, gain=1, readnoise=3)
        named = any("of exposure 3 have one value" in str(w.message) for w in found)
        assert named == (dead.start == 2)

    def test_dark_quarter(self):
        """So is one that lacks what the others have in a quarter of the image."""
        ccds = simulate_exposures((200, 200), scene="fibres", seed=1).exposures
        noise = np.random.default_rng(1).normal(0, 3, (100, 100))
        ccds[1].data[100:, 100:] = noise
        with pytest.warns(ImplausibleMaskWarning, match="exposure 2 seems to lack"):
            detect_cosmic_rays(ccds, gain=1, readnoise=3)

    def test_identical_wide(self):
        """So it is where a column or many pixels tell nothing."""
        data = np.random.default_rng(1).normal(9, 3, (2, 1000, 50))
        data[:, :, 0], data[:, ::2, ::5] = 0, np.nan
        ccds = [CCDData(plane, unit="adu") for plane in data]
        with pytest.warns(NoiseModelWarning, match="exposures 1 and 3; 2 and 4 are id"):
            detect_cosmic_rays([*ccds, *ccds], gain=1, readnoise=3)

    def test_masked(self, ccds):
        """So is an exposure whose pixels are all masked."""
        masked = [ccds[0].copy(), ccds[1].copy()]
        masked[1].mask = np.ones(masked[1].shape, bool)
        with pytest.warns(ImplausibleMaskWarning, match="all pixels of exposure 2 are"):
            masks = detect_cosmic_rays(masked, gain=1, readnoise=3)
        assert not masks.crmasks.any()

    def test_bias(self, ccds):
        """A bias above all values but a hit's is refused."""
        ccds = [ccd.copy() for ccd in ccds]
        ccds[0].data[20, 20] = 2e9
        with pytest.raises(ValueError, match="bias must not exceed nearly all values"):
            detect_cosmic_rays(ccds, gain=1, readnoise=3, bias=1e9)


class TestBothDetectors:
    """The default: L.A. Cosmic and Median-Minimum together."""

    @pytest.fixture(scope="class")
    @classmethod
    def both(cls, sim):
        """Return the masks of the default method."""
        return detect_cosmic_rays(sim.exposures, **KNOWN | {"crmethod": "mm_lacosmic"})

    def test_masks(self, sim, both):
        """MEANCRT holds MEDIANCR, and with one more dilation the other masks."""
        assert both.planes.keys() == {
            "MEDIANCR",
            "MEANCRT",
            "MEANCR",
            "CRMASK1",
            "CRMASK2",
            "CRMASK3",
        }
        assert np.all(both.meancrt >= both.mediancr)
        wider = ndimage.binary_dilation(both.meancrt, np.ones((3, 3)))
        assert np.all(wider >= both.crmasks)
        assert both.meancr.shape == sim.truth.shape
        # Little is left when all that was found is taken out.
        assert both.meancr.sum() < 0.5 * both.meancrt.sum()

    def test_clean_exposure_is_left(self, sim):
        """A pixel hit in two of three is wrong in the median, not in the clean mean."""
        ccds = [ccd.copy() for ccd in sim.exposures]
        for ccd, signal in zip(ccds, (0, 300, 3000), strict=True):
            ccd.data[58:64, 68:74] = sim.truth[58:64, 68:74]
            ccd.data[60, 71] += signal
        masks = detect_cosmic_rays(ccds, gain=1.0, readnoise=3.0, crmethod="mmcosmic")
        assert masks.mediancr[60, 71]
        assert masks.crmasks[:, 60, 71].tolist()[1:] == [True, True]
        assert not masks.meancr[60, 71]

    def test_flags(self, both):
        """Origins agree with the masks, and all kinds occur."""
        flags = both.diagnostics.flags
        assert flags.keys() == both.planes.keys()
        for name, mask in both.planes.items():
            np.testing.assert_array_equal(flags[name] > 0, mask)
            assert flags[name].dtype == np.uint8
        assert set(np.unique(flags["MEANCRT"])) == {0, 1, 2, 3, 4}
        # What only dilation flags is next to what a detector has found.
        for name in ("MEDIANCR", "CRMASK1"):
            found = ndimage.binary_dilation(flags[name] > 1, np.ones((3, 3)))
            assert np.all(found[flags[name] == 1])

    def test_user_flag(self, sim, both):
        """What the user flags has a flag of its own, in the masks it is in."""
        y, x = np.argwhere(~both.meancrt)[0]
        masks = detect_cosmic_rays(
            sim.exposures,
            gain=1.0,
            readnoise=3.0,
            crmethod="mmcosmic",
            pixels_to_be_flagged_as_cr=[[x + 1, y + 1]],
        )
        values = {n: f[y, x] for n, f in masks.diagnostics.flags.items()}
        assert values["MEDIANCR"] == values["MEANCRT"] == 5
        assert sorted(values[f"CRMASK{i}"] for i in (1, 2, 3)) == [0, 5, 5]

    def test_diagnostics(self, both):
        """Boundaries and diagrams of each mask, offsets, seconds by stage."""
        diagnostics = both.diagnostics
        assert diagnostics.matching is None
        assert diagnostics.noise_model.levels.colnames == ["x", "pixels", "noise"]
        x = diagnostics.diagrams["MEDIANCR"].x
        for name in both.planes:
            assert np.all(diagnostics.boundaries[name](x) > 0)
        for name in ("MEDIANCR", "MEANCRT"):
            diagram = diagnostics.diagrams[name]
            assert np.all(diagram.simulated >= 0)
            # Expected is nearly what is observed, but for the hits.
            assert diagram.simulated.sum() == pytest.approx(
                diagram.observed.sum(), rel=0.05
            )
        assert diagnostics.offsets is None
        stages = ("single image", "boundary", "masks")
        assert all(diagnostics.timing[stage] > 0 for stage in stages)

    def test_diagnostics_of_lacosmic(self, masks):
        """Without Median-Minimum there are no boundaries."""
        assert masks.diagnostics.boundaries == {}
        assert masks.diagnostics.diagrams == {}
        assert masks.diagnostics.offsets is None

    def test_not_in_the_file(self, both, tmp_path):
        """Diagnostics stay in memory."""
        both.write(tmp_path / "masks.fits")
        again = CRMaskSet.read(tmp_path / "masks.fits")
        assert again == both
        assert not again.diagnostics

    def test_global_random_state(self, sim):
        """The random numbers of the caller are left alone."""
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        detect_cosmic_rays(sim.exposures, gain=1.0, readnoise=3.0, crmethod="mmcosmic")
        np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002

    def test_bad_pixels(self, sim):
        """What is under a mask has no influence on simulations either."""
        bad = np.random.default_rng(2).random((3, *sim.truth.shape)) < 0.01
        bad[:, 30:33, 40:42] = True
        sets = []
        for fill in (0.0, np.nan, 1e30):
            ccds = [
                CCDData(np.where(mask, fill, ccd.data), mask=mask, unit="adu")
                for ccd, mask in zip(sim.exposures, bad, strict=True)
            ]
            sets.append(detect_cosmic_rays(ccds, **KNOWN | {"crmethod": "mm_lacosmic"}))
        assert sets[0] == sets[1] == sets[2]
        assert not (sets[0].crmasks & bad).any()
        assert sets[0].crmasks.any()
