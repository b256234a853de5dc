"""Weights and devices: the manifest, checked .onnx files, the device, and ONNX Runtime sessions."""

from __future__ import annotations

import ctypes
import hashlib
import json
import logging
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from deocclude.errors import DeoccludeError, DeviceError, UsageError, WeightsError, first_line
from deocclude.imaging.arrays import Array, Float32
from deocclude.inference.cores import MAX_AT_ONCE, usable_cores
from deocclude.inference.memory import is_out_of_memory
from deocclude.inference.settings import InferenceSettings

if TYPE_CHECKING:
    import onnxruntime

DeviceName = Literal["auto", "cpu", "cuda"]

MANIFEST_FORMAT = 1
MANIFEST_NAME = "manifest.json"
BUNDLED_WEIGHTS = Path(__file__).parents[1] / "weights"  # the package's own folder of weights
NETWORKS = ("mask_completion", "content_recovery")  # that every model needs
# Optional. mask_box is the box-prompted segmentation network, mask_prompted stage 1's prompted head.
EXTRA_NETWORKS = ("people_detector", "mask_box", "mask_prompted")
ON_DEMAND = ("mask_prompted",)  # opened with its first run: few photos come with completion prompts
STAGE1_FEATURES = ("stem", "whole", "poses")  # outputs of stage 1 that the prompted head reads

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}  # ONNX Runtime's name of a device
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NetworkFiles:
    """One network of a model.

    Attributes:
        name: the network's name.
        onnx_path: its file.
        onnx_sha256: expected digest of the file.
        info: its row of the manifest.
    """

    name: str
    onnx_path: Path
    onnx_sha256: str
    info: Mapping[str, Any]


@dataclass(frozen=True)
class ModelInfo:
    """One model of the manifest, with its origin.

    A model can be loaded once `networks` holds each of NETWORKS; stages are exported one by one. It may hold
    EXTRA_NETWORKS. `licence` and `data`, what the networks were trained on, are texts of the manifest.
    """

    name: str
    input_size: int  # side of the networks' square input, pixels
    licence: str
    data: str
    networks: Mapping[str, NetworkFiles]
    settings: InferenceSettings = field(default_factory=InferenceSettings)

    @property
    def hypotheses(self) -> int:
        """How many different completions of a person the model can give; 0 without a prompted head."""
        head = self.networks.get("mask_prompted")
        return int(head.info.get("hypotheses", 0)) if head else 0

    @property
    def digest(self) -> str:
        """sha256 of everything that affects the model's results: network files, their manifest rows, settings."""
        rows: dict[str, Any] = {name: dict(network.info) for name, network in self.networks.items()}
        if self.settings != InferenceSettings():
            rows["settings"] = self.settings.as_dict()
        return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()


# A manifest's former key: its present name.
_RENAMED_KEYS = {"second_look": "second_pass", "tells_apart": "splits_boxes"}


def with_current_keys(row: Mapping[str, Any]) -> dict[str, Any]:
    """A network's row of a manifest or weights file, with key names of earlier versions replaced by current ones."""
    return {_RENAMED_KEYS.get(key, key): value for key, value in row.items()}


class Network:
    """A network on a device: named arrays in, named arrays out. Threads may share it."""

    def __init__(
        self, open_session: Callable[[], onnxruntime.InferenceSession], input_size: int, fine_size: int | None = None
    ) -> None:
        """A network that gets its session from `open_session` at its first run.

        Args:
            open_session: gives the session; one that opens it only then may raise DeviceError or WeightsError.
            input_size: side of the square input in pixels.
            fine_size: side where detail matters; None: `input_size`.
        """
        self.input_size = input_size
        self.fine_size = fine_size or input_size
        self._open_session = open_session

    @cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        return self._open_session()

    @cached_property
    def output_names(self) -> tuple[str, ...]:
        """Its outputs without STAGE1_FEATURES."""
        names = (output.name for output in self._session.get_outputs())
        return tuple(name for name in names if name not in STAGE1_FEATURES)

    def __call__(self, **inputs: Array) -> dict[str, Float32]:
        """Run the network once, for all its outputs but STAGE1_FEATURES. They have the names of the exported file.

        Args:
            inputs: (B, C, S, S) float32, for the people detector (B, 3, H, W).

        Raises:
            DeoccludeError: the device fails, for example for lack of memory.
        """
        return self.select(self.output_names, **inputs)

    def select(self, names: Sequence[str], **inputs: Array) -> dict[str, Float32]:
        """Run the network once, for some of its outputs. Arguments and errors as of a call."""
        contiguous = {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in inputs.items()}
        session = self._session
        try:
            outputs = session.run(names, contiguous)
        except Exception as error:  # ONNX Runtime's errors have no common base below Exception
            if is_out_of_memory(error):
                raise DeoccludeError("not enough memory for this photo") from error
            raise DeoccludeError(f"a network failed on this photo: {first_line(error)}") from error
        return dict(zip(names, outputs, strict=True))


