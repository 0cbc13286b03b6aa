# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The report on how far exposures are from being equivalent."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import Table
from matplotlib.figure import Figure
from numpy.testing import assert_allclose, assert_array_equal

from ccdcr import (
    CRMaskSet,
    CRMasksFileError,
    Equivalence,
    MatchingFailedWarning,
    NoiseModelWarning,
    NotEquivalentWarning,
    check_equivalence,
    detect_cosmic_rays,
)
from ccdcr.detection.mask_warnings import flagged_fractions
from ccdcr.plotting import plot_equivalence
from ccdcr.simulation import simulate_exposures

KNOWN = {"gain": 1.0, "readnoise": 3.0}
SHAPE = (256, 256)
SHIFT = [(-0.2, 0.1), (0, 0), (0.2, -0.1)]


def check(scene="fibres", seed=3, shape=SHAPE, **changes):
    """Return the report on simulated exposures."""
    sim = simulate_exposures(shape, scene=scene, seed=seed, **changes)
    return check_equivalence(sim.exposures, **KNOWN)


class TestTerms:
    """What was injected comes back."""

    @pytest.mark.parametrize("scene", ["fibres", "stars", "longslit"])
    def test_equivalent(self, scene):
        """Nothing is needed, and all is within its error."""
        report = check(scene)
        assert not report.needed
        assert report.failures == []
        assert repr(report) == "<Equivalence(3 exposures, matching not needed)>"
        for name, value, limit in (
            ("flux", 1, 0.01),
            ("shift_x", 0, 0.05),
            ("shift_y", 0, 0.05),
            ("seeing", 0, 0.1),
            ("noise", 0, 0.1),
        ):
            found = np.asarray(report.terms[name])
            found = found[np.isfinite(found)]
            assert_allclose(found, value, atol=limit, err_msg=name)
        assert max(report.ratio) < 1.25

    @pytest.mark.parametrize("scene", ["fibres", "stars", "longslit"])
    def test_flux(self, scene):
        """Factors of 10%, and the sky that goes with them."""
        report = check(scene, flux=(0.9, 1.0, 1.1))
        assert_allclose(report.terms["flux"], [0.9, 1.0, 1.1], atol=0.06)
        assert report.needed
        assert not report.failures

    @pytest.mark.parametrize("scene", ["fibres", "stars", "longslit"])
    def test_shift(self, scene):
        """Shifts of a part of a pixel, with their sign."""
        report = check(scene, shift=SHIFT)
        found = np.column_stack([report.terms["shift_x"], report.terms["shift_y"]])
        assert_allclose(found, SHIFT, atol=0.05)
        assert report.needed

    def test_seeing(self):
        """A wider profile has a larger variance."""
        fwhm = np.array([2.3, 2.5, 2.7])
        report = check("stars", seeing=tuple(fwhm), shape=(400, 400))
        assert np.all(np.diff(report.terms["seeing"]) > 0.05)

    def test_background(self):
        """Electrons that the sky adds."""
        report = check(background=(0, 6, 12))
        assert_allclose(report.terms["background"], [-6, 0, 6], atol=0.8)
        assert report.needed

    def test_maps(self):
        """One image of the tiles for each term and exposure, with their places."""
        report = check(flux=(0.9, 1.0, 1.1), shape=(256, 200))
        assert {plane.shape for plane in report.maps.values()} == {(3, 4, 3)}
        assert_allclose(report.maps["flux"].mean(axis=(1, 2)), [0.9, 1, 1.1], atol=0.04)
        first = report.tiles[report.tiles["exposure"] == 1]
        assert_allclose(np.unique(first["y"]), [32.5, 96.5, 160.5, 224.5])
        assert_allclose(np.unique(first["x"]), [34, 101, 168])

    def test_levels(self):
        """Mismatch shows on structure, and less so after matching."""
        report = check(shift=SHIFT)
        before, after = report.ratio
        assert before > 2
        assert after < before
        assert report.levels.colnames == ["level", "values", "before", "after"]
        assert np.all(np.diff(report.levels["level"]) > 0)
        poor = report.levels["values"] < 400
        assert np.isnan(report.levels["after"][poor]).all()
        assert report.levels["values"].sum() <= report.number == 3 * 256**2


