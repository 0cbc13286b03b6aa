# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Checks that exposures are those of a mask set, in its order."""

from dataclasses import dataclass

import numpy as np
from astropy.nddata import CCDData
from scipy.optimize import linear_sum_assignment

from ccdcr.exceptions import ForeignMasksWarning, ignored_warnings, warn_user
from ccdcr.exposures.align_exposures import find_places, read_alignment
from ccdcr.exposures.exposure_flags import CLEANED, replaced_plane
from ccdcr.exposures.open_exposures import Exposure, list_labels
from ccdcr.masks.mask_flags import only_hits
from ccdcr.utils.files import card_text
from ccdcr.utils.neighbours import label_groups
from ccdcr.utils.stacks import above_others

__all__ = ["alignment_remedy", "check_exposures", "check_order", "cleaned_names"]


def check_exposures(masks, ccds, names):
    """As `check_order`, and refuse exposures of another number or shape."""
    shape = ccds[0].shape
    if (len(ccds), *shape) != masks.crmasks.shape:
        msg = (
            f"ccds must be {len(masks)} exposures of shape {masks.shape}, as the "
            f"masks, got {len(ccds)} of shape {shape}{alignment_remedy(masks, shape)}"
        )
        raise ValueError(msg)
    return check_order(masks, ccds, names)


def alignment_remedy(masks, shape):
    """Return how exposures of a shape are aligned as the masks, '' if they are not."""
    places, size = read_alignment(masks.meta, len(masks))
    if places is None or tuple(shape) != size:
        return ""
    offsets = (places[0] - places).tolist()
    return f"; align them first, as the masks: align_exposures(ccds, {offsets})"


_LEAST_GROUPS, _ENOUGH = 12, 100  # of pixels that are hit in one exposure, each mask
_BAND, _SAMPLE, _LEAST_PIXELS = 64, 8192, 20
_ELSEWHERE = ((17, 5), (5, -23), (-11, 29), (-23, -13))  # where chance is measured
_CLEAR_HIT, _CHANCE = np.float32(4.0), 0.02  # sigma; groups where noise is above it
_REPLACED = np.float32(1e9)  # sigma, of hits in cleaned exposures
_TELLING = 0.1  # of the groups that are clearly the highest
_BY_CHANCE, _SURE, _CLEARLY = 2.5, 3.5, 0.25  # sigmas, sigmas, share of groups


def check_order(masks, exposures, names):
    """
    Refuse exposures in another order than the masks; warn of those of other masks.

    Masks (n, ny, nx) and exposures (CCDData or `Exposure`), aligned ones also as they
    were before, are read by rows, as far as needed: where one exposure alone is hit it
    must be the highest, or cleaned. The order is that of the names of files if all are
    known, or that of exposures that the masks have cleaned. Return whether it warned.
    """
    exposures = [
        Exposure.from_ccd(each) if isinstance(each, CCDData) else each
        for each in exposures
    ]
    if cleaned_names(masks) == [exposure.meta.get(CLEANED) for exposure in exposures]:
        return False
    names = list(names or [""] * len(masks))
    same = list(range(len(masks)))
    order = _known_order(masks, exposures, names)
    foreign = []
    if order in (None, same) and len(masks) > 1:
        frames = _Frames.of(masks, exposures)
        foreign = _foreign(masks, frames, same)
        if foreign and order is None:
            order = _order_of_pixels(masks, frames)
    if order not in (None, same):
        labels = [list_labels(names)[i] for i in order]
        msg = (
            f"the exposures are not in the order of the masks; the right order of what "
            f"was given is {', '.join(str(i + 1) for i in order)}: {', '.join(labels)}"
        )
        raise ValueError(msg)
    if foreign:
        warn_user(_describe_foreign(masks, names, foreign), ForeignMasksWarning)
    return bool(foreign)


def cleaned_names(masks):
    """Return what the headers of exposures that masks have cleaned hold."""
    return [f"{masks.uuid} {i}" for i in range(1, len(masks) + 1)]


