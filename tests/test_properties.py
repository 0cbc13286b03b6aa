# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of what is true of any exposures, any masks and any layout of arrays."""

import warnings

import ccdproc
import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from ccdcr import CRCombiner, CRMaskSet, Requirements, combine, detect_cosmic_rays

pytestmark = pytest.mark.filterwarnings("ignore::ccdcr.CRWarning")

METHODS = ("mediancr", "meancrt", "meancr")
IMPOSSIBLE = (np.nan, np.inf, -np.inf, 1e30, -1e30)
crmethods = st.sampled_from(["lacosmic", "mmcosmic", "mm_lacosmic", "matched"])
# Where two detections are compared, mm_lacosmic stands for mmcosmic, too.
families = st.sampled_from(["lacosmic", "mm_lacosmic", "matched"])
seeds = st.integers(0, 2**32 - 1)
shapes = st.tuples(st.integers(16, 30), st.integers(16, 30))


@st.composite
def stacks(draw, least=3, shapes=shapes):
    """Exposures with noise, a source and hits; whole numbers that float32 holds."""
    rng = np.random.default_rng(draw(seeds))
    n, (ny, nx) = draw(st.integers(least, 5)), draw(shapes)
    y, x = np.indices((ny, nx))
    level = draw(st.sampled_from([20, 200, 3000]))
    source = level * np.exp(-((y - ny / 2) ** 2 + (x - nx / 3) ** 2) / 8)
    stack = rng.poisson(level + source, (n, ny, nx)) + rng.normal(0, 3, (n, ny, nx))
    hits = rng.random(stack.shape) < 0.01
    return np.rint(stack + hits * rng.exponential(20 * level, stack.shape))


@st.composite
def combinable(draw):
    """Exposures, which of their pixels are bad, and masks of hits."""
    stack = draw(
        stacks(least=1, shapes=st.tuples(st.integers(1, 9), st.integers(1, 9)))
    )
    rng = np.random.default_rng(draw(seeds))
    bad = rng.random(stack.shape) < draw(st.sampled_from([0, 0.1, 0.5]))
    hits = rng.random(stack.shape) < draw(st.sampled_from([0, 0.1, 0.5]))
    masks = CRMaskSet(2 * hits.sum(axis=0) > len(hits), hits.any(axis=0), hits)
    return stack, bad, masks


def ccds_of(stack, bad=None, noise=None):
    """Return exposures in adu."""
    bad = [None] * len(stack) if bad is None else bad
    return [
        CCDData(
            image,
            unit="adu",
            mask=mask,
            uncertainty=None
            if noise is None
            else StdDevUncertainty(np.full(image.shape, noise)),
        )
        for image, mask in zip(stack, bad, strict=True)
    ]


def detect(stack, crmethod, bad=None, **options):
    """Detect in arrays."""
    known = {"gain": 1.0, "readnoise": 3.0, "la_verbose": False, "crmethod": crmethod}
    return detect_cosmic_rays(ccds_of(stack, bad), **known | options)


def some(rng, shape, fraction):
    """Return which pixels are bad."""
    return rng.random(shape) < fraction


