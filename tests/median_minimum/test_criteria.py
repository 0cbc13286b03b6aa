# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Tests of the Median-Minimum method.

The criterion is worked out by hand; how good it is, is judged by the truth of
simulations.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

from ccdcr import CRCombiner, Requirements, detect_cosmic_rays
from ccdcr.detection.detect_unmatched import make_criteria
from ccdcr.exposures import CCDParameters
from ccdcr.median_minimum.criteria import Criterion, compute_limit
from ccdcr.simulation import evaluate, simulate_exposures
from ccdcr.single_image.detectors import SingleImage
from ccdcr.utils.planes import Observed, make_planes

GAIN, READNOISE = 2.0, 6.0
KNOWN = {"gain": "GAIN", "readnoise": "RDNOISE"}
NOTHING = SingleImage({}, {})
SCENES = ["fibres", "longslit", "stars"]


def observe(stack, bad=None, factors=None):
    """Return what the method works on."""
    stack = np.asarray(stack, dtype=np.float32)
    return Observed(
        stack,
        bad,
        make_planes(stack, bad),
        np.ones(len(stack)) if factors is None else np.array(factors),
        CCDParameters(GAIN, READNOISE, 0.0),
    )


def simulated_criteria(observed, found=NOTHING, **settings):
    """Return the criteria of boundaries from simulations."""
    settings = Requirements(**{"mm_boundary_fit": "spline"} | settings)
    criteria, noise_model = make_criteria(observed, settings, None, found)
    assert noise_model is None
    return criteria


def noisy(n=3, level=200, seed=1, shape=(60, 70)):
    """Return exposures of a flat field in adu."""
    rng = np.random.default_rng(seed)
    electrons = rng.poisson(level * GAIN, (n, *shape))
    return (electrons + rng.normal(0, READNOISE, electrons.shape)) / GAIN


class TestCriterion:
    """What makes a pixel a cosmic ray, by hand."""

    @staticmethod
    def make(**changes):
        """Return a criterion for a row of pixels with the reference 10."""
        values = {
            "reference": np.full((1, 7), 10, dtype=np.float32),
            "boundary": lambda x: x * np.float32(0.5),  # 5
            "candidates": np.array([[1, 1, 1, 1, 1, 0, 1]], dtype=bool),
            "threshold": 0.0,
            "dilation": 0,
        } | changes
        limit = compute_limit(
            values["reference"], values["boundary"], values["threshold"]
        )
        return Criterion(limit=limit, **values)

    IMAGE = np.array([[9, 15, 15.5, 17, 18, 90, 12]], dtype=np.float32)

    @pytest.mark.parametrize(
        ("changes", "hits"),
        [
            ({}, [2, 3, 4]),  # above 5, not at it; no candidate in column 5
            ({"threshold": 7.0}, [4]),  # above 7, not at it
            ({"threshold": 4.0}, [2, 3, 4]),
            ({"dilation": 1}, [1, 2, 3, 4, 5]),
            ({"candidates": np.zeros((1, 7), bool), "dilation": 1}, []),
            ({"boundary": lambda x: x * 0 + 2.5}, [1, 2, 3, 4]),
        ],
    )
    def test_by_hand(self, changes, hits):
        """Above the boundary, above the threshold, and high enough."""
        mask = self.make(**changes)(self.IMAGE)
        assert np.flatnonzero(mask).tolist() == hits

    def test_statistic(self):
        """What is compared may be given; the image then does not matter."""
        statistic = np.array([[90, 15, 15.5, 9, 9, 90, 9]], dtype=np.float32)
        criterion = self.make(statistic=statistic)
        assert np.flatnonzero(criterion(self.IMAGE)).tolist() == [0, 2]
        assert criterion.excess(None).tolist() == (statistic - 10).tolist()
        assert self.make().excess(self.IMAGE).tolist() == (self.IMAGE - 10).tolist()

    def test_limit_of_fewer(self):
        """Pixels with fewer good exposures have their own boundary, or none."""

        @dataclass
        class Boundary:
            n_exposures: int
            height: float
            fewer: tuple = ()

            def __call__(self, x):
                return np.full(x.shape, self.height, dtype=np.float32)

        boundary = Boundary(4, 5, (Boundary(2, 9), Boundary(3, 7)))
        number = np.array([[4, 3, 2, 1, 0]])
        reference = np.full((1, 5), 10, dtype=np.float32)
        limit = compute_limit(reference, boundary, 6.0, number)
        assert limit.tolist() == [[16, 17, 19, np.inf, np.inf]]

    def test_limit(self):
        """Reference plus the larger of boundary and threshold, pixel by pixel."""
        reference = np.array([[2, 10, 40]], dtype=np.float32)
        limit = self.make(reference=reference, threshold=6.0).limit
        assert limit.tolist() == [[8, 16, 60]]