def _known_order(masks, exposures, names):
    """Return the places of the exposures of each mask by what names them, or None."""
    numbers = range(1, len(masks) + 1)
    files = [masks.meta.get(f"FILE{i}") for i in numbers]
    for known, given in (
        (files, [card_text(name) for name in names]),
        (cleaned_names(masks), [exposure.meta.get(CLEANED) for exposure in exposures]),
    ):
        unique = None not in known and len(set(known)) == len(known)
        if unique and set(known) == set(given):
            return [given.index(name) for name in known]
    return None


def _describe_foreign(masks, names, foreign):
    """Return a text that names exposures that are not those of their masks."""
    if len(foreign) == len(masks):
        return (
            "the masks seem to be masks of other exposures: pixels that are flagged in "
            "one exposure only are not higher in it than in the others; detect again, "
            "or give the masks of these exposures"
        )
    labels = []
    for i in foreign:
        label = list_labels(names)[i]
        known = masks.meta.get(f"FILE{i + 1}")
        other = known and known != card_text(names[i])
        labels.append(f"{label} (they know {known})" if other else label)
    return (
        f"the masks seem to be those of another exposure than {' and '.join(labels)}: "
        "pixels that are flagged in it only are not higher in it than in the others; "
        "detect again, or give the exposures of these masks"
    )


@dataclass(frozen=True)
class _Frames:
    """
    Exposures that are read by rows, on their own grid or on that of aligned masks.

    ``starts`` (n, 2) are the first pixels x, y of each in the arrays that were given,
    ``places`` those on the grid (ny, nx) of the masks, ``size`` is (ny, nx) of each.
    """

    exposures: list
    starts: np.ndarray
    places: np.ndarray
    size: tuple
    shape: tuple

    @classmethod
    def of(cls, masks, exposures):
        """Return the frames of exposures that fit masks."""
        places, size = read_alignment(masks.meta, len(masks))
        if places is None or np.ptp(places, axis=0).max() == 0:
            places, size = np.zeros((len(masks), 2), int), masks.shape
        starts = np.zeros_like(places)
        if exposures[0].shape != size:
            found = find_places([exposure.meta or {} for exposure in exposures])
            starts = places if found is None else found
        return cls(exposures, starts, places, size, masks.shape)

    @property
    def dithered(self):
        """Whether frames have other places on the grid of the masks."""
        return self.size != self.shape

    def rows(self, i, start, stop):
        """Return rows of exposure i on its own grid, NaN where it is masked."""
        (x, y), (_, nx) = self.starts[i], self.size
        part = np.s_[y + start : y + stop], np.s_[x : x + nx]
        return self.exposures[i].good_rows(*part)

    @property
    def silent(self):
        """Which exposures (n,) are cleaned, without flags that tell where."""
        flags = (replaced_plane(e.flags) for e in self.exposures)
        pairs = zip(self.exposures, flags, strict=True)
        return np.array([CLEANED in e.meta and plane is None for e, plane in pairs])

    def replaced(self, i, start, stop):
        """Return rows of exposure i on its own grid, 1 where hits are replaced."""
        exposure, (x, y), (_, nx) = self.exposures[i], self.starts[i], self.size
        plane = replaced_plane(exposure.flags)
        if CLEANED not in exposure.meta or plane is None:
            return np.zeros((stop - start, nx))
        return np.asarray(plane[y + start : y + stop])[:, x : x + nx] & 1

    def aligned_rows(self, order, start, stop, read):
        """Return what ``read`` gives (n, rows, nx) on the grid of the masks, or NaN."""
        stack = np.full((len(order), stop - start, self.shape[1]), np.nan, np.float32)
        for plane, i, (x, y) in zip(stack, order, self.places, strict=True):
            first, last = max(start - y, 0), min(stop - y, self.size[0])
            if first < last:
                part = np.s_[first + y - start : last + y - start]
                plane[part, x : x + self.size[1]] = read(i, first, last)
        return stack


def _foreign(masks, frames, order):
    """Return which masks (a list) are not those of the exposures in an order."""
    highest, clearly, number = _shares(_count_aligned(masks, frames, order))
    number = np.diag(number)
    foreign = number >= _LEAST_GROUPS
    for share, chance in (highest, clearly):
        share, chance = np.diag(share), np.diag(chance)  # noqa: PLW2901
        sigma = np.sqrt(chance * (1 - chance) / np.maximum(number, 1))
        foreign &= share < chance + _BY_CHANCE * sigma
    # If those of the other masks are not clearly higher either, noise is flagged.
    others = ~foreign & (number > 0)
    if others.any() and np.median(share[others]) < _TELLING:
        return []
    return np.flatnonzero(foreign).tolist()


