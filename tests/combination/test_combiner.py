# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Tests of CRCombiner.

Expected values come from a loop over pixels in plain Python, from results worked
out by hand, from ccdproc's own Combiner, from random numbers of known truth, and
from images that numina made.
"""

import copy
import warnings
from pathlib import Path
from statistics import median
from types import MappingProxyType

import ccdproc
import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import (
    CCDData,
    InverseVariance,
    StdDevUncertainty,
    UnknownUncertainty,
    VarianceUncertainty,
)
from astropy.wcs import WCS
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

import ccdcr.combination.combiner
from ccdcr import CRCombiner, CRMaskSet, LocalMedianWarning, NoUncertaintyWarning

# Flux factors are not applied in many cases, which is what they are about.
pytestmark = pytest.mark.filterwarnings("ignore::ccdcr.FluxScaleWarning")

METHODS = ["mediancr", "meancrt", "meancr", "meancr2"]
DTYPES = ["float32", "float64"]
# Rounding: of the data type, times a few operations.
RTOL = {"float32": 2e-6, "float64": 1e-12}
SHAPE = (9, 8)
BOXES = [
    (2, 2, 3, 3),
    (3, 2, 3, 3),  # overlaps the first, so that the order matters
    (1, 1, 3, 3),
    (8, 9, 5, 3),
    (5, 6, 1, 7),
    (8, 1, 99, 1),
]
# Variance of the mean over that of the median of n Gaussian values, to 3 digits
# (Dixon & Massey, Introduction to Statistical Analysis, table 8a). For n = 3 the
# variance of the median is 1 - sqrt(3) / pi.
EFFICIENCY = {1: 1.0, 2: 1.0, 3: 0.743, 4: 0.838, 5: 0.697, 6: 0.776, 7: 0.679}
FACTOR3 = np.sqrt(3 * (1 - np.sqrt(3) / np.pi))
# The first pixels that are bad in all exposures of `random_case`.
ALL_BAD = ([3, 3, 3], [1, 2, 3])

PEER = Path(__file__).resolve().parents[3] / "shared" / "peer"
PEER_FILES = sorted(PEER.glob("*/numina0*_combined.fits.gz"))


def sd_of_median(*sigmas):
    """Return that of three Gaussian values, by integration over its density."""
    x, step = np.linspace(-12 * max(sigmas), 12 * max(sigmas), 20001, retstep=True)
    pdf = [stats.norm.pdf(x, scale=s) for s in sigmas]
    cdf = [stats.norm.cdf(x, scale=s) for s in sigmas]
    density = sum(
        pdf[i] * (cdf[j] * (1 - cdf[k]) + cdf[k] * (1 - cdf[j]))
        for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1))
    )
    return np.sqrt(np.sum(x**2 * density) * step)


MEDIAN = sd_of_median(3, 4, 12)


def ccds_of(data, *, unit="adu", masks=None, uncertainties=None, **kwargs):
    """Return a list of CCDData."""
    data = np.asarray(data)
    masks = [None] * len(data) if masks is None else masks
    uncertainties = [None] * len(data) if uncertainties is None else uncertainties
    return [
        CCDData(plane.copy(), unit=unit, mask=mask, uncertainty=uncertainty, **kwargs)
        for plane, mask, uncertainty in zip(data, masks, uncertainties, strict=True)
    ]


def mask_set(n, shape, **kwargs):
    """Return a mask set; masks that are not given are empty."""
    planes = {
        "mediancr": np.zeros(shape, bool),
        "meancrt": np.zeros(shape, bool),
        "crmasks": np.zeros((n, *shape), bool),
    }
    return CRMaskSet(**(planes | kwargs))


def column(values, **kwargs):
    """Return exposures of one pixel, (1, 1)."""
    return ccds_of(np.reshape(np.asarray(values, float), (-1, 1, 1)), **kwargs)


def pixel_masks(n, **kwargs):
    """Return a mask set of one pixel: ``mediancr=1``, ``crmasks=[0, 1, 0]``."""
    shapes = {"crmasks": (n, 1, 1), "flux_factor": (n,), "local_median_pixels": (-1, 4)}
    kwargs = {
        name: value
        if name in {"gain", "readnoise", "bias"}
        else np.reshape(value, shapes.get(name, (1, 1)))
        for name, value in kwargs.items()
    }
    return mask_set(n, (1, 1), **kwargs)


def combine(combiner, method, **kwargs):
    """Call the method of a name."""
    return getattr(combiner, f"{method}_combine")(**kwargs)


def random_case(n, dtype, seed=0):
    """Return data, input masks and a mask set, of random numbers."""
    rng = np.random.default_rng([seed, n])
    data = rng.normal(100, 30, (n, *SHAPE)).astype(dtype)
    bad = rng.random(data.shape) < 0.1
    for value in (np.nan, np.inf, -np.inf):
        data[rng.random(data.shape) < 0.03] = value
    bad[:, 3, 1] = True
    data[:, 3, 2] = np.nan
    bad[0, 3, 3], data[1:, 3, 3] = True, np.nan
    crmasks = rng.random(data.shape) < 0.3
    crmasks[:, 4:6, 2:4] = True
    masks = CRMaskSet(
        rng.random(SHAPE) < 0.3,
        rng.random(SHAPE) < 0.5,
        crmasks,
        meancr=rng.random(SHAPE) < 0.2,
        lamedian=rng.normal(90, 5, SHAPE),
        flux_factor=rng.uniform(0.8, 1.2, n),
        gain=2.0,
        readnoise=5.0,
    )
    return data, bad, masks


def with_boxes(masks):
    """Return the mask set with pixels to be replaced by their local median."""
    names = ("mediancr", "meancrt", "crmasks", "meancr", "lamedian", "flux_factor")
    return CRMaskSet(
        **{name: getattr(masks, name) for name in names}, local_median_pixels=BOXES
    )


class Reference:
    """
    The four methods, pixel by pixel, from their definitions.

    ``variances`` are those of the exposures as they come, not scaled.
    """

    def __init__(self, data, bad, masks, **kwargs):
        self.data, self.masks = np.asarray(data, float), masks
        self.bad = bad | ~np.isfinite(data)
        n = len(data)
        self.weights = np.ones(data.shape)
        if kwargs.get("weights") is not None:
            weights = np.asarray(kwargs["weights"], float)
            self.weights *= weights if weights.ndim > 1 else weights[:, None, None]
        self.factors = np.broadcast_to(kwargs.get("factors", 1.0), (n,))
        self.use_lamedian = kwargs.get("use_lamedian", False)
        self.variances = kwargs.get("variances")

    def combine(self, method):
        """Return value, standard deviation, replaced pixels and number used."""
        shape = self.data.shape[1:]
        value, sigma = np.full(shape, np.nan), np.full(shape, np.nan)
        number = np.zeros(shape, int)
        replaced = 0
        for pixel in np.ndindex(shape):
            good = [i for i in range(len(self.data)) if not self.bad[(i, *pixel)]]
            if good:
                value[pixel], sigma[pixel], number[pixel], put = getattr(self, method)(
                    pixel, good
                )
                replaced += put
        return self.local_medians(value), sigma, replaced, number

    def values(self, pixel, used):
        """Return the scaled values of some exposures."""
        return [self.data[(i, *pixel)] * self.factors[i] for i in used]

    def sigmas(self, pixel, used):
        """Return their standard deviations."""
        if self.variances is None:
            return [0.0] * len(used)
        return [abs(self.factors[i]) * self.variances[(i, *pixel)] ** 0.5 for i in used]

    def lowest(self, pixel, good):
        """Return the minimum: value, sigma, number used, whether replaced."""
        value, i = min((self.values(pixel, [i])[0], i) for i in good)
        if self.use_lamedian:
            value = self.masks.lamedian[pixel]
        return value, self.sigmas(pixel, [i])[0], 1, True

    def median(self, pixel, good):
        """Return the same of the median."""
        sigmas, n = self.sigmas(pixel, good), len(good)
        sigma = sum(s**2 for s in sigmas) ** 0.5 / n * EFFICIENCY[n] ** -0.5
        if n > 2 and max(sigmas) ** 2 > 1.5 * min(sigmas) ** 2:
            sigma = sd_of_median(*sigmas) if n == 3 else self.of_unequal(sigmas)
        return median(self.values(pixel, good)), sigma, n, False

    @staticmethod
    def of_unequal(sigmas):
        """Return the standard deviation of a median of unequal values."""
        n = len(sigmas)
        equal = EFFICIENCY[n] ** -0.5 / n**0.5
        width = equal * n / sum(1 / s for s in sigmas)
        harmonic = n / sum(1 / (s**2 + width**2) ** 0.5 for s in sigmas)
        return equal * harmonic / (1 + equal**2) ** 0.5

    def mean(self, pixel, used):
        """Return the same of the mean, or None if nothing has a weight."""
        weights = [self.weights[(i, *pixel)] for i in used]
        total = sum(weights)
        if total == 0:
            return None
        values, sigmas = self.values(pixel, used), self.sigmas(pixel, used)
        value = sum(w * v for w, v in zip(weights, values, strict=True)) / total
        variance = sum((w * s) ** 2 for w, s in zip(weights, sigmas, strict=True))
        return value, variance**0.5 / total, len(used), False

    def mediancr(self, pixel, good):
        """The median, or the minimum."""
        lowest = self.masks.mediancr[pixel]
        return self.lowest(pixel, good) if lowest else self.median(pixel, good)

    def meancrt(self, pixel, good):
        """The mean, or the former."""
        mean = self.mean(pixel, good)
        if self.masks.meancrt[pixel]:
            return *self.mediancr(pixel, good)[:2], 1, True
        return mean or (*self.mediancr(pixel, good)[:2], 1, True)

    def meancr(self, pixel, good):
        """The mean without hits, or the minimum."""
        used = [i for i in good if not self.masks.crmasks[(i, *pixel)]]
        return self.mean(pixel, used) or self.lowest(pixel, good)

    def meancr2(self, pixel, good):
        """The same, or the minimum."""
        lowest = self.masks.meancr[pixel]
        return self.lowest(pixel, good) if lowest else self.meancr(pixel, good)

    def local_medians(self, value):
        """Replace the pixels of the boxes in their order."""
        masked = self.bad.all(axis=0)
        boxes = self.masks.local_median_pixels
        for x, y, width, height in [] if boxes is None else boxes:
            value[y - 1, x - 1] = median(
                value[j, i]
                for j, i in np.ndindex(value.shape)
                if abs(j + 1 - y) <= height // 2
                and abs(i + 1 - x) <= width // 2
                and (j + 1, i + 1) != (y, x)
                and not masked[j, i]
            )
        return value


OPTIONS = {
    "plain": {},
    "weights": {"weights": "1d"},
    "weights with 0": {"weights": "1d0"},
    "weights per pixel": {"weights": "3d"},
    "scaling": {"scaling": "list"},
    "negative scaling": {"scaling": "negative"},
    "flux factor": {"apply_flux_factor": True},
    "flux factor, scaling": {"apply_flux_factor": True, "scaling": "list"},
    "lamedian": {"use_lamedian": True},
    "boxes": {"boxes": True},
    "all": {
        "weights": "3d",
        "scaling": "list",
        "apply_flux_factor": True,
        "use_lamedian": True,
        "boxes": True,
    },
}


class TestReference:
    """All methods on random stacks, compared with the loop over pixels."""

    @staticmethod
    def case(n, dtype, options):
        """Return the combiner, the options of the call and the reference."""
        data, bad, masks = random_case(n, dtype)
        rng = np.random.default_rng(5)
        weights = {
            "1d": rng.uniform(0.5, 2, n),
            "1d0": np.arange(n) * 1.0,
            "3d": rng.uniform(0.5, 2, data.shape) * (rng.random(data.shape) > 0.2),
        }.get(options.get("weights"))
        factors = {
            "list": np.linspace(0.7, 1.4, n),
            "negative": np.linspace(-1.0, 1.5, n),
        }.get(options.get("scaling"))
        if options.get("boxes"):
            masks = with_boxes(masks)
        variances = rng.uniform(4, 400, data.shape)
        uncertainties = [StdDevUncertainty(v**0.5) for v in variances]
        combiner = CRCombiner(
            ccds_of(data, masks=bad, uncertainties=uncertainties), masks, dtype=dtype
        )
        combiner.weights, combiner.scaling = weights, factors
        names = ("apply_flux_factor", "use_lamedian")
        call = {name: options[name] for name in names if name in options}
        total = 1.0 if factors is None else factors
        if options.get("apply_flux_factor"):
            total = total / masks.flux_factor
        reference = Reference(
            data,
            bad,
            masks,
            weights=weights,
            factors=total,
            use_lamedian=options.get("use_lamedian", False),
            variances=variances,
        )
        return combiner, call, reference

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
    def test_options(self, method, dtype, options):
        """Values, masks, uncertainties and counts, whatever is set."""
        combiner, call, reference = self.case(3, dtype, options)
        self.check(combiner, call, reference, method, boxes="boxes" in options)

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("n", [1, 2, 4, 5, 6, 7])
    @pytest.mark.parametrize("options", [{}, {"weights": "3d", "scaling": "list"}])
    def test_number(self, method, n, options):
        """Other numbers of exposures."""
        combiner, call, reference = self.case(n, "float32", options)
        self.check(combiner, call, reference, method)

    @staticmethod
    def check(combiner, call, reference, method, *, boxes=False):
        """Compare a combination with the reference."""
        result = combine(combiner, method, **call)
        value, sigma, replaced, _ = reference.combine(method)
        rtol = RTOL[str(combiner.dtype)]
        # values may cancel in a mean, so that the error scales with the inputs
        assert_allclose(result.data, value, rtol=rtol, atol=300 * rtol)
        nogood = reference.bad.all(axis=0)
        assert nogood[ALL_BAD].all()
        assert_array_equal(result.mask, nogood)
        assert result.dtype == combiner.dtype
        if method != "meancrt" or combiner.weights is None:
            assert result.header["CRNREPL"] == replaced
        if not boxes:
            # the tabulated efficiencies have three digits
            assert_allclose(result.uncertainty.array, sigma, rtol=1e-3)

    @pytest.mark.parametrize("method", METHODS)
    def test_no_bad_pixel(self, method):
        """Without any bad pixel, where there is a short cut."""
        data, _, masks = random_case(3, "float64")
        data[~np.isfinite(data)] = 1.0
        reference = Reference(data, np.zeros(data.shape, bool), masks)
        result = combine(CRCombiner(ccds_of(data), masks), method)
        assert_allclose(result.data, reference.combine(method)[0], rtol=1e-12)
        assert not result.mask.any()

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("band", [1, 20, 72])
    def test_bands(self, method, band, monkeypatch):
        """The bands in which an image is combined do not show."""
        options = OPTIONS["all"]
        combiner, call, _ = self.case(3, "float32", options)
        whole = combine(combiner, method, **call)
        monkeypatch.setattr(ccdcr.utils.neighbours, "_BAND", band)
        banded = combine(combiner, method, **call)
        assert_array_equal(banded.data, whole.data)
        assert_array_equal(banded.mask, whole.mask)
        assert_array_equal(banded.uncertainty.array, whole.uncertainty.array)
        assert banded.header == whole.header

    def test_scaling_callable(self):
        """A function of the exposures gives the factors."""
        data = np.array([[[1.0, 3.0]], [[4.0, 4.0]], [[6.0, 2.0]]])
        combiner = CRCombiner(ccds_of(data), mask_set(3, (1, 2), gain=1, readnoise=1))
        combiner.scaling = lambda plane: 4 / np.ma.mean(plane)
        # means 2, 4, 4: factors 2, 1, 1
        assert_allclose(combiner.meancr_combine().data, [[4, 4]])
        assert_allclose(combiner.mediancr_combine().data, [[4, 4]])

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize(
        "scale_to", [[3.0, 2.0, 1.0], np.reshape([3.0, 2, 1], (3, 1, 1)), 2.0]
    )
    def test_scale_to(self, method, scale_to):
        """It replaces the scaling of the combiner, also one factor for all."""
        data, bad, masks = random_case(3, "float64")
        combiner = CRCombiner(ccds_of(data, masks=bad), masks)
        combiner.scaling = [7.0, 8.0, 9.0]
        factors = np.broadcast_to(np.ravel(scale_to), (3,))
        expected = Reference(data, bad, masks, factors=factors).combine(method)[0]
        result = combine(combiner, method, scale_to=scale_to)
        assert_allclose(result.data, expected, rtol=1e-12)


class TestByHand:
    """One pixel, worked out by hand."""

    @pytest.mark.parametrize(
        ("method", "masks", "expected"),
        [
            ("mediancr", {}, 30),
            ("mediancr", {"mediancr": 1}, 10),
            ("mediancr", {"meancrt": 1, "crmasks": [1, 1, 1]}, 30),
            ("meancrt", {}, 50),
            ("meancrt", {"meancrt": 1}, 30),
            ("meancrt", {"meancrt": 1, "mediancr": 1}, 10),
            ("meancrt", {"mediancr": 1}, 50),
            ("meancr", {}, 50),
            ("meancr", {"crmasks": [0, 0, 1]}, 20),
            ("meancr", {"crmasks": [1, 0, 1]}, 30),
            ("meancr", {"crmasks": [1, 1, 1]}, 10),
            ("meancr", {"crmasks": [0, 0, 1], "meancr": 1}, 20),
            ("meancr2", {"crmasks": [0, 0, 1], "meancr": 0}, 20),
            ("meancr2", {"crmasks": [0, 0, 1], "meancr": 1}, 10),
        ],
    )
    def test_value(self, method, masks, expected):
        """The exposures are 10, 30 and 110: median 30, mean 50, minimum 10."""
        combiner = CRCombiner(column([10, 30, 110]), pixel_masks(3, **masks))
        result = combine(combiner, method, uncertainty=None)
        assert result.data == pytest.approx(expected)

    @pytest.mark.parametrize(
        ("masks", "method", "expected"),
        [
            ({"mediancr": 1}, "mediancr", 30),
            ({"crmasks": [1, 1, 1]}, "meancr", 30),
            ({"crmasks": [0, 1, 0]}, "meancr", 110),
            ({}, "mediancr", 70),
        ],
    )
    def test_masked_minimum(self, masks, method, expected):
        """An exposure that is masked at the input is not the minimum."""
        ccds = column([10, 30, 110], masks=[[[True]], [[False]], [[False]]])
        combiner = CRCombiner(ccds, pixel_masks(3, **masks))
        assert combine(combiner, method, uncertainty=None).data == expected

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_mean_is_accumulated_in_float64(self, dtype):
        """2**24 + 1 + 1 + 2 has no exact sum in float32 when added in turn."""
        combiner = CRCombiner(column([2**24, 1, 1, 2]), pixel_masks(4), dtype=dtype)
        result = combiner.meancr_combine(uncertainty=None)
        assert result.data == 2**22 + 1

    def test_weights(self):
        """The mean of 10 and 110 with weights 3 and 1 is 35."""
        combiner = CRCombiner(column([10, 30, 110]), pixel_masks(3, crmasks=[0, 1, 0]))
        combiner.weights = np.array([3, 5, 1])
        assert combiner.meancr_combine(uncertainty=None).data == pytest.approx(35)

    def test_weight_zero_only(self):
        """Where only weights of 0 are left it is the minimum over all."""
        combiner = CRCombiner(column([10, 30, 110]), pixel_masks(3, crmasks=[0, 1, 0]))
        combiner.weights = np.array([0, 1, 0])
        result = combiner.meancr_combine(uncertainty=None)
        assert result.data == 10
        assert result.header["CRNREPL"] == 1

    def test_weight_zero_only_meancrt(self):
        """The same for the mean, which is replaced by the median."""
        ccds = column([10, 30, 110, 5], masks=[[[False]]] * 3 + [[[True]]])
        combiner = CRCombiner(ccds, pixel_masks(4))
        combiner.weights = np.array([0, 0, 0, 1])
        result = combiner.meancrt_combine(uncertainty=None)
        assert result.data == 30
        assert result.header["CRNREPL"] == 1

    def test_flux_factor(self):
        """Exposures are divided by their factor and multiplied by the scaling."""
        masks = pixel_masks(3, flux_factor=[0.5, 1, 2])
        combiner = CRCombiner(column([10, 30, 110]), masks)
        assert combiner.meancr_combine(uncertainty=None).data == pytest.approx(50)
        kwargs = {"apply_flux_factor": True, "uncertainty": None}
        assert combiner.meancr_combine(**kwargs).data == pytest.approx(35)
        combiner.scaling = [1, 2, 4]
        # 20, 60 and 220
        assert combiner.mediancr_combine(**kwargs).data == pytest.approx(60)


class TestLamedian:
    """The cleaned median in place of the minimum."""

    VALUES = (10, 30, 110)

    @pytest.mark.parametrize(
        ("method", "masks", "expected"),
        [
            ("mediancr", {}, 30),
            ("mediancr", {"mediancr": 1}, 7),
            ("meancrt", {"meancrt": 1}, 30),
            ("meancrt", {"meancrt": 1, "mediancr": 1}, 7),
            ("meancrt", {"mediancr": 1}, 50),
            ("meancr", {"crmasks": [1, 1, 0], "mediancr": 1}, 110),
            ("meancr", {"crmasks": [1, 1, 1]}, 7),
            ("meancr2", {"crmasks": [1, 0, 0], "meancr": 0}, 70),
            ("meancr2", {"crmasks": [1, 0, 0], "meancr": 1}, 7),
        ],
    )
    def test_where(self, method, masks, expected):
        """It is taken only where the minimum would be."""
        masks = pixel_masks(3, lamedian=7, **masks)
        combiner = CRCombiner(column(self.VALUES), masks)
        result = combine(combiner, method, use_lamedian=True, uncertainty=None)
        assert result.data == pytest.approx(expected)
        assert result.header["CRLAMED"] is True

    @pytest.mark.parametrize(
        ("unit", "lamedian", "gain", "bias", "expected"),
        [
            ("adu", [[7]], 2, None, 7),
            ("adu", [[7]] * u.adu, 2, None, 7),
            ("adu", [[7]] * u.electron, 2, None, 3.5),
            ("electron", [[7]], 2, None, 7),
            ("electron", [[7]] * u.electron, 2, None, 7),
            ("electron", [[7]] * u.adu, 2, None, 14),
            ("adu", [[7]], None, None, 7),
            ("electron", [[7]] * u.electron, None, None, 7),
            ("adu", [[7]] * u.adu, 2, 100, 107),
            ("adu", [[7]] * u.electron, 2, 100, 103.5),
            # the exposures were multiplied by the gain, bias included
            ("electron", [[7]] * u.adu, 2, 100, 214),
            ("electron", [[7]] * u.electron, 1, 100, 107),
            ("Jy", [[7]] * u.mJy, None, None, 0.007),
        ],
    )
    def test_unit(self, unit, lamedian, gain, bias, expected):
        """It is converted to the unit and the zero level of the exposures."""
        masks = CRMaskSet(
            [[1]],
            [[1]],
            np.ones((3, 1, 1), int),
            lamedian=lamedian,
            gain=gain,
            bias=bias,
        )
        combiner = CRCombiner(column(self.VALUES, unit=unit), masks)
        for method in ("mediancr", "meancrt", "meancr"):
            result = combine(combiner, method, use_lamedian=True, uncertainty=None)
            assert result.data == pytest.approx(expected)
            assert result.unit == unit

    def test_not_scaled(self):
        """It keeps its flux scale whatever the exposures are multiplied by."""
        masks = pixel_masks(3, mediancr=1, lamedian=7, flux_factor=[2, 2, 2])
        combiner = CRCombiner(column(self.VALUES), masks)
        combiner.scaling = [3, 3, 3]
        result = combiner.mediancr_combine(
            use_lamedian=True, apply_flux_factor=True, uncertainty=None
        )
        assert result.data == 7

    def test_missing(self):
        """The mask set has none."""
        combiner = CRCombiner(column(self.VALUES), pixel_masks(3))
        with pytest.raises(ValueError, match="use_lamedian=True needs LAMEDIAN, which"):
            combiner.meancr_combine(use_lamedian=True)

    @pytest.mark.parametrize(
        ("unit", "other", "gain"), [("adu", "electron", None), ("adu", "Jy", 2)]
    )
    def test_unit_unknown(self, unit, other, gain):
        """Units that cannot be converted are both named."""
        masks = CRMaskSet(
            [[1]],
            [[1]],
            np.ones((3, 1, 1), int),
            lamedian=[[7]] * u.Unit(other),
            gain=gain,
        )
        combiner = CRCombiner(column(self.VALUES, unit=unit), masks)
        message = f"LAMEDIAN is in {other} and the exposures are in {unit}; the mask"
        with pytest.raises(ValueError, match=message):
            combiner.mediancr_combine(use_lamedian=True)


class TestLocalMedian:
    """Pixels that are replaced by the median of their box."""

    @pytest.mark.parametrize("method", METHODS)
    def test_order(self, method):
        """The second of two overlapping boxes sees the first one's result."""
        data = np.tile([[1.0, 100, 200, 4, 9]], (3, 1, 1))
        masks = mask_set(
            3,
            (1, 5),
            meancr=np.zeros((1, 5), bool),
            local_median_pixels=[(2, 1, 3, 1), (3, 1, 5, 1)],
        )
        result = combine(CRCombiner(ccds_of(data), masks), method, uncertainty=None)
        # (1 + 200) / 2 = 100.5, then the median of 1, 100.5, 4 and 9
        assert_allclose(result.data, [[1, 100.5, 6.5, 4, 9]])

    def test_not_counted_as_replaced(self):
        """The keyword counts the pixels of the masks only."""
        masks = mask_set(3, SHAPE, local_median_pixels=BOXES)
        combiner = CRCombiner(ccds_of(np.ones((3, *SHAPE))), masks)
        assert combiner.meancr_combine(uncertainty=None).header["CRNREPL"] == 0

    def test_no_neighbour(self):
        """One warning lists all pixels, which stay as they are."""
        data = np.array([[[1.0, 2.0], [np.nan, np.nan]]] * 3)
        masks = mask_set(3, (2, 2), local_median_pixels=[(1, 1, 1, 3), (2, 1, 1, 3)])
        combiner = CRCombiner(ccds_of(data), masks)
        message = (
            r"no usable neighbour, not replaced: pixels \[X, Y\] \[\(1, 1\), \(2, 1\)\]"
        )
        with pytest.warns(LocalMedianWarning, match=message) as record:
            result = combiner.meancr_combine(uncertainty=None)
        assert len(record) == 1
        assert record[0].filename == __file__
        assert_array_equal(result.data, data[0])

    @pytest.mark.parametrize("uncertainty", ["propagate", None])
    def test_bad_pixel(self, uncertainty):
        """A masked pixel is NaN, and no other is, also after a replacement."""
        data = np.arange(27.0).reshape(3, 3, 3)
        data[:, 1, 1] = np.nan
        masks = mask_set(
            3, (3, 3), local_median_pixels=[(2, 2, 3, 3)], gain=1, readnoise=1
        )
        result = CRCombiner(ccds_of(data), masks).meancr_combine(
            uncertainty=uncertainty
        )
        assert_array_equal(np.isnan(result.data), result.mask)
        if uncertainty is not None:
            assert_array_equal(np.isnan(result.uncertainty.array), result.mask)

    def test_uncertainty(self):
        """The median of three independent neighbours of sigma 2 / sqrt(3)."""
        unit_sigma = StdDevUncertainty(np.full((2, 2), 2.0))
        ccds = ccds_of(np.ones((3, 2, 2)), uncertainties=[unit_sigma] * 3)
        masks = mask_set(3, (2, 2), local_median_pixels=[(1, 1, 3, 3)])
        result = CRCombiner(ccds, masks).meancr_combine()
        sigma = 2 / np.sqrt(3)
        expected = [[sigma * FACTOR3 / np.sqrt(3), sigma], [sigma, sigma]]
        assert_allclose(result.uncertainty.array, expected, rtol=1e-6)


