# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the door: exposures as objects or files become plain arrays."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from numpy.testing import assert_allclose, assert_array_equal

from ccdcr import MissingUnitWarning
from ccdcr.exposures import find_ccd_parameters as find_parameters
from ccdcr.exposures import load_ccds, load_exposures

SHAPE = (3, 4)
KNOWN = {"gain": 2.0, "readnoise": 5.0, "bias": None, "minimum": 1}


def make_ccd(value=0.0, unit="adu", dtype=np.float32, **header):
    """Return an exposure whose pixels are value, value + 1, ..."""
    data = (np.arange(12).reshape(SHAPE) + value).astype(dtype)
    return CCDData(data, unit=unit, meta=header)


@pytest.fixture
def files(tmp_path):
    """Return the names of three files with a unit."""
    paths = [tmp_path / f"exp{i}.fits" for i in range(3)]
    for i, path in enumerate(paths):
        make_ccd(100 * i, GAIN=1.5).write(path)
    return paths


class TestLoadCCDs:
    """Objects and file names."""

    @pytest.mark.parametrize("kind", [str, Path])
    def test_files(self, files, kind):
        """Files are read; their names without folder are returned."""
        ccds, names = load_ccds([kind(path) for path in files])
        assert names == ("exp0.fits", "exp1.fits", "exp2.fits")
        for i, ccd in enumerate(ccds):
            assert isinstance(ccd, CCDData)
            assert_array_equal(ccd.data, make_ccd(100 * i).data)
            assert ccd.unit == u.adu

    def test_objects(self):
        """Objects are passed on as they are, without names."""
        given = [make_ccd(0), make_ccd(1)]
        ccds, names = load_ccds(given)
        assert all(a is b for a, b in zip(ccds, given, strict=True))
        assert names == ("", "")

    def test_mixed_generator(self, files):
        """A generator of both."""
        items = [make_ccd(7), files[1]]
        ccds, names = load_ccds(item for item in items)
        assert names == ("", "exp1.fits")
        assert_array_equal(ccds[1].data, make_ccd(100).data)

    def test_read_kwargs(self, tmp_path):
        """Arguments of the reader."""
        path = tmp_path / "a.fits"
        data = np.ones(SHAPE, np.float32)
        fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(data, name="SCI")]).writeto(path)
        (ccd,), _ = load_ccds([path], unit="electron", extension="SCI")
        assert ccd.unit == u.electron
        assert ccd.shape == SHAPE

    @pytest.mark.parametrize(
        ("value", "kind"),
        [
            ("a.fits", "str"),
            (b"a.fits", "bytes"),
            (Path("a.fits"), type(Path()).__name__),
            (make_ccd(), "CCDData"),
            (5, "int"),
            (None, "NoneType"),
        ],
    )
    def test_no_list(self, value, kind):
        """One exposure is no list of exposures."""
        message = (
            "ccds must be a list or generator of CCDData objects or file names, "
            f"got {kind}"
        )
        with pytest.raises(TypeError, match=message):
            load_ccds(value)

    @pytest.mark.parametrize("n", [0, 2])
    def test_too_few(self, n):
        """A least number of exposures."""
        message = f"ccds must hold at least 3 exposures, got {n}"
        with pytest.raises(ValueError, match=message):
            load_ccds([make_ccd()] * n, minimum=3)

    def test_remedies(self):
        """What to do with patterns, arrays and cubes, and options without effect."""
        with pytest.raises(TypeError, match=r"sorted\(glob.glob\('r\*.fits'\)\)"):
            load_ccds("r*.fits")
        with pytest.raises(TypeError, match="make each array a CCDData"):
            load_ccds(np.ones((3, *SHAPE)))
        with pytest.raises(ValueError, match=r"give one plane .* data\[0\]"):
            load_ccds([CCDData(np.ones((1, *SHAPE)), unit="adu")])
        with pytest.raises(ValueError, match=r"unit is for files, .* or set ccd.unit"):
            load_ccds([make_ccd()], unit="electron")
        assert load_ccds([make_ccd()], unit="adu")[0][0].unit == "adu"
        with pytest.raises(ValueError, match=r"extension is for .* leave it out"):
            load_ccds([make_ccd()], extension="SCI")

    @pytest.mark.parametrize(
        ("text", "unit"),
        [
            ("e-", u.electron),
            ("ELECTRON", u.electron),
            ("Electrons", u.electron),
            ("counts", u.count),
            ("COUNTS", u.count),
            ("e-/s", u.electron / u.s),
            ("electrons/s", u.electron / u.s),
            ("ELECTRONS/S", u.electron / u.s),
            ("Counts / sec", u.count / u.s),
            ("ADU", u.adu),
            ("dn", u.DN),
        ],
    )
    def test_spellings(self, tmp_path, text, unit):
        """Usual spellings of units are understood, in BUNIT and in unit=."""
        header = fits.Header([("BUNIT", text)])
        fits.writeto(tmp_path / "a.fits", np.ones(SHAPE), header)
        for options in ({}, {"unit": text}):
            (ccd,), _ = load_ccds([tmp_path / "a.fits"], **options)
            assert ccd.unit == unit

    def test_minimum(self):
        """The least number itself is enough."""
        assert len(load_ccds([make_ccd()] * 3, minimum=3)[0]) == 3

    @pytest.mark.parametrize(
        ("item", "kind"),
        [(np.ones(SHAPE), "ndarray"), (None, "NoneType"), (b"a.fits", "bytes")],
    )
    def test_wrong_item(self, item, kind):
        """The message says which item is wrong, before any file is read."""
        message = (
            "img_list must hold CCDData objects or file names, "
            f"got {kind} as exposure 2"
        )
        with pytest.raises(TypeError, match=message):
            load_ccds(["absent.fits", item], name="img_list")

    def test_name(self):
        """The caller's name of the parameter is in every message."""
        with pytest.raises(ValueError, match="img_list must hold at least 1 exposures"):
            load_ccds([], name="img_list")
        with pytest.raises(TypeError, match="img_list must be a list or generator"):
            load_ccds(3, name="img_list")

    def test_missing_file(self, files):
        """A file that does not exist."""
        message = r"exposure 2 of ccds: the file .*absent\.fits does not exist"
        with pytest.raises(FileNotFoundError, match=message):
            load_ccds([files[0], files[0].with_name("absent.fits")])
        with pytest.raises(
            IsADirectoryError, match=r"exposure 2 of ccds must be a file, .* a folder"
        ):
            load_ccds([files[0], files[0].parent])

    def test_no_unit(self, tmp_path):
        """Files without a unit are in adu, with one warning that names the remedy."""
        paths = [tmp_path / "a.fits", tmp_path / "b.fits"]
        for path in paths:
            fits.PrimaryHDU(np.ones(SHAPE)).writeto(path)
        message = (
            r"no unit \(keyword BUNIT\) in a.fits, b.fits, adu is assumed; give unit=, "
            r"or CCDData objects"
        )
        with pytest.warns(MissingUnitWarning, match=message) as record:
            ccds, _ = load_ccds(paths)
        assert len(record) == 1
        assert [ccd.unit for ccd in ccds] == [u.adu, u.adu]
        ccds, _ = load_ccds(paths, unit="electron")
        assert [ccd.unit for ccd in ccds] == [u.electron, u.electron]

    def test_unit_of_primary_header(self, tmp_path):
        """An image in an extension has the keywords of the primary header, too."""
        primary = fits.PrimaryHDU()
        primary.header["BUNIT"], primary.header["EXPTIME"] = "electron", 30.0
        image = fits.ImageHDU(np.ones(SHAPE), name="SCI")
        fits.HDUList([primary, image]).writeto(tmp_path / "a.fits")
        (ccd,), _ = load_ccds([tmp_path / "a.fits"])
        assert ccd.unit == u.electron
        assert ccd.header["EXPTIME"] == 30

    def test_no_fits_file(self, tmp_path):
        """A file that is not FITS is named."""
        (tmp_path / "a.fits").write_text("no image")
        with pytest.raises(ValueError, match=r"a\.fits is damaged: it does not begin"):
            load_ccds([tmp_path / "a.fits"])

    @pytest.mark.parametrize(
        ("data", "found"),
        [
            (np.ones(5), r"shape \(5,\) and dtype float64"),
            (np.ones((2, 3, 4)), r"shape \(2, 3, 4\) and dtype float64"),
            (np.ones((0, 4)), r"shape \(0, 4\) and dtype float64"),
            (np.ones(SHAPE, complex), r"shape \(3, 4\) and dtype complex128"),
            (np.ones(SHAPE, bool), r"shape \(3, 4\) and dtype bool"),
        ],
    )
    def test_no_image(self, data, found):
        """Only 2D images of real numbers."""
        message = f"exposures must be 2D images of real numbers, exposure 2 has {found}"
        with pytest.raises(ValueError, match=message):
            load_ccds([make_ccd(), CCDData(data, unit="adu")])

    def test_shapes(self, files):
        """All shapes are named, with the file names."""
        other = CCDData(np.ones((4, 4)), unit="adu")
        message = (
            r"all exposures must have the same shape, got exp0\.fits: \(3, 4\), "
            r"exposure 2: \(4, 4\)"
        )
        with pytest.raises(ValueError, match=message):
            load_ccds([files[0], other])

    def test_units(self, files):
        """All units are named."""
        message = (
            r"all exposures must have the same unit, got exp0\.fits: adu, "
            "exposure 2: electron"
        )
        with pytest.raises(ValueError, match=message):
            load_ccds([files[0], make_ccd(unit="electron")])


