"""Sequences of people, occluders and backgrounds that are read on demand, with a small cache."""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

import numpy as np

from deocclude.data.sources.layers import PersonPhoto

T = TypeVar("T")

KEPT = 24  # default number of cached items: scenes draw items at random, so that a larger cache is seldom hit

Trait = Literal["whole", "has_background"]


class Lazy(Sequence[T]):
    """A sequence that reads its items on demand; the `kept` most recently used ones stay in memory.

    Attributes:
        traits: (N,) bool arrays of people's traits by name, known without reading the people.
    """

    def __init__(self, count: int, *, traits: Mapping[Trait, np.ndarray] | None = None, kept: int = KEPT) -> None:
        self._count, self._capacity = count, kept
        self._cache: OrderedDict[int, T] = OrderedDict()
        self.traits = dict(traits or {})

    @abstractmethod
    def read(self, at: int) -> T:
        """Item number `at`, from 0, read from its source."""

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        at = int(index) + self._count if index < 0 else int(index)
        if not 0 <= at < self._count:
            raise IndexError(f"number {index} of {self._count}")
        if at in self._cache:
            self._cache.move_to_end(at)
            return self._cache[at]
        item = self.read(at)
        if self._capacity:
            self._cache[at] = item
            if len(self._cache) > self._capacity:
                self._cache.popitem(last=False)
        return item


class Selected(Lazy[T]):
    """The items of a sequence with these indices, in their order."""

    def __init__(self, items: Sequence[T], indices: Sequence[int] | np.ndarray) -> None:
        self._items, self._indices = items, np.asarray(indices, int)
        traits = {name: values[self._indices] for name, values in getattr(items, "traits", {}).items()}
        super().__init__(len(self._indices), traits=traits, kept=0)

    def read(self, at: int) -> T:
        """The item that the index number `at` selects."""
        return self._items[int(self._indices[at])]


class Joined(Lazy[T]):
    """Several sequences, concatenated."""

    def __init__(self, groups: Sequence[Sequence[T]]) -> None:
        self._groups = groups
        self._ends = np.cumsum([len(group) for group in groups])
        super().__init__(int(self._ends[-1]) if groups else 0, kept=0)

    def read(self, at: int) -> T:
        """The item of the sequence that holds it."""
        group = int(np.searchsorted(self._ends, at, side="right"))
        return self._groups[group][at - int(self._ends[group])]  # a negative index, from the group's end


class JoinedPeople(Joined[PersonPhoto]):
    """The people of several sequences, concatenated, with their traits."""

    def __init__(self, groups: Sequence[Sequence[PersonPhoto]]) -> None:
        super().__init__(groups)
        names: tuple[Trait, ...] = ("whole", "has_background")
        self.traits = {name: np.concatenate([trait_of(group, name) for group in groups]) for name in names}


def trait_of(people: Sequence[PersonPhoto], name: Trait) -> np.ndarray:
    """(N,) bool: a trait of each person; people are read only where the sequence does not know it."""
    known = getattr(people, "traits", {}).get(name)
    return known if known is not None else np.array([getattr(person, name) for person in people], bool)
