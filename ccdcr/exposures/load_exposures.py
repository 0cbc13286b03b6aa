# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Exposures as arrays for the detection, and their flux factors."""

from dataclasses import dataclass
from numbers import Real

import numpy as np
from astropy import units as u

from ccdcr.exposures.ccd_parameters import (
    MOST_SIGNAL,
    CCDParameters,
    find_ccd_parameters,
)
from ccdcr.exposures.ccd_values import find_keywords
from ccdcr.exposures.open_exposures import list_exposures, open_exposures
from ccdcr.utils import stacks as kernels
from ccdcr.utils.neighbours import cut_bands, dilate

__all__ = ["Exposures", "load_exposures", "measure_flux_factors", "scale_factors"]


@dataclass(frozen=True)
class Exposures:
    """
    Exposures as plain arrays.

    ``data`` is (n, ny, nx) float32 without bias; ``bad`` (same shape, True = masked
    or not finite) may be None. If the gain is a map, the data are scaled to its median
    by the ``gain_ratio`` (ny, nx). ``headers`` are those of the exposures.
    """

    data: np.ndarray
    bad: np.ndarray | None
    unit: u.UnitBase
    detector: CCDParameters
    names: tuple
    headers: tuple = ()

    def __len__(self):
        return len(self.data)

    @property
    def gain_ratio(self):
        """The gain of each pixel (ny, nx) relative to the median, or None."""
        return self.detector.gain_ratio

    @property
    def depths(self):
        """Electrons per unit of each exposure relative to the median, (n,)."""
        return self.detector.depths(len(self))

    @property
    def shape(self):
        """Shape of each exposure, (ny, nx)."""
        return self.data.shape[1:]


def load_exposures(
    ccds,
    *,
    gain,
    readnoise,
    bias,
    minimum,
    extension=None,
    unit=None,
    usual_keywords=False,
):
    """
    Return CCDData or files as `Exposures`, at least ``minimum`` of them.

    Options are those of `open_exposures` and `find_ccd_parameters`; ``usual_keywords``
    looks up gain and read noise that are None in the headers.
    """
    items, names = list_exposures(ccds, minimum=minimum)
    options = {"extension": extension, "unit": unit, "allowed": ("numpy",)}
    with open_exposures(items, **options) as opened:
        given = {"gain": gain, "readnoise": readnoise}
        if usual_keywords:
            given = find_keywords(opened, **given)
        shape = opened[0].shape
        detector = find_ccd_parameters(opened, **given, bias=bias)
        ratio = detector.gain_ratio
        data = np.empty((len(opened), *shape), dtype=np.float32)
        bad = np.empty(data.shape, dtype=bool)
        for i, exposure in enumerate(opened):
            _fill(data[i], bad[i], exposure, detector, ratio)
        unit, headers = opened[0].unit, tuple(exposure.meta for exposure in opened)
    bad = bad if bad.any() else None
    return Exposures(data, bad, unit, detector, names, headers)


def _fill(data, bad, exposure, detector, ratio):
    """Fill in the data (ny, nx) of an exposure without bias, and its bad pixels."""
    for rows in cut_bands(exposure.shape):
        values, mask, _ = exposure.cut(rows)
        with np.errstate(over="ignore"):  # beyond float32 is not finite either
            np.subtract(values, detector.bias, out=data[rows], casting="unsafe")
        if ratio is not None:
            data[rows] *= ratio[rows]
        _drop_impossible(data[rows], bad[rows], MOST_SIGNAL / detector.gain)
        if mask is not None:
            bad[rows] |= np.asarray(mask, dtype=bool)


def _drop_impossible(image, bad, limit):
    """Mark pixels that are not finite or beyond the limit, and set them to NaN."""
    with np.errstate(invalid="ignore"):
        np.less_equal(np.abs(image), np.float32(limit), out=bad)
    np.logical_not(bad, out=bad)
    image[bad] = np.nan


_KEYWORD = "EXPTIME"
_ITERATIONS = 4
_CLIP = 4.0  # sigma, on both sides: clipping one side only would be biased
_LEAST_ACCURACY = 0.02


def measure_flux_factors(stack, bad, compute_noise, use=None):
    """
    Return the flux of each exposure (n, ny, nx) relative to the median one, (n,).

    Factors are ratios of sums over pixels that deviate in no exposure from the median
    of the scaled exposures. ``compute_noise`` returns the noise of an expected image,
    ``use`` (ny, nx) limits the pixels. ValueError if there is too little signal.
    """
    usable = np.ones(stack.shape[1:], bool) if use is None else use.copy()
    if bad is not None:
        usable &= ~bad.any(axis=0)
    factors = _first_guess(stack, usable)
    for _ in range(_ITERATIONS):
        scale = (1 / factors).astype(stack.dtype)[:, np.newaxis, np.newaxis]
        level = kernels.median(stack * scale)
        hit = np.zeros_like(usable)
        for plane, factor in zip(stack, factors, strict=True):
            expected = level * np.float32(factor)
            hit |= np.abs(plane - expected) > _CLIP * compute_noise(expected)
        clean = usable & ~dilate(hit, 1)
        sums = stack[:, clean].sum(axis=1, dtype=np.float64)
        error = np.sqrt(np.sum(compute_noise(level[clean]).astype(np.float64) ** 2))
        _check(sums, error)
        factors = sums / np.median(sums)
    return factors


def _first_guess(stack, usable):
    """Return ratios of medians over the brighter pixels, of which few are hit."""
    level = kernels.median(stack)
    if not usable.any():
        _check(np.zeros(len(stack)), 1.0)
    bright = usable & (level >= np.median(level[usable]))
    medians = np.median(stack[:, bright], axis=1).astype(np.float64)
    _check(medians, 0.0)
    return medians / np.median(medians)


def _check(sums, error):
    if not np.all(sums > 0) or error > _LEAST_ACCURACY * sums.min():
        msg = (
            "flux_factor='auto' needs signal in flux_factor_regions that is not "
            "cosmic rays; give the factors as a list"
        )
        raise ValueError(msg)


def scale_factors(exposures, given=None):
    """Return the factors (n,): the given ones, else the exposure times, else 1."""
    n = len(exposures)
    if given is not None:
        factors = np.asarray(given, dtype=float)
        right = factors.shape in {(), (n,)} and np.isfinite(factors).all()
        if not (right and (factors > 0).all()):
            msg = (
                f"flux_factor must be {n} finite numbers > 0, one per exposure, "
                f"got {given!r}"
            )
            raise ValueError(msg)
        return np.broadcast_to(factors, n)
    times = [header.get(_KEYWORD) for header in exposures.headers]
    if len(times) != n or not all(map(_is_time, times)):
        times = np.ones(n)
    flux = np.array(times, dtype=float) / exposures.depths
    return flux / np.median(flux)


def _is_time(value):
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    return is_number and np.isfinite(value) and value > 0
