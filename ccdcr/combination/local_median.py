# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Pixels that are replaced by the median of a box around them."""

import numpy as np

from ccdcr._statistics import median_factor

__all__ = ["replace_by_local_median"]


def replace_by_local_median(data, mask, boxes, sigma=None):
    """
    Replace pixels by the median of their box, in place and in order.

    Parameters
    ----------
    data : 2D `~numpy.ndarray`
        The combined image, (ny, nx); changed.
    mask : 2D `~numpy.ndarray` of bool
        True = no value; takes no part.
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
        cut = (_span(y, height), _span(x, width))
        usable = ~mask[cut]
        usable[y - 1 - cut[0].start, x - 1 - cut[1].start] = False
        n = np.count_nonzero(usable)
        if n == 0:
            failed.append((int(x), int(y)))
            continue
        data[y - 1, x - 1] = np.median(data[cut][usable])
        if sigma is not None:
            variance = np.square(sigma[cut][usable], dtype=np.float64).mean() / n
            sigma[y - 1, x - 1] = np.sqrt(variance) * median_factor(min(n, 100))
    return failed


def _span(center, width):
    return slice(max(center - 1 - width // 2, 0), center + width // 2)
