"""Shared fixtures: tiny networks in a weights folder, and a person drawn by code. No files from outside, no network."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from deocclude.pipeline import Deoccluder, load
from deocclude.types import PARSING_NAMES
from hf_models import TINY, tiny_swin

# A shell gives its background jobs an ignored interrupt, and they pass it on to what they start: tests that interrupt
# would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A test's tier, by its folder or file: what needs torch, what follows a documentation page command by command, and what
# runs whole photos.
TIERS = {
    "torch": ("ablation", "checkpoints", "evaluation", "export", "models", "train"),
    "docs": ("docs", "examples"),
    "slow": (
        "batch", "cli", "data", "scale", "serve", "test_pipeline.py", "imaging/test_truncation.py",
        "inference/test_shipped_weights.py", "inference/test_occlusion_probability.py", "people/test_detector.py",
        "people/test_hf_segmenter.py", "serve/studio/test_browser.py",
    ),
}  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test with its tier; `make test-fast` leaves all three out."""
    root = Path(__file__).parent
    for item in items:
        path = item.path.relative_to(root)
        for tier, places in TIERS.items():
            if path.parts[0] in places or path.as_posix() in places:
                item.add_marker(tier)


REACH_PX = 20  # how far the tiny mask network grows a mask, in crop pixels
SURE = 0.9  # the probability that it gives


@dataclass(frozen=True)
class DrawnPerson:
    """A drawn photo with one person behind a bar. photo: (480, 640, 3) uint8; masks: (480, 640) bool."""

    photo: np.ndarray
    visible: np.ndarray
    amodal: np.ndarray


@pytest.fixture(autouse=True)
def network_wish() -> Iterator[None]:
    """`--offline` sets environment variables: they end with the test."""
    names = ("DEOCCLUDE_OFFLINE", "HF_HUB_OFFLINE")
    before = {name: os.environ[name] for name in names if name in os.environ}
    yield
    for name in names:
        os.environ.pop(name, None)
    os.environ.update(before)


