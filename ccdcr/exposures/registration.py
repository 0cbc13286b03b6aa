# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Registration of exposures: their offsets and what rotation and scale add."""

from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import fft, ndimage

from ccdcr.utils.neighbours import (
    bands_in_cache,
    box_sums,
    in_threads,
    running,
    with_halo,
)
from ccdcr.utils.scratch import keep
from ccdcr.utils.stacks import median

__all__ = ["Registration", "measure_registration"]

_MOST = 0.5  # of the sides: largest offset
_WINDOW, _SMOOTH, _EDGE = 25, 0.7, 0.7
_FAINT, _LINEAR = 3.5, 3.0  # of the median deviation
_HIGH, _UNEQUAL = 99.0, 1.5  # percentile; ratio of noise relative to the structure
_LEAST = 32  # pixels along a side that tell a position
_SAMPLE = 7  # pixels between those of a median
_LARGE, _BINNED = 600, 2  # larger images are binned
_BOX, _REACHED = 5, 6  # pixels that replace a bad one, and that filters reach
_RUN, _WIDEST, _SHARP = 16, 4, 0.85  # pixels along and across a bad column
_TILE, _MOST_TILES = 32, 16  # pixels, and tiles along a side
_REACH, _SPAN = 12, 10  # pixels that tiles and corners may be displaced
_ALIKE, _CLEAR, _APART = 0.4, 1.3, 4  # correlation; times other peaks, pixels
_STEPS, _STRAY = 4, 3.0
_LEAST_TILES, _TILES_OF_TERM = 2, 3
_COMMON = 0.3
_FEATURES, _STRONG = 0.35, 0.02  # slopes along a trace, of those of noise and across
_BETTER, _MUCH_BETTER, _UNLIKE = 0.9, 0.75, 0.75  # of the difference of two images
_FAR = 1.5  # pixels
_LEAST_COMMON, _PART = 50, 0.1  # pixels with structure in both, and of that in either
_MUCH, _SHARED = 500, 0.25  # pixels with structure, and the part that both have
_SLOPE = 0.1  # of a trace against an axis
_MATTERS, _ENOUGH = 0.3, 1_000_000  # pixels
_PRIOR = 3.0  # pixels at a corner
_ACCURATE, _SURE = 0.15, 4.0  # pixels, and errors
_SURE_TURN = 2.0  # errors
_ROUNDS, _POINTS, _LEAST_POINTS = 7, 40_000, 40  # that refine offsets
_SOFT = (1.0, 0.5, 0.3, 0.2, 0.1, 0.05)  # pixels of error that do not look like hits
_UNLIKE_FLUX, _BLOCK = 0.05, 8  # of the signal; pixels
_LEFT = 0.8  # pixels: half a pixel along x and y, and a margin
_MOST_SHIFT, _MOST_CORNER, _MARGIN = 0.5, 0.6, 1.5  # pixels, and errors


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
    def _turns(self):
        """What rotation and scale do to the corners, (n, 4, 2)."""
        return _from_mean(self.corners - np.nan_to_num(self.offsets)[:, np.newaxis])

    @property
    def registered(self):
        """Whether no exposure is displaced by more than matching mends."""
        return self._within(_MOST_SHIFT, _MOST_CORNER)

    def is_fine(self, places=None):
        """Return `registered`; of aligned exposures fractions of pixels may be left."""
        return self.registered if places is None else self._within(_LEFT, _LEFT)

    def _within(self, most_shift, most_corner):
        corners = self.shifts[:, np.newaxis] + self._turns
        corners = np.hypot(*np.moveaxis(corners, -1, 0)).max(axis=1)
        moved = np.hypot(*self.shifts.T) > most_shift + _MARGIN * self.errors[:, 0]
        turned = self.distortion > _MOST_SHIFT + self.errors[:, 1]
        either = corners > most_corner + 2 * np.hypot(*self.errors.T)
        return not (moved | turned | either).any()

    def __str__(self):
        pairs = ", ".join(f"({dx:+.2f}, {dy:+.2f})" for dx, dy in self.shifts)
        text = f"exposures 1 to {len(self.shifts)} are shifted by {pairs} pixels along"
        text += " x and y from their mean position"
        turned = self.distortion.max()
        if turned <= _MOST_SHIFT:
            how = "align them with ccdcr.align_exposures first, by measured offsets"
            return f"{text}; {how}"
        return (
            f"{text}, and rotation or scale moves corners by {turned:.2f} pixels more; "
            "detect in exposures of the same orientation and scale only"
        )


