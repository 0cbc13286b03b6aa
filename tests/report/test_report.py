# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the report: the table, the files, the page."""

import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from astropy.nddata import CCDData
from astropy.table import Table
from numpy.testing import assert_array_equal

from ccdcr import CRMaskSet, detect_cosmic_rays, write_report
from ccdcr.masks.diagnostics import Diagnostics
from ccdcr.report import Report, detection_table, gallery
from ccdcr.report import report_folder as folder
from ccdcr.report.report_figures import ReportFigure
from ccdcr.simulation import simulate_exposures

KNOWN = {
    "gain": "GAIN",
    "readnoise": "RDNOISE",
    "la_verbose": False,
    "crmethod": "mm_lacosmic",
}
FILES = {
    "diagram_MEDIANCR.png",
    "diagram_MEANCRT.png",
    "pixels_MEDIANCR.png",
    "flux_factors.png",
    "offsets.png",
    "comparison.png",
    "detections.csv",
    "detections.ecsv",
    "every_exposure.csv",
    "every_exposure.ecsv",
    "gallery.pdf",
    "gallery_every_exposure.pdf",
    "index.html",
}


@pytest.fixture(scope="module")
def sim():
    """Three exposures with truth."""
    return simulate_exposures((100, 120), scene="fibres", seed=1)


@pytest.fixture(scope="module")
def masks(sim):
    """Masks with diagnostics."""
    return detect_cosmic_rays(sim.exposures, **KNOWN)


@pytest.fixture(scope="module")
def report(sim, masks, tmp_path_factory):
    """The report."""
    return write_report(sim.exposures, masks, tmp_path_factory.mktemp("report") / "new")


@pytest.fixture(scope="module")
def read(masks, tmp_path_factory):
    """The masks, written and read."""
    path = tmp_path_factory.mktemp("masks") / "crmasks.fits"
    masks.write(path)
    return CRMaskSet.read(path)


@pytest.fixture
def no_figures(report, monkeypatch):
    """Take the figures of another report where their content does not matter."""
    image = report.paths["flux_factors.png"].read_bytes()
    monkeypatch.setattr(ReportFigure, "png", lambda _: image)


def by_hand():
    """
    Exposures of 6 x 9 pixels, and their masks with known detections.

    Read noise 2 electrons, gain 1, level 12: the noise of one exposure is 4. The
    groups of MEDIANCR are (2, 2) and (3, 3), connected by a corner, and (8, 5).
    """
    crmasks = np.zeros((3, 6, 9), dtype=bool)
    crmasks[:2, 1, 1] = crmasks[1:, 2, 2] = True
    crmasks[:, 4, 7] = True
    data = np.full((3, 6, 9), 12.0)
    data[:2, 1, 1] = 52, 72
    data[1:, 2, 2] = 92, 99
    data[:, 4, 7] = 12, 32, 40
    flags = np.zeros((6, 9), dtype=np.uint8)
    flags[1, 1], flags[2, 2], flags[4, 7] = 2, 3, 1
    masks = CRMaskSet(
        crmasks.sum(axis=0) > 1,
        crmasks.any(axis=0),
        crmasks,
        gain=1.0,
        readnoise=2.0,
        diagnostics=Diagnostics(flags={"MEDIANCR": flags, "MEANCRT": flags}),
    )
    return [CCDData(plane, unit="adu") for plane in data], masks


class Page(HTMLParser):
    """What a page holds."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.images, self.links, self.ids = [], [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Collect."""
        attrs = dict(attrs)
        self.tags.append(tag)
        self.ids.add(attrs.get("id"))
        if tag == "img":
            self.images.append(attrs)
        if "href" in attrs:
            self.links.append(attrs["href"])


