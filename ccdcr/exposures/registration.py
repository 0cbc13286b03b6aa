# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Registration of exposures: their positions and what rotation and scale add."""

from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
from scipy import ndimage

from ccdcr.exposures.displacement import (
    find_start,
    measure_displacement,
    model_displacements,
    move_corners,
    places_in_common,
)
from ccdcr.utils.neighbours import (
    bands_in_cache,
    box_sums,
    in_threads,
    pixels_of,
    running,
    with_halo,
)
from ccdcr.utils.scratch import empty, keep
from ccdcr.utils.stacks import median

__all__ = ["Registration", "measure_registration"]

_WINDOW, _SMOOTH, _EDGE = 25, 0.7, 0.7
_FAINT, _LINEAR = 3.5, 3.0  # of the median deviation
_HIGH, _UNEQUAL = 99.0, 1.5  # percentile; ratio of noise relative to the structure
_LEAST = 32  # pixels along a side that tell a position
_SAMPLE = 7  # pixels between those of a median
_LARGE, _BINNED = 600, 2  # larger images are binned
_BOX, _REACHED = 5, 6  # pixels that replace a bad one, and that filters reach
_RUN, _WIDEST, _SHARP = 16, 4, 0.85  # pixels along and across a bad column
_IN_ROWS = 0.65  # of the rows of a run
_TRAIL, _STRAIGHT, _OBLIQUE = 15, 0.75, 0.1  # pixels; sine of twice the slope
# Structure, and parts of it.
_HIGHER, _LEAST_TRAIL, _MOST_LINES, _LEAST_REST = 0.3, 0.15, 0.4, 0.25
_MATTERS = 0.3  # pixels
_SURE, _SURE_TURN = 0.1, 2.0  # pixels, and errors
_ALONG = 0.3  # squared slopes along an axis, of those across: more than of a trace
_ROUNDS, _LEAST_POINTS, _STRAY = 7, 40, 1.5  # that refine offsets; pixels
_SOFT = (1.0, 0.5, 0.3, 0.2, 0.1, 0.05)  # pixels of error that do not look like hits
_UNLIKE_FLUX, _BLOCK = 0.05, 8  # of the signal; pixels
_AGREE, _BETTER = 0.4, 1.3  # of the pixels; times those without a displacement
_SURELY = 0.6  # of the pixels
_NEAR = 2  # pixels by which structure in both may be displaced
_LEFT = 0.8  # pixels: half a pixel along x and y, and a margin
_MOST_SHIFT, _MOST_CORNER, _MARGIN = 0.5, 0.6, 1.5  # pixels, and errors
_DOUBT = 2.0  # of the margins of errors


