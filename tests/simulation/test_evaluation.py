# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the evaluation: a truth made by hand, of which all numbers follow."""

import dataclasses

import numpy as np
import pytest
from astropy.nddata import CCDData, StdDevUncertainty
from numpy.testing import assert_allclose

from ccdcr import CRCombiner, CRMaskSet, detect_cosmic_rays
from ccdcr.simulation import Evaluation, Simulation, evaluate, simulate_exposures

SHAPE = (12, 12)
# The mean signal; with gain 1 and no read noise the noise of one exposure is 10.
SIGNAL = 100.0


def truth_of(cosmic_rays, errors=(0, 0, 0), signals=(SIGNAL,) * 3, bias=20.0):
    """Return a simulation; the errors of the exposures are known."""
    cosmic_rays = np.asarray(cosmic_rays, float)
    shape = cosmic_rays.shape[1:]
    expected = np.array([np.full(shape, signal) for signal in signals])
    data = expected + cosmic_rays + np.reshape(errors, (-1, 1, 1)) + bias
    return Simulation(
        exposures=[CCDData(plane, unit="adu") for plane in data],
        truth=np.full(shape, SIGNAL),
        expected=expected,
        cosmic_rays=cosmic_rays,
        gain=1.0,
        readnoise=0.0,
        bias=bias,
        flux=np.array(signals) / SIGNAL,
        shift=np.zeros((3, 2)),
        seeing=np.full(3, 2.5),
        scene="stars",
        seed=None,
    )


def empty(shape):
    """Return masks without any hit."""
    none = np.zeros(shape, bool)
    return CRMaskSet(none, none, np.array([none] * 3))


def image_of(error, bias=20.0, mask=None):
    """Return a combined image of known error."""
    return CCDData(SIGNAL + bias + np.asarray(error, float), unit="adu", mask=mask)


class TestMasks:
    """How good the masks are."""

    @staticmethod
    def rows():
        """Return the table of masks of a truth made by hand, by name."""
        rays = np.zeros((3, *SHAPE))
        rays[0, 2, 2] = rays[2, 2, 2] = 60  # a coincidence
        rays[0, 2, 3] = 50.1  # more than 5 sigma
        rays[0, 9, 9] = 50  # 5 sigma, not more: a trace
        rays[0, 2, 4] = 10.1  # a trace
        rays[0, 2, 11] = 10  # no trace
        rays[0, 9, 2] = 1000
        crmasks = np.zeros(rays.shape, bool)
        for pixel in (
            (2, 2),  # hit
            (9, 2),  # hit
            (2, 4),  # trace
            (2, 6),  # 2 pixels from a trace
            (3, 5),  # nearer
            (2, 7),  # 3 pixels: false
            (4, 5),  # sqrt(5) pixels: false
            (2, 11),  # hit by 1 sigma, not more: false
        ):
            crmasks[(0, *pixel)] = True
        crmasks[1, 5, 5:7] = True
        mediancr = np.zeros(SHAPE, bool)
        mediancr[2, 1:7] = True
        masks = CRMaskSet(mediancr, crmasks.any(axis=0), crmasks)
        table = evaluate(masks, {}, truth_of(rays)).masks
        return {row["mask"]: tuple(row)[1:] for row in table}

    def test_names(self):
        """One row for each."""
        assert list(self.rows()) == ["MEDIANCR", "CRMASK1", "CRMASK2", "CRMASK3"]

    def test_exposure(self):
        """Two of three hits; three flagged pixels are far from any trace."""
        flagged, hit, recall, false = self.rows()["CRMASK1"]
        assert (flagged, hit, false) == (8, 3, 3)
        assert recall == pytest.approx(2 / 3)

    def test_nothing_there(self):
        """No hit to recall, and all that is flagged is false."""
        flagged, hit, recall, false = self.rows()["CRMASK2"]
        assert (flagged, hit, false) == (2, 0, 2)
        assert np.isnan(recall)

    def test_nothing_found(self):
        """One hit that is missed."""
        assert self.rows()["CRMASK3"] == (0, 1, 0.0, 0)

    def test_coincidence(self):
        """MEDIANCR is judged by hits in two of three: x = 2 of 1 to 6."""
        assert self.rows()["MEDIANCR"] == (6, 1, 1.0, 2)

    def test_columns(self):
        """The documented columns."""
        table = evaluate(empty((2, 2)), {}, truth_of(np.zeros((3, 2, 2)))).masks
        assert table.colnames == ["mask", "flagged", "hit", "recall", "false"]