class TestInvariance:
    """What must not change the result."""

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("uncertainty", ["propagate", "scatter"])
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30, "max"])
    def test_masked_value(self, method, dtype, uncertainty, value):
        """The value of a masked pixel has no influence."""
        data, bad, masks = random_case(4, dtype)
        data[~np.isfinite(data)] = 50
        expected = self.run(data, bad, masks, method, uncertainty)
        data[bad] = np.finfo(dtype).max if value == "max" else value
        result = self.run(data, bad, masks, method, uncertainty)
        assert_array_equal(result.data, expected.data)
        assert_array_equal(result.mask, expected.mask)
        assert_array_equal(result.uncertainty.array, expected.uncertainty.array)

    @staticmethod
    def run(data, bad, masks, method, uncertainty):
        """Combine with scaling."""
        combiner = CRCombiner(ccds_of(data, masks=bad), masks, dtype=data.dtype)
        combiner.scaling = [2.0, 3.0, 4.0, 5.0]
        return combine(combiner, method, uncertainty=uncertainty)

    @pytest.mark.parametrize("method", METHODS)
    def test_masked_uncertainty(self, method):
        """Nor has its uncertainty."""
        data, bad, masks = random_case(3, "float64")
        bad |= ~np.isfinite(data)
        results = []
        for value in (1.0, np.nan, np.inf, 0.0):
            sigmas = np.where(bad, value, 3.0)
            uncertainties = [StdDevUncertainty(sigma) for sigma in sigmas]
            ccds = ccds_of(data, masks=bad, uncertainties=uncertainties)
            combiner = CRCombiner(ccds, masks)
            results.append(combine(combiner, method).uncertainty.array)
        for result in results[1:]:
            assert_array_equal(result, results[0])

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("value", [np.inf, np.nan])
    def test_uncertainty_of_weight_zero(self, method, value):
        """An exposure of weight 0 does not spoil the uncertainty of a mean."""
        ccds = column([1, 2, 3])
        for ccd, sigma in zip(ccds, (3.0, 4.0, value), strict=True):
            ccd.uncertainty = StdDevUncertainty([[sigma]])
        combiner = CRCombiner(ccds, pixel_masks(3, meancr=0))
        combiner.weights = np.array([1.0, 1.0, 0.0])
        result = combine(combiner, method)
        if method != "mediancr":
            assert result.uncertainty.array == pytest.approx(2.5)

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("uncertainty", ["propagate", "scatter"])
    def test_permutation(self, method, uncertainty):
        """The order of the exposures does not matter if the masks go along."""
        n, order = 5, [3, 0, 4, 2, 1]
        data, bad, masks = random_case(n, "float64")
        moved = CRMaskSet(
            masks.mediancr,
            masks.meancrt,
            masks.crmasks[order],
            meancr=masks.meancr,
            flux_factor=masks.flux_factor[order],
            gain=2.0,
            readnoise=5.0,
        )
        weights, scaling = np.arange(1.0, 6), np.linspace(0.5, 1.5, n)
        results = []
        for i, mask in ((range(n), masks), (order, moved)):
            index = list(i)
            combiner = CRCombiner(ccds_of(data[index], masks=bad[index]), mask)
            combiner.weights, combiner.scaling = weights[index], scaling[index]
            results.append(
                combine(
                    combiner, method, apply_flux_factor=True, uncertainty=uncertainty
                )
            )
        first, second = results
        assert_allclose(second.data, first.data, rtol=1e-12)
        assert_array_equal(second.mask, first.mask)
        assert_allclose(second.uncertainty.array, first.uncertainty.array, rtol=1e-10)

    @pytest.mark.parametrize("method", METHODS)
    def test_inputs_unchanged(self, method):
        """Neither exposures nor masks nor weights are modified."""
        data, bad, masks = random_case(3, "float64")
        masks = with_boxes(masks)
        uncertainties = [VarianceUncertainty(np.full(SHAPE, 4.0)) for _ in data]
        header = fits.Header([("OBJECT", "M 1")])
        ccds = ccds_of(data, masks=bad, uncertainties=uncertainties, meta=header)
        before, same = [ccd.copy() for ccd in ccds], copy.deepcopy(masks)
        weights = np.arange(1.0, 4)
        combiner = CRCombiner(ccds, masks)
        combiner.weights = weights
        result = combine(
            combiner, method, use_lamedian=True, uncertainty="scatter", scale_to=2.0
        )
        result.data[:] = -1
        result.mask[:] = True
        result.header["OBJECT"] = "M 2"
        for ccd, old, mask in zip(ccds, before, bad, strict=True):
            assert_array_equal(ccd.data, old.data)
            assert_array_equal(ccd.mask, mask)
            assert_array_equal(ccd.uncertainty.array, old.uncertainty.array)
            assert type(ccd.uncertainty) is VarianceUncertainty
            assert ccd.header == old.header == header
        assert masks == same
        assert_array_equal(weights, [1, 2, 3])

    @pytest.mark.parametrize("method", METHODS)
    def test_repeated(self, method):
        """A combination leaves the combiner as it was."""
        data, bad, masks = random_case(3, "float32")
        combiner = CRCombiner(ccds_of(data, masks=bad), masks)
        first = combine(combiner, method, apply_flux_factor=True)
        for other in METHODS:
            combine(combiner, other, use_lamedian=True, scale_to=3.0)
        again = combine(combiner, method, apply_flux_factor=True)
        assert_array_equal(again.data, first.data)
        assert_array_equal(again.uncertainty.array, first.uncertainty.array)


