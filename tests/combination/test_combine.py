# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of combine(), compared with ccdproc.combine and with CRCombiner."""

from pathlib import Path

import ccdproc
import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from numpy.testing import assert_allclose, assert_array_equal

import ccdcr.combination.combine
from ccdcr import CRCombiner, CRMaskSet, MissingUnitWarning, combine

# Flux factors are not applied in many cases, which is what they are about.
pytestmark = pytest.mark.filterwarnings("ignore::ccdcr.FluxScaleWarning")

SHAPE = (6, 7)
CR_METHODS = ["mediancr", "meancrt", "meancr", "meancr2"]
PLAIN_METHODS = ["average", "median", "sum"]
NUMBER = 5


def exposures(*, uncertainty=False):
    """Return five exposures with outliers and bad pixels."""
    rng = np.random.default_rng(21)
    data = rng.normal(100, 10, (NUMBER, *SHAPE))
    data[0, ::2, ::3] = 1000
    data[1, 1::2, ::3] = -200
    bad = rng.random(data.shape) < 0.1
    sigma = StdDevUncertainty(np.full(SHAPE, 10.0)) if uncertainty else None
    return [
        CCDData(
            plane,
            unit="adu",
            mask=mask,
            uncertainty=sigma,
            meta=fits.Header([("OBJECT", f"M {i}"), ("EXPTIME", 100.0 + i)]),
        )
        for i, (plane, mask) in enumerate(zip(data, bad, strict=True), start=1)
    ]


def mask_set(**kwargs):
    """Return random masks."""
    rng = np.random.default_rng(22)
    return CRMaskSet(
        rng.random(SHAPE) < 0.3,
        rng.random(SHAPE) < 0.5,
        rng.random((NUMBER, *SHAPE)) < 0.3,
        meancr=rng.random(SHAPE) < 0.2,
        lamedian=rng.normal(100, 3, SHAPE),
        flux_factor=[0.8, 0.9, 1, 1.1, 1.2],
        **({"gain": 2.0, "readnoise": 5.0} | kwargs),
    )


def same(first, second):
    """Compare two images bit by bit."""
    assert_array_equal(first.data, second.data)
    assert_array_equal(first.mask, second.mask)
    # FITS has its own byte order
    assert first.dtype.newbyteorder("=") == second.dtype.newbyteorder("=")
    assert first.unit == second.unit
    assert (first.uncertainty is None) == (second.uncertainty is None)
    if first.uncertainty is not None:
        assert_array_equal(first.uncertainty.array, second.uncertainty.array)


@pytest.fixture(name="files")
def fixture_files(tmp_path):
    """Return the files of the exposures, with their unit."""
    paths = [tmp_path / f"exp{i}.fits" for i in range(1, NUMBER + 1)]
    for ccd, path in zip(exposures(), paths, strict=True):
        ccd.write(path)
    return paths


@pytest.fixture(name="never_read")
def fixture_never_read(monkeypatch):
    """Fail if any exposure is looked at."""

    def load(*_, **__):
        pytest.fail("exposures were loaded")

    monkeypatch.setattr(ccdcr.combination.combine, "list_exposures", load)


