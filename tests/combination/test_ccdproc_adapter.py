# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the adapter to ccdproc's Combiner, of both layouts of its data."""

import copy
import warnings
from types import ModuleType

import ccdproc
import numpy as np
import pytest
from astropy.nddata import CCDData, StdDevUncertainty
from numpy.testing import assert_allclose, assert_array_equal

from ccdcr import CRCombiner, CRMaskSet, combine
from ccdcr.combination.ccdproc_adapter import get_stack
from ccdcr.combination.methods import METHODS

# Flux factors are not applied in many cases, which is what they are about.
pytestmark = pytest.mark.filterwarnings("ignore::ccdcr.FluxScaleWarning")

SHAPE = (5, 7)


class LaterCombiner(ccdproc.Combiner):
    """
    A Combiner with the attributes of the development version of ccdproc.

    The data are a plain array and a mask, which are properties, and there is no
    ``data_arr`` and no ``ccd_list``. Weights are set before the data are there, and
    factors are arrays that fit the data, of their type.
    """

    def __init__(self, ccd_iter, dtype=None, xp=None):
        ccds = list(ccd_iter)
        self._xp = np if xp is None else xp
        self.unit = ccds[0].unit
        self.weights = None
        self._dtype = np.dtype(dtype or np.float64)
        self._data_arr = np.stack([np.asarray(c.data, self._dtype) for c in ccds])
        none = np.zeros(ccds[0].shape, bool)
        self._data_arr_mask = np.stack(
            [none if c.mask is None else np.asarray(c.mask, bool) for c in ccds]
        )
        self.scaling = None

    @property
    def data(self):
        """The exposures."""
        return self._data_arr

    @property
    def mask(self):
        """True = bad."""
        return self._data_arr_mask

    @property
    def weights(self):
        """An array that fits the data or has one number for each exposure."""
        return self._weights

    @weights.setter
    def weights(self, value):
        if value is not None and value.shape != self._data_arr.shape:
            if value.ndim != 1:
                msg = "1D weights expected when shapes of the data and weights differ."
                raise ValueError(msg)
            if value.shape[0] != self._data_arr.shape[0]:
                msg = "Length of weights not compatible with specified axis."
                raise ValueError(msg)
        self._weights = value

    @property
    def scaling(self):
        """Factors, (n, 1, 1)."""
        return self._scaling

    @scaling.setter
    def scaling(self, value):
        if value is not None:
            data = self._data_arr
            if callable(value):
                value = [value(plane) for plane in data]
            if len(value) != len(data):
                msg = "scaling must be a function or an array the same length as"
                raise ValueError(msg)
            value = np.asarray(value, data.dtype).reshape(-1, *[1] * (data.ndim - 1))
        self._scaling = value

    def average_combine(self):
        """As all methods, this one asks for the namespace first."""
        xp = self._xp
        data = self._data_arr * (1.0 if self.scaling is None else self.scaling)
        data = xp.where(self._data_arr_mask, xp.nan, data)
        weights = xp.ones(len(data)) if self.weights is None else self.weights
        if weights.shape != data.shape:
            weights = weights.reshape(-1, 1, 1)
        weights = xp.where(xp.isnan(data), 0.0, weights)
        mean = xp.nansum(data * weights, axis=0) / weights.sum(axis=0)
        bad = xp.isnan(data)
        error = xp.nanstd(data, axis=0) / xp.sqrt((~bad).sum(axis=0))
        return CCDData(
            mean.astype(self.dtype),
            unit=self.unit,
            mask=bad.all(axis=0),
            uncertainty=StdDevUncertainty(error),
        )

    def clip_extrema(self, nlow=0, nhigh=0):
        """Mask by rank; the mask is another array then."""
        ranks = np.argsort(np.argsort(self._data_arr, axis=0), axis=0)
        clip = (ranks < nlow) | (ranks >= len(ranks) - nhigh)
        self._data_arr_mask = self._data_arr_mask | clip

    def minmax_clipping(self, min_clip=None, max_clip=None):
        """Mask in place."""
        if min_clip is not None:
            self._data_arr_mask |= self._data_arr < min_clip
        if max_clip is not None:
            self._data_arr_mask |= self._data_arr > max_clip


