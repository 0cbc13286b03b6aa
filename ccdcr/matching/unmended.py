# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Signs that exposures differ by more than matching mends: nods and patches."""

from dataclasses import dataclass

import numpy as np
from scipy import fft
from scipy.stats import poisson

from ccdcr.matching.clean_reference import lowest_others
from ccdcr.utils.neighbours import (
    bands_in_cache,
    box_sums,
    find_places,
    in_threads,
    running,
    with_halo,
)
from ccdcr.utils.scratch import in_turn, zeros

__all__ = [
    "Displacement",
    "Patches",
    "excess_on_structure",
    "find_displacement",
    "find_reasons",
    "measure_patches",
]

_BOX = 3  # pixels
_SIGMAS, _MISSING = np.float32(7.0), np.float32(0.75)  # of the signal
_BESIDE, _WING = 9, np.float32(0.2)  # pixels, and of the highest signal in these
_PIECE, _CELL = 16, 32  # pixels: a trace is cut into pieces, which are in cells
_LEAST_PIXELS, _ENOUGH = 4, 8_000  # of a piece, and of all pieces
_LARGEST = 1024  # pixels along a side of the images that are correlated
_CANDIDATES = 30  # shifts
_COVERED, _ALIKE = 0.5, 0.4  # of a piece that fits; logarithm of its brightness
_REACH, _NEAR = 8, 60  # pixels of small shifts, and how many of these are tried
_LEAST_CHANCE, _DRAWN = 0.002, 60  # of a piece to fit; shifts that tell it
_LEAST_PIECES, _LEAST_CELLS, _LEAST_SHARE = 6, 5, 0.05  # many pieces are of hits
_RARE, _RARE_ALONG = 1e-10, 1e-8  # chances; of shifts along an axis, as nods are
_ALONG = 3  # pixels across it


@dataclass(frozen=True)
class Displacement:
    """
    The same excess at two places: exposures (from 1), and the shift in pixels.

    Of ``number`` pieces of what is flagged in the ``first`` exposure only, ``fitting``
    ones are flagged in the ``second`` only, at (x + dx, y + dy).
    """

    first: int
    second: int
    dx: int
    dy: int
    fitting: int
    number: int

    def __str__(self):
        return (
            "the target is probably displaced in one of them, by a nod or a drift of "
            f"the field: {self.fitting} of {self.number} features that only exposure "
            f"{self.first} has are in exposure {self.second}, displaced by "
            f"({self.dx:+d}, {self.dy:+d}) pixels along x and y; register the "
            "exposures first, or detect in those of each position separately"
        )


def find_displacement(frames, reference, profile):
    """
    Return the most certain `Displacement` of successive exposures, or None.

    ``frames`` are not matched yet: matching adds a trace that is missing.
    ``profile`` (ny, nx) is the reference above the local background.
    """
    excess = _measure_excess(frames, reference, profile)

    def compare(i):
        first, second = excess[i : i + 2]
        pair = _without(first, second), _without(second, first)
        return _compare(*pair, frames.shape, i + 1)

    found = [compare(i) for i in in_turn(range(len(excess) - 1))]
    found = [displacement for displacement in found if displacement is not None]
    return max(found, key=lambda displacement: displacement.fitting, default=None)


