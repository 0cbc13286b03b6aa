# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The stages of matching, each alone, and what they find together."""

import re

import numpy as np
import pytest
from astropy import log
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage
from scipy.optimize import brentq
from scipy.stats import norm, poisson

from ccdcr import CRCombiner, FluxScaleWarning, detect_cosmic_rays
from ccdcr.matching.clean_reference import (
    clean_reference,
    expected_low,
    expected_values,
    low_references,
    lowest_others,
    lowest_planes,
)
from ccdcr.matching.correct import Scene, match_along
from ccdcr.matching.flag_pixels import (
    Limits,
    Outliers,
    coincident_pixels,
    faint_groups,
    first_masks,
    measure_leak,
    next_masks,
)
from ccdcr.matching.frames import Frames, Noise, Structure, find_structure
from ccdcr.matching.match import Options, find_hits, match_exposures
from ccdcr.matching.match_tiles import Tiling, fit_tiles, make_terms, weights
from ccdcr.matching.mismatch import EDGES, Dispersion, Tails
from ccdcr.simulation import evaluate, simulate_exposures
from ccdcr.utils.neighbours import (
    bands_in_cache,
    box_sums,
    in_threads,
    median_of_nine,
    running,
    smooth_columns,
)

KNOWN = {"gain": 1.0, "readnoise": 3.0}


@pytest.fixture
def rng():
    """Return a generator of random numbers, the same for each test."""
    return np.random.default_rng(20)


def noise_of(n, gain=1.0, readnoise=3.0):
    """Return the noise of n equal exposures."""
    return Noise.from_detector(n, gain, readnoise)


def frames_of(sim, **more):
    """Return simulated exposures as frames."""
    data = np.stack([ccd.data for ccd in sim.exposures])
    return Frames.from_arrays(
        data, noise_of(len(data), sim.gain, sim.readnoise), **more
    )


def scene_of(frames):
    """Return a scene like the first exposure, in which nothing is flagged."""
    structure = find_structure(frames.data[0], frames.noise)
    nothing = np.zeros(frames.data.shape, dtype=bool)
    return Scene(frames.data[0], structure, nothing)


def test_threads():
    """Results come in the order of the items."""
    assert in_threads(lambda x: x**2, range(50)) == [x**2 for x in range(50)]


class TestFrames:
    """Exposures as the stages see them."""

    def test_unused(self, rng):
        """Bad and saturated pixels, put together once, also for corrected data."""
        data = rng.normal(100, 5, (3, 6, 7)).astype(np.float32)
        bad = rng.random(data.shape) < 0.2
        frames = Frames.from_arrays(data, noise_of(3), bad, level=105)
        assert_array_equal(frames.unused, bad | (data >= 105))
        assert frames.replace(data + 1).unused is frames.unused
        assert Frames.from_arrays(data, noise_of(3)).unused is None

    def test_saturation_of_amplifiers(self, rng):
        """The level is that of counts, whatever the gain of an amplifier."""
        data = rng.integers(60_000, 65_536, (3, 6, 7)).astype(np.float32)
        ratio = rng.uniform(0.7, 1.3, (6, 7)).astype(np.float32)
        factors = np.array([0.7, 1.0, 1.3])
        given = data * ratio / factors[:, np.newaxis, np.newaxis]
        frames = Frames.from_arrays(
            given.astype(np.float32), noise_of(3), level=65_000 / factors, ratio=ratio
        )
        assert_array_equal(frames.saturated, data >= 65_000)


