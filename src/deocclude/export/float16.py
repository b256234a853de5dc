"""Storage of .onnx files: constant folding, and float16 for weights that float16 represents exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir
from onnx import TensorProto, helper, numpy_helper
from onnx_ir.passes import common
from onnxscript.optimizer import fold_constants, remove_unused_nodes

_MIN_ELEMENTS = 1024  # smaller tensors stay float32


def simplify(model: onnx_ir.Model) -> None:
    """Fold constants in place, but keep batch norms separate from their convolutions.

    The exporter's own optimisation folds batch norms into weights, which float16 then no longer represents exactly.
    ONNX Runtime folds them when it opens the file.
    """
    common.InlinePass()(model)
    for _ in range(2):  # the first pass enables further folding
        fold_constants(model)
        remove_unused_nodes(model)
    for clean_up in (
        common.RemoveUnusedFunctionsPass(), common.RemoveUnusedOpsetsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(), common.CommonSubexpressionEliminationPass(),
    ):  # fmt: skip
        clean_up(model)


def halve_losslessly(path: Path) -> None:
    """Rewrite a .onnx file: store float32 weights that float16 represents exactly as float16, with a cast.

    ONNX Runtime casts once, when it opens the file. Results stay identical bit for bit.
    """
    model = onnx.load(str(path))
    graph, casts = model.graph, []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < _MIN_ELEMENTS:
            continue
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if np.array_equal(half.astype(np.float32), values):
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
            casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, str(path))