class TestImages:
    """How good the combinations are."""

    def row(self, image, truth):
        """Return the numbers of one image."""
        table = evaluate(empty(truth.truth.shape), {"it": image}, truth).images
        assert table.colnames == ["image", "residual", "rms", "efficiency"]
        assert list(table["image"]) == ["it"]
        return tuple(table[0])[1:]

    @pytest.mark.parametrize("signals", [(100, 100, 100), (50, 100, 150)])
    def test_clean(self, signals):
        """Errors 9, 3 and -3 have the mean 3; the image is wrong by 6."""
        truth = truth_of(np.zeros((3, 2, 2)), (9, 3, -3), signals)
        residual, rms, efficiency = self.row(image_of(np.full((2, 2), 6)), truth)
        assert residual == 0
        assert rms == pytest.approx(6)
        assert efficiency == pytest.approx(1 / 4)

    @pytest.mark.parametrize("signal", [1.01, 500])
    def test_ideal_leaves_out_hits(self, signal):
        """The first exposure is hit in one of four pixels: its ideal error is 0."""
        rays = np.zeros((3, 2, 2))
        rays[0, 0, 1] = signal
        truth = truth_of(rays, (9, 3, -3))
        _, rms, efficiency = self.row(image_of([[6, -6], [6, 6]]), truth)
        assert rms == pytest.approx(6)
        assert efficiency == pytest.approx(3 * 9 / (4 * 36))

    def test_ideal_keeps_faint_tails(self):
        """Less than 0.1 sigma is no hit: all errors are 3, of the ideal, too."""
        rays = np.zeros((3, 2, 2))
        rays[0, 0, 1] = 0.99
        truth = truth_of(rays, (9, 3, -3))
        truth.exposures[0].data[0, 1] -= 0.99
        *_, efficiency = self.row(image_of([[6, -6], [6, 6]]), truth)
        assert efficiency == pytest.approx(9 / 36)

    def test_pixel_without_truth(self):
        """A pixel hit in all exposures does not count."""
        rays = np.zeros((3, 2, 2))
        rays[:, 1, 1] = 500
        truth = truth_of(rays, (9, 3, -3))
        residual, rms, efficiency = self.row(image_of([[3, 3], [3, 500]]), truth)
        assert residual == 0
        assert rms == pytest.approx(3)
        assert efficiency == pytest.approx(1)

    @pytest.mark.parametrize("masked", [False, True])
    def test_residual(self, masked):
        """More than 8 sigma above, no masked pixel; NaN hides under a mask."""
        error = [[80, 80.1, 1000], [-1000, 0, np.nan if masked else 0]]
        mask = [[False, False, True], [False, False, True]] if masked else None
        truth = truth_of(np.zeros((3, 2, 3)), (9, 3, -3))
        residual, rms, efficiency = self.row(image_of(error, mask=mask), truth)
        squares = [80**2, 80.1**2, 1000**2, 0] + [1000**2, 0] * (not masked)
        assert residual == 2 - masked
        assert rms == pytest.approx(np.sqrt(np.mean(squares)))
        assert efficiency == pytest.approx(9 / np.mean(squares))

    def test_noise_of_pixels(self):
        """Errors count in units of the noise of their pixel: 10 and 20."""
        truth = truth_of(np.zeros((3, 1, 2)), (3, 3, 3))
        expected = truth.expected * [1, 4]
        truth = dataclasses.replace(
            truth,
            expected=expected,
            exposures=[CCDData(plane + 23, unit="adu") for plane in expected],
        )
        image = CCDData([[126.0, 446.0]], unit="adu")  # errors 6 and 26
        _, rms, efficiency = self.row(image, truth)
        assert rms == pytest.approx(np.sqrt((36 + 676) / 2))
        assert efficiency == pytest.approx((0.3**2 + 0.15**2) / (0.6**2 + 1.3**2))

    def test_order(self):
        """One row for each image, in their order."""
        truth = truth_of(np.zeros((3, 2, 2)), (3, 3, 3))
        images = {
            name: image_of(np.full((2, 2), e)) for name, e in (("b", 1), ("a", 3))
        }
        table = evaluate(empty((2, 2)), images, truth).images
        assert list(table["image"]) == ["b", "a"]
        assert_allclose(table["efficiency"], [9, 1])