class TestMethods:
    """The methods of CRCombiner."""

    @pytest.mark.parametrize("method", CR_METHODS)
    @pytest.mark.parametrize("dtype", [None, "float32"])
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"use_lamedian": True},
            {"apply_flux_factor": True},
            {"uncertainty": "scatter"},
            {"uncertainty": None},
        ],
    )
    def test_options(self, method, dtype, options):
        """They are handed on."""
        combiner = CRCombiner(exposures(), mask_set(uuid="it"), dtype=dtype)
        expected = getattr(combiner, f"{method}_combine")(**options)
        masks = mask_set(uuid="it")
        result = combine(
            exposures(), method=method, crmasks=masks, dtype=dtype, **options
        )
        same(result, expected)
        assert result.header == expected.header

    def test_default_method(self):
        """It is meancr."""
        result = combine(exposures(), crmasks=mask_set())
        same(result, CRCombiner(exposures(), mask_set()).meancr_combine())

    @pytest.mark.parametrize("method", CR_METHODS)
    @pytest.mark.parametrize(
        "weights", [np.arange(1.0, 6), np.arange(1.0, 211).reshape(5, *SHAPE)]
    )
    def test_weights_and_scale(self, method, weights):
        """Weights and factors are set on the combiner."""
        factors = [1, 2, 3, 4, 5]
        combiner = CRCombiner(exposures(), mask_set())
        combiner.weights, combiner.scaling = weights, factors
        expected = getattr(combiner, f"{method}_combine")()
        result = combine(
            exposures(),
            method=method,
            crmasks=mask_set(),
            weights=weights,
            scale=factors,
        )
        same(result, expected)

    def test_scale_function(self):
        """A function sees the whole data of an exposure: means 1, 2 and 6."""
        ccds = [CCDData([[m - 0.5, m + 0.5]], unit="adu") for m in (1.0, 2.0, 6.0)]
        ccds[2].mask = [[False, True]]
        masks = CRMaskSet([[0, 0]], [[0, 0]], np.zeros((3, 1, 2), int))
        result = combine(
            ccds,
            crmasks=masks,
            scale=lambda data: 12 / np.mean(data),
            uncertainty=None,
        )
        # 6 18, 9 15 and 11 bad
        assert_allclose(result.data, [[26 / 3, 33 / 2]])

    @pytest.mark.parametrize("method", CR_METHODS)
    @pytest.mark.parametrize(
        ("options", "calls"),
        [
            ({"clip_extrema": True}, [("clip_extrema", (1, 1))]),
            (
                {"clip_extrema": True, "nlow": 0, "nhigh": 2},
                [("clip_extrema", (0, 2))],
            ),
            (
                {"minmax_clip": True, "minmax_clip_min": 0, "minmax_clip_max": 500},
                [("minmax_clipping", (0, 500))],
            ),
            (
                {"minmax_clip": True, "minmax_clip_max": 500},
                [("minmax_clipping", (None, 500))],
            ),
            ({"sigma_clip": True}, [("sigma_clipping", (3, 3))]),
            (
                {
                    "sigma_clip": True,
                    "sigma_clip_low_thresh": 1,
                    "sigma_clip_high_thresh": 2,
                    "sigma_clip_func": "median",
                    "sigma_clip_dev_func": "mad_std",
                },
                [("sigma_clipping", (1, 2, "median", "mad_std"))],
            ),
            (
                {"sigma_clip": True, "minmax_clip": True, "minmax_clip_max": 500},
                [("minmax_clipping", (None, 500)), ("sigma_clipping", (3, 3))],
            ),
            ({"nlow": 3, "minmax_clip_max": 1, "sigma_clip_low_thresh": 0.1}, []),
        ],
    )
    def test_clipping(self, method, options, calls):
        """Clipping is that of Combiner, and only what is switched on."""
        combiner = CRCombiner(exposures(), mask_set())
        for name, args in calls:
            getattr(combiner, name)(*args)
        expected = getattr(combiner, f"{method}_combine")()
        result = combine(exposures(), method=method, crmasks=mask_set(), **options)
        same(result, expected)


class TestClippingOptions:
    """Errors about the arguments of clipping, before files are read."""

    @pytest.mark.parametrize("method", [*CR_METHODS, *PLAIN_METHODS])
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"nlow": -1}, "nlow must be an integer >= 0 or None, got -1"),
            ({"nhigh": 1.5}, r"nhigh must be an integer >= 0 or None, got 1\.5"),
            ({"nhigh": "2"}, "nhigh must be an integer >= 0 or None, got '2'"),
            ({"nlow": 2, "nhigh": 3}, r"less than the 5 exposures, got 2 \+ 3"),
            ({"minmax_clip_min": "a"}, "minmax_clip_min must be a finite number"),
            ({"minmax_clip_max": np.nan}, "minmax_clip_max must be a finite number"),
            (
                {"minmax_clip_min": 2, "minmax_clip_max": 1},
                "minmax_clip_min must be <= minmax_clip_max, got 2 and 1",
            ),
            ({"sigma_clip_low_thresh": [3]}, "sigma_clip_low_thresh must be a finite"),
            ({"sigma_clip_high_thresh": 0}, "sigma_clip_high_thresh must not be 0"),
            ({"sigma_clip_func": "mode"}, "sigma_clip_func must be callable or one of"),
            ({"sigma_clip_dev_func": 3}, "sigma_clip_dev_func must be callable or one"),
        ],
    )
    def test_wrong(self, method, options, message):
        """The name, the rule and what came."""
        masks = {"crmasks": mask_set()} if method in CR_METHODS else {}
        name = next(iter(options))
        switch = "clip_extrema" if name[0] == "n" else name.split("clip")[0] + "clip"
        with pytest.raises(ValueError, match=message):
            combine(exposures(), method=method, **{switch: True}, **options, **masks)

    @pytest.mark.parametrize("method", ["meancr", "average"])
    def test_dtype(self, method):
        """A type that numpy does not know."""
        masks = {"crmasks": mask_set()} if method in CR_METHODS else {}
        with pytest.raises(TypeError, match=r"dtype must be 'auto' or a type .*'foo'"):
            combine(exposures(), method=method, dtype="foo", **masks)

    def test_no_limit(self):
        """None is no limit: of 0 and nine times 100 the lowest is kept."""
        ccds = [CCDData([[v]], unit="adu") for v in [0.0] + 9 * [100.0]]
        options = {"sigma_clip": True, "sigma_clip_high_thresh": 1}
        for low, expected in ((None, 90), (1, 100)):
            result = combine(
                ccds, method="average", sigma_clip_low_thresh=low, **options
            )
            assert result.data == expected


