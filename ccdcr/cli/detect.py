# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The command ``ccdcr detect``."""

import argparse

from ccdcr.cli.inputs import add_exposure_options, add_output_options
from ccdcr.cli.single import block_of, run_single

__all__ = ["add_parser"]

_EXAMPLES = """
examples:
  ccdcr detect r1.fits r2.fits r3.fits --gain 1.9 --readnoise 3.8
  ccdcr detect 'r*.fits.fz' --gain GAIN --readnoise RDNOISE --set mm_seed=1
  ccdcr detect crmasks_params.yaml -o masks.fits
"""


def add_parser(commands, common):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "detect",
        parents=[common],
        help="detect the cosmic rays in some exposures",
        description="Detect the cosmic rays in two or more exposures and write a "
        "file of masks, with a summary, the requirements, a log and a record beside.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="FILE",
        help="the exposures, or a YAML file with a detection, or both: then the "
        "exposures win",
    )
    parser.add_argument(
        "-o",
        "--output",
        default="crmasks.fits",
        metavar="FILE",
        help="the file of masks (default: %(default)s)",
    )
    add_output_options(parser)
    add_exposure_options(parser)
    parser.set_defaults(run=_run)


def _run(options, console):
    block = block_of(options, "detection")
    status = run_single(block, options.output, options, console)
    if status == 0 and not options.dry_run:
        from ccdcr.maskset import CRMaskSet

        table = CRMaskSet.read(options.output).summary()
        console.say("\n".join(table.pformat(max_lines=-1)))
    return status
