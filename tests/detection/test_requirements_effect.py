# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Each requirement changes the result in the documented way.

Every test says by `about` which requirements it is for.
"""

import itertools
import warnings
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from scipy import ndimage

from ccdcr import NotEquivalentWarning, Requirements, detect_cosmic_rays
from ccdcr.exceptions import NoiseModelWarning, UnusedRequirementWarning
from ccdcr.median_minimum.exact_boundary import ExactBoundary
from ccdcr.median_minimum.simulated_boundary import SplineBoundary
from ccdcr.simulation import simulate_exposures
from ccdcr.single_image.detectors import LACosmic
from ccdcr.utils.neighbours import groups_with_seed

# Wrong settings and unequal fluxes, on purpose, make real signal coincide.
pytestmark = pytest.mark.filterwarnings("ignore::ccdcr.CoincidenceWarning")

KNOWN = {"gain": 1.0, "readnoise": 3.0}
SHAPE = (128, 128)
# Used by plots and the command line only, and kept in the record.
DISPLAY = {"interactive", "verify_cr", "semiwindow", "color_scale", "maxplots"}

_COVERED = set()


def about(*names):
    """Say which requirements a test is about."""
    _COVERED.update(names)
    return lambda test: test


@pytest.fixture(scope="module")
def sim():
    """Three exposures with cosmic rays."""
    return simulate_exposures(SHAPE, scene="stars", seed=5)


@pytest.fixture(scope="module")
def quiet():
    """Three exposures without cosmic rays."""
    return simulate_exposures(SHAPE, scene="fibres", seed=5, cr_rate=0)


def lacosmic(sim, **changes):
    """Return the masks by L.A. Cosmic."""
    options = {
        "crmethod": "lacosmic",
        "la_verbose": False,
        "la_fsmode": "median",
        "dilation": 0,
    }
    return detect_cosmic_rays(sim.exposures, **KNOWN, **options | changes)


def mm(sim, **changes):
    """Return the masks by Median-Minimum."""
    options = {"crmethod": "mmcosmic", "dilation": 0}
    return detect_cosmic_rays(sim.exposures, **KNOWN, **options | changes)


def simulated(sim, **changes):
    """Return the masks by Median-Minimum with a boundary from simulations."""
    return mm(sim, **{"mm_boundary_fit": "spline"} | changes)


def boundary_of(masks, x=100.0, name="MEDIANCR"):
    """Return the height of a boundary."""
    return float(masks.diagnostics.boundaries[name](np.array([x]))[0])


def planes_of(sim):
    """Return the exposures, their minimum and their median."""
    stack = np.stack([ccd.data for ccd in sim.exposures])
    return stack, stack.min(axis=0), np.median(stack, axis=0)


def same(first, second):
    """Tell whether all masks are equal."""
    return all(
        np.array_equal(mask, second.planes[name]) for name, mask in first.planes.items()
    )


class TestGeneral:
    """Requirements of all methods."""

    @about("crmethod")
    def test_crmethod(self, sim):
        """Either of the two detectors, or both; each pixel says which."""
        # Faint hits are left to L.A. Cosmic.
        bright = {"mm_minimum_max2d_rnoise": 100}
        single, median_minimum = lacosmic(sim), mm(sim, **bright)
        both = lacosmic(sim, crmethod="mm_lacosmic", **bright)
        found = [
            set(np.unique(m.diagnostics.flags["MEANCRT"])) - {0, 1}
            for m in (single, median_minimum, both)
        ]
        assert found[:2] == [{3}, {2}]
        assert found[2] == {2, 3, 4}
        assert np.all(both.mediancr >= single.mediancr)
        assert single.lamedian is not None
        assert median_minimum.lamedian is None

    @about("use_lamedian", *DISPLAY)
    def test_recorded(self, sim):
        """They change no mask and are kept in the record."""
        changes = {
            "use_lamedian": True,
            "interactive": True,
            "verify_cr": True,
            "semiwindow": 9,
            "color_scale": "minmax",
            "maxplots": 3,
        }
        masks = mm(sim, **changes)
        assert same(masks, mm(sim))
        assert {n: getattr(masks.requirements, n) for n in changes} == changes

    @about("dilation")
    @pytest.mark.parametrize("times", [1, 2])
    def test_dilation(self, sim, times):
        """Every mask grows by a square; masks of exposures stay within the mean's."""
        before, after = mm(sim), mm(sim, dilation=times)
        square = np.ones((2 * times + 1,) * 2)
        mediancr = ndimage.binary_dilation(before.mediancr, square)
        np.testing.assert_array_equal(after.mediancr, mediancr)
        assert np.all(after.meancrt >= ndimage.binary_dilation(before.meancrt, square))
        for old, new in zip(before.crmasks, after.crmasks, strict=True):
            assert np.all(new >= ndimage.binary_dilation(old, square))

    @about(
        "regions_to_be_skipped",
        "pixels_to_be_flagged_as_cr",
        "pixels_to_be_ignored_as_cr",
        "pixels_to_be_replaced_by_local_median",
    )
    def test_lists(self, sim):
        """The user's lists win over everything, dilation included."""
        usual = mm(sim, dilation=1)
        # One detected pixel for each list; all are outside of the skipped region.
        (y1, x1), (y2, x2) = np.argwhere(usual.mediancr[50:])[[0, -1]] + [50, 0]
        free_y, free_x = np.argwhere(~usual.meancrt[60:])[5] + [60, 0]
        masks = mm(
            sim,
            dilation=1,
            regions_to_be_skipped=[[1, 128, 1, 40], [3, 5, 41, 50]],
            pixels_to_be_ignored_as_cr=[[x1 + 1, y1 + 1]],
            pixels_to_be_replaced_by_local_median=[[x2 + 1, y2 + 1, 5, 3]],
            pixels_to_be_flagged_as_cr=[[free_x + 1, free_y + 1]],
        )
        for mask in masks.planes.values():
            assert not mask[:40].any()
            assert not mask[40:50, 2:5].any()
            assert not mask[y1, x1]
            assert not mask[y2, x2]
        assert usual.meancrt[:40].any()
        assert masks.mediancr[free_y, free_x]
        assert masks.meancrt[free_y, free_x]
        lowest = planes_of(sim)[0][:, free_y, free_x].argmin()
        assert masks.crmasks[:, free_y, free_x].tolist() == [
            i != lowest for i in range(3)
        ]
        assert masks.local_median_pixels.tolist() == [[x2 + 1, y2 + 1, 5, 3]]
        assert masks.diagnostics.flags["MEDIANCR"][free_y, free_x] == 5


