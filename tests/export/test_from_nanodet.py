"""Conversion of NanoDet-g, on a network with the published interface and random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deocclude.errors import WeightsError
from deocclude.export.from_nanodet import INPUT_PX, read_nanodet
from deocclude.export.to_onnx import export_to_weights
from deocclude.inference.runtime import list_models, open_networks
from deocclude.inference.settings import NANODET
from deocclude.models.nanodet import NanoDet
from deocclude.people.box_decoding import STRIDES
from deocclude.people.detector import find_boxes

CLASSES, DISTANCES = 80, 44


class Published(nn.Module):
    """NanoDet with the classes, input and outputs of the published file: normalised BGR in, flat maps out."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.classes, self.network = classes, NanoDet()
        self.network.mean.zero_()
        self.network.std.fill_(1.0)
        for head in self.network.heads:
            head[1] = nn.Conv2d(self.network.config.pyramid_width, classes + DISTANCES, 1)
        for conv in self.network.convolutions():
            conv.weight.data = conv.weight.data.half().float()

    def forward(self, bgr: Tensor) -> tuple[Tensor, ...]:
        outputs: list[Tensor] = []
        for head, x in zip(self.network.heads, self.network.pyramid(bgr), strict=True):
            flat = head(x).flatten(2).transpose(1, 2)
            outputs += [torch.sigmoid(flat[..., : self.classes]), flat[..., self.classes :]]
        return tuple(outputs)


def write_source(path: Path, classes: int = CLASSES) -> Path:
    bgr = torch.zeros(1, 3, INPUT_PX, INPUT_PX)
    torch.onnx.export(
        Published(classes).eval(), (bgr,), str(path), dynamo=True, external_data=False, verbose=False
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_source(tmp_path_factory.mktemp("nanodet") / "source.onnx")


def test_converted_network_turns_bgr_and_keeps_the_person(source: Path) -> None:
    network, metadata = read_nanodet(source)
    assert metadata["network"] == "nanodet" and metadata["config"] == network.config.to_dict()
    published = Published().network
    torch.testing.assert_close(network.stem[0].weight, published.stem[0].weight[:, [2, 1, 0]])
    torch.testing.assert_close(network.heads[1][1].weight[0], published.heads[1][1].weight[0])
    torch.testing.assert_close(network.heads[1][1].weight[1:], published.heads[1][1].weight[CLASSES:])


def test_exported_network_finds_boxes_in_photos_of_any_size(source: Path, tmp_path: Path) -> None:
    row = export_to_weights(source, tmp_path / "weights", model="tiny", data_note="none")
    assert row["parity"] < 1e-4 and row["licence"].startswith("Apache-2.0") and row["data"] == "none"
    assert (tmp_path / "weights" / row["safetensors"]).is_file()
    model = list_models(tmp_path / "weights")["tiny"]
    assert model.settings.detector == NANODET
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
    with pytest.raises(WeightsError, match="expected NanoDet-g: convolution 30 of NanoDet is"):
        export_to_weights(write_source(tmp_path / "other.onnx", classes=20), folder)
    assert not folder.exists()
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(WeightsError, match="not an ONNX file"):
        read_nanodet(tmp_path / "text.onnx")
