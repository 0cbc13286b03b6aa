# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Three real exposures of the Kast spectrograph, from raw files to results."""

import csv
import warnings
from pathlib import Path

import ccdproc
import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData

from ccdcr import CRMaskSet, combine, write_report
from ccdcr.cli import main
from ccdcr.report.report_figures import ReportFigure

KAST = Path(__file__).resolve().parents[2] / "shared" / "data" / "kast-red-2018gdg"
GAIN, READNOISE = 1.9, 3.8

pytestmark = pytest.mark.skipif(
    not KAST.is_dir(), reason="the real exposures are not at hand"
)


def _reduce(path):
    """Subtract the overscan of each of the two amplifiers and trim."""
    raw = CCDData.read(path, unit="adu")
    halves = [
        ccdproc.subtract_overscan(raw[:, data], overscan=raw[:, overscan], median=True)
        for data, overscan in (
            (slice(0, 112), slice(440, 540)),
            (slice(112, 440), slice(540, 640)),
        )
    ]
    trimmed = ccdproc.trim_image(raw[:, :440])
    trimmed.data = np.hstack([half.data for half in halves])
    return trimmed


@pytest.fixture(scope="module")
def exposures(tmp_path_factory):
    """Reduced exposures as files."""
    folder = tmp_path_factory.mktemp("kast")
    paths = []
    with warnings.catch_warnings():
        # Old keywords of the raw headers.
        warnings.simplefilter("ignore")
        for number in (1073, 1074, 1075):
            path = folder / f"r{number}_reduced.fits"
            _reduce(KAST / f"r{number}.fits.gz").write(path)
            paths.append(path)
    return paths


@pytest.fixture(scope="module")
def ccds(exposures):
    """Reduced exposures read back."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [CCDData.read(path) for path in exposures]


@pytest.fixture(scope="module")
def night(exposures, tmp_path_factory):
    """The folder where a template was edited and run, as the README has it."""
    folder = tmp_path_factory.mktemp("night")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.chdir(folder)
        warnings.simplefilter("ignore")  # old keywords of the headers
        names = [str(path) for path in exposures]
        assert main(["template", *names, "-o", "night1.yaml"]) == 0
        template = Path("night1.yaml")
        text = template.read_text()
        for name, value in (("gain", GAIN), ("readnoise", READNOISE)):
            text = text.replace(f"\n{name}: none", f"\n{name}: {value}")
        template.write_text(text)
        assert main(["run", "night1.yaml"]) == 0
    return folder


@pytest.fixture(scope="module")
def masks(night):
    """The masks of this run."""
    return CRMaskSet.read(night / "obsidnight1_crmasks_results" / "crmasks.fits")


@pytest.fixture(scope="module")
def coincident():
    """Pixels hit in two of the three exposures, as (rows, columns)."""
    with (KAST / "coincident_pixels.csv").open() as file:
        rows = [(int(row["row"]), int(row["col"])) for row in csv.DictReader(file)]
    assert len(rows) == 48
    return tuple(np.transpose(rows))


@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
@pytest.mark.parametrize("method", ["mediancr", "meancrt", "meancr"])
def test_combination(ccds, exposures, masks, coincident, method, tmp_path):
    """From files to a file: shape, unit, header, WCS; minimum where flagged."""
    output = tmp_path / f"{method}.fits"
    # Without expected values the minimum is taken.
    known = {"gain": GAIN, "readnoise": READNOISE, "meancr": masks.meancr}
    masks = CRMaskSet(masks.mediancr, masks.meancrt, masks.crmasks, **known)
    combined = combine(exposures, output, method, crmasks=masks)
    assert combined.shape == masks.shape == ccds[0].shape == (2725, 440)
    assert combined.unit == u.adu
    assert not combined.mask.any()
    assert combined.header["OBJECT"] == ccds[0].header["OBJECT"] == "2018gdg"
    assert combined.header["EXPTIME"] == 600
    assert combined.header["NCOMBINE"] == 3
    assert combined.header["CRUUID"] == masks.uuid
    assert (combined.wcs is None) == (ccds[0].wcs is None)
    if combined.wcs is not None:
        np.testing.assert_allclose(
            combined.wcs.wcs_pix2world([[10, 20]], 0),
            ccds[0].wcs.wcs_pix2world([[10, 20]], 0),
        )
    assert np.all(combined.uncertainty.array > 0)

    minimum = np.min([ccd.data for ccd in ccds], axis=0)
    flagged = masks.mediancr[coincident]
    # Chance coincidences are what the masks are for; most must be seen.
    assert np.count_nonzero(flagged) > 24
    if method == "meancr":
        flagged &= masks.crmasks.all(axis=0)[coincident]
    np.testing.assert_array_equal(
        combined.data[coincident][flagged], minimum[coincident][flagged]
    )
    with fits.open(output) as hdulist:
        assert [hdu.name for hdu in hdulist] == ["PRIMARY", "MASK", "UNCERT", "NUSED"]
        np.testing.assert_array_equal(hdulist[0].data, combined.data)
        assert hdulist["NUSED"].data.max() == 3


def test_mask_file(masks, exposures):
    """The file of masks says what was used."""
    assert len(masks) == len(exposures)
    assert masks.gain == GAIN
    assert masks.readnoise == READNOISE
    summary = masks.summary()
    # The listed pixels alone are 48, within a third of the columns.
    assert summary["pixels"][list(summary["mask"]).index("COINCIDENT")] >= 48


def test_command_line(night, masks, ccds, coincident):
    """The masks are right, and the image is that of `combine`."""
    assert np.count_nonzero(masks.mediancr[coincident]) >= 47
    combined = combine(ccds, method="meancr", crmasks=masks, dtype="auto")
    with fits.open(night / "obsidnight1_results" / "meancr.fits") as hdulist:
        assert [hdu.name for hdu in hdulist] == ["PRIMARY", "MASK", "UNCERT", "NUSED"]
        np.testing.assert_array_equal(hdulist[0].data, combined.data)
        assert hdulist[0].header["OBJECT"] == "2018gdg"


def test_gallery(ccds, masks, coincident, tmp_path, monkeypatch):
    """The report shows the ten groups of coincident pixels."""
    monkeypatch.setattr(ReportFigure, "png", lambda _: b"")  # takes long
    with (KAST / "coincident_pixels.csv").open() as file:
        groups = np.array([int(row["group"]) for row in csv.DictReader(file)])
    assert set(groups) == set(range(1, 11))
    y, x = np.add(coincident, 1)
    report = write_report(ccds, masks, tmp_path / "report")
    page = report.paths["index.html"].read_text()
    table, shown = report.detections, {}
    for group in range(1, 11):
        here = groups == group
        inside = np.any(
            (table["xmin"][:, np.newaxis] <= x[here])
            & (x[here] <= table["xmax"][:, np.newaxis])
            & (table["ymin"][:, np.newaxis] <= y[here])
            & (y[here] <= table["ymax"][:, np.newaxis]),
            axis=1,
        )
        shown[group] = table[inside]
        assert all(f'id="found-{number}"' in page for number in shown[group]["number"])
        assert len(shown[group]) > 0
