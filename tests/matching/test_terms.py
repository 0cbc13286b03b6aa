# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Terms of exposures relative to their mean."""

import re

import numpy as np
import pytest
from astropy.nddata import CCDData
from numpy.testing import assert_allclose

from ccdcr import MatchingFailedWarning, check_equivalence
from ccdcr.matching.equivalence import describe_motions
from ccdcr.matching.frames import Frames, Noise
from ccdcr.matching.match import Options, match_exposures

GAIN, READNOISE = 1.4, 4.74


@pytest.fixture
def rng():
    """Random numbers, the same for each test."""
    return np.random.default_rng(7)


def stars(rng, shape, columns, number=40):
    """Return well-sampled stars on a sky, in some columns."""
    y, x = np.indices(shape)
    image = np.full(shape, 100.0)
    for y0, x0 in rng.uniform((8, columns[0]), (shape[0] - 8, columns[1]), (number, 2)):
        image += 2e4 * np.exp(-((y - y0) ** 2 + (x - x0) ** 2) / 4.5)
    return image


class TestTerms:
    """Terms of stars that were moved, widened and scaled."""

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

        stars = (
            scene(),
            1.05 * scene(),
            scene(dx=0.4),
            scene(dy=-0.4),
            scene(variance=4.6),
            scene() + 7,
        )
        frames = Frames.from_arrays(
            np.stack(stars).astype(np.float32) + 100, Noise.from_detector(6, 1.0, 3.0)
        )
        terms = match_exposures(frames, Options()).terms
        true = np.zeros((6, 4))
        true[1, 0], true[2, 1], true[3, 2], true[4, 3] = 0.05, 0.4, -0.4, 0.6
        true[:, 0] = (1 + true[:, 0]) / (1 + true[:, 0]).mean()
        true[:, 1:] -= true[:, 1:].mean(axis=0)
        limits = [0.005, 0.01, 0.01, 0.05]
        assert np.all(np.abs(terms.image - true) < limits), terms.image
        whole = np.abs(terms.tiles - true[:, np.newaxis, np.newaxis])
        assert np.all(whole < limits), whole.max(axis=(0, 1, 2))
        background = np.array([0, 0, 0, 0, 0, 7]) - 7 / 6
        assert_allclose(terms.background.mean(axis=(1, 2)), background, atol=0.5)

    def test_errors(self, rng):
        """They are those of repeated exposures, or larger."""
        image = stars(rng, (128, 128), (8, 120)) / 20
        found = []
        for _ in range(12):
            stack = rng.poisson(np.stack([image] * 3)) + rng.normal(0, 3, (3, 128, 128))
            noise = Noise.from_detector(3, 1.0, 3.0)
            frames = Frames.from_arrays(stack.astype(np.float32), noise)
            terms = match_exposures(frames, Options()).terms
            found.append(terms.image[0] - [1, 0, 0, 0])
        ratio = np.sqrt(np.mean(np.square(found), axis=0)) / terms.image_errors[0]
        assert np.all((ratio > 0.3) & (ratio < 1.3)), ratio


def trace(rng, amplitude, flux, variance, shift, shape=(160, 1024)):
    """Return exposures of a tilted trace in adu."""
    y, x = np.indices(shape)
    middle = 84 - 0.0072 * (x - 600)
    ccds = []
    for f, v, d in zip(flux, variance, shift, strict=True):
        profile = np.exp(-((y - middle - d) ** 2) / 2 / v) / np.sqrt(2 * np.pi * v)
        electrons = rng.poisson((20 + f * amplitude * profile) * GAIN)
        data = (electrons + rng.normal(0, READNOISE, shape)) / GAIN
        ccds.append(CCDData(np.rint(data).astype(np.float32), unit="adu"))
    return ccds