def same_results(first, second, rtol=0.0, atol=0.0):
    """Compare two combined images."""
    tolerance = {"rtol": rtol, "atol": atol}
    assert_allclose(first.data, second.data, **tolerance)
    assert_array_equal(first.mask, second.mask)
    assert_allclose(first.uncertainty.array, second.uncertainty.array, **tolerance)
    assert first.unit == second.unit
    assert first.dtype == second.dtype
    assert first.meta["NCOMBINE"] == second.meta["NCOMBINE"]


ACTIONS = {
    "nothing": lambda _: None,
    "weights": lambda c: setattr(c, "weights", np.arange(1.0, 7)),
    "weights per pixel": lambda c: setattr(
        c, "weights", np.arange(1.0, 1 + 6 * 72).reshape(6, *SHAPE)
    ),
    "scaling": lambda c: setattr(c, "scaling", [1, 2, 1, 2, 1, 2]),
    "scaling by a function": lambda c: setattr(
        c, "scaling", lambda plane: 100 / np.mean(np.ma.getdata(plane))
    ),
    "minmax": lambda c: c.minmax_clipping(min_clip=60, max_clip=400),
    "minmax, min": lambda c: c.minmax_clipping(min_clip=60),
    "minmax, max": lambda c: c.minmax_clipping(max_clip=400),
    "sigma": lambda c: c.sigma_clipping(
        low_thresh=3, high_thresh=3, func="median", dev_func="mad_std"
    ),
    "extrema": lambda c: c.clip_extrema(nlow=1, nhigh=2),
}


