"""Networks of perceptual metrics from ONNX and TorchScript files, and one-line errors for invalid files."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from deocclude.errors import MissingExtraError, WeightsError
from deocclude.evaluation.image_metric_network import ImageMetricNetwork
from tiny_metrics import save_channel_means, save_mean_distance

RED = np.full((8, 8, 3), (255, 51, 0), np.uint8)


@pytest.mark.parametrize("ending", ["onnx", "pt", "ts", "torchscript"])
def test_onnx_and_torchscript_give_the_same_result(tmp_path: Path, ending: str) -> None:
    means = ImageMetricNetwork.open(save_channel_means(tmp_path / f"means.{ending}"), pictures=1, size_px=8)
    np.testing.assert_allclose(means(RED), [1.0, 0.2, 0.0], atol=1e-6)
    distance = ImageMetricNetwork.open(save_mean_distance(tmp_path / f"distance.{ending}"), pictures=2, size_px=8)
    np.testing.assert_allclose(distance(RED, np.zeros_like(RED)), [0.4], atol=1e-6)
    assert len(means.sha256) == 64 and means.sha256 != distance.sha256


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nowhere.onnx", None, "cannot read the network: No such file"),
        ("weights.safetensors", b"x", "expected an ONNX or a TorchScript file, .onnx, .pt, .pth, .torchscript, .ts"),
        ("broken.onnx", b"x", "ONNX Runtime cannot load it"),
        ("broken.pt", b"x", "not a TorchScript file"),
    ],
)
def test_invalid_network_files_are_rejected(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=message) as caught:
        ImageMetricNetwork.open(tmp_path / name, pictures=1, size_px=8)
    assert name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", ["onnx", "pt"])
def test_network_with_wrong_number_of_inputs_is_rejected(tmp_path: Path, ending: str) -> None:
    path = save_mean_distance(tmp_path / f"distance.{ending}")
    with pytest.raises(WeightsError, match=rf"distance.{ending}: does not run on 1 x \(1, 3, 8, 8\)") as caught:
        ImageMetricNetwork.open(path, pictures=1, size_px=8)
    assert "\n" not in str(caught.value)


def test_network_with_invalid_output_is_rejected(tmp_path: Path) -> None:
    import torch

    for name, function in (
        ("map.pt", lambda picture: picture * 2),
        ("nan.pt", lambda picture: picture.mean((2, 3)) / 0),
    ):
        torch.jit.trace(function, torch.ones(1, 3, 8, 8)).save(str(tmp_path / name))
        with pytest.raises(WeightsError, match=f"{name}: expected one row of finite numbers"):
            ImageMetricNetwork.open(tmp_path / name, pictures=1, size_px=8)


def test_torchscript_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_channel_means(tmp_path / "means.pt")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r'means.pt.*pip install "deocclude\[train\]"'):
        ImageMetricNetwork.open(path, pictures=1, size_px=8)