class TestFlux:
    """Exposures of flux 0.8, 1 and 1.2."""

    FLUX = (0.8, 1.0, 1.2)

    @pytest.fixture(scope="class")
    @classmethod
    def unequal(cls):
        """Return exposures without cosmic rays, of different flux."""
        return simulate_exposures(
            SHAPE, scene="fibres", seed=5, cr_rate=0, flux=cls.FLUX
        )

    @pytest.fixture(scope="class")
    @classmethod
    def detect(cls, unequal):
        """Return a function that detects in them, once with the same options."""
        return cache(lambda method=mm, **options: method(unequal, **options))

    @about("flux_factor", "apply_flux_factor_to")
    @pytest.mark.parametrize("to", ["simulated", "original"])
    @pytest.mark.parametrize("factors", ["auto", FLUX])
    @pytest.mark.parametrize(("method", "most"), [(mm, 15), (simulated, 3 * 68)])
    def test_false_flags(self, detect, quiet, method, most, factors, to):
        """
        Without factors the brighter exposure is flagged; with them it is not.

        As few are flagged as for equal flux. Computed boundaries: one of the
        median, one of the highest exposure, and some next to them. Simulated ones:
        see the bound on pure noise for the median, here once for each exposure.
        """
        equal = method(quiet).crmasks.sum()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NoiseModelWarning)
            without = detect(method)
        masks = detect(method, flux_factor=factors, apply_flux_factor_to=to)
        assert without.crmasks[2].sum() > 200
        assert without.crmasks[0].sum() == 0
        assert equal <= most
        assert masks.crmasks.sum() <= most
        assert masks.crmasks.sum() < 0.1 * without.crmasks.sum()
        np.testing.assert_allclose(masks.flux_factor, self.FLUX, atol=0.01)

    @about("flux_factor")
    def test_noise_of_factors(self, unequal, detect):
        """The computed boundary knows how noisy each exposure is; else it warns."""
        with pytest.warns(NoiseModelWarning, match="not to be equivalent"):
            mm(unequal)
        masks = detect(mm, flux_factor=self.FLUX, apply_flux_factor_to="original")
        noise = masks.diagnostics.noise_model.levels["noise"]
        # Of each of 12 bins of 1365 pixels; the quantile has an error of 3 %.
        np.testing.assert_allclose(noise, 1, atol=0.12)

    @about("flux_factor", "apply_flux_factor_to")
    def test_computed_for_both(self, detect):
        """The computed boundary is that of scaled exposures in any case."""
        sets = [
            detect(mm, flux_factor=self.FLUX, apply_flux_factor_to=to)
            for to in ("original", "simulated")
        ]
        assert same(*sets)

    @about("flux_factor", "apply_flux_factor_to")
    @pytest.mark.parametrize("to", ["original", "simulated"])
    @pytest.mark.parametrize("flux", [(0.93, 0.98, 1.02, 1.07), (0.7, 0.9, 1.1, 1.3)])
    def test_hits_of_each(self, flux, to):
        """With four exposures, too, hits of each one are found, and little else."""
        rng = np.random.default_rng(1)
        hits = rng.random((4, *SHAPE)) < 0.01
        level = 2000 * np.reshape(flux, (4, 1, 1))
        data = rng.poisson(level, hits.shape) + rng.normal(0, 3, hits.shape)
        data += 10 * np.sqrt(level + 9) * hits
        masks = detect_cosmic_rays(
            [CCDData(plane, unit="adu") for plane in data],
            crmethod="mmcosmic",
            flux_factor=flux,
            apply_flux_factor_to=to,
            dilation=0,
            **KNOWN,
        )
        for mask, hit in zip(masks.crmasks, hits, strict=True):
            assert (mask & hit).sum() > 0.98 * hit.sum()
            # Of 490 pixels hit in other exposures, at a p-value of 1e-3: 0.5.
            assert (mask & ~hit).sum() <= 4

    @about("apply_flux_factor_to")
    def test_original(self, unequal, detect):
        """Exposures divided by hand need no factors to be simulated."""
        ccds = [
            CCDData(ccd.data / np.float32(f), unit="adu")
            for ccd, f in zip(unequal.exposures, self.FLUX, strict=True)
        ]
        by_hand = detect_cosmic_rays(
            ccds, crmethod="mmcosmic", mm_boundary_fit="spline", dilation=0, **KNOWN
        )
        masks = detect(
            simulated, flux_factor=self.FLUX, apply_flux_factor_to="original"
        )
        assert same(masks, by_hand)
        # Expected exposures are then not multiplied by the factors.
        diagrams = (
            m.diagnostics.diagrams["MEDIANCR"].simulated for m in (masks, by_hand)
        )
        np.testing.assert_array_equal(*diagrams)

    @about("flux_factor")
    def test_one_number(self, quiet):
        """One number is for all exposures."""
        assert mm(quiet, flux_factor=2).flux_factor.tolist() == [2, 2, 2]

    @about("flux_factor_regions")
    # In the other half of the image the factors are wrong.
    @pytest.mark.filterwarnings("ignore::ccdcr.exceptions.NoiseModelWarning")
    def test_regions(self):
        """The factors are those of the regions, in FITS style."""
        first = simulate_exposures((128, 200), seed=1, flux=self.FLUX)
        second = simulate_exposures((128, 200), seed=1, flux=(1.2, 1.0, 0.9))
        for one, other in zip(first.exposures, second.exposures, strict=True):
            one.data[:, 100:] = other.data[:, 100:]
        left, right = (
            mm(first, flux_factor="auto", flux_factor_regions=regions).flux_factor
            for regions in ([[1, 50, 1, 128], [51, 100, 1, 128]], [[101, 200, 1, 128]])
        )
        np.testing.assert_allclose(left, self.FLUX, atol=0.01)
        np.testing.assert_allclose(right, [1.2, 1.0, 0.9], atol=0.01)


