# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Editing of mask sets, and the exposures that fit them."""

import textwrap
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from ccdcr.exposures import load_ccds
from ccdcr.exposures.ccd_parameters import bias_in_unit
from ccdcr.exposures.exposure_flags import mask_as_recorded
from ccdcr.masks.diagnostics import USER
from ccdcr.masks.expected_table import keep_expected
from ccdcr.masks.fits_reader import EDITED
from ccdcr.masks.mask_order import check_exposures
from ccdcr.requirements.requirement_table import STAGES
from ccdcr.requirements.requirements import Requirements
from ccdcr.utils import stacks as kernels
from ccdcr.utils.neighbours import groups_with_seed

__all__ = ["MaskExposures", "edit_masks", "load_mask_exposures"]

_LINE = 72 - len(EDITED)  # characters of a HISTORY card


def edit_masks(
    masks,
    *,
    drop=None,
    add=None,
    remove=None,
    detections_of="MEDIANCR",
    planes=None,
    ccds=None,
):
    """Return an edited mask set; parameters are those of `ccdcr.CRMaskSet.edit`."""
    names = _plane_names(masks, planes, "planes")
    detections_of = _plane_names(masks, [detections_of], "detections_of")[0]
    lists = {
        "drop": _pixels("drop", drop, masks.shape),
        "remove": _pixels("remove", remove, masks.shape),
        "add": _pixels("add", add, masks.shape),
    }
    cleared = _detections(masks, lists["drop"], detections_of)
    cleared |= _as_mask(lists["remove"], masks.shape)
    added = _as_mask(lists["add"], masks.shape)
    if (both := cleared & added).any():
        found = (np.argwhere(both)[:, ::-1] + 1).tolist()
        msg = f"add must not hold pixels that are dropped or removed, got {found}"
        raise ValueError(msg)
    allowed = _allowed(masks, names, added, ccds, given=planes is not None)
    edited = {
        name: (plane & ~cleared if name in names else plane) | allowed.get(name, False)
        for name, plane in masks.planes.items()
    }
    return _with_planes(masks, edited, _history(masks, lists, names, detections_of))


def _plane_names(masks, names, parameter):
    known = list(masks.planes)
    names = known if names is None else [names] if isinstance(names, str) else names
    names = list(names)
    if unknown := [name for name in names if name not in known]:
        msg = (
            f"{parameter} must hold names of masks ({', '.join(known)}), "
            f"got {', '.join(map(repr, unknown))}"
        )
        raise ValueError(msg)
    return names


def _pixels(name, rows, shape):
    """Return FITS pixels as an array of x and y (m, 2), checked."""
    if rows is None:
        return np.empty((0, 2), dtype=int)
    pixels = np.asarray(rows)
    if pixels.size == 0:
        return np.empty((0, 2), dtype=int)
    if pixels.ndim != 2 or pixels.shape[1] != 2 or pixels.dtype.kind not in "iu":
        msg = f"{name} must be a list of [X, Y] of whole pixels, got {rows!r}"
        raise TypeError(msg)
    ny, nx = shape
    inside = (pixels >= 1).all(axis=1) & (pixels <= (nx, ny)).all(axis=1)
    if not inside.all():
        msg = (
            f"{name} must lie in the image of {nx} x {ny} pixels, "
            f"got {pixels[~inside].tolist()}"
        )
        raise ValueError(msg)
    return pixels


def _as_mask(pixels, shape):
    mask = np.zeros(shape, dtype=bool)
    mask[pixels[:, 1] - 1, pixels[:, 0] - 1] = True
    return mask


def _detections(masks, pixels, name):
    """Return the groups of a mask (ny, nx) that hold one of the pixels (m, 2)."""
    if not len(pixels):
        return np.zeros(masks.shape, dtype=bool)
    plane = masks.planes[name]
    outside = ~plane[pixels[:, 1] - 1, pixels[:, 0] - 1]
    if outside.any():
        msg = (
            f"drop must hold pixels of detections of {name}, "
            f"got {pixels[outside].tolist()}; see detections_of"
        )
        raise ValueError(msg)
    return groups_with_seed(plane, _as_mask(pixels, masks.shape))


def _allowed(masks, names, added, ccds, *, given):
    """Return the pixels (ny, nx) that are added to each mask, by its name."""
    if not added.any():
        return {}
    if given:
        return dict.fromkeys(names, added)
    if ccds is None:
        msg = (
            "add needs ccds, to leave the lowest exposure unmasked, or planes, the "
            "names of the masks that get the pixels"
        )
        raise ValueError(msg)
    exposures = load_mask_exposures(ccds, masks)
    stack, bad = exposures.stack, exposures.bad
    if masks.low is not None:
        bad = masks.low if bad is None else bad | masks.low
    _, lowest = kernels.lowest(stack, bad)
    usable = np.ones(stack.shape, dtype=bool) if bad is None else ~bad
    allowed = dict.fromkeys(("MEDIANCR", "MEANCRT"), added & usable.any(axis=0))
    for i, plane in enumerate(usable):
        allowed[f"CRMASK{i + 1}"] = added & plane & (lowest != i)
    return allowed


