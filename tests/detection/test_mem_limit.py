# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of detections under a limit of memory."""

import errno
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import StdDevUncertainty
from numpy.testing import assert_array_equal

from ccdcr import detect_cosmic_rays
from ccdcr.simulation import simulate_exposures
from ccdcr.utils import scratch
from ccdcr.utils.scratch import ScratchSpace, keep, scratch_space, to_bytes, zeros

KNOWN = {"gain": 1.0, "readnoise": 3.0}
LIMIT = 1.4e6  # bytes: enough for 5 exposures of 80 x 70 pixels, in files


def exposures(n, scene="stars", **options):
    """Return exposures that differ in flux and position."""
    flux, shift = 1 + 0.1 * np.arange(n), [(0.1 * i, 0.2) for i in range(n)]
    options = {"flux": flux, "shift": shift, "seed": n} | options
    return simulate_exposures((80, 70), scene=scene, n_exposures=n, **options).exposures


def detect(ccds, **options):
    """Return masks and texts of the warnings."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        masks = detect_cosmic_rays(ccds, **KNOWN | options)
    return masks, [str(warning.message) for warning in found]


def is_in_file(array):
    """Return whether an array is in the scratch space."""
    while isinstance(array, np.ndarray):
        array = array.base
    return array is not None


def assert_same(ccds, **options):
    """Compare a detection under a limit with one without."""
    (masks, said), (limited, also_said) = (
        detect(ccds, mem_limit=limit, **options) for limit in (None, LIMIT)
    )
    assert limited == masks  # with expected values, factors and requirements
    assert also_said == said
    for name, plane in masks.diagnostics.flags.items():
        assert_array_equal(limited.diagnostics.flags[name], plane)
        assert is_in_file(limited.diagnostics.flags[name])
        assert not is_in_file(plane)
    assert not is_in_file(limited.crmasks)
    assert str(limited.equivalence) == str(masks.equivalence)
    pairs = [(each.low_values, each.point_sources) for each in (masks, limited)]
    for one, other in zip(*pairs, strict=True):
        assert_array_equal(one, other)
    matching, other = (each.diagnostics.matching for each in (masks, limited))
    assert_array_equal(matching.deviations.counts, other.deviations.counts)
    assert matching.noise.as_array().tolist() == other.noise.as_array().tolist()
    return masks


class TestSame:
    """The result does not depend on the limit, bit by bit."""

    @pytest.mark.parametrize(("n", "scene"), [(2, "longslit"), (5, "fibres")])
    def test_scenes(self, n, scene):
        """Exposures that must be matched."""
        assert assert_same(exposures(n, scene)).crmasks.any()

    def test_masked(self):
        """Masked pixels, a bad row, skies that differ, and flux factors."""
        ccds = exposures(3, exptime=600.0)
        rng = np.random.default_rng(3)
        for i, ccd in enumerate(ccds):
            ccd.mask = rng.random(ccd.shape) < 0.01
            ccd.mask[40, :60] = True
            ccd.data = ccd.data + 50 * i
        ccds[0].data[10:13, 20:25] = np.nan
        masks = assert_same(ccds, flux_factor="auto", ma_satlevel=3000.0)
        assert masks.diagnostics.matching.sky is not None

    def test_uncertainty(self):
        """Uncertainties, and no strips."""
        ccds = exposures(3)
        for ccd in ccds:
            ccd.uncertainty = StdDevUncertainty(np.sqrt(np.maximum(ccd.data, 0) + 9))
        assert_same(ccds, gain=None, readnoise=None, ma_strips=False, ma_dilation=1)

    def test_files(self, tmp_path):
        """Files, which are read in bands."""
        paths = [tmp_path / f"{i}.fits" for i in range(3)]
        for path, ccd in zip(paths, exposures(3), strict=True):
            ccd.write(path)
        assert_same(paths)


class TestLimits:
    """What a limit may be."""

    def test_large(self, monkeypatch):
        """A large limit needs no files."""
        ccds = exposures(2)
        monkeypatch.setattr(scratch.tempfile, "TemporaryFile", None)
        masks, _ = detect(ccds, mem_limit=1e9)
        assert not is_in_file(masks.diagnostics.flags["MEDIANCR"])

    def test_too_small(self):
        """The error tells the least limit, which is enough, before any work."""
        ccds = [ccd[:79, :69] for ccd in exposures(2)]  # no whole number of bytes
        text = r"at least (\d+) bytes for 2 exposures of 69 x 79 pixels, got 1000"
        with pytest.raises(ValueError, match=f"mem_limit must be {text}") as error:
            detect(ccds, mem_limit=1000)
        least = int(re.search(text, str(error.value))[1])
        masks, _ = detect(ccds, mem_limit=least)
        assert is_in_file(masks.diagnostics.flags["MEDIANCR"])

    @pytest.mark.parametrize("method", ["lacosmic", "mmcosmic", "matched_lacosmic"])
    def test_other_methods(self, method):
        """Others need the images whole."""
        with pytest.raises(ValueError, match=r"which needs them whole, got 1e\+06"):
            detect(exposures(3), crmethod=method, mem_limit=1e6)

    @pytest.mark.parametrize(
        "limit", [0, -1, np.nan, "-1e9", "1.2.3 GB", "GB", "5 m/s", 5 * u.m, True]
    )
    def test_no_number(self, limit):
        """Anything else than a positive number is refused."""
        with pytest.raises(ValueError, match="mem_limit must be a number of bytes > 0"):
            detect([], mem_limit=limit)

    @pytest.mark.parametrize(
        ("limit", "size"),
        [
            (2e9, 2e9),
            ("2e9", 2e9),
            ("2 GB", 2e9),
            ("500mb", 5e8),
            ("1.5G", 1.5e9),
            ("2GiB", 2**31),
            ("64 KiB", 2**16),
            (3 * u.Gbyte, 3e9),
            (8 * u.bit, 1),
        ],
    )
    def test_units(self, limit, size):
        """Sizes may have a unit."""
        assert to_bytes(limit) == size

    def test_no_room(self, monkeypatch):
        """A disk without room is an error before any work, that says what to do."""
        usage = shutil.disk_usage("/")._replace(free=1e5)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        text = "mem_limit needs .* in .*; set TMPDIR to .*, or give a larger limit"
        with pytest.raises(OSError, match=text) as error:
            detect(exposures(2), mem_limit=LIMIT)
        assert error.value.errno == errno.ENOSPC

    def test_quota(self, monkeypatch):
        """So is a quota, which is noticed later."""

        def refuse(*_):
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

        monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
        with pytest.raises(OSError, match=r"quota.*: mem_limit needs .*; set TMPDIR"):
            detect(exposures(2), mem_limit=LIMIT)

    def test_bands_at_once(self):
        """More memory than the least is for more threads."""
        space = ScratchSpace(100)
        space.begin(whole=500, least=60, band=20, what="exposures")
        assert space.threads == 3


class TestScratch:
    """Arrays in temporary files."""

    def test_arrays(self):
        """They keep their values when their pages are given back, and after the end."""
        with scratch_space(10) as space:
            assert not is_in_file(zeros((2, 3)))
            space.begin(whole=11, least=1, band=1, what="exposures")
            array, empty = zeros((2, 3), bool), zeros((0, 3))
            assert is_in_file(array)
            array[1] = True
            space.release()
            space.trim()
            assert keep(None) is None
        assert array.sum() == 3
        assert empty.shape == (0, 3)
        assert keep(empty) is empty

    @pytest.mark.skipif(not Path("/dev/fd").exists(), reason="counts descriptors")
    def test_no_descriptor(self):
        """Arrays keep no file open."""
        before = len(list(Path("/dev/fd").iterdir()))
        with scratch_space(10) as space:
            space.begin(whole=11, least=1, band=1, what="exposures")
            arrays = [zeros(9) for _ in range(20)]
        assert len(list(Path("/dev/fd").iterdir())) == before
        assert is_in_file(arrays[0])


_MEASURE = """
import sys
import numpy as np
from astropy.nddata import CCDData
from ccdcr import detect_cosmic_rays

def measure(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name))

def detect(size, **options):
    rng = np.random.default_rng(1)
    ccds = [
        CCDData(rng.normal(100, 10, (size, size)).astype(np.float32), unit="electron")
        for _ in range(6)
    ]
    before = measure("VmRSS")
    masks = detect_cosmic_rays(ccds, gain=1, readnoise=0, ma_passes=1, **options)
    return measure("VmHWM") - before, masks

detect(100)
print(detect(500, mem_limit=35e6)[0] * 1024)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peak():
    """Six exposures (6 MB) need 73 MB, bands and masks included; 136 without."""
    peak = int(subprocess.check_output([sys.executable, "-c", _MEASURE]))
    assert peak < 100e6
