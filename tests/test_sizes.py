# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of images of any size, kind and value: a result or an error with a name."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData

import ccdcr
from ccdcr import combine, detect_cosmic_rays

METHODS = {
    "lacosmic": {"crmethod": "lacosmic"},
    "mmcosmic": {"crmethod": "mmcosmic"},
    "spline": {
        "crmethod": "mmcosmic",
        "mm_boundary_fit": "spline",
        "mm_nsimulations": 1,
    },
    "matched": {"crmethod": "matched"},
}
SHAPES = [(1, 1), (1, 40), (40, 1), (3, 3), (5, 7)]
ODD = "ignore::ccdcr.CRWarning"  # they are about images that are none of the sky

every_method = pytest.mark.parametrize("method", METHODS)


def noisy(shape=(30, 30), n=3, level=100.0):
    """Exposures of a constant level."""
    rng = np.random.default_rng(7)
    return rng.poisson(level, (n, *shape)) + rng.normal(0, 3, (n, *shape))


def detect(stack, method, **options):
    """Detect in arrays."""
    ccds = [CCDData(image, unit="adu") for image in stack]
    known = {"gain": 1.0, "readnoise": 3.0, "la_verbose": False} | METHODS[method]
    return detect_cosmic_rays(ccds, **known | options)


def check_set(masks, stack):
    """Assert what is true of every set: it combines, and nothing bad is flagged."""
    bad = ~np.isfinite(stack)
    assert masks.crmasks.shape == stack.shape
    assert not (masks.crmasks & bad).any()
    ccds = [CCDData(image, unit="adu") for image in stack.astype(float)]
    for ccd, mask in zip(ccds, bad, strict=True):
        ccd.mask = mask
    for name in ("mediancr", "meancrt", "meancr"):
        combined = combine(ccds, method=name, crmasks=masks)
        unusable = np.zeros(masks.shape, bool)
        unusable |= False if combined.mask is None else combined.mask
        np.testing.assert_array_equal(unusable, bad.all(axis=0))
        assert np.isfinite(combined.data[~unusable]).all()


@pytest.mark.filterwarnings(ODD)
@every_method
class TestShapes:
    """Images smaller than kernels, tiles and histograms; many exposures."""

    @pytest.mark.parametrize("shape", SHAPES)
    def test_small(self, method, shape):
        """A set of the right shape."""
        stack = noisy(shape)
        check_set(detect(stack, method), stack)

    @pytest.mark.parametrize("n", [30])
    def test_many(self, method, n):
        """More exposures than three."""
        stack = noisy((12, 14), n)
        check_set(detect(stack, method), stack)


@pytest.mark.filterwarnings(ODD)
@every_method
class TestArrays:
    """Layouts and types of arrays."""

    @pytest.mark.parametrize("layout", ["strides", "readonly", "fortran", "reversed"])
    def test_layout(self, method, layout):
        """The same as for a plain array, which stays as it was."""
        plain = noisy((24, 26))
        odd = {
            "strides": np.repeat(np.repeat(plain, 2, axis=1), 3, axis=2)[:, ::2, ::3],
            "readonly": plain.copy(),
            "fortran": np.array([np.asfortranarray(image) for image in plain]),
            "reversed": plain[:, ::-1, ::-1].copy()[:, ::-1, ::-1],
        }[layout]
        if layout == "readonly":
            odd.flags.writeable = False
        assert detect(odd, method) == detect(plain, method)
        np.testing.assert_array_equal(odd, plain)

    @pytest.mark.parametrize("dtype", [">f4", "float16"])
    def test_floats(self, method, dtype):
        """Values that both types hold give the same masks."""
        stack = np.rint(noisy((24, 26)))
        assert detect(stack.astype(dtype), method) == detect(stack, method)

    @pytest.mark.parametrize("dtype", ["u2", ">i2"])
    def test_integers(self, method, dtype):
        """So do integers."""
        stack = np.clip(np.rint(noisy((24, 26))), 0, 255)
        assert detect(stack.astype(dtype), method) == detect(stack, method)

    def test_files(self, method, tmp_path):
        """Unsigned integers are stored with BZERO; files may be mapped."""
        stack = np.rint(noisy((24, 26)) + 40000).astype(np.uint16)
        paths = [tmp_path / f"{i}.fits" for i in range(3)]
        for path, image in zip(paths, stack, strict=True):
            hdu = fits.PrimaryHDU(image)
            hdu.header["BUNIT"] = "adu"
            hdu.writeto(path)
            assert fits.getheader(path)["BZERO"] == 32768
        known = {"gain": 1.0, "readnoise": 3.0, "la_verbose": False}
        masks = detect_cosmic_rays(paths, **known | METHODS[method])
        assert masks == detect(stack.astype(float), method)


