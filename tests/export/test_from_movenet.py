"""Conversion of MoveNet MultiPose, on a graph with the published interface and random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deocclude.errors import WeightsError
from deocclude.export.from_movenet import read_movenet
from deocclude.export.to_onnx import export_to_weights
from deocclude.inference.runtime import list_models, open_networks
from deocclude.models.movenet import MoveNet
from deocclude.people.detector import find_boxes


def write_source(folder: Path, network: MoveNet) -> Path:
    """The network as a TensorFlow.js graph: channels last, float16, with constants and a head of joints between."""
    rows: list[dict[str, Any]] = []
    nodes: list[dict[str, Any]] = [{"op": "Placeholder", "name": "input"}]
    content = b""

    def store(name: str, values: np.ndarray) -> str:
        nonlocal content
        row: dict[str, Any] = {"name": name, "shape": list(values.shape), "dtype": "float32"}
        if values.dtype == np.float16:
            row["quantization"] = {"dtype": "float16", "original_dtype": "float32"}
        else:
            row["dtype"] = "int32"
        rows.append(row)
        content += np.ascontiguousarray(values).tobytes()
        return name

    def add(name: str, weight: torch.Tensor, bias: torch.Tensor | None, is_depthwise: bool) -> None:
        values = weight.detach().numpy().astype(np.float16).transpose((2, 3, 0, 1) if is_depthwise else (2, 3, 1, 0))
        inputs = ["before", store(f"{name}/weights", values)]
        if bias is not None:
            inputs.append(store(f"{name}/bias", bias.detach().numpy().astype(np.float16)))
        op = "_FusedConv2D" if not is_depthwise else "DepthwiseConv2dNative"
        nodes.append({"op": op if bias is not None or is_depthwise else "_FusedConv2D", "name": name, "input": inputs})

    for number, conv in enumerate(network.convolutions()):
        store(f"shape{number}", np.array(number, np.int32))
        add(f"conv{number}", conv.weight, conv.bias, conv.groups > 1)
        if number == 3:
            add("kpt_heatmap_0/conv2d", torch.rand(17, 4, 1, 1), torch.rand(17), False)
    (folder / "net.bin").write_bytes(content)
    source = folder / "net.json"
    manifest = [{"paths": ["net.bin"], "weights": rows}]
    source.write_text(json.dumps({"modelTopology": {"node": nodes}, "weightsManifest": manifest}))
    return source


@pytest.fixture(scope="module")
def published() -> MoveNet:
    torch.manual_seed(0)
    return MoveNet().eval()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, published: MoveNet) -> Path:
    return write_source(tmp_path_factory.mktemp("movenet"), published)


def test_converted_network_has_the_published_weights_without_joints(source: Path, published: MoveNet) -> None:
    network, metadata = read_movenet(source)
    assert metadata["network"] == "movenet" and metadata["config"] == network.config.to_dict()
    assert metadata["licence"].startswith("Apache-2.0")
    for got, wanted in zip(network.convolutions(), published.convolutions(), strict=True):
        torch.testing.assert_close(got.weight, wanted.weight.half().float(), rtol=0, atol=0)


def test_exported_network_finds_boxes_in_photos_of_any_size(source: Path, tmp_path: Path) -> None:
    row = export_to_weights(source, tmp_path / "weights", model="tiny", data_note="none")
    assert row["parity"] < 1e-3 and row["data"] == "none"
    model = list_models(tmp_path / "weights")["tiny"]
    networks, _ = open_networks(model, "cpu", threads=1)
    maps = networks["people_detector"](image=np.zeros((2, 3, 64, 96), np.float32))
    assert {name: array.shape for name, array in maps.items()} == {"centre": (2, 1, 16, 24), "sides": (2, 4, 16, 24)}
    photo = np.random.default_rng(1).integers(0, 256, (70, 50, 3)).astype(np.uint8)
    found = find_boxes(networks["people_detector"], photo, model.settings.detector)
    assert all(0 <= one.box_xyxy[0] < one.box_xyxy[2] <= 50 for one in found)


def weights_of(graph: dict[str, Any]) -> list[dict[str, Any]]:
    return graph["weightsManifest"][0]["weights"]


def test_other_graphs_are_rejected(source: Path, tmp_path: Path) -> None:
    graph = json.loads(source.read_text())
    graph["modelTopology"]["node"].pop()
    (tmp_path / "net.bin").write_bytes((source.parent / "net.bin").read_bytes())
    (tmp_path / "short.json").write_text(json.dumps(graph))
    with pytest.raises(WeightsError, match=r"short.json: expected MoveNet MultiPose: MoveNet has \d+ convolutions"):
        read_movenet(tmp_path / "short.json")
    for weights, message in (
        (
            [{**row, "quantization": {"dtype": "uint8", "scale": 0.1, "min": 0}} for row in weights_of(graph)],
            "quantised",
        ),
        (["conv"], "has no attribute"),
    ):
        changed = {**graph, "weightsManifest": [{"paths": ["net.bin"], "weights": weights}]}
        (tmp_path / "changed.json").write_text(json.dumps(changed))
        with pytest.raises(WeightsError, match=rf"changed.json: expected MoveNet MultiPose: .*{message}"):
            read_movenet(tmp_path / "changed.json")
    (tmp_path / "text.json").write_text("no graph")
    with pytest.raises(WeightsError, match=r"text.json: expected MoveNet MultiPose"):
        read_movenet(tmp_path / "text.json")
    (tmp_path / "net.bin").unlink()
    with pytest.raises(WeightsError, match=r"short.json: expected MoveNet MultiPose"):
        read_movenet(tmp_path / "short.json")
