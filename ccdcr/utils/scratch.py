# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Large arrays, in memory or under a limit in temporary files."""

import ctypes
import errno
import mmap
import os
import re
import shutil
import tempfile
import weakref
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from math import ceil
from numbers import Real

import numpy as np
from astropy import units as u

__all__ = [
    "ScratchSpace",
    "empty",
    "in_parts",
    "in_turn",
    "keep",
    "limited",
    "map_file",
    "release",
    "reserve",
    "scratch_space",
    "to_bytes",
    "zeros",
]

_PARTS = 32
_SPACE = ContextVar("scratch space", default=None)


class ScratchSpace:
    """Arrays in temporary files that are deleted with them, under a limit of memory."""

    def __init__(self, limit):
        self.limit, self.active, self.threads = limit, False, 1
        self._maps = weakref.WeakValueDictionary()

    def begin(self, whole, least, band, what, files=0):
        """
        Use temporary files if the ``whole`` work needs more than the limit.

        ``least`` are the bytes that it needs then, ``band`` those of one more thread,
        ``files`` those of the files.
        """
        if self.limit >= whole:
            return
        if self.limit < least:
            msg = (
                f"mem_limit must be at least {ceil(least)} bytes for {what}, got "
                f"{self.limit:g}"
            )
            raise ValueError(msg)
        _check_room(files, whole)
        self.active, self.threads = True, 1 + int((self.limit - least) / band)

    def zeros(self, shape, dtype):
        """Return an array of zeros in a temporary file."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if size == 0:
            return np.zeros(shape, dtype)
        with tempfile.TemporaryFile() as file:
            reserve(file, size)
            pages = _map(file, size)
        self._maps[id(pages)] = pages
        return np.frombuffer(pages, dtype).reshape(shape)

    def release(self):
        """Give the pages of all arrays back, which remain in the files."""
        for pages in list(self._maps.values()):
            _give_back(pages)

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


def _map(file, size):
    """Return the bytes of a file, which may be closed: they need no descriptor."""
    if os.name != "posix":
        return mmap.mmap(file.fileno(), size)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    use, number = mmap.PROT_READ | mmap.PROT_WRITE, file.fileno()
    start, length, offset = None, ctypes.c_size_t(size), ctypes.c_int64(0)
    address = libc.mmap(start, length, use, mmap.MAP_SHARED, number, offset)
    if address == ctypes.c_void_p(-1).value:
        number = ctypes.get_errno()
        msg = f"{os.strerror(number)}: {size} bytes of a temporary file"
        raise OSError(number, msg)
    pages = (ctypes.c_char * size).from_address(address)
    unmap = weakref.finalize(pages, libc.munmap, ctypes.c_void_p(address), length)
    unmap.atexit = False  # arrays may be used until the end
    return pages


def _give_back(pages):
    """Give back the memory of bytes of `_map`, if the system can."""
    if os.name == "posix" and hasattr(mmap, "MADV_DONTNEED"):
        address = ctypes.c_void_p(ctypes.addressof(pages))
        length = ctypes.c_size_t(len(pages))
        ctypes.CDLL(None).madvise(address, length, mmap.MADV_DONTNEED)


def map_file(file, shape, dtype):
    """Return a file as an array, which may be closed."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer(_map(file, size), dtype).reshape(shape)


_NO_ROOM = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def reserve(file, size, folder=None):
    """Reserve the space now: a disk that is full later would kill the process."""
    if not size or not hasattr(os, "posix_fallocate"):
        file.truncate(size)
        return
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as err:
        if err.errno in _NO_ROOM:
            raise _no_room(err.errno, f"{size} bytes for a file", folder) from err
        raise


def _no_room(number, what, folder=None, more=""):
    """Return the error that there is no room for what is needed in a folder."""
    remedy = "free some room" if folder else "set TMPDIR to a folder with more room"
    msg = (
        f"{os.strerror(number)}: mem_limit needs {what} in "
        f"{folder or tempfile.gettempdir()}; {remedy}, or give a larger limit{more}"
    )
    return OSError(number, msg)


def _check_room(size, whole):
    """Refuse a folder of temporary files in which there is no room for a size."""
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if size > free:
        what = f"{size:.3g} bytes for temporary files, and there are {free:.3g},"
        more = f" (from {whole:.3g} bytes on none are needed)"
        raise _no_room(errno.ENOSPC, what, more=more)


_SIZE = re.compile(
    r"([0-9]*\.?[0-9]+(?:e\+?[0-9]+)?)\s*(?:([kmgt])(i?))?(?:b|bytes?)?", re.IGNORECASE
)


def to_bytes(limit):
    """Return a memory limit such as 1e9, "1 GB", "2GiB" or a Quantity in bytes."""
    value = limit
    if isinstance(limit, str) and (found := _SIZE.fullmatch(limit.strip())):
        number, unit, binary = found.groups()
        power = "kmgt".index(unit.lower()) + 1 if unit else 0
        value = float(number) * (1024 if binary else 1000) ** power
    elif isinstance(limit, u.Quantity) and limit.unit.is_equivalent(u.byte):
        value = limit.to_value(u.byte)[()]
    if not isinstance(value, Real) or isinstance(value, bool) or not value > 0:
        msg = (
            "mem_limit must be a number of bytes > 0, such as 1e9 or '1 GB', got "
            f"{limit!r}"
        )
        raise ValueError(msg)
    return value


@contextmanager
def scratch_space(limit):
    """Yield a `ScratchSpace` for large arrays until the end; None = no limit."""
    space = None if limit is None else ScratchSpace(to_bytes(limit))
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
    """Return what a function tells about places, index arrays (m,) in order."""
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
