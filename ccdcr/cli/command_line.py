# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Command ``ccdcr``: parser, messages, errors."""

import argparse
import logging
import os
import re
import shutil
import sys
import time
import traceback
from contextlib import contextmanager
from pathlib import Path

from ccdcr import __version__
from ccdcr.cli.input_options import UsageError, to_options
from ccdcr.cli.report_commands import (
    add_clean,
    add_demo,
    add_flag,
    add_info,
    add_report_and_compare,
)
from ccdcr.cli.run_command import add_run, add_template
from ccdcr.cli.single_commands import add_combine, add_detect, add_remove

__all__ = ["LEVELS", "Console", "ProgressLine", "main", "make_parser", "report_errors"]

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class Console:
    """Output of a command, by its options quiet, log_level and log_file."""

    def __init__(self, options):
        self.options = options
        self.command = options.command
        self.quiet = options.quiet
        self.level = options.log_level
        if options.quiet and self.level in {"DEBUG", "INFO"}:
            self.level = "WARNING"
        self.log_file = options.log_file
        self.progress = None
        # A closed stream is None.
        if not options.quiet and sys.stderr is not None and sys.stderr.isatty():
            self.progress = ProgressLine(sys.stderr)

    def say(self, text):
        """Print a result to the standard output, unless quiet."""
        if not self.quiet:
            self._clear()
            encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
            # Names of files may hold what the terminal cannot show.
            text = text.encode(encoding, "backslashreplace").decode(encoding)
            print(text, flush=True)

    def error(self, text):
        """Print an error in one line."""
        self.write(f"ccdcr {self.command}: {self.translate(text)}")

    def warn(self, text):
        """Print a warning in one line."""
        if self.level != "ERROR":
            self.write(f"WARNING: {self.translate(text)}")

    def translate(self, text):
        """Return a message of the library with the options of the command."""
        return to_options(text, self.options)

    def write(self, text):
        """Print a line to the standard error."""
        self._clear()
        print(text, file=sys.stderr, flush=True)

    def _clear(self):
        if self.progress is not None:
            self.progress.clear()

    @contextmanager
    def logging(self):
        """Send the messages of the library to the standard error and a file."""
        from astropy import log

        handlers = [_Handler(self)]
        handlers[0].setLevel(self.level)
        if self.log_file is not None:
            handlers.append(_log_handler(Path(self.log_file)))
            handlers[1].setFormatter(
                logging.Formatter("%(asctime)s %(levelname)s %(message)s")
            )
        before, level = list(log.handlers), log.level
        for handler in before:
            log.removeHandler(handler)
        log.setLevel("DEBUG" if self.level == "DEBUG" else "INFO")
        for handler in handlers:
            log.addHandler(handler)
        try:
            yield
        finally:
            self._clear()
            for handler in handlers:
                log.removeHandler(handler)
                handler.close()
            for handler in before:
                log.addHandler(handler)
            log.setLevel(level)


def _log_handler(path):
    """Return a handler that appends to a log; another existing file is an error."""
    if path.is_file() and path.stat().st_size:
        with path.open("rb") as file:
            if not re.match(rb"\d{4}-\d\d-\d\d ", file.read(11)):
                msg = (
                    f"--log-file {path} exists and is not a log file; name another file"
                )
                raise ValueError(msg)
    return logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")


class _Handler(logging.Handler):
    """Handler that prints messages in one line, a warning only once."""

    def __init__(self, console):
        super().__init__()
        self._console = console
        self._seen = set()

    def emit(self, record):
        text = " ".join(record.getMessage().split())
        if record.levelno == logging.WARNING:
            if text in self._seen:
                return
            self._seen.add(text)
        self._console.write(f"{record.levelname}: {self._console.translate(text)}")


class ProgressLine:
    """
    Progress of iterables in one line: stage, item, count and time left.

    The bar of `astropy.utils.console` has no label and cannot be cleared for messages.
    """

    def __init__(self, stream):
        self._stream = stream
        self.prefix = ""

    def __call__(self, iterable, desc="", total=None):
        """Yield the items of an iterable of ``total`` items, and show the progress."""
        from astropy.utils.console import human_time

        total = len(iterable) if total is None else total
        start = time.monotonic()
        self._show(desc, f" 0/{total}")
        for number, item in enumerate(iterable):
            count = f" {number}/{total}"
            if number:
                left = (time.monotonic() - start) / number * (total - number)
                count += f", {human_time(left).strip()} left"
            self._show(f"{desc} {_name(item)}".rstrip(), count)
            yield item
        self._show(desc, f" {total}/{total}")

    def _show(self, text, count):
        room = shutil.get_terminal_size().columns - 1
        text = f"{self.prefix}{text}"[: max(room - len(count), 0)]
        line = f"{text}{count}"[:room]
        self._stream.write(f"\r\x1b[K{line}")
        self._stream.flush()

    def clear(self):
        """Clear the line for other output."""
        self._stream.write("\r\x1b[K")
        self._stream.flush()


def _name(item):
    """Return the name of an item, or "" if it has none."""
    if isinstance(item, tuple) and item:
        item = item[0]
    if isinstance(item, Path):
        return item.name
    return item if isinstance(item, str) else ""


def report_errors(options, parser):
    """Run the chosen command and return the exit status, 0 or 1; wrong usage exits."""
    console = Console(options)
    try:
        with console.logging():
            return options.run(options, console)
    except UsageError as err:
        parser.error(f"{options.command}: {err}")
    except KeyboardInterrupt:
        console.error("interrupted")
    except BrokenPipeError:
        # The reader has gone; Python would complain again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as err:  # noqa: BLE001 - one line, whatever it is
        from ccdcr.exceptions import describe_error

        if options.debug:
            traceback.print_exc()
        console.error(describe_error(err))
    return 1


_COMMANDS = (
    add_template,
    add_run,
    add_remove,
    add_detect,
    add_combine,
    add_info,
    add_clean,
    add_flag,
    add_report_and_compare,
    add_demo,
)
_EXAMPLES = """
examples:
  ccdcr demo
  ccdcr demo --scene stars --seed 7 --output-folder stars
  ccdcr remove r1.fits r2.fits r3.fits --gain 1.9 --readnoise 3.8 -o combined.fits
  ccdcr template -o night1.yaml r1.fits r2.fits r3.fits
  ccdcr run night1.yaml
  ccdcr info obsidnight1_crmasks_results/crmasks.fits

exit status: 0 all went well, 1 something failed, 2 wrong usage
"""


def make_parser():
    """Return the parser; ``run`` of the parsed options is the function to call."""
    parser = argparse.ArgumentParser(
        prog="ccdcr",
        description="Combine a few long exposures without cosmic rays.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ccdcr {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in _COMMANDS:
        add(commands, _common())
    return parser


def _common():
    common = argparse.ArgumentParser(add_help=False)
    group = common.add_argument_group("messages")
    group.add_argument(
        "-q", "--quiet", action="store_true", help="show only warnings and errors"
    )
    group.add_argument(
        "--log-level",
        choices=LEVELS,
        default="INFO",
        help="lowest level of the messages that are shown (default: %(default)s)",
    )
    group.add_argument("--log-file", metavar="FILE", help="append the messages to FILE")
    group.add_argument(
        "--debug", action="store_true", help="show the traceback of an error"
    )
    return common


def main(args=None):
    """Run the command line, return 0 or 1 (failed); wrong usage exits with 2."""
    parser = make_parser()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks how a command line goes on
        import argcomplete

        argcomplete.autocomplete(parser)
    options = parser.parse_args(args)
    return report_errors(options, parser)
