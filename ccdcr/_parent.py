# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The one place that reads the internals of ccdproc's Combiner."""

from contextlib import contextmanager

import ccdproc
import numpy as np
from astropy.nddata import CCDData

__all__ = ["LateCombiner", "rows_of", "stack_of"]

_ARRAYS = ("data_arr", "_data_arr", "_data_arr_mask")


class LateCombiner(ccdproc.Combiner):
    """
    A Combiner that copies its exposures when something needs the copy.

    Clipping and the methods of the parent do; what is combined row by row
    (`rows_of`) does not, and needs less than half of the memory.

    Parameters
    ----------
    ccds : list of `~astropy.nddata.CCDData`
        The exposures.
    dtype : str or `~numpy.dtype`, optional
        Type of the data. Default is float64.
    """

    def __init__(self, ccds, dtype=None):
        if ccds is None or not all(isinstance(ccd, CCDData) for ccd in ccds):
            super().__init__(ccds, dtype=dtype)  # which refuses them
            return
        if len({ccd.shape for ccd in ccds}) == 1:
            # Without any rows: all that the parent does but the copy.
            empty = [CCDData(ccd.data[:0], unit=ccd.unit) for ccd in ccds]
            super().__init__(empty, dtype=dtype)
            if hasattr(self, "ccd_list"):
                self.ccd_list = ccds
            self._late = ccds, [n for n in _ARRAYS if n in self.__dict__]
            for name in self._late[1]:
                del self.__dict__[name]
        else:
            super().__init__(ccds, dtype=dtype)

    @property
    def late(self):
        """The exposures if they are not copied yet, else None."""
        return self.__dict__.get("_late", (None,))[0]

    def __getattr__(self, name):
        """Copy the exposures as soon as the copy is asked for."""
        ccds, arrays = self.__dict__.get("_late", (None, ()))
        if name not in arrays:
            msg = f"{type(self).__name__!r} object has no attribute {name!r}"
            raise AttributeError(msg)
        del self._late
        kept = {key: self.__dict__[key] for key in ("_weights", "_scaling")}
        super().__init__(ccds, dtype=self._dtype)
        self.__dict__.update(kept)
        return getattr(self, name)

    @contextmanager
    def _shape_only(self):
        """Let the parent see an array of the right shape that has no memory."""
        ccds, arrays = self.__dict__.get("_late", (None, ()))
        for name in arrays:
            shape = (len(ccds), *ccds[0].shape)
            self.__dict__[name] = np.ma.array(np.broadcast_to(0.0, shape), copy=False)
        try:
            yield
        finally:
            for name in arrays:
                del self.__dict__[name]

    @property
    def weights(self):
        """Weights of the exposures, as for `ccdproc.Combiner`."""
        return super().weights

    @weights.setter
    def weights(self, value):
        with self._shape_only():
            super(LateCombiner, type(self)).weights.fset(self, value)

    @property
    def scaling(self):
        """Factors of the exposures, as for `ccdproc.Combiner`."""
        return super().scaling

    @scaling.setter
    def scaling(self, value):
        setter = super(LateCombiner, type(self)).scaling.fset
        if callable(value):
            setter(self, value)  # sees the data
        else:
            with self._shape_only():
                setter(self, value)


def rows_of(combiner, rows):
    """
    Return some rows of the data of a Combiner and what takes no part.

    Parameters
    ----------
    combiner : `LateCombiner`
        The combiner.
    rows : slice
        The rows.

    Returns
    -------
    data : 3D `~numpy.ndarray`
        The exposures, not scaled, (n, rows, nx).
    mask : 3D `~numpy.ndarray` of bool
        True = bad or clipped.
    """
    ccds = combiner.late
    if ccds is None:
        data, mask = stack_of(combiner)
        return data[:, rows], mask[:, rows]
    shape = (len(ccds), *ccds[0].data[rows].shape)
    data, mask = np.empty(shape, combiner.dtype), np.zeros(shape, bool)
    with np.errstate(over="ignore"):  # beyond float32 is not finite either
        for i, ccd in enumerate(ccds):
            data[i] = ccd.data[rows]
            if ccd.mask is not None:
                mask[i] = ccd.mask if np.ndim(ccd.mask) == 0 else ccd.mask[rows]
    return data, mask


def stack_of(combiner):
    """
    Return the data of a Combiner and what takes no part.

    Release 2.5.1 holds a masked array (``data_arr``), later versions hold an
    array and a mask (``data``, ``mask``, kept in ``_data_arr``).

    Parameters
    ----------
    combiner : `~ccdproc.Combiner`
        The combiner.

    Returns
    -------
    data : 3D `~numpy.ndarray`
        The exposures, not scaled, (n, ny, nx). Not a copy.
    mask : 3D `~numpy.ndarray` of bool
        True = bad or clipped. Not a copy.
    """
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
