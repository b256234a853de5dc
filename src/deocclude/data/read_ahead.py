"""Results of a pool of threads or processes in order, with a bounded number ahead of the caller."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_order(pool: Executor, work: Callable[[T], R], items: Iterable[T], ahead: int) -> Generator[R, None, None]:
    """The result of `work` for each item, in the order of the items; at most `ahead` calls are submitted at a time.

    `Executor.map` would submit all items at once and keep all results. Leaving the iteration early cancels calls that
    have not begun.

    Args:
        pool: threads, or processes if `work` can be imported by its name.
        work: called once for each item.
        items: taken from their iterator as results are requested.
        ahead: number of items that are submitted before the first result is awaited.

    Raises:
        What `work` raises, in place of that item's result; the iteration then ends.
    """
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