@dataclass(frozen=True)
class Registration:
    """
    Positions of the scene in exposures, relative to exposure 1.

    ``offsets`` (n, 2) are x and y in pixels, NaN along an axis without structure.
    ``corners`` (n, 4, 2) are the displacements of the corners of the image, without
    rotation and scale where these are not known. ``errors`` (n, 2) are those of the
    offsets and of the displacements by rotation and scale.
    """

    offsets: np.ndarray
    corners: np.ndarray
    errors: np.ndarray

    @property
    def shifts(self):
        """Offsets (n, 2) relative to the mean position, 0 along unknown axes."""
        return _from_mean(self.offsets)

    @property
    def distortion(self):
        """The displacements of the corners (n,) beside the shift, in pixels."""
        return np.hypot(*np.moveaxis(self._turns, -1, 0)).max(axis=1)

    @property
    def turned(self):
        """Whether rotation or scale displaces corners of an exposure by too much."""
        return self.distortion.max() > _MOST_SHIFT

    @property
    def _turns(self):
        """What rotation and scale do to the corners, (n, 4, 2)."""
        return _from_mean(self.corners - np.nan_to_num(self.offsets)[:, np.newaxis])

    @property
    def registered(self):
        """Whether no exposure is displaced by more than matching mends."""
        return self._within(_MOST_SHIFT, _MOST_CORNER, self.errors)

    def is_fine(self, places=None):
        """Return `registered`; of aligned exposures fractions of pixels may be left."""
        if places is None:
            return self.registered
        return self._within(_LEFT, _LEFT, self.errors)

    @property
    def in_doubt(self):
        """Whether the errors leave open if the exposures are registered."""
        errors = self.errors.copy()
        errors[0] = errors[1:].mean(axis=0)  # those of the others are relative to it
        either = (
            self._within(_MOST_SHIFT, _MOST_CORNER, sign * _DOUBT * errors)
            for sign in (1, -1)
        )
        return len(set(either)) > 1

    def _within(self, most_shift, most_corner, errors):
        corners = self.shifts[:, np.newaxis] + self._turns
        corners = np.hypot(*np.moveaxis(corners, -1, 0)).max(axis=1)
        moved = np.hypot(*self.shifts.T) > most_shift + _MARGIN * errors[:, 0]
        turned = self.distortion > _MOST_SHIFT + errors[:, 1]
        both = np.copysign(np.hypot(*errors.T), errors[:, 0])
        either = corners > most_corner + 2 * both
        return not (moved | turned | either).any()

    def __str__(self):
        pairs = ", ".join(f"({dx:+.2f}, {dy:+.2f})" for dx, dy in self.shifts)
        text = f"exposures 1 to {len(self.shifts)} are shifted by {pairs} pixels along"
        text += " x and y from their mean position"
        if not self.turned:
            how = "align them with ccdcr.align_exposures first, by offsets measured"
            how += " along both axes"
            return f"{text}; {how}"
        return (
            f"{text}, and rotation or scale moves corners by "
            f"{self.distortion.max():.2f} pixels more; "
            "detect in exposures of the same orientation and scale only"
        )


@dataclass(frozen=True)
class _Smooth:
    """
    An image (ny, nx) smoothed, without its level, where it is ``known``, 0 to 1.

    ``noise`` is its median deviation, ``height`` that of its highest pixels, and
    ``structure`` (ny, nx) its compressed structure. ``defects`` are those of the image
    by runs of rows and of columns.
    """

    image: np.ndarray
    known: np.ndarray
    noise: np.float32
    height: np.float32
    window: int
    structure: np.ndarray
    defects: tuple

    def alike(self, other):
        """Return the structure (ny, nx), compressed as that of another image is."""
        noise = other.noise / other.height * self.height
        if noise < _UNEQUAL * self.noise:
            return self.structure
        return _compress(self.image, self.known, noise, self.window)

    def without(self, mask):
        """Return the same without the pixels of a mask (ny, nx)."""
        known = self.known * ~mask
        structure = _compress(self.image, known, self.noise, self.window)
        height = _find_height(self.image[known > 0][::_SAMPLE], 0, self.noise)
        planes = {"known": keep(known), "structure": keep(structure)}
        return replace(self, height=height, **planes)


@dataclass(frozen=True)
class _Good:
    """An image (ny, nx), where all around is ``known``, and its ``noise``."""

    image: np.ndarray
    known: np.ndarray
    noise: float

    @classmethod
    def from_image(cls, image, bad, defects):
        """Return that of an image without bad pixels and thin defects."""
        bad = _with_defects(bad, defects, image.shape)
        level = np.float32(_median_of_good(image, bad) or 0)
        good = np.subtract(image, level, dtype=np.float32)
        good[bad] = 0
        noise = 1.48 * np.median(np.abs(good.ravel()[::_SAMPLE]))
        known = running(np.minimum, (~bad).view(np.uint8), 5).view(bool)
        return cls(good, known, max(noise, 1e-9))

    def at(self, y, x):
        """Return smooth values at places, whether known, and slopes along x and y."""
        ny, nx = self.known.shape
        known = (y > 2) & (y < ny - 3) & (x > 2) & (x < nx - 3)
        index = (np.rint(v[known]).astype(int) for v in (y, x))
        known[known] = self.known[tuple(index)]
        # A spline that only smooths does so in the same way at any fraction.
        right, left, above, below = (
            ndimage.map_coordinates(
                self.image, (y + dy, x + dx), order=3, prefilter=False
            )
            for dx, dy in ((0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5))
        )
        slopes = np.stack([right - left, above - below], axis=-1)
        return (right + left + above + below) / 4, known, slopes