class TestPlain:
    """The methods of ccdproc.combine."""

    @pytest.mark.parametrize("method", PLAIN_METHODS)
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"dtype": "float32"},
            {"weights": np.arange(1.0, 6)},
            {"scale": [1, 2, 3, 4, 5]},
            {"scale": np.median},
            {"clip_extrema": True},
            {"clip_extrema": True, "nlow": 0, "nhigh": 2},
            {"clip_extrema": True, "nlow": None, "nhigh": 2},
            {"clip_extrema": True, "nlow": 2, "nhigh": None},
            {"minmax_clip": True, "minmax_clip_min": 0},
            {"minmax_clip": True, "minmax_clip_max": 500},
            {"sigma_clip": True, "sigma_clip_high_thresh": 1.2},
            {
                "sigma_clip": True,
                "sigma_clip_low_thresh": 1.5,
                "sigma_clip_func": np.ma.median,
                "sigma_clip_dev_func": "mad_std",
            },
            {"combine_uncertainty_function": np.sum},
            {"mem_limit": 20_000},
        ],
    )
    def test_same(self, method, options):
        """
        The same arguments give the same image.

        In ccdproc masked values have weights and decide what is clipped: none is here.
        """
        ccds = exposures()
        if any("clip" in name or name == "weights" for name in options):
            for ccd in ccds:
                ccd.mask = None
        expected = ccdproc.combine(ccds, method=method, **options)
        result = combine(ccds, method=method, **options)
        same(result, expected)
        assert result.header == expected.header

    def test_masked_values_have_no_weight(self):
        """1 and 1, of which one is masked, and weights 1 and 3: 1, not 3 / 4."""
        ccds = [CCDData(np.ones((1, 2)), unit="adu") for _ in range(2)]
        ccds[0].mask = np.array([[True, False]])
        weights = np.array([1.0, 3.0])
        for given in (weights, np.tile(weights.reshape(2, 1, 1), (1, 1, 2))):
            result = combine(ccds, method="average", weights=given)
            assert_array_equal(result.data, [[1, 1]])

    def test_clips_scaled_values(self):
        """100, 200, 400 scaled to 100 each, and a limit of 150: none is clipped."""
        ccds = [CCDData([[100.0 * f]], unit="adu") for f in (1, 2, 4)]
        options = {"scale": [1, 0.5, 0.25], "minmax_clip": True, "minmax_clip_max": 150}
        assert combine(ccds, method="sum", **options).data == 300
        masks = CRMaskSet([[0]], [[0]], np.zeros((3, 1, 1), int))
        assert combine(ccds, crmasks=masks, uncertainty=None, **options).data == 100

    def test_output(self, tmp_path):
        """The file has no number of exposures."""
        path = tmp_path / "out.fits"
        result = combine(exposures(), path, method="median")
        with fits.open(path) as hdulist:
            assert [hdu.name for hdu in hdulist] == ["PRIMARY", "MASK", "UNCERT"]
        same(CCDData.read(path), result)


