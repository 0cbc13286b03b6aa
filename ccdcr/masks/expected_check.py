# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Check that expected values are those of exposures as they are now."""

import numpy as np

from ccdcr.exceptions import ForeignMasksWarning, warn_user

__all__ = ["REMEDY", "check_expected", "cut_masks"]

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


def cut_masks(planes, rows):
    """Return some rows of planes by name, of those that are not None."""
    return {
        name: plane[..., rows, :] for name, plane in planes.items() if plane is not None
    }


def _count_far(exposures, masks, rows):
    """Return the numbers (2, n) of far expected values and of all, in some rows."""
    expected, n = masks["EXPECTED"], len(exposures)
    if not len(expected.y):
        return np.zeros((2, n))
    data = np.stack([exposure.good_rows(rows) for exposure in exposures])
    low = masks.get("LOW", False)
    data[masks["FLAGGED"] | low] = np.nan
    pick = slice(None, None, len(expected.y) // _IN_BAND + 1)
    columns = (expected.exposure, expected.y, expected.x, expected.value)
    i, y, x, value = (column[pick] for column in columns)
    # Another exposure that is clean there, the next one if it is.
    order = (i + np.arange(1, n)[:, np.newaxis]) % n
    clean = np.isfinite(data[order, y, x])
    j = order[clean.argmax(axis=0), np.arange(len(i))]
    distance, known = _distances(data, (i, y, x), j, value, expected.sigma[pick])
    known &= clean.any(axis=0)
    far = known & (distance > _FAR)
    return np.stack([np.bincount(i[which], minlength=n) for which in (far, known)])


def _distances(data, places, j, value, sigma):
    """
    Return how far (m,) values are from those near them, and where it is known.

    Exposures (n, rows, nx) i and j of clean pixels near ``places`` (i, y, x) are
    compared: they may differ by a constant, or by a constant and a factor, and j tells
    i. What is nearer counts.
    """
    i, y, x = places
    _, ny, nx = data.shape
    near = y + _STEPS[0][:, np.newaxis], x + _STEPS[1][:, np.newaxis]
    inside = (near[0] >= 0) & (near[0] < ny) & (near[1] >= 0) & (near[1] < nx)
    near = near[0].clip(0, ny - 1), near[1].clip(0, nx - 1)
    own, other = data[i, *near].astype(float), data[j, *near].astype(float)
    clean = inside & np.isfinite(own) & np.isfinite(other)
    number = np.maximum(clean.sum(axis=0), 1)
    levels = [np.where(clean, a, 0).sum(axis=0) / number for a in (own, other)]
    pairs = zip((own, other), levels, strict=True)
    own, other = (np.where(clean, a - level, 0) for a, level in pairs)
    squares = np.square(other).sum(axis=0)
    squares[squares == 0] = np.inf
    above, there = value - levels[0], data[j, y, x] - levels[1]
    nearest = np.full(len(value), np.inf)
    known = clean.sum(axis=0) >= _LEAST_CLEAN
    for factor, error in ((1.0, 0.0), ((own * other).sum(axis=0) / squares, 1.0)):
        variance = np.square(own - factor * other).sum(axis=0)
        variance *= (1 + 1 / number + error * there**2 / squares) / number
        known &= variance > 0
        variance += np.minimum(np.square(sigma), _UNSURE**2 * variance)
        with np.errstate(invalid="ignore", divide="ignore"):
            found = np.abs(above - factor * there) / np.sqrt(variance)
        nearest = np.minimum(nearest, found)
    return nearest, known
