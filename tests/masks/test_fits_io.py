# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of mask sets as FITS files, also those of the original software."""

import gc
import gzip
import re
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from astropy import log
from astropy import units as u
from astropy.io import fits
from numpy.testing import assert_array_equal

from ccdcr import (
    CRMaskSet,
    CRMasksFileError,
    MissingUUIDWarning,
    Requirements,
    detect_cosmic_rays,
)
from ccdcr.masks import fits_reader as format_table
from ccdcr.simulation import simulate_exposures
from ccdcr.utils import files

PEER = Path(__file__).resolve().parents[3] / "shared" / "peer"
PEER_FILES = sorted(PEER.glob("*/*_crmasks.fits.gz"))
SHAPE = (5, 7)
UUID = "9f1c54a2-0000-4000-8000-000000000000"
BLOCK = 2880
REQUIREMENTS = Requirements(
    crmethod="lacosmic",
    flux_factor=(0.9, 1.0, 1.1),
    flux_factor_regions=((1, 7, 1, 5), (2, 3, 2, 3)),
    dilation=2,
    # longer than one card
    pixels_to_be_flagged_as_cr=tuple((x, y) for x in range(1, 8) for y in range(1, 6)),
    pixels_to_be_replaced_by_local_median=((2, 3, 3, 5),),
    la_sigclip=(6.0, 3.0),
    la_sepmed=False,
    la_satlevel=60000,
    mm_crosscorr_region=(1, 100, 1, 100),
    mm_fixed_points_in_boundary=((1.5, 2), (3, 4, 1000.0)),
    mm_seed=None,
)


def make_planes():
    """Return random masks of three exposures."""
    crmasks = np.random.default_rng(8).random((3, *SHAPE)) < 0.3
    return crmasks.sum(axis=0) > 1, crmasks.any(axis=0), crmasks


def make_set(**kwargs):
    """Return a mask set of three exposures."""
    return CRMaskSet(*make_planes(), **kwargs)


def full_arguments():
    """Return everything that may be given."""
    rng = np.random.default_rng(9)
    return {
        "meancr": rng.random(SHAPE) < 0.2,
        "lamedian": rng.normal(size=SHAPE).astype(np.float32) * u.electron,
        "flux_factor": [0.9, 1 / 3, 1.1],
        "local_median_pixels": [[2, 3, 3, 5], [7, 5, 1, 3]],
        "requirements": REQUIREMENTS,
        "gain": 1.7,
        "readnoise": 3.4,
        "bias": 100.5,
        "uuid": UUID,
        "meta": {"OBJECT": "M 31", "NFRAMES": 3, "FILE1": "a.fits", "ISGOOD": True},
    }


@pytest.fixture
def masks():
    """Return a mask set with everything in it."""
    return make_set(**full_arguments())


@pytest.fixture
def path(tmp_path):
    """Return where a file is to be written."""
    return tmp_path / "crmasks.fits"


def listing(folder):
    """Return names and contents of all files of a folder."""
    return {item.name: item.read_bytes() for item in folder.iterdir()}


def fails(hdulist, path, message):
    """Assert that a list of extensions is refused, as a file and in memory."""
    hdulist.writeto(path)
    with pytest.raises(CRMasksFileError, match=message) as error:
        CRMaskSet.read(path)
    assert str(path) in str(error.value)
    with pytest.raises(CRMasksFileError, match=message):
        CRMaskSet.from_hdulist(hdulist)


