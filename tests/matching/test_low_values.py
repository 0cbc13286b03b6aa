# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Values that are low in few exposures, and are no hits of all the others."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import Column, Table
from numpy.testing import assert_allclose, assert_array_equal

from ccdcr import (
    CRCombiner,
    CRMaskSet,
    CRMasksFileError,
    combine,
    detect_cosmic_rays,
    explain_pixel,
)
from ccdcr.masks.diagnostics import LOW
from ccdcr.matching.frames import Frames, Noise
from ccdcr.matching.likelihoods import LowPriors, Sample, cut_likelihoods
from ccdcr.matching.match import Options, find_hits
from ccdcr.simulation import simulate_exposures

READNOISE = 4.0
PLACES = [(40, 50), (90, 30), (20, 85), (70, 75)]
METHODS = ("mediancr", "meancrt", "meancr")


def exposures(n, sky=1000.0, seed=1, shape=(120, 120)):
    """Return exposures of a flat sky in electrons, (n, ny, nx)."""
    rng = np.random.default_rng(seed)
    data = rng.poisson(sky, (n, *shape)) + rng.normal(0, READNOISE, (n, *shape))
    return data.astype(np.float32)


def ccds_of(data):
    """Return exposures as CCDData."""
    return [CCDData(plane, unit="electron") for plane in data]


def detect(data, **options):
    """Detect with the right noise."""
    return detect_cosmic_rays(ccds_of(data), readnoise=READNOISE, **options)


def lowered(n, number, sigmas, size=1, seed=1):
    """Return exposures of which some are low in a few spots, and the spots."""
    data = exposures(n, seed=seed)
    clean, low = data.copy(), np.zeros(data.shape, dtype=bool)
    for y, x in PLACES:
        low[:number, y : y + size, x : x + size] = True
    data[low] -= min(sigmas * np.sqrt(1000 + READNOISE**2), 1000)
    return data, clean, low


class TestFlat:
    """Spots in a flat sky, of all sizes and depths."""

    @pytest.mark.parametrize(
        ("n", "number"), [(3, 1), (4, 1), (5, 1), (5, 2), (7, 3), (9, 1), (18, 6)]
    )
    @pytest.mark.parametrize("sigmas", [10, 32])
    def test_value(self, n, number, sigmas):
        """The value is that of the clean exposures, by each method."""
        data, clean, low = lowered(n, number, sigmas, seed=n)
        masks = detect(data)
        assert masks.low is not None
        assert masks.low[low].all()
        assert (masks.low & ~low).sum() <= 1
        spots = low.any(axis=0)
        assert not masks.mediancr[spots].any()
        assert masks.meancrt[spots].all()
        sigma = np.sqrt(1016 / (n - number))
        for method in METHODS:
            value = combine(ccds_of(data), method=method, crmasks=masks).data[spots]
            # The median is noisier than the mean by up to 1.25.
            assert np.abs(value - 1000).max() < 4 * 1.25 * sigma
            expected = np.mean(clean[number:][:, spots], axis=0)
            assert np.abs(value - expected).max() < 3 * sigma

    @pytest.mark.parametrize("size", [2, 6])
    def test_groups(self, size):
        """A larger spot is low in all of its pixels."""
        data, _, low = lowered(3, 1, 15, size=size)
        found = detect(data).low
        assert (found & low).sum() >= 0.99 * low.sum()
        assert (found & ~low).sum() <= 1

    def test_two(self):
        """Of two exposures the pixels around tell which one is wrong."""
        data, _, low = lowered(2, 1, 20)
        masks = detect(data)
        assert masks.low[low].all()
        assert not masks.crmasks[1].any()

    def test_with_a_hit(self):
        """One exposure may be low, and another one hit."""
        data, _, low = lowered(5, 1, 20)
        data[3, *np.transpose(PLACES)] += 3000
        masks = detect(data)
        assert masks.low[low].all()
        assert masks.crmasks[3, *np.transpose(PLACES)].all()
        assert not masks.mediancr.any()

    def test_nothing(self):
        """Nothing is low in noise."""
        assert detect(exposures(4)).low is None


