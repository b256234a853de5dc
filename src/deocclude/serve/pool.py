"""Worker processes behind a bounded line of requests, for asyncio.

Processes and not threads, because a thread cannot be ended: a request that takes too long, or whose client has gone,
frees its place by the end of its process, and another process starts. Nothing here knows of photos.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import shutil
import signal
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from deocclude.batch.workers import end_with_parent, how_ended, interrupts_held
from deocclude.errors import DeoccludeError
from deocclude.serve.errors import ClientGoneError, ServiceError

J = TypeVar("J")
R = TypeVar("R")

Start = Callable[[Path], Callable[[J], R]]
"""Called once in each process with its folder for temporary files; returns the function that works on a job."""

_log = logging.getLogger(__name__)
REASONS = ("timed_out", "client_gone", "died")
"""Why a process is replaced."""

_MAX_FAILED_STARTS = 2  # in a row: the next one would fail too
_JOIN_S = 5.0  # longest wait for the end of a killed process


class WorkerLostError(Exception):
    """A process ended before it answered."""


class Worker(Generic[J, R]):
    """One process, and the link to it. Its methods block: call them in a thread."""

    def __init__(self, start: Start[J, R]) -> None:
        """Start the process. Raises OSError: the system has no room for it."""
        self.scratch = Path(tempfile.mkdtemp(prefix="deocclude-serve-"))
        context = multiprocessing.get_context("spawn")  # networks and threads of this process do not survive a fork
        self._link, child_link = context.Pipe()
        self._process = context.Process(target=_serve, args=(child_link, start, self.scratch), daemon=True)
        try:
            with interrupts_held():
                self._process.start()
        except OSError:
            shutil.rmtree(self.scratch, ignore_errors=True)
            raise
        child_link.close()
        self._killed = False

    @property
    def is_alive(self) -> bool:
        """Whether the process runs and was not told to end."""
        return not self._killed and self._process.is_alive()

    def wait_ready(self) -> None:
        """Wait until the process has opened the model.

        Raises:
            DeoccludeError, ModuleNotFoundError: raised in the process.
            WorkerLostError: the process ended.
        """
        self._receive()

    def work(self, job: J) -> R:
        """The result of a job. Raises what `wait_ready` raises."""
        try:
            self._link.send(job)
        except OSError as error:
            raise WorkerLostError(self._how_ended()) from error
        result: R = self._receive()
        return result

    def kill(self) -> None:
        """End the process at once; a `work` in another thread raises WorkerLostError."""
        self._killed = True
        self._process.kill()

    def close(self) -> None:
        """End the process, wait for its end and remove its temporary files."""
        self.kill()
        self._process.join(_JOIN_S)
        self._link.close()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _receive(self) -> Any:
        """What the process sends next. Raises the error that it sends; WorkerLostError where it ended."""
        try:
            kind, content = self._link.recv()
        except (EOFError, OSError) as error:
            raise WorkerLostError(self._how_ended()) from error
        if kind == "error":
            raise content
        return content

    def _how_ended(self) -> str:
        """How the process ended, in words."""
        self._process.join(_JOIN_S)
        return how_ended(self._process.exitcode)


class WorkerPool(Generic[J, R]):
    """A fixed number of worker processes, and a line before them: first in, first out, and bounded.

    Attributes:
        size: processes.
        waiting: jobs in the line.
        busy: processes at work.
    """

    def __init__(
        self, start: Start[J, R], size: int, *, queue: int, timeout_s: float, grace_s: float,
        on_broken: Callable[[Exception], object] = lambda _: None,
        on_replaced: Callable[[str], object] = lambda _: None,
    ) -> None:  # fmt: skip
        """A pool; `open` starts its processes.

        Args:
            start: see Start; can be pickled.
            size: processes.
            queue: jobs that may wait.
            timeout_s: longest work on a job.
            grace_s: how long work may go on for a client that has gone.
            on_broken: called where processes cannot be started any more.
            on_replaced: called with one of REASONS where a process is replaced.
        """
        self.size, self._start, self._queue = size, start, queue
        self._timeout_s, self._grace_s = timeout_s, grace_s
        self._on_broken, self._on_replaced = on_broken, on_replaced
        self._idle: asyncio.Queue[Worker[J, R]] = asyncio.Queue()
        self._all: set[Worker[J, R]] = set()
        self._closing: set[threading.Thread] = set()  # each closes one worker that is no longer used
        self._starting: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(2 * size, "worker-link")
        self._failed_starts = 0
        self.waiting = self.busy = 0

    @property
    def ready(self) -> int:
        """Processes that have opened the model."""
        return self._idle.qsize() + self.busy

    @property
    def is_full(self) -> bool:
        """Whether a further job would be refused."""
        return self._idle.empty() and self.waiting >= self._queue

    def open(self) -> None:
        """Start the processes, without waiting for them."""
        for _ in range(self.size):
            self._start_one()

    async def close(self) -> None:
        """End the processes."""
        for task in self._starting:
            task.cancel()
        for worker in self._all:
            worker.kill()  # threads that wait for a worker return
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in list(self._all):
            self._discard(worker)
        for thread in self._closing:
            thread.join()

    async def run(self, job: J, gone: asyncio.Future[None]) -> R:
        """Work on a job when its turn comes.

        Args:
            job: can be pickled.
            gone: done when the client has gone.

        Raises:
            ServiceError: the line is full, the work took too long, or its process died.
            ClientGoneError: the client has gone.
        """
        async with self.place(gone) as worker:
            loop = asyncio.get_running_loop()
            work = loop.run_in_executor(self._threads, worker.work, job)
            await wait_either(work, gone, self._timeout_s)
            if not work.done() and gone.done():
                await asyncio.wait({work}, timeout=self._grace_s)
            reason = "died"
            if not work.done():
                reason = "client_gone" if gone.done() else "timed_out"
                worker.kill()
            try:
                return await work
            except WorkerLostError as error:
                self._on_replaced(reason)
                _log.warning("a worker process is replaced: %s (%s)", reason, error)
                if reason == "client_gone":
                    raise ClientGoneError from error
                if reason == "timed_out":
                    raise ServiceError("timed_out", f"the work took longer than {self._timeout_s:g} s") from error
                raise ServiceError("worker_lost", "the process that worked on this request ended") from error

    @contextlib.asynccontextmanager
    async def place(self, gone: asyncio.Future[None]) -> AsyncIterator[Worker[J, R]]:
        """Hold one of the places: a worker that nobody else uses meanwhile. Raises as `run`."""
        worker = await self._next_idle(gone)
        self.busy += 1
        try:
            yield worker
        except asyncio.CancelledError:
            worker.kill()  # work may still run in it
            raise
        finally:
            self.busy -= 1
            if worker.is_alive:
                self._idle.put_nowait(worker)
            else:
                self._replace(worker)

    async def _next_idle(self, gone: asyncio.Future[None]) -> Worker[J, R]:
        """The next worker that is alive and idle. Raises ServiceError where too many wait; ClientGoneError."""
        if self.is_full:
            raise queue_is_full(self.waiting)
        self.waiting += 1
        try:
            while not (worker := await self._wait_turn(gone)).is_alive:  # it died without work
                self._on_replaced("died")
                self._replace(worker)
            return worker
        finally:
            self.waiting -= 1

    async def _wait_turn(self, gone: asyncio.Future[None]) -> Worker[J, R]:
        """Wait in the line for a worker, which may have died meanwhile. Raises ClientGoneError."""
        turn = asyncio.ensure_future(self._idle.get())
        try:
            await wait_either(turn, gone)
            if gone.done():
                raise ClientGoneError
        except BaseException:  # cancelled too, perhaps in the moment in which the turn came
            _leave_line(turn, self._idle)
            raise
        return turn.result()

    def _replace(self, worker: Worker[J, R]) -> None:
        """Close a worker and start another."""
        self._discard(worker)
        self._start_one()

    def _start_one(self) -> None:
        task = asyncio.ensure_future(self._open_worker())
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _open_worker(self) -> None:
        """Start a process and wait until it is ready; try again where it died."""
        while True:
            try:
                worker: Worker[J, R] = Worker(self._start)
            except OSError as error:
                if self._was_last_start(error):
                    return
                continue
            self._all.add(worker)
            try:
                await asyncio.get_running_loop().run_in_executor(self._threads, worker.wait_ready)
            except (DeoccludeError, ModuleNotFoundError) as error:
                self._discard(worker)
                self._on_broken(error)
                return
            except WorkerLostError as error:
                self._discard(worker)
                if self._was_last_start(error):
                    return
                continue
            self._failed_starts = 0
            self._idle.put_nowait(worker)
            return

    def _was_last_start(self, error: Exception) -> bool:
        """Count a failed start; after too many in a row tell it, and return True."""
        self._failed_starts += 1
        if self._failed_starts < _MAX_FAILED_STARTS:
            return False
        self._on_broken(DeoccludeError(f"worker processes do not start, or die before their first photo: {error}"))
        return True

    def _discard(self, worker: Worker[J, R]) -> None:
        """Close a worker that is no longer used, in a thread of its own."""
        self._all.discard(worker)
        thread = threading.Thread(target=worker.close)  # it waits for the end of the process
        thread.start()
        self._closing = {other for other in self._closing if other.is_alive()} | {thread}


async def wait_either(one: asyncio.Future[Any], other: asyncio.Future[Any], timeout_s: float | None = None) -> None:
    """Wait until one of two futures is done, or the time is over."""
    await asyncio.wait({one, other}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)


def queue_is_full(waiting: int) -> ServiceError:
    """The refusal of a request that would wait too long."""
    return ServiceError("queue_full", f"{waiting} requests wait already", retry_after_s=1 + waiting // 4)


def _leave_line(turn: asyncio.Future[Worker[J, R]], idle: asyncio.Queue[Worker[J, R]]) -> None:
    """Leave the line. A worker that was assigned at the same moment becomes idle again."""
    if not turn.cancel() and not turn.cancelled() and turn.exception() is None:
        idle.put_nowait(turn.result())


def _serve(link: Any, start: Start[Any, Any], scratch: Path) -> None:
    """The process's side: work until the other side ends. Signals are for the main process, which finishes work."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, args=(partial(shutil.rmtree, scratch, True),), daemon=True).start()
    try:
        work = start(scratch)
        link.send(("ready", None))
        while True:
            link.send(("result", work(link.recv())))
    except EOFError:
        return
    except (DeoccludeError, ModuleNotFoundError) as error:
        link.send(("error", error))
