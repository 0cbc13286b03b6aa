# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of masks together with their exposures."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.testing import assert_array_equal

from ccdcr import (
    CRMaskSet,
    ForeignMasksWarning,
    compare_methods,
    detect_cosmic_rays,
    explain_pixel,
    review,
    write_report,
)
from ccdcr.inspection import Inspection
from ccdcr.plotting import (
    plot_detections,
    plot_flux_factors,
    plot_masks,
    plot_offsets,
    plot_stamps,
)
from ccdcr.report import detection_table
from ccdcr.simulation import simulate_exposures

FUNCTIONS = {
    "compare_methods": compare_methods,
    "detection_table": detection_table,
    "explain_pixel": lambda ccds, masks: explain_pixel(ccds, masks, 6, 4),
    "plot_detections": plot_detections,
    "plot_flux_factors": plot_flux_factors,
    "plot_masks": plot_masks,
    "plot_offsets": plot_offsets,
    "plot_stamps": lambda ccds, masks: plot_stamps(ccds, masks, x=6, y=4),
    "review": review,
    "write_report": lambda ccds, masks: write_report(ccds, masks, "never made"),
}


@pytest.fixture(scope="module")
def ccds():
    """Three exposures."""
    return simulate_exposures((60, 70), scene="fibres", seed=1).exposures


@pytest.fixture(scope="module")
def masks(ccds):
    """Masks with a little of everything."""
    return detect_cosmic_rays(
        ccds,
        gain="GAIN",
        readnoise="RDNOISE",
        crmethod="mm_lacosmic",
        la_verbose=False,
    )


@pytest.fixture(scope="module")
def files(ccds, masks, tmp_path_factory):
    """Files of the exposures and of the masks."""
    folder = tmp_path_factory.mktemp("files")
    paths = [folder / f"exposure{i}.fits" for i in range(len(ccds))]
    for ccd, path in zip(ccds, paths, strict=True):
        ccd.write(path)
    masks.write(folder / "crmasks.fits")
    return paths, folder / "crmasks.fits"


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
class TestOrder:
    """All functions take exposures and masks in this order."""

    def test_swapped(self, ccds, masks, function):
        """The other order is an error that says so."""
        with pytest.raises(TypeError, match="ccds and masks are swapped: give the"):
            function(masks, ccds)

    def test_swapped_files(self, files, function):
        """Also if they are files."""
        paths, path = files
        with pytest.raises(TypeError, match="ccds and masks are swapped: give the"):
            function(str(path), paths)

    def test_no_masks(self, ccds, function):
        """Masks are a set or its file."""
        with pytest.raises(TypeError, match="masks must be a CRMaskSet or a file"):
            function(ccds, ccds)

    def test_no_exposures(self, masks, function):
        """Two mask sets are no exposures."""
        with pytest.raises(TypeError, match="ccds must be a list or generator"):
            function(masks, masks)


class TestFiles:
    """Exposures and masks may be files."""

    def test_table(self, ccds, files):
        """The numbers are those of the masks that are read."""
        paths, path = files
        expected = detection_table(ccds, CRMaskSet.read(path))
        for given in (path, str(path)):
            found = detection_table(paths, given)
            assert found.meta == expected.meta
            assert_array_equal(found["peak_excess"], expected["peak_excess"])

    def test_others(self, ccds, masks, files):
        """The other functions that give numbers or figures."""
        paths, path = files
        rows = explain_pixel(paths, path, 6, 4)
        expected = explain_pixel(ccds, CRMaskSet.read(path), 6, 4)
        assert_array_equal(rows["value"], expected["value"])
        found, table = (
            compare_methods(*given).table["positive"]
            for given in ((paths, path), (ccds, masks))
        )
        assert_array_equal(found, table)
        images = (
            plot_stamps(*given, x=6, y=4, fig=Figure())["corrected"].get_array()
            for given in ((paths, path), (ccds, masks))
        )
        assert_array_equal(*images)

    def test_report(self, files, tmp_path):
        """The whole report."""
        report = write_report(*files, tmp_path / "new", maxplots=0)
        assert report.paths["index.html"].is_file()


