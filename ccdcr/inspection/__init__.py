# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Inspection of masks with their exposures: pixels explained, methods compared."""

from ccdcr.inspection.compare_methods import MethodComparison, compare_methods
from ccdcr.inspection.explain_pixel import explain_pixel
from ccdcr.inspection.inspected import Inspection

__all__ = ["Inspection", "MethodComparison", "compare_methods", "explain_pixel"]
