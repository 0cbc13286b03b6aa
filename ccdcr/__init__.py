# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Combine a few long exposures and remove the cosmic rays the median leaves."""

from ccdcr._version import __version__
from ccdcr.blocks import BlockResult, run_blocks
from ccdcr.combiner import CRCombiner
from ccdcr.combining import combine
from ccdcr.detection import detect_cosmic_rays
from ccdcr.exceptions import (
    CRMasksFileError,
    CRWarning,
    LocalMedianWarning,
    MemoryLimitWarning,
    MissingUUIDWarning,
    NoUncertaintyWarning,
    UnknownRequirementError,
    UnusedRequirementWarning,
)
from ccdcr.maskset import CRMaskSet
from ccdcr.observing_block import ObservingBlock
from ccdcr.requirements import Requirements

__all__ = [
    "BlockResult",
    "CRCombiner",
    "CRMaskSet",
    "CRMasksFileError",
    "CRWarning",
    "LocalMedianWarning",
    "MemoryLimitWarning",
    "MissingUUIDWarning",
    "NoUncertaintyWarning",
    "ObservingBlock",
    "Requirements",
    "UnknownRequirementError",
    "UnusedRequirementWarning",
    "__version__",
    "combine",
    "detect_cosmic_rays",
    "run_blocks",
]
