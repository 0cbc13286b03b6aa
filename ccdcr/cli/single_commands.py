# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Commands ``ccdcr detect``, ``ccdcr combine`` and ``ccdcr remove``."""

import argparse
import dataclasses
from pathlib import Path

from ccdcr.cli.input_options import (
    UsageError,
    add_dtype_option,
    add_exposure_options,
    add_output_options,
    expanded,
    is_yaml,
    make_settings,
    yaml_option,
)
from ccdcr.cli.run_command import say_result

__all__ = ["add_combine", "add_detect", "add_remove", "make_block", "run_single"]


def make_block(options, kind):
    """Return the `ObservingBlock` of inputs: a YAML file, FITS files, or both."""
    from ccdcr.pipeline.observing_block import ObservingBlock
    from ccdcr.pipeline.plan import find_kind
    from ccdcr.requirements.requirements import Requirements

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
    blocks = [block for block in blocks if find_kind(block) == kind]
    if len(blocks) != 1:
        msg = (
            f"{files[0]} must hold one {kind}, found {len(blocks)}; "
            "ccdcr run runs all blocks of a file"
        )
        raise ValueError(msg)
    return dataclasses.replace(blocks[0], frames=images or blocks[0].frames)


def run_single(block, output, options, console):
    """Run a block that writes to ``output``, print its result, return 0 or 1."""
    from ccdcr.pipeline.plan import make_plan
    from ccdcr.pipeline.run_blocks import run_plan

    settings = make_settings(options, output=Path(output))
    if block.id is None:
        block = dataclasses.replace(block, id=Path(output).stem)
    plan = make_plan([block], settings)
    (result,) = run_plan(plan, dry_run=options.dry_run, progress_bar=console.progress)
    task = plan.tasks[0] if plan.tasks else None
    say_result(result, task, options, console)
    return 1 if result.status == "failed" else 0


_DETECT_EXAMPLES = """
examples:
  ccdcr detect r1.fits r2.fits r3.fits --gain 1.9 --readnoise 3.8
  ccdcr detect 'r*.fits.fz' --gain GAIN --readnoise RDNOISE --set mm_seed=1
  ccdcr detect crmasks_params.yaml -o masks.fits
"""


def add_detect(commands, common):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "detect",
        parents=[common],
        help="detect the cosmic rays in some exposures",
        description="Detect the cosmic rays in two or more exposures and write a "
        "file of masks, with a summary, the requirements, a log and a record beside.",
        epilog=_DETECT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_inputs(parser, "detection")
    parser.add_argument(
        "-o",
        "--output",
        default="crmasks.fits",
        metavar="FILE",
        help="the file of masks (default: %(default)s)",
    )
    _add_align(parser)
    add_output_options(parser)
    add_exposure_options(parser)
    parser.set_defaults(run=_run_detect)


def _add_inputs(parser, kind):
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="FILE",
        help=f"the exposures, or a YAML file with a {kind}, or both: then the given "
        "exposures are used",
    )


def _add_align(parser):
    parser.add_argument(
        "--align",
        type=lambda text: yaml_option(text) if text.strip() else text,
        metavar="HOW",
        help="align dithered exposures by whole pixels: measure, wcs, wcs+measure, "
        "these along one axis ('measure y'), or offsets, '[[0, 0], [12, -8]]'",
    )


def _run_detect(options, console):
    block = make_block(options, "detection")
    status = run_single(block, options.output, options, console)
    if status == 0 and not options.dry_run:
        from ccdcr.masks.mask_set import CRMaskSet

        table = CRMaskSet.read(options.output).summary()
        console.say("\n".join(table.pformat(max_lines=-1)))
    return status


_COMBINE_EXAMPLES = """
examples:
  ccdcr combine r1.fits r2.fits r3.fits --crmasks crmasks.fits
  ccdcr combine r*.fits --crmasks crmasks.fits --method mediancr --use-lamedian
  ccdcr combine 8_LcbImage.yaml --set apply_flux_factor=True -o combined.fits
"""


