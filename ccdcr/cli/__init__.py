# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Command line."""

from ccdcr.cli.command_line import main

__all__ = ["main"]
