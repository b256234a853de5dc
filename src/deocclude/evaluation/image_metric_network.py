"""Networks of perceptual metrics, from files that the user provides: features of one image, distance of two."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deocclude.errors import MissingExtraError, WeightsError, first_line

Picture = NDArray[np.uint8]
Run = Callable[[list[NDArray[np.float32]]], NDArray]  # images, (1, 3, H, W) in [0, 1] -> the network's first output

_ONNX = (".onnx",)
_TORCHSCRIPT = (".pt", ".pth", ".torchscript", ".ts")


class ImageMetricNetwork:
    """A network that maps RGB images, each (1, 3, H, W) float32 in [0, 1], to one array.

    The network itself does any resizing or normalisation. It runs on the CPU, so that results do not depend on a GPU.

    Attributes:
        path: of the file.
        sha256: of the file; values compare only with those of the same file.
    """

    def __init__(self, path: Path, sha256: str, run: Run) -> None:
        self.path = path
        self.sha256 = sha256
        self._run = run

    @classmethod
    def open(cls, path: str | Path, *, pictures: int, size_px: int) -> ImageMetricNetwork:
        """Read an ONNX (.onnx) or TorchScript (.pt, .pth, .ts, .torchscript) file and run it once.

        Args:
            path: of the file.
            pictures: number of input images.
            size_px: side of the test images.

        Raises:
            WeightsError: the file is missing, of another kind, or does not run on the test images.
            MissingExtraError: a TorchScript file without torch.
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
        """The output for images (H, W, 3) uint8 RGB, as one row (D,). Raises WeightsError if it does not run."""
        inputs = [np.ascontiguousarray(p.transpose(2, 0, 1)[None], dtype=np.float32) / 255.0 for p in pictures]
        try:
            output = self._run(inputs)
        except Exception as error:  # errors of ONNX Runtime and TorchScript have no common base class
            reason = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            raise WeightsError(
                f"{self.path}: does not run on {len(inputs)} x {inputs[0].shape} float32: {reason[-1].strip()}"
            ) from error
        row = np.asarray(output, np.float64)
        if row.size == 0 or row.size != max(row.shape, default=1) or not np.isfinite(row).all():
            raise WeightsError(f"{self.path}: expected one row of finite numbers, got an array {row.shape}")
        return row.reshape(-1)


def _read_onnx(content: bytes, path: Path) -> Run:
    """Open an ONNX network. Raises WeightsError if ONNX Runtime cannot."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # log errors only
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # errors of ONNX Runtime have no common base class
        raise WeightsError(f"{path}: ONNX Runtime cannot load it: {first_line(error)}") from error
    names = [value.name for value in session.get_inputs()]

    def run(inputs: list[NDArray[np.float32]]) -> NDArray:
        if len(names) != len(inputs):
            raise ValueError(f"the network has {len(names)} inputs")
        return session.run(None, dict(zip(names, inputs, strict=True)))[0]

    return run


def _read_torchscript(content: bytes, path: Path) -> Run:
    """Open a TorchScript network. Raises MissingExtraError without torch, WeightsError for another file."""
    try:
        import torch
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{path.name}, a TorchScript file,", "train") from error
    try:
        module = torch.jit.load(io.BytesIO(content), map_location="cpu").eval()
    except RuntimeError as error:
        raise WeightsError(f"{path}: not a TorchScript file: {first_line(error)}") from error

    def run(inputs: list[NDArray[np.float32]]) -> NDArray:
        with torch.inference_mode():
            return module(*map(torch.from_numpy, inputs)).float().numpy()

    return run