class TestLACosmic:
    """Requirements of L.A. Cosmic."""

    @about("la_gain_apply")
    def test_gain_apply(self, sim):
        """LAMEDIAN is in electron, or in the unit of the exposures."""
        electron, adu = (
            lacosmic(sim, la_gain_apply=value).lamedian for value in (True, False)
        )
        assert (electron.unit, adu.unit) == (u.electron, u.adu)

    @about("la_sigclip", "la_sigfrac", "la_objlim")
    @pytest.mark.parametrize(
        ("name", "values"),
        [
            ("la_sigclip", (3.0, 5.0, 20.0)),
            ("la_sigfrac", (0.1, 0.3, 0.9)),
            ("la_objlim", (1.0, 5.0, 30.0)),
        ],
    )
    def test_limits(self, sim, name, values):
        """A higher limit flags less."""
        numbers = [lacosmic(sim, **{name: v}).crmasks.sum() for v in values]
        assert numbers[0] > numbers[1] > numbers[2]

    @about("la_sigclip", "la_sigfrac", "la_objlim")
    @pytest.mark.parametrize(
        ("name", "pair"),
        [
            ("la_sigclip", (15.0, 3.0)),
            ("la_sigfrac", (0.9, 0.1)),
            ("la_objlim", (20.0, 2.0)),
        ],
    )
    def test_pairs(self, sim, name, pair):
        """Tails found by the second pass are joined to cores of the first."""
        core, tail, both = (
            lacosmic(sim, **{name: value}).meancrt for value in (*pair, pair)
        )
        stack, minimum, median = planes_of(sim)
        mean = stack.mean(axis=0, dtype=float).astype(np.float32)
        expected = np.zeros(SHAPE, dtype=bool)
        for image in (median, mean):
            strict, lax = (
                LACosmic(**{"fsmode": "median", name.removeprefix("la_"): value})(
                    image, None, 1.0, 3.0
                )[0]
                for value in pair
            )
            joined = strict | groups_with_seed(lax, strict)
            # Features that nothing stands out in are dropped.
            expected |= groups_with_seed(joined, joined & (image > minimum))
        np.testing.assert_array_equal(both, expected)
        assert core.sum() < both.sum() <= (core | tail).sum()

    @about("la_satlevel")
    def test_satlevel(self, sim):
        """Saturated pixels, in adu, are not flagged; nor are their surroundings."""
        usual = lacosmic(sim)
        masks = lacosmic(sim, la_satlevel=700.0)
        assert masks.crmasks.sum() < usual.crmasks.sum()
        half = detect_cosmic_rays(
            [ccd.divide(2.0) for ccd in sim.exposures],
            gain=2.0,
            readnoise=3.0,
            crmethod="lacosmic",
            la_verbose=False,
            la_fsmode="median",
            dilation=0,
            la_satlevel=350.0,
        )
        assert same(half, masks)

    @about("la_niter")
    def test_niter(self, sim):
        """Iterations add pixels."""
        numbers = [lacosmic(sim, la_niter=n).crmasks.sum() for n in (1, 2, 4)]
        assert numbers[0] < numbers[1] <= numbers[2]

    @about(
        "la_sepmed",
        "la_cleantype",
        "la_fsmode",
        "la_psfmodel",
        "la_psffwhm_x",
        "la_psffwhm_y",
        "la_psfsize",
        "la_psfbeta",
    )
    @pytest.mark.parametrize(
        ("base", "changes"),
        [
            ({}, {"la_sepmed": False}),
            ({}, {"la_cleantype": "median"}),
            ({}, {"la_cleantype": "medmask"}),
            ({}, {"la_cleantype": "idw"}),
            ({}, {"la_fsmode": "convolve"}),
            *(
                ({"la_fsmode": "convolve"}, changes)
                for changes in (
                    {"la_psffwhm_x": 4.5},
                    {"la_psffwhm_y": 4.5},
                    {"la_psfsize": 3},
                    {"la_psfmodel": "moffat"},
                    {"la_psfmodel": "gaussx"},
                    {"la_psfmodel": "gaussy"},
                )
            ),
            ({"la_fsmode": "convolve", "la_psfmodel": "moffat"}, {"la_psfbeta": 1.5}),
            (
                {"la_fsmode": "convolve", "la_psfmodel": "gaussx"},
                {"la_psffwhm_x": 5.0},
            ),
            (
                {"la_fsmode": "convolve", "la_psfmodel": "gaussy"},
                {"la_psffwhm_y": 5.0},
            ),
            ({"la_fsmode": "convolve", "la_psfmodel": "gauss"}, {"la_psffwhm_y": 5.0}),
        ],
    )
    def test_options(self, sim, base, changes):
        """They reach the detector: its own call gives the same clean median."""
        known = {"fsmode": "median"}
        masks = lacosmic(sim, **base, **changes)
        known |= {k.removeprefix("la_"): v for k, v in (base | changes).items()}
        mask, cleaned = LACosmic(**known)(planes_of(sim)[2], None, 1.0, 3.0)
        np.testing.assert_array_equal(masks.lamedian.value, cleaned)
        assert np.all(masks.mediancr <= mask)
        other = lacosmic(sim, **base)
        is_other = not np.array_equal(masks.lamedian, other.lamedian)
        assert is_other or not same(masks, other)

    @about("la_psffwhm_x", "la_psffwhm_y", "la_psfmodel")
    @pytest.mark.parametrize(
        ("model", "ignored"), [("gaussx", "la_psffwhm_y"), ("gaussy", "la_psffwhm_x")]
    )
    def test_one_width(self, sim, model, ignored):
        """Models along one axis use one of the widths only."""
        options = {"la_fsmode": "convolve", "la_psfmodel": model}
        assert same(
            lacosmic(sim, **options), lacosmic(sim, **options, **{ignored: 7.0})
        )

    @about("la_padwidth")
    def test_padwidth(self, sim):
        """Only with a margin is anything flagged in the outer rows."""
        edge = np.ones(SHAPE, dtype=bool)
        edge[1:-1, 1:-1] = False
        hits = sim.hits(20) & edge
        assert hits.sum() > 5
        without, padded = lacosmic(sim), lacosmic(sim, la_padwidth=10)
        assert not (without.crmasks & edge).any()
        assert (padded.crmasks & hits).sum() > 0.5 * hits.sum()

    @about("la_verbose")
    def test_verbose(self, sim, caplog):
        """Information is given if it is wanted; masks are the same."""
        quiet = lacosmic(sim)
        assert not [r for r in caplog.records if r.levelname == "INFO"]
        assert same(lacosmic(sim, la_verbose=True), quiet)
        assert [r for r in caplog.records if "pixels by" in r.getMessage()]


