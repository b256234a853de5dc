"""int8 convolutions: which ones, how near to float, and what is left as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from deocclude.errors import UsageError
from deocclude.export.float16 import halve_losslessly, simplify
from deocclude.export.int8 import quantize_convolutions
from deocclude.export.to_onnx import OPSET, halve


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(4, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1, groups=32), nn.ReLU(),
        nn.Conv2d(32, 32, 1), nn.ReLU(),
        nn.Conv2d(32, 1, 3, padding=1), nn.Sigmoid(),
    )  # fmt: skip
    for one in network:
        if isinstance(one, nn.BatchNorm2d):
            nn.init.uniform_(one.running_var, 0.5, 2.0)
            nn.init.uniform_(one.running_mean, -0.2, 0.2)
            nn.init.uniform_(one.weight, 0.5, 2.0)
    return network.eval()


def export(network: nn.Module, path: Path) -> Path:
    """As `export.to_onnx` stores a network: batch norms apart, constants of float16."""
    side = torch.export.Dim("side", min=8, max=64)
    program = torch.onnx.export(
        network.eval(), (torch.rand(1, 4, 32, 32),), input_names=["image"], dynamo=True, opset_version=OPSET,
        dynamic_shapes=({2: side, 3: side},), verbose=False, optimize=False,
    )  # fmt: skip
    simplify(program.model)
    program.save(str(path), external_data=False)
    halve_losslessly(path)
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = small_network()
    network.load_state_dict(halve(network.state_dict()))
    return export(network, tmp_path_factory.mktemp("float") / "network.onnx")


def examples(count: int, size_px: int = 32) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(count)
    return [{"image": rng.random((1, 4, size_px, size_px), np.float32)} for _ in range(count)]


def run(path: Path, inputs: dict[str, np.ndarray]) -> np.ndarray:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, inputs)[0]


def test_large_dense_convolutions_alone_are_int8(exported, tmp_path):
    before = exported.read_bytes()
    count = quantize_convolutions(exported, tmp_path / "int8.onnx", examples(4))
    assert count == 2, "the second and the last one"
    assert exported.read_bytes() == before
    model = onnx.load(str(tmp_path / "int8.onnx"))
    int8 = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.INT8 and tensor.dims]
    weights = [onnx.numpy_helper.to_array(tensor) for tensor in int8 if len(tensor.dims) == 4]
    assert sorted(weight.shape for weight in weights) == [(1, 32, 3, 3), (32, 32, 3, 3)]
    assert max(np.abs(weight).max() for weight in weights) <= 64, "7 bits: two products fit into 16"
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    assert len(norms) == 1, "that of the int8 convolution is folded, the first one stays"


def test_result_is_near_at_other_sizes_too(exported, tmp_path):
    quantize_convolutions(exported, tmp_path / "int8.onnx", examples(4))
    for size_px in (32, 48):
        (inputs,) = examples(1, size_px)
        expected = run(exported, inputs)
        found = run(tmp_path / "int8.onnx", inputs)
        assert 0 < np.abs(found - expected).max() < 0.1 * np.ptp(expected) + 0.01


def test_file_is_replaced_in_place_once(exported, tmp_path):
    path = tmp_path / "network.onnx"
    path.write_bytes(exported.read_bytes())
    quantize_convolutions(path, path, examples(2))
    after = path.read_bytes()
    with pytest.raises(UsageError, match="int8 already"):
        quantize_convolutions(path, path, examples(2))
    assert path.read_bytes() == after and [one.name for one in tmp_path.iterdir()] == ["network.onnx"]


def test_network_without_large_convolutions_is_refused(tmp_path):
    path = tmp_path / "thin.onnx"
    export(nn.Conv2d(4, 8, 3), path)
    with pytest.raises(UsageError, match="no convolution"):
        quantize_convolutions(path, path, examples(1))