class TestMakeCriteria:
    """From exposures to criteria, by simulations."""

    def test_names(self):
        """One for each mask; the median has its own reference."""
        stack = noisy(5)
        criteria = simulated_criteria(observe(stack))
        crmasks = [f"CRMASK{i}" for i in range(1, 6)]
        assert criteria.keys() == {"MEDIANCR", "MEANCRT", "MEANCR", *crmasks}
        ordered = np.sort(stack, axis=0)
        for name, criterion in criteria.items():
            lowest = ordered[:3].mean(axis=0) if name == "MEDIANCR" else ordered[0]
            assert_allclose(criterion.reference, lowest, rtol=1e-6)

    @pytest.mark.parametrize(("n", "coincidences"), [(3, 2), (5, 2), (5, 3), (5, 4)])
    def test_reference(self, n, coincidences):
        """The mean of all but mm_cr_coincidences exposures."""
        stack = noisy(n)
        criteria = simulated_criteria(observe(stack), mm_cr_coincidences=coincidences)
        expected = np.sort(stack, axis=0)[: n - coincidences].mean(axis=0)
        assert_allclose(criteria["MEDIANCR"].reference, expected, rtol=1e-6)

    @pytest.mark.parametrize(
        ("settings", "limit"),
        [
            ({}, 5 * 3),
            ({"mm_minimum_max2d_rnoise": 0}, 0),
            ({"mm_minimum_max2d_rnoise": 20}, 20 * 3),
        ],
    )
    def test_candidates(self, settings, limit):
        """The highest good exposure is above a number of read noises in adu."""
        rng = np.random.default_rng(1)
        stack = rng.normal(0, 30, (3, 60, 70))
        bad = rng.random(stack.shape) < 0.1
        bad[0] &= ~bad[1:].all(axis=0)
        stack[bad] = 1e6
        criteria = simulated_criteria(observe(stack, bad), **settings)
        highest = np.where(bad, -np.inf, stack).max(axis=0).astype(np.float32)
        assert_array_equal(criteria["MEANCRT"].candidates, highest > limit)

    @pytest.mark.parametrize(
        ("settings", "threshold"),
        [({}, 0), ({"mm_threshold": 7}, 7), ({"mm_threshold_rnoise": 2}, 6)],
    )
    def test_threshold(self, settings, threshold):
        """In adu, or in read noises, which are 3 adu."""
        criteria = simulated_criteria(observe(noisy()), **settings)
        assert {c.threshold for c in criteria.values()} == {threshold}

    def test_hits_are_not_simulated(self):
        """Where the median was hit the lowest exposures take its place."""
        stack = noisy()
        stack[:2, 20:30, 20:30] += 5000
        found = np.zeros(stack.shape[1:], dtype=bool)
        found[20:30, 20:30] = True
        known, unknown = (
            simulated_criteria(observe(stack), single)["MEDIANCR"]
            for single in (SingleImage({"MEDIANCR": found}, {}), NOTHING)
        )
        # The flat field of 200 with a noise of 10.5.
        assert known.diagram.x_edges[-1] < 300
        assert unknown.diagram.x_edges[-1] > 4000
        assert known.diagram.observed.sum() == (~found).sum()
        assert known.diagram.simulated.sum() == 5 * (~found).sum()

    def test_bad_pixels_are_not_counted(self):
        """Pixels with a bad exposure are in no diagram."""
        stack = noisy()
        bad = np.zeros(stack.shape, dtype=bool)
        bad[1, :10] = True
        bad[:, 30] = True
        stack[bad] = 1e6
        criterion = simulated_criteria(observe(stack, bad))["MEDIANCR"]
        used = (~bad.any(axis=0)).sum()
        assert criterion.diagram.simulated.sum() == 5 * used
        assert criterion.diagram.observed.sum() == used
        assert np.isfinite(criterion.reference).all()
        assert criterion.diagram.x_edges[-1] < 300

    def test_noise_law(self):
        """Above the diagram the boundary grows like the noise in electrons."""
        boundary = simulated_criteria(observe(noisy()))["MEDIANCR"].boundary
        end = boundary.limits[1]
        ratio = boundary(np.array([50_000.0])) / boundary(np.array([end]))
        expected = np.sqrt((50_000 * 2 + 36) / (end * 2 + 36))
        assert ratio == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("level", [20, 200, 5000])
    def test_boundary_is_where_noise_ends(self, level):
        """
        It is a few sigma of one exposure above 0.

        The median of three exceeds the minimum by more than 5.5 sigma in less than
        a millionth of the pixels (two standard normal values that far apart:
        3 * 2 * Q(5.5 / sqrt 2) = 3e-4 bounds it from above, Monte Carlo 1e-6), and
        by more than 2.5 sigma in more than 2 % of them.
        """
        stack = noisy(level=level, shape=(100, 100))
        boundary = simulated_criteria(observe(stack))["MEDIANCR"].boundary
        sigma = np.sqrt(level / GAIN + (READNOISE / GAIN) ** 2)
        # The minimum of three is 0.85 sigma below the level.
        (value,) = boundary(np.array([level - 0.85 * sigma]))
        assert 2.5 < value / sigma < 5.5


