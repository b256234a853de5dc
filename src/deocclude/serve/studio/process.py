"""The studio's process: it computes, and is ended where a step takes too long. Nothing of a photo is lost by that.

Each photo's state is kept here after every step. A new process takes it over.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from deocclude.errors import DeoccludeError
from deocclude.people.editing import EditingState
from deocclude.serve.pool import WorkerLostError
from deocclude.serve.studio.errors import StepLostError, StepTimedOutError, UnknownPhotoError
from deocclude.serve.studio.packing import pack, unpack
from deocclude.serve.studio.sessions import Session
from deocclude.serve.studio.work import Done, Failed, OpenPhoto, Step, StudioWork

_log = logging.getLogger(__name__)


class Link(Protocol):
    """A process, as `serve.pool.Worker`."""

    @property
    def is_alive(self) -> bool:
        """Whether it can work."""

    def wait_ready(self) -> None:
        """Wait until the model is open."""

    def work(self, job: Step) -> Done | Failed:
        """Do a step. Raises WorkerLostError."""

    def kill(self) -> None:
        """End it at once; `work` in another thread raises."""

    def close(self) -> None:
        """End it and release what it holds."""


class InThisProcess:
    """A link to work in this process, which cannot be ended: without a time limit, for a pipeline that is here."""

    is_alive = True

    def __init__(self, work: StudioWork) -> None:
        self._work = work

    def wait_ready(self) -> None:
        """Nothing is to be waited for."""

    def work(self, job: Step) -> Done | Failed:
        """Do a step."""
        return self._work(job)

    def kill(self) -> None:
        """Nothing can be ended."""

    def close(self) -> None:
        """Nothing is to be closed."""


class StudioProcess:
    """Does steps in a process that is replaced when one takes too long. One thread at a time may use it."""

    def __init__(self, start: Callable[[], Link], timeout_s: float | None) -> None:
        """A process starts with the first use.

        Args:
            start: starts a process.
            timeout_s: longest time of a step; None: any, for a process that cannot be ended.
        """
        self._start, self._timeout_s = start, timeout_s
        self._link: Link | None = None
        self._is_ready = self._is_closed = False
        self._states: dict[str, EditingState] = {}  # by the photo's id, the state that the process has

    def prepare(self) -> Link:
        """The process with the model open.

        Raises:
            StepLostError: the process died, or this was closed. And what opening the model raises.
        """
        if self._is_closed:
            raise StepLostError
        if self._link is None or not self._link.is_alive:
            self._replace()
        assert self._link is not None
        try:
            if not self._is_ready:
                self._link.wait_ready()
        except WorkerLostError as error:
            self._end()
            raise StepLostError from error
        except (DeoccludeError, ModuleNotFoundError):
            self._end()
            raise
        self._is_ready = True
        return self._link

    def open(self, session_id: str, file: bytes, act: Callable[[OpenPhoto], Any]) -> tuple[EditingState, Any]:
        """Open a photo, and do something with it; returns its state and what `act` returns. Errors as of `run`."""
        done = self._do(self.prepare(), Step(session_id, act, file))
        state = self._states[session_id] = unpack(done.state, {})
        return state, done.value

    def run(self, session: Session, act: Callable[[OpenPhoto], Any], open_ids: Collection[str]) -> Any:
        """Do something with a photo; the session gets the state afterwards.

        Args:
            session: the photo.
            act: what to do; it can be pickled, and so can what it returns.
            open_ids: of all photos that are open: the process forgets others.

        Raises:
            UnknownPhotoError: the photo was closed while the step waited.
            StepTimedOutError: it took too long. StepLostError: the process died.
            DeoccludeError: of the act. After every error the photo is as it was before.
        """
        if session.id not in open_ids:
            raise UnknownPhotoError
        link = self.prepare()
        state, process_state = session.state, self._states.get(session.id)
        packed = None if process_state is state else pack(state, {} if process_state is None else process_state.parts())
        step = Step(session.id, act, None, packed, self._drop_closed(open_ids))
        done = self._do(link, step, state)
        self._states[session.id] = unpack(done.state, state.parts())
        session.take(self._states[session.id], len(done.state))
        return done.value

    def forget(self, open_ids: Collection[str]) -> None:
        """Let the process forget closed photos at once. Errors as of `run`."""
        if closed := self._drop_closed(open_ids):
            self._do(self.prepare(), Step("", None, closed=closed))

    def end_step(self) -> None:
        """End the process of the step that runs, which raises StepLostError. Any thread may call this."""
        if self._link is not None:
            self._link.kill()

    def close(self) -> None:
        """End the process for good; a step that runs fails. Any thread may call this."""
        self._is_closed = True
        if self._link is not None:
            self._link.kill()
            self._link.close()

    def _drop_closed(self, open_ids: Collection[str]) -> tuple[str, ...]:
        """Drop the states of all photos but the open ones; returns the ids of the dropped ones."""
        closed = tuple(self._states.keys() - open_ids)
        for session_id in closed:
            del self._states[session_id]
        return closed

    def _do(self, link: Link, step: Step, state: EditingState | None = None) -> Done:
        """Do a step within the time limit. state: the one that the process begins with."""
        with _time_limit(self._timeout_s, link.kill) as is_over:
            try:
                outcome = link.work(step)
            except WorkerLostError as error:
                reason = "a step took too long" if is_over() else error
                _log.warning("the studio's process is replaced: %s", reason)
                if not self._is_closed:
                    self._replace()
                if is_over():
                    raise StepTimedOutError(self._timeout_s or 0) from error
                raise StepLostError from error
        if state is not None:
            self._states[step.photo_id] = state
        if isinstance(outcome, Failed):
            raise outcome.error
        return outcome

    def _replace(self) -> None:
        """Start a new process; it opens the model while others wait."""
        self._end()
        self._link = self._start()

    def _end(self) -> None:
        """End the process, if there is one, and drop the states that it had."""
        if self._link is not None:
            self._link.close()
        self._link, self._is_ready = None, False
        self._states.clear()


@contextmanager
def _time_limit(limit_s: float | None, end: Callable[[], object]) -> Iterator[Callable[[], bool]]:
    """Call `end` after some seconds, unless the context ends before; yields a function: whether the time is over.

    limit_s: None: never.
    """
    over = threading.Event()

    def on_time() -> None:
        over.set()
        end()

    timer = threading.Timer(limit_s or 0.0, on_time)
    if limit_s is not None:
        timer.start()
    try:
        yield over.is_set
    finally:
        timer.cancel()
