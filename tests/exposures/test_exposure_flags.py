# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of flags of exposures: which mean bad, and their union."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, FlagCollection
from astropy.nddata.bitmask import bitfield_to_boolean_mask, extend_bit_flag_map
from numpy.testing import assert_array_equal

from ccdcr import (
    CRCombiner,
    CRMaskSet,
    ForeignMasksWarning,
    add_expected,
    check_equivalence,
    combine,
    detect_cosmic_rays,
)
from ccdcr.exposures import open_exposures
from ccdcr.simulation import simulate_exposures

SHAPE = (4, 5)
FLAGS = np.arange(20, dtype="i2").reshape(SHAPE)
OTHERS = np.where(FLAGS == 7, 64, 0).astype("u1")


def exposures(first=FLAGS, second=OTHERS):
    """Return two exposures with flags; one pixel of the first is masked already."""
    mask = np.zeros(SHAPE, bool)
    mask[0, 0] = True
    ccds = [CCDData(np.full(SHAPE, v), unit="adu", mask=mask) for v in (1.0, 3.0)]
    ccds[0].flags, ccds[1].flags, ccds[1].mask = first, second, None
    return ccds


def no_masks():
    """Return masks without any hit."""
    none = np.zeros((2, *SHAPE), bool)
    return CRMaskSet(none[0], none[0], none, gain=1.0, readnoise=3.0)


@pytest.fixture
def files(tmp_path):
    """Return files of the exposures, with flags in DQ and in FLAGS."""
    for name, ccd in zip(("DQ", "FLAGS"), exposures(), strict=True):
        flags, ccd.flags = ccd.flags, None
        hdus = ccd.to_hdu()
        hdus.append(fits.ImageHDU(flags, name=name))
        hdus.writeto(tmp_path / f"{name}.fits")
    return [tmp_path / "DQ.fits", tmp_path / "FLAGS.fits"]


@pytest.mark.parametrize(
    ("ignore", "names"),
    [
        (0, None),
        (3, None),
        ("~4,8", None),
        ("1+2", None),
        ([1, 16], None),
        ("~SATURATED|NO_DATA", "gemini"),
        ("~ODD", extend_bit_flag_map("Names", ODD=1)),
    ],
)
@pytest.mark.parametrize("dtype", ["i2", ">i4", "u1", "u8"])
def test_same_as_astropy(ignore, names, dtype):
    """The rule is that of astropy, for all types."""
    flags = FLAGS.astype(dtype)
    gemini = extend_bit_flag_map("Gemini", SATURATED=4, NO_DATA=16)
    expected = bitfield_to_boolean_mask(
        flags, ignore, flag_name_map=gemini if names == "gemini" else names
    )
    expected[0, 0] = True  # masked before
    options = {"ignore_flags": ignore, "flag_name_map": names}
    with open_exposures(exposures(flags), **options) as opened:
        assert_array_equal(opened[0].mask[:], expected)


def test_names():
    """The bits of the conventions."""
    for names, flag, bit in (
        ("hst", "CRREJ", 8192),
        ("hst", "CRDRIZ", 4096),
        ("jwst", "OUTLIER", 16),
        ("jwst", "DO_NOT_USE", 1),
        ("gemini", "COSMIC_RAY", 8),
        ("pypeit", "CR", 2),
        ("ccdcr", "ALL_HIT", 32),
    ):
        flags = np.zeros(SHAPE, "i4")
        flags[1, 1] = bit
        options = {"ignore_flags": f"~{flag}", "flag_name_map": names}
        with open_exposures(exposures(flags), **options) as opened:
            assert_array_equal(np.argwhere(opened[0].mask[:]), [[0, 0], [1, 1]])


def test_default():
    """Flags mask nothing unless that is asked for."""
    with open_exposures(exposures()) as opened:
        assert np.count_nonzero(opened[0].mask) == 1
        assert opened[1].mask is None