class TestBoundary:
    """Requirements of boundaries from simulations."""

    @about("mm_boundary_fit", "mm_fixed_points_in_boundary")
    @pytest.mark.filterwarnings("ignore::ccdcr.ImplausibleMaskWarning")
    def test_piecewise(self, sim):
        """Lines through the fixed points: high ones flag nothing, low ones a lot."""
        high, low = (
            simulated(
                sim,
                mm_boundary_fit="piecewise",
                mm_fixed_points_in_boundary=[[6e4, y], [-100, y]],
                mm_minimum_max2d_rnoise=0,
            )
            for y in (1e6, 0)
        )
        assert not high.meancrt.any()
        assert boundary_of(high) == pytest.approx(1e6)
        stack, minimum, median = planes_of(sim)
        np.testing.assert_array_equal(low.mediancr, median > minimum)
        np.testing.assert_array_equal(low.crmasks, stack > minimum)

    @about("mm_boundary_fit", "mm_fixed_points_in_boundary")
    def test_piecewise_by_hand(self, sim):
        """The excess over the minimum is compared with the line at the minimum."""
        points = [[0, 20], [200, 60], [400, 500]]
        masks = simulated(
            sim, mm_boundary_fit="piecewise", mm_fixed_points_in_boundary=points
        )
        stack, minimum, median = planes_of(sim)
        line = np.interp(minimum, *np.transpose(points).astype(float))
        line[minimum > 400] *= np.sqrt((minimum[minimum > 400] + 9) / 409)
        candidates = stack.max(axis=0) > 15
        expected = (median - minimum > line) & candidates
        np.testing.assert_array_equal(masks.mediancr, expected)
        assert expected.any()

    @about("mm_fixed_points_in_boundary")
    def test_pinned_spline(self, sim):
        """A spline goes through a fixed point, and flags less if it is high."""
        usual = simulated(sim)
        pinned = simulated(sim, mm_fixed_points_in_boundary=[[100, 400]])
        assert boundary_of(usual, 100) < 100
        assert boundary_of(pinned, 100) == pytest.approx(400, rel=0.02)
        assert 0 < pinned.meancrt.sum() < usual.meancrt.sum()

    @about("mm_knots_splfit")
    @pytest.mark.parametrize("knots", [2, 3, 6])
    def test_knots(self, sim, knots):
        """The spline has that many knots."""
        masks = simulated(sim, mm_knots_splfit=knots)
        for boundary in masks.diagnostics.boundaries.values():
            assert {len(np.unique(fit.t)) for fit in boundary.fits} == {knots}

    @about("mm_niter_boundary_extension", "mm_weight_boundary_extension")
    def test_extension(self, sim):
        """More and heavier extensions lift the boundary."""
        heights = []
        for niter, weight in ((0, 10), (1, 10), (3, 10), (3, 100)):
            masks = simulated(
                sim,
                mm_niter_boundary_extension=niter,
                mm_weight_boundary_extension=weight,
            )
            boundary = masks.diagnostics.boundaries["MEDIANCR"]
            assert len(boundary.fits) == niter + 1
            heights.append(boundary(boundary.x).mean())
        assert all(a < b for a, b in itertools.pairwise(heights))
        plain, light = (
            simulated(
                sim, mm_niter_boundary_extension=n, mm_weight_boundary_extension=1
            )
            for n in (0, 3)
        )
        assert boundary_of(plain) == pytest.approx(boundary_of(light), rel=1e-6)

    @about("mm_nsimulations")
    def test_nsimulations(self, quiet):
        """The diagram holds all simulations; rarer noise lifts the boundary."""
        heights = []
        for n in (1, 5, 40):
            masks = simulated(quiet, mm_nsimulations=n)
            diagram = masks.diagnostics.diagrams["MEDIANCR"]
            assert diagram.simulated.sum() == n * quiet.truth.size
            boundary = masks.diagnostics.boundaries["MEDIANCR"]
            heights.append(boundary(np.linspace(20, 200, 50)).mean())
        assert heights[0] < heights[1] < heights[2]

    @about("mm_seed")
    def test_seed(self, sim):
        """Same seed, same masks; other seeds and none give other simulations."""
        sets = [simulated(sim, mm_seed=seed) for seed in (1, 1, 2, None, None)]
        counts = [m.diagnostics.diagrams["MEDIANCR"].simulated for m in sets]
        assert same(sets[0], sets[1])
        assert np.array_equal(counts[0], counts[1])
        for a, b in itertools.combinations(counts[1:], 2):
            assert not np.array_equal(a, b)

    @about("mm_photon_distribution", "mm_nbinom_shape")
    def test_photon_distribution(self, quiet):
        """Noisier photons lift the boundary; a huge shape is Poisson's."""
        heights = [
            simulated(quiet, mm_photon_distribution=distribution, mm_nbinom_shape=shape)
            for distribution, shape in (
                ("poisson", 5),
                ("nbinom", 1e9),
                ("nbinom", 100),
                ("nbinom", 5),
            )
        ]
        poisson, huge, large, small = (boundary_of(m, 100) for m in heights)
        assert huge == pytest.approx(poisson, rel=0.15)
        # The variance at 130 electrons is 139, 308 and 3500.
        assert large > 1.2 * poisson
        assert small > 2 * large

    @about("mm_synthetic")
    @pytest.mark.filterwarnings("ignore::ccdcr.CoincidenceWarning")
    def test_synthetic(self):
        """From the median, or from each exposure cleaned by itself."""
        sim = simulate_exposures(
            SHAPE, scene="fibres", seed=5, cr_rate=0, flux=(0.7, 1.0, 1.3)
        )
        median, single = (
            lacosmic(
                sim,
                crmethod="mm_lacosmic",
                mm_boundary_fit="spline",
                mm_synthetic=value,
            )
            for value in ("median", "single")
        )
        # Only the second one knows that the exposures differ.
        assert boundary_of(single, 150) > 1.5 * boundary_of(median, 150)
        assert single.crmasks.sum() < 0.5 * median.crmasks.sum()

    @about("mm_hist2d_min_neighbors")
    def test_min_neighbors(self, quiet):
        """Isolated cells no longer lift the boundary."""
        diagrams, means = [], []
        for neighbors in (0, 3, 6):
            masks = simulated(quiet, mm_hist2d_min_neighbors=neighbors)
            diagrams.append(masks.diagnostics.diagrams["MEDIANCR"].simulated)
            boundary = masks.diagnostics.boundaries["MEDIANCR"]
            means.append(boundary(np.linspace(20, 100, 50)).mean())
        np.testing.assert_array_equal(diagrams[0], diagrams[2])
        assert means[0] > means[1] > means[2]

    @about("mm_ydiag_max")
    @pytest.mark.filterwarnings("ignore::ccdcr.ImplausibleMaskWarning")
    def test_ydiag_max(self, quiet):
        """The diagram ends there, and so does the boundary."""
        masks = simulated(quiet, mm_ydiag_max=12)
        diagram = masks.diagnostics.diagrams["MEDIANCR"]
        boundary = masks.diagnostics.boundaries["MEDIANCR"]
        assert diagram.y_edges[-1] == 12
        assert boundary.y.max() <= 12
        assert boundary(boundary.x).max() < 12.01
        assert boundary_of(simulated(quiet), boundary.x[-1]) > 25


