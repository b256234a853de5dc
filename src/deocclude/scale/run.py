"""A run on a Ray cluster in one call, and its manifest, which may be in a store."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from deocclude.batch.folder import LeftOut
from deocclude.batch.jobs import Report
from deocclude.batch.manifest import Manifest
from deocclude.batch.plan import Job, plan_jobs
from deocclude.inference.runtime import find_model
from deocclude.pipeline import load
from deocclude.scale.cluster import ray_data
from deocclude.scale.engine import run_jobs
from deocclude.scale.find import find_anywhere
from deocclude.scale.store import names_below, read, url_of, write
from deocclude.scale.worker import open_same


def run(
    inputs: str | Sequence[str],
    output: str | None = None,
    *,
    address: str | None = None,
    workers: int | None = None,
    threads: int = 1,
    model: str = "base",
    weights_dir: str | Path | None = None,
    seed: int = 0,
    overwrite: bool = False,
    fail_fast: bool = False,
    manifest: str | Path | None = None,
    on_report: Callable[[Report], object] = lambda _: None,
    on_left_out: Callable[[LeftOut], object] = lambda _: None,
    **plan: Any,
) -> list[Report]:
    """Process photos on a Ray cluster, as `deocclude run --engine ray` does. Networks run on CPUs.

    Args:
        inputs: photos, folders, patterns, lists, and URLs of photos or prefixes: s3://bucket/photos.
        output: a folder or URL; None: beside each photo.
        address: HOST:PORT of a cluster, or auto; None: RAY_ADDRESS, else a cluster of this machine's cores. A
            connection that exists is used.
        workers: photos at once; None: as many as fit.
        threads: CPUs of each.
        model: a name of the weights' manifest.
        weights_dir: a folder of weights that every machine has; None for the package's own.
        seed: as in `Deoccluder.__call__`.
        overwrite: do finished photos again, and replace any file.
        fail_fast: stop after the first failure.
        manifest: a file or URL that gets a row for each photo.
        on_report: called with each report as soon as it arrives.
        on_left_out: called with every file below the inputs that is no input.
        plan: other arguments of `plan_jobs`: kinds, recursive, finding, masks and so on.

    Returns:
        A report for each photo, in the order of the plan.

    Raises:
        UsageError: no photo, or options that exclude each other.
        MissingExtraError: Ray is not installed.
        DeoccludeError: no cluster, a store that cannot be listed, or a model that cannot be opened.
    """
    ray_data()
    left_out: list[LeftOut] = []
    names = [inputs] if isinstance(inputs, str) else inputs
    jobs = plan_jobs(names, output=output, find=find_anywhere, on_left_out=left_out.append, **plan)
    for file in left_out:
        on_left_out(file)
    digest = find_model(model, weights_dir).digest
    with contextlib.ExitStack() as stack:
        record: Callable[[Report], object] = lambda _: None  # noqa: E731  for a run without a manifest
        if manifest is not None:
            record = stack.enter_context(manifest_at(Path(manifest), jobs, left_out, overwrite))

        def report_one(report: Report) -> None:
            record(report)
            on_report(report)

        opened = partial(load, model, device="cpu", weights_dir=weights_dir, threads=threads)
        todo = run_jobs(
            jobs, partial(open_same, opened, model, weights_dir, digest), address=address, workers=workers,
            threads=threads, seed=seed, overwrite=overwrite, fail_fast=fail_fast, model=digest, on_report=report_one,
        )  # fmt: skip
        return list(todo)


@contextlib.contextmanager
def manifest_at(
    path: Path, plan: Sequence[Job], left_out: Sequence[LeftOut], overwrite: bool
) -> Iterator[Callable[[Report], None]]:
    """A manifest (`batch.manifest.Manifest`) on a disk or in a store. Yields the function that adds a report.

    In a store it is written at the end, after an error too; a run that is killed leaves none there.

    Raises:
        StoreError: the store refuses.
        UsageError: as `Manifest`.
    """
    url = url_of(path)
    if url is None:
        with Manifest(path, plan, left_out, overwrite=overwrite) as manifest:
            yield manifest.add
        return
    with tempfile.TemporaryDirectory(prefix="deocclude-") as folder:
        local = Path(folder, path.name)
        if names_below(url) == [""]:  # `Manifest` refuses to replace a file that is none
            local.write_bytes(read(url))
        manifest = Manifest(local, plan, left_out, overwrite=overwrite)
        try:
            with manifest:
                yield manifest.add
        finally:
            write(url, local.read_bytes())