def add_combine(commands, common):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "combine",
        parents=[common],
        help="combine some exposures without the cosmic rays",
        description="Combine exposures with the help of a file of masks. The file "
        "has the extensions PRIMARY, MASK, UNCERT and NUSED.",
        epilog=_COMBINE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_inputs(parser, "combination")
    parser.add_argument(
        "--method",
        help="mediancr, meancrt, meancr, meancr2, median, average or sum "
        "(default: that of the YAML file, or meancr)",
    )
    parser.add_argument("--crmasks", metavar="FILE", help="the file of masks")
    _add_combination(parser)
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="the combined image (default: the name of the method and .fits)",
    )
    add_output_options(parser)
    add_exposure_options(parser)
    parser.set_defaults(run=_run_combine)


_CHOICES = {
    "use-lamedian": "take LAMEDIAN instead of the minimum",
    "use-expected": "replace masked values by expected values (if known)",
    "apply-flux-factor": "divide exposures by the flux factors of the masks",
}


def _add_combination(parser):
    for name, text in _CHOICES.items():
        parser.add_argument(
            f"--{name}", action=argparse.BooleanOptionalAction, help=text
        )
    add_dtype_option(parser)


def _combination_changes(options):
    names = (*(name.replace("-", "_") for name in _CHOICES), "dtype")
    given = ((name, getattr(options, name)) for name in names)
    return [(name, value) for name, value in given if value is not None]


_REMOVE_EXAMPLES = """
examples:
  ccdcr remove r*.fits --gain 1.9 --readnoise 3.8 -o combined.fits
  ccdcr remove r*.fits --method mediancr --set ma_high=6 --align wcs
"""


def add_remove(commands, common):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "remove",
        parents=[common],
        help="detect the cosmic rays in some exposures and combine without them",
        description="Detect the cosmic rays in two or more exposures, and combine the "
        "exposures without them: ccdcr detect and ccdcr combine in one.",
        epilog=_REMOVE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_inputs(parser, "detection")
    parser.add_argument(
        "--method",
        choices=("meancr", "meancrt", "mediancr", "meancr2"),
        default="meancr",
        help="the combination method (default: %(default)s)",
    )
    parser.add_argument(
        "-o",
        "--output",
        default="combined.fits",
        metavar="FILE",
        help="the combined image (default: %(default)s); the masks are written "
        "beside it, to NAME_crmasks.fits",
    )
    _add_combination(parser)
    _add_align(parser)
    add_output_options(parser)
    add_exposure_options(parser)
    parser.set_defaults(run=_run_remove)


def _run_remove(options, console):
    from ccdcr.pipeline.block_options import can_have, check_method, with_changes
    from ccdcr.pipeline.observing_block import ObservingBlock
    from ccdcr.utils.files import check_output

    detection = make_block(options, "detection")
    output = Path(options.output)
    make_settings(options, output=output)  # checks the changes, for both blocks
    masks = output.with_name(f"{output.name.split('.fit')[0]}_crmasks.fits")
    combination = ObservingBlock(
        frames=detection.frames,
        extnum=detection.extnum,
        path=detection.path,
        method=options.method,
        crmasks=str(masks.absolute()),
    )
    changes = [*options.changes, *_combination_changes(options)]
    check_method(with_changes(combination, dict(changes)))
    overwrite = options.overwrite or options.dry_run
    check_output(output, overwrite=overwrite, inputs=expanded(options.inputs))
    for block, path in ((detection, masks), (combination, output)):
        options.changes = [change for change in changes if can_have(block, change[0])]
        if status := run_single(block, path, options, console):
            return status
        if options.dry_run:
            console.say(f"  would write {output}")
            break
    return 0


def _run_combine(options, console):
    block = make_block(options, "combination")
    given = {"method": options.method}
    if options.crmasks is not None:
        given["crmasks"] = str(Path(options.crmasks).absolute())
    given = {name: value for name, value in given.items() if value is not None}
    options.changes += _combination_changes(options)
    block = dataclasses.replace(block, **given)
    method = dict(options.changes).get("method", block.method)
    output = options.output or f"{method}.fits"
    return run_single(block, output, options, console)
