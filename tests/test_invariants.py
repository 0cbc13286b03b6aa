# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of what is true of every detection and combination."""

import numpy as np
import pytest
from astropy.nddata import CCDData

from ccdcr import CRMaskSet, combine, detect_cosmic_rays

METHODS = {
    "lacosmic": {"crmethod": "lacosmic"},
    "mmcosmic": {"crmethod": "mmcosmic"},
    "mm_lacosmic": {"crmethod": "mm_lacosmic"},
    "matched": {"crmethod": "matched"},
}

every_method = pytest.mark.parametrize("method", METHODS)

# Random masks are not those of the exposures.
pytestmark = pytest.mark.filterwarnings("ignore::ccdcr.ForeignMasksWarning")


def hit_exposures(seed=3, shape=(40, 44)):
    """Three exposures with hits, one of them twice in one place."""
    rng = np.random.default_rng(seed)
    stack = rng.poisson(200, (3, *shape)) + rng.normal(0, 3, (3, *shape))
    for i in range(3):
        y, x = rng.integers(3, 36, (2, 6))
        stack[i, y, x] += 1500
    stack[:2, 20, 8:12] += 2000
    return stack


def detect(stack, method, bad=None, **options):
    """Detect in arrays."""
    ccds = [CCDData(image, unit="adu") for image in stack]
    for i, ccd in enumerate(ccds):
        ccd.mask = None if bad is None else bad[i]
    known = {"gain": 1.0, "readnoise": 3.0, "la_verbose": False} | METHODS[method]
    return detect_cosmic_rays(ccds, **known | options)


@every_method
class TestDetection:
    """Masks of exposures with hits."""

    def test_within(self, method):
        """What is wrong in the median is hit somewhere."""
        masks = detect(hit_exposures(), method)
        assert masks.meancrt.any()
        assert not (masks.mediancr & ~masks.meancrt).any()

    def test_permuted(self, method):
        """The order of the exposures is that of their masks, and no more."""
        stack, order = hit_exposures(), [2, 0, 1]
        masks, other = detect(stack, method), detect(stack[order], method)
        np.testing.assert_array_equal(other.crmasks, masks.crmasks[order])
        np.testing.assert_array_equal(other.mediancr, masks.mediancr)
        np.testing.assert_array_equal(other.meancrt, masks.meancrt)

    @pytest.mark.parametrize("value", [np.inf, 1e30, -1e30, 0.0])
    def test_masked_value(self, method, value):
        """It has no influence anywhere."""
        stack = hit_exposures()
        bad = np.random.default_rng(1).random(stack.shape) > 0.99
        usual = detect(np.where(bad, np.nan, stack), method, bad)
        masks = detect(np.where(bad, value, stack), method, bad)
        assert masks == usual

    def test_dilation(self, method):
        """Masks grow, but not into regions that are skipped."""
        name = "ma_dilation" if method == "matched" else "dilation"
        skipped = {"regions_to_be_skipped": [[1, 10, 1, 40]]}
        small, large = (
            detect(hit_exposures(), method, **{name: size}, **skipped)
            for size in (0, 2)
        )
        assert large.crmasks.sum() > small.crmasks.sum()
        assert not (small.crmasks & ~large.crmasks).any()
        assert not large.crmasks[..., :10].any()


class TestCombination:
    """Combined images with any masks."""

    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("method", ["mediancr", "meancrt", "meancr"])
    def test_between(self, method, seed):
        """Each value is between the least and the largest exposure."""
        stack = hit_exposures(seed)
        planes = np.random.default_rng(seed).random(stack.shape) > 0.8
        masks = CRMaskSet(planes.sum(axis=0) > 1, planes.any(axis=0), planes)
        ccds = [CCDData(image, unit="adu") for image in stack]
        image = combine(ccds, method=method, crmasks=masks, uncertainty=None).data
        slack = 1e-12 * stack.max()
        assert (image >= stack.min(axis=0) - slack).all()
        assert (image <= stack.max(axis=0) + slack).all()

    @pytest.mark.parametrize(
        ("method", "function"),
        [("mediancr", np.median), ("meancrt", np.mean), ("meancr", np.mean)],
    )
    def test_nothing_masked(self, method, function):
        """Then they are the plain median and mean."""
        stack = hit_exposures()
        none = np.zeros(stack.shape, dtype=bool)
        masks = CRMaskSet(none[0], none[0], none, meancr=none[0])
        ccds = [CCDData(image, unit="adu") for image in stack]
        image = combine(ccds, method=method, crmasks=masks, uncertainty=None).data
        np.testing.assert_allclose(image, function(stack, axis=0), rtol=1e-12)
