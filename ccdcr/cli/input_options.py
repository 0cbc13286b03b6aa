# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Options of exposures and detectors, and their translation for the library."""

import argparse
import glob
import re
import sys
from pathlib import Path

__all__ = [
    "UsageError",
    "add_dtype_option",
    "add_exposure_options",
    "add_folder_option",
    "add_noise_options",
    "add_output_options",
    "add_reading_options",
    "expanded",
    "is_yaml",
    "make_settings",
    "reviewer",
    "to_options",
    "yaml_option",
]


class UsageError(Exception):
    """Wrong usage of options."""


# name=value and rules, as messages of the library have them.
_VALUE = r"(?<![\w.'/-])([a-z_]+)=(True|False|'[^']*'|[\d.]*)(?=[\s;,)]|$)"
_RULE = r"(?<!the )(?<!a )(?<![\w.'/-])([a-z_]+)(?= must\b| needs\b|: the file)"
_PYTHON_ONLY = (
    r", or (give )?CCDData objects,?|set ccd\.unit, or |"
    r", and add_expected\(ccds, masks\) makes them|"
    r"compute them again with add_expected\(ccds, masks\), or "
)
_POSITIONAL = {"files", "frames", "images", "inputs", "masks"}


def to_options(text, options):
    """Return a message of the library with options in place of its parameters."""

    def value(match):
        name, text = match[1].removesuffix("_output"), match[2].strip("'")
        flag = name.replace("_", "-")
        if name in vars(options):
            if text == "False":
                return f"--no-{flag}"
            return f"--{flag} {text.removeprefix('True')}".rstrip()
        is_known = text and "changes" in vars(options) and _can_be_set(name)
        return f"--set {name}={text}" if is_known else match[0]

    def rule(match):
        if match[1] in {"ccds", "img_list"}:
            return "the exposures"
        given = vars(options).get(match[1])
        required = match.string.startswith(" must be given", match.end())
        named = match[1] in vars(options).keys() - _POSITIONAL
        if named and (required or (given is not None and given is not False)):
            return f"--{match[1].replace('_', '-')}"
        return match[1]

    text = re.sub(_VALUE, value, re.sub(_PYTHON_ONLY, "", text))
    text = text.replace("with add_expected(ccds, masks)", "with --noise auto")
    return re.sub(_RULE, rule, text)


def _can_be_set(name):
    from ccdcr.pipeline.block_options import METHOD_KWARGS
    from ccdcr.requirements.requirement_table import REQUIREMENTS

    return name in REQUIREMENTS or name in METHOD_KWARGS


def add_exposure_options(parser):
    """Add the options of the exposures and the detector."""
    group = parser.add_argument_group("exposures")
    group.add_argument(
        "--datadir",
        metavar="FOLDER",
        help="folder of the files that a YAML file names (default: data beside it; "
        "the folder of the YAML file is searched next)",
    )
    add_reading_options(group)
    add_noise_options(group)
    group.add_argument(
        "--ignore-flags",
        metavar="FLAGS",
        help="flags (extension FLAGS or DQ) that are not bad, by number or name, such "
        "as '~4,8' (only these are bad) or 0 (all are bad); default: none is bad",
    )
    group.add_argument(
        "--flag-name-map",
        choices=("hst", "jwst", "gemini", "pypeit", "ccdcr"),
        help="names of flags",
    )
    group.add_argument(
        "--mem-limit",
        type=_mem_limit,
        metavar="BYTES",
        help="memory limit, such as 1e9 or 1GB, beside python and its packages; "
        "what does not fit is kept in temporary files (default: none, 16e9 to combine)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=_change,
        metavar="NAME=VALUE",
        dest="changes",
        help="set an entry of requirements, written as in YAML; may be repeated",
    )


def add_noise_options(group):
    """Add the options for gain, read noise, bias and the source of the noise."""
    keyword = (
        "a number with or without unit, a header keyword, or these by amplifier, as "
        '\'{"[1:1024, :]": 3.1, "[1025:2048, :]": 3.3}\''
    )
    group.add_argument(
        "--gain", type=_parameter, metavar="X", help=f"electron/adu: {keyword}"
    )
    group.add_argument(
        "--readnoise", type=_parameter, metavar="X", help=f"electron: {keyword}"
    )
    group.add_argument(
        "--bias", type=_parameter, metavar="X", help=f"unit of the data: {keyword}"
    )
    group.add_argument(
        "--noise",
        choices=("auto", "uncertainty", "detector"),
        help="source of the noise: the uncertainties of the exposures, or "
        "gain and read noise (default: auto, the former if each exposure has one)",
    )


