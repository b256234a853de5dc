"""Stand-ins for Inception and LPIPS whose answers can be computed by hand, as ONNX and TorchScript files."""

from __future__ import annotations

from pathlib import Path


def save_channel_means(path: Path) -> Path:
    """A network whose three features are the picture's mean red, green and blue, in the format of the file's ending."""
    if path.suffix != ".onnx":
        return _save_script(path, lambda picture: picture.mean((2, 3)), pictures=1)
    from onnx import helper

    nodes = [helper.make_node("ReduceMean", ["picture"], ["features"], axes=[2, 3], keepdims=0)]
    return _save_onnx(path, nodes, ["picture"], ("features", [None, 3]))


def save_mean_distance(path: Path) -> Path:
    """A network whose distance of two pictures is their mean absolute difference, each value in [0, 1]."""
    if path.suffix != ".onnx":
        return _save_script(path, lambda one, other: (one - other).abs().mean((1, 2, 3), keepdim=True), pictures=2)
    from onnx import helper

    nodes = [
        helper.make_node("Sub", ["one", "other"], ["gap"]),
        helper.make_node("Abs", ["gap"], ["size"]),
        helper.make_node("ReduceMean", ["size"], ["distance"], axes=[1, 2, 3], keepdims=1),
    ]
    return _save_onnx(path, nodes, ["one", "other"], ("distance", [None, 1, 1, 1]))


def _save_onnx(path: Path, nodes, inputs: list[str], output: tuple[str, list]) -> Path:
    from onnx import TensorProto, checker, helper

    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 3, None, None]) for name in inputs]
    gives = [helper.make_tensor_value_info(output[0], TensorProto.FLOAT, output[1])]
    graph = helper.make_graph(nodes, "judge", given, gives)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def _save_script(path: Path, function, pictures: int) -> Path:
    import torch

    example = tuple(torch.zeros(1, 3, 8, 8) for _ in range(pictures))
    torch.jit.trace(function, example).save(str(path))
    return path
