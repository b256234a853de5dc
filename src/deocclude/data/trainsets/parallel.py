"""A function over many items on several processes, with results in order and bounded prefetching."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from deocclude.data.read_ahead import in_order
from deocclude.errors import DeoccludeError

T = TypeVar("T")
R = TypeVar("R")

_QUEUED = 8  # submitted items for each process: enough to keep all processes busy during a slow item


def ordered_map(work: Callable[[T], R], items: Iterable[T], jobs: int) -> Generator[R, None, None]:
    """The result of `work` for each item, in the order of the items.

    Leaving the iteration early cancels calls that have not begun.

    Args:
        work: a function that can be imported by its name.
        items: taken from their iterator as results are requested, a few ahead.
        jobs: number of processes; 1 works in this process.

    Raises:
        DeoccludeError: a process died; otherwise what `work` raises.
    """
    if jobs == 1:
        yield from map(work, items)
        return
    # Not fork: threads and networks of this process do not survive it.
    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_ignore_interrupts)
    with contextlib.ExitStack() as stack:
        stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        try:
            yield from in_order(pool, work, items, jobs * _QUEUED)
        except BrokenProcessPool as error:
            raise DeoccludeError("a worker process died, for want of memory perhaps: try fewer with -j") from error


def _ignore_interrupts() -> None:
    """Ctrl-C reaches every process of the terminal; the main one stops the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
