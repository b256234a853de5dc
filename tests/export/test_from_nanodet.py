"""Conversion of NanoDet-g, on a network with its interface and a few weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deocclude.errors import WeightsError
from deocclude.export.from_nanodet import INPUT_PX, SIZES_PX, convert, convert_to_weights
from deocclude.inference.runtime import list_models, open_networks
from deocclude.people.box_decoding import STRIDES
from deocclude.people.detector import find_boxes

CLASSES, DISTANCES = 80, 44


def write_source(path: Path, classes: int = CLASSES) -> Path:
    """An ONNX file with NanoDet-g's input, heads and outputs."""
    rng = np.random.default_rng(0)
    weights: dict[str, np.ndarray] = {"split": np.array([classes, DISTANCES], np.int64)}
    weights["w0"] = rng.normal(0, 0.5, (6, 3, 1, 1)).astype(np.float16).astype(np.float32)
    nodes, outputs = [helper.make_node("Conv", ["input", "w0"], ["stem"])], []
    for stride in STRIDES:
        w = rng.normal(0, 0.05, (6, 6, stride, stride)).astype(np.float16).astype(np.float32)
        head = rng.normal(0, 1, (classes + DISTANCES, 6, 1, 1)).astype(np.float16).astype(np.float32)
        weights |= {
            f"w{stride}": w,
            f"h{stride}": head,
            f"b{stride}": np.linspace(-2, 1, classes + DISTANCES).astype("f"),
        }
        weights |= {f"s{stride}": np.array([1, classes, -1]), f"d{stride}": np.array([1, DISTANCES, -1])}
        nodes += [
            helper.make_node("Conv", ["stem", f"w{stride}"], [f"f{stride}"], strides=[stride, stride]),
            helper.make_node("Conv", [f"f{stride}", f"h{stride}", f"b{stride}"], [f"o{stride}"]),
            helper.make_node("Split", [f"o{stride}", "split"], [f"c{stride}", f"r{stride}"], axis=1),
            helper.make_node("Sigmoid", [f"c{stride}"], [f"p{stride}"]),
        ]
        for kind, flat, shape in (("p", "cls", f"s{stride}"), ("r", "dis", f"d{stride}")):
            nodes.append(helper.make_node("Reshape", [f"{kind}{stride}", shape], [f"flat_{kind}{stride}"]))
            nodes.append(helper.make_node("Transpose", [f"flat_{kind}{stride}"], [f"{flat}{stride}"], perm=[0, 2, 1]))
            cells = (INPUT_PX // stride) ** 2
            shape_out = [1, cells, classes if kind == "p" else DISTANCES]
            outputs.append(helper.make_tensor_value_info(f"{flat}{stride}", TensorProto.FLOAT, shape_out))
    graph = helper.make_graph(
        nodes, "source", [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, INPUT_PX, INPUT_PX])],
        outputs, [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_converted_network_matches_the_source_at_any_size(tmp_path: Path) -> None:
    row = convert_to_weights(write_source(tmp_path / "source.onnx"), tmp_path / "weights", model="tiny")
    assert row["parity"] < 1e-4 and "safetensors" not in row
    model = list_models(tmp_path / "weights")["tiny"]
    assert (model.settings.detector.size_px, model.settings.detector.second_size_px) == SIZES_PX
    networks, _ = open_networks(model, "cpu", threads=1)
    maps = networks["people_detector"](image=np.zeros((2, 3, 64, 96), np.float32))
    assert {name: array.shape for name, array in maps.items()} == {
        f"{name}_{stride}": (2, channels, 64 // stride, 96 // stride)
        for stride in STRIDES for name, channels in (("scores", 1), ("distances", DISTANCES))
    }  # fmt: skip
    photo = np.random.default_rng(1).integers(0, 256, (70, 50, 3)).astype(np.uint8)
    found = find_boxes(networks["people_detector"], photo, model.settings.detector)
    assert found and all(0 <= one.box_xyxy[0] < one.box_xyxy[2] <= 50 for one in found)


def test_other_network_is_rejected_and_leaves_no_files(tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    with pytest.raises(WeightsError, match="expected NanoDet-g with 3 heads of 124, found 0"):
        convert_to_weights(write_source(tmp_path / "other.onnx", classes=20), folder)
    assert not list(folder.iterdir())
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(WeightsError, match="not an ONNX file"):
        convert(tmp_path / "text.onnx", tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()