class TestInspection:
    """What is read once."""

    def test_same(self, ccds, masks):
        """An inspection of the masks is used as it is."""
        inspection = Inspection.from_ccds(ccds, masks)
        assert Inspection.from_ccds(inspection, masks) is inspection
        table = explain_pixel(inspection, masks, 6, 4)
        expected = explain_pixel(ccds, masks, 6, 4)
        assert_array_equal(table["value"], expected["value"])
        assert repr(inspection) == "<Inspection(3 exposures, shape=(60, 70))>"

    def test_other_masks(self, ccds, masks):
        """Other masks may have another bias and gain."""
        inspection = Inspection.from_ccds(ccds, masks)
        other = CRMaskSet(
            masks.mediancr, masks.meancrt, masks.crmasks, bias=7.0, gain=2.0
        )
        changed = Inspection.from_ccds(inspection, other)
        np.testing.assert_allclose(changed.stack, inspection.stack - 7, atol=1e-3)
        assert changed.detector is None
        with pytest.raises(ValueError, match="ccds must be 2 exposures of shape"):
            Inspection.from_ccds(
                inspection, CRMaskSet(masks.mediancr, masks.meancrt, masks.crmasks[:2])
            )

    def test_exposures_stay(self, ccds, masks):
        """Nothing is written to the exposures."""
        before = [ccd.data.copy() for ccd in ccds]
        factors = CRMaskSet(
            masks.mediancr,
            masks.meancrt,
            masks.crmasks,
            bias=7.0,
            flux_factor=[1, 2, 3],
            requirements={
                "crmethod": "mm_lacosmic",
                "apply_flux_factor_to": "original",
            },
        )
        inspection = Inspection.from_ccds(ccds, factors)
        expected = (np.array(before) - 7) / np.array([1, 2, 3])[:, None, None]
        np.testing.assert_allclose(inspection.stack, expected, rtol=1e-5)
        for ccd, data in zip(ccds, before, strict=True):
            assert_array_equal(ccd.data, data)


@pytest.mark.filterwarnings("ignore::ccdcr.exceptions.ImplausibleMaskWarning")
class TestFlags:
    """Pixels that the masks record as flagged are like masked ones."""

    @pytest.fixture
    def flagged(self):
        """Exposures with flags, masked copies of them, and masks of the former."""
        sim = simulate_exposures((60, 70), scene="fibres", seed=1)
        for ccd in sim.exposures:
            ccd.flags = np.zeros(ccd.shape, "u2")
        sim.exposures[1].data[:, 30:32], sim.exposures[1].flags[:, 30:32] = 30000, 4
        masked = [ccd.copy() for ccd in sim.exposures]
        for ccd, original in zip(masked, sim.exposures, strict=True):
            ccd.mask, ccd.flags = original.flags == 4, None
        known = {"gain": 1.0, "readnoise": 3.0}
        masks = detect_cosmic_rays(sim.exposures, ignore_flags="~4", **known)
        return sim.exposures, masked, masks

    def test_like_masked(self, flagged):
        """Comparison, tables and edits of both are the same."""
        ccds, masked, masks = flagged
        unmarked = masks._with(meta={})
        with_, without = compare_methods(ccds, masks), compare_methods(masked, unmarked)
        assert list(map(list, with_.table.iterrows())) == list(
            map(list, without.table.iterrows())
        )
        table = explain_pixel(ccds, masks, 31, 20)
        assert table["verdict"][1] == "bad: ignored"
        assert_array_equal(
            table["value"], explain_pixel(masked, unmarked, 31, 20)["value"]
        )
        added = masks.edit(add=[[31, 20]], ccds=ccds).crmasks[:, 19, 30]
        assert added.sum() == 1
        assert not added[1]
        assert ccds[1].mask is None

    def test_detected_again(self, flagged):
        """A new detection is the same, and records the flags, too."""
        ccds, _, masks = flagged
        again = Inspection.from_ccds(ccds, masks).detect_again(masks.requirements)
        assert_array_equal(again.crmasks, masks.crmasks)
        assert again.meta["BADFLAGS"] == 4

    def test_missing(self, flagged):
        """Flags that are missing are told once."""
        ccds, _, masks = flagged
        ccds[1].flags = None
        with pytest.warns(ForeignMasksWarning, match="of exposure 2, whose") as caught:
            compare_methods(ccds, masks)
        assert [w.category for w in caught].count(ForeignMasksWarning) == 1
