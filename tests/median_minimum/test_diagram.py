# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Tests of the Median-Minimum diagram.

Histograms are compared with numpy's, references with a loop over pixels, noise
with the moments of its distribution, boundary points with results by hand.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from ccdcr import Requirements
from ccdcr.median_minimum import simulated_boundary
from ccdcr.median_minimum.simulated_boundary import (
    Diagram,
    NoiseModel,
    boundary_points,
    drop_isolated_cells,
    expected_exposures,
    low_reference,
    simulate_diagrams,
)
from ccdcr.utils import neighbours

SHAPE = (40, 50)


class FixedNoise:
    """Stands in for a noise model: what is drawn is what is expected."""

    @classmethod
    def at(cls, _):
        """Return the same for some rows."""
        return cls

    @staticmethod
    def draw(expected, rng):
        """Return the expected image."""
        assert isinstance(rng, np.random.Generator)
        return expected


def stack_of(n, seed=1, shape=SHAPE):
    """Return exposures of random values."""
    return np.random.default_rng(seed).uniform(5, 90, (n, *shape)).astype(np.float32)


def planes_of(stack, coincidences=2):
    """Return x and y of a stack, by numpy."""
    ordered = np.sort(stack, axis=0)
    x = ordered[: len(stack) - coincidences].mean(axis=0, dtype=float)
    return x.astype(np.float32), (np.median(stack, axis=0) - x).astype(np.float32)


def simulated(expected, noise=None, *, coincidences=(2,), use=None, **settings):
    """Return the diagrams of expected images."""
    use = np.ones(SHAPE, dtype=bool) if use is None else use
    observed = {k: planes_of(np.stack(expected), k) for k in coincidences}
    return simulate_diagrams(
        expected,
        [NoiseModel(1.0, 3.0) if noise is None else noise] * len(expected),
        Requirements(mm_boundary_fit="spline", **settings),
        observed,
        use,
    )


class TestNoiseModel:
    """Moments of the noise by Monte Carlo."""

    N = 200_000

    @pytest.mark.parametrize("shape", [None, 20.0])
    @pytest.mark.parametrize("gain", [1.0, 2.0])
    @pytest.mark.parametrize("level", [0.0, 6.0, 300.0])
    def test_moments(self, gain, shape, level):
        """Mean and variance are within four standard errors."""
        readnoise = 1.5
        model = NoiseModel(gain, readnoise, shape)
        expected = np.full(self.N, level, dtype=np.float32)
        drawn = model.draw(expected, np.random.default_rng(7))
        electrons = level * gain
        extra = 0 if shape is None else electrons**2 / shape
        variance = (electrons + extra) / gain**2 + readnoise**2
        assert drawn.dtype == np.float32
        values = drawn.astype(float)
        assert values.mean() == pytest.approx(level, abs=4 * np.sqrt(variance / self.N))
        deviations = (values - level) ** 2
        error = deviations.std() / np.sqrt(self.N)
        assert deviations.mean() == pytest.approx(variance, abs=4 * error)

    @pytest.mark.parametrize("shape", [None, 5.0])
    def test_whole_electrons(self, shape):
        """Without read noise there are whole electrons, never less than none."""
        expected = np.array([0, 0.2, 3, 70], dtype=np.float32)
        drawn = NoiseModel(2.0, 0.0, shape).draw(expected, np.random.default_rng(1))
        assert_array_equal(drawn * 2, np.rint(drawn * 2))
        assert drawn[0] == 0
        assert drawn.min() >= 0

    def test_pixels_are_independent(self):
        """Neighbours are not correlated: |r| of N pairs is below 4 / sqrt(N)."""
        drawn = NoiseModel(1.0, 3.0).draw(
            np.full(self.N, 9.0), np.random.default_rng(2)
        )
        r = np.corrcoef(drawn[1:], drawn[:-1])[0, 1]
        assert abs(r) < 4 / np.sqrt(self.N)


