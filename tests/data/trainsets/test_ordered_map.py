"""Work on several processes: in order, bounded, and with errors that come through."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deocclude.data.trainsets.parallel import ordered_map
from deocclude.errors import InputError


def square(number: int) -> int:
    if number == 20:
        raise InputError("twenty cannot be squared")
    return number * number


def counted(taken: list[int], end: int) -> Iterator[int]:
    for number in range(end):
        taken.append(number)
        yield number


def test_results_are_ordered_and_items_are_consumed_lazily() -> None:
    taken: list[int] = []
    results = ordered_map(square, counted(taken, 1000), jobs=2)
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    assert len(taken) <= 3 + 16
    with pytest.raises(InputError, match="twenty"):
        list(results)


def test_single_job_runs_in_this_process() -> None:
    taken: list[int] = []
    results = ordered_map(square, counted(taken, 1000), jobs=1)
    assert [next(results) for _ in range(3)] == [0, 1, 4] and taken == [0, 1, 2]
