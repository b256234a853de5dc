"""Pickled values between two processes: an object that the other process has already is sent as a name."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from typing import Any


def pack(value: object, known: Mapping[str, object]) -> bytes:
    """Pickle a value, without the objects that the other process has already.

    Args:
        value: can be pickled.
        known: objects by a name. Where `value` holds one of them (the object itself, not an equal one), its name is
            written in its place; `unpack` puts in the other process's own object of that name.
    """
    names = {id(one): name for name, one in known.items()}

    class Packer(pickle.Pickler):
        def persistent_id(self, obj: object) -> str | None:
            return names.get(id(obj))

    file = io.BytesIO()
    Packer(file, pickle.HIGHEST_PROTOCOL).dump(value)
    return file.getvalue()


def unpack(data: bytes, known: Mapping[str, object]) -> Any:
    """The value of `pack`, with the reader's own objects under their names. Raises KeyError: one is missing."""

    class Unpacker(pickle.Unpickler):
        def persistent_load(self, pid: str) -> object:
            return known[pid]

    return Unpacker(io.BytesIO(data)).load()
