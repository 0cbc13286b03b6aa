# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of combinations in tiles: the same bits, in the memory that is allowed."""

import bz2
import gzip
import lzma
import subprocess
import sys
import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import (
    CCDData,
    InverseVariance,
    StdDevUncertainty,
    VarianceUncertainty,
)
from astropy.stats import mad_std
from numpy.testing import assert_array_equal

from ccdcr import (
    CRCombiner,
    CRMaskSet,
    CRMasksFileError,
    MissingUUIDWarning,
    NoUncertaintyWarning,
    combine,
)
from ccdcr.combination import combine_tiles as tiled
from ccdcr.masks.mask_rows import open_masks

# Flux factors are not applied in many cases, which is what they are about.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ccdcr.FluxScaleWarning"),
    pytest.mark.filterwarnings("ignore::ccdcr.ForeignMasksWarning"),  # random masks
]

SHAPE = (37, 11)
N = 5
METHODS = ["mediancr", "meancrt", "meancr", "meancr2"]
# boxes in the first and last rows, and some that reach over several tiles
BOXES = [[1, 1, 3, 3], [11, 37, 5, 5], [5, 10, 3, 9], [6, 10, 3, 9], [4, 20, 11, 37]]
CLASSES = [StdDevUncertainty, VarianceUncertainty, InverseVariance]


def exposures(*, masked=True, kinds=(None,)):
    """Return exposures with outliers, bad pixels and uncertainties."""
    rng = np.random.default_rng(5)
    ccds = []
    for i in range(N):
        data = rng.normal(100, 10, SHAPE).astype(np.float32)
        data[rng.random(SHAPE) < 0.1] += 1000
        data[3, 4 + i % 2] = np.nan
        kind = kinds[i % len(kinds)]
        ccds.append(
            CCDData(
                data,
                unit="adu",
                mask=(rng.random(SHAPE) < 0.2) if masked else None,
                uncertainty=kind and kind(rng.uniform(5, 20, SHAPE)),
                meta=fits.Header([("OBJECT", f"M {i}"), ("EXPTIME", 100.0 + i)]),
            )
        )
    return ccds


def mask_set(**kwargs):
    """Return random masks with all that a set may have."""
    rng = np.random.default_rng(6)
    parts = {
        "meancr": rng.random(SHAPE) < 0.2,
        "lamedian": rng.normal(100, 3, SHAPE),
        "flux_factor": [0.8, 0.9, 1, 1.1, 1.2],
        "local_median_pixels": BOXES,
        "gain": 2.0,
        "readnoise": 5.0,
        "uuid": "this one",
    }
    return CRMaskSet(
        rng.random(SHAPE) < 0.3,
        rng.random(SHAPE) < 0.5,
        rng.random((N, *SHAPE)) < 0.3,
        **(parts | kwargs),
    )


def assert_same(first, second):
    """Compare two images bit by bit, header and WCS included."""
    for a, b in (
        (first.data, second.data),
        (first.mask, second.mask),
        (first.uncertainty.array, second.uncertainty.array),
    ):
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes()
    assert type(first.uncertainty) is type(second.uncertainty)
    assert first.unit == second.unit
    assert first.header == second.header
    assert (first.wcs is None) == (second.wcs is None)
    if first.wcs is not None:
        assert first.wcs.wcs == second.wcs.wcs


def heights(monkeypatch):
    """Return a list that will hold the heights of the tiles."""
    seen, original = [], tiled.cut_tiles

    def cut_tiles(*args, **kwargs):
        tiles = original(*args, **kwargs)
        seen.append([tile.stop - tile.start for tile in tiles])
        return tiles

    monkeypatch.setattr(tiled, "cut_tiles", cut_tiles)
    return seen