# Detections take longer than combinations.
few = settings(max_examples=(settings().max_examples + 1) // 2)


class TestDetection:
    """Masks of any exposures."""

    @few
    @given(stack=stacks(), crmethod=crmethods)
    def test_within(self, stack, crmethod):
        """What is wrong in the median is hit; planes are those of the exposures."""
        before = stack.copy()
        masks = detect(stack, crmethod)
        assert not (masks.mediancr & ~masks.meancrt).any()
        assert masks.crmasks.shape == stack.shape
        assert_array_equal(stack, before)

    @few
    @given(stack=stacks(), crmethod=families, data=st.data())
    def test_grow(self, stack, crmethod, data):
        """Masks grow with dilation, but never into a region that is skipped."""
        ny, nx = stack.shape[1:]
        x = sorted(data.draw(st.tuples(st.integers(1, nx), st.integers(1, nx))))
        y = sorted(data.draw(st.tuples(st.integers(1, ny), st.integers(1, ny))))
        name = "ma_dilation" if crmethod == "matched" else "dilation"
        skipped = {"regions_to_be_skipped": [[*x, *y]]}
        small, large = (
            detect(stack, crmethod, **{name: size}, **skipped) for size in (0, 1)
        )
        region = np.s_[..., y[0] - 1 : y[1], x[0] - 1 : x[1]]
        for plane in large.planes:
            grown, former = large.planes[plane], small.planes[plane]
            assert not (former & ~grown).any()
            assert not grown[region].any()

    @few
    @given(stack=stacks(), crmethod=families, data=st.data())
    def test_permuted(self, stack, crmethod, data):
        """The order of the exposures is that of their masks and changes no more."""
        order = data.draw(st.permutations(range(len(stack))))
        masks, other = detect(stack, crmethod), detect(stack[order], crmethod)
        assert_array_equal(other.crmasks, masks.crmasks[order])
        assert_array_equal(other.mediancr, masks.mediancr)
        assert_array_equal(other.meancrt, masks.meancrt)

    @few
    @given(
        stack=stacks(),
        crmethod=families,
        seed=seeds,
        fraction=st.sampled_from([0.01, 0.2]),
        value=st.sampled_from(IMPOSSIBLE),
    )
    def test_masked(self, stack, crmethod, seed, fraction, value):
        """The value of a masked pixel has no influence anywhere."""
        bad = some(np.random.default_rng(seed), stack.shape, fraction)
        masks = detect(np.where(bad, value, stack), crmethod, bad)
        assert masks == detect(np.where(bad, 0.0, stack), crmethod, bad)

    @few
    @given(
        stack=stacks(),
        crmethod=families,
        factor=st.sampled_from([0.25, 0.5, 2.0, 4.0]),
    )
    def test_scaled(self, stack, crmethod, factor):
        """Other units of the same electrons: the same masks."""
        # Far from saturation and, as whole numbers are taken as rounded, no whole
        # numbers in either unit.
        stack = np.minimum(stack, 15000) + 0.125
        masks = detect(stack, crmethod)
        other = detect(stack * factor, crmethod, gain=1 / factor)
        for plane, mask in masks.planes.items():
            assert_array_equal(other.planes[plane], mask)

    @few
    @given(
        stack=stacks(),
        crmethod=families,
        dtype=st.sampled_from(["f4", ">f4", ">f8", "i4", ">i4", "u4"]),
    )
    def test_types(self, stack, crmethod, dtype):
        """Types and byte orders that hold the values give the same masks."""
        stack = np.maximum(stack, 0)
        assert detect(stack.astype(dtype), crmethod) == detect(stack, crmethod)


def combined(stack, bad, masks, method, **options):
    """Return a combination with uncertainties."""
    ccds = ccds_of(stack, bad, noise=2.0)
    return combine(ccds, method=method, crmasks=masks, **options)


def unusable(image):
    """Return the mask of a combination."""
    return np.zeros(image.shape, bool) if image.mask is None else image.mask


def assert_same(image, other):
    """Assert that two combinations are the same bit by bit."""
    assert_array_equal(unusable(image), unusable(other))
    good = ~unusable(image)
    assert_array_equal(image.data[good], other.data[good])
    assert_array_equal(image.uncertainty.array[good], other.uncertainty.array[good])


@pytest.mark.parametrize("method", METHODS)
class TestCombination:
    """Combinations of any exposures with any masks."""

    @given(inputs=combinable())
    def test_between(self, method, inputs):
        """Values are within those of the exposures that are usable."""
        stack, bad, masks = inputs
        image = combined(stack, bad, masks, method)
        good = ~bad.all(axis=0)
        assert_array_equal(unusable(image), ~good)
        low = np.where(bad, np.inf, stack).min(axis=0)
        high = np.where(bad, -np.inf, stack).max(axis=0)
        slack = 1e-9 * np.abs(stack).max()
        assert (image.data[good] >= low[good] - slack).all()
        assert (image.data[good] <= high[good] + slack).all()

    @given(inputs=combinable(), value=st.sampled_from(IMPOSSIBLE))
    def test_masked(self, method, inputs, value):
        """The value of a masked pixel has no influence anywhere."""
        stack, bad, masks = inputs
        image = combined(np.where(bad, value, stack), bad, masks, method)
        assert_same(image, combined(np.where(bad, 0.0, stack), bad, masks, method))

    @given(inputs=combinable())
    def test_nothing_hit(self, method, inputs):
        """Without hits they are the median and the average of ccdproc."""
        stack, bad, masks = inputs
        nothing = np.zeros(stack.shape, bool)
        masks = CRMaskSet(nothing[0], nothing[0], nothing)
        image = combined(stack, bad, masks, method)
        parent = ccdproc.Combiner(ccds_of(stack, bad))
        name = "median_combine" if method == "mediancr" else "average_combine"
        with warnings.catch_warnings():
            # Of pixels without a good exposure, by numpy.
            warnings.simplefilter("ignore", RuntimeWarning)
            expected = getattr(parent, name)()
        good = ~unusable(image)
        assert_array_equal(good, ~bad.all(axis=0))
        assert_allclose(image.data[good], expected.data[good], rtol=1e-12)

    @given(inputs=combinable(), data=st.data())
    def test_permuted(self, method, inputs, data):
        """The order of the exposures and their masks does not matter."""
        stack, bad, masks = inputs
        order = data.draw(st.permutations(range(len(stack))))
        other = CRMaskSet(masks.mediancr, masks.meancrt, masks.crmasks[order])
        image = combined(stack, bad, masks, method)
        again = combined(stack[order], bad[order], other, method)
        assert_array_equal(unusable(again), unusable(image))
        good = ~unusable(image)
        assert_allclose(again.data[good], image.data[good], rtol=1e-12)
        assert_allclose(
            again.uncertainty.array[good], image.uncertainty.array[good], rtol=1e-12
        )

    @given(inputs=combinable(), rows=st.integers(1, 4))
    def test_tiles(self, method, inputs, rows):
        """Within a memory limit: the same bits."""
        stack, bad, masks = inputs
        n, _, nx = stack.shape
        limit = 400 * n * nx * rows + 10000
        image = combined(stack, bad, masks, method, mem_limit=limit)
        assert_same(image, combined(stack, bad, masks, method))

    @given(inputs=combinable(), dtype=st.sampled_from(["f4", ">f4", ">f8", "i4", "u4"]))
    def test_types(self, method, inputs, dtype):
        """Types and byte orders that hold the values: the answer of float64."""
        stack, bad, masks = inputs
        stack = np.maximum(stack, 0)
        image = combined(stack.astype(dtype), bad, masks, method)
        expected = combined(stack, bad, masks, method)
        good = ~unusable(expected)
        assert_array_equal(unusable(image), ~good)
        assert_allclose(image.data[good], expected.data[good], rtol=1e-6)

    @given(inputs=combinable(), factor=st.sampled_from([0.5, 2.0, 1024.0]))
    def test_scaled(self, method, inputs, factor):
        """Another unit of the values is one of the result."""
        stack, bad, masks = inputs
        ccds = ccds_of(stack * factor, bad, noise=2.0 * factor)
        image = combine(ccds, method=method, crmasks=masks)
        expected = combined(stack, bad, masks, method)
        good = ~unusable(expected)
        assert_array_equal(image.data[good], factor * expected.data[good])
        assert_allclose(
            image.uncertainty.array[good],
            factor * expected.uncertainty.array[good],
            rtol=1e-12,
        )

    @given(inputs=combinable())
    def test_untouched(self, method, inputs):
        """Nothing that the caller gave is changed."""
        stack, bad, masks = inputs
        ccds = ccds_of(stack.copy(), bad.copy(), noise=2.0)
        for ccd in ccds:
            ccd.data.flags.writeable = ccd.mask.flags.writeable = False
            ccd.uncertainty.array.flags.writeable = False
        before = masks[:, :]
        combine(ccds, method=method, crmasks=masks)
        combiner = CRCombiner(ccds, masks)
        getattr(combiner, f"{method}_combine")()
        assert_array_equal([ccd.data for ccd in ccds], stack)
        assert_array_equal([ccd.mask for ccd in ccds], bad)
        assert masks == before


texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)
numbers = st.floats(-1e300, 1e300).filter(lambda x: x == 0 or abs(x) > 1e-300)
positive = st.floats(1e-3, 1e3)