class TestRoundTrip:
    """What is written is read."""

    @pytest.mark.parametrize("suffix", [".fits", ".fits.gz", ".fit"])
    @pytest.mark.parametrize("auxclean", [False, True])
    @pytest.mark.parametrize("kind", [str, Path])
    def test_everything(self, masks, tmp_path, suffix, auxclean, kind):
        """Nothing is lost."""
        path = kind(tmp_path / f"crmasks{suffix}")
        masks.write(path, auxclean=auxclean)
        read = CRMaskSet.read(path)
        assert read == masks
        assert read.uuid == masks.uuid
        assert read.requirements.to_dict() == REQUIREMENTS.to_dict()
        assert read.lamedian.unit == u.electron
        assert read.lamedian.dtype == np.float32
        assert read.meta.items() >= masks.meta.items()
        assert "HISTORY" not in read.meta
        compressed = Path(path).read_bytes()[:2] == b"\x1f\x8b"
        assert compressed == suffix.endswith("gz")

    def test_minimal(self, path):
        """Masks alone."""
        masks = make_set()
        masks.write(path)
        read = CRMaskSet.read(path)
        assert read == masks
        assert read.uuid == masks.uuid
        for name in ("meancr", "lamedian", "local_median_pixels", "requirements"):
            assert getattr(read, name) is None
        assert read.gain is read.readnoise is read.bias is None

    @pytest.mark.parametrize(
        "name",
        ["meancr", "lamedian", "local_median_pixels", "requirements", "gain", "bias"],
    )
    def test_one_missing(self, path, name):
        """Each optional part may be left out."""
        masks = make_set(**(full_arguments() | {name: None}))
        masks.write(path)
        read = CRMaskSet.read(path)
        assert read == masks
        assert getattr(read, name) is None

    def test_readnoise_without_gain(self, path):
        """A read noise alone stays what it is."""
        masks = make_set(readnoise=3.5)
        masks.write(path)
        read = CRMaskSet.read(path)
        assert (read.gain, read.readnoise, read.bias) == (None, 3.5, None)

    @pytest.mark.parametrize("unit", [None, u.adu, u.electron, u.Unit("adu / s")])
    def test_unit(self, path, unit):
        """LAMEDIAN with and without a unit, NaN included."""
        image = np.arange(35, dtype=np.float32).reshape(SHAPE)
        image[2, 2] = np.nan
        masks = make_set(lamedian=image if unit is None else image * unit)
        masks.write(path)
        read = CRMaskSet.read(path)
        assert read == masks
        assert getattr(read.lamedian, "unit", None) == unit

    @pytest.mark.parametrize(
        "requirements",
        [
            {"flux_factor": "auto"},
            {"flux_factor": 2.5},
            {"mm_seed": 0, "la_sigclip": 4},
            {"mm_seed": 2**63},
            {"interactive": True, "verify_cr": True},
            {
                "mm_boundary_fit": "spline",
                "mm_xy_offsets": [(0, 0), (-1.5, 2), (1e-7, 1e20)],
            },
            {"mm_false_positives": 1e-3},
            {},
        ],
    )
    def test_requirements(self, path, requirements):
        """Values and their types."""
        masks = make_set(requirements=requirements)
        masks.write(path)
        before, after = (
            m.requirements.to_dict() for m in (masks, CRMaskSet.read(path))
        )
        assert after == before
        for name, value in before.items():
            assert type(after[name]) is type(value)

    @pytest.mark.parametrize(
        "kwargs",
        [
            {"gain": 1.2345678901234567e-5},
            {"bias": -1.2345678901234567e-105},
            {"requirements": {"la_sigclip": 1.2345678901234567e-5}},
            {"requirements": {"la_sigclip": (1 / 3e7, 1.2345678901234567e-105)}},
            {"flux_factor": [1 / 3e7, 1.2345678901234567e-105, 1 / 3]},
            {"readnoise": 1.2345678901234567e-105},
        ],
    )
    def test_all_digits(self, path, kwargs):
        """A number with more digits than a card holds is the same set."""
        masks = make_set(**kwargs)
        masks.write(path)
        read = CRMaskSet.read(path)
        assert read == masks
        assert_array_equal(read.flux_factor, masks.flux_factor)
        read.write(path, overwrite=True)
        assert CRMaskSet.read(path) == masks

    def test_all_digits_meta(self, path):
        """The same of other keywords."""
        make_set(meta={"exptime": 1.2345678901234567e-5}).write(path)
        assert CRMaskSet.read(path).meta["EXPTIME"] == 1.2345678901234567e-5

    def test_twice(self, masks, path):
        """A second round changes nothing, masks or meta."""
        masks.write(path)
        first = CRMaskSet.read(path)
        first.write(path, overwrite=True)
        second = CRMaskSet.read(path)
        assert second == masks
        assert second.meta == first.meta

    def test_in_memory(self, masks):
        """Through a list of extensions."""
        read = CRMaskSet.from_hdulist(masks.to_hdulist())
        assert read == masks
        assert read.uuid == masks.uuid

    def test_format(self, masks, path):
        """The format may be named."""
        masks.write(path, format="fits")
        assert CRMaskSet.read(path, format="fits") == masks

    def test_extras(self, path):
        """Other extensions are kept, with a message, and written again."""
        hdulist = make_set().to_hdulist()
        rng = np.random.default_rng(1)
        image = fits.ImageHDU(rng.normal(size=(3, 2)), name="EXTRA")
        image.header["KEY"] = 5
        table = fits.BinTableHDU.from_columns(
            [fits.Column("A", "J", array=[1, 2])], name="LIST"
        )
        hdulist.insert(2, image)
        hdulist.append(table)
        hdulist.writeto(path)
        with log.log_to_list() as messages, _debug():
            read = CRMaskSet.read(path)
        assert any(
            m.message.endswith("extensions kept but not used: EXTRA, LIST")
            and str(path) in m.message
            for m in messages
        )
        assert [hdu.name for hdu in read.extra_hdus] == ["EXTRA", "LIST"]
        assert read == make_set()
        read.write(path, overwrite=True)
        with fits.open(path) as hdus:
            assert_array_equal(hdus["EXTRA"].data, image.data)
            assert hdus["EXTRA"].header["KEY"] == 5
            assert_array_equal(hdus["LIST"].data["A"], [1, 2])
        assert len(CRMaskSet.read(path).extra_hdus) == 2

    def test_unnamed_extras(self):
        """Extensions without a name are other extensions, however many."""
        hdulist = make_set().to_hdulist()
        hdulist.append(fits.ImageHDU(np.ones((2, 2))))
        hdulist.append(fits.ImageHDU(np.zeros((2, 2))))
        assert len(CRMaskSet.from_hdulist(hdulist).extra_hdus) == 2

    def test_versions_of_extras(self, path):
        """Other extensions may have one name and several versions."""
        hdulist = make_set().to_hdulist()
        for version_ in (1, 2):
            hdulist.append(fits.ImageHDU(np.ones((2, 2)), name="SCI", ver=version_))
        hdulist.writeto(path)
        extras = CRMaskSet.read(path).extra_hdus
        assert [(hdu.name, hdu.ver) for hdu in extras] == [("SCI", 1), ("SCI", 2)]

    def test_file_stays(self, masks, path):
        """Reading does not change the file, nor does it keep it open."""
        masks.write(path)
        before = path.read_bytes()
        read = CRMaskSet.read(path)
        assert path.read_bytes() == before
        path.unlink()
        assert read == masks


class _debug:  # noqa: N801
    """Let messages of the level debug through."""

    def __enter__(self):
        self.level = log.level
        log.setLevel("DEBUG")

    def __exit__(self, *_):
        log.setLevel(self.level)


