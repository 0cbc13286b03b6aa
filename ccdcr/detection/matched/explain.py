# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What decided about one pixel of matched exposures, in words and numbers."""

import numpy as np

from ccdcr.detection.matched.again import decision_at, surroundings
from ccdcr.detection.matched.decide import LEAST_OF_MEDIAN, needed_of_median
from ccdcr.detection.matched.masks import options_of
from ccdcr.detection.scaling import frames_of, full_level

__all__ = ["explained"]


def explained(viewed, pixel):
    """
    Return what decided about a pixel.

    Parameters
    ----------
    viewed : `~ccdcr._viewed.Viewed`
        Masks with diagnostics, and exposures.
    pixel : tuple of int
        Row and column, from 0.

    Returns
    -------
    rows : list of tuple
        Item, value, noise, limit and verdict; NaN where there is none.
    """
    known = viewed.masks.diagnostics["matching"]["known"]
    bounds = surroundings(pixel, viewed.masks.shape, known.tile)
    frames = _frames(viewed, bounds)
    rows, columns = bounds
    here = pixel[0] - rows.start, pixel[1] - columns.start
    options = options_of(viewed.requirements)
    decision = decision_at(here, frames, options, known)
    found = []
    for i in range(len(frames)):
        found += _exposure(i, decision, options.limits)
    unused = np.zeros(len(frames), dtype=bool)
    if frames.unused is not None:
        unused = frames.unused[(slice(None), *here)]
    return [*found, *_median(decision, unused)]


def _frames(viewed, bounds):
    """Return a part of the exposures as they were matched."""
    matching = viewed.masks.diagnostics["matching"]
    data, ratio = viewed.stack[:, *bounds], matching["gain_ratio"]
    satlevel = viewed.requirements.ma_satlevel
    return frames_of(
        data if ratio is None else data * ratio[bounds],
        viewed.detector,
        matching["scale"],
        bad=None if viewed.bad is None else viewed.bad[:, *bounds],
        satlevel=full_level(viewed.unit) if satlevel is None else satlevel,
    )


def _exposure(i, decision, limits):
    """Return the rows of one exposure, as far as they decide."""
    name, z = f"matched exposure {i + 1}", decision.z[i]
    if not np.isfinite(z):
        return []
    others = [str(k + 1) for k in np.flatnonzero(decision.used) if k != i]
    source = f"the mean of exposure {' '.join(others)}"
    if not others:
        source = "all hit, the lowest of them"
    if decision.around[i]:
        source += " and of pixels around"
    difference = decision.value[i] - decision.reference[i]
    noise = decision.noise[i]
    rows = [
        (
            f"{name}: minus the others",
            difference,
            noise,
            np.nan,
            f"others: {source}",
        )
    ]
    rows.append(_row(f"{name}: deviation (sigma)", z, limits.high))
    if z > limits.high:
        return rows
    if z > limits.low:
        why = " and joined to a hit" if decision.joined[i] else ", joined to no hit"
        rows.append(_row(f"{name}: as part of a hit (sigma)", z, limits.low, why))
    if not decision.joined[i] and np.isfinite(charge := decision.charge[i]):
        item = f"{name}: with charge of a hit neighbour (sigma)"
        rows.append(_row(item, charge, limits.tail))
    return rows


def _row(item, value, limit, why=""):
    verdict = "above" if value > limit else "below"
    return item, value, np.nan, limit, verdict + why


def _median(decision, unused):
    """Return the row of the median; two exposures have none."""
    n = len(decision.z)
    if n < 3:
        return []
    number = np.count_nonzero(decision.hit & (decision.z > LEAST_OF_MEDIAN))
    needed = max(int(needed_of_median(n, n - np.count_nonzero(unused))), 1)
    verdict = "the median is wrong" if number >= needed else "too few"
    item = f"matched MEDIANCR: exposures hit by more than {LEAST_OF_MEDIAN} sigma"
    return [(item, number, np.nan, needed, verdict)]
