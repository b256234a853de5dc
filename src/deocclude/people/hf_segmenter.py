"""People found by an instance segmentation model of Hugging Face transformers. Needs the extra [segment].

Any Mask2Former, MaskFormer or OneFormer that knows the class "person" will do, from a folder that `save_pretrained`
wrote or by its name in the user's cache or on the hub. torchvision is not needed and never used.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from deocclude.errors import DeoccludeError, DeviceError, InputError, MissingExtraError, UsageError, kind_of
from deocclude.io.huggingface import check_complete, choose_device, quiet, read_config, reading, reason, source_of
from deocclude.people.instances import Instance

if TYPE_CHECKING:
    from torch import Tensor

# Kinds of models, and what their `post_process_instance_segmentation` must be told. OneFormer has one map in which each
# pixel is one instance's; the others can give a mask an instance, so that people who overlap keep their pixels.
_POST_PROCESS: dict[str, dict[str, Any]] = {
    "mask2former": {"return_binary_maps": True},
    "maskformer": {"return_binary_maps": True},
    "oneformer": {},
}

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

    def __call__(self, image: ImageU8, /) -> list[Instance]:
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
                raise DeoccludeError(f"model {self.model} failed on this photo: {reason(error)}") from error
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

    def segment(self, image: ImageU8, min_score: float) -> list[tuple[int, float, np.ndarray]]:
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


def _resized(mask: Mask, size_hw: tuple[int, int]) -> np.ndarray:
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

    running_on = choose_device(device, "--segmenter hf")
    source = source_of(model, offline)
    with quiet():
        config = read_config(model, _POST_PROCESS, offline)
        # Asked of the config first: weights may be a download of a gigabyte.
        person_ids = _person_ids(model, config)
        with reading(model):
            processor = _read_processor(model, config.model_type, source)
            network, report = transformers.AutoModelForUniversalSegmentation.from_pretrained(
                model, config=config, dtype=torch.float32, output_loading_info=True, **source
            )
    check_complete(model, network, report)
    try:
        network.eval().to(running_on)
    except RuntimeError as error:
        raise DeviceError(f"model {model} does not start on {running_on}: {reason(error)}") from error
    return _Opened(config.model_type, network, processor, running_on, person_ids)


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