@st.composite
def mask_sets(draw):
    """Sets with anything that they may hold."""
    n, ny, nx = draw(st.tuples(*[st.integers(1, 6)] * 3))
    rng = np.random.default_rng(draw(seeds))
    planes = some(rng, (n + 3, ny, nx), draw(st.floats(0, 1)))
    image = rng.normal(0, 1e3, (ny, nx)).astype(np.float32)
    unit = draw(st.sampled_from([None, u.adu, u.electron]))
    pixel = (st.integers(1, nx), st.integers(1, ny))
    odd = st.sampled_from([1, 3, 5]), st.just(3)
    return CRMaskSet(
        *planes[:2],
        planes[3:],
        meancr=draw(st.sampled_from([None, planes[2]])),
        lamedian=draw(st.sampled_from([None, image if unit is None else image * unit])),
        flux_factor=draw(st.none() | st.lists(positive, min_size=n, max_size=n)),
        local_median_pixels=draw(st.none() | st.lists(st.tuples(*pixel, *odd))),
        gain=draw(st.none() | positive),
        readnoise=draw(st.none() | positive),
        bias=draw(st.none() | numbers),
        requirements=draw(
            st.none()
            | st.builds(
                Requirements,
                crmethod=crmethods,
                la_sigclip=positive | st.tuples(positive, positive),
                mm_xy_offsets=st.none(),
                mm_seed=st.none() | st.integers(0, 2**31),
            )
        ),
        meta=draw(
            st.dictionaries(
                st.from_regex(r"X[A-Z0-9]{1,6}", fullmatch=True),
                texts.map(str.rstrip) | numbers | st.booleans(),
                max_size=4,
            )
        ),
    )


class TestFiles:
    """Sets of masks as files."""

    @given(masks=mask_sets(), suffix=st.sampled_from([".fits", ".fits.gz"]))
    def test_round_trip(self, masks, suffix, tmp_path_factory):
        """What is written is read, all keywords and the identity too."""
        path = tmp_path_factory.mktemp("any") / f"crmasks{suffix}"
        masks.write(path)
        found = CRMaskSet.read(path)
        assert found == masks
        assert found.uuid == masks.uuid
        for key, value in masks.meta.items():
            assert found.meta[key] == value

    @given(masks=mask_sets())
    def test_again(self, masks, tmp_path_factory):
        """What is read and written again is the same to the last byte of data."""
        folder = tmp_path_factory.mktemp("any")
        masks.write(folder / "1.fits")
        CRMaskSet.read(folder / "1.fits").write(folder / "2.fits")
        with fits.open(folder / "1.fits") as one, fits.open(folder / "2.fits") as two:
            assert [hdu.name for hdu in one] == [hdu.name for hdu in two]
            for first, second in zip(one[1:], two[1:], strict=True):
                kind = Table if isinstance(first, fits.BinTableHDU) else np.asarray
                assert_array_equal(kind(first.data), kind(second.data))
