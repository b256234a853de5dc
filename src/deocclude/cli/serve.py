"""`deocclude serve`: the HTTP service, and the page in the browser."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deocclude.cli.options import AsJson, Device, Model, Quiet, Weights, is_terminal, is_verbose, print_json

if TYPE_CHECKING:
    from deocclude.serve.server import DrainingServer

LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")  # addresses that no other machine reaches
TOKEN_VARIABLE = "DEOCCLUDE_TOKEN"  # environment variable with the token that clients send


def app(
    ctx: typer.Context,
    host: Annotated[str, typer.Option("--host", help="Address to listen on; 0.0.0.0: every network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free port.")] = 7860,
    model: Model = "base",
    device: Device = "auto",
    weights: Weights = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="A name that clients use for this service, as of a proxy."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", metavar="FILE", help=f"Holds the token that clients send; or {TOKEN_VARIABLE}."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Photos processed at once; default one for two cores.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="CPU threads of each; default its part of the cores.")
    ] = None,
    queue: Annotated[int, typer.Option("--queue", min=0, help="Requests that may wait; others get 503.")] = 32,
    timeout: Annotated[float, typer.Option("--timeout", min=1, metavar="S", help="Longest work on a request.")] = 120,
    body_timeout: Annotated[
        float, typer.Option("--body-timeout", min=1, metavar="S", help="For each 64 KiB of a body.")
    ] = 5,
    max_pixels: Annotated[int, typer.Option("--max-pixels", min=1, help="Largest photo.")] = 25_000_000,
    max_bytes: Annotated[int, typer.Option("--max-bytes", min=1, help="Largest request body.")] = 32 * 2**20,
    open_page: Annotated[
        bool | None, typer.Option("--open/--no-open", help="Open the page in a browser; default on a terminal.")
    ] = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Serve HTTP: POST /v1/deocclude, and a page in the browser.

    Ctrl-C or SIGTERM: new requests get 503, those that have begun are finished; a second time: ends at once.
    docs/service.md says more.
    """
    import fastapi  # noqa: F401  # first: where it is missing, the message names it and the extra [serve]

    from deocclude.inference.runtime import find_model
    from deocclude.serve.server import bind, make_server, url_of
    from deocclude.serve.settings import ServeSettings

    settings = ServeSettings(
        model=model, device=device, weights_dir=weights, workers=workers or 0, threads=threads or 0, queue=queue,
        timeout_s=timeout, max_bytes=max_bytes, max_pixels=max_pixels, body_timeout_s=body_timeout,
        token=read_token(token_file), hosts=names_of(host, allow_host or ()),
    )  # fmt: skip
    find_model(model, weights)  # before anything listens
    listening = bind(host, port)
    server = make_server(settings, access_log=is_verbose(ctx))
    if json:
        print_json({"url": url_of(listening), "model": model, "processes": settings.processes})
    elif not quiet:
        typer.echo(f"serving on {url_of(listening)} (Ctrl-C ends)", err=True)
    if is_terminal(sys.stderr) if open_page is None else open_page:
        _open_page(server, url_of(listening))
    server.run(sockets=[listening])
    if server.service.failure is not None:
        raise server.service.failure


def names_of(host: str, allowed: Sequence[str]) -> tuple[str, ...]:
    """Host names that the service answers to, in lower case; empty: any name.

    Args:
        host: the address to listen on. Only this machine reaches one of LOCAL_NAMES, which are then answered to.
        allowed: --allow-host. With another address and none allowed, any name is answered to.
    """
    if host in LOCAL_NAMES:
        return (*LOCAL_NAMES, *(name.lower() for name in allowed))
    return tuple(name.lower() for name in (*allowed, host)) if allowed else ()


def read_token(path: Path | None) -> str | None:
    """The token of a file, else of the environment; None where neither is given.

    Raises:
        UsageError: the file cannot be read or is empty.
    """
    from deocclude.errors import UsageError

    if path is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise UsageError(f"--token-file {path}: cannot be read as text") from error
    if not token:
        raise UsageError(f"--token-file {path}: the file is empty")
    return token


def _open_page(server: DrainingServer, url: str) -> None:
    """Open the page as soon as the server answers."""
    import threading
    import time
    import webbrowser

    def wait_and_open() -> None:
        while not server.started and not server.should_exit:
            time.sleep(0.05)
        if server.started:
            webbrowser.open(url)

    threading.Thread(target=wait_and_open, daemon=True).start()
