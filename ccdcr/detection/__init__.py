# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Detection of cosmic rays: from exposures to a mask set."""

from ccdcr.detection.check import check_equivalence
from ccdcr.detection.detect import detect_cosmic_rays

__all__ = ["check_equivalence", "detect_cosmic_rays"]