class TestFailures:
    """Exposures that cannot be matched, and what to do."""

    @pytest.mark.parametrize(
        ("scene", "changes", "message"),
        [
            (
                "fibres",
                {"shift": [(-0.7, 0), (0, 0), (0.7, 0)]},
                r"not registered: .* \(-0\.[67]\d, .* align them with ccdcr\.align_exp",
            ),
            (
                "fibres",
                {"flux": (0.4, 1.0, 1.3)},
                r"flux ratios of [23]\.\d\d are above 2: scale the exposures",
            ),
            (
                "fibres",
                {"shift": [(-2, 0), (0, 0), (2, 2)]},
                r"not registered: .* \([+]2\.0\d, [+]1\.3\d\) pixels along x and y",
            ),
        ],
    )
    def test_failures(self, scene, changes, message):
        """A warning of its own class names the remedy."""
        with pytest.warns(MatchingFailedWarning, match=message):
            report = check(scene, **changes)
        assert report.needed
        assert any(report.failures)
        assert "failed" in repr(report)
        assert issubclass(MatchingFailedWarning, NotEquivalentWarning)

    def test_majority(self):
        """Where most pixels look hit, nothing can be measured."""
        rng = np.random.default_rng(3)
        # The noise is 8 times what is expected.
        data = rng.normal(0, 24, (3, 100, 100))
        ccds = [CCDData(plane, unit="electron") for plane in data]
        message = r"% of the pixels look hit in a majority of the exposures"
        with pytest.warns(MatchingFailedWarning, match=message):
            check_equivalence(ccds, readnoise=3.0)

    def test_skies(self):
        """Skies that differ by any amount are no failure."""
        report = check("stars", background=(0, 300, 6000))
        assert not report.failures
        assert_allclose(report.terms["background"], [-2100, -1800, 3900], atol=5)

    @pytest.mark.parametrize("scene", ["fibres", "stars", "longslit"])
    def test_two(self, scene):
        """Two equivalent exposures are, though hits make one much lower."""
        report = check(scene, 5, (400, 400), n_exposures=2)
        assert not report.needed
        shifted = {"shift": [(-0.1, 0), (0.1, 0.1)], "flux": (0.95, 1.05)}
        assert check(scene, 5, (400, 400), n_exposures=2, **shifted).needed

    def test_made_by_matching(self):
        """Mismatch that was not there before is none of the exposures."""
        report = check("stars")
        report.levels["after"][3] = 4
        assert not report.failures
        assert not report.needed
        report.levels["before"][3] = 5
        assert any(text.startswith("Q / Q0 = 4.0") for text in report.failures)
        assert report.needed
        # Matched pixels are on other levels.
        report.levels["after"][3] = np.nan
        assert not report.failures

    def test_detection(self):
        """A detection says so, too, once."""
        sim = simulate_exposures(
            SHAPE, seed=3, shift=[(-0.7, 0), (0, 0), (0.7, 0)], cr_rate=0
        )
        with pytest.warns(MatchingFailedWarning, match="not registered") as caught:
            detect_cosmic_rays(sim.exposures, crmethod="matched", **KNOWN)
        assert len(caught) == 1