class TestInput:
    """Exposures and their files."""

    @pytest.mark.parametrize("method", ["meancr", "median"])
    @pytest.mark.parametrize(
        "convert",
        [
            list,
            tuple,
            lambda paths: [str(path) for path in paths],
            lambda paths: ",".join(map(str, paths)),
            lambda paths: ", ".join(map(str, paths)),
            lambda paths: np.array([str(path) for path in paths]),
            lambda paths: (path for path in paths),
            lambda paths: [CCDData.read(path) for path in paths],
            lambda paths: [CCDData.read(paths[0]), *paths[1:]],
        ],
    )
    def test_kinds(self, files, method, convert):
        """Paths, names, a string of names, an array, a generator, a mixture."""
        options = {"crmasks": mask_set()} if method == "meancr" else {}
        expected = combine(exposures(), method=method, **options)
        result = combine(convert(files), method=method, **options)
        same(result, expected)
        assert result.header["OBJECT"] == "M 1"
        assert result.header["EXPTIME"] == (101 if method == "median" else 103)

    @pytest.mark.parametrize("method", ["meancr", "median"])
    def test_unit(self, tmp_path, method):
        """Files without BUNIT are in adu, with one warning, or in a given unit."""
        paths = [tmp_path / f"exp{i}.fits" for i in range(3)]
        for i, path in enumerate(paths):
            fits.writeto(path, np.full((2, 2), i + 1.0))
        masks = CRMaskSet(
            np.zeros((2, 2), bool), np.zeros((2, 2), bool), [[[0, 0]] * 2] * 3
        )
        options = {"crmasks": masks, "uncertainty": None} if method == "meancr" else {}
        result = combine(paths, method=method, unit="electron", **options)
        assert result.unit == "electron"
        assert_array_equal(result.data, 2)
        message = r"no unit \(keyword BUNIT\) in exp0.fits, exp1.fits, exp2.fits, adu"
        with pytest.warns(MissingUnitWarning, match=message) as record:
            result = combine(paths, method=method, **options)
        assert len(record) == 1
        assert result.unit == "adu"
        assert_array_equal(result.data, 2)

    @pytest.mark.parametrize("method", ["meancr", "median"])
    def test_unknown_option(self, files, method):
        """A misspelt option is no option of the reader, for files and objects."""
        options = {"crmasks": mask_set()} if method == "meancr" else {}
        message = "no parameter 'apply_fluxfactor'; did you mean 'apply_flux_factor'"
        for items in (files, exposures()):
            with pytest.raises(TypeError, match=message):
                combine(items, method=method, apply_fluxfactor=True, **options)

    def test_crmasks_file(self, files, tmp_path):
        """The masks may be a file, too."""
        masks = mask_set()
        masks.write(tmp_path / "crmasks.fits")
        expected = combine(files, crmasks=masks)
        for kind in (str, Path):
            result = combine(files, crmasks=kind(tmp_path / "crmasks.fits"))
            same(result, expected)
            assert result.header["CRUUID"] == masks.uuid

    def test_progress_bar(self, files):
        """It wraps the files, and sees each once."""
        seen = []

        def progress_bar(iterable):
            for item in iterable:
                seen.append(item)
                yield item

        result = combine(files, crmasks=mask_set(), progress_bar=progress_bar)
        assert seen == files
        same(result, combine(files, crmasks=mask_set()))

    def test_unchanged(self):
        """Neither exposures nor arguments are modified."""
        ccds, weights = exposures(uncertainty=True), np.arange(1.0, 6)
        for method in (*CR_METHODS, *PLAIN_METHODS):
            masks = {"crmasks": mask_set()} if method in CR_METHODS else {}
            combine(ccds, method=method, weights=weights, clip_extrema=True, **masks)
        for ccd, old in zip(ccds, exposures(uncertainty=True), strict=True):
            same(ccd, old)
            assert ccd.header == old.header
        assert_array_equal(weights, [1, 2, 3, 4, 5])

    @pytest.mark.parametrize(
        ("value", "error", "message"),
        [
            ("one.fits", TypeError, "img_list must be a list or generator .* got str"),
            (5, TypeError, "img_list must be a list or generator .* got int"),
            ([], ValueError, "img_list must hold at least 1 exposures, got 0"),
            ([1, 2], TypeError, "file names, got int as exposure 1"),
            (
                ["none.fits"],
                FileNotFoundError,
                "1 of img_list: the file none.fits does",
            ),
        ],
    )
    @pytest.mark.parametrize("method", ["meancr", "median"])
    def test_refused(self, value, error, message, method):
        """What is no list of exposures."""
        options = {"crmasks": mask_set()} if method == "meancr" else {}
        with pytest.raises(error, match=message):
            combine(value, method=method, **options)

    @pytest.mark.parametrize("what", ["shape", "unit"])
    @pytest.mark.parametrize("method", ["meancr", "median"])
    def test_not_alike(self, what, method):
        """Shapes and units are listed."""
        other = {
            "shape": CCDData([[1.0]], unit="adu"),
            "unit": CCDData(np.ones(SHAPE), unit="electron"),
        }[what]
        options = {"crmasks": mask_set()} if method == "meancr" else {}
        message = f"all exposures must have the same {what}, got exposure 1: .* 5: "
        with pytest.raises(ValueError, match=message):
            combine([*exposures()[:4], other], method=method, **options)


