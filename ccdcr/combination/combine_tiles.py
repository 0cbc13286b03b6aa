# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Combination of exposures in memory, in files or of dask, tile by tile."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.nddata import CCDData

from ccdcr.combination.ccdproc_adapter import LateCombiner
from ccdcr.combination.clipping import check_extrema
from ccdcr.combination.combination_settings import (
    CombinationSettings,
    check_dtype,
    check_factors,
    check_fit,
    check_weights,
    choose_dtype,
    given_noise,
    make_keywords,
    masks_for,
)
from ccdcr.combination.combine_rows import (
    THREADS,
    VALUES_AT_ONCE,
    ImagePlanes,
    Images,
    allocate,
    combine_planes,
    cut_weights,
)
from ccdcr.exceptions import short_repr
from ccdcr.exposures.exposure_files import FileRows, Scratch
from ccdcr.exposures.exposure_flags import mask_as_recorded, union_of_flags
from ccdcr.exposures.open_exposures import list_exposures, open_exposures
from ccdcr.masks.expected_table import cut_masks
from ccdcr.masks.mask_order import check_order
from ccdcr.masks.mask_rows import open_masks
from ccdcr.masks.mask_set import CRMaskSet
from ccdcr.utils.neighbours import cut_bands, number_of_threads

__all__ = ["bytes_per_pixel", "combine_plain", "combine_tiles", "cut_tiles"]

_USED = 0.75  # of mem_limit; the rest is for what is not counted
_ENOUGH = 1 << 28  # bytes of a tile above which nothing is gained
_COPIES = {"median": 5, "average": 4, "sum": 4}  # of the stack in ccdproc, of 8 bytes


def bytes_per_pixel(exposures, dtype, clips, plain=None):
    """Return the bytes for each pixel of a tile, and more for those in work."""
    n, size = len(exposures), np.dtype(dtype or float).itemsize
    read = sum(
        plane.dtype.itemsize * (1 if isinstance(plane, FileRows) else 2)
        for exposure in exposures
        if exposure.from_file or exposure.lazy
        for plane in exposure.planes
    )
    images = 2 * (2 * size + 3)
    clip = n * (4 * size + 32) + 40 if clips else 0
    if plain is not None:
        return read + images + clip + _COPIES[plain] * n * 8 + n, 0
    stack = n * (size + 3) + 10
    masks = 4 * (2 * n + 3 if clips else n + 3) + 16
    return read + stack + masks + images, n * (5 * size + 16) + 60 + clip


def least_bytes(shape, per_pixel):
    """Return the bytes that one row of the exposures needs."""
    return int(sum(per_pixel) * shape[1] / _USED) + 1


def cut_tiles(shape, per_pixel, limit, n, *, align=1):
    """Return slices of rows that fit into a limit of bytes, n exposures each."""
    held, passing = per_pixel
    limit = min(limit * _USED, _ENOUGH)
    at_once = VALUES_AT_ONCE // n * number_of_threads(THREADS)
    pixels = limit / (held + passing)
    if pixels > at_once:
        pixels = (limit - at_once * passing) / held
    height = int(min(pixels / shape[1], shape[0]))
    if height < 1:
        least = least_bytes(shape, per_pixel)
        msg = (
            f"mem_limit must be at least {least} bytes, which one row of the {n} "
            f"exposures of {shape[1]} x {shape[0]} pixels needs"
        )
        raise ValueError(msg)
    if height > align:
        height -= height % align
    return cut_bands(shape, height * shape[1])


_AT_ONCE = 8  # tiles that are handed to dask together
_MASKS = 1 / 16  # of the memory, for masks that are read as a whole


@dataclass(frozen=True)
class TileCombination:
    """A combination of tiles by a method of `~ccdcr.CRCombiner`; holds no exposure."""

    settings: CombinationSettings
    dtype: Any
    number: bool

    def __call__(self, exposures, masks, weights, lamedian):
        """Return the images of a tile; exposures are data, mask and sigma of each."""
        exposures = [tuple(planes) for planes in exposures]
        planes = ImagePlanes(exposures, masks, weights, lamedian)
        return combine_planes(planes, self.dtype, self.settings, number=self.number)


