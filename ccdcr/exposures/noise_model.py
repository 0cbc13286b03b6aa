# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Variances of the exposures: from their uncertainties, or by the noise of a CCD."""

import numpy as np
from astropy.nddata import VarianceUncertainty

__all__ = ["model_variance", "variance_of"]


def variance_of(sigma, kind, sigma_unit, unit):
    """
    Return the variance that belongs to an uncertainty.

    Parameters
    ----------
    sigma : `~numpy.ndarray`
        The array of the uncertainty.
    kind : type
        Its class, of any kind that can be converted.
    sigma_unit, unit : `~astropy.units.UnitBase` or None
        Its unit and that of the exposure.

    Returns
    -------
    variance : `~numpy.ndarray` of float64
        The variance in the squared unit of the exposure.
    """
    with np.errstate(divide="ignore"):  # an inverse variance may be 0
        variance = kind(sigma, unit=sigma_unit, copy=False).represent_as(
            VarianceUncertainty
        )
    array = np.asarray(variance.array, dtype=np.float64)
    if variance.unit is None or unit is None or variance.unit == unit**2:
        return array
    return array * variance.unit.to(unit**2)


def model_variance(data, gain, readnoise, bias):
    """
    Return the variance of an exposure by the noise model of a CCD.

    Parameters
    ----------
    data : `~numpy.ndarray`
        The exposure.
    gain : float
        Electrons per unit of the data.
    readnoise : float
        Read noise in electron.
    bias : float
        Bias level in the data.

    Returns
    -------
    variance : `~numpy.ndarray`
        The variance, max(data - bias, 0) / gain + (readnoise / gain)^2; that of
        one electron where this is 0. float32 if the data are.
    """
    kind = np.asarray(data).dtype
    dtype = np.result_type(kind, np.float32) if kind.kind == "f" else np.dtype(float)
    signal = np.subtract(data, dtype.type(bias), dtype=dtype) if bias else data
    # Twice as fast as with the number 0.
    signal = np.maximum(signal, np.zeros(np.shape(data), dtype), dtype=dtype)
    if gain != 1:
        signal *= dtype.type(1 / gain)
    signal += dtype.type((readnoise / gain) ** 2)
    if readnoise == 0:  # nothing would be known of a pixel without signal
        signal[signal == 0] = gain**-2
    return signal
