"""Building a set: records in, shards out, one shard in memory at a time; an interrupted build can resume."""

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
    """Records of a dataset by path, or of a records file by URL.

    Args:
        source: the path or URL.
        source_format: the format's name, or None to recognise it.
        images: the folder of the photos that a JSON file lists; None to search for it.

    Raises:
        InputError: nothing exists there.
        UsageError: the format cannot be recognised, or the arguments do not fit it.
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
    data_format = reader(source_format, Path(source))
    if images is not None and not data_format.takes_images:
        raise UsageError(f"--images is for formats that are a JSON file, and {data_format.name} has its photos in it")
    if images is not None and not images.is_dir():
        raise InputError(f"--images: no such folder: {images}")
    return data_format.read(Path(source), images) if data_format.takes_images else data_format.read(Path(source))


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

    Args:
        records: the records, in a fixed order.
        out: path or URL of the set.
        settings: how the set is built.
        source: where the records come from; a resumed build must have the same.
        limit: number of first photos that are used; a resumed build must have the same. None for all.
        jobs: number of processes.
        overwrite: whether an existing set is replaced.
        advance: called with the number of photos done.

    Returns:
        The final state, with its counts.

    Raises:
        UsageError: another set, or another folder, exists at `out`.
        InputError: the records cannot be read, or no person is kept.
        DeoccludeError: the set cannot be written, or a process dies.
    """
    folder, began = Folder(out), time.monotonic()
    state = _open_state(folder, _source_identity(source, limit), json.loads(json.dumps(asdict(settings))), overwrite)
    if state.done:
        return state
    parser_of(settings.parser)  # a parser that cannot be loaded fails here once, not for every photo
    folder.write(STATE_FILE, _json(state))
    seconds_before = state.seconds
    # `tally` counts all photos so far, `state.tally` only those of finished shards: a resumed build goes on there
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
        state.seconds = seconds_before + time.monotonic() - began
        folder.write(STATE_FILE, _json(state))

    rest = itertools.islice(enumerate(with_unusable(records)), tally.photos, limit)
    try:
        with contextlib.closing(ordered_map(partial(build_photo, settings=settings), rest, jobs)) as outcomes:
            for outcome in outcomes:
                tally.add(outcome)
                rows += outcome.rows
                advance(1)
                # shards end with a complete photo, so that a resumed build begins with the next one
                if len(rows) >= settings.shard_rows:
                    finish_shard()
                    save()
        if not tally.photos:
            raise InputError(f"{source}: no photo in it")
        if not tally.kept:
            raise InputError(f"{source}: none of {tally.people} people in {tally.photos} photos is kept{_why(tally)}")
    except InputError:
        # There is nothing to resume: remove the set, so that the corrected command can run.
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
    """The state of the set that is resumed, or of a new one. Raises UsageError where `folder` cannot be built into."""
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
    """Remove the files of a build, and nothing else; build.json last, since it identifies the set.

    build.json is not read, so that a damaged one is replaced too.
    """
    shards = list(itertools.takewhile(folder.has, map(shard_name, itertools.count())))
    # The last shard first: after an interruption the remaining ones are still numbered from 0.
    for name in (*reversed(shards), *REPORT_FILES, STATE_FILE):
        if folder.has(name):
            folder.remove(name)
    folder.remove_folder(CACHE_FOLDER)


def _source_identity(source: str, limit: int | None) -> dict[str, Any]:
    """What must stay the same for a build to resume: path or URL, size or file listing, and `limit`."""
    limit_entry = {} if limit is None else {"limit": limit}
    if is_url(source):
        return {"records": source, "bytes": size_of(source), **limit_entry}
    path = Path(source).resolve()
    content = {"files": listing_digest(path)} if path.is_dir() else {"bytes": size_of(str(path))}
    return {"records": str(path), **content, **limit_entry}


def _json(state: BuildState) -> bytes:
    return state.model_dump_json(indent=1).encode()


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    """Content of a shard, a parquet file."""
    import datasets

    datasets.disable_progress_bars()
    with io.BytesIO() as file:
        datasets.Dataset.from_list(rows, features=features()).to_parquet(file)
        return file.getvalue()


def _why(tally: Tally) -> str:
    """The likeliest reason why no person is kept, as the end of an error message; empty where there is none."""
    if tally.unusable_photos:
        return f": {tally.unusable_photos} photos cannot be used, {tally.problems[0]}"
    worst = max(tally.refused, key=lambda rule: tally.refused[rule], default=None)
    return f": most fail the rule {worst!r} ({tally.refused[worst]})" if worst else ""
