"""Log of a run: log.jsonl, and optionally the same values with pictures for TensorBoard."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

LOG_FILE = "log.jsonl"
BOARD_FOLDER = "tensorboard"  # for TensorBoard


class RunLog:
    """Writes log.jsonl and TensorBoard events; a context manager."""

    def __init__(self, out: Path, start: int, *, tensorboard: bool = False):
        """Open the log.

        Args:
            out: folder of the run.
            start: steps done so far; entries of later steps are dropped, because these steps are done again.
            tensorboard: also write TensorBoard events.
        """
        path = out / LOG_FILE
        _drop_later_steps(path, start)
        self._board = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(out / BOARD_FOLDER, purge_step=start + 1)
        self._file = path.open("a")

    def train(self, step: int, values: dict[str, float]) -> None:
        """Means since the last line: learning rate, samples per second, and each loss term."""
        self._write({"step": step} | values)
        self._scalars("train", step, values)

    def validation(self, step: int, measures: dict[str, float]) -> None:
        """Measures on held-out people."""
        self._write({"step": step, "validation": measures})
        self._scalars("validation", step, measures)

    @property
    def wants_pictures(self) -> bool:
        """Whether `pictures` may be called: TensorBoard is on."""
        return self._board is not None

    def pictures(self, step: int, pictures: dict[str, np.ndarray]) -> None:
        """Write pictures, (H, W, 3) uint8 RGB each by its name, to TensorBoard; only where `wants_pictures`."""
        for name, picture in pictures.items():
            self._board.add_image(f"pictures/{name}", picture, step, dataformats="HWC")
        self._board.flush()

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def _scalars(self, group: str, step: int, values: dict[str, float]) -> None:
        """Write values to TensorBoard, if it is on."""
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{group}/{name}", value, step)
            self._board.flush()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()


def _drop_later_steps(path: Path, until: int) -> None:
    """Drop the lines of steps after `until`, and an incomplete last line of a killed process."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text().splitlines(keepends=True):
        try:
            if json.loads(line)["step"] <= until:
                kept.append(line)
        except ValueError:
            break
    part = path.with_name(path.name + ".tmp")
    part.write_text("".join(kept))
    os.replace(part, path)