class TestComputedBoundary:
    """Requirements of the boundary that is computed from the noise."""

    @about("mm_false_positives")
    @pytest.mark.parametrize("n", [3, 4])
    @pytest.mark.filterwarnings("ignore::ccdcr.CoincidenceWarning")
    def test_false_positives(self, n):
        """So many pixels of noise are flagged; fewer lift the boundary."""
        quiet = simulate_exposures(
            SHAPE, n_exposures=n, scene="fibres", seed=5, cr_rate=0
        )
        heights = []
        for wanted in (0.01, 1, 100, 1000):
            masks = mm(quiet, mm_false_positives=wanted, mm_minimum_max2d_rnoise=0)
            number = masks.mediancr.sum()
            # Within four standard deviations of Poisson's law.
            assert abs(number - wanted) <= 4 * np.sqrt(wanted) + (wanted < 1)
            # Pixels above one boundary or the other.
            assert number <= masks.meancrt.sum() <= 2 * wanted + 6 * np.sqrt(wanted) + 1
            heights.append(
                [boundary_of(masks, name=n) for n in ("MEDIANCR", "MEANCRT")]
            )
            boundary = masks.diagnostics.boundaries["MEDIANCR"]
            assert boundary.p_value == pytest.approx(wanted / quiet.truth.size)
        assert np.all(np.diff(heights, axis=0) < 0)

    @about("mm_boundary_fit")
    def test_boundary_fit(self, sim):
        """Computed is the default; only then there is a judgement of the noise."""
        default, computed, drawn = (
            mm(sim, **changes).diagnostics
            for changes in (
                {},
                {"mm_boundary_fit": "exact"},
                {"mm_boundary_fit": "spline"},
            )
        )
        for name in ("MEDIANCR", "MEANCRT", "CRMASK1"):
            kinds = [type(d.boundaries[name]) for d in (default, computed, drawn)]
            assert kinds == [ExactBoundary, ExactBoundary, SplineBoundary]
        assert drawn.noise_model is None
        assert default.noise_model.likeliest is None
        np.testing.assert_array_equal(
            default.boundaries["MEDIANCR"].y, computed.boundaries["MEDIANCR"].y
        )

    @about("mm_photon_distribution", "mm_nbinom_shape")
    @pytest.mark.filterwarnings("ignore::ccdcr.exceptions.NoiseModelWarning")
    def test_photon_distribution(self, quiet):
        """Noisier photons lift the boundary; a huge shape is Poisson's."""
        poisson, huge, large, small = (
            boundary_of(
                mm(quiet, mm_photon_distribution=distribution, mm_nbinom_shape=shape),
                130,
            )
            for distribution, shape in (
                ("poisson", 5),
                ("nbinom", 1e9),
                ("nbinom", 100),
                ("nbinom", 5),
            )
        )
        assert huge == pytest.approx(poisson, rel=1e-3)
        # The variance at 130 electrons is 139, 308 and 3500; the tail is longer.
        assert large > np.sqrt(308 / 139) * poisson * 0.9
        assert small > np.sqrt(3500 / 308) * large * 0.9

    @about("mm_ydiag_max")
    def test_ydiag_max(self, quiet):
        """The diagram ends there; the boundary does not depend on it."""
        usual, masks = mm(quiet), mm(quiet, mm_ydiag_max=12)
        diagram = masks.diagnostics.diagrams["MEDIANCR"]
        assert diagram.y_edges[-1] == 12
        assert usual.diagnostics.diagrams["MEDIANCR"].y_edges[-1] > 50
        assert same(usual, masks)

    @about("mm_crosscorr_region", "mm_xy_offsets")
    @pytest.mark.parametrize(
        "changes",
        [
            {"mm_crosscorr_region": [1, 50, 1, 50]},
            {"mm_xy_offsets": [[0, 0], [1, 0], [0, 1]]},
        ],
    )
    def test_offsets_are_refused(self, sim, changes):
        """It holds for exposures that are not shifted; the remedy is told."""
        with pytest.raises(ValueError, match="use mm_boundary_fit='spline'"):
            mm(sim, **changes)
        assert mm(sim, mm_boundary_fit="spline", **changes) is not None

    @about("mm_boundary_fit")
    @pytest.mark.parametrize(
        ("fit", "unused"),
        [
            (
                "exact",
                {
                    "mm_knots_splfit": 4,
                    "mm_fixed_points_in_boundary": [[10, 1e5], [20, 1e5]],
                    "mm_nsimulations": 2,
                    "mm_niter_boundary_extension": 1,
                    "mm_weight_boundary_extension": 5,
                    "mm_synthetic": "single",
                    "mm_hist2d_min_neighbors": 3,
                    "mm_seed": 5,
                },
            ),
            ("spline", {"mm_false_positives": 10}),
            (
                "piecewise",
                {
                    "mm_false_positives": 10,
                    "mm_knots_splfit": 4,
                    "mm_niter_boundary_extension": 1,
                    "mm_weight_boundary_extension": 5,
                    "mm_hist2d_min_neighbors": 3,
                },
            ),
        ],
    )
    def test_unused(self, sim, fit, unused):
        """What the boundary does without changes nothing, and this is told."""
        known = {"mm_boundary_fit": fit}
        if fit == "piecewise":
            known["mm_fixed_points_in_boundary"] = [[10, 50], [100, 200]]
        settings = Requirements(crmethod="mm_lacosmic", **known | unused)
        assert settings.without_effect() == [
            row for row in Requirements.table()["name"] if row in unused
        ]
        usual = lacosmic(sim, crmethod="mm_lacosmic", **known)
        with pytest.warns(UnusedRequirementWarning) as caught:
            masks = lacosmic(sim, crmethod="mm_lacosmic", **known | unused)
        assert all(name in str(caught[0].message) for name in unused)
        assert f"mm_boundary_fit={fit!r}" in str(caught[0].message)
        assert same(usual, masks)