class TestOutput:
    """The file that is written."""

    @pytest.mark.parametrize("method", CR_METHODS)
    @pytest.mark.parametrize("kind", [str, Path])
    def test_extensions(self, tmp_path, method, kind):
        """Image, mask, uncertainty and number of exposures."""
        path = kind(tmp_path / "out.fits")
        masks = mask_set()
        result = combine(exposures(), path, method, crmasks=masks)
        number = CRCombiner(exposures(), masks).exposure_map(method)
        with fits.open(path, checksum=True) as hdulist:
            names = [hdu.name for hdu in hdulist]
            assert names == ["PRIMARY", "MASK", "UNCERT", "NUSED"]
            assert_array_equal(hdulist["PRIMARY"].data, result.data)
            assert_array_equal(hdulist["MASK"].data, result.mask)
            assert_array_equal(hdulist["UNCERT"].data, result.uncertainty.array)
            assert_array_equal(hdulist["NUSED"].data, number)
            assert hdulist["NUSED"].data.dtype.kind == "i"
            assert hdulist["NUSED"].header["BITPIX"] == 16
            assert all("CHECKSUM" in hdu.header for hdu in hdulist)
            header = hdulist[0].header
            assert header["BUNIT"] == "adu"
            for name in ("CRMETHOD", "CRUUID", "CRNREPL", "NCOMBINE", "OBJECT"):
                assert header[name] == result.header[name]

    @pytest.mark.parametrize("method", CR_METHODS)
    @pytest.mark.parametrize("dtype", [None, "float32"])
    def test_read_back(self, tmp_path, method, dtype):
        """CCDData.read gives the result again."""
        path = tmp_path / "out.fits.gz"
        result = combine(
            exposures(), path, method=method, crmasks=mask_set(), dtype=dtype
        )
        again = CCDData.read(path)
        same(again, result)
        assert type(again.uncertainty) is StdDevUncertainty
        assert [file.name for file in tmp_path.iterdir()] == ["out.fits.gz"]

    def test_no_uncertainty(self, tmp_path):
        """Then there is no such extension."""
        path = tmp_path / "out.fits"
        combine(exposures(), path, crmasks=mask_set(), uncertainty=None)
        with fits.open(path) as hdulist:
            assert [hdu.name for hdu in hdulist] == ["PRIMARY", "MASK", "NUSED"]

    def test_clipped_do_not_count(self, tmp_path):
        """The number is that after clipping."""
        path = tmp_path / "out.fits"
        ccds = [CCDData([[value]], unit="adu") for value in (1.0, 2.0, 3.0, 99.0)]
        masks = CRMaskSet([[0]], [[0]], np.zeros((4, 1, 1), int))
        result = combine(
            ccds,
            path,
            crmasks=masks,
            uncertainty=None,
            minmax_clip=True,
            minmax_clip_max=50,
        )
        assert result.data == 2
        assert fits.getdata(path, "NUSED") == 3

    @pytest.mark.parametrize("method", ["meancr", "median"])
    def test_overwrite(self, tmp_path, method):
        """Only on request."""
        path = tmp_path / "out.fits"
        path.write_text("old")
        options = {"crmasks": mask_set()} if method == "meancr" else {}
        result = combine(
            exposures(), path, method=method, overwrite_output=True, **options
        )
        same(CCDData.read(path), result)

    @pytest.mark.parametrize("method", ["meancr", "median"])
    @pytest.mark.usefixtures("never_read")
    def test_exists(self, tmp_path, method):
        """It is refused before anything is read."""
        path = tmp_path / "out.fits"
        path.write_text("old")
        options = {"crmasks": mask_set()} if method == "meancr" else {}
        message = "out.fits exists; use overwrite_output=True to replace it"
        with pytest.raises(FileExistsError, match=message):
            combine(["none.fits"], path, method=method, **options)
        assert path.read_text() == "old"

    @pytest.mark.usefixtures("never_read")
    def test_no_folder(self, tmp_path):
        """So is a folder that does not exist, and one in place of a file."""
        path = tmp_path / "none" / "out.fits"
        with pytest.raises(FileNotFoundError, match="the folder of the output file"):
            combine(["none.fits"], path, crmasks=mask_set())
        with pytest.raises(IsADirectoryError, match="is a folder"):
            combine(["none.fits"], tmp_path, crmasks=mask_set(), overwrite_output=True)

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_failure(self, tmp_path, monkeypatch, overwrite):
        """A full disk leaves the old file whole and nothing else behind."""
        path = tmp_path / "out.fits"
        if overwrite:
            path.write_text("old")

        def half_written(file, *_):
            file.write(b"half")
            msg = "No space left on device"
            raise OSError(msg)

        monkeypatch.setattr(ccdcr.utils.fits_structure, "_write", half_written)
        with pytest.raises(OSError, match="No space left on device"):
            combine(exposures(), path, crmasks=mask_set(), overwrite_output=overwrite)
        assert [file.name for file in tmp_path.iterdir()] == ["out.fits"] * overwrite
        if overwrite:
            assert path.read_text() == "old"


