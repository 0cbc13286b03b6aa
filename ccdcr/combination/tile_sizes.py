# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How many rows of the exposures fit into the memory that may be used."""

import numpy as np

from ccdcr._threads import number_of_threads
from ccdcr.combination.combine_rows import THREADS, VALUES_AT_ONCE
from ccdcr.exposures.mapped_files import FileRows
from ccdcr.utils.row_bands import bands_of

__all__ = ["bytes_per_pixel", "is_clipping", "tiles_of"]

_USED = 0.75  # of mem_limit; the rest is for what is not counted
_ENOUGH = 1 << 28  # bytes of a tile above which nothing is gained
_COPIES = {"median": 5, "average": 4, "sum": 4}  # of the stack in ccdproc, of 8 bytes


def is_clipping(clipping):
    """Return whether any clipping is switched on."""
    return any(clipping[name] for name in ("clip_extrema", "minmax_clip", "sigma_clip"))


def bytes_per_pixel(exposures, dtype, clipping, plain=None):
    """
    Return the memory that a pixel of a tile needs.

    Parameters
    ----------
    exposures : list of `~ccdcr.exposures.Exposure`
        The exposures.
    dtype : str or `~numpy.dtype` or None
        Type of the data.
    clipping : dict
        The arguments of `~ccdcr.combine` that clip.
    plain : {'average', 'median', 'sum'}, optional
        The method of ccdproc, if it is one.

    Returns
    -------
    held, passing : float
        Bytes for each pixel of a tile, and more for those worked on at once.
    """
    n, size = len(exposures), np.dtype(dtype or float).itemsize
    read = sum(
        plane.dtype.itemsize * (1 if isinstance(plane, FileRows) else 2)
        for exposure in exposures
        if exposure.from_file or exposure.lazy
        for plane in exposure.planes
    )
    images = 2 * (2 * size + 3)
    clip = n * (2 * size + 24) + 40 if is_clipping(clipping) else 0
    if plain is not None:
        return read + images + clip + _COPIES[plain] * n * 8 + n, 0
    stack = n * (size + 3) + 10
    masks = 4 * (n + 3) + 16
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
