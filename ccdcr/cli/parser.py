# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The parser of the command line and the options that commands share."""

import argparse

from ccdcr import __version__
from ccdcr.cli import combine, demo, detect, info, report, run, template
from ccdcr.cli.console import LEVELS

__all__ = ["make_parser"]

# A module for each command, with add_parser(commands, common).
_COMMANDS = (template, run, detect, combine, info, report, demo)
_EXAMPLES = """
examples:
  ccdcr demo
  ccdcr demo --scene stars --seed 7 --output-folder stars
  ccdcr template -o night1.yaml r1.fits r2.fits r3.fits
  ccdcr run night1.yaml
  ccdcr info obsidnight1_crmasks_results/crmasks.fits

exit status: 0 all went well, 1 something failed, 2 wrong usage
"""


def make_parser():
    """
    Return the parser.

    Returns
    -------
    parser : `~argparse.ArgumentParser`
        The parser; ``run`` of what it parses is the function to be called.
    """
    parser = argparse.ArgumentParser(
        prog="ccdcr",
        description="Combine a few long exposures without cosmic rays.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ccdcr {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in _COMMANDS:
        module.add_parser(commands, _common())
    return parser


def _common():
    common = argparse.ArgumentParser(add_help=False)
    group = common.add_argument_group("messages")
    group.add_argument(
        "-q", "--quiet", action="store_true", help="only say what went wrong"
    )
    group.add_argument(
        "--log-level",
        choices=LEVELS,
        default="INFO",
        help="least level of the messages that are shown (default: %(default)s)",
    )
    group.add_argument("--log-file", metavar="FILE", help="append the messages to FILE")
    group.add_argument(
        "--debug", action="store_true", help="show the traceback of an error"
    )
    return common
