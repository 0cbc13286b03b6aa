# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of disks that are full or read-only, of several writers, and of threads."""

import errno
import gc
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from astropy.nddata import CCDData
from hypothesis import given
from hypothesis import strategies as st

from ccdcr import (
    CRMaskSet,
    CRMasksFileError,
    MissingUUIDWarning,
    ObservingBlock,
    Requirements,
    combine,
    detect_cosmic_rays,
    run_blocks,
)
from ccdcr.exceptions import warn_user
from ccdcr.exposures.exposure_files import Scratch
from ccdcr.simulation import simulate_exposures

FAMILIES = ("mm_lacosmic", "matched")  # of all methods
KNOWN = {"gain": 1.0, "readnoise": 3.0, "la_verbose": False}

# Random masks are not those of the exposures.
pytestmark = pytest.mark.filterwarnings("ignore::ccdcr.ForeignMasksWarning")


def exposures(seed, shape=(30, 32)):
    """Return exposures with hits."""
    rng = np.random.default_rng(seed)
    stack = rng.poisson(200, (3, *shape)) + rng.normal(0, 3, (3, *shape))
    stack[rng.random(stack.shape) < 0.003] += 2000
    return [CCDData(image.astype("f4"), unit="adu") for image in stack]


def some_masks(seed=1, shape=(30, 32)):
    """Return any masks of these exposures."""
    hits = np.random.default_rng(seed).random((3, *shape)) < 0.01
    known = {"gain": 1.0, "readnoise": 3.0}
    return CRMaskSet(hits.sum(axis=0) > 1, hits.any(axis=0), hits, **known)


def write_masks(path):
    """Write a set of masks."""
    some_masks().write(path, overwrite=True)


def write_image(path):
    """Write a combined image."""
    combine(exposures(1), path, crmasks=some_masks(), overwrite_output=True)


def write_plain(path):
    """Write a combined image of a plain method."""
    combine(exposures(1), path, method="median", overwrite_output=True)


def write_requirements(path):
    """Write requirements."""
    Requirements().to_yaml(path, overwrite=True)


WRITERS = {
    "crmasks.fits": write_masks,
    "crmasks.fits.gz": write_masks,
    "image.fits": write_image,
    "image.fits.gz": write_image,
    "median.fits": write_plain,
    "requirements.yaml": write_requirements,
}