class TestReport:
    """The object, its text and its figure."""

    @pytest.fixture(scope="class")
    @classmethod
    def report(cls):
        """Exposures that differ in flux."""
        return check(flux=(0.9, 1.0, 1.1))

    def test_text(self, report):
        """All is said in a few lines."""
        text = str(report)
        assert text.startswith("matching was needed")
        for word in ("exposure", "flux", "level", "before", "after"):
            assert word in text
        assert report.describe().startswith(("flux 0.9", "flux 0.89"))
        assert "Q / Q0" in report.describe()

    def test_figure(self, report):
        """Levels, and a map of each term of each exposure; nothing is shown."""
        figure = Figure(figsize=(11, 9))
        plot_equivalence(report, fig=figure)
        levels, *_ = figure.axes
        lines = {line.get_label(): line for line in levels.lines}
        assert_array_equal(lines["before"].get_ydata(), report.levels["before"])
        assert_array_equal(lines["after"].get_xdata(), report.levels["level"])
        images = [ax.images[0] for ax in figure.axes if ax.images]
        found = [np.asarray(image.get_array()) for image in images]
        for name in ("flux", "background"):
            for plane in report.maps[name]:
                assert any(np.array_equal(plane, other) for other in found)
        figure.canvas.draw()

    def test_two(self):
        """Two exposures are enough."""
        sim = simulate_exposures(SHAPE, n_exposures=2, seed=3, flux=(1.0, 1.1))
        report = check_equivalence(sim.exposures, **KNOWN)
        flux = report.terms["flux"]
        assert flux[1] - flux[0] == pytest.approx(0.1, abs=0.05)

    def test_factors(self):
        """Exposures are scaled by given factors first."""
        sim = simulate_exposures(SHAPE, seed=3, flux=(0.5, 1.0, 1.5))
        report = check_equivalence(sim.exposures, flux_factor=(0.5, 1, 1.5), **KNOWN)
        assert_allclose(report.terms["flux"], 1, atol=0.03)
        report = check_equivalence(sim.exposures, flux_factor="auto", **KNOWN)
        assert_allclose(report.terms["flux"], 1, atol=0.03)
        with pytest.raises(ValueError, match=r"flux_factor must be .*'auto'.* 'odd'"):
            check_equivalence(sim.exposures, flux_factor="odd", **KNOWN)

    @pytest.mark.parametrize("factor", [(1, 2), 0, (1, np.nan, 1), (1, -1, 1)])
    def test_wrong_factors(self, factor):
        """One finite number above 0 for each exposure."""
        sim = simulate_exposures((20, 20), seed=3)
        with pytest.raises(
            ValueError, match="flux_factor must be 3 finite numbers > 0"
        ):
            check_equivalence(sim.exposures, flux_factor=factor, **KNOWN)

    def test_one(self):
        """One exposure cannot be compared."""
        sim = simulate_exposures((20, 20), n_exposures=1, seed=3)
        with pytest.raises(ValueError, match="at least 2 exposures, got 1"):
            check_equivalence(sim.exposures, **KNOWN)


class TestMaskSet:
    """The report is part of the mask set and of its file."""

    @pytest.fixture(scope="class")
    @classmethod
    def masks(cls):
        """Masks of matched exposures."""
        sim = simulate_exposures(SHAPE, seed=3)
        return detect_cosmic_rays(sim.exposures, crmethod="matched", **KNOWN)

    def test_round_trip(self, masks, tmp_path):
        """What is written is read."""
        path = tmp_path / "crmasks.fits"
        masks.write(path)
        again = CRMaskSet.read(path)
        assert again == masks
        assert again.extra_hdus == ()
        report, other = masks.equivalence, again.equivalence
        assert isinstance(other, Equivalence)
        for name in ("levels", "terms", "tiles"):
            first, second = getattr(report, name), getattr(other, name)
            for column in first.colnames:
                assert_allclose(second[column], first[column])
        assert str(other) == str(report)
        assert other.number == report.number
        again.write(tmp_path / "again.fits")
        assert CRMaskSet.read(tmp_path / "again.fits").equivalence.needed is False

    def test_without(self, masks, tmp_path):
        """A file without it is read; one with a part of it is damaged."""
        path = tmp_path / "crmasks.fits"
        hdulist = masks.to_hdulist()
        for name in ("EQTERMS", "EQLEVELS", "EQTILES", "BRIGHT"):
            del hdulist[name]
        del hdulist[0].header["NEXTEND"]
        hdulist.writeto(path)
        again = CRMaskSet.read(path)
        assert again == masks
        assert again.equivalence is None
        assert "bright" not in again.summary().colnames
        damaged = masks.to_hdulist()
        del damaged["EQTILES"]
        with pytest.raises(
            CRMasksFileError,
            match=r"\[EQTILES\]: missing, expected it beside the others",
        ):
            CRMaskSet.from_hdulist(damaged, name="file")

    def test_wrong_columns(self, masks):
        """Other columns are refused by name."""
        hdulist = masks.to_hdulist()
        number = hdulist.index_of("EQTERMS")
        hdulist[number] = fits.BinTableHDU(Table({"a": [1]}), name="EQTERMS")
        with pytest.raises(CRMasksFileError, match=r"\[EQTERMS\]: other columns"):
            CRMaskSet.from_hdulist(hdulist, name="file")

    def test_wrong_argument(self, masks):
        """Another object, or a report of another number of exposures."""
        parts = (masks.mediancr, masks.meancrt, masks.crmasks)
        with pytest.raises(TypeError, match="equivalence must be an Equivalence"):
            CRMaskSet(*parts, equivalence=3)
        with pytest.raises(TypeError, match="bright must be a Table"):
            CRMaskSet(*parts, bright=Table({"a": [1]}))
        two = CRMaskSet(parts[0], parts[1], parts[2][:2]).crmasks
        with pytest.raises(ValueError, match="must be that of 2 exposures, got 3"):
            CRMaskSet(*parts[:2], two, equivalence=masks.equivalence)

    def test_slice(self, masks):
        """A part of the set has the report of the whole."""
        assert masks[:20, :30].equivalence is masks.equivalence

    def test_other_methods(self):
        """The other methods do not match."""
        sim = simulate_exposures((64, 64), seed=3)
        masks = detect_cosmic_rays(sim.exposures, crmethod="mmcosmic", **KNOWN)
        assert masks.equivalence is None
        assert masks.bright is not None


