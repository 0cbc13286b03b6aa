# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Exposures are brought to one flux before they are matched."""

from numbers import Real

import numpy as np
from astropy import units as u

from ccdcr.detection.matched.frames import Frames
from ccdcr.detection.matched.noise import Noise

__all__ = ["frames_of", "full_level", "scale_factors", "scaled_frames"]

_KEYWORD = "EXPTIME"
_FULL = 65535.0  # adu, what 16 bits hold


def scale_factors(exposures, given=None):
    """
    Return the factor of each exposure.

    Parameters
    ----------
    exposures : `~ccdcr.exposures.Exposures`
        The exposures.
    given : float or sequence of float, optional
        Relative fluxes. Default is the exposure times, where all headers have
        them.

    Returns
    -------
    factors : 1D `~numpy.ndarray`
        The factors.

    Raises
    ------
    ValueError
        If there is not one finite number > 0 for each exposure.
    """
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
        return np.ones(n)
    return np.array(times, dtype=float) / np.median(times)


def _is_time(value):
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    return is_number and np.isfinite(value) and value > 0


def full_level(unit):
    """Return the saturation level of exposures that have none, bias included."""
    return _FULL if unit == u.adu else np.inf


def scaled_frames(exposures, factors, satlevel=None):
    """
    Return exposures divided by factors, with their noise.

    Parameters
    ----------
    exposures : `~ccdcr.exposures.Exposures`
        The exposures.
    factors : 1D `~numpy.ndarray`
        What each is divided by.
    satlevel : float, optional
        Saturation level in the unit of the exposures, bias included. Default is
        65535 for exposures in adu, and none for those in electron.

    Returns
    -------
    frames : `~ccdcr.detection.matched.frames.Frames`
        The frames.
    """
    if satlevel is None:
        satlevel = full_level(exposures.unit)
    return frames_of(
        exposures.data,
        exposures.detector,
        factors,
        bad=exposures.bad,
        satlevel=satlevel,
    )


def frames_of(data, detector, factors, *, bad=None, satlevel=np.inf):
    """
    Return plain arrays divided by factors, with their noise.

    Parameters
    ----------
    data : 3D `~numpy.ndarray` of float32
        The exposures, (n, ny, nx), without bias.
    detector : `~ccdcr.exposures.Detector`
        Gain, read noise and bias.
    factors : 1D `~numpy.ndarray`
        What each is divided by.
    bad : 3D `~numpy.ndarray` of bool, optional
        True = takes no part.
    satlevel : float, optional
        Saturation level in the unit of the exposures, bias included.

    Returns
    -------
    frames : `~ccdcr.detection.matched.frames.Frames`
        The frames.
    """
    if np.any(factors != 1):
        data = data / factors.astype(np.float32)[:, np.newaxis, np.newaxis]
    noise = Noise.of_detector(len(data), detector.gain, detector.readnoise, factors)
    return Frames.of(data, noise, bad, (satlevel - detector.bias) / factors)
