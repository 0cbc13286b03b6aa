# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of mask sets as flags, DQ extensions and regions."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata.bitmask import bitfield_to_boolean_mask
from astropy.table import Table
from numpy.testing import assert_array_equal

from ccdcr import CRMaskSet

SHAPE = (6, 8)


@pytest.fixture
def masks():
    """Masks of three exposures with one pixel of each kind."""
    crmasks = np.zeros((3, *SHAPE), bool)
    crmasks[0, 1, 1] = True  # with an expected value
    crmasks[:2, 2, 3] = True  # half or more
    crmasks[:, 4, 5:7] = True  # all
    crmasks[2, 5, 0] = True  # low
    crmasks[1, 0, 7] = True  # listed
    return CRMaskSet(
        crmasks.sum(axis=0) > 1,
        crmasks.any(axis=0),
        crmasks,
        low_values=[[3, 1, 6]],
        expected=Table(
            {"EXPOSURE": [1], "X": [2], "Y": [2], "VALUE": [9.0], "SIGMA": [1.0]},
            units={"VALUE": "adu", "SIGMA": "adu"},
        ),
        requirements={"pixels_to_be_flagged_as_cr": [[8, 1], [99, 99]]},
    )


def test_ours(masks):
    """Names tell what is known of each pixel; clean exposures have 0."""
    flags = masks.to_flags()
    expected = np.zeros((3, *SHAPE), "u1")
    expected[0, 1, 1] = 1 + 4
    expected[:2, 2, 3] = 1 + 2
    expected[:, 4, 5:7] = 1 + 2 + 32
    expected[2, 5, 0] = 8
    expected[1, 0, 7] = 1 + 16
    assert_array_equal(flags, expected)
    names = {"flag_name_map": masks.flag_names}
    low = bitfield_to_boolean_mask(flags, ignore_flags="~LOW", **names)
    assert_array_equal(low, masks.low)
    hit = bitfield_to_boolean_mask(flags, ignore_flags="~COSMIC", **names)
    assert_array_equal(hit, masks.crmasks & ~masks.low)


@pytest.mark.parametrize(
    ("convention", "value"),
    [
        ("hst", 8192),
        ("astrodrizzle", 4096),
        ("jwst", 17),
        ("gemini", 8),
        ("pypeit", 2),
        (1 << 20, 1 << 20),
    ],
)
def test_conventions(masks, convention, value):
    """One value, in a type that FITS has."""
    flags = masks.to_flags(convention)
    assert_array_equal(flags, np.where(masks.crmasks, value, 0))
    assert flags.dtype.name in {"uint8", "int16", "int32"}


@pytest.mark.parametrize("convention", ["esa", 0, -1, True, 2.0, 1 << 40])
def test_unknown(masks, convention):
    """Other conventions are refused."""
    message = "convention must be one of ccdcr, hst, .* or a number > 0"
    with pytest.raises(ValueError, match=message):
        masks.to_flags(convention)


class TestDQ:
    """Copies of files with flags."""

    @pytest.fixture
    def files(self, tmp_path):
        """Two files with a DQ of other flags, and one without."""
        paths = []
        for i in range(3):
            hdus = fits.HDUList([fits.PrimaryHDU()])
            hdus.append(fits.ImageHDU(np.full(SHAPE, 1.0), name="SCI"))
            if i < 2:
                known = np.full(SHAPE, 3, "u1")
                hdus.append(fits.ImageHDU(known, name="DQ"))
            paths.append(tmp_path / f"e{i}.fits")
            hdus.writeto(paths[-1])
        return paths

    def test_added(self, masks, files, tmp_path):
        """Flags are added to those that there are; the files do not change."""
        before = [path.read_bytes() for path in files]
        paths = masks.write_dq(files, tmp_path / "out")
        for i, path in enumerate(paths):
            known = 3 if i < 2 else 0
            with fits.open(path) as hdus:
                expected = known + np.where(masks.crmasks[i], 8192, 0)
                assert_array_equal(hdus["DQ"].data, expected)
                assert_array_equal(hdus["SCI"].data, 1.0)
        assert [path.read_bytes() for path in files] == before

    def test_refused(self, masks, files, tmp_path):
        """What exists, and what does not fit."""
        with pytest.raises(FileExistsError):
            masks.write_dq(files, tmp_path)
        with pytest.raises(ValueError, match=r"files must be 3 exposures, .* got 2"):
            masks.write_dq(files[:2], tmp_path / "out")
        with pytest.raises(TypeError, match="files must be a list or generator"):
            masks.write_dq(str(files[0]), tmp_path / "out")
        with fits.open(files[0], mode="update") as hdus:
            hdus["DQ"].data = np.ones(SHAPE)
        with pytest.raises(ValueError, match=r"DQ of .*e0\.fits must be integers"):
            masks.write_dq(files, tmp_path / "out")


class TestRegions:
    """Boxes around detections."""

    BOXES = ((4, 3, 1, 1), (6.5, 5, 2, 1))  # FITS pixels: centre, width, height

    def test_file(self, masks, tmp_path):
        """One box a group, in DS9's format."""
        path = tmp_path / "a.reg"
        masks.write_regions(path)
        lines = path.read_text().splitlines()
        assert lines[0] == "# Region file format: DS9"
        assert masks.uuid in lines[1]
        assert lines[2:] == [
            "image",
            "box(4,3,1,1,0) # text={1}",
            "box(6.5,5,2,1,0) # text={2}",
        ]
        with pytest.raises(FileExistsError):
            masks.write_regions(path)
        masks.write_regions(path, "CRMASK3", overwrite=True)
        assert len(path.read_text().splitlines()) == 5

    def test_package(self, masks, tmp_path):
        """The package regions has and reads the same; boxes cover the mask."""
        regions = pytest.importorskip("regions")
        path = tmp_path / "a.reg"
        masks.write_regions(path)
        for found in (masks.to_regions(), regions.Regions.read(path, format="ds9")):
            covered = np.zeros(SHAPE, bool)
            for region, (x, y, width, height) in zip(found, self.BOXES, strict=True):
                assert (region.center.x, region.center.y) == (x - 1, y - 1)
                assert (region.width, region.height) == (width, height)
                covered |= region.to_mask().to_image(SHAPE).astype(bool)
            assert_array_equal(covered, masks.mediancr)

    def test_without_package(self, masks, monkeypatch):
        """The error says what to do."""
        monkeypatch.setitem(__import__("sys").modules, "regions", None)
        with pytest.raises(ImportError, match="write_regions writes a file of DS9"):
            masks.to_regions()

    def test_unknown(self, masks):
        """Masks that there are not."""
        with pytest.raises(ValueError, match="name must be one of MEDIANCR, "):
            masks.write_regions("x.reg", "X")
