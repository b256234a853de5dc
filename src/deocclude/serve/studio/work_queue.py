"""The studio's queue: one request computes at a time, the others wait in order and can ask for their place."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from deocclude.serve.studio.errors import BusyError

T = TypeVar("T")


class Queue(Protocol):
    """Runs jobs that compute."""

    async def run(self, job: Callable[[], T], ticket: str) -> T:
        """Run a job in its turn.

        Args:
            job: what to do, in another thread.
            ticket: name of the request, chosen by the client.

        Raises:
            BusyError: too many wait.
        """

    def position(self, ticket: str) -> int | None:
        """0: the request runs; n: n-th of those that wait; None: neither."""


class WorkQueue:
    """A bounded queue in front of one worker thread."""

    def __init__(self, max_waiting: int = 16) -> None:
        """An empty queue. max_waiting: requests that may wait beside the one that runs."""
        self._max_waiting = max_waiting
        self._waiting: dict[object, str] = {}
        self._running: dict[object, str] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="studio")

    async def run(self, job: Callable[[], T], ticket: str) -> T:
        """See `Queue.run`."""
        key = object()
        with self._lock:
            if len(self._waiting) >= self._max_waiting:
                raise BusyError(len(self._waiting))
            self._waiting[key] = ticket

        def work() -> T:
            with self._lock:
                self._running[key] = self._waiting.pop(key)
            try:
                return job()
            finally:
                with self._lock:
                    del self._running[key]

        try:
            return await asyncio.wrap_future(self._pool.submit(work))
        finally:
            with self._lock:  # a request that was cancelled before its turn
                self._waiting.pop(key, None)

    def position(self, ticket: str) -> int | None:
        """See `Queue.position`."""
        with self._lock:
            if ticket in self._running.values():
                return 0
            waiting = list(self._waiting.values())
        return waiting.index(ticket) + 1 if ticket in waiting else None
