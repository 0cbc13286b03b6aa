# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of combinations in which expected values replace masked ones."""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import Table
from numpy.testing import assert_allclose, assert_array_equal

from ccdcr import CRCombiner, CRMaskSet, combine, detect_cosmic_rays
from ccdcr.simulation import simulate_exposures

METHODS = ("mediancr", "meancrt", "meancr", "meancr2")


def make_table(rows, unit=u.adu):
    """Return a table of rows EXPOSURE, X, Y, VALUE, SIGMA."""
    names = ("EXPOSURE", "X", "Y", "VALUE", "SIGMA")
    table = Table(rows=rows, names=names) if rows else Table(names=names)
    for name in names[:3]:
        table[name] = table[name].astype(int)
    table["VALUE"].unit = table["SIGMA"].unit = unit
    return table


def case(values, flagged, expected, *, unit="adu", **more):
    """
    Return exposures of one row and their mask set.

    ``values`` and ``flagged`` are (pixels, n), ``expected`` (pixels, n) pairs of value
    and sigma or None.
    """
    data, hit = np.transpose(values).astype(float), np.transpose(flagged).astype(bool)
    rows = [
        (i + 1, x + 1, 1, *pair)
        for x, pairs in enumerate(expected)
        for i, pair in enumerate(pairs)
        if pair is not None
    ]
    ccds = [CCDData(plane[np.newaxis], unit=unit) for plane in data]
    number = hit.sum(axis=0)
    masks = CRMaskSet(
        (2 * number > len(data))[np.newaxis],
        (number > 0)[np.newaxis],
        hit[:, np.newaxis],
        meancr=(number == len(data))[np.newaxis],
        expected=make_table(rows, more.pop("table_unit", u.adu)),
        **({"gain": 1.0, "readnoise": 0.0} | more),
    )
    return ccds, masks


HIT = [[100, 104, 999], [90, 999, 999], [50, 51, 52], [999, 998, 997]]
FLAGGED = [[0, 0, 1], [0, 1, 1], [0, 0, 0], [1, 1, 1]]
PAIRS = [
    [None, None, (111, 7)],
    [None, (95, 9.5), (100, 9.5)],
    [None] * 3,
    [None] * 3,
]


class TestValues:
    """Values by hand."""

    def test_mean(self):
        """The mean of measured and expected values; the minimum where none is clean."""
        ccds, masks = case(HIT, FLAGGED, PAIRS)
        for method in ("meancr", "meancr2"):
            result = getattr(CRCombiner(ccds, masks), f"{method}_combine")()
            assert_allclose(result.data[0], [105, 95, 51, 997])
            assert result.header["CREXPECT"] is True

    def test_median(self):
        """The median of measured and expected values, where MEDIANCR is set, too."""
        ccds, masks = case(HIT, FLAGGED, PAIRS)
        combiner = CRCombiner(ccds, masks)
        assert_allclose(combiner.mediancr_combine().data[0], [104, 95, 51, 997])
        assert_allclose(combiner.meancrt_combine().data[0], [104, 95, 51, 997])
        assert combiner.mediancr_combine().header["CRNREPL"] == 1
        assert combiner.meancrt_combine().header["CRNREPL"] == 3

    def test_numbers(self):
        """Only measured values are counted."""
        combiner = CRCombiner(*case(HIT, FLAGGED, PAIRS))
        for method in METHODS:
            assert combiner.exposure_map(method).tolist() == [[2, 1, 3, 1]]
        found = combiner.exposure_map("mediancr", use_expected=False)
        assert found.tolist() == [[3, 1, 3, 1]]

    def test_weights(self):
        """Weights are those of the exposures, measured or not."""
        ccds, masks = case(HIT, FLAGGED, PAIRS)
        combiner = CRCombiner(ccds, masks)
        combiner.weights = np.array([1.0, 2.0, 5.0])
        result = combiner.meancr_combine()
        assert_allclose(result.data[0, :2], [(100 + 208 + 555) / 8, (90 + 690) / 8])
        combiner.weights = np.array([0.0, 0.0, 1.0])
        result = combiner.meancr_combine()
        assert_allclose(result.data[0, :2], [111, 100])
        assert_allclose(result.uncertainty.array[0, :2], [7, 9.5])

    def test_scaling(self):
        """Expected values are scaled as their exposure."""
        ccds, masks = case(HIT, FLAGGED, PAIRS, flux_factor=[0.5, 1, 2])
        result = CRCombiner(ccds, masks).meancr_combine(apply_flux_factor=True)
        assert_allclose(result.data[0, 0], (200 + 104 + 55.5) / 3)

    def test_unit(self):
        """Values in adu are converted for exposures in electron."""
        ccds, masks = case(HIT, FLAGGED, PAIRS, unit="electron", gain=2.0)
        result = CRCombiner(ccds, masks).meancr_combine()
        assert_allclose(result.data[0, 0], (100 + 104 + 222) / 3)
        ccds, masks = case(HIT, FLAGGED, PAIRS, unit="electron", gain=None)
        with pytest.raises(ValueError, match="expected values are in adu and the exp"):
            CRCombiner(ccds, masks).meancr_combine()

    def test_median_with_few_flagged(self):
        """Where fewer are flagged than MEDIANCR says, hits are left: the minimum."""
        ccds, masks = case([[10, 50, 90, 20, 30]], [[0, 1, 0, 0, 0]], [[None] * 5])
        table = make_table([(2, 1, 1, 21, 3)])
        masks = CRMaskSet([[1]], [[1]], masks.crmasks, expected=table)
        combiner = CRCombiner(ccds, masks)
        result = combiner.mediancr_combine(uncertainty=None)
        assert result.data[0, 0] == 10
        masks = CRMaskSet([[0]], [[1]], masks.crmasks, expected=table)
        combiner = CRCombiner(ccds, masks)
        assert combiner.mediancr_combine(uncertainty=None).data[0, 0] == 21

    def test_bad(self):
        """A value that is masked by the user stays ignored, a low one is replaced."""
        ccds, masks = case(HIT, FLAGGED, PAIRS)
        ccds[2].mask = np.array([[True, False, False, False]])
        assert_allclose(CRCombiner(ccds, masks).meancr_combine().data[0, 0], 102)
        ccds, masks = case(HIT, FLAGGED, PAIRS, low_values=[[3, 1, 1]])
        assert_allclose(CRCombiner(ccds, masks).meancr_combine().data[0, 0], 105)
        off = CRCombiner(ccds, masks).meancr_combine(use_expected=False)
        assert_allclose(off.data[0, 0], 102)

    @pytest.mark.parametrize("method", ["meancr", "mediancr"])
    def test_clipped_member(self, method):
        """A clean value that is rejected does not come back in an expected value."""
        pair = [None] * 4 + [((100 + 102 + 104 + 900) / 4, 5)]
        values, flagged = [100, 102, 104, 900, 999], [0, 0, 0, 0, 1]
        combiner = CRCombiner(*case([values, values], [flagged] * 2, [pair] * 2))
        combiner.minmax_clipping(max_clip=500)
        result = getattr(combiner, f"{method}_combine")()
        assert_allclose(result.data[0], 102)

    def test_clipping(self):
        """Flagged values that would be clipped are replaced all the same."""
        ccds, masks = case(HIT, FLAGGED, PAIRS)
        combiner = CRCombiner(ccds, masks)
        combiner.minmax_clipping(max_clip=500)
        assert_allclose(combiner.meancr_combine().data[0, :3], [105, 95, 51])