def keep_within(low=-np.inf, high=np.inf):
    """Return limits that do not depend on the values."""
    return lambda _: (low, high)


def keep_sigma(values):
    """Return limits of 3 sigma about the median."""
    center = np.median(values)
    sigma = 1.482602218505602 * np.median(np.abs(values - center))
    return center - 3 * sigma, center + 3 * sigma


def keep_middle(values):
    """Return limits that hold all but one low and two high values."""
    if len(values) <= 3:
        return -np.inf, np.inf
    return np.sort(values)[1], np.sort(values)[-3]


CLIPS = {
    "minmax": keep_within(60, 400),
    "minmax, min": keep_within(low=60),
    "minmax, max": keep_within(high=400),
    "sigma": keep_sigma,
    "extrema": keep_middle,
}


def clip_by_hand(data, bad, flagged, limits):
    """Return what is bad or clipped, pixel by pixel, by limits of clean values."""
    clipped = bad.copy()
    for pixel in np.ndindex(data.shape[1:]):
        at = (slice(None), *pixel)
        clean = ~bad[at] & ~flagged[at]
        if not clean.any() and limits in {keep_sigma, keep_middle}:
            continue
        low, high = limits(data[at][clean])
        beyond = (data[at] < low) | (data[at] > high)
        left = (clean & ~beyond).any()
        if left or not clean.any() or not (flagged[at] & ~bad[at]).any():
            clipped[at] |= beyond
    return clipped


class TestClipping:
    """Clipping beside masks of cosmic rays."""

    OPTIONS = MappingProxyType(
        {
            "extrema": lambda c: c.clip_extrema(nlow=1, nhigh=1),
            "extrema, high": lambda c: c.clip_extrema(nhigh=2),
            "minmax": lambda c: c.minmax_clipping(min_clip=200),
            "sigma": lambda c: c.sigma_clipping(func="median", dev_func="mad_std"),
            "sigma, mean": lambda c: c.sigma_clipping(1, 1),
            "callable": lambda c: c.sigma_clipping(func=np.ma.median, dev_func=np.std),
        }
    )

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS)
    def test_clean_value(self, method, option):
        """100, 1000, 1010, of which the last two are hit: 100, whatever is clipped."""
        masks = CRMaskSet(
            [[1]], [[1]], np.array([0, 1, 1]).reshape(3, 1, 1), meancr=[[0]]
        )
        combiner = CRCombiner(column([100, 1000, 1010]), masks)
        option(combiner)
        assert combine(combiner, method, uncertainty=None).data == 100

    @pytest.mark.parametrize("value", [20, 0, 1e9, -1e9, np.nan])
    @pytest.mark.parametrize("how", ["masked", "flagged"])
    @pytest.mark.parametrize("plain", [False, True])
    def test_values_without_influence(self, value, how, plain):
        """
        Masked and flagged values decide nothing.

        Of 10, 11, 12, 13, 100 the mean is 29.2 and the deviation 35.4: 100 is 2 sigma
        off and the others are less than 1; their mean is 11.5. Without the lowest and
        the highest it is 12.
        """
        ccds = column([10, 11, 12, 13, 100, value])
        hit = np.zeros((6, 1, 1), bool)
        hit[5] = how == "flagged"
        ccds[5].mask = ~hit[5]
        if plain and how == "flagged":
            return
        masks = CRMaskSet([[0]], hit[5], hit)
        for clip, expected in (
            (lambda c: c.sigma_clipping(1.5, 1.5), 11.5),
            (lambda c: c.clip_extrema(1, 1), 12),
        ):
            combiner = CRCombiner(ccds, masks)
            clip(combiner)
            options = {} if plain else {"uncertainty": None}
            result = combine(combiner, "average" if plain else "meancr", **options)
            assert result.data == pytest.approx(expected)

    @pytest.mark.parametrize("first", ["clip", "scale", "copy"])
    def test_scaled(self, first):
        """Exposures 100, 200, 400 with factors 1, 2, 4: none is clipped at 150."""
        z = np.zeros((3, 1, 1), bool)
        masks = CRMaskSet(z[0], z[0], z, flux_factor=[1, 2, 4])
        combiner = CRCombiner(column([100, 200, 400]), masks)
        if first == "copy":
            assert combiner.median_combine().data == 200
        if first == "clip":
            combiner.minmax_clipping(max_clip=150)
        combiner.scaling = [1, 0.5, 0.25]
        if first != "clip":
            combiner.minmax_clipping(max_clip=150)
        assert combiner.average_combine().data == 100
        assert combine(combiner, "meancr", uncertainty=None).data == 100
        assert combiner.exposure_map() == 3
        combiner = CRCombiner(column([100, 200, 400]), masks)
        combiner.minmax_clipping(max_clip=150)
        options = {"apply_flux_factor": True, "uncertainty": None}
        assert combine(combiner, "meancr", **options).data == 100
        assert combiner.exposure_map() == 1

    def test_too_many(self):
        """Clips that leave nothing are refused."""
        combiner = CRCombiner(column([1, 2, 3]))
        with pytest.raises(ValueError, match=r"the 3 exposures, got 1 \+ 2"):
            combiner.clip_extrema(1, 2)