class TestTable:
    """The table of detections."""

    def test_by_hand(self):
        """Numbers that can be worked out."""
        table = detection_table(*by_hand())
        rows = [tuple(row) for row in table]
        assert rows == [
            # A group of both detectors, though no pixel is; median 92, minimum 12.
            (1, "both detectors", 2, 3, 3, 2, 3, 2, 3, "1 2 3", 80.0, 20.0),
            # Median 32.
            (2, "dilation only", 1, 8, 5, 8, 8, 5, 5, "1 2 3", 20.0, 5.0),
        ]
        assert str(table["peak_excess"].unit) == "adu"
        assert table.meta["mask"] == "MEDIANCR"

    def test_every(self):
        """Pixels masked in every exposure, and their highest exposure."""
        table = detection_table(*by_hand(), name="EVERY")
        assert len(table) == 1
        row = table[0]
        assert (row["x"], row["y"], row["pixels"]) == (8, 5, 1)
        assert row["peak_sigma"] == pytest.approx(28 / 4)

    @pytest.mark.parametrize(
        ("flags", "label"),
        [
            ([4, 1], "both detectors"),
            ([2, 3], "both detectors"),
            ([3, 1], "single image only"),
            ([1, 2], "comparison only"),
            ([1, 1], "dilation only"),
            ([5, 1], "your list"),
            ([2, 5], "comparison only"),
        ],
    )
    def test_classes(self, flags, label):
        """The class of a group by those of its pixels."""
        exposures, masks = by_hand()
        plane = masks.diagnostics.flags["MEDIANCR"]
        plane[1, 1], plane[2, 2] = flags
        table = detection_table(exposures, masks)
        group = table[table["pixels"] == 2]
        assert group["class"].tolist() == [label]

    def test_order(self, sim, masks):
        """Sorted by class, then by height."""
        table = detection_table(sim.exposures, masks)
        order = ["both detectors", "single image only", "comparison only"]
        ranks = [[*order, "dilation only"].index(name) for name in table["class"]]
        assert ranks == sorted(ranks)
        for name in order:
            heights = table["peak_sigma"][table["class"] == name]
            assert np.all(np.diff(heights) <= 0)
        assert_array_equal(table["number"], np.arange(len(table)) + 1)
        assert table["pixels"].sum() == np.count_nonzero(masks.mediancr)

    def test_unknown(self):
        """No diagnostics and no noise: the class is not known, sigma is NaN."""
        exposures, known = by_hand()
        masks = CRMaskSet(known.mediancr, known.meancrt, known.crmasks)
        table = detection_table(exposures, masks)
        assert set(table["class"]) == {"detector not known"}
        assert np.isnan(table["peak_sigma"]).all()
        assert_array_equal(table["peak_excess"], [80.0, 20.0])

    def test_empty(self):
        """No detection."""
        nothing = np.zeros((3, 6, 9), dtype=bool)
        masks = CRMaskSet(nothing[0], nothing[0], nothing)
        assert len(detection_table(by_hand()[0], masks)) == 0


