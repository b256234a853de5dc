"""Sequences that read when asked: order, what is kept, and traits known without reading."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from deocclude.data.sources.layers import PersonPhoto
from deocclude.data.sources.lazy import Joined, JoinedPeople, Lazy, Selected, trait_of


class Squares(Lazy[int]):
    """0, 1, 4, 9, ..., and which were read."""

    def __init__(self, count: int, kept: int) -> None:
        super().__init__(count, kept=kept)
        self.asked: list[int] = []

    def read(self, at: int) -> int:
        self.asked.append(at)
        return at * at


def person(whole: bool) -> PersonPhoto:
    return PersonPhoto("a", np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), whole=whole)


def test_lazy_sequence_caches_recently_used_items() -> None:
    squares = Squares(5, kept=2)
    assert [squares[i] for i in (3, 3, 4, 3, 0, 4, -2)] == [9, 9, 16, 9, 0, 16, 9]
    assert squares.asked == [3, 4, 0, 4, 3], "4 was the one not asked for longest when 0 came, then 3"
    assert squares[1:3] == [1, 4] and list(squares) == [0, 1, 4, 9, 16]
    for wrong in (5, -6):
        with pytest.raises(IndexError):
            squares[wrong]


def test_joined_and_selected_sequences_index_correctly() -> None:
    joined = Joined([Squares(3, 0), [], [70, 80]])
    assert list(joined) == [0, 1, 4, 70, 80] and joined[-1] == 80
    assert list(Selected(joined, [4, 1])) == [80, 1]
    assert list(Joined([])) == []
    assert list(pickle.loads(pickle.dumps(Selected(joined, [3])))) == [70], "loaders of samples are processes"


def test_traits_are_known_without_reading() -> None:
    class Unread(Lazy[PersonPhoto]):
        def read(self, at: int) -> PersonPhoto:
            raise AssertionError("was read")

    unread = Unread(2, traits={"whole": np.array([True, False]), "has_background": np.array([True, True])})
    everyone = JoinedPeople([unread, [person(False), person(True)]])
    assert trait_of(everyone, "whole").tolist() == [True, False, False, True]
    assert trait_of(everyone, "has_background").tolist() == [True, True, False, False]
    assert trait_of(Selected(everyone, [3, 1]), "whole").tolist() == [True, False]