class TestCombiner:
    """All that ccdproc's Combiner does, done by CRCombiner."""

    N = 6

    @classmethod
    def inputs(cls, *, masked=True):
        """Return exposures of which no pixel is bad everywhere, with outliers."""
        rng = np.random.default_rng(11)
        data = rng.normal(100, 10, (cls.N, *SHAPE))
        data[0, ::3, ::2] = 1000
        data[1, 1::3, 1::2] = -500
        bad = np.zeros(data.shape, bool)
        bad[2, 2, :] = masked
        return ccds_of(data, masks=bad)

    @pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)
    @pytest.mark.parametrize("dtype", [None, "float32"])
    @pytest.mark.parametrize("name", ["average", "median", "sum"])
    def test_same_as_parent(self, action, dtype, name):
        """
        Clipping, weights and scaling give what Combiner gives.

        There masked values have weights and decide what is clipped: none is here.
        """
        masked = action in {ACTIONS[name] for name in ("nothing", "scaling", "minmax")}
        results = []
        for cls in (ccdproc.Combiner, CRCombiner):
            combiner = cls(self.inputs(masked=masked), dtype=dtype)
            action(combiner)
            results.append(getattr(combiner, f"{name}_combine")())
        expected, result = results
        same_results(result, expected)

    @pytest.mark.parametrize("name", [n for n in ACTIONS if "weights" not in n])
    @pytest.mark.parametrize("dtype", [None, "float32"])
    def test_empty_masks(self, name, dtype):
        """Without cosmic rays the methods are median and mean of Combiner."""
        masked = name not in {"sigma", "extrema"}
        parent = ccdproc.Combiner(self.inputs(masked=masked), dtype=dtype)
        combiner = CRCombiner(self.inputs(masked=masked), dtype=dtype)
        combiner.crmasks = mask_set(
            self.N, SHAPE, meancr=np.zeros(SHAPE, bool), gain=1.0, readnoise=1.0
        )
        ACTIONS[name](parent)
        ACTIONS[name](combiner)
        median, mean = parent.median_combine(), parent.average_combine()
        # Combiner sums float32 values of up to 2000 in float32
        tolerance = {"rtol": 1e-5, "atol": 1e-3} if dtype else {"rtol": 1e-12}
        for method in METHODS:
            result = combine(combiner, method, uncertainty="scatter")
            same_results(result, median if method == "mediancr" else mean, **tolerance)

    @pytest.mark.parametrize("method", ["meancrt", "meancr", "meancr2"])
    @pytest.mark.parametrize("weights", ["weights", "weights per pixel"])
    def test_empty_masks_weighted(self, method, weights):
        """
        Weights as Combiner uses them.

        No pixel is masked, as Combiner divides by the weights of masked ones too.
        """
        ccds = self.inputs()
        for ccd in ccds:
            ccd.mask[:] = False
        masks = mask_set(self.N, SHAPE, meancr=np.zeros(SHAPE, bool))
        parent, combiner = ccdproc.Combiner(ccds), CRCombiner(ccds, masks)
        ACTIONS[weights](parent)
        ACTIONS[weights](combiner)
        result = combine(combiner, method, uncertainty=None)
        assert_allclose(result.data, parent.average_combine().data, rtol=1e-12)

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize(
        "name", ["minmax", "minmax, min", "minmax, max", "sigma", "extrema"]
    )
    def test_clipped_is_bad(self, method, name):
        """What was clipped before takes no part."""
        rng = np.random.default_rng(12)
        ccds = self.inputs()
        masks = CRMaskSet(
            rng.random(SHAPE) < 0.3,
            rng.random(SHAPE) < 0.5,
            rng.random((self.N, *SHAPE)) < 0.4,
            meancr=rng.random(SHAPE) < 0.2,
        )
        combiner = CRCombiner(ccds, masks)
        ACTIONS[name](combiner)
        data = np.array([ccd.data for ccd in ccds])
        bad = np.array([ccd.mask for ccd in ccds])
        clipped = clip_by_hand(data, bad, masks.crmasks, CLIPS[name])
        assert np.count_nonzero(clipped) > np.count_nonzero(bad)
        value, _, replaced, number = Reference(data, clipped, masks).combine(method)
        result = combine(combiner, method, uncertainty=None)
        assert_allclose(result.data, value, rtol=1e-12)
        assert result.header["CRNREPL"] == replaced
        assert_array_equal(combiner.exposure_map(method), number)

    def test_user_functions(self):
        """Functions that a user hands to the parent's methods are called."""
        ccds = [CCDData(ccd.data, unit=ccd.unit) for ccd in self.inputs()]
        combiner = CRCombiner(ccds, mask_set(self.N, SHAPE))
        result = combiner.average_combine(scale_func=np.ma.max)
        assert_array_equal(result.data, np.max([ccd.data for ccd in ccds], axis=0))

    def test_generator(self):
        """Exposures may come from a generator."""
        ccds = column([1, 2, 6])
        combiner = CRCombiner((ccd for ccd in ccds), pixel_masks(3))
        assert combiner.meancr_combine(uncertainty=None).data == pytest.approx(3)
        assert combiner.exposure_map()[0, 0] == 3

    def test_is_a_combiner(self):
        """It can be used wherever a Combiner can."""
        assert isinstance(CRCombiner(column([1])), ccdproc.Combiner)

    @pytest.mark.parametrize(
        ("ccds", "message"),
        [
            (None, "ccd_iter should be a list or a generator of CCDData"),
            ([CCDData([[1]], unit="adu"), None], "should only contain CCDData"),
            (
                [CCDData([[1]], unit="adu"), CCDData([[1, 2]], unit="adu")],
                "not the same size",
            ),
            (
                [CCDData([[1]], unit="adu"), CCDData([[1]], unit="s")],
                "don't have the same unit",
            ),
        ],
    )
    def test_bad_exposures(self, ccds, message):
        """The parent's checks of the exposures."""
        with pytest.raises(TypeError, match=message):
            CRCombiner(ccds)

    @pytest.mark.parametrize(
        ("name", "value", "error", "message"),
        [
            ("weights", 1, TypeError, "weights must be a numpy.ndarray"),
            ("weights", np.ones((2, 2)), ValueError, "1D weights expected"),
            ("weights", np.ones(4), ValueError, "Length of weights not compatible"),
            ("scaling", 5, TypeError, "scaling must be a function or an array"),
            ("scaling", [5] * 4, ValueError, "scaling must be a function or an array"),
        ],
    )
    def test_bad_setting(self, name, value, error, message):
        """The parent's checks of what is set."""
        combiner = CRCombiner(column([1, 2, 3]), pixel_masks(3))
        with pytest.raises(error, match=message):
            setattr(combiner, name, value)


class TestResult:
    """What comes out besides the pixels."""

    @staticmethod
    def exposures(n=3):
        """Return exposures with header and WCS, a different one each."""
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
        wcs.wcs.crval = 10.0, 20.0
        return [
            CCDData(
                np.full(SHAPE, i + 1.0),
                unit="electron",
                meta=fits.Header([("OBJECT", f"M {i + 1}"), ("EXPTIME", 100.0 * i)]),
                wcs=wcs.deepcopy() if i == 0 else None,
            )
            for i in range(n)
        ]

    @pytest.mark.parametrize("method", METHODS)
    def test_meta(self, method):
        """Header of the first exposure, and what was done."""
        ccds = self.exposures()
        masks = mask_set(
            3,
            SHAPE,
            mediancr=np.eye(*SHAPE, dtype=bool),
            meancrt=np.eye(*SHAPE, dtype=bool),
            crmasks=np.stack([np.eye(*SHAPE, dtype=bool)] * 3),
            meancr=np.eye(*SHAPE, dtype=bool),
            lamedian=np.ones(SHAPE),
            uuid="this-set",
        )
        combiner = CRCombiner(ccds, masks)
        result = combine(combiner, method, apply_flux_factor=True, uncertainty=None)
        expected = {
            "OBJECT": "M 1",
            "EXPTIME": 0.0,
            "NCOMBINE": 3,
            "CRMETHOD": method,
            "CRUUID": "this-set",
            "CRFLUXF": True,
            "CRLAMED": False,
            "CRNREPL": 8,
        }
        assert dict(result.header) == expected
        assert isinstance(result.header, fits.Header)
        other = combine(combiner, method, use_lamedian=True, uncertainty=None)
        assert (other.header["CRFLUXF"], other.header["CRLAMED"]) == (False, True)

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("dtype", [None, "float32", np.float64])
    def test_kind(self, method, dtype):
        """A CCDData of the combiner's type and the exposures' unit, with WCS."""
        masks = mask_set(
            3, SHAPE, meancr=np.zeros(SHAPE, bool), gain=1.0, readnoise=1.0
        )
        ccds = self.exposures()
        result = combine(CRCombiner(ccds, masks, dtype=dtype), method)
        assert type(result) is CCDData
        assert result.unit == u.electron
        assert result.dtype == np.dtype(dtype or "float64")
        assert result.shape == SHAPE
        assert result.mask.dtype == bool
        assert type(result.uncertainty) is StdDevUncertainty
        assert result.uncertainty.array.dtype == result.dtype
        assert result.wcs.to_header() == ccds[0].wcs.to_header()
        assert result.wcs is not ccds[0].wcs

    def test_no_header(self):
        """Exposures without header and WCS."""
        result = CRCombiner(column([1, 2, 3]), pixel_masks(3)).meancr_combine(
            uncertainty=None
        )
        assert result.wcs is None
        assert result.meta["NCOMBINE"] == 3

    @pytest.mark.parametrize("method", METHODS)
    def test_masked_only_where_all_are(self, method):
        """Two bad exposures of three are no reason; there is NaN under a mask."""
        data, bad, masks = random_case(3, "float64")
        result = combine(CRCombiner(ccds_of(data, masks=bad), masks), method)
        nogood = (bad | ~np.isfinite(data)).all(axis=0)
        assert np.count_nonzero(nogood) >= 3
        assert_array_equal(result.mask, nogood)
        assert_array_equal(np.isnan(result.data), nogood)
        assert_array_equal(np.isnan(result.uncertainty.array), nogood)
        assert (result.uncertainty.array[~nogood] > 0).all()

    def test_integer_exposures(self):
        """Exposures of integers give floats."""
        ccds = ccds_of(np.array([[[1, 2]], [[2, 2]]], dtype=np.uint16))
        combiner = CRCombiner(ccds, mask_set(2, (1, 2)))
        assert_array_equal(combiner.meancr_combine(uncertainty=None).data, [[1.5, 2]])


