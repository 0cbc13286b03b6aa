# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What is done with detected pixels: features, dilation, the user's lists."""

from dataclasses import dataclass

import numpy as np

from ccdcr.diagnostics import BOTH, DILATION, MM_ONLY, SINGLE_ONLY, USER
from ccdcr.utils.morphology import dilate, groups_with_seed

__all__ = [
    "UserLists",
    "assemble",
    "check_regions",
    "drop_flat_features",
    "flag_origins",
    "grow",
    "region_mask",
    "residual_mask",
    "user_lists",
]


def drop_flat_features(mask, excess, threshold):
    """
    Drop features of a single-image detector that no exposure stands out in.

    Parameters
    ----------
    mask : 2D `~numpy.ndarray` of bool
        Detected pixels.
    excess : 2D `~numpy.ndarray`
        The image minus the minimum over the exposures.
    threshold : float
        What the excess must exceed in at least one pixel of a feature.

    Returns
    -------
    kept : 2D `~numpy.ndarray` of bool
        The 8-connected features that have such a pixel.
    """
    return groups_with_seed(mask, excess > threshold)


def assemble(found, observed, lists, dilation):
    """
    Turn detected pixels into the masks of a set.

    Parameters
    ----------
    found : dict of 2D `~numpy.ndarray` of bool
        Pixels detected in the median (``MEDIANCR``), in the mean (``MEANCRT``)
        and in each exposure (``CRMASK1`` ...).
    observed : `~ccdcr.detection.planes.Observed`
        The exposures.
    lists : `UserLists`
        The user's lists.
    dilation : int
        How many times masks are dilated.

    Returns
    -------
    masks : dict of 2D `~numpy.ndarray` of bool
        The masks under the same names.
    """
    unusable = observed.unusable

    def grown(name, seeds):
        return grow(seeds, unusable[name], lists, dilation)

    masks = {"MEDIANCR": grown("MEDIANCR", found["MEDIANCR"])}
    masks["MEANCRT"] = grown("MEANCRT", found["MEANCRT"] | masks["MEDIANCR"])
    for name in observed.names:
        masks[name] = grown(name, found[name] & masks["MEANCRT"])
    if lists.always is not None:
        _add_always(masks, observed, lists.always)
    return {name: lists.without_replaced(mask) for name, mask in masks.items()}


def residual_mask(seeds, unusable, lists, dilation):
    """Return the mask of what is left in a combination, from detected pixels."""
    return lists.without_replaced(grow(seeds, unusable, lists, dilation))


def grow(seeds, unusable, lists, dilation):
    """Dilate detected pixels; skip what is bad or never flagged, before and after."""
    never = [mask for mask in (unusable, lists.never) if mask is not None]
    for mask in never:
        seeds = seeds & ~mask
    grown = dilate(seeds, dilation)
    for mask in never:
        grown &= ~mask
    return grown


def _add_always(masks, observed, always):
    """Flag pixels in every exposure but the lowest one; never a bad one."""
    for name, mask in masks.items():
        allowed = always
        if name in observed.names:
            index = observed.names.index(name)
            allowed = allowed & (observed.planes.lowest_index != index)
        if observed.unusable[name] is not None:
            allowed = allowed & ~observed.unusable[name]
        np.logical_or(mask, allowed, out=mask)


def flag_origins(masks, single, mm, lists):
    """
    Say of each masked pixel what found it.

    Parameters
    ----------
    masks : dict of 2D `~numpy.ndarray` of bool
        The masks of a set by name.
    single, mm : dict of 2D `~numpy.ndarray` of bool
        Pixels detected in single images and by Median-Minimum, by name.
    lists : `UserLists`
        The user's lists.

    Returns
    -------
    flags : dict of 2D `~numpy.ndarray` of uint8
        0 not masked, 1 dilation only, 2 comparison of exposures only, 3 single image
        only, 4 both, 5 the user's list.
    """
    flags = {}
    for name, mask in masks.items():
        by_single = single.get(name, np.False_)
        by_mm = mm.get(name, np.False_)
        plane = np.full(mask.shape, DILATION, dtype=np.uint8)
        plane[np.broadcast_to(by_mm, mask.shape)] = MM_ONLY
        plane[np.broadcast_to(by_single, mask.shape)] = SINGLE_ONLY
        plane[np.broadcast_to(by_single & by_mm, mask.shape)] = BOTH
        if lists.always is not None:
            plane[lists.always] = USER
        flags[name] = plane * mask
    return flags