def _measure_excess(frames, reference, profile):
    """
    Return flat places and values of excess over the lowest other, by exposure.

    It is that of 3 x 3 pixels, and left out where it is noise, where not most of the
    signal is missing in the others, or in wings: those of a trace that is wide in one
    exposure and displaced in the next look like a nod from one side to the other.
    """
    nx = frames.shape[1]

    def work(rows):
        wide, inside = with_halo(rows, _BESIDE // 2, frames.shape[0])
        stack, noise = frames.data[:, wide], frames.noise.at(wide)
        unused = None if frames.unused is None else frames.unused[:, wide]
        background, found = reference[wide] - profile[wide], []
        wing = running(np.maximum, profile[wide], _BESIDE) * (_WING * _BOX**2)
        for i, low in enumerate(lowest_others(stack, unused)):
            known = np.isfinite(low)
            if unused is not None:
                known &= ~unused[i]
            lower = np.where(known, low, stack[i])
            variance = noise.variance(lower, i) + noise.variance_of_others(lower, i)
            total = box_sums(stack[i] - lower, _BOX)
            height = box_sums(stack[i] - background, _BOX)
            least = np.maximum(_SIGMAS * _BOX * np.sqrt(variance), _MISSING * height)
            least = np.maximum(least, wing)
            place = np.flatnonzero(((total > least) & known)[inside])
            found.append((place + rows.start * nx, total[inside].ravel()[place]))
        return found

    parts = in_threads(work, bands_in_cache(frames.shape))
    return [
        tuple(map(np.concatenate, zip(*pairs, strict=True)))
        for pairs in zip(*parts, strict=True)
    ]


def _without(excess, other):
    """Return flat places and values of excess where another one has none."""
    if not len(other[0]):
        return excess
    alone = ~find_places(other[0], excess[0])[1]
    return tuple(part[alone] for part in excess)


def _compare(first, second, shape, number):
    """
    Return the `Displacement` between the excess of two exposures, or None.

    ``first`` and ``second`` are flat places and values in (ny, nx) of one only.
    """
    (y, x, piece), values = _pieces(*first, shape[1])
    if len(y) == 0 or not len(second[0]):
        return None
    pieces = (y, x), piece, np.bincount(piece), np.bincount(piece, values)
    weighted = y, x, 1 / pieces[2][piece]
    shifts = _likely_shifts(weighted, np.divmod(second[0], shape[1]), shape)
    place, values = second
    second = zeros(shape)
    second.ravel()[place] = values
    found = [_fit(pieces, second, *shift) for shift in shifts]
    best = int(np.argmax([score for score, *_ in found]))
    _, fits, whole = found[best]
    fitting = np.count_nonzero(fits)
    few = fitting < max(_LEAST_PIECES, _LEAST_SHARE * whole)
    if few or _count_cells(y, x, fits[piece]) < _LEAST_CELLS:
        return None
    chance = whole * max(_chance(pieces, second), _LEAST_CHANCE)
    dy, dx = shifts[best]
    rare = _RARE_ALONG if min(abs(dy), abs(dx)) <= _ALONG else _RARE
    if poisson.sf(fitting - 1, chance) > rare:
        return None
    return Displacement(number, number + 1, dx, dy, fitting, whole)


def _fit(pieces, second, dy, dx):
    """Return how well pieces fit, which do, and how many are in the image."""
    (y, x), piece, size, total = pieces
    inside, value = _values(y + dy, x + dx, second)
    whole, covered, other = (
        np.bincount(piece, weights=weights, minlength=len(size))
        for weights in (inside, value > 0, value)
    )
    whole = whole == size
    alike = np.abs(np.log(np.maximum(other, 1e-9) / total)) < _ALIKE
    fits = whole & (covered >= _COVERED * size) & alike
    score = float((covered[fits] / size[fits]).sum())
    return score, fits, int(np.count_nonzero(whole))


def _count_cells(y, x, chosen):
    """Return in how many cells chosen pixels (m,) are: two tracks are in few."""
    return len(np.unique([y[chosen] // _CELL, x[chosen] // _CELL], axis=1).T)


def _chance(pieces, second):
    """Return the fraction of pieces that fit at a shift by chance."""
    rng = np.random.default_rng(0)
    half = np.array(second.shape) // 2
    found = [
        _fit(pieces, second, *rng.integers(-half, half + 1)) for _ in range(_DRAWN)
    ]
    fitting = sum(np.count_nonzero(fits) for _, fits, _ in found)
    return fitting / max(sum(whole for *_, whole in found), 1)


def _pieces(places, values, nx):
    """Return rows, columns and piece (m,) of flat places, some if many, and values."""
    y, x = np.divmod(places, nx)
    across = -(-nx // _PIECE)
    block = y // _PIECE * across + x // _PIECE
    numbers = np.bincount(block)
    wanted = np.flatnonzero(numbers >= _LEAST_PIXELS)
    wanted = wanted[:: -(-int(numbers[wanted].sum()) // _ENOUGH) or 1]
    label = np.full(len(numbers), -1)
    label[wanted] = np.arange(len(wanted))
    kept = label[block] >= 0
    return (y[kept], x[kept], label[block[kept]]), values[kept]


def _values(y, x, image):
    """Return which places are in the image, and its values there, 0 outside."""
    inside = (y >= 0) & (y < image.shape[0]) & (x >= 0) & (x < image.shape[1])
    values = np.zeros(len(y), dtype=image.dtype)
    values[inside] = image[y[inside], x[inside]]
    return inside, values


def _likely_shifts(weighted, pixels, shape):
    """Return shifts [dy, dx] at which weighted pixels overlap most with others."""
    y, x, weight = weighted
    step = max(-(-max(shape) // _LARGEST), 1)
    shape = tuple(-(-length // step) for length in shape)
    overlap = np.conj(fft.rfft2(_binned((y, x), weight, shape, step)))
    overlap *= fft.rfft2(_binned(pixels, 1, shape, step))
    overlap = fft.irfft2(overlap, shape)
    # Beyond the edge the correlation goes on at the other side.
    shifts = [
        (sy, sx)
        for a, b in _highest(overlap, -(-_CANDIDATES // step))
        for sy in (a, a - shape[0])
        for sx in (b, b - shape[1])
    ]
    reach = _REACH // step
    near = np.arange(-reach, reach + 1)
    small = overlap[np.ix_(near % shape[0], near % shape[1])]
    nearest = _highest(small, -(-_NEAR // step**2))
    shifts += [(a - reach, b - reach) for a, b in nearest]
    fine = range(-(step // 2), step // 2 + 1)
    return [
        (sy * step + a, sx * step + b) for sy, sx in shifts for a in fine for b in fine
    ]


def _highest(image, number):
    """Return the rows and columns of the highest pixels of an image."""
    number = min(number, image.size)
    least = np.partition(image.ravel(), -number)[-number]
    flat = np.flatnonzero(image >= least)[:number]
    return [tuple(map(int, np.unravel_index(k, image.shape))) for k in flat]


def _binned(pixels, weight, shape, step):
    """Return an image (ny, nx) of the sums of pixels in blocks of ``step`` pixels."""
    sums = np.zeros(shape, dtype=np.float32)
    np.add.at(sums, (pixels[0] // step, pixels[1] // step), weight)
    return sums


_PATCH, _FILLED = 9, 0.6  # pixels, and the part that no track of a cosmic ray fills
_LEAST_PATCHES, _LEAST_FRACTION, _LEAST_OF_ALL = 100, 0.002, 0.15
_MOST = 1.2  # times its share


@dataclass(frozen=True)
class Patches:
    """
    Flagged pixels in patches that are too large for cosmic rays.

    ``fractions`` (n,) are those of the exposures, ``flagged`` (n,) the fractions of all
    flagged pixels; ``large`` (n,) tells where there are too many.
    """

    fractions: np.ndarray
    flagged: np.ndarray
    large: np.ndarray

    def __str__(self):
        names = ", ".join(
            f"{self.fractions[i]:.1%} of exposure {i + 1}"
            for i in np.flatnonzero(self.large)
        )
        share = self.flagged / self.flagged.sum()
        worst = int(np.argmax(share))
        text = f"patches too large for cosmic rays are flagged, {names}"
        if share[worst] * len(share) > _MOST:
            text += f"; exposure {worst + 1} has {share[worst]:.0%} of all that is"
        return (
            f"{text}: scale the exposures by what they show or subtract their sky "
            "first, check that they show the same field, and leave out one that differs"
        )


def measure_patches(masks, low=None, known=None):
    """Return the `Patches` of masks and low values, but for known ones (n, ny, nx)."""
    fractions, flagged = np.zeros((2, len(masks)))
    least = _LEAST_PATCHES / masks[0].size
    for i, plane in enumerate(masks):
        mask = plane if known is None else plane & ~known[i]
        mask = mask if low is None else mask | low[i]
        flagged[i] = np.count_nonzero(mask) / mask.size
        if flagged[i] < least:
            continue
        fractions[i] = _count_filled(mask) / mask.size
    large = fractions >= max(least, _LEAST_FRACTION)
    large &= fractions > _LEAST_OF_ALL * flagged
    return Patches(fractions, flagged, large)


def _count_filled(mask):
    """Return the number of pixels of a mask (ny, nx) in patches that it fills."""

    def work(rows):
        wide, inside = with_halo(rows, _PATCH // 2, len(mask))
        number = box_sums(mask[wide].astype(np.uint8), _PATCH, mode="constant")
        return np.count_nonzero(mask[rows] & (number[inside] > _FILLED * _PATCH**2))

    return sum(in_threads(work, bands_in_cache(mask.shape)))


def find_reasons(frames, matched, masks, places=None, point_like=None):
    """
    Return why matching is not enough, a list of text with remedies; or empty.

    ``frames`` are not matched yet, ``matched`` are the same `Matched`, and ``masks``
    (n, ny, nx) are what is flagged after matching, but for what is ``point_like``.
    ``places`` (n, 2) is where the detector was, x and y, if exposures were aligned: its
    defects are displaced.
    """
    displacement = find_displacement(frames, matched.reference, matched.profile)
    if displacement is not None:
        hot, dead = _moved_with_detector(displacement, places)
        if not hot.all():
            return [_DEAD if dead.any() else str(displacement)]
    patches = measure_patches(masks, matched.frames.low, point_like)
    return [str(patches)] if patches.large.any() else []


_DEAD = (
    "dead columns or rows of the detector are at another place in each of the aligned "
    "exposures: mask them in the original exposures, and align these"
)


def _moved_with_detector(displacement, places):
    """Return whether x and y are displaced as bright, or as dead pixels are, (2, 2)."""
    if places is None:
        return np.zeros((2, 2), dtype=bool)
    moved = places[displacement.second - 1] - places[displacement.first - 1]
    # Where one is dead, the other exceeds it.
    distance = np.outer([1, -1], moved) - [displacement.dx, displacement.dy]
    near = np.abs(distance) <= 1
    near[1] &= np.abs(moved) > 1
    return near


_AREA, _NUMBER, _FLAGS = 16, 20, 16  # pixels of areas and, twice, of a hit; squared


def excess_on_structure(flagged, structure, times=1):
    """
    Return by how many sigmas more of structure (ny, nx) is flagged, (n,).

    ``flagged`` are the flat indices of flagged pixels of each exposure. There are more
    than ``times`` the flags elsewhere in the exposure explain, and than the median of
    the other exposures on structure. Flags come in groups: those of areas scatter so
    much.
    """
    size = np.count_nonzero(structure)
    ratio = size / max(structure.size - size, 1)
    across = -(-structure.shape[1] // _AREA)
    number, excess = np.zeros((2, len(flagged)))
    for i, place in enumerate(flagged):
        inside = structure.ravel()[place]
        y, x = np.divmod(place[~inside], structure.shape[1])
        areas = times * np.bincount(y // _AREA * across + x // _AREA)
        number[i] = np.count_nonzero(inside)
        variance = ratio * (1 + ratio) * np.square(areas).sum() + _FLAGS
        excess[i] = (number[i] - ratio * areas.sum()) / np.sqrt(variance)
    for i, value in enumerate(number):
        other = np.median(np.delete(number, i))
        excess[i] = min(excess[i], (value - other) / np.sqrt(_NUMBER * other + _FLAGS))
    return excess