class TestContents:
    """What the file holds, read with astropy alone."""

    def test_extensions(self, masks, path):
        """Names, order, types and values."""
        masks.write(path)
        mediancr, meancrt, crmasks = make_planes()
        meancr = full_arguments()["meancr"]
        expected = {
            "MEDIANCR": mediancr,
            "MEANCRT": meancrt,
            "CRMASK1": crmasks[0],
            "CRMASK2": crmasks[1],
            "CRMASK3": crmasks[2],
            "MEANCR": meancr,
        }
        with fits.open(path) as hdus:
            names = [hdu.name for hdu in hdus]
            assert names == ["PRIMARY", *expected, "LAMEDIAN", "RPMEDIAN"]
            assert hdus[0].data is None
            for name, mask in expected.items():
                assert hdus[name].header["BITPIX"] == 8
                assert hdus[name].data.dtype == np.uint8
                assert_array_equal(hdus[name].data, mask)
                assert hdus[name].header["NPMASKED"] == mask.sum()
            assert hdus["LAMEDIAN"].header["BITPIX"] == -32
            assert hdus["LAMEDIAN"].header["BUNIT"] == "electron"
            table = hdus["RPMEDIAN"].data
            assert table.names == ["X_pixel", "Y_pixel", "X_width", "Y_width"]
            assert [hdus["RPMEDIAN"].columns[n].format for n in table.names] == [
                "K"
            ] * 4
            assert [tuple(row) for row in table] == [(2, 3, 3, 5), (7, 5, 1, 3)]

    def test_auxclean(self, masks, path):
        """The newer name of LAMEDIAN on request."""
        masks.write(path, auxclean=True)
        with fits.open(path) as hdus:
            assert "LAMEDIAN" not in hdus
            assert_array_equal(hdus["AUXCLEAN"].data, masks.lamedian.value)

    @pytest.mark.parametrize(
        ("text", "unit"), [("ADU", u.adu), ("Adu", u.adu), ("", None), (None, None)]
    )
    def test_unit_text(self, text, unit):
        """Ways to write the unit, as CCDData.read takes them."""
        hdulist = make_set(lamedian=np.zeros(SHAPE)).to_hdulist()
        hdulist["LAMEDIAN"].header["BUNIT"] = text
        read = CRMaskSet.from_hdulist(hdulist)
        assert getattr(read.lamedian, "unit", None) == unit

    def test_no_unit(self, path):
        """An image without a unit has no BUNIT."""
        make_set(lamedian=np.zeros(SHAPE)).write(path)
        assert "BUNIT" not in fits.getheader(path, "LAMEDIAN")

    def test_checksums(self, masks, path):
        """Every extension has checksums, and they are right."""
        masks.write(path)
        with fits.open(path, checksum=True) as hdus:
            assert len(hdus) == 9
            for hdu in hdus:
                assert hdu.verify_checksum() == 1
                assert hdu.verify_datasum() == 1

    def test_primary_header(self, masks, path):
        """Identity, factors, requirements, detector, versions and meta."""
        masks.write(path)
        header = fits.getheader(path)
        assert header["UUID"] == UUID
        assert [header[f"FLUXF{i}"] for i in (1, 2, 3)] == [0.9, 1 / 3, 1.1]
        assert "FLUXF4" not in header
        assert header["CRMETHOD"] == "lacosmic"
        assert header["CRDILAT"] == 2
        assert header["LASEPMED"] is False
        assert header["LASIGCLP"] == "[6.0, 3.0]"
        assert header["MMSEED"] == "none"
        assert (header["CRGAIN"], header["CRRDNOIS"]) == (1.7, 3.4)
        assert header["CRBIAS"] == 100.5
        for keyword, package in (
            ("VCCDCR", "ccdcr"),
            ("VCCDPROC", "ccdproc"),
            ("VASCRAPP", "astroscrappy"),
            ("VNUMPY", "numpy"),
        ):
            assert header[keyword] == version(package)
        assert header["NEXTEND"] == 8
        assert header["OBJECT"] == "M 31"
        assert header["ISGOOD"] is True
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", header["DATE"])

    def test_history(self, masks, path):
        """The lines that people know from the original software."""
        masks.write(path)
        lines = list(fits.getheader(path)["HISTORY"])
        assert lines[0] == f"CRMasks generated by ccdcr {version('ccdcr')}"
        assert re.fullmatch(r"at \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", lines[1])
        for line in (
            "- gain = 1.7",
            # in adu: 3.4 / 1.7
            "- rnoise = 2.0",
            "- bias = 100.5",
            "- crmethod = lacosmic",
            "- flux_factor = [0.9, 1.0, 1.1]",
            "- flux_factor_regions = [[1, 7, 1, 5], [2, 3, 2, 3]]",
            "- la_sepmed = False",
            "- mm_seed = None",
            "- dilation = 2",
        ):
            assert line in lines
        names = re.findall(r"^- (\w+) = ", "\n".join(lines), re.MULTILINE)
        assert names[:3] == ["gain", "bias", "rnoise"] or set(names[:3]) == {
            "gain",
            "rnoise",
            "bias",
        }
        assert names[3:] == list(REQUIREMENTS.to_dict())

    def test_extension_headers(self, masks):
        """to_hdulist gives the same extensions as the file."""
        names = [hdu.name for hdu in masks.to_hdulist(auxclean=True)]
        assert names[-2:] == ["AUXCLEAN", "RPMEDIAN"]

    @pytest.mark.parametrize(
        "keyword",
        [
            "UUID",
            "FLUXF1",
            "flUXf1",
            "CRMETHOD",
            "CRGAIN",
            "SIMPLE",
            "NEXTEND",
            "NAXIS2",
        ],
    )
    def test_meta_ours(self, keyword):
        """Keywords of the format cannot be used for something else."""
        masks = make_set(**(full_arguments() | {"meta": {keyword: 1}}))
        message = f"meta must not hold '{keyword}': the mask set itself writes it"
        with pytest.raises(ValueError, match=message):
            masks.to_hdulist()

    @pytest.mark.parametrize(
        ("keyword", "value"),
        [
            ("OBJECT", [1, 2]),
            ("OBJECT", "a\nb"),
            ("OBJECT", np.nan),
            ("TOO_LONG_A_KEYWORD", 1),
            ("OBJECT", {}),
            ("TOO_LONG_A_KEYWORD", 1.2345678901234567e-5),
            ("HISTORY", 5),
            ("COMMENT", ["good", "a\nb"]),
        ],
    )
    def test_meta_no_card(self, path, keyword, value):
        """What fits no card is refused by name, and no file is begun."""
        masks = make_set(meta={keyword: value})
        message = re.escape(f"meta[{keyword!r}] must fit a FITS card, got {value!r}: ")
        with pytest.raises(ValueError, match=message):
            masks.write(path)
        assert listing(path.parent) == {}

    def test_meta_history(self, path):
        """A history that is given replaces ours and is kept."""
        masks = make_set(meta={"HISTORY": ["first line", "- gain = 5.0"]})
        masks.write(path)
        read = CRMaskSet.read(path)
        assert read.meta["HISTORY"] == ["first line", "- gain = 5.0"]

    def test_meta_history_text(self):
        """One line of history may be given as text."""
        header = make_set(meta={"HISTORY": "one line"}).to_hdulist()[0].header
        assert list(header["HISTORY"]) == ["one line"]

    def test_meta_comment(self, path):
        """Comments are kept like every other keyword."""
        make_set(meta={"COMMENT": "seen through clouds"}).write(path)
        assert "seen through clouds" in str(CRMaskSet.read(path).meta.get("COMMENT"))

    def test_meta_comments(self, path):
        """Several of them, in their order."""
        meta = {"COMMENT": ["one", "two"], "HISTORY": ["three", "four"]}
        make_set(meta=meta).write(path)
        assert CRMaskSet.read(path).meta.items() >= meta.items()


