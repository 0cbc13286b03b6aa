# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of edits of mask sets."""

import numpy as np
import pytest
from astropy.nddata import CCDData
from numpy.testing import assert_array_equal

from ccdcr import CRMaskSet, Requirements, check_equivalence, detect_cosmic_rays
from ccdcr.masks.diagnostics import Diagnostics
from ccdcr.simulation import simulate_exposures


@pytest.fixture
def masks():
    """Two detections: (2, 2) with (3, 3), and (8, 5)."""
    crmasks = np.zeros((3, 6, 9), dtype=bool)
    crmasks[:2, 1, 1] = crmasks[1:, 2, 2] = crmasks[:2, 4, 7] = True
    crmasks[0, 5, 0] = True
    return CRMaskSet(
        crmasks.sum(axis=0) > 1,
        crmasks.any(axis=0),
        crmasks,
        meancr=np.zeros((6, 9), dtype=bool),
        lamedian=np.ones((6, 9)),
        flux_factor=[1, 2, 3],
        requirements=Requirements(dilation=2),
        gain=2.0,
        readnoise=3.0,
        bias=4.0,
        meta={"OBSERVER": "me"},
        diagnostics=Diagnostics(
            flags={
                "MEDIANCR": 2 * (crmasks.sum(axis=0) > 1).astype(np.uint8),
                "MEANCRT": 2 * crmasks.any(axis=0).astype(np.uint8),
            },
            offsets=[(0, 0), (1, 0), (2, 0)],
        ),
    )


@pytest.fixture
def ccds():
    """Exposures; at (5, 1) the second one is the lowest, and the third is bad."""
    data = np.ones((3, 6, 9))
    data[:, 0, 4] = 3, 1, 2
    ccds = [CCDData(plane, unit="adu") for plane in data]
    ccds[2].mask = np.zeros((6, 9), dtype=bool)
    ccds[2].mask[0, 4] = True
    return ccds


def test_drop(masks):
    """All pixels of the detection are cleared in all masks, and no others."""
    edited = masks.edit(drop=[[2, 2]])
    gone = np.zeros((6, 9), dtype=bool)
    gone[1, 1] = gone[2, 2] = True
    for name, plane in masks.planes.items():
        assert_array_equal(edited.planes[name], plane & ~gone)
    assert edited.mediancr.sum() == 1


def test_detections_of(masks):
    """Detections of another mask, cleared in some."""
    edited = masks.edit(drop=[[1, 6]], detections_of="CRMASK1", planes=["CRMASK1"])
    assert not edited.crmasks[0, 5, 0]
    assert_array_equal(edited.meancrt, masks.meancrt)


def test_remove(masks):
    """Pixels, not whole detections."""
    edited = masks.edit(remove=[(2, 2)])
    assert not edited.mediancr[1, 1]
    assert edited.mediancr[2, 2]
    assert not edited.crmasks[:, 1, 1].any()
    only = masks.edit(remove=[(2, 2)], planes="MEDIANCR")
    assert_array_equal(only.crmasks, masks.crmasks)


def test_add(masks, ccds):
    """Masked in every exposure but the lowest, and never where one is bad."""
    edited = masks.edit(add=[(5, 1)], ccds=ccds)
    assert edited.mediancr[0, 4]
    assert edited.meancrt[0, 4]
    assert edited.crmasks[:, 0, 4].tolist() == [True, False, False]
    assert not edited.meancr[0, 4]


def test_lowest_is_that_of_the_detection(masks, ccds):
    """Exposures are divided by their flux factors if the detection did it."""
    # Without the bias of 4 and divided by 1, 2 and 3, the third is the lowest.
    for ccd, value in zip(ccds, (1, 1.8, 2.4), strict=True):
        ccd.data[0, 6] = 4 + value
    for where, expected in (("original", [1, 1, 0]), ("simulated", [0, 1, 1])):
        requirements = Requirements(crmethod="mm_lacosmic", apply_flux_factor_to=where)
        known = masks._with(requirements=requirements)
        edited = known.edit(add=[(7, 1)], ccds=ccds)
        assert edited.crmasks[:, 0, 6].tolist() == expected


def test_add_to_planes(masks):
    """The masks that are named, without exposures."""
    edited = masks.edit(add=[(5, 1)], planes=["CRMASK2", "MEANCRT"])
    assert [name for name, plane in edited.planes.items() if plane[0, 4]] == [
        "MEANCRT",
        "CRMASK2",
    ]