class TestCriterion:
    """Requirements that say what counts besides the boundary."""

    @about("mm_threshold", "mm_threshold_rnoise")
    def test_threshold(self, sim):
        """In adu or in read noises; flagged pixels exceed it."""
        usual = mm(sim)
        masks, same_masks = (
            mm(sim, **change)
            for change in ({"mm_threshold": 300}, {"mm_threshold_rnoise": 100})
        )
        stack, minimum, median = planes_of(sim)
        np.testing.assert_array_equal(
            masks.mediancr, usual.mediancr & (median - minimum > 300)
        )
        assert masks.meancrt.sum() < usual.meancrt.sum()
        assert (stack - minimum)[masks.crmasks].min() > 300
        assert same(masks, same_masks)

    @about("mm_threshold")
    def test_threshold_of_features(self, sim):
        """A feature of L.A. Cosmic without a pixel above it is dropped."""
        masks = lacosmic(sim, crmethod="mm_lacosmic", mm_threshold=300)
        excess = planes_of(sim)[2] - planes_of(sim)[1]
        labels, number = ndimage.label(masks.mediancr, np.ones((3, 3)))
        assert number > 0
        assert ndimage.maximum(excess, labels, range(1, number + 1)).min() > 300

    @about("mm_threshold")
    def test_no_feature_is_high_enough(self, sim):
        """Above all that there is, nothing of either detector is left."""
        assert lacosmic(sim).meancrt.any()
        masks = lacosmic(sim, crmethod="mm_lacosmic", mm_threshold=1e6)
        assert not any(mask.any() for mask in masks.planes.values())

    @about("mm_minimum_max2d_rnoise")
    def test_minimum_max2d(self, sim):
        """The highest exposure must exceed so many read noises."""
        stack, *_ = planes_of(sim)
        usual = mm(sim, mm_minimum_max2d_rnoise=0)
        masks = mm(sim, mm_minimum_max2d_rnoise=150)
        np.testing.assert_array_equal(
            masks.mediancr, usual.mediancr & (stack.max(axis=0) > 450)
        )
        assert 0 < masks.mediancr.sum() < usual.mediancr.sum()

    @about("mm_dilation")
    def test_mm_dilation(self, sim):
        """Only Median-Minimum detections are dilated."""
        square = np.ones((5, 5))
        expected = ndimage.binary_dilation(mm(sim).mediancr, square)
        np.testing.assert_array_equal(mm(sim, mm_dilation=2).mediancr, expected)
        single = lacosmic(sim).mediancr
        both = lacosmic(sim, crmethod="mm_lacosmic", mm_dilation=2)
        flags = both.diagnostics.flags["MEDIANCR"]
        assert np.all((flags[single] == 3) | (flags[single] == 4))

    @about("mm_cr_coincidences")
    @pytest.mark.parametrize(
        ("method", "expected"),
        [
            # The third lowest, or the second lowest exposure is looked at.
            (mm, {2: [3, 4], 3: [3, 4], 4: [4]}),
            # With k = 2 three exposures are averaged, of which one is hit in the
            # second place and two in the third: a small excess.
            (simulated, {2: [3], 3: [3, 4], 4: [3, 4]}),
        ],
    )
    def test_coincidences(self, method, expected):
        """
        With five exposures the median stays clean of two hits, and is not of three.

        Computed, sought is the exposure that so many hits leave wrong; simulated, a
        median that exceeds the mean of the lowest 5 - k.
        """
        sim = simulate_exposures(SHAPE, n_exposures=5, scene="stars", seed=2, cr_rate=0)
        places = {k: (20 * k, 64) for k in (2, 3, 4)}
        for k, (y, x) in places.items():
            for ccd in sim.exposures[:k]:
                ccd.data[y : y + 2, x : x + 2] += 500
        sets = {sought: method(sim, mm_cr_coincidences=sought) for sought in (2, 3, 4)}
        for sought, masks in sets.items():
            found = [k for k, place in places.items() if masks.mediancr[place]]
            assert set(found) >= set(expected[sought])
            assert 2 not in found
            if method is mm:
                assert found == expected[sought]
        for k, place in places.items():
            assert sets[2].crmasks[(slice(None), *place)].sum() == k