class TestWriting:
    """Files are whole or not there."""

    def test_overwrite(self, masks, path):
        """An existing file is replaced only on request."""
        path.write_text("old")
        with pytest.raises(FileExistsError, match="exists; use overwrite=True to repl"):
            masks.write(path)
        assert path.read_text() == "old"
        masks.write(path, overwrite=True)
        assert CRMaskSet.read(path) == masks
        assert list(listing(path.parent)) == [path.name]

    @pytest.mark.parametrize("old", [False, True])
    def test_writeto_fails(self, masks, path, monkeypatch, old):
        """A failure after half of the file."""
        if old:
            make_set().write(path)
        before = listing(path.parent)

        def fail(_, name, **__):
            Path(name).write_bytes(b"SIMPLE")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(fits.HDUList, "writeto", fail)
        with pytest.raises(OSError, match="No space left"):
            masks.write(path, overwrite=old)
        monkeypatch.undo()
        assert listing(path.parent) == before

    def test_fsync_fails(self, masks, path, monkeypatch):
        """A failure at the very end."""
        make_set().write(path)
        before = listing(path.parent)

        def fail(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(files.os, "fsync", fail)
        with pytest.raises(OSError, match="No space left"):
            masks.write(path, overwrite=True)
        monkeypatch.undo()
        assert listing(path.parent) == before
        assert CRMaskSet.read(path) == make_set()

    def test_no_folder(self, masks, tmp_path):
        """The folder must exist."""
        with pytest.raises(FileNotFoundError, match="the folder of the output file"):
            masks.write(tmp_path / "absent" / "crmasks.fits")


class TestWrongExtensions:
    """Each error of a file, with the file and the extension."""

    @pytest.mark.parametrize("name", ["MEDIANCR", "MEANCRT"])
    def test_missing(self, masks, path, name):
        """A required extension is missing."""
        hdulist = masks.to_hdulist()
        del hdulist[name]
        fails(hdulist, path, rf"\[{name}\]: missing; found M.*CRMASK1.*, expected it")

    def test_nothing(self, path):
        """A FITS file of another kind."""
        hdulist = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(name="SCI")])
        fails(hdulist, path, "is not a file of masks, .*; it has PRIMARY, SCI$")

    def test_no_extension_at_all(self):
        """A list of nothing."""
        message = r"HDUList\[PRIMARY\]: missing, expected it"
        with pytest.raises(CRMasksFileError, match=message):
            CRMaskSet.from_hdulist(fits.HDUList())

    def test_no_crmask(self, masks, path):
        """No mask of any exposure."""
        hdulist = masks.to_hdulist()
        for i in (1, 2, 3):
            del hdulist[f"CRMASK{i}"]
        fails(hdulist, path, r"\[CRMASK1\]: missing, expected one for each exposure")

    @pytest.mark.parametrize("number", [1, 2])
    def test_gap(self, masks, path, number):
        """A mask is missing in between."""
        hdulist = masks.to_hdulist()
        del hdulist[f"CRMASK{number}"]
        fails(hdulist, path, rf"\[CRMASK{number}\]: missing, expected up to CRMASK3")

    def test_last_missing(self, masks, path):
        """The flux factors tell that the last mask is missing."""
        hdulist = masks.to_hdulist()
        del hdulist["CRMASK3"]
        message = r"\[PRIMARY\]: FLUXF3 found, expected none without CRMASK3"
        fails(hdulist, path, message)

    @pytest.mark.parametrize("name", ["MEANCR", "LAMEDIAN", "RPMEDIAN"])
    def test_optional_missing(self, masks, path, name):
        """The number of extensions tells that an optional one is missing."""
        hdulist = masks.to_hdulist()
        del hdulist[name]
        fails(hdulist, path, r"\[PRIMARY\]: 7 extensions follow, expected 8 \(NEXTEND")
        del hdulist[0].header["NEXTEND"]
        assert CRMaskSet.from_hdulist(hdulist) == make_set(
            **full_arguments()
            | {{"RPMEDIAN": "local_median_pixels"}.get(name, name.lower()): None}
        )

    @pytest.mark.parametrize(
        "name", ["MEDIANCR", "MEANCRT", "CRMASK2", "MEANCR", "LAMEDIAN"]
    )
    def test_shape(self, masks, path, name):
        """Another shape than the others."""
        hdulist = masks.to_hdulist()
        hdulist[name].data = hdulist[name].data[1:]
        # the first mask is what the others are compared with
        wrong = "MEANCRT" if name == "MEDIANCR" else name
        shapes = r"\((4|5), 7\)"
        message = rf"\[{wrong}\]: shape {shapes}, expected {shapes}, as before it"
        fails(hdulist, path, message)

    @pytest.mark.parametrize("name", ["MEDIANCR", "MEANCRT", "CRMASK3", "MEANCR"])
    def test_values(self, masks, path, name):
        """Other values than 0 and 1."""
        hdulist = masks.to_hdulist()
        hdulist[name].data[2, 2] = 7
        message = rf"\[{name}\]: values from 0 to 7, expected only 0 and 1"
        fails(hdulist, path, message)

    @pytest.mark.parametrize("name", ["MEDIANCR", "MEANCRT", "CRMASK1", "MEANCR"])
    def test_float_mask(self, masks, path, name):
        """Masks of floats."""
        hdulist = masks.to_hdulist()
        hdulist[name].data = hdulist[name].data.astype(np.float32)
        message = rf"\[{name}\]: values of type .*f(loat32|4), expected uint8 0 and 1"
        fails(hdulist, path, message)

    @pytest.mark.parametrize("name", ["MEDIANCR", "CRMASK2", "LAMEDIAN"])
    @pytest.mark.parametrize(
        ("data", "found"),
        [
            (None, "no image"),
            (np.zeros(5, np.uint8), r"data of shape \(5,\)"),
            (np.zeros((1, *SHAPE), np.uint8), r"data of shape \(1, 5, 7\)"),
        ],
    )
    def test_no_image(self, masks, path, name, data, found):
        """Something else than an image."""
        hdulist = masks.to_hdulist()
        hdulist[hdulist.index_of(name)] = fits.ImageHDU(data, name=name)
        message = rf"\[{name}\]: {found}, expected an image \(ny, nx\)"
        fails(hdulist, path, message)

    def test_table_in_place_of_mask(self, masks, path):
        """A table under the name of a mask."""
        hdulist = masks.to_hdulist()
        hdulist["RPMEDIAN"].name = "MEDIANCR"
        del hdulist[1]
        fails(hdulist, path, r"\[MEDIANCR\]: data of shape \(2,\), expected an image")

    @pytest.mark.parametrize("name", ["MEDIANCR", "CRMASK2", "LAMEDIAN", "RPMEDIAN"])
    def test_duplicate(self, masks, path, name):
        """The same name twice."""
        hdulist = masks.to_hdulist()
        hdulist.append(hdulist[name].copy())
        fails(hdulist, path, rf"\[{name}\]: found twice, expected one")

    def test_duplicate_version(self, masks, path):
        """Two versions are two of them all the same."""
        hdulist = masks.to_hdulist()
        hdulist.append(hdulist["CRMASK2"].copy())
        hdulist[-1].ver = 2
        fails(hdulist, path, r"\[CRMASK2\]: found twice, expected one")

    def test_both_names(self, masks, path):
        """LAMEDIAN and AUXCLEAN are the same image."""
        hdulist = masks.to_hdulist()
        hdulist.append(fits.ImageHDU(np.zeros(SHAPE, np.float32), name="AUXCLEAN"))
        message = r"\[AUXCLEAN\]: found beside LAMEDIAN, expected one of the two"
        fails(hdulist, path, message)

    @pytest.mark.parametrize("auxclean", [False, True])
    @pytest.mark.parametrize("unit", ["parsnips", "adu//s", "3 (", 5, 2.5])
    def test_unit(self, masks, path, auxclean, unit):
        """A unit that is none."""
        hdulist = masks.to_hdulist(auxclean=auxclean)
        name = "AUXCLEAN" if auxclean else "LAMEDIAN"
        hdulist[name].header["BUNIT"] = unit
        message = rf"\[{name}\]: BUNIT = {re.escape(repr(unit))}, expected a unit"
        fails(hdulist, path, message)

    @pytest.mark.parametrize("column", ["X_pixel", "Y_width"])
    def test_columns(self, masks, path, column):
        """Other columns of the table."""
        hdulist = masks.to_hdulist()
        hdulist["RPMEDIAN"].columns.change_name(column, "other")
        message = (
            r"\[RPMEDIAN\]: other columns, expected X_pixel, Y_pixel, X_width, Y_width"
        )
        fails(hdulist, path, message)

    def test_no_table(self, masks, path):
        """An image in place of the table."""
        hdulist = masks.to_hdulist()
        hdulist[-1] = fits.ImageHDU(np.zeros((2, 4)), name="RPMEDIAN")
        fails(hdulist, path, r"\[RPMEDIAN\]: other columns, expected X_pixel, Y_pix")

    @pytest.mark.parametrize(
        ("column", "value"), [("X_pixel", 8), ("Y_pixel", 0), ("X_width", 2)]
    )
    def test_table_values(self, masks, path, column, value):
        """Impossible boxes; the message names the extension."""
        hdulist = masks.to_hdulist()
        hdulist["RPMEDIAN"].data[column][1] = value
        message = (
            r"\[RPMEDIAN\]: local_median_pixels must [^|]*, expected boxes of the ima"
        )
        fails(hdulist, path, message)

    @pytest.mark.parametrize("text", ["1E999", "-1E999"])
    def test_infinite(self, masks, text):
        """A card that no FITS file may hold could not be written again."""
        hdulist = masks.to_hdulist()
        hdulist[0].header.append(fits.Card.fromstring(f"X       = {text}"))
        message = f"X = {text[:-5]}inf, expected a finite number"
        with pytest.raises(CRMasksFileError, match=message):
            CRMaskSet.from_hdulist(hdulist, name="file")

    @pytest.mark.parametrize("place", [0, -1])
    def test_mended(self, masks, path, place):
        """A header that astropy can mend is read, and can be written."""
        hdulist = masks.to_hdulist()
        hdulist.append(fits.ImageHDU(np.zeros((2, 2)), name="EXTRA"))
        hdulist[place].header["EXTNAME"] = 5
        found = CRMaskSet.from_hdulist(hdulist, name="file")
        found.write(path)
        assert CRMaskSet.read(path) == masks
        assert hdulist[place].header["EXTNAME"] == 5

    def test_extra(self, masks):
        """Nor could an extension that is none."""
        hdulist = masks.to_hdulist()
        extra = fits.ImageHDU(np.zeros((2, 2)), name="EXTRA")
        hdulist.append(extra)
        extra.header.append(fits.Card.fromstring("a?B     = 1"))
        message = r"\[EXTRA\]: .*A\?B.*, expected an extension by the FITS standard"
        with pytest.raises(CRMasksFileError, match=message):
            CRMaskSet.from_hdulist(hdulist, name="file")

    def test_primary_without_image(self, masks, path):
        """Sizes of an image that is not there are no keywords to be kept."""
        hdulist = masks.to_hdulist()
        hdulist[0].header["NAXIS2"] = 5
        hdulist[0].header.append(fits.Card.fromstring("END     = 'no end'"))
        found = CRMaskSet.from_hdulist(hdulist, name="file")
        found.write(path)
        assert CRMaskSet.read(path) == masks

    @pytest.mark.parametrize("number", [1, 3])
    def test_no_flux_factor(self, masks, path, number):
        """A missing flux factor."""
        hdulist = masks.to_hdulist()
        del hdulist[0].header[f"FLUXF{number}"]
        message = rf"\[PRIMARY\]: FLUXF{number} missing, expected a number"
        fails(hdulist, path, message)

    @pytest.mark.parametrize(
        ("value", "found"), [("1.0", "'1.0'"), (True, "True"), ("", "''")]
    )
    def test_flux_factor_no_number(self, masks, path, value, found):
        """A flux factor of another kind."""
        hdulist = masks.to_hdulist()
        hdulist[0].header["FLUXF2"] = value
        fails(hdulist, path, rf"\[PRIMARY\]: FLUXF2 {found}, expected a number")

    def test_flux_factor_impossible(self, masks, path):
        """A flux factor of zero."""
        hdulist = masks.to_hdulist()
        hdulist[0].header["FLUXF2"] = 0.0
        fails(hdulist, path, r"must hold finite numbers > 0, got 0.0 .+\(FLUXF2\)")

    @pytest.mark.parametrize(
        ("keyword", "value", "message"),
        [
            ("CRMETHOD", "magic", r"\[PRIMARY\]: crmethod must be one of"),
            ("CRDILAT", -1, r"\[PRIMARY\]: dilation must be an integer >= 0, got -1"),
            ("CRDILAT", "'2'", r"\[PRIMARY\]: dilation must be an integer"),
            ("LASIGCLP", "[6.0, ", r"\[PRIMARY\]: LASIGCLP = '\[6.0,', expected a lis"),
            ("LASIGCLP", "[NaN, 1]", r"\[PRIMARY\]: la_sigclip must be a number > 0"),
            ("CRVERIFY", True, r"\[PRIMARY\]: verify_cr needs interactive"),
            ("CRGAIN", 0.0, "gain must be a finite number > 0, got 0.0"),
        ],
    )
    def test_parameters(self, masks, path, keyword, value, message):
        """Parameters that are not allowed."""
        hdulist = masks.to_hdulist()
        hdulist[0].header[keyword] = value
        fails(hdulist, path, message)

    @pytest.mark.parametrize("keyword", ["CRGAIN", "CRRDNOIS", "CRBIAS", "NEXTEND"])
    def test_no_number(self, masks, path, keyword):
        """Text in place of a number; the message names it."""
        hdulist = masks.to_hdulist()
        hdulist[0].header[keyword] = "high"
        message = rf"\[PRIMARY\]: {keyword} 'high', expected a number"
        fails(hdulist, path, message)

    def test_deep_list(self, masks):
        """A list of lists of lists ... is an error of the file too."""
        hdulist = masks.to_hdulist()
        hdulist[0].header["LASIGCLP"] = "[" * 100_000
        with pytest.raises(CRMasksFileError, match="LASIGCLP") as error:
            CRMaskSet.from_hdulist(hdulist)
        assert len(str(error.value)) < 200

    def test_name(self, masks):
        """The caller's name of the list of extensions is used."""
        hdulist = masks.to_hdulist()
        del hdulist["MEANCRT"]
        with pytest.raises(CRMasksFileError, match=r"^night 3\[MEANCRT\]: missing"):
            CRMaskSet.from_hdulist(hdulist, name="night 3")

    @pytest.mark.parametrize("base", [OSError, ValueError])
    def test_class(self, base):
        """The error is one of files and one of values."""
        with pytest.raises(base, match="not a file of masks"):
            CRMaskSet.from_hdulist(fits.HDUList([fits.PrimaryHDU()]))


