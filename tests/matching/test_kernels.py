# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Matching by kernels."""

import numpy as np
import pytest
from astropy.nddata import CCDData
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

from ccdcr import detect_cosmic_rays
from ccdcr.matching.clean_reference import mean_reference
from ccdcr.matching.correct import Scene
from ccdcr.matching.frames import Frames, Noise, find_structure
from ccdcr.matching.kernels import KernelFits, Taps, are_told, fit_kernels
from ccdcr.matching.match_tiles import TileFits, Tiling, fit_tiles, make_terms

GAIN, READNOISE = 1.4, 4.74
SHAPE = 150, 170


@pytest.fixture
def rng():
    """Random numbers, the same for each test."""
    return np.random.default_rng(7)


def stars(rng, columns, number=40):
    """Return well-sampled stars on a sky, in some columns."""
    y, x = np.indices(SHAPE)
    image = np.full(SHAPE, 100.0)
    for y0, x0 in rng.uniform((8, columns[0]), (142, columns[1]), (number, 2)):
        image += 2e4 * np.exp(-((y - y0) ** 2 + (x - x0) ** 2) / 4.5)
    return image.astype(np.float32)


def fit(reference, stack):
    """Return the fits, terms and differences of exposures without hits and noise."""
    noise = Noise.from_detector(len(stack), 1.0, 3.0)
    frames = Frames.from_arrays(np.array(stack, dtype=np.float32), noise)
    structure = find_structure(reference, noise)
    scene = Scene(reference, structure, np.zeros(frames.data.shape, dtype=bool))
    fits = fit_tiles(frames, scene, Tiling.from_tile(SHAPE, 64))
    fits = fit_kernels(frames, scene, fits)

    def correct(rows):
        terms = make_terms(reference, structure, noise, rows)
        return np.stack(list(fits.corrections(rows, terms)))

    return fits, correct, np.sqrt(noise.mean_variance(reference))


class TestTaps:
    """Shifted copies of an image."""

    def test_convolution(self, rng):
        """A kernel on the taps is a correlation with the kernel."""
        image = rng.normal(size=(12, 17)).astype(np.float32)
        kernel = rng.normal(size=(5, 5)).astype(np.float32)
        y, x = map(np.ravel, np.indices(image.shape))
        every = Taps.of_image(image, 2)
        taps = every.at((y, x))
        assert_array_equal(taps[-1], 1)
        assert_array_equal(every.at((slice(0, 12), slice(0, 17))), taps)
        # Beyond the edges it goes on straight.
        wide = np.pad(image, 2, mode="reflect", reflect_type="odd")
        expected = ndimage.correlate(wide, kernel)[2:-2, 2:-2]
        found = (kernel.ravel() @ taps[:-1]).reshape(image.shape)
        assert_allclose(found, expected, atol=1e-4)


class TestFit:
    """Kernels of exposures that are convolved references."""

    def test_kernel(self, rng):
        """An asymmetric kernel and a background are corrected, which terms are not."""
        reference = stars(rng, (8, 160))
        kernel = np.zeros((5, 5))
        kernel[2, 1:5] = 0.1, 0.8, 0.15, -0.02
        kernel[1, 2], kernel[3, 3] = 0.05, -0.04
        exposure = ndimage.correlate(reference - 100, kernel, mode="nearest") + 107
        stack = np.stack([reference, exposure, reference])
        fits, correct, sigma = fit(reference, stack)
        left = (stack - reference - correct(slice(0, 150))) / sigma
        bright = reference > 2000
        assert np.abs(left[:, bright]).max() < 1
        noise, terms = Noise.from_detector(3, 1.0, 3.0), slice(0, 150)
        terms = make_terms(reference, find_structure(reference, noise), noise, terms)
        five = stack[1] - reference - fits.fits.correction(1, slice(0, 150), terms)
        assert np.abs((five / sigma)[bright]).max() > 3

    def test_bands(self, rng):
        """Corrections of bands are those of the whole image."""
        reference = stars(rng, (8, 160))
        _, correct, _ = fit(reference, [reference * f for f in (0.9, 1, 1.1)])
        whole = correct(slice(0, 150))
        for rows in (slice(0, 40), slice(31, 33), slice(140, 150)):
            assert_allclose(correct(rows), whole[:, rows], atol=0.01)

    def test_tile_without_structure(self, rng):
        """It has the kernel of the image and of tiles beside, which tells the flux."""
        reference = stars(rng, (90, 160))
        fits, *_ = fit(reference, [reference * f for f in (1, 1.1, 1)])
        empty = fits.kernels[1, :, 0]
        assert_allclose(empty - fits.wholes[1], 0, atol=0.01)
        assert_allclose(empty[..., :-1].sum(axis=-1), 0.1, atol=0.005)

    def test_wings(self, rng):
        """Where a bright trace ends the kernels are right within the noise, too."""
        y = np.indices(SHAPE)[0]
        pairs = zip((1.91, 2.11, 2.28), (-0.2, 0, -0.28), strict=True)
        stack = [20 + 2600 * np.exp(-(((y - 50 - d) / w) ** 2) / 2) for w, d in pairs]
        noisy = rng.poisson(stack) + rng.normal(0, 3, (3, *SHAPE))
        reference = noisy.mean(axis=0).astype(np.float32)
        _, correct, sigma = fit(reference, noisy)
        true = stack - np.mean(stack, axis=0)
        wrong = (correct(slice(0, SHAPE[0])) - true) / sigma
        assert np.abs(wrong.mean(axis=2)).max() < 1

    def test_no_structure(self):
        """Without structure the corrections are those of the terms."""
        reference = np.full(SHAPE, 100, dtype=np.float32)
        fits, correct, _ = fit(reference, [reference, reference + 7, reference])
        assert not fits.fitted.any()
        assert_allclose(correct(slice(0, 150))[1], 7, atol=0.01)


