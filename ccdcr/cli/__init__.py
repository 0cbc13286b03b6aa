# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The command ``ccdcr``; a module for each subject."""

from ccdcr.cli.errors import report_errors
from ccdcr.cli.parser import make_parser

__all__ = ["main"]


def main(args=None):
    """
    Run the command line.

    Parameters
    ----------
    args : list of str, optional
        The arguments. Default is those of the process.

    Returns
    -------
    status : int
        0 if all went well, 1 if not; wrong usage exits with 2.
    """
    parser = make_parser()
    options = parser.parse_args(args)
    return report_errors(options, parser)
