"""The gate before every route: token, origin, limits on bytes and time, counting. A pure ASGI middleware.

It works before the framework reads a body, and counts bytes while they come, whatever their header states.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deocclude.serve.errors import CLIENT_GONE, ClientGoneError, ServiceError
from deocclude.serve.service import Service
from deocclude.serve.settings import PIECE_BYTES

OPEN_PATHS = frozenset({"/healthz", "/readyz"})  # without a token, for the machines that watch the service
WHILE_DRAINING = OPEN_PATHS | {"/metrics"}  # paths that are answered while the service ends
TOKEN_PREFIXES = ("/v1/", "/studio/api", "/metrics", "/openapi.json")  # paths that need the token, where one is set
QUEUED_PATHS = frozenset({"/v1/deocclude"})  # refused before their body is read where the queue is full


class Gate:
    """An ASGI application around another one."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        service, traffic = self._service, _Traffic(Headers(scope=scope), receive, send, self._service)
        service.in_flight += 1
        try:
            try:
                self._check(scope, traffic)
                await self._app(scope, traffic.receive, traffic.send)
            except ServiceError as error:
                await refusal(error)(scope, traffic.receive, traffic.send)
        except ClientGoneError:
            traffic.status = CLIENT_GONE
        except Exception:
            traffic.status = 500  # what the middleware around this one sends
            raise
        finally:
            service.in_flight -= 1
            traffic.end_upload()
            route = getattr(scope.get("route"), "path", "other")
            service.metrics.count_request(route, traffic.status, time.monotonic() - traffic.started_s)

    def _check(self, scope: Scope, traffic: _Traffic) -> None:
        """Refuse a request by its path and headers, before its body is read. Raises ServiceError."""
        path, headers, service = scope["path"], Headers(scope=scope), self._service
        if path not in WHILE_DRAINING:
            service.check_accepting()
        if path.startswith(TOKEN_PREFIXES) and path not in OPEN_PATHS:
            check_token(headers, service.settings.token)
        check_host(headers, service.settings.hosts)
        check_origin(headers)
        traffic.check_length()
        if path in QUEUED_PATHS and scope["method"] == "POST":
            service.check_room()
            traffic.begin_upload()


class _Traffic:
    """A request's bytes in and out, within the limits."""

    def __init__(self, headers: Headers, receive: Receive, send: Send, service: Service) -> None:
        self._receive, self._send, self._service = receive, send, service
        self._settings = service.settings
        self._length = headers.get("content-length", "")
        # bytes of the body so far, in all and since `_piece_from_s`
        self._received = self._piece = 0
        self._is_complete = "transfer-encoding" not in headers and self._length in ("", "0")
        self._is_upload = self._is_gone = False
        self.started_s = self._piece_from_s = time.monotonic()
        self.status = CLIENT_GONE

    def begin_upload(self) -> None:
        """Count a body that is being read."""
        self._is_upload = True
        self._service.uploads += 1

    def end_upload(self) -> None:
        """Stop counting it."""
        self._service.uploads -= self._is_upload
        self._is_upload = False

    def check_length(self) -> None:
        """Refuse a body by its header. Raises ServiceError."""
        if self._length.isdecimal() and int(self._length) > self._settings.max_bytes:
            raise self._too_many_bytes()

    async def receive(self) -> Message:
        """The next piece of the body. Raises ServiceError: too many bytes, or too slowly."""
        if self._is_complete:  # after the body, only the end of the connection can come
            return await self._receive()
        left_s = self._piece_from_s + self._settings.body_timeout_s - time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), left_s)
        except asyncio.TimeoutError as error:  # TimeoutError from Python 3.11 on
            raise ServiceError("slow_client", "the request's body came too slowly") from error
        if message["type"] == "http.disconnect":
            self._is_gone = True
            raise ClientGoneError
        self._count(len(message.get("body", b"")))
        if self._received > self._settings.max_bytes:
            raise self._too_many_bytes()
        if message.get("more_body"):
            self._service.check_accepting()  # the service does not wait for a long upload before it ends
        else:
            self._is_complete = True
            self.end_upload()
        return message

    async def send(self, message: Message) -> None:
        """Send a piece of the answer, in small pieces. Raises ClientGoneError where the client takes it too slowly."""
        if self._is_gone:  # the framework would still answer a request whose body broke off
            raise ClientGoneError
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if not self._is_complete and self.status >= 400:  # the rest of the body is not read
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await self._send(message)
            return
        body = message.get("body", b"")
        pieces = [body[place : place + PIECE_BYTES] for place in range(0, len(body), PIECE_BYTES)] or [b""]
        for number, piece in enumerate(pieces, 1):
            more = number < len(pieces) or message.get("more_body", False)
            sending = self._send({"type": "http.response.body", "body": piece, "more_body": more})
            try:
                await asyncio.wait_for(sending, self._settings.body_timeout_s)
            except asyncio.TimeoutError as error:
                raise ClientGoneError from error

    def _count(self, received: int) -> None:
        """Count bytes of the body; its time limit starts again after each PIECE_BYTES."""
        self._received += received
        self._piece += received
        if self._piece >= PIECE_BYTES:
            self._piece, self._piece_from_s = 0, time.monotonic()

    def _too_many_bytes(self) -> ServiceError:
        return ServiceError("too_many_bytes", f"the body may have {self._settings.max_bytes} bytes at most")


def check_token(headers: Headers, token: str | None) -> None:
    """Raise ServiceError unless a request has the token, or none is needed. Compared in constant time."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if token is None:
        return
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        raise ServiceError("unauthorized", "this service needs its token: Authorization: Bearer TOKEN")


def check_host(headers: Headers, hosts: Sequence[str]) -> None:
    """Raise ServiceError unless the Host header has one of the names; with no names, every host is accepted."""
    if hosts and _split(f"//{headers.get('host', '')}").hostname not in hosts:
        raise ServiceError("wrong_host", "this service does not answer by this name: see --allow-host")


def check_origin(headers: Headers) -> None:
    """Raise ServiceError for a request that a page of another site sends through its visitor's browser."""
    origin = headers.get("origin")
    if origin and _split(origin).netloc.lower() != headers.get("host", "").lower():
        raise ServiceError("cross_origin", "pages of other sites may not use this service")


def _split(url: str) -> SplitResult:
    """The parts of a URL; empty parts for text that is no URL."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def refusal(error: ServiceError) -> JSONResponse:
    """The answer to a refused request."""
    headers = dict(error.headers or {})
    if error.code == "unauthorized":
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(error.content, error.status_code, headers)