class TestOffsets:
    """Exposures that are shifted."""

    SHIFT = ((-0.6, 0.5), (0.0, 0.0), (0.7, -0.4))

    @pytest.fixture(scope="class")
    @classmethod
    def shifted(cls):
        """Return shifted exposures without cosmic rays."""
        return simulate_exposures(
            (200, 200), scene="fibres", seed=4, cr_rate=0, shift=cls.SHIFT
        )

    @pytest.mark.filterwarnings("ignore:the exposures are not registered")
    @about("mm_xy_offsets")
    def test_xy_offsets(self, shifted):
        """With the offsets the boundary is higher and fewer pixels are flagged."""
        without = simulated(shifted)
        masks = simulated(shifted, mm_xy_offsets=self.SHIFT)
        assert without.diagnostics.offsets is None
        np.testing.assert_allclose(masks.diagnostics.offsets, self.SHIFT)
        assert boundary_of(masks, 200) > 1.3 * boundary_of(without, 200)
        assert without.crmasks.sum() > 300
        assert masks.crmasks.sum() < 0.2 * without.crmasks.sum()

    @about("mm_xy_offsets")
    def test_wrong_offsets(self, quiet):
        """Offsets that are not there lift the boundary near structure."""
        offsets = [[0, 0], [0, 2], [1, -2]]
        masks = simulated(quiet, mm_xy_offsets=offsets)
        assert boundary_of(masks, 150) > 1.5 * boundary_of(simulated(quiet), 150)

    @about("mm_crosscorr_region")
    def test_crosscorr_region(self):
        """Measured offsets are those that were injected, and they are used."""
        sim = simulate_exposures((256, 256), scene="fibres", seed=4, shift=self.SHIFT)
        masks = simulated(sim, mm_crosscorr_region=[5, 250, 3, 256])
        measured = masks.diagnostics.offsets
        np.testing.assert_allclose(measured, self.SHIFT, atol=0.05)
        given = simulated(sim, mm_xy_offsets=measured)
        assert same(masks, given)


