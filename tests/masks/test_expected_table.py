# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the table of expected values in a mask set and its file."""

from contextlib import ExitStack

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import (
    CCDData,
    FlagCollection,
    InverseVariance,
    StdDevUncertainty,
    VarianceUncertainty,
)
from astropy.table import Table

from ccdcr import CRMaskSet, CRMasksFileError
from ccdcr.masks.mask_rows import open_masks

PIXELS = [(1, 2, 3), (1, 9, 7), (2, 2, 3), (3, 5, 10)]  # EXPOSURE, X, Y


def make_table(pixels=PIXELS, unit=u.adu):
    """Return a table with values that tell the rows apart."""
    exposure, x, y = np.array(pixels).T
    values = 100 * exposure + 10 * x + y + 0.25
    table = Table([exposure, x, y, values, values / 10])
    for old, new in zip(
        table.colnames, ("EXPOSURE", "X", "Y", "VALUE", "SIGMA"), strict=True
    ):
        table.rename_column(old, new)
    table["VALUE"].unit = table["SIGMA"].unit = unit
    return table


def make_masks(table=None, **more):
    """Return three masks (10, 12) in which the pixels are masked."""
    crmasks = np.zeros((3, 10, 12), dtype=bool)
    for exposure, x, y in PIXELS:
        crmasks[exposure - 1, y - 1, x - 1] = True
    table = make_table() if table is None else table
    return CRMaskSet(
        crmasks.sum(axis=0) > 1, crmasks.any(axis=0), crmasks, expected=table, **more
    )


def rows_of(masks):
    """Return the rows of a table as tuples."""
    return [tuple(row) for row in masks.expected]


class TestTable:
    """Checks and order of the rows."""

    def test_order_and_types(self):
        """Rows are in the order of exposure, Y and X; numbers are small ones."""
        masks = make_masks(make_table(PIXELS[::-1]))
        assert masks == make_masks()
        assert [row[:3] for row in rows_of(masks)] == PIXELS
        kinds = [str(masks.expected[n].dtype) for n in masks.expected.colnames]
        assert kinds == ["int16", "int32", "int32", "float32", "float32"]
        assert masks.expected_unit == u.adu
        assert "EXPECTED: 4 rows" in str(masks)

    def test_without(self):
        """A set without a table has None; an empty table is one."""
        masks = make_masks()
        plain = CRMaskSet(masks.mediancr, masks.meancrt, masks.crmasks)
        assert plain.expected is None
        assert plain.expected_unit is None
        assert plain != masks
        empty = make_masks(make_table()[:0])
        assert empty.expected_unit == u.adu
        assert CRMaskSet.from_hdulist(empty.to_hdulist()) == empty
        assert make_masks() != make_masks(make_table()[:2])

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            (lambda t: t["X"].__setitem__(0, 13), "X of expected must be integers"),
            (lambda t: t["EXPOSURE"].__setitem__(0, 0), "from 1 to 3, got .0."),
            (lambda t: t["X"].__setitem__(0, 4), r"masked pixels, got .* = \[1, 3, 4"),
            (lambda t: t["VALUE"].__setitem__(0, np.nan), "must be finite"),
            (lambda t: t["SIGMA"].__setitem__(0, -1), "SIGMA >= 0"),
            (lambda t: t.__setitem__(1, t[0]), "each pixel of an exposure once"),
            (
                lambda t: setattr(t["VALUE"], "unit", None),
                "in one unit of counts or electrons",
            ),
        ],
    )
    def test_refused(self, change, match):
        """Wrong rows are refused by name."""
        table = make_table()
        change(table)
        with pytest.raises(ValueError, match=match):
            make_masks(table)

    def test_other_columns(self):
        """A table with other columns is refused."""
        with pytest.raises(TypeError, match="expected must be a Table of EXPOSURE"):
            make_masks(make_table()["X", "Y"])


class TestFile:
    """The extension of the file."""

    @pytest.mark.parametrize("unit", [u.adu, u.electron])
    def test_written_and_read(self, tmp_path, unit):
        """The table is in the extension EXPECTED, with its unit."""
        masks = make_masks(make_table(unit=unit))
        masks.write(tmp_path / "m.fits")
        assert CRMaskSet.read(tmp_path / "m.fits") == masks
        with fits.open(tmp_path / "m.fits") as hdulist:
            table = hdulist["EXPECTED"]
            assert table.columns.names == ["EXPOSURE", "X", "Y", "VALUE", "SIGMA"]
            assert table.columns["VALUE"].unit == unit.to_string()
            assert table.data["VALUE"][1] == 197.25

    def test_wrong_columns(self):
        """A damaged table is an error that names the extension."""
        hdulist = make_masks().to_hdulist()
        hdulist["EXPECTED"].columns["VALUE"].name = "V"
        with pytest.raises(CRMasksFileError, match=r"\[EXPECTED\]: other columns"):
            CRMaskSet.from_hdulist(hdulist, name="m.fits")
        hdulist = make_masks().to_hdulist()
        hdulist["EXPECTED"].columns["VALUE"].unit = "m"
        with pytest.raises(
            CRMasksFileError, match="in one unit of counts or electrons"
        ):
            CRMaskSet.from_hdulist(hdulist, name="m.fits")

    def test_rows_of_a_file(self, tmp_path):
        """Masks that are read by rows give the same as slices of the whole."""
        masks = make_masks()
        masks.write(tmp_path / "m.fits")
        with ExitStack() as stack:
            part = open_masks(stack, tmp_path / "m.fits", 1)
            assert part.expected_unit == u.adu
            for start, stop in ((0, 3), (3, 6), (6, 10)):
                assert part[start:stop] == masks[start:stop]


