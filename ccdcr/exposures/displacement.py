# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Displacement of an image against another, by their structure."""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import fft, ndimage

from ccdcr.utils.neighbours import running

__all__ = [
    "find_start",
    "measure_displacement",
    "model_displacements",
    "move_corners",
    "places_in_common",
]

_MOST = 0.5  # of the sides: largest offset
_TILE, _MOST_TILES = 32, 16  # pixels, and tiles along a side
_REACH, _SPAN = 12, 10  # pixels that tiles and corners may be displaced
_ALIKE, _CLEAR, _APART = 0.4, 1.3, 4  # correlation; times other peaks, pixels
_STEPS, _STRAY = 4, 3.0
_LEAST_TILES, _TILES_OF_TERM = 2, 3
_COMMON = 0.3
_FEATURES, _STRONG = 0.35, 0.02  # slopes along a trace, of those of noise and across
_BETTER, _MUCH_BETTER, _UNLIKE = 0.9, 0.75, 0.75  # of the difference of two images
_ROUND = 0.6  # squared slopes along, of those across
_FAR = 1.5  # pixels
_LEAST_COMMON, _PART = 50, 0.1  # pixels with structure in both, and of that in either
_MUCH, _SHARED = 500, 0.25  # pixels with structure, and the part that both have
_SLOPE = 0.1  # of a trace against an axis
_ENOUGH, _POINTS = 1_000_000, 40_000  # pixels
_PRIOR = 3.0  # pixels at a corner
_ACCURATE, _SURE = 0.15, 4.0  # pixels, and errors


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


def measure_displacement(first, second, matters):
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
    terms, error = np.zeros(4), np.zeros(4)
    start = _find_rotation(first, second, offset, (tiles, model))
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
    corners = move_corners(first.shape) @ (terms * turned)[2:]
    errors = np.where([np.isfinite(offset), turned[2:]], error.reshape(2, 2), 0)
    return offset, np.nan_to_num(offset) + corners, errors.max(axis=1)


def _tiles_and_model(shape):
    """Return `_Tiles` of an image, and the model (t, 2, 4) at their centres."""
    tiles = _Tiles.from_shape(shape)
    return tiles, model_displacements(
        tiles.starts + (np.array(tiles.size) - 1) / 2, shape
    )


def _measure_across(first, second, start, across):
    """Return offset, corners and errors of a trace, which tells nothing along it."""
    tiles, model = _tiles_and_model(first.shape)
    basis = np.stack([model[..., :2] @ across, model[..., 3]], axis=-1)
    terms = np.array([start @ across, 0.0])
    terms, error = _iterate(first, second, terms, tiles, basis)
    if not error[0] < np.maximum(_ACCURATE, abs(terms[0]) / 10):
        return np.full(2, np.nan), np.zeros((4, 2)), np.zeros(2)
    turned = abs(terms[1]) > _SURE * error[1]
    corners = move_corners(first.shape)[..., 1] * (terms[1] * turned)
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
    if along @ own @ along > _ROUND * (across @ own @ across):
        return offset, None  # of stars, even if few are in both
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


def move_corners(shape):
    """Return what scale and rotation do to the corners of an image, (4, 2, 2)."""
    places = np.array([(y, x) for y in (0, shape[0] - 1) for x in (0, shape[1] - 1)])
    return model_displacements(places, shape)[..., 2:]


def model_displacements(places, shape):
    """Return what offset, scale and rotation do (t, 2, 4) at places (t, 2), y and x."""
    middle = (np.array(shape) - 1) / 2
    y, x = ((places - middle) / np.hypot(*middle)).T
    one, zero = np.ones_like(x), np.zeros_like(x)
    return np.stack([[one, zero, x, -y], [zero, one, y, x]]).transpose(2, 0, 1)


def find_start(first, second):
    """Return the terms (4,), offset and rotation, at which images agree best."""
    offset = _find_offset(first, second) or (0, 0)
    return _find_rotation(first, second, offset, _tiles_and_model(first.shape), 1)


def _find_rotation(first, second, offset, grid, clear=_CLEAR):
    """Return the terms (4,) with the rotation at which tiles agree best."""
    (tiles, model), terms = grid, np.array([*offset, 0.0, 0.0])
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
                    score /= clear
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


def places_in_common(first, second, offset, binning):
    """
    Return y and x of pixels, some of many, with structure in both binned images.

    They are those of the first alone if the offset is None.
    """
    both = first > _COMMON
    if offset is not None:
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