def write_extensions(path, *names):
    """Write a file whose extensions hold images filled with 1, 2, ..."""
    images = [
        fits.ImageHDU(np.full(SHAPE, i, np.float32), name=name)
        for i, name in enumerate(names, start=1)
    ]
    primary = fits.PrimaryHDU(header=fits.Header([("BUNIT", "adu")]))
    fits.HDUList([primary, *images]).writeto(path)


class TestExtension:
    """One rule says which image of a file is the exposure."""

    @pytest.mark.parametrize(
        ("names", "value"),
        [
            (("SCI",), 1),
            ((None,), 1),
            (("SCI", "ERR", "DQ"), 1),
            (("MASK", "UNCERT", "IMAGE"), 3),
            (("VAR", "WHT", "BPM", "SCI", "FLAGS"), 4),
        ],
    )
    def test_only_one(self, tmp_path, names, value):
        """Masks and uncertainties are no exposures."""
        write_extensions(tmp_path / "a.fits", *names)
        (ccd,), _ = load_ccds([tmp_path / "a.fits"])
        assert_array_equal(ccd.data, value)

    @pytest.mark.parametrize("extension", [None, 0])
    def test_several(self, tmp_path, extension):
        """Of several images one must be named; all extensions are listed."""
        write_extensions(tmp_path / "a.fits", "CCD1", "CCD2", "MASK")
        message = (
            r"a\.fits must have one image, it has 2 \(0 PRIMARY, 1 CCD1, 2 CCD2, 3 MASK"
            r"\); name one by extension=, or give CCDData objects"
        )
        with pytest.raises(ValueError, match=message):
            load_ccds([tmp_path / "a.fits"], extension=extension)

    @pytest.mark.parametrize(("extension", "value"), [("ccd2", 2), (1, 1)])
    def test_named(self, tmp_path, extension, value):
        """By name or number."""
        write_extensions(tmp_path / "a.fits", "CCD1", "CCD2")
        (ccd,), _ = load_ccds([tmp_path / "a.fits"], extension=extension)
        assert_array_equal(ccd.data, value)

    @pytest.mark.parametrize(
        ("extension", "message"),
        [
            ("SCI", r"a.fits has no extension 'SCI'; it has 0 PRIMARY, 1 CCD1"),
            (7, r"a.fits has no extension 7; it has 0 PRIMARY, 1 CCD1"),
        ],
    )
    def test_absent(self, tmp_path, extension, message):
        """What there is is listed."""
        write_extensions(tmp_path / "a.fits", "CCD1")
        with pytest.raises(ValueError, match=message):
            load_ccds([tmp_path / "a.fits"], extension=extension)

    @pytest.mark.parametrize("extension", [True, 1.5, ("SCI",), b"SCI"])
    def test_no_name(self, tmp_path, extension):
        """Other kinds are refused before anything is read."""
        write_extensions(tmp_path / "a.fits", "CCD1")
        message = "extension must be a number, a name, or a name and a version, got"
        with pytest.raises(ValueError, match=message):
            load_ccds([tmp_path / "a.fits"], extension=extension)

    @pytest.mark.parametrize("extension", [-1, 2, ("sci", 2)])
    def test_version(self, tmp_path, extension):
        """From the end, by number, by name and version; with the primary header."""
        write_extensions(tmp_path / "a.fits", "SCI", "SCI")
        with fits.open(tmp_path / "a.fits", mode="update") as hdus:
            hdus[2].ver = 2
        (ccd,), _ = load_ccds([tmp_path / "a.fits"], extension=extension)
        assert_array_equal(ccd.data, 2)
        assert ccd.unit == u.adu

    @pytest.mark.parametrize("name", ["MASK", "UNCERT"])
    def test_table(self, tmp_path, name):
        """A table, or an extension without data, is no mask."""
        image = fits.PrimaryHDU(np.ones(SHAPE))
        image.header["BUNIT"] = "adu"
        table = fits.BinTableHDU.from_columns([fits.Column("A", "J", array=[1])])
        table.name = name
        for k, other in enumerate([table, fits.ImageHDU(name=name)]):
            fits.HDUList([image, other]).writeto(tmp_path / f"{k}.fits")
            (ccd,), _ = load_ccds([tmp_path / f"{k}.fits"])
            assert ccd.mask is ccd.uncertainty is None

    @pytest.mark.parametrize(
        ("unit", "expected"), [("ADU", u.adu), ("electron", u.electron)]
    )
    def test_unit(self, tmp_path, unit, expected):
        """A unit is spelt as in headers."""
        write_extensions(tmp_path / "a.fits", "SCI")
        (ccd,), _ = load_ccds([tmp_path / "a.fits"], unit=unit)
        assert ccd.unit == expected

    @pytest.mark.parametrize("unit", ["", "furlong", 5, "2"])
    def test_no_unit(self, tmp_path, unit):
        """What is not a unit is refused by the name of the parameter."""
        write_extensions(tmp_path / "a.fits", "SCI")
        with pytest.raises(ValueError, match=r"unit must be a unit such as"):
            load_ccds([tmp_path / "a.fits"], unit=unit)

    def test_primary_first(self, tmp_path):
        """The primary image is the exposure whatever else there is."""
        image = fits.ImageHDU(np.ones(SHAPE), name="X")
        hdus = [fits.PrimaryHDU(np.zeros(SHAPE)), image]
        hdus[0].header["BUNIT"] = "adu"
        fits.HDUList(hdus).writeto(tmp_path / "a.fits")
        (ccd,), _ = load_ccds([tmp_path / "a.fits"])
        assert_array_equal(ccd.data, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="limits descriptors")
