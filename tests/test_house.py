# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the layout of the code: imports point down, names are used once."""

import ast
from collections import Counter
from pathlib import Path

import pytest

import ccdcr

PACKAGE = Path(ccdcr.__file__).parent
# From the ground up; a room imports only from itself and from rooms before it.
ROOMS = [
    "exceptions",
    "utils",
    "requirements",
    "exposures",
    "single_image",
    "median_minimum",
    "matching",
    "masks",
    "detection",
    "combination",
    "simulation",
    "inspection",
    "plotting",
    "report",
    "reviewing",
    "pipeline",
    "cli",
]
# Functions of arrays: they know nothing of files, requirements and warnings.
SCIENCE = {"single_image", "median_minimum", "matching"}
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(name):
    """Return the room of a dotted name, such as ``ccdcr.masks.mask_set``."""
    return name.split(".")[1]


def imports_of(path):
    """Yield the dotted names that a file imports from the package, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in {path}"
            for alias in node.names:
                yield f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def rooms_used(path):
    """Return the rooms that a file imports from."""
    names = [name for name in imports_of(path) if name.startswith("ccdcr.")]
    return {room for name in names if (room := room_of(name)) in ROOMS}


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_down(room):
    """No file imports from a room above it, in a function neither."""
    files = [PACKAGE / "exceptions.py"]
    if room != "exceptions":
        files = list((PACKAGE / room).glob("*.py"))
    assert files
    above = set(ROOMS[ROOMS.index(room) + 1 :])
    assert {path.name: rooms_used(path) & above for path in files} == {
        path.name: set() for path in files
    }


@pytest.mark.parametrize("room", sorted(SCIENCE))
def test_science_is_arrays(room):
    """What computes imports helpers, and what is below it of its own kind."""
    for path in (PACKAGE / room).glob("*.py"):
        assert rooms_used(path) <= {"utils", room}, path.name


def test_every_file_has_a_room():
    """Beside the rooms there are four files at most."""
    folders = {path.parent.name for path in FILES} - {"ccdcr"}
    assert folders == set(ROOMS) - {"exceptions"}
    root = {path.name for path in PACKAGE.glob("*.py")}
    assert root <= {"__init__.py", "__main__.py", "_version.py", "exceptions.py"}


def test_names_once():
    """A file name says where it is."""
    names = Counter(p.name for p in FILES if not p.name.startswith("__"))
    assert [name for name, number in names.items() if number > 1] == []


def test_simulations_are_reproducible():
    """Every simulation of a test says its seed, so that no run differs from others."""
    unseeded = []
    for path in Path(__file__).parent.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and "simulate_exposures" in ast.unparse(
                node.func
            ):
                given = {keyword.arg for keyword in node.keywords}
                if not given & {"seed", None}:  # None: a mapping of options
                    unseeded.append(f"{path.name}:{node.lineno}")
    assert not unseeded