@dataclass(frozen=True)
class _Tiles:
    """Tiles of a ``size`` (y, x) that begin at ``starts`` (t, 2), y and x."""

    starts: np.ndarray
    size: tuple

    @classmethod
    def from_shape(cls, shape):
        """Return tiles that cover an image."""
        numbers = [min(max(length // _TILE, 1), _MOST_TILES) for length in shape]
        size = tuple(n // k for n, k in zip(shape, numbers, strict=True))
        edges = [
            np.linspace(0, length - side, k).astype(int)
            for length, side, k in zip(shape, size, numbers, strict=True)
        ]
        return cls(
            np.stack(np.meshgrid(*edges, indexing="ij"), -1).reshape(-1, 2), size
        )

    def cut(self, image, starts):
        """Return the tiles (t, height, width) of an image that begin at ``starts``."""
        return sliding_window_view(image, self.size)[tuple(starts.T)]


@dataclass(frozen=True)
class _Smooth:
    """
    An image (ny, nx) smoothed, without its level, where it is ``known``, 0 to 1.

    ``noise`` is its median deviation, ``height`` that of its highest pixels, and
    ``structure`` (ny, nx) its compressed structure.
    """

    image: np.ndarray
    known: np.ndarray
    noise: np.float32
    height: np.float32
    window: int

    structure: np.ndarray

    def alike(self, other):
        """Return the structure (ny, nx), compressed as that of another image is."""
        noise = other.noise / other.height * self.height
        if noise < _UNEQUAL * self.noise:
            return self.structure
        return _compress(self.image, self.known, noise, self.window)


def _compress(image, known, noise, window):
    """Return the structure (ny, nx) of a smooth image, its logarithm where high."""
    # Images of one scene that are compressed differently are displaced.
    structure = np.maximum(image - _FAINT * noise, 0) / (_LINEAR * noise)
    structure = ndimage.gaussian_filter(np.log1p(structure) * known, _SMOOTH)
    return structure - ndimage.gaussian_filter(structure, window / 3)


def _from_mean(values):
    """Return values (n, ...) minus their mean, 0 where they are not known."""
    known = np.isfinite(values)
    mean = np.nan_to_num(values).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.where(known, values - mean, 0.0)


def measure_registration(stack, bad=None, *, refine=False):
    """
    Return the `Registration` of exposures (n, ny, nx).

    ``bad`` (n, ny, nx) are ignored pixels, True = bad, or None. If ``refine``, offsets
    are more accurate.
    """
    if min(np.shape(stack)[1:]) < _LEAST:
        unknown = np.full((len(stack), 2), np.nan)
        return Registration(
            unknown, np.zeros((len(stack), 4, 2)), np.zeros((len(stack), 2))
        )

    binning = _BINNED if max(np.shape(stack)[1:]) > _LARGE else 1

    def prepare(i):
        return _features(stack[i], None if bad is None else bad[i], binning)

    def measure(i):
        pair = images[0].alike(images[i]), images[i].alike(images[0])
        found = [v * binning for v in _measure_pair(*pair, _MATTERS / binning)]
        if refine or np.isnan(found[0]).all():
            found = _refine(first, partial(good, i), pair, found, binning)
        return found

    @lru_cache(maxsize=1)
    def first():
        return good(0)

    def good(i):
        return _Good.from_image(stack[i], None if bad is None else bad[i])

    images = in_threads(prepare, range(len(stack)), most=2)
    pairs = [(np.zeros(2), np.zeros((4, 2)), np.zeros(2))]
    pairs += in_threads(measure, range(1, len(stack)), most=2)
    return Registration(*map(np.array, zip(*pairs, strict=True)))


def _features(image, bad, binning):
    """Return the `_Smooth` image, binned, without thin defects."""
    bad = np.zeros(image.shape, dtype=bool) if bad is None else bad
    smooth, known = _smooth(image, bad | _thin_defects(image, bad), binning)
    window = _WINDOW // binning | 1
    lowest = running(np.minimum, smooth, window)
    smooth -= box_sums(lowest, window) / np.float32(window**2)
    sample = smooth[known > 0][::_SAMPLE] if known.any() else np.zeros(1)
    middle, highest = np.percentile(sample, (50, _HIGH)).astype(np.float32)
    noise = np.float32(max(np.median(np.abs(sample - middle)), 1e-9))
    smooth -= middle
    height = max(highest - middle, noise)
    structure = _compress(smooth, known, noise, window)
    smooth, known, structure = map(keep, (smooth, known, structure))
    return _Smooth(smooth, known, noise, height, window, structure)


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
    """Return pixels (ny, nx) of rows and columns that are defects."""
    bands = [image[inside] for image, _, inside in _filled_bands(image, bad, 0)]
    rows = np.concatenate([_medians_of_runs(band) for band in bands])
    columns = np.concatenate([_medians_of_runs(band.T) for band in bands], axis=1)
    defects = _sharp_columns(rows), _sharp_columns(columns)
    # An incomplete run at the end is as the one before it.
    y, x = (
        np.minimum(np.arange(length) // min(_RUN, length), len(defect) - 1)
        for length, defect in zip(image.shape, defects, strict=True)
    )
    return defects[0][y] | defects[1][x].T


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
            sharp = step > _SHARP * (highest - np.minimum(*outer))
            # Photon noise on a bright trace is small against its height.
            sharp &= step > np.maximum(noise, 0.3 * (highest - sign * middle))
            for k in range(width):
                defect[:, k : k + sharp.shape[1]] |= sharp
    return defect


def _measure_pair(first, second, matters):
    """
    Return offset (2,), displaced corners (4, 2) and errors (2,) of the second.

    A displacement that ``matters`` must make the images more alike than its opposite.
    """
    found = _find_displacement(first, second, _find_offset(first, second))
    offset, corners, errors = found
    known = np.isfinite(offset).any()
    shift = np.nan_to_num(offset)
    for moved, turned in ((corners, 1), (np.tile(shift, (4, 1)), 0)) if known else ():
        little = np.abs(moved).max() < matters
        if little or _is_more_alike(first, second, moved):
            return offset, moved, errors * [1, turned]
    # The images are not alike at any offset if one is rotated by several pixels.
    rotated = _measure_terms(first, second, (0, 0))
    if np.abs(rotated[1]).max() > _FAR and _is_more_alike(first, second, rotated[1]):
        return rotated
    if _differ(first, second):
        return found
    return np.full(2, np.nan), np.zeros((4, 2)), np.zeros(2)


def _differ(first, second):
    """Return whether images have much structure, but in other places."""
    both, either = _count_structure(first, second)
    return either > _MUCH and both < _SHARED * either


def _count_structure(first, second):
    """Return the numbers of pixels with structure in both images, and in either."""
    both, either = np.minimum(first, second), np.maximum(first, second)
    return np.count_nonzero(both > _COMMON), np.count_nonzero(either > _COMMON)


def _is_more_alike(first, second, corners):
    """Return whether images are more alike at a displacement than at the opposite."""
    step = max(round(first.size / _ENOUGH), 1)
    first = first[::step]
    y, x, dx, dy = _displacements(corners, second.shape, step)
    size = np.hypot(dx, dy)
    moved = [
        ndimage.map_coordinates(
            second, (y + sign * dy, x + sign * dx), order=1, cval=np.nan
        )
        for sign in (1, -1, 0)
    ]
    if not _have_common(first, np.nan_to_num(moved[0])):
        return False
    # What only one of them has are hits.
    common = np.nan_to_num(np.max(moved, axis=0), nan=-1)
    common = running(np.maximum, np.minimum(first, common), 5) > _COMMON
    common &= size > size.max() / 2
    rest = []
    for image in moved:
        used = common & np.isfinite(image)
        rest.append(1 - _correlation(first[used], image[used]))
    # Interpolation smooths, but for no displacement at all.
    least = _MUCH_BETTER * rest[2] if size.max() > _FAR else np.inf
    return rest[0] < min(_BETTER * rest[1], least, _UNLIKE)


def _have_common(first, second):
    """Return whether images have more structure in common than noise has by chance."""
    both, either = _count_structure(first, second)
    return both > max(_LEAST_COMMON, _PART * either)


def _displacements(corners, shape, step):
    """Return y, x and displacements along x and y of every ``step`` th row."""
    ny, nx = shape
    y, x = np.mgrid[0:ny:step, :nx].astype(np.float32)
    v, u = y / (ny - 1), x / (nx - 1)
    shares = [(1 - v) * (1 - u), (1 - v) * u, v * (1 - u), v * u]
    return y, x, *np.tensordot(corners.T, shares, axes=1)


def _find_displacement(first, second, start):
    """Return offset (2,), displaced corners (4, 2) and errors (2,) from a ``start``."""
    if start is None:
        return np.full(2, np.nan), np.zeros((4, 2)), np.zeros(2)
    start, across = _across_ridge(first, second, start)
    if across is not None:
        return _measure_across(first, second, start, across)
    return _measure_terms(first, second, start)


def _measure_terms(first, second, offset):
    """Return offset, corners and errors that fit best, near an offset (x, y)."""
    tiles, model = _tiles_and_model(first.shape)
    # Offset along x and y; scale and rotation, in pixels at a corner.
    terms, error = np.array([*offset, 0.0, 0.0]), np.zeros(4)
    start = _find_rotation(first, second, terms, tiles, model)
    # What the image does not tell would spoil the rest.
    for used in ([0, 1, 2, 3], [0, 1, 3], [0, 1]):
        found = _iterate(first, second, start[used], tiles, model[..., used])
        terms[:], error[:] = 0, 0
        terms[used], error[used] = found
        known = error < np.maximum(_ACCURATE, np.abs(terms) / _SURE)
        if known[2:].all():
            break
    size = np.abs(terms)
    turned = known & (size > _SURE * error)
    offset = np.where(error < np.maximum(_ACCURATE, size / 10), terms, np.nan)[:2]
    corners = _corners(first.shape) @ (terms * turned)[2:]
    errors = np.where([np.isfinite(offset), turned[2:]], error.reshape(2, 2), 0)
    return offset, np.nan_to_num(offset) + corners, errors.max(axis=1)


def _tiles_and_model(shape):
    """Return `_Tiles` of an image, and the model (t, 2, 4) at their centres."""
    tiles = _Tiles.from_shape(shape)
    return tiles, _model(tiles.starts + (np.array(tiles.size) - 1) / 2, shape)


def _measure_across(first, second, start, across):
    """Return offset, corners and errors of a trace, which tells nothing along it."""
    tiles, model = _tiles_and_model(first.shape)
    basis = np.stack([model[..., :2] @ across, model[..., 3]], axis=-1)
    terms = np.array([start @ across, 0.0])
    terms, error = _iterate(first, second, terms, tiles, basis)
    if not error[0] < np.maximum(_ACCURATE, abs(terms[0]) / 10):
        return np.full(2, np.nan), np.zeros((4, 2)), np.zeros(2)
    turned = abs(terms[1]) > _SURE * error[1]
    corners = _corners(first.shape)[..., 1] * (terms[1] * turned)
    offset = terms[0] * across
    axis = np.where(np.abs(across) > _SLOPE, offset, np.nan)
    return axis, offset + corners, error * [1, turned]


def _across_ridge(first, second, offset):
    """
    Return the offset (x, y), and the direction across a ridge or None.

    Along a trace without features the images are as alike at any other offset.
    """
    offset = np.array(offset, dtype=float)
    a, b = _overlap(first, second, offset)
    tensor, own, other = _tensors(a, b)
    values, vectors = np.linalg.eigh(tensor)
    along, across = vectors.T
    energy = np.sqrt((along @ own @ along) * (along @ other @ along))
    features = values[0] > max(_FEATURES * energy, _STRONG * values[1])
    if values[1] <= 0 or features:
        nearest = across * (offset @ across)
        if np.abs(offset - nearest).max() < 1 or values[1] <= 0:
            return offset, None
        rest, least = (1 - _likeness(first, second, o) for o in (nearest, offset))
        if least < _BETTER * rest:
            return offset, None
    return across * (offset @ across), across * np.sign(across[np.abs(across).argmax()])


def _overlap(first, second, offset):
    """Return the parts of two images that overlap at an offset (x, y), rounded."""
    here, there = [], []
    for step, length in zip(
        np.rint(offset).astype(int)[::-1], first.shape, strict=True
    ):
        number = max(length - abs(step), 0)
        here.append(slice(max(-step, 0), max(-step, 0) + number))
        there.append(slice(max(step, 0), max(step, 0) + number))
    return first[tuple(here)], second[tuple(there)]


def _likeness(first, second, offset):
    """Return the correlation coefficient at an offset (x, y) in whole pixels."""
    return _correlation(*_overlap(first, second, offset))


def _correlation(a, b):
    """Return the correlation coefficient of two arrays without their levels."""
    return np.vdot(a, b) / np.sqrt(max(np.vdot(a, a) * np.vdot(b, b), 1e-9))


def _tensors(a, b):
    """Return products (2, 2) of the slopes of two images, and of each with itself."""
    both = running(np.maximum, np.minimum(a, b), 5) > _COMMON
    (ay, ax), (by, bx) = (np.gradient(image) for image in (a, b))
    a, b = (np.stack([x[both], y[both]]) for x, y in ((ax, ay), (bx, by)))
    tensor = a @ b.T
    return (tensor + tensor.T) / 2, a @ a.T, b @ b.T


def _corners(shape):
    """Return what scale and rotation do to the corners of an image, (4, 2, 2)."""
    places = np.array([(y, x) for y in (0, shape[0] - 1) for x in (0, shape[1] - 1)])
    return _model(places, shape)[..., 2:]


def _model(places, shape):
    """Return what offset, scale and rotation do (t, 2, 4) at places (t, 2), y and x."""
    middle = (np.array(shape) - 1) / 2
    y, x = ((places - middle) / np.hypot(*middle)).T
    one, zero = np.ones_like(x), np.zeros_like(x)
    return np.stack([[one, zero, x, -y], [zero, one, y, x]]).transpose(2, 0, 1)


def _find_rotation(first, second, terms, tiles, model):
    """Return the terms (4,) with the rotation at which tiles agree best."""
    height, width = tiles.size
    size = [fft.next_fast_len(n + 2 * _REACH, real=True) for n in tiles.size]
    a, b = np.zeros((2, len(tiles.starts), *size), dtype=np.float32)
    a[:, :height, :width] = tiles.cut(first, tiles.starts)
    for t, (top, left) in enumerate(tiles.starts + terms[1::-1].astype(int)):
        part, (y, x) = _window(second, top, left, height, width)
        b[t, y : y + part.shape[0], x : x + part.shape[1]] = part
    product = np.conj(fft.rfft2(a)) * fft.rfft2(b)
    cc = fft.irfft2(product, size)[:, : 2 * _REACH + 1, : 2 * _REACH + 1]
    best, most = terms, -np.inf
    steps = np.arange(-_SPAN, _SPAN + 1)
    t = np.arange(len(tiles.starts))
    for turn in steps[np.argsort(np.abs(steps))]:
        x, y = np.rint(model[..., 3] * turn).astype(int).T
        # Sums for all small changes of the offset at once.
        for ox in range(-2, 3):
            for oy in range(-2, 3):
                score = cc[t, y + oy + _REACH, x + ox + _REACH].sum()
                if turn:  # few stars agree by chance at one of many angles
                    score /= _CLEAR
                if score > most:
                    best, most = np.add(terms, (ox, oy, 0, turn)), score
    return best


def _window(image, top, left, height, width):
    """Return a part of an image with a margin, and where it begins in it."""
    y, x = max(top - _REACH, 0), max(left - _REACH, 0)
    part = image[y : max(top + height + _REACH, 0), x : max(left + width + _REACH, 0)]
    return part, (y - top + _REACH, x - left + _REACH)


def _find_offset(first, second):
    """Return the offset (x, y) in whole pixels, None if the images are not alike."""
    cc, ky, kx = _correlate(first, second)
    y, x = np.unravel_index(np.argmax(cc), cc.shape)
    peak, dx, dy = cc[y, x], int(kx[x]), int(ky[y])
    alike = _likeness(first, second, (dx, dy)) > _ALIKE
    around = (slice(max(k - _APART, 0), k + _APART + 1) for k in (y, x))
    cc[tuple(around)] = 0
    return (dx, dy) if alike or peak > _CLEAR * cc.max() > 0 else None


def _correlate(first, second):
    """Return the correlation by offset, and the offsets along y and x."""
    most = [int(_MOST * length) for length in first.shape]
    size = [
        fft.next_fast_len(n + m, real=True)
        for n, m in zip(first.shape, most, strict=True)
    ]
    a, b = (fft.rfft2(image, size) for image in (first, second))
    cc = fft.irfft2(np.conj(a) * b, size)
    ky, kx = (np.arange(-m, m + 1) for m in most)
    cc = cc[np.ix_(ky, kx)]
    ny, nx = first.shape
    cc /= np.sqrt(np.outer(ny - np.abs(ky), nx - np.abs(kx)))
    return cc, ky, kx


def _iterate(first, second, terms, tiles, model):
    """Return the terms (k,) that a model (t, 2, k) has, refined, and their errors."""
    start = terms
    for _ in range(_STEPS):
        before, whole = terms, np.rint(model @ terms).astype(int)
        moved = tiles.starts + whole[:, ::-1]
        used = ((moved >= 0) & (moved + tiles.size <= first.shape)).all(axis=1)
        parts = tiles.cut(first, tiles.starts[used]), tiles.cut(second, moved[used])
        normal, right = _equations(*parts)
        right += np.einsum("tij,tj->ti", normal, whole[used])
        known = np.trace(normal, axis1=1, axis2=2) > 0
        # A few tiles agree with any rotation and scale.
        least = _LEAST_TILES + _TILES_OF_TERM * (len(terms) - 2)
        if np.count_nonzero(known) < least:
            return terms, np.full(len(terms), np.inf)
        terms, error = _solve(normal[known], right[known], model[used][known], terms)
        terms[:2] = np.clip(terms[:2], start[:2] - _STRAY, start[:2] + _STRAY)
        if np.abs(terms - before).max() < _ACCURATE / 10:
            break
    return terms, error


def _equations(a, b):
    """Return normal matrices (t, 2, 2) and right sides (t, 2) of the rest of shifts."""
    # Where only one has structure there is a hit.
    both = ndimage.maximum_filter(np.minimum(a, b), (1, 5, 5)) > _COMMON
    mean, rest = np.where(both, (a + b) / 2, 0), b - a
    share = _sums(mean, rest) / np.maximum(_sums(mean, mean), 1e-9)
    rest = np.where(both, rest - mean * share[:, np.newaxis, np.newaxis], 0)
    ay, ax = (both * g for g in np.gradient(a, axis=(1, 2)))
    by, bx = np.gradient(b, axis=(1, 2))
    xy = (_sums(ax, by) + _sums(bx, ay)) / 2
    normal = np.array([[_sums(ax, bx), xy], [xy, _sums(ay, by)]])
    right = np.array([_sums(ax + bx, rest), _sums(ay + by, rest)])
    return np.moveaxis(normal, -1, 0), -right.T / 2


def _sums(a, b):
    """Return the sums (t,) of the product of tiles (t, height, width)."""
    return np.einsum("tyx,tyx->t", a, b, dtype=np.float64)


def _solve(normal, right, model, terms):
    """Return the terms (k,) and their errors from equations of tiles."""
    size = np.trace(normal, axis1=1, axis2=2)
    prior = np.diag([0, 0, 1, 1][: len(terms)]) / _PRIOR**2
    for _ in range(5):
        rest = right - np.einsum("tij,tja,a->ti", normal, model, terms)
        chi = np.square(rest).sum(axis=1) / size
        noise = np.median(chi) + 1e-12
        weight = 1 / (1 + chi / (6 * noise))
        left = np.einsum("t,tia,tij,tjb->ab", weight, model, normal, model)
        left += noise * prior + np.eye(len(terms)) * 1e-6
        side = np.einsum("t,tia,ti->a", weight, model, right)
        terms = np.linalg.solve(left, side)
    inverse = np.linalg.inv(left)
    parts = np.einsum("t,tia,ti->ta", weight, model, rest)
    error = np.sqrt(np.abs(np.diag(inverse @ (parts.T @ parts) @ inverse)))
    return terms, error * len(model) / (len(model) - len(terms) / 2)


@dataclass(frozen=True)
class _Good:
    """An image (ny, nx), where all around is ``known``, and its ``noise``."""

    image: np.ndarray
    known: np.ndarray
    noise: float

    @classmethod
    def from_image(cls, image, bad):
        """Return that of an image without bad pixels and thin defects."""
        bad = np.zeros(image.shape, dtype=bool) if bad is None else bad
        bad = bad | _thin_defects(image, bad)
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


def _refine(first, second, structure, found, binning):
    """
    Return offset, corners and errors of a pair from the pixels themselves.

    Where ``found`` knows no offset, the roughest one is refined. ``first`` and
    ``second`` return a `_Good` image each.
    """
    offset, corners, errors = found
    if lost := np.isnan(offset).all():
        near = _find_offset(*structure)
        if near is None:
            return found
        offset, errors = binning * np.array(near, dtype=float), np.full(2, np.inf)
        corners = np.tile(offset, (4, 1))
    y, x = _places_in_common(*structure, np.nan_to_num(offset) / binning, binning)
    first, second = first(), second()
    values, good, _ = first.at(y.astype(float), x.astype(float))
    if np.count_nonzero(good) < _LEAST_POINTS:
        return found
    pixels = np.stack([y, x], axis=-1)[good], values[good], first.noise
    known = np.isfinite(offset)
    start = np.append(np.nan_to_num(offset), (0, 0))
    turn, spread = corners - start[:2], np.full(4, np.inf)
    if known.all():
        outer = _corners(first.image.shape)
        start[2:] = np.linalg.lstsq(outer.reshape(8, 2), turn.ravel(), rcond=None)[0]
        fitted, spread = _fit_terms(pixels, second, start, [0, 1, 2, 3])
        start[2:] = 0
        if np.isfinite(spread).all():
            start[2:] = np.where(np.abs(fitted) > _SURE_TURN * spread, fitted, 0)[2:]
            turn = outer @ start[2:]
            errors = [errors[0], spread[2:].max()]
    axes = np.flatnonzero(known)
    if np.abs(turn).max() < _MOST_SHIFT:  # fewer terms are more accurate
        fitted, spread = _fit_terms(pixels, second, start, axes)
    if np.isfinite(spread).all() and np.abs(fitted - start)[:2].max() < _STRAY / 2:
        offset = np.where(known, fitted[:2], np.nan)
        errors = [spread[axes].max(), errors[1]]
    if lost and not max(errors) < _MOST_SHIFT:
        return found
    return offset, np.nan_to_num(offset) + turn, np.array(errors)


def _places_in_common(first, second, offset, binning):
    """Return y and x of pixels, some of many, with structure in both binned images."""
    both = np.zeros(first.shape, dtype=bool)
    a, b = _overlap(first, second, offset)
    _overlap(both, both, offset)[0][...] = (
        running(np.maximum, np.minimum(a, b), 5) > _COMMON
    )
    y, x = np.nonzero(both)
    steps = np.arange(binning)
    y, x = (
        (
            binning * v[:, np.newaxis, np.newaxis]
            + step
            + np.zeros((1, binning, binning), int)
        ).ravel()
        for v, step in ((y, steps[:, np.newaxis]), (x, steps))
    )
    step = len(y) // _POINTS + 1
    return y[::step], x[::step]


def _fit_terms(pixels, second, start, used):
    """Return the terms (4,) that move pixels onto a second image, and their errors."""
    points, values, noise = pixels
    model = _model(points, second.image.shape)
    terms, flux, level = start.astype(float), 1.0, 0.0
    for k in range(_ROUNDS):
        dx, dy = (model @ terms).T
        other, known, slopes = second.at(points[:, 0] + dy, points[:, 1] + dx)
        if k == 0:
            bright = known & (other > 4 * second.noise) & (values > 4 * noise)
            if np.count_nonzero(bright) < _LEAST_POINTS // 2:
                return terms, np.full(4, np.inf)
            flux = np.median(values[bright] / other[bright])
        rest = values - flux * other - level
        soft = flux * _SOFT[min(k, len(_SOFT) - 1)] * np.hypot(*slopes.T)
        signal = np.minimum(values, np.maximum(flux * other, 0))
        variance = noise**2 + (flux * second.noise) ** 2 + soft**2
        variance += (_UNLIKE_FLUX * signal) ** 2
        # Hits and defects are far from the rest.
        weight = known / (variance * (1 + rest**2 / variance / 4) ** 2)
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
    return terms, error