class TestSame:
    """The size of the tiles does not show."""

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("dtype", [None, "float32"])
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"use_lamedian": True, "apply_flux_factor": True},
            {"uncertainty": "scatter"},
            {"weights": np.arange(1.0, N + 1)},
            {
                "weights": np.random.default_rng(1).integers(0, 3, (N, *SHAPE)),
                "scale": [1, 2, 3, 4, 5],
            },
            {"scale": lambda data: 100 / np.nanmedian(data)},
            {"clip_extrema": True, "nlow": 0, "nhigh": 2},
            {"minmax_clip": True, "minmax_clip_min": 80, "minmax_clip_max": 500},
            {"sigma_clip": True, "sigma_clip_high_thresh": 1.2},
            {
                "sigma_clip": True,
                "sigma_clip_low_thresh": 1,
                "sigma_clip_func": "median",
                "sigma_clip_dev_func": mad_std,
            },
        ],
    )
    def test_options(self, method, dtype, options, monkeypatch):
        """All options, with boxes of local medians across the borders of tiles."""
        with warnings.catch_warnings():
            # Astropy's clipping tells of values that are not finite.
            warnings.filterwarnings("ignore", "Input data contains invalid values")
            whole = combine(
                exposures(), method=method, crmasks=mask_set(), dtype=dtype, **options
            )
            seen = heights(monkeypatch)
            tiled = combine(
                exposures(),
                method=method,
                crmasks=mask_set(),
                dtype=dtype,
                mem_limit=60_000,
                **options,
            )
        assert len(seen[0]) > 2
        assert_same(tiled, whole)
        assert not tiled.mask.all()

    @pytest.mark.parametrize("rows", [1, 2, 7, 36])
    def test_any_height(self, rows, monkeypatch, tmp_path):
        """Single rows and a last tile of one row, also in the file."""
        whole = combine(exposures(), tmp_path / "a.fits", crmasks=mask_set())
        tiles = [slice(y, min(y + rows, 37)) for y in range(0, 37, rows)]
        monkeypatch.setattr(tiled, "cut_tiles", lambda *_, **__: tiles)
        cut = combine(exposures(), tmp_path / "b.fits", crmasks=mask_set())
        assert_same(cut, whole)
        contents = [(tmp_path / name).read_bytes() for name in ("a.fits", "b.fits")]
        assert contents[0] == contents[1]

    @pytest.mark.parametrize("method", METHODS)
    def test_combiner(self, method):
        """And it is what the Combiner makes."""
        combiner = CRCombiner(exposures(kinds=CLASSES), mask_set())
        expected = getattr(combiner, f"{method}_combine")()
        result = combine(
            exposures(kinds=CLASSES), method=method, crmasks=mask_set(), mem_limit=6e4
        )
        assert_same(result, expected)

    def test_large_result(self, tmp_path):
        """A result of more than half of the limit is in a file, and can be changed."""
        limit = 15_000
        whole = combine(exposures(), tmp_path / "a.fits", crmasks=mask_set())
        tiled = combine(
            exposures(), tmp_path / "b.fits", crmasks=mask_set(), mem_limit=limit
        )
        assert tiled.data.base.base is not None  # the bytes of the file
        assert not isinstance(whole.data.base, np.memmap)
        assert_same(tiled, whole)
        contents = [(tmp_path / name).read_bytes() for name in ("a.fits", "b.fits")]
        assert contents[0] == contents[1]
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.fits", "b.fits"]
        tiled.data[0, 0] = 5
        assert tiled.data[0, 0] == 5

    def test_one_warning(self):
        """What is missing is said once, not for each tile."""
        masks = mask_set(gain=None, readnoise=None)
        with pytest.warns(NoUncertaintyWarning) as record:
            result = combine(exposures(), crmasks=masks, mem_limit=60_000)
        assert [w.category for w in record].count(NoUncertaintyWarning) == 1
        assert result.uncertainty is None

    def test_weights_of_a_tile(self):
        """All weights of a tile may be 0, but not all of the image."""
        weights = np.ones((N, *SHAPE))
        weights[:, :5] = 0
        whole = combine(exposures(), crmasks=mask_set(), weights=weights)
        tiled = combine(exposures(), crmasks=mask_set(), weights=weights, mem_limit=6e4)
        assert_same(tiled, whole)
        with pytest.raises(ValueError, match="weights must be finite numbers >= 0"):
            combine(exposures(), crmasks=mask_set(), weights=0 * weights)
        message = r"weights must be one number per exposure, \(5,\), or one per pixel"
        with pytest.raises(ValueError, match=message):
            combine(exposures(), crmasks=mask_set(), weights=weights[:, :1])

    def test_progress_bar(self):
        """It wraps the exposures and then the tiles."""
        seen = []

        def progress_bar(iterable):
            seen.append(len(iterable))
            yield from iterable

        tiled = combine(
            exposures(), crmasks=mask_set(), mem_limit=60_000, progress_bar=progress_bar
        )
        assert seen[0] == N
        assert seen[1] > 2
        assert_same(tiled, combine(exposures(), crmasks=mask_set()))


