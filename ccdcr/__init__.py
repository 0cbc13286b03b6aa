# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Combine a few long exposures and remove the cosmic rays the median leaves."""

from ccdcr._version import __version__
from ccdcr.combiner import CRCombiner
from ccdcr.combining import combine
from ccdcr.detection import detect_cosmic_rays
from ccdcr.exceptions import (
    CRMasksFileError,
    CRWarning,
    LocalMedianWarning,
    MissingUUIDWarning,
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
    "LocalMedianWarning",
    "MissingUUIDWarning",
    "NoUncertaintyWarning",
    "ObservingBlock",
    "Requirements",
    "UnknownRequirementError",
    "UnusedRequirementWarning",
    "__version__",
    "combine",
    "detect_cosmic_rays",
]
