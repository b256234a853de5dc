"""The server: a bound socket, uvicorn around the application, and an end that finishes what has begun."""

from __future__ import annotations

import asyncio
import errno
import socket
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from deocclude.errors import DeoccludeError
from deocclude.serve.app import create_app
from deocclude.serve.service import Service
from deocclude.serve.settings import ServeSettings

_BACKLOG = 128  # connections that wait to be accepted


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Args:
        host: an address or a name.
        port: 0: any free one.

    Raises:
        DeoccludeError: the port is in use, or the address cannot be used.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise DeoccludeError(f"port {port} of {host} is in use: choose another with --port, 0 for any") from error
        raise DeoccludeError(f"cannot listen on {host}, port {port}: {error.strerror or error}") from error
    except UnicodeError as error:
        raise DeoccludeError(f"cannot listen on {host}: not the name of a machine") from error
    except OverflowError as error:
        raise DeoccludeError(f"a port is a number from 0 to 65535, got {port}") from error


def url_of(listening: socket.socket) -> str:
    """The address of a listening socket, for a browser on this machine."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class TimedProtocol(H11Protocol):
    """HTTP on one connection, which is closed where no request comes in time: uvicorn itself would wait for ever."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time with the connection."""
        super().connection_made(transport)
        limit_s = self.config.app.state.service.settings.body_timeout_s  # type: ignore[union-attr]
        self.loop.call_later(limit_s, self._close_without_request)

    def _close_without_request(self) -> None:
        if self.cycle is None:
            self.transport.close()


class DrainingServer(uvicorn.Server):
    """A server that on SIGTERM or Ctrl-C refuses new requests with 503, finishes the others, and ends.

    A second signal ends it at once. It ends too where the service cannot start processes any more.
    """

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Answer a signal; called by Python between two instructions of the main thread."""
        if self.service.is_draining:
            self.should_exit = self.force_exit = True
        self.service.is_draining = True

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second; whether the server ends now."""
        if self.service.failure is not None or (self.service.is_draining and not self.service.in_flight):
            self.should_exit = True
        return await super().on_tick(counter)


def make_server(settings: ServeSettings, *, start: Any = None, access_log: bool = False) -> DrainingServer:
    """A server of a new application; `run` or `serve` it with the sockets of `bind`.

    Args:
        settings: limits and model.
        start: as of `create_app`.
        access_log: log each request.
    """
    app = create_app(settings, start)
    config = uvicorn.Config(
        app, http=TimedProtocol, ws="none", lifespan="on", log_level="info" if access_log else "warning",
        access_log=access_log, server_header=False, timeout_graceful_shutdown=10,
    )  # fmt: skip
    return DrainingServer(config, app.state.service)
