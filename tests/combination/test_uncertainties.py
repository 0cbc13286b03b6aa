# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Monte-Carlo tests: deviations from the truth are as large as the uncertainties."""

import numpy as np
import pytest
from astropy.nddata import (
    CCDData,
    InverseVariance,
    StdDevUncertainty,
    UnknownUncertainty,
    VarianceUncertainty,
)
from scipy import stats

from ccdcr import CRCombiner, CRMaskSet, combine

SHAPE = (60, 80)  # the error of an RMS of 4800 values is 1 %
TRUTH = 5000.0
GAIN, READNOISE = 2.0, 30.0
CLASSES = {
    StdDevUncertainty: lambda sigma: sigma,
    VarianceUncertainty: np.square,
    InverseVariance: lambda sigma: sigma**-2,
}
SOURCES = [*CLASSES, UnknownUncertainty, None]  # the last two: the noise model
METHODS = ["mediancr", "meancrt", "meancr"]
KINDS = ["plain", "replaced", "one left", "weighted", "weighted per pixel"]
KINDS += ["flux-scaled", "masked inputs"]


class Simulated:
    """Exposures of one brightness with Gaussian noise, their masks and options."""

    def __init__(self, n, source, seed=1):
        self.rng = np.random.default_rng(seed)
        self.n, self.source = n, source
        self.flux = np.ones(n)
        self.bad = np.zeros((n, *SHAPE), bool)
        self.hit = np.zeros((n, *SHAPE), bool)
        self.weights = None
        self.replace = False

    def prepare(self, kind):
        """Make the pixels of one kind."""
        rng, n = self.rng, self.n
        which = np.arange(n)[:, np.newaxis, np.newaxis] == rng.integers(0, n, SHAPE)
        if kind in {"replaced", "one left"}:
            self.hit = ~which
            self.replace = kind == "replaced"
        if kind == "weighted":
            self.weights = rng.uniform(0.2, 2, n)
        if kind == "weighted per pixel":
            self.weights = rng.uniform(0.2, 2, (n, *SHAPE))
        if kind == "flux-scaled":
            self.flux = rng.uniform(0.5, 2, n)
        if kind == "masked inputs":
            self.bad = rng.random((n, *SHAPE)) < 0.3
            self.bad[which] = False
        return self

    def combiner(self, dtype=None):
        """Return a combiner of exposures drawn anew."""
        ccds = []
        for flux, bad, hit in zip(self.flux, self.bad, self.hit, strict=True):
            signal = np.full(SHAPE, TRUTH * flux)
            sigma = np.sqrt(signal / GAIN + (READNOISE / GAIN) ** 2)
            data = self.rng.normal(signal, sigma)
            data[hit] += 1e5
            data[bad] = self.rng.choice([np.nan, np.inf, 0, 1e6], bad.sum())
            uncertainty = None
            if self.source in CLASSES:
                uncertainty = self.source(CLASSES[self.source](sigma))
            elif self.source is not None:
                uncertainty = self.source(sigma)
            ccds.append(CCDData(data, unit="adu", mask=bad, uncertainty=uncertainty))
        every = np.full(SHAPE, self.replace)
        crmasks = np.ones_like(self.hit) if self.replace else self.hit
        parts = {"gain": GAIN, "readnoise": READNOISE, "flux_factor": self.flux}
        combiner = CRCombiner(ccds, CRMaskSet(every, every, crmasks, **parts), dtype)
        combiner.weights = self.weights
        return combiner


def rms(result):
    """Return the RMS deviation from the truth, in units of the uncertainty."""
    good = ~result.mask
    assert good.sum() > 1000
    sigma = result.uncertainty.array[good]
    assert (sigma > 0).all()
    return np.sqrt(np.mean(((result.data[good] - TRUTH) / sigma) ** 2))


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_rms(source, method, kind):
    """Each kind of pixel by each source of uncertainty."""
    if kind == "one left" and method != "meancr":
        pytest.skip("the median and the mean do not use the masks of the exposures")
    combiner = Simulated(5, source).prepare(kind).combiner()
    result = getattr(combiner, f"{method}_combine")(apply_flux_factor=True)
    assert rms(result) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("n", [2, 3, 4, 6, 7, 15])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["plain", "replaced", "masked inputs"])
def test_numbers(n, method, dtype, kind):
    """Any number of exposures."""
    combiner = Simulated(n, None, seed=n).prepare(kind).combiner(dtype)
    result = getattr(combiner, f"{method}_combine")()
    assert rms(result) == pytest.approx(1, abs=0.05)


