# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Morphology of masks: 8-connected groups of pixels, and dilation."""

import numpy as np
from scipy import ndimage

__all__ = ["dilate", "groups_with_seed", "label_groups", "pixels_of_seeded_groups"]

_EIGHT = np.ones((3, 3), dtype=bool)


def label_groups(mask):
    """Return the labels 1 ... n of the 8-connected groups of a 2D mask, and n."""
    return ndimage.label(mask, _EIGHT)


def groups_with_seed(mask, seed):
    """Return the 8-connected groups of a 2D mask that hold a pixel of ``seed``."""
    kept = np.zeros(mask.shape, dtype=bool)
    kept.ravel()[pixels_of_seeded_groups(mask, seed)] = True
    return kept


def pixels_of_seeded_groups(mask, seed):
    """Return the flat indices of the pixels of `groups_with_seed`, in order."""
    labels, number = label_groups(mask)
    place = np.flatnonzero(mask)
    label = labels.ravel()[place]
    wanted = np.zeros(number + 1, dtype=bool)
    wanted[label[seed.ravel()[place]]] = True
    return place[wanted[label]]


def dilate(mask, times):
    """Return a copy of a 2D mask, dilated ``times`` times in all eight directions."""
    if times == 0 or not mask.any():
        return mask.copy()
    # A square is one dilation along each axis.
    size = 2 * times + 1
    return ndimage.maximum_filter(mask, size=size, mode="constant", cval=False)
