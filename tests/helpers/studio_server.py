"""A studio as an application, and its server in a thread."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from deocclude.serve.studio.routes import router
from deocclude.serve.studio.studio import Studio


def studio_app(studio: Studio) -> FastAPI:
    app = FastAPI()
    app.state.studio = studio
    app.include_router(router)
    return app


@contextlib.contextmanager
def served(studio: Studio) -> Iterator[str]:
    """A studio's server in a thread."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(studio_app(studio), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    until = time.monotonic() + 20
    while not server.started and time.monotonic() < until:
        time.sleep(0.02)
    assert server.started
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()