class LaterCRCombiner(CRCombiner, LaterCombiner):
    """CRCombiner as it would be on top of the later version."""


def exposures(*, masked=True):
    """Return four exposures with bad pixels."""
    rng = np.random.default_rng(8)
    data = rng.normal(100, 20, (4, *SHAPE))
    bad = rng.random(data.shape) < 0.2
    data[2, 3, 3] = np.nan
    bad[:, 1, 1] = True
    sigma = StdDevUncertainty(np.full(SHAPE, 3.0))
    return [
        CCDData(plane, unit="adu", mask=mask if masked else None, uncertainty=sigma)
        for plane, mask in zip(data, bad, strict=True)
    ]


def mask_set():
    """Return random masks."""
    rng = np.random.default_rng(9)
    return CRMaskSet(
        rng.random(SHAPE) < 0.3,
        rng.random(SHAPE) < 0.5,
        rng.random((4, *SHAPE)) < 0.4,
        meancr=rng.random(SHAPE) < 0.2,
        flux_factor=[0.9, 1, 1.1, 1.2],
    )


class TestStackOf:
    """Data and mask of a Combiner."""

    @pytest.mark.parametrize("cls", [ccdproc.Combiner, LaterCombiner])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("masked", [False, True])
    def test_arrays(self, cls, dtype, masked):
        """Plain arrays of the combiner's type, masked values included."""
        ccds = exposures(masked=masked)
        data, mask = get_stack(cls(ccds, dtype=dtype))
        assert type(data) is type(mask) is np.ndarray
        assert_array_equal(data, np.array([ccd.data for ccd in ccds], dtype))
        expected = [ccd.mask for ccd in ccds] if masked else np.zeros(data.shape)
        assert_array_equal(mask, expected)
        assert (data.dtype, mask.dtype) == (np.dtype(dtype), np.dtype(bool))

    @pytest.mark.parametrize("cls", [ccdproc.Combiner, LaterCombiner])
    def test_no_copy(self, cls):
        """Of large stacks no copy is made."""
        combiner = cls(exposures())
        first, second = get_stack(combiner), get_stack(combiner)
        assert np.shares_memory(first[0], second[0])
        assert np.shares_memory(first[1], second[1])

    def test_layouts(self):
        """The installed ccdproc has one of the two layouts."""
        combiner = ccdproc.Combiner(exposures())
        assert hasattr(combiner, "_data_arr") or hasattr(combiner, "data_arr")
        later = LaterCombiner(exposures())
        assert not hasattr(later, "data_arr")
        assert not hasattr(later, "ccd_list")

    @pytest.mark.parametrize("name", ["_data_arr", "_data_arr_mask"])
    def test_other_arrays(self, name):
        """Arrays of another library are refused by name."""
        combiner = LaterCombiner(exposures())
        setattr(combiner, name, memoryview(b"12"))
        message = "the exposures must be numpy arrays, got builtins.memoryview"
        with pytest.raises(TypeError, match=message):
            get_stack(combiner)