def _order_of_pixels(masks, frames):
    """Return the places of the exposures of each mask by pixels, None if not sure."""
    same = np.arange(len(masks))
    count = _count_own if frames.dithered else _count_aligned
    _, (share, chance), number = _shares(count(masks, frames, same))
    sigma = np.sqrt(chance * (1 - chance) / np.maximum(number, 1))
    sure = share > chance + np.maximum(_SURE * sigma, _CLEARLY)
    sure &= number >= _LEAST_GROUPS
    _, order = linear_sum_assignment(chance - share - 1e-3 * np.eye(len(same)))
    unsure = ~sure[same, order] & (order != same)
    # The last one is left over, if it may be that of its mask.
    if unsure.sum() > 1 or (unsure & (number[:, 0] >= _LEAST_GROUPS)).any():
        return None
    return None if _foreign(masks, frames, order) else order.tolist()


def _shares(counts):
    """
    Return shares of groups and by chance (n, n), and the number of groups (n, n).

    First of those where an exposure is the highest, then where it clearly is.
    """
    (*won, number), (*elsewhere, total) = counts
    number, n = number.astype(int), len(number)
    pairs = zip(won, elsewhere, (1 / n, _CHANCE), strict=True)
    shares = [
        (w / np.maximum(number, 1), (e + 4 * prior) / (total + 4))
        for w, e, prior in pairs
    ]
    return *shares, number


def _count_aligned(masks, frames, order):
    """Return counts of exposures above the median of the others, aligned."""

    def count(start, stop):
        bounds, part = (order, start, stop), masks[start:stop]
        stack = frames.aligned_rows(*bounds, frames.rows)
        clean = ~part.crmasks.any(axis=0) & (np.isfinite(stack).sum(axis=0) > 1)
        flat = stack.reshape(len(stack), -1)
        sample = _sample(clean)
        level, scale = _levels(flat[:, sample])

        def measure(place):
            return above_others((flat[:, place] - level) / scale)

        sigma = _scatter(measure(sample))
        replaced = frames.aligned_rows(*bounds, frames.replaced) == 1
        single = _single_hits(masks, part, start)
        single[frames.silent[order]] = False
        score = _with_replaced(lambda place: measure(place) / sigma, replaced)
        found = [_count_highest(i, hit, clean, score) for i, hit in enumerate(single)]
        return np.stack(found, axis=2)

    return _count_bands(count, masks.shape[0], len(masks))


def _count_own(masks, frames, _):
    """Return counts of exposures above their neighbours, each mask not aligned."""

    def count(start, stop):
        n, (_, nx) = len(masks), frames.size
        stack, replaced = (
            np.stack([read(i, start, stop) for i in range(n)])
            for read in (frames.rows, frames.replaced)
        )
        sigma = _scatter(_above_neighbours(stack, _sample(np.ones(stack[0].shape))))

        def measure(place):
            return _above_neighbours(stack, place) / sigma

        score, found = _with_replaced(measure, replaced == 1), []
        for i, (x, y) in enumerate(frames.places):
            part = masks[y + start : y + stop]
            single = _single_hits(masks, part, y + start)[i, :, x : x + nx]
            clean = ~part.crmasks[i, :, x : x + nx]
            found.append(_count_highest(i, single, clean, score))
        return np.stack(found, axis=2)

    return _count_bands(count, frames.size[0], len(masks))


def _with_replaced(measure, replaced):
    """Return ``measure`` with the replaced pixels (n, ny, nx) as the hits they were."""
    flat = replaced.reshape(len(replaced), -1)
    return lambda place: np.where(flat[:, place], _REPLACED, measure(place))


def _count_bands(count, height, n):
    """Return counts (2, 3, n, n) of bands of rows, as many as are needed."""
    total = np.zeros((2, 3, n, n))
    starts = np.arange(0, height, _BAND)
    for start in np.random.default_rng(1).permutation(starts).tolist():
        total += count(start, min(start + _BAND, height))
        if (total[0, 2] >= _ENOUGH).all():
            break
    return total


