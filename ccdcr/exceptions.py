# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Warnings and errors of their own class, so that each can be filtered."""

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
    """A name that is no requirement: a wrong keyword, or a wrong key of a file."""


class ReviewCancelledError(RuntimeError):
    """The user has quit a review; nothing was changed or written."""


class CRWarning(AstropyUserWarning):
    """Base class of all warnings of this package."""


class UnusedRequirementWarning(CRWarning):
    """A requirement that was set has no effect under the chosen ``crmethod``."""


class MissingUUIDWarning(CRWarning):
    """A file of masks has no UUID; combined images cannot name their masks."""


class MissingUnitWarning(CRWarning):
    """Files of exposures do not say their unit, which is taken as adu."""


class FluxScaleWarning(CRWarning):
    """The exposures differ in flux scale in a way that nothing corrects."""


class ForeignMasksWarning(CRWarning):
    """Masks do not seem to be those of the exposures."""


class NoUncertaintyWarning(CRWarning):
    """Uncertainties are missing, of a result or of some of the exposures."""


class NoWindowWarning(CRWarning):
    """Figures were to be shown in windows, and matplotlib opens none here."""


class NoiseModelWarning(CRWarning):
    """The noise is not what gain and read noise, or uncertainties, explain."""


class LocalMedianWarning(CRWarning):
    """Pixels to be replaced by their local median have no usable neighbour."""


class NotEquivalentWarning(CRWarning):
    """The exposures differ by more than noise, also after they were matched."""


class MatchingFailedWarning(NotEquivalentWarning):
    """The exposures differ by more than matching can mend."""


class ImplausibleMaskWarning(CRWarning):
    """So much is flagged that it cannot be cosmic rays."""


class CoincidenceWarning(CRWarning):
    """Many more pixels are hit in half of the exposures than by chance."""


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
