# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Work in bands of an image that fit into a cache."""

__all__ = ["bands", "with_halo"]

_PIXELS = 1 << 17


def bands(length, width, step=1, longer=1):
    """
    Cut an axis into slices.

    Parameters
    ----------
    length : int
        Length of the axis.
    width : int
        Length of the other axis: the slices hold about as many pixels each.
    step : int, optional
        All slices but the last one are multiples of this. Default is 1.
    longer : int, optional
        Times that the slices are longer, where they overlap. Default is 1.

    Returns
    -------
    slices : list of slice
        Without overlap, in order.
    """
    size = max(longer * _PIXELS // (width * step), 1) * step
    return [slice(i, min(i + size, length)) for i in range(0, length, size)]


def with_halo(rows, halo, length):
    """
    Return a wider slice, and where the narrow one is in it.

    Parameters
    ----------
    rows : slice
        A slice as `bands` returns it.
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
