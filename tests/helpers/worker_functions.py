"""What a worker process does in tests: it can be imported by its name in a spawned process."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from deocclude.batch.workers import Loading
from deocclude.errors import UsageError


def do(order: str) -> str:
    """Do what an order says: "double:a" gives aa, the others end the process, take long, or fail."""
    what, _, rest = order.partition(":")
    if what == "double":
        return rest * 2
    if what == "pid":
        return str(os.getpid())
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "exit":
        os._exit(int(rest))
    if what == "sleep":
        time.sleep(float(rest))
        return f"slept {rest}"
    if what == "kill-once":
        if Path(rest).exists():
            return "second try"
        Path(rest).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "touch-and-sleep":
        Path(rest).write_text(str(os.getpid()))
        time.sleep(600)
    raise UsageError(f"no such order: {order}")


def start(loading: Loading) -> Callable[[str], str]:
    return do


def start_slowly(loading: Loading) -> Callable[[str], str]:
    """The first item loads for a second."""
    loaded: list[bool] = []

    def work(order: str) -> str:
        if not loaded:
            with loading():
                time.sleep(1.0)
            loaded.append(True)
        return do(order)

    return work


def start_and_die(loading: Loading) -> Callable[[str], str]:
    os._exit(7)


def die_while_loading(loading: Loading) -> Callable[[str], str]:
    def work(order: str) -> str:
        with loading():
            os.kill(os.getpid(), signal.SIGKILL)
        return order

    return work


if __name__ == "__main__":  # a main process that a test kills; its worker writes its own id into the file
    from deocclude.batch.workers import process_items

    list(process_items([f"touch-and-sleep:{sys.argv[1]}"], start, workers=1))
