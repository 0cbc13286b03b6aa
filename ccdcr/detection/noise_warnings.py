# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Warnings about noise that gain and read noise, or uncertainties, do not explain."""

import numpy as np
from astropy import units as u

from ccdcr.exceptions import NoiseModelWarning, warn_user
from ccdcr.exposures.ccd_values import is_rate, known_times
from ccdcr.matching.noise_check import check_noise
from ccdcr.median_minimum.exact_boundary import likeliest_cause
from ccdcr.utils.stacks import is_off

__all__ = ["warn_of_check", "warn_of_matched", "warn_of_noise"]

# Times the noise: mismatch makes no less of it, nor far more at faint signal.
_LESS, _OFF, _FAR_OFF = 0.8, 1.2, 2.5
_FEW_DIGITS = 0.1  # of a ratio of noise, which are too few for smaller ones
_LEAST_TIME = 5.0  # seconds of rates
_ALIKE, _SAME = 0.2, 0.05  # logarithms of a gain and a time, and of the given value
_GIVEN = ("gain", "readnoise")
_REMEDIES = {
    "readnoise": "check readnoise",
    "gain": "check gain",
    "bias": "a bias seems to be left in the exposures: give bias, or subtract it",
    "sky": "a sky seems to have been subtracted: give the exposures uncertainties, or "
    "detect before",
    "resampled": "the exposures seem to have been resampled, so that neighbouring "
    "pixels share their noise: detect before, or give them uncertainties",
    "uncertainty": "check the uncertainties of the exposures, or use noise='detector'",
    "equivalence": "the exposures seem not to be equivalent: register them, or use "
    "flux_factor='auto'",
}


def warn_of_noise(levels, cause):
    """Warn of the level whose noise is off most, and of its likeliest cause."""
    _warn_of_ratio(levels, cause, [_REMEDIES[cause]])


def _warn_of_ratio(levels, cause, remedies):
    """Warn of the level whose noise is off most, with what to do."""
    ratio = np.asarray(levels["noise"])
    worst = np.argmax(np.abs(np.log(np.maximum(ratio, 1e-3))))
    times = f"{ratio[worst]:{'.2f' if ratio[worst] > _FEW_DIGITS else '.1g'}}"
    explains = "gain and readnoise explain"
    if cause == "uncertainty":
        explains = "their uncertainties say"
    msg = (
        f"the noise of the exposures is {times} times what {explains} at a "
        f"signal of {levels['x'][worst]:.4g}; "
        f"{'; or '.join(remedies)}"
    )
    warn_user(msg, NoiseModelWarning)


def warn_of_matched(levels, frames, exposures, failures):
    """Warn if the noise (``levels``) left by matching is not the expected one."""
    if frames.noise.own is not None:
        if is_off(levels["noise"]).any():
            warn_of_noise(levels, "uncertainty")
        return
    gain = 1 / frames.noise.slope.mean()
    readnoise = gain * np.sqrt(frames.noise.typical.floor.mean())
    check, likeliest = check_noise(frames), None
    if check.larger:  # else what deviates is left by matching
        likeliest = likeliest_cause(levels, gain, readnoise, equivalent=True)
    noise = [*check.levels["noise"]] or [1.0]
    # Failures whose remedy is to register the exposures do not come of wrong noise.
    displaced = any("register" in reason for reason in failures)
    most = np.inf if displaced else _FAR_OFF
    if not displaced and not is_off(noise[-1]):
        most = _OFF  # mismatch grows with the signal
    if failures and check.below is None and _LESS < noise[0] < most:
        return  # the differences of exposures that do not match are not all noise
    warn_of_check(check, levels, likeliest, exposures)


def warn_of_check(check, levels, likeliest, exposures):
    """
    Warn of the noise by a `NoiseCheck`, or by levels of another measurement.

    ``likeliest`` is the cause by the latter, or None. It counts where the check has no
    verdict: without levels, and where the noise is too large at bright signal only, as
    it is if the exposures are not equivalent.
    """
    if check.below is not None:
        msg = (
            f"many pixels are far below 0, about {check.below:.3g}, as if too much "
            "sky or bias were subtracted, and their noise is unknown: subtract "
            "less, or give the exposures uncertainties"
        )
        warn_user(msg, NoiseModelWarning)
    elif check.causes:
        if any(_is_given(*cause, exposures.detector) for cause in check.causes):
            return
        remedies = [_find_remedy(*cause, exposures) for cause in check.causes]
        _warn_of_ratio(check.levels, check.causes[0][0], remedies)
    elif likeliest is not None:
        larger = np.asarray(levels["noise"]) > 1
        if not len(check.levels) or (is_off(levels["noise"]) & larger).any():
            warn_of_noise(levels, likeliest)


def _is_given(cause, value, detector):
    """Return whether a value that would explain the noise is the one that is given."""
    if cause not in _GIVEN:
        return False
    return abs(np.log(value / max(getattr(detector, cause), 1e-9))) < _SAME


def _find_remedy(cause, value, exposures):
    """Return what to do about a cause, by the value that explains the noise."""
    if cause not in _GIVEN:
        return _REMEDIES[cause]
    time = np.median(known_times(exposures.headers))
    if cause == "gain" and is_rate(exposures.unit):
        value = value / time
    elif cause == "gain" and time > _LEAST_TIME:
        times = value / exposures.detector.gain / time
        if abs(np.log(times)) < _ALIKE:
            return (
                f"the values seem to be divided by EXPTIME ({time:g} s): set their "
                f"unit to {exposures.unit / u.s}"
            )
    return f"{_REMEDIES[cause]}: {value:.2g} would explain the noise"
