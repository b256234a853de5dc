"""Export of trained weights: .onnx and .safetensors files, checked against torch, with a row in the manifest."""

from __future__ import annotations

import json
import logging
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deocclude.checkpoints.files import rebuild, save_weights
from deocclude.data.samples.typical_poses import write_poses
from deocclude.errors import DeoccludeError, UsageError, WeightsError
from deocclude.export.float16 import halve_losslessly, simplify
from deocclude.export.from_movenet import read_movenet
from deocclude.export.from_nanodet import read_nanodet
from deocclude.inference.prompt_maps import PROMPT_MAPS
from deocclude.inference.runtime import MANIFEST_FORMAT, MANIFEST_NAME, STAGE1_FEATURES
from deocclude.inference.settings import NANODET, DetectorSettings
from deocclude.io.request_stamp import file_digest
from deocclude.io.typical_poses import POSES_NAME
from deocclude.models.blocks import count_parameters
from deocclude.models.box_segmenter import BoxSegmenter
from deocclude.models.content_recovery import ContentRecoveryConfig, ContentRecoveryNet
from deocclude.models.mask_completion import MaskCompletionNet, to_probabilities
from deocclude.models.movenet import MoveNet
from deocclude.models.nanodet import NanoDet
from deocclude.models.network_kinds import NETWORK_KINDS
from deocclude.models.people_detector import PeopleDetector, to_maps
from deocclude.models.prompted_head import PromptedHead, PromptedHeadConfig
from deocclude.people.box_decoding import STRIDES
from deocclude.types import PARSING_NAMES

DETECTOR_NETWORKS = (PeopleDetector, NanoDet, MoveNet)
NETWORKS = (MaskCompletionNet, ContentRecoveryNet, *DETECTOR_NETWORKS, BoxSegmenter, PromptedHead)
OPSET = 18  # of ONNX
INPUT_SIZE = 256  # side of the example input in pixels
SIZES = ("any", "fixed")  # of the inputs of an exported network
PARITY = 2e-3  # largest difference of any output: values in [0, 1], or for a detector cells and logits of distances
NOT_STATED = "not stated"  # in the manifest, where nobody said what the weights were trained on


class MaskCompletionExport(nn.Module):
    """Stage 1 with probabilities, and the features of its amodal head, as outputs."""

    def __init__(self, network: MaskCompletionNet):
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, initial: Tensor) -> tuple[Tensor, ...]:
        """image: (B, 3, S, S), initial: (B, 1, S, S) -> the fields of MaskProbabilities and of MaskFeatures.

        A network without typical poses has no `poses`.
        """
        output, features = self.network.with_features(image, initial)
        kept = features if self.network.config.pose_guidance else features[:2]
        return (*to_probabilities(output), *kept)


