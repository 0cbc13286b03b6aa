# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Adapter to the internals of ccdproc's Combiner."""

import ccdproc
import numpy as np
from astropy.nddata import CCDData

__all__ = ["LateCombiner", "clip", "clipped", "get_stack"]

_ARRAYS = ("data_arr", "_data_arr", "_data_arr_mask")
_LENGTH = (
    "scaling must be a function or an array the same length as the number of images."
)


class LateCombiner(ccdproc.Combiner):
    """A Combiner that copies its exposures when ccdproc's own methods need them."""

    def __init__(self, ccds, dtype=None):
        self._ccds, self._dtype = ccds, np.float64 if dtype is None else dtype
        self._weights = self._scaling = None
        if not _are_alike(ccds):
            super().__init__(ccds, dtype=dtype)  # raises
        self.ccd_list, self.unit = ccds, ccds[0].unit

    def __getattr__(self, name):
        """Copy the exposures when the parent asks for its arrays."""
        if name not in _ARRAYS or self.copied:
            msg = f"{type(self).__name__!r} object has no attribute {name!r}"
            raise AttributeError(msg)
        weights, scaling = self._weights, self._scaling
        super().__init__(self._ccds, dtype=self._dtype)
        self._weights, self._scaling = weights, scaling
        return getattr(self, name)

    @property
    def copied(self):
        """Whether the parent has copied the exposures."""
        return not self.__dict__.keys().isdisjoint(_ARRAYS)

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
            value = np.reshape(value, (len(value), 1, 1))
        self._scaling = value


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


def clipped(combiner, exposures):
    """Return exposures (data, mask, sigma) with data and mask of a Combiner."""
    sigmas = [sigma for *_, sigma in exposures]
    return list(zip(*get_stack(combiner), sigmas, strict=True))


def clip(combiner, clipping):
    """Clip a Combiner in place by the clipping arguments of `ccdproc.combine`."""
    if clipping["clip_extrema"]:
        combiner.clip_extrema(nlow=clipping["nlow"], nhigh=clipping["nhigh"])
    if clipping["minmax_clip"]:
        combiner.minmax_clipping(
            clipping["minmax_clip_min"], clipping["minmax_clip_max"]
        )
    if clipping["sigma_clip"]:
        names = ("low_thresh", "high_thresh", "func", "dev_func")
        given = {name: clipping[f"sigma_clip_{name}"] for name in names}
        combiner.sigma_clipping(**{k: v for k, v in given.items() if v is not None})
