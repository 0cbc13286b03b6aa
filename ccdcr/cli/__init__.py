# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The command line."""

from ccdcr.cli.command_line import main

__all__ = ["main"]
