# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Combination of rows of exposures to images, for arrays and files alike."""

import copy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from astropy.nddata import CCDData, StdDevUncertainty

from ccdcr.combination.clipping import reject
from ccdcr.combination.methods import METHODS, Filled, Stack, combine_filled
from ccdcr.exceptions import LocalMedianWarning, warn_user
from ccdcr.exposures.ccd_parameters import known_variance
from ccdcr.exposures.exposure_flags import CLEANED
from ccdcr.masks.expected_table import cut_masks
from ccdcr.masks.fits_reader import MAPS
from ccdcr.utils.neighbours import cut_bands, in_threads
from ccdcr.utils.stacks import count, median_factor

__all__ = [
    "THREADS",
    "VALUES_AT_ONCE",
    "ImagePlanes",
    "Images",
    "RowStack",
    "allocate",
    "bands",
    "combine_planes",
    "combine_rows",
    "cut_weights",
    "number_of_rows",
    "replace_by_local_median",
]

_ROWS = 16


def replace_by_local_median(data, mask, boxes, sigma=None):
    """Replace pixels in place by the median of boxes; return failed [(X, Y), ...]."""
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
    # Planes in files give arrays for slices of few rows only.
    box = np.empty((rows.stop - rows.start, columns.stop - columns.start), plane.dtype)
    for start in range(0, len(box), _ROWS):
        part = box[start : start + _ROWS]
        first = rows.start + start
        part[...] = plane[first : first + len(part)][:, columns]
    return box


def _set(plane, x, y, value):
    plane[y - 1 : y][0, x - 1] = value


@dataclass
class Images:
    """
    A combined image and its planes, (ny, nx) each.

    ``sigma`` is the standard deviation, ``number`` that of the exposures used;
    either may be None. ``mask`` is True where every exposure is bad.
    ``replaced`` is the number of replaced pixels.
    """

    value: np.ndarray
    mask: np.ndarray
    sigma: np.ndarray | None = None
    number: np.ndarray | None = None
    replaced: int = 0

    @property
    def planes(self):
        """The planes that are not None, by name."""
        names = ("value", "mask", "sigma", "number")
        found = {name: getattr(self, name) for name in names}
        return {name: plane for name, plane in found.items() if plane is not None}

    def put(self, rows, part):
        """Copy the images of some rows into place."""
        for name, plane in part.planes.items():
            getattr(self, name)[rows] = plane
        self.replaced += part.replaced

    def whole(self):
        """Return the images with planes in files read into arrays."""
        arrays = {
            name: plane if isinstance(plane, np.ndarray) else plane.whole()
            for name, plane in self.planes.items()
        }
        return Images(**arrays, replaced=self.replaced)

    def replace_by_local_median(self, boxes):
        """Replace pixels by the median of their box, if boxes are given."""
        if boxes is None:
            return
        failed = replace_by_local_median(self.value, self.mask, boxes, self.sigma)
        if failed:
            msg = f"no usable neighbour, not replaced: pixels [X, Y] {failed}"
            warn_user(msg, LocalMedianWarning)

    def to_ccd(self, first, unit, keywords):
        """Return a CCDData with the header and WCS of the first exposure."""
        result = CCDData(
            self.value,
            unit=unit,
            mask=self.mask,
            meta=copy.deepcopy(first.meta),
            wcs=copy.deepcopy(first.wcs),
        )
        if self.sigma is not None:
            result.uncertainty = StdDevUncertainty(self.sigma, copy=False)
        result.meta.pop(CLEANED, None)
        result.meta.update(keywords)
        return result


def allocate(make, shape, dtype, *, sigma, number):
    """Return Images whose planes ``make(shape, dtype)`` provides."""
    return Images(
        make(shape, dtype),
        make(shape, bool),
        make(shape, dtype) if sigma else None,
        make(shape, np.int16) if number else None,
    )


# Values of a stack in each thread: more do not fit into the cache, with fewer the
# threads wait for each other. With more threads memory is the limit.
VALUES_AT_ONCE = 1 << 19
THREADS = 4