@contextmanager
def no_space_after(size):
    """Let no file be longer than this."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("name", WRITERS)
class TestFullDisk:
    """Writing that ends at any byte."""

    @given(part=st.floats(0, 0.999), old=st.booleans())
    def test_whole_or_not(self, name, part, old, tmp_path_factory):
        """The error is raised, the old file is as it was, nothing else is left."""
        path = tmp_path_factory.mktemp("full") / name
        WRITERS[name](path)
        before = path.read_bytes()
        if not old:
            path.unlink()
        # A compressed file differs in length from time to time.
        size = int(part * (len(before) - 100))
        message = "File too large|could not be written .*; is the disk full"
        with no_space_after(size), pytest.raises(OSError, match=message):
            WRITERS[name](path)
        assert [item.name for item in path.parent.iterdir()] == [name] * old
        assert not old or path.read_bytes() == before


@pytest.fixture
def night(tmp_path):
    """A folder with exposures and a block."""
    for number, ccd in enumerate(exposures(1), start=1):
        ccd.write(tmp_path / f"e{number}.fits")
    return tmp_path


def block_in(folder):
    """Return a detection of these exposures."""
    return ObservingBlock(
        id="x",
        frames=tuple(str(folder / f"e{number}.fits") for number in (1, 2, 3)),
        requirements=Requirements(crmethod="lacosmic", la_verbose=False),
    )


class TestNoRoom:
    """A disk that lacks the room for what is to be mapped kills a process later."""

    @pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs Linux")
    def test_reserved(self, tmp_path, monkeypatch):
        """Room is asked for before anything is mapped."""

        def refuse(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        names = [tmp_path / f"e{number}.fits" for number in (1, 2, 3)]
        for name, ccd in zip(names, exposures(1, (120, 130)), strict=True):
            ccd.write(name)
        masks = some_masks(shape=(120, 130))
        monkeypatch.setattr(os, "posix_fallocate", refuse)
        room = rf"mem_limit needs \d+ bytes for a file in {tmp_path}; free some room"
        with pytest.raises(OSError, match=f"No space left on device: {room}"):
            combine(names, tmp_path / "a.fits", crmasks=masks, mem_limit=3e5)
        assert sorted(tmp_path.iterdir()) == names

    def test_allocated(self, tmp_path):
        """A temporary file is no promise."""
        scratch = Scratch((300, 400), np.float32, tmp_path)
        status = os.fstat(scratch._file.fileno())
        assert status.st_blocks * 512 >= scratch.whole().nbytes == 480_000


class TestBlocks:
    """A block whose results cannot be written."""

    @pytest.mark.parametrize("size", [0, 300, 3000])
    def test_full_disk(self, night, size):
        """It fails, with the old results as they were; and can be done again."""
        known = {"output_folder": night, "gain": 1.0, "readnoise": 3.0}
        (result,) = run_blocks([block_in(night)], **known)
        before = {path: path.read_bytes() for path in result.files[:3]}
        with no_space_after(size):
            (failed,) = run_blocks([block_in(night)], overwrite=True, **known)
        assert (failed.status, failed.id) == ("failed", "x")
        assert "File too large" in failed.error
        assert {path: path.read_bytes() for path in before} == before
        assert {*result.files} >= {*(night / "obsidx_results").iterdir()}
        (again,) = run_blocks([block_in(night)], overwrite=True, **known)
        assert again.status == "done"
        assert json.loads(again.files[-1].read_text())["status"] == "done"

    def test_read_only(self, night, read_only):
        """Exposures may be in such a folder, results not."""
        known = {"gain": 1.0, "readnoise": 3.0}
        (result,) = run_blocks([block_in(night)], output_folder=read_only, **known)
        assert result.status == "failed"
        assert "Permission denied" in result.error
        assert list(read_only.iterdir()) == []


@pytest.fixture
def read_only(night):  # noqa: ARG001 - made before rights are given up
    """A folder where this process may not write."""
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for writer in WRITERS.values():  # imports what it needs
            path = folder / "first.fits"
            writer(path)
            path.unlink()
        folder.chmod(0o555)
        if root:  # for whom there is no such folder
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if root:
                os.seteuid(0)
            folder.chmod(0o755)


@pytest.mark.parametrize("name", WRITERS)
def test_read_only(name, read_only):
    """Nothing is written, and the error says where."""
    with pytest.raises(PermissionError, match=str(read_only)):
        WRITERS[name](read_only / name)
    assert list(read_only.iterdir()) == []


def write_many(folder, value):
    """Write 25 files of masks of one value; return the numbers of those written."""
    planes = np.full((3, 20, 30), value, dtype=np.uint8)
    masks, won = CRMaskSet(planes[0], planes[0], planes), []
    for i in range(25):
        try:
            masks.write(f"{folder}/{i}.fits")
            won.append(str(i))
        except FileExistsError:
            pass
    return won


def test_two_writers(tmp_path):
    """Each of the files is by one of two processes, which knows that it is."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_faults as here; "
        "print('ready', flush=True); sys.stdin.readline(); "
        "print(*here.write_many(sys.argv[2], 1))"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code, Path(__file__).parent, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout.readline() == "ready\n"
    writer.stdin.write("go\n")
    writer.stdin.flush()
    won = [write_many(tmp_path, 0), writer.communicate()[0].split()]
    assert sorted([*won[0], *won[1]], key=int) == [str(i) for i in range(25)]
    assert len(list(tmp_path.iterdir())) == 25
    for value in (0, 1):
        for i in won[value]:
            assert (CRMaskSet.read(tmp_path / f"{i}.fits").crmasks == value).all()


