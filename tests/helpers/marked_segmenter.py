"""A segmenter that a spawned process can import: a photo's first pixel tells it to die, to take long, or to work."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np

MARKS = {"kill": (1, 0, 0), "sleep": (2, 0, 0), "half-written-once": (3, 0, 0), "wait-for-a-killer": (4, 0, 0)}
"""What a photo does: its first pixel, RGB."""


class MarkedSegmenter:
    """Finds one person in every photo without a mark.

    calls_path: a file that gets a line for each call.
    out: the folder that a photo marked "half-written-once" leaves a temporary file in, and where one marked
        "wait-for-a-killer" writes its process's id once, to sleep until that process is killed.
    """

    def __init__(self, calls_path: Path | None = None, out: Path | None = None) -> None:
        self.calls_path, self.out = calls_path, out

    @property
    def calls(self) -> int:
        """The number of calls in all processes."""
        return len(self.calls_path.read_text().splitlines()) if self.calls_path and self.calls_path.exists() else 0

    def __call__(self, image: np.ndarray) -> list[np.ndarray]:
        if self.calls_path is not None:
            with open(self.calls_path, "a") as file:
                file.write("call\n")
        mark = tuple(int(value) for value in image[0, 0])
        if mark == MARKS["sleep"]:
            time.sleep(600)
        if mark == MARKS["half-written-once"] and self.out is not None and self.calls == 1:
            self.out.mkdir(parents=True, exist_ok=True)
            (self.out / ".deocclude-0123abcd.tmp").write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        if mark == MARKS["wait-for-a-killer"] and self.out is not None and not (self.out / "pid").exists():
            (self.out / "begun").write_text(str(os.getpid()))
            (self.out / "begun").rename(self.out / "pid")
            time.sleep(600)
        if mark == MARKS["kill"]:
            os.kill(os.getpid(), signal.SIGKILL)
        mask = np.zeros(image.shape[:2], bool)
        mask[125:270, 265:375] = True
        return [mask]
