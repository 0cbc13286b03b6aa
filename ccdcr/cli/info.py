# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The command ``ccdcr info``."""

__all__ = ["add_parser"]


def add_parser(commands, common):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "info",
        parents=[common],
        help="print the summary of a file of masks",
        description="Print what a file of masks holds, and how it was made.",
    )
    parser.add_argument("files", nargs="+", metavar="crmasks.fits", help="the file")
    parser.set_defaults(run=_run)


def _run(options, console):
    from ccdcr.cli.inputs import expanded
    from ccdcr.maskset import CRMaskSet

    for path in expanded(options.files):
        masks = CRMaskSet.read(path)
        console.say(f"{path}\n{masks}")
        console.say("\n".join(_origin(masks)))
        console.say("\n".join(["", *masks.summary().pformat(max_lines=-1), ""]))
    return 0


def _origin(masks):
    """Yield lines: detector, requirements that are not the default, files."""
    for name, unit in (("gain", " electron/adu"), ("readnoise", " electron")):
        value = getattr(masks, name)
        yield f"{name}: {'unknown' if value is None else f'{value:g}{unit}'}"
    yield f"bias: {'unknown' if masks.bias is None else f'{masks.bias:g}'}"
    changed = "unknown" if masks.requirements is None else repr(masks.requirements)
    yield f"requirements: {changed}"
    for number in range(1, len(masks) + 1):
        if name := masks.meta.get(f"FILE{number}"):
            yield f"exposure {number}: {name}"
