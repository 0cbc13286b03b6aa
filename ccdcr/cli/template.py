# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The command ``ccdcr template``."""

import os
from pathlib import Path

__all__ = ["add_parser"]


def add_parser(commands, common):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "template",
        parents=[common],
        help="write a YAML file with all requirements, to be edited",
        description="Write a commented YAML file for ccdcr run: a detection with all "
        "requirements and their defaults, and a combination.",
    )
    parser.add_argument(
        "frames", nargs="*", metavar="FILE", help="the exposures to be named in it"
    )
    parser.add_argument(
        "--id", default="night1", help="name of the blocks (default: %(default)s)"
    )
    parser.add_argument(
        "--only",
        choices=("detection", "combination"),
        help="only one of the two blocks",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="the file (default: standard output)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the file")
    parser.set_defaults(run=_run)


def _run(options, console):
    from ccdcr._files import atomic_path, check_output
    from ccdcr.blocks.template import write_template
    from ccdcr.cli.inputs import expanded

    folder = Path() if options.output is None else Path(options.output).parent
    frames = [os.path.relpath(path, folder) for path in expanded(options.frames)]
    text = write_template(frames, block_id=options.id, only=options.only)
    if options.output is None:
        print(text, end="", flush=True)
        return 0
    remedy = "use --overwrite"
    overwrite = options.overwrite
    inputs = expanded(options.frames)
    check_output(options.output, overwrite=overwrite, remedy=remedy, inputs=inputs)
    with atomic_path(options.output, overwrite=overwrite, remedy=remedy) as temporary:
        temporary.write_text(text, encoding="utf-8")
    console.say(f"{options.output}: edit it, then: ccdcr run {options.output}")
    return 0
