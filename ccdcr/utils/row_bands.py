# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Bands of whole rows of an image, with and without a halo."""

__all__ = ["bands_in_cache", "bands_of", "with_halo"]

_BAND = 1 << 20  # pixels that are worked on at once
_CACHE = 1 << 17  # pixels of which several float32 planes fit into a cache


def bands_of(shape, pixels=None, step=1):
    """
    Cut an image into bands of whole rows.

    Parameters
    ----------
    shape : tuple of int
        Shape of the image, (ny, nx).
    pixels : int, optional
        Most pixels of a band, if it has more than ``step`` rows. Default is 2**20.
    step : int, optional
        The bands, but for the last one, have a multiple of so many rows. Default is 1.

    Returns
    -------
    bands : list of slice
        Slices of rows without overlap, in order.
    """
    ny, nx = shape
    height = max((pixels or _BAND) // (nx * step), 1) * step
    return [slice(y, min(y + height, ny)) for y in range(0, ny, height)]


def bands_in_cache(shape, *, longer=1, step=1):
    """Return `bands_of` a size that fits into a cache, or ``longer`` times longer."""
    return bands_of(shape, longer * _CACHE, step)


def with_halo(rows, halo, length):
    """
    Return a wider slice, and where the narrow one is in it.

    Parameters
    ----------
    rows : slice
        A slice of an axis.
    halo : int
        How much wider on both sides, as far as the axis goes.
    length : int
        Length of the axis.

    Returns
    -------
    wide, inside : slice
        The wider slice of the image, and the narrow one of the wider.
    """
    start = max(rows.start - halo, 0)
    wide = slice(start, min(rows.stop + halo, length))
    return wide, slice(rows.start - start, rows.stop - start)
