# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Tests of what makes a pixel a cosmic ray above the computed boundary.

Planes are worked out by hand or by a loop; the rest is judged by simulations of
which the truth is known.
"""

import numpy as np
import pytest
from astropy.nddata import CCDData
from numpy.testing import assert_array_equal

from ccdcr import detect_cosmic_rays
from ccdcr.exceptions import ImplausibleMaskWarning, NoiseModelWarning
from ccdcr.median_minimum.exact_statistics import (
    EqualExposures,
    compared_planes,
    find_rank,
    hit_fraction,
    lowest_used,
)
from ccdcr.median_minimum.noise_distribution import PhotonNoise
from ccdcr.utils.planes import make_planes

SHAPE = (128, 128)
SIGMA = 3.0


def ramp(low=20.0, high=3000.0, shape=SHAPE):
    """Return a scene of many signals in electrons."""
    return np.geomspace(low, high, shape[0] * shape[1]).reshape(shape)


def draw(level, n=3, seed=1, readnoise=SIGMA, factors=1.0):
    """Return exposures in electrons."""
    rng = np.random.default_rng(seed)
    factors = np.broadcast_to(factors, n)[:, np.newaxis, np.newaxis]
    photons = rng.poisson(level * factors, (n, *np.shape(level)))
    return photons + rng.normal(0, readnoise, photons.shape)


def detect(data, bad=None, **changes):
    """Return masks of exposures in electrons, by Median-Minimum without dilation."""
    masks = [None] * len(data) if bad is None else bad
    ccds = [
        CCDData(plane, unit="electron", mask=mask)
        for plane, mask in zip(data, masks, strict=True)
    ]
    options = {"crmethod": "mmcosmic", "dilation": 0, "readnoise": SIGMA} | changes
    return detect_cosmic_rays(ccds, **options)


class TestRank:
    """Which exposures are compared."""

    @pytest.mark.parametrize(
        ("n", "sought", "rank", "lowest"),
        [
            (2, 2, 2, 1),
            # Two of three hit: the second lowest is a hit, one is clean.
            (3, 2, 2, 1),
            (4, 2, 3, 2),
            (4, 3, 2, 1),
            # Two of five leave the median clean: three are looked for.
            (5, 2, 3, 2),
            (5, 3, 3, 2),
            (5, 4, 2, 1),
            (6, 2, 4, 2),
            (7, 2, 4, 2),
            (7, 5, 3, 2),
            (7, 6, 2, 1),
        ],
    )
    def test_by_hand(self, n, sought, rank, lowest):
        """By hand, from the number of exposures that must be clean."""
        assert find_rank(n, sought) == rank
        assert lowest_used(n, sought) == lowest
        assert lowest_used(n, sought, equal=False) == 1


class TestPlanes:
    """The planes that are compared."""

    def test_by_hand(self):
        """Five exposures of four pixels, of which some are bad."""
        stack = np.array(
            [[9, 9, 9, 9], [3, 3, 3, 3], [7, 7, 7, 7], [4, 4, 4, 4], [8, 8, 8, 8]],
            dtype=np.float32,
        ).reshape(5, 1, 4)
        bad = np.zeros(stack.shape, dtype=bool)
        bad[1, 0, 1] = True  # 4 7 8 9
        bad[:2, 0, 2] = True  # 4 7 8
        bad[1:, 0, 3] = True  # 9
        planes = compared_planes(stack, bad, make_planes(stack, bad), 2)
        assert planes.minimum.tolist() == [[3, 4, 4, 9]]
        assert planes.reference.tolist() == [[3.5, 5.5, 4, 9]]
        assert planes.ordered.tolist() == [[7, 8, 7, 9]]
        assert planes.highest.tolist() == [[9, 9, 8, 9]]
        assert planes.number.tolist() == [[5, 4, 3, 1]]
        unequal = compared_planes(stack, bad, make_planes(stack, bad), 2, equal=False)
        assert unequal.reference.tolist() == [[3, 4, 4, 9]]

    @pytest.mark.parametrize("with_bad", [False, True])
    @pytest.mark.parametrize(
        ("n", "sought"), [(3, 2), (4, 2), (4, 3), (5, 2), (5, 4), (7, 3)]
    )
    def test_loop(self, n, sought, with_bad):
        """Pixel by pixel, by sorting lists."""
        rng = np.random.default_rng(n)
        stack = rng.uniform(0, 100, (n, 12, 13)).astype(np.float32)
        bad = rng.random(stack.shape) < 0.2 if with_bad else None
        if with_bad:
            bad[0] &= ~bad[1:].all(axis=0)
        planes = compared_planes(stack, bad, make_planes(stack, bad), sought)
        for place in np.ndindex(12, 13):
            values = stack[(slice(None), *place)]
            good = sorted(values if bad is None else values[~bad[:, *place]])
            rank = find_rank(len(good), sought) if len(good) > 1 else 1
            two = len(good) > 1 and lowest_used(len(good), sought) == 2
            reference = (good[0] + good[1]) / np.float32(2) if two else good[0]
            assert planes.reference[place] == reference
            assert planes.ordered[place] == good[rank - 1]
            assert planes.highest[place] == good[-1]


class TestHitFraction:
    """The fraction of hit pixels."""

    @staticmethod
    def estimate(data, readnoise):
        """Return the estimate for exposures in electrons."""
        stack = data.astype(np.float32)
        compared = compared_planes(stack, None, make_planes(stack), 2)
        exposures = EqualExposures(PhotonNoise(readnoise), len(stack), 1.0)
        return hit_fraction(compared, exposures, None)

    @pytest.mark.parametrize("fraction", [0.001, 0.02])
    def test_hits(self, fraction):
        """Clear hits are counted, once in a pixel."""
        data = draw(ramp(shape=(300, 300)))
        hits = np.random.default_rng(5).random(data.shape) < fraction
        found = self.estimate(data + 1e4 * hits, SIGMA)
        assert found == pytest.approx(hits.any(axis=0).mean() / 3, rel=0.1)

    @pytest.mark.parametrize("readnoise", [0.5, 3.0])
    @pytest.mark.parametrize("level", [0.0, 2.0, 30.0, 1000.0])
    @pytest.mark.parametrize("n", [3, 5])
    def test_noise(self, n, level, readnoise):
        """Noise alone is no hit, not even of few photons and little read noise."""
        data = draw(np.full((300, 300), level), n, readnoise=readnoise)
        # Seven standard deviations of the noise between two exposures.
        assert self.estimate(data, readnoise) < 2e-4


class TestBadPixels:
    """Pixels that are masked in some of the exposures."""

    @staticmethod
    def masked(n, fraction=0.3, seed=4, shape=SHAPE):
        """Return random masks."""
        bad = np.random.default_rng(seed).random((n, *shape)) < fraction
        bad[:, 5, 5] = True
        return bad

    @pytest.mark.parametrize("factors", [None, (0.8, 1.0, 1.2, 0.9)])
    @pytest.mark.parametrize("value", [np.nan, 1e30])
    def test_no_influence(self, value, factors):
        """What is under a mask changes nothing."""
        data, bad = draw(ramp(), 4, factors=factors or 1.0), self.masked(4)
        hits = np.random.default_rng(6).random(data.shape) < 0.003
        data += 500 * hits
        settings = {"flux_factor": factors}
        usual = detect(np.where(bad, 0, data), bad, **settings)
        other = detect(np.where(bad, value, data), bad, **settings)
        for name, mask in usual.planes.items():
            assert_array_equal(mask, other.planes[name])
        assert not (usual.crmasks & bad).any()
        assert usual.crmasks.any()

    @pytest.mark.parametrize(
        ("n", "factors"),
        [
            (3, None),
            (4, None),
            (5, None),
            (3, (0.8, 1.0, 1.2)),
            (4, (0.8, 0.9, 1.1, 1.2)),
            (5, (0.7, 0.85, 1.0, 1.15, 1.3)),
        ],
    )
    def test_calibrated(self, n, factors):
        """
        As many pixels of noise are above as were requested, for any number.

        The boundary where fewer exposures of different flux are good is an
        approximation.
        """
        shape = (400, 400)
        data = draw(ramp(shape=shape), n, 2, factors=factors or 1.0)
        bad = self.masked(n, 0.1, shape=shape)
        masks = detect(data, bad, flux_factor=factors, mm_false_positives=200)
        good = (~bad).sum(axis=0)
        factor = 1 if factors is None else 1.5
        for number in (n, n - 1):
            share = 200 * np.mean(good == number)
            found = masks.mediancr[good == number].sum()
            assert found <= factor * share + 5 * np.sqrt(share)
            assert found >= share / factor - 5 * np.sqrt(share)

    def test_hits_are_found(self):
        """Clear hits are found where one of three exposures is bad."""
        data, bad = draw(ramp()), self.masked(3, 0.1)
        hits = np.random.default_rng(6).random(data.shape) < 0.01
        data += 2000 * hits
        masks = detect(data, bad)
        two = (~bad).sum(axis=0) == 2
        one = (hits & ~bad).sum(axis=0) == 1
        findable = hits & ~bad & two & one
        assert findable.sum() > 50
        assert (masks.crmasks & findable).sum() == findable.sum()

    def test_one_good(self):
        """A single good exposure cannot be judged."""
        data, bad = draw(ramp()), self.masked(3, 0.0)
        bad[1:, 10:20] = True
        data[0, 10:20] += 1e4
        masks = detect(data, bad)
        assert not masks.meancrt[10:20].any()

    def test_nothing_is_good(self):
        """No mask without a good pixel."""
        with pytest.warns(
            ImplausibleMaskWarning, match="all pixels of exposure 1, 2, 3"
        ):
            masks = detect(draw(ramp()), np.ones((3, *SHAPE), dtype=bool))
        assert not any(mask.any() for mask in masks.planes.values())


class TestSame:
    """What must not change the masks."""

    @pytest.mark.parametrize("factors", [None, (0.7, 1.0, 1.3)])
    def test_repeated(self, factors):
        """There is nothing random, and the exposures are left alone."""
        data = draw(ramp(), factors=factors or 1.0)
        before = data.copy()
        first, second = (detect(data, flux_factor=factors) for _ in range(2))
        for name, mask in first.planes.items():
            assert_array_equal(mask, second.planes[name])
        assert_array_equal(data, before)

    @pytest.mark.parametrize("factors", [None, (0.7, 1.0, 1.3, 0.9)])
    def test_order(self, factors):
        """Exposures in another order have their masks in this order."""
        data = draw(ramp(), 4, factors=factors or 1.0)
        data += 800 * (np.random.default_rng(6).random(data.shape) < 0.01)
        order = [2, 0, 3, 1]
        usual = detect(data, flux_factor=factors)
        other = detect(data[order], flux_factor=factors and [factors[i] for i in order])
        assert_array_equal(other.crmasks, usual.crmasks[order])
        assert_array_equal(other.mediancr, usual.mediancr)
        assert_array_equal(other.meancrt, usual.meancrt)
        assert usual.crmasks.any(axis=(1, 2)).all()


class TestUnusualData:
    """Whole numbers, no read noise, many exposures."""

    @pytest.mark.parametrize("gain", [1.0, 4.0])
    def test_integers(self, gain):
        """Rounded exposures are as well calibrated as others."""
        data = draw(ramp(shape=(300, 300)), seed=3)
        adu = np.rint(data / gain).astype(np.int16)
        ccds = [CCDData(plane, unit="adu") for plane in adu]
        masks = detect_cosmic_rays(
            ccds,
            crmethod="mmcosmic",
            dilation=0,
            gain=gain,
            readnoise=SIGMA,
            mm_false_positives=100,
            mm_minimum_max2d_rnoise=0,
        )
        assert 50 < masks.mediancr.sum() < 150

    @pytest.mark.parametrize("level", [0.5, 5.0, 500.0])
    def test_no_readnoise(self, level):
        """Photons alone: few are flagged, and hits are found."""
        data = draw(np.full(SHAPE, level), readnoise=0.0)
        assert detect(data, readnoise=0.0).meancrt.sum() <= 8
        data[:2, 40:44, 50] += 300 + 20 * np.sqrt(level)
        masks = detect(data, readnoise=0.0)
        assert masks.mediancr[40:44, 50].all()

    def test_many_unequal(self):
        """More than 7 unequal exposures are refused; the remedy is told."""
        factors = np.linspace(0.5, 1.5, 8)
        data = draw(ramp(), 8, factors=factors)
        message = "'exact' allows 7 exposures at most .+; use mm_boundary_fit='spline'"
        with pytest.raises(ValueError, match=message):
            detect(data, flux_factor=tuple(factors))
        assert len(detect(data, flux_factor=tuple(factors), mm_boundary_fit="spline"))


class TestResidual:
    """What is left in the mean of clean exposures."""

    @pytest.mark.parametrize("factors", [(1.0, 1.0, 1.0), (0.7, 1.0, 1.3)])
    def test_meancr(self, factors):
        """Every mask has its boundary, whatever the flux; noise leaves nothing."""
        data = draw(np.full(SHAPE, 500.0), factors=factors)
        masks = detect(data, flux_factor=factors)
        assert masks.diagnostics.boundaries.keys() == masks.planes.keys()
        assert masks.meancr.sum() <= 8


class TestNoiseModel:
    """The warning that the noise is not what gain and read noise explain."""

    def test_right(self):
        """Nothing is said of exposures as they should be."""
        report = detect(draw(ramp(shape=(256, 256)), 4)).diagnostics.noise_model
        assert report.likeliest is None
        # 12 bins of 5461 pixels
        assert np.all(np.abs(report.levels["noise"] - 1) < 0.06)
        assert report.levels["pixels"].sum() == 256**2
        assert report.expected == pytest.approx(1)
        assert report.observed <= 8
        assert report.hit_fraction < 1e-4

    def test_hits(self):
        """Hits are no reason to warn; they are counted."""
        data = draw(ramp(shape=(256, 256)))
        hits = np.random.default_rng(6).random(data.shape) < 0.01
        report = detect(data + 3000 * hits).diagnostics.noise_model
        assert report.likeliest is None
        assert report.hit_fraction == pytest.approx(0.01, rel=0.1)
        two = (hits.sum(axis=0) >= 2).sum()
        assert report.observed == pytest.approx(two, abs=10)

    # Far more coincidences than by chance, too.
    @pytest.mark.filterwarnings("ignore::ccdcr.CoincidenceWarning")
    def test_readnoise(self):
        """Twice the read noise shows where there is little signal."""
        data = draw(ramp(1, 300), readnoise=2 * SIGMA)
        with pytest.warns(NoiseModelWarning, match=r"[12]\.\d+ times.+check readnoise"):
            masks = detect(data)
        assert masks.diagnostics.noise_model.likeliest == "readnoise"

    def test_gain(self):
        """A gain of half the true one leaves more noise than there should be."""
        ccds = [CCDData(plane / 2, unit="adu") for plane in draw(ramp(200, 2e4))]
        for gain in (1.0, 4.0):
            with pytest.warns(NoiseModelWarning, match="check gain"):
                masks = detect_cosmic_rays(
                    ccds, crmethod="mmcosmic", gain=gain, readnoise=SIGMA
                )
            noise = masks.diagnostics.noise_model.levels["noise"]
            # The true gain is 2 electrons per adu; where photons dominate.
            assert noise[-1] == pytest.approx(np.sqrt(gain / 2), rel=0.1)

    # Far more coincidences than by chance, too.
    @pytest.mark.filterwarnings("ignore::ccdcr.CoincidenceWarning")
    @pytest.mark.filterwarnings("ignore::ccdcr.ImplausibleMaskWarning")
    def test_equivalence(self):
        """Exposures of different flux show where there is much signal."""
        data = draw(ramp(20, 2e4), factors=(0.9, 1.0, 1.1))
        with pytest.warns(NoiseModelWarning, match=r"equivalent.+flux_factor='auto'"):
            masks = detect(data)
        assert masks.diagnostics.noise_model.likeliest == "equivalence"
        detect(data, flux_factor="auto")

    def test_diagram(self):
        """The diagram holds what is expected next to what is observed."""
        masks = detect(draw(ramp(shape=(256, 256))))
        for name in ("MEDIANCR", "MEANCRT"):
            diagram = masks.diagnostics.diagrams[name]
            assert diagram.simulated.sum() == pytest.approx(256**2, rel=0.03)
            # Columns of x in which y reaches half way up to the boundary.
            y = (diagram.y_edges[1:] + diagram.y_edges[:-1]) / 2
            both = [
                (counts * y).sum() / counts.sum()
                for counts in (diagram.simulated, diagram.observed)
            ]
            assert both[0] == pytest.approx(both[1], rel=0.03)