def test_original(masks):
    """The old set stays as it was; the new one is another with all else the same."""
    before = {name: plane.copy() for name, plane in masks.planes.items()}
    flags = masks.diagnostics.flags["MEDIANCR"].copy()
    edited = masks.edit(remove=[(2, 2)], add=[(9, 6)], planes=["MEDIANCR"])
    for name, plane in before.items():
        assert_array_equal(masks.planes[name], plane)
    assert_array_equal(masks.diagnostics.flags["MEDIANCR"], flags)
    assert masks.meta == {"OBSERVER": "me"}
    assert edited.uuid != masks.uuid
    for name in ("gain", "readnoise", "bias", "requirements"):
        assert getattr(edited, name) == getattr(masks, name)
    assert_array_equal(edited.flux_factor, masks.flux_factor)
    assert_array_equal(edited.lamedian, masks.lamedian)
    assert edited.meta["OBSERVER"] == "me"


def test_flags(masks):
    """What was added is of the user's list; what was removed is of nobody."""
    edited = masks.edit(remove=[(2, 2)], add=[(9, 6)], planes=["MEDIANCR"])
    flags = edited.diagnostics.flags["MEDIANCR"]
    assert flags[1, 1] == 0
    assert flags[2, 2] == 2
    assert flags[5, 8] == 5
    assert_array_equal(flags > 0, edited.mediancr)
    assert edited.diagnostics.offsets is masks.diagnostics.offsets


def test_history(masks, tmp_path):
    """Edits are recorded, also in the file, one after another."""
    first = masks.edit(drop=[[8, 5]])
    second = first.edit(add=[(x, 6) for x in range(1, 9)] * 3, planes=["MEANCRT"])
    path = tmp_path / "crmasks.fits"
    second.write(path)
    read = CRMaskSet.read(path)
    assert read == second
    lines = read.meta["HISTORY"]
    assert lines == second.meta["HISTORY"]
    assert all(line.startswith("ccdcr edit: ") for line in lines)
    assert all(len(line) <= 72 for line in lines)
    assert masks.uuid in lines[0]
    assert "drop detections of MEDIANCR at (8,5)" in lines[1]
    assert first.uuid in lines[2]
    assert "add (1,6) (2,6)" in lines[3]
    assert lines[-1].endswith("in MEANCRT")
    read.write(path, overwrite=True)
    assert CRMaskSet.read(path).meta["HISTORY"] == lines


def test_other_history(tmp_path):
    """Edits follow the history of another program."""
    hit = np.zeros((3, 4, 5), dtype=bool)
    hit[:, 1, 1] = True
    meta = {"HISTORY": ["made elsewhere"]}
    masks = CRMaskSet(hit[0], hit[0], hit, meta=meta).edit(remove=[(2, 2)])
    path = tmp_path / "crmasks.fits"
    masks.write(path)
    lines = CRMaskSet.read(path).meta["HISTORY"]
    assert lines == masks.meta["HISTORY"]
    assert lines[0] == "made elsewhere"
    assert lines[-1] == "ccdcr edit: remove (2,2)"


@pytest.mark.parametrize(
    ("kwargs", "error", "match"),
    [
        ({"drop": [[1, 1]]}, ValueError, r"detections of MEDIANCR, got \[\[1, 1\]\]"),
        ({"remove": [[10, 1]]}, ValueError, r"9 x 6 pixels, got \[\[10, 1\]\]"),
        ({"remove": [[0, 1]]}, ValueError, "remove must lie in the image"),
        ({"add": [[1, 1]]}, ValueError, "add needs ccds"),
        ({"add": [1, 1]}, TypeError, r"add must be a list of \[X, Y\]"),
        ({"drop": [[1.5, 1]]}, TypeError, "drop must be a list"),
        ({"remove": [[1, 1]], "planes": ["X"]}, ValueError, "planes must hold names"),
        ({"drop": [[1, 1]], "detections_of": "X"}, ValueError, "detections_of must"),
        (
            {"drop": [[2, 2]], "add": [[3, 3]], "planes": ["MEANCRT"]},
            ValueError,
            r"dropped or removed, got \[\[3, 3\]\]",
        ),
    ],
)
def test_refused(masks, kwargs, error, match):
    """Pixels that are not there, names that do not exist, contradictions."""
    with pytest.raises(error, match=match):
        masks.edit(**kwargs)


def test_boundaries_and_report_stay():
    """An edit keeps what the detection knew of noise and equivalence."""
    sim = simulate_exposures((96, 100), seed=1)
    masks = detect_cosmic_rays(
        sim.exposures, gain=1.0, readnoise=3.0, crmethod="mmcosmic"
    )
    edited = masks.edit(add=[[5, 6]], planes=["MEDIANCR"])
    assert edited.boundaries == masks.boundaries
    assert edited.boundaries.keys() >= {"MEDIANCR", "MEANCRT"}
    report = check_equivalence(sim.exposures, gain=1.0, readnoise=3.0)
    known = CRMaskSet(masks.mediancr, masks.meancrt, masks.crmasks, equivalence=report)
    edited = known.edit(remove=[[1, 1]], planes=["MEDIANCR"])
    assert edited.equivalence is known.equivalence