class TestSimulated:
    """Exposures of the simulator."""

    @pytest.mark.parametrize("cr_rate", [0, 2])
    @pytest.mark.parametrize("bias", [0, 100])
    def test_ideal(self, cr_rate, bias):
        """The mean over truly clean exposures has efficiency 1."""
        sim = simulate_exposures((80, 90), cr_rate=cr_rate, bias=bias, seed=3)
        rays = sim.hits(0.1)
        masks = CRMaskSet(sim.coincidences(), rays.any(axis=0), rays)
        image = CRCombiner(sim.exposures, masks).meancr_combine(uncertainty=None)
        evaluation = evaluate(masks, {"ideal": image}, sim)
        # pixels hit in all exposures do not count
        assert evaluation.images["efficiency"][0] == pytest.approx(1, rel=1e-4)
        assert evaluation.images["residual"][0] == 0
        if cr_rate:
            assert list(evaluation.masks["recall"]) == [1] * 4
        assert list(evaluation.masks["hit"] > 0) == [bool(cr_rate)] * 4

    def test_median(self):
        """The median of three has the efficiency 1 / (3 (1 - sqrt(3) / pi)) = 0.743."""
        sim = simulate_exposures((150, 160), cr_rate=0, seed=4)
        data = np.median([ccd.data for ccd in sim.exposures], axis=0)
        masks = empty((150, 160))
        images = evaluate(masks, {"median": CCDData(data, unit="adu")}, sim).images
        expected = 1 / (3 * (1 - np.sqrt(3) / np.pi))
        # 24000 pixels: an error of about 0.6 %
        assert images["efficiency"][0] == pytest.approx(expected, rel=0.025)

    def test_minimum_is_worse(self):
        """A combination that leaves hits, and one that is biased."""
        sim = simulate_exposures((80, 90), cr_rate=3, seed=5)
        data = np.array([ccd.data for ccd in sim.exposures])
        images = {
            name: CCDData(function(data, axis=0), unit="adu")
            for name, function in (("mean", np.mean), ("min", np.min))
        }
        table = evaluate(empty((80, 90)), images, sim).images
        expected = sim.expected.mean(axis=0)
        some = ~sim.hits(0.1).all(axis=0)
        for row, image in zip(table, images.values(), strict=True):
            error = image.data - expected
            left = (error > 8 * sim.noise.mean(axis=0)) & some
            assert row["residual"] == pytest.approx(left.sum(), abs=1)
            assert row["rms"] == pytest.approx(np.sqrt(np.mean(error[some] ** 2)))
            assert row["efficiency"] < 0.6
        assert table["residual"][0] > 100