class TestLowReference:
    """The mean of the lowest exposures, compared with a loop over pixels."""

    @pytest.mark.parametrize("with_bad", [False, True])
    @pytest.mark.parametrize(
        ("n", "coincidences"), [(n, k) for n in (3, 4, 5) for k in range(2, n)]
    )
    def test_loop(self, n, coincidences, with_bad):
        """All but the given number of good ones, at least one, are averaged."""
        stack = stack_of(n, shape=(9, 11))
        bad = None
        if with_bad:
            bad = np.random.default_rng(4).random(stack.shape) < 0.3
            bad[0] &= ~bad[1:].all(axis=0)  # one at least is good
            assert set(np.unique(bad.sum(axis=0))) >= set(range(n))
            stack[bad] = np.nan
        expected = np.empty((9, 11))
        for place in np.ndindex(9, 11):
            values = stack[(slice(None), *place)]
            good = sorted(values[np.isfinite(values)].tolist())
            used = good[: max(len(good) - coincidences, 1)]
            if coincidences == n - 1:
                used = good[:1]
            expected[place] = sum(used) / len(used)
        reference = low_reference(stack, bad, coincidences)
        assert reference.dtype == stack.dtype
        # Rounding of float32.
        assert_allclose(reference, expected, rtol=2e-7)

    def test_mask_without_bad_pixels(self):
        """An empty mask is as good as none."""
        stack = stack_of(5)
        assert_array_equal(
            low_reference(stack, np.zeros(stack.shape, bool), 2),
            low_reference(stack, None, 2),
        )

    def test_input_is_not_modified(self):
        """The stack keeps its order."""
        stack = stack_of(5)
        copy = stack.copy()
        low_reference(stack, None, 2)
        assert_array_equal(stack, copy)


class TestExpected:
    """Factors, offsets and negative values."""

    def test_factors(self):
        """Exposure i is the reference times its factor; what is negative is 0."""
        reference = np.array([[-3.0, 0, 2], [4, 50, 8]], dtype=np.float32)
        expected = expected_exposures(reference, [0.5, 1, 2], None)
        clipped = np.array([[0.0, 0, 2], [4, 50, 8]])
        for image, factor in zip(expected, (0.5, 1, 2), strict=True):
            assert image.dtype == np.float32
            assert_array_equal(image, clipped * factor)
        assert reference[0, 0] == -3

    def test_one_reference_each(self):
        """A reference of each exposure is used for that exposure."""
        stack = stack_of(3)
        expected = expected_exposures(stack, [1, 2, 1], None)
        assert_array_equal(expected, stack * np.reshape([1, 2, 1], (3, 1, 1)))

    def test_whole_offsets(self):
        """The reference moves by +dx along x and +dy along y."""
        reference = stack_of(1)[0]
        none, moved = expected_exposures(reference, [1, 1], [(0, 0), (2, -3)])
        assert_array_equal(none, reference)
        # Away from the edges: values of the spline at its nodes.
        assert_allclose(
            moved[10:-10, 10:-10], reference[13:-7, 8:-12], rtol=1e-4, atol=1e-3
        )

    def test_fractions(self):
        """A star ends where it should, interpolated to a thousandth of its peak."""
        y, x = np.mgrid[:40, :50]

        def star(x0, y0):
            return 100 * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * 3.0**2))

        (moved,) = expected_exposures(star(25, 20), [1], [(0.3, -1.6)])
        assert_allclose(moved, star(25.3, 18.4), atol=0.1)

    def test_never_negative(self):
        """A spline rings beside a sharp peak; this is cut off."""
        reference = np.zeros(SHAPE)
        reference[20, 25] = 1000
        (moved,) = expected_exposures(reference, [1], [(0.5, 0.5)])
        assert moved.min() == 0
        assert moved.max() > 100


