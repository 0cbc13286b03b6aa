# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The masks of a combination: a file that is there, or one that will be made."""

import os
import re
from pathlib import Path

from astropy import log
from astropy.io import fits

from ccdcr._files import card_text
from ccdcr.blocks.frames import folders_of
from ccdcr.blocks.record import read_record

__all__ = ["find_crmasks"]


def find_crmasks(block, task, settings, made):
    """
    Return the file of masks of a combination.

    Parameters
    ----------
    block : `~ccdcr.ObservingBlock`
        The combination.
    task : `~ccdcr.blocks.tasks.Task`
        What is known of its task.
    settings : `~ccdcr.blocks.plan.Settings`
        What holds for all blocks.
    made : dict
        The tasks of this run by their main file.

    Returns
    -------
    path : `~pathlib.Path`
        The file, which a task of this run may have to make.
    """
    name = Path(block.crmasks)
    by_name = not name.is_absolute() and name.parent.name in {"", "data"}
    places = _places(name, by_name, task, folders_of(block, settings.datadir))
    for place in places:
        if _is_detection(made.get(place)):
            return place
    found = _of_this_run(name.name, task, made) if by_name else []
    for place in places:
        if place.is_file():
            for path in found:
                log.warning(f"{task.id}: the masks {place} are used, not {path}")
            return place
    if by_name and not found:
        found = _of_earlier_runs(name.name, task, settings)
    if len(found) == 1:
        log.info(f"{task.id}: the masks are {found[0]}")
        return found[0]
    if found:
        listed = ", ".join(map(str, found))
        msg = f"crmasks {name} may be any of {listed}; name one with its folder"
        raise ValueError(msg)
    msg = (
        f"crmasks {name} does not exist; looked for {', '.join(map(str, places))}"
        f"{', and for masks of these frames in the output folder' if by_name else ''}"
    )
    raise FileNotFoundError(msg)


def _places(name, by_name, task, folders):
    """Return where a file of masks may be, in the order of the search."""
    data, base = folders
    # As the documented files have it: relative to a folder beside the data.
    places = [task.output.parent / name, data / name, base / name]
    if by_name:
        places.insert(1, data / name.name)
    return list(dict.fromkeys(Path(os.path.normpath(place)) for place in places))


def _is_detection(task):
    return task is not None and task.kind == "detection"


def _of_this_run(name, task, made):
    """Return the masks that blocks of this run make of the same frames."""
    found = {
        path: other.source
        for path, other in made.items()
        if path.name == name
        and _is_detection(other)
        and set(other.frames) == set(task.frames)
    }
    return _nearest(found, task)


def _of_earlier_runs(name, task, settings):
    """Return the masks in the output folder whose header names the same frames."""
    frames = {card_text(path.name) for path in task.frames}
    folder = Path(settings.output_folder).absolute()
    found = {
        path: read_record(path.with_suffix(".json")).get("source")
        for path in sorted(folder.glob("obsid*_results/*.fits"))
        if path.name == name and _frames_of(path) == frames
    }
    return _nearest(found, task)


def _nearest(found, task):
    """Return the masks that are made by the YAML file of the task, or else all."""
    same_file = [path for path, source in found.items() if source == task.source]
    return same_file or list(found)


def _frames_of(path):
    try:
        header = fits.getheader(path)
    except OSError:  # not a FITS file
        return set()
    return {
        value for key, value in header.items() if re.fullmatch(r"FILE[1-9]\d*", key)
    }
