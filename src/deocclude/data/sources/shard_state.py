"""build.json: source, settings, progress and counts of a built set."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from deocclude.data.sources.shard_tally import Tally
from deocclude.data.storage import Folder
from deocclude.errors import InputError

STATE_FILE = "build.json"  # what is finished of a build
CACHE_FOLDER = ".cache"  # memory-mapped copies of the shards, made at the first reading
FORMAT = 1  # version of build.json


def shard_name(number: int) -> str:
    """File name of shard `number`, from 0."""
    return f"people-{number:05d}.parquet"


class Shard(BaseModel):
    """A finished file of a set, and its number of rows."""

    file: str
    rows: int


class BuildState(BaseModel):
    """Content of build.json, written after each shard.

    Attributes:
        format: version of this content.
        source: identity of the records that the set is built from.
        settings: how the set is built.
        shards: finished shards, in order.
        tally: counts of the photos in finished shards.
        seconds: duration of the build so far, over all its runs.
        done: whether the build is finished.
    """

    format: int = FORMAT
    source: dict[str, Any]
    settings: dict[str, Any]
    shards: list[Shard] = []
    tally: Tally = Tally()
    seconds: float = 0.0
    done: bool = False


def read_state(folder: Folder) -> BuildState:
    """The state of a set. Raises InputError where build.json is missing or invalid."""
    if not folder.has(STATE_FILE):
        raise InputError(f"{folder.place} is not a built set: looked for {folder.at(STATE_FILE)}")
    try:
        state = BuildState.model_validate_json(folder.read(STATE_FILE))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        invalid = f"{key + ': ' if key else ''}{first['msg']}"
        raise InputError(f"{folder.at(STATE_FILE)}: not what a build writes there: {invalid}") from error
    if state.format != FORMAT:
        raise InputError(f"{folder.at(STATE_FILE)}: format must be {FORMAT}, got {state.format}")
    return state