class TestCombined:
    """Combinations leave out what is flagged, and keep flags."""

    # 4 and 12 to 15 have bit 4, 8 to 15 bit 8; one of the second has bit 64.
    BAD = (FLAGS & 4) > 0

    def expected(self):
        """Return the mean of what is good."""
        bad = self.BAD.copy()
        bad[0, 0] = True
        return np.where(bad, 3.0, 2.0)

    @pytest.mark.parametrize("masks", [None, no_masks()])
    def test_arrays_and_files(self, masks, files):
        """The same from memory, files, and the combiner."""
        results = [
            combine(items, crmasks=masks, ignore_flags="~4")
            for items in (exposures(), files)
        ]
        if masks is not None:
            combiner = CRCombiner(exposures(), masks, ignore_flags="~4")
            results.append(combiner.meancr_combine())
        for combined in results:
            assert_array_equal(combined.data, self.expected())
            assert_array_equal(combined.flags, FLAGS | OTHERS)
            assert not combined.mask.any()

    @pytest.mark.parametrize("masks", [None, no_masks()])
    def test_dask(self, masks):
        """The same for arrays of dask."""
        da = pytest.importorskip("dask.array")
        ccds = exposures()
        for ccd in ccds:
            ccd.data = da.from_array(ccd.data, chunks=(2, 5))
            ccd._flags = da.from_array(ccd.flags, chunks=(2, 5))
        combined = combine(ccds, crmasks=masks, ignore_flags="~4")
        assert_array_equal(combined.data, self.expected())
        assert_array_equal(combined.flags, FLAGS | OTHERS)

    def test_caller_keeps(self):
        """The exposures of the caller do not change."""
        ccds = exposures()
        CRCombiner(ccds, no_masks(), ignore_flags=0)
        assert np.count_nonzero(ccds[0].mask) == 1
        assert ccds[1].mask is None

    def test_parent(self):
        """Methods of ccdproc leave the same out."""
        combiner = CRCombiner(exposures(), ignore_flags="~4")
        assert_array_equal(combiner.average_combine().data, self.expected())

    def test_written(self, files, tmp_path):
        """The union is written, as astropy >= 8 reads it."""
        path = tmp_path / "out.fits"
        combine(files, path, crmasks=no_masks())
        with fits.open(path, checksum=True) as hdus:
            assert [hdu.name for hdu in hdus][-2:] == ["NUSED", "FLAGS"]
            assert_array_equal(hdus["FLAGS"].data, FLAGS | OTHERS)
        with open_exposures([path]) as opened:
            assert_array_equal(opened[0].flags[:], FLAGS | OTHERS)

    @pytest.mark.parametrize("dtype", ["u2", "u4", "i8", "u8", bool])
    def test_types(self, dtype, tmp_path):
        """All types of integers can be written."""
        flags = (FLAGS % 2).astype(dtype)
        combine(exposures(flags, None), tmp_path / "out.fits")
        assert_array_equal(fits.getdata(tmp_path / "out.fits", "FLAGS"), flags)

    def test_collection(self, tmp_path):
        """Named flags are combined by name, and written as astropy does."""
        first, second = (FlagCollection(shape=SHAPE) for _ in range(2))
        first["hot"], second["hot"], second["odd"] = FLAGS & 1, FLAGS & 2, FLAGS & 4
        combined = combine(exposures(first, second), tmp_path / "out.fits")
        assert_array_equal(combined.flags["hot"], FLAGS & 3)
        assert_array_equal(combined.flags["odd"], FLAGS & 4)
        found = fits.getdata(tmp_path / "out.fits", "FLAGS_HOT")
        assert_array_equal(found, FLAGS & 3)

    def test_none(self):
        """No flags make no flags."""
        assert combine(exposures(None, None)).flags is None


def test_versions(tmp_path):
    """The DQ of the same version is that of an image."""
    hdus = fits.HDUList([fits.PrimaryHDU()])
    for version in (1, 2):
        header = fits.Header([("BUNIT", "adu")])
        image = np.full(SHAPE, float(version))
        hdus.append(fits.ImageHDU(image, header, name="SCI", ver=version))
        hdus.append(fits.ImageHDU(FLAGS * version, name="DQ", ver=version))
    hdus.writeto(tmp_path / "mef.fits")
    with open_exposures([tmp_path / "mef.fits"], extension=("SCI", 2)) as opened:
        assert_array_equal(opened[0].flags[:], FLAGS * 2)


def test_detection():
    """Flagged pixels are never detected."""
    rng = np.random.default_rng(3)
    ccds = [CCDData(rng.normal(100, 3, (64, 64)), unit="electron") for _ in range(3)]
    for ccd in ccds:
        ccd.flags = np.zeros(ccd.shape, "i2")
    ccds[0].data[20, 30], ccds[0].flags[20, 30] = 5000, 256
    ccds[0].data[40, 10], ccds[0].flags[40, 10] = 5000, 1
    options = {"readnoise": 3.0, "crmethod": "lacosmic", "la_verbose": False}
    flags = {"ignore_flags": "~SATURATED", "flag_name_map": "hst"}
    masks = detect_cosmic_rays(ccds, **options, **flags)
    assert not masks.crmasks[0, 20, 30]
    assert masks.crmasks[0, 40, 10]
    assert detect_cosmic_rays(ccds, **options).crmasks[0, 20, 30]


