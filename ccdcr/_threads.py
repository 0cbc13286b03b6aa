# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Work that is spread over threads."""

import os
from concurrent.futures import ThreadPoolExecutor

__all__ = ["in_threads", "number_of_threads"]


def in_threads(function, items, most=8):
    """
    Call a function with each item, in threads, and return the results in order.

    Parameters
    ----------
    function : callable
        What is called; numpy and scipy let several threads run at once.
    items : sequence
        Its arguments, one for each call.
    most : int, optional
        Most threads. Default is 8.

    Returns
    -------
    results : list
        What the calls returned.
    """
    workers = min(len(items), number_of_threads(most))
    if workers < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, items))


def number_of_threads(most):
    """Return the number of processors that may be used, ``most`` at most."""
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), most)
    return min(os.cpu_count() or 1, most)
