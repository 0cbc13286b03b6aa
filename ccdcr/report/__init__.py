# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Report on the flagged pixels: a folder of tables, figures and one page."""

from ccdcr.report.report_figures import detection_table
from ccdcr.report.report_folder import Report, write_report

__all__ = ["Report", "detection_table", "write_report"]
