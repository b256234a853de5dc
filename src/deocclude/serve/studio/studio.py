"""The studio of one application: its process, queue, open photos and limits."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from starlette.requests import Request

from deocclude.errors import DeoccludeError, InputError
from deocclude.serve.pool import Worker
from deocclude.serve.settings import ServeSettings
from deocclude.serve.studio import conversion, steps
from deocclude.serve.studio.messages import ChangeView, PhotoView
from deocclude.serve.studio.process import InThisProcess, StudioProcess
from deocclude.serve.studio.sessions import Session, Sessions, new_id
from deocclude.serve.studio.work import OpenPhoto, Pipeline, StudioWork, open_work
from deocclude.serve.studio.work_queue import Caller, Queue, WorkQueue
from deocclude.types import Result

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudioLimits:
    """What the studio accepts and keeps.

    Attributes:
        max_bytes: of a request's body.
        max_pixels: of a photo.
        max_open: photos open at once.
        max_open_pixels: of all open photos.
        timeout_s: an unused photo is closed after so long.
    """

    max_bytes: int = 32 * 2**20
    max_pixels: int = 25_000_000
    max_open: int = 16
    max_open_pixels: int = 100_000_000
    timeout_s: float = 1800.0


@dataclass
class Studio:
    """What the routes share. Everything that computes runs in the queue.

    Attributes:
        process: does what computes.
        queue: its line of requests.
        limits: what is accepted and kept.
        sessions: the open photos.
    """

    process: StudioProcess
    queue: Queue = field(default_factory=WorkQueue)
    limits: StudioLimits = StudioLimits()

    def __post_init__(self) -> None:
        limits = self.limits
        self.sessions = Sessions(limits.max_open, limits.max_open_pixels, limits.timeout_s)

    @classmethod
    def of_settings(cls, settings: ServeSettings = ServeSettings()) -> Studio:
        """A studio with a process of its own, which starts on demand.

        Args:
            settings: those of the service (model, device, weights_dir, threads, timeout_s, grace_s,
                max_bytes, max_pixels).
        """
        process = StudioProcess(lambda: Worker(partial(open_work, settings)), settings.timeout_s)
        limits = StudioLimits(max_bytes=settings.max_bytes, max_pixels=settings.max_pixels)
        return cls(process, WorkQueue(grace_s=settings.grace_s), limits)

    @classmethod
    def of_pipeline(cls, pipeline: Pipeline, limits: StudioLimits = StudioLimits()) -> Studio:
        """A studio that computes in this process: no step can be ended."""
        return cls(StudioProcess(lambda: InThisProcess(StudioWork(pipeline)), None), limits=limits)

    async def prepare(self) -> None:
        """Open the model before the first photo comes; that photo reports what is wrong with it."""
        try:
            await self.queue.run(self.process.prepare, Caller())
        except DeoccludeError as error:
            _log.warning("the studio's model could not be opened: %s", error)

    async def open(self, file: bytes, name: str, caller: Caller) -> PhotoView:
        """Open a photo: its people are found and completed.

        Raises:
            InputError: the photo cannot be read.
            TooManyPixelsError, BusyError, StepTimedOutError, StepLostError.
        """
        if not file:
            raise InputError("the file is empty")
        conversion.check_pixels(file, self.limits.max_pixels)

        def job() -> PhotoView:
            start_s = time.perf_counter()
            session_id = new_id()
            state, change = self.process.open(session_id, file, steps.everyone)
            session = Session(session_id, name, state)
            self.sessions.keep(session)
            total_s = time.perf_counter() - start_s
            height, width = state.photo.shape[:2]
            # the result's timings are those of its own steps, after people were found
            steps_s = sum(change.timings.get(step, 0.0) for step in ("complete", "recover"))
            change.timings |= {"find": max(0.0, total_s - steps_s), "total": total_s}
            change.state = session.remember()
            facts = {"id": session.id, "name": name, "width": width, "height": height, "model": session.result.model}
            return PhotoView(**facts, **dict(change))

        return await self.queue.run(job, caller, self.process.end_step)

    async def change(self, photo_id: str, caller: Caller, act: steps.Change) -> ChangeView:
        """Do something to an open photo.

        Args:
            photo_id: of the photo.
            caller: who sent the request.
            act: what to do.

        Raises:
            UnknownPhotoError, BusyError, StepTimedOutError, StepLostError; InputError: as the act.
        """
        session = self.sessions.get(photo_id)

        def job() -> ChangeView:
            change: ChangeView = self.process.run(session, partial(steps.change, act), self.sessions.ids)
            change.state = session.remember()
            return change

        return await self.queue.run(job, caller, self.process.end_step)

    async def restore(self, photo_id: str, caller: Caller, token: str) -> ChangeView:
        """Return to a former state of a photo, exactly. Errors as of `change`; StateGoneError: it is kept no longer."""
        session = self.sessions.get(photo_id)

        def job() -> ChangeView:
            before, session.state = session.result, session.former(token)
            change = conversion.change_view(before, session.result)
            change.state = token
            return change

        return await self.queue.run(job, caller, self.process.end_step)

    async def compute(self, photo_id: str, caller: Caller, act: Callable[[OpenPhoto], T]) -> T:
        """Do something with an open photo. act: can be pickled. Errors as of `change`."""
        session = self.sessions.get(photo_id)

        def job() -> T:
            value: T = self.process.run(session, act, self.sessions.ids)
            return value

        return await self.queue.run(job, caller, self.process.end_step)

    def result(self, photo_id: str) -> Result:
        """An open photo's result. Raises UnknownPhotoError."""
        return self.sessions.get(photo_id).result

    async def forget_closed(self) -> None:
        """Let the process forget closed photos, when its turn comes."""
        try:
            await self.queue.run(lambda: self.process.forget(self.sessions.ids), Caller())
        except DeoccludeError as error:  # the next step forgets them too
            _log.info("closed photos are forgotten later: %s", error)

    def close(self) -> None:
        """End the process; a step that runs fails."""
        self.process.close()


def studio_of(request: Request) -> Studio:
    """The application's studio: `app.state.studio`, or one with the settings of `app.state.service`, made once."""
    state: Any = request.app.state
    if getattr(state, "studio", None) is None:
        service = getattr(state, "service", None)
        state.studio = Studio.of_settings(ServeSettings() if service is None else service.settings)
    studio: Studio = state.studio
    return studio
