"""Weights in half the space: the same numbers come back, and only where they do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from deocclude.export.float16 import halve_losslessly
from deocclude.export.to_onnx import export_onnx, halve
from deocclude.models.mask_completion import MaskCompletionConfig, MaskCompletionNet

EXACT = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float16).astype(np.float32)
INEXACT = EXACT + np.float32(1e-6)


def product(path: Path, weights: np.ndarray) -> Path:
    """x @ weights as a file."""
    rows, columns = weights.shape
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, rows])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, columns])],
        [numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(path))
    return path


def computed(path: Path, x: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(str(path)).run(None, {"x": x})[0]


def test_exact_float16_weights_are_halved_without_change(tmp_path: Path) -> None:
    path = product(tmp_path / "net.onnx", EXACT)
    x = np.random.default_rng(1).normal(size=(1, 64)).astype(np.float32)
    before, size = computed(path, x), path.stat().st_size
    halve_losslessly(path)
    assert path.stat().st_size < 0.6 * size
    np.testing.assert_array_equal(computed(path, x), before)


@pytest.mark.parametrize(
    "weights", [INEXACT, np.full((64, 64), 1e6, np.float32), EXACT[:8, :8]], ids=["rounded", "too large", "small"]
)
def test_inexact_or_small_weights_stay_float32(tmp_path: Path, weights: np.ndarray) -> None:
    path = product(tmp_path / "net.onnx", weights)
    halve_losslessly(path)
    (kept,) = onnx.load(str(path)).graph.initializer
    assert kept.name == "w"
    np.testing.assert_array_equal(numpy_helper.to_array(kept), weights)


def test_batch_norms_stay_unfused_so_weights_can_be_halved(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"stem_width": 16, "widths": (32, 64), "head_width": 16, "templates": 4, "template_channels": 8}
    config = MaskCompletionConfig(hourglasses=1, **sizes)  # exporting takes time by the number of layers
    network = MaskCompletionNet(config).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)  # folded into the weights, these could not be halved
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    network.load_state_dict(halve(network.state_dict()))
    path = tmp_path / "net.onnx"
    assert export_onnx(network, path, 64) < 1e-4
    graph = onnx.load(str(path)).graph
    whole = [t.name for t in graph.initializer if t.data_type == TensorProto.FLOAT and np.prod(t.dims) >= 4096]
    assert not whole, "every large weight is kept in half the space"
    kinds = {node.op_type for node in graph.node}
    assert "BatchNormalization" in kinds and not {"Constant", "CastLike", "Identity"} & kinds
