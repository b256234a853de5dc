"""The `deocclude` command in a process that is kept for many calls and watched from outside.

A call costs no start of Python and no opening of networks. Everything else is the command's own: its arguments, its
exit code, what it and the libraries below it write to stdout and stderr.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType

_START_S = 60.0  # until the networks of a new process are open


@dataclass(frozen=True)
class Ended:
    """How a call ended.

    Attributes:
        code: the exit code; None where the process died or did not end in time.
        is_late: it did not end in time.
        output: what it wrote to stdout.
        said: what it wrote to stderr.
        processor_s: processor time that it took; 0 where it did not end.
    """

    code: int | None
    is_late: bool
    output: str
    said: str
    processor_s: float


class WatchedCommand:
    """A context; `run` is a call. A process that dies or is late is replaced for the next call."""

    def __init__(self, folder: Path) -> None:
        """Take two files of a folder for stdout and stderr."""
        self._files = folder / "stdout", folder / "stderr"
        self._process: multiprocessing.process.BaseProcess | None = None
        self._link: Connection | None = None

    def __enter__(self) -> WatchedCommand:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def run(self, arguments: Sequence[str], limit_s: float) -> Ended:
        """One call of the command, in at most `limit_s` seconds without the start of the process."""
        link = self._link or self._start()
        for file in self._files:
            file.write_bytes(b"")
        link.send(list(arguments))
        code, processor_s, is_late = None, 0.0, not link.poll(limit_s)
        try:
            if not is_late:
                code, processor_s = link.recv()
        except EOFError:  # it died
            is_late = False
        if code is None:
            self._end()
        output, said = (file.read_text(errors="replace") for file in self._files)
        return Ended(code, is_late, output, said, processor_s)

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        self._link, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._files), daemon=True)
        self._process.start()
        theirs.close()
        if not self._link.poll(_START_S) or self._link.recv() != "ready":
            raise RuntimeError("the watched process does not start")
        return self._link

    def _end(self) -> None:
        if self._process is not None and self._link is not None:
            self._process.kill()
            self._process.join()
            self._link.close()
        self._process = self._link = None


def _serve(link: Connection, files: Sequence[Path]) -> None:
    """The process: calls of the command until the link closes."""
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    import deocclude
    from deocclude.cli.app import app

    deocclude.load = functools.cache(deocclude.load)  # opened by the first call alone
    deocclude.load("base", device="auto", weights_dir=None, threads=None)
    link.send("ready")
    while True:
        try:
            arguments = link.recv()
        except EOFError:
            return
        code, before_s = 0, time.process_time()
        try:
            app(arguments, prog_name="deocclude")
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except Exception:  # what the command itself would end with
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        link.send((code, time.process_time() - before_s))