def _from_mean(values):
    """Return values (n, ...) minus their mean, 0 where they are not known."""
    known = np.isfinite(values)
    mean = np.nan_to_num(values).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.where(known, values - mean, 0.0)


def measure_registration(stack, bad=None, *, refine=False):
    """
    Return the `Registration` of exposures (n, ny, nx), or a sequence of them.

    ``bad`` (n, ny, nx) are ignored pixels, True = bad, or None. Offsets are more
    accurate if ``refine``, or unless the exposures are surely registered.
    """
    shape = stack[0].shape  # the whole stack may be in files
    if min(shape) < _LEAST:
        unknown = np.full((len(stack), 2), np.nan)
        return Registration(
            unknown, np.zeros((len(stack), 4, 2)), np.zeros((len(stack), 2))
        )

    binning = _BINNED if max(shape) > _LARGE else 1

    def prepare(i):
        return _features(stack[i], None if bad is None else bad[i], binning)

    def measure(i):
        pair = images[0].alike(images[i]), images[i].alike(images[0])
        found = [v * binning for v in measure_displacement(*pair, _MATTERS / binning)]
        return improve(i, found) if refine or np.isnan(found[0]).all() else found

    def improve(i, found):
        pair = images[0].alike(images[i]), images[i].alike(images[0])
        return _refine(first, partial(good, i), pair, found, binning)

    @lru_cache(maxsize=1)
    def first():
        return good(0)

    def good(i):
        unused = None if bad is None else bad[i]
        return _Good.from_image(stack[i], unused, images[i].defects)

    def collect(pairs):
        itself = np.zeros(2), np.zeros((4, 2)), np.zeros(2)
        return Registration(*map(np.array, zip(itself, *pairs, strict=True)))

    images = _without_trails(in_threads(prepare, range(len(stack)), most=2))
    others = range(1, len(stack))
    pairs = in_threads(measure, others, most=2)
    registration = collect(pairs)
    doubt = registration.in_doubt
    if refine or (registration.registered and not doubt):
        return registration
    finer = collect(in_threads(lambda i: improve(i, pairs[i - 1]), others, most=2))
    alike = not finer.registered and finer.turned == registration.turned
    return finer if doubt or alike else registration


def _features(image, bad, binning):
    """Return the `_Smooth` image, binned, without thin defects."""
    defects = _thin_defects(image, bad)
    bad = _with_defects(bad, defects, image.shape)
    smooth, known = _smooth(image, bad, binning)
    window = _WINDOW // binning | 1
    lowest = running(np.minimum, smooth, window)
    smooth -= box_sums(lowest, window) / np.float32(window**2)
    sample = smooth[known > 0][::_SAMPLE] if known.any() else np.zeros(1)
    middle = np.percentile(sample, 50).astype(np.float32)
    noise = np.float32(max(np.median(np.abs(sample - middle)), 1e-9))
    smooth -= middle
    height = _find_height(sample, middle, noise)
    structure = _compress(smooth, known, noise, window)
    smooth, known, structure = map(keep, (smooth, known, structure))
    return _Smooth(smooth, known, noise, height, window, structure, defects)


def _find_height(sample, middle, noise):
    """Return the height of the highest of some pixels (m,), at least the noise."""
    return max(np.percentile(sample, _HIGH).astype(np.float32) - middle, noise)


def _without_trails(images):
    """Return `_Smooth` images of stars without trails of satellites."""
    lines, shares = [], []
    for image in images:
        structure, (line, oblique) = image.structure > _HIGHER, _find_lines(image)
        trail = structure & line & oblique
        rest = structure & ~trail
        number = map(np.count_nonzero, (structure, trail, rest, rest & line))
        shares.append(list(number))
        lines.append(line & oblique)
    structure, trail, rest, straight = np.maximum(shares, 1).T
    # Stars are round, and spectra are not, from which no trace must be taken.
    none = trail < _LEAST_TRAIL * structure
    spectra = (straight > _MOST_LINES * rest) | (rest < _LEAST_REST * structure)
    if none.all() or spectra.any():
        return images
    return [image.without(line) for image, line in zip(images, lines, strict=True)]


