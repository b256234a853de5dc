"""People found by an instance segmentation model of Hugging Face transformers. Needs the extra [segment].

Any Mask2Former, MaskFormer or OneFormer that knows the class "person" will do, from a folder that `save_pretrained`
wrote or by its name in the user's cache or on the hub. torchvision is not needed and never used.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from deocclude.errors import DeoccludeError, DeviceError, InputError, MissingExtraError, UsageError, WeightsError
from deocclude.people import Instance, kind_of

if TYPE_CHECKING:
    from torch import Tensor

# Kinds of models, and what their `post_process_instance_segmentation` must be told. OneFormer has one map in which each
# pixel is one instance's; the others can give a mask an instance, so that people who overlap keep their pixels.
_POST_PROCESS: dict[str, dict[str, Any]] = {
    "mask2former": {"return_binary_maps": True},
    "maskformer": {"return_binary_maps": True},
    "oneformer": {},
}

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_LABELS_SHOWN = 8


class HfSegmenter:
    """A `people.Segmenter`: (H, W, 3) uint8 RGB in, the persons among the instances out, best first.

    The model is read at the first photo, or by `load`. Threads may share one: photos are worked on one at a time, for
    torch takes all cores for each, and transformers does not promise models that threads may share.
    """

    def __init__(
        self,
        model: str,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        min_score: float = 0.5,
        offline: bool = False,
    ) -> None:
        """Reads nothing yet.

        Args:
            model: a local folder, or a name in the user's cache or on the hub.
            device: "auto" (CUDA when torch sees one, else the CPU), "cpu" or "cuda".
            min_score: only people of whom the model is as sure, 0 to 1.
            offline: never use the network: a folder or a model in the cache only.
        """
        self.model = model
        self.device = device
        self.min_score = min_score
        self.offline = offline
        self._opened: _Opened | None = None
        self._lock = threading.Lock()

    def load(self) -> None:
        """Read the model, unless that is done.

        Raises:
            MissingExtraError: torch or transformers is not installed. DeviceError: a device that is not there.
            WeightsError: a model that is not there or cannot be read. UsageError: one that does not find people.
        """
        with self._lock:
            self._open()

    def __call__(self, image: np.ndarray, /) -> list[Instance]:
        """People in a photo, (H, W, 3) uint8 RGB. Raises what `load` does, and InputError for another array."""
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            raise InputError(f"the photo must be a uint8 array, got {kind_of(image)}")
        if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise InputError(f"the photo must have shape (H, W, 3), got {image.shape}")
        with self._lock:
            opened = self._open()
            try:
                found = opened.segment(image, self.min_score)
            except Exception as error:  # code of many models, on many devices
                raise DeoccludeError(f"model {self.model} failed on this photo: {_reason(error)}") from error
        people = []
        for label_id, score, small in found:
            if label_id not in opened.person_ids or score < self.min_score:
                continue
            mask = _resized(small, image.shape[:2])
            if mask.any():
                people.append(Instance(mask, min(max(score, 0.0), 1.0)))
        return sorted(people, key=lambda one: -one.score)

    def _open(self) -> _Opened:
        if self._opened is None:
            self._opened = _open_model(self.model, self.device, self.offline)
        return self._opened


@dataclass(frozen=True)
class _Opened:
    """A model that has been read, on its device."""

    kind: str  # a key of _POST_PROCESS
    network: Any
    processor: Any
    device: str
    person_ids: frozenset[int]

    def segment(self, image: np.ndarray, min_score: float) -> list[tuple[int, float, np.ndarray]]:
        """Instances of every class: label id, score, and an (h, w) bool mask of the network's own size."""
        import torch

        options = {"task_inputs": ["instance"]} if self.kind == "oneformer" else {}
        # Said, not guessed: a photo of three rows looks like one whose channels come first.
        inputs = self.processor(images=[image], input_data_format="channels_last", return_tensors="pt", **options)
        with torch.inference_mode():
            outputs = self.network(**inputs.to(self.device))
            # Post-processing mixes them with tensors that it makes on the CPU.
            for name in ("class_queries_logits", "masks_queries_logits"):
                outputs[name] = outputs[name].cpu()
            # No target_sizes: at a photo's size, a hundred candidate masks would take gigabytes.
            (result,) = self.processor.post_process_instance_segmentation(
                outputs, threshold=min_score, **_POST_PROCESS[self.kind]
            )
        return list(_instances(result))


def _instances(result: dict[str, Any]) -> Iterator[tuple[int, float, np.ndarray]]:
    """The instances of one post-processed photo. `segmentation`: (N, h, w) masks, or an (h, w) map of segments' ids."""
    segmentation: Tensor = result["segmentation"]
    for index, segment in enumerate(result["segments_info"]):
        mask = segmentation[index] > 0 if segmentation.ndim == 3 else segmentation == segment["id"]
        yield int(segment["label_id"]), float(segment["score"]), mask.numpy()


