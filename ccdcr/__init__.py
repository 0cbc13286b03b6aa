# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Combine a few long exposures and remove the cosmic rays the median leaves."""

from ccdcr._version import __version__
from ccdcr.combiner import CRCombiner
from ccdcr.combining import combine
from ccdcr.comparing import MethodComparison, compare_methods
from ccdcr.detection import detect_cosmic_rays
from ccdcr.exceptions import (
    CRMasksFileError,
    CRWarning,
    LocalMedianWarning,
    MemoryLimitWarning,
    MissingUUIDWarning,
    NoiseModelWarning,
    NoUncertaintyWarning,
    NoWindowWarning,
    ReviewCancelledError,
    UnknownRequirementError,
    UnusedRequirementWarning,
)
from ccdcr.maskset import CRMaskSet
from ccdcr.observing_block import ObservingBlock
from ccdcr.requirements import Requirements
from ccdcr.reviewing import review

__all__ = [
    "CRCombiner",
    "CRMaskSet",
    "CRMasksFileError",
    "CRWarning",
    "LocalMedianWarning",
    "MemoryLimitWarning",
    "MethodComparison",
    "MissingUUIDWarning",
    "NoUncertaintyWarning",
    "NoWindowWarning",
    "NoiseModelWarning",
    "ObservingBlock",
    "Requirements",
    "ReviewCancelledError",
    "UnknownRequirementError",
    "UnusedRequirementWarning",
    "__version__",
    "combine",
    "compare_methods",
    "detect_cosmic_rays",
    "review",
]