def _with_planes(masks, planes, history):
    """Return a mask set with other planes, HISTORY and identity, else unchanged."""
    meta = dict(masks.meta)
    old = meta.get("HISTORY", [])
    meta["HISTORY"] = [old] if isinstance(old, str) else list(old)
    meta["HISTORY"] += history
    crmasks = np.stack([planes[f"CRMASK{i}"] for i in range(1, len(masks) + 1)])
    added = (crmasks & ~masks.crmasks).any(axis=0)
    result = masks._changed(  # noqa: SLF001
        mediancr=planes["MEDIANCR"],
        meancrt=planes["MEANCRT"],
        crmasks=crmasks,
        expected=keep_expected(masks.expected, crmasks, added),
        # What is not masked any more is used again.
        low_values=_still_masked(masks.low_values, crmasks),
        point_sources=_still_masked(masks.point_sources, crmasks),
        meancr=planes.get("MEANCR"),
        meta=meta,
        diagnostics=_edited_diagnostics(masks, planes),
    )
    result._extra_hdus = masks.extra_hdus  # noqa: SLF001
    return result


def _still_masked(rows, crmasks):
    """Return the rows of EXPOSURE, X, Y that are masked, or None."""
    if rows is None:
        return None
    exposure, x, y = rows.T - 1
    return rows[crmasks[exposure, y, x]]


def _history(masks, lists, names, detections_of):
    """Return the lines of HISTORY that record an edit."""
    now = datetime.now(UTC).isoformat(timespec="seconds")[:19]
    lines = textwrap.wrap(f"{now} of {masks.uuid}", _LINE)
    what = {
        "drop": f"drop detections of {detections_of} at",
        "remove": "remove",
        "add": "add",
    }
    for name, pixels in lists.items():
        if len(pixels):
            text = f"{what[name]} {' '.join(f'({x},{y})' for x, y in pixels)}"
            lines += textwrap.wrap(text, _LINE)
    if len(names) < len(masks.planes):
        lines += textwrap.wrap(f"in {' '.join(names)}", _LINE)
    return [EDITED + line for line in lines]


def _edited_diagnostics(masks, planes):
    """Return the diagnostics of edited planes; added pixels are the user's."""
    flags = {}
    for name, origins in masks.diagnostics.flags.items():
        if (plane := planes.get(name)) is not None:
            known = origins * plane
            flags[name] = np.where(plane & (known == 0), np.uint8(USER), known)
    return replace(masks.diagnostics, flags=flags)


@dataclass(frozen=True, eq=False)
class MaskExposures:
    """
    Exposures that fit a mask set.

    ``ccds`` are the exposures as given, with flagged pixels masked. ``stack`` is
    (n, ny, nx) float32 without ``bias``, ``bad`` of the same shape (True = ignored) or
    None. ``factors`` are the flux factors that the stack still contains.
    """

    ccds: list
    stack: np.ndarray
    bad: np.ndarray | None
    bias: float
    factors: np.ndarray


def load_mask_exposures(ccds, masks):
    """Return the `MaskExposures` of CCDData or files and a `~ccdcr.CRMaskSet`."""
    ccds, names = load_ccds(ccds, name="ccds")
    ccds = masks._aligned(mask_as_recorded(ccds, masks.meta))  # noqa: SLF001
    check_exposures(masks, ccds, names)
    bias = bias_in_unit(masks, ccds[0].unit)
    stack, bad = _stack(ccds, bias)
    factors = masks.flux_factor
    if _was_divided(masks) and not np.all(factors == 1):
        stack /= np.float32(factors)[:, np.newaxis, np.newaxis]
        factors = np.ones(len(ccds))
    return MaskExposures(ccds, stack, bad, bias, factors)


def _stack(ccds, bias):
    """Return CCDData without bias as float32 (n, ny, nx), and bad pixels or None."""
    stack = np.empty((len(ccds), *ccds[0].shape), dtype=np.float32)
    bad = np.empty(stack.shape, dtype=bool)
    for i, ccd in enumerate(ccds):
        with np.errstate(over="ignore"):  # beyond float32 is not finite either
            np.subtract(ccd.data, bias, out=stack[i], casting="unsafe")
        np.logical_not(np.isfinite(stack[i]), out=bad[i])
        if ccd.mask is not None:
            bad[i] |= np.asarray(ccd.mask, dtype=bool)
    return stack, bad if bad.any() else None


def _was_divided(masks):
    """Return whether the detection divided the exposures by their flux factors."""
    requirements = masks.requirements or Requirements()
    unmatched = requirements.crmethod in STAGES["unmatched"]
    return unmatched and requirements.apply_flux_factor_to == "original"