class TestFiles:
    """The files of a report."""

    def test_names(self, report):
        """All of them, and nothing else."""
        assert isinstance(report, Report)
        assert set(report.paths) == FILES
        assert {path.name for path in report.folder.iterdir()} == FILES
        assert report.missing == ()
        assert "13 files" in repr(report)

    def test_images(self, report):
        """The figures are readable and not empty."""
        from matplotlib.image import imread  # noqa: PLC0415

        for name in FILES:
            if name.endswith(".png"):
                image = imread(report.paths[name])
                assert min(image.shape[:2]) > 300
                assert np.ptp(image[..., :3]) > 0.9

    @pytest.mark.parametrize("stem", ["detections", "every_exposure"])
    def test_tables(self, report, stem):
        """Both kinds of file hold the table."""
        expected = {"detections": report.detections, "every_exposure": report.every}
        expected = expected[stem]
        ecsv = Table.read(report.paths[f"{stem}.ecsv"])
        assert ecsv.colnames == expected.colnames
        assert ecsv["peak_excess"].unit == "adu"
        assert ecsv["x"].description == expected["x"].description
        csv = Table.read(report.paths[f"{stem}.csv"], format="ascii.csv")
        for name in ("number", "x", "y", "pixels"):
            assert_array_equal(ecsv[name], expected[name])
            assert_array_equal(csv[name], expected[name])

    def test_gallery(self, report):
        """A page for each class at least."""
        content = report.paths["gallery.pdf"].read_bytes()
        assert content.startswith(b"%PDF")
        pages = len(re.findall(rb"/Type /Page\b", content))
        assert pages >= len(set(report.detections["class"]))

    @pytest.mark.usefixtures("no_figures")
    def test_overwrite(self, sim, masks, report, tmp_path):
        """Existing files are refused before any work, or replaced."""
        there = tmp_path / "report"
        shutil.copytree(report.folder, there)
        before = (there / "index.html").read_text()
        with pytest.raises(FileExistsError, match="use overwrite=True to replace"):
            write_report(sim.exposures, masks, there)
        assert (there / "index.html").read_text() == before
        write_report(sim.exposures, masks, there, maxplots=2, overwrite=True)
        assert (there / "index.html").read_text() != before
        assert {path.name for path in there.iterdir()} == FILES

    @pytest.mark.usefixtures("no_figures")
    def test_failure(self, sim, masks, tmp_path, monkeypatch):
        """Nothing is left when writing fails, not even the folder."""

        def fail(*_, **__):
            msg = "no space left"
            raise OSError(msg)

        monkeypatch.setattr(folder, "write_gallery", fail)
        with pytest.raises(OSError, match="no space left"):
            write_report(sim.exposures, masks, tmp_path / "new")
        assert list(tmp_path.iterdir()) == []

    def test_no_parent(self, sim, masks, tmp_path):
        """The folder of the folder must exist."""
        with pytest.raises(FileNotFoundError):
            write_report(sim.exposures, masks, tmp_path / "a" / "b")

    @pytest.mark.parametrize(
        ("kwargs", "match"),
        [
            ({"mask": "X"}, "name of a mask must be one of MEDIANCR"),
            ({"maxplots": -2}, "maxplots"),
            ({"semiwindow": 0}, "semiwindow"),
            ({"color_scale": "log"}, "color_scale"),
        ],
    )
    def test_refused(self, sim, masks, tmp_path, kwargs, match):
        """Options that do not exist, before anything is written."""
        with pytest.raises(ValueError, match=match):
            write_report(sim.exposures, masks, tmp_path / "new", **kwargs)
        assert list(tmp_path.iterdir()) == []


