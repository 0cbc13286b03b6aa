# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Steps of all detections: checks, the user's lists, the mask set."""

import time
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from astropy import log
from astropy import units as u

from ccdcr.exposures.align_exposures import alignment_cards
from ccdcr.exposures.exposure_flags import BAD_FLAGS
from ccdcr.exposures.load_exposures import measure_flux_factors, scale_factors
from ccdcr.masks.diagnostics import BOTH, DILATION, LOW, MM_ONLY, SINGLE_ONLY, USER
from ccdcr.masks.mask_set import FLUX_SOURCE, CRMaskSet
from ccdcr.requirements.requirement_table import STAGES
from ccdcr.single_image.detectors import DETECTORS
from ccdcr.utils.files import card_text
from ccdcr.utils.neighbours import dilate, groups_with_seed
from ccdcr.utils.scratch import empty, keep, release

__all__ = [
    "Stages",
    "UserLists",
    "assemble",
    "begin_limited",
    "check_regions",
    "check_requirements",
    "drop_flat_features",
    "find_flux_factors",
    "flag_origins",
    "grow",
    "least_exposures",
    "log_counts",
    "make_lamedian",
    "mask_set",
    "region_mask",
    "residual_mask",
    "single_image_detector",
    "stack_crmasks",
    "user_lists",
]


def drop_flat_features(mask, excess, threshold):
    """Return the 8-connected groups (ny, nx) with an excess above a threshold."""
    return groups_with_seed(mask, excess > threshold)


def assemble(found, observed, lists, dilation):
    """Return masks (ny, nx) by name: detected pixels, dilated, with user's lists."""
    unusable = observed.unusable

    def grown(name, seeds):
        return keep(grow(seeds, unusable[name], lists, dilation))

    masks = {"MEDIANCR": grown("MEDIANCR", found["MEDIANCR"])}
    masks["MEANCRT"] = grown("MEANCRT", found["MEANCRT"] | masks["MEDIANCR"])
    for name in observed.names:
        masks[name] = grown(name, found[name] & masks["MEANCRT"])
    if lists.always is not None:
        _add_always(masks, observed, lists.always)
    return {name: lists.without_replaced(mask) for name, mask in masks.items()}


def residual_mask(seeds, unusable, lists, dilation):
    """Return the mask of hits that remain in a combination, from detected pixels."""
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


def flag_origins(masks, single, mm, lists, low=None):
    """Return origins of masked pixels, uint8 (ny, nx) as in `Diagnostics`, by name."""
    flags = {}
    for name, mask in masks.items():
        by_single = single.get(name, np.False_)
        by_mm = mm.get(name, np.False_)
        plane = np.full(mask.shape, DILATION, dtype=np.uint8)
        if low is not None and name in low:
            plane[low[name]] = LOW
        plane[np.broadcast_to(by_mm, mask.shape)] = MM_ONLY
        plane[np.broadcast_to(by_single, mask.shape)] = SINGLE_ONLY
        plane[np.broadcast_to(by_single & by_mm, mask.shape)] = BOTH
        if lists.always is not None:
            plane[lists.always] = USER
        flags[name] = keep(plane * mask)
    return flags


@dataclass(frozen=True)
class UserLists:
    """
    The user's lists as masks (ny, nx) or None.

    ``never`` are skipped regions and ignored pixels, ``always`` pixels to be flagged,
    ``replaced`` those that get their local median.
    """

    never: np.ndarray | None = None
    always: np.ndarray | None = None
    replaced: np.ndarray | None = None

    def without_replaced(self, mask):
        """Return a mask without the pixels that get their local median."""
        return mask if self.replaced is None else mask & ~self.replaced


def user_lists(requirements, shape):
    """Return the `UserLists` for images (ny, nx), or ValueError if they contradict."""
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


# Bytes per pixel, and for each exposure: without a limit, with the least, and in files;
# and in a band of all.
_WHOLE, _LEAST, _IN_FILES = (60, 26), (10.5, 0), (20, 22)
_BAND_PIXELS, _BAND_BYTES = 1 << 17, 40


def begin_limited(space, crmethod, n, shape):
    """Begin a `ScratchSpace` for n exposures (ny, nx), if they need it."""
    pixels = shape[0] * shape[1]
    band = n * min(pixels, _BAND_PIXELS) * _BAND_BYTES
    whole, least, files = (
        pixels * (one + n * every) for one, every in (_WHOLE, _LEAST, _IN_FILES)
    )
    whole, least = whole + band, least + band
    what = f"{n} exposures of {shape[1]} x {shape[0]} pixels"
    if crmethod != "matched":
        least, what = (
            whole,
            f"{what} with crmethod={crmethod!r}, which needs them whole",
        )
    space.begin(whole + band, least, band, what, files)


_MOST_FLUX, _MOST_RATIO = 1e6, 1e4


def least_exposures(requirements):
    """Return how many exposures the method needs."""
    return 2 if requirements.crmethod in STAGES["matched"] else 3