def test_few_descriptors(tmp_path):
    """20 files of each kind are read with 20 descriptors."""
    names = []
    for kind in ("float", "uint16", "fz", "gz"):
        for i in range(20):
            data = np.full((4, 5), 7 + i % 2, "u2" if kind == "uint16" else "i2")
            name = tmp_path / f"{kind}{i}.fits{'.gz' if kind == 'gz' else ''}"
            image = fits.PrimaryHDU(data.astype(float) if kind == "float" else data)
            hdus = [image]
            if kind == "fz":
                hdus = [fits.PrimaryHDU(), fits.CompImageHDU(data)]
            hdus[-1].header["BUNIT"] = "adu"
            fits.HDUList(hdus).writeto(name)
            names.append(str(name))
    code = (
        "import resource, sys, numpy as np\n"
        "from ccdcr import CRMaskSet, combine, detect_cosmic_rays\n"
        "names = sys.argv[1:]\n"
        "z = np.zeros((80, 4, 5), bool)\n"
        "masks = CRMaskSet(z[0], z[0], z, gain=1.0, readnoise=2.0)\n"
        "combine(names, crmasks=masks)\n"  # what is imported late needs descriptors
        "resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))\n"
        "print(combine(names, crmasks=masks).data[0, 0])\n"
        "print(combine(names, method='median').data[0, 0])\n"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *names],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.split() == ["7.5", "7.5"], result.stderr


