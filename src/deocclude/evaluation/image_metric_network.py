"""Networks that judge pictures, read from files of the user's: features of one picture, or the distance of two."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deocclude.errors import MissingExtraError, WeightsError

Picture = NDArray[np.uint8]
Run = Callable[[list[NDArray[np.float32]]], NDArray]

_ONNX = (".onnx",)
_TORCHSCRIPT = (".pt", ".pth", ".torchscript", ".ts")


class PictureNetwork:
    """A network that takes RGB pictures, each (1, 3, H, W) float32 in [0, 1], and gives one array.

    Whatever else it expects of its input (a size, a mean, a range of 255) is its own to do. It runs on the CPU, so that
    a figure does not hang on the machine. file, sha256: what to name beside the figures, which compare only with those
    of the same file.
    """

    def __init__(self, path: Path, sha256: str, run: Run) -> None:
        self.path = path
        self.sha256 = sha256
        self._run = run

    @classmethod
    def open(cls, path: str | Path, *, pictures: int, size_px: int) -> PictureNetwork:
        """Read an ONNX (.onnx) or TorchScript (.pt, .pth, .ts, .torchscript) file of so many inputs, and try it once.

        Raises:
            WeightsError: the file is missing, of another kind, or does not run on pictures of size_px a side.
            MissingExtraError: a TorchScript file, and no torch.
        """
        path = Path(path)
        readers = dict.fromkeys(_ONNX, _read_onnx) | dict.fromkeys(_TORCHSCRIPT, _read_torchscript)
        reader = readers.get(path.suffix.lower())
        if reader is None:
            raise WeightsError(f"{path}: expected an ONNX or a TorchScript file, {', '.join(readers)}")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise WeightsError(f"{path}: cannot read the network: {error.strerror or error}") from error
        network = cls(path, hashlib.sha256(content).hexdigest(), reader(content, path))
        network(*[np.zeros((size_px, size_px, 3), np.uint8)] * pictures)
        return network

    def __call__(self, *pictures: Picture) -> NDArray[np.float64]:
        """The network's numbers for (H, W, 3) uint8 RGB pictures, as one (D,) row. Raises WeightsError."""
        inputs = [np.ascontiguousarray(p.transpose(2, 0, 1)[None], dtype=np.float32) / 255.0 for p in pictures]
        try:
            output = self._run(inputs)
        except Exception as error:  # neither ONNX Runtime's nor TorchScript's errors have a common base
            reason = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            raise WeightsError(
                f"{self.path}: does not run on {len(inputs)} x {inputs[0].shape} float32: {reason[-1].strip()}"
            ) from error
        row = np.asarray(output, np.float64)
        if row.size == 0 or row.size != max(row.shape, default=1) or not np.isfinite(row).all():
            raise WeightsError(f"{self.path}: expected a row of finite numbers a picture, got an array {row.shape}")
        return row.reshape(-1)


def _read_onnx(content: bytes, path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        raise WeightsError(f"{path}: ONNX Runtime cannot load it: {str(error).splitlines()[0]}") from error
    names = [given.name for given in session.get_inputs()]

    def run(inputs: list[NDArray[np.float32]]) -> NDArray:
        if len(names) != len(inputs):
            raise ValueError(f"it has {len(names)} inputs")
        return session.run(None, dict(zip(names, inputs, strict=True)))[0]

    return run


def _read_torchscript(content: bytes, path: Path) -> Run:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{path.name}, a TorchScript file,", "train") from error
    try:
        module = torch.jit.load(io.BytesIO(content), map_location="cpu").eval()
    except RuntimeError as error:
        raise WeightsError(f"{path}: not a TorchScript file: {str(error).splitlines()[0]}") from error

    def run(inputs: list[NDArray[np.float32]]) -> NDArray:
        with torch.inference_mode():
            return module(*map(torch.from_numpy, inputs)).float().numpy()

    return run
