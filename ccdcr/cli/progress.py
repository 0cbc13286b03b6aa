# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A progress bar in one line of a terminal: stage, exposure, time left."""

import shutil
import time
from pathlib import Path

__all__ = ["ProgressBar"]

_WIDTH = 20


class ProgressBar:
    """
    Wrap iterables and show how far they have come.

    Parameters
    ----------
    stream : file
        The terminal.
    """

    def __init__(self, stream):
        self._stream = stream
        self._shown = False
        self.prefix = ""

    def __call__(self, iterable, desc="", total=None):
        """
        Iterate and show the state after each item.

        Parameters
        ----------
        iterable : iterable
            What is worked on.
        desc : str, optional
            The stage.
        total : int, optional
            Number of items. Default is the length of the iterable.

        Yields
        ------
        item : object
            The items.
        """
        total = len(iterable) if total is None else total
        start = time.monotonic()
        self._show(desc, "", 0, total, start)
        for number, item in enumerate(iterable):
            self._show(desc, _label(item), number, total, start)
            yield item
        self._show(desc, "", total, total, start)

    def _show(self, desc, label, number, total, start):
        filled = _WIDTH * number // max(total, 1)
        bar = "#" * filled + "." * (_WIDTH - filled)
        left = ""
        if 0 < number < total:
            seconds = (time.monotonic() - start) / number * (total - number)
            left = f", {_clock(seconds)} left"
        text = f"{self.prefix}{desc} {label}".rstrip()
        room = shutil.get_terminal_size().columns - 1
        tail = f" [{bar}] {number}/{total}{left}"
        line = (text[: max(room - len(tail), 0)] + tail)[:room]
        self._stream.write(f"\r\x1b[K{line}")
        self._stream.flush()
        self._shown = True

    def clear(self):
        """Remove the bar, so that something else can be written."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._shown = False


def _label(item):
    """Return the name of what is worked on, if it has one."""
    if isinstance(item, tuple) and item:
        item = item[0]
    if isinstance(item, Path):
        return item.name
    return item if isinstance(item, str) else ""


def _clock(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
    )