class TestThreads:
    """What threads of one process do to each other."""

    @pytest.fixture(autouse=True)
    def switches(self):
        """Let threads take turns far more often than usual."""
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        yield
        sys.setswitchinterval(before)

    def test_detection(self):
        """Each gets its own result, the same as alone."""
        jobs = [(seed, crmethod) for seed in range(3) for crmethod in FAMILIES]

        def detect(job):
            seed, crmethod = job
            return detect_cosmic_rays(exposures(seed), **KNOWN, crmethod=crmethod)

        alone = [detect(job) for job in jobs]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(detect, jobs))
        assert together == alone
        assert alone[0] != alone[len(FAMILIES)]

    def test_combination(self):
        """So for images."""
        jobs = [(seed, method) for seed in range(4) for method in ("meancr", "median")]

        def combined(job):
            seed, method = job
            masks = {"crmasks": some_masks(seed)} if method == "meancr" else {}
            return combine(exposures(seed), method=method, **masks).data

        alone = [combined(job) for job in jobs]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(combined, jobs))
        np.testing.assert_array_equal(together, alone)

    def test_warnings(self, tmp_path):
        """Warnings of one thread are no errors because another one reads or writes."""
        sets = [some_masks(seed) for seed in range(4)]
        damaged = tmp_path / "damaged.fits"
        sets[0].write(damaged)
        damaged.write_bytes(damaged.read_bytes()[:-100])
        before = list(warnings.filters)

        def work(number):
            for _ in range(8):
                path = tmp_path / f"{number}.fits"
                sets[number].write(path, overwrite=True)
                assert CRMaskSet.read(path) == sets[number]
                with pytest.raises(CRMasksFileError, match="not a readable FITS file"):
                    CRMaskSet.read(damaged)

        def warn(_):
            for _ in range(2000):
                warn_user("nothing happened", MissingUUIDWarning)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MissingUUIDWarning)
            with ThreadPoolExecutor(5) as pool:
                futures = [pool.submit(work, number) for number in range(4)]
                futures.append(pool.submit(warn, None))
                for future in futures:
                    future.result()
        assert warnings.filters == before


# L.A. Cosmic itself leaves one byte for each pixel (astroscrappy 1.3.0).
@pytest.mark.parametrize("crmethod", FAMILIES)
def test_memory(crmethod):
    """Detections and combinations leave nothing behind."""
    ccds = exposures(1, (98, 98))

    def once():
        masks = detect_cosmic_rays(ccds, **KNOWN, crmethod=crmethod)
        combine(ccds, crmasks=masks)

    once()
    tracemalloc.start()
    once()
    gc.collect()
    first = tracemalloc.get_traced_memory()[0]
    for _ in range(2):
        once()
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - first
    tracemalloc.stop()
    # Of 38 KB an exposure; counters and caches of the interpreter grow a little.
    assert grown < 2 * 98**2 + 10_000


def digests():
    """Return digests of masks and boundaries of detections."""
    sim = simulate_exposures((64, 80), scene="stars", n_exposures=4, seed=5)
    found = []
    for crmethod in FAMILIES:
        masks = detect_cosmic_rays(sim.exposures, **KNOWN, crmethod=crmethod)
        assert masks.meancrt.any()
        boundaries = masks.diagnostics.boundaries.values()
        arrays = [*masks.planes.values(), *(boundary.y for boundary in boundaries)]
        content = b"".join(array.tobytes() for array in arrays)
        found.append(hashlib.sha256(content).hexdigest())
    return found


def test_openmp():
    """Another process with another number of threads makes the same masks."""
    number = "4" if os.environ.get("OMP_NUM_THREADS") == "1" else "1"
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    # Threads that wait do not keep the processor busy.
    environment = {"OMP_WAIT_POLICY": "passive"} | dict.fromkeys(names, number)
    code = "import sys; sys.path.insert(0, sys.argv[1]); import test_faults as here; "
    result = subprocess.run(
        [sys.executable, "-c", code + "print(*here.digests())", Path(__file__).parent],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == digests()
