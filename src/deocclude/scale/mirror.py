"""Jobs with photos or outputs in an object store: files are fetched to a disk, and results are put back."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from deocclude.batch.jobs import Report
from deocclude.batch.plan import Job
from deocclude.data.storage import is_url
from deocclude.io.results import OUTPUT_NAME
from deocclude.scale.store import read, remove, shown, url_of, write


class Mirror:
    """A job as it is done on a disk.

    Args:
        original: the plan's job.
        job: see Attributes.
        folder: the local folder of outputs.
        fetched: URLs of earlier outputs, which are copied to `folder`.

    Attributes:
        job: `original` with a local photo and local outputs.
    """

    def __init__(self, original: Job, job: Job, folder: Path, fetched: Sequence[str]) -> None:
        self.job, self._original, self._folder, self._fetched = job, original, folder, fetched

    def put_back(self, report: Report) -> Report:
        """Write the new files to the store, the expected ones last; remove earlier outputs that the job removed.

        Returns:
            The report with the names of the plan.

        Raises:
            StoreError: the store refuses; a new run does the photo again.
        """
        if report.status == "done" and self._output_url is not None:
            expected = set(self.job.expected_paths)
            for path in sorted(map(Path, report.outputs), key=lambda path: path in expected):
                write(self._planned_name(path), path.read_bytes())
            for url in self._fetched:
                if not (self._folder / _file_name(url)).exists():
                    remove(url)
        return replace(
            report,
            source=self._original.source,
            outputs=tuple(self._planned_name(Path(name)) for name in report.outputs),
            content=self._planned_name(Path(report.content)) if report.content else "",
            error=self._with_planned_names(report.error),
        )

    @property
    def _output_url(self) -> str | None:
        """The URL of the planned outputs' folder; None for a folder on a disk."""
        return url_of(self._original.outputs[0].path.parent)

    def _planned_name(self, path: Path) -> str:
        """The path or URL of a local output in the plan."""
        return str(path) if self._output_url is None else f"{self._output_url}/{path.name}"

    def _with_planned_names(self, message: str) -> str:
        """A message with local paths replaced by those of the plan."""
        message = message.replace(self.job.source, self._original.source)
        return message if self._output_url is None else message.replace(str(self._folder), self._output_url)


@contextlib.contextmanager
def mirrored(job: Job, existing: Sequence[str]) -> Iterator[Mirror]:
    """A job on a disk, until the end of the context. A job without URLs stays as it is.

    Args:
        job: the plan's.
        existing: URLs of files that may be outputs of an earlier run; from them the job sees whether it is done.

    Raises:
        StoreError: a file cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="deocclude-") as name:
        local, folder = job, Path(name, "out")
        if is_url(job.source):
            # the local path keeps the folders' names: a COCO file may list photos by them
            parts = PurePosixPath(job.source.partition("://")[2]).parts
            photo = Path(name, "in", *(part for part in parts if part not in ("/", "..")))
            photo.parent.mkdir(parents=True)
            photo.write_bytes(read(job.source))
            local = replace(local, source=str(photo))
        if url_of(job.outputs[0].path) is not None:
            folder.mkdir()
            for url in existing:
                (folder / _file_name(url)).write_bytes(read(url))
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
        by_photo.setdefault(_without_output_suffix(url), []).append(url)
    found = []
    for job in jobs:
        keys = {_without_output_suffix(shown(output.path)) for output in job.outputs}
        keys |= {shown(output.path.with_name(output.stem)) for output in job.outputs if output.stem is not None}
        found.append(tuple(url for key in sorted(keys) for url in by_photo.get(key, ())))
    return found


def _without_output_suffix(url: str) -> str:
    """The URL of an output, cut off after the photo's stem."""
    return OUTPUT_NAME.sub("", url)


def _file_name(url: str) -> str:
    """The part of a URL after its last slash."""
    return url.rpartition("/")[2]
