# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Options of a combination in an observing block, and the template of blocks."""

import dataclasses
import inspect
import textwrap

from ccdcr.combination.combination_settings import check_dtype
from ccdcr.combination.combine import combine
from ccdcr.combination.methods import METHODS
from ccdcr.exceptions import short_repr
from ccdcr.exposures.ccd_values import GAIN_KEYWORDS, READNOISE_KEYWORDS
from ccdcr.requirements.requirement_table import (
    ALIASES,
    CRMETHODS,
    REQUIREMENTS,
    STAGES,
    boolean,
)
from ccdcr.requirements.requirements import refuse_unknown, yaml_value
from ccdcr.utils.files import none_if_named
from ccdcr.utils.scratch import to_bytes

__all__ = [
    "METHOD_KWARGS",
    "PLAIN",
    "can_have",
    "check_changes",
    "check_method",
    "with_changes",
    "write_template",
]

PLAIN = ("average", "median", "sum")
_NOT_IN_YAML = {
    "crmasks",
    "overwrite_output",
    "array_package",
    "progress_bar",
    "extension",
    "unit",
    "combine_uncertainty_function",
}
METHOD_KWARGS = {
    name: parameter.default
    for name, parameter in inspect.signature(combine).parameters.items()
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name not in _NOT_IN_YAML
}
_OF_BLOCK = ("method", "crmasks")


def check_method(block):
    """Return the method of a combination and its options by name."""
    if block.method not in {*METHODS, *PLAIN}:
        allowed = ", ".join([*METHODS, *PLAIN])
        msg = f"method must be one of {allowed}, got {block.method!r}"
        raise ValueError(msg)
    if (block.method in METHODS) != (block.crmasks is not None):
        msg = f"method {block.method} does not use crmasks, got {block.crmasks!r}"
        if block.method in METHODS:
            msg = f"crmasks must be given for the method {block.method}: the file of "
            msg += "masks, or use the method median or average"
        raise ValueError(msg)
    given = {
        _known(name): none_if_named(value)
        for name, value in block.method_kwargs.items()
    }
    for name, value in given.items():
        _check_option(name, value)
    check_dtype(given.get("dtype"), kinds="fiu" if block.method in PLAIN else "f")
    return block.method, given


def _check_option(name, value):
    if name not in METHOD_KWARGS:
        msg = (
            f"method_kwargs must be among {', '.join(METHOD_KWARGS)}, "
            f"got {short_repr(name)}"
        )
        raise ValueError(msg)
    if name == "mem_limit":
        to_bytes(value)
    if isinstance(METHOD_KWARGS[name], bool):
        boolean(value, name)


def check_changes(changes):
    """Refuse names that no block can have."""
    refuse_unknown(changes, [*METHOD_KWARGS, *_OF_BLOCK])


def can_have(block, name):
    """Return whether the block can have a change of this name."""
    if block.requirements is not None:
        return name in {*REQUIREMENTS, *ALIASES}
    return name in _OF_BLOCK or _known(name) in METHOD_KWARGS


def with_changes(block, changes):
    """Return the block with new values by name; names it cannot have are ignored."""
    changes = {name: v for name, v in changes.items() if can_have(block, name)}
    if block.requirements is not None:
        requirements = block.requirements.replace(**changes)
        return dataclasses.replace(block, requirements=requirements)
    of_block = {name: v for name, v in changes.items() if name in _OF_BLOCK}
    kwargs = {
        # Aliases are resolved, so that a change wins by either name.
        _known(name): value
        for name, value in [*block.method_kwargs.items(), *changes.items()]
        if name not in _OF_BLOCK
    }
    return dataclasses.replace(block, method_kwargs=kwargs, **of_block)


def _known(name):
    return ALIASES.get(name, name)