def _find_lines(image):
    """Return pixels (ny, nx) with lines around them, and where along neither axis."""
    y, x = np.gradient(image.structure)
    planes = np.square(x) - np.square(y), 2 * x * y, np.square(x) + np.square(y)
    along, oblique, total = (box_sums(plane, _TRAIL) for plane in planes)
    line = np.hypot(along, oblique)
    return line > _STRAIGHT * total, np.abs(oblique) > _OBLIQUE * line


def _compress(image, known, noise, window):
    """Return the structure (ny, nx) of a smooth image, its logarithm where high."""
    # Images of one scene that are compressed differently are displaced.
    structure = np.maximum(image - _FAINT * noise, 0) / (_LINEAR * noise)
    structure = ndimage.gaussian_filter(np.log1p(structure) * known, _SMOOTH)
    return structure - ndimage.gaussian_filter(structure, window / 3)


def _filled_bands(image, bad, halo):
    """Yield bands of an image without bad pixels, where it is known, and the middle."""
    level = _median_of_good(image, bad)
    for rows in bands_in_cache(image.shape, longer=4, step=_RUN):
        wide, inside = with_halo(rows, halo + _BOX // 2, len(image))
        part = image[wide].astype(np.float32)
        yield *_filled(part, bad[wide], level), inside


def _median_of_good(image, bad):
    """Return the median of good pixels, None if there are none; 0 if all are good."""
    if not bad.any():
        return np.float32(0)
    good = image[~bad][::_SAMPLE]
    return np.median(good) if good.size else None


def _thin_defects(image, bad):
    """Return which runs of columns, and of rows (transposed), are defects."""
    bad = np.zeros(image.shape, dtype=bool) if bad is None else bad
    filled, rows, columns, start = empty(image.shape), [], [], 0
    for part, _, inside in _filled_bands(image, bad, 0):
        band = part[inside]
        filled[start : start + len(band)] = band
        if not rows or len(band) >= _RUN:
            rows.append(_medians_of_runs(band))
        columns.append(_medians_of_runs(band.T))
        start += len(band)
    rows, columns = np.concatenate(rows), np.concatenate(columns, axis=1)
    return _defects(rows, filled), _defects(columns, filled.T)


def _defects(medians, image):
    """Return which columns of runs of rows are defects, by medians (runs, nx)."""
    defect = _sharp_columns(medians)
    run, first = pixels_of(defect & ~np.pad(defect, ((0, 0), (1, 0)))[:, :-1])
    last = pixels_of(defect & ~np.pad(defect, ((0, 0), (0, 1)))[:, 1:])[1]
    # One of a trace that crosses the run is in few rows, and so is that of a hit.
    y = run[:, np.newaxis] * _RUN + np.arange(min(_RUN, len(image)))
    end = image.shape[1] - 1
    before = np.where(first > 0, first - 1, np.minimum(last + 1, end))
    after = np.where(last < end, last + 1, before)
    middle, *beside = (
        image[y, x[:, np.newaxis]] for x in ((first + last) // 2, before, after)
    )
    above, below = middle > np.maximum(*beside), middle < np.minimum(*beside)
    most = np.maximum(above.sum(axis=1), below.sum(axis=1))
    for k in np.flatnonzero(most < _IN_ROWS * y.shape[1]):
        defect[run[k], first[k] : last[k] + 1] = False
    return defect


def _with_defects(bad, defects, shape):
    """Return bad pixels (ny, nx), or None, and the defects by runs as pixels."""
    # An incomplete run at the end is as the one before it.
    y, x = (
        np.minimum(np.arange(length) // min(_RUN, length), len(defect) - 1)
        for length, defect in zip(shape, defects, strict=True)
    )
    pixels = defects[0][y] | defects[1][x].T
    return pixels if bad is None else bad | pixels


def _smooth(image, bad, binning):
    """Return a smooth image, binned, and where it is known, 0 to 1."""
    parts = []
    for part, known, inside in _filled_bands(image, bad, _REACHED):
        # Hits, hot pixels and bad columns are narrower than three pixels.
        smooth = running(np.maximum, running(np.minimum, part, 3), 3)
        if binning == 1:
            smooth = ndimage.gaussian_filter(smooth, _SMOOTH)
        planes = smooth[inside], known[inside]
        parts.append(map(_mean_of_blocks, planes) if binning > 1 else planes)
    return map(np.concatenate, zip(*parts, strict=True))


def _mean_of_blocks(image):
    """Return the means of 2 x 2 pixels, without an odd last row or column."""
    ny, nx = (length // 2 * 2 for length in image.shape)
    rows = image[0:ny:2, :nx] + image[1:ny:2, :nx]
    return (rows[:, 0::2] + rows[:, 1::2]) / 4


def _filled(image, bad, level):
    """Return an image (ny, nx) without bad pixels, and where it is known, 0 or 1."""
    known = np.ones_like(image)
    if not bad.any() or level is None:
        return image, known * (level is not None)
    image = np.where(bad, np.float32(0), image)
    number = box_sums((~bad).astype(np.float32), _BOX)
    near = number / np.float32(_BOX**2)
    local = box_sums(image, _BOX) / np.maximum(number, 1)
    local[near < 0.1] = level
    known[near < _EDGE] = 0
    return np.where(bad, local, image), known


def _medians_of_runs(image):
    """Return the medians (runs, nx) of 16 rows each."""
    height = min(_RUN, len(image))
    end = len(image) // height * height
    return median([image[k:end:height] for k in range(height)])


def _sharp_columns(rows):
    """Return pixels of columns in rows with edges sharper than any image has."""
    nx = rows.shape[1]
    # Photon noise along a bright trace is larger than that of the sky.
    noise = 1.48 * np.median(np.abs(np.diff(rows, axis=1)), axis=1, keepdims=True)
    noise = 6 * (np.maximum(noise, np.median(noise)) + 1e-9)
    middle = np.median(rows, axis=1, keepdims=True)
    defect = np.zeros(rows.shape, dtype=bool)
    for sign in (1, -1):
        edges = np.pad(sign * rows, ((0, 0), (2, 2)), "edge")
        lowest, highest = sign * rows, sign * rows
        for width in range(1, _WIDEST + 1):
            if width > 1:
                lowest = np.minimum(lowest[:, :-1], sign * rows[:, width - 1 :])
                highest = np.maximum(highest[:, :-1], sign * rows[:, width - 1 :])
            outer, inner = (
                (
                    edges[:, k : nx - width + 1 + k],
                    edges[:, width + 3 - k :][:, : nx - width + 1],
                )
                for k in (0, 1)
            )
            step = lowest - np.maximum(*inner)
            # Two columns may be unequal: no image is so sharp on both sides of two.
            top = lowest if width <= 2 else highest
            sharp = step > _SHARP * (top - np.minimum(*outer))
            # Photon noise on a bright trace is small against its height.
            sharp &= step > np.maximum(noise, 0.3 * (top - sign * middle))
            for k in range(width):
                defect[:, k : k + sharp.shape[1]] |= sharp
    return defect


def _refine(first, second, structure, found, binning):
    """
    Return offset, corners and errors of a pair from the pixels themselves.

    Where ``found`` knows no offset, the likeliest one is refined. ``first`` and
    ``second`` return a `_Good` image each.
    """
    offset, corners, errors = found
    near = np.nan_to_num(offset) / binning
    if lost := np.isnan(offset).all():
        start = find_start(*structure)
        near = start[:2] if np.abs(start[2:]).max() <= _NEAR else None
    y, x = places_in_common(*structure, near, binning)
    first, second = first(), second()
    values, good, slopes = first.at(y.astype(float), x.astype(float))
    if np.count_nonzero(good) < _LEAST_POINTS:
        return found
    pixels = np.stack([y, x], axis=-1)[good], values[good], first.noise
    outer = move_corners(first.image.shape)
    if lost:
        errors = np.full(2, np.inf)
        start, alike = _fit_terms(pixels, second, binning * start, [0, 1, 2, 3])[::2]
        corners, offset = start[:2] + outer @ start[2:], start[:2]
        far = np.abs(corners).max() > _STRAY
        unmoved = _fit_terms(pixels, second, np.zeros(4), [])[2] if far else 0
        if alike < max(_AGREE, _BETTER * unmoved):
            return found
    known = np.isfinite(offset)
    start = np.append(np.nan_to_num(offset), (0, 0))
    turn = corners - start[:2]
    start[2:] = np.linalg.lstsq(outer.reshape(8, 2), turn.ravel(), rcond=None)[0]
    fitted, spread, alike = _fit_terms(pixels, second, start, [0, 1, 2, 3])
    least, most = np.linalg.eigvalsh(slopes[good].T @ slopes[good])
    known = known | ((spread[:2] < _SURE) & (least > _ALONG * most))
    if not known.all():
        start[2:], spread = 0, np.full(4, np.inf)
    else:
        start[2:] = 0
        if np.isfinite(spread).all():
            start[2:] = np.where(np.abs(fitted) > _SURE_TURN * spread, fitted, 0)[2:]
            turn = outer @ start[2:]
            errors = [errors[0], spread[2:].max()]
    axes = np.flatnonzero(known)
    if np.abs(turn).max() < _MOST_SHIFT:  # fewer terms are more accurate
        fitted, spread, alike = _fit_terms(pixels, second, start, axes)
    near = np.abs(fitted - start)[:2].max() < _STRAY or alike > _SURELY
    if near and np.isfinite(spread).all():
        offset = np.where(known, fitted[:2], np.nan)
        errors = [spread[axes].max(), errors[1]]
    if lost and not max(errors) < _MOST_SHIFT:
        return found
    return offset, np.nan_to_num(offset) + turn, np.array(errors)


def _fit_terms(pixels, second, start, used):
    """
    Return the terms (4,) that move pixels onto a second image, and their errors.

    Also return how many of the bright pixels agree then, 0 to 1.
    """
    points, values, noise = pixels
    model = model_displacements(points, second.image.shape)
    terms, flux, level = start.astype(float), 1.0, 0.0
    for k in range(_ROUNDS):
        dx, dy = (model @ terms).T
        other, known, slopes = second.at(points[:, 0] + dy, points[:, 1] + dx)
        if k == 0:
            bright = known & (other > 4 * second.noise) & (values > 4 * noise)
            if np.count_nonzero(bright) < _LEAST_POINTS // 4:
                return terms, np.full(4, np.inf), 0.0
            flux = np.median(values[bright] / other[bright])
        rest = values - flux * other - level
        soft = flux * _SOFT[min(k, len(_SOFT) - 1)] * np.hypot(*slopes.T)
        signal = np.minimum(values, np.maximum(flux * other, 0))
        variance = noise**2 + (flux * second.noise) ** 2 + soft**2
        variance += (_UNLIKE_FLUX * signal) ** 2
        # Hits and defects are far from the rest, also by any number of sigmas.
        with np.errstate(over="ignore"):
            agree = known / (1 + rest**2 / variance / 4) ** 2
        weight = agree / variance
        moved = flux * np.einsum("pi,pik->pk", slopes, model[..., used])
        basis = np.column_stack([moved, other, np.ones_like(other)])
        normal = basis.T @ (weight[:, np.newaxis] * basis)
        normal += np.diag(1e-9 * np.diag(normal) + 1e-12)
        step = np.linalg.solve(normal, basis.T @ (weight * rest))
        terms[used] += np.clip(step[: len(used)], -0.5, 0.5)
        flux, level = flux + step[-2], level + step[-1]
    # The rests of neighbours are not independent.
    block = points // _BLOCK @ (second.image.shape[1], 1)
    index = np.unique(block, return_inverse=True)[1]
    parts = np.array(
        [
            np.bincount(index, column)
            for column in (basis * (weight * rest)[:, np.newaxis]).T
        ]
    )
    inverse = np.linalg.inv(normal)
    error = np.zeros(4)
    error[used] = 2 * np.sqrt(np.diag(inverse @ parts @ parts.T @ inverse))[: len(used)]
    bright = values > 4 * noise
    number = len(np.unique(block[bright]))  # few of them agree with any terms
    error *= number / max(number - len(used) / 2, 1e-9)
    return terms, error, agree[bright].mean()