class TestCombination:
    """A whole combination on top of either."""

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("uncertainty", ["propagate", "scatter", None])
    def test_same(self, method, dtype, uncertainty):
        """With weights, scaling and clipping the same comes out."""
        results, maps = [], []
        for cls in (CRCombiner, LaterCRCombiner):
            combiner = cls(exposures(), mask_set(), dtype=dtype)
            combiner.weights = np.array([1.0, 2.0, 3.0, 4.0])
            combiner.scaling = [1.0, 0.9, 1.1, 1.2]
            combiner.minmax_clipping(70, 130)
            maps.append(combiner.exposure_map(method))
            function = getattr(combiner, f"{method}_combine")
            results.append(function(apply_flux_factor=True, uncertainty=uncertainty))
        assert_array_equal(*maps)
        first, second = results
        assert_array_equal(first.data, second.data)
        assert_array_equal(first.mask, second.mask)
        assert np.isfinite(first.data).any()
        assert first.mask.any()
        assert first.dtype == second.dtype == dtype
        assert first.unit == second.unit
        assert first.meta["NCOMBINE"] == second.meta["NCOMBINE"] == 4
        if uncertainty is not None:
            assert_array_equal(first.uncertainty.array, second.uncertainty.array)

    @pytest.mark.parametrize("method", METHODS)
    def test_clip_extrema(self, method):
        """So it does with clipping that makes another mask."""
        results = []
        for cls in (CRCombiner, LaterCRCombiner):
            combiner = cls(exposures(masked=False), mask_set())
            combiner.clip_extrema(nlow=0, nhigh=1)
            results.append(getattr(combiner, f"{method}_combine")())
        assert_array_equal(results[0].data, results[1].data)
        assert_array_equal(results[0].uncertainty.array, results[1].uncertainty.array)


