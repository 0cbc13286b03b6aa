# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Options of a combination, and changes to what a block says."""

import dataclasses
import difflib
import inspect

from ccdcr._requirement_kinds import boolean, short_repr
from ccdcr._requirements_table import ALIASES, REQUIREMENTS
from ccdcr._yaml import none_if_named
from ccdcr.combination.combine import combine
from ccdcr.combination.methods import METHODS
from ccdcr.exceptions import UnknownRequirementError

__all__ = [
    "METHOD_KWARGS",
    "PLAIN",
    "can_have",
    "check_changes",
    "check_method",
    "with_changes",
]

PLAIN = ("average", "median", "sum")
_NOT_IN_YAML = {
    "crmasks",
    "overwrite_output",
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
    """
    Check the method of a combination and its options.

    Parameters
    ----------
    block : `~ccdcr.ObservingBlock`
        A combination.

    Returns
    -------
    method : str
        The method.
    method_kwargs : dict
        The options by name.
    """
    if block.method not in {*METHODS, *PLAIN}:
        allowed = ", ".join([*METHODS, *PLAIN])
        msg = f"method must be one of {allowed}, got {block.method!r}"
        raise ValueError(msg)
    if (block.method in METHODS) != (block.crmasks is not None):
        rule = "needs" if block.method in METHODS else "does not use"
        msg = f"method {block.method} {rule} crmasks, got {block.crmasks!r}"
        raise ValueError(msg)
    given = {
        _known(name): none_if_named(value)
        for name, value in block.method_kwargs.items()
    }
    for name, value in given.items():
        _check_option(name, value)
    return block.method, given


def _check_option(name, value):
    if name not in METHOD_KWARGS:
        msg = (
            f"method_kwargs must be among {', '.join(METHOD_KWARGS)}, "
            f"got {short_repr(name)}"
        )
        raise ValueError(msg)
    if isinstance(METHOD_KWARGS[name], bool):
        boolean(value, name)


def check_changes(changes):
    """Refuse names that no block can have."""
    known = [*REQUIREMENTS, *ALIASES, *METHOD_KWARGS, *_OF_BLOCK]
    for name in changes:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            msg = f"unknown name {name!r}; did you mean {nearest!r}?"
            raise UnknownRequirementError(msg)


def can_have(block, name):
    """Return whether a change of this name is one of this block."""
    if block.requirements is not None:
        return name in {*REQUIREMENTS, *ALIASES}
    return name in _OF_BLOCK or _known(name) in METHOD_KWARGS


def with_changes(block, changes):
    """
    Return a block with other requirements or options.

    Parameters
    ----------
    block : `~ccdcr.ObservingBlock`
        The block.
    changes : dict
        New values by name; names that the block cannot have are left out.

    Returns
    -------
    block : `~ccdcr.ObservingBlock`
        The changed block.
    """
    changes = {name: v for name, v in changes.items() if can_have(block, name)}
    if block.requirements is not None:
        requirements = block.requirements.replace(**changes)
        return dataclasses.replace(block, requirements=requirements)
    of_block = {name: v for name, v in changes.items() if name in _OF_BLOCK}
    kwargs = {
        # Under one name, so that a change by another name wins, too.
        _known(name): value
        for name, value in [*block.method_kwargs.items(), *changes.items()]
        if name not in _OF_BLOCK
    }
    return dataclasses.replace(block, method_kwargs=kwargs, **of_block)


def _known(name):
    return ALIASES.get(name, name)