class TestLoadExposures:
    """Plain arrays."""

    def test_arrays(self, files):
        """float32, in order, nothing bad."""
        exposures = load_exposures(files, **KNOWN)
        assert exposures.data.dtype == np.float32
        assert exposures.data.flags.c_contiguous
        assert_array_equal(exposures.data, [make_ccd(100 * i).data for i in range(3)])
        assert exposures.bad is None
        assert exposures.unit == u.adu
        assert exposures.names == ("exp0.fits", "exp1.fits", "exp2.fits")
        assert len(exposures) == 3
        assert exposures.shape == SHAPE

    def test_minimum(self):
        """Too few exposures."""
        with pytest.raises(ValueError, match="at least 3 exposures, got 2"):
            load_exposures([make_ccd()] * 2, **(KNOWN | {"minimum": 3}))

    @pytest.mark.parametrize("bias", [None, 0, 3.5, -2, 3.5 * u.adu])
    @pytest.mark.parametrize("dtype", [">f4", "<f8", ">i2", np.uint16, np.int32])
    def test_bias(self, dtype, bias):
        """The bias is taken off; unsigned integers do not wrap around."""
        ccd = make_ccd(1, dtype=dtype)
        before = ccd.data.copy()
        exposures = load_exposures([ccd], **(KNOWN | {"bias": bias}))
        number = 0 if bias is None else getattr(bias, "value", bias)
        assert_array_equal(exposures.data[0], np.arange(1, 13).reshape(SHAPE) - number)
        assert exposures.data.dtype == np.float32
        assert exposures.detector.bias == number
        # the caller's data are as they were
        assert ccd.data.dtype == dtype
        assert_array_equal(ccd.data, before)

    def test_precision(self):
        """The bias is subtracted before the data are rounded to float32."""
        ccd = CCDData(np.full(SHAPE, 2.0**26 + 1), unit="adu")
        exposures = load_exposures([ccd], **(KNOWN | {"bias": 2.0**26}))
        assert_array_equal(exposures.data, np.ones((1, *SHAPE)))

    def test_masks(self):
        """Masked pixels are bad, each in its own exposure."""
        ccds = [make_ccd(), make_ccd(), make_ccd()]
        ccds[1].mask = np.zeros(SHAPE, bool)
        ccds[1].mask[0, 1] = True
        bad = load_exposures(ccds, **KNOWN).bad
        expected = np.zeros((3, *SHAPE), bool)
        expected[1, 0, 1] = True
        assert bad.dtype == bool
        assert_array_equal(bad, expected)

    def test_empty_mask(self):
        """A mask of nothing is no mask."""
        ccd = make_ccd()
        ccd.mask = np.zeros(SHAPE, bool)
        assert load_exposures([ccd], **KNOWN).bad is None

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("masked", [False, True])
    def test_not_finite(self, value, masked):
        """NaN and infinity are set aside like masked pixels, and joined with them."""
        ccd = make_ccd()
        ccd.data[2, 3] = value
        if masked:
            ccd.mask = np.zeros(SHAPE, bool)
            ccd.mask[0, 0] = True
        exposures = load_exposures([make_ccd(), ccd], **KNOWN)
        expected = np.zeros((2, *SHAPE), bool)
        expected[1, 2, 3] = True
        expected[1, 0, 0] = masked
        assert_array_equal(exposures.bad, expected)
        if masked:
            assert ccd.mask.sum() == 1

    def test_beyond_float32(self):
        """What does not fit float32 is bad, without a warning."""
        ccd = make_ccd(dtype=np.float64)
        ccd.data[1, 1] = 1e300
        bad = load_exposures([ccd], **KNOWN).bad
        assert_array_equal(np.argwhere(bad), [[0, 1, 1]])

    def test_mask_of_file(self, tmp_path):
        """Mask and uncertainty of a file are read with it."""
        ccd = make_ccd()
        ccd.mask = ccd.data == 5
        ccd.uncertainty = StdDevUncertainty(np.ones(SHAPE))
        ccd.write(tmp_path / "a.fits")
        bad = load_exposures([tmp_path / "a.fits"], **KNOWN).bad
        assert_array_equal(bad[0], ccd.mask)

    def test_independent(self):
        """Neither data nor mask are shared with the caller's object."""
        ccd = make_ccd()
        ccd.mask = ccd.data == 5
        exposures = load_exposures([ccd], **KNOWN)
        exposures.data[...] = -1
        exposures.bad[...] = True
        assert_array_equal(ccd.data, make_ccd().data)
        assert ccd.mask.sum() == 1


