# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Commands ``ccdcr info``, ``clean``, ``flag``, ``report``, ``compare``, ``demo``."""

import argparse
import time
from pathlib import Path

from ccdcr.cli.input_options import (
    UsageError,
    add_folder_option,
    add_noise_options,
    add_reading_options,
    expanded,
)

__all__ = ["add_clean", "add_demo", "add_flag", "add_info", "add_report_and_compare"]


def add_info(commands, common):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "info",
        parents=[common],
        help="print the summary of a file of masks",
        description="Print the content of a file of masks.",
    )
    parser.add_argument("files", nargs="+", metavar="crmasks.fits", help="the file")
    parser.set_defaults(run=_info)


def _info(options, console):
    from ccdcr.masks.mask_set import CRMaskSet

    for path in expanded(options.files):
        masks = CRMaskSet.read(path)
        console.say(f"{path}\n{masks}")
        console.say("\n".join(_origin(masks)))
        console.say("\n".join(["", *masks.summary().pformat(max_lines=-1), ""]))
    return 0


def _origin(masks):
    """Yield lines: detector, requirements that are not the default, files."""
    from ccdcr.masks.mask_checks import describe_values

    for name, unit in (("gain", "electron/adu"), ("readnoise", "electron")):
        text = describe_values(name, getattr(masks, name), unit)
        yield f"{name}: {text or 'unknown'}"
    yield f"bias: {'unknown' if masks.bias is None else f'{masks.bias:g}'}"
    changed = "unknown" if masks.requirements is None else repr(masks.requirements)
    yield f"requirements: {changed}"
    for number in range(1, len(masks) + 1):
        if name := masks.meta.get(f"FILE{number}"):
            yield f"exposure {number}: {name}"


def add_clean(commands, common):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "clean",
        parents=[common],
        help="write the exposures without their cosmic rays",
        description="Replace masked pixels of each exposure by their expected values, "
        "computed from the other exposures. Files have the extensions PRIMARY, MASK "
        "and UNCERT. If the masks have no expected values, they are computed first.",
    )
    _add_inputs(parser)
    group = parser.add_argument_group(
        "noise", "If one of these is given, the expected values are computed again."
    )
    add_noise_options(group)
    add_folder_option(parser, ".", "folder of the files NAME_clean.fits")
    parser.add_argument("--overwrite", action="store_true", help="replace files")
    parser.set_defaults(run=_clean)


