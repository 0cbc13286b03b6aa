# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Saturation levels of exposures and frames, and a warning of ones not known."""

import numpy as np

from ccdcr.exceptions import ImplausibleMaskWarning, warn_user
from ccdcr.exposures.ccd_values import is_counts, is_rate
from ccdcr.utils.neighbours import label_pixels

__all__ = ["frame_level", "raw_level", "warn_of_saturation"]

_FULL = 65535.0  # adu, what 16 bits hold
# Sigmas of a saturation level, pixels cut at it, part of it that others have there, and
# of a level that is safely below it.
_SURELY_BRIGHT, _LEAST_PLATEAU, _AS_BRIGHT, _BELOW = 20.0, 3, 0.3, 0.99


def frame_level(satlevel, unit, detector, factors):
    """
    Return the saturation level of exposures without bias, over factors (n,).

    ``satlevel`` is that of raw counts, bias included; None is 65535 for counts, and
    none for electrons. Where the gain is a map, the level is that of its median.
    """
    if satlevel is None:
        satlevel = _FULL if is_counts(unit) else np.inf
    if is_rate(unit):
        times = detector.times
        satlevel = np.inf if times is None else satlevel / np.array(times)
    return (satlevel - detector.bias) / factors


def raw_level(level, detector, factors, i):
    """
    Return the ``satlevel`` of which exposure i has this `frame_level`.

    Where the gain is a map, a level that cuts the highest values, times its ratio.
    """
    ratio, times = detector.gain_ratio, detector.times
    # The highest are cut first where the ratio is large.
    level = level * factors[i] / (1 if ratio is None else ratio.max())
    return (level + detector.bias) * (1 if times is None else times[i])


def warn_of_saturation(frames, exposures, factors):
    """Warn of structure that is cut at one level in some exposures, and not marked."""
    data = frames.data if frames.raw is None else frames.raw
    highest = np.array([plane.max() for plane in data])
    levels = {}
    for i, most in enumerate(highest):
        sigma = np.sqrt(frames.noise.typical.mean_variance(most))
        if most > _SURELY_BRIGHT * sigma and _has_plateau(
            frames.unused, data, i, highest
        ):
            levels[i + 1] = raw_level(most, exposures.detector, factors, i)
    if levels:
        level = _BELOW * min(levels.values())
        msg = (
            f"the brightest pixels of exposure {', '.join(map(str, levels))} have one "
            "value, as if they were saturated, but not all of them do in the others, "
            "which spoils what is expected there: give a level just below it, such as "
            f"ma_satlevel={level:.6g}"
        )
        warn_user(msg, ImplausibleMaskWarning)


def _has_plateau(unused, data, i, highest):
    """
    Return whether neighbouring pixels of exposure i have its highest value.

    The others are bright there, too, as they are not at hits, and not at all of these
    at their own highest values.
    """
    place = np.flatnonzero(data[i] == highest[i])
    if unused is not None:
        place = place[~unused[i].ravel()[place]]
    if len(place) < _LEAST_PLATEAU:
        return False
    label = label_pixels(place, data.shape[2])
    place = place[np.bincount(label)[label] > 1]
    values = np.array([plane.ravel()[place] for plane in data])
    cut = values == highest[:, np.newaxis]
    bright = (values > _AS_BRIGHT * highest[i]).all(axis=0)
    return np.count_nonzero(bright & ~cut.all(axis=0)) >= _LEAST_PLATEAU
