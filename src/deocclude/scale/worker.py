"""What an actor does: photos of a block, one after the other, with a model that is opened once."""

from __future__ import annotations

import os
import pickle
import platform
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deocclude.batch.jobs import Report, Work, read_ahead
from deocclude.batch.plan import Finding, Job
from deocclude.batch.workers import MAX_TRIES
from deocclude.data.storage import is_url
from deocclude.errors import DeoccludeError, WeightsError
from deocclude.scale.mirror import mirrored
from deocclude.scale.store import StoreError

if TYPE_CHECKING:
    from deocclude.pipeline import Deoccluder


@dataclass(frozen=True)
class Item:
    """A job on its way to an actor.

    Attributes:
        index: its number in the plan.
        job: without `finding`, which may hold the people of all photos.
        finding: number of the finding among those that each actor has.
        existing: URLs of files that may be its outputs.
    """

    index: int
    job: Job
    finding: int | None
    existing: tuple[str, ...] = ()


class Tries:
    """Counts how often the work on a photo was begun and not ended, by workers that died. Runs as one actor for all."""

    def __init__(self) -> None:
        self._begun = Counter[int]()

    def begin(self, index: int) -> int:
        """Count one more beginning. Returns how often the photo was begun before."""
        self._begun[index] += 1
        return self._begun[index] - 1

    def end(self, index: int) -> None:
        """Forget a finished photo."""
        del self._begun[index]


class PhotoWorker:
    """The work on blocks of items, as Ray Data calls it: from two threads, of which one computes.

    The other one fetches the next photo or puts the last one's results back. Nothing is raised: an exception would drop
    the whole block.
    """

    def __init__(
        self, load: Callable[[], Deoccluder], seed: int, model: str, overwrite: bool, findings: Sequence[Finding],
        folder: str, begin: Callable[[int], int], end: Callable[[int], object],
    ) -> None:  # fmt: skip
        """Open nothing yet: the first photo that is not done opens the model.

        Args:
            load: opens the pipeline.
            seed: passed to the pipeline.
            model: identifies the model.
            overwrite: do finished photos again.
            findings: the plan's, to which items refer by number.
            folder: the working folder of relative paths, if this machine has it.
            begin: `Tries.begin` of the actor that all workers share.
            end: `Tries.end` of the same actor.
        """
        if os.path.isdir(folder):
            os.chdir(folder)
        self._work = Work(load, seed, model, overwrite)
        self._findings, self._begin, self._end = findings, begin, end
        self._computing = threading.Lock()

    def __call__(self, block: dict[str, Any]) -> dict[str, Any]:
        """Work on a block of one row.

        Args:
            block: `items`: a pickled list of `Item`.

        Returns:
            `outcomes`: a pickled list of (index, Report, or the error that ends the run).
        """
        items: list[Item] = pickle.loads(block["items"][0])
        return {"outcomes": [pickle.dumps([(item.index, self._outcome(item)) for item in items])]}

    def _outcome(self, item: Item) -> Report | Exception:
        """The report of an item, or the error that ends the run. Raises nothing."""
        job = item.job if item.finding is None else replace(item.job, finding=self._findings[item.finding])
        try:
            return self._report(item.index, job, item.existing)
        except StoreError as error:
            return Report(job.source, "failed", error=str(error), exit_code=error.exit_code)
        except (DeoccludeError, ModuleNotFoundError) as error:  # an error of the model: every photo would have it
            return error
        except Exception as error:
            message = f"{job.source}: {type(error).__name__}: {error}"
            return Report(job.source, "failed", error=message, exit_code=1)

    def _report(self, index: int, job: Job, existing: Sequence[str]) -> Report:
        """Fetch a photo, work on it and put its results back; the report's seconds include both transfers."""
        began = time.perf_counter()
        if not is_url(job.source):
            read_ahead(Path(job.source))
        with mirrored(job, existing) as mirror:
            fetched_s = time.perf_counter() - began
            with self._computing:
                report = self._work_if_tries_left(index, mirror.job)
            began = time.perf_counter()
            report = mirror.put_back(report)
        if report.status != "done":
            return report
        return replace(report, seconds=report.seconds + fetched_s + time.perf_counter() - began)

    def _work_if_tries_left(self, index: int, job: Job) -> Report:
        """Work on a local job, unless it has ended its process too often: then the report is a failure."""
        if self._begin(index) >= MAX_TRIES:
            error = f"{job.source}: ended its worker process in each of {MAX_TRIES} tries"
            return Report(job.source, "failed", error=error, exit_code=1)
        try:
            return self._work(job)
        finally:
            self._end(index)


def open_same(load: Callable[[], Deoccluder], model: str, weights: str | Path | None, digest: str) -> Deoccluder:
    """Open the model where it is the one that the run was planned with.

    Raises:
        WeightsError: this machine has other weights under that name.
    """
    from deocclude.inference.runtime import find_model

    if find_model(model, weights).digest != digest:
        raise WeightsError(
            f"the machine {platform.node()} has other weights of model {model!r} than the one that plans the run: "
            "install the same version on both"
        )
    return load()