class TestDamagedFiles:
    """Files that are no complete FITS files."""

    damaged = "is not a readable FITS file with correct checksums: "

    def refused(self, path):
        """Assert that a file is refused by name."""
        with pytest.raises(CRMasksFileError, match=self.damaged) as error:
            CRMaskSet.read(path)
        text = str(error.value)
        assert text.startswith(str(path))
        del error
        # a file that is still open gives a ResourceWarning here
        gc.collect()
        return text

    @pytest.mark.parametrize("name", ["MEDIANCR", "CRMASK2", "LAMEDIAN", "RPMEDIAN"])
    def test_flipped_data(self, masks, path, name):
        """One bit of the data of an extension."""
        masks.write(path)
        with fits.open(path) as hdus:
            offset = hdus[name].fileinfo()["datLoc"]
        content = bytearray(path.read_bytes())
        content[offset + 3] ^= 1
        path.write_bytes(content)
        assert name in self.refused(path)

    def test_flipped_header(self, masks, path):
        """One digit of a flux factor."""
        masks.write(path)
        content = path.read_bytes()
        assert content.count(b"                 0.9 ") == 1
        path.write_bytes(content.replace(b"  0.9 ", b"  0.8 ", 1))
        assert "PRIMARY" in self.refused(path)

    @pytest.mark.parametrize("left", [1, 100, BLOCK - 1, BLOCK + 80, -1, -100])
    def test_truncated(self, masks, path, left):
        """The end of the file is missing, inside a block."""
        masks.write(path)
        path.write_bytes(path.read_bytes()[:left])
        self.refused(path)

    def test_truncated_between_extensions(self, masks, path):
        """The end is missing from any extension on."""
        masks.write(path)
        content = path.read_bytes()
        with fits.open(path) as hdus:
            ends = [hdu.fileinfo()["hdrLoc"] for hdu in hdus[1:]]
        accepted = []
        for end in ends:
            path.write_bytes(content[:end])
            try:
                CRMaskSet.read(path)
            except CRMasksFileError as err:
                assert str(path) in str(err)  # noqa: PT017
            else:
                accepted.append(ends.index(end))
        gc.collect()
        assert accepted == []

    def test_truncated_at_each_block(self, masks, path):
        """The end is missing from any block on, inside an extension."""
        masks.write(path)
        content = path.read_bytes()
        with fits.open(path) as hdus:
            ends = {hdu.fileinfo()["hdrLoc"] for hdu in hdus}
        for end in set(range(BLOCK, len(content), BLOCK)) - ends:
            path.write_bytes(content[:end])
            with pytest.raises(CRMasksFileError, match=self.damaged):
                CRMaskSet.read(path)
        gc.collect()

    @pytest.mark.parametrize("fraction", [0.001, 0.3, 0.9, 0.999])
    def test_truncated_gzip(self, masks, tmp_path, fraction):
        """A compressed file is cut."""
        path = tmp_path / "crmasks.fits.gz"
        masks.write(path)
        content = path.read_bytes()
        path.write_bytes(content[: max(3, int(fraction * len(content)))])
        self.refused(path)

    def test_truncated_inside_gzip(self, masks, path, tmp_path):
        """A cut file is compressed."""
        masks.write(path)
        compressed = tmp_path / "cut.fits.gz"
        compressed.write_bytes(gzip.compress(path.read_bytes()[:-1500]))
        self.refused(compressed)

    def test_damaged_gzip(self, masks, tmp_path):
        """One byte of a compressed file."""
        path = tmp_path / "crmasks.fits.gz"
        masks.write(path)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
        self.refused(path)

    @pytest.mark.parametrize(
        "content", [b"", b"This is a text.\n" * 300, bytes(3 * BLOCK), b"\x1f\x8b"]
    )
    def test_no_fits(self, path, content):
        """Empty files and files of another kind."""
        path.write_bytes(content)
        self.refused(path)

    def test_missing(self, tmp_path):
        """A file that does not exist is not called damaged."""
        message = r"the masks: the file .*absent\.fits does not exist; correct its name"
        with pytest.raises(FileNotFoundError, match=message):
            CRMaskSet.read(tmp_path / "absent.fits")

    def test_folder(self, tmp_path):
        """A folder is not called damaged either."""
        with pytest.raises(IsADirectoryError, match=re.escape(str(tmp_path))):
            CRMaskSet.read(tmp_path)