class TestReference:
    """References that are clean where a majority is hit."""

    @pytest.mark.parametrize("n", [2, 3, 4, 5, 8])
    def test_low(self, rng, n):
        """The mean of the lowest others, by sorting."""
        stack = rng.normal(0, 1, (n, 6, 7)).astype(np.float32)
        number = max(n - (n // 2 + 1), 1)
        for i, low in enumerate(low_references(stack)[0]):
            others = np.sort(np.delete(stack, i, axis=0), axis=0)
            assert_allclose(low, others[:number].mean(axis=0), atol=1e-6)

    @pytest.mark.parametrize("n", [3, 5, 6])
    def test_low_with_bad(self, rng, n):
        """As if the bad exposures did not exist, by hand for each pixel."""
        stack = rng.normal(0, 1, (n, 5, 6)).astype(np.float32)
        bad = rng.random(stack.shape) < 0.3
        stack[bad] = 1e9
        references, lows = low_references(stack, bad)
        for i, y, x in np.ndindex(stack.shape):
            others = [stack[j, y, x] for j in range(n) if j != i and not bad[j, y, x]]
            found = references[i][y, x]
            if not others:
                assert found == np.inf
                continue
            k = len(others) + 1
            number = max(k - (k // 2 + 1), 1)
            assert found == pytest.approx(np.mean(sorted(others)[:number]), abs=1e-6)
            low = lows[i] if np.ndim(lows[i]) == 0 else lows[i][y, x]
            assert low == pytest.approx(expected_low(k))

    @pytest.mark.parametrize("n", [2, 3, 4, 5, 7])
    def test_expectation(self, rng, n):
        """The mean of the lowest of n - 1 Gaussian values."""
        number = max(n - (n // 2 + 1), 1)
        values = np.sort(rng.normal(0, 1, (200_000, n - 1)), axis=1)
        # Blom's formula is an approximation.
        assert expected_low(n) == pytest.approx(values[:, :number].mean(), abs=0.03)

    @pytest.mark.parametrize("n", [2, 3, 4, 5, 8])
    @pytest.mark.parametrize("some_bad", [False, True])
    def test_clean(self, rng, n, some_bad):
        """The lower median of what is clean; the lowest where a majority is hit."""

        def expected(values, hit, unused):
            good, hit = np.sort(values[~unused]), np.count_nonzero(hit & ~unused)
            majority = len(good) // 2 + 1
            if len(good) == 0:
                return np.nan
            if hit >= majority:
                return good[: max(len(good) - majority, 1)].mean()
            clean = np.sort(values[~unused & ~masked])
            return clean.mean() if len(clean) == 2 else clean[(len(clean) - 1) // 2]

        stack = rng.normal(0, 1, (n, 300)).astype(np.float32)
        masks = rng.random(stack.shape) < 0.4
        bad = rng.random(stack.shape) < 0.3 * some_bad
        found = clean_reference(stack, masks, bad if some_bad else None)
        for pixel in range(300):
            masked = masks[:, pixel]
            value = expected(stack[:, pixel], masked, bad[:, pixel])
            assert found[pixel] == pytest.approx(value, abs=1e-6, nan_ok=True)

    def test_clean_of_two(self):
        """The mean; the clean one, and the lower one where both are hit."""
        stack = np.array([[1, 5, 9, 7], [3, 3, 6, 9]], dtype=np.float32)
        masks = np.array([[0, 1, 1, 0], [0, 0, 1, 0]], dtype=bool)
        assert_array_equal(clean_reference(stack, masks), [2, 3, 6, 8])
        bad = np.array([[1, 0, 0, 1], [0, 0, 0, 1]], dtype=bool)
        assert_array_equal(clean_reference(stack, masks, bad), [3, 3, 6, np.nan])

    def test_clean_with_bad(self):
        """Bad values are in no sort; without a good one there is none."""
        stack = np.array([[1, 5, 9, 7], [2, 50, 9, 7], [3, 3, 4, 7]], dtype=np.float32)
        bad = np.array([[0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 0, 1]], dtype=bool)
        nothing = np.zeros(stack.shape, dtype=bool)
        clean = clean_reference(stack, nothing, bad)
        assert_array_equal(clean, [2, 4, 4, np.nan])

    def test_planes(self):
        """The lowest in order; infinity where there are not enough."""
        stack = np.array([[3.0], [1.0], [2.0]])
        assert np.ravel(lowest_planes(stack, 2)).tolist() == [1, 2]
        bad = np.array([[False], [True], [True]])
        assert np.ravel(lowest_planes(stack, 2, bad)).tolist() == [3, np.inf]

    @pytest.mark.parametrize("n", [2, 3, 4, 5])
    def test_others(self, rng, n):
        """The minimum of the others that are good; infinity without any."""
        stack = rng.normal(0, 1, (n, 6, 7)).astype(np.float32)
        bad = rng.random(stack.shape) < 0.4
        filled = np.where(bad, np.inf, stack)
        for i, lowest in enumerate(lowest_others(stack, bad)):
            assert_array_equal(lowest, np.delete(filled, i, axis=0).min(axis=0))


def grow(z, limits):
    """Return the mask (ny, nx) grown from seeds above 6 sigma."""
    both = np.stack([z, np.zeros_like(z)])
    return Outliers.of(both, limits.low).grown(6, limits)[0]


class TestGrowth:
    """Connected pixels and neighbours."""

    def test_grow(self):
        """Neighbours by their own value and the charge they got, worked out by hand."""
        z = np.zeros((7, 7), dtype=np.float32)
        z[3, 3] = 40
        z[3, 2], z[2, 3], z[4, 3], z[2, 2] = 1.6, 1.8, -0.1, 2.4
        # 0.02 * 40 = 0.8, so that 1.7 is missing to 2.5.
        mask = grow(z, Limits(leak=0.02))
        assert np.argwhere(mask).tolist() == [[2, 3], [3, 3]]
        # A corner is no neighbour, but may be connected.
        mask = grow(z, Limits(low=2, leak=0.02))
        assert mask[2, 2]

    @pytest.mark.parametrize(("hit", "flagged"), [(49, 1), (51, 4)])
    def test_charge(self, hit, flagged):
        """Above 1 sigma of charge the noise does not matter: 0.02 * 50."""
        z = np.zeros((7, 7), dtype=np.float32)
        z[3, 3], z[3, 2], z[2, 3], z[4, 3] = hit, -3, -0.5, -np.inf
        assert grow(z, Limits(leak=0.02)).sum() == flagged

    @pytest.mark.parametrize("low", [False, True])
    def test_last(self, low):
        """Charge of 2 sigma does not mask the only exposure that is clean, 3 do."""
        z = np.zeros((3, 5, 5), dtype=np.float32)
        z[:2, 2, 2], z[2, 2, 1] = 50, 100
        limits = Limits(leak=0.02)
        unused = np.zeros(z.shape, dtype=bool)
        if low:  # the second exposure does not count
            z[1, 2, 2], unused[1, 2, 2] = -np.inf, True
        masks = Outliers.of(z, limits.low).grown(6, limits, unused)
        assert masks[:, 2, 2].tolist() == [True, not low, False]
        assert masks[2, 1, 1]
        z[0, 2, 2], z[0, 1, 2] = 0.5, 100
        masks = Outliers.of(z, limits.low).grown(6, limits, unused)
        assert masks[:, 2, 2].tolist() == [True, not low, False]
        z[:, 2, 2] += 3
        masks = Outliers.of(z, limits.low).grown(6, limits, unused)
        assert masks[:, 2, 2].tolist() == [True, not low, True]

    def test_nothing(self):
        """Without a seed nothing is masked."""
        z = np.full((4, 4), 5, dtype=np.float32)
        assert not grow(z, Limits(leak=0.02)).any()

    def test_forbidden(self):
        """Minus infinity is never masked."""
        z = np.full((3, 3), -np.inf, dtype=np.float32)
        z[1, 1] = 1e4
        assert grow(z, Limits(leak=0.02)).sum() == 1


class TestLeak:
    """The charge that neighbours get."""

    def hits(self, rng, share, number):
        """Return deviations with short tracks along rows, and their mask."""
        z = rng.normal(0, 1, (3, 200, 200)).astype(np.float32)
        masks = np.zeros(z.shape, dtype=bool)
        for k, place in enumerate(rng.permutation(400)[:number]):
            y, x = 10 * (place // 20) + 4, 10 * (place % 20) + 4
            z[k % 3, y, x - 1 : x + 2] += np.array([200, 500, 200], dtype=np.float32)
            z[k % 3, y - 1 : y + 2 : 2, x] += np.float32(500 * share)
            masks[k % 3, y, x - 1 : x + 2] = True
        return Outliers.of(z, 5), masks

    @pytest.mark.parametrize("share", [0.015, 0.04, 0.08])
    def test_measured(self, rng, share):
        """What is beside the tracks, but for noise."""
        assert measure_leak(*self.hits(rng, share, 300)) == pytest.approx(
            share, abs=0.003
        )

    def test_bounds(self, rng):
        """Neither nothing nor much is believed."""
        assert measure_leak(*self.hits(rng, 0, 300)) == pytest.approx(0.01)
        assert measure_leak(*self.hits(rng, 0.2, 300)) == pytest.approx(0.1)

    def test_few(self, rng):
        """Few hits tell nothing, nor do those of several exposures."""
        assert measure_leak(*self.hits(rng, 0.04, 90)) == 0.02
        z, masks = self.hits(rng, 0.04, 300)
        assert measure_leak(z, masks | masks.any(axis=0)) == 0.02


class TestWindows:
    """Minima, maxima, medians and sums, as scipy has them."""

    @pytest.mark.parametrize("shape", [(1, 1), (2, 30), (40, 51)])
    @pytest.mark.parametrize("size", [1, 3, 25, 41])
    def test_windows(self, rng, shape, size):
        """Windows larger than the image, too."""
        image = rng.normal(100, 1, shape).astype(np.float32)
        low = ndimage.minimum_filter(image, size, mode="nearest")
        assert_array_equal(running(np.minimum, image, size), low)
        high = ndimage.maximum_filter(image, size, mode="nearest")
        assert_array_equal(running(np.maximum, image, size), high)
        mean = ndimage.uniform_filter(image.astype(float), size, mode="nearest")
        assert_allclose(box_sums(image, size), mean * size**2, rtol=1e-5)

    @pytest.mark.parametrize("order", range(5))
    @pytest.mark.parametrize("step", [1, 2])
    def test_gaussian(self, rng, order, step):
        """Derivatives along columns."""
        image = rng.normal(100, 1, (40, 31)).astype(np.float32)
        image[20, 3:9] += 500
        expected = ndimage.gaussian_filter1d(
            image.astype(float), 1.2, axis=0, order=order, mode="nearest"
        )
        smooth = smooth_columns(image, 1.2, order, step)
        assert_allclose(smooth, expected[::step], rtol=1e-5, atol=1e-3)

    @pytest.mark.parametrize("shape", [(1, 1), (2, 30), (40, 51)])
    def test_median(self, rng, shape):
        """Ties, too."""
        image = rng.integers(0, 9, shape).astype(np.float32)
        expected = ndimage.median_filter(image, 3, mode="nearest")
        assert_array_equal(median_of_nine(image), expected)


class TestStructure:
    """Structure without what noise gives."""

    def test_flat(self, rng):
        """Noise has next to none."""
        image = rng.normal(100, 5, (150, 160)).astype(np.float32)
        structure = find_structure(image, noise_of(3, readnoise=5.0))
        assert np.mean(structure.height > 0) < 0.05
        assert np.mean(structure.contrast > 0) < 0.05

    def test_star(self):
        """The height of a star; its contrast where it is steepest."""
        y, x = np.indices((120, 130))
        star = 1e4 * np.exp(-((y - 60) ** 2 + (x - 40) ** 2) / 8)
        structure = find_structure((star + 100).astype(np.float32), noise_of(3))
        assert structure.height[60, 40] == pytest.approx(1e4, rel=0.01)
        window = star[59:62, 42:45]
        half = (window.max() - window.min()) / 2
        assert structure.contrast[60, 43] == pytest.approx(half, rel=0.02)
        assert structure.level()[60, 100] == 0

    def test_bands(self, rng):
        """An image of several bands is measured as one."""
        image = rng.normal(100, 5, (300, 1000)).astype(np.float32)
        assert len(bands_in_cache(image.shape)) > 1
        structure = find_structure(image, noise_of(3))
        smooth = ndimage.gaussian_filter(image, 1, mode="nearest")
        lowest = ndimage.minimum_filter(smooth, 25, mode="nearest")
        background = ndimage.uniform_filter(lowest, 25, mode="nearest")
        assert_allclose(structure.profile, image - background, atol=1e-3)


class TestTiles:
    """The terms of each tile."""

    @pytest.mark.parametrize("shape", [(64, 64), (130, 200), (40, 50), (1, 7)])
    def test_tiling(self, rng, shape):
        """Tiles hold each pixel once, zeros beyond."""
        tiling = Tiling.from_tile(shape, 64)
        image = rng.random(shape)
        assert tiling.cut(image).sum() == pytest.approx(image.sum())

    @pytest.mark.parametrize("shape", [(64, 64), (130, 200), (40, 51), (1, 7)])
    @pytest.mark.parametrize("tile", [17, 64])
    def test_interpolation(self, rng, shape, tile):
        """Straight lines between the centres of the tiles, along both axes."""
        tiling = Tiling.from_tile(shape, tile)
        values = rng.normal(0, 1, (*tiling.number, 2))
        expected = values
        for axis in (0, 1):
            centres = (np.arange(tiling.number[axis]) + 0.5) * tiling.size[axis] - 0.5
            expected = np.apply_along_axis(
                lambda v, a=axis, c=centres: np.interp(np.arange(shape[a]), c, v),
                axis,
                expected,
            )
        for rows in tiling.bands():
            images = tiling.interpolate(values, rows)
            assert_allclose(np.stack(images, axis=-1), expected[rows], atol=1e-5)

    @pytest.mark.parametrize("rows", [slice(5, 9), slice(0, 3), slice(17, 20)])
    def test_terms(self, rows):
        """Derivatives and Laplacian of a parabola."""
        y, x = np.indices((20, 30)).astype(np.float32)
        image = x**2 + 3 * x * y
        strong = np.full_like(image, 1e6)
        structure = Structure(image - 1, strong, strong)
        part = np.s_[max(rows.start, 1) : min(rows.stop, 19), 1:-1]
        terms = make_terms(image, structure, noise_of(3), rows)
        inside = slice(part[0].start - rows.start, part[0].stop - rows.start)
        found = terms[:, inside, 1:-1]
        assert_allclose(found[0], (image - 1)[part])
        assert_allclose(found[1], (2 * x + 3 * y)[part])
        assert_allclose(found[2], (3 * x)[part])
        assert_allclose(found[3], 2)
        assert_allclose(found[4], 1)

    def test_no_terms_of_noise(self):
        """Where there is no structure only the constant is left."""
        image = np.arange(600, dtype=np.float32).reshape(20, 30)
        structure = Structure(image, np.zeros_like(image), np.zeros_like(image))
        terms = make_terms(image, structure, noise_of(3), slice(0, 20))
        assert_array_equal(terms[4], 1)
        assert not np.delete(terms, 4, axis=0).any()

    def test_tile_without_structure(self, rng):
        """What a tile does not know is that of the whole image."""
        y, x = np.indices((128, 192))

        def scene(dx):
            stars = np.zeros(y.shape)
            for y0, x0 in places:
                stars += 2e4 * np.exp(-((y - y0) ** 2 + (x - x0 - dx) ** 2) / 4.5)
            return stars + 100

        places = rng.uniform((10, 78), (118, 112), (20, 2))
        stack = np.stack([scene(dx) for dx in (0, 0.1, -0.1)])
        stack = (stack + rng.normal(0, 10, stack.shape)).astype(np.float32)
        frames = Frames.from_arrays(stack, noise_of(3))
        fits = fit_tiles(frames, scene_of(frames), Tiling.from_tile(y.shape, 64))
        shift = fits.coefficients[..., 1]
        # The stars are in the tiles of the middle column.
        assert_allclose(shift[1], -0.1, atol=0.03)
        assert_allclose(shift[2], 0.1, atol=0.03)

    def test_weights(self):
        """Tukey's biweight: 1 at 0, 9/16 at half of its width, 0 at 4 sigma."""
        residual = np.array([0, 2, 4, 9], dtype=np.float32) * 3
        found = weights(residual, np.float32(9))
        assert_allclose(found * 9, [1, 9 / 16, 0, 0], atol=1e-6)

    def test_fit(self):
        """Injected flux, shift, seeing and background come back."""
        y, x = np.indices((128, 128))

        def scene(dx=0.0, dy=0.0, variance=4.0):
            image = np.zeros((128, 128))
            for y0 in range(8, 128, 16):
                for x0 in range(8, 128, 16):
                    square = (y - y0 - dy) ** 2 + (x - x0 - dx) ** 2
                    image += 4e4 / variance * np.exp(-square / 2 / variance)
            return image

        stack = np.stack(
            [
                scene() + 100,
                1.05 * scene() + 100,
                scene(dx=0.1) + 100,
                scene(dy=-0.1) + 100,
                scene(variance=4.2) + 100,
                scene() + 107,
            ]
        ).astype(np.float32)
        frames = Frames.from_arrays(stack, noise_of(6))
        fits = fit_tiles(frames, scene_of(frames), Tiling.from_tile(frames.shape, 64))
        inner = fits.coefficients.mean(axis=(1, 2))
        expected = np.diag([0.05, -0.1, 0.1, 0.1, 7.0])
        # The faintest wings are not corrected, which is 1e-4 of the peaks.
        tolerance = [0.003, 0.01, 0.01, 0.015, 1.5]
        assert np.all(np.abs(inner[1:] - expected) < tolerance), inner


class TestStrips:
    """Matching along rows."""

    def line(self, rng, factor):
        """Return difference and height of a sky line that changes."""
        height = np.zeros((40, 200), dtype=np.float32)
        height[20] = 300
        noise = rng.normal(0, 10, height.shape).astype(np.float32)
        return noise + np.float32(factor) * height, height, np.full_like(height, 100)

    def test_line(self, rng):
        """What changes along the strip is subtracted, also under a hit."""
        difference, height, variance = self.line(rng, 0.2)
        difference[20, 100:104] += 500
        match_along(1, difference, height, variance)
        assert abs(difference[20, :95].mean()) < 5
        assert difference[20, 100:104].min() > 450

    @pytest.mark.parametrize("x", [0, 1, 199])
    def test_edge(self, rng, x):
        """A hit in the first or last pixel is left, as anywhere else."""
        difference, height, variance = self.line(rng, 0)
        difference[20, x] += 80
        before = difference[20, x]
        match_along(1, difference, height, variance)
        assert difference[20, x] > 0.95 * before

    def test_track(self, rng):
        """A track along the line is narrower than the line, and is left."""
        height = np.zeros((40, 200), dtype=np.float32)
        height[19:22] = 300
        variance = np.full_like(height, 100)
        noise = rng.normal(0, 10, height.shape).astype(np.float32)
        track, line = noise.copy(), noise + np.float32(0.2) * height
        track[20, 60:120] += 60
        for difference in (track, line):
            match_along(1, difference, height, variance)
        assert track[20, 70:110].mean() > 40
        assert abs(line[19:22].mean()) < 2

    def test_columns(self, rng):
        """Along columns it is the same, of the image turned."""
        planes = self.line(rng, 0.2)
        turned = [plane.T.copy() for plane in planes]
        match_along(1, *planes)
        match_along(0, *turned)
        assert_allclose(turned[0].T, planes[0], atol=1e-3)

    def test_no_change(self, rng):
        """Equivalent exposures stay as they are, but for a few lines by chance."""
        difference, height, variance = self.line(rng, 0)
        before = difference.copy()
        match_along(1, difference, height, variance)
        assert np.mean(difference != before) < 0.01

    @pytest.mark.parametrize(("fine", "everywhere"), [(1, 1), (1, 0), (0, 1)])
    def test_common(self, fine, everywhere):
        """What strips have in common is subtracted, though each is not significant."""
        height = np.full((9, 132), 100, dtype=np.float32)
        # 10 squared sigmas in 44 x 3 pixels, 30 in three times as many.
        variance = np.full_like(height, 132 * 3**2 / 10)
        difference = np.float32(0.03) * height
        if not everywhere:
            difference[:, :44] = difference[:, 88:] = 0
        before = difference.copy()
        match_along(1, difference, height, variance, fine=fine)
        left = difference[1:-1, 60:72] / before[1:-1, 60:72]
        assert_allclose(left, 0 if fine and everywhere else 1, atol=0.05)

    def test_common_alone(self):
        """A part of a line that differs alone does not change what is beside it."""
        height = np.full((9, 300), 100, dtype=np.float32)
        difference = np.zeros_like(height)
        difference[:, 120:180] = 10  # 10 sigmas in 44 x 3 pixels
        match_along(1, difference, height, np.full_like(height, 132), fine=True)
        assert np.abs(difference[1:-1, 60:96]).max() < 0.5

    def test_bad(self, rng):
        """Bad pixels have no weight."""
        difference, height, variance = self.line(rng, 0.2)
        bad = np.zeros(height.shape, dtype=bool)
        bad[20, 90:110] = True
        changed = difference.copy()
        changed[bad] = 30
        for image in (difference, changed):
            match_along(1, image, height, variance, bad)
        assert_allclose(difference[~bad], changed[~bad])


class TestDispersion:
    """The mirror statistic."""

    def test_quantile(self, rng):
        """The 0.995 quantile of Gaussian values, and the excess of wider ones."""
        level = np.repeat(np.float32([0.1, 20.0]), 200_000)
        values = rng.normal(0, 1, level.size).astype(np.float32)
        values[level > 1] *= 3
        usable = np.ones(level.size, dtype=bool)
        tails = Tails.join([Tails.collect([values], level, [usable])])
        dispersion = Dispersion.measure(tails, 3)
        known = np.isfinite(dispersion.quantile)
        assert_array_equal(np.flatnonzero(known), [0, 6])
        assert_allclose(dispersion.quantile[known], [2.576, 3 * 2.576], rtol=0.03)
        assert dispersion.ratio[6] == pytest.approx(3, rel=0.03)
        # sqrt(Q^2 - Q0^2) / 2 is 1.288 * sqrt(9 - 1), over the level.
        assert dispersion.strength[6] == pytest.approx(1.288 * 8**0.5 / 20, rel=0.05)
        extra = dispersion.variance(np.float32([20.0]), np.float32(50.0))
        assert_allclose(extra, (dispersion.strength[6] * 20) ** 2 * 50, rtol=0.1)

    def test_doubtful(self, rng):
        """A few doubtful values are cosmic rays; mismatch widens all of them."""
        level = np.full(6000, 20, dtype=np.float32)
        doubtful = np.arange(6000) < 100
        usable = np.ones(6000, dtype=bool)
        hit = rng.normal(0, 1, 6000).astype(np.float32)
        wide = 10 * hit
        hit[doubtful] += 100

        def quantile(values):
            tails = Tails.collect([values], level, [usable], doubtful)
            return Dispersion.measure(tails, 3).quantile[6]

        # Twice the 0.95 quantile of Gaussian values, 1.645, at most.
        assert 2.4 < quantile(hit) < 3.6
        assert quantile(wide) == pytest.approx(25.76, rel=0.15)

    def test_poor_bins(self):
        """Without values there is nothing to add."""
        level = np.full(300, 5, dtype=np.float32)
        usable = np.ones(300, dtype=bool)
        dispersion = Dispersion.measure(Tails.collect([level], level, [usable]), 3)
        assert np.isnan(dispersion.quantile).all()
        assert len(dispersion.quantile) == len(EDGES) + 1
        assert not dispersion.variance(level, 1.0).any()

    def test_two_exposures(self, rng):
        """Hits of a few percent do not change the quantile of two."""
        level = np.zeros(100_000, dtype=np.float32)
        values = rng.normal(0, 1.414, level.size).astype(np.float32)
        values[:2000] = 500
        usable = np.ones(level.size, dtype=bool)
        dispersion = Dispersion.measure(Tails.collect([values], level, [usable]), 2)
        assert dispersion.quantile[0] == pytest.approx(2.576 * 1.414, rel=0.1)


class TestDecide:
    """From deviations to masks."""

    def flat(self, rng, n=3, shape=(60, 60)):
        """Return flat exposures with noise."""
        data = rng.normal(100, 109**0.5, (n, *shape)).astype(np.float32)
        return data, noise_of(n)

    @pytest.mark.parametrize("n", [2, 3, 4, 5])
    def test_first(self, rng, n):
        """Hits of a majority of the exposures are found, and nothing else."""
        data, noise = self.flat(rng, n)
        # Of the neighbours of a hit some are above the usual tail by chance.
        limits = Limits(leak=0, tail=np.inf)
        number = 1 if n == 2 else n // 2 + 1
        data[:number, 30, 30] += 300
        masks = first_masks(Frames.from_arrays(data, noise), limits)
        expected = np.zeros(data.shape, dtype=bool)
        expected[:number, 30, 30] = True
        assert_array_equal(masks, expected)

    @pytest.mark.parametrize("n", [2, 3, 4, 5])
    def test_next(self, rng, n):
        """The mean of the clean others is the reference."""
        data, noise = self.flat(rng, n)
        data[0, 30, 30] += 200
        masks = np.zeros(data.shape, dtype=bool)
        level = np.full(data.shape[1:], 100, dtype=np.float32)
        found, z = next_masks(
            masks, Limits(leak=0), Frames.from_arrays(data, noise), level
        )
        others = data[1:, 30, 30].mean()
        signal = max(others, 100)
        sigma = np.sqrt((9 + signal) * (1 + 1 / (n - 1)))
        (value,) = z.values[0][z.places[0] == 30 * 60 + 30]
        assert value == pytest.approx((data[0, 30, 30] - others) / sigma)
        assert found[0, 30, 30]
        assert found.sum() == 1

    @pytest.mark.parametrize(
        ("structure", "beside"), [(False, 0), (True, 0), (True, 4)]
    )
    def test_alone(self, structure, beside):
        """A pixel alone must be as rare as the limit, with the skewness of counts."""
        photons, readnoise = 28, 4.74
        sigma = np.sqrt((photons + readnoise**2) * 1.5)
        own, others = np.arange(120), np.arange(200)
        chance = poisson.pmf(own, photons)[:, np.newaxis]
        chance = chance * poisson.pmf(others, 2 * photons)
        excess = own[:, np.newaxis] - others / 2

        def gaussian(z):
            """Return the Gaussian deviation as rare as z above the mean of two."""
            left = (z * sigma - excess) / (readnoise * 1.5**0.5)
            return norm.isf((chance * norm.sf(left)).sum())

        least = brentq(lambda z: gaussian(z) - 5 - 0.75 * structure, 4, 9)
        if beside:
            least = 5.0
        data = np.full((3, 9, 25), photons, dtype=np.float32)
        data[0, 4, 4:25:8] += (least + np.float32([-0.05, 0.05, 2])) * sigma
        data[0, 5, 5:25:8] += beside * sigma
        frames = Frames.from_arrays(data, noise_of(3, readnoise=readnoise))
        where = np.full(data.shape[1:], structure)
        nothing = np.zeros(data.shape, dtype=bool)
        masks, _ = next_masks(nothing, Limits(leak=0), frames, data[1], structure=where)
        assert masks[0, 4, 4:25:8].tolist() == [False, True, True]

    def test_faint_groups(self):
        """Groups that touch, at corners too, a pixel above 8 sigma are not faint."""
        z = np.zeros((2, 6, 9), dtype=np.float32)
        z[0, 1, 1:3], z[0, 2, 3], z[0, 4, 6] = 6, 9, 7
        z[1, 0, 0] = 20
        found = faint_groups(Outliers.of(z, 4), z > 4)
        assert [places.tolist() for places in found] == [[4 * 9 + 6], []]

    def test_coincident(self):
        """Two of three flagged exposures, or one of two, that deviate clearly."""
        z = np.full((3, 2, 2), 9, dtype=np.float32)
        masks = np.ones(z.shape, dtype=bool)
        masks[1:, 0, 0] = False
        z[1:, 0, 1] = 1.0
        masks[2, 1, 0] = False
        assert coincident_pixels(Outliers.of(z, 0), masks).tolist() == [
            [False, False],
            [True, True],
        ]
        assert coincident_pixels(Outliers.of(z[1:], 0), masks[1:]).tolist() == [
            [False, False],
            [True, True],
        ]

    @pytest.mark.parametrize(
        ("n", "needed"), [(2, 1), (3, 2), (4, 2), (5, 3), (6, 3), (7, 4)]
    )
    def test_least_hits(self, n, needed):
        """As many as make the mean of the middle values, or the median, wrong."""
        number = np.arange(n + 1)
        masks = np.arange(n)[:, np.newaxis, np.newaxis] < number
        z = np.full(masks.shape, 9, dtype=np.float32)
        values = np.median(np.where(masks, 1000, 10), axis=0)
        assert_array_equal(coincident_pixels(Outliers.of(z, 0), masks), values > 10)
        assert_array_equal(
            coincident_pixels(Outliers.of(z, 0), masks)[0], number >= needed
        )

    def test_coincident_of_the_others(self):
        """Where one of three is bad, the median of two is wrong by one hit."""
        z = np.full((3, 1, 2), 9, dtype=np.float32)
        masks = np.zeros(z.shape, dtype=bool)
        masks[0] = True
        bad = np.zeros(z.shape, dtype=bool)
        bad[2, 0, 0] = True
        assert coincident_pixels(Outliers.of(z, 0), masks, bad).tolist() == [
            [True, False]
        ]


class TestExpected:
    """What the others say of a pixel, and what is around it."""

    def compare(self, stack, masks, pixel=(10, 12), **more):
        """Return value, variance and number of the second exposure at a pixel."""
        level = np.zeros(stack.shape[1:], dtype=np.float32)
        noise = noise_of(len(stack), readnoise=10.0)
        found = list(expected_values(stack, masks, level, noise, **more))
        return [float(plane[pixel]) for plane in found[1]]

    def flat(self, rng, n=3, scatter=0.01):
        """Return exposures of hardly any noise, and empty masks."""
        stack = rng.normal(0, scatter, (n, 24, 26)).astype(np.float32)
        return stack, np.zeros(stack.shape, dtype=bool)

    def test_no_hit(self, rng):
        """The mean of the others, whatever is around."""
        stack, masks = self.flat(rng)
        masks[0, 9, 12] = True
        value, variance, number = self.compare(stack, masks)
        assert value == pytest.approx((stack[0] + stack[2])[10, 12] / 2, abs=1e-6)
        assert (variance, number) == (50, 2)

    def test_flat(self, rng):
        """All clean pixels of 5 x 5 count alike."""
        stack, masks = self.flat(rng)
        masks[0, 10, 11:13] = True
        stack[masks] = 1e4
        value, variance, number = self.compare(stack, masks)
        around = np.s_[::2, 8:13, 10:15]
        clean = stack[around][~masks[around]]
        assert len(clean) == 48
        assert value == pytest.approx(clean.mean(), abs=1e-6)
        assert variance == pytest.approx(100 / 48, rel=1e-3)
        assert number == 1

    @pytest.mark.parametrize("axis", [0, 1])
    def test_line(self, rng, axis):
        """Along a line its own pixels count, as far as they agree."""
        stack, masks = self.flat(rng)
        lines = rng.normal(0, 1e4, stack.shape[1 + axis]).astype(np.float32)
        stack += np.expand_dims(lines, 1 - axis)
        masks[0, 10, 12] = True
        value, variance, _ = self.compare(stack, masks)
        along = np.s_[::2, 8:13, 12] if axis else np.s_[::2, 10, 10:15]
        clean = stack[along][~masks[along]]
        assert value == pytest.approx(clean.mean(), abs=1e-2)
        assert variance == pytest.approx((100 + lines[[10, 12][axis]].clip(0)) / 9)

    def test_structure(self, rng):
        """Where pixels have nothing in common they say nothing of each other."""
        stack, masks = self.flat(rng)
        stack += rng.normal(0, 1e4, stack.shape[1:]).astype(np.float32)
        masks[0, 10, 12] = True
        value, variance, _ = self.compare(stack, masks)
        own = 100 + max(stack[2, 10, 12], 0)
        assert abs(value - stack[2, 10, 12]) < np.sqrt(own)
        assert variance == pytest.approx(own, rel=0.02)

    @pytest.mark.parametrize("n", [3, 5])
    def test_honest(self, rng, n):
        """The noise of a comparison is what it is said to be, on curves, too."""
        stack, masks = self.flat(rng, n)
        masks[0, 10, 12] = True
        y = np.arange(24)[:, np.newaxis] - 10
        errors, variances = [], []
        for _ in range(300):
            stack[:] = rng.normal(-np.square(y), 10, stack.shape)
            value, variance, number = self.compare(stack, masks)
            errors.append(value)
            variances.append(variance)
        actual, claimed = (100 + np.mean(v) for v in (np.square(errors), variances))
        assert claimed == pytest.approx(actual, rel=0.05)
        assert actual < 100 + 0.5 * 100 / number

    def test_edge(self, rng):
        """Nothing is beyond the image."""
        stack, masks = self.flat(rng)
        masks[0, 0, 0] = True
        value, variance, _ = self.compare(stack, masks, pixel=(0, 0))
        clean = np.append(stack[0, :3, :3].ravel()[1:], stack[2, :3, :3])
        assert value == pytest.approx(clean.mean(), abs=1e-6)
        assert variance == pytest.approx(100 / 17, rel=1e-3)

    def test_bad(self, rng):
        """What takes no part is no neighbour, whatever its value."""
        stack, masks = self.flat(rng)
        masks[0, 10, 12] = True
        unused = np.zeros_like(masks)
        unused[:, 8:13, 10:12] = True
        unused[0, 8:13, 13] = True
        stack[unused] = np.nan
        value, variance, _ = self.compare(stack, masks, unused=unused)
        clean = np.concatenate(
            [stack[0, 8:13, [12, 14]].ravel(), stack[2, 8:13, 12:15].ravel()]
        )
        assert value == pytest.approx(np.delete(clean, 2).mean(), abs=1e-6)
        assert variance == pytest.approx(100 / 24, rel=1e-3)

    def test_found(self, rng):
        """Of hits of 7 sigma on others few are lost; 4.9 as a difference of two."""
        stack = rng.normal(0, 10, (3, 90, 90)).astype(np.float32)
        hits = np.zeros((90, 90), dtype=bool)
        hits[5:-5:8, 5:-5:8] = True
        stack[:2, hits] += [[1000], [70]]
        masks = np.zeros(stack.shape, dtype=bool)
        masks[0] = hits
        frames = Frames.from_arrays(stack, noise_of(3, readnoise=10.0))
        masks, _ = next_masks(masks, Limits(leak=0), frames, np.zeros_like(stack[0]))
        assert masks[1, hits].mean() > 0.9
        assert masks[1, ~hits].mean() < 1e-3


class TestNoise:
    """The noise of scaled exposures."""

    def test_scaled(self):
        """An exposure divided by 2 has half of the standard deviation."""
        noise = Noise.from_detector(2, 1.5, 6.0, [1, 2])
        assert noise.variance(100.0, 0) == pytest.approx(16 + 100 / 1.5)
        # Signal 100 after the division was 200 before.
        assert noise.variance(100.0, 1) == pytest.approx((16 + 200 / 1.5) / 4)
        mean = (noise.variance(100.0, 0) + noise.variance(100.0, 1)) / 2
        assert noise.mean_variance(100.0) == pytest.approx(mean)
        assert noise.variance_of_others(100.0, 0) == pytest.approx(
            noise.variance(100.0, 1)
        )

    def test_no_readnoise(self):
        """Without read noise one electron is left."""
        assert Noise.from_detector(2, 2.0, 0.0).variance(0.0, 0) == 0.25


class TestMatching:
    """Bands and what they have in common."""

    @pytest.mark.parametrize("strips", [True, False])
    def test_bands(self, monkeypatch, strips):
        """Narrow bands give what one band gives."""
        sim = simulate_exposures((150, 160), scene="fibres", seed=4, flux=(0.9, 1, 1.1))
        frames = frames_of(sim)
        options = Options(tile=16, strips=strips)
        one = match_exposures(frames, options)
        monkeypatch.setattr("ccdcr.utils.neighbours._CACHE", 160 * 16)
        many = match_exposures(frames, options)
        assert_allclose(many.frames.data, one.frames.data, rtol=1e-5, atol=1e-2)
        assert_array_equal(many.masks, one.masks)


CASES = {
    "equivalent": {},
    "flux": {"flux": (0.9, 1, 1.1)},
    "shift": {"shift": [(-0.2, 0.15), (0, -0.15), (0.2, 0)]},
    "seeing": {"seeing": (2.25, 2.5, 2.75)},
    "sky": {"sky_lines": (1.06, 0.94, 1), "background": (0, 3, 6)},
}


class TestWhole:
    """Simulated exposures, equivalent or not."""

    @pytest.mark.filterwarnings("ignore::ccdcr.exceptions.NotEquivalentWarning")
    @pytest.mark.parametrize("scene", ["fibres", "stars", "longslit"])
    @pytest.mark.parametrize("case", CASES)
    def test_three(self, scene, case):
        """Nearly all hits, hardly a false one."""
        sim = simulate_exposures((256, 256), scene=scene, seed=77, **CASES[case])
        masks = detect_cosmic_rays(sim.exposures, crmethod="matched", **KNOWN)
        table = evaluate(masks, {}, sim).masks
        coincident, *own = table
        assert coincident["recall"] > 0.95
        assert coincident["false"] <= 4
        assert min(row["recall"] for row in own) > 0.994
        assert sum(row["false"] for row in own) <= 25
        assert np.all(masks.mediancr <= masks.meancrt)
        assert_array_equal(masks.meancrt, masks.crmasks.any(axis=0))
        assert_array_equal(masks.meancr, masks.crmasks.all(axis=0))
        assert np.all(masks.mediancr <= (masks.crmasks.sum(axis=0) >= 2))

    @pytest.mark.parametrize("n", [2, 4, 5])
    def test_other_numbers(self, n):
        """Hits of half of the exposures spoil the median."""
        sim = simulate_exposures((256, 256), n_exposures=n, cr_rate=1.5, seed=6)
        masks = detect_cosmic_rays(sim.exposures, crmethod="matched", **KNOWN)
        coincident, *own = evaluate(masks, {}, sim).masks
        # Where both of two are hit, nothing is left to compare with.
        assert min(row["recall"] for row in own) > (0.96 if n == 2 else 0.997)
        assert sum(row["false"] for row in own) <= 8 * n
        assert coincident["recall"] > (0.96 if n == 2 else 0.99)
        assert coincident["false"] <= 4 * n

    def test_few_stars(self):
        """Cores of few stars that differ in two exposures are not hit in one."""
        sim = simulate_exposures(
            (192, 192),
            n_exposures=2,
            scene="stars",
            flux=(0.85, 1.15),
            seeing=(2.65, 2.35),
            shift=[(-0.1, 0.1), (0.1, -0.1)],
            cr_rate=0.3,
            seed=4,
        )
        masks = detect_cosmic_rays(sim.exposures, **KNOWN)
        cores = sim.expected.mean(axis=0) > 1000
        assert cores.sum() >= 10
        assert not (masks.crmasks & ~sim.hits(0.5) & cores).any()
        hits = sim.hits(5)
        assert (masks.crmasks & hits).sum() > 0.98 * hits.sum()

    @pytest.mark.parametrize("n", [4, 6])
    def test_median(self, n):
        """Hits of half of the exposures: mediancr and meancrt are clean."""
        sim = simulate_exposures((200, 200), n_exposures=n, cr_rate=4, seed=n)
        masks = detect_cosmic_rays(sim.exposures, crmethod="matched", **KNOWN)
        half = sim.hits(5).sum(axis=0) == n // 2
        combiner = CRCombiner(sim.exposures, masks)
        images = {
            "median": combiner.median_combine(),
            "mediancr": combiner.mediancr_combine(),
            "meancrt": combiner.meancrt_combine(),
        }
        limit = sim.expected.mean(axis=0) + 8 * sim.noise.mean(axis=0)
        left = {k: ((v.data > limit) & half).sum() for k, v in images.items()}
        assert left["median"] > 100
        assert left["mediancr"] <= 2
        assert left["meancrt"] <= 2

    @pytest.mark.filterwarnings("ignore:.*pixels are too few to match")
    @pytest.mark.parametrize("shape", [(20, 20), (1, 30), (3, 70)])
    def test_small(self, shape):
        """Images smaller than a tile, and than any window."""
        sim = simulate_exposures(shape, cr_rate=0, seed=3)
        sim.exposures[1].data[0, 10] += 500
        masks = detect_cosmic_rays(sim.exposures, crmethod="matched", **KNOWN)
        assert masks.crmasks[1, 0, 10]
        assert masks.crmasks[[0, 2]].sum() == 0

    def test_saturated_hits(self):
        """A hit that saturates is one of three values, of which the median is right."""
        sim = simulate_exposures((100, 120), scene="stars", cr_rate=0, seed=3)
        sim.exposures[1].data[10:90:20, 10:110:20] = 6e4
        masks = detect_cosmic_rays(sim.exposures, ma_satlevel=59000, **KNOWN)
        assert masks.crmasks[1, 10:90:20, 10:110:20].all()
        assert not masks.mediancr.any()

    def test_bad_pixels(self, rng):
        """NaN, infinity and masks take no part and are never flagged."""
        sim = simulate_exposures((128, 128), scene="stars", seed=3)
        ccds = [ccd.copy() for ccd in sim.exposures]
        bad = rng.random((3, 128, 128)) < 0.02
        bad[:, 50:60, 50:60] = True
        bad[0, :, 90:93] = True
        for ccd, mask in zip(ccds, bad, strict=True):
            ccd.data[mask] = rng.choice([np.nan, np.inf, -1e6, 1e7], mask.sum())
            ccd.mask = mask
        masks = detect_cosmic_rays(ccds, crmethod="matched", **KNOWN)
        assert not masks.crmasks[bad].any()
        assert not masks.mediancr[50:60, 50:60].any()
        hits = sim.hits(8) & ~bad
        # Where only one exposure is left, nothing can be said.
        compared = hits & ((~bad & ~sim.hits(1)).sum(axis=0) > 0)
        assert masks.crmasks[compared].mean() > 0.99
        usual = detect_cosmic_rays(sim.exposures, crmethod="matched", **KNOWN)
        near = ndimage.binary_dilation(bad.any(axis=0), np.ones((7, 7)))
        assert np.mean((usual.crmasks != masks.crmasks)[:, ~near]) < 1e-3

    def test_saturated(self):
        """A hit that saturates is flagged; the others have no reference in it."""
        sim = simulate_exposures((128, 128), cr_rate=0, seed=3)
        sim.exposures[0].data[60, 60] = 70000
        sim.exposures[1].data[60, 60] += 900
        sim.exposures[0].data[90, 90] = sim.exposures[1].data[90, 90] = 70000
        masks = detect_cosmic_rays(sim.exposures, crmethod="matched", **KNOWN)
        assert masks.crmasks[:, 60, 60].tolist() == [True, True, False]
        assert masks.crmasks[:, 90, 90].tolist() == [True, True, False]
        assert masks.mediancr[60, 60]

    @pytest.mark.filterwarnings("ignore::ccdcr.exceptions.NotEquivalentWarning")
    @pytest.mark.parametrize("given", [True, False])
    def test_exposure_times(self, given):
        """Exposures of other length are scaled first, and their noise with them."""
        factors = (0.4, 1.0, 2.0)
        sim = simulate_exposures((200, 200), seed=3, flux=factors)
        for ccd, factor in zip(sim.exposures, factors, strict=True):
            ccd.meta["EXPTIME"] = 1 if given else 600 * factor
        masks = detect_cosmic_rays(
            sim.exposures,
            crmethod="matched",
            flux_factor=factors if given else None,
            **KNOWN,
        )
        coincident, *own = evaluate(masks, {}, sim).masks
        assert min(row["recall"] for row in own) > 0.98
        assert sum(row["false"] for row in own) < 20
        assert coincident["recall"] > 0.9

    def test_wrong_times(self):
        """Without all of them, the exposures are taken as they are, with a warning."""
        sim = simulate_exposures((128, 128), seed=3)
        del sim.exposures[0].meta["EXPTIME"]
        sim.exposures[1].meta["EXPTIME"] = 5
        message = r"EXPTIME is missing .* \(exposure 1\) .* flux_factor='auto'"
        with pytest.warns(FluxScaleWarning, match=message):
            masks = detect_cosmic_rays(sim.exposures, crmethod="matched", **KNOWN)
        assert_allclose(masks.equivalence.terms["flux"], 1, atol=0.02)

    def test_units(self):
        """Electrons and adu give the same masks."""
        sim = simulate_exposures((128, 128), gain=2.0, bias=300.0, seed=3)
        masks = detect_cosmic_rays(
            sim.exposures, crmethod="matched", gain=2.0, readnoise=3.0, bias=300.0
        )
        ccds = [ccd.copy() for ccd in sim.exposures]
        for ccd in ccds:
            ccd.data = (ccd.data - 300) * 2
            ccd.unit = "electron"
        same = detect_cosmic_rays(ccds, crmethod="matched", readnoise=3.0)
        assert np.mean(masks.crmasks != same.crmasks) < 1e-4

    def test_input_is_kept(self):
        """The caller's arrays are not changed, and twice gives the same."""
        sim = simulate_exposures((100, 100), seed=3)
        before = [ccd.data.copy() for ccd in sim.exposures]
        first, second = (
            detect_cosmic_rays(sim.exposures, crmethod="matched", **KNOWN)
            for _ in range(2)
        )
        assert first == second
        for ccd, data in zip(sim.exposures, before, strict=True):
            assert_array_equal(ccd.data, data)

    def test_guard(self):
        """No correction digs a hole into a matched exposure."""
        sim = simulate_exposures((128, 128), scene="longslit", seed=3, cr_rate=0)
        frames = frames_of(sim)
        matched = match_exposures(frames, Options(passes=1))
        sigma = np.sqrt(1.44 * frames.noise.mean_variance(matched.reference))
        lower = frames.data - matched.reference
        floor = np.minimum(lower, -2 * sigma)
        assert np.all(matched.frames.data - matched.reference >= floor - 1e-2)

    def test_bands_do_not_matter(self, monkeypatch):
        """The same masks whatever is worked on at once."""
        sim = simulate_exposures((200, 150), seed=3, flux=(0.9, 1, 1.1))
        found = find_hits(frames_of(sim), Options())
        monkeypatch.setattr("ccdcr.utils.neighbours._CACHE", 64 * 150)
        again = find_hits(frames_of(sim), Options())
        assert np.mean(found.masks != again.masks) < 1e-5

    def test_track_over_star(self):
        """A track over a star of two equal exposures is no difference of the stars."""
        sim = simulate_exposures(
            (300, 300), n_exposures=2, scene="stars", cr_rate=1.0, seed=12004
        )
        masks = detect_cosmic_rays(sim.exposures, crmethod="matched", **KNOWN)
        star = np.s_[0, 150:154, 270:278]
        hits = sim.cosmic_rays[star] > 12 * sim.noise[star]
        assert np.count_nonzero(hits) > 10
        assert masks.crmasks[star][hits].all()


class TestLists:
    """The user's lists win, as for the other methods."""

    def test_lists(self):
        """Skipped, ignored, flagged and replaced pixels."""
        sim = simulate_exposures((64, 64), cr_rate=0, seed=3)
        for place in ((10, 10), (20, 20), (30, 30)):
            sim.exposures[0].data[place] += 900
        masks = detect_cosmic_rays(
            sim.exposures,
            crmethod="matched",
            regions_to_be_skipped=[[9, 13, 9, 13]],
            pixels_to_be_ignored_as_cr=[[21, 21]],
            pixels_to_be_flagged_as_cr=[[51, 41]],
            pixels_to_be_replaced_by_local_median=[[31, 31, 3, 3]],
            **KNOWN,
        )
        for place in ((10, 10), (20, 20), (30, 30)):
            assert not masks.meancrt[place]
        lowest = np.argmin([ccd.data[40, 50] for ccd in sim.exposures])
        expected = np.arange(3) != lowest
        assert_array_equal(masks.crmasks[:, 40, 50], expected)
        assert masks.mediancr[40, 50]
        assert masks.meancrt[40, 50]
        assert masks.diagnostics.flags["MEDIANCR"][40, 50] == 5
        assert masks.local_median_pixels.tolist() == [[31, 31, 3, 3]]

    def test_origins(self):
        """Where a mask is, something found it."""
        sim = simulate_exposures((128, 128), seed=3)
        masks = detect_cosmic_rays(
            sim.exposures, crmethod="matched", ma_dilation=1, **KNOWN
        )
        for name, flags in masks.diagnostics.flags.items():
            assert_array_equal(flags > 0, masks.planes[name])
            assert set(np.unique(flags)) <= {0, 1, 2}


class TestSecondOpinion:
    """Pixels hit alike in every exposure."""

    def test_everywhere(self):
        """Only the single image sees them; then no exposure is clean."""
        sim = simulate_exposures((128, 128), scene="stars", cr_rate=0, seed=4)
        places = ([20, 60, 100], [100, 40, 70])
        for ccd in sim.exposures:
            ccd.data[places] += 900
        known = KNOWN | {"la_verbose": False}
        blind = detect_cosmic_rays(sim.exposures, crmethod="matched", **known)
        masks = detect_cosmic_rays(sim.exposures, crmethod="matched_lacosmic", **known)
        assert not blind.meancrt[places].any()
        assert masks.crmasks[:, *places].all()
        assert masks.mediancr[places].all()
        assert masks.meancr[places].all()
        assert blind.lamedian is None
        assert masks.lamedian is not None
        assert set(masks.diagnostics.flags["MEANCR"][places]) == {3}

    @pytest.mark.parametrize("scene", ["fibres", "stars", "longslit"])
    def test_no_false_ones(self, scene):
        """Lines and stars look like hits to a single image, but are not flagged."""
        sim = simulate_exposures((256, 256), scene=scene, cr_rate=0, seed=4)
        known = KNOWN | {"la_verbose": False}
        masks = detect_cosmic_rays(sim.exposures, crmethod="matched_lacosmic", **known)
        assert masks.meancr.sum() == 0


def test_information():
    """Matching that was needed is said, with how much, and is no warning."""
    sim = simulate_exposures((128, 128), seed=3, flux=(0.9, 1, 1.1))
    with log.log_to_list() as records:
        detect_cosmic_rays(sim.exposures, crmethod="matched", **KNOWN)
    texts = [record.getMessage() for record in records]
    assert any(
        re.search(r"matched: flux 0\.[89].* to 1\.1.*; Q / Q0", text) for text in texts
    )
