# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The command ``ccdcr combine``."""

import argparse
import dataclasses
from pathlib import Path

from ccdcr.cli.inputs import add_exposure_options, add_output_options
from ccdcr.cli.single import block_of, run_single

__all__ = ["add_parser"]

_EXAMPLES = """
examples:
  ccdcr combine r1.fits r2.fits r3.fits --crmasks crmasks.fits
  ccdcr combine r*.fits --crmasks crmasks.fits --method mediancr --use-lamedian
  ccdcr combine 8_LcbImage.yaml --set apply_flux_factor=True -o combined.fits
"""


def add_parser(commands, common):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "combine",
        parents=[common],
        help="combine some exposures without the cosmic rays",
        description="Combine exposures with the help of a file of masks. The file "
        "has the extensions PRIMARY, MASK, UNCERT and NUSED.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="FILE",
        help="the exposures, or a YAML file with a combination, or both: then the "
        "exposures win",
    )
    parser.add_argument(
        "--method",
        help="mediancr, meancrt, meancr, meancr2, median, average or sum "
        "(default: that of the YAML file, or meancr)",
    )
    parser.add_argument("--crmasks", metavar="FILE", help="the file of masks")
    for name, text in (
        ("use-lamedian", "take LAMEDIAN instead of the minimum"),
        ("apply-flux-factor", "divide exposures by the flux factors of the masks"),
    ):
        parser.add_argument(
            f"--{name}", action=argparse.BooleanOptionalAction, help=text
        )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="the combined image (default: the name of the method and .fits)",
    )
    add_output_options(parser)
    add_exposure_options(parser)
    parser.set_defaults(run=_run)


def _run(options, console):
    block = block_of(options, "combination")
    given = {"method": options.method}
    if options.crmasks is not None:
        given["crmasks"] = str(Path(options.crmasks).absolute())
    given = {name: value for name, value in given.items() if value is not None}
    for name in ("use_lamedian", "apply_flux_factor"):
        if (value := getattr(options, name)) is not None:
            options.changes.append((name, value))
    block = dataclasses.replace(block, **given)
    method = dict(options.changes).get("method", block.method)
    output = options.output or f"{method}.fits"
    return run_single(block, output, options, console)