class TestExposureMap:
    """Number of exposures that a pixel is made of."""

    def test_by_hand(self):
        """Four exposures of five pixels; the last pixel is bad in all."""
        data = np.ones((4, 1, 5))
        data[0, 0, 1] = np.nan
        bad = np.zeros(data.shape, bool)
        bad[1, 0, 1] = True
        bad[:, 0, 4] = True
        crmasks = np.zeros(data.shape, int)
        crmasks[:, 0, 2] = 1
        crmasks[0, 0, 3] = 1
        crmasks[:3, 0, 1] = 1
        masks = CRMaskSet(
            [[0, 0, 1, 0, 1]], [[0, 1, 1, 0, 1]], crmasks, meancr=[[0, 0, 0, 1, 1]]
        )
        combiner = CRCombiner(ccds_of(data, masks=bad), masks)
        expected = {
            "mediancr": [[4, 2, 1, 4, 0]],
            "meancrt": [[4, 1, 1, 4, 0]],
            "meancr": [[4, 1, 1, 3, 0]],
            "meancr2": [[4, 1, 1, 1, 0]],
        }
        for method, numbers in expected.items():
            result = combiner.exposure_map(method)
            assert_array_equal(result, numbers)
            assert result.dtype == np.int16
        assert_array_equal(combiner.exposure_map(), expected["meancr"])

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("n", [2, 3, 5])
    def test_random(self, method, n):
        """The same by the loop over pixels."""
        data, bad, masks = random_case(n, "float32")
        combiner = CRCombiner(ccds_of(data, masks=bad), masks)
        expected = Reference(data, bad, masks).combine(method)[3]
        assert_array_equal(combiner.exposure_map(method), expected)

    @pytest.mark.parametrize("method", ["meancr", "meancr2"])
    def test_weight_zero_only(self, method):
        """Replaced pixels count 1, also those where only weights of 0 are left."""
        masks = pixel_masks(3, crmasks=[0, 1, 0], meancr=0)
        combiner = CRCombiner(column([10, 30, 110]), masks)
        combiner.weights = np.array([0, 1, 0])
        assert combine(combiner, method, uncertainty=None).data == 10
        assert combiner.exposure_map(method) == 1


class TestCrmasks:
    """The mask set of a combiner."""

    def test_set(self):
        """It may be given, or set and replaced later."""
        masks = pixel_masks(3)
        assert CRCombiner(column([1, 2, 3]), masks).crmasks is masks
        combiner = CRCombiner(column([1, 2, 6]))
        assert combiner.crmasks is None
        combiner.crmasks = masks
        assert combiner.meancr_combine(uncertainty=None).data == pytest.approx(3)
        combiner.crmasks = pixel_masks(3, crmasks=[0, 0, 1])
        assert combiner.meancr_combine(uncertainty=None).data == 1.5
        combiner.crmasks = None
        assert combiner.crmasks is None

    @pytest.mark.parametrize("kind", [str, Path])
    def test_file(self, tmp_path, kind):
        """A file name is read."""
        masks = pixel_masks(3, crmasks=[0, 0, 1])
        path = kind(tmp_path / "crmasks.fits")
        masks.write(path)
        assert CRCombiner(column([1, 2, 6]), path).crmasks == masks
        combiner = CRCombiner(column([1, 2, 6]))
        combiner.crmasks = path
        assert combiner.crmasks == masks
        assert combiner.meancr_combine(uncertainty=None).data == 1.5

    @pytest.mark.parametrize(
        ("value", "error", "message"),
        [
            (np.zeros((3, 2, 2)), TypeError, "or a file, got ndarray"),
            (False, TypeError, "crmasks must be a CRMaskSet or a file, got bool"),
            (mask_set(2, (2, 2)), ValueError, "the masks of 3 exposures, got 2"),
            (
                mask_set(3, (2, 3)),
                ValueError,
                r"the shape of the exposures, \(2, 2\), got \(2, 3\)",
            ),
        ],
    )
    def test_refused(self, value, error, message):
        """Wrong kind, number and shape, at once and later."""
        ccds = ccds_of(np.ones((3, 2, 2)))
        with pytest.raises(error, match=message):
            CRCombiner(ccds, value)
        combiner = CRCombiner(ccds, mask_set(3, (2, 2)))
        old = combiner.crmasks
        with pytest.raises(error, match=message):
            combiner.crmasks = value
        assert combiner.crmasks is old

    def test_cubes(self):
        """Exposures of three dimensions do not fit to any mask set."""
        ccds = ccds_of(np.ones((3, 2, 2, 2)))
        assert CRCombiner(ccds).average_combine().shape == (2, 2, 2)
        with pytest.raises(ValueError, match=r"\(2, 2, 2\), got \(2, 2\)"):
            CRCombiner(ccds, mask_set(3, (2, 2)))

    @pytest.mark.parametrize("method", METHODS)
    def test_missing(self, method):
        """No method works without."""
        combiner = CRCombiner(column([1, 2, 3]))
        message = f"{method} needs a mask set; set crmasks to a CRMaskSet or its file"
        with pytest.raises(ValueError, match=message):
            combine(combiner, method)
        with pytest.raises(ValueError, match=message):
            combiner.exposure_map(method)

    def test_no_meancr(self):
        """The mask MEANCR is not in every set."""
        combiner = CRCombiner(column([1, 2, 3]), pixel_masks(3))
        message = "meancr2 needs the mask MEANCR, which crmasks does not have"
        with pytest.raises(ValueError, match=message):
            combiner.meancr2_combine()
        with pytest.raises(ValueError, match=message):
            combiner.exposure_map("meancr2")


class TestRefused:
    """Settings that cannot be honoured are named."""

    def test_swapped(self):
        """Masks in place of the exposures, and the other way round."""
        masks = pixel_masks(3, meancr=0)
        with pytest.raises(TypeError, match="ccd_iter and crmasks are swapped: give"):
            CRCombiner(masks, column([1, 2, 3]))
        with pytest.raises(TypeError, match="img_list and crmasks are swapped: give"):
            ccdcr.combine("crmasks.fits", crmasks=column([1, 2, 3]))

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("dtype", ["int32", "uint16"])
    def test_dtype(self, method, dtype):
        """NaN needs a floating-point type."""
        combiner = CRCombiner(column([1, 2, 3]), pixel_masks(3, meancr=0), dtype=dtype)
        message = f"dtype must be a floating-point type, got {dtype}"
        with pytest.raises(TypeError, match=message):
            combine(combiner, method)

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize(
        "weights", [[0, 0, 0], [1, -1, 1], [1, np.nan, 1], [1, np.inf, 1]]
    )
    def test_weights(self, method, weights):
        """Weights must be numbers that can weigh."""
        combiner = CRCombiner(column([1, 2, 3]), pixel_masks(3, meancr=0))
        combiner.weights = np.array(weights)
        with pytest.raises(ValueError, match="weights must be finite numbers >= 0"):
            combine(combiner, method)

    @pytest.mark.parametrize("method", METHODS)
    def test_scale_to_number(self, method):
        """One factor, or one for each exposure."""
        combiner = CRCombiner(column([1, 2, 3]), pixel_masks(3, meancr=0))
        message = "scale_to must be one number or 3 of them, got 2"
        with pytest.raises(ValueError, match=message):
            combine(combiner, method, scale_to=[1, 2])

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    @pytest.mark.parametrize("flux", [False, True])
    def test_scale_finite(self, value, flux):
        """Factors must be finite."""
        combiner = CRCombiner(column([1, 2, 3]), pixel_masks(3))
        message = r"scaling and scale_to must be finite, got \[1.0, (nan|inf), 1.0\]"
        with pytest.raises(ValueError, match=message):
            combiner.meancr_combine(scale_to=[1, value, 1], apply_flux_factor=flux)
        combiner.scaling = [1, value, 1]
        with pytest.raises(ValueError, match=message):
            combiner.meancr_combine(apply_flux_factor=flux)

    @pytest.mark.parametrize("factor", [0.0, -1.0, np.nan, np.inf])
    def test_flux_factor(self, factor):
        """A factor that cannot be divided by never gets into a set."""
        message = f"got {factor} for exposure 2 \\(FLUXF2\\)"
        with pytest.raises(ValueError, match=message):
            pixel_masks(3, flux_factor=[1, factor, 1])

    @pytest.mark.parametrize("method", METHODS)
    def test_uncertainty(self, method):
        """The allowed values are listed."""
        combiner = CRCombiner(column([1, 2, 3]), pixel_masks(3, meancr=0))
        message = "uncertainty must be 'propagate', 'scatter' or None, got 'std'"
        with pytest.raises(ValueError, match=message):
            combine(combiner, method, uncertainty="std")

    def test_exposure_map_method(self):
        """The allowed methods are listed."""
        combiner = CRCombiner(column([1, 2, 3]), pixel_masks(3))
        message = "method must be one of mediancr, meancrt, meancr, meancr2, got 'sum'"
        with pytest.raises(ValueError, match=message):
            combiner.exposure_map("sum")


def sigma_of(ccds, masks, method, *, weights=None, **kwargs):
    """Return the uncertainty of a combination of one pixel."""
    combiner = CRCombiner(ccds, masks)
    combiner.weights = weights
    return combine(combiner, method, **kwargs).uncertainty.array.item()


CLASSES = {
    "std": lambda sigma: StdDevUncertainty([[sigma]]),
    "variance": lambda sigma: VarianceUncertainty([[sigma**2]]),
    "inverse": lambda sigma: InverseVariance([[sigma**-2]]),
}


