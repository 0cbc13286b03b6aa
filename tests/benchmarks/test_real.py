# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The columns of the benchmark on real exposures, by hand."""

import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
if not (FOLDER / "real.py").exists():
    pytest.skip("benchmarks are not part of a release", allow_module_level=True)


@pytest.fixture
def real(monkeypatch):
    """Return the module."""
    monkeypatch.syspath_prepend(FOLDER)
    import real

    yield real
    for name in ("real", "accuracy"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_mean_of_rest(real):
    """The mean of what is not masked; the minimum where all is."""
    exposures = np.array([[[1.0, 5.0]], [[3.0, 7.0]], [[100.0, 9.0]]])
    masks = np.array([[[False, True]], [[False, True]], [[True, True]]])
    assert real.mean_of_rest(exposures, masks).tolist() == [[2.0, 5.0]]


def test_row(real):
    """Pixels beside the illuminated columns do not count; 8 sigma is not above 8."""
    shape = (3, 2, 400)
    scene = object.__new__(real.Scene)
    scene.clean, scene.sigma = np.full(shape[1:], 100.0), np.full(shape[1:], 2.0)
    scene.hits, scene.far = np.zeros((2, *shape), dtype=bool)
    scene.hits[0, 0, 100:104] = scene.hits[0, 0, 10] = True
    scene.far[:, 1] = True
    masks = np.zeros(shape, dtype=bool)
    masks[0, 0, 100:103] = masks[0, 0, 200] = True  # found, and near a ray
    masks[1, 1, 100:105] = masks[1, 1, 10] = True  # far from any
    image = scene.clean.copy()
    image[0, [100, 101, 102, 10]] = 117, 116, 20, 200
    row = scene.row("method", (masks, image), 1.25).split()
    assert row == ["method", "1", "75.0%", "5", "1.2"]
    assert scene.row("median", (None, image), 1.0).split() == ["median", "1", "1.0"]
