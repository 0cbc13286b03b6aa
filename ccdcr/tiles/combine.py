# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Combining exposures tile by tile, from wherever they are."""

from contextlib import ExitStack

import numpy as np

from ccdcr.combination.images import allocate
from ccdcr.combiner import check_fit, check_weights, keywords_of
from ccdcr.tiles.exposure_rows import open_exposures
from ccdcr.tiles.mask_rows import open_masks
from ccdcr.tiles.recipe import Recipe, bytes_per_pixel, tiles_of
from ccdcr.tiles.rows import Scratch

__all__ = ["combine_tiles"]

_AT_ONCE = 8  # tiles that are handed to dask together
_MASKS = 1 / 16  # of the memory, for masks that are read as a whole


def combine_tiles(
    items,
    names,
    crmasks,
    method,
    options,
    *,
    clipping,
    weights,
    scale,
    dtype,
    mem_limit,
    number,
    folder,
    progress_bar,
    ccdkwargs,
):
    """
    Combine exposures or their files by a method of `~ccdcr.CRCombiner`.

    Parameters
    ----------
    items : list of `~astropy.nddata.CCDData`, str or `~pathlib.Path`
        The exposures or their files.
    names : sequence of str
        Their names for messages.
    crmasks, method, weights, scale, dtype, mem_limit, progress_bar
        Arguments of `~ccdcr.combine`.
    options, clipping : dict
        More of them.
    number : bool
        Whether the number of exposures used is wanted.
    folder : `~pathlib.Path` or None
        Where temporary files are.
    ccdkwargs : dict
        Arguments for `astropy.nddata.CCDData.read`.

    Returns
    -------
    combined : `~astropy.nddata.CCDData`
        The combined image.
    images : `~ccdcr.combination.images.Images`
        The same, whose planes give arrays for slices of rows.
    """
    with ExitStack() as stack:
        exposures = open_exposures(stack, items, names, folder, **ccdkwargs)
        masks = open_masks(stack, crmasks, mem_limit * _MASKS, folder)
        _check(exposures, masks, weights)
        recipe = Recipe(
            exposures,
            method,
            options,
            clipping=clipping,
            scaling=_factors(scale, exposures, mem_limit),
            dtype=dtype,
            number=number,
        )
        sigma = recipe.check(exposures, masks[:1], _cut(weights, slice(1)))
        images, left = _allocate(
            exposures[0].shape, dtype, mem_limit, folder, sigma=sigma, number=number
        )
        lazy = any(exposure.lazy for exposure in exposures)
        tiles = tiles_of(
            exposures[0].shape,
            bytes_per_pixel(exposures, dtype, clipping),
            left / _AT_ONCE if lazy else left,
            len(exposures),
            align=_chunk_height(exposures),
        )
        run = _run_lazy if lazy else _run
        run(recipe, (exposures, masks, weights), tiles, images, progress_bar)
        keywords = keywords_of(
            len(exposures),
            method,
            masks.uuid,
            options["apply_flux_factor"],
            options["use_lamedian"],
            replaced=images.replaced,
        )
        boxes = masks.local_median_pixels
    images.replace_by_local_median(boxes)
    return images.whole().to_ccd(exposures[0], exposures[0].unit, keywords), images


def _check(exposures, masks, weights):
    n, shape = len(exposures), exposures[0].shape
    check_fit(masks, n, shape)
    if isinstance(weights, np.ndarray):
        if weights.ndim > 1 and weights.shape != (n, *shape):
            msg = (
                f"weights must be one number per exposure, {(n,)}, or one per pixel, "
                f"{(n, *shape)}, got {weights.shape}"
            )
            raise ValueError(msg)
        check_weights(weights)


def _factors(scale, exposures, mem_limit):
    """Return the factors of the exposures; a function sees one image at a time."""
    if not callable(scale):
        return scale
    for exposure in exposures:
        # A function such as the median has a copy.
        needed = 2 * np.prod(exposure.shape) * exposure.data.dtype.itemsize
        if exposure.from_file and needed > mem_limit:
            msg = (
                f"mem_limit must be at least {needed} bytes for a function as scale, "
                f"which sees a whole exposure, got {mem_limit:g}; give numbers"
            )
            raise ValueError(msg)
    return [scale(np.asarray(e.data[:]) if e.from_file else e.data) for e in exposures]


def _cut(weights, rows):
    return weights[:, rows] if getattr(weights, "ndim", 0) > 1 else weights


def _allocate(shape, dtype, mem_limit, folder, *, sigma, number):
    """Return images, in a file if they are large, and the memory that is left."""
    dtype = np.dtype(dtype or float)
    size = np.prod(shape) * (dtype.itemsize * (1 + sigma) + 1 + 2 * number)
    kinds = {"sigma": sigma, "number": number}
    if size <= mem_limit / 2:
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


def _inputs(exposures, masks, weights, rows):
    if rows.stop - rows.start < masks.shape[0] or not hasattr(masks, "crmasks"):
        masks = masks[rows]
    return [exposure.cut(rows) for exposure in exposures], masks, _cut(weights, rows)


def _run(recipe, inputs, tiles, images, progress_bar):
    for rows in _with_progress(tiles, progress_bar):
        images.put(rows, recipe(*_inputs(*inputs, rows)))


def _run_lazy(recipe, inputs, tiles, images, progress_bar):
    """Compute tiles by dask, with the scheduler that is set."""
    import dask

    task = dask.delayed(recipe.__call__, pure=False)
    batches = [tiles[i : i + _AT_ONCE] for i in range(0, len(tiles), _AT_ONCE)]
    for batch in _with_progress(batches, progress_bar):
        tasks = [task(*_inputs(*inputs, rows)) for rows in batch]
        for rows, part in zip(batch, dask.compute(*tasks), strict=True):
            images.put(rows, part)


def _with_progress(tiles, progress_bar):
    return tiles if progress_bar is None or len(tiles) == 1 else progress_bar(tiles)