class TestMeanReference:
    """The mean of clean exposures."""

    def test_values(self):
        """Hit and bad values are left out; of a majority the lowest count."""
        stack = np.array([[1, 1, 1, 1], [3, 3, 90, 9], [5, 95, 98, 9]], dtype=float)
        masks = np.array([[0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 1, 0]], dtype=bool)
        bad = np.array([[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 1]], dtype=bool)
        assert_array_equal(mean_reference(stack, masks, bad), [3, 2, 1, np.nan])

    def test_weights(self):
        """Exposures count by their noise."""
        noise = Noise.from_detector(2, 1.0, np.array([3.0, 6.0]))
        stack = np.array([[0.0], [5.0]], dtype=np.float32)
        found = mean_reference(stack, np.zeros((2, 1), dtype=bool), None, noise)
        assert_allclose(found, 5 * 9 / (9 + 36), rtol=1e-6)


def trace(rng, amplitude, flux, variance, shift, shape=(100, 300)):
    """Return exposures of a tilted trace in adu."""
    y, x = np.indices(shape)
    ccds = []
    for f, v, d in zip(flux, variance, shift, strict=True):
        profile = np.exp(-((y - 50 - 0.007 * x - d) ** 2) / 2 / v)
        electrons = rng.poisson((20 + f * amplitude * profile) * GAIN)
        data = (electrons + rng.normal(0, READNOISE, shape)) / GAIN
        ccds.append(CCDData(np.rint(data).astype(np.float32), unit="adu"))
    return ccds


@pytest.mark.filterwarnings("ignore::ccdcr.NotEquivalentWarning")
@pytest.mark.parametrize(
    ("n", "ratio", "level"), [(3, 30, None), (3, 100, None), (5, 300, 9), (7, 100, 0.9)]
)
def test_bright_trace(n, ratio, level):
    """A trace whose flux, width and place vary has no flag, be it saturated in some."""
    rng, sigma = np.random.default_rng(1001), 5 / 2.355
    flux, width = 1 + 0.1 * rng.uniform(-1, 1, (2, n))
    shift = 0.3 * rng.uniform(-1, 1, n)
    peak = ratio**2 / GAIN
    ccds = trace(rng, peak, flux, (sigma * width) ** 2, shift)
    level = None if level is None else level * peak
    masks = detect_cosmic_rays(ccds, gain=GAIN, readnoise=READNOISE, ma_satlevel=level)
    y, x = np.indices(masks.shape)
    assert not masks.crmasks[:, np.abs(y - 50 - 0.007 * x) < 8].any()


@pytest.mark.parametrize(("number", "hit", "told"), [(1, 1, False), (3, 1, True)])
def test_told(number, hit, told):
    """Hits in the core of the only star leave nothing that tells kernels of two."""
    y, x = np.indices(SHAPE)
    columns = 30 + 60 * np.arange(number)
    image = np.full(SHAPE, 100, dtype=np.float32)
    for x0 in columns:
        image += 2e4 * np.exp(-((y - 50) ** 2 + (x - x0) ** 2) / 4.5)
    masks = np.zeros((2, *SHAPE), dtype=bool)
    for x0 in columns[:hit]:
        masks[0, 47:54, x0 - 3 : x0 + 4] = True
    noise = Noise.from_detector(2, 1.0, 3.0)
    scene = Scene(image, find_structure(image, noise), masks)
    frames = Frames.from_arrays(np.stack([image, image]), noise)
    assert are_told(frames, scene, Tiling.from_tile(SHAPE, 60)) == told


def test_beyond_edges():
    """What is outside of an edge has an error of twice the last change."""
    shape = 30, 40
    profile = np.broadcast_to(np.float32(7) * np.arange(40, dtype=np.float32), shape)
    tiles = TileFits(Tiling.from_tile(shape, 60), None, None)
    kernels = np.zeros((2, 1, 1, 26))
    kernels[:, 0, 0, 11] = 0.1, -0.1  # shifts by 0.2 pixel along x
    kernels[:, 0, 0, 13] = -0.1, 0.1
    taps, fitted = Taps.of_image(profile, 2), profile > 100
    fits = KernelFits(tiles, taps, fitted, None, kernels)
    y, x, variance = fits.beyond_edges(profile)
    inside = (y >= 2) & (y < 28)
    assert set(x[inside]) == {38, 39}
    assert_allclose(variance[x < 39], 0)
    assert_allclose(variance[x == 39], (2 * 0.1 * 7) ** 2, rtol=1e-5)