def _sample(clean):
    """Return flat indices of some pixels of an image where a mask is set."""
    places = np.flatnonzero(clean)
    return places[:: len(places) // _SAMPLE + 1]


def _scatter(values):
    """Return the scatter (n, 1) of values (n, m), 1 where there is none."""
    if values.shape[1] < _LEAST_PIXELS:
        return 1.0
    with ignored_warnings(RuntimeWarning):  # of exposures without a good pixel
        middle = np.nanmedian(values, axis=1, keepdims=True)
        sigma = 1.48 * np.nanmedian(np.abs(values - middle), axis=1, keepdims=True)
    return np.where(sigma > 0, sigma, 1)


def _levels(sample):
    """Return levels and relative scales (n, 1) of the pixels (n, m) of exposures."""
    n, ones = len(sample), np.ones((len(sample), 1), np.float32)
    common = sample[:, np.isfinite(sample).all(axis=0)]
    if common.shape[1] < _LEAST_PIXELS:
        with ignored_warnings(RuntimeWarning):
            return np.nan_to_num(np.nanmedian(sample, axis=1, keepdims=True)), ones
    level = np.median(common, axis=1, keepdims=True)
    data = common - level
    mean = data.mean(axis=0)
    bright = mean > np.quantile(mean, 0.95)
    sums = data[:, bright].sum(axis=1, dtype=float)
    scatter = 1.48 * np.median(np.abs(data), axis=1)
    if bright.any() and (sums > 10 * scatter * np.sqrt(bright.sum())).all():
        return level, (sums / np.median(sums)).astype(np.float32).reshape(n, 1)
    return level, ones


def _above_neighbours(stack, place):
    """Return pixels (n, m) of exposures (n, ny, nx) above those near them."""
    _, ny, nx = stack.shape
    y, x = np.divmod(place, nx)
    near = [
        stack[:, np.clip(y + dy, 0, ny - 1), np.clip(x + dx, 0, nx - 1)]
        for dy in (-3, 0, 3)
        for dx in (-3, 0, 3)
        if dx or dy
    ]
    with ignored_warnings(RuntimeWarning):
        return stack[:, y, x] - np.nanmedian(near, axis=0)


def _single_hits(masks, part, start):
    """Return where (n, rows, nx) one exposure alone is hit, not by the user's list."""
    hit = only_hits(part)
    listed = np.zeros(hit.shape[1:], dtype=bool)
    given = masks.requirements and masks.requirements.pixels_to_be_flagged_as_cr
    for x, y, *_ in given or ():
        if start < y <= start + len(listed):
            listed[y - 1 - start, x - 1] = True
    return hit & (hit.sum(axis=0) == 1) & ~listed


def _count_highest(i, hit, clean, score):
    """
    Return counts (2, 3, n): groups that each exposure wins, clearly wins, and all.

    First of the groups of hits (ny, nx), then of the same groups at clean pixels.
    ``score`` gives the values (n, m) of flat indices.
    """
    labels, _ = label_groups(hit)
    y, x = np.nonzero(labels)
    order = np.argsort(labels[y, x], kind="stable")
    y, x = y[order], x[order]
    first = np.flatnonzero(np.diff(labels[y, x], prepend=0))
    ny, nx = hit.shape
    counts = []
    for dy, dx in ((0, 0), *_ELSEWHERE):
        place = (y + dy) % ny * nx + (x + dx) % nx
        values = score(place)
        known = np.isfinite(values)
        if dy:
            known &= clean.ravel()[place]
        counts.append(_count_winners(i, np.where(known, values, -np.inf), first))
    return counts[0], np.sum(counts[1:], axis=0)


def _count_winners(i, values, first):
    """Return groups that each exposure wins, or clearly, and all (3, n)."""
    n = len(values)
    if not len(first):
        return np.zeros((3, n))
    values = np.maximum.reduceat(values, first, axis=1)
    known = np.isfinite(values)
    values = values[:, known[i] & (known.sum(axis=0) > 1)]
    highest = values == values.max(axis=0)
    clearly = highest & (values > _CLEAR_HIT)
    number = np.full(n, values.shape[1])
    return np.stack([highest.sum(axis=1), clearly.sum(axis=1), number])