def matched(sim, **changes):
    """Return the masks of matched exposures."""
    options = {"crmethod": "matched"} | changes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotEquivalentWarning)
        return detect_cosmic_rays(sim.exposures, **KNOWN, **options)


def stamped(values, n=3, **header):
    """Return flat exposures; ``values`` are added to the exposures at places."""
    rng = np.random.default_rng(8)
    ccds = []
    for i in range(n):
        image = 100 + rng.normal(0, 10.44, SHAPE)
        for (y, x), added in values.items():
            image[y, x] += added[i]
        ccds.append(CCDData(image.astype(np.float32), unit="adu", meta=header))
    return SimpleNamespace(exposures=ccds)


class TestMatched:
    """Requirements of the matched methods."""

    @about("ma_passes")
    def test_passes(self):
        """Another pass begins with a better reference."""
        sim = simulate_exposures(
            SHAPE, scene="fibres", seed=5, shift=[(-0.2, 0), (0, 0), (0.2, 0.1)]
        )
        once, twice = (matched(sim, ma_passes=k) for k in (1, 2))
        ratios = [m.equivalence.ratio for m in (once, twice)]
        assert ratios[0][0] == ratios[1][0]
        assert ratios[0][1] != ratios[1][1]

    @about("ma_tile")
    def test_tile(self, sim):
        """As many tiles as fit."""
        shapes = [
            matched(sim, ma_tile=size).equivalence.maps["flux"].shape
            for size in (32, 64, 300)
        ]
        assert shapes == [(3, 4, 4), (3, 2, 2), (3, 1, 1)]

    @about("ma_strips")
    def test_strips(self):
        """A sky line that is brighter in one exposure needs strips along it."""
        sim = simulate_exposures(
            SHAPE, scene="longslit", seed=5, cr_rate=0, sky_lines=(1, 1, 1.25)
        )
        without, usual = (matched(sim, ma_strips=value) for value in (False, True))
        assert usual.equivalence.ratio[1] < without.equivalence.ratio[1]

    @about("ma_high", "ma_low")
    def test_limits(self):
        """One pixel above the first; those connected to it above the second."""
        sigma = 10.44 * np.sqrt(1.5)  # of the difference to the mean of two
        sim = stamped({(60, 60): (9 * sigma, 0, 0), (60, 61): (7 * sigma, 0, 0)})
        strict = {"ma_leak": 0, "ma_tail": 1e3}
        pair = (0, 60, [60, 61])
        usual = matched(sim, **strict)
        assert usual.crmasks[pair].tolist() == [True, True]
        masks = matched(sim, ma_high=8, ma_low=7.9, **strict)
        assert masks.crmasks[pair].tolist() == [True, False]
        masks = matched(sim, ma_high=12, **strict)
        assert not masks.crmasks[pair].any()

    @about("ma_leak", "ma_tail")
    def test_ring(self):
        """Neighbours get charge; the more is assumed, the more are masked."""
        sim = stamped({(60, 60): (900, 0, 0)})

        def number(**changes):
            return matched(sim, **changes).crmasks[0, 58:63, 58:63].sum()

        assert number(ma_leak=0, ma_tail=3.9) == 1
        assert number(ma_leak=0.2) == 5
        assert number(ma_leak=0.0, ma_tail=0) < 5

    @about("ma_satlevel")
    def test_satlevel(self):
        """Where the others are saturated they are no reference."""
        places = {(60, 60): (900, 1300, 0), (30, 30): (900, 0, 0)}
        sim = stamped(places)
        usual = matched(sim)
        masks = matched(sim, ma_satlevel=700)
        assert usual.crmasks[:, 60, 60].tolist() == [True, True, False]
        assert masks.crmasks[:, 60, 60].tolist() == [True, True, False]
        assert masks.crmasks[:, 30, 30].tolist() == [True, False, False]
        # All three are at this level: nothing is left that could say anything.
        bright = stamped({(60, 60): (900, 1500, 2300)})
        assert matched(bright).crmasks[:, 60, 60].any()
        masks = matched(bright, ma_satlevel=700)
        assert not masks.crmasks[:, 60, 60].any()

    @about("ma_dilation")
    def test_dilation(self, sim):
        """Each mask is dilated as any image is."""
        usual, wide = matched(sim), matched(sim, ma_dilation=2)
        square = np.ones((5, 5))
        for mask, expected in zip(wide.crmasks, usual.crmasks, strict=True):
            np.testing.assert_array_equal(
                mask, ndimage.binary_dilation(expected, square)
            )
        np.testing.assert_array_equal(wide.meancrt, wide.crmasks.any(axis=0))

    @about("dilation", "apply_flux_factor_to")
    def test_no_effect(self, sim):
        """What has no effect is said."""
        with pytest.warns(UnusedRequirementWarning, match="dilation"):
            masks = detect_cosmic_rays(
                sim.exposures, crmethod="matched", dilation=3, **KNOWN
            )
        assert same(masks, matched(sim))


def test_every_requirement_is_covered():
    """Each name of the table has a test here."""
    assert set(Requirements.table()["name"]) == _COVERED
