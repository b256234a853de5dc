"""build.json: what a built set is made by, how far it is, and what was counted."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from deocclude.data.sources.shard_tally import Tally
from deocclude.data.storage import Folder
from deocclude.errors import InputError

STATE_FILE = "build.json"
CACHE_FOLDER = ".cache"  # of what reads the shards, see `data/sources/shards.py`
FORMAT = 1


def shard_name(number: int) -> str:
    """What the file of shard `number`, from 0, is called."""
    return f"people-{number:05d}.parquet"


class Shard(BaseModel):
    """A finished file of a set, and how many rows it has."""

    file: str
    rows: int


class BuildState(BaseModel):
    """build.json: what a set is made by, and how far it is. Written after each shard."""

    format: int = FORMAT
    source: dict[str, Any]
    settings: dict[str, Any]
    shards: list[Shard] = []
    tally: Tally = Tally()
    seconds: float = 0.0
    done: bool = False


def read_state(folder: Folder) -> BuildState:
    """What a set's build.json says. Raises InputError when there is none, or it cannot be understood."""
    if not folder.has(STATE_FILE):
        raise InputError(f"{folder.place} is not a built set: looked for {folder.at(STATE_FILE)}")
    try:
        state = BuildState.model_validate_json(folder.read(STATE_FILE))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        told = f"{key + ': ' if key else ''}{first['msg']}"
        raise InputError(f"{folder.at(STATE_FILE)}: not what a build writes there: {told}") from error
    if state.format != FORMAT:
        raise InputError(f"{folder.at(STATE_FILE)}: format must be {FORMAT}, got {state.format}")
    return state