class TestPropagate:
    """Uncertainties that the exposures come with: sigma 3, 4 and 12."""

    SIGMAS = (3.0, 4.0, 12.0)

    def ccds(self, kind="std", **kwargs):
        """Return one pixel of each exposure."""
        return column(
            [10, 30, 110],
            uncertainties=[CLASSES[kind](sigma) for sigma in self.SIGMAS],
            **kwargs,
        )

    @pytest.mark.parametrize("kind", CLASSES)
    @pytest.mark.parametrize(
        ("method", "masks", "expected"),
        [
            # sqrt(9 + 16 + 144) = 13
            ("meancr", {}, 13 / 3),
            ("meancrt", {}, 13 / 3),
            ("mediancr", {}, MEDIAN),
            ("mediancr", {"mediancr": 1}, 3),
            ("meancrt", {"meancrt": 1}, MEDIAN),
            ("meancrt", {"meancrt": 1, "mediancr": 1}, 3),
            ("meancr", {"crmasks": [0, 0, 1]}, 2.5),
            ("meancr", {"crmasks": [1, 0, 1]}, 4),
            ("meancr", {"crmasks": [1, 1, 0]}, 12),
            ("meancr", {"crmasks": [1, 1, 1]}, 3),
            ("meancr2", {"meancr": 1}, 3),
        ],
    )
    def test_value(self, kind, method, masks, expected):
        """Plain, replaced and single-exposure pixels, for each class."""
        sigma = sigma_of(self.ccds(kind), pixel_masks(3, **masks), method)
        assert sigma == pytest.approx(expected, rel=1e-6)

    def test_mixed_classes(self):
        """Each exposure may have a class of its own."""
        uncertainties = [
            CLASSES[kind](sigma)
            for kind, sigma in zip(CLASSES, self.SIGMAS, strict=True)
        ]
        ccds = column([10, 30, 110], uncertainties=uncertainties)
        assert sigma_of(ccds, pixel_masks(3), "meancr") == pytest.approx(13 / 3)

    def test_unit(self):
        """An uncertainty in another unit than its data is converted."""
        ccds = column([1, 2, 3], unit="Jy")
        for ccd in ccds:
            ccd.uncertainty = StdDevUncertainty([[3000.0]], unit="mJy")
        assert sigma_of(ccds, pixel_masks(3), "meancr") == pytest.approx(3 / 3**0.5)

    def test_weights(self):
        """Weights 4, 3 and 0: sqrt(12^2 + 12^2) / 7."""
        weights = np.array([4.0, 3.0, 0.0])
        sigma = sigma_of(self.ccds(), pixel_masks(3), "meancr", weights=weights)
        assert sigma == pytest.approx(288**0.5 / 7)
        # weights have no part in a median
        sigma = sigma_of(self.ccds(), pixel_masks(3), "mediancr", weights=weights)
        assert sigma == pytest.approx(MEDIAN)

    def test_weights_per_pixel(self):
        """The same for weights that differ from pixel to pixel."""
        weights = np.reshape([4.0, 3.0, 0.0], (3, 1, 1))
        sigma = sigma_of(self.ccds(), pixel_masks(3), "meancrt", weights=weights)
        assert sigma == pytest.approx(288**0.5 / 7)

    def test_scaling(self):
        """Sigma is scaled as the data are: 12, 12 and -12."""
        sigma = sigma_of(self.ccds(), pixel_masks(3), "meancr", scale_to=[4, 3, -1])
        assert sigma == pytest.approx(12 / 3**0.5)

    def test_flux_factor(self):
        """Sigma is divided by the flux factor: 6, 4 and 1; 20, 30 and 9.17."""
        masks = pixel_masks(3, flux_factor=[0.5, 1, 12], crmasks=[1, 1, 1])
        kwargs = {"apply_flux_factor": True}
        assert sigma_of(self.ccds(), masks, "meancr", **kwargs) == pytest.approx(1)
        assert sigma_of(self.ccds(), masks, "meancrt", **kwargs) == pytest.approx(
            53**0.5 / 3
        )

    def test_masked_exposure(self):
        """A masked exposure does not count."""
        ccds = self.ccds(masks=[[[False]], [[False]], [[True]]])
        assert sigma_of(ccds, pixel_masks(3), "meancr") == pytest.approx(2.5)
        # the median of two is their mean
        assert sigma_of(ccds, pixel_masks(3), "mediancr") == pytest.approx(2.5)

    def test_preferred_to_model(self):
        """The noise model does not matter where uncertainties are given."""
        masks = pixel_masks(3, gain=1, readnoise=1000)
        assert sigma_of(self.ccds(), masks, "meancr") == pytest.approx(13 / 3)

    @pytest.mark.parametrize(
        "nothing",
        [
            InverseVariance([[0.0]]),
            StdDevUncertainty([[0.0]]),
            StdDevUncertainty([[np.inf]]),
            StdDevUncertainty([[np.nan]]),
            VarianceUncertainty([[0.0]]),
        ],
    )
    def test_no_information(self, nothing):
        """A pixel whose uncertainty means no information is ignored."""
        ccds = self.ccds("inverse")
        ccds[1].uncertainty = nothing
        result = np.sqrt(9 + 144) / 2
        assert sigma_of(ccds, pixel_masks(3), "meancr") == pytest.approx(result)
        assert CRCombiner(ccds, pixel_masks(3)).exposure_map()[0, 0] == 2
        combiner = CRCombiner(ccds, pixel_masks(3), noise="detector")
        assert combiner.exposure_map()[0, 0] == 3
        masks = pixel_masks(3, crmasks=[0, 1, 1])
        assert sigma_of(ccds, masks, "meancr") == pytest.approx(3)

    def test_none(self):
        """It is left out on request, whatever is known."""
        combiner = CRCombiner(self.ccds(), pixel_masks(3, gain=1, readnoise=1))
        assert combiner.meancr_combine(uncertainty=None).uncertainty is None


class TestNoiseModel:
    """Exposures without uncertainty: gain and read noise of the mask set."""

    @pytest.mark.parametrize(
        ("unit", "gain", "bias", "variances"),
        [
            # v / 2 + (6 / 2)^2 of 14, 32, 80 and of 0 if negative
            ("adu", 2, None, [16, 25, 49]),
            ("adu", 2, 14, [9, 18, 42]),
            ("adu", 2, 32, [9, 9, 33]),
            ("electron", None, None, [50, 68, 116]),
            ("electron", 1, None, [50, 68, 116]),
            # a recorded gain tells how the bias became electrons
            ("electron", 2, 7, [36, 54, 102]),
        ],
    )
    def test_value(self, unit, gain, bias, variances):
        """max(v - bias, 0) / gain + (read noise / gain)^2, averaged."""
        masks = pixel_masks(3, gain=gain, readnoise=6, bias=bias)
        ccds = column([14, 32, 80], unit=unit)
        variances = np.array(variances)
        expected = variances.sum() ** 0.5 / 3
        assert sigma_of(ccds, masks, "meancr") == pytest.approx(expected)
        sigma = sigma_of(ccds, masks, "mediancr")
        assert sigma == pytest.approx(sd_of_median(*variances**0.5), rel=1e-6)

    def test_scaled_after(self):
        """The model is that of the exposure as it was read out."""
        masks = pixel_masks(3, gain=2, readnoise=6, flux_factor=[2, 1, 1])
        ccds = column([14, 32, 80])
        sigma = sigma_of(
            ccds, masks, "meancr", apply_flux_factor=True, scale_to=[6, 1, 1]
        )
        assert sigma == pytest.approx((9 * 16 + 25 + 49) ** 0.5 / 3)

    def test_replaced(self):
        """That of the exposure that is taken, never 0."""
        masks = pixel_masks(3, gain=2, readnoise=6, mediancr=1)
        assert sigma_of(column([32, -5, 80]), masks, "mediancr") == pytest.approx(3)

    @pytest.mark.parametrize(
        "uncertainty", [None, UnknownUncertainty([[1.0]]), StdDevUncertainty(None)]
    )
    def test_some_without(self, uncertainty):
        """One exposure without usable uncertainty: the model serves for all."""
        ccds = column([14, 32, 80])
        for ccd in ccds[:2]:
            ccd.uncertainty = StdDevUncertainty([[1.0]])
        ccds[2].uncertainty = uncertainty
        masks = pixel_masks(3, gain=2, readnoise=6)
        with pytest.warns(NoUncertaintyWarning, match="2 of 3 exposures have an unc"):
            sigma = sigma_of(ccds, masks, "meancr")
        assert sigma == pytest.approx(90**0.5 / 3)
        combiner = CRCombiner(ccds, masks, noise="detector")
        assert combiner.meancr_combine().uncertainty.array == sigma
        with pytest.raises(ValueError, match=r"noise='uncertainty' needs .* 3 of 3"):
            CRCombiner(ccds, masks, noise="uncertainty")

    @pytest.mark.parametrize(
        ("unit", "masks", "known"),
        [
            ("adu", {}, 0),
            ("adu", {"gain": 2}, 0),
            ("adu", {"readnoise": 2}, 2),
            ("electron", {"gain": 2}, 0),
            ("Jy", {"gain": 2, "readnoise": 2}, 0),
        ],
    )
    @pytest.mark.parametrize("method", METHODS)
    def test_nothing_known(self, unit, masks, known, method):
        """One warning says what is missing; there is no uncertainty."""
        ccds = column([14, 32, 80], unit=unit)
        for ccd in ccds[:known]:
            ccd.uncertainty = StdDevUncertainty([[1.0]])
        combiner = CRCombiner(ccds, pixel_masks(3, meancr=0, **masks))
        message = (
            f"the result has no uncertainty: {known} of 3 exposures have an "
            "uncertainty, and the mask set does not record gain and read noise for "
            f"exposures in {unit}"
        )
        with pytest.warns(NoUncertaintyWarning, match=message) as record:
            result = combine(combiner, method)
        assert result.uncertainty is None
        assert len(record) == 1
        assert record[0].filename == __file__
        message = "gain and read noise .* which uncertainty='scatter' needs where one"
        with pytest.raises(ValueError, match=message):
            combine(combiner, method, uncertainty="scatter")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert combine(combiner, method, uncertainty=None).uncertainty is None


DETECTOR = {"gain": 2, "readnoise": 6}


class TestScatter:
    """The scatter of the exposures used, as ccdproc has it."""

    @pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("scaling", [None, "list"])
    def test_same_as_parent(self, n, dtype, scaling):
        """Where nothing is masked it is that of ccdproc."""
        data = np.random.default_rng(n).normal(100, 10, (n, *SHAPE))
        masks = mask_set(n, SHAPE, meancr=np.zeros(SHAPE, bool), **DETECTOR)
        combiner = CRCombiner(ccds_of(data), masks, dtype=dtype)
        combiner.scaling = None if scaling is None else np.linspace(0.8, 1.2, n)
        expected = {
            "mediancr": combiner.median_combine().uncertainty.array,
            "meancr": combiner.average_combine().uncertainty.array,
        }
        for method in METHODS:
            result = combine(combiner, method, uncertainty="scatter")
            other = expected.get(method, expected["meancr"])
            # deviations of 10 of a value of 100
            rtol = 2e-4 if dtype == "float32" else 1e-10
            assert_allclose(result.uncertainty.array, other, rtol=rtol)

    def test_over_exposures_used(self):
        """By hand: 10 and 30 are left of 10, 30 and 110."""
        masks = pixel_masks(3, crmasks=[0, 0, 1], **DETECTOR)
        sigma = sigma_of(column([10, 30, 110]), masks, "meancr", uncertainty="scatter")
        assert sigma == pytest.approx(10 / 2**0.5)
        # median 30, absolute deviations 20, 0 and 80
        sigma = sigma_of(
            column([10, 30, 110]), masks, "mediancr", uncertainty="scatter"
        )
        assert sigma == pytest.approx(1.482602218505602 * 20 / 3**0.5)

    def test_masked_input(self):
        """A masked exposure does not scatter."""
        ccds = column([10, 30, 1e6], masks=[[[False]], [[False]], [[True]]])
        masks = pixel_masks(3, **DETECTOR)
        sigma = sigma_of(ccds, masks, "meancrt", uncertainty="scatter")
        assert sigma == pytest.approx(10 / 2**0.5)
        sigma = sigma_of(ccds, masks, "mediancr", uncertainty="scatter")
        assert sigma == pytest.approx(1.482602218505602 * 10 / 2**0.5)

    @pytest.mark.parametrize(
        ("values", "masks", "method", "variance"),
        [
            # one exposure left
            ([14, 32, 80], {"crmasks": [1, 0, 1]}, "meancr", 25),
            # replaced
            ([14, 32, 80], {"crmasks": [1, 1, 1]}, "meancr", 16),
            ([14, 32, 80], {"mediancr": 1}, "mediancr", 16),
            ([14, 32, 80], {"meancr": 1}, "meancr2", 16),
            # no scatter
            ([14, 14, 14], {}, "meancr", 16 / 3),
            ([14, 14, 80], {}, "mediancr", sd_of_median(4, 4, 7) ** 2),
        ],
    )
    @pytest.mark.parametrize("given", [False, True])
    def test_fallback(self, values, masks, method, variance, given):
        """The noise model, or the given uncertainties, where none is seen."""
        detector = {} if given else DETECTOR
        uncertainties = [VarianceUncertainty([[v / 2 + 9]]) for v in values]
        ccds = column(values, uncertainties=uncertainties if given else None)
        masks = pixel_masks(3, **masks, **detector)
        sigma = sigma_of(ccds, masks, method, uncertainty="scatter")
        assert sigma == pytest.approx(variance**0.5, rel=1e-6)

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("n", [1, 2, 3, 6])
    def test_never_zero_or_nan(self, method, n):
        """Whatever is masked or clipped."""
        data, bad, masks = random_case(n, "float64")
        data = np.round(data, -1)  # so that many are equal
        combiner = CRCombiner(ccds_of(data, masks=bad), masks)
        result = combine(combiner, method, uncertainty="scatter")
        assert (result.uncertainty.array[~result.mask] > 0).all()