@dataclass(frozen=True)
class RowStack:
    """
    Some rows of the exposures and of all planes that belong to them.

    ``data`` and ``bad`` (True = masked, clipped or not finite) are (n, rows, nx),
    ``masks`` those of the method by name, (rows, nx) or (n, rows, nx). ``sigmas`` are
    the arrays of the uncertainties of the exposures, ``lamedian`` (rows, nx),
    ``weights`` (n,) or (n, rows, nx), ``flagged`` the masks of each exposure
    (n, rows, nx) and ``expected`` the `ExpectedRows`; each of them may be None.
    ``ccd`` are maps (rows, nx) of gain and read noise by the name of their extension,
    ``variances`` those of sigmas (NaN = unknown).
    """

    data: np.ndarray
    bad: np.ndarray
    masks: dict
    sigmas: Any = None
    weights: np.ndarray | None = None
    lamedian: np.ndarray | None = None
    flagged: np.ndarray | None = None
    expected: Any = None
    ccd: dict = field(default_factory=dict)
    variances: Any = None

    def informed(self, kinds, unit):
        """Return the stack with the variances of its uncertainties, if these count."""
        if kinds is None:
            return self
        planes = zip(self.data, map(np.asarray, self.sigmas), kinds, strict=True)
        found = [known_variance(*plane, *kind, unit) for *plane, kind in planes]
        variances, nothing = zip(*found, strict=True)
        return replace(self, bad=self.bad | np.array(nothing), variances=variances)

    def clipped(self, settings):
        """Return the stack with values that are clipped, after scaling, set bad."""
        if not settings.clips:
            return self
        data = _scaled(self.data, settings)
        rejected = reject(data, self.bad, self.flagged, settings.clips)
        expected = self.expected
        if expected is not None:  # the mean of clean values would bring it back
            pixels = (rejected & ~self.flagged).any(axis=0)
            expected = expected.without(np.broadcast_to(pixels, rejected.shape))
        return replace(self, bad=self.bad | rejected, expected=expected)


@dataclass(frozen=True)
class ImagePlanes:
    """
    All planes of an image, or of a tile of it, unchanged.

    ``exposures`` are data, mask and sigma of each exposure, (ny, nx) each; mask and
    sigma may be None. ``masks`` are those of the method by name.
    """

    exposures: list
    masks: dict
    weights: np.ndarray | None = None
    lamedian: np.ndarray | None = None

    @property
    def shape(self):
        """Shape of the image, (ny, nx)."""
        return tuple(self.exposures[0][0].shape)

    def stack(self, rows, dtype):
        """Return the `RowStack` of a slice of rows."""
        height = len(range(*rows.indices(self.shape[0])))
        data = np.empty((len(self.exposures), height, self.shape[1]), dtype)
        bad = np.zeros(data.shape, dtype=bool)
        with np.errstate(over="ignore"):  # beyond float32 is not finite either
            for i, (values, mask, _) in enumerate(self.exposures):
                data[i] = values[rows]
                if mask is not None:
                    bad[i] = mask if np.ndim(mask) == 0 else mask[rows]
        bad |= ~np.isfinite(data)
        masks = cut_masks(self.masks, rows)
        flagged, expected = masks.pop("FLAGGED", None), masks.pop("EXPECTED", None)
        expected = None if expected is None else expected.without(bad)
        if "LOW" in masks:
            bad |= masks.pop("LOW")
        maps = (extension for _, extension in MAPS.values())
        ccd = {name: masks.pop(name) for name in maps if name in masks}
        return RowStack(
            data,
            bad,
            masks,
            [sigma if sigma is None else sigma[rows] for *_, sigma in self.exposures],
            cut_weights(self.weights, rows),
            None if self.lamedian is None else self.lamedian[rows],
            flagged,
            expected,
            ccd,
        )


def cut_weights(weights, rows):
    """Return the weights of some rows: (n,) as they are, (n, ny, nx) cut."""
    return weights[:, rows] if getattr(weights, "ndim", 0) > 1 else weights


def combine_rows(stack, settings, *, number=False):
    """Return Images (rows, nx) of a `RowStack`, if asked with the number used."""
    function, _ = METHODS[settings.method]
    stack = stack.informed(settings.kinds, settings.unit)
    stack = stack.clipped(settings)
    masks = {n: m.reshape(*m.shape[:-2], -1) for n, m in stack.masks.items()}
    flat = _flat(stack, settings)
    combined = function(flat, masks)
    numbers = number_of_rows(stack, settings.method) if number else None
    if stack.expected is not None and stack.expected.value.size:
        index, filled = _fill(stack, flat, settings)
        masks = {name: mask[..., index] for name, mask in masks.items()}
        used, found = combine_filled(settings.method, filled, masks)
        combined.put(index[used], found)
        if number:
            numbers.ravel()[index[used]] = filled.number(settings.method)[used]
    images = _finish(combined, stack.bad)
    images.number = numbers
    return images


