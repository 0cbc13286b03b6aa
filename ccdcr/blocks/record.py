# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The record of a block: what was done, from what, with which result."""

import hashlib
import json
from datetime import UTC, datetime

from ccdcr._files import atomic_path
from ccdcr._version import __version__

__all__ = ["fingerprint", "read_record", "write_record"]


def fingerprint(content):
    """Return a text that is the same for the same plain content."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def write_record(task, status, **more):
    """
    Write the record of a task beside its results.

    Parameters
    ----------
    task : `~ccdcr.blocks.tasks.Task`
        The task.
    status : {'running', 'done', 'failed', 'interrupted'}
        What has become of it.
    **more
        More that is recorded, plain values only.
    """
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