class TestUUID:
    """Files without identity."""

    @pytest.mark.parametrize("value", [None, ""])
    def test_missing(self, masks, path, value):
        """A warning, and a new identity each time."""
        hdulist = masks.to_hdulist()
        del hdulist[0].header["UUID"]
        if value is not None:
            hdulist[0].header["UUID"] = value
        hdulist.writeto(path)
        message = re.escape(f"{path} has no UUID in its primary header; a new one")
        read = []
        for _ in range(2):
            with pytest.warns(MissingUUIDWarning, match=message):
                read.append(CRMaskSet.read(path))
        assert read[0] == read[1] == masks
        assert read[0].uuid != read[1].uuid

    def test_place(self, masks, path):
        """The warning points at the line that reads, however it reads."""
        hdulist = masks.to_hdulist()
        del hdulist[0].header["UUID"]
        hdulist.writeto(path)
        for read, argument in (
            (CRMaskSet.read, path),
            (CRMaskSet.from_hdulist, hdulist),
        ):
            with pytest.warns(MissingUUIDWarning) as record:
                read(argument)
            assert [warning.filename for warning in record] == [__file__]

    def test_no_other_warning(self, masks, path, recwarn):
        """Nothing is said of a complete file."""
        masks.write(path)
        CRMaskSet.read(path)
        assert len(recwarn) == 0


