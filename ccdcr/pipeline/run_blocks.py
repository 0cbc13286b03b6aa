# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Runs of many observing blocks, here or by an executor."""

from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from pathlib import Path

from ccdcr.pipeline.block_options import check_changes
from ccdcr.pipeline.observing_block import ObservingBlock
from ccdcr.pipeline.plan import Settings, make_plan
from ccdcr.pipeline.tasks import BlockResult, check_task, failure, run_task

__all__ = ["run_blocks", "run_plan"]


def run_blocks(
    blocks,
    executor=None,
    *,
    output_folder=".",
    datadir=None,
    gain=None,
    readnoise=None,
    bias=None,
    noise=None,
    extension=None,
    unit=None,
    overwrite=False,
    resume=False,
    dry_run=False,
    review=None,
    progress_bar=None,
    **overrides,
):
    """
    Run observing blocks from files to files.

    Each block writes to the folder ``obsid<id>_results``: a detection
    ``crmasks.fits``, a summary and the requirements, a combination an image
    named after its method, and both a log and a record (``.json``).

    Parameters
    ----------
    blocks : iterable of `~ccdcr.ObservingBlock`, str or `~pathlib.Path`
        The blocks, or YAML files of one or more blocks, in any order.
    executor : `~concurrent.futures.Executor`, optional
        Executor that runs the blocks, such as a process pool, the ``get_executor()`` of
        a dask client, or an executor of mpi4py. Default is None: one after the other,
        in this process.
    output_folder : str or `~pathlib.Path`, optional
        Existing folder in which the folders of results are made.
    datadir : str or `~pathlib.Path`, optional
        Folder of the data, searched first. Default is ``data`` beside the YAML
        file; the folder of the YAML file is searched next.
    gain, readnoise, bias : float, `~astropy.units.Quantity` or str, optional
        As for `detect_cosmic_rays`; they override those of the blocks. If they are
        given nowhere, usual header keywords are used (GAIN, EGAIN; RDNOISE, READNOIS,
        RON, ENOISE) and named in the log.
    noise : {'auto', 'uncertainty', 'detector'}, optional
        As for `detect_cosmic_rays`; it overrides that of the blocks.
    extension : int or str, optional
        FITS extension of the images. Default is that of the block, or the primary
        image, or the only image that is not a mask or an uncertainty.
    unit : str or `~astropy.units.Unit`, optional
        Unit of the exposures. Default is BUNIT, or adu without this keyword.
    overwrite : bool, optional
        Whether existing files are replaced. Default is False.
    resume : bool, optional
        Whether to skip blocks that were completed with the same input and options.
        Unfinished ones are repeated; those completed with others need ``overwrite``.
    dry_run : bool, optional
        Only check everything; nothing is written. Default is False.
    review : callable, optional
        Function of the exposures and the masks of a detection with ``interactive:
        True`` that returns the masks to be written, such as `ccdcr.review`. Only
        without executor. Default is to keep all detections.
    progress_bar : callable, optional
        Function that wraps an iterable of exposures and has a parameter ``desc``, such
        as ``tqdm``. Only used without executor.
    **overrides
        Requirements of detections, and ``method``, ``crmasks`` and options of
        combinations, by name; they override those of the blocks.

    Returns
    -------
    results : iterator of `BlockResult`
        One result for each block, as soon as it is complete. The blocks run while the
        iterator is consumed. A block that fails does not stop the others.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not allowed.

    Notes
    -----
    The record of a block is written last. The executor may repeat a block, as dask does
    if a worker dies, and the same run may be started again with ``resume=True``.

    A combination finds its masks by their file name in the data folder, or among the
    masks that another block makes or has made from the same exposures. It waits for
    that block.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from ccdcr import run_blocks
    >>> from ccdcr.simulation import simulate_exposures
    >>> block = '''
    ... id: night1
    ... mode: MegaraCrDetection
    ... frames: ["e*.fits"]
    ... requirements: {crmethod: lacosmic, la_verbose: false}
    ... '''
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "night1.yaml"
    ...     _ = path.write_text(block)
    ...     sim = simulate_exposures((64, 64), seed=1)
    ...     for i, ccd in enumerate(sim.exposures):
    ...         ccd.write(path.with_name(f"e{i}.fits"))
    ...     for result in run_blocks(
    ...         [path], output_folder=folder, gain=1.0, readnoise=3.0
    ...     ):
    ...         print(result.id, result.status, result.files[0].name)
    night1 done crmasks.fits
    """
    _check_kinds(blocks, executor, review)
    check_changes(overrides)
    settings = Settings(
        output_folder=Path(output_folder),
        datadir=datadir if datadir is None else Path(datadir),
        detector={"gain": gain, "readnoise": readnoise, "bias": bias, "noise": noise},
        extension=extension,
        unit=unit,
        overwrite=overwrite,
        resume=resume,
        changes=overrides,
        review=review,
    )
    return run_plan(
        make_plan(blocks, settings),
        executor,
        dry_run=dry_run,
        progress_bar=progress_bar,
    )


def _check_kinds(blocks, executor, review):
    if isinstance(blocks, (str, Path, ObservingBlock)):
        msg = f"blocks must be a list of blocks or YAML files, got {blocks!r}"
        raise TypeError(msg)
    if review is not None and (executor is not None or not callable(review)):
        msg = (
            "review must be a function of exposures and masks, without executor, "
            f"got {review!r} with executor={executor!r}"
        )
        raise TypeError(msg)
    if executor is not None and not isinstance(executor, Executor):
        msg = (
            "executor must be a concurrent.futures.Executor (of a dask client: "
            f"client.get_executor()), got {type(executor).__name__}"
        )
        raise TypeError(msg)


def run_plan(plan, executor=None, *, dry_run=False, progress_bar=None):
    """Yield the `BlockResult` of each block of a plan; options as for `run_blocks`."""
    yield from plan.results
    function = check_task if dry_run else run_task
    if executor is None:
        # Detections come first in a plan.
        failed = {}
        for task in plan.tasks:
            result = _fail_without_masks(task, failed) or function(task, progress_bar)
            _note(task, result, failed)
            yield result
    else:
        yield from _by_executor(plan.tasks, executor, function)


def _by_executor(tasks, executor, function):
    waiting, running, failed = list(tasks), {}, {}
    try:
        while waiting or running:
            pending = {task.output for task in [*waiting, *running.values()]}
            ready = [task for task in waiting if task.crmasks not in pending]
            waiting = [task for task in waiting if task.crmasks in pending]
            for task in ready:
                if result := _fail_without_masks(task, failed):
                    yield result
                else:
                    running[_submit(executor, function, task)] = task
            if running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    task = running.pop(future)
                    result = _get_result(future, task)
                    _note(task, result, failed)
                    yield result
    finally:
        for future in running:
            future.cancel()


def _note(task, result, failed):
    if result.status == "failed":
        failed[task.output] = task.id


def _fail_without_masks(task, failed):
    """Return the result of a task whose masks could not be made, else None."""
    if task.crmasks not in failed:
        return None
    error = f"the block {failed[task.crmasks]} failed, which makes {task.crmasks}"
    return BlockResult(task.id, task.source, "failed", error=error)


def _submit(executor, function, task):
    """Return the future of a task, which fails if the executor is broken."""
    try:
        return executor.submit(function, task)
    except Exception as err:  # noqa: BLE001 - executors raise what they like
        future = Future()
        future.set_exception(err)
        return future


def _get_result(future, task):
    try:
        return future.result()
    except Exception as err:  # noqa: BLE001 - a worker that died, for example
        return failure(task, err)