class TestRefused:
    """Arguments that are wrong or have no effect, before anything is read."""

    @pytest.mark.parametrize("method", PLAIN_METHODS)
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("crmasks", "crmasks.fits"),
            ("crmasks", mask_set()),
            ("use_lamedian", True),
            ("apply_flux_factor", True),
            ("uncertainty", "scatter"),
            ("uncertainty", None),
        ],
    )
    @pytest.mark.usefixtures("never_read")
    def test_no_effect(self, method, name, value):
        """Options of the other methods."""
        message = f"{name} has no effect with method='{method}'; leave it out"
        with pytest.raises(ValueError, match=message):
            combine([], method=method, **{name: value})

    @pytest.mark.parametrize("method", CR_METHODS)
    @pytest.mark.usefixtures("never_read")
    def test_uncertainty_function(self, method):
        """The function of ccdproc's methods."""
        message = (
            f"combine_uncertainty_function has no effect with method='{method}'; "
            "use uncertainty='scatter'"
        )
        with pytest.raises(ValueError, match=message):
            combine(
                [],
                method=method,
                crmasks=mask_set(),
                combine_uncertainty_function=np.std,
            )

    @pytest.mark.parametrize("method", CR_METHODS)
    @pytest.mark.usefixtures("never_read")
    def test_no_crmasks(self, method):
        """The masks are needed."""
        message = f"crmasks must be given with method='{method}': a CRMaskSet or its"
        with pytest.raises(ValueError, match=message):
            combine([], method=method)

    @pytest.mark.parametrize("method", ["mean", "", "MEANCR"])
    @pytest.mark.usefixtures("never_read")
    def test_method(self, method):
        """All methods are listed."""
        message = (
            "method must be one of mediancr, meancrt, meancr, meancr2, average, "
            f"median, sum, got {method!r}"
        )
        with pytest.raises(ValueError, match=message):
            combine([], method=method, crmasks=mask_set())

    @pytest.mark.parametrize("method", ["meancr", "median"])
    @pytest.mark.parametrize("value", [0, -1, np.nan, "16 XB", None])
    @pytest.mark.usefixtures("never_read")
    def test_mem_limit(self, method, value):
        """A number of bytes."""
        options = {"crmasks": mask_set()} if method == "meancr" else {}
        message = f"mem_limit must be a number of bytes > 0, such as .*, got {value!r}"
        with pytest.raises(ValueError, match=message):
            combine([], method=method, mem_limit=value, **options)

    @pytest.mark.parametrize("method", ["meancr", "median"])
    @pytest.mark.parametrize(
        ("value", "error", "message"),
        [
            ([1, 2, 3, 4, 5], TypeError, "weights must be a numpy.ndarray of numbers"),
            (np.array(["a"] * 5), TypeError, "weights must be a numpy.ndarray of numb"),
            (np.ones(4), ValueError, r"one number per exposure, \(5,\), .* got \(4,\)"),
            (-np.ones(5), ValueError, "weights must be finite numbers >= 0"),
        ],
    )
    def test_weights(self, method, value, error, message):
        """Weights are numbers for all exposures or for all their pixels."""
        options = {"crmasks": mask_set()} if method == "meancr" else {}
        with pytest.raises(error, match=message):
            combine(exposures(), method=method, weights=value, **options)

    @pytest.mark.parametrize("method", ["meancr", "median"])
    @pytest.mark.parametrize(
        ("value", "error", "message"),
        [
            ([1, 2], ValueError, "scale must be one number or 5 of them, got 2"),
            ("a", TypeError, "scale must be one number or 5 of them, got 'a'"),
            ([1, np.nan, 1, 1, 1], ValueError, "scale must be finite, got"),
            (lambda _: np.nan, ValueError, "scale must be finite, got"),
        ],
    )
    def test_scale(self, method, value, error, message):
        """Factors are finite numbers, one for each exposure."""
        options = {"crmasks": mask_set()} if method == "meancr" else {}
        with pytest.raises(error, match=message):
            combine(exposures(), method=method, scale=value, **options)

    def test_least_memory(self):
        """The least memory that a message names is enough."""
        masks = mask_set()
        with pytest.raises(ValueError, match="at least") as caught:
            combine(exposures(), crmasks=masks, mem_limit=10)
        least = int(str(caught.value).split()[5])
        for limit in (least, least + 1, 2 * least):
            combine(exposures(), crmasks=masks, mem_limit=limit)

    def test_masks_do_not_fit(self):
        """The masks of another number of exposures."""
        with pytest.raises(ValueError, match="masks of 4 exposures, got 5"):
            combine(exposures()[:4], crmasks=mask_set())


