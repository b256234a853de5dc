"""Jobs of a plan on a Ray cluster, by Ray Data: its streaming is the back-pressure, its actors hold one model each."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deocclude.batch.folder import STREAM
from deocclude.batch.jobs import Report, output_folders
from deocclude.batch.plan import Job
from deocclude.errors import DeoccludeError, UsageError
from deocclude.io.files import sweep
from deocclude.scale.cluster import cluster, ray_data
from deocclude.scale.mirror import existing_outputs
from deocclude.scale.store import names_below, shown, url_of
from deocclude.scale.worker import Item, PhotoWorker, Tries

if TYPE_CHECKING:
    from deocclude.pipeline import Deoccluder

_MAX_BLOCK = 32  # photos: a block is done anew where its worker dies
_MIN_BLOCKS_PER_WORKER = 32  # if there are so many photos: during the last block the other workers are idle
_BLOCKS_AT_ONCE = 2  # in each actor: one is computed, while photos or results of the other are transferred


def run_jobs(
    jobs: Sequence[Job],
    load: Callable[[], Deoccluder],
    *,
    address: str | None = None,
    workers: int | None = None,
    threads: int = 1,
    seed: int = 0,
    overwrite: bool = False,
    fail_fast: bool = False,
    model: str = "",
    on_report: Callable[[Report], object] = lambda _: None,
    on_workers: Callable[[int], object] = lambda _: None,
) -> Generator[Report, None, None]:
    """Run jobs on a Ray cluster and yield their reports in order, as `batch.jobs.run_jobs` does in processes.

    A photo whose worker dies is tried once more, and then fails. A worker that is killed loses nothing: its photos are
    done anew, and their outputs are the same.

    Args:
        jobs: the plan; photos and outputs in stores or on a disk that all machines have under one path.
        load: opens the pipeline; called in each actor, for its first photo that is not done. Can be pickled.
        address: as in `cluster`.
        workers: as in `cluster`.
        threads: CPUs of a worker.
        seed: passed to the pipeline.
        overwrite: never skip, and replace any file.
        fail_fast: stop after the first failure; photos in work are given up.
        model: identifies the model (`runtime.ModelInfo.digest`).
        on_report: called with each report as soon as it arrives, in any order.
        on_workers: called with the number of workers.

    Raises:
        UsageError: standard input or output.
        MissingExtraError: Ray is not installed.
        DeoccludeError: no cluster, a store that cannot be listed, or an error of `load`.
    """
    if any(job.source == STREAM or job.to_stdout for job in jobs):
        raise UsageError("--engine ray reads and writes files: standard input and output need --engine processes")
    for folder in {folder for job in jobs for folder in output_folders(job) if url_of(folder) is None}:
        sweep(folder)
    if not jobs:
        return
    ray_data()
    items, findings = _items(jobs)
    with cluster(address, workers, threads) as count:
        on_workers(count)
        arguments = (load, seed, model, overwrite, findings, os.getcwd())
        finished: dict[int, Report] = {}
        next_index = 0
        with contextlib.closing(_outcomes(items, arguments, count, threads)) as outcomes:
            for index, report in outcomes:
                finished[index] = report
                on_report(report)
                while next_index in finished:
                    yield finished.pop(next_index)
                    next_index += 1
                if fail_fast and report.status == "failed":
                    break
        yield from (finished[index] for index in sorted(finished))


def _items(jobs: Sequence[Job]) -> tuple[list[Item], list[Any]]:
    """The jobs as items, and their findings. Requests of findings are computed here: actors may lack the files."""
    by_id = {id(job.finding): job.finding for job in jobs if job.finding is not None}
    numbers = {key: number for number, key in enumerate(by_id)}
    findings = [replace(finding, known_request=finding.request) for finding in by_id.values()]
    existing = _existing_urls(jobs)
    return [
        Item(index, replace(job, finding=None), numbers.get(id(job.finding)), existing[index])
        for index, job in enumerate(jobs)
    ], findings


def _existing_urls(jobs: Sequence[Job]) -> list[tuple[str, ...]]:
    """For each job, the URLs that may be outputs of an earlier run. Each store is listed once."""
    by_store: dict[tuple[str, ...], set[Path]] = {}
    for job in jobs:
        folder = job.outputs[0].path.parent
        if url_of(folder) is not None:
            by_store.setdefault(folder.parts[:2], set()).add(folder)
    urls = []
    for folders in by_store.values():
        root = shown(Path(os.path.commonpath(folders)))
        urls += [f"{root}/{name}" for name in names_below(root)]
    return existing_outputs(jobs, urls)


def _blocks(items: Sequence[Item], workers: int) -> list[Sequence[Item]]:
    """The items in blocks, in order."""
    size = max(1, min(_MAX_BLOCK, len(items) // (workers * _MIN_BLOCKS_PER_WORKER)))
    return [items[start : start + size] for start in range(0, len(items), size)]


def _outcomes(
    items: Sequence[Item], arguments: tuple[Any, ...], workers: int, threads: int
) -> Generator[tuple[int, Report], None, None]:
    """The reports by number as they arrive. Closing the iterator ends the actors.

    Raises:
        DeoccludeError: an error of `load`, or Ray gave up.
        ModuleNotFoundError: raised by `load`.
    """
    data = ray_data()
    import ray

    counter = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Tries).remote()
    blocks = _blocks(items, workers)
    rows = [{"items": pickle.dumps(list(block))} for block in blocks]
    todo = data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        PhotoWorker,
        batch_size=1,
        batch_format="numpy",
        fn_constructor_args=(
            *arguments,
            lambda index: ray.get(counter.begin.remote(index)),
            lambda index: counter.end.remote(index),
        ),
        num_cpus=threads,
        compute=data.ActorPoolStrategy(
            size=min(workers, len(rows)),
            max_concurrent_calls_per_actor=_BLOCKS_AT_ONCE,
            max_tasks_in_flight_per_actor=_BLOCKS_AT_ONCE,
            enable_true_multi_threading=True,
        ),
    )
    todo.context.enable_progress_bars = todo.context.print_on_execution_start = False
    try:
        for batch in todo.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
            for index, outcome in (pair for row in batch["outcomes"] for pair in pickle.loads(row)):
                if isinstance(outcome, Exception):
                    raise outcome
                yield index, outcome
    except ray.exceptions.RayError as error:
        raise DeoccludeError(f"Ray gave up: {_shortened(error)}") from error


def _shortened(error: Exception) -> str:
    """The first and the last line of Ray's error; those between are tracebacks of other processes."""
    lines = [line.strip() for line in re.sub(r"\x1b\[\d+m", "", str(error)).splitlines() if line.strip()]
    return ": ".join(dict.fromkeys([*lines[:1], *lines[-1:]])) or type(error).__name__
