"""Worker processes: each works on one item at a time. A worker that dies or exceeds the time limit is replaced.

Workers are spawned, not forked: threads and networks of this process do not survive a fork. Nothing here knows of
photos: an item is anything that can be pickled.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from typing import Any, Generic, Literal, TypeVar

from deocclude.errors import DeoccludeError

T = TypeVar("T")
R = TypeVar("R")

Loading = Callable[[], AbstractContextManager[None]]
"""A context around preparation, such as opening a model. In it no time limit holds, and a death is no item's try."""

MAX_TRIES = 2
"""How often an item is tried that ends its process."""

_MAX_FAILED_STARTS = 2  # processes in a row that die before they work: the next one would die too
_JOIN_S = 5.0  # wait for a killed process; one that hangs in the kernel is left to it


@dataclass(frozen=True)
class Lost:
    """The outcome of an item without a result.

    Attributes:
        reason: what became of its process: "took longer than ...", "ended its process ...".
    """

    reason: str


def process_items(
    items: Sequence[T],
    start: Callable[[Loading], Callable[[T], R]],
    *,
    workers: int,
    time_limit_s: float | None = None,
    stops: Callable[[R | Lost], bool] = lambda _: False,
    on_killed: Callable[[int], object] = lambda _: None,
) -> Generator[tuple[int, R | Lost], None, None]:
    """Work on items in processes and yield (index, outcome) as items are finished, in any order.

    An item whose process dies is tried once more, in a new process. An item that exceeds the time limit is not. Closing
    the iterator kills the processes.

    Args:
        items: taken from the first to the last; each is pickled when its turn comes.
        start: called once in each process, returns the function that works on an item. Can be pickled.
        workers: number of processes, 1 or more.
        time_limit_s: longest time for an item, without what runs under `Loading`; None: any.
        stops: called with each outcome; True: no further item is begun, those in work are finished.
        on_killed: called with the index of an item whose process died or was killed at work.

    Raises:
        DeoccludeError: raised by the work, or two processes in a row died before their work.
        ModuleNotFoundError: raised by the work.
    """
    team = _Team(items, start, workers, time_limit_s, stops, on_killed)
    try:
        while not team.is_done:
            team.hand_out()
            yield from team.wait()
    finally:
        team.close()


