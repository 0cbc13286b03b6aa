# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Offsets between the exposures."""

import numpy as np
from scipy import ndimage
from skimage.registration import phase_cross_correlation

from ccdcr.utils.morphology import dilate

__all__ = ["measure_offsets"]

_UPSAMPLING = 100
_ITERATIONS = 12
_ROUNDS = 3
_REACH = 7  # pixels: a cosmic ray is brighter than all of the median so near
_CONVERGED = 0.002  # pixel
_CLIP = 5.0  # sigma
_SLOPE = 0.7  # least slope that counts, in units of the noise per pixel
_STRUCTURE = (0.5, 0.1)  # of the local contrast, first and last tolerance


def measure_offsets(stack, median, noise_of, region):
    """
    Return how far the median must move to coincide with each exposure.

    Parameters
    ----------
    stack : sequence of 2D `~numpy.ndarray`
        The exposures.
    median : 2D `~numpy.ndarray`
        Their median.
    noise_of : callable
        Returns the noise of an expected image.
    region : tuple of int
        Limits xmin, xmax, ymin, ymax; the first pixel is 1, all are inclusive.

    Returns
    -------
    offsets : list of tuple of float
        (dx, dy) of each exposure in pixels.

    Notes
    -----
    Phase cross-correlation [1]_ with the median is the start. As the noise of the
    median is that of the exposures, it draws small offsets to 0, and cosmic
    rays disturb it. Therefore the exposures are then compared with the first one
    by weighted least squares, without the pixels that differ by more than noise
    and offset explain; the median is where the median offset is.

    References
    ----------
    .. [1] M. Guizar-Sicairos et al. 2008, Optics Letters 33, 156,
       doi:10.1364/OL.33.000156
    """
    xmin, xmax, ymin, ymax = region
    cut = np.s_[ymin - 1 : ymax, xmin - 1 : xmax]
    images, median = [image[cut] for image in stack], median[cut]
    brightest = ndimage.maximum_filter(median, _REACH)
    brightest += _CLIP * noise_of(brightest)
    start = [_correlate(np.minimum(image, brightest), median) for image in images]
    starts = [(offset - start[0], offset) for offset in start]
    for _ in range(_ROUNDS):
        offsets = np.array(
            [
                _refine(image, images[0], median, noise_of, start)
                for image, start in zip(images, starts, strict=True)
            ]
        )
        # The median of shifted exposures is smeared, that of aligned ones is not.
        median = np.median(
            [_moved(i, -o) for i, o in zip(images, offsets, strict=True)], axis=0
        )
        starts = [(offset, offset) for offset in offsets]
    offsets -= np.median(offsets, axis=0)
    return [(float(dx), float(dy)) for dy, dx in offsets]


def _correlate(image, reference):
    shift, *_ = phase_cross_correlation(
        _tapered(image),
        _tapered(reference),
        upsample_factor=_UPSAMPLING,
        normalization=None,
    )
    return shift


def _tapered(image):
    """Let an image fall to its mean at the edges, which are no features."""
    image = image - image.mean(dtype=np.float64)
    for axis, size in enumerate(image.shape):
        ramp = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
        image = image * np.expand_dims(ramp, 1 - axis)
    return image


def _refine(image, reference, median, noise_of, start):
    """Return the offset (dy, dx) of an image from a reference."""
    offset, from_median = start
    for tolerance in np.geomspace(*_STRUCTURE, _ITERATIONS):
        model = _moved(median, from_median)
        noise = np.sqrt(2) * noise_of(model)
        contrast = ndimage.maximum_filter(model, 3) - ndimage.minimum_filter(model, 3)
        residual = image - _moved(reference, offset)
        limit = _CLIP * noise + tolerance * contrast
        slopes = np.gradient(ndimage.gaussian_filter(model, 1))
        # Elsewhere the slopes are noise, that of the exposures themselves.
        use = np.hypot(*slopes) > _SLOPE * noise
        weight = (use & ~dilate(np.abs(residual) > limit, 1)) / noise**2
        matrix = [[np.sum(weight * a * b) for b in slopes] for a in slopes]
        vector = [np.sum(weight * a * residual) for a in slopes]
        step = -np.linalg.lstsq(matrix, vector, rcond=1e-12)[0]
        step = np.clip(step, -0.5, 0.5)
        offset, from_median = offset + step, from_median + step
        if tolerance < _STRUCTURE[0] / 2 and np.all(np.abs(step) < _CONVERGED):
            break
    return offset


def _moved(image, offset):
    return ndimage.shift(image, offset, order=3, mode="nearest")
