# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Atomic writing of files, compressed files and YAML files."""

import bz2
import gzip
import lzma
import os
import shutil
import uuid
import zlib
from contextlib import contextmanager
from pathlib import Path

import yaml

from ccdcr.exceptions import short_repr

__all__ = [
    "atomic_path",
    "card_text",
    "check_input",
    "check_output",
    "is_packed",
    "load_mapping",
    "load_mappings",
    "load_value",
    "none_if_named",
    "unpack",
    "write_hdulist",
]

_PACKED = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}
_REMEDY = "use overwrite=True"
_BLOCK = 1 << 22  # bytes that are copied at once


def is_packed(file):
    """Return whether an open file is compressed, by its first bytes."""
    start = file.read(2)
    file.seek(0)
    return start in _PACKED


def unpack(path, file, target):
    """Unpack an open file into ``target``, rewind both; ValueError if it is damaged."""
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


def check_input(path, name):
    """Return ``path``; refuse it if it is not a file, ``name`` says what it is of."""
    path = Path(os.fspath(path)).expanduser()
    if path.is_dir():
        msg = f"{name} must be a file, {path} is a folder; name the file in it"
        raise IsADirectoryError(msg)
    if not path.exists():
        where = "" if path.is_absolute() else f" in {Path.cwd()}"
        msg = f"{name}: the file {path} does not exist{where}; correct its name or path"
        raise FileNotFoundError(msg)
    return path


def check_output(path, *, overwrite, remedy=_REMEDY, inputs=()):
    """Return ``path``; refuse it if it cannot be written or is one of ``inputs``."""
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
    """Return a file name in ASCII, as FITS headers need it."""
    return name.encode("unicode_escape").decode("ascii")


@contextmanager
def atomic_path(path, *, overwrite, remedy=_REMEDY):
    """Yield a temporary path that becomes ``path`` when the block succeeds."""
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


def write_hdulist(hdulist, path, *, overwrite, **kwargs):
    """Write an HDUList whole or not at all; ``kwargs`` are for astropy."""
    with atomic_path(path, overwrite=overwrite) as temporary:
        try:
            hdulist.writeto(temporary, **kwargs)
        except OSError as err:
            if err.errno is not None:
                raise
            # Numpy reports only what it has written, not the reason.
            msg = f"{path} could not be written ({err}); is the disk full?"
            raise OSError(msg) from err


def _sync(path):
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _claim(temporary, path, remedy):
    """Rename the file unless another process has created ``path`` meanwhile."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        check_output(path, overwrite=False, remedy=remedy)
        raise
    except OSError:  # a file system without hard links
        check_output(path, overwrite=False, remedy=remedy)
        temporary.replace(path)


_MOST = 10**7  # values, with aliases expanded


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses keys that are repeated or no strings."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                msg = f"keys must be names, got {short_repr(key)}"
                raise yaml.constructor.ConstructorError(
                    None, None, msg, key_node.start_mark
                )
            if key in seen:
                msg = f"{key!r} is given twice"
                raise yaml.constructor.ConstructorError(
                    None, None, msg, key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_mapping(path):
    """Return the mapping at the top of a YAML file of one document."""
    mappings = load_mappings(path)
    if len(mappings) > 1:
        msg = (
            f"{path} is not a valid YAML file: one document is needed, "
            f"found {len(mappings)}"
        )
        raise ValueError(msg)
    return mappings[0]


def load_mappings(path):
    """Return the mappings of all documents of a YAML file but empty ones."""
    content = check_input(path, "YAML").read_bytes()
    try:
        # _Loader is a SafeLoader: plain data only, nothing is evaluated.
        documents = list(yaml.load_all(content.decode(), Loader=_Loader))
        _check_size(documents, {})
    except Exception as err:  # the package raises anything for impossible values
        msg = f"{path} is not a valid YAML file: {err}"
        raise ValueError(msg) from err
    documents = [document for document in documents if document is not None] or [None]
    for document in documents:
        if not isinstance(document, dict):
            msg = (
                f"{path} must hold a mapping of names to values, "
                f"found {type(document).__name__}"
            )
            raise ValueError(msg)  # noqa: TRY004
    return documents


def _check_size(value, known):
    """Return the number of values in a value; refuse too many, made by aliases."""
    if not isinstance(value, (dict, list, tuple)):
        return 1
    if id(value) not in known:
        known[id(value)] = _MOST  # it may hold itself
        items = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_check_size(item, known) for item in items)
    if known[id(value)] > _MOST:
        msg = f"its aliases stand for more than {_MOST} values, or for themselves"
        raise ValueError(msg)
    return known[id(value)]


def load_value(text):
    """Return the value of a YAML text; 'none' is None."""
    try:
        value = yaml.load(text, Loader=_Loader)  # noqa: S506
        _check_size(value, {})
    except Exception as err:
        msg = f"{text!r} is not a valid YAML value"
        raise ValueError(msg) from err
    return none_if_named(value)


def none_if_named(value):
    """Return None for the strings 'none' and 'None', other values unchanged."""
    return None if isinstance(value, str) and value in {"none", "None"} else value
