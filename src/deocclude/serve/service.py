"""The state of one running service: its settings, its worker processes, and whether it takes requests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from functools import partial

from starlette.requests import Request

from deocclude.inference.runtime import list_models
from deocclude.serve.errors import ClientGoneError, ServiceError
from deocclude.serve.metrics import Metrics
from deocclude.serve.pool import Start, WorkerPool, queue_is_full
from deocclude.serve.settings import ServeSettings
from deocclude.serve.work import Answer, Job, Refusal, open_pipeline


class Service:
    """What the routes share. Open and close its pool in the server's event loop.

    Attributes:
        models: manifest entries of the weights folder, by the model's name.
        pool: the worker processes.
        in_flight: requests that have begun and not ended.
        uploads: requests whose body is being read.
        is_draining: new requests are refused, because the service ends.
        failure: why no process can be started any more; None: nothing is wrong.
    """

    def __init__(self, settings: ServeSettings, start: Start[Job, Answer | Refusal] | None = None) -> None:
        """A service that is not open yet.

        Args:
            settings: limits and model.
            start: opens the work of a process; None: the model of the settings.

        Raises:
            WeightsError: the manifest of the weights cannot be read.
        """
        self.settings = settings
        self.models = list_models(settings.weights_dir)
        self.pool = WorkerPool(
            start or partial(open_pipeline, settings), settings.processes, queue=settings.queue,
            timeout_s=settings.timeout_s, grace_s=settings.grace_s, on_broken=self._record_failure,
            on_replaced=lambda reason: self.metrics.count_replaced(reason),
        )  # fmt: skip
        self.in_flight = 0
        self.uploads = 0
        self.is_draining = False
        self.failure: Exception | None = None
        self.metrics = Metrics(self.pool, lambda: self.in_flight)

    def check_accepting(self) -> None:
        """Raise ServiceError where the service is shutting down."""
        if self.is_draining:
            raise ServiceError("shutting_down", "the service is shutting down", retry_after_s=5)

    def check_room(self) -> None:
        """Raise ServiceError where the queue has no room for another request, before its body is read."""
        if self.pool.is_full or self.uploads >= self.settings.max_uploads:
            raise queue_is_full(self.pool.waiting)

    async def run(self, job: Job, request: Request) -> Answer:
        """Work on a request's job when its turn comes.

        Raises:
            ServiceError: it is refused, failed, or took too long.
            ClientGoneError: the client closed the connection.
        """
        with watched(request) as gone:
            outcome = await self.pool.run(job, gone)
        if isinstance(outcome, Refusal):
            raise ServiceError(outcome.code, outcome.message)
        self.metrics.count_answer(outcome)
        return outcome

    def _record_failure(self, error: Exception) -> None:
        """Record that no process can be started any more; the server ends with this error."""
        self.failure = error


@contextlib.contextmanager
def watched(request: Request) -> Iterator[asyncio.Future[None]]:
    """A future that is done when a request's client has gone. The request's body must have been read."""

    async def watch() -> None:
        with contextlib.suppress(ServiceError, ClientGoneError):  # of a client that sends more bytes than allowed
            while (await request.receive())["type"] != "http.disconnect":
                pass

    gone = asyncio.ensure_future(watch())
    try:
        yield gone
    finally:
        gone.cancel()


def choose_media_type(accept: Sequence[str], offered: Sequence[str]) -> str:
    """The media type of an answer by a request's Accept headers.

    Args:
        accept: values of the headers; none: anything.
        offered: media types, the preferred one first.

    Raises:
        ServiceError: none of them is accepted.
    """
    weights: dict[str, float] = {}
    for part in ",".join(accept).split(","):
        name, *parameters = (word.strip().lower() for word in part.split(";"))
        if name:
            weights[name] = next((_weight(text[2:]) for text in parameters if text.startswith("q=")), 1.0)
    if not weights:
        return offered[0]

    def weight(media_type: str) -> float:
        exact, group = media_type, f"{media_type.partition('/')[0]}/*"
        return next((weights[name] for name in (exact, group, "*/*") if name in weights), 0.0)

    best = max(offered, key=weight)  # the first of several
    if weight(best) <= 0:
        raise ServiceError("not_acceptable", f"the answer is one of {', '.join(offered)}")
    return best


def _weight(text: str) -> float:
    """The number of a q parameter of Accept; 0 for text that is no number."""
    try:
        return float(text)
    except ValueError:
        return 0.0