class TestTrace:
    """Terms of a trace, whose structure is along one axis."""

    FLUX = np.array([1.108, 0.96, 0.968, 1.035, 0.929])
    VARIANCE = np.array([6.97, 7.75, 7.66, 6.43, 7.78])
    SHIFT = np.array([0.05, -0.08, -0.07, 0.11, -0.015])

    @pytest.mark.filterwarnings("ignore::ccdcr.MatchingFailedWarning")
    @pytest.mark.filterwarnings("ignore::ccdcr.NotEquivalentWarning")
    @pytest.mark.parametrize("amplitude", [3000, 30_000, 300_000])
    def test_terms(self, rng, amplitude):
        """Flux, shift across the trace and seeing come back."""
        ccds = trace(rng, amplitude, self.FLUX, self.VARIANCE, self.SHIFT)
        terms = check_equivalence(ccds, gain=GAIN, readnoise=READNOISE).terms
        assert np.isnan(terms["shift_x"]).all()
        for name, true, limit in (
            ("flux", self.FLUX / self.FLUX.mean(), 0.01),
            ("shift_y", self.SHIFT - self.SHIFT.mean(), 0.02),
            ("seeing", self.VARIANCE - self.VARIANCE.mean(), 0.2),
        ):
            assert_allclose(terms[name], true, atol=limit, err_msg=name)

    @pytest.mark.filterwarnings("ignore::ccdcr.MatchingFailedWarning")
    def test_along(self):
        """A shift along a tilted trace is unknown, however bright and wide it is."""
        rng, width = np.random.default_rng(12), np.array([1.1, 0.9, 0.95, 1.05, 1.0])
        variance, shift = 11.5 * width**2, 2 * self.SHIFT
        ccds = trace(rng, 60_000, self.FLUX, variance, shift, (160, 300))
        terms = check_equivalence(ccds, gain=GAIN, readnoise=READNOISE).terms
        assert np.isnan(terms["shift_x"]).all()
        assert_allclose(terms["shift_y"], shift - shift.mean(), atol=0.02)

    @pytest.mark.filterwarnings("ignore::ccdcr.MatchingFailedWarning")
    def test_local_shift(self, rng):
        """Two tiles that are sure of a shift are a failure, one is not."""
        ccds = trace(rng, 3000, [1, 1, 1], [5, 5, 5], [0, 0, 0], (160, 256))
        report = check_equivalence(ccds, gain=GAIN, readnoise=READNOISE)
        report = report.with_reasons(())
        assert report.failures == []
        first = np.flatnonzero(report.tiles["exposure"] == 1)
        for place, error, number in ((first[:1], 0.05, 0), (first[:2], 0.2, 0)):
            self.move(report.tiles, place, error)
            assert len(report.failures) == number
        self.move(report.tiles, first[:2], 0.05)
        text = r"shifts above 0.75 pixel in 2 tiles around .*shift_y \+0.95, "
        assert re.search(text, report.failures[0])

    def move(self, tiles, place, error):
        """Let tiles say that the exposure is shifted by .95 pixel."""
        tiles["shift_y"][place], tiles["error_y"][place] = 0.95, error

    def test_motions(self, rng):
        """Tiles tell a trace that moves while stars stay."""
        shift = np.array([0.66, 0.22, -0.89])
        ccds = trace(rng, 3000, [1, 1, 1], [5, 5, 5], shift, (192, 256))
        y, x = np.indices(ccds[0].shape)
        for ccd in ccds:
            for place in ((30, 30), (30, 220), (160, 100), (160, 220)):
                distance = np.hypot(y - place[0], x - place[1])
                ccd.data += rng.poisson(3000 * np.exp(-(distance**2) / 4))
        text = "No alignment helps if features move by different amounts.*exposure 3"
        with pytest.warns(MatchingFailedWarning, match=text):
            report = check_equivalence(ccds, gain=GAIN, readnoise=READNOISE)
        tiles = report.tiles[np.abs(report.tiles["y"] - 96) < 1]
        true = (shift - shift.mean())[tiles["exposure"] - 1]
        assert np.all(np.abs(tiles["shift_y"] - true) < 3 * tiles["error_y"])
        assert np.all(tiles["error_y"] < 0.1)
        report.tiles["shift_y"] = 0.005 * report.tiles["y"]  # as scale does
        assert describe_motions(report) == ""
