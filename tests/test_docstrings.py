# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests that docstrings are those of numpydoc."""

import inspect
from importlib import import_module
from pathlib import Path

import pytest

import ccdcr

validate = pytest.importorskip("numpydoc.validate")
hook = pytest.importorskip("numpydoc.hooks.validate_docstrings")

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
SOURCE = Path(ccdcr.__file__).parent
PUBLIC = (
    "ccdcr",
    "ccdcr.simulation",
    "ccdcr.plotting",
    "ccdcr.report",
    "ccdcr.median_minimum.exact_boundary",
    "ccdcr.masks.diagnostics",
)
# No long description or "See Also" are needed everywhere; the summary may begin on the
# line of the quotes, and begin with a plural, which is taken for a verb. Returned
# values have a name. Parameters of **names are not seen in the code.
NOT_NEEDED = {"ES01", "SA01", "SA04", "GL01", "SS05", "RT02", "PR02"}
RESULTS = {
    "ccdcr.MethodComparison",
    "ccdcr.masks.diagnostics.Diagnostics",
    "ccdcr.masks.diagnostics.MatchingDiagnostics",
    "ccdcr.report.Report",
    "ccdcr.simulation.Evaluation",
    "ccdcr.simulation.Simulation",
}
# Not on the page of the interface.
PRIVATE = {
    "ccdcr.median_minimum.exact_boundary.invert",
    "ccdcr.median_minimum.exact_boundary.is_off",
    "ccdcr.median_minimum.exact_boundary.judge_noise_model",
    "ccdcr.median_minimum.exact_boundary.likeliest_cause",
    "ccdcr.masks.diagnostics.cut_diagnostics",
}


def public_objects():
    """Return names of classes and functions and their public methods."""
    names = []
    for module in PUBLIC:
        for name in import_module(module).__all__:
            value = getattr(import_module(module), name)
            if not callable(value):
                continue
            if f"{module}.{name}" in PRIVATE:
                continue
            names.append(f"{module}.{name}")
            if inspect.isclass(value):
                names += [
                    f"{module}.{name}.{attribute}"
                    for attribute, member in vars(value).items()
                    if not attribute.startswith("_") and inspect.isfunction(member)
                ]
    return names


def value_of(name):
    """Return what a module holds under a name, None if that is of a class."""
    module, _, name = name.rpartition(".")
    return getattr(import_module(module), name) if module in PUBLIC else None


@pytest.mark.parametrize("name", public_objects())
def test_public(name):
    """Public objects describe parameters, returned values and errors."""
    result = validate.validate(name)
    # The attributes of a dataclass that only this package makes are no parameters.
    not_needed = NOT_NEEDED | ({"PR01"} if name in RESULTS else set())
    # Methods may be in the example of their class.
    if not inspect.isfunction(value_of(name)):
        not_needed |= {"EX01"}
    assert [error for error in result["errors"] if error[0] not in not_needed] == []


@pytest.mark.parametrize(
    "path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.stem
)
def test_all(path):
    """All docstrings pass the checks that pyproject.toml selects."""
    config = hook.parse_config(PYPROJECT.parent)
    assert config["checks"], "no [tool.numpydoc_validation]"
    assert hook.process_file(str(path), config) == []


def test_finds(tmp_path):
    """A wrong docstring is found."""
    path = tmp_path / "wrong.py"
    path.write_text(
        '"""Module."""\n\n\ndef f(a):\n    """\n    do it\n\n    Parameters\n'
        '    ----------\n    a : int\n        first\n    """\n'
    )
    config = hook.parse_config(PYPROJECT.parent)
    codes = {error[2] for error in hook.process_file(str(path), config)}
    assert codes == {"SS02", "SS03", "PR08", "PR09"}
