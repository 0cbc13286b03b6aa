# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The noise of matched exposures by signal, where neither hits nor mismatch are."""

import numpy as np
from astropy.table import Table

__all__ = ["noise_levels"]

_BLOCK = 16  # pixels: of one pixel the signal is not known well enough
_ENOUGH = 1 << 18  # pixels
_LEAST, _BINS = 1000, 12  # pixels of a bin
_MISMATCH = 0.1  # of the variance
_FARTHEST = np.float32(5.0)  # sigmas
_HALF = np.sqrt(2 / np.pi)  # mean of the lower half of Gaussian values, in sigmas


def noise_levels(frames, matched, masks, z):
    """
    Measure the noise in units of what was expected.

    Parameters
    ----------
    frames : `~ccdcr.detection.matched.frames.Frames`
        The exposures as they came.
    matched : `~ccdcr.detection.matched.matched.Matched`
        The matched exposures.
    masks : 3D `~numpy.ndarray` of bool
        The masks of the exposures, True = hit.
    z : 3D `~numpy.ndarray`
        Deviations in sigmas, minus infinity where an exposure takes no part.

    Returns
    -------
    levels : `~astropy.table.Table`
        By signal ``x``: number of ``pixels``, and observed ``noise``. Empty where
        there are less than 1000 pixels.

    Notes
    -----
    Only what is below the mean of the others counts: what is left of cosmic rays is
    above. Where the steps of whole numbers are wider than the noise, nothing can be
    told.
    """
    size = [min(_BLOCK, length) for length in frames.shape]
    rows = _rows(frames.shape, size[0])
    reference, variance = matched.reference[rows], frames.noise.mean_variance
    use = ~masks[:, rows].any(axis=0) & np.isfinite(z[:, rows]).any(axis=0)
    use &= matched.extra[rows] < np.float32(_MISMATCH) * variance(reference)
    sums = np.zeros((2, *reference.shape), dtype=np.float32)
    for plane in z[:, rows]:
        below = use & (plane < 0) & np.isfinite(plane)
        sums += below, np.where(below, np.minimum(-plane, _FARTHEST), 0)
    planes = (use, np.where(use, reference, 0), *sums)
    levels = _by_signal(*(_in_blocks(plane, size) for plane in planes))
    if (frames.data[:, rows] % 1 == 0).all():
        levels = levels[variance(np.asarray(levels["x"])) >= 1]
    return levels


def _rows(shape, height):
    """Return the rows of every so many blocks."""
    every = max(round(shape[0] * shape[1] / _ENOUGH), 1)
    first = np.arange(0, shape[0] - height + 1, height)[::every]
    return (first[:, np.newaxis] + np.arange(height)).ravel()


def _in_blocks(plane, size):
    """Return the sums of whole blocks."""
    (y, x), width = size, plane.shape[1] // size[1]
    blocks = plane[:, : width * x].reshape(-1, y, width, x)
    return blocks.sum(axis=(1, 3), dtype=float).ravel()


def _by_signal(pixels, signal, number, low):
    """Return the table of sums over blocks of about the same signal."""
    names = ("x", "pixels", "noise")
    n_bins = min(_BINS, int(pixels.sum()) // _LEAST)
    if n_bins == 0:
        return Table(names=names)
    place = np.flatnonzero(pixels)
    place = place[np.argsort(signal[place] / pixels[place])]
    total = np.cumsum(pixels[place])
    ends = np.searchsorted(total, np.arange(1, n_bins) * (total[-1] / n_bins))
    starts = np.unique(np.append(0, ends))
    pixels, signal, number, low = (
        np.add.reduceat(values[place], starts)
        for values in (pixels, signal, number, low)
    )
    noise = low / np.maximum(number, 1) / _HALF
    return Table([signal / pixels, pixels.astype(int), noise], names=names)