def _with(value, region=np.s_[0, 5, 5]):
    stack = noisy().astype(float)
    stack[region] = value
    return stack


VALUES = {
    "constant": np.full((3, 30, 30), 100.0),
    "zero": np.zeros((3, 30, 30)),
    "negative": noisy() - 300,
    "saturated area": _with(65535, np.s_[:, 5:15, 5:15]),
    "saturated": np.full((3, 30, 30), 65535.0),
    "largest": noisy() * 1e9,
    "beyond": noisy() * 1e30,
    "one float32": _with(3e38),
    "one negative": _with(-3e38),
    "one float64": _with(1e300),
    "no rows": _with(np.nan, np.s_[:, 3:9]),
    "no exposure 1": _with(np.nan, 0),
    "nothing": _with(np.nan, np.s_[:]),
    "infinite": _with(np.inf, np.s_[:]),
}
NO_SPLINE = {"no exposure 1", "nothing", "infinite", "beyond"}


@pytest.mark.filterwarnings(ODD)
@every_method
class TestValues:
    """Values that no detector gives, or only a broken one."""

    @pytest.mark.parametrize("name", VALUES)
    def test_values(self, method, name):
        """A set that combines."""
        stack = VALUES[name]
        if method == "spline" and name in NO_SPLINE:
            with pytest.raises(ValueError, match="mm_boundary_fit must be 'exact'"):
                detect(stack, method)
            return
        masks = detect(stack, method)
        stack = np.where(np.abs(stack) <= 1e12, stack, np.nan)
        check_set(masks, stack)

    @pytest.mark.parametrize(
        "options",
        [
            {"readnoise": 0},
            {"gain": 1e-6},
            {"gain": 1e6},
            {"readnoise": 1e6},
            {"readnoise": 1e-30},
            {"gain": 1e-6, "readnoise": 1e6},
            {"flux_factor": [0.5, 1, 2]},
        ],
    )
    def test_extremes(self, method, options):
        """Parameters at the ends of what is allowed."""
        stack = noisy()
        check_set(detect(stack, method, **options), stack)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"gain": 1e-7}, "gain must be from 1e-06 to 1e"),
            ({"gain": 1e39}, "gain must be from 1e-06 to 1e"),
            ({"readnoise": 1e30}, "readnoise must be up to 1e"),
            ({"bias": -1e39}, "bias must be up to 1e"),
            ({"bias": 1e6}, r"bias must not exceed nearly all values .* got 1e\+06"),
            ({"flux_factor": [1e-30, 1, 1]}, "flux_factor must be from 1e-06 to"),
            ({"flux_factor": [0.001, 1, 50]}, "the largest up to 10000 times"),
        ],
    )
    def test_refused(self, method, options, message):
        """Parameters beyond; the message has their name."""
        with pytest.raises(ValueError, match=message):
            detect(noisy(), method, **options)


class TestImplausible:
    """Warnings of masks that cannot be those of cosmic rays."""

    def test_flagged(self):
        """A bias that is far too high makes all pixels look hit."""
        stack = noisy((40, 40))
        stack[0, 0] = 2e6
        with pytest.warns(ccdcr.ImplausibleMaskWarning, match="MEDIANCR 8"):
            detect(stack, "lacosmic", bias=1e6)

    def test_coincidences(self):
        """Sources that two of three exposures have are no cosmic rays."""
        stack = noisy((60, 60))
        stack[:2, ::10, ::10] += 2000
        with pytest.warns(ccdcr.CoincidenceWarning, match="flagged in MEDIANCR, "):
            detect(stack, "mmcosmic")

    def test_usual(self):
        """Cosmic rays do not warn; warnings are errors here."""
        stack = noisy((60, 60))
        stack[0, 20, 10:20] += 2000
        stack[1, 18:22, 14] += 2000
        masks = detect(stack, "mmcosmic")
        assert masks.mediancr[20, 14]