class TestHistory:
    """Parameters of files that hold them as HISTORY only."""

    @staticmethod
    def read(*lines):
        """Return what is read from a file with some lines of HISTORY."""
        hdulist = make_set().to_hdulist()
        del hdulist[0].header["HISTORY"]
        for line in lines:
            hdulist[0].header.add_history(line)
        return CRMaskSet.from_hdulist(hdulist)

    def test_values(self):
        """Names of both generations; the read noise is in adu there."""
        masks = self.read(
            "CRMasks generated by numina.array.crmasks.compute_crmasks",
            "- gain = 2.0",
            "- rnoise = 3.0",
            "- bias = 7.0",
            "- crmethod = lacosmic",
            "- use_auxmedian = True",
            "- dilation = 3",
            "- regions_to_be_skipped = [[1, 2, 3, 4]]",
            "- mm_seed = None",
            "- dtype = <class 'numpy.float32'>",
        )
        assert masks.requirements == Requirements(
            crmethod="lacosmic",
            use_lamedian=True,
            dilation=3,
            regions_to_be_skipped=[[1, 2, 3, 4]],
            mm_seed=None,
        )
        assert (masks.gain, masks.readnoise, masks.bias) == (2, 6, 7)
        assert masks.meta["HISTORY"][0].startswith("CRMasks generated by numina")
        assert len(masks.meta["HISTORY"]) == 10

    def test_none(self):
        """A file without parameters has none."""
        masks = self.read("- something = else")
        assert masks.requirements is None
        assert masks.gain is masks.readnoise is masks.bias is None

    @pytest.mark.parametrize(
        "value",
        [
            "[[1, 2",
            "magic",
            "-5",
            "!!python/name:os.getcwd",
            "2023-99-99",
            "!!timestamp x",
            "!!bool x",
            "!!int x",
            "__import__('os')",
            "[" * 60,
            "",
        ],
    )
    def test_not_understood(self, value):
        """What cannot be understood is left out; nothing is evaluated."""
        masks = self.read("- la_niter = 2", f"- dilation = {value}")
        assert masks.requirements == Requirements(la_niter=2)

    @pytest.mark.parametrize("value", ["high", "0", "[1, 2]", ".nan", "None"])
    def test_detector_not_understood(self, value):
        """The same of the detector; without gain, adu stay adu and are left out."""
        masks = self.read(f"- gain = {value}", "- rnoise = 3.0", "- bias = 7.0")
        assert (masks.gain, masks.readnoise, masks.bias) == (None, None, 7)

    def test_not_together(self):
        """Values that we do not allow together do not make the masks unreadable."""
        masks = self.read("- verify_cr = True", "- gain = 2.0")
        assert masks.requirements is None
        assert masks.gain == 2

    def test_cards_win(self):
        """Cards are used where they are."""
        hdulist = make_set(gain=2, requirements={"dilation": 2}).to_hdulist()
        hdulist[0].header.add_history("- dilation = 5")
        hdulist[0].header.add_history("- gain = 5.0")
        masks = CRMaskSet.from_hdulist(hdulist)
        assert masks.requirements.dilation == 2
        assert masks.gain == 2


class TestConstants:
    """The names of the format."""

    def test_prefix(self):
        """Keywords of the detector and of versions are standard ones."""
        keywords = [key for key, _ in format_table.DETECTOR.values()]
        keywords += list(format_table.VERSIONS.values())
        assert all(re.fullmatch(r"[A-Z0-9]{1,8}", keyword) for keyword in keywords)
        assert len(set(keywords)) == len(keywords)