def as_integers(kind, ccd):
    """Return integer images of some kind."""
    counts = np.nan_to_num(ccd.data, nan=7).astype(np.uint16)
    header = fits.Header([("BUNIT", "ADU"), ("OBJECT", "M 1")])
    if kind == "compressed":
        image = fits.CompImageHDU(
            counts.astype(np.int32), header, name="SCI", tile_shape=(8, 4)
        )
        return [fits.PrimaryHDU(), image]
    if kind == "blank":
        counts = counts.astype(np.int16)
        counts[5, 5] = header["BLANK"] = -99
    hdu = fits.PrimaryHDU(counts, header)
    if kind == "scaled":
        hdu.scale("int16", bscale=0.5, bzero=100)
    return [hdu]


def as_extension(hdus):
    """Return the image in an extension."""
    image = fits.ImageHDU(hdus[0].data, hdus[0].header, name="SCI")
    primary = fits.PrimaryHDU(header=fits.Header([("TELESCOP", "T")]))
    return [primary, image, *hdus[1:]]


def change(kind, hdus):
    """Change names or keywords."""
    if kind == "other names":
        hdus["MASK"].name, hdus["UNCERT"].name = "BPM", "ERR"
    if kind == "unit":
        del hdus[0].header["BUNIT"]
    if kind == "wcs":
        names = ("CRVAL1", "CRVAL2", "CDELT1", "CDELT2")
        hdus[0].header.update(dict.fromkeys(names, 0.5))
        hdus[0].header.update({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"})
    return hdus


OPTIONS = {
    "compressed": {"hdu": "SCI"},
    "named": {"hdu": "SCI"},
    "other names": {"hdu_mask": "BPM", "hdu_uncertainty": "ERR"},
    "none": {"hdu_mask": None, "hdu_uncertainty": None, "memmap": False},
    "unit": {"unit": "electron", "format": "fits"},
}
PACKERS = {"gz": gzip, "bz2": bz2, "xz": lzma}


def write(folder, kind):
    """Write exposures as files of some kind; return them and how to read them."""
    paths = [folder / f"exp{i}.fits" for i in range(N)]
    for ccd, path in zip(exposures(kinds=CLASSES), paths, strict=True):
        hdus = change(kind, ccd.to_hdu())
        if kind in {"uint16", "scaled", "blank", "compressed"}:
            hdus = as_integers(kind, ccd)
        if kind in {"extension", "named"}:
            hdus = as_extension(hdus)
        fits.HDUList(hdus).writeto(path)
        if kind in PACKERS:
            path.write_bytes(PACKERS[kind].compress(path.read_bytes()))
    return paths, OPTIONS.get(kind, {})


KINDS = ["plain", "uint16", "scaled", "blank", "compressed", "extension", "named"]
KINDS += ["other names", "none", "unit", "wcs", "gz", "bz2", "xz"]


class TestFiles:
    """Files of every kind, by rows."""

    @pytest.mark.parametrize("kind", KINDS)
    def test_as_ccddata(self, kind, tmp_path):
        """They are what CCDData.read makes of them."""
        paths, kwargs = write(tmp_path, kind)
        masks = mask_set()
        ccds = [CCDData.read(path, **kwargs) for path in paths]
        expected = CRCombiner(ccds, masks).meancr_combine()
        for limit in (60_000, 16e9):
            result = combine(paths, crmasks=masks, mem_limit=limit, **kwargs)
            if kind == "named":
                # What only the primary header has is not lost.
                assert result.header.pop("TELESCOP") == "T"
            assert_same(result, expected)

    def test_opened_once(self, tmp_path, monkeypatch):
        """Each compressed file is unpacked once, however many tiles there are."""
        paths, _ = write(tmp_path, "gz")
        opened, original = [], type(tmp_path).open

        def open_path(path, *args, **kwargs):
            opened.append(path)
            return original(path, *args, **kwargs)

        monkeypatch.setattr(type(tmp_path), "open", open_path)
        seen = heights(monkeypatch)
        combine(paths, crmasks=mask_set(), mem_limit=60_000)
        assert [path for path in opened if path in paths] == paths
        assert len(seen[0]) > 2

    @pytest.mark.parametrize("suffix", [".fits", ".fits.gz", ".fits.bz2"])
    def test_output(self, tmp_path, suffix):
        """The file is whole, with checksums, whatever its suffix."""
        path = tmp_path / f"out{suffix}"
        result = combine(exposures(), path, crmasks=mask_set(), mem_limit=15_000)
        with fits.open(path, checksum=True) as hdus:
            assert [hdu.name for hdu in hdus] == ["PRIMARY", "MASK", "UNCERT", "NUSED"]
            assert_array_equal(hdus[0].data, result.data)
            assert_array_equal(hdus["MASK"].data, result.mask)
            assert_array_equal(hdus["UNCERT"].data, result.uncertainty.array)
            number = CRCombiner(exposures(), mask_set()).exposure_map("meancr")
            assert_array_equal(hdus["NUSED"].data, number)

    def test_no_image(self, tmp_path):
        """A file without an image is refused by name."""
        fits.PrimaryHDU().writeto(tmp_path / "empty.fits")
        with pytest.raises(ValueError, match=r"empty\.fits has no image in any"):
            combine([tmp_path / "empty.fits"] * N, crmasks=mask_set())

    def test_bad_unit(self, tmp_path):
        """So is a unit that is none."""
        paths, _ = write(tmp_path, "plain")
        fits.setval(paths[2], "BUNIT", value="adx")
        with pytest.raises(ValueError, match=r"exp2\.fits has BUNIT = 'adx', which"):
            combine(paths, crmasks=mask_set())

    def test_mask_of_another_shape(self, tmp_path):
        """So is a mask that does not fit."""
        paths, _ = write(tmp_path, "plain")
        with fits.open(paths[1], mode="update") as hdus:
            hdus["MASK"].data = np.zeros((2, 3), np.uint8)
        with pytest.raises(ValueError, match=r"of exp1.fits must have .* got \(2, 3\)"):
            combine(paths, crmasks=mask_set())


class TestMasksInFile:
    """Files of masks, by rows."""

    @pytest.fixture(name="path")
    def fixture_path(self, tmp_path):
        """Return a file of masks."""
        mask_set().write(tmp_path / "crmasks.fits")
        return tmp_path / "crmasks.fits"

    @pytest.mark.parametrize("packed", [False, True])
    def test_same(self, path, packed):
        """Read in parts they are the same as read at once."""
        if packed:
            path.write_bytes(gzip.compress(path.read_bytes()))
        for method in METHODS:
            options = {"method": method, "use_lamedian": True}
            whole = combine(exposures(), crmasks=mask_set(), **options)
            tiled = combine(exposures(), crmasks=path, mem_limit=60_000, **options)
            assert_same(tiled, whole)

    def open(self, path):
        """Open it in parts."""
        from contextlib import ExitStack  # noqa: PLC0415

        with ExitStack() as stack:
            masks = open_masks(stack, path, 0)
            assert type(masks).__name__ == "MasksInFile"
            return masks[3:9], len(masks), masks.uuid

    def test_rows(self, path):
        """Some rows, and what is the same for all."""
        rows, n, uuid = self.open(path)
        expected = CRMaskSet.read(path)[3:9]
        assert_array_equal(rows.crmasks, expected.crmasks)
        assert_array_equal(rows.lamedian, expected.lamedian)
        assert (rows.gain, rows.readnoise, n, uuid) == (2.0, 5.0, N, "this one")

    @pytest.mark.parametrize(
        ("place", "message"),
        [
            ("data", "with correct checksums: Datasum verification failed for HDU"),
            ("header", "with correct checksums: Checksum verification failed for HDU"),
        ],
    )
    def test_damaged(self, path, place, message):
        """A wrong checksum is found."""
        content = bytearray(path.read_bytes())
        at = content.index(b"CRMASK2")
        at = at - at % 2880 + (2880 + 100 if place == "data" else 0)
        if place == "header":
            at = content.index(b"number of masked pixels", at)
        content[at] ^= 1
        path.write_bytes(content)
        with pytest.raises(CRMasksFileError, match=message):
            self.open(path)

    @pytest.mark.parametrize(
        ("names", "shape", "message"),
        [
            ((), (), "is not a file of masks, which has the extensions MEDIANCR"),
            (("MEDIANCR",), (2, 3, 4), r"data of shape \(2, 3, 4\), expected an image"),
        ],
    )
    def test_no_masks(self, path, names, shape, message):
        """Other extensions, and images of other dimensions."""
        hdus = [fits.ImageHDU(np.zeros(shape, "u1"), name=name) for name in names]
        primary = fits.PrimaryHDU()
        primary.header["UUID"] = "this one"
        fits.HDUList([primary, *hdus]).writeto(path, overwrite=True)
        with pytest.raises(CRMasksFileError, match=message):
            self.open(path)

    def test_no_file(self):
        """Neither masks nor a name."""
        with pytest.raises(
            TypeError, match="crmasks must be a CRMaskSet or a file, got"
        ):
            self.open(5)

    def test_no_uuid(self, path):
        """A new one is made, and is the same for all rows."""
        fits.delval(path, "UUID")
        with fits.open(path, mode="update") as hdus:
            for hdu in hdus:
                for keyword in ("CHECKSUM", "DATASUM"):
                    hdu.header.remove(keyword, ignore_missing=True)
        with pytest.warns(MissingUUIDWarning) as record:
            rows, _, uuid = self.open(path)
        assert [w.category for w in record].count(MissingUUIDWarning) == 1
        assert rows.uuid == uuid

    @pytest.mark.parametrize(
        ("value", "found"),
        [
            (np.zeros((2, 3), np.uint8), r"shape \(2, 3\), expected \(37, 11\)"),
            (np.full(SHAPE, 2, np.uint8), "values from 2 to 2, expected only 0 and 1"),
        ],
    )
    def test_wrong(self, path, value, found):
        """An extension that does not fit is refused by name."""
        with fits.open(path, mode="update", checksum=True) as hdus:
            hdus["CRMASK2"].data = value
        with pytest.raises(CRMasksFileError, match=rf"CRMASK2\]: {found}"):
            self.open(path)


class TestLimit:
    """What is not enough."""

    def test_too_little(self):
        """The least that is needed is named, and is enough."""
        message = r"mem_limit must be at least (\d+) bytes, which one row of the 5 exp"
        with pytest.raises(ValueError, match=message) as caught:
            combine(exposures(), crmasks=mask_set(), mem_limit=100)
        least = int(str(caught.value).split()[5])
        with pytest.raises(ValueError, match=message):
            combine(exposures(), crmasks=mask_set(), mem_limit=least - 100)
        result = combine(exposures(), crmasks=mask_set(), mem_limit=least)
        assert_same(result, combine(exposures(), crmasks=mask_set()))

    def test_scale_function(self, tmp_path):
        """A function needs a whole image."""
        paths, _ = write(tmp_path, "plain")
        message = "mem_limit must be at least 3256 bytes for a function as scale"
        with pytest.raises(ValueError, match=message):
            combine(paths, crmasks=mask_set(), mem_limit=3000, scale=np.nanmean)


PEAK = """
import sys
import numpy as np
from ccdcr import combine
*names, masks, output, limit = sys.argv[1:]
combine(names, output, crmasks=masks, mem_limit=float(limit))
with open("/proc/self/status") as file:
    print(next(line.split()[1] for line in file if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["plain", "gz"])
def test_peak(tmp_path, kind):
    """Resident memory is at most the limit and 150 MB; files of 52 MB need 270."""
    shape, limit = (500, 2000), 20e6
    rng = np.random.default_rng(1)
    names = []
    for i in range(4):
        ccd = CCDData(
            rng.normal(100, 10, shape).astype(np.float32),
            unit="adu",
            mask=rng.random(shape) < 0.01,
            uncertainty=StdDevUncertainty(np.full(shape, 10.0)),
        )
        names.append(tmp_path / f"exp{i}.fits")
        ccd.write(names[-1])
        if kind == "gz":
            content = gzip.compress(names[-1].read_bytes(), compresslevel=1)
            names[-1].write_bytes(content)
    crmasks = rng.random((4, *shape)) < 0.01
    CRMaskSet(crmasks.sum(axis=0) > 2, crmasks.any(axis=0), crmasks).write(
        tmp_path / "crmasks.fits"
    )
    files = [*names, tmp_path / "crmasks.fits", tmp_path / "out.fits"]
    result = subprocess.run(
        [sys.executable, "-c", PEAK, *map(str, files), str(limit)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(result.stdout) * 1024 <= limit + 150e6
    whole = combine(names, crmasks=tmp_path / "crmasks.fits")
    with fits.open(tmp_path / "out.fits") as hdus:
        assert_array_equal(hdus[0].data, whole.data)
        assert_array_equal(hdus["UNCERT"].data, whole.uncertainty.array)
