# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A folder with everything that shows what was flagged."""

from ccdcr.report.report_figures import detection_table
from ccdcr.report.report_folder import Report, write_report

__all__ = ["Report", "detection_table", "write_report"]
