# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the table of error messages: it is complete, and each has its test."""

import importlib.util
from pathlib import Path

import pytest

import ccdcr

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location(
    "messages", ROOT / "docs" / "_ext" / "messages.py"
)
messages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(messages)

ROWS = messages.read_table()


def test_complete():
    """The table has each message of the package once, and no other."""
    found = set(messages.collect(Path(ccdcr.__file__).parent).values())
    listed = [(row["message"], row["error"]) for row in ROWS]
    assert sorted(listed) == sorted(found)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["message"][:40])
def test_tested(row):
    """The test is there and quotes the message, which it expects when it passes."""
    assert messages.holds_words(row["test"], row["message"], ROOT), row


def test_quote():
    """A test that quotes other words is none of a message."""
    test = "tests/test_messages.py::test_quote"
    assert messages.holds_words(test, "words that {name} quotes", ROOT)
    other = "tests/test_messages.py::test_complete"
    assert not messages.holds_words(other, "words that {name} quotes", ROOT)