class TestScatter:
    """ccdproc's convention has a known size, too."""

    @pytest.mark.parametrize("n", [3, 5, 10])
    def test_mean(self, n):
        """The standard deviation without Bessel's correction is too small."""
        result = Simulated(n, None).combiner().meancr_combine(uncertainty="scatter")
        deviation = np.mean((result.data - TRUTH) ** 2)
        said = np.mean(result.uncertainty.array**2)
        assert said / deviation == pytest.approx((n - 1) / n, rel=0.06)

    @pytest.mark.parametrize("kind", ["one left", "replaced"])
    @pytest.mark.parametrize("source", SOURCES)
    def test_one_exposure(self, kind, source):
        """Where one exposure is left it is propagated."""
        combiner = Simulated(4, source).prepare(kind).combiner()
        result = combiner.meancr_combine(uncertainty="scatter")
        assert rms(result) == pytest.approx(1, abs=0.05)


class TestFalselyFlagged:
    """The minimum of clean values is too low by a known amount."""

    # means of the lowest of n normal values, as in the documentation
    BIAS = ((2, 0.56), (3, 0.85), (4, 1.03), (5, 1.16), (7, 1.35), (10, 1.54))
    BIAS += ((15, 1.74),)

    @pytest.mark.parametrize(("n", "bias"), BIAS)
    def test_bias(self, n, bias):
        """The documented figure, by integration and by what is combined."""
        x, step = np.linspace(-9, 9, 4001, retstep=True)
        density = n * stats.norm.pdf(x) * stats.norm.sf(x) ** (n - 1)
        assert -np.sum(x * density) * step == pytest.approx(bias, abs=0.006)
        simulated = Simulated(n, StdDevUncertainty)
        simulated.replace = True
        result = simulated.combiner().mediancr_combine()
        ratio = (result.data - TRUTH) / result.uncertainty.array
        assert -ratio.mean() == pytest.approx(bias, abs=0.05)


class TestUnknown:
    """Given uncertainties that say nothing."""

    @pytest.mark.parametrize("value", [0.0, np.nan, -1.0])
    @pytest.mark.parametrize("cls", [StdDevUncertainty, VarianceUncertainty])
    @pytest.mark.parametrize("method", METHODS)
    def test_noise_model(self, value, cls, method):
        """The noise model takes their place."""
        if cls is StdDevUncertainty and value < 0:
            pytest.skip("its square is a variance")
        simulated = Simulated(3, cls).prepare("masked inputs")
        combiner = simulated.combiner()
        for ccd in combiner._ccds:
            ccd.uncertainty.array[::2] = value
        result = getattr(combiner, f"{method}_combine")()
        assert rms(result) == pytest.approx(1, abs=0.05)

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("uncertainty", ["propagate", "scatter"])
    def test_no_model(self, method, uncertainty):
        """0 and NaN are no information, and masked; NaN of a negative value is not."""
        sigmas = StdDevUncertainty([[0, np.nan, np.nan, 3]])
        ccds = [
            CCDData([[1.0, 2.0, -2.0, 3.0]], unit="adu", uncertainty=sigmas)
            for _ in range(3)
        ]
        ones = np.ones((3, 1, 4), int)
        masks = CRMaskSet(ones[0], ones[0], ones)
        result = combine(ccds, method=method, crmasks=masks, uncertainty=uncertainty)
        sigmas = [[np.nan, np.nan, np.inf, 3]]
        np.testing.assert_array_equal(result.uncertainty.array, sigmas)
        assert result.mask.tolist() == [[True, True, False, False]]

    @pytest.mark.parametrize("scale", [1e-17, 1e17])
    @pytest.mark.parametrize("method", METHODS)
    def test_units(self, scale, method):
        """Squares of float32 that are too small or too large do not matter."""
        ccds = [
            CCDData(
                np.full((1, 2), 100 * scale, np.float32),
                unit="erg",
                uncertainty=StdDevUncertainty(np.full((1, 2), 3e-3 * scale)),
            )
            for _ in range(4)
        ]
        zero = np.zeros((1, 2), bool)
        masks = CRMaskSet(zero, zero, np.zeros((4, 1, 2), bool))
        result = combine(ccds, method=method, crmasks=masks, dtype="float32")
        factor = 1.0922 if method == "mediancr" else 1
        expected = 3e-3 * scale / 2 * factor
        np.testing.assert_allclose(result.uncertainty.array, expected, rtol=1e-4)
