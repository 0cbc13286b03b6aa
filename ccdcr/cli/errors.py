# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What is said when a command fails, and its exit status."""

import os
import sys
import traceback

from ccdcr.cli.console import Console

__all__ = ["UsageError", "report_errors"]


class UsageError(Exception):
    """Options that do not go together."""


def report_errors(options, parser):
    """
    Run the command that was chosen.

    Parameters
    ----------
    options : `~argparse.Namespace`
        The parsed options.
    parser : `~argparse.ArgumentParser`
        The parser, for wrong usage.

    Returns
    -------
    status : int
        The exit status, 0 or 1.
    """
    console = Console(options)
    try:
        with console.logging():
            return options.run(options, console)
    except UsageError as err:
        parser.error(f"{options.command}: {err}")
    except KeyboardInterrupt:
        console.error("interrupted")
    except BrokenPipeError:
        # Nobody reads on; Python would complain once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as err:  # noqa: BLE001 - one line, whatever it is
        from ccdcr.exceptions import describe_error

        if options.debug:
            traceback.print_exc()
        console.error(describe_error(err))
    return 1