class TestDefaultMethod:
    """Without a method, masks decide."""

    def test_without_masks(self):
        """It takes the place of ccdproc.combine."""
        same(combine(exposures()), ccdproc.combine(exposures()))

    def test_with_masks(self):
        """The mean of the exposures that are not hit."""
        masks = mask_set()
        expected = CRCombiner(exposures(), masks).meancr_combine()
        same(combine(exposures(), crmasks=masks), expected)

    def test_options_of_masks(self):
        """Options that need masks are refused without."""
        message = "use_lamedian has no effect with method='average'; leave it out"
        with pytest.raises(ValueError, match=message):
            combine(exposures(), use_lamedian=True)


class TestAutoType:
    """dtype='auto' is the shortest type that holds the exposures."""

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("f4", "f4"),
            (">f4", "f4"),
            ("i2", "f4"),
            ("u2", "f4"),
            ("u1", "f4"),
            ("i4", "f8"),
            ("f8", "f8"),
        ],
    )
    def test_types(self, given, expected):
        """Float32 holds all 16-bit integers, and no 32-bit ones."""
        data = np.arange(42.0).reshape(SHAPE).astype(given)
        ccds = [CCDData(data + data.dtype.type(i), unit="adu") for i in range(3)]
        none = np.zeros((3, *SHAPE), bool)
        masks = CRMaskSet(none[0], none[0], none, gain=1.0, readnoise=3.0)
        image = CRCombiner(ccds, masks, dtype="auto").meancr_combine()
        assert image.dtype == image.uncertainty.array.dtype == expected
        assert_allclose(image.data, np.arange(42.0).reshape(SHAPE) + 1, rtol=1e-6)
        for options in ({"crmasks": masks}, {"method": "median"}):
            assert combine(ccds, dtype="auto", **options).dtype == expected

    def test_mixed_files(self, tmp_path):
        """One exposure of 64 bits is enough for float64; files count as they are."""
        for name, dtype in (("a", "u2"), ("b", "f4"), ("c", "f8")):
            data = np.full(SHAPE, 60000, dtype)
            fits.PrimaryHDU(data, fits.Header([("BUNIT", "adu")])).writeto(
                tmp_path / f"{name}.fits"
            )
        paths = [tmp_path / f"{name}.fits" for name in "abc"]
        assert combine(paths[:2], dtype="auto").dtype == "f4"
        assert combine(paths, dtype="auto").dtype == "f8"
        assert combine(paths[:2]).dtype == "f8"

    def test_message(self):
        """Other words are no type."""
        message = "dtype must be 'auto' or a type such as 'float32', got 'automatic'"
        with pytest.raises(TypeError, match=message):
            combine(exposures(), dtype="automatic")
