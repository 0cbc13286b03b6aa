# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Large arrays, in memory or under a limit in temporary files."""

import mmap
import os
import tempfile
import weakref
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

__all__ = ["ScratchSpace", "empty", "keep", "limited", "scratch_space", "zeros"]

_SPACE = ContextVar("scratch space", default=None)


class ScratchSpace:
    """
    Arrays in temporary files that are deleted with them.

    ``threads`` is the number of bands that may be worked on at once.
    """

    def __init__(self, threads=1):
        self.threads = threads
        self._maps = weakref.WeakSet()

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


@contextmanager
def scratch_space(space):
    """Make large arrays in a `ScratchSpace` until the end; None = in memory."""
    token = _SPACE.set(space)
    try:
        yield
    finally:
        _SPACE.reset(token)


def limited():
    """Return the `ScratchSpace` in use, or None."""
    return _SPACE.get()


def zeros(shape, dtype=np.float32):
    """Return an array of zeros, in memory or in the scratch space."""
    space = _SPACE.get()
    return np.zeros(shape, dtype) if space is None else space.zeros(shape, dtype)


def empty(shape, dtype=np.float32):
    """Return an array of any values, in memory or in the scratch space."""
    return np.empty(shape, dtype) if _SPACE.get() is None else zeros(shape, dtype)


def keep(array):
    """Return an array or None, under a limit as a copy in the scratch space."""
    space = _SPACE.get()
    if space is None or array is None:
        return array
    kept = space.zeros(array.shape, array.dtype)
    kept[...] = array
    space.release()
    return kept