class TestCoincidences:
    """Hits of a majority are no low values."""

    @pytest.mark.parametrize("n", [3, 5])
    @pytest.mark.parametrize("scene", ["fibres", "stars", "longslit"])
    def test_scenes(self, scene, n):
        """Coincidences are found as before, and few other pixels are low."""
        sim = simulate_exposures(
            (256, 256),
            scene=scene,
            n_exposures=n,
            cr_rate=2.0,
            flux=np.linspace(0.95, 1.05, n).tolist(),
            seed=11,
        )
        data = np.stack([ccd.data for ccd in sim.exposures]).astype(np.float32)
        frames = Frames.from_arrays(
            data, Noise.from_detector(n, sim.gain, sim.readnoise)
        )
        found = find_hits(frames, Options())
        hit, low = sim.coincidences(5), found.matched.frames.low
        assert (found.coincident & hit).sum() >= 0.98 * hit.sum()
        if low is not None:
            assert not (low.any(axis=0) & hit).any()
            assert low.sum() <= 3

    def test_same_charge(self):
        """Tracks that cross with one charge are two hits: each goes on alone."""
        data, rng = exposures(3, sky=200.0), np.random.default_rng(2)
        for plane in data:
            for y, x in rng.integers(2, 110, (60, 2)):
                plane[y : y + rng.integers(1, 4), x : x + 2] += rng.uniform(100, 3000)
        y, x = np.transpose(PLACES)
        data[:, y, x] = 200
        for k in range(4):
            data[0, y, x + k] = 600
            data[1, y + k, x] = 600
        masks = detect(data)
        assert masks.low is None
        assert masks.mediancr[y, x].all()


class TestLikelihoods:
    """The likelihoods of one pixel, computed by hand."""

    priors = LowPriors(hit_rate=1e-3, charges=np.full(20, 0.1), alone=0.1, astray=1e-3)

    def sample(self, values, spread=1e9):
        """Return a pixel of unit noise whose surroundings tell little."""
        values = np.array(values, dtype=float)[:, np.newaxis]
        order = np.argsort(values, axis=0)
        noise = Noise(
            np.ones(len(values), np.float32), np.zeros(len(values), np.float32)
        )
        one = np.ones(1)
        return Sample(
            np.take_along_axis(values, order, axis=0),
            order,
            np.array([len(values)]),
            noise,
            0 * one,
            100 * one,
            spread * one,
            0 * one,
            1.0,
        )

    def test_gain(self):
        """Agreement of two against two charges, without what is around."""
        low, clean, gain = cut_likelihoods(self.sample([100, 101, 80]), self.priors)
        assert_array_equal(low[:, 0], [False, False, True])
        assert_array_equal(clean[:, 0], [True, True, False])
        # Densities of values: of a Gaussian pair whose mean is free, of a depth
        # that is uniform in its logarithm, and of two charges.
        pair = -(0.5**2) - np.log(4 * np.pi) / 2
        depth = -np.log(20.5) - np.log(np.log(1e4))
        charges = 2 * np.log(0.1) - np.log(20) - np.log(21)
        assert_allclose(gain, pair + depth - charges, atol=1e-3)

    def test_around(self):
        """What is around decides about ties."""
        for middle, low in ((100, [False, True]), (50, [False, False])):
            sample = self.sample([100, 50], spread=1.0)
            sample.middle[:] = middle
            found, _, gain = cut_likelihoods(sample, self.priors)
            assert (gain[0] > 0) == any(low)
            assert_array_equal(found[:, 0], [False, True])


@pytest.fixture(scope="module")
def case():
    """Exposures with low values, and their masks."""
    data, _, low = lowered(3, 1, 25)
    return data, detect(data), low


