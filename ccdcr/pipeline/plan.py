# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Plan of a run: finds the files and checks the options, runs nothing."""

import glob
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from astropy import log
from astropy.io import fits

from ccdcr.detection.common import least_exposures
from ccdcr.exposures.align_exposures import check_offsets
from ccdcr.masks.fits_reader import EDITED
from ccdcr.pipeline.block_options import can_have, check_method, with_changes
from ccdcr.pipeline.observing_block import ObservingBlock
from ccdcr.pipeline.tasks import (
    FLAGS,
    BlockResult,
    Task,
    failure,
    fingerprint,
    read_record,
)
from ccdcr.utils.files import card_text, check_output

__all__ = [
    "Plan",
    "Settings",
    "find_crmasks",
    "find_frames",
    "find_kind",
    "list_folders",
    "make_plan",
]


def list_folders(block, datadir):
    """Return the folders to search: ``datadir`` or ``data``, that of the YAML file."""
    base = (Path() if block.path is None else block.path.parent).absolute()
    data = base / "data" if datadir is None else Path(datadir).absolute()
    return [data, base]


def find_frames(block, datadir):
    """Return the absolute paths of the exposures; names may hold wildcards."""
    folders = list_folders(block, datadir)
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


def find_crmasks(block, task, settings, made):
    """Return the masks of a combination: a file, or one that a task will make."""
    name = Path(block.crmasks)
    by_name = not name.is_absolute() and name.parent.name in {"", "data"}
    places = _places(name, by_name, task, list_folders(block, settings.datadir))
    for place in places:
        if _is_detection(made.get(place)):
            return place
    found = _of_this_run(name.name, task, made) if by_name else []
    existing = [place for place in places if place.is_file()]
    own = [path for path in found if made[path].source == task.source]
    if own and existing:
        log.warning(
            f"{task.id}: the masks {own[0]} of this file are used, not {existing[0]}; "
            "give its absolute path to use it"
        )
    if existing and not own:
        for path in found:
            log.warning(f"{task.id}: the masks {existing[0]} are used, not {path}")
        return existing[0]
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
    # In the documented files, names are relative to a folder beside the data.
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
        if path.name == name and _read_frames(path) == frames
    }
    return _nearest(found, task)


def _nearest(found, task):
    """Return the masks made by the YAML file of the task, else all."""
    same_file = [path for path, source in found.items() if source == task.source]
    return same_file or list(found)


def _read_frames(path):
    header = _read_header(path)
    return {
        value for key, value in header.items() if re.fullmatch(r"FILE[1-9]\d*", key)
    }


def _read_header(path):
    """Return the primary header of a file, empty if it is not a FITS file."""
    try:
        return fits.getheader(path)
    except OSError:
        return fits.Header()


_DETECTION_MODES = ("MegaraCrDetection", "detection")  # numina's, ours
_BAD_ID = re.compile(r"[/\\\x00-\x1f]")


@dataclass(frozen=True)
class Settings:
    """Settings of all blocks of a run."""

    output_folder: Path = Path()
    datadir: Path | None = None
    detector: dict = field(default_factory=dict)
    extension: Any = None
    align: Any = None
    unit: Any = None
    overwrite: bool = False
    resume: bool = False
    changes: dict = field(default_factory=dict)
    output: Path | None = None  # in place of the folder, for a single block
    mem_limit: float | None = None  # bytes
    review: Any = None  # function of exposures and masks


@dataclass
class Plan:
    """Tasks to be run, and results that are known already."""

    tasks: list = field(default_factory=list)
    results: list = field(default_factory=list)