def _resized(mask: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """An (h, w) bool mask as one of the photo's size, its edge smooth."""
    if mask.shape == size_hw:
        return mask
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(grey.resize(size_hw[::-1], Image.Resampling.BILINEAR)) >= 128


# --- reading a model -------------------------------------------------------------------------------------------------


def _open_model(model: str, device: str, offline: bool) -> _Opened:
    try:
        import torch
        import transformers
    except ModuleNotFoundError as error:
        raise MissingExtraError("--segmenter hf:MODEL", "segment") from error

    running_on = _choose_device(device)
    is_folder = Path(model).is_dir()
    # Code that comes with a model is never run.
    source: dict[str, Any] = {"local_files_only": offline or is_folder, "trust_remote_code": False}
    with _quiet():
        config = _read_config(model, is_folder, offline, source)
        # Asked of the config first: weights may be a download of a gigabyte.
        person_ids = _person_ids(model, config)
        with _reading(model):
            processor = _read_processor(model, config.model_type, source)
            network, report = transformers.AutoModelForUniversalSegmentation.from_pretrained(
                model, config=config, dtype=torch.float32, output_loading_info=True, **source
            )
    # transformers fills what a file lacks with random numbers. Buffers are its own affair.
    missing = sorted(set(report["missing_keys"]) & {name for name, _ in network.named_parameters()})
    if missing:
        raise WeightsError(f"model {model}: its weights lack {len(missing)} tensors, {missing[0]} for one")
    try:
        network.eval().to(running_on)
    except RuntimeError as error:
        raise DeviceError(f"model {model} does not start on {running_on}: {_reason(error)}") from error
    return _Opened(config.model_type, network, processor, running_on, person_ids)


def _choose_device(device: str) -> str:
    """auto: CUDA where torch sees one. A device that is asked for and missing is an error, never a silent change."""
    import torch

    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"device must be auto, cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError(f"device cuda is not available to --segmenter hf: torch {torch.__version__} sees no CUDA")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def _read_config(model: str, is_folder: bool, offline: bool, source: dict[str, Any]) -> Any:
    """The model's configuration, of a kind that is known here."""
    import transformers

    if is_folder and not (Path(model) / "config.json").is_file():
        raise WeightsError(f"model {model}: no config.json in this folder, expected one that save_pretrained wrote")
    if not is_folder and not _HUB_NAME.fullmatch(model):
        raise WeightsError(f"model {model}: no such folder")
    with _reading(model):
        try:
            config = transformers.AutoConfig.from_pretrained(model, **source)
        except OSError as error:
            if is_folder:
                raise
            where = "in the cache (nothing is fetched offline)" if offline else "found in the cache or on the hub"
            reason = "" if offline else f": {_reason(error)}"
            raise WeightsError(f"model {model} is neither a folder nor {where}{reason}") from error
    if config.model_type not in _POST_PROCESS:
        raise UsageError(f"model {model} is a {config.model_type}, expected one of {', '.join(_POST_PROCESS)}")
    return config


def _person_ids(model: str, config: Any) -> frozenset[int]:
    labels = {int(number): str(label) for number, label in config.id2label.items()}
    ids = frozenset(number for number, label in labels.items() if label.strip().lower() == "person")
    if not ids:
        some = ", ".join(list(labels.values())[:_LABELS_SHOWN]) + (", ..." if len(labels) > _LABELS_SHOWN else "")
        raise UsageError(f'model {model} has no class "person": it finds {some}')
    return ids


def _read_processor(model: str, kind: str, source: dict[str, Any]) -> Any:
    """What turns photos into the network's input and its output into instances; the variant without torchvision."""
    import transformers

    if kind == "oneformer":  # it reads its task as well, so it has a tokenizer
        # Its list of class names is of no use here; "" keeps it from being fetched, local_files_only would not.
        return transformers.AutoProcessor.from_pretrained(model, backend="pil", class_info_file="", **source)
    # Not AutoImageProcessor: transformers 5.12 refuses it where torchvision is not installed.
    classes = {
        "mask2former": transformers.Mask2FormerImageProcessorPil,
        "maskformer": transformers.MaskFormerImageProcessorPil,
    }
    return classes[kind].from_pretrained(model, local_files_only=source["local_files_only"])


@contextlib.contextmanager
def _reading(model: str) -> Iterator[None]:
    """Turns what transformers raises while it reads a model into one line."""
    try:
        yield
    except DeoccludeError:
        raise
    except ImportError as error:
        raise UsageError(f"model {model} needs another package: {_reason(error)}") from error
    except Exception as error:  # OSError, ValueError, RuntimeError, safetensors' own: whatever is wrong with a file
        raise WeightsError(f"model {model} cannot be read: {_reason(error)}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the reports and bars of transformers, which are many lines. A download still shows its own bar."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    hook = logging.set_tqdm_hook(lambda bar, args, options: bar(*args, **{**options, "disable": True}))
    try:
        yield
    finally:
        logging.set_tqdm_hook(hook)
        logging.set_verbosity(level)


def _reason(error: Exception) -> str:
    """The first line of a foreign error, which may be a page long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
