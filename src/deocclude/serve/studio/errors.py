"""What goes wrong with a request to the studio, and the service's code and status of each error."""

from __future__ import annotations

from deocclude.errors import DeoccludeError, InputError, MissingExtraError, UsageError


class UnknownPhotoError(DeoccludeError):
    """There is no such open photo: never opened, closed, or closed after its time-out."""

    def __init__(self) -> None:
        super().__init__("this photo is no longer open: choose it again")


class BusyError(DeoccludeError):
    """So many requests wait that another is refused."""

    def __init__(self, waiting: int) -> None:
        super().__init__(f"{waiting} requests are waiting already: try again in some seconds")


class TooManyBytesError(DeoccludeError):
    """A request with more bytes than the limit."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"at most {max_bytes / 1e6:.0f} MB are accepted")


class TooManyPixelsError(DeoccludeError):
    """An image with more pixels than the limit."""


class OtherSiteError(DeoccludeError):
    """A request that a page of another site sent."""

    def __init__(self) -> None:
        super().__init__("pages of other sites may not use the studio")


_CODES: tuple[tuple[type[DeoccludeError], int, str], ...] = (
    (OtherSiteError, 403, "cross_origin"),
    (UnknownPhotoError, 404, "not_found"),
    (TooManyBytesError, 413, "too_many_bytes"),
    (TooManyPixelsError, 413, "too_many_pixels"),
    (BusyError, 503, "queue_full"),
    (InputError, 422, "invalid_input"),
    (MissingExtraError, 422, "invalid_input"),
    (UsageError, 422, "invalid_request"),
)


def status_and_code(error: DeoccludeError) -> tuple[int, str]:
    """HTTP status and code of an error; (500, "internal") where the fault is not the client's."""
    for kind, status, code in _CODES:
        if isinstance(error, kind):
            return status, code
    return 500, "internal"
