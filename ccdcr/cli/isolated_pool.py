# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Processes that run blocks; apart, as their imports take a third of a start."""

import multiprocessing
import os
import signal
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

__all__ = ["IsolatedPool", "threads_shared"]


class IsolatedPool(ThreadPoolExecutor):
    """Executor of single processes: one that is killed fails its own task only."""

    def __init__(self, jobs):
        super().__init__(jobs)
        self._others = set(multiprocessing.active_children())
        self._local = threading.local()
        self._pools = []

    def submit(self, function, /, *args):
        """Run a function in one of the processes."""
        return super().submit(self._run_in_process, function, *args)

    def _run_in_process(self, function, *args):
        pool = getattr(self._local, "pool", None)
        if pool is None:
            # spawn: a fork after OpenMP was used may hang.
            pool = ProcessPoolExecutor(
                1, multiprocessing.get_context("spawn"), initializer=_be_quiet
            )
            self._local.pool = pool
            self._pools.append(pool)
        try:
            return pool.submit(function, *args).result()
        except BrokenProcessPool as err:
            self._local.pool = None
            msg = "the process was killed, possibly because memory ran out"
            raise RuntimeError(msg) from err

    def stop(self):
        """Interrupt running tasks and start no others."""
        self.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - self._others:
            child.terminate()

    def __exit__(self, exc_type, exc_value, traceback):
        if exc_type is not None:
            self.stop()
        self.shutdown(wait=True)
        for pool in self._pools:
            pool.shutdown(wait=True)
        return False


def _be_quiet():
    """End without traceback, after cleaning up; leave messages to the parent."""
    from astropy import log

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(1))
    for handler in list(log.handlers):
        log.removeHandler(handler)


@contextmanager
def threads_shared(jobs):
    """Share the cores among processes, unless OMP_NUM_THREADS is set."""
    name = "OMP_NUM_THREADS"
    given = os.environ.get(name)
    if given is None:
        os.environ[name] = str(max(1, (os.cpu_count() or 1) // jobs))
    try:
        yield
    finally:
        if given is None:
            del os.environ[name]
