"""A job whose photo or outputs are in an object store, done on a disk: fetched, and its results put back."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from deocclude.batch.folder import OUTPUT_NAME
from deocclude.batch.jobs import Report
from deocclude.batch.plan import Job
from deocclude.data.storage import is_url
from deocclude.scale.store import read, remove, shown, url_of, write


class Mirror:
    """The job as it is done on a disk.

    Attributes:
        job: with a local photo and local outputs.
    """

    def __init__(self, original: Job, job: Job, folder: Path, fetched: Sequence[str]) -> None:
        self.job, self._original, self._folder, self._fetched = job, original, folder, fetched

    def put_back(self, report: Report) -> Report:
        """Write the new files to the store, the expected ones last, and remove those that the job removed.

        Returns:
            The report with the names of the plan.

        Raises:
            StoreError: the store refuses; a new run does the photo again.
        """
        if report.status == "done" and self._out is not None:
            expected = set(self.job.expected_paths)
            for path in sorted(map(Path, report.outputs), key=lambda path: path in expected):
                write(self._name_of(path), path.read_bytes())
            for url in self._fetched:
                if not (self._folder / _name(url)).exists():
                    remove(url)
        return replace(
            report,
            source=self._original.source,
            outputs=tuple(self._name_of(Path(name)) for name in report.outputs),
            content=self._name_of(Path(report.content)) if report.content else "",
            error=self._with_names(report.error),
        )

    @property
    def _out(self) -> str | None:
        """The URL of the outputs' folder; None on a disk."""
        return url_of(self._original.outputs[0].path.parent)

    def _name_of(self, path: Path) -> str:
        return str(path) if self._out is None else f"{self._out}/{path.name}"

    def _with_names(self, message: str) -> str:
        """A message with the names of the plan."""
        message = message.replace(self.job.source, self._original.source)
        return message if self._out is None else message.replace(str(self._folder), self._out)


@contextlib.contextmanager
def mirrored(job: Job, existing: Sequence[str]) -> Iterator[Mirror]:
    """A job on a disk, until the end of the context. A job without URLs is itself.

    Args:
        job: the plan's.
        existing: URLs of files that may be outputs of an earlier run: they tell whether the photo is done.

    Raises:
        StoreError: a file cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="deocclude-") as name:
        local, folder = job, Path(name, "out")
        if is_url(job.source):
            # with the names of its folders: a COCO file may list them
            parts = PurePosixPath(job.source.partition("://")[2]).parts
            photo = Path(name, "in", *(part for part in parts if part not in ("/", "..")))
            photo.parent.mkdir(parents=True)
            photo.write_bytes(read(job.source))
            local = replace(local, source=str(photo))
        if url_of(job.outputs[0].path) is not None:
            folder.mkdir()
            for url in existing:
                (folder / _name(url)).write_bytes(read(url))
            outputs = tuple(replace(output, path=folder / output.path.name) for output in job.outputs)
            local = replace(local, outputs=outputs)
        yield Mirror(job, local, folder, existing)


def existing_outputs(jobs: Sequence[Job], urls: Sequence[str]) -> list[tuple[str, ...]]:
    """The files of an earlier run that belong to each job.

    Args:
        jobs: the plan.
        urls: what is in the outputs' stores.
    """
    by_photo: dict[str, list[str]] = {}
    for url in urls:
        by_photo.setdefault(_photo_of(url), []).append(url)
    found = []
    for job in jobs:
        keys = {_photo_of(shown(output.path)) for output in job.outputs}
        keys |= {shown(output.path.with_name(output.stem)) for output in job.outputs if output.stem is not None}
        found.append(tuple(url for key in sorted(keys) for url in by_photo.get(key, ())))
    return found


def _photo_of(url: str) -> str:
    """The URL of an output without what follows the photo's stem."""
    return OUTPUT_NAME.sub("", url)


def _name(url: str) -> str:
    return url.rpartition("/")[2]
