# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the package as a whole."""

import subprocess
import sys

import pytest

import ccdcr


def test_names():
    """All public names are there, each from the module that defines it."""
    for name in ccdcr.__all__:
        assert name in dir(ccdcr)
        value = getattr(ccdcr, name)
        if name != "__version__":
            assert value.__name__ == name
            assert value.__module__.startswith("ccdcr.")


def test_unknown():
    """Any other name is an error."""
    with pytest.raises(AttributeError, match="'ccdcr' has no attribute 'combiner2'"):
        _ = ccdcr.combiner2


def test_import():
    """Importing the package alone imports nothing heavy."""
    script = "import sys, ccdcr; print({'numpy', 'astropy'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout == "set()\n"
