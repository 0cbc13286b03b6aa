# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Combine a few long exposures and remove the cosmic rays the median leaves."""

from ccdcr._version import __version__
from ccdcr.combiner import CRCombiner
from ccdcr.combining import combine
from ccdcr.detection import check_equivalence, detect_cosmic_rays
from ccdcr.equivalence import Equivalence
from ccdcr.exceptions import (
    CRMasksFileError,
    CRWarning,
    LocalMedianWarning,
    MatchingFailedWarning,
    MemoryLimitWarning,
    MissingUUIDWarning,
    NotEquivalentWarning,
    NoUncertaintyWarning,
    UnknownRequirementError,
    UnusedRequirementWarning,
)
from ccdcr.maskset import CRMaskSet
from ccdcr.observing_block import ObservingBlock
from ccdcr.requirements import Requirements

__all__ = [
    "CRCombiner",
    "CRMaskSet",
    "CRMasksFileError",
    "CRWarning",
    "Equivalence",
    "LocalMedianWarning",
    "MatchingFailedWarning",
    "MemoryLimitWarning",
    "MissingUUIDWarning",
    "NoUncertaintyWarning",
    "NotEquivalentWarning",
    "ObservingBlock",
    "Requirements",
    "UnknownRequirementError",
    "UnusedRequirementWarning",
    "__version__",
    "check_equivalence",
    "combine",
    "detect_cosmic_rays",
]
