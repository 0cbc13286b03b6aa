# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Minimum, maximum, median and sums in small windows.

They are those of `scipy.ndimage` with ``mode="nearest"`` (sums also with zeros
beyond the image), as passes of numpy over the whole image, which are several times
faster.
"""

import numpy as np

__all__ = ["median_of_nine", "running", "sums_along"]


def running(function, image, size):
    """
    Return the minimum or maximum in square windows.

    Parameters
    ----------
    function : `numpy.minimum` or `numpy.maximum`
        What is wanted.
    image : 2D `~numpy.ndarray`
        The image.
    size : int
        Odd width of the windows in pixels.

    Returns
    -------
    result : 2D `~numpy.ndarray`
        Of the same shape.
    """
    result = np.pad(image, size // 2, mode="edge")
    for axis in (0, 1):
        result = _along(function, result, size, axis)
    return result


def _along(function, image, size, axis):
    """Go through windows of 2, 4, 8 ... pixels: two of them make the last one."""
    width = 1
    while width < size:
        step = min(width, size - width)
        image = function(_part(image, axis, 0, -step), _part(image, axis, step, None))
        width += step
    return image


def _part(image, axis, start, stop):
    return image[:, start:stop] if axis else image[start:stop]


def sums_along(image, size, axis, mode="edge"):
    """
    Return the sums in windows along one axis.

    Parameters
    ----------
    image : 2D `~numpy.ndarray`
        The image.
    size : int
        Odd length of the windows in pixels.
    axis : int
        The axis.
    mode : {'edge', 'constant'}, optional
        What is beyond the image: its last pixels again, the default, or zeros.

    Returns
    -------
    sums : 2D `~numpy.ndarray`
        Of the same shape.

    Notes
    -----
    Sums of 2, 4, 8 ... pixels, of which those are added that the length is
    made of: float32 is precise enough for that, other than for running sums.
    """
    half, length = size // 2, image.shape[axis]
    edges = [(half, half) if k == axis else (0, 0) for k in (0, 1)]
    sums, width, done, total = np.pad(image, edges, mode=mode), 1, 0, None
    while True:
        if size & width:
            part = _part(sums, axis, done, done + length)
            total = part.copy() if total is None else np.add(total, part, out=total)
            done += width
        if done == size:
            return total
        sums = _part(sums, axis, 0, -width) + _part(sums, axis, width, None)
        width *= 2


def median_of_nine(image):
    """
    Return the median in windows of 3 x 3 pixels.

    Parameters
    ----------
    image : 2D `~numpy.ndarray`
        The image.

    Returns
    -------
    result : 2D `~numpy.ndarray`
        Of the same shape.

    Notes
    -----
    The median of nine is that of three: the largest minimum, the median of the
    medians and the smallest maximum of sorted columns of three.
    """
    rows = np.pad(image, 1, mode="edge")
    low, middle, high = _sorted(rows[:-2], rows[1:-1], rows[2:])
    low = np.maximum(np.maximum(low[:, :-2], low[:, 1:-1]), low[:, 2:])
    high = np.minimum(np.minimum(high[:, :-2], high[:, 1:-1]), high[:, 2:])
    middle = _middle(middle[:, :-2], middle[:, 1:-1], middle[:, 2:])
    return _middle(low, middle, high)


def _sorted(a, b, c):
    low, high = np.minimum(a, b), np.maximum(a, b)
    middle = np.minimum(high, c)
    return np.minimum(low, c), np.maximum(low, middle), np.maximum(high, c)


def _middle(a, b, c):
    return np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))
