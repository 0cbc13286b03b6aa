# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Pixels that are replaced by the median of a box around them."""

import numpy as np

from ccdcr._statistics import median_factor

__all__ = ["replace_by_local_median"]

_ROWS = 16


def replace_by_local_median(data, mask, boxes, sigma=None):
    """
    Replace pixels by the median of their box, in place and in order.

    Parameters
    ----------
    data : 2D `~numpy.ndarray`
        The combined image, (ny, nx), or one that gives arrays for slices of
        rows; changed.
    mask : 2D `~numpy.ndarray` of bool
        True = no value; takes no part and is not replaced.
    boxes : `~numpy.ndarray` of int
        Rows of X, Y, X_width, Y_width; the first pixel is (1, 1). A box is cut
        at the edge of the image, and its own pixel takes no part.
    sigma : 2D `~numpy.ndarray`, optional
        The standard deviation; changed alike.

    Returns
    -------
    failed : list of tuple of int
        (X, Y) of the pixels whose box has no other usable pixel; unchanged.
    """
    failed = []
    for x, y, width, height in boxes:
        cut = _span(y, height, mask.shape[0]), _span(x, width, mask.shape[1])
        own = y - 1 - cut[0].start, x - 1 - cut[1].start
        usable = ~_box(mask, *cut)
        has_value, usable[own] = usable[own], False
        n = np.count_nonzero(usable)
        if n == 0:
            failed.append((int(x), int(y)))
        elif has_value:
            _set(data, x, y, np.median(_box(data, *cut)[usable], overwrite_input=True))
            if sigma is not None:
                sigmas = _box(sigma, *cut)[usable].astype(np.float64, copy=False)
                variance = np.dot(sigmas, sigmas) / n**2
                _set(sigma, x, y, np.sqrt(variance) * median_factor(min(n, 100)))
    return failed


def _span(center, width, length):
    return slice(max(center - 1 - width // 2, 0), min(center + width // 2, length))


def _box(plane, rows, columns):
    # Planes in files give arrays for rows only, and few rows at a time.
    box = np.empty((rows.stop - rows.start, columns.stop - columns.start), plane.dtype)
    for start in range(0, len(box), _ROWS):
        part = box[start : start + _ROWS]
        first = rows.start + start
        part[...] = plane[first : first + len(part)][:, columns]
    return box


def _set(plane, x, y, value):
    plane[y - 1 : y][0, x - 1] = value