def check_requirements(requirements, n, shape):
    """Check requirements against n exposures (ny, nx); return the user's lists."""
    for name in ("flux_factor", "mm_xy_offsets"):
        value = getattr(requirements, name)
        if isinstance(value, tuple) and len(value) != n:
            msg = f"{name} must hold {n} entries, one per exposure, got {len(value)}"
            raise ValueError(msg)
    _check_flux_factor(requirements.flux_factor)
    uses_mm = requirements.crmethod in STAGES["mm"]
    if uses_mm and requirements.mm_cr_coincidences >= n:
        msg = (
            f"mm_cr_coincidences must be less than the {n} exposures, "
            f"got {requirements.mm_cr_coincidences}"
        )
        raise ValueError(msg)
    region = requirements.mm_crosscorr_region
    check_regions("flux_factor_regions", requirements.flux_factor_regions, shape)
    check_regions("mm_crosscorr_region", region and [region], shape)
    return user_lists(requirements, shape)


def _check_flux_factor(value):
    if value in {None, "auto"}:
        return
    low, high = np.min(value), np.max(value)
    if low < 1 / _MOST_FLUX or high > _MOST_FLUX or high > _MOST_RATIO * low:
        limits = f"{1 / _MOST_FLUX:g} to {_MOST_FLUX:g}"
        msg = (
            f"flux_factor must be from {limits}, and the largest up to "
            f"{_MOST_RATIO:g} times the smallest, got {value}"
        )
        raise ValueError(msg)


class Stages:
    """Stages of a detection: seconds that each takes (``timing``) and progress."""

    def __init__(self, names=(), progress_bar=None):
        self.timing = {}
        self._names = iter(names if progress_bar is None else progress_bar(names))

    @contextmanager
    def __call__(self, stage):
        """Time a stage, in which the progress may advance further."""
        self.advance()
        start = time.perf_counter()
        yield
        release(trim=True)
        self.timing[stage] = time.perf_counter() - start

    def advance(self):
        """Go on to the next name, if there is one."""
        release(trim=True)
        next(self._names, None)


def find_flux_factors(requirements, exposures):
    """Return the flux factors, one per exposure, and their source or None."""
    if requirements.flux_factor != "auto":
        return scale_factors(exposures, requirements.flux_factor)
    regions = region_mask(requirements, "flux_factor_regions", exposures.shape)
    compute_noise = exposures.detector.compute_noise
    stack, bad = exposures.data, exposures.bad
    return measure_flux_factors(stack, bad, compute_noise, regions), "auto"


def single_image_detector(requirements):
    """Return the single-image detector of the method, or None."""
    name = requirements.crmethod.removeprefix("mm_").removeprefix("matched_")
    if name in {"mmcosmic", "matched"}:
        return None
    return DETECTORS[name].from_requirements(requirements)


def log_counts(found, requirements):
    """Log how many pixels the single-image detector found."""
    log_ = log.info if requirements.la_verbose else log.debug
    for name, mask in found.masks.items():
        log_(f"{name}: {np.count_nonzero(mask)} pixels by the single-image detector")


def stack_crmasks(masks, n):
    """Return the masks (n, ny, nx) of exposures, which replace those by name."""
    stack = empty((n, *masks["CRMASK1"].shape), bool)
    for i, plane in enumerate(stack, start=1):
        plane[:] = masks[f"CRMASK{i}"]
        masks[f"CRMASK{i}"] = plane
    return stack


def mask_set(masks, exposures, requirements, factors, *, crmasks=None, **parts):
    """Return the mask set of a detection with factors and their source."""
    if crmasks is None:
        crmasks = stack_crmasks(masks, len(exposures))
    flux_factor, source = factors
    measured = exposures.measured
    return CRMaskSet(
        masks["MEDIANCR"],
        masks["MEANCRT"],
        crmasks,
        meancr=masks["MEANCR"],
        local_median_pixels=requirements.pixels_to_be_replaced_by_local_median,
        requirements=requirements,
        gain=None if measured else exposures.detector.every_gain,
        readnoise=None if measured else exposures.detector.every_readnoise,
        noise="detector" if exposures.variance is None else "uncertainty",
        bias=exposures.detector.bias,
        flux_factor=flux_factor,
        meta={
            f"FILE{i}": card_text(n)
            for i, n in enumerate(exposures.names, start=1)
            if n
        }
        | ({} if source is None else {FLUX_SOURCE: source})
        | ({BAD_FLAGS: exposures.bad_flags} if exposures.bad_flags else {})
        | alignment_cards(exposures.headers),
        **parts,
    )


def make_lamedian(found, exposures, requirements):
    """Return the cleaned median (ny, nx) in the unit that was asked for, or None."""
    cleaned = found.cleaned.get("MEDIANCR")
    if cleaned is None:
        return None
    if exposures.gain_ratio is not None and not requirements.la_gain_apply:
        ratio = exposures.gain_ratio
        cleaned = cleaned / (ratio.mean(axis=0) if ratio.ndim == 3 else ratio)
    in_unit = exposures.measured or exposures.unit not in {u.adu, u.electron}
    if in_unit or not requirements.la_gain_apply:
        return u.Quantity(cleaned, exposures.unit)
    return u.Quantity(cleaned * np.float32(exposures.detector.gain), u.electron)
