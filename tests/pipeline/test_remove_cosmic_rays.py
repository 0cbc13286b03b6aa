# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of detection and combination in one call."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import ccdcr.pipeline.remove_cosmic_rays as module
from ccdcr import (
    MissingUnitWarning,
    align_exposures,
    combine,
    detect_cosmic_rays,
    remove_cosmic_rays,
)
from ccdcr.simulation import evaluate, simulate_exposures

KNOWN = {"gain": "GAIN", "readnoise": "RDNOISE"}


@pytest.fixture(scope="module")
def sim():
    """Three exposures with truth."""
    return simulate_exposures((100, 120), scene="fibres", seed=1)


def test_same(sim):
    """It does what the two functions do, also with a generator."""
    generator = (ccd for ccd in sim.exposures)
    image, masks = remove_cosmic_rays(generator, {"ma_low": 3.5}, **KNOWN, ma_high=6)
    expected = detect_cosmic_rays(sim.exposures, **KNOWN, ma_high=6, ma_low=3.5)
    assert masks == expected
    assert masks.requirements.ma_high == 6
    other = combine(sim.exposures, crmasks=expected, dtype="auto")
    assert_array_equal(image.data, other.data)
    assert_array_equal(image.uncertainty.array, other.uncertainty.array)
    assert image.header["CRMETHOD"] == "meancr"


def test_truth(sim):
    """Nearly all hits are gone, and nothing else is."""
    image, masks = remove_cosmic_rays(sim.exposures, **KNOWN)
    hits = (sim.cosmic_rays > 30).any(axis=0)  # ten times the read noise
    assert masks.meancrt[hits].mean() > 0.98
    clean = np.mean([ccd.data for ccd in sim.exposures] - sim.cosmic_rays, axis=0)
    wrong = np.abs(image.data - clean) > 8 * image.uncertainty.array
    assert np.count_nonzero(wrong) < 0.001 * wrong.size
    assert evaluate(masks, {"combined": image}, sim) is not None


def test_files(sim, tmp_path):
    """Files of 32 bits give an image of 32 bits; what is missing is said once."""
    paths = []
    for i, ccd in enumerate(sim.exposures):
        paths.append(tmp_path / f"{i}.fits")
        hdus = ccd.to_hdu()
        hdus[0].data = hdus[0].data.astype("f4")
        del hdus[0].header["BUNIT"]
        hdus.writeto(paths[-1])
    with pytest.warns(MissingUnitWarning) as found:
        image, masks = remove_cosmic_rays(paths, method="mediancr", **KNOWN)
    assert len(found) == 1
    assert image.dtype == "f4"
    double, _ = remove_cosmic_rays(paths, **KNOWN, dtype=float, unit="adu")
    assert double.dtype == "f8"
    assert_array_equal(image.mask, np.zeros(masks.shape, bool))


def test_align(sim):
    """Dithered exposures are aligned first; the masks are those of the grid."""
    offsets = [[0, 0], [-3, -1], [0, -2]]
    dithered = [
        ccd[-dy : 90 - dy, -dx : 110 - dx]
        for ccd, (dx, dy) in zip(sim.exposures, offsets, strict=True)
    ]
    options = {"crmethod": "lacosmic", "la_verbose": False}
    image, masks = remove_cosmic_rays(dithered, **KNOWN, align=offsets, **options)
    assert image.shape == masks.shape == (92, 113)
    assert masks == detect_cosmic_rays(
        align_exposures(dithered, offsets), **KNOWN, **options
    )


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"method": "median"}, ValueError, "method must be one of .*, got 'median'"),
        ({"dtype": "int16"}, TypeError, "dtype must be a floating-point type"),
        ({"ma_hihg": 5}, TypeError, "ma_high"),
        ({"uncertainty": "mad"}, ValueError, "uncertainty must be 'propagate'"),
        ({"apply_flux_factor": 2}, TypeError, "apply_flux_factor must be True"),
    ],
)
def test_refused(sim, kwargs, error, message, monkeypatch):
    """Wrong arguments are found before any work."""
    if "ma_hihg" not in kwargs:
        monkeypatch.setattr(module, "detect_cosmic_rays", None)
    with pytest.raises((error, ValueError), match=message):
        remove_cosmic_rays(sim.exposures, **KNOWN, **kwargs)
