"""Readers of datasets whose photos are files of their own: one that cannot be used does not end the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from deocclude.data.datasets.mask_repair import mended
from deocclude.data.datasets.record import PhotoRecord
from deocclude.errors import InputError

T = TypeVar("T")


class PhotoError(InputError):
    """One photo of a dataset cannot be used; whoever asks for the next one gets it."""


@dataclass(frozen=True)
class UnusablePhoto:
    """In the place of a record: what is wrong with a photo, or with its labels, in a line that names the file."""

    what: str


class EachPhoto(Iterator[PhotoRecord], Generic[T]):
    """A record of each item, made when it is asked for, and mended: `record_of` gives people as the dataset has them.

    A generator is over once it has raised. This is not: it raises PhotoError where `record_of` raises InputError, and
    goes on with the next item if it is asked to. Errors of `items` are of the dataset as a whole and stay as they are.
    """

    def __init__(self, items: Iterable[T], record_of: Callable[[T], PhotoRecord]) -> None:
        self._items, self._record_of = iter(items), record_of

    def __next__(self) -> PhotoRecord:
        return self._make(next(self._items))

    def calls(self) -> Iterator[Callable[[], PhotoRecord]]:
        """Each remaining record as a call that makes it, so that several threads can make records at once.

        A call raises PhotoError where the record cannot be made.
        """
        return (partial(self._make, item) for item in self._items)

    def _make(self, item: T) -> PhotoRecord:
        try:
            return mended(self._record_of(item))
        except InputError as error:
            raise PhotoError(str(error)) from error


def with_unusable(records: Iterable[PhotoRecord]) -> Iterator[PhotoRecord | UnusablePhoto]:
    """Records, and what is wrong with a photo in its place. Raises what is wrong with the dataset as a whole."""
    reader = iter(records)
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except PhotoError as error:
            yield UnusablePhoto(str(error))