@dataclass(frozen=True)
class PlainCombination:
    """A combination of tiles by a method of `ccdproc.Combiner`."""

    method: str
    unit: Any
    clips: tuple
    scaling: Any
    dtype: Any
    uncertainty_func: Any

    def __call__(self, exposures, _masks, weights, _lamedian):
        """Return the images of a tile; there are no masks."""
        combiner = _combiner(exposures, self.unit, self.dtype)
        combiner.weights, combiner.scaling = weights, self.scaling
        combiner.clip(self.clips)
        given = {"uncertainty_func": self.uncertainty_func}
        kwargs = {name: value for name, value in given.items() if value is not None}
        tile = getattr(combiner, f"{self.method}_combine")(**kwargs)
        return Images(tile.data, tile.mask, tile.uncertainty.array)


def _combiner(exposures, unit, dtype):
    """Return a combiner of some rows of the exposures."""
    ccds = [
        CCDData(data, unit=unit, mask=None if mask is None else np.asarray(mask, bool))
        for data, mask, _ in exposures
    ]
    return LateCombiner(ccds, dtype=dtype)


class _Masks:
    """The masks that a method uses, some rows at a time."""

    def __init__(self, masks, settings, given):
        self._masks, self._lamedian = masks, settings.lamedian is not None
        names = ("method", "clips", "expected")
        self._choice = {name: getattr(settings, name) for name in names}
        self._given = given
        whole = isinstance(masks, CRMaskSet)
        choice = self._choice | {"given": given}
        self._planes = masks_for(masks, **choice) if whole else None

    def rows(self, rows):
        """Return masks by name, and LAMEDIAN or None, of some rows."""
        if self._planes is not None:
            planes = cut_masks(self._planes, rows)
            return planes, self._cut(self._masks.lamedian, rows)
        part = self._masks[rows]
        given = self._given and self._given.rows(rows)
        planes = masks_for(part, **self._choice, given=given)
        return planes, self._cut(part.lamedian, np.s_[:])

    def _cut(self, lamedian, rows):
        return np.asarray(lamedian)[rows] if self._lamedian else None


def combine_tiles(items, crmasks, method, options, *, number, folder, **settings):
    """Return a CCDData combined from exposures or files, and its `Images`."""
    mem_limit, reading = settings["mem_limit"], settings.pop("reading")
    with ExitStack() as stack:
        opened = open_exposures(items, name="img_list", folder=folder, **reading)
        exposures = stack.enter_context(opened)
        masks = open_masks(stack, crmasks, mem_limit * _MASKS, folder)
        check_fit(masks, len(exposures), exposures[0].shape)
        foreign = check_order(masks, exposures, list_exposures(items)[1])
        if reading["ignore_flags"] is None:
            exposures = mask_as_recorded(exposures, masks.meta)
        check_dtype(settings["dtype"])
        settings["dtype"] = choose_dtype(settings["dtype"], exposures)
        _check_weights(settings["weights"], exposures)
        scaling = _factors(settings.pop("scale"), exposures, mem_limit)
        given = given_noise(
            exposures, masks, options.pop("gain"), options.pop("readnoise")
        )
        chosen = CombinationSettings.from_options(
            exposures,
            masks,
            method,
            scaling=scaling,
            clips=settings["clips"],
            given=given,
            **options,
        )
        function = TileCombination(chosen, settings["dtype"], number)
        parts = _Masks(masks, chosen, given)
        if not foreign:
            chosen.check_expected(exposures, lambda rows: parts.rows(rows)[0])
        images = _run_tiles(
            function,
            exposures,
            parts.rows,
            sigma=chosen.has_variance,
            number=number,
            folder=folder,
            **settings,
        )
        more = {"scaled": scaling is not None, "replaced": images.replaced}
        keywords = make_keywords(exposures, masks, chosen, **more)
        boxes, flags = masks.local_median_pixels, union_of_flags(exposures)
    images.replace_by_local_median(boxes)
    combined = images.whole().to_ccd(exposures[0], exposures[0].unit, keywords)
    combined.flags = flags
    return combined, images


def combine_plain(items, method, uncertainty_func, *, folder, **settings):
    """Return what `combine_tiles` does, by a method of `ccdproc.Combiner`."""
    mem_limit, reading = settings["mem_limit"], settings.pop("reading")
    with open_exposures(items, name="img_list", folder=folder, **reading) as exposures:
        settings["dtype"] = choose_dtype(settings["dtype"], exposures)
        _check_weights(settings["weights"], exposures)
        check_extrema(settings["clips"], len(exposures))
        function = PlainCombination(
            method,
            exposures[0].unit,
            settings["clips"],
            _factors(settings.pop("scale"), exposures, mem_limit),
            settings["dtype"],
            uncertainty_func,
        )
        images = _run_tiles(
            function,
            exposures,
            lambda _: ({}, None),
            sigma=True,
            number=False,
            folder=folder,
            plain=method,
            **settings,
        )
        flags = union_of_flags(exposures)
    combined = images.whole().to_ccd(exposures[0], exposures[0].unit, {})
    combined.flags = flags
    return combined, images


