"""The studio of one application: its model, queue, open photos and limits."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from starlette.requests import Request

from deocclude.errors import DeoccludeError, InputError
from deocclude.people.editing import Editing
from deocclude.pipeline import load
from deocclude.serve.studio import conversion
from deocclude.serve.studio.messages import ChangeView, PhotoView
from deocclude.serve.studio.sessions import Session, Sessions
from deocclude.serve.studio.work_queue import Queue, WorkQueue
from deocclude.types import Result

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Pipeline(Protocol):
    """An opened model, as `Deoccluder`."""

    def edit(self, image: bytes) -> Editing:
        """Open a photo for editing."""


class PipelineOnDemand:
    """A model that is opened when the first photo comes, so that the page is there at once."""

    def __init__(self, open_pipeline: Callable[[], Pipeline]) -> None:
        """How to open it."""
        self._open_pipeline = open_pipeline
        self._opened: Pipeline | None = None

    def open(self) -> Pipeline:
        """The opened model. One thread at a time may call this and `edit`."""
        if self._opened is None:
            self._opened = self._open_pipeline()
        return self._opened

    def edit(self, image: bytes) -> Editing:
        """See `Pipeline.edit`."""
        return self.open().edit(image)


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
        pipeline: the model.
        queue: runs what computes.
        limits: what is accepted and kept.
    """

    pipeline: Pipeline
    queue: Queue = field(default_factory=WorkQueue)
    limits: StudioLimits = StudioLimits()

    def __post_init__(self) -> None:
        limits = self.limits
        self.sessions = Sessions(limits.max_open, limits.max_open_pixels, limits.timeout_s)

    @classmethod
    def of_settings(cls, settings: Any = None) -> Studio:
        """A studio that opens its own model on demand.

        Args:
            settings: those of the service (model, device, weights_dir, threads, max_bytes, max_pixels); None: defaults.
        """
        if settings is None:
            return cls(PipelineOnDemand(load))

        def open_pipeline() -> Pipeline:
            return load(
                settings.model, device=settings.device, weights_dir=settings.weights_dir,
                threads=settings.threads or None,
            )  # fmt: skip

        limits = StudioLimits(max_bytes=settings.max_bytes, max_pixels=settings.max_pixels)
        return cls(PipelineOnDemand(open_pipeline), limits=limits)

    async def prepare(self) -> None:
        """Open the model before the first photo comes; that photo reports what is wrong with it."""
        if isinstance(self.pipeline, PipelineOnDemand):
            try:
                await self.queue.run(self.pipeline.open, "")
            except DeoccludeError as error:
                _log.warning("the studio's model could not be opened: %s", error)

    async def open(self, data: bytes, name: str, ticket: str) -> PhotoView:
        """Open a photo: its people are found and completed.

        Raises:
            InputError: the photo cannot be read.
            TooManyPixelsError, BusyError.
        """
        if not data:
            raise InputError("the file is empty")
        conversion.check_pixels(data, self.limits.max_pixels)

        def job() -> PhotoView:
            start_s = time.perf_counter()
            session = self.sessions.open(self.pipeline.edit(data), name)
            total_s = time.perf_counter() - start_s
            height, width = session.editing.photo.shape[:2]
            change = conversion.change_view(None, session.result)
            # the result's timings are those of its own steps, after people were found
            known_s = sum(change.timings.get(step, 0.0) for step in ("complete", "recover"))
            change.timings |= {"find": max(0.0, total_s - known_s), "total": total_s}
            facts = {"id": session.id, "name": name, "width": width, "height": height, "model": session.result.model}
            return PhotoView(**facts, **dict(change))

        return await self.queue.run(job, ticket)

    async def change(self, photo_id: str, ticket: str, act: Callable[[Editing], Result | int]) -> ChangeView:
        """Do something to an open photo.

        Args:
            photo_id: of the photo.
            ticket: of the request.
            act: what to do; returns the number of a person that it added, or the result.

        Raises:
            UnknownPhotoError, BusyError; InputError: as the act.
        """
        session = self.sessions.get(photo_id)

        def job() -> ChangeView:
            with session.lock:
                before = session.result
                done = act(session.editing)
                after = session.result
            return conversion.change_view(before, after, done if isinstance(done, int) else None)

        return await self.queue.run(job, ticket)

    async def compute(self, photo_id: str, ticket: str, act: Callable[[Session], T]) -> T:
        """Compute something of an open photo that changes nothing. Errors as of `change`."""
        session = self.sessions.get(photo_id)

        def job() -> T:
            with session.lock:
                return act(session)

        return await self.queue.run(job, ticket)

    def result(self, photo_id: str) -> Result:
        """An open photo's result. Raises UnknownPhotoError."""
        return self.sessions.get(photo_id).result


def studio_of(request: Request) -> Studio:
    """The application's studio: `app.state.studio`, or one with the settings of `app.state.service`, made once."""
    state = request.app.state
    if getattr(state, "studio", None) is None:
        service = getattr(state, "service", None)
        state.studio = Studio.of_settings(None if service is None else service.settings)
    studio: Studio = state.studio
    return studio
