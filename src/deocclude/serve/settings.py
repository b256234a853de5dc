"""Settings of the service, checked once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from deocclude.errors import UsageError
from deocclude.inference.cores import MAX_AT_ONCE, usable_cores
from deocclude.io.images import MAX_PIXELS

PIECE_BYTES = 64 * 2**10
"""Bytes that a client sends or takes within `ServeSettings.body_timeout_s`."""


@dataclass(frozen=True)
class ServeSettings:
    """What a service opens and what it accepts.

    Attributes:
        model: a name of the weights' manifest.
        device: "auto", "cpu" or "cuda".
        weights_dir: a folder with a manifest.json; None: the package's own weights.
        workers: processes, each with the model and one photo at a time; 0: one for each two cores.
        threads: CPU threads of each process; 0: the cores divided by the workers.
        queue: requests that may wait for a process; a further one is refused.
        timeout_s: longest work on one request; its process is ended then.
        grace_s: how long a process may still work for a client that has gone.
        max_bytes: largest request body.
        max_pixels: largest photo; the masks of a request together may have four times as many.
        max_masks: most masks of a request, and most boxes.
        body_timeout_s: longest time for each PIECE_BYTES of a request's body, and of an answer.
        hosts: names in the Host header of a request; none: any. They keep out a page of another site whose name
            suddenly leads to this machine (DNS rebinding).
        token: what clients send as `Authorization: Bearer TOKEN`; None: everyone may ask.
    """

    model: str = "base"
    device: str = "auto"
    weights_dir: Path | None = None
    workers: int = 0
    threads: int = 0
    queue: int = 32
    timeout_s: float = 120.0
    grace_s: float = 2.0  # with a new process's start, a slot is free again within 5 s
    max_bytes: int = 32 * 2**20
    max_pixels: int = 25_000_000
    max_masks: int = 64
    body_timeout_s: float = 5.0
    hosts: tuple[str, ...] = ()
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("timeout_s", "body_timeout_s", "max_bytes", "max_pixels", "max_masks"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("workers", "threads", "queue", "grace_s"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"{name} must be 0 or more, got {getattr(self, name)}")
        for name in ("workers", "threads"):
            if getattr(self, name) > MAX_AT_ONCE:
                raise UsageError(f"{name} must be at most {MAX_AT_ONCE}, got {getattr(self, name)}")
        if self.max_pixels > MAX_PIXELS:
            raise UsageError(f"max_pixels must be at most {MAX_PIXELS}, got {self.max_pixels}")
        if self.token is not None and not (self.token and self.token.isascii() and self.token.isprintable()):
            raise UsageError("the token must be printable ASCII, and not empty")

    @property
    def processes(self) -> int:
        """The number of worker processes."""
        return self.workers or max(1, usable_cores() // 2)

    @property
    def threads_each(self) -> int:
        """CPU threads of each process."""
        return self.threads or max(1, usable_cores() // self.processes)

    @property
    def max_uploads(self) -> int:
        """Requests whose bodies may be read at once: as many as work and wait, and as many again."""
        return 2 * (self.processes + self.queue)
