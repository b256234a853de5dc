"""Errors of the service: one shape, `{"error": {"code", "message"}}`, and no message with a path or a traceback."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException

_MAX_MESSAGE = 500  # characters

STATUS_OF = {
    "malformed_body": 400,
    "unauthorized": 401,
    "cross_origin": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "not_acceptable": 406,
    "slow_client": 408,
    "state_gone": 410,
    "too_many_bytes": 413,
    "too_many_pixels": 413,
    "wrong_host": 421,
    "invalid_request": 422,
    "invalid_input": 422,
    "internal": 500,
    "worker_lost": 500,
    "queue_full": 503,
    "not_ready": 503,
    "shutting_down": 503,
    "out_of_memory": 503,
    "timed_out": 504,
}
"""Every code of an error with its HTTP status."""

CLIENT_GONE = 499  # in the metrics alone: nobody gets an answer


class ServiceError(HTTPException):
    """A request that is refused.

    An HTTPException, since the framework's reading of forms lets only these pass unchanged.
    """

    def __init__(self, code: str, message: str, retry_after_s: int | None = None) -> None:
        """An error of STATUS_OF.

        Args:
            code: a key of STATUS_OF.
            message: one line for the client; a longer one is cut.
            retry_after_s: after how many seconds the same request may succeed.
        """
        self.code = code
        self.message = " ".join(message.split())[:_MAX_MESSAGE]
        headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
        super().__init__(STATUS_OF[code], self.message, headers)

    @property
    def content(self) -> dict[str, Any]:
        """The answer's JSON."""
        return {"error": {"code": self.code, "message": self.message}}


class ClientGoneError(Exception):
    """The client closed the connection: nobody waits for an answer."""
