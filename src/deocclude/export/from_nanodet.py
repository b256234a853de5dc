"""The published weights of NanoDet-g as a network of this project.

NanoDet (RangiLyu/nanodet, Apache-2.0) finds 80 COCO classes; the person's is kept. `configs/people_detector.sh` fetches
the weights and calls this module with their ONNX form.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper

from deocclude.errors import DeoccludeError, WeightsError, first_line
from deocclude.models.nanodet import MEAN_RGB, STD_RGB, NanoDet
from deocclude.people.box_decoding import STRIDES

INPUT_PX = 416  # side of the source's fixed input
LICENCE = "Apache-2.0 (RangiLyu/nanodet)"
_CLASSES, _PERSON = 80, 0  # classes of COCO, and the person's index
_PARITY = 1e-4  # largest difference allowed, of scores and of logits of distances


def read_nanodet(source: Path) -> tuple[NanoDet, dict[str, Any]]:
    """NanoDet-g with the published weights, and the metadata of a weights file.

    Args:
        source: the ONNX file that tf2onnx writes of the published weights.

    Raises:
        WeightsError: the source is another network.
        DeoccludeError: an output differs by more than 1e-4 from the source's.
    """
    graph = _fused(source).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    network = NanoDet().eval()
    try:
        convolutions = [
            _for_rgb_and_person(*(stored[name] for name in node.input[1:3]), network.config.bins)
            for node in graph.node if node.op_type == "Conv"
        ]  # fmt: skip
        network.load_convolutions(convolutions)
        difference = _largest_difference(source, network)
    except (ValueError, TypeError, KeyError) as error:
        raise WeightsError(f"{source}: expected NanoDet-g: {' '.join(str(error).split())}") from error
    if difference > _PARITY:
        raise DeoccludeError(f"{source}: an output differs from torch by {difference:.2g}, allowed is {_PARITY}")
    return network, {"network": NanoDet.network_name, "config": network.config.to_dict(), "licence": LICENCE}


def _for_rgb_and_person(weight: np.ndarray, bias: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias of a source convolution for RGB instead of BGR, and for the class person alone."""
    if weight.shape[1] == 3:
        weight = weight[:, ::-1]
    if len(weight) == _CLASSES + 4 * bins:
        kept = [_PERSON, *range(_CLASSES, _CLASSES + 4 * bins)]
        weight, bias = weight[kept], bias[kept]
    return np.ascontiguousarray(weight), bias


def _fused(source: Path) -> onnx.ModelProto:
    """The source after ONNX Runtime's basic optimisation, which folds constants and padding."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder, "fused.onnx"))
        try:
            session = onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no common base below Exception
            raise WeightsError(f"{source}: not an ONNX file: {first_line(error)}") from error
        shapes = [tuple(network_input.shape) for network_input in session.get_inputs()]
        if shapes != [(1, 3, INPUT_PX, INPUT_PX)]:
            raise WeightsError(
                f"{source}: expected NanoDet-g with one input (1, 3, {INPUT_PX}, {INPUT_PX}), got {shapes}"
            )
        return onnx.load(options.optimized_model_filepath)


def _largest_difference(source: Path, network: NanoDet) -> float:
    """Largest absolute difference of the network's outputs to the source's, on a random image."""
    image = np.random.default_rng(0).random((1, 3, INPUT_PX, INPUT_PX), np.float32)
    mean, std = (np.array(values[::-1], np.float32).reshape(1, 3, 1, 1) for values in (MEAN_RGB, STD_RGB))
    session = onnxruntime.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    bgr = (image[:, ::-1] * 255 - mean) / std
    # (cells, channels) -> values: scores of all classes, distances
    expected = {array.shape[1:]: array[0] for array in session.run(None, {session.get_inputs()[0].name: bgr})}
    with torch.no_grad():
        output = network(torch.from_numpy(image))
    worst = 0.0
    for stride, logits, distances in zip(STRIDES, *output, strict=True):
        cells = (INPUT_PX // stride) ** 2
        for found, channels in ((torch.sigmoid(logits), _CLASSES), (distances, distances.shape[1])):
            flat = found[0].flatten(1).T.numpy()
            worst = max(worst, float(np.abs(flat - expected[cells, channels][:, : flat.shape[1]]).max()))
    return worst