def list_models(weights_dir: str | Path | None = None) -> dict[str, ModelInfo]:
    """The models of a weights folder by name.

    Args:
        weights_dir: the folder; None: the package's own weights.

    Raises:
        WeightsError: the manifest is missing or cannot be read.
    """
    folder = Path(weights_dir) if weights_dir is not None else BUNDLED_WEIGHTS
    path = folder / MANIFEST_NAME
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != MANIFEST_FORMAT:
            raise WeightsError(f"{path}: expected manifest format {MANIFEST_FORMAT}, got {manifest['format']!r}")
        return {name: _read_model(name, row, folder) for name, row in manifest["models"].items()}
    except OSError as error:
        raise WeightsError(f"{path}: cannot read the weights' manifest: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: not a weights manifest ({type(error).__name__}: {error})") from error


def find_model(name: str, weights_dir: str | Path | None = None) -> ModelInfo:
    """A complete model by its name.

    Args:
        name: a name of the manifest.
        weights_dir: the folder; None: the package's own weights.

    Raises:
        UsageError: there is no such model; the message names the existing ones.
        WeightsError: the model lacks a network, or as `list_models`.
    """
    models = list_models(weights_dir)
    if name not in models:
        raise UsageError(
            f"no model {name!r}: choose from {', '.join(sorted(models)) or 'none (the manifest is empty)'}"
        )
    missing = [network for network in NETWORKS if network not in models[name].networks]
    if missing:
        raise WeightsError(f"model {name!r} is not complete: {', '.join(missing)} has not been exported yet")
    return models[name]


def choose_device(device: str = "auto") -> Literal["cpu", "cuda"]:
    """The device to use: "auto" is CUDA where ONNX Runtime offers it, else the CPU.

    Raises:
        UsageError: another name.
        DeviceError: the device is not available.
    """
    import onnxruntime

    if device not in ("auto", *_PROVIDERS):
        raise UsageError(f"device must be auto, cpu or cuda, got {device!r}")
    offered = onnxruntime.get_available_providers()
    if device == "auto":
        return "cuda" if _PROVIDERS["cuda"] in offered else "cpu"
    if _PROVIDERS[device] not in offered:
        raise DeviceError(f"device {device} is not available: this onnxruntime offers {', '.join(offered)}")
    return "cuda" if device == "cuda" else "cpu"


def open_networks(
    model: ModelInfo, device: str = "auto", threads: int | None = None
) -> tuple[dict[str, Network], Literal["cpu", "cuda"]]:
    """Check and open all networks of a model on one device.

    Args:
        model: the model.
        device: "auto", "cpu" or "cuda". With "auto", a CUDA that does not start is logged, and the CPU is used.
        threads: CPU threads of a network; None: one for each core that this process may use (`usable_cores`).

    Returns:
        The networks by name, and the device they run on.

    Raises:
        UsageError: another device, or a number of threads that is not from 1 to MAX_AT_ONCE.
        DeviceError: a device requested by name is not available.
        WeightsError: a file is missing or damaged.
    """
    if threads is not None and not (isinstance(threads, int) and 1 <= threads <= MAX_AT_ONCE):
        raise UsageError(f"threads must be a whole number from 1 to {MAX_AT_ONCE}, got {threads!r}")
    chosen = choose_device(device)
    contents = {name: _read_checked(files) for name, files in model.networks.items()}

    def open_one(name: str, on: Literal["cpu", "cuda"]) -> Network:
        files = model.networks[name]
        # for a network opened on demand, the checked content is not kept until then, to save memory
        open_session = partial(_open_file, files, on, threads)
        if name not in ON_DEMAND:
            open_session = partial(_given, _open_session(contents[name], files.onnx_path, on, threads))
        return Network(open_session, model.input_size, files.info.get("size_px"))

    def open_all(on: Literal["cpu", "cuda"]) -> dict[str, Network]:
        return {name: open_one(name, on) for name in contents}

    try:
        return open_all(chosen), chosen
    except DeviceError as error:
        if device != "auto" or chosen == "cpu":
            raise
        _log.warning("%s; using the CPU", error)
        return open_all("cpu"), "cpu"