class PromptedHeadExport(nn.Module):
    """Stage 1's prompted head with probabilities as outputs."""

    def __init__(self, network: PromptedHead):
        super().__init__()
        self.network = network

    def forward(
        self, stem: Tensor, whole: Tensor, poses: Tensor, visible: Tensor, unprompted: Tensor, prompts: Tensor,
        hypothesis: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Arguments as of the head -> probabilities.

        Returns:
            Amodal mask (B, 1, S, S), amodal parsing (B, P, S/4, S/4), and which hypothesis is the best (B, hypotheses).
        """
        output, likelihood = self.network(stem, whole, poses, visible, unprompted, prompts, hypothesis)
        found = to_probabilities(output)
        return found.amodal, found.amodal_parsing, torch.softmax(likelihood, 1)


class BoxSegmenterExport(nn.Module):
    """The box segmenter with probabilities and features as outputs."""

    def __init__(self, network: BoxSegmenter):
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, initial: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """image: (B, 3, S, S), initial: (B, 1, S, S) -> both masks, and features (B, C, S/16, S/16)."""
        logits, features = self.network.with_features(image, initial)
        found = to_probabilities(logits)
        return found.visible, found.amodal, features


class NanoDetExport(nn.Module):
    """NanoDet with probabilities and logits of distances as outputs."""

    def __init__(self, network: NanoDet):
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """image: (B, 3, H, W) -> scores and distances of each stride, as `people.box_decoding` reads them."""
        logits, distances = self.network(image)
        return tuple(one for pair in zip(logits, distances, strict=True) for one in (torch.sigmoid(pair[0]), pair[1]))


class PeopleDetectorExport(nn.Module):
    """The centre-based detector with probabilities and cells as outputs."""

    def __init__(self, network: PeopleDetector):
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """image: (B, 3, H, W) -> the three fields of PeopleMaps."""
        return tuple(to_maps(self.network(image)))


class MoveNetExport(nn.Module):
    """MoveNet with probabilities and cells as outputs."""

    def __init__(self, network: MoveNet):
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """image: (B, 3, H, W) -> centres (B, 1, H/4, W/4) and sides (B, 4, H/4, W/4) in cells."""
        centre, sides = self.network(image)
        return torch.sigmoid(centre), sides


def export_onnx(network: nn.Module, path: Path, size_px: int = INPUT_SIZE, *, sizes: str = "any") -> float:
    """Write a network as ONNX and check it on random inputs of several batches and sizes.

    Args:
        network: one of NETWORKS.
        path: of the file.
        size_px: side of the traced input.
        sizes: "any": batch, height and width are dynamic, the latter in steps of `size_step_px(network)`; "fixed":
            height and width are size_px, except for detectors, which are always dynamic.

    Returns:
        The largest absolute difference to torch.

    Raises:
        DeoccludeError: the difference is above PARITY.
    """
    network = network.eval()
    wrapped, outputs = _for_inference(network)
    step = size_step_px(network)
    dynamic = sizes == "any" or isinstance(network, DETECTOR_NETWORKS)
    traced_px = max(size_px, 2 * step) if dynamic else size_px  # a size of one step would become a constant
    inputs = example_inputs(network, 2, (traced_px, traced_px))
    batch, rows, columns = (
        torch.export.Dim(n, min=1, max=m) for n, m in (("batch", 64), ("rows", 256), ("columns", 256))
    )
    shapes = []
    for tensor in inputs.values():
        cells = step * tensor.shape[-1] // traced_px  # parsing is smaller than the image
        is_map = tensor.ndim == 4
        shapes.append({0: batch} | ({2: cells * rows, 3: cells * columns} if dynamic and is_map else {}))
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                wrapped, tuple(inputs.values()), input_names=list(inputs), output_names=list(outputs), dynamo=True,
                opset_version=OPSET, dynamic_shapes=tuple(shapes), verbose=False, optimize=False,
            )  # fmt: skip
            simplify(program.model)
    finally:
        quiet.setLevel(level)
    _remove_trace_metadata(program.model)
    path.parent.mkdir(parents=True, exist_ok=True)
    program.save(str(path), external_data=False)
    halve_losslessly(path)
    checks = [(1, (size_px, size_px)), (3, (size_px, size_px))]
    if dynamic:
        up, down = (max(1, round(size_px * share / step)) * step for share in (1.5, 0.5))
        checks += [(2, (down, up)), (1, (up, step))]
    worst = max(parity(wrapped, path, example_inputs(network, *check)) for check in checks)
    if worst > PARITY:
        raise DeoccludeError(f"{path}: ONNX Runtime differs from torch by {worst:.2g}, allowed is {PARITY}")
    return worst


def _remove_trace_metadata(model) -> None:
    """Remove the exporter's metadata from an onnxscript IR model: source lines with local paths."""
    for graph in (model.graph, *model.functions.values()):
        graph.metadata_props.clear()
        for node in graph.all_nodes():
            for holder in (node, *node.outputs):
                holder.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


def size_step_px(network: nn.Module) -> int:
    """Required divisor of height and width: the stride of the network's smallest feature."""
    levels = len(network.config.widths)
    return 2**levels if isinstance(network.config, ContentRecoveryConfig) else 2 ** (levels + 1)


def _for_inference(network: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """The exported module, and the names of its outputs."""
    if isinstance(network, MaskCompletionNet):
        names = ("visible", "amodal", "visible_parsing", "amodal_parsing", *STAGE1_FEATURES)
        return MaskCompletionExport(network).eval(), names if network.config.pose_guidance else names[:-1]
    if isinstance(network, PromptedHead):
        return PromptedHeadExport(network).eval(), ("amodal", "amodal_parsing", "likelihood")
    if isinstance(network, BoxSegmenter):
        return BoxSegmenterExport(network).eval(), ("visible", "amodal", "features")
    if isinstance(network, PeopleDetector):
        return PeopleDetectorExport(network).eval(), ("centre", "sides", "mask")
    if isinstance(network, MoveNet):
        return MoveNetExport(network).eval(), ("centre", "sides")
    if isinstance(network, NanoDet):
        names = tuple(f"{kind}_{stride}" for stride in STRIDES for kind in ("scores", "distances"))
        return NanoDetExport(network).eval(), names
    return network, ("content",)


def example_inputs(network: nn.Module, batch: int, size_hw: tuple[int, int]) -> dict[str, Tensor]:
    """Random inputs of a network by name; masks are boxes of plausible size, visible inside amodal."""
    rng = torch.Generator().manual_seed(batch)
    height, width = size_hw
    image = torch.rand(batch, 3, height, width, generator=rng)
    if isinstance(network, DETECTOR_NETWORKS):
        return {"image": image}
    amodal, visible = torch.zeros(batch, 1, height, width), torch.zeros(batch, 1, height, width)
    columns = slice(width // 4, width * 3 // 4)
    amodal[..., height // 8 : height * 7 // 8, columns] = 1
    visible[..., height // 8 : height // 2, columns] = 1
    if isinstance(network, (MaskCompletionNet, BoxSegmenter)):
        return {"image": image, "initial": visible}
    if isinstance(network, PromptedHead):
        return _example_features(network.config, visible, amodal, rng)
    parts = network.config.parsing_classes
    parsing = [
        torch.softmax(4 * torch.randn(batch, parts, height // 4, width // 4, generator=rng), 1) for _ in range(2)
    ]
    return {
        "image": image, "visible": visible, "amodal": amodal,
        "visible_parsing": parsing[0], "amodal_parsing": parsing[1],
    }  # fmt: skip


def _example_features(
    config: PromptedHeadConfig, visible: Tensor, amodal: Tensor, rng: torch.Generator
) -> dict[str, Tensor]:
    """Random inputs of the prompted head by name."""
    batch, _, height, width = visible.shape
    widths = {"stem": (config.stem_width, 2), "whole": (config.feature_width, 4), "poses": (config.pose_channels, 4)}
    features = {
        name: torch.rand(batch, channels, height // step, width // step, generator=rng)
        for name, (channels, step) in widths.items()
    }
    prompts = torch.zeros(batch, PROMPT_MAPS, height, width)
    prompts[:, 0] = 2 * amodal[:, 0] - 1
    hypothesis = torch.eye(config.hypotheses)[torch.arange(batch) % config.hypotheses]
    return {**features, "visible": visible, "unprompted": amodal, "prompts": prompts, "hypothesis": hypothesis}


def parity(network: nn.Module, path: Path, inputs: dict[str, Tensor]) -> float:
    """Largest absolute difference between torch and ONNX Runtime over all outputs.

    Args:
        network: the exported module, see `_for_inference`.
        path: its ONNX file.
        inputs: by name, in the order of the network's arguments.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, {k: v.numpy() for k, v in inputs.items()})
    with torch.no_grad():
        expected = network(*inputs.values())
    expected = expected if isinstance(expected, tuple) else (expected,)
    return max(float(np.abs(w.numpy() - f).max()) for w, f in zip(expected, found, strict=True))


def build_network(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Load a network and its metadata.

    Args:
        path: a .safetensors file, a folder that `save_pretrained` wrote, the ONNX file of the published NanoDet-g, or
            the TensorFlow.js graph (.json) of the published MoveNet MultiPose.

    Raises:
        WeightsError: any other file.
        DeoccludeError: the ONNX file's outputs differ from the converted network's.
    """
    if path.suffix == ".onnx":
        return read_nanodet(path)
    if path.suffix == ".json":
        return read_movenet(path)
    return rebuild(path, {network.network_name: NETWORK_KINDS[network.network_name] for network in NETWORKS})


def check_distinct(sources: Sequence[Path]) -> None:
    """Raise UsageError for two files of one network: only the last would remain. WeightsError as `build_network`."""
    seen: dict[str, Path] = {}
    for source in sources:
        name = _manifest_name(*build_network(source))
        if name in seen:
            raise UsageError(f"{seen[name]} and {source} are both {name}: name one of them, or --mean for their mean")
        seen[name] = source


def export_to_weights(
    source: Path,
    folder: Path,
    *,
    model: str = "base",
    amodal_threshold: float = 0.5,
    sizes: str = "any",
    data_note: str | None = None,
    licence: str | None = None,
) -> dict[str, Any]:
    """Export one network's .safetensors into a weights folder and enter it in the manifest.

    Stage 1 also writes typical_poses.npz, its pose centres. Files are replaced one by one, the manifest last.

    Args:
        source: as for `build_network`.
        folder: weights folder, made if missing.
        model: name in the manifest.
        amodal_threshold: stage 1's probability from which an occluded pixel is body, in (0, 1), chosen on held-out
            people. It is folded into the last bias, so that the exported network decides at 0.5.
        sizes: as in `export_onnx`.
        data_note: training data of the network; the detector has its own note, because it has other data. None keeps
            the manifest's note, or "not stated".
        licence: of the whole model; None as for `data_note`.

    Returns:
        The network's row in the manifest.

    Raises:
        UsageError: unknown `sizes` or a threshold outside (0, 1).
        WeightsError: the source or the folder's manifest cannot be read.
        DeoccludeError: ONNX Runtime differs from torch.
    """
    if sizes not in SIZES:
        raise UsageError(f"sizes must be {' or '.join(SIZES)}, got {sizes!r}")
    network, metadata = build_network(source)
    _read_manifest(folder / MANIFEST_NAME)  # a damaged one is reported before any file is replaced
    if isinstance(network, MaskCompletionNet):
        shift_threshold(network, amodal_threshold)
        metadata = metadata | {"amodal_threshold": amodal_threshold}
    metadata = _without_folders(metadata)
    is_detector = isinstance(network, DETECTOR_NETWORKS)
    stored = halve(network.state_dict())
    network.load_state_dict(stored)  # both files hold the same rounded weights
    name = _manifest_name(network, metadata)
    onnx_path, kept = folder / f"{name}_{model}.onnx", folder / f"{name}_{model}.safetensors"
    part = onnx_path.with_suffix(".onnx.tmp")
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        difference = export_onnx(network, part, sizes=sizes)
        part.replace(onnx_path)
    finally:
        part.unlink(missing_ok=True)
        if new and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()  # the export failed
    save_weights(kept, stored, metadata)
    row = _row(network, metadata, onnx_path, kept, difference, sizes)
    if isinstance(network, MaskCompletionNet) and network.config.pose_guidance:
        write_poses(folder / POSES_NAME, network.typical_poses.centres.numpy())
    _enter_manifest(folder / MANIFEST_NAME, model, name, row, data_note, licence, of_detector=is_detector)
    return row


def _without_folders(value: Any) -> Any:
    """Metadata with the name alone of every absolute path, which tells of the computer that trained the network."""
    if isinstance(value, dict):
        return {key: _without_folders(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_folders(one) for one in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _manifest_name(network: nn.Module, metadata: dict[str, Any]) -> str:
    """The network's name in a manifest: that of its weights, but one name for every detector."""
    return PeopleDetector.network_name if isinstance(network, DETECTOR_NETWORKS) else metadata["network"]


def _row(
    network: nn.Module, metadata: dict[str, Any], onnx_path: Path, kept: Path, difference: float, sizes: str
) -> dict[str, Any]:
    """The network's row in the manifest. difference: to torch, by `export_onnx`; sizes: as there."""
    row = {
        "onnx": onnx_path.name, "safetensors": kept.name,
        "sha256": {"onnx": file_digest(onnx_path), "safetensors": file_digest(kept)},
        "parameters": count_parameters(network), "parity": difference, "opset": OPSET,
        "sizes": "any" if isinstance(network, DETECTOR_NETWORKS) else sizes, "size_step_px": size_step_px(network),
        "figures": metadata.get("validation", {}), "steps": metadata.get("step"), "seed": metadata.get("seed"),
    }  # fmt: skip
    if isinstance(network, PeopleDetector):
        # the threshold of the validation is for boxes alone; at inference stage 1 filters them too
        row |= {"size_px": metadata.get("size_px", DetectorSettings.size_px), "min_score": DetectorSettings.min_score}
    if isinstance(network, NanoDet):
        row |= {name: getattr(NANODET, name) for name in ("size_px", "second_size_px", "min_score", "max_iou")}
    if "licence" in metadata:
        row["licence"] = metadata["licence"]
    if isinstance(network, (MaskCompletionNet, BoxSegmenter)) and sizes == "any":
        row["size_px"] = metadata.get("size_px", INPUT_SIZE)  # as in training, for crop predictions with detail
    if isinstance(network, PromptedHead):
        row["hypotheses"] = network.config.hypotheses
    if isinstance(network, MaskCompletionNet) and metadata.get("second_pass"):
        row["second_pass"] = True
    if isinstance(network, BoxSegmenter) and metadata.get("splits_boxes"):
        row["splits_boxes"] = True
    return row


def _enter_manifest(
    path: Path, model: str, name: str, row: dict[str, Any], data_note: str | None, licence: str | None,
    *, of_detector: bool,
) -> None:  # fmt: skip
    """Enter a network's row in the manifest, which is replaced whole; a note that is None stays as it is there.

    Args:
        path: the manifest, made if missing.
        model: name of the model.
        name: name of the network.
        row: the network's entry; with `of_detector` it gets the data note.
        data_note: training data, or None.
        licence: of the model, or None.
        of_detector: whether the note belongs to the network alone.
    """
    manifest = _read_manifest(path)
    entry = manifest["models"].setdefault(
        model, {"input_size": INPUT_SIZE, "licence": NOT_STATED, "data": NOT_STATED, "networks": {}}
    )
    if licence is not None:
        entry["licence"] = licence
    if of_detector:
        row["data"] = data_note if data_note is not None else entry["networks"].get(name, {}).get("data", NOT_STATED)
    elif data_note is not None:
        entry["data"] = data_note
    entry["networks"][name] = row
    temporary = path.with_suffix(".json.tmp")
    temporary.write_text(json.dumps(manifest, indent=2) + "\n")
    temporary.replace(path)


def shift_threshold(network: MaskCompletionNet, threshold: float) -> None:
    """Shift the amodal logits in place: probability `threshold` becomes 0.5. Raises UsageError outside (0, 1)."""
    if not 0 < threshold < 1:
        raise UsageError(f"the amodal threshold must lie between 0 and 1, got {threshold}")
    with torch.no_grad():
        network.amodal_head.mask[-1].bias -= math.log(threshold / (1 - threshold))


def halve(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Round convolution weights to float16, by at most 1 part in 2000; norms and buffers stay."""
    return {
        k: v.half() if v.dtype == torch.float32 and k.endswith("weight") and v.ndim == 4 else v
        for k, v in weights.items()
    }


def _read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a weights folder; one without models if the file is missing. Raises WeightsError."""
    if not path.is_file():
        return {"format": MANIFEST_FORMAT, "parsing_names": list(PARSING_NAMES), "models": {}}
    try:
        manifest = json.loads(path.read_text())
    except ValueError as error:
        raise WeightsError(f"{path}: not a weights manifest: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != MANIFEST_FORMAT or "models" not in manifest:
        raise WeightsError(f"{path}: expected a weights manifest of format {MANIFEST_FORMAT}")
    return manifest