def test_matching():
    """Flagged pixels are masked where exposures are matched, too."""
    sim = simulate_exposures((64, 64), scene="fibres", seed=2)
    known = {"gain": 1.0, "readnoise": 3.0}
    expected, flagged = [], []
    for ccd in sim.exposures:
        bad = np.zeros(ccd.shape, bool)
        bad[20:40, 30:34] = True
        expected.append(CCDData(ccd.data, unit="adu", mask=bad))
        flagged.append(CCDData(ccd.data, unit="adu", flags=bad * np.int16(4)))
    reports = [
        check_equivalence(expected, **known),
        check_equivalence(flagged, **known, ignore_flags=0),
    ]
    for name in ("flux", "background"):
        assert_array_equal(reports[0].terms[name], reports[1].terms[name])
    masks = detect_cosmic_rays(expected, **known)._with(expected=None)
    tables = [
        add_expected(expected, masks).expected,
        add_expected(flagged, masks, ignore_flags=0).expected,
    ]
    assert_array_equal(tables[0]["VALUE"], tables[1]["VALUE"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ignore_flags": "hot"}, "ignore_flags must be None, an integer, or names"),
        (
            {"ignore_flags": "~HOTT", "flag_name_map": "hst"},
            "ignore_flags must be None",
        ),
        (
            {"ignore_flags": 0, "flag_name_map": "esa"},
            "flag_name_map must be one of ccd",
        ),
    ],
)
def test_refused(options, message):
    """Names that are not known, before any work."""
    with pytest.raises(ValueError, match=message):
        combine([], **options)


@pytest.mark.filterwarnings("ignore::ccdcr.exceptions.ImplausibleMaskWarning")
def test_recorded(tmp_path):
    """A mask set records bad flags, which all that uses its masks leaves out."""
    sim = simulate_exposures((64, 64), scene="fibres", seed=2)
    for ccd in sim.exposures:
        ccd.flags = np.zeros(ccd.shape, "u2")
    sim.exposures[1].data[:, 30:32], sim.exposures[1].flags[:, 30:32] = 30000, 4
    known = {"gain": 1.0, "readnoise": 3.0}
    masks = detect_cosmic_rays(sim.exposures, ignore_flags="~4", **known)
    assert masks.meta["BADFLAGS"] == 4
    masks.write(tmp_path / "masks.fits")
    masks = CRMaskSet.read(tmp_path / "masks.fits")
    later = CRCombiner(sim.exposures)
    later.crmasks = masks
    given = CRCombiner(sim.exposures, masks, ignore_flags="~4")
    expected = given.meancr_combine().data
    for combined in (
        combine(sim.exposures, crmasks=tmp_path / "masks.fits"),
        CRCombiner(sim.exposures, masks).meancr_combine(),
        later.meancr_combine(),
    ):
        assert combined.data.max() < 5000
        assert_array_equal(combined.data, expected)
    without = combine(sim.exposures, crmasks=masks, ignore_flags=-1)
    assert np.median(without.data[:, 30]) > 9000
    for copies in (masks.apply_to(sim.exposures), masks.clean(sim.exposures)):
        assert copies[1].mask[:, 30:32].all()
        assert not copies[0].mask[:, 30:32].any(axis=1).all()
    table = add_expected(sim.exposures, masks._with(expected=None)).expected
    assert np.nanmax(table["VALUE"]) < 5000
    assert sim.exposures[1].mask is None
    sim.exposures[1].flags = None
    with pytest.warns(ForeignMasksWarning, match="of exposure 2, .* ignore_flags=-1"):
        warned = combine(sim.exposures, crmasks=masks)
    silenced = combine(sim.exposures, crmasks=masks, ignore_flags=-1)
    assert_array_equal(silenced.data, warned.data)  # only exposure 2 has bad pixels
    copies[1].flags = None  # whose mask has them
    assert combine(copies, crmasks=masks).data.max() < 5000


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (None, "ignore_flags needs one image of flags, exposure 1 has no flags"),
        (FLAGS.astype(float), "flags of exposure 1 must be integers of shape"),
        (FLAGS[:2], "flags of exposure 1 must be integers of shape"),
        (FlagCollection(shape=SHAPE), "exposure 1 has a FlagCollection"),
    ],
)
def test_no_flags(flags, message):
    """Exposures without flags cannot be masked by them."""
    ccds = exposures(None)
    ccds[0]._flags = flags  # astropy checks shapes
    with pytest.raises(ValueError, match=message):
        combine(ccds, ignore_flags=0)