class TestChanges:
    """Slices and edits."""

    def test_slices(self):
        """A slice has the rows inside of it, counted from its corner."""
        part = make_masks()[2:8, 1:9]
        assert rows_of(part) == [
            (1, 1, 1, 123.25, np.float32(12.325)),
            (1, 8, 5, 197.25, np.float32(19.725)),
            (2, 1, 1, 223.25, np.float32(22.325)),
        ]

    def test_removed_pixels(self):
        """What is not masked any more has no value."""
        edited = make_masks().edit(remove=[[2, 3]])
        assert [row[:3] for row in rows_of(edited)] == [(1, 9, 7), (3, 5, 10)]

    def test_added_pixels(self):
        """Where another exposure is masked later, the mean had a hit in it."""
        edited = make_masks().edit(add=[[9, 7]], planes=["CRMASK2"])
        assert [row[:3] for row in rows_of(edited)] == [
            (1, 2, 3),
            (2, 2, 3),
            (3, 5, 10),
        ]


class TestClean:
    """Copies of the exposures without hits."""

    def exposures(self, **more):
        """Return three exposures of 500 with a hit where pixels are masked."""
        data = np.full((3, 10, 12), 500.0)
        data[make_masks().crmasks] = 9000
        return [CCDData(plane, **({"unit": "adu"} | more)) for plane in data]

    def test_values(self):
        """Masked pixels have their values, others do not change."""
        ccds = self.exposures()
        cleaned = make_masks(gain=2.0, readnoise=4.0).clean(ccds)
        assert ccds[0].data[2, 1] == 9000
        assert cleaned[0].data[2, 1] == 123.25
        assert cleaned[2].data[9, 4] == 360.25
        assert (cleaned[1].data != 500).sum() == 1
        assert [int(ccd.flags.sum()) for ccd in cleaned] == [2, 1, 1]
        assert not cleaned[0].mask.any()
        sigma = cleaned[0].uncertainty.array
        assert sigma[2, 1] == np.float32(12.325)
        assert np.isclose(sigma[0, 0], np.sqrt(500 / 2 + 4))

    @pytest.mark.parametrize(
        ("kind", "power"),
        [(StdDevUncertainty, 1), (VarianceUncertainty, 2), (InverseVariance, -2)],
    )
    def test_uncertainties(self, kind, power):
        """Uncertainties keep their class."""
        ccds = self.exposures()
        for ccd in ccds:
            ccd.uncertainty = kind(np.full(ccd.shape, 7.0))
        cleaned = make_masks().clean(ccds)[0].uncertainty
        assert type(cleaned) is kind
        assert cleaned.array[0, 0] == 7
        assert np.isclose(cleaned.array[2, 1], 12.325**power)

    def test_masks_and_flags(self):
        """Pixels without a value are masked; what is masked and flagged stays so."""
        masks = make_masks(make_table()[1:])
        ccds = self.exposures(mask=np.zeros((10, 12), bool))
        for ccd in ccds:
            ccd.mask[6, 8] = True
            ccd.flags = np.full(ccd.shape, 4, np.uint16)
        cleaned = masks.clean(ccds)[0]
        assert cleaned.mask[2, 1]
        assert cleaned.mask[6, 8]
        assert cleaned.mask.sum() == 2
        assert cleaned.data[6, 8] == 9000
        assert (cleaned.flags == 4).all()
        assert masks.clean(ccds)[1].flags[2, 1] == 5
        assert cleaned.uncertainty is None

    def test_kinds_of_flags(self):
        """Named flags have a plane of replaced pixels; no numbers are an error."""
        ccds = self.exposures()
        ccds[0].flags = FlagCollection(shape=ccds[0].shape)
        ccds[0].flags["hot"] = np.full(ccds[0].shape, 2)
        cleaned = make_masks().clean(ccds)
        assert list(ccds[0].flags) == ["hot"]
        assert (cleaned[0].flags["hot"] == 2).all()
        assert cleaned[0].flags["replaced"].sum() == 2
        assert make_masks().clean(cleaned)[0].flags["replaced"].sum() == 2
        ccds[0].flags = np.zeros(ccds[0].shape)
        with pytest.raises(ValueError, match="flags must be integers, got float64"):
            make_masks().clean(ccds)

    def test_units(self):
        """Integers become floats; values in adu are converted to electron."""
        ccds = [
            CCDData(ccd.data.astype(np.uint16), unit="adu") for ccd in self.exposures()
        ]
        assert make_masks().clean(ccds)[0].data[2, 1] == 123.25
        ccds = self.exposures(unit="electron")
        assert make_masks(gain=2.0).clean(ccds)[0].data[2, 1] == 246.5
        with pytest.raises(ValueError, match="the mask set records no gain"):
            make_masks().clean(ccds)
        ccds = self.exposures(unit="adu/s")
        with pytest.raises(ValueError, match="cannot be converted, use exposures in a"):
            make_masks(gain=2.0).clean(ccds)

    def test_refused(self):
        """A set without values, and other exposures, are refused."""
        masks = make_masks()
        with pytest.raises(ValueError, match="ccds must be 3 exposures of shape"):
            masks.clean(self.exposures()[:2])
        plain = CRMaskSet(masks.mediancr, masks.meancrt, masks.crmasks)
        with pytest.raises(ValueError, match="clean needs expected values"):
            plain.clean(self.exposures())
        nothing = masks.edit(remove=[[x, y] for _, x, y in PIXELS])
        assert (
            nothing.clean(self.exposures())[0].data == self.exposures()[0].data
        ).all()
