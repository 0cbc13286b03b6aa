# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Commands ``ccdcr template`` and ``ccdcr run``."""

import argparse
import os
from contextlib import contextmanager
from pathlib import Path

from ccdcr.cli.input_options import (
    add_dtype_option,
    add_exposure_options,
    add_output_options,
    add_reading_options,
    expanded,
    make_settings,
)

__all__ = ["add_run", "add_template", "say_result"]


def add_template(commands, common):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "template",
        parents=[common],
        help="write a YAML file for ccdcr run, to be edited",
        description="Write a commented YAML file for ccdcr run: a detection and a "
        "combination of some exposures, which are checked.",
    )
    parser.add_argument("frames", nargs="*", metavar="FILE", help="the exposures")
    parser.add_argument(
        "--id", default="night1", help="name of the blocks (default: %(default)s)"
    )
    parser.add_argument(
        "--only",
        choices=("detection", "combination"),
        help="only one of the two blocks",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        dest="whole",
        help="all options, with their defaults and meaning",
    )
    add_reading_options(parser)
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="the file (default: standard output)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the file")
    parser.set_defaults(run=_write_template)


def _write_template(options, console):
    from ccdcr.pipeline.block_options import write_template
    from ccdcr.utils.files import atomic_path, check_output

    folder = Path() if options.output is None else Path(options.output).parent
    inputs = expanded(options.frames)
    if missing := [str(path) for path in inputs if not path.exists()]:
        msg = f"frames must be files that exist, not found: {', '.join(missing)}"
        raise FileNotFoundError(msg)
    if options.output is not None:
        check_output(options.output, overwrite=options.overwrite, inputs=inputs)
    text = write_template(
        [os.path.relpath(path, folder) for path in inputs],
        block_id=options.id,
        only=options.only,
        whole=options.whole,
        extnum=options.extension,
        known=_known_values(inputs, options) if inputs else None,
    )
    if options.output is None:
        print(text, end="", flush=True)
        return 0
    with atomic_path(options.output, overwrite=options.overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")
    console.say(f"{options.output}: edit it, then: ccdcr run {options.output}")
    return 0


def _known_values(inputs, options):
    """Check frames; return what their headers say of gain and read noise, by name."""
    from ccdcr.exposures.ccd_values import find_keywords
    from ccdcr.exposures.open_exposures import open_exposures

    reading = {"extension": options.extension, "unit": options.unit}
    with open_exposures(inputs, name="frames", minimum=2, **reading) as opened:
        found = find_keywords(opened, gain=None, readnoise=None)
        return {
            name: f"{keyword}, which is {opened[0].meta[keyword]}: check it"
            for name, keyword in found.items()
            if keyword is not None
        }


_EXAMPLES = """
examples:
  ccdcr run 8_generate_crmasks.yaml
  ccdcr run 8_LcbImage.yaml --datadir /data/night1
  ccdcr run night*.yaml --jobs 4 --output-folder results
  ccdcr run night*.yaml --jobs 4 --output-folder results --resume
  ccdcr run night1.yaml --gain 1.9 --readnoise 3.8 --set la_sigclip=4.5 --dry-run
"""


def add_run(commands, common):
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
        help="folder of the folders of results (default: the current one)",
    )
    parser.add_argument(
        "-j",
        "--jobs",
        type=_jobs,
        default=1,
        metavar="N",
        help="number of blocks that run at once, in processes (default: 1)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="skip blocks that were completed with the same input, repeat others",
    )
    parser.add_argument(
        "-r",
        "--reqs",
        metavar="FILE",
        help="accepted for command lines of numina; the file is not used",
    )
    add_dtype_option(parser)
    add_output_options(parser)
    add_exposure_options(parser)
    parser.set_defaults(run=_run_blocks)


def _jobs(text):
    if not text.isdigit() or int(text) < 1:
        msg = f"must be an integer >= 1, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _run_blocks(options, console):
    from ccdcr.pipeline.plan import make_plan

    if options.reqs is not None:
        console.warn(f"{options.reqs} is not used: no calibrations are needed here")
    if options.dtype is not None:
        options.changes.append(("dtype", options.dtype))
    folder = Path(options.output_folder)
    settings = make_settings(options, output_folder=folder, resume=options.resume)
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
    """Yield results as they come, from here or from processes."""
    from ccdcr.pipeline.run_blocks import run_plan

    if options.jobs == 1:
        if console.progress is not None:
            console.progress.prefix = f"[1/{len(plan.results) + len(plan.tasks)}] "
        yield run_plan(plan, dry_run=options.dry_run, progress_bar=console.progress)
        return
    from ccdcr.cli.isolated_pool import IsolatedPool, threads_shared

    with threads_shared(options.jobs), IsolatedPool(options.jobs) as pool:
        results = run_plan(plan, pool, dry_run=options.dry_run)
        if console.progress is not None:
            total = len(plan.results) + len(plan.tasks)
            results = console.progress(results, desc="blocks", total=total)
        yield results


def say_result(result, task, options, console):
    """Print the result of a block; ``task`` may be None."""
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
