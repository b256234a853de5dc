"""How the people of an image are scheduled: several at once, and the seconds that each stage takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


def map_people(work: Callable[..., T], *arguments: Iterable[Any], workers: int) -> list[T]:
    """Process people in order, on as many threads as there are workers.

    numpy, Pillow and the networks release the interpreter's lock, and no person's result depends on another's.

    Args:
        work: called once for each person.
        arguments: for each argument of `work` its values, one for each person.
        workers: people processed at once.
    """
    everyone = list(zip(*arguments, strict=True))
    if workers == 1 or len(everyone) < 2:
        return [work(*one) for one in everyone]
    with ThreadPoolExecutor(min(workers, len(everyone))) as pool:
        return list(pool.map(lambda one: work(*one), everyone))


class StageClock:
    """Seconds by stage: load, find, complete, recover."""

    def __init__(self) -> None:
        self._begun = time.perf_counter()
        self._stages = {"load": 0.0, "find": 0.0, "complete": 0.0, "recover": 0.0}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the seconds of a `with` block to a stage."""
        begun = time.perf_counter()
        yield
        self._stages[name] += time.perf_counter() - begun

    def timings(self) -> dict[str, float]:
        """Seconds by stage, and the total since the clock was made."""
        return {**self._stages, "total": time.perf_counter() - self._begun}
