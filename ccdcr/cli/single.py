# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""One block from the command line: from a YAML file, from images, or from both."""

import dataclasses
from pathlib import Path

from ccdcr.cli.inputs import changes_of, detector_of, expanded, is_yaml, reviewer

__all__ = ["block_of", "run_single"]


def block_of(options, kind):
    """
    Return the block that the command line describes.

    Parameters
    ----------
    options : `~argparse.Namespace`
        With inputs: a YAML file, FITS files, or both.
    kind : {'detection', 'combination'}
        What is wanted of the YAML file.

    Returns
    -------
    block : `~ccdcr.ObservingBlock`
        The block.
    """
    from ccdcr.blocks.plan import kind_of
    from ccdcr.cli.errors import UsageError
    from ccdcr.observing_block import ObservingBlock
    from ccdcr.requirements import Requirements

    paths = expanded(options.inputs)
    files = [path for path in paths if is_yaml(path)]
    images = tuple(str(path) for path in paths if not is_yaml(path))
    if len(files) > 1:
        msg = "one YAML file is allowed; ccdcr run takes more"
        raise UsageError(msg)
    if not files:
        if kind == "combination":
            return ObservingBlock(frames=images, method="meancr")
        return ObservingBlock(frames=images, requirements=Requirements())
    blocks = ObservingBlock.list_from_yaml(files[0])
    blocks = [block for block in blocks if kind_of(block) == kind]
    if len(blocks) != 1:
        msg = (
            f"{files[0]} must hold one {kind}, found {len(blocks)}; "
            "ccdcr run runs all blocks of a file"
        )
        raise ValueError(msg)
    return dataclasses.replace(blocks[0], frames=images or blocks[0].frames)


def run_single(block, output, options, console):
    """
    Run a block that writes to a given file, and print what became of it.

    Parameters
    ----------
    block : `~ccdcr.ObservingBlock`
        The block.
    output : str
        Its main file; the others are put beside it.
    options : `~argparse.Namespace`
        The options.
    console : `~ccdcr.cli.console.Console`
        Where it is printed.

    Returns
    -------
    status : int
        0 if all went well, 1 if not.
    """
    from ccdcr.blocks.plan import Settings, make_plan
    from ccdcr.blocks.running import run_plan
    from ccdcr.cli.run import say_result

    settings = Settings(
        output=Path(output),
        datadir=None if options.datadir is None else Path(options.datadir),
        detector=detector_of(options),
        extension=options.extension,
        unit=options.unit,
        overwrite=options.overwrite,
        changes=changes_of(options),
        remedy="use --overwrite",
        review=reviewer(options),
    )
    if block.id is None:
        block = dataclasses.replace(block, id=Path(output).stem)
    plan = make_plan([block], settings)
    (result,) = run_plan(plan, dry_run=options.dry_run, progress_bar=console.progress)
    task = plan.tasks[0] if plan.tasks else None
    say_result(result, task, options, console)
    return 1 if result.status == "failed" else 0
