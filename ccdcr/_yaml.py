# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Safe reading of YAML files."""

from pathlib import Path

import yaml

from ccdcr._requirement_kinds import short_repr

_MOST = 10**7  # values, with those that aliases repeat

__all__ = ["load_mapping", "load_mappings", "load_value", "none_if_named"]


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice."""

    def construct_mapping(self, node, deep=False):
        """Build a mapping after checking that its keys differ."""
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                msg = f"keys must be names, got {short_repr(key)}"
                raise yaml.constructor.ConstructorError(
                    None, None, msg, key_node.start_mark
                )
            if key in seen:
                msg = f"{key!r} is given twice"
                raise yaml.constructor.ConstructorError(
                    None, None, msg, key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_mapping(path):
    """Return the mapping at the top of a YAML file of one document."""
    mappings = load_mappings(path)
    if len(mappings) > 1:
        msg = (
            f"{path} is not a valid YAML file: one document is needed, "
            f"found {len(mappings)}"
        )
        raise ValueError(msg)
    return mappings[0]


def load_mappings(path):
    """Return the mappings of all documents of a YAML file; empty ones are left out."""
    content = Path(path).read_bytes()
    try:
        # _Loader is a SafeLoader: plain data only, nothing is evaluated.
        documents = list(yaml.load_all(content.decode(), Loader=_Loader))
        _check_size(documents, {})
    except Exception as err:  # the package raises anything for impossible values
        msg = f"{path} is not a valid YAML file: {err}"
        raise ValueError(msg) from err
    documents = [document for document in documents if document is not None] or [None]
    for document in documents:
        if not isinstance(document, dict):
            msg = (
                f"{path} must hold a mapping of names to values, "
                f"found {type(document).__name__}"
            )
            raise ValueError(msg)  # noqa: TRY004
    return documents


def _check_size(value, known):
    """Return how many values a value holds; a short text may stand for any number."""
    if not isinstance(value, (dict, list, tuple)):
        return 1
    if id(value) not in known:
        known[id(value)] = _MOST  # until it is known: it may hold itself
        items = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_check_size(item, known) for item in items)
    if known[id(value)] > _MOST:
        msg = f"its aliases stand for more than {_MOST} values, or for themselves"
        raise ValueError(msg)
    return known[id(value)]


def load_value(text):
    """Return the value that a YAML text stands for; 'none' is None."""
    try:
        value = yaml.load(text, Loader=_Loader)  # noqa: S506
        _check_size(value, {})
    except Exception as err:
        msg = f"{text!r} is not a valid YAML value"
        raise ValueError(msg) from err
    return none_if_named(value)


def none_if_named(value):
    """Return None for the strings that stand for it."""
    return None if isinstance(value, str) and value in {"none", "None"} else value