def _check_weights(weights, exposures):
    if weights is None:
        return
    n, shape = len(exposures), exposures[0].shape
    if not isinstance(weights, np.ndarray) or weights.dtype.kind not in "biuf":
        msg = f"weights must be a numpy.ndarray of numbers, got {short_repr(weights)}"
        raise TypeError(msg)
    if weights.shape not in {(n,), (n, *shape)}:
        msg = (
            f"weights must be one number per exposure, {(n,)}, or one per pixel, "
            f"{(n, *shape)}, got {weights.shape}"
        )
        raise ValueError(msg)
    check_weights(weights)


def _factors(scale, exposures, mem_limit):
    """Return the factors of the exposures; a function sees one image at a time."""
    if scale is None:
        return None
    if not callable(scale):
        return check_factors(scale, len(exposures), "scale")
    for exposure in exposures:
        # A function such as the median has a copy.
        needed = 2 * np.prod(exposure.shape) * exposure.data.dtype.itemsize
        if exposure.from_file and needed > mem_limit:
            msg = (
                f"mem_limit must be at least {needed} bytes for a function as scale, "
                f"which sees a whole exposure, got {mem_limit:g}; give numbers"
            )
            raise ValueError(msg)
    images = (np.asarray(e.data[:]) if e.from_file else e.data for e in exposures)
    factors = [np.ravel(scale(image)) for image in images]
    return check_factors(np.concatenate(factors), len(exposures), "scale")


def _run_tiles(
    function,
    exposures,
    masks_of,
    *,
    clips,
    weights,
    dtype,
    mem_limit,
    sigma,
    number,
    folder,
    progress_bar,
    plain=None,
):
    """Return Images (ny, nx) combined tile by tile."""
    shape = exposures[0].shape
    lazy = any(exposure.lazy for exposure in exposures)
    share = _AT_ONCE if lazy else 1
    per_pixel = bytes_per_pixel(exposures, dtype, clips, plain)
    kinds = {"sigma": sigma, "number": number}
    needed = least_bytes(shape, per_pixel) * share
    images, left = _allocate(shape, dtype, mem_limit, needed, folder, **kinds)
    height = _chunk_height(exposures)
    tiles = cut_tiles(shape, per_pixel, left / share, len(exposures), align=height)

    def inputs(rows):
        cut = [exposure.cut(rows) for exposure in exposures]
        masks, lamedian = masks_of(rows)
        return cut, masks, cut_weights(weights, rows), lamedian

    run = _run_lazy if lazy else _run
    run(function, inputs, tiles, images, progress_bar)
    return images


def _allocate(shape, dtype, mem_limit, needed, folder, *, sigma, number):
    """Return Images, in a file if they are large, and the memory that is left."""
    dtype = np.dtype(dtype or float)
    size = np.prod(shape) * (dtype.itemsize * (1 + sigma) + 1 + 2 * number)
    kinds = {"sigma": sigma, "number": number}
    if size <= mem_limit / 2 and size + needed <= mem_limit:
        return allocate(np.empty, shape, dtype, **kinds), mem_limit - size

    def make(shape, dtype):
        return Scratch(shape, dtype, folder)

    return allocate(make, shape, dtype, **kinds), mem_limit


def _chunk_height(exposures):
    """Return the largest height of the chunks of dask arrays."""
    planes = [plane for exposure in exposures for plane in exposure.planes]
    return max(
        plane.chunksize[0] if hasattr(plane, "chunksize") else 1 for plane in planes
    )


def _run(function, inputs, tiles, images, progress_bar):
    for rows in _with_progress(tiles, progress_bar):
        images.put(rows, function(*inputs(rows)))


def _run_lazy(function, inputs, tiles, images, progress_bar):
    """Compute tiles by dask, with the scheduler that is set."""
    import dask

    task = dask.delayed(function.__call__, pure=False)
    batches = [tiles[i : i + _AT_ONCE] for i in range(0, len(tiles), _AT_ONCE)]
    for batch in _with_progress(batches, progress_bar):
        tasks = [task(*inputs(rows)) for rows in batch]
        for rows, part in zip(batch, dask.compute(*tasks), strict=True):
            images.put(rows, part)


def _with_progress(tiles, progress_bar):
    return tiles if progress_bar is None or len(tiles) == 1 else progress_bar(tiles)