def _read_model(name: str, row: Mapping[str, Any], folder: Path) -> ModelInfo:
    """A model of the manifest. Its `settings` override values of the detector's row, which override the defaults."""
    networks = {}
    for network in (n for n in (*NETWORKS, *EXTRA_NETWORKS) if n in row["networks"]):
        info = with_current_keys(row["networks"][network])
        networks[network] = NetworkFiles(network, folder / info["onnx"], info["sha256"]["onnx"], info)
    given = dict(row.get("settings", {}))
    if "people_detector" in networks:
        stated = networks["people_detector"].info
        of_row = {key: stated[key] for key in ("size_px", "second_size_px", "min_score", "max_iou") if key in stated}
        given["detector"] = {**of_row, **given.get("detector", {})}
    settings = InferenceSettings.of(given, f"{folder / MANIFEST_NAME}: model {name}")
    return ModelInfo(name, int(row["input_size"]), str(row["licence"]), str(row["data"]), networks, settings)


def _read_checked(files: NetworkFiles) -> bytes:
    """The contents of a network's file. Raises WeightsError where its sha256 differs."""
    try:
        content = files.onnx_path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{files.onnx_path}: cannot read the weights: {error.strerror or error}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != files.onnx_sha256:
        raise WeightsError(f"{files.onnx_path}: damaged weights: expected sha256 {files.onnx_sha256}, got {digest}")
    return content


def _given(session: onnxruntime.InferenceSession) -> onnxruntime.InferenceSession:
    """Return a session that is open already: the `open_session` of a Network that is not opened on demand."""
    return session


def _open_file(
    files: NetworkFiles, device: Literal["cpu", "cuda"], threads: int | None
) -> onnxruntime.InferenceSession:
    """Check and open a network's file. Raises DeviceError or WeightsError."""
    return _open_session(_read_checked(files), files.onnx_path, device, threads)


def _open_session(
    content: bytes, path: Path, device: Literal["cpu", "cuda"], threads: int | None
) -> onnxruntime.InferenceSession:
    """Open a network on a device. Raises DeviceError or WeightsError."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # ONNX Runtime's own lines would appear on stderr; its errors are raised as well
    # ONNX Runtime's own default counts the machine's cores, and pins threads to cores that a container may not have
    options.intra_op_num_threads = threads or usable_cores()
    # The arena never releases its largest working set; peak memory matters more here than the time of allocations.
    options.enable_cpu_mem_arena = False
    # Threads that spin between runs would take the cores from numpy, which runs in between.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(content, options, providers=[_PROVIDERS[device]])
    except Exception as error:  # ONNX Runtime's errors have no common base below Exception
        if is_out_of_memory(error):
            raise DeoccludeError(f"not enough memory to open {path.name}") from error
        reason = first_line(error)
        if device == "cuda":
            raise DeviceError(f"cannot start {path.name} on cuda: {reason}") from error
        raise WeightsError(f"{path}: ONNX Runtime cannot load these weights: {reason}") from error
    # ONNX Runtime drops a provider whose libraries are missing and continues on the CPU.
    if _PROVIDERS[device] not in session.get_providers():
        raise DeviceError(
            f"cannot start {path.name} on {device}: ONNX Runtime fell back to {session.get_providers()[0]}"
        )
    _opened.add(session)
    return session


_opened: weakref.WeakSet[onnxruntime.InferenceSession] = weakref.WeakSet()


def _never_close() -> None:
    """Give every session a reference that is never released.

    In a forked child, closing a session would wait without end for its threads, which only the parent has. It can still
    be run there, on the calling thread.
    """
    for session in _opened:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_never_close)