class TestMonteCarlo:
    """Deviations from the truth are as large as the uncertainty says."""

    SHAPE = (60, 80)

    @staticmethod
    def check(result, truth, pixels=None):
        """Compare the RMS of 4000 or more pixels with 1."""
        pixels = ~result.mask if pixels is None else pixels
        assert np.count_nonzero(pixels) >= 4000
        ratio = (result.data - truth)[pixels] / result.uncertainty.array[pixels]
        # the error of the RMS of 4000 is 1 / sqrt(8000) = 1.1 %
        assert np.sqrt(np.mean(ratio**2)) == pytest.approx(1, abs=0.05)

    def ccds(self, sigmas, factors=None, seed=1):
        """Return exposures of truth 100 times their factor."""
        rng = np.random.default_rng(seed)
        factors = np.ones(len(sigmas)) if factors is None else factors
        return [
            CCDData(
                rng.normal(100 * factor, sigma, self.SHAPE),
                unit="adu",
                uncertainty=StdDevUncertainty(np.full(self.SHAPE, sigma)),
            )
            for sigma, factor in zip(sigmas, factors, strict=True)
        ]

    @pytest.mark.parametrize("n", [3, 4, 5, 6])
    def test_median(self, n):
        """The median is noisier than the mean."""
        combiner = CRCombiner(self.ccds([5.0] * n), mask_set(n, self.SHAPE))
        self.check(combiner.mediancr_combine(), 100)

    @pytest.mark.parametrize("weights", [None, [3.0, 1.0, 0.0]])
    @pytest.mark.parametrize("method", ["meancrt", "meancr"])
    def test_mean(self, method, weights):
        """The mean of exposures of different noise, weighted or not."""
        combiner = CRCombiner(self.ccds([3.0, 6.0, 9.0]), mask_set(3, self.SHAPE))
        combiner.weights = None if weights is None else np.array(weights)
        self.check(combine(combiner, method), 100)

    @pytest.mark.parametrize("method", ["mediancr", "meancrt", "meancr"])
    def test_flux_scaled(self, method):
        """The noise scales with the flux factor."""
        factors = np.array([0.5, 1.0, 2.0])
        masks = mask_set(3, self.SHAPE, flux_factor=factors)
        combiner = CRCombiner(self.ccds(4 * factors, factors), masks)
        self.check(combine(combiner, method, apply_flux_factor=True), 100)

    @pytest.mark.parametrize("method", ["mediancr", "meancrt", "meancr"])
    def test_masked_inputs(self, method):
        """One of four exposures is masked, a different one in each pixel."""
        ccds = self.ccds([4.0] * 4)
        which = np.random.default_rng(2).integers(0, 4, self.SHAPE)
        for i, ccd in enumerate(ccds):
            ccd.mask = which == i
            ccd.data[ccd.mask] = 1e5
        combiner = CRCombiner(ccds, mask_set(4, self.SHAPE))
        self.check(combine(combiner, method), 100)

    @pytest.mark.parametrize("hits", [1, 2])
    def test_cosmic_rays(self, hits):
        """One or two of three exposures are hit."""
        ccds = self.ccds([4.0, 4.0, 8.0])
        which = np.random.default_rng(3).integers(0, 3, self.SHAPE)
        crmasks = [((which - i) % 3) < hits for i in range(3)]
        for ccd, mask in zip(ccds, crmasks, strict=True):
            ccd.data[mask] += 1e4
        masks = mask_set(3, self.SHAPE, crmasks=np.array(crmasks))
        result = CRCombiner(ccds, masks).meancr_combine()
        self.check(result, 100)
        assert result.header["CRNREPL"] == 0

    def test_replaced(self):
        """Two of three are hit, and the minimum is the third one."""
        ccds = self.ccds([4.0, 4.0, 8.0])
        which = np.random.default_rng(4).integers(0, 3, self.SHAPE)
        for i, ccd in enumerate(ccds):
            ccd.data[which != i] += 1e4
        every = np.ones(self.SHAPE, bool)
        masks = CRMaskSet(every, every, np.array([every] * 3))
        for method in ("mediancr", "meancrt", "meancr"):
            self.check(combine(CRCombiner(ccds, masks), method), 100)

    @pytest.mark.parametrize("gain", [1.0, 4.0])
    def test_noise_model(self, gain):
        """Photons and read noise, from the data themselves."""
        rng = np.random.default_rng(6)
        electrons = rng.poisson(2000, (3, *self.SHAPE))
        electrons = electrons + rng.normal(0, 20, electrons.shape)
        masks = mask_set(3, self.SHAPE, gain=gain, readnoise=20, bias=50)
        combiner = CRCombiner(ccds_of(electrons / gain + 50), masks)
        for method in ("mediancr", "meancr"):
            self.check(combine(combiner, method), 2000 / gain + 50)

    def test_local_median(self):
        """The median of eight neighbours."""
        rng = np.random.default_rng(7)
        shape = (201, 201)
        ccds = ccds_of(
            rng.normal(0, 5, (3, *shape)),
            uncertainties=[StdDevUncertainty(np.full(shape, 5.0))] * 3,
        )
        grid = np.mgrid[2:201:3, 2:201:3].reshape(2, -1).T
        boxes = np.column_stack([grid, np.full(grid.shape, 3)])
        masks = mask_set(3, shape, local_median_pixels=boxes)
        result = CRCombiner(ccds, masks).meancr_combine()
        pixels = np.zeros(shape, bool)
        pixels[grid[:, 1] - 1, grid[:, 0] - 1] = True
        self.check(result, 0, pixels)


SUFFIXES = {
    "": {},
    "_AUX": {"use_lamedian": True},
    "_FLUX": {"apply_flux_factor": True},
    "_AUX_FLUX": {"use_lamedian": True, "apply_flux_factor": True},
}


@pytest.mark.skipif(not PEER_FILES, reason="the images made by numina are not here")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "path", PEER_FILES, ids=lambda path: f"{path.parent.name}-{path.name[:-17]}"
)
class TestNumina:
    """Images and maps that numina made of the same exposures and masks."""

    @staticmethod
    def combiner(path, dtype):
        """Return the combiner of the exposures beside a file."""
        files = sorted(path.parent.glob("exp*.fits.gz"))
        masks = path.with_name(path.name.replace("combined", "crmasks"))
        ccds = [CCDData(fits.getdata(file), unit="adu") for file in files]
        return CRCombiner(ccds, masks, dtype=dtype)

    def test_images(self, path, dtype):
        """
        Every image, to 1e-6 of the largest input at the pixel.

        Not of the value itself: numina accumulates the mean in float32, so that
        pixels near zero, where positive and negative inputs cancel, differ more
        in relative terms.
        """
        combiner = self.combiner(path, dtype)
        files = sorted(path.parent.glob("exp*.fits.gz"))
        data = np.stack([fits.getdata(file) for file in files])
        limit = 1e-6 * np.abs(data).max(axis=0)
        compared = 0
        with fits.open(path) as hdulist:
            for hdu in hdulist[1:]:
                if hdu.name.startswith("MAP_"):
                    continue
                method, _, suffix = hdu.name.partition("_")
                kwargs = SUFFIXES[f"_{suffix}" if suffix else ""]
                result = combine(combiner, method.lower(), uncertainty=None, **kwargs)
                assert (np.abs(result.data - hdu.data) <= limit).all(), hdu.name
                assert not result.mask.any()
                compared += 1
        assert compared in {6, 8, 12, 16}

    def test_maps(self, path, dtype):
        """The number of exposures used; numina 0.40 has 0 for a replaced pixel."""
        combiner = self.combiner(path, dtype)
        compared = 0
        with fits.open(path) as hdulist:
            for hdu in hdulist[1:]:
                if not hdu.name.startswith("MAP_"):
                    continue
                number = hdu.data
                if hdu.name == "MAP_MEANCR" and "numina040" in path.name:
                    number = np.maximum(number, 1)
                method = hdu.name.removeprefix("MAP_").lower()
                assert_array_equal(combiner.exposure_map(method), number, hdu.name)
                compared += 1
        assert compared in {3, 4}


def test_no_exposures():
    """An empty list is refused by name."""
    with pytest.raises(ValueError, match="at least one exposure, got none"):
        CRCombiner([])


def test_attribute():
    """One that a combiner does not have."""
    combiner = CRCombiner([CCDData(np.ones((2, 2)), unit="adu")])
    message = "'CRCombiner' object has no attribute 'nothing'"
    with pytest.raises(AttributeError, match=message):
        _ = combiner.nothing
