# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What L.A. Cosmic sees in an image, in its first iteration."""

import numpy as np
from astropy.modeling.functional_models import Moffat2D
from astroscrappy.astroscrappy import gaussxkernel, gaussykernel
from astroscrappy.utils import image_utils, median_utils

from ccdcr.detection.lacosmic import gaussian_kernel

__all__ = ["laplacian_statistics"]

_LEAST_FINE = 0.01


def laplacian_statistics(image, detector, gain, readnoise):
    """
    Return the two statistics of L.A. Cosmic.

    Parameters
    ----------
    image : 2D `~numpy.ndarray`
        The image, without bias.
    detector : `~ccdcr.detection.lacosmic.LACosmic`
        Its parameters.
    gain : float
        Electrons per unit of the image.
    readnoise : float
        Read noise in electron.

    Returns
    -------
    significance, contrast : 2D `~numpy.ndarray` of float32
        The Laplacian in units of the noise, without large structures (S' of [1]_),
        which is compared with ``la_sigclip``; and its ratio to the fine structure,
        which is compared with ``la_objlim``.

    Notes
    -----
    With the filters of astroscrappy [2]_, as it uses them. Later iterations start
    from a cleaner image.

    References
    ----------
    .. [1] van Dokkum, P. G. 2001, PASP 113, 1420, doi:10.1086/323894
    .. [2] McCully, C. et al., Astro-SCRAPPY, doi:10.5281/zenodo.1482018
    """
    electrons = np.ascontiguousarray(np.multiply(image, gain, dtype=np.float32))
    if detector.sepmed:
        of_variance = of_laplacian = median_utils.sepmedfilt7
        of_fine, of_structure = median_utils.sepmedfilt5, median_utils.sepmedfilt9
    else:
        of_variance = of_laplacian = median_utils.medfilt5
        of_fine, of_structure = median_utils.medfilt3, median_utils.medfilt7
    variance = of_variance(electrons + np.float32(readnoise) ** 2)
    noise = np.sqrt(np.maximum(variance, np.float32(1e-5)))
    laplacian = image_utils.laplaceconvolve(image_utils.subsample(electrons))
    ratio = image_utils.rebin(np.maximum(laplacian, 0)) / (2 * noise)
    significance = ratio - of_laplacian(ratio)
    if detector.fsmode == "median":
        fine = of_fine(electrons)
    else:
        fine = _matched(electrons, noise, _kernel(detector))
    structure = np.maximum((fine - of_structure(fine)) / noise, _LEAST_FINE)
    return significance, significance / structure


def _matched(electrons, noise, kernel):
    weight = noise**-2
    smooth = image_utils.convolve(electrons * weight, kernel)
    return smooth / image_utils.convolve(weight, kernel)


def _kernel(detector):
    """Return the kernel of the fine structure."""
    x, y, size = detector.psffwhm_x, detector.psffwhm_y, detector.psfsize
    fwhm = {"gaussx": x, "gaussy": y}.get(detector.psfmodel, (x + y) / 2)
    if detector.psfmodel == "gaussxy":
        return gaussian_kernel(x, y, size)
    if detector.psfmodel == "gauss":
        return gaussian_kernel(fwhm, fwhm, size)
    if detector.psfmodel == "moffat":
        return _moffat_kernel(fwhm, detector.psfbeta, size)
    kernel = gaussxkernel if detector.psfmodel == "gaussx" else gaussykernel
    return np.ascontiguousarray(kernel(fwhm, size)[::-1, ::-1])


def _moffat_kernel(fwhm, beta, size):
    distance = np.arange(size) - size // 2
    gamma = fwhm / 2 / np.sqrt(2 ** (1 / beta) - 1)
    kernel = Moffat2D.evaluate(
        distance, distance[:, np.newaxis], 1.0, 0.0, 0.0, gamma, beta
    )
    return (kernel / kernel.sum()).astype(np.float32)