class TestFromFile:
    """Masks from a file have no diagnostics."""

    def test_missing(self, sim, masks, read, tmp_path):
        """The report says what is missing, and shows the rest."""
        report = write_report(sim.exposures, read, tmp_path / "new")
        assert set(report.paths) == FILES - {
            "diagram_MEDIANCR.png",
            "diagram_MEANCRT.png",
        }
        assert [text.split(" (")[0] for text in report.missing] == [
            "the Median-Minimum diagram and its boundary",
            "the detector that found each pixel",
        ]
        page = report.paths["index.html"].read_text()
        assert "the detector that found each pixel" in page
        known = detection_table(sim.exposures, masks)
        heights = np.sort(known["peak_sigma"])[::-1]
        np.testing.assert_allclose(report.detections["peak_sigma"], heights)

    def test_matched(self, sim, tmp_path, request):
        """Their file says how equivalent the exposures are; no diagram is missed."""
        masks = detect_cosmic_rays(sim.exposures, **KNOWN | {"crmethod": "matched"})
        masks.write(tmp_path / "crmasks.fits")
        read = CRMaskSet.read(tmp_path / "crmasks.fits")
        expected = {name for name in FILES if not name.startswith("diagram")}
        expected.add("equivalence.png")
        report = write_report(
            sim.exposures, read, tmp_path / "again", detect_again=True
        )
        assert set(report.paths) == expected | {"deviations.png"}
        assert report.missing == ()
        assert set(report.detections["class"]) == {"comparison only"}
        request.getfixturevalue("no_figures")
        report = write_report(sim.exposures, read, tmp_path / "old")
        assert set(report.paths) == expected
        assert [text.split(" (")[0] for text in report.missing] == [
            "the deviations of the matched exposures",
            "the detector that found each pixel",
        ]

    @pytest.mark.usefixtures("no_figures")
    def test_detect_again(self, sim, masks, read, tmp_path):
        """With detect_again all is as it was; the masks given stay as they are."""
        report = write_report(sim.exposures, read, tmp_path / "new", detect_again=True)
        assert report.missing == ()
        assert set(report.paths) == FILES
        known = detection_table(sim.exposures, masks)
        for name in known.colnames:
            assert_array_equal(report.detections[name], known[name])
        assert not read.diagnostics

    @pytest.mark.usefixtures("no_figures")
    def test_not_recorded(self, sim, masks, tmp_path):
        """Masks that do not say how they were made."""
        bare = CRMaskSet(masks.mediancr, masks.meancrt, masks.crmasks)
        report = write_report(sim.exposures, bare, tmp_path / "new", detect_again=True)
        assert any("do not record how" in text for text in report.missing)
        assert any("in sigma" in text for text in report.missing)


@pytest.mark.usefixtures("no_figures")
class TestPage:
    """The page in HTML."""

    def test_self_contained(self, report):
        """No scripts, and nothing that is fetched."""
        text = report.paths["index.html"].read_text()
        page = Page(text)
        assert "script" not in page.tags
        assert "iframe" not in page.tags
        assert not re.search(r"https?://", text)
        assert all(image["src"].startswith("data:image/png") for image in page.images)
        assert all(image["alt"] for image in page.images)

    def test_links(self, report):
        """Each link leads somewhere, and each detection has its stamps."""
        page = Page(report.paths["index.html"].read_text())
        targets = [link[1:] for link in page.links if link.startswith("#")]
        assert set(targets) <= page.ids
        numbers = report.detections["number"]
        assert {f"found-{n}" for n in numbers} <= page.ids
        figures = sum(name.endswith(".png") for name in FILES)
        stamps = len(report.detections) + len(report.every)
        assert len(page.images) == figures + stamps

    def test_maxplots(self, sim, masks, tmp_path):
        """The gallery is limited, the table is not."""
        report = write_report(sim.exposures, masks, tmp_path / "new", maxplots=1)
        text = report.paths["index.html"].read_text()
        page = Page(text)
        assert "found-1" in page.ids
        assert "found-2" not in page.ids
        n = len(report.detections)
        assert f"The gallery shows 1 of {n} detections (maxplots)." in text

    def test_edits(self, sim, masks, tmp_path):
        """Edits are listed."""
        table = detection_table(sim.exposures, masks)
        x, y = int(table["x"][0]), int(table["y"][0])
        edited = masks.edit(drop=[(x, y)])
        report = write_report(sim.exposures, edited, tmp_path / "new")
        text = report.paths["index.html"].read_text()
        assert f"drop detections of MEDIANCR at ({x},{y})" in text
        assert len(report.detections) == len(table) - 1


@pytest.mark.usefixtures("no_figures")
def test_progress_bar(sim, masks, tmp_path):
    """It wraps the pages."""
    seen = []

    def bar(items):
        seen.extend(items)
        return items

    write_report(sim.exposures, masks, tmp_path / "new", progress_bar=bar)
    assert sum(len(rows) for _, rows in seen) > 0


def test_caption():
    """One line says all of a detection."""
    row = detection_table(*by_hand())[0]
    assert gallery.write_caption(row) == (
        "1: x = 3, y = 3; 2 pixels, peak 20.0 sigma, exposures 1 2 3"
    )
