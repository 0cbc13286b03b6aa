# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of FITS images that are written in bands; astropy checks the sums."""

import numpy as np
import pytest
from astropy.io import fits
from numpy.testing import assert_array_equal

from ccdcr.utils import fits_structure
from ccdcr.utils.fits_structure import checksum, ones_sum, write_images


def images(shape, seed=1):
    """Return headers and images of each type."""
    rng = np.random.default_rng(seed)
    pairs = []
    for number, dtype in enumerate(["f4", "f8", "i2", "u1", "?"]):
        image = rng.normal(0, 1e3, shape).astype(dtype)
        kind = fits.ImageHDU if number else fits.PrimaryHDU
        hdu = kind(image.astype("u1") if dtype == "?" else image)
        hdu.header["NUMBER"] = float(rng.random())
        pairs.append((hdu.header, image))
    return pairs


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (13, 3), (37, 41), (100, 29)])
@pytest.mark.parametrize("band", [1, 100, 1 << 18])
@pytest.mark.parametrize("suffix", [".fits", ".fits.gz", ".fits.bz2"])
def test_write(tmp_path, monkeypatch, shape, band, suffix):
    """What is read is what was written, and all sums are right."""
    monkeypatch.setattr(fits_structure, "_BAND", band)
    path = tmp_path / f"out{suffix}"
    written = images(shape, seed=band + shape[0])
    write_images(path, written, overwrite=False, remedy="")
    with fits.open(path, checksum=True) as hdus:
        assert len(hdus) == len(written)
        for hdu, (header, image) in zip(hdus, written, strict=True):
            assert_array_equal(hdu.data, image)
            assert hdu.header["NUMBER"] == header["NUMBER"]
            assert hdu.verify_checksum() == hdu.verify_datasum() == 1
            assert "CHECKSUM" not in header


def test_standard():
    """The example of the FITS standard, appendix J.2 and J.3."""
    assert checksum(868229149) == "hcHjjc9ghcEghc9g"


def test_ones_sum():
    """Carries come back at the other end; parts of words are filled with 0."""
    assert ones_sum(b"\xff\xff\xff\xff\x00\x00\x00\x02") == 2
    assert ones_sum(b"\x01", 5) == 0x01000005
    assert ones_sum(b"", 7) == 7
