"""int8 convolutions: 8-bit weights and activations in the layers in which a network spends its time.

Affine quantisation, with one scale per output channel for weights and ranges measured on examples for activations
(Jacob et al. 2018, arXiv 1712.05877). Weights take 7 bits: on processors without 8-bit dot products, sums of two
products of full 8 bits would saturate, and results would depend on the machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from deocclude.errors import UsageError
from deocclude.export.float16 import halve_losslessly
from deocclude.imaging.arrays import Float32
from deocclude.io.files import write_whole

# Depthwise and 1x1 convolutions cost little and lose most. So do layers of few channels: those that read the image,
# whose channels have unlike ranges, and the last ones of a mask.
_LEAST_CHANNELS = 32


class _Examples(CalibrationDataReader):  # type: ignore[misc]
    """Batches on which ranges of activations are measured, one after another."""

    def __init__(self, batches: Iterable[dict[str, Float32]]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> dict[str, Float32] | None:
        return next(self._batches, None)


def quantize_convolutions(source: Path, target: Path, batches: Iterable[dict[str, Float32]]) -> int:
    """Write a network with int8 convolutions.

    Args:
        source: the .onnx file of a float network.
        target: the file to write; may be `source`.
        batches: inputs by name, as the network gets them; ranges of activations are measured on them.

    Returns:
        How many convolutions are int8.

    Raises:
        UsageError: the network is int8 already, or has no convolution large enough.
        DeoccludeError: the file cannot be written.
    """
    model = onnx.load(str(source))
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise UsageError(f"{source} is int8 already: export the network anew first")
    _store_as_float32(model.graph)
    chosen = _large_convolutions(model.graph)
    if not chosen:
        raise UsageError(f"{source} has no convolution that is worth int8")
    _fold_batch_norms(model.graph, chosen)
    add_pre_process_metadata(model)
    with TemporaryDirectory() as folder:
        folded, quantised = Path(folder) / "folded.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, str(folded))
        quantize_static(
            str(folded), str(quantised), _Examples(batches), quant_format=QuantFormat.QDQ, per_channel=True,
            reduce_range=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            nodes_to_quantize=[node.name for node in chosen], calibrate_method=CalibrationMethod.MinMax,
        )  # fmt: skip
        halve_losslessly(quantised)
        content = quantised.read_bytes()
    write_whole(target, lambda file: file.write(content))
    return len(chosen)


def _store_as_float32(graph: onnx.GraphProto) -> None:
    """Replace constants that are stored as float16 and cast, as `halve_losslessly` stores them, by float32."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    casts = [node for node in graph.node if node.op_type == "Cast" and node.input[0] in stored]
    for cast in casts:
        values = numpy_helper.to_array(stored[cast.input[0]]).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(values, cast.output[0]))
        graph.node.remove(cast)
    for name in {cast.input[0] for cast in casts}:
        graph.initializer.remove(stored[name])


def _large_convolutions(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Dense convolutions with kernels above 1x1 that read at least _LEAST_CHANNELS channels."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    found = []
    for node in graph.node:
        shape = shapes.get(node.input[1], ()) if node.op_type == "Conv" else ()
        groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
        if len(shape) == 4 and groups == 1 and max(shape[2:]) > 1 and shape[1] >= _LEAST_CHANNELS:
            found.append(node)
    return found


def _fold_batch_norms(graph: onnx.GraphProto, convolutions: list[onnx.NodeProto]) -> None:
    """Fold the batch norm behind a convolution into its weights, where nothing else reads the convolution's output."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for node in convolutions:
        # without a reader, e.g. for an output of the graph: the convolution itself, which is no batch norm
        (reader, *others) = readers.get(node.output[0], [node])
        if others or reader.op_type != "BatchNormalization":
            continue
        scale, shift, mean, variance = (
            numpy_helper.to_array(constants[name]).astype(np.float64) for name in reader.input[1:]
        )
        epsilon = next((attribute.f for attribute in reader.attribute if attribute.name == "epsilon"), 1e-5)
        factor = scale / np.sqrt(variance + epsilon)
        weight = numpy_helper.to_array(constants[node.input[1]]) * factor[:, None, None, None]
        bias = numpy_helper.to_array(constants[node.input[2]]) if len(node.input) > 2 else 0.0
        for name, values in (("weight", weight), ("bias", (bias - mean) * factor + shift)):
            folded = numpy_helper.from_array(np.asarray(values, np.float32), f"{node.output[0]}.{name}")
            graph.initializer.append(folded)
        node.input[1:] = [f"{node.output[0]}.weight", f"{node.output[0]}.bias"]
        node.output[0] = reader.output[0]
        graph.node.remove(reader)
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
