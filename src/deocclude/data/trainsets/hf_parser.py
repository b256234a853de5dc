"""Body parts labelled by a SegFormer of Hugging Face transformers. Needs the extra [segment].

Any SegFormer with the labels of a taxonomy of `data.datasets.taxonomies` is supported: a folder written by
`save_pretrained`, or a name in the user's cache or on the hub.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from deocclude.data.datasets.parsing_groups import UNKNOWN
from deocclude.data.datasets.taxonomies import groups_of_names
from deocclude.errors import DeoccludeError, MissingExtraError
from deocclude.io.huggingface import check_complete, choose_device, quiet, read_config, reading, reason, source_of


class HfParser:
    """From a photo and a person's mask to the person's parts. The model is loaded at the first photo, or by `load`."""

    def __init__(
        self,
        model: str,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        offline: bool = False,
        threads: int | None = None,
    ) -> None:
        """Prepare a parser; nothing is loaded yet.

        Args:
            model: a folder, or a name in the cache or on the hub.
            device: where the network runs.
            offline: whether the hub is never used.
            threads: CPU threads of torch in this process; None leaves them unchanged.
        """
        self.model, self.device, self.offline, self.threads = model, device, offline, threads
        self._network: Any = None

    def load(self) -> None:
        """Load the model, unless it is loaded.

        Raises:
            MissingExtraError: torch or transformers is not installed.
            DeviceError: the device does not exist.
            WeightsError: the model is missing or cannot be read.
            UsageError: the model is no SegFormer.
            InputError: no taxonomy has the model's labels.
        """
        if self._network is not None:
            return
        try:
            import torch
            import transformers
        except ModuleNotFoundError as error:
            raise MissingExtraError("--parser hf:MODEL", "segment") from error

        if self.threads is not None:
            torch.set_num_threads(self.threads)
        self._network_device = choose_device(self.device, "--parser hf")
        source = source_of(self.model, self.offline)
        with quiet():
            config = read_config(self.model, ("segformer",), self.offline)
            labels = {int(label): str(name) for label, name in config.id2label.items()}
            self._groups = groups_of_names(labels, f"model {self.model}")
            with reading(self.model):
                self._processor = transformers.SegformerImageProcessorPil.from_pretrained(
                    self.model, local_files_only=source["local_files_only"]
                )
                # the type stubs of transformers lack the second value that `output_loading_info` adds
                loaded: Any = transformers.SegformerForSemanticSegmentation.from_pretrained(
                    self.model, config=config, dtype=torch.float32, output_loading_info=True, **source
                )
        network, report = loaded
        check_complete(self.model, network, report)
        self._network = network.eval().to(self._network_device)

    def __call__(self, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """(H, W) uint8 labels into PARSING_NAMES: 0 outside the mask, 255 where the model predicts background.

        image: (H, W, 3) uint8 RGB; mask: (H, W) bool. Raises as `load` does, and DeoccludeError.
        """
        self.load()
        import torch

        # The format is stated, not inferred: a photo of three rows looks like one with channels first.
        inputs = self._processor(images=[image], input_data_format="channels_last", return_tensors="pt")
        try:
            with torch.inference_mode():
                logits = self._network(**inputs.to(self._network_device)).logits.float().cpu()
                resized = torch.nn.functional.interpolate(logits, mask.shape, mode="bilinear", align_corners=False)
        except Exception as error:  # the error's type depends on model and device
            raise DeoccludeError(f"model {self.model} failed on this photo: {reason(error)}") from error
        groups = self._groups[resized[0].argmax(0).numpy().astype(np.uint8)]
        return np.where(mask, np.where(groups == 0, np.uint8(UNKNOWN), groups), np.uint8(0))
