# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tasks of observing blocks, from exposures to files, and their records."""

import hashlib
import json
import logging
import threading
import time
import traceback
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from astropy import log

from ccdcr._version import __version__
from ccdcr.combination.combination_settings import check_fit
from ccdcr.combination.combine import combine
from ccdcr.detection.common import begin_limited, check_requirements
from ccdcr.detection.detect_cosmic_rays import detect_cosmic_rays
from ccdcr.exceptions import describe_error
from ccdcr.exposures import find_ccd_parameters, load_ccds, open_exposures
from ccdcr.exposures.align_exposures import align_exposures, read_alignment
from ccdcr.exposures.ccd_parameters import find_noise_source
from ccdcr.exposures.ccd_values import find_keywords
from ccdcr.masks.fits_reader import EDITED
from ccdcr.masks.mask_set import CRMaskSet
from ccdcr.requirements.requirement_table import STAGES
from ccdcr.requirements.requirements import Requirements
from ccdcr.utils.files import atomic_path, card_text
from ccdcr.utils.scratch import scratch_space

__all__ = [
    "FLAGS",
    "BlockResult",
    "Task",
    "check_task",
    "fingerprint",
    "read_record",
    "run_task",
    "write_record",
]

FLAGS = ("ignore_flags", "flag_name_map")


def fingerprint(content):
    """Return a hash that is the same for the same plain content."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def write_record(task, status, **more):
    """Write the record of a task beside its results; ``more`` are plain values."""
    content = {
        "id": task.id,
        "status": status,
        "kind": task.kind,
        "source": task.source,
        "frames": [str(path) for path in task.frames],
        "crmasks": None if task.crmasks is None else str(task.crmasks),
        "fingerprint": task.fingerprint,
        "version": __version__,
        "time": datetime.now(tz=UTC).isoformat(timespec="seconds"),
        **more,
    }
    with atomic_path(task.record, overwrite=True) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_record(path):
    """Return the record in a file, or an empty one if there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


@dataclass(frozen=True)
class BlockResult:
    """
    Result of an observing block.

    Parameters
    ----------
    id : str
        Name of the block.
    source : str
        The YAML file, empty if there is none.
    status : {'done', 'skipped', 'failed', 'checked'}
        ``'skipped'``: completed before; ``'checked'``: dry run.
    files : tuple of `~pathlib.Path`
        The files; the first is the masks or the combined image.
    error : str or None
        The error, in one line.
    traceback : str or None
        The traceback of the error.
    warnings : tuple of str
        Texts of the warnings.
    seconds : float
        Duration of the run.
    """

    id: str
    source: str
    status: str
    files: tuple = ()
    error: str | None = None
    traceback: str | None = None
    warnings: tuple = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Task:
    """All that is needed to run a block on any machine; paths are absolute."""

    id: str
    source: str
    kind: str  # 'detection' or 'combination'
    frames: tuple
    output: Path
    detector: dict = field(default_factory=dict)
    extension: Any = None
    unit: Any = None
    align: Any = None
    requirements: Requirements | None = None
    method: str | None = None
    method_kwargs: dict = field(default_factory=dict)
    crmasks: Path | None = None
    fingerprint: str = ""
    mem_limit: float | None = None  # bytes; results do not depend on it
    review: Any = None  # function of exposures and masks; only where nothing is sent

    @property
    def record(self):
        """File of the record, the last one to be written."""
        return self.beside(".json")

    @property
    def files(self):
        """All files, the masks or the combined image first, the record last."""
        names = [".log", ".json"]
        if self.kind == "detection":
            names = ["_summary.ecsv", "_requirements.yaml", *names]
        return (self.output, *map(self.beside, names))

    def beside(self, ending):
        """Return the path of a file whose name has another ending."""
        stem = self.output.name
        for suffix in (".gz", ".fits", ".fit"):
            stem = stem.removesuffix(suffix)
        return self.output.with_name(stem + ending)


def run_task(task, progress_bar=None):
    """Run a task and replace its files whole or not at all; errors go to the result."""
    start = time.perf_counter()
    with _messages() as messages:
        try:
            task.output.parent.mkdir(parents=True, exist_ok=True)
            write_record(task, "running")
            _RUN[task.kind](task, progress_bar)
        except Exception as err:  # noqa: BLE001 - other blocks go on
            seconds = time.perf_counter() - start
            result = failure(task, err, seconds=seconds)
            _leave_record(task, result, messages)
        except BaseException:
            write_record(task, "interrupted")
            raise
        else:
            seconds = time.perf_counter() - start
            _write_log(task, _log_text(messages))
            names = [path.name for path in task.files]
            write_record(task, "done", files=names, seconds=round(seconds, 3))
            result = BlockResult(
                task.id, task.source, "done", task.files, seconds=seconds
            )
    return _with_warnings(result, messages)


def failure(task, err, **more):
    """Return the result of a task that failed."""
    return BlockResult(
        task.id,
        task.source,
        "failed",
        error=describe_error(err),
        traceback="".join(traceback.format_exception(err)),
        **more,
    )


def _leave_record(task, result, messages):
    """Write log and record of a failed task, if the folder can be written."""
    try:
        _write_log(task, _log_text(messages) + result.traceback)
        write_record(task, "failed", error=result.error)
    except OSError:
        log.debug(f"{task.output.parent}: the record could not be written")


def _with_warnings(result, messages):
    warnings = dict.fromkeys(
        " ".join(record.getMessage().split())
        for record in messages
        if record.levelno == logging.WARNING
    )
    return BlockResult(**(vars(result) | {"warnings": tuple(warnings)}))


