"""Reading a built set: rows by number from memory-mapped files, in constant memory."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from deocclude.data.sources.layers import Layer, PersonPhoto
from deocclude.data.sources.lazy import Lazy, Trait
from deocclude.data.sources.shard_rows import Kind, decode, decode_rgb
from deocclude.data.sources.shard_state import CACHE_FOLDER, read_state
from deocclude.data.storage import Folder, is_url
from deocclude.errors import InputError, first_line
from deocclude.imaging.arrays import Array, Int


class ShardedRows:
    """The rows of a built set, whose parquet shards `datasets` converts once to memory-mapped Arrow files.

    The Arrow files are in the set's folder. For a set at a URL or in a read-only folder they are in the cache of
    `datasets` (HF_DATASETS_CACHE).
    """

    def __init__(self, place: str | Path) -> None:
        """Open the set at a path or URL.

        Raises InputError where it is missing or unfinished, or a shard cannot be read.
        """
        import datasets

        folder = Folder(str(place))
        state = read_state(folder)
        if not state.done:
            raise InputError(
                f"{folder.place}: its build was interrupted: run the same `data build-trainset` again to finish it"
            )
        local = not is_url(folder.place) and os.access(folder.place, os.W_OK)
        try:
            with _silenced():
                self._table = datasets.load_dataset(
                    "parquet",
                    data_files=[folder.at(shard.file) for shard in state.shards],
                    split="train",
                    cache_dir=str(Path(folder.place, CACHE_FOLDER)) if local else None,
                )
        except Exception as error:  # errors of many types, from many packages
            reason = first_line(error.__cause__ or error)  # `datasets` wraps the error of a shard
            raise InputError(f"{folder.place}: its shards cannot be read: {reason}") from error
        for name in ("photo", "mask", "parsing"):
            self._table = self._table.cast_column(name, datasets.Image(decode=False))
        self.place = folder.place

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, number: int) -> dict[str, Any]:
        """A row, its images as encoded bytes."""
        row: dict[str, Any] = self._table[int(number)]
        return row

    def column(self, name: str) -> Array:
        """(N,) values of a column that holds no images."""
        values: Array = self._table.data.column(name).to_numpy()
        return values

    def numbers(self, kind: Kind, split: str | None = None) -> Int:
        """(M,) numbers of the rows of a kind, in one split or in all."""
        chosen = self.column("kind") == kind
        return np.flatnonzero(chosen if split is None else chosen & (self.column("split") == split))


@contextmanager
def _silenced() -> Iterator[None]:
    """Switch off progress bars of `datasets`, and its log of errors, which it raises as well."""
    import datasets

    shown, level = not datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        if shown:
            datasets.enable_progress_bars()


class ShardedPeople(Lazy[PersonPhoto]):
    """The training subjects of a built set, of one split or of all."""

    def __init__(self, rows: ShardedRows, split: str | None = None) -> None:
        self._rows, self._numbers = rows, rows.numbers("person", split)
        names: tuple[Trait, ...] = ("whole", "has_background")
        traits = {name: rows.column(name)[self._numbers].astype(bool) for name in names}
        super().__init__(len(self._numbers), traits=traits)

    def read(self, at: int) -> PersonPhoto:
        """The item, decoded. Raises InputError where its images cannot be read."""
        row = self._rows[self._numbers[at]]
        return decode(row).to_person(row["id"], has_background=row["has_background"], whole=row["whole"])


class ShardedOccluders(Lazy[Layer]):
    """The occluders of a built set, of one split."""

    def __init__(self, rows: ShardedRows, split: str) -> None:
        self._rows, self._numbers = rows, rows.numbers("occluder", split)
        super().__init__(len(self._numbers))

    def read(self, at: int) -> Layer:
        """The item, decoded. Raises InputError where its images cannot be read."""
        row = self._rows[self._numbers[at]]
        return decode(row).to_layer(row["id"])


class ShardedBackgrounds(Lazy[np.ndarray]):
    """The backgrounds of a built set, (H, W, 3) uint8 each, of one split."""

    def __init__(self, rows: ShardedRows, split: str) -> None:
        self._rows, self._numbers = rows, rows.numbers("background", split)
        super().__init__(len(self._numbers))

    def read(self, at: int) -> np.ndarray:
        """The item, decoded. Raises InputError where its image cannot be read."""
        return decode_rgb(self._rows[self._numbers[at]])