class TestLate:
    """The exposures are copied when something needs the copy."""

    @pytest.mark.parametrize("cls", [CRCombiner, LaterCRCombiner])
    def test_not_copied(self, cls):
        """Not for what is combined row by row, with weights and scaling."""
        combiner = cls(exposures(), mask_set())
        combiner.weights = np.array([1.0, 2.0, 3.0, 4.0])
        combiner.scaling = [1.0, 0.9, 1.1, 1.2]
        for method in METHODS:
            getattr(combiner, f"{method}_combine")()
            combiner.exposure_map(method)
        assert not combiner.copied
        assert not {"data_arr", "_data_arr", "_data_arr_mask"} & set(vars(combiner))

    @pytest.mark.filterwarnings("ignore:Degrees of freedom:RuntimeWarning")
    @pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
    @pytest.mark.filterwarnings("ignore:Mean of empty slice:RuntimeWarning")
    @pytest.mark.parametrize("cls", [CRCombiner, LaterCRCombiner])
    @pytest.mark.parametrize("weights", [None, np.array([1.0, 2.0, 3.0, 4.0])])
    def test_methods_of_parent(self, cls, weights):
        """They find all that the parent's constructor makes, at the first call."""
        ccds = exposures()
        ccds[2].data[3, 3] = 100.0
        combiner = cls(ccds)
        combiner.weights = weights
        combined = combiner.average_combine()
        bad = np.array([ccd.mask for ccd in ccds])
        weights = np.ones(4) if weights is None else weights
        weights = weights[:, np.newaxis, np.newaxis] * ~bad
        with np.errstate(invalid="ignore"):
            expected = np.sum(weights * [ccd.data for ccd in ccds], axis=0)
            expected /= weights.sum(axis=0)
        assert_allclose(combined.data[~bad.all(axis=0)], expected[~bad.all(axis=0)])
        assert_array_equal(combined.mask, bad.all(axis=0))
        assert_allclose(get_stack(combiner)[0], [ccd.data for ccd in ccds])

    # Without bottleneck numpy warns of pixels that are bad in every exposure.
    @pytest.mark.filterwarnings("ignore:All-NaN slice:RuntimeWarning")
    @pytest.mark.filterwarnings("ignore:Mean of empty slice:RuntimeWarning")
    @pytest.mark.filterwarnings("ignore:Degrees of freedom:RuntimeWarning")
    @pytest.mark.parametrize("name", ["median_combine", "average_combine"])
    @pytest.mark.parametrize("dtype", [None, "float32"])
    def test_parent(self, name, dtype):
        """The parent's methods see the same as without this class."""
        results = []
        for cls in (ccdproc.Combiner, CRCombiner):
            combiner = cls(exposures(), dtype=dtype)
            combiner.scaling = [1.0, 0.9, 1.1, 1.2]
            with warnings.catch_warnings():
                # numpy's of pixels without a good exposure, if bottleneck is missing
                warnings.simplefilter("ignore", RuntimeWarning)
                results.append(getattr(combiner, name)())
        assert_array_equal(results[0].data, results[1].data)
        assert_array_equal(results[0].mask, results[1].mask)
        sigmas = [result.uncertainty.array for result in results]
        assert_array_equal(*sigmas)
        assert combiner.copied

    @pytest.mark.parametrize("shape", [(4, 1, 1), (4, *SHAPE)])
    @pytest.mark.parametrize("dtype", [None, "float32"])
    def test_weights(self, shape, dtype):
        """Masked values have no weight in the average, as in numpy's."""
        ccds = exposures()
        weights = np.random.default_rng(3).random(shape)
        combiner = CRCombiner(ccds, dtype=dtype)
        combiner.weights = weights if shape[1] > 1 else weights.ravel()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            result = combiner.average_combine()
        data = np.ma.masked_invalid([ccd.data for ccd in ccds])
        data[np.array([ccd.mask for ccd in ccds])] = np.ma.masked
        weights = np.broadcast_to(weights, data.shape)
        expected = np.ma.average(data, axis=0, weights=weights)
        good = ~np.ma.getmaskarray(expected)
        assert_allclose(result.data[good], expected.data[good], rtol=1e-6)
        assert np.isnan(result.data[~good]).all()
        assert_array_equal(result.mask, ~good)

    @pytest.mark.parametrize("cls", [CRCombiner, LaterCRCombiner])
    def test_copy_changes_nothing(self, cls):
        """The same comes out after the parent has copied the exposures."""
        combiner = cls(exposures(), mask_set())
        combiner.weights = np.array([1.0, 2.0, 3.0, 4.0])
        before = combiner.meancr_combine()
        get_stack(combiner)
        after = combiner.meancr_combine()
        assert combiner.copied
        assert_array_equal(before.data, after.data)
        assert_array_equal(before.mask, after.mask)
        assert_array_equal(before.uncertainty.array, after.uncertainty.array)

    @pytest.mark.parametrize("cls", [CRCombiner, LaterCRCombiner])
    @pytest.mark.parametrize("value", [np.ones(3), np.ones((4, 2, 2))])
    def test_checks(self, cls, value):
        """What the parent refuses is refused, and leaves nothing behind."""
        combiner = cls(exposures(), mask_set())
        with pytest.raises(ValueError, match="weights"):
            combiner.weights = value
        with pytest.raises(ValueError, match="same length"):
            combiner.scaling = [1, 2]
        assert not combiner.copied
        assert combiner.weights is combiner.scaling is None

    def test_unknown_attribute(self):
        """It is refused as usual."""
        combiner = CRCombiner(exposures())
        with pytest.raises(
            AttributeError, match=r"'CRCombiner' .* attribute 'nothing'"
        ):
            _ = combiner.nothing
        assert not copy.copy(combiner).copied


class TestNamespace:
    """Later versions of ccdproc take the package of the arrays."""

    def test_numpy(self):
        """Numpy is what is used, by either name."""
        ccds = exposures()
        expected = CRCombiner(ccds, mask_set()).meancr_combine()
        namespace = ModuleType("array_api_compat.numpy")
        for xp in (np, namespace, None):
            found = CRCombiner(ccds, mask_set(), xp=xp).meancr_combine()
            assert_array_equal(found.data, expected.data)
            found = combine(ccds, crmasks=mask_set(), array_package=xp)
            assert_array_equal(found.data, expected.data)

    def test_others(self):
        """Others are refused by name, before any work."""
        other = ModuleType("jax.numpy")
        with pytest.raises(TypeError, match=r"xp must be numpy, got jax\.numpy; conv"):
            CRCombiner(None, xp=other)
        message = r"array_package must be numpy, got jax\.numpy; convert"
        with pytest.raises(TypeError, match=message):
            combine([], array_package=other)