def make_plan(blocks, settings):
    """Return the `Plan` of blocks or YAML files; blocks that cannot run are results."""
    plan = Plan()
    drafts = [draft for block in blocks for draft in _drafts(block, settings, plan)]
    _warn_of_unused_changes([block for block, _ in drafts], settings)
    # Detections first: a combination may need their masks.
    drafts.sort(key=lambda draft: draft[1].kind == "combination")
    made = {}
    for block, task in drafts:
        try:
            complete = _complete(block, task, settings, made)
            skip = _may_be_skipped(complete, settings)
        except Exception as err:  # noqa: BLE001 - other blocks go on
            plan.results.append(failure(task, err))
            continue
        made[complete.output] = complete
        if skip:
            plan.results.append(
                BlockResult(complete.id, complete.source, "skipped", complete.files)
            )
        else:
            plan.tasks.append(complete)
    if settings.review is None:
        _warn_of_interactive(plan.tasks)
    return plan


def _drafts(item, settings, plan):
    """Return pairs of block and task; errors become results of the plan."""
    if isinstance(item, ObservingBlock):
        blocks = [item]
    else:
        try:
            blocks = ObservingBlock.list_from_yaml(item)
        except Exception as err:  # noqa: BLE001 - other blocks go on
            unknown = Task(
                Path(item).stem, str(Path(item).absolute()), "detection", (), Path()
            )
            plan.results.append(failure(unknown, err))
            return []
    drafts = []
    for number, block in enumerate(blocks, start=1):
        name = _name(block, number)
        source = "" if block.path is None else str(block.path.absolute())
        draft = Task(name, source, "detection", (), Path())
        try:
            block = with_changes(block, settings.changes)  # noqa: PLW2901
            drafts.append((block, _draft(block, draft, settings)))
        except Exception as err:  # noqa: BLE001 - other blocks go on
            plan.results.append(failure(draft, err))
    return drafts


def _name(block, number):
    if block.id is not None:
        return str(block.id)
    name = "block" if block.path is None else block.path.stem
    return name if number == 1 else f"{name}_{number}"


def _draft(block, draft, settings):
    """Return the task with all that does not depend on other blocks."""
    kind = find_kind(block)
    frames = find_frames(block, settings.datadir)
    least = least_exposures(block.requirements) if kind == "detection" else 1
    if len(frames) < least:
        msg = f"frames must be at least {least} exposures, got {len(frames)}"
        raise ValueError(msg)
    detector = {
        name: getattr(block, name) if value is None else value
        for name, value in (
            (name, settings.detector.get(name))
            for name in ("gain", "readnoise", "bias", "noise")
        )
    }
    method, method_kwargs = None, {}
    given = {name: settings.detector.get(name) for name in FLAGS}
    flags = {name: value for name, value in given.items() if value is not None}
    if kind == "combination":
        method, method_kwargs = check_method(block)
        method_kwargs = method_kwargs | flags
    extension = block.extnum if settings.extension is None else settings.extension
    align = block.align if settings.align is None else settings.align
    limit = block.mem_limit if settings.mem_limit is None else settings.mem_limit
    if align is not None:
        check_offsets(align, len(frames))
    return replace(
        draft,
        kind=kind,
        frames=frames,
        output=_output(draft.id, kind, method, settings),
        detector=detector | flags if kind == "detection" else {},
        extension=extension,
        unit=settings.unit,
        align=align,
        requirements=block.requirements,
        method=method,
        method_kwargs=method_kwargs,
        mem_limit=limit,
    )


def find_kind(block):
    """Return whether a block is a 'detection' or a 'combination'."""
    combines = block.method is not None or block.crmasks is not None
    if combines and block.mode not in _DETECTION_MODES:
        return "combination"
    if not combines and block.mode in {None, *_DETECTION_MODES}:
        return "detection"
    msg = (
        f"mode {block.mode} must be {' or '.join(_DETECTION_MODES)} for a detection, "
        "or another one with requirements method and crmasks for a combination"
    )
    raise ValueError(msg)