class TestVariances:
    """Variances by hand."""

    def test_mean(self):
        """That of the clean mean, and of mismatch times the part of expected values."""
        ccds, masks = case(HIT, FLAGGED, PAIRS)
        sigma = CRCombiner(ccds, masks).meancr_combine().uncertainty.array[0]
        clean = (100 + 104) / 4
        # SIGMA is below the noise of the mean in the first pixel: pixels around helped
        first = clean / 9 * 4 + (2 * 2 / 9 + 1 / 9) * 49
        second = 90 + (2 / 3) ** 2 * (9.5**2 - 90)
        assert_allclose(sigma[:3] ** 2, [first, second, (50 + 51 + 52) / 9])

    @pytest.mark.parametrize("weights", [[1, 1, 1], [1, 2, 3], [0, 0, 1], [1, 0, 0]])
    @pytest.mark.parametrize("scaling", [[1, 1, 1], [1 / 9, 1 / 3, 1], [2, 0, 1]])
    def test_flux_scales(self, scaling, weights):
        """A value of 9 s is 9 / 4 times the sum of those of 3 s and 1 s."""
        flux, variance = np.array([9, 3, 1]), np.array([900, 300, 100])
        shares = np.eye(3)
        shares[0] = 0, 9 / 4, 9 / 4
        pairs = [[(900, np.sqrt((shares[0] ** 2 * variance).sum())), None, None]]
        ccds, masks = case([[5000, 300, 100]], [[1, 0, 0]], pairs, flux_factor=flux)
        for ccd, one in zip(ccds, variance, strict=True):
            ccd.uncertainty = StdDevUncertainty(np.full((1, 1), np.sqrt(one)))
        combiner = CRCombiner(ccds, masks)
        combiner.weights, combiner.scaling = np.array(weights, float), scaling
        result = combiner.meancr_combine(apply_flux_factor=False)
        factors = np.multiply(weights, scaling) @ shares / np.sum(weights)
        expected = (factors**2 * variance).sum()
        assert_allclose(result.uncertainty.array[0, 0] ** 2, expected)

    def test_truth(self):
        """Means and medians scatter as claimed where values are means of the clean."""
        rng = np.random.default_rng(1)
        pixels, n = 20_000, 5
        data = rng.normal(1000, 30, (n, 1, pixels))
        crmasks = np.zeros(data.shape, dtype=bool)
        crmasks[0] = crmasks[1, :, : pixels // 2] = True
        number = n - crmasks.sum(axis=0)
        mean = np.where(crmasks, 0, data).sum(axis=0) / number
        exposure, y, x = np.nonzero(crmasks)
        sigma = 30 / np.sqrt(number[y, x])
        rows = zip(exposure + 1, x + 1, y + 1, mean[y, x], sigma, strict=True)
        table = make_table(list(rows))
        data[crmasks] += 5000
        ccds = [
            CCDData(d, unit="adu", uncertainty=StdDevUncertainty(np.full_like(d, 30)))
            for d in data
        ]
        nothing = np.zeros((1, pixels), dtype=bool)
        masks = CRMaskSet(nothing, crmasks.any(axis=0), crmasks, expected=table)
        combiner = CRCombiner(ccds, masks)
        for method in ("mediancr", "meancrt", "meancr"):
            result = getattr(combiner, f"{method}_combine")()
            pull = (result.data - 1000) / result.uncertainty.array
            for part in (np.s_[:, : pixels // 2], np.s_[:, pixels // 2 :]):
                assert np.std(pull[part]) == pytest.approx(1, abs=0.02)

    def test_scatter(self):
        """The scatter is that of the measured values."""
        ccds, masks = case(HIT, FLAGGED, PAIRS)
        result = CRCombiner(ccds, masks).meancr_combine(uncertainty="scatter")
        scatter = 4 / 2  # of 100 and 104: their variance 4 over their number
        first = scatter + (49 - scatter) / 9
        assert_allclose(result.uncertainty.array[0, 0] ** 2, first)


@pytest.fixture(scope="module")
def detected():
    """Return exposures that differ, and their masks."""
    sim = simulate_exposures((120, 100), seed=2, flux=(0.9, 1, 1.1), scene="stars")
    return sim, detect_cosmic_rays(sim.exposures, gain=1.0, readnoise=3.0)


class TestUse:
    """When expected values are used, and what does not change."""

    @pytest.mark.parametrize("method", METHODS)
    def test_unhit_pixels(self, detected, method):
        """Pixels that are masked nowhere are the same, bit by bit."""
        sim, masks = detected
        function = getattr(CRCombiner(sim.exposures, masks), f"{method}_combine")
        with_, without = function(), function(use_expected=False)
        clean = ~masks.crmasks.any(axis=0)
        assert_array_equal(with_.data[clean], without.data[clean])
        for result in (with_, without):
            result.uncertainty.array[~clean] = 0
        assert_array_equal(with_.uncertainty.array, without.uncertainty.array)
        assert (with_.data != without.data)[~clean].mean() > 0.5
        assert not without.header["CREXPECT"]

    def test_without_table(self, detected):
        """A set without the table is combined as with use_expected=False."""
        sim, masks = detected
        plain = CRMaskSet(masks.mediancr, masks.meancrt, masks.crmasks)
        a = CRCombiner(sim.exposures, plain).meancr_combine(uncertainty=None)
        b = CRCombiner(sim.exposures, plain).meancr_combine(
            uncertainty=None, use_expected=False
        )
        assert_array_equal(a.data, b.data)
        assert "CREXPECT" not in a.header

    def test_refused(self, detected):
        """What cannot be done is an error."""
        sim, masks = detected
        plain = CRMaskSet(masks.mediancr, masks.meancrt, masks.crmasks)
        with pytest.raises(ValueError, match="use_expected=True needs expected values"):
            CRCombiner(sim.exposures, plain).meancr_combine(use_expected=True)
        with pytest.raises(ValueError, match="use_expected must be True, False or N"):
            CRCombiner(sim.exposures, masks).meancr_combine(use_expected="yes")
        with pytest.raises(ValueError, match="use_expected has no effect"):
            combine(sim.exposures, method="median", use_expected=True)

    @pytest.mark.parametrize("method", METHODS)
    def test_tiles(self, detected, method, tmp_path):
        """Tiles, masks in a file and clipping give the same bits as arrays."""
        sim, masks = detected
        masks.write(tmp_path / "m.fits")
        paths = []
        for i, ccd in enumerate(sim.exposures):
            paths.append(tmp_path / f"{i}.fits")
            ccd.write(paths[-1])
        combiner = CRCombiner(sim.exposures, masks)
        expected = getattr(combiner, f"{method}_combine")(apply_flux_factor=True)
        result = combine(
            paths,
            tmp_path / "c.fits",
            method,
            crmasks=tmp_path / "m.fits",
            apply_flux_factor=True,
            mem_limit=3e5,
        )
        assert_array_equal(result.data, expected.data)
        assert_array_equal(result.uncertainty.array, expected.uncertainty.array)
        assert result.header["CREXPECT"]
        number = CCDData.read(tmp_path / "c.fits", hdu="NUSED", unit="adu").data
        assert_array_equal(number, combiner.exposure_map(method))

    def test_dask(self, detected):
        """Arrays of dask give the same bits."""
        da = pytest.importorskip("dask.array")
        sim, masks = detected
        lazy = [
            CCDData(da.from_array(ccd.data, chunks=(30, 100)), unit="adu")
            for ccd in sim.exposures
        ]
        for method in METHODS:
            result = combine(lazy, method=method, crmasks=masks)
            expected = combine(sim.exposures, method=method, crmasks=masks)
            assert_array_equal(result.data, expected.data)
