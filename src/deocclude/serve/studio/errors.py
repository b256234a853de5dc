"""What goes wrong with a request to the studio, and the service's code and status of each error."""

from __future__ import annotations

from deocclude.errors import DeoccludeError, InputError, MissingExtraError, UsageError
from deocclude.serve.errors import STATUS_OF


class UnknownPhotoError(DeoccludeError):
    """There is no such open photo: never opened, closed, or closed after its time-out."""

    def __init__(self) -> None:
        super().__init__("this photo is no longer open: choose it again")


class BusyError(DeoccludeError):
    """So many requests wait that another is refused."""

    def __init__(self, waiting: int) -> None:
        super().__init__(f"{waiting} requests are waiting already: try again in some seconds")


class StateGoneError(DeoccludeError):
    """A former state of a photo that is kept no longer."""

    def __init__(self) -> None:
        super().__init__("this former state is no longer kept")


class TooManyBytesError(DeoccludeError):
    """A request with more bytes than the limit."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"at most {max_bytes / 1e6:.0f} MB are accepted")


class TooManyPixelsError(DeoccludeError):
    """An image with more pixels than the limit."""


class StepTimedOutError(DeoccludeError):
    """A step that took longer than the limit: its process was ended."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(f"this took longer than {timeout_s:g} s and was ended: everything is as it was before")


class StepLostError(DeoccludeError):
    """A step whose process died."""

    def __init__(self) -> None:
        super().__init__("the server's process ended during this step: everything is as it was before")


class OtherSiteError(DeoccludeError):
    """A request that a page of another site sent."""

    def __init__(self) -> None:
        super().__init__("pages of other sites may not use the studio")


_CODES: tuple[tuple[type[DeoccludeError], str], ...] = (
    (OtherSiteError, "cross_origin"),
    (UnknownPhotoError, "not_found"),
    (StateGoneError, "state_gone"),
    (TooManyBytesError, "too_many_bytes"),
    (TooManyPixelsError, "too_many_pixels"),
    (BusyError, "queue_full"),
    (StepTimedOutError, "timed_out"),
    (StepLostError, "worker_lost"),
    (InputError, "invalid_input"),
    (MissingExtraError, "invalid_input"),
    (UsageError, "invalid_request"),
)


def status_and_code(error: DeoccludeError) -> tuple[int, str]:
    """HTTP status and code of an error; (500, "internal") where the fault is not the client's."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), "internal")
    return STATUS_OF[code], code
