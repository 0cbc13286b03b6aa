# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The command ``ccdcr run``."""

import argparse
from contextlib import contextmanager
from pathlib import Path

from ccdcr.cli.inputs import (
    add_exposure_options,
    add_output_options,
    changes_of,
    detector_of,
    expanded,
    reviewer,
)

__all__ = ["add_parser", "say_result"]

_EXAMPLES = """
examples:
  ccdcr run 8_generate_crmasks.yaml
  ccdcr run 8_LcbImage.yaml --datadir /data/night1
  ccdcr run night*.yaml --jobs 4 --output-folder results
  ccdcr run night*.yaml --jobs 4 --output-folder results --resume
  ccdcr run night1.yaml --gain 1.9 --readnoise 3.8 --set la_sigclip=4.5 --dry-run
"""


def add_parser(commands, common):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "run",
        parents=[common],
        help="run observing blocks: detections and combinations of YAML files",
        description="Run all observing blocks of YAML files. Each writes to a folder "
        "obsid<id>_results in the output folder.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", metavar="FILE.yaml", help="the blocks")
    parser.add_argument(
        "-o",
        "--output-folder",
        default=".",
        metavar="FOLDER",
        help="where the folders of results are made (default: here)",
    )
    parser.add_argument(
        "-j",
        "--jobs",
        type=_jobs,
        default=1,
        metavar="N",
        help="how many blocks are run at once, in processes (default: 1)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="skip blocks that were done from the same input, repeat unfinished ones",
    )
    parser.add_argument(
        "-r",
        "--reqs",
        metavar="FILE",
        help="accepted for command lines of numina; the file is not used",
    )
    add_output_options(parser)
    add_exposure_options(parser)
    parser.set_defaults(run=_run)


def _jobs(text):
    if not text.isdigit() or int(text) < 1:
        msg = f"must be an integer >= 1, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _run(options, console):
    from ccdcr.blocks.plan import Settings, make_plan

    if options.reqs is not None:
        console.warn(f"{options.reqs} is not used: no calibrations are needed here")
    settings = Settings(
        output_folder=Path(options.output_folder),
        datadir=None if options.datadir is None else Path(options.datadir),
        detector=detector_of(options),
        extension=options.extension,
        unit=options.unit,
        overwrite=options.overwrite,
        resume=options.resume,
        changes=changes_of(options),
        remedy="use --overwrite",
        review=reviewer(options),
    )
    plan = make_plan(expanded(options.files), settings)
    tasks = {task.output: task for task in plan.tasks}
    total = len(plan.results) + len(plan.tasks)
    states = []
    with _results(plan, options, console) as results:
        for result in results:
            states.append(result.status)
            task = tasks.get(result.files[0]) if result.files else None
            say_result(result, task, options, console)
            if console.progress is not None and options.jobs == 1:
                console.progress.prefix = f"[{len(states) + 1}/{total}] "
    if total != 1:
        counts = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
        console.say(f"{total} blocks: {counts}")
    return 1 if "failed" in states else 0


@contextmanager
def _results(plan, options, console):
    """Give the results as they come, from here or from processes."""
    from ccdcr.blocks.running import run_plan

    if options.jobs == 1:
        if console.progress is not None:
            console.progress.prefix = f"[1/{len(plan.results) + len(plan.tasks)}] "
        yield run_plan(plan, dry_run=options.dry_run, progress_bar=console.progress)
        return
    from ccdcr.cli.pool import IsolatedPool, threads_shared

    with threads_shared(options.jobs), IsolatedPool(options.jobs) as pool:
        results = run_plan(plan, pool, dry_run=options.dry_run)
        if console.progress is not None:
            total = len(plan.results) + len(plan.tasks)
            results = console.progress(results, desc="blocks", total=total)
        yield results


def say_result(result, task, options, console):
    """
    Print what has become of a block.

    Parameters
    ----------
    result : `~ccdcr.BlockResult`
        The result.
    task : `~ccdcr.blocks.tasks.Task` or None
        Its task, if there was one.
    options : `~argparse.Namespace`
        The options.
    console : `~ccdcr.cli.console.Console`
        Where it is printed.
    """
    if getattr(options, "jobs", 1) > 1:
        for warning in result.warnings:
            console.warn(f"{result.id}: {warning}")
    if result.status == "failed":
        source = f" ({result.source})" if result.source else ""
        if options.debug and result.traceback:
            console.write(result.traceback)
        console.error(f"{result.id}{source}: {result.error}")
    elif result.status == "skipped":
        console.say(f"{result.id}: done before, skipped")
    elif result.status == "checked":
        frames = ", ".join(path.name for path in task.frames)
        console.say(f"{result.id}: {task.kind} of {frames}")
        for path in result.files:
            console.say(f"  would write {_short(path)}")
    else:
        more = len(result.files) - 1
        name = _short(result.files[0])
        console.say(
            f"{result.id}: done, {name} and {more} more, {result.seconds:.1f} s"
        )


def _short(path):
    """Return a path relative to the current folder if it is inside."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
