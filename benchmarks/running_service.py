"""A `deocclude serve` of its own for a benchmark."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator

from deocclude.serve.client import Client


@contextlib.contextmanager
def running_service(*options: str) -> Iterator[tuple[str, int]]:
    """Start a service on a free port, wait until it answers, and end it afterwards.

    Args:
        options: further options of the command.

    Yields:
        Its address and the number of its process.
    """
    command = [sys.executable, "-m", "deocclude", "serve", "--port", "0", "--no-open", "--json", *options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        if not (line := server.stdout.readline()):
            raise RuntimeError("the service ended before it told its address")
        url = json.loads(line)["url"]
        with Client(url) as client:
            client.wait_ready(120)
        yield url, server.pid
    finally:
        server.terminate()
        server.wait(30)