class TestDetector:
    """Gain, read noise and bias."""

    @pytest.mark.parametrize(
        "gain",
        [
            2,
            2.0,
            np.float32(2),
            2 * u.electron / u.adu,
            2e-3 * u.Unit("1000 electron / adu"),
            "GAIN",
        ],
    )
    def test_gain(self, gain):
        """Number, quantity or keyword."""
        detector = find_parameters([make_ccd(GAIN=2.0)], gain=gain, readnoise=5, bias=0)
        assert_allclose(detector.gain, 2, rtol=1e-15)
        assert type(detector.gain) is float

    @pytest.mark.parametrize("readnoise", [6, 6 * u.electron, 3 * u.adu, "RDNOISE"])
    def test_readnoise(self, readnoise):
        """A number is in electron; adu are multiplied by the gain."""
        ccd = make_ccd(RDNOISE=6.0)
        detector = find_parameters([ccd], gain=2, readnoise=readnoise, bias=None)
        assert detector.readnoise == 6
        assert detector.noise == 3
        assert detector.bias == 0

    @pytest.mark.parametrize("bias", [100, 100.0 * u.adu, "BIAS"])
    def test_bias(self, bias):
        """A number, a quantity or a keyword, in the unit of the data."""
        detector = find_parameters([make_ccd(BIAS=100)], gain=2, readnoise=0, bias=bias)
        assert detector.bias == 100
        assert detector.readnoise == 0

    @pytest.mark.parametrize("gain", [None, 1, 1.0 * u.electron / u.adu, "GAIN"])
    @pytest.mark.parametrize("readnoise", [5, 5 * u.electron])
    def test_electron(self, gain, readnoise):
        """Exposures in electron have a gain of 1."""
        ccd = make_ccd(unit="electron", GAIN=1)
        detector = find_parameters(
            [ccd], gain=gain, readnoise=readnoise, bias=3 * u.electron
        )
        assert (detector.gain, detector.readnoise, detector.bias) == (1, 5, 3)
        assert detector.noise == 5

    @pytest.mark.parametrize("gain", [2.0, 2 * u.electron / u.adu, "GAIN"])
    def test_electron_refuses_gain(self, gain):
        """A gain would be applied twice."""
        ccd = make_ccd(unit="electron", GAIN=2.0)
        message = (
            r"gain must not be given for exposures in electron \(it is 1 already\), "
            + re.escape(f"got {gain!r}; leave it out")
        )
        with pytest.raises(ValueError, match=message):
            find_parameters([ccd], gain=gain, readnoise=5, bias=None)

    @pytest.mark.parametrize("unit", ["s", "electron2 / adu", "electron / h", ""])
    def test_unit(self, unit):
        """Other units are refused with the remedy."""
        ccd = make_ccd(unit=unit)
        found = re.escape(str(ccd.unit)) or "no unit"
        message = f"in adu, electron, count, .* per second, got {found}; set ccd.unit"
        with pytest.raises(ValueError, match=message):
            find_parameters([ccd], gain=1, readnoise=5, bias=None)

    def test_no_gain(self):
        """The gain of exposures in adu must be given."""
        message = (
            "gain must be given for exposures in adu: a number or Quantity in "
            "electron/adu, or the name of a header keyword"
        )
        with pytest.raises(ValueError, match=message):
            find_parameters([make_ccd()], gain=None, readnoise=5, bias=None)

    @pytest.mark.parametrize("unit", ["adu", "electron"])
    def test_no_readnoise(self, unit):
        """The read noise must be given."""
        message = (
            "readnoise must be given: a number or Quantity in electron, "
            "or the name of a header keyword"
        )
        gain = 2 if unit == "adu" else None
        with pytest.raises(ValueError, match=message):
            find_parameters([make_ccd(unit=unit)], gain=gain, readnoise=None, bias=None)

    @pytest.mark.parametrize(
        ("name", "value", "rule"),
        [
            ("gain", 0, "> 0, got 0.0"),
            ("gain", -1, ".*, got -1.0"),
            ("gain", np.nan, ".*, got nan"),
            ("gain", np.inf * u.electron / u.adu, ".*, got inf"),
            ("readnoise", -1, ">= 0, got -1.0"),
            ("readnoise", -1 * u.adu, ">= 0, got -2.0"),
            ("readnoise", np.nan, ">= 0, got nan"),
            ("bias", np.inf, ", got inf"),
        ],
    )
    def test_impossible(self, name, value, rule):
        """Finite numbers, above or at zero."""
        parameters = {"gain": 2, "readnoise": 5, "bias": 0, name: value}
        with pytest.raises(ValueError, match=f"{name} must be a finite number ?{rule}"):
            find_parameters([make_ccd()], **parameters)

    def test_negative_gain_rule(self):
        """The rule in the message is the rule: zero is not allowed either."""
        message = "gain must be a finite number > 0, got -1.0"
        with pytest.raises(ValueError, match=message):
            find_parameters([make_ccd()], gain=-1, readnoise=5, bias=None)

    @pytest.mark.parametrize(
        ("name", "value", "expected"),
        [
            ("gain", 2 * u.electron, "electron / adu, got electron"),
            ("gain", 2 * u.adu / u.electron, "electron / adu, got adu / electron"),
            ("readnoise", 2 * u.s, "electron, got s"),
            ("bias", 2 * u.electron, "adu, got electron"),
        ],
    )
    def test_wrong_unit(self, name, value, expected):
        """Both units are named."""
        parameters = {"gain": 2, "readnoise": 5, "bias": 0, name: value}
        with pytest.raises(ValueError, match=f"{name} must be in {expected}"):
            find_parameters([make_ccd()], **parameters)

    @pytest.mark.parametrize("name", ["gain", "readnoise", "bias"])
    @pytest.mark.parametrize("value", [[1, 2], {}, b"1", object()])
    def test_wrong_kind(self, name, value):
        """Anything else is of the wrong kind."""
        if name != "bias" and isinstance(value, list):
            pytest.skip("it may be given for each exposure")
        parameters = {"gain": 2, "readnoise": 5, "bias": 0, name: value}
        message = f"{name} must be one number, a Quantity or a keyword, got "
        if isinstance(value, bytes):
            # float() reads the digits of bytes, like those of text
            parameters[name] = b"one"
        with pytest.raises(TypeError, match=message):
            find_parameters([make_ccd()], **parameters)

    @pytest.mark.parametrize("name", ["gain", "readnoise", "bias"])
    @pytest.mark.parametrize(
        ("header", "found"),
        [({}, "is missing"), ({"KEY": "2.0"}, "is '2.0'"), ({"KEY": True}, "is True")],
    )
    def test_keyword(self, name, header, found):
        """The keyword must hold a number, in every exposure."""
        ccds = [make_ccd(KEY=2.0), make_ccd(**header)]
        parameters = {"gain": 2, "readnoise": 5, "bias": 0, name: "KEY"}
        message = (
            f"{name}='KEY' must name a header keyword that holds a number; "
            f"it {found} in exposure 2"
        )
        with pytest.raises(ValueError, match=message):
            find_parameters(ccds, **parameters)

    def test_keyword_differs(self):
        """Gains of each exposure are kept; there is one bias."""
        ccds = [make_ccd(GAIN=1.5, BIAS=1), make_ccd(GAIN=1.6, BIAS=2)]
        known = find_parameters(ccds, gain="GAIN", readnoise=5, bias=None)
        assert known.gains == (1.5, 1.6)
        message = r"bias='BIAS' must be the same in all exposures, got \[1, 2\]"
        with pytest.raises(ValueError, match=message):
            find_parameters(ccds, gain="GAIN", readnoise=5, bias="BIAS")

    def test_keyword_of_files(self, files):
        """Keywords of files, through the door."""
        exposures = load_exposures(files, **(KNOWN | {"gain": "GAIN"}))
        assert exposures.detector.gain == 1.5