@pytest.fixture(scope="session")
def person() -> DrawnPerson:
    """A standing person whose hips a green bar hides; the shirt is red, so that recovered colours can be told."""
    body = Image.new("L", (640, 480), 0)
    draw = ImageDraw.Draw(body)
    draw.ellipse((290, 60, 350, 130), fill=255)
    draw.rectangle((265, 125, 375, 270), fill=255)
    draw.rectangle((270, 270, 312, 430), fill=255)
    draw.rectangle((328, 270, 370, 430), fill=255)
    amodal = np.asarray(body) > 0
    rows, columns = np.mgrid[:480, :640]
    photo = np.stack([columns // 4, rows // 4, np.full_like(rows, 90)], axis=-1).astype(np.uint8)
    photo[amodal] = (200, 30, 40)
    bar = (rows >= 230) & (rows < 250)
    photo[bar] = (20, 220, 30)
    return DrawnPerson(photo, amodal & ~bar, amodal)


@pytest.fixture(scope="session")
def weights_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights folder whose model "base" has tiny stand-ins of both networks, with the real names and shapes.

    mask_completion: visible is the initial mask, amodal that mask grown by REACH_PX, every body pixel upper_clothes.
    content_recovery: the mean colour of the visible pixels everywhere.
    """
    folder = tmp_path_factory.mktemp("weights")
    rows = {}
    for name, model in (("mask_completion", _tiny_mask_completion()), ("content_recovery", _tiny_content_recovery())):
        content = model.SerializeToString()
        (folder / f"{name}_base.onnx").write_bytes(content)
        rows[name] = {
            "onnx": f"{name}_base.onnx",
            "safetensors": f"{name}_base.safetensors",
            "sha256": {"onnx": hashlib.sha256(content).hexdigest(), "safetensors": "0" * 64},
            "parameters": 0,
            "figures": {},
        }
    base = {"input_size": 256, "licence": "none", "data": "none", "networks": rows}
    manifest = {"format": 1, "parsing_names": list(PARSING_NAMES), "models": {"base": base}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="session")
def finding_weights_dir(weights_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a people detector: red pixels are people, each with a box of 6 x 10 cells."""
    folder = tmp_path_factory.mktemp("finding") / "weights"
    shutil.copytree(weights_dir, folder)
    content = _tiny_people_detector().SerializeToString()
    (folder / "people_detector_base.onnx").write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["models"]["base"]["networks"]["people_detector"] = {
        "onnx": "people_detector_base.onnx", "safetensors": "people_detector_base.safetensors", "size_px": 384,
        "sha256": {"onnx": hashlib.sha256(content).hexdigest(), "safetensors": "0" * 64}, "parameters": 0,
        "figures": {}, "min_score": 0.5,
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="session")
def pipe(weights_dir: Path) -> Deoccluder:
    """A Deoccluder on the tiny networks."""
    return load("base", device="cpu", weights_dir=weights_dir, threads=1)


@pytest.fixture(scope="session")
def hf_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny Mask2Former of random weights that calls most of what it sees a person, the rest a dog."""
    import torch
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation
    from transformers.models.mask2former.image_processing_pil_mask2former import Mask2FormerImageProcessorPil

    folder = tmp_path_factory.mktemp("mask2former")
    config = Mask2FormerConfig(
        backbone_config=tiny_swin(),
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        **TINY,
        id2label={0: "Person", 1: "dog"},
        label2id={"Person": 0, "dog": 1},
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Mask2FormerForUniversalSegmentation(config)
    with torch.no_grad():
        network.class_predictor.bias.copy_(torch.tensor([3.0, 0.0, 0.0]))  # person, dog, nothing
    network.save_pretrained(folder)
    Mask2FormerImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def _tiny_mask_completion():
    from onnx import TensorProto, helper, numpy_helper

    size = 2 * REACH_PX + 1
    nodes = [
        helper.make_node("MaxPool", ["initial"], ["grown"], kernel_shape=[size, size], pads=[REACH_PX] * 4),
        helper.make_node("Mul", ["initial", "sure"], ["visible"]),
        helper.make_node("Mul", ["grown", "sure"], ["amodal"]),
    ]
    for kind in ("visible", "amodal"):
        nodes += [
            helper.make_node("AveragePool", [kind], [f"{kind}_small"], kernel_shape=[4, 4], strides=[4, 4]),
            # 1 x 1 convolution: background is 1 - p, part 6 is p, the others are 0.
            helper.make_node("Conv", [f"{kind}_small", "part_weight", "part_bias"], [f"{kind}_parsing"]),
        ]
    weight = np.zeros((12, 1, 1, 1), np.float32)
    weight[[0, 6], 0] = [[[-1]], [[1]]]
    constants = {
        "sure": np.float32(SURE),
        "part_weight": weight,
        "part_bias": np.eye(12, dtype=np.float32)[0],
    }
    inputs = [("image", [None, 3, 256, 256]), ("initial", [None, 1, 256, 256])]
    outputs = [(name, [None, 1, 256, 256]) for name in ("visible", "amodal")]
    outputs += [(f"{name}_parsing", [None, 12, 64, 64]) for name in ("visible", "amodal")]

    def describe(items):
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in items]

    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    return _model(helper.make_graph(nodes, "mask_completion", describe(inputs), describe(outputs), stored))


def _tiny_people_detector():
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("AveragePool", ["image"], ["cells"], kernel_shape=[8, 8], strides=[8, 8]),
        # the shirt is red: twice the red less green and blue, which is above 1 for it alone
        helper.make_node("Conv", ["cells", "red_weight", "red_bias"], ["red"]),
        helper.make_node("Clip", ["red", "zero", "one"], ["mask"]),
        # the mean over the neighbourhood has its peak inside the body
        helper.make_node("AveragePool", ["mask"], ["centre"], kernel_shape=[7, 7], pads=[3] * 4),
        helper.make_node("Conv", ["cells", "side_weight", "side_bias"], ["sides"]),
    ]
    constants = {
        "red_weight": 8 * np.array([2, -1, -1], np.float32).reshape(1, 3, 1, 1),
        "red_bias": np.array([-8], np.float32),
        "zero": np.float32(0), "one": np.float32(1),
        "side_weight": np.zeros((4, 3, 1, 1), np.float32),
        "side_bias": np.array([3, 5, 3, 5], np.float32),
    }  # fmt: skip

    def describe(items):
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in items]

    inputs = describe([("image", ["b", 3, "h", "w"])])
    outputs = describe([(n, ["b", c, "y", "x"]) for n, c in (("centre", 1), ("sides", 4), ("mask", 1))])
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    return _model(helper.make_graph(nodes, "people_detector", inputs, outputs, stored))


def _tiny_content_recovery():
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Mul", ["image", "visible"], ["seen"]),
        helper.make_node("ReduceSum", ["seen", "axes"], ["total"], keepdims=1),
        helper.make_node("ReduceSum", ["visible", "axes"], ["count"], keepdims=1),
        helper.make_node("Max", ["count", "one"], ["count_safe"]),
        helper.make_node("Div", ["total", "count_safe"], ["mean"]),
        helper.make_node("Shape", ["image"], ["shape"]),
        helper.make_node("Expand", ["mean", "shape"], ["content"]),
    ]
    shapes = {
        "image": [None, 3, 256, 256],
        "visible": [None, 1, 256, 256],
        "amodal": [None, 1, 256, 256],
        "visible_parsing": [None, 12, 64, 64],
        "amodal_parsing": [None, 12, 64, 64],
    }
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    outputs = [helper.make_tensor_value_info("content", TensorProto.FLOAT, [None, 3, 256, 256])]
    stored = [
        numpy_helper.from_array(np.array([2, 3], np.int64), "axes"),
        numpy_helper.from_array(np.float32(1).reshape(()), "one"),
    ]
    return _model(helper.make_graph(nodes, "content_recovery", inputs, outputs, stored))


def _model(graph):
    from onnx import checker, helper

    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    return model
