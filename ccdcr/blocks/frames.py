# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The exposures of a block: where they are, and what their headers say."""

import glob
import os
from pathlib import Path

__all__ = ["find_frames", "folders_of"]


def folders_of(block, datadir):
    """
    Return the folders where the files of a block are looked for.

    Parameters
    ----------
    block : `~ccdcr.ObservingBlock`
        The block.
    datadir : `~pathlib.Path` or None
        The folder of the data; None is ``data`` beside the YAML file.

    Returns
    -------
    folders : list of `~pathlib.Path`
        Absolute paths in the order of the search.
    """
    base = (Path() if block.path is None else block.path.parent).absolute()
    data = base / "data" if datadir is None else Path(datadir).absolute()
    return [data, base]


def find_frames(block, datadir):
    """
    Return the files of the exposures of a block.

    Parameters
    ----------
    block : `~ccdcr.ObservingBlock`
        The block; its names may hold the wildcards ``*``, ``?`` and ``[]``.
    datadir : `~pathlib.Path` or None
        As for `folders_of`.

    Returns
    -------
    paths : tuple of `~pathlib.Path`
        Absolute paths.
    """
    folders = folders_of(block, datadir)
    paths = [path for name in block.frames for path in _matches(name, folders)]
    seen = set()
    for path in paths:
        if path.resolve() in seen:
            msg = f"frames must be different files, {path} is named twice"
            raise ValueError(msg)
        seen.add(path.resolve())
    return tuple(paths)


def _matches(name, folders):
    for folder in folders:
        path = Path(os.path.normpath(folder / name))
        if path.is_file():
            return [path]
        if glob.has_magic(name):
            pattern = name if Path(name).is_absolute() else _inside(folder, name)
            if found := sorted(filter(os.path.isfile, glob.glob(pattern))):  # noqa: PTH207
                return [Path(os.path.normpath(path)) for path in found]
    where = "" if Path(name).is_absolute() else f" in {', '.join(map(str, folders))}"
    msg = f"the frame {name} does not exist{where}"
    raise FileNotFoundError(msg)


def _inside(folder, name):
    return str(Path(glob.escape(str(folder))) / name)
