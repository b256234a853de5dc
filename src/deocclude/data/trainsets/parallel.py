"""A function over many items on several processes: results in order, and few items taken before they are needed."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from deocclude.errors import DeoccludeError

T = TypeVar("T")
R = TypeVar("R")

_WAITING = 8  # items a process: enough that none is idle while a slow one is waited for


def ordered_map(work: Callable[[T], R], items: Iterable[T], jobs: int) -> Iterator[R]:
    """`work` of each item, in order. Items are taken from their iterator as results are asked for.

    jobs: processes; 1 works in this one. `work` must be importable by its name. Leaving early drops what has not begun.
    Raises what `work` does, and DeoccludeError when a process dies.
    """
    if jobs == 1:
        yield from map(work, items)
        return
    # Not fork: this process may hold threads and networks, which do not survive it.
    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_leave_interrupts)
    waiting: deque[Future[R]] = deque()
    with contextlib.ExitStack() as stack:
        stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= jobs * _WAITING:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise DeoccludeError("a worker process died, for want of memory perhaps: try fewer with -j") from error


def _leave_interrupts() -> None:
    """Ctrl-C reaches every process of the terminal; the main one stops the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
