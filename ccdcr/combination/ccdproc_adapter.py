# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Adapter to the internals of ccdproc's Combiner."""

import ccdproc
import numpy as np
from astropy.nddata import CCDData

from ccdcr.combination.clipping import (
    check_extrema,
    extrema_clip,
    minmax_clip,
    reject,
    sigma_clip_by,
)

__all__ = ["LateCombiner", "check_namespace", "get_stack"]

# Attributes that ccdproc's constructor makes; later versions have a namespace, too.
_ARRAYS = ("data_arr", "_data_arr", "_data_arr_mask")
_MADE = (*_ARRAYS, "_xp")
# Later versions have factors of the type of the data.
_HAS_TYPED_SCALING = hasattr(ccdproc.Combiner, "data")
_NUMPY = {"numpy", "array_api_compat.numpy"}
_LENGTH = (
    "scaling must be a function or an array the same length as the number of images."
)


class LateCombiner(ccdproc.Combiner):
    """A Combiner that copies its exposures when ccdproc's own methods need them."""

    def __init__(self, ccds, dtype=None):
        self._ccds, self._dtype = ccds, np.float64 if dtype is None else dtype
        self._weights = self._scaling = self._rejected = None
        self._clips = ()
        if not _are_alike(ccds):
            super().__init__(ccds, dtype=dtype)  # raises
        self.ccd_list, self.unit = ccds, ccds[0].unit

    def __getattr__(self, name):
        """Copy the exposures when the parent asks for its arrays."""
        if name not in _MADE or self.copied:
            msg = f"{type(self).__name__!r} object has no attribute {name!r}"
            raise AttributeError(msg)
        weights, scaling = self._weights, self._scaling
        super().__init__(self._ccds, dtype=self._dtype)
        self._weights, self._scaling = weights, scaling
        self._reject(self._clips)
        return getattr(self, name)

    @property
    def copied(self):
        """Whether the parent has copied the exposures."""
        return not self.__dict__.keys().isdisjoint(_ARRAYS)

    def clip_extrema(self, nlow=0, nhigh=0):
        """
        Clip the lowest and the highest values of each pixel.

        Parameters
        ----------
        nlow, nhigh : int or None, optional
            How many values are clipped. Masked ones, and flagged ones in a method
            with masks, are ignored; pixels with too few others are not clipped.
            Default is 0.
        """
        clip = extrema_clip(nlow, nhigh)
        check_extrema([clip], len(self._ccds))
        self.clip([clip])

    def minmax_clipping(self, min_clip=None, max_clip=None):
        """
        Clip values beyond limits.

        Parameters
        ----------
        min_clip, max_clip : float or None, optional
            Lowest and highest value that is kept. Values are scaled before they are
            compared. Default is None, no limit.
        """
        self.clip([minmax_clip(min_clip, max_clip)])

    def sigma_clipping(
        self, low_thresh=3, high_thresh=3, func="mean", dev_func="std", *, maxiters=1
    ):
        """
        Clip values that deviate from the others of their pixel.

        Parameters
        ----------
        low_thresh, high_thresh : float or None, optional
            Thresholds in sigma; None is no limit. Default is 3.
        func : {'mean', 'median'} or callable, optional
            Centre. Masked values, and flagged ones in a method with masks, are
            ignored; a callable gets them as NaN. Default is 'mean'.
        dev_func : {'std', 'mad_std'} or callable, optional
            Deviation. Default is 'std'.
        maxiters : int or None, optional
            Number of iterations. Default is 1.
        """
        given = low_thresh, high_thresh, func, dev_func
        self.clip([sigma_clip_by(*given, maxiters=maxiters)])

    def clip(self, clips):
        """Clip now if the parent has copied the exposures, else when it does."""
        self._clips = (*self._clips, *clips)
        if self.copied:
            self._reject(clips)

    def _reject(self, clips):
        """Add what clips reject to the mask of the parent, in place."""
        if not clips:
            return
        data, mask = get_stack(self)
        with np.errstate(over="ignore", invalid="ignore"):
            values = data if self._scaling is None else data * self._scaling
        rejected = reject(values, mask | ~np.isfinite(values), None, clips) & ~mask
        mask |= rejected
        old = self._rejected
        self._rejected = rejected if old is None else old | rejected

    def average_combine(self, *args, **kwargs):
        """Combine by the mean, as `ccdproc.Combiner`; masked values have no weight."""
        given = self._weights
        if given is not None:
            data, mask = get_stack(self)
            bad = mask | np.isnan(data)
            if bad.any():
                shape = given.shape if given.ndim > 1 else (-1, *[1] * (data.ndim - 1))
                self._weights = np.where(bad, 0.0, given.reshape(shape))
        try:
            with np.errstate(invalid="ignore"):  # pixels without any weight
                return super().average_combine(*args, **kwargs)
        finally:
            self._weights = given

    @property
    def weights(self):
        """Weights of the exposures, as for `ccdproc.Combiner`."""
        return self._weights

    @weights.setter
    def weights(self, value):
        if value is not None:
            _check_weights(value, (len(self._ccds), *self._ccds[0].shape))
        self._weights = value

    @property
    def scaling(self):
        """Factors of the exposures, as for `ccdproc.Combiner`."""
        return self._scaling

    @scaling.setter
    def scaling(self, value):
        if callable(value):
            data, mask = get_stack(self)
            value = [value(plane) for plane in np.ma.array(data, mask=mask)]
        if value is not None:
            if np.ndim(value) == 0:
                raise TypeError(_LENGTH)
            if len(value) != len(self._ccds):
                raise ValueError(_LENGTH)
            dtype = self._dtype if _HAS_TYPED_SCALING else None
            value = np.reshape(np.asarray(value, dtype), (len(value), 1, 1))
        self._scaling = value


def check_namespace(xp, name):
    """Refuse an array namespace other than numpy; None is numpy, too."""
    found = getattr(xp, "__name__", repr(xp))
    if xp is not None and found not in _NUMPY:
        msg = (
            f"{name} must be numpy, got {found}; convert the exposures to numpy arrays"
        )
        raise TypeError(msg)


def _are_alike(ccds):
    if ccds is None or not all(isinstance(ccd, CCDData) for ccd in ccds):
        return False
    return all(ccd.shape == ccds[0].shape and ccd.unit == ccds[0].unit for ccd in ccds)


def _check_weights(value, shape):
    if not isinstance(value, np.ndarray):
        msg = "weights must be a numpy.ndarray."
        raise TypeError(msg)
    if value.shape == shape:
        return
    if value.ndim != 1:
        msg = "1D weights expected when shapes of the data and weights differ."
        raise ValueError(msg)
    if len(value) != shape[0]:
        msg = "Length of weights not compatible with specified axis."
        raise ValueError(msg)


def get_stack(combiner):
    """Return data and mask (True = bad or clipped) of a Combiner, (n, ny, nx) each."""
    # Release 2.5.1 holds a masked array, later versions an array and a mask.
    if hasattr(combiner, "_data_arr"):
        data, mask = combiner.data, combiner.mask
    else:
        data = combiner.data_arr.data
        mask = np.ma.getmaskarray(combiner.data_arr)
    for array in (data, mask):
        if not isinstance(array, np.ndarray):
            msg = (
                "the exposures must be numpy arrays, "
                f"got {type(array).__module__}.{type(array).__name__}"
            )
            raise TypeError(msg)
    return data, mask