@contextmanager
def _messages():
    """Collect the log records of this thread."""
    records, thread = [], threading.get_ident()
    handler = logging.Handler()
    handler.emit = records.append
    handler.addFilter(lambda record: record.thread == thread)
    log.addHandler(handler)
    try:
        yield records
    finally:
        log.removeHandler(handler)


def _log_text(messages):
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    return "".join(f"{formatter.format(record)}\n" for record in messages)


def _write_log(task, text):
    with atomic_path(task.beside(".log"), overwrite=True) as temporary:
        # File names may hold bytes that are not text.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def _staged(progress_bar, task, stage):
    """Return a progress bar that names block and stage."""
    if progress_bar is None:
        return iter
    return partial(progress_bar, desc=f"{task.id}: {stage}")


def _aligned(task):
    """
    Return the frames, aligned as the task says or those of its masks were.

    And the options to read them with, none if they are in memory.
    """
    offsets = task.align
    if task.crmasks is not None:
        meta = CRMaskSet.read(task.crmasks).meta
        places, _ = read_alignment(meta, len(task.frames))
        offsets = None if places is None else places[0] - places
    if offsets is None:
        return task.frames, _reading(task)
    return align_exposures(task.frames, offsets, **_reading(task)), {}


def _detect(task, progress_bar):
    frames, reading = _aligned(task)
    masks = detect_cosmic_rays(
        frames,
        task.requirements,
        **_parameters(task),
        **reading,
        **{name: task.detector.get(name) for name in FLAGS},
        mem_limit=task.mem_limit,
        progress_bar=_staged(progress_bar, task, "detecting"),
    )
    if task.review is not None:
        ccds, _ = load_ccds(frames, **reading)
        reviewed = task.review(ccds, masks)
        if reviewed.requirements != masks.requirements:
            line = f"{EDITED}requirements changed in a review"
            reviewed.meta["HISTORY"] = [*reviewed.meta.get("HISTORY", []), line]
        masks = reviewed
    names = {
        f"FILE{i}": card_text(path.name) for i, path in enumerate(task.frames, start=1)
    }
    masks.meta.update(names)
    masks.write(task.output, overwrite=True)
    _, summary, requirements, *_ = task.files
    with atomic_path(summary, overwrite=True) as temporary:
        masks.summary().write(temporary, format="ascii.ecsv")
    masks.requirements.to_yaml(requirements, overwrite=True)


def _reading(task):
    return {"extension": task.extension, "unit": task.unit}


def _parameters(task):
    """Return gain and read noise (default: header keywords) and bias."""
    given = {name: task.detector.get(name) for name in ("gain", "readnoise")}
    if None in given.values():
        with open_exposures(task.frames, name="frames", **_reading(task)) as exposures:
            given = find_keywords(exposures, **given)
    noise = task.detector.get("noise") or "auto"
    return {**given, "bias": task.detector.get("bias"), "noise": noise}


def _combine(task, progress_bar):
    limit = {} if task.mem_limit is None else {"mem_limit": task.mem_limit}
    frames, reading = _aligned(task)
    combine(
        frames,
        task.output,
        task.method,
        crmasks=task.crmasks,
        overwrite_output=True,
        progress_bar=_staged(progress_bar, task, "combining"),
        **reading,
        **{"dtype": "auto"} | task.method_kwargs | limit,
    )


_RUN = {"detection": _detect, "combination": _combine}


def check_task(task, progress_bar=None):  # noqa: ARG001 - as `run_task`
    """Check a task, reading only headers of exposures; errors go to the result."""
    start = time.perf_counter()
    with _messages() as messages:
        try:
            _CHECK[task.kind](task)
        except Exception as err:  # noqa: BLE001 - other blocks go on
            result = failure(task, err)
        else:
            seconds = time.perf_counter() - start
            result = BlockResult(
                task.id, task.source, "checked", task.files, seconds=seconds
            )
    return _with_warnings(result, messages)


def _check_detection(task):
    with open_exposures(task.frames, name="frames", **_reading(task)) as exposures:
        n, shape = len(exposures), exposures[0].shape
        given = _parameters(task)
        source = find_noise_source(exposures, given.pop("noise"), warn=False)
        if source == "detector" or task.requirements.crmethod in STAGES["mm"]:
            find_ccd_parameters(exposures, **given)
    check_requirements(task.requirements, n, shape)
    if task.mem_limit is not None:
        with scratch_space(task.mem_limit) as space:
            begin_limited(space, task.requirements.crmethod, n, shape)


def _check_combination(task):
    with open_exposures(task.frames, name="frames", **_reading(task)) as exposures:
        n, shape = len(exposures), exposures[0].shape
    if task.crmasks is None or not task.crmasks.exists():
        return  # a plain method, or masks that another block will make
    masks = CRMaskSet.read(task.crmasks)
    if read_alignment(masks.meta, n)[1] == shape:
        shape = masks.shape
    check_fit(masks, n, shape, name=f"the masks {task.crmasks}")
    if task.method_kwargs.get("use_lamedian") and masks.lamedian is None:
        msg = f"use_lamedian needs the extension LAMEDIAN, {task.crmasks} has none"
        raise ValueError(msg)
    if task.method_kwargs.get("use_expected") and masks.expected is None:
        msg = f"use_expected needs the extension EXPECTED, {task.crmasks} has none"
        raise ValueError(msg)


_CHECK = {"detection": _check_detection, "combination": _check_combination}