@pytest.fixture(
    scope="module",
    params=[
        *((s, 3, "exact") for s in SCENES),
        ("stars", 5, "exact"),
        ("stars", 5, "spline"),
    ],
    ids=str,
)
def case(request):
    """A simulation and the masks by three methods."""
    scene, n, fit = request.param
    sim = simulate_exposures((288, 288), scene=scene, n_exposures=n, seed=2)
    sets = {
        method: detect_cosmic_rays(sim.exposures, crmethod=method, **KNOWN, **quiet)
        for method, quiet in (
            ("lacosmic", {"la_verbose": False}),
            ("mmcosmic", {"mm_boundary_fit": fit}),
            ("mm_lacosmic", {"mm_boundary_fit": fit, "la_verbose": False}),
        )
    }
    return sim, sets


class TestTruth:
    """How good it is."""

    def test_finds_more(self, case):
        """Both together find clearly more than L.A. Cosmic, and no less than each."""
        sim, sets = case
        hits = sim.hits(5)
        recall = {
            name: (masks.crmasks & hits).sum() / hits.sum()
            for name, masks in sets.items()
        }
        assert recall["mm_lacosmic"] > 0.97
        assert recall["mm_lacosmic"] > recall["lacosmic"] + 0.3
        assert recall["mm_lacosmic"] >= recall["mmcosmic"]

    def test_coincidences(self, case):
        """The pixels in which the median is wrong are found."""
        sim, sets = case
        wrong = sim.coincidences(5)
        for method in ("mmcosmic", "mm_lacosmic"):
            found = sets[method].mediancr & wrong
            assert found.sum() >= 0.9 * wrong.sum()

    def test_false_flags(self, case):
        """Median-Minimum flags hardly a pixel that is far from any cosmic ray."""
        sim, sets = case
        for mask, trace in zip(sets["mmcosmic"].crmasks, sim.hits(1), strict=True):
            far = ndimage.distance_transform_edt(~trace) > 2
            assert (mask & far).sum() < 0.002 * far.sum()

    def test_combinations(self, case):
        """
        Combined images are nearly as good as the mean of what was not hit.

        Where nothing is hit `mediancr` is the median, whose efficiency is 0.743
        for three and 0.697 for five normal values.
        """
        sim, sets = case
        combiner = CRCombiner(sim.exposures, sets["mm_lacosmic"])
        images = {
            "meancr": combiner.meancr_combine(),
            "mediancr": combiner.mediancr_combine(),
        }
        efficiency = dict(
            evaluate(sets["mm_lacosmic"], images, sim).images.iterrows(
                "image", "efficiency"
            )
        )
        limit = {3: 0.743, 5: 0.697}[len(sim.exposures)]
        assert efficiency["meancr"] > 0.9
        assert efficiency["mediancr"] > limit - 0.04

    def test_residuals(self, case):
        """What is left in the combination is next to nothing."""
        sim, sets = case
        image = CRCombiner(sim.exposures, sets["mm_lacosmic"]).meancr_combine()
        table = evaluate(sets["mm_lacosmic"], {"meancr": image}, sim).images
        assert table["residual"][0] <= 2

    @pytest.mark.parametrize("scene", SCENES)
    @pytest.mark.parametrize("seed", [1, 2])
    def test_pure_noise(self, scene, seed):
        """
        Without cosmic rays few pixels are flagged above a simulated boundary.

        In each of at most 100 bins in x the point of the boundary leaves one pixel
        of all 5 simulations above, so that it lies between the largest and the
        second largest simulated value. Of one real set, which is as large as one
        simulation, the number of pixels above the second largest of five is the
        sum of two geometric numbers of mean 1/5: mean 2/5, variance 2 * 6/25. All
        bins: 40 with a standard deviation of 7; four of these more is 68. The
        spline, lifted to the upper edge of the points, leaves fewer.
        """
        sim = simulate_exposures((256, 256), scene=scene, seed=seed, cr_rate=0)
        masks = detect_cosmic_rays(
            sim.exposures,
            crmethod="mmcosmic",
            mm_boundary_fit="spline",
            dilation=0,
            **KNOWN,
        )
        assert masks.mediancr.sum() <= 68

    @pytest.mark.parametrize("n", [3, 5])
    def test_gain(self, n):
        """The same exposures in other units give the same masks."""
        sim = simulate_exposures((128, 128), seed=3, n_exposures=n, readnoise=4.0)
        masks = []
        for gain in (1.0, 4.0):
            ccds = [ccd.divide(gain) for ccd in sim.exposures]
            masks.append(
                detect_cosmic_rays(
                    ccds, crmethod="mmcosmic", gain=gain, readnoise=4.0
                ).crmasks
            )
        # Powers of two scale exactly, but for the rounding of cells.
        assert (masks[0] ^ masks[1]).sum() <= 0.01 * masks[0].sum()
        assert masks[0].any()