class TestSimulate:
    """From expected images to histograms."""

    @pytest.mark.parametrize("coincidences", [(2,), (2, 4), (3, 4)])
    @pytest.mark.parametrize("nsimulations", [1, 4])
    def test_counts(self, nsimulations, coincidences):
        """Each used pixel of each simulation is in one cell."""
        use = np.random.default_rng(3).random(SHAPE) < 0.7
        diagrams = simulated(
            list(stack_of(5)),
            coincidences=coincidences,
            use=use,
            mm_nsimulations=nsimulations,
        )
        assert diagrams.keys() == set(coincidences)
        for diagram in diagrams.values():
            assert diagram.n_simulations == nsimulations
            assert diagram.simulated.shape == diagram.observed.shape == (100, 100)
            assert diagram.simulated.sum() == nsimulations * use.sum()

    @pytest.mark.parametrize(("n", "coincidences"), [(3, 2), (4, 2), (5, 2), (5, 4)])
    def test_histogram(self, n, coincidences):
        """Without noise it is numpy's histogram, once for each simulation."""
        stack = stack_of(n)
        use = np.random.default_rng(3).random(SHAPE) < 0.7
        diagram = simulated(
            list(stack),
            FixedNoise,
            coincidences=(coincidences,),
            use=use,
            mm_nsimulations=2,
        )[coincidences]
        x, y = (plane[use] for plane in planes_of(stack, coincidences))
        expected = np.histogram2d(x, y, (diagram.x_edges, diagram.y_edges))[0]
        assert expected.sum() == use.sum()
        # A value at an edge may be rounded to either side.
        assert np.abs(diagram.observed - expected).sum() <= 4
        assert np.abs(diagram.simulated - 2 * expected).sum() <= 8
        assert_allclose(diagram.x_edges[[0, -1]], [x.min(), x.max()], rtol=1e-6)
        centres = x.min() + (np.arange(100) + 0.5) / 100 * np.ptp(x)
        assert_allclose(diagram.x, centres, rtol=1e-6)

    def test_range_of_both(self):
        """The x axis holds the exposures and the simulations."""
        stack = stack_of(3)
        x, y = planes_of(stack)
        observed = {2: (x * 3 - 100, y)}
        settings = Requirements(mm_boundary_fit="spline", mm_nsimulations=1)
        use = np.ones(SHAPE, bool)
        noise = [FixedNoise] * 3
        diagram = simulate_diagrams(list(stack), noise, settings, observed, use)[2]
        assert_allclose(
            diagram.x_edges[[0, -1]],
            [min(x.min(), 3 * x.min() - 100), max(x.max(), 3 * x.max() - 100)],
            rtol=1e-6,
        )
        assert diagram.observed.sum() == diagram.simulated.sum() == use.sum()

    @pytest.mark.parametrize(
        ("settings", "times"),
        [
            ({}, 2),
            ({"mm_xy_offsets": [[0, 0], [1, 0], [0, 1]]}, 4),
            ({"mm_crosscorr_region": [1, 50, 1, 40]}, 4),
        ],
    )
    def test_top(self, settings, times):
        """The y axis ends at two times, with offsets four times, the largest y."""
        stack = stack_of(3)
        diagram = simulated(list(stack), FixedNoise, **settings)[2]
        top = times * planes_of(stack)[1].max()
        assert_allclose(diagram.y_edges, np.linspace(0, top, 101), rtol=1e-6)

    def test_given_top(self):
        """Pixels above mm_ydiag_max are not counted."""
        stack = stack_of(3)
        diagram = simulated(
            list(stack), FixedNoise, mm_ydiag_max=12.5, mm_nsimulations=3
        )[2]
        y = planes_of(stack)[1]
        assert diagram.y_edges[-1] == 12.5
        assert 0 < (y < 12.5).sum() < y.size
        assert diagram.observed.sum() == (y < 12.5).sum()
        assert diagram.simulated.sum() == 3 * (y < 12.5).sum()

    def test_bands(self, monkeypatch):
        """Large images are worked on band by band, with the same histogram."""
        stack = stack_of(3)
        whole = simulated(list(stack), FixedNoise)[2]
        monkeypatch.setattr(neighbours, "_BAND", 7 * SHAPE[1] + 3)
        assert [rows.start for rows in neighbours.cut_bands(SHAPE)] == [
            *range(0, 40, 7)
        ]
        banded = simulated(list(stack), FixedNoise)[2]
        assert_array_equal(banded.simulated, whole.simulated)
        assert_array_equal(banded.y_edges, whole.y_edges)
        noisy = simulated(list(stack))[2]
        assert noisy.simulated.sum() == 5 * stack[0].size

    def test_flat(self):
        """Exposures that are all the same still have a diagram."""
        diagram = simulated([np.full(SHAPE, 7.0, np.float32)] * 3, FixedNoise)[2]
        assert diagram.simulated.sum() == 5 * 2000
        assert diagram.y_edges[-1] == 1
        assert np.count_nonzero(diagram.simulated) == 1

    def test_coincidences_share_the_simulation(self):
        """Each diagram is as if it were the only one."""
        expected = list(stack_of(5))
        both = simulated(expected, coincidences=(2, 4))
        for k in (2, 4):
            alone = simulated(expected, coincidences=(k,))[k]
            assert_array_equal(both[k].simulated, alone.simulated)

    @pytest.mark.parametrize("workers", [1, 8])
    def test_threads(self, monkeypatch, workers):
        """The number of threads changes nothing."""
        expected = list(stack_of(3))
        usual = simulated(expected, mm_nsimulations=6)[2]
        used = []

        def pool(_number=None):
            used.append(workers)
            return ThreadPoolExecutor(max_workers=workers)

        monkeypatch.setattr(simulated_boundary, "ThreadPoolExecutor", pool)
        diagram = simulated(expected, mm_nsimulations=6)[2]
        assert used == [workers]
        assert_array_equal(diagram.simulated, usual.simulated)
        assert_array_equal(diagram.x_edges, usual.x_edges)
        assert_array_equal(diagram.y_edges, usual.y_edges)

    @pytest.mark.parametrize(
        ("seeds", "same"), [((4, 4), 1), ((4, 5), 0), ((None,) * 2, 0)]
    )
    def test_seeds(self, seeds, same):
        """One seed is one result, None is another one each time."""
        first, second = (
            simulated(list(stack_of(3)), mm_seed=seed)[2] for seed in seeds
        )
        assert np.array_equal(first.simulated, second.simulated) == same

    def test_simulations_differ(self):
        """More simulations are not repetitions of the first one."""
        first, both = (
            simulated(list(stack_of(3)), mm_nsimulations=n, mm_ydiag_max=100)[2]
            for n in (1, 2)
        )
        assert not np.array_equal(both.simulated, 2 * first.simulated)

    def test_exposures_differ(self):
        """Equal expected exposures have different noise."""
        diagram = simulated([np.full(SHAPE, 100, np.float32)] * 3)[2]
        # Median minus minimum of three values of sigma 10.4: 0.846 sigma (the mean
        # of the largest of three normal values; David & Nagaraja, Order Statistics).
        y = (diagram.y_edges[1:] + diagram.y_edges[:-1]) / 2
        mean = np.average(y, weights=diagram.simulated.sum(axis=0))
        # 10000 pixels with a scatter of 0.7 sigma.
        assert mean == pytest.approx(0.8463 * np.sqrt(109), rel=0.03)

    def test_global_state(self):
        """The random numbers of the caller are left alone."""
        before = np.random.get_state()  # noqa: NPY002
        simulated(list(stack_of(3)))
        after = np.random.get_state()  # noqa: NPY002
        assert before[0] == after[0]
        assert_array_equal(before[1], after[1])
        assert before[2:] == after[2:]


