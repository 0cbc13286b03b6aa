# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Check that expected values are those of exposures as they are now."""

import numpy as np

from ccdcr.exceptions import ForeignMasksWarning, warn_user

__all__ = ["REMEDY", "check_expected"]

REMEDY = "compute them again with add_expected(ccds, masks)"

_BAND, _IN_BAND, _ENOUGH, _MOST = 16, 120, 400, 24  # rows, values, values, bands
_STEPS = np.array([(y, x) for y in range(-2, 3) for x in range(-2, 3) if y or x]).T
_LEAST_CLEAN = 8  # neighbours
_FAR, _UNSURE = 3.0, 3.0  # times the scatter: values that are wrong, and SIGMA at most
_LEAST_FAR, _SHARE = 10, 0.25  # of the values, in all exposures or in one


def check_expected(exposures, masks_of, remedy):
    """
    Warn if many expected values are none that exposures (`Exposure`) could have now.

    ``masks_of`` gives for a slice of rows FLAGGED (n, rows, nx), EXPECTED
    (`ExpectedRows`) and maybe LOW, by name.
    """
    n, (ny, _) = len(exposures), exposures[0].shape
    counts = np.zeros((2, n))
    starts = np.random.default_rng(1).permutation(np.arange(0, ny, _BAND))
    for start in starts[:_MOST].tolist():
        rows = slice(start, min(start + _BAND, ny))
        counts += _count_far(exposures, masks_of(rows), rows)
        if counts[1].sum() >= _ENOUGH:
            break
    far, number = np.column_stack([counts, counts.sum(axis=1)])
    if ((far >= _LEAST_FAR) & (far > _SHARE * number)).any():
        msg = (
            "the expected values seem not to be those of these exposures, which may "
            "have been scaled, divided by a flat field or sky-subtracted after the "
            f"detection; {remedy}"
        )
        warn_user(msg, ForeignMasksWarning)


def _count_far(exposures, masks, rows):
    """Return the numbers (2, n) of values that are far off, and of all, in rows."""
    expected, n = masks["EXPECTED"], len(exposures)
    if n < 2 or not len(expected.y):
        return np.zeros((2, n))
    data = np.stack([exposure.good_rows(rows) for exposure in exposures])
    data[masks["FLAGGED"] | masks.get("LOW", False)] = np.nan
    columns = (expected.exposure, expected.y, expected.x, expected.value)
    pick = slice(None, None, len(expected.y) // _IN_BAND + 1)
    i, y, x, value = (column[pick] for column in columns)
    # The next exposure that is clean there, NaN if there is none.
    order = (i + np.arange(1, n)[:, np.newaxis]) % n
    next_clean = np.isfinite(data[order, y, x]).argmax(axis=0)
    j = order[next_clean, np.arange(len(i))]
    own, other = _clean_neighbours(data, (i, j), (y, x))
    found = _distance(value, data[j, y, x], own, other, expected.sigma[pick])
    some = [np.bincount(i[which], minlength=n) for which in (found > _FAR, found >= 0)]
    return np.stack(some)


def _clean_neighbours(data, pair, place):
    """Return pixels (2, 24, m) near places (y, x), NaN if not clean in both of pair."""
    _, ny, nx = data.shape
    y, x = (a + step[:, np.newaxis] for a, step in zip(place, _STEPS, strict=True))
    inside = (y >= 0) & (y < ny) & (x >= 0) & (x < nx)
    y, x = y.clip(0, ny - 1), x.clip(0, nx - 1)
    near = np.array([data[i, y, x] for i in pair], float)
    near[:, ~(inside & np.isfinite(near).all(axis=0))] = np.nan
    return near


def _distance(value, there, own, other, sigma):
    """
    Return how far values (m,) are from what is near them, NaN where it is not known.

    An exposure is compared with another one, which has the values ``there``: pixels
    near them (24, m) may differ by a constant, or by a constant and a factor. What is
    nearer counts; sigma counts up to some times the scatter.
    """
    clean = np.isfinite(own)
    number = np.maximum(clean.sum(axis=0), 1)
    levels = [np.where(clean, a, 0).sum(axis=0) / number for a in (own, other)]
    pairs = zip((own, other), levels, strict=True)
    own, other = (np.where(clean, a - level, 0) for a, level in pairs)
    squares = np.square(other).sum(axis=0)
    squares[squares == 0] = np.inf
    above, there = value - levels[0], there - levels[1]
    distance = np.full(len(value), np.inf)
    for factor, error in ((1, 0), ((own * other).sum(axis=0) / squares, 1)):
        variance = np.square(own - factor * other).sum(axis=0) / number
        variance *= 1 + 1 / number + error * there**2 / squares
        variance += np.minimum(np.square(sigma), _UNSURE**2 * variance)
        variance[(variance == 0) | (number < _LEAST_CLEAN)] = np.nan
        distance = np.minimum(distance, np.abs(above - factor * there) / variance**0.5)
    return distance