class TestOverFlagging:
    """Signs that real signal is flagged."""

    def test_fractions(self):
        """The brightest 5% and what is near the median, counted by hand."""
        image = np.arange(400.0).reshape(20, 20)
        mask = np.zeros((20, 20), dtype=bool)
        mask[-1, :10] = True
        mask[0, :4] = True
        table = flagged_fractions({"A": mask}, image, lambda _: 10.0)
        # The last row is the brightest 5%; 0 to 219 are below 199.5 + 20.
        assert table["bright"][0] == pytest.approx(10 / 20)
        assert table["faint"][0] == pytest.approx(4 / 220)
        flat = flagged_fractions({"A": mask}, image, lambda _: 100.0)
        assert np.isnan(flat["bright"][0])

    @pytest.mark.filterwarnings("ignore::ccdcr.CoincidenceWarning")
    @pytest.mark.filterwarnings("ignore::ccdcr.ImplausibleMaskWarning")
    def test_summary(self):
        """Masks of cosmic rays do not care for the signal; those of stars do."""
        sim = simulate_exposures(SHAPE, scene="stars", seed=3, flux=(0.8, 1, 1.2))
        matched = detect_cosmic_rays(sim.exposures, crmethod="matched", **KNOWN)
        with pytest.warns(NoiseModelWarning):
            plain = detect_cosmic_rays(sim.exposures, crmethod="mmcosmic", **KNOWN)
        rows = [
            next(row for row in masks.summary() if row["mask"] == "MEANCRT")
            for masks in (matched, plain)
        ]
        assert rows[0]["bright"] < 0.3
        assert rows[1]["bright"] > 0.7
        assert rows[1]["bright"] > rows[1]["faint"] + 0.2
        assert np.ma.is_masked(matched.summary()["bright"][-1])


@pytest.mark.filterwarnings("ignore:all pixels of exposure 2 are masked")
@pytest.mark.parametrize("part", [40, 60, 80])
def test_masked_exposure(part):
    """One of three exposures that is masked in most of the image is no failure."""
    rng = np.random.default_rng(1)
    ccds = []
    for _ in range(3):
        data = rng.poisson(200, (80, 80)) + rng.normal(0, 3, (80, 80))
        data.ravel()[rng.integers(0, 6400, 20)] += 2000
        ccds.append(CCDData(data, unit="adu"))
    ccds[1].mask = np.zeros((80, 80), bool)
    ccds[1].mask[:, :part] = True
    masks = detect_cosmic_rays(ccds, gain=1.0, readnoise=3.0, la_verbose=False)
    assert masks.equivalence.failures == []
    assert not masks.crmasks[1, :, :part].any()