def _output(name, kind, method, settings):
    if settings.output is not None:
        return Path(os.path.normpath(Path(settings.output).absolute()))
    if not name.strip() or _BAD_ID.search(name):
        msg = f"id must be usable as the name of a folder, got {name!r}"
        raise ValueError(msg)
    base = Path(settings.output_folder).absolute()
    folder = base / f"obsid{name}_results"
    if not folder.resolve().is_relative_to(base.resolve()):
        msg = f"{folder} leads out of the output folder {base}; remove that link"
        raise ValueError(msg)
    return folder / ("crmasks.fits" if kind == "detection" else f"{method}.fits")


def _warn_of_unused_changes(blocks, settings):
    unused = [
        name
        for name in settings.changes
        if blocks and not any(can_have(block, name) for block in blocks)
    ]
    if unused:
        log.warning(f"in no block, without effect: {', '.join(unused)}")


def _warn_of_interactive(tasks):
    names = [
        task.id
        for task in tasks
        if task.requirements is not None and task.requirements.interactive
    ]
    if names:
        log.warning(
            "interactive and verify_cr have no effect here: all detections are kept "
            f"({', '.join(names)})"
        )


def _complete(block, task, settings, made):
    """Return the task with masks and fingerprint; no two tasks may write one file."""
    if task.output in made:
        other = made[task.output]
        msg = (
            f"{task.output} is also written by {other.id} ({other.source}); "
            "give them different ids"
        )
        raise ValueError(msg)
    if task.kind == "combination" and block.crmasks is not None:
        crmasks = find_crmasks(block, task, settings, made)
        task = replace(task, crmasks=crmasks)
    interactive = task.requirements is not None and task.requirements.interactive
    review = settings.review if interactive else None
    return replace(task, fingerprint=_fingerprint(task, made), review=review)


def _fingerprint(task, made):
    masks = task.crmasks
    return fingerprint(
        {
            "frames": [_state(path) for path in task.frames],
            "detector": task.detector,
            "extension": task.extension,
            "unit": task.unit,
            "align": task.align,
            "requirements": task.requirements and task.requirements.to_dict(),
            "method": task.method,
            "method_kwargs": task.method_kwargs,
            "crmasks": made[masks].fingerprint
            if masks in made
            else masks and _state(masks),
        }
    )


def _state(path):
    status = path.stat()
    return str(path), status.st_size, status.st_mtime_ns


def _may_be_skipped(task, settings):
    """Return whether a task is done; files that must not be replaced are an error."""
    _check_folder(task, settings)
    existing = [path for path in task.files if path.exists()]
    inputs = [*task.frames, *filter(None, (task.crmasks, task.source))]
    for path in existing:
        check_output(path, overwrite=True, inputs=inputs)
    record = read_record(task.record)
    done = record.get("status") == "done"
    same = record.get("fingerprint") == task.fingerprint
    if settings.resume and done and same and len(existing) == len(task.files):
        return True
    # Files left by a failed block are not results.
    if record and not done and (settings.resume or not _results(existing)):
        return False
    remedy = "use overwrite=True"
    if settings.resume and done and not same:
        remedy = f"it was made with other input or options: {remedy}"
    for path in existing:
        check_output(path, overwrite=settings.overwrite, remedy=remedy)
    if task.kind == "detection" and task.output in existing:
        _check_unedited(task.output)
    return False


def _check_unedited(path):
    """Refuse to replace masks that were edited or reviewed."""
    lines = _read_header(path).get("HISTORY", ())
    if any(str(line).startswith(EDITED) for line in lines):
        msg = (
            f"the masks {path} were edited or reviewed, which a new detection would "
            "undo; move the file elsewhere to detect again"
        )
        raise FileExistsError(msg)


def _results(paths):
    return [path for path in paths if path.suffix not in {".log", ".json"}]


def _check_folder(task, settings):
    if settings.output is not None:
        for path in task.files:
            check_output(path, overwrite=True)
    elif not Path(settings.output_folder).is_dir():
        msg = f"the output folder {settings.output_folder} does not exist"
        raise FileNotFoundError(msg)
