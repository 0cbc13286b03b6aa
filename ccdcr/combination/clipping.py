# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Clipping of the values of each pixel that are neither masked nor flagged."""

from functools import partial
from numbers import Integral, Real

import numpy as np
from astropy.stats import sigma_clip

from ccdcr.exceptions import short_repr

__all__ = [
    "check_extrema",
    "extrema_clip",
    "make_clips",
    "minmax_clip",
    "reject",
    "sigma_clip_by",
]

_CENTERS, _DEVIATIONS = ("mean", "median"), ("std", "mad_std")
# Functions that do not ignore NaN, and the names of those that do.
_NAMES = {
    np.mean: "mean",
    np.ma.mean: "mean",
    np.nanmean: "mean",
    np.median: "median",
    np.ma.median: "median",
    np.nanmedian: "median",
    np.std: "std",
    np.ma.std: "std",
    np.nanstd: "std",
}


def reject(values, bad, flagged, clips):
    """
    Return which values (n, rows, nx) of scaled exposures are clipped, True = clipped.

    Bad and flagged values, (n, rows, nx) each, ``flagged`` may be None, do not enter
    the limits; flagged ones beyond them are clipped. Clips that would leave none of
    the clean values of a pixel with flagged ones reject nothing there.
    """
    usable = ~bad if flagged is None else ~(bad | flagged)
    left, rejected = usable, np.zeros(usable.shape, dtype=bool)
    for clip in clips:
        rejected |= clip(values, left)
        left = left & ~rejected
    if flagged is not None:
        empty = usable.any(axis=0) & ~left.any(axis=0)
        rejected[:, empty & (flagged & ~bad).any(axis=0)] = False
    return rejected


def _beyond(values, low, high):
    """Return where values are beyond limits; NaN or None is no limit."""
    beyond = np.zeros(values.shape, dtype=bool)
    with np.errstate(invalid="ignore"):
        if low is not None:
            beyond |= values < low
        if high is not None:
            beyond |= values > high
    return beyond


def _extrema(values, usable, *, nlow, nhigh):
    """Clip extreme values where more of them are usable."""
    number = usable.sum(axis=0)
    order = np.argsort(np.where(usable, values, np.inf), axis=0)
    ranks = np.empty_like(order)
    positions = np.arange(len(order)).reshape(-1, 1, 1)
    np.put_along_axis(ranks, order, np.broadcast_to(positions, order.shape), axis=0)
    enough = number > nlow + nhigh
    kept = usable & (ranks >= nlow) & (ranks < number - nhigh)
    low = np.where(kept, values, np.inf).min(axis=0)
    high = np.where(kept, values, -np.inf).max(axis=0)
    return enough & ((usable & ~kept) | (~usable & _beyond(values, low, high)))


def _sigma(values, usable, *, low, high, center, deviation, maxiters):
    """Clip values beyond limits in sigma."""
    masked = np.ma.MaskedArray(np.where(usable, values, 0), ~usable)
    _, lowest, highest = sigma_clip(
        masked,
        sigma_lower=low or 1.0,
        sigma_upper=high or 1.0,
        cenfunc=center,
        stdfunc=deviation,
        maxiters=maxiters,
        axis=0,
        return_bounds=True,
    )
    return _beyond(values, low and lowest, high and highest)


def _minmax(values, _usable, *, low, high):
    """Clip values beyond given limits."""
    return _beyond(values, low, high)


def extrema_clip(nlow, nhigh):
    """Return the clip of the ``nlow`` lowest and ``nhigh`` highest values."""
    given = {"nlow": nlow, "nhigh": nhigh}
    for name, value in given.items():
        right = isinstance(value, Integral) and not isinstance(value, bool)
        if value is not None and not (right and value >= 0):
            msg = f"{name} must be an integer >= 0 or None, got {short_repr(value)}"
            raise ValueError(msg)
    return partial(_extrema, **{name: int(value or 0) for name, value in given.items()})


def check_extrema(clips, n):
    """Refuse clips that leave none of n exposures."""
    for clip in clips:
        if clip.func is _extrema and sum(clip.keywords.values()) >= n:
            nlow, nhigh = clip.keywords.values()
            msg = (
                f"nlow + nhigh must be less than the {n} exposures, "
                f"got {nlow} + {nhigh}"
            )
            raise ValueError(msg)


def minmax_clip(low, high, names=("min_clip", "max_clip")):
    """Return the clip of values below ``low`` or above ``high``."""
    for name, value in zip(names, (low, high), strict=True):
        _check_number(name, value)
    if low is not None and high is not None and low > high:
        msg = f"{names[0]} must be <= {names[1]}, got {low} and {high}"
        raise ValueError(msg)
    return partial(_minmax, low=low, high=high)


def sigma_clip_by(low, high, center, deviation, *, prefix="", maxiters=1):
    """Return the clip of values that deviate by more sigma; None is no limit."""
    for name, value in (("low_thresh", low), ("high_thresh", high)):
        _check_number(prefix + name, value)
        if value == 0:
            msg = f"{prefix}{name} must not be 0"
            raise ValueError(msg)
    return partial(
        _sigma,
        low=low and abs(low),
        high=high and abs(high),
        center=_function(prefix + "func", center, _CENTERS),
        deviation=_function(prefix + "dev_func", deviation, _DEVIATIONS),
        maxiters=maxiters,
    )


def _check_number(name, value):
    right = isinstance(value, Real) and not isinstance(value, bool)
    if value is not None and not (right and np.isfinite(value)):
        msg = f"{name} must be a finite number or None, got {short_repr(value)}"
        raise ValueError(msg)


def _function(name, value, allowed):
    if callable(value):
        return _NAMES.get(value, value)
    if value not in allowed:
        msg = f"{name} must be callable or one of {', '.join(allowed)}, got {value!r}"
        raise ValueError(msg)
    return value


def make_clips(options):
    """Return the clips of the clipping arguments of `ccdproc.combine`."""
    clips = []
    if options["clip_extrema"]:
        clips.append(extrema_clip(options["nlow"], options["nhigh"]))
    if options["minmax_clip"]:
        names = ("minmax_clip_min", "minmax_clip_max")
        clips.append(minmax_clip(*(options[name] for name in names), names))
    if options["sigma_clip"]:
        clips.append(
            sigma_clip_by(
                options["sigma_clip_low_thresh"],
                options["sigma_clip_high_thresh"],
                options["sigma_clip_func"] or "mean",
                options["sigma_clip_dev_func"] or "std",
                prefix="sigma_clip_",
            )
        )
    return tuple(clips)
