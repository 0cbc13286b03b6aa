# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What is done to some rows of the exposures, and how many fit into memory."""

import numpy as np

from ccdcr._threads import number_of_threads
from ccdcr.combiner import THREADS, VALUES_AT_ONCE, CRCombiner, check_dtype
from ccdcr.tiles.rows import Mapped
from ccdcr.utils.row_bands import bands_of

__all__ = ["Recipe", "bytes_per_pixel", "tiles_of"]

_images = CRCombiner._images  # noqa: SLF001  (without the local medians)
_USED = 0.75  # of mem_limit; the rest is for what is not counted
_ENOUGH = 1 << 28  # bytes of a tile above which nothing is gained


class Recipe:
    """
    A combination, to be applied to some rows of the exposures.

    It holds no exposure and can be sent to another process.

    Parameters
    ----------
    exposures : list of `~ccdcr.tiles.exposure_rows.Exposure`
        The exposures.
    method : str
        The method of `~ccdcr.CRCombiner`.
    options : dict
        Its options.
    clipping : dict
        The arguments of `~ccdcr.combine` that clip.
    scaling : sequence of float or None
        Factors of the exposures.
    dtype : str or `~numpy.dtype` or None
        Type of the data.
    number : bool
        Whether the number of exposures used is wanted.
    """

    def __init__(self, exposures, method, options, *, clipping, scaling, dtype, number):
        self._frames = [exposure.frame() for exposure in exposures]
        self._method, self._options = method, options
        self._clipping, self._scaling = clipping, scaling
        self._dtype, self._number = dtype, number

    def __call__(self, arrays, masks, weights):
        """Return the images of some rows, given their arrays and masks."""
        frames = zip(self._frames, arrays, strict=True)
        combiner = self._combiner([f(*part) for f, part in frames], masks, weights)
        _clip(combiner, self._clipping)
        return _images(combiner, self._method, **self._options, number=self._number)

    def check(self, exposures, masks, weights):
        """
        Combine a row of ones, so that what is wrong is found before any work.

        Returns
        -------
        sigma : bool
            Whether there will be an uncertainty.
        """
        ccds = [exposure.ones() for exposure in exposures]
        combiner = self._combiner(ccds, masks, weights)
        check_dtype(self._dtype)
        known = _images(combiner, self._method, **self._options).sigma is not None
        if not known:
            self._options = {**self._options, "uncertainty": None}
        return known

    def _combiner(self, ccds, masks, weights):
        combiner = CRCombiner(ccds, masks, dtype=self._dtype)
        combiner.weights, combiner.scaling = weights, self._scaling
        return combiner


def _clip(combiner, clipping):
    """Clip as `ccdproc.combine` does."""
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


def bytes_per_pixel(exposures, dtype, clipping):
    """
    Return the memory that a pixel of a tile needs.

    Parameters
    ----------
    exposures : list of `~ccdcr.tiles.exposure_rows.Exposure`
        The exposures.
    dtype : str or `~numpy.dtype` or None
        Type of the data.
    clipping : dict
        The arguments of `~ccdcr.combine` that clip.

    Returns
    -------
    held, passing : float
        Bytes for each pixel of a tile, and more for those worked on at once.
    """
    n, size = len(exposures), np.dtype(dtype or float).itemsize
    read = sum(
        plane.dtype.itemsize * (1 if isinstance(plane, Mapped) else 2)
        for exposure in exposures
        if exposure.from_file or exposure.lazy
        for plane in exposure.planes
    )
    stack = n * (size + 3) + 10
    masks = 4 * (n + 3) + 16
    images = 2 * (2 * size + 3)
    clipped = any(clipping[name] for name in ("clip_extrema", "minmax_clip"))
    clipped = clipped or clipping["sigma_clip"]
    clip = n * (2 * size + 24) + 40 if clipped else 0
    return read + stack + masks + images + clip, n * (5 * size + 16) + 60


def tiles_of(shape, per_pixel, limit, n, *, align=1):
    """
    Return slices of rows that are combined at once.

    Parameters
    ----------
    shape : tuple of int
        Shape of the images, (ny, nx).
    per_pixel : tuple of float
        What `bytes_per_pixel` returns.
    limit : float
        Memory that may be used, in bytes.
    n : int
        Number of exposures.
    align : int, optional
        Rows of which the height of a tile is a multiple, if possible.

    Returns
    -------
    tiles : list of slice
        The tiles.

    Raises
    ------
    ValueError
        If a row needs more memory than there is.
    """
    held, passing = per_pixel
    limit = min(limit * _USED, _ENOUGH)
    at_once = VALUES_AT_ONCE // n * number_of_threads(THREADS)
    pixels = limit / (held + passing)
    if pixels > at_once:
        pixels = (limit - at_once * passing) / held
    height = int(min(pixels / shape[1], shape[0]))
    if height < 1:
        least = int((held + passing) * shape[1] / _USED) + 1
        msg = (
            f"mem_limit must be at least {least} bytes, which one row of the {n} "
            f"exposures of {shape[1]} x {shape[0]} pixels needs"
        )
        raise ValueError(msg)
    if height > align:
        height -= height % align
    return bands_of(shape, height * shape[1])
