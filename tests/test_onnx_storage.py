"""Weights in half the space: the same numbers come back, and only where they do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from deocclude.onnx_storage import halve_losslessly

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


def test_what_float16_holds_takes_half_the_space_and_computes_the_same(tmp_path: Path) -> None:
    path = product(tmp_path / "net.onnx", EXACT)
    x = np.random.default_rng(1).normal(size=(1, 64)).astype(np.float32)
    before, size = computed(path, x), path.stat().st_size
    halve_losslessly(path)
    assert path.stat().st_size < 0.6 * size
    np.testing.assert_array_equal(computed(path, x), before)


@pytest.mark.parametrize(
    "weights", [INEXACT, np.full((64, 64), 1e6, np.float32), EXACT[:8, :8]], ids=["rounded", "too large", "small"]
)
def test_other_numbers_stay_as_they_are(tmp_path: Path, weights: np.ndarray) -> None:
    path = product(tmp_path / "net.onnx", weights)
    halve_losslessly(path)
    (kept,) = onnx.load(str(path)).graph.initializer
    assert kept.name == "w"
    np.testing.assert_array_equal(numpy_helper.to_array(kept), weights)