def _clean(options, console):
    from ccdcr.detection.detect_cosmic_rays import add_expected
    from ccdcr.utils.files import check_output, write_hdulist

    overwrite = options.overwrite
    inputs = expanded([options.masks, *options.images])
    folder = Path(options.output_folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{path.name.split('.fit')[0]}_clean.fits" for path in inputs[1:]]
    if len(set(paths)) < len(paths):
        msg = "the exposures must have different names"
        raise UsageError(msg)
    for path in paths:
        check_output(path, overwrite=overwrite, inputs=inputs)
    ccds, masks = _read(options)
    names = "gain", "readnoise", "bias", "noise"
    given = {name: getattr(options, name) for name in names}
    if masks.expected is None or any(value is not None for value in given.values()):
        exposures = masks._aligned(ccds)  # noqa: SLF001
        masks = add_expected(exposures, masks, **given)
    for ccd, path in zip(masks.clean(ccds), paths, strict=True):
        write_hdulist(_with_flags(ccd), path, overwrite=overwrite)
        console.say(f"{path}")
    return 0


def add_flag(commands, common):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "flag",
        parents=[common],
        help="write the masks to the DQ extensions of the exposures, and to DS9",
        description="Write copies of the exposures whose extension DQ has flags where "
        "they are masked, and if asked a region file of DS9.",
    )
    _add_inputs(parser)
    add_folder_option(parser, "flagged")
    parser.add_argument(
        "--convention",
        default="hst",
        choices=("ccdcr", "hst", "astrodrizzle", "jwst", "gemini", "pypeit"),
        help="values of the flags (default: %(default)s)",
    )
    parser.add_argument(
        "--regions", metavar="FILE", help="write boxes around MEDIANCR to FILE"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files")
    parser.set_defaults(run=_flag)


def _flag(options, console):
    _, masks = _read(options)
    overwrite = {"overwrite": options.overwrite}
    paths = masks.write_dq(
        expanded(options.images),
        options.output_folder,
        convention=options.convention,
        extension=options.extension,
        **overwrite,
    )
    if options.regions is not None:
        masks.write_regions(options.regions, **overwrite)
        paths.append(options.regions)
    for path in paths:
        console.say(f"{path}")
    return 0


def _with_flags(ccd):
    """Return the FITS extensions of a CCDData, also of its flags."""
    from ccdcr.exposures.exposure_flags import flag_hdus

    hdus, ccd.flags = flag_hdus(ccd.flags), None  # astropy < 8 does not write them
    whole = ccd.to_hdu()
    whole.extend(hdus)
    return whole


def add_report_and_compare(commands, common):
    """Add the commands to the parser."""
    report = commands.add_parser(
        "report",
        parents=[common],
        help="make figures, tables and a page of the detections",
        description="Write figures, tables, galleries of the detections and a page "
        "that shows them (index.html) to a folder.",
    )
    _add_inputs(report)
    add_folder_option(report, "report")
    report.add_argument(
        "--mask",
        default="MEDIANCR",
        help="mask whose detections are shown (default: %(default)s)",
    )
    report.add_argument(
        "--maxplots", type=int, help="detections in a gallery; -1 = all"
    )
    report.add_argument(
        "--detect-again",
        action="store_true",
        help="repeat the detection with the requirements of the masks, to find out "
        "which detector found each pixel",
    )
    report.add_argument("--overwrite", action="store_true", help="replace files")
    report.set_defaults(run=_report)
    compare = commands.add_parser(
        "compare",
        parents=[common],
        help="compare the combination methods",
        description="Combine exposures by all methods, and print noise, residuals and "
        "fluxes of each.",
    )
    _add_inputs(compare)
    compare.add_argument(
        "-o", "--output", metavar="FILE", help="figure of the images and differences"
    )
    compare.add_argument("--overwrite", action="store_true", help="replace the figure")
    compare.set_defaults(run=_compare)


class _MasksFirst(argparse.Action):
    """Refuse an option that other commands have."""

    def __call__(self, parser, *_):
        parser.error(
            f"the file of masks is no option here, it comes first: {parser.prog} "
            "crmasks.fits FILE [FILE ...]"
        )


def _add_inputs(parser):
    parser.add_argument("masks", metavar="crmasks.fits", help="the file of masks")
    parser.add_argument("images", nargs="+", metavar="FILE", help="its exposures")
    parser.add_argument("--crmasks", action=_MasksFirst, help=argparse.SUPPRESS)
    add_reading_options(parser)


def _read(options):
    from ccdcr.exposures import load_ccds
    from ccdcr.masks.mask_set import CRMaskSet

    ccds, _ = load_ccds(
        expanded(options.images),
        name="the exposures",
        extension=options.extension,
        unit=options.unit,
    )
    return ccds, CRMaskSet.read(options.masks)


def _report(options, console):
    from ccdcr.report import write_report

    report = write_report(
        *_read(options),
        options.output_folder,
        mask=options.mask,
        maxplots=options.maxplots,
        detect_again=options.detect_again,
        overwrite=options.overwrite,
        progress_bar=console.progress,
    )
    for line in report.missing:
        console.say(console.translate(f"missing: {line}"))
    console.say(f"{len(report.detections)} detections, {report.paths['index.html']}")
    return 0


def _compare(options, console):
    from ccdcr.inspection import compare_methods
    from ccdcr.utils.files import atomic_path, check_output

    if options.output is not None:
        check_output(
            options.output,
            overwrite=options.overwrite,
            inputs=expanded([options.masks, *options.images]),
        )
    comparison = compare_methods(*_read(options))
    console.say("\n".join(comparison.table.pformat(max_lines=-1, max_width=-1)))
    if options.output is not None:
        from ccdcr.plotting import plot_comparison

        figure = plot_comparison(comparison)
        ending = Path(options.output).suffix.lstrip(".") or "png"
        with atomic_path(options.output, overwrite=options.overwrite) as temporary:
            figure.savefig(temporary, format=ending)
        console.say(f"{options.output}")
    return 0


def add_demo(commands, common):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "demo",
        parents=[common],
        help="simulate three exposures, remove their cosmic rays, compare",
        description="Simulate three exposures with cosmic rays, detect and remove "
        "them, and compare the combinations with the truth.",
    )
    add_folder_option(parser, "ccdcr_demo")
    parser.add_argument(
        "--scene",
        default="fibres",
        choices=("fibres", "longslit", "stars"),
        help="scene (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="seed of the simulation (default: 1)"
    )
    parser.add_argument(
        "--no-figure", action="store_true", help="do not draw the figure"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace existing files"
    )
    parser.set_defaults(run=_run_demo)


def _run_demo(options, console):
    # Importing plots and detection takes a second: not for --help.
    from ccdcr.cli.demo import run_demo

    start = time.perf_counter()
    masks, evaluation, paths = run_demo(
        options.output_folder,
        scene=options.scene,
        seed=options.seed,
        figure=not options.no_figure,
        overwrite=options.overwrite,
        progress_bar=console.progress,
    )
    console.say("\n".join(masks.summary().pformat(max_lines=-1)))
    console.say(f"\n{evaluation}\n")
    seconds = time.perf_counter() - start
    console.say(f"{len(paths)} files in {paths[0].parent}, {seconds:.1f} s")
    for path in paths:
        console.say(f"  {path.name}")
    return 0
