# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the alignment of dithered exposures."""

import tracemalloc
from copy import copy, deepcopy

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, FlagCollection, StdDevUncertainty
from astropy.wcs import WCS, Sip
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

from ccdcr import (
    CRCombiner,
    CRMaskSet,
    MatchingFailedWarning,
    ObservingBlock,
    align_exposures,
    detect_cosmic_rays,
)
from ccdcr.cli import main
from ccdcr.exposures.registration import measure_registration
from ccdcr.simulation import simulate_exposures

SHAPE = (240, 260)
SHIFT = [(0, 0), (12.3, -7.6), (-6.8, 15.2)]
# Rounded so that all fractions that are left are within half a pixel.
WHOLE = np.array([(0, 0), (12, -8), (-7, 15)])


def dithered(shift=SHIFT, scene="stars", seed=1, **options):
    """Return a simulation whose hot pixels and bad column stay on the detector."""
    sim = simulate_exposures(
        SHAPE, n_exposures=len(shift), scene=scene, shift=shift, seed=seed, **options
    )
    rng = np.random.default_rng(seed)
    y, x = rng.integers(0, SHAPE, (100, 2)).T
    height = rng.lognormal(6, 1, 100)
    for ccd in sim.exposures:
        ccd.data[y, x] += height
        ccd.data[60:, 77:79] += 3000
    return sim


