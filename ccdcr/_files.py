# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Writing files whole or not at all, and reading compressed ones."""

import bz2
import gzip
import lzma
import os
import shutil
import uuid
import zlib
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "atomic_path",
    "card_text",
    "check_output",
    "is_packed",
    "unpack",
    "write_hdulist",
]

_PACKED = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}
_BLOCK = 1 << 22  # bytes that are copied at once


def is_packed(file):
    """Return whether a file is compressed, by its first bytes."""
    start = file.read(2)
    file.seek(0)
    return start in _PACKED


def unpack(path, file, target):
    """
    Unpack a compressed file.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        Its name.
    file, target : file object
        The file, and the one to write; both are at their beginning afterwards.

    Raises
    ------
    ValueError
        If the file is damaged. Astropy does not notice all of it.
    """
    opener = _PACKED[file.read(2)]
    file.seek(0)
    try:
        with opener(file) as packed:
            shutil.copyfileobj(packed, target, _BLOCK)
    except (EOFError, OSError, lzma.LZMAError, zlib.error) as err:
        if getattr(err, "errno", None) is not None:  # of the disk, not of the content
            raise
        msg = f"{path} is damaged: {err}"
        raise ValueError(msg) from err
    file.seek(0)
    target.seek(0)


def check_output(path, *, overwrite, remedy, inputs=()):
    """
    Refuse a path that cannot be written, before any work is done.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        Where a file is to be written.
    overwrite : bool
        Whether an existing file may be replaced.
    remedy : str
        How the user allows it.
    inputs : iterable of str or `~pathlib.Path`, optional
        Files that are read, which must not be replaced.

    Returns
    -------
    path : `~pathlib.Path`
        The path.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    IsADirectoryError
        If the path is a folder.
    FileExistsError
        If the file exists and ``overwrite`` is False.
    ValueError
        If the file is one of the inputs.
    """
    path = Path(path).expanduser()
    if not path.parent.is_dir():
        msg = f"the folder of the output file {path} does not exist"
        raise FileNotFoundError(msg)
    if path.is_dir():
        msg = f"the output file {path} is a folder"
        raise IsADirectoryError(msg)
    if path.exists() and not overwrite:
        msg = f"the output file {path} exists; {remedy} to replace it"
        raise FileExistsError(msg)
    if path.exists() and any(_is_same(path, other) for other in inputs):
        msg = f"the output file {path} is one of the files to be read; name another one"
        raise ValueError(msg)
    return path


def _is_same(path, other):
    try:
        return path.samefile(other)
    except OSError:  # the other one does not exist
        return False


def card_text(name):
    """Return a file name as a FITS header can hold it, in ASCII."""
    return name.encode("unicode_escape").decode("ascii")


@contextmanager
def atomic_path(path, *, overwrite, remedy="use overwrite=True"):
    """
    Yield a temporary path that becomes ``path`` when the block succeeds.

    Whatever fails in the block, the old file stays as it was and nothing
    else is left in the folder.
    """
    path = check_output(path, overwrite=overwrite, remedy=remedy)
    # Keeps the suffixes: astropy compresses by them.
    temporary = path.with_name(f".{uuid.uuid4().hex}.{path.name}")
    try:
        yield temporary
        _sync(temporary)
        if overwrite:
            temporary.replace(path)
        else:
            _claim(temporary, path, remedy)
    except OSError as err:
        if err.errno is not None and err.filename is None:
            err.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_hdulist(hdulist, path, *, overwrite, remedy="use overwrite=True", **kwargs):
    """Write FITS extensions whole or not at all; ``kwargs`` are for astropy."""
    with atomic_path(path, overwrite=overwrite, remedy=remedy) as temporary:
        try:
            hdulist.writeto(temporary, **kwargs)
        except OSError as err:
            if err.errno is not None:
                raise
            # Numpy counts what it has written, and does not say why.
            msg = f"{path} could not be written ({err}); is the disk full?"
            raise OSError(msg) from err


def _sync(path):
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _claim(temporary, path, remedy):
    """Give the file its name unless another process was faster."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        check_output(path, overwrite=False, remedy=remedy)
        raise
    except OSError:  # a file system without hard links
        check_output(path, overwrite=False, remedy=remedy)
        temporary.replace(path)