@dataclass(frozen=True)
class UserLists:
    """
    What the user knows better, as masks (ny, nx) or None.

    ``never`` are skipped regions and pixels to be ignored, ``always`` pixels to
    be flagged, ``replaced`` those that get their local median.
    """

    never: np.ndarray | None = None
    always: np.ndarray | None = None
    replaced: np.ndarray | None = None

    def without_replaced(self, mask):
        """Return a mask without the pixels that get their local median."""
        return mask if self.replaced is None else mask & ~self.replaced


def user_lists(requirements, shape):
    """
    Turn the lists of regions and pixels into masks.

    Parameters
    ----------
    requirements : `~ccdcr.Requirements`
        The requirements.
    shape : tuple of int
        Shape of the images, (ny, nx).

    Returns
    -------
    lists : `UserLists`
        The masks.

    Raises
    ------
    ValueError
        If a region or pixel lies outside the image, or if a pixel is to be
        flagged and not to be flagged.
    """
    ignored = _pixels(requirements, "pixels_to_be_ignored_as_cr", shape)
    skipped = region_mask(requirements, "regions_to_be_skipped", shape)
    always = _pixels(requirements, "pixels_to_be_flagged_as_cr", shape)
    replaced = _pixels(requirements, "pixels_to_be_replaced_by_local_median", shape)
    _exclude(always, ignored, "pixels_to_be_ignored_as_cr")
    _exclude(always, replaced, "pixels_to_be_replaced_by_local_median")
    never = [mask for mask in (ignored, skipped) if mask is not None]
    return UserLists(np.any(never, axis=0) if never else None, always, replaced)


def check_regions(name, regions, shape):
    """Refuse regions that are not inside an image of a shape (ny, nx)."""
    ny, nx = shape
    for region in regions or ():
        _, xmax, _, ymax = region
        if xmax > nx or ymax > ny:
            msg = (
                f"{name} must lie in the image of {nx} x {ny} pixels, "
                f"got {list(region)}"
            )
            raise ValueError(msg)


def region_mask(requirements, name, shape):
    """Return a list of regions as a mask (ny, nx), True = inside; or None."""
    regions = getattr(requirements, name)
    if regions is None:
        return None
    check_regions(name, regions, shape)
    mask = np.zeros(shape, dtype=bool)
    for xmin, xmax, ymin, ymax in regions:
        mask[ymin - 1 : ymax, xmin - 1 : xmax] = True
    return mask


def _pixels(requirements, name, shape):
    rows = getattr(requirements, name)
    if rows is None:
        return None
    x, y = np.array([row[:2] for row in rows]).T
    outside = (x > shape[1]) | (y > shape[0])
    if outside.any():
        found = np.column_stack([x, y])[outside].tolist()
        msg = (
            f"{name} must lie in the image of {shape[1]} x {shape[0]} pixels, "
            f"got {found}"
        )
        raise ValueError(msg)
    mask = np.zeros(shape, dtype=bool)
    mask[y - 1, x - 1] = True
    return mask


def _exclude(always, other, name):
    if always is not None and other is not None and (both := always & other).any():
        pixels = (np.argwhere(both)[:, ::-1] + 1).tolist()
        msg = f"pixels_to_be_flagged_as_cr and {name} both hold {pixels}"
        raise ValueError(msg)
