"""People, occluders and backgrounds that are read when they are asked for, and the few read last kept."""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

import numpy as np

from deocclude.data.sources.layers import PersonPhoto

T = TypeVar("T")

KEPT = 24  # of a sequence, in memory: scenes draw at random, so that of many more, few would be met again

Trait = Literal["whole", "has_background"]


class Lazy(Sequence[T]):
    """A sequence whose items `read` gives, with the last `kept` of them in memory.

    traits: of people, what is known of everyone without reading them, arrays of bool by name.
    """

    def __init__(self, count: int, *, traits: Mapping[Trait, np.ndarray] | None = None, kept: int = KEPT) -> None:
        self._count, self._kept = count, kept
        self._last: OrderedDict[int, T] = OrderedDict()
        self.traits = dict(traits or {})

    @abstractmethod
    def read(self, at: int) -> T:
        """Item number `at`, read anew."""

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        at = int(index) + self._count if index < 0 else int(index)
        if not 0 <= at < self._count:
            raise IndexError(f"number {index} of {self._count}")
        if at in self._last:
            self._last.move_to_end(at)
            return self._last[at]
        item = self.read(at)
        if self._kept:
            self._last[at] = item
            if len(self._last) > self._kept:
                self._last.popitem(last=False)
        return item


class Picked(Lazy[T]):
    """Some of a sequence, by their places in it."""

    def __init__(self, items: Sequence[T], places: Sequence[int] | np.ndarray) -> None:
        self._items, self._places = items, np.asarray(places, int)
        traits = {name: found[self._places] for name, found in getattr(items, "traits", {}).items()}
        super().__init__(len(self._places), traits=traits, kept=0)

    def read(self, at: int) -> T:
        """As the sequence has it."""
        return self._items[self._places[at]]


class Joined(Lazy[T]):
    """Several sequences, one after the other."""

    def __init__(self, groups: Sequence[Sequence[T]]) -> None:
        self._groups = groups
        self._ends = np.cumsum([len(group) for group in groups])
        super().__init__(int(self._ends[-1]) if groups else 0, kept=0)

    def read(self, at: int) -> T:
        """As its own sequence has it."""
        number = int(np.searchsorted(self._ends, at, side="right"))
        return self._groups[number][at - int(self._ends[number])]  # from its end


class Everyone(Joined[PersonPhoto]):
    """The people of several sequences, one after the other."""

    def __init__(self, groups: Sequence[Sequence[PersonPhoto]]) -> None:
        super().__init__(groups)
        names: tuple[Trait, ...] = ("whole", "has_background")
        self.traits = {name: np.concatenate([trait_of(group, name) for group in groups]) for name in names}


def trait_of(people: Sequence[PersonPhoto], name: Trait) -> np.ndarray:
    """(N,) bool: a trait of everyone, without reading those of whom the sequence knows it."""
    known = getattr(people, "traits", {}).get(name)
    return known if known is not None else np.array([getattr(person, name) for person in people], bool)
