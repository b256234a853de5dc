"""The build itself: records in, shards out, one shard in memory at a time; interrupted, it goes on where it was."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from deocclude.data.datasets import records_file
from deocclude.data.datasets.each_photo import with_unusable
from deocclude.data.datasets.record import PhotoRecord
from deocclude.data.datasets.registry import reader
from deocclude.data.sources.shard_rows import features
from deocclude.data.sources.shard_state import CACHE_FOLDER, STATE_FILE, BuildState, Shard, read_state, shard_name
from deocclude.data.sources.shard_tally import Tally
from deocclude.data.storage import Folder, is_url, size_of
from deocclude.data.trainsets.listing import listing_digest
from deocclude.data.trainsets.parallel import ordered_map
from deocclude.data.trainsets.photo import BuildSettings, build_photo, parser_of
from deocclude.data.trainsets.report import REPORT_FILES, write_report
from deocclude.errors import InputError, UsageError


def open_records(source: str, source_format: str | None = None, images: Path | None = None) -> Iterator[PhotoRecord]:
    """Records of a dataset by its path, or of a records file at a URL. images: the photos that a JSON file lists.

    Raises InputError and UsageError as `registry.reader` does.
    """
    if is_url(source):
        if images is not None:
            raise UsageError(
                f"{source}: --images is for formats that are a JSON file, and a records file names its photos"
            )
        if not source.endswith(".jsonl") or source_format not in (None, "records"):
            raise UsageError(f"{source}: of a URL only a records file, .jsonl, can be read: `data convert` writes one")
        return records_file.read(source)
    if images is not None and source_format is None and Folder(source).has(STATE_FILE):
        raise UsageError(
            f"--images is for formats that are a JSON file, and the built set {source} has its photos in it"
        )
    found = reader(source_format, Path(source))
    if images is not None and not found.takes_images:
        raise UsageError(f"--images is for formats that are a JSON file, and {found.name} has its photos in it")
    if images is not None and not images.is_dir():
        raise InputError(f"--images: no such folder: {images}")
    return found.read(Path(source), images) if found.takes_images else found.read(Path(source))


def build(
    records: Iterable[PhotoRecord],
    out: str,
    settings: BuildSettings,
    *,
    source: str,
    limit: int | None = None,
    jobs: int = 1,
    overwrite: bool = False,
    advance: Callable[[int], None] = lambda _: None,
) -> BuildState:
    """Build a set of whole people from records, or finish one that was interrupted.

    out: a path or URL. source: where the records come from, which a build that goes on compares. limit: no more than so
    many of the first photos; compared too. advance: called with the number of photos done.

    Raises:
        UsageError: another set, or something else, is at `out`.
        InputError: the records as a whole cannot be read, or nobody is kept.
        DeoccludeError: the set cannot be written, or a process dies.
    """
    folder, began = Folder(out), time.monotonic()
    state = _open_state(folder, _source(source, limit), json.loads(json.dumps(asdict(settings))), overwrite)
    if state.done:
        return state
    parser_of(settings.parser)  # what is wrong with it is wrong for every photo
    folder.write(STATE_FILE, _json(state))
    before = state.seconds
    tally = state.tally.model_copy(deep=True)
    advance(tally.photos)
    rows: list[dict[str, Any]] = []

    def finish_shard() -> None:
        shard = Shard(file=shard_name(len(state.shards)), rows=len(rows))
        folder.write(shard.file, _parquet(rows))
        rows.clear()
        state.shards.append(shard)

    def save(done: bool = False) -> None:
        state.tally, state.done = tally.model_copy(deep=True), done
        state.seconds = before + time.monotonic() - began
        folder.write(STATE_FILE, _json(state))

    rest = itertools.islice(enumerate(with_unusable(records)), tally.photos, limit)
    try:
        with contextlib.closing(ordered_map(partial(build_photo, settings=settings), rest, jobs)) as outcomes:
            for outcome in outcomes:
                tally.add(outcome)
                rows += outcome.rows
                advance(1)
                # after a whole photo, so that a build that goes on begins with the next one
                if len(rows) >= settings.shard_rows:
                    finish_shard()
                    save()
        if not tally.photos:
            raise InputError(f"{source}: no photo in it")
        if not tally.kept:
            raise InputError(f"{source}: nobody of {tally.people} people in {tally.photos} photos is kept{_why(tally)}")
    except InputError:
        # Nothing to go on with, so that nothing stands in the way of the corrected command.
        if not tally.kept:
            _discard(folder)
        raise
    if rows:
        finish_shard()
    save()
    write_report(folder, state)
    save(done=True)
    return state


def _open_state(folder: Folder, source: dict[str, Any], settings: dict[str, Any], overwrite: bool) -> BuildState:
    fresh = BuildState(source=source, settings=settings)
    if not folder.has(STATE_FILE):
        if not folder.is_empty():
            raise UsageError(f"{folder.place} holds something else than a built set and is left as it is")
        return fresh
    if overwrite:
        _discard(folder)
        return fresh
    state = read_state(folder)
    if (state.source, state.settings) == (source, settings):
        return state
    if state.settings == settings and all(state.source.get(key) == source.get(key) for key in ("records", "limit")):
        raise UsageError(f"{source['records']} has changed since {folder.place} was begun: --overwrite builds it anew")
    raise UsageError(f"{folder.place} is built from other records or by other settings: --overwrite replaces it")


def _discard(folder: Folder) -> None:
    """Remove what a build wrote, and nothing else; build.json last, as it says what the rest is.

    It is not read, so that one that is damaged is replaced too.
    """
    shards = list(itertools.takewhile(folder.has, map(shard_name, itertools.count())))
    # The last shard first: what an interruption leaves is numbered from 0 still.
    for name in (*reversed(shards), *REPORT_FILES, STATE_FILE):
        if folder.has(name):
            folder.remove(name)
    folder.remove_folder(CACHE_FOLDER)


def _source(source: str, limit: int | None) -> dict[str, Any]:
    """What tells records apart that a build may go on with: where they are, and how large or which files."""
    limited = {} if limit is None else {"limit": limit}
    if is_url(source):
        return {"records": source, "bytes": size_of(source), **limited}
    path = Path(source).resolve()
    content = {"files": listing_digest(path)} if path.is_dir() else {"bytes": size_of(str(path))}
    return {"records": str(path), **content, **limited}


def _json(state: BuildState) -> bytes:
    return state.model_dump_json(indent=1).encode()


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    import datasets

    datasets.disable_progress_bars()
    with io.BytesIO() as file:
        datasets.Dataset.from_list(rows, features=features()).to_parquet(file)
        return file.getvalue()


def _why(tally: Tally) -> str:
    if tally.unusable_photos:
        return f": {tally.unusable_photos} photos cannot be used, {tally.problems[0]}"
    worst = max(tally.refused, key=lambda rule: tally.refused[rule], default=None)
    return f": most fail the rule {worst!r} ({tally.refused[worst]})" if worst else ""
