# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Work that is spread over threads."""

import os
from concurrent.futures import ThreadPoolExecutor

__all__ = ["in_threads"]

_THREADS = 8


def in_threads(function, items):
    """
    Call a function with each item, in threads, and return the results in order.

    Parameters
    ----------
    function : callable
        What is called; numpy and scipy let several threads run at once.
    items : sequence
        Its arguments, one for each call.

    Returns
    -------
    results : list
        What the calls returned.
    """
    workers = min(len(items), _THREADS, _cores())
    if workers < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, items))


def _cores():
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