_FRAMES = ("exposure1.fits", "exposure2.fits", "exposure3.fits")
_TOP = """\
# Observing blocks of ccdcr, separated by ---. Run them: ccdcr run THIS_FILE
"""
_SHORT = "# All options, with their meaning: ccdcr template --all\n"
_LONG = """\
# Pixels and regions are in FITS style: the first pixel is [1, 1], x comes first,
# limits are inclusive. none: not given.
"""
_DETECTION = """\
id: {id}  # output: crmasks.fits in the folder obsid<id>_results
mode: detection
frames:  # in data/ beside this file, or beside it; wildcards are allowed
{frames}
{extnum}gain: none  # electron/adu, or a header keyword; none = {gain}
{parts}readnoise: none  # electron, or a header keyword; none = {readnoise}
{more}requirements:
{requirements}
"""
_COMBINATION = """\
id: {id}  # output: {{method}}.fits in the folder obsid<id>_results
mode: combination
frames:
{frames}
{extnum}requirements:
  method: meancr  # {methods}
{more}  crmasks: crmasks.fits  # of the detection above, of data/, or any path
"""
_AMPLIFIERS = '# gain: {"[1:1024, :]": 3.1, "[1025:2048, :]": 3.3}  # by amplifier\n'
_ALIGN = """\
# rnoise: 2.0  # in place of readnoise: in adu
bias: none  # adu, or a header keyword; level that the frames still contain
noise: auto  # uncertainty (of the frames) or detector (gain, readnoise); auto = either
align: none  # dithered frames: measure, measure y, wcs, wcs+measure or [[0, 0], ...]
mem_limit: none  # such as 1 GB: what does not fit is kept in temporary files
"""
_KWARGS = """\
  method_kwargs:
    apply_flux_factor: none  # divide by flux factors; none = those of exposure times
    use_lamedian: false  # take LAMEDIAN instead of the minimum
    use_expected: none  # masked values become those without hits; none = if known
"""
_METHOD = f"  crmethod: matched  # {', '.join(CRMETHODS[:3])}, ..."
# The default method first; what only the command line uses, last.
_ORDER = ("general", "matched", "unmatched", "lacosmic", "mm", "display")


def write_template(
    frames=(), *, block_id="night1", only=None, whole=False, extnum=None, known=None
):
    """Return the text of a YAML file with a detection, a combination, or both."""
    usual = {
        "gain": " or ".join(GAIN_KEYWORDS),
        "readnoise": ", ".join(READNOISE_KEYWORDS),
    }
    common = {
        "frames": "\n".join(f"  - {yaml_value(name)}" for name in frames or _FRAMES),
        "extnum": _extnum_line(extnum, whole=whole),
    }
    detection = _DETECTION.format(
        **usual | (known or {}),
        id=yaml_value(f"{block_id}_crmasks"),
        parts=_AMPLIFIERS if whole else "",
        more=_ALIGN if whole else "",
        requirements="\n".join(_requirement_lines()) if whole else _METHOD,
        **common,
    )
    combination = _COMBINATION.format(
        id=yaml_value(block_id),
        methods=" | ".join([*METHODS, *PLAIN]),
        more=_KWARGS if whole else "",
        **common,
    )
    blocks = {"detection": detection, "combination": combination}
    chosen = blocks.values() if only is None else [blocks[only]]
    return _TOP + (_LONG if whole else _SHORT) + "---\n".join(chosen)


def _extnum_line(extnum, *, whole):
    if extnum is None and not whole:
        return ""
    value = "none" if extnum is None else yaml_value(extnum)
    what = "number or name of the FITS extension; none = the only image"
    return f"extnum: {value}  # {what}\n"


def _requirement_lines():
    for stage in _ORDER:
        always = STAGES[stage] == STAGES["general"]
        used = "" if always else f", used by crmethod {', '.join(STAGES[stage])}"
        yield from _wrapped(f"--- {stage}{used}")
        for row in REQUIREMENTS.values():
            if row.stage == stage:
                unit = f" [{row.unit}]" if row.unit else ""
                yield from _wrapped(f"{row.meaning}{unit}: {row.kind.allowed}")
                yield f"  {row.name}: {yaml_value(row.default)}"


def _wrapped(text):
    return textwrap.wrap(text, 88, initial_indent="  # ", subsequent_indent="  #   ")
