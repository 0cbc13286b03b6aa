# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Tests of the check that expected values are those of exposures as they are now.

Values are those of the scene from which the exposures were made, without noise.
"""

import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData

from ccdcr import CRCombiner, CRMaskSet, ForeignMasksWarning, combine
from ccdcr.masks.expected_table import make_expected_table

SHAPE, SIGMA, GAIN = (90, 100), 10.0, 2.0
Y, X = np.mgrid[-1 : 1 : SHAPE[0] * 1j, -1 : 1 : SHAPE[1] * 1j]
SKY = 1000 + 100 * X + 300 * np.exp(-((Y / 0.05) ** 2))  # with a trace
VIGNETTING = 1 - 0.15 * (X**2 + Y**2)
STALE = "expected values seem not to be those of these exposures.*; compute them again"


def make_case(n=3, fluxes=(1, 1, 1, 1, 1), rate=0.02, **more):
    """Return the data (n, ny, nx) of exposures with noise, and their mask set."""
    rng = np.random.default_rng(1)
    scenes = np.array([SKY * flux for flux in fluxes[:n]])
    hits = rng.random(scenes.shape) < rate
    hits &= hits.sum(axis=0) == 1
    values = scenes[hits], np.full(hits.sum(), SIGMA)
    table = make_expected_table(np.nonzero(hits), *values, u.adu)
    masks = CRMaskSet(hits.all(axis=0), hits.any(axis=0), hits, expected=table, **more)
    data = scenes + rng.normal(0, SIGMA, scenes.shape)
    data[hits] += 50 * SIGMA
    return data, masks


def as_ccds(data, unit="adu"):
    """Return the exposures of data."""
    return [CCDData(plane, unit=unit) for plane in data]


@pytest.fixture(params=["array", "tiles", "dask", "clean"])
def use(request, tmp_path):
    """Return a function that uses the expected values of masks for exposures."""

    def combine_tiles(ccds, masks):
        for i, ccd in enumerate(ccds):
            ccd.write(tmp_path / f"{i}.fits")
        masks.write(tmp_path / "masks.fits")
        files = sorted(map(str, tmp_path.glob("?.fits")))
        limits = {"mem_limit": 3e5, "uncertainty": None}  # masks are read by rows
        combine(files, method="meancr", crmasks=tmp_path / "masks.fits", **limits)

    def combine_dask(ccds, masks):
        da = pytest.importorskip("dask.array")
        lazy = [CCDData(da.from_array(ccd.data), unit=ccd.unit) for ccd in ccds]
        combine(lazy, method="meancr", crmasks=masks, uncertainty=None)

    return {
        "array": lambda c, m: CRCombiner(c, m).meancr_combine(uncertainty=None),
        "tiles": combine_tiles,
        "dask": combine_dask,
        "clean": lambda ccds, masks: masks.clean(ccds),
    }[request.param]


def test_uses(use):
    """All that use the values check them, once, and right ones are silent."""
    data, masks = make_case()
    with pytest.warns(ForeignMasksWarning, match=STALE) as caught:
        use(as_ccds(data - 900), masks)
    assert len(caught) == 1


def test_right_uses(use):
    """Right values are silent."""
    data, masks = make_case()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ForeignMasksWarning)
        use(as_ccds(data), masks)


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize(
    "change",
    [
        lambda data: data - 20 * SIGMA,
        lambda data: data * 2,
        lambda data: data / 100,
        lambda data: data * np.reshape([1.5] + [1] * (len(data) - 1), (-1, 1, 1)),
        lambda data: data / VIGNETTING,
        lambda data: data * (1 + 0.1 * np.sin(3 * X) * np.cos(3 * Y)),
    ],
    ids=["sky", "twice", "per second", "one only", "vignetting", "flat"],
)
def test_stale(n, change):
    """Exposures that were changed after the detection."""
    data, masks = make_case(n)
    combiner = CRCombiner(as_ccds(change(data)), masks)
    with pytest.warns(ForeignMasksWarning, match="or use use_expected=False"):
        combiner.meancr_combine(uncertainty=None)
    combiner.meancr_combine(use_expected=False, uncertainty=None)


@pytest.mark.parametrize("fluxes", [(1, 1, 1, 1, 1), (9, 3, 1, 5, 1)])
@pytest.mark.parametrize("n", [2, 3, 5])
def test_right(n, fluxes):
    """Values of other fluxes, of cleaned exposures, and for factors of the user."""
    data, masks = make_case(n, fluxes)
    cleaned = masks.clean(as_ccds(data))
    for ccds in (as_ccds(data), as_ccds(data + SIGMA / 2), cleaned):
        combiner = CRCombiner(ccds, masks)
        combiner.scaling = 1 / np.array(fluxes[:n])
        combiner.meancr_combine(uncertainty=None)


@pytest.mark.parametrize("gain", [GAIN, GAIN + 0.5 * X])
def test_electrons(gain):
    """Values in adu become electrons; those that were converted before do not."""
    data, masks = make_case(gain=gain)
    for right in (True, False):
        ccds = as_ccds(data * gain, "electron" if right else "adu")
        combiner = CRCombiner(ccds, masks)
        if right:
            combiner.meancr_combine(uncertainty=None)
            continue
        with pytest.warns(ForeignMasksWarning, match=STALE):
            combiner.meancr_combine(uncertainty=None)


def test_few():
    """Few values tell nothing; nor do exposures without scatter, or masked ones."""
    data, masks = make_case(rate=1.5e-4)
    assert 5 < len(masks.expected) < 10
    CRCombiner(as_ccds(data - 900), masks).meancr_combine(uncertainty=None)
    data, masks = make_case()
    CRCombiner(as_ccds(masks.crmasks * 500.0), masks).meancr_combine(uncertainty=None)
    ccds = [CCDData(plane, unit="adu", mask=SKY > 0) for plane in data]
    CRCombiner(ccds, masks).meancr_combine(uncertainty=None)
