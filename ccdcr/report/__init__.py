# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A folder with everything that shows what was flagged."""

from ccdcr.report.folder import Report, write_report
from ccdcr.report.table import detection_table

__all__ = ["Report", "detection_table", "write_report"]
