# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of many blocks at once: process pools, a dask cluster, workers that die."""

import json
import multiprocessing
import os
import signal
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from ccdcr import CRMaskSet, run_blocks
from ccdcr.cli.isolated_pool import IsolatedPool, threads_shared
from ccdcr.simulation import simulate_exposures

NUMBER = 4
TEXT = """\
id: n{number}_crmasks
mode: MegaraCrDetection
frames: ["exposure*.fits"]
requirements: {{crmethod: lacosmic, dilation: {number}, la_verbose: false}}
---
id: n{number}
frames: ["exposure*.fits"]
requirements:
  method: meancr
  crmasks: ../obsidn{number}_crmasks_results/crmasks.fits
"""


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    """YAML files of a detection and a combination each, and their folder."""
    folder = tmp_path_factory.mktemp("nights")
    sim = simulate_exposures((64, 64), gain=1.5, cr_rate=0.5, seed=4)
    for number, ccd in enumerate(sim.exposures, start=1):
        ccd.write(folder / f"exposure{number}.fits")
    for number in range(NUMBER):
        text = TEXT.format(number=number)
        (folder / f"n{number}.yaml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def expected(nights, tmp_path_factory):
    """The masks, made here one after the other."""
    folder = tmp_path_factory.mktemp("expected")
    results = list(run(nights, folder))
    assert {result.status for result in results} == {"done"}
    return masks_in(folder)


def run(nights, folder, executor=None, **options):
    """Run all blocks of all nights."""
    options = {"gain": 1.5, "readnoise": 3.0, "output_folder": folder} | options
    return run_blocks(sorted(nights.glob("n*.yaml")), executor, **options)


def masks_in(folder):
    """Return all masks by the name of their folder."""
    paths = sorted(folder.glob("*/crmasks.fits"))
    return {path.parent.name: CRMaskSet.read(path) for path in paths}


def pool(workers):
    """Return a process pool; spawn, as OpenMP does not survive a fork."""
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))


@pytest.fixture(scope="module")
def workers():
    """A pool of two processes."""
    with pool(2) as executor:
        yield executor


def die(*_):
    """End this process without any cleaning up."""
    os.kill(os.getpid(), signal.SIGKILL)


class Later(Executor):
    """An executor that runs what it is given when it is told to."""

    def __init__(self):
        self.futures = []

    def submit(self, function, /, *args):
        """Keep a call for later."""
        future = Future()
        self.futures.append((future, function, args))
        return future


def test_process_pool(nights, expected, workers, tmp_path):
    """A pool makes the same masks; combinations wait for their masks."""
    results = list(run(nights, tmp_path, workers))
    assert [result.error for result in results] == [None] * 2 * NUMBER
    assert masks_in(tmp_path) == expected
    order = [result.id for result in results]
    for number in range(NUMBER):
        assert order.index(f"n{number}_crmasks") < order.index(f"n{number}")


def test_one_fails(nights, expected, workers, tmp_path):
    """A block that fails is reported, and the others are completed."""
    bad = tmp_path / "obsidn2_crmasks_results"
    bad.write_text("in the way of the folder")
    results = {result.id: result for result in run(nights, tmp_path, workers)}
    failed = {name for name, result in results.items() if result.status == "failed"}
    assert failed == {"n2_crmasks", "n2"}
    assert len(masks_in(tmp_path)) == NUMBER - 1
    bad.unlink()
    again = {r.id: r.status for r in run(nights, tmp_path, resume=True)}
    assert {name for name, status in again.items() if status == "done"} == failed
    assert set(again.values()) == {"done", "skipped"}
    assert masks_in(tmp_path) == expected


def test_as_they_finish(nights, tmp_path):
    """A result comes when its block ends, whatever the others do."""
    executor = Later()
    results = run(nights, tmp_path, executor, method="median", crmasks=None)
    assert executor.futures == []  # nothing is begun before results are asked for
    original = executor.submit

    def submit(function, /, task):
        future = original(function, task)
        if task.id == "n3":
            future.set_result(function(task))
        return future

    executor.submit = submit
    result = next(results)
    assert (result.id, result.status) == ("n3", "done")
    results.close()
    waiting = [future for future, *_ in executor.futures if not future.done()]
    assert waiting == []
    cancelled = [future for future, *_ in executor.futures if future.cancelled()]
    assert len(cancelled) == 2 * NUMBER - 1


def test_broken_pool(nights, tmp_path):
    """A pool that breaks fails its blocks; the run can be resumed."""
    with pool(1) as executor:
        with pytest.raises(BrokenProcessPool):
            executor.submit(die).result()
        results = list(run(nights, tmp_path, executor))
    assert {result.status for result in results} == {"failed"}
    assert "BrokenProcessPool" in results[0].error
    results = list(run(nights, tmp_path, resume=True))
    assert {result.status for result in results} == {"done"}


def test_isolated_pool():
    """A process that is killed fails its own task only."""
    others = set(multiprocessing.active_children())
    with IsolatedPool(2) as executor:
        pids = {executor.submit(os.getpid).result() for _ in range(3)}
        assert os.getpid() not in pids
        futures = [executor.submit(f) for f in (os.getpid, die, os.getpid, os.getpid)]
        with pytest.raises(
            RuntimeError, match="killed, possibly because memory ran out"
        ):
            futures[1].result()
        assert all(isinstance(futures[i].result(), int) for i in (0, 2, 3))
    assert set(multiprocessing.active_children()) == others


def test_threads(monkeypatch):
    """Cores are shared by the processes, unless the user has said how."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    with threads_shared(3):
        assert os.environ["OMP_NUM_THREADS"] == "2"
    assert "OMP_NUM_THREADS" not in os.environ
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    with threads_shared(3):
        assert os.environ["OMP_NUM_THREADS"] == "5"


@pytest.mark.filterwarnings("ignore")  # those of dask are not ours
def test_dask(nights, expected, tmp_path):
    """A dask worker is killed halfway; all blocks are completed by the next one."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            dashboard_address=None,
            local_directory=str(tmp_path),
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        pids = client.run(os.getpid)
        output = tmp_path / "output"
        output.mkdir()
        results = []
        for result in run(nights, output, client.get_executor()):
            results.append(result)
            if len(results) == 2:
                busy = [name for name, tasks in client.processing().items() if tasks]
                busy = busy or list(pids)
                os.kill(pids[busy[0]], signal.SIGKILL)
        assert pids[busy[0]] not in client.run(os.getpid).values()
    assert [result.error for result in results] == [None] * 2 * NUMBER
    assert masks_in(output) == expected
    for path in Path(output).glob("*/*.json"):
        assert json.loads(path.read_text())["status"] == "done"
