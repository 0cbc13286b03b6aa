# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Large arrays, in memory or under a limit in temporary files."""

import ctypes
import mmap
import os
import tempfile
import weakref
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from numbers import Real

import numpy as np

__all__ = [
    "ScratchSpace",
    "check_mem_limit",
    "empty",
    "in_parts",
    "in_turn",
    "keep",
    "limited",
    "release",
    "scratch_space",
    "zeros",
]

_PARTS = 32
_SPACE = ContextVar("scratch space", default=None)


class ScratchSpace:
    """
    Arrays in temporary files that are deleted with them, under a limit of memory.

    They are used from `begin` on, if all does not fit into the limit (bytes). Then
    ``threads`` bands may be worked on at once.
    """

    def __init__(self, limit):
        self.limit, self.active, self.threads = limit, False, 1
        self._maps = weakref.WeakSet()

    def begin(self, whole, least, band, what):
        """
        Use temporary files if the ``whole`` work needs more than the limit.

        ``least`` are the bytes that it needs then, ``band`` those of one more thread.
        """
        if self.limit >= whole:
            return
        if self.limit < least:
            msg = (
                f"mem_limit must be at least {int(least)} bytes for {what}, got "
                f"{self.limit:g}"
            )
            raise ValueError(msg)
        self.active, self.threads = True, 1 + int((self.limit - least) / band)

    def zeros(self, shape, dtype):
        """Return an array of zeros in a temporary file."""
        dtype = np.dtype(dtype)
        size = int(np.prod(shape)) * dtype.itemsize
        if size == 0:
            return np.zeros(shape, dtype)
        with tempfile.TemporaryFile() as file:
            reserve(file, size, tempfile.gettempdir())
            mapped = mmap.mmap(file.fileno(), size)  # has its own descriptor
        self._maps.add(mapped)
        return np.frombuffer(mapped, dtype).reshape(shape)

    def release(self):
        """Give the pages of all arrays back, which remain in the files."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for mapped in list(self._maps):
                mapped.madvise(mmap.MADV_DONTNEED)

    @staticmethod
    def trim():
        """Give back the memory that the C library keeps, if it can."""
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)

    def releasing(self, function):
        """Return a function after which the pages are given back."""

        def call(item):
            result = function(item)
            self.release()
            return result

        return call


def reserve(file, size, folder):
    """Reserve the space now: a disk that is full later would kill the process."""
    if not size or not hasattr(os, "posix_fallocate"):
        file.truncate(size)
        return
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as err:
        err.filename = f"{size} bytes for a temporary file in {folder}"
        raise


def check_mem_limit(limit):
    """Refuse a limit that is no number of bytes."""
    if not isinstance(limit, Real) or isinstance(limit, bool) or not limit > 0:
        msg = f"mem_limit must be a number of bytes > 0, got {limit!r}"
        raise ValueError(msg)


@contextmanager
def scratch_space(limit):
    """Yield a `ScratchSpace` for large arrays until the end; None = no limit."""
    space = None
    if limit is not None:
        check_mem_limit(limit)
        space = ScratchSpace(limit)
    token = _SPACE.set(space)
    try:
        yield space
    finally:
        _SPACE.reset(token)


def limited():
    """Return the `ScratchSpace` in use, or None."""
    space = _SPACE.get()
    return space if space is not None and space.active else None


def release(*, trim=False):
    """Give back the pages of all arrays in the scratch space, and unused memory."""
    if (space := limited()) is not None:
        space.release()
        if trim:
            space.trim()


def in_turn(items):
    """Yield items, and give back the pages after each."""
    for item in items:
        yield item
        release()


def in_parts(function, places):
    """
    Return what a function tells about places, index arrays (m,) in order.

    Under a limit some are asked for at once, and the pages are given back.
    """
    if limited() is None:
        return function(places)
    parts = zip(*(np.array_split(place, _PARTS) for place in places), strict=True)
    return np.concatenate([function(part) for part in in_turn(parts)], axis=-1)


def zeros(shape, dtype=np.float32):
    """Return an array of zeros, in memory or in the scratch space."""
    space = limited()
    return np.zeros(shape, dtype) if space is None else space.zeros(shape, dtype)


def empty(shape, dtype=np.float32):
    """Return an array of any values, in memory or in the scratch space."""
    return np.empty(shape, dtype) if limited() is None else zeros(shape, dtype)


def keep(array):
    """Return an array or None, under a limit as a copy in the scratch space."""
    space = limited()
    if space is None or array is None:
        return array
    kept = space.zeros(array.shape, array.dtype)
    kept[...] = array
    space.release()
    return kept
