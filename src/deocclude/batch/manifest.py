"""The manifest of a run: a row for each photo, what became of it, and why. JSON lines, CSV or Parquet.

While the run goes on, rows are appended to `NAME.part` as JSON lines, so that a killed run leaves them. At the end the
manifest is written whole, in the order of the photos, and the part is removed.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from deocclude.batch.folder import LeftOut
from deocclude.batch.jobs import Report
from deocclude.batch.plan import Job
from deocclude.errors import DeoccludeError, MissingExtraError, UsageError
from deocclude.io.files import write_whole

FIELDS = ("photo", "status", "reason", "outputs", "people", "seconds", "stamp", "model", "device")
"""Columns. status: done, skipped, failed, left_out or not_tried. outputs: a list, in CSV as JSON. people: their number,
empty where it is not known. seconds: reading, processing and writing. stamp: digest of the request."""

SUFFIXES = (".csv", ".jsonl", ".parquet")  # of a manifest; each is a format


class Manifest:
    """The manifest of one run, as a context: `add` appends to the part, the end of the context writes the whole.

    The end writes it after an interruption and an error too: photos without a report are then not_tried.
    """

    def __init__(
        self, path: Path, plan: Sequence[Job], left_out: Sequence[LeftOut], *, overwrite: bool = False
    ) -> None:
        """Check that the manifest can be written.

        Args:
            path: a file with a suffix of SUFFIXES; a former manifest is replaced.
            plan: the photos.
            left_out: files that are no input.
            overwrite: replace a file that is no manifest too.

        Raises:
            UsageError: another suffix, a folder, or a file that is no manifest.
            MissingExtraError: Parquet without pyarrow.
        """
        self.path, self._plan, self._left_out = path, plan, left_out
        self._part = path.with_name(f"{path.name}.part")
        self._rows: dict[str, dict[str, Any]] = {}
        self._file: BinaryIO | None = None
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES:
            raise UsageError(f"--manifest {path}: expected a name in {', '.join(SUFFIXES)}")
        if path.is_dir():
            raise UsageError(f"--manifest {path}: expected a file, got a folder")
        if suffix == ".parquet":
            _check_pyarrow()
        if not overwrite and path.is_file() and path.stat().st_size > 0 and not _is_manifest(path):
            raise UsageError(
                f"--manifest {path} exists and is no manifest: name another, or replace it with --overwrite"
            )

    def __enter__(self) -> Manifest:
        """Open the part. Raises DeoccludeError if it cannot be written."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._part, "wb", buffering=0)
        except OSError as error:
            raise DeoccludeError(f"cannot write {self._part}: {error.strerror or error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the whole manifest and remove the part."""
        if self._file is not None:
            self._file.close()
        rows = [self._rows.get(job.source) or _row(job.source, "not_tried") for job in self._plan]
        rows += [_row(str(file.path), "left_out", reason=file.reason) for file in self._left_out]
        write_whole(self.path, lambda file: _WRITERS[self.path.suffix.lower()](rows, file))
        self._part.unlink(missing_ok=True)

    def add(self, report: Report) -> None:
        """Add a photo's report.

        Raises:
            DeoccludeError: the part cannot be written, on a full disk for example.
        """
        row = _row(
            report.source, report.status, reason=report.error, outputs=list(report.outputs),
            people=report.people_count, seconds=round(report.seconds, 3), stamp=report.stamp, model=report.model,
            device=report.device,
        )  # fmt: skip
        self._rows[report.source] = row
        if self._file is not None:
            try:
                self._file.write(_json_line(row))
            except OSError as error:
                raise DeoccludeError(f"cannot write {self._part}: {error.strerror or error}") from error


def _row(photo: str, status: str, **more: Any) -> dict[str, Any]:
    """A row with the columns of FIELDS; those that `more` lacks are empty."""
    empty: dict[str, Any] = {
        "reason": "", "outputs": [], "people": None, "seconds": 0.0, "stamp": "", "model": "", "device": "",
    }  # fmt: skip
    return {"photo": photo, "status": status, **empty, **more}


def _json_line(row: dict[str, Any]) -> bytes:
    """A row as a line of JSON."""
    return (json.dumps(row) + "\n").encode("ascii")


def _write_jsonl(rows: Iterable[dict[str, Any]], file: BinaryIO) -> None:
    for row in rows:
        file.write(_json_line(row))


def _write_csv(rows: Iterable[dict[str, Any]], file: BinaryIO) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "outputs": json.dumps(row["outputs"])} for row in rows)
    file.write(text.getvalue().encode("utf-8", "surrogateescape"))


def _write_parquet(rows: Iterable[dict[str, Any]], file: BinaryIO) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"outputs": pa.list_(pa.string()), "people": pa.int32(), "seconds": pa.float64()}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in FIELDS])
    valid = [{name: _valid_unicode(value) for name, value in row.items()} for row in rows]
    pq.write_table(pa.Table.from_pylist(valid, schema=schema), file)


def _valid_unicode(value: Any) -> Any:
    """A value in which bytes of file names that are no UTF-8 are escaped by backslashes: Parquet cannot hold them."""
    if isinstance(value, list):
        return [_valid_unicode(item) for item in value]
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


_WRITERS: dict[str, Callable[[Iterable[dict[str, Any]], BinaryIO], None]] = {
    ".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet,
}  # fmt: skip


def _check_pyarrow() -> None:
    """Raise MissingExtraError without pyarrow."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise MissingExtraError("a manifest in Parquet", "data") from None


def _is_manifest(path: Path) -> bool:
    """Whether a file has the columns of a manifest."""
    if path.suffix.lower() == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return tuple(pq.read_schema(path).names) == FIELDS
        except (OSError, pa.ArrowInvalid):
            return False
    with open(path, "rb") as file:
        first = file.readline(1 << 20)
    if path.suffix.lower() == ".csv":
        return first.rstrip() == ",".join(FIELDS).encode()
    try:
        row = json.loads(first)
    except ValueError:
        return False
    return isinstance(row, dict) and tuple(row) == FIELDS