class TestEvaluation:
    """The result as such."""

    def test_str(self):
        """Two tables, with few digits."""
        truth = truth_of(np.zeros((3, 2, 2)), (3, 3, 3))
        evaluation = evaluate(
            empty((2, 2)), {"it": image_of(np.full((2, 2), 7))}, truth
        )
        assert isinstance(evaluation, Evaluation)
        first, second = str(evaluation).split("\n\n")
        assert first.split()[:5] == ["mask", "flagged", "hit", "recall", "false"]
        assert len(first.splitlines()) == 2 + 4
        assert second.split()[:4] == ["image", "residual", "rms", "efficiency"]
        assert second.splitlines()[-1].split() == ["it", "0", "7.000", "0.184"]

    @pytest.mark.parametrize(("n", "shape"), [(3, (2, 3)), (2, (2, 2))])
    def test_mask_shape(self, n, shape):
        """Masks of another shape or number."""
        none = np.zeros(shape, bool)
        masks = CRMaskSet(none, none, np.array([none] * n))
        got = f"({n}, {shape[0]}, {shape[1]})".replace("(", r"\(").replace(")", r"\)")
        with pytest.raises(
            ValueError, match=rf"masks must be of \(3, 2, 2\), got {got}"
        ):
            evaluate(masks, {}, truth_of(np.zeros((3, 2, 2))))

    def test_image_shape(self):
        """The image is named."""
        image = image_of(np.zeros((2, 3)))
        message = r"combined\['it'\] must have the shape \(2, 2\), got \(2, 3\)"
        with pytest.raises(ValueError, match=message):
            evaluate(empty((2, 2)), {"it": image}, truth_of(np.zeros((3, 2, 2))))


class TestMasked:
    """Combinations at masked pixels."""

    def test_by_hand(self):
        """Errors and the least possible, pulls, differences to the image never hit."""
        rays = np.zeros((3, *SHAPE))
        rays[0, 2, 2:6] = 1000
        rays[1, 2, 5] = 30  # missed by its mask: this pixel says nothing of values
        crmasks = rays > 500
        crmasks[:, 7, 7] = True  # nowhere clean
        masks = CRMaskSet(crmasks.all(axis=0), crmasks.any(axis=0), crmasks)
        truth = truth_of(rays, errors=(0, 3, 0))  # never hit: 1 too bright
        error = np.full(SHAPE, 99.0)
        error[2, 2:5] = 4, 7, 13
        image = image_of(error)
        image.uncertainty = StdDevUncertainty(np.full(SHAPE, 8.0))
        table = evaluate(masks, {"x": image}, truth).masked
        assert list(table["brightest"]) == [1.0, 0.05, 0.01]
        row = table[0]
        assert row["image"] == "x"
        assert row["pixels"] == 3
        noise = 10 / np.sqrt(3)
        rms = np.sqrt((16 + 49 + 169) / 3)
        assert_allclose(row["error"], rms / noise)
        assert_allclose(row["pull"], rms / 8)
        assert_allclose(row["difference"], 6 / noise)
        assert_allclose(row["least"], 1.5 / noise)

    def test_brightest(self):
        """Only the brightest pixels count in their rows; nothing is NaN."""
        rays = np.zeros((3, *SHAPE))
        rays[0, 2, 2:4] = 1000
        truth = truth_of(rays)
        truth.expected[:, 2, 3:] = 10_000
        crmasks = rays > 500
        masks = CRMaskSet(crmasks.all(axis=0), crmasks.any(axis=0), crmasks)
        error = np.ones(SHAPE)
        error[2, 2] = 0
        error[2, 3:] = 10_000 - SIGNAL
        table = evaluate(masks, {"x": image_of(error)}, truth).masked
        assert list(table["pixels"]) == [2, 1, 1]
        assert_allclose(table["error"], 0)
        assert np.isnan(table["pull"]).all()
        assert len(evaluate(masks, {}, truth).masked) == 0

    def test_expected_values(self):
        """Expected values come near to the image that was never hit."""
        sim = simulate_exposures((200, 200), scene="fibres", flux=(0.8, 1, 1.2), seed=1)
        masks = detect_cosmic_rays(sim.exposures, gain=1.0, readnoise=3.0)
        combiner = CRCombiner(sim.exposures, masks)
        images = {
            "with": combiner.meancr_combine(),
            "without": combiner.meancr_combine(use_expected=False),
        }
        table = evaluate(masks, images, sim).masked
        assert table["error"][0] == pytest.approx(np.sqrt(1.5), abs=0.1)
        assert table["pull"][0] == pytest.approx(1, abs=0.05)
        assert abs(table["difference"][0]) < 0.1
        assert table["error"][3] > 1.5
