"""Iteration over a dataset's photos in which an unusable photo does not end the iteration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from deocclude.data.datasets.annotation_fixes import repaired
from deocclude.data.datasets.record import PhotoRecord
from deocclude.errors import InputError

T = TypeVar("T")


class PhotoError(InputError):
    """One photo of a dataset cannot be used; iteration can continue with the next one."""


@dataclass(frozen=True)
class UnusablePhoto:
    """Stands in for the record of a photo that cannot be used. what: the reason, in a line that names the file."""

    what: str


class EachPhoto(Iterator[PhotoRecord], Generic[T]):
    """The record of each item, on demand: `record_of` reads the masks as annotated, then `repaired` mends them.

    Unlike a generator, the iterator can continue after an error: it raises PhotoError where `record_of` raises
    InputError, and the next item follows. Errors of `items` concern the dataset as a whole and stay as they are.
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
        """The repaired record of an item. Raises PhotoError where it cannot be made."""
        try:
            return repaired(self._record_of(item))
        except InputError as error:
            raise PhotoError(str(error)) from error


def with_unusable(records: Iterable[PhotoRecord]) -> Iterator[PhotoRecord | UnusablePhoto]:
    """Records, and an UnusablePhoto for each PhotoError. Raises errors of the dataset as a whole."""
    reader = iter(records)
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except PhotoError as error:
            yield UnusablePhoto(str(error))
