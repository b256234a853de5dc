"""The studio's queue: one request computes at a time, the others wait in order and can ask for their place."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from deocclude.serve.errors import ClientGoneError
from deocclude.serve.pool import wait_either
from deocclude.serve.studio.errors import BusyError

T = TypeVar("T")


@dataclass(frozen=True)
class Caller:
    """Who waits for a job.

    Attributes:
        ticket: name of the request, chosen by the client.
        gone: done when the client has gone; None: it stays.
    """

    ticket: str = ""
    gone: asyncio.Future[None] | None = None


class Queue(Protocol):
    """Runs jobs that compute."""

    async def run(self, job: Callable[[], T], caller: Caller, end: Callable[[], object] = lambda: None) -> T:
        """Run a job in its turn. Where the client goes, it leaves the queue, or is ended a moment later.

        Args:
            job: what to do, in another thread.
            caller: who waits for it.
            end: ends the job while it runs; it raises an error then.

        Raises:
            BusyError: too many wait. ClientGoneError: the client has gone.
        """

    def position(self, ticket: str) -> int | None:
        """0: the request runs; n: n-th of those that wait; None: neither."""


class WorkQueue:
    """A bounded queue in front of one worker thread."""

    def __init__(self, max_waiting: int = 16, grace_s: float = 2.0) -> None:
        """An empty queue.

        Args:
            max_waiting: requests that may wait beside the one that runs.
            grace_s: how long a job may go on for a client that has gone.
        """
        self._max_waiting, self._grace_s = max_waiting, grace_s
        self._waiting: dict[object, str] = {}
        self._running: dict[object, str] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="studio")

    async def run(self, job: Callable[[], T], caller: Caller, end: Callable[[], object] = lambda: None) -> T:
        """See `Queue.run`."""
        key = object()
        with self._lock:
            if len(self._waiting) >= self._max_waiting:
                raise BusyError(len(self._waiting))
            self._waiting[key] = caller.ticket

        def work() -> T:
            with self._lock:
                self._running[key] = self._waiting.pop(key)
            try:
                return job()
            finally:
                with self._lock:
                    del self._running[key]

        submitted = self._pool.submit(work)
        result = asyncio.wrap_future(submitted)
        try:
            if caller.gone is not None:
                await wait_either(result, caller.gone)
                if not result.done():
                    if not submitted.cancel():  # it runs
                        await self._end(key, result, end)
                    raise ClientGoneError
            return await result
        finally:
            submitted.cancel()  # a request that was cancelled before its turn
            with self._lock:
                self._waiting.pop(key, None)

    async def _end(self, key: object, result: asyncio.Future[Any], end: Callable[[], object]) -> None:
        """Wait until a job whose client has gone is done; end it after a moment."""
        await asyncio.wait({result}, timeout=self._grace_s)
        with self._lock:  # while it is held, the next job does not begin
            if key in self._running:
                end()
        await asyncio.gather(result, return_exceptions=True)

    def position(self, ticket: str) -> int | None:
        """See `Queue.position`."""
        with self._lock:
            if ticket in self._running.values():
                return 0
            waiting = list(self._waiting.values())
        return waiting.index(ticket) + 1 if ticket in waiting else None
