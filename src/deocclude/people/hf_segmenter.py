"""People found by an instance segmentation model of Hugging Face transformers. Needs the extra [segment].

Any Mask2Former, MaskFormer or OneFormer with a class "person" works: from a folder that `save_pretrained` wrote, or by
its name in the local cache or on the hub. torchvision is never used.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from deocclude.errors import DeoccludeError, DeviceError, InputError, MissingExtraError, UsageError, kind_of
from deocclude.imaging.arrays import ImageU8, Mask
from deocclude.io.huggingface import check_complete, choose_device, quiet, read_config, reading, reason, source_of
from deocclude.people.instances import Instance

if TYPE_CHECKING:
    from torch import Tensor

_KINDS = ("mask2former", "maskformer", "oneformer")  # `model_type` of the segmenters that can be read

_LABELS_SHOWN = 8  # most labels in an error message


class HfSegmenter:
    """A `people.Segmenter`: (H, W, 3) uint8 RGB in, the instances of the class person out, by descending score.

    The model is loaded for the first photo, or by `load`. Threads may share a segmenter; it processes one photo at a
    time, since torch uses all cores for each and transformers does not guarantee thread-safe models.
    """

    def __init__(
        self,
        model: str,
        device: str = "auto",
        min_score: float = 0.5,
        offline: bool = False,
    ) -> None:
        """Store the options; nothing is loaded yet.

        Args:
            model: a local folder, or a name in the local cache or on the hub.
            device: "auto" (CUDA where torch offers it, else the CPU), "cpu" or "cuda".
            min_score: least score of a person, 0 to 1.
            offline: never use the network: a folder or a cached model only.
        """
        self.model = model
        self.device = device
        self.min_score = min_score
        self.offline = offline
        self._opened: _Opened | None = None
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[HfSegmenter], tuple[str, str, float, bool]]:
        """Pickle the options: another process loads the model anew."""
        return type(self), (self.model, self.device, self.min_score, self.offline)

    def load(self) -> None:
        """Load the model, unless it is loaded.

        Raises:
            MissingExtraError: torch or transformers is not installed.
            DeviceError: the device is not available.
            WeightsError: the model does not exist or cannot be read.
            UsageError: the model has no class person.
        """
        with self._lock:
            self._open()

    def __call__(self, image: ImageU8, /) -> list[Instance]:
        """Segment the people of a photo.

        Args:
            image: (H, W, 3) uint8 RGB.

        Raises:
            InputError: another array. Otherwise as `load`.
        """
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            raise InputError(f"the photo must be a uint8 array, got {kind_of(image)}")
        if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise InputError(f"the photo must have shape (H, W, 3), got {image.shape}")
        with self._lock:
            opened = self._open()
            try:
                found = opened.segment(image, self.min_score)
            except Exception as error:  # models and devices of other packages raise any type
                raise DeoccludeError(f"model {self.model} failed on this photo: {reason(error)}") from error
        people = []
        for label_id, score, small_mask in found:
            if label_id not in opened.person_ids or score < self.min_score:
                continue
            mask = _resized(small_mask, image.shape[:2])
            if mask.any():
                people.append(Instance(mask, min(max(score, 0.0), 1.0)))
        return sorted(people, key=lambda one: -one.score)

    def _open(self) -> _Opened:
        """The loaded model; the first call loads it. The caller holds the lock."""
        if self._opened is None:
            self._opened = _open_model(self.model, self.device, self.offline)
        return self._opened


@dataclass(frozen=True)
class _Opened:
    """A loaded model on its device."""

    kind: str  # one of _KINDS
    network: Any
    processor: Any
    device: str
    person_ids: frozenset[int]  # label ids of the class person

    def segment(self, image: ImageU8, min_score: float) -> list[tuple[int, float, Mask]]:
        """Instances of all classes: label id, score, and an (h, w) bool mask at the network's own size."""
        import torch

        options = {"task_inputs": ["instance"]} if self.kind == "oneformer" else {}
        # stated, since a photo of three rows would be taken for channels first
        inputs = self.processor(images=[image], input_data_format="channels_last", return_tensors="pt", **options)
        with torch.inference_mode():
            outputs = self.network(**inputs.to(self.device))
            # post-processing mixes these with tensors on the CPU
            for name in ("class_queries_logits", "masks_queries_logits"):
                outputs[name] = outputs[name].cpu()
            if self.kind == "oneformer":
                return _oneformer_instances(outputs["class_queries_logits"][0], outputs["masks_queries_logits"][0])
            # without target_sizes: a hundred candidate masks at a photo's size would take gigabytes. A mask for each
            # instance, so that overlapping people keep their pixels
            (result,) = self.processor.post_process_instance_segmentation(
                outputs, threshold=min_score, return_binary_maps=True
            )
        return list(_instances(result))