class _Worker:
    """A process and what it does.

    Attributes:
        connection: this side's end of the pipe to the process.
        process: the process.
        stage: starting, idle, working on an item, or loading for it.
        index: of the item; None without one.
        deadline_s: when the time limit is over, by `time.monotonic`; None without a limit.
    """

    def __init__(self, start: Callable[[Loading], Callable[[Any], Any]]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, workers_end = context.Pipe()
        self.process = context.Process(target=_serve, args=(workers_end, start), daemon=True)
        with interrupts_held():
            self.process.start()
        workers_end.close()
        self.stage: Literal["starting", "idle", "working", "loading"] = "starting"
        self.index: int | None = None
        self.deadline_s: float | None = None

    @property
    def is_late(self) -> bool:
        """Whether the time limit is over and no message waits."""
        late = self.deadline_s is not None and time.monotonic() >= self.deadline_s
        return late and not self.connection.poll()

    def end(self) -> int | None:
        """Kill the process and return its exit code; None where it does not end."""
        self.process.kill()
        self.process.join(_JOIN_S)
        self.connection.close()
        return self.process.exitcode


class _Team(Generic[T, R]):
    """The workers of `process_items`, and the items that wait."""

    def __init__(
        self,
        items: Sequence[T],
        start: Callable[[Loading], Callable[[T], R]],
        size: int,
        time_limit_s: float | None,
        stops: Callable[[R | Lost], bool],
        on_killed: Callable[[int], object],
    ) -> None:
        self._items, self._start, self._size, self._time_limit_s = items, start, size, time_limit_s
        self._stops, self._on_killed = stops, on_killed
        self._queue = deque(range(len(items)))
        self._tries = Counter[int]()
        self._workers: list[_Worker] = []
        self._failed_starts = 0

    @property
    def is_done(self) -> bool:
        """Whether no item waits and none is in work."""
        return not self._queue and all(worker.index is None for worker in self._workers)

    def hand_out(self) -> None:
        """Start the workers that are needed, and give an item to each idle one."""
        in_work = sum(worker.index is not None for worker in self._workers)
        while len(self._workers) < min(self._size, in_work + len(self._queue)):
            self._workers.append(_Worker(self._start))
        for worker in self._workers:
            if worker.stage == "idle" and self._queue:
                try:
                    worker.connection.send(self._items[self._queue[0]])
                except OSError:  # the worker has died: `wait` notices it
                    continue
                worker.index = self._queue.popleft()
                self._set_working(worker)

    def wait(self) -> Iterator[tuple[int, R | Lost]]:
        """Wait for messages, deaths and the time limit, and yield the outcomes."""
        deadlines = [worker.deadline_s for worker in self._workers if worker.deadline_s is not None]
        left_s = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
        watched = [one for worker in self._workers for one in (worker.connection, worker.process.sentinel)]
        ready = connection.wait(watched, left_s)
        for worker in list(self._workers):
            if worker.connection in ready or worker.process.sentinel in ready:
                yield from self._listen(worker)
            elif worker.is_late and worker.index is not None:
                index = worker.index
                self._remove(worker)
                self._on_killed(index)
                yield from self._finish(index, Lost(f"took longer than the time limit of {self._time_limit_s:g} s"))

    def close(self) -> None:
        """Kill all workers."""
        for worker in list(self._workers):
            index = worker.index
            self._remove(worker)
            if index is not None:
                self._on_killed(index)

    def _listen(self, worker: _Worker) -> Iterator[tuple[int, R | Lost]]:
        """Read a worker's messages and yield its outcomes; remove the worker if it died."""
        try:
            while worker.connection.poll():
                kind, content = worker.connection.recv()
                if kind == "error":
                    raise content
                if kind == "loading":
                    worker.stage, worker.deadline_s = "loading", None
                elif kind == "working":
                    self._set_working(worker)
                else:
                    index, worker.index = worker.index, None
                    worker.stage, worker.deadline_s = "idle", None
                    if kind == "result" and index is not None:
                        self._failed_starts = 0
                        yield from self._finish(index, content)
        except (EOFError, ConnectionError):  # the process ended, or ends now
            yield from self._remove_dead(worker)
            return
        if not worker.process.is_alive():
            yield from self._remove_dead(worker)

    def _set_working(self, worker: _Worker) -> None:
        """From here on the time limit counts."""
        worker.stage = "working"
        worker.deadline_s = None if self._time_limit_s is None else time.monotonic() + self._time_limit_s

    def _finish(self, index: int, outcome: R | Lost) -> Iterator[tuple[int, R | Lost]]:
        """Yield an outcome; where `stops` says so, no further item is begun."""
        if self._stops(outcome):
            self._queue.clear()
        yield index, outcome

    def _remove(self, worker: _Worker) -> str:
        """Kill a worker and return how its process ended."""
        self._workers.remove(worker)
        return how_ended(worker.end())

    def _remove_dead(self, worker: _Worker) -> Iterator[tuple[int, R | Lost]]:
        """Remove a worker that died. Its item waits again, or is lost and yielded. `hand_out` starts another worker."""
        how, index = self._remove(worker), worker.index
        if worker.stage in ("starting", "loading"):
            self._failed_starts += 1
            if self._failed_starts >= _MAX_FAILED_STARTS:
                raise DeoccludeError(
                    f"{_MAX_FAILED_STARTS} worker processes in a row died before their first photo ({how}): try fewer "
                    "with -j"
                )
            if index is not None:
                self._queue.appendleft(index)
        elif index is not None:
            self._failed_starts = 0
            self._tries[index] += 1
            self._on_killed(index)
            if self._tries[index] < MAX_TRIES:
                self._queue.appendleft(index)
            else:
                yield from self._finish(index, Lost(f"ended its process in both of two tries ({how})"))


def _serve(link: Any, start: Callable[[Loading], Callable[[Any], Any]]) -> None:
    """Run in the worker's process: work on items until the main process ends, which alone answers Ctrl-C.

    link: the worker's end of the pipe.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()

    @contextlib.contextmanager
    def loading() -> Iterator[None]:
        """Tell the main process when loading begins and ends."""
        link.send(("loading", None))
        yield
        link.send(("working", None))

    try:
        work = start(loading)
        link.send(("ready", None))
        while True:
            item = link.recv()
            link.send(("result", work(item)))
    except EOFError:  # the main process closed the connection
        return
    except (DeoccludeError, ModuleNotFoundError) as error:
        link.send(("error", error))


def end_with_parent(clean_up: Callable[[], object] = lambda: None) -> None:
    """Wait until the main process ends, even by kill -9, then end this one at once, since a new run may begin.

    clean_up: called before the end.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        clean_up()
        os._exit(1)


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Block SIGINT in the context: processes started in it inherit the block, this process gets SIGINT at the end."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # else the first process would start it, and that unblocks SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def how_ended(exit_code: int | None) -> str:
    """How a process ended, as text. exit_code: negative for a signal, None for a process that did not end."""
    if exit_code is None:
        return "killed, but it hangs"
    if exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    return f"killed by {name}, for want of memory perhaps" if name == "SIGKILL" else f"killed by {name}"
