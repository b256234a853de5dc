"""Reading ahead on threads: in order, bounded, and with errors that come through."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from deocclude.data.read_ahead import in_order
from deocclude.data.sources.readers import ordered
from deocclude.errors import InputError


def counted(taken: list[int], end: int) -> Iterator[int]:
    for number in range(end):
        taken.append(number)
        yield number


def slow_for_even(number: int) -> int:
    time.sleep(0.002 * (number % 2 == 0))
    if number == 40:
        raise InputError("forty cannot be read")
    return number


def test_results_are_ordered_and_items_are_taken_as_asked_for() -> None:
    taken: list[int] = []
    with ThreadPoolExecutor(3) as pool:
        results = in_order(pool, slow_for_even, counted(taken, 1000), ahead=5)
        assert [next(results) for _ in range(3)] == [0, 1, 2] and len(taken) == 3 + 5 - 1
        results.close()


def test_error_of_an_item_is_raised_in_its_place() -> None:
    found: list[int] = []
    with pytest.raises(InputError, match="forty"):
        for number in ordered(slow_for_even, range(100)):
            found.append(number)
    assert found == list(range(40))


def test_leaving_early_cancels_what_has_not_begun() -> None:
    begun: list[int] = []

    def noted(number: int) -> int:
        begun.append(number)
        time.sleep(0.02)
        return number

    with ThreadPoolExecutor(1) as pool:
        results = in_order(pool, noted, range(100), ahead=50)
        assert next(results) == 0
        results.close()
    assert len(begun) <= 3


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 100])
def test_ordered_gives_every_item_once(count: int) -> None:
    assert list(ordered(lambda number: number * number, range(count), threads=3)) == [n * n for n in range(count)]
