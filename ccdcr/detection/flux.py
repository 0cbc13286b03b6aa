# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Relative flux of the exposures, measured in spite of cosmic rays."""

import numpy as np

from ccdcr import _kernels as kernels
from ccdcr.utils.morphology import dilate

__all__ = ["measure_flux_factors"]

_ITERATIONS = 4
_CLIP = 4.0  # sigma, on both sides: clipping one side only would be biased
_LEAST_ACCURACY = 0.02


def measure_flux_factors(stack, bad, noise_of, use=None):
    """
    Return the flux of each exposure relative to the median one.

    Parameters
    ----------
    stack : 3D `~numpy.ndarray`
        The exposures, (n, ny, nx), without bias.
    bad : 3D `~numpy.ndarray` of bool or None
        True = takes no part.
    noise_of : callable
        Returns the noise of an expected image.
    use : 2D `~numpy.ndarray` of bool, optional
        Pixels that may be used.

    Returns
    -------
    factors : 1D `~numpy.ndarray`
        The factors; their median is 1.

    Raises
    ------
    ValueError
        If there is too little signal.

    Notes
    -----
    The factors are the ratios of sums over the pixels that no cosmic ray has
    touched in any exposure. These are found by comparing each exposure with
    the median of the exposures that are scaled by the factors so far.
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
            hit |= np.abs(plane - expected) > _CLIP * noise_of(expected)
        clean = usable & ~dilate(hit, 1)
        sums = stack[:, clean].sum(axis=1, dtype=np.float64)
        error = np.sqrt(np.sum(noise_of(level[clean]).astype(np.float64) ** 2))
        _check(sums, error)
        factors = sums / np.median(sums)
    return factors


def _first_guess(stack, usable):
    """Use medians over the brighter pixels, which few cosmic rays touch."""
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
