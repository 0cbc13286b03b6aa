# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Classes of warnings and errors."""

import inspect
import re
import reprlib
import warnings
from contextlib import contextmanager
from threading import RLock

from astropy.utils.exceptions import AstropyUserWarning

__all__ = [
    "CRMasksFileError",
    "CRWarning",
    "CoincidenceWarning",
    "FluxScaleWarning",
    "ForeignMasksWarning",
    "ImplausibleMaskWarning",
    "LocalMedianWarning",
    "MatchingFailedWarning",
    "MissingUUIDWarning",
    "MissingUnitWarning",
    "NoUncertaintyWarning",
    "NoWindowWarning",
    "NoiseModelWarning",
    "NotEquivalentWarning",
    "ReviewCancelledError",
    "UnknownRequirementError",
    "UnusedRequirementWarning",
    "describe_error",
    "ignored_warnings",
    "raised_warnings",
    "short_repr",
    "warn_user",
]


_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3
_SHORT.maxstring = _SHORT.maxother = 80
short_repr = _SHORT.repr  # YAML aliases may make values huge

# Filters of warnings belong to the process: one thread at a time.
_FILTERS = RLock()


class CRMasksFileError(OSError, ValueError):
    """A file that is not a valid mask set: damaged, incomplete or inconsistent."""


class UnknownRequirementError(TypeError, ValueError):
    """An unknown requirement, as a keyword argument or in a file."""


class ReviewCancelledError(RuntimeError):
    """The user quit a review; nothing was changed or written."""


class CRWarning(AstropyUserWarning):
    """Base class of all warnings of this package."""


class UnusedRequirementWarning(CRWarning):
    """A requirement was set that has no effect with the chosen ``crmethod``."""


class MissingUUIDWarning(CRWarning):
    """A file of masks has no UUID, so that combined images cannot name their masks."""


class MissingUnitWarning(CRWarning):
    """Files of exposures have no unit; adu is assumed."""


class FluxScaleWarning(CRWarning):
    """The flux scales of the exposures differ and are not corrected."""


class ForeignMasksWarning(CRWarning):
    """The masks, or their expected values, seem to belong to other exposures."""


class NoUncertaintyWarning(CRWarning):
    """The result or some of the exposures have no uncertainty."""


class NoWindowWarning(CRWarning):
    """Matplotlib cannot open windows to show figures."""


class NoiseModelWarning(CRWarning):
    """Gain and read noise, or uncertainties, do not explain the noise."""


class LocalMedianWarning(CRWarning):
    """A pixel to be replaced by its local median has no usable neighbour."""


class NotEquivalentWarning(CRWarning):
    """The exposures differ by more than their noise even after matching."""


class MatchingFailedWarning(NotEquivalentWarning):
    """The exposures differ by more than matching can correct."""


class ImplausibleMaskWarning(CRWarning):
    """Too many pixels are flagged to be cosmic rays, or none can be."""


class CoincidenceWarning(CRWarning):
    """More pixels are flagged in half of the exposures than chance explains."""


def warn_user(message, category):
    """Warn, pointing at the first line outside of this package and astropy."""
    frame, level = inspect.currentframe().f_back, 2
    while frame.f_back and re.match(
        r"(ccdcr|astropy)\b", frame.f_globals.get("__name__", "")
    ):
        frame, level = frame.f_back, level + 1
    with _FILTERS:
        warnings.warn(message, category, stacklevel=level)


@contextmanager
def _filtered(action, category):
    """Filter warnings, but not those of this package in other threads."""
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter(action, category)
        yield


def raised_warnings(category=Warning):
    """Make warnings errors, but not those of this package in other threads."""
    return _filtered("error", category)


def ignored_warnings(category):
    """Ignore warnings, but not those of this package in other threads."""
    return _filtered("ignore", category)


def describe_error(err):
    """Return an error as one line; one that is not expected with its class."""
    text = " ".join(str(err).split())
    if isinstance(err, (OSError, TypeError, ValueError)) and text:
        return text
    return f"{type(err).__name__}: {text}".rstrip(": ")
