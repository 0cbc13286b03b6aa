# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of what a detection leaves for figures and reports."""

from dataclasses import FrozenInstanceError
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from ccdcr import CRMaskSet, detect_cosmic_rays, explain_pixel
from ccdcr.masks.diagnostics import Diagnostics, MatchingDiagnostics, cut_diagnostics
from ccdcr.simulation import simulate_exposures

KNOWN = {"gain": "GAIN", "readnoise": "RDNOISE", "la_verbose": False}
PART = np.s_[10:60, 20:110]


@pytest.fixture(scope="module")
def sim():
    """Three exposures with truth."""
    return simulate_exposures((100, 120), scene="fibres", seed=1)


@pytest.fixture(scope="module")
def masks(sim):
    """Masks of two detectors."""
    return detect_cosmic_rays(sim.exposures, crmethod="mm_lacosmic", **KNOWN)


@pytest.fixture(scope="module")
def matched(sim):
    """Masks of matched exposures."""
    return detect_cosmic_rays(sim.exposures, crmethod="matched", **KNOWN)


def test_frozen(matched):
    """Fields cannot be set."""
    with pytest.raises(FrozenInstanceError, match="flags"):
        matched.diagnostics.flags = {}
    with pytest.raises(FrozenInstanceError, match="scale"):
        matched.diagnostics.matching.scale = np.ones(3)
    with pytest.raises(AttributeError, match="diagnostics"):
        matched.diagnostics = Diagnostics()


def test_empty(masks):
    """Without a detection there is nothing; no two sets share it."""
    bare = CRMaskSet(masks.mediancr, masks.meancrt, masks.crmasks)
    assert not bare.diagnostics
    assert bare.diagnostics.flags == bare.diagnostics.boundaries == {}
    assert bare.diagnostics.matching is bare.diagnostics.noise_model is None
    assert repr(bare.diagnostics) == "<Diagnostics()>"
    assert Diagnostics().flags is not Diagnostics().flags


def test_contents(masks, matched):
    """What there is depends on the method; matching has a part of its own."""
    assert masks.diagnostics
    assert masks.diagnostics.matching is None
    assert masks.diagnostics.flags.keys() == masks.planes.keys()
    assert masks.diagnostics.boundaries.keys() == masks.planes.keys()
    assert "noise_model" in repr(masks.diagnostics)
    assert matched.diagnostics.boundaries == matched.diagnostics.diagrams == {}
    assert "matching" in repr(matched.diagnostics)
    matching = matched.diagnostics.matching
    assert_array_equal(matching.scale, [1, 1, 1])
    assert matching.gain_ratio is None
    assert matching.deviations.number.sum() > 0


def test_refused(masks):
    """A dict is none."""
    with pytest.raises(TypeError, match="diagnostics must be Diagnostics, got dict"):
        CRMaskSet(masks.mediancr, masks.meancrt, masks.crmasks, diagnostics={})
    planes = masks.mediancr[:5], masks.meancrt[:5], masks.crmasks[:, :5]
    with pytest.raises(ValueError, match=r"flags of MEDIANCR .*\(100, 120\)"):
        CRMaskSet(*planes, diagnostics=masks.diagnostics)


def test_cut(masks):
    """A part has the flags of its pixels, and the boundaries of the whole."""
    cut = masks[PART].diagnostics
    for name, flags in masks.diagnostics.flags.items():
        assert_array_equal(cut.flags[name], flags[PART])
    assert cut.boundaries is masks.diagnostics.boundaries
    assert cut.noise_model is masks.diagnostics.noise_model
    assert masks.diagnostics.flags["MEDIANCR"].shape == masks.shape


def test_explained_in_a_part(sim, masks):
    """A part of the exposures and masks says the same of a pixel."""
    y, x = np.argwhere(masks.mediancr[:60, :60])[0]
    part = np.s_[: y + 32, : x + 32]
    whole = explain_pixel(sim.exposures, masks, x + 1, y + 1)
    ccds = [ccd[part] for ccd in sim.exposures]
    cut = explain_pixel(ccds, masks[part], x + 1, y + 1)
    assert cut.meta["missing"] == []
    assert cut["verdict"].tolist() == whole["verdict"].tolist()
    limits = (table["limit"].filled(-1) for table in (cut, whole))
    np.testing.assert_allclose(*limits)


def test_cut_of_matched(sim, matched):
    """The tiles of a part would be others: it cannot be searched again."""
    cut = matched[PART]
    assert cut.diagnostics.matching.deviations is (
        matched.diagnostics.matching.deviations
    )
    ccds = [ccd[PART] for ccd in sim.exposures]
    missing = explain_pixel(ccds, cut, 5, 5).meta["missing"]
    assert any("the statistic of the matched exposures" in text for text in missing)


def test_cut_gain():
    """A map of the gain is cut as the images are."""
    ratio = np.arange(20.0).reshape(4, 5)
    matching = MatchingDiagnostics(
        None, np.ones(3), None, gain_ratio=ratio, known=SimpleNamespace(tile=(2, 2))
    )
    cut = cut_diagnostics(Diagnostics(matching=matching), np.s_[1:3, 2:])
    assert_array_equal(cut.matching.gain_ratio, ratio[1:3, 2:])
    assert cut.matching.known is None
    assert matching.known is not None


def test_edit(matched):
    """An edit keeps all but the flags, which are those of the new planes."""
    y, x = np.argwhere(matched.mediancr)[0]
    edited = matched.edit(remove=[(x + 1, y + 1)])
    for name, flags in edited.diagnostics.flags.items():
        assert_array_equal(flags > 0, edited.planes[name])
    assert edited.diagnostics.matching is matched.diagnostics.matching
    assert matched.diagnostics.flags["MEDIANCR"][y, x] > 0


def test_edit_without_meancr(masks):
    """Flags of a mask that is not there are left out."""
    bare = CRMaskSet(
        masks.mediancr, masks.meancrt, masks.crmasks, diagnostics=masks.diagnostics
    )
    edited = bare.edit(remove=[(1, 1)])
    assert edited.diagnostics.flags.keys() == bare.planes.keys()
