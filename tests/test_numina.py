# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Tests that numina accepts our files and makes the same images of them.

numina runs as a black box, in an environment of its own: ``pip install
ccdcr[numina]``.
"""

import importlib.util
import inspect

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from numpy.testing import assert_array_equal

from ccdcr import CRCombiner, CRMaskSet, detect_cosmic_rays

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("numina") is None, reason="numina is not installed"
    ),
    # of numina and of what it imports, which is not ours to mend
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    # random masks are not those of these exposures, nor are their flux factors
    pytest.mark.filterwarnings("ignore::ccdcr.ForeignMasksWarning"),
    pytest.mark.filterwarnings("ignore::ccdcr.FluxScaleWarning"),
]

SHAPE = (30, 40)
METHODS = ["mediancr", "meancrt", "meancr", "meancr2"]


@pytest.fixture(name="numina")
def fixture_numina():
    """Return a function that combines with numina, and the methods it has."""
    module = "numina.array.crmasks"
    apply = importlib.import_module(f"{module}.apply_crmasks").apply_crmasks
    valid = importlib.import_module(f"{module}.valid_parameters").VALID_COMBINATIONS
    # use_lamedian was renamed in version 0.37
    names = inspect.signature(apply).parameters
    option = "use_lamedian" if "use_lamedian" in names else "use_auxmedian"

    def run(path, method, *, use_lamedian, apply_flux_factor, bias=None):
        if method not in valid:
            pytest.skip(f"this numina has no {method}")
        with fits.open(path) as hdulist:
            image, _, number = apply(
                [ccd.data for ccd in exposures()],
                hdul_masks=hdulist,
                combination=method,
                apply_flux_factor=apply_flux_factor,
                bias=bias,
                **{option: use_lamedian},
            )
        return image, number

    run.auxclean = option == "use_auxmedian"
    return run


def exposures():
    """Return three exposures; the first one is fainter."""
    rng = np.random.default_rng(31)
    data = rng.normal(100, 10, (3, *SHAPE)).astype(np.float32)
    data[0] *= np.float32(0.9)
    data[:2, 5:8, 5:8] += 1000
    return [CCDData(plane, unit="adu") for plane in data]


def mask_set(**kwargs):
    """Return random masks with all that a file may hold."""
    rng = np.random.default_rng(32)
    crmasks = rng.random((3, *SHAPE)) < 0.3
    return CRMaskSet(
        crmasks.sum(axis=0) > 1,
        crmasks.any(axis=0),
        crmasks,
        meancr=rng.random(SHAPE) < 0.1,
        lamedian=rng.normal(95, 3, SHAPE),
        flux_factor=[0.9, 1.0, 1.1],
        local_median_pixels=[(6, 6, 5, 3), (7, 6, 5, 5), (1, 1, 3, 3), (40, 30, 3, 3)],
        gain=1.0,
        readnoise=3.0,
        **kwargs,
    )


class TestApply:
    """numina's combination with a file that we wrote."""

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("use_lamedian", [False, True])
    @pytest.mark.parametrize("apply_flux_factor", [False, True])
    @pytest.mark.parametrize("name", ["crmasks.fits", "crmasks.fits.gz"])
    def test_same(
        self, tmp_path, numina, method, use_lamedian, apply_flux_factor, name
    ):
        """The images are equal to the rounding of numina's float32."""
        masks, path = mask_set(), tmp_path / name
        masks.write(path, auxclean=numina.auxclean)
        options = {"use_lamedian": use_lamedian, "apply_flux_factor": apply_flux_factor}
        image, number = numina(path, method, **options)
        combiner = CRCombiner(exposures(), path, dtype="float32")
        combine = getattr(combiner, f"{method}_combine")
        result = combine(uncertainty=None, **options)
        largest = np.max([ccd.data for ccd in exposures()], axis=0) / 0.9
        assert (np.abs(result.data - image) <= 1e-6 * largest).all()
        # numina 0.40 has 0 where no exposure is left
        assert_array_equal(combiner.exposure_map(method), np.maximum(number, 1))

    @pytest.mark.parametrize("method", METHODS[:3])
    def test_bias(self, tmp_path, numina, method):
        """The bias is subtracted by numina; LAMEDIAN is without in both."""
        masks, path = mask_set(bias=50.0), tmp_path / "crmasks.fits"
        masks.write(path, auxclean=numina.auxclean)
        options = {"use_lamedian": True, "apply_flux_factor": False}
        image, _ = numina(path, method, bias=50.0, **options)
        combine = getattr(CRCombiner(exposures(), path), f"{method}_combine")
        result = combine(uncertainty=None, **options)
        largest = np.max([ccd.data for ccd in exposures()], axis=0)
        assert (np.abs(result.data - 50 - image) <= 1e-6 * largest).all()

    @pytest.mark.parametrize("crmethod", ["lacosmic", "matched"])
    def test_detected(self, tmp_path, numina, crmethod):
        """The file of a detection; expected values are ignored."""
        path = tmp_path / "crmasks.fits"
        masks = detect_cosmic_rays(
            exposures(), gain=1.0, readnoise=3.0, crmethod=crmethod
        )
        assert (masks.expected is not None) == (crmethod == "matched")
        masks.write(path, auxclean=numina.auxclean)
        options = {"use_lamedian": crmethod == "lacosmic", "apply_flux_factor": True}
        image, _ = numina(path, "meancr", **options)
        result = CRCombiner(exposures(), path).meancr_combine(
            uncertainty=None, use_expected=False, **options
        )
        assert (np.abs(result.data - image) <= 1e-6 * 1200).all()