@pytest.fixture(
    scope="module", params=PEER_FILES, ids=lambda p: f"{p.parent.name}-{p.name[:-16]}"
)
def peer(request):
    """Return the path of a file of the original software, and what is read of it."""
    return request.param, CRMaskSet.read(request.param)


@pytest.mark.skipif(not PEER_FILES, reason="files of the original software are absent")
class TestPeer:
    """Files that the original software wrote."""

    def test_arrays(self, peer):
        """Masks, cleaned image and table are those that astropy reads."""
        path, masks = peer
        with fits.open(path) as hdus:
            n = sum(hdu.name.startswith("CRMASK") for hdu in hdus)
            names = ["MEDIANCR", "MEANCRT", *(f"CRMASK{i}" for i in range(1, n + 1))]
            assert list(masks.planes)[: n + 2] == names
            assert ("MEANCR" in masks.planes) == ("MEANCR" in hdus)
            for name, mask in masks.planes.items():
                assert_array_equal(mask, hdus[name].data)
            cleaned = [h.data for h in hdus if h.name in {"LAMEDIAN", "AUXCLEAN"}]
            assert (masks.lamedian is None) == (cleaned == [])
            if cleaned:
                assert_array_equal(masks.lamedian, cleaned[0])
                assert not hasattr(masks.lamedian, "unit")
            factors = [hdus[0].header[f"FLUXF{i}"] for i in range(1, n + 1)]
            assert_array_equal(masks.flux_factor, factors)
            assert masks.uuid == hdus[0].header["UUID"]
            assert masks.extra_hdus == ()

    def test_parameters(self, peer):
        """Parameters, as the documentation of these files states them."""
        path, masks = peer
        crmethod = re.match(r"numina\d+_(\w+)_crmasks", path.name)[1]
        requirements = masks.requirements
        assert requirements.crmethod == crmethod
        assert requirements.dilation == 1
        assert requirements.mm_nsimulations == 5
        assert requirements.mm_seed == 123456
        readnoise = {"fibres3": 3, "stars5": 4}[path.parent.name]
        assert (masks.gain, masks.readnoise, masks.bias) == (1, readnoise, 0)
        number = {"fibres3": 3, "stars5": 5}[path.parent.name]
        shape = {"fibres3": (200, 256), "stars5": (180, 160)}[path.parent.name]
        assert (len(masks), masks.shape) == (number, shape)
        if crmethod == "mm_lacosmic":
            assert len(masks.local_median_pixels) == 2
            assert_array_equal(
                requirements.pixels_to_be_replaced_by_local_median,
                masks.local_median_pixels,
            )

    def test_round_trip(self, peer, tmp_path):
        """Written by us, nothing is lost, their history included."""
        path, masks = peer
        masks.write(tmp_path / "ours.fits")
        ours = CRMaskSet.read(tmp_path / "ours.fits")
        assert ours == masks
        assert ours.uuid == masks.uuid
        assert ours.meta["HISTORY"] == list(fits.getheader(path)["HISTORY"])


@pytest.fixture(scope="module")
def detected():
    """Return a detection with exact boundaries, in which some exposures are bad."""
    sim = simulate_exposures((96, 100), scene="stars", seed=5)
    sim.exposures[1].mask = np.zeros((96, 100), dtype=bool)
    sim.exposures[1].mask[:10] = True
    return detect_cosmic_rays(
        sim.exposures, gain=1.0, readnoise=3.0, crmethod="mmcosmic"
    )


def halve_surface(hdu):
    """Leave half of the levels of a boundary."""
    columns = [
        fits.Column("SURFACE", "4E", array=hdu.data["SURFACE"][:, :4])
        if column.name == "SURFACE"
        else column
        for column in hdu.columns
    ]
    hdu.data = fits.BinTableHDU.from_columns(columns).data


class TestBoundaries:
    """Exact boundaries are tables of the file."""

    def test_round_trip(self, detected, tmp_path):
        """Values come back to the last bit, for fewer exposures too."""
        detected.write(tmp_path / "masks.fits")
        found = CRMaskSet.read(tmp_path / "masks.fits").boundaries
        x, y = np.linspace(-100, 1e5, 500), np.linspace(0, 300, 500)
        assert found.keys() == detected.boundaries.keys()
        for name, boundary in detected.boundaries.items():
            assert len(boundary.fewer) == 1
            pairs = [(boundary, found[name]), (boundary.fewer[0], found[name].fewer[0])]
            for before, after in pairs:
                assert np.array_equal(before(x), after(x))
                assert np.array_equal(before.survival(x, y), after.survival(x, y))
                assert repr(before) == repr(after)

    def test_shared(self, detected):
        """Masks that share a boundary share its tables."""
        names = [hdu.name for hdu in detected.to_hdulist()]
        assert names.count("MMBOUND") == 3 * 2

    def test_cut(self, detected):
        """A part of a set keeps them."""
        assert detected[10:40, 5:50].boundaries.keys() == detected.boundaries.keys()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda hdu: hdu.header.set("NEXP", 1),
                "and NEXP = 1 found, whole numbers expected",
            ),
            (lambda hdu: hdu.header.set("FIRST", 0.5), "FIRST = 0.5"),
            (lambda hdu: hdu.data["EXCESS"].fill(np.nan), "not finite"),
            (lambda hdu: hdu.data["SCALE"].fill(-1), "numbers above 0"),
            (lambda hdu: hdu.columns.change_name("SURFACE", "Z"), "SURFACE"),
            (halve_surface, r"SURFACE has shape \(\d+, \d+\), \(\d+, \d+\) expected"),
        ],
    )
    def test_damaged(self, detected, change, message):
        """Extension, what was found and what was expected are said."""
        hdulist = detected.to_hdulist()
        change(hdulist["MMBOUND", 1])
        with pytest.raises(CRMasksFileError, match=r"MMBOUND.*" + message):
            CRMaskSet.from_hdulist(hdulist, name="file")

    def test_refused(self, detected):
        """A boundary of another kind."""
        with pytest.raises(TypeError, match="boundaries must hold exact boundaries"):
            CRMaskSet(
                detected.mediancr,
                detected.meancrt,
                detected.crmasks,
                boundaries={"X": abs},
            )