class TestBoundaryPoints:
    """Worked out by hand."""

    @pytest.mark.parametrize(
        ("row", "y"),
        [
            ([3, 2, 1, 0], 2),  # one pixel above 2
            ([10, 4, 0, 0], 1.75),  # 4 above 1, none above 2: 3/4 of the way
            ([1, 0, 0, 0], 0),
            ([2, 0, 0, 0], 0.5),
            ([0, 0, 0, 5], 3.8),
            ([8, 0, 0, 1], 3),
            ([7, 0, 3, 0], 2 + 2 / 3),
        ],
    )
    def test_one_bin(self, row, y):
        """The cumulative distribution, linear in a cell, leaves one pixel."""
        diagram = Diagram(np.array([2.0, 4]), np.arange(5.0), np.array([row]))
        points = boundary_points(diagram)
        assert [part.tolist() for part in points] == [
            [3],
            pytest.approx([y]),
            [sum(row)],
        ]

    def test_several_bins(self):
        """Bins without pixels have no point; y is in the unit of the edges."""
        counts = np.array([[4, 1, 0], [0, 0, 0], [5, 2, 0]])
        diagram = Diagram(np.arange(0.0, 8, 2), np.arange(0.0, 40, 10), counts)
        x, y, weight = boundary_points(diagram)
        assert x.tolist() == [1, 5]
        assert y == pytest.approx([10, 15])
        assert weight.tolist() == [5, 7]

    def test_neighbors(self):
        """Isolated cells do not count."""
        counts = np.array([[9, 3, 0, 0, 0, 1], [9, 3, 0, 0, 0, 0]])
        diagram = Diagram(np.arange(3.0), np.arange(7.0), counts)
        assert boundary_points(diagram)[1] == pytest.approx([5, 1 + 2 / 3])
        _, y, weight = boundary_points(diagram, neighbors=1)
        assert y == pytest.approx([1 + 2 / 3] * 2)
        assert weight.tolist() == [12, 12]


@pytest.mark.parametrize(
    ("neighbors", "kept"),
    [
        (0, [[1, 2, 0, 0], [3, 4, 0, 7], [0, 0, 5, 0]]),
        (1, [[1, 2, 0, 0], [3, 4, 0, 7], [0, 0, 5, 0]]),
        (2, [[1, 2, 0, 0], [3, 4, 0, 0], [0, 0, 5, 0]]),
        (3, [[1, 2, 0, 0], [3, 4, 0, 0], [0, 0, 0, 0]]),
        (4, [[0, 0, 0, 0], [0, 4, 0, 0], [0, 0, 0, 0]]),
        (5, [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]),
    ],
)
def test_drop_isolated_cells(neighbors, kept):
    """Occupied ones of the eight neighbours, counted by hand; outside is empty."""
    counts = np.array([[1, 2, 0, 0], [3, 4, 0, 7], [0, 0, 5, 0]])
    assert drop_isolated_cells(counts, neighbors).tolist() == kept