class TestMaps:
    """Gain and read noise that differ from pixel to pixel or exposure to exposure."""

    def test_gain_map(self):
        """Data are scaled to the median gain, so that electrons are right."""
        gain = np.full(SHAPE, 2.0)
        gain[:, :1] = 1.0
        exposures = load_exposures(
            [make_ccd(), make_ccd(), make_ccd()],
            gain=gain * u.electron / u.adu,
            readnoise=5,
            bias=1,
            minimum=3,
        )
        assert exposures.detector.gain == 2
        electrons = (make_ccd().data - 1) * gain
        assert_allclose(exposures.data[0] * 2, electrons, rtol=1e-6)
        assert_allclose(exposures.gain_ratio, gain / 2)

    def test_readnoise_map(self):
        """The median stands for all; the map is kept."""
        readnoise = np.full(SHAPE, 3.0)
        readnoise[0] = 6.0
        detector = find_parameters([make_ccd()], gain=1, readnoise=readnoise, bias=0)
        assert detector.readnoise == 3
        assert_array_equal(detector.readnoise_map, readnoise)

    @pytest.mark.parametrize("unit", [1, u.electron, u.adu])
    def test_each_exposure(self, unit):
        """The root mean square stands for all; each is kept."""
        detector = find_parameters(
            [make_ccd(), make_ccd()], gain=1, readnoise=[3, 4] * unit, bias=0
        )
        assert detector.readnoises == (3, 4)
        assert detector.readnoise == pytest.approx(np.sqrt(12.5))

    def test_keyword_of_each_exposure(self):
        """Headers may differ in the read noise."""
        ccds = [make_ccd(RN=3.0), make_ccd(RN=4.0)]
        detector = find_parameters(ccds, gain=1, readnoise="RN", bias=0)
        assert detector.readnoises == (3, 4)
        same = find_parameters([ccds[0]] * 2, gain=1, readnoise="RN", bias=0)
        assert same.readnoises is None
        assert same.readnoise == 3

    @pytest.mark.parametrize(
        "sections",
        [
            {"[1:2, :]": 3.0, "[3:4, 1:3]": 7.0},
            {"[1:2, :]": 3 * u.electron, "[3:4, *]": 7 * u.electron},
            {"[ 1:2 , 1:3 ]": "RDN1", "[3:, :]": "ESO DET OUT2 RON"},
            {"[:2, :]": "RDN1", "[3:4, :]": "HIERARCH ESO DET OUT2 RON"},
        ],
    )
    def test_sections(self, sections):
        """FITS sections, x first, of numbers or keywords."""
        header = fits.Header({"RDN1": 3.0})
        header["HIERARCH ESO DET OUT2 RON"] = 7.0
        ccds = [CCDData(np.ones((3, 4)), unit="adu", meta=header)] * 2
        detector = find_parameters(ccds, gain=2, readnoise=sections, bias=0)
        assert_array_equal(detector.readnoise_map, [[3, 3, 7, 7]] * 3)

    @pytest.mark.parametrize(
        ("sections", "message"),
        [
            ({"[1:2, :]": 3}, "readnoise: sections must cover .* leave out 6 of them"),
            ({"[1:3, :]": 3, "[3:4, :]": 4}, r"must not overlap, '\[3:4, :\]' does"),
            ({"[1:5, :]": 3}, r"must lie in the image of 4 x 3 pixels, got '\[1:5"),
            ({"1:4": 3}, r"a section must be like '\[1:1024, :\]' .* got '1:4'"),
            ({"[:, :]": "RDN"}, "'RDN' must name a header keyword"),
            ({"[1:2, :]": 3, "[3:, :]": 3 * u.adu}, "must have one unit"),
        ],
    )
    def test_wrong_sections(self, sections, message):
        """The section and the rule are said."""
        ccds = [CCDData(np.ones((3, 4)), unit="adu")] * 2
        with pytest.raises(ValueError, match=message):
            find_parameters(ccds, gain=2, readnoise=sections, bias=0)

    @pytest.mark.parametrize(
        ("readnoise", "message"),
        [
            ([3, 4, 5], "one for each of the 2 exposures or a map, got shape"),
            (np.ones((5, 3)), "map of the shape of the exposures"),
            (np.full(SHAPE, -1.0), "readnoise must be finite and >= 0"),
            ([3, np.nan], "readnoise must be a finite number >= 0"),
        ],
    )
    def test_refused(self, readnoise, message):
        """The rule and what came are said."""
        with pytest.raises(ValueError, match=message):
            find_parameters(
                [make_ccd(), make_ccd()], gain=1, readnoise=readnoise, bias=0
            )

    def test_gain_map_refused(self):
        """A gain of 0 in one pixel."""
        gain = np.ones(SHAPE)
        gain[1, 1] = 0
        with pytest.raises(ValueError, match="gain must be finite and > 0"):
            load_exposures([make_ccd()] * 3, gain=gain, readnoise=5, bias=0, minimum=3)