def add_reading_options(group):
    """Add the options for reading a file."""
    group.add_argument(
        "--extension",
        "--extnum",
        type=_number_or_name,
        metavar="NAME",
        help="name or number of the FITS extension (default: the primary "
        "image, else the only one that is not a mask or an uncertainty)",
    )
    group.add_argument(
        "--unit", help="unit of the exposures (default: BUNIT, or adu without it)"
    )


def add_dtype_option(parser):
    """Add the option for the type of combined images."""
    parser.add_argument(
        "--dtype",
        help="type of combined images, such as float64 (default: auto, float32 if the "
        "exposures are float32 or 16-bit integers)",
    )


def add_folder_option(parser, default, text="where files are written"):
    """Add the folder of the output, and what is written there."""
    parser.add_argument(
        "-o",
        "--output-folder",
        default=default,
        metavar="FOLDER",
        help=f"{text} (default: {default})",
    )


def add_output_options(parser):
    """Add the options for existing files and dry runs."""
    parser.add_argument("--overwrite", action="store_true", help="replace files")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check everything, say what would be done, write nothing",
    )


def _number_or_name(text):
    """Return a number, a name, or a name and a version (``SCI,2``)."""
    name, comma, version = text.partition(",")
    if comma and version.strip().isdigit():
        return name.strip(), int(version)
    return int(text) if text.lstrip("-").isdigit() else text


def _parameter(text):
    """Return a number, a Quantity, the name of a keyword, or these by section."""
    if text.lstrip().startswith("{"):
        return _by_section(text)
    try:
        return float(text)
    except ValueError:
        from astropy import units as u

    try:
        return u.Quantity(text)
    except (TypeError, ValueError):
        return text


def _mem_limit(text):
    """Return a memory limit in bytes."""
    from ccdcr.utils.scratch import to_bytes

    try:
        return to_bytes(text)
    except ValueError as err:
        raise argparse.ArgumentTypeError(str(err).removeprefix("mem_limit ")) from err


def _by_section(text):
    from ccdcr.utils.files import load_value

    try:
        sections = load_value(text)
    except ValueError as err:
        raise argparse.ArgumentTypeError(str(err)) from err
    return {str(section): _parameter(str(value)) for section, value in sections.items()}


def yaml_option(text):
    """Return the value of an option in YAML."""
    from ccdcr.utils.files import load_value

    try:
        return load_value(text)
    except ValueError as err:
        raise argparse.ArgumentTypeError(str(err)) from err


def _change(text):
    name, equals, value = text.partition("=")
    if not (name.strip() and equals):
        msg = f"must be NAME=VALUE, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return name.strip(), yaml_option(value)


def _parse_changes(options):
    """Return the changes of ``--set`` by name; unknown names are wrong usage."""
    from ccdcr.exceptions import UnknownRequirementError
    from ccdcr.pipeline.block_options import check_changes

    changes = dict(options.changes)
    try:
        check_changes(changes)
    except UnknownRequirementError as err:
        msg = f"--set: {err}"
        raise UsageError(msg) from err
    return changes


def expanded(names):
    """Return absolute paths of files; wildcards the shell left are expanded."""
    paths = []
    for name in names:
        matches = [] if Path(name).exists() else sorted(glob.glob(name))  # noqa: PTH207
        paths += [Path(match).absolute() for match in matches or [name]]
    return paths


def is_yaml(path):
    """Return whether a file name is that of a YAML file."""
    return path.suffix.lower() in {".yaml", ".yml"}


def reviewer(options):
    """Return the function that shows detections in a window, or None."""
    no_terminal = sys.stdout is None or not sys.stdout.isatty()
    if options.dry_run or getattr(options, "jobs", 1) > 1 or no_terminal:
        return None
    from ccdcr.reviewing import review

    return review


def make_settings(options, **output):
    """Return the `Settings` of the options, and of where the ``output`` goes."""
    from ccdcr.pipeline.plan import Settings

    names = ("gain", "readnoise", "bias", "noise", "ignore_flags", "flag_name_map")
    return Settings(
        datadir=None if options.datadir is None else Path(options.datadir),
        detector={name: getattr(options, name) for name in names},
        extension=options.extension,
        unit=options.unit,
        align=getattr(options, "align", None),
        overwrite=options.overwrite,
        changes=_parse_changes(options),
        mem_limit=options.mem_limit,
        review=reviewer(options),
        **output,
    )