def _fill(stack, flat, settings):
    """Return the pixels with expected values, and `Filled` of them."""
    n, _, nx = stack.data.shape
    expected = stack.expected
    index, column = np.unique(expected.y * nx + expected.x, return_inverse=True)
    place = expected.exposure, column
    part = flat.at(index)
    factors = settings.factors
    scale = 1.0 if factors is None else factors[expected.exposure]
    part.data[place] = (expected.value - settings.offset) * scale
    sigmas = np.zeros(part.data.shape)
    sigmas[place] = expected.sigma * np.abs(scale)
    filled = np.zeros(part.data.shape, dtype=bool)
    filled[place] = True
    bad = np.zeros_like(filled) if part.bad is None else part.bad & ~filled
    flagged = stack.flagged.reshape(n, -1)[:, index] & ~bad
    clean = ~(flagged | bad)
    return index, Filled(replace(part, bad=~(clean | filled)), clean, flagged, sigmas)


def _scaled(data, settings):
    """Return data (n, rows, nx) without offset times factors, or as they are."""
    if settings.factors is None:
        return data
    scale = settings.factors.astype(data.dtype)[:, np.newaxis, np.newaxis]
    # Values of bad pixels may be anything.
    with np.errstate(over="ignore", invalid="ignore"):
        if settings.offset:
            data = data - data.dtype.type(settings.offset)
        return data * scale


def _flat(stack, settings):
    """Return a `RowStack` scaled and flattened to a `Stack` (n, pixels)."""
    data, n = _scaled(stack.data, settings), len(stack.data)
    noise = settings.variances(stack)
    noise = noise and [variance.ravel() for variance in noise]
    if settings.factors is not None:
        with np.errstate(over="ignore", invalid="ignore"):
            squares = [float(s) ** 2 for s in settings.factors]
            noise = noise and [v * s for v, s in zip(noise, squares, strict=True)]
    weights, substitute = stack.weights, None
    if weights is not None and weights.ndim > 1:
        weights = weights.reshape(n, -1)
    if settings.lamedian is not None:
        factor, power, offset = settings.lamedian
        if power:
            gain = stack.ccd["GAINMAP"]
            gain = gain.mean(axis=0) if gain.ndim == 3 else gain
            factor = gain ** np.float64(power)
        substitute = np.multiply(stack.lamedian, factor, dtype=np.float64) + offset
        substitute = substitute.ravel()
    bad = stack.bad.reshape(n, -1) if stack.bad.any() else None
    more = settings.scatter, substitute, settings.fluxes
    return Stack(data.reshape(n, -1), bad, weights, noise, *more)


def _finish(combined, bad):
    """Return Images of a `Combined`; NaN where bad (n, rows, nx) is set in all."""
    nogood = bad.all(axis=0)
    shape = nogood.shape
    value = combined.value.reshape(shape)
    sigma = combined.variance
    if sigma is not None:
        sigma = np.sqrt(sigma).reshape(shape)
    replaced = np.count_nonzero(combined.replaced)
    if nogood.any():
        replaced -= np.count_nonzero(combined.replaced & nogood.ravel())
        for image in filter(lambda image: image is not None, (value, sigma)):
            image[nogood] = np.nan
    return Images(value, nogood, sigma, replaced=replaced)


def number_of_rows(stack, method):
    """Return the number (rows, nx) of exposures of a `RowStack` that a method uses."""
    masks, bad, n = stack.masks, stack.bad, len(stack.bad)
    if "CRMASKS" in masks:
        unused = bad | masks["CRMASKS"]
        if stack.weights is not None:
            weights = stack.weights
            weights = weights if weights.ndim > 1 else weights.reshape(n, 1, 1)
            unused |= weights == 0
        number = count(unused, n)
        replaced = (number == 0) | masks.get("MEANCR", False)
    else:
        number = count(bad, n)
        replaced = masks[METHODS[method][1][0]]
    number[replaced] = 1
    number[bad.all(axis=0)] = 0
    return number


def combine_planes(planes, dtype, settings, *, number=False):
    """Return Images (ny, nx) of `ImagePlanes`, combined by bands in threads."""
    shape, dtype = planes.shape, np.dtype(dtype or float)
    images = allocate(
        np.empty, shape, dtype, sigma=settings.has_variance, number=number
    )

    def work(rows):
        part = combine_rows(planes.stack(rows, dtype), settings, number=number)
        images.put(rows, part)
        return part.replaced

    images.replaced = sum(in_threads(work, bands(planes), THREADS))
    return images


def bands(planes):
    """Return slices of rows whose stack fits into the cache."""
    return cut_bands(planes.shape, max(VALUES_AT_ONCE // len(planes.exposures), 1))