def sky_wcs(shift, *, angle=0.0, wrong=(0, 0), sip=False):
    """Return the WCS of an exposure whose scene is shifted."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = (
        ["RA---TAN-SIP", "DEC--TAN-SIP"] if sip else ["RA---TAN", "DEC--TAN"]
    )
    wcs.wcs.crval = 150.0, 2.0
    wcs.wcs.crpix = np.array([120.0, 110.0]) + shift + wrong
    c, s = np.cos(np.deg2rad(30 + angle)), np.sin(np.deg2rad(30 + angle))
    wcs.wcs.cd = 1e-4 * np.array([[-c, s], [s, c]])
    if sip:
        a = np.zeros((3, 3))
        a[2, 0] = 1e-6
        wcs.sip = Sip(a, a.T, np.zeros((3, 3)), np.zeros((3, 3)), wcs.wcs.crpix)
    return wcs


def with_wcs(sim, **options):
    """Return the exposures with a WCS each."""
    ccds = sim.exposures
    for ccd, shift in zip(ccds, sim.shift, strict=True):
        ccd.wcs = sky_wcs(shift, **options)
    return ccds


def places_of(aligned):
    """Return the places of the exposures, relative to the first."""
    places = np.array([(c.header["ALIGNX"], c.header["ALIGNY"]) for c in aligned])
    return places - places[0]


class TestOffsets:
    """Offsets are measured, from the WCS or given."""

    @pytest.mark.parametrize("offsets", ["measure", "wcs", "wcs+measure", SHIFT])
    def test_ways(self, offsets):
        """All ways agree."""
        ccds = with_wcs(dithered(), sip=True)
        found = places_of(align_exposures(ccds, offsets))
        assert_array_equal(found, -WHOLE)

    def test_wrong_wcs(self):
        """A WCS that is wrong by tens of pixels is refined."""
        sim = dithered()
        ccds = with_wcs(sim)
        ccds[1].wcs.wcs.crpix += (35, -28)
        assert_array_equal(places_of(align_exposures(ccds, "wcs+measure")), -WHOLE)

    def test_one_axis(self):
        """Along the slit only."""
        shift = [(0, 0), (0, 21.2)]
        ccds = dithered(shift, "longslit").exposures
        aligned = align_exposures(ccds, "measure y")
        assert_array_equal(places_of(aligned)[1], (0, -21))
        assert aligned[0].shape == (SHAPE[0] + 21, SHAPE[1])


class TestMove:
    """All parts of an exposure are moved."""

    def test_parts(self):
        """Data, mask, uncertainty, flags and WCS; integers stay integers."""
        rng = np.random.default_rng(2)
        ccds = [
            CCDData(
                rng.integers(0, 9, (5, 6)).astype(np.int16),
                unit="adu",
                mask=rng.random((5, 6)) < 0.2,
                uncertainty=StdDevUncertainty(rng.random((5, 6))),
                wcs=sky_wcs((0, 0), sip=True),
                meta={"CRPIX1": 3.0},
            )
            for _ in range(2)
        ]
        ccds[0].flags = FlagCollection(shape=(5, 6))
        ccds[0].flags["hot"] = ccds[1].flags = np.arange(30).reshape(5, 6)
        before = [ccd.copy() for ccd in ccds]
        aligned = align_exposures(ccds, [(0, 0), (-2, 1)])
        assert [ccd.shape for ccd in aligned] == [(6, 8), (6, 8)]
        first, second = np.s_[1:6, 0:6], np.s_[0:5, 2:8]
        for ccd, old, part in zip(aligned, before, (first, second), strict=True):
            outside = np.ones((6, 8), dtype=bool)
            outside[part] = False
            assert ccd.data.dtype == np.int16
            assert ccd.mask[outside].all()
            assert_array_equal(ccd.data[part], old.data)
            assert_array_equal(ccd.mask[part], old.mask)
            assert_array_equal(ccd.uncertainty.array[part], old.uncertainty.array)
            y, x = part[0].start, part[1].start
            sky = old.wcs.pixel_to_world(2.0, 3.0)
            assert_allclose(ccd.wcs.world_to_pixel(sky), (2 + x, 3 + y), atol=1e-6)
            assert ccd.header["CRPIX1"] == 3 + x
        assert_array_equal(aligned[0].flags["hot"][first], ccds[1].flags)
        assert aligned[0].flags.shape == (6, 8)
        assert_array_equal(aligned[1].flags[second], ccds[1].flags)
        assert_array_equal(ccds[0].data, before[0].data)

    def test_lazy(self):
        """Arrays are padded when they are used, not before."""
        ccds = [CCDData(np.ones((400, 300)), unit="adu") for _ in range(2)]
        tracemalloc.start()
        aligned = align_exposures(ccds, [(0, 0), (3, 5)])
        assert tracemalloc.get_traced_memory()[0] < ccds[0].data.nbytes / 2
        tracemalloc.stop()
        first = np.pad(ccds[0].data, ((5, 0), (3, 0)), constant_values=np.nan)
        for same in (deepcopy(aligned[0]), aligned[0].copy(), aligned[0][:, :]):
            assert_array_equal(same.data, first)
            assert_array_equal(same.mask, np.isnan(first))
            assert same.shape == first.shape
        aligned[1].data = first
        aligned[1].mask = None
        assert aligned[1].data is first
        assert aligned[1].mask is None
        assert (ccds[0].data == 1).all()

    @pytest.mark.parametrize("name", ["a.fits", "a.fits.gz"])
    def test_files(self, tmp_path, monkeypatch, name):
        """Files are read when arrays are used; packed ones may be gone then."""
        mask = np.arange(30).reshape(5, 6) % 7 == 0
        ccd = CCDData(np.ones((5, 6)), unit="adu", mask=mask)
        ccd.uncertainty = StdDevUncertainty(np.full((5, 6), 2.0))
        ccd.write(tmp_path / name)
        monkeypatch.chdir(tmp_path)
        first, _ = align_exposures([name, name], [(0, 0), (-2, 1)])
        monkeypatch.chdir("/")
        if name.endswith("gz"):
            (tmp_path / name).unlink()
        assert first.data.dtype.isnative
        assert_array_equal(first.data[1:, :6], ccd.data)
        assert_array_equal(first.mask[1:, :6], mask)
        assert_array_equal(first.uncertainty.array[1:, :6], ccd.uncertainty.array)
        assert first.mask[0].all()


class TestRefused:
    """Errors name the exposure and the remedy."""

    def test_options(self):
        """Wrong options."""
        ccds = dithered().exposures
        with pytest.raises(
            ValueError, match=r"must be one of measure, wcs, .* along one axis"
        ):
            align_exposures(ccds, "stars")
        with pytest.raises(ValueError, match=r"offsets must be 3 pairs \[dx, dy\]"):
            align_exposures(ccds, [(0, 0), (1, 2)])
        with pytest.raises(ValueError, match="axes must be 'xy', 'x' or 'y'"):
            align_exposures(ccds, axes="z")
        with pytest.raises(ValueError, match="axes must be 'xy', 'x' or 'y'"):
            align_exposures(ccds, axes=["y"])
        match = "offsets along x must be equal with axes='y', got 0, 4, 0; use axes"
        with pytest.raises(ValueError, match=match):
            align_exposures(ccds, [(0, 0), (4, 2), (0, 1)], axes="y")

    def test_rotated(self):
        """By the images and by the WCS."""
        ccds = dithered([(0, 0)] * 3, scene="fibres").exposures
        ccds[1].data = ndimage.rotate(ccds[1].data, 0.8, reshape=False, mode="nearest")
        match = r"not be rotated or scaled, exposure 2 by [23]\.\d\d pixels.*detect in"
        with pytest.raises(ValueError, match=match):
            align_exposures(ccds)
        for ccd, angle in zip(ccds, (0, 0.8, 0), strict=True):
            ccd.wcs = sky_wcs((0, 0), angle=angle)
        with pytest.raises(
            ValueError, match=r"scaled, exposure 2 by [23]\.\d\d pixels"
        ):
            align_exposures(ccds, "wcs")

    def test_no_wcs(self):
        """A WCS that is missing."""
        ccds = with_wcs(dithered())
        ccds[2] = CCDData(ccds[2].data, unit="adu")
        with pytest.raises(
            ValueError, match="celestial WCS, missing in exposure 3; use"
        ):
            align_exposures(ccds, "wcs")

    def test_no_structure(self):
        """Noise."""
        noise = np.random.default_rng(3).normal(100, 10, (2, 100, 100))
        ccds = [CCDData(plane, unit="adu") for plane in noise]
        match = "structure or overlap for exposure 2 along x and y; give"
        with pytest.raises(ValueError, match=match):
            align_exposures(ccds)

    def test_overlap(self):
        """An exposure beside the others."""
        ccds = dithered().exposures
        match = "overlap by 20% of their pixels, exposure 3 does by 6% at most; leave"
        with pytest.raises(ValueError, match=match):
            align_exposures(ccds, [(0, 0), (5, 5), (250, 0)])


class TestPadding:
    """Arrays that are padded when they are first used."""

    @pytest.fixture
    def aligned(self):
        """Return one of two exposures on their union."""
        ccds = [CCDData(np.ones(SHAPE), unit="adu") for _ in range(2)]
        return align_exposures(ccds, [(0, 0), (3, 2)])[0]

    def test_copy(self, aligned):
        """What a shallow copy pads or replaces is its own."""
        other, shape = copy(aligned), (SHAPE[0] + 2, SHAPE[1] + 3)
        assert other.data.shape == other.mask.shape == shape
        other = copy(aligned)
        other.mask = None
        assert aligned.mask.shape == aligned.data.shape == shape
        assert np.count_nonzero(~aligned.mask) == np.prod(SHAPE)

    def test_error(self, aligned, monkeypatch):
        """An exposure that could not be padded is not taken for the original one."""
        with monkeypatch.context() as patch:
            patch.setattr("ccdcr.exposures.exposure_files.np.full", _no_memory)
            with pytest.raises(MemoryError):
                _ = aligned.data
        assert aligned.data.shape == aligned.shape != SHAPE

    def test_combiner(self):
        """A combiner that ignores flags leaves the exposures as they are."""
        sim = dithered([(0, 0), (3, 2)])
        aligned = align_exposures(sim.exposures, [(0, 0), (3, 2)])
        for ccd in aligned:
            ccd.flags = np.zeros(ccd.shape, dtype=np.uint8)
        nothing = np.zeros((2, *aligned[0].shape), bool)
        masks = CRMaskSet(nothing[0], nothing[0], nothing)
        CRCombiner(
            aligned, masks, ignore_flags=0, gain=1.0, readnoise=3.0
        ).meancr_combine()
        assert all(ccd.data.shape == ccd.mask.shape == masks.shape for ccd in aligned)


def _no_memory(*_args, **_options):
    raise MemoryError


class TestMasks:
    """Detection in aligned exposures, and the way back."""

    @pytest.fixture(scope="class")
    @classmethod
    def sim(cls):
        """Dithered exposures, on the detector."""
        return dithered(seeing=2.8, seed=4)

    @pytest.fixture(scope="class")
    @classmethod
    def masks(cls, sim):
        """Masks of the aligned exposures."""
        return detect_cosmic_rays(
            align_exposures(sim.exposures), gain=1.0, readnoise=3.0
        )

    @pytest.mark.filterwarnings("error")
    def test_recall(self, sim, masks):
        """Hits that two other exposures cover are found, little else is."""
        masked = masks.apply_to(sim.exposures)
        hits, found = sim.hits(), np.array([ccd.mask for ccd in masked])
        inside = np.s_[:, 30:-30, 30:-30]  # covered by all
        assert found[inside][hits[inside]].mean() > 0.99
        data = np.array([ccd.data for ccd in sim.exposures])
        changed = data - sim.expected - 4 * sim.noise > 0
        near = ndimage.maximum_filter(changed | (sim.cosmic_rays > 1), (1, 5, 5))
        assert np.count_nonzero(found[inside] & ~near[inside]) < 5

    def test_way_back(self, sim, masks, tmp_path):
        """A file keeps where exposures were; a part of the image does not."""
        masks.write(tmp_path / "masks.fits")
        read = CRMaskSet.read(tmp_path / "masks.fits")
        for old, new in zip(
            masks.apply_to(sim.exposures), read.apply_to(sim.exposures), strict=True
        ):
            assert_array_equal(old.mask, new.mask)
        with pytest.raises(ValueError, match="shape"):
            masks[:200, :200].apply_to(sim.exposures)

    def test_clean(self, sim, masks):
        """Cleaned exposures are on their own pixels."""
        cleaned = masks.clean(sim.exposures)
        masked = masks.apply_to(sim.exposures)
        for ccd, new, own in zip(sim.exposures, cleaned, masked, strict=True):
            assert new.shape == SHAPE
            assert "ALIGNX" not in new.header
            assert_array_equal(new.data[~own.mask], ccd.data[~own.mask])
            assert np.count_nonzero(new.flags) > 0

    def test_combine(self, sim, masks):
        """The combination is on the union."""
        aligned = align_exposures(sim.exposures)
        combined = CRCombiner(aligned, masks).meancr_combine()
        number = CRCombiner(aligned, masks).exposure_map()
        assert combined.shape == masks.shape == number.shape
        assert set(np.unique(number)) == {0, 1, 2, 3}
        assert combined.mask[number == 0].all()


def test_dead_columns():
    """Dead columns, which move against the sky, are told from a nod."""
    ccds = simulate_exposures(
        (200, 220), scene="stars", shift=[(0, 0), (12.3, -7.6)], n_exposures=2, seed=101
    ).exposures
    for ccd in ccds:
        ccd.data[:, [90, 150]] = 0
    aligned = align_exposures(ccds)
    with pytest.warns(MatchingFailedWarning, match="dead columns or rows"):
        detect_cosmic_rays(aligned, gain="GAIN", readnoise="RDNOISE")


class TestCommands:
    """The command line and observing blocks."""

    @pytest.mark.parametrize("how", ["option", "yaml"])
    def test_commands(self, tmp_path, monkeypatch, how):
        """Detection and combination; the combined image is on the union."""
        sim = dithered(seeing=2.8, seed=4)
        names = [f"r{i}.fits" for i in range(3)]
        for ccd, name in zip(sim.exposures, names, strict=True):
            ccd.write(tmp_path / name)
        monkeypatch.chdir(tmp_path)
        how_many = {"option": ["--align", "measure", *names], "yaml": ["block.yaml"]}
        (tmp_path / "block.yaml").write_text(
            f"id: a\nframes: {names}\nalign: {[list(map(float, s)) for s in SHIFT]}\n"
            "requirements: {crmethod: matched}\n"
        )
        assert main(["detect", *how_many[how]]) == 0
        assert (
            main(["combine", *names, "--crmasks", "crmasks.fits", "-o", "c.fits"]) == 0
        )
        with fits.open("c.fits") as hdus:
            assert (
                hdus[0].shape == hdus["NUSED"].shape == (SHAPE[0] + 23, SHAPE[1] + 19)
            )
            assert set(np.unique(hdus["NUSED"].data)) == {0, 1, 2, 3}

    def test_wrong(self):
        """A wrong kind is refused with the block."""
        with pytest.raises(TypeError, match="align must be measure, wcs, wcs"):
            ObservingBlock(frames=("a.fits",), align=3)


def test_fractions_left():
    """What alignment leaves is no reason for a warning, without it it would be."""
    shift = [(0.53, 0.52), (0, 0), (-0.53, -0.52)]
    data = [ccd.data for ccd in dithered(shift, seeing=2.6).exposures]
    found = measure_registration(data)
    assert not found.registered
    assert not found.is_fine()
    assert found.is_fine(np.zeros((3, 2)))


@pytest.mark.parametrize("angle", [0.001, 0.003])
def test_turned(angle):
    """The offset of slightly turned exposures is that of their middle."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    ys, xs = np.random.default_rng(1).uniform(5, 235, (2, 40))
    v, u = ys - (SHAPE[0] - 1) / 2, xs - (SHAPE[1] - 1) / 2
    images = [
        _stars(y, x, ys + dy, xs + dx)
        for dy, dx in ((0, 0), (5 - angle * u, 5 + angle * v))
    ]
    found = measure_registration(images, refine=True)
    assert_allclose(found.offsets[1], 5, atol=0.04)


def _stars(y, x, ys, xs):
    """Return an image of stars at places, brighter ones first, with noise."""
    image = np.full(y.shape, 100.0)
    for k, place in enumerate(zip(ys, xs, strict=True)):
        square = (y - place[0]) ** 2 + (x - place[1]) ** 2
        image += 4000 / (1 + k) * np.exp(-square / 4.5)
    return np.random.default_rng(2).poisson(image).astype(float)