class TestMaskSet:
    """Low values in a mask set and its file."""

    def test_origin(self, case):
        """They have an origin and a row of the summary of their own."""
        data, masks, low = case
        flags = masks.diagnostics.flags
        assert (flags["CRMASK1"][low[0]] == LOW).all()
        assert (flags["MEANCRT"][low[0]] == LOW).all()
        summary = masks.summary()
        row = list(summary["mask"]).index("LOW")
        assert summary["pixels"][row] == len(PLACES)
        assert summary["pixels"][list(summary["mask"]).index("COINCIDENT")] == 0
        y, x = PLACES[0]
        table = explain_pixel(ccds_of(data), masks, x + 1, y + 1)
        assert "in CRMASK1: low value" in table["verdict"]
        assert any("low, and not all others hit" in text for text in table["verdict"])

    def test_file(self, case, tmp_path):
        """They are a table of the file, which is read back."""
        _, masks, low = case
        masks.write(tmp_path / "crmasks.fits")
        with fits.open(tmp_path / "crmasks.fits") as hdulist:
            table = hdulist["LOW"].data
            assert table.names == ["EXPOSURE", "X", "Y"]
            rows = sorted(zip(table["EXPOSURE"], table["X"], table["Y"], strict=True))
        assert rows == sorted((1, x + 1, y + 1) for y, x in PLACES)
        again = CRMaskSet.read(tmp_path / "crmasks.fits")
        assert again == masks
        assert_array_equal(again.low, low)

    def test_slices(self, case):
        """A part of the masks has a part of them."""
        _, masks, low = case
        assert_array_equal(masks[30:100, 20:80].low, low[:, 30:100, 20:80])
        assert masks[:10, :10].low is None

    def test_edit(self, case):
        """What is masked no more is used again."""
        _, masks, low = case
        y, x = PLACES[0]
        edited = masks.edit(remove=[[x + 1, y + 1]])
        assert not edited.low[0, y, x]
        assert edited.low.sum() == low.sum() - 1

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ([[1, 2]], "low_values must be rows of three integers"),
            ([[4, 1, 1]], "EXPOSURE of low_values must be from 1 to 3"),
            ([[1, 0, 1]], "X of low_values must be from 1 to 5"),
            ([[1, 2, 3]], "low_values must be masked in their exposure"),
        ],
    )
    def test_wrong(self, rows, message):
        """Rows that do not fit are refused."""
        masks = np.zeros((3, 4, 5), dtype=bool)
        masks[0, 0, 0] = True
        with pytest.raises(ValueError, match=message):
            CRMaskSet(masks[0], masks[0], masks, low_values=rows)

    def test_add_at_low(self):
        """An exposure that is low there is not the lowest one that stays unmasked."""
        crmasks = np.zeros((3, 4, 5), dtype=bool)
        crmasks[0, 1, 2] = True
        masks = CRMaskSet(crmasks[1], crmasks[0], crmasks, low_values=[[1, 3, 2]])
        data = np.full((3, 4, 5), 1000.0)
        data[:, 1, 2] = 400, 1050, 1004
        edited = masks.edit(add=[[3, 2]], ccds=ccds_of(data))
        assert edited.crmasks[:, 1, 2].tolist() == [True, True, False]

    def test_wrong_columns(self, case):
        """A table of other types is refused."""
        hdulist = case[1].to_hdulist()
        table = hdulist["LOW"]
        table.data["X"][0] = 9999
        with pytest.raises(CRMasksFileError, match="X of low_values must be from 1"):
            CRMaskSet.from_hdulist(hdulist)
        table = Table(table.data)
        table.replace_column("X", Column(np.full(len(table), 1.5)))
        hdulist["LOW"] = fits.BinTableHDU(table, name="LOW")
        with pytest.raises(CRMasksFileError, match="other columns than of integers"):
            CRMaskSet.from_hdulist(hdulist)

    @pytest.mark.parametrize("method", METHODS)
    def test_combination(self, case, method, tmp_path):
        """Arrays and tiles of files give the same, and no low value."""
        data, masks, low = case
        paths = [tmp_path / f"e{i}.fits" for i in range(3)]
        for path, ccd in zip(paths, ccds_of(data), strict=True):
            ccd.write(path)
        masks.write(tmp_path / "crmasks.fits")
        given = {"use_expected": False}
        whole = getattr(CRCombiner(ccds_of(data), masks), f"{method}_combine")(**given)
        given |= {"crmasks": tmp_path / "crmasks.fits", "mem_limit": 4e5}
        tiles = combine(paths, method=method, **given)
        assert_array_equal(tiles.data, whole.data)
        spots = low.any(axis=0)
        assert_allclose(tiles.data[spots], data[1:, spots].mean(axis=0), rtol=1e-6)
        number = CRCombiner(ccds_of(data), masks).exposure_map("meancr")
        assert (number[spots] == 2).all()
