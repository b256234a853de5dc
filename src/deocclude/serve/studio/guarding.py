"""What every request to the studio passes: a limit on bytes, no other site's requests, errors as messages."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.types import Message, Receive

from deocclude.errors import DeoccludeError
from deocclude.serve.errors import CLIENT_GONE, ClientGoneError
from deocclude.serve.studio.errors import OtherSiteError, TooManyBytesError, status_and_code
from deocclude.serve.studio.studio import studio_of

_log = logging.getLogger(__name__)
_RETRY_AFTER_S = 5  # told to a client for whom there is no room
_OWN_PAGE = (None, "same-origin", "none")  # values of Sec-Fetch-Site of the own page; None: sent by no browser


class GuardedRoute(APIRoute):
    """A route that refuses too many bytes, and whose errors of this package become messages."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler, guarded."""
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            try:
                return await handle(_checked(request))
            except DeoccludeError as error:
                return _refusal(error)
            except _BodyTooLongError as error:
                return _refusal(error.reason)
            except ClientGoneError:
                return Response(status_code=CLIENT_GONE)

        return guarded


class _BodyTooLongError(HTTPException):
    """A body that is too long. An HTTPException: the framework's reading of a body lets only these pass unchanged."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(413)
        self.reason = TooManyBytesError(max_bytes)


def _checked(request: Request) -> Request:
    """The request, whose body ends with an error once it is longer than the limit.

    Raises:
        TooManyBytesError: its header states more.
        OtherSiteError: another site's page sent it.
    """
    if request.method != "GET" and request.headers.get("sec-fetch-site") not in _OWN_PAGE:
        raise OtherSiteError
    max_bytes = studio_of(request).limits.max_bytes
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > max_bytes:
        raise TooManyBytesError(max_bytes)
    return Request(request.scope, _counted(request.receive, max_bytes))


def _counted(receive: Receive, max_bytes: int) -> Receive:
    """`receive`, which raises _BodyTooLongError once the body has more than `max_bytes`."""
    received_bytes = 0

    async def counted() -> Message:
        nonlocal received_bytes
        message = await receive()
        received_bytes += len(message.get("body", b""))
        if received_bytes > max_bytes:
            raise _BodyTooLongError(max_bytes)
        return message

    return counted


def _refusal(error: DeoccludeError) -> JSONResponse:
    """The answer to an error; the message of a fault of the server is logged and not sent."""
    status, code = status_and_code(error)
    message = str(error)
    if code == "internal":
        _log.error("a request to the studio failed", exc_info=error)
        message = "the server could not do this"
    headers = {"Retry-After": str(_RETRY_AFTER_S)} if status == 503 else None
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)