def _instances(result: dict[str, Any]) -> Iterator[tuple[int, float, Mask]]:
    """The instances of one post-processed photo, as of `segment`. `segmentation` is (N, h, w) where N is above 0."""
    segmentation: Tensor = result["segmentation"]
    for index, segment in enumerate(result["segments_info"]):
        yield int(segment["label_id"]), float(segment["score"]), (segmentation[index] > 0).numpy()


def _oneformer_instances(class_logits: Tensor, mask_logits: Tensor) -> list[tuple[int, float, Mask]]:
    """The instances of OneFormer's queries, as its authors infer them (Jain et al. 2023): each query's own mask.

    The post-processing of transformers gives every pixel to the query that is highest there, however low: one person
    in a photo is then the whole photo.

    Args:
        class_logits: (Q, classes + 1) of each query, "no object" last.
        mask_logits: (Q, h, w).

    Returns:
        Label id, score and (h, w) bool mask of each query with at least one pixel above probability 0.5. The score is
        the class probability times the mean probability in the mask.
    """
    scores, labels = class_logits.softmax(-1)[:, :-1].max(-1)
    probabilities = mask_logits.sigmoid()
    found = []
    for score, label, probability in zip(scores.tolist(), labels.tolist(), probabilities, strict=True):
        mask = probability > 0.5
        if mask.any():
            found.append((int(label), score * float(probability[mask].mean()), mask.numpy()))
    return found


def _resized(mask: Mask, size_hw: tuple[int, int]) -> Mask:
    """An (h, w) bool mask, resampled bilinearly to the photo's size."""
    if mask.shape == size_hw:
        return mask
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    resized: Mask = np.asarray(grey.resize(size_hw[::-1], Image.Resampling.BILINEAR)) >= 128
    return resized


def _open_model(model: str, device: str, offline: bool) -> _Opened:
    """Load a model; raises as `HfSegmenter.load`."""
    try:
        import torch
        import transformers
    except ModuleNotFoundError as error:
        raise MissingExtraError("--segmenter hf:MODEL", "segment") from error

    running_on = choose_device(device, "--segmenter hf")
    source = source_of(model, offline)
    with quiet():
        config = read_config(model, _KINDS, offline)
        # checked before the weights are loaded, which may be a download of a gigabyte
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
    """The label ids of the class person. Raises UsageError where there are none."""
    labels = {int(number): str(label) for number, label in config.id2label.items()}
    ids = frozenset(number for number, label in labels.items() if label.strip().lower() == "person")
    if not ids:
        examples = ", ".join(list(labels.values())[:_LABELS_SHOWN]) + (", ..." if len(labels) > _LABELS_SHOWN else "")
        raise UsageError(f'model {model} has no class "person": it finds {examples}')
    return ids


def _read_processor(model: str, kind: str, source: dict[str, Any]) -> Any:
    """The model's pre- and post-processing, in the variant without torchvision."""
    import transformers

    if kind == "oneformer":  # its input includes a task text, so it has a tokenizer
        # An empty class_info_file avoids the download of class names, which local_files_only does not prevent.
        auto: Any = transformers.AutoProcessor  # its from_pretrained has no annotations
        return auto.from_pretrained(model, backend="pil", class_info_file="", **source)
    # AutoImageProcessor of transformers 5.12 requires torchvision
    classes = {
        "mask2former": transformers.Mask2FormerImageProcessorPil,
        "maskformer": transformers.MaskFormerImageProcessorPil,
    }
    return classes[kind].from_pretrained(model, local_files_only=source["local_files_only"])
