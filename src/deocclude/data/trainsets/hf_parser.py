"""Body parts labelled by a SegFormer of Hugging Face transformers. Needs the extra [segment].

Any SegFormer will do whose labels are those of a taxonomy of `data.datasets.taxonomies`, from a folder that
`save_pretrained` wrote or by its name in the user's cache or on the hub.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from deocclude.data.datasets.parsing_groups import UNKNOWN
from deocclude.data.datasets.taxonomies import groups_of_names
from deocclude.errors import DeoccludeError, MissingExtraError
from deocclude.io.huggingface import check_complete, choose_device, quiet, read_config, reading, reason, source_of


class HfParser:
    """From a photo and a person's mask to that person's parts. The model is read at the first photo, or by `load`."""

    def __init__(
        self,
        model: str,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        offline: bool = False,
        threads: int | None = None,
    ) -> None:
        """Reads nothing yet. threads: CPU threads of torch in this process; None leaves them as they are."""
        self.model, self.device, self.offline, self.threads = model, device, offline, threads
        self._network: Any = None

    def load(self) -> None:
        """Read the model, unless that is done.

        Raises:
            MissingExtraError: torch or transformers is not installed. DeviceError: a device that is not there.
            WeightsError: a model that is not there or cannot be read. UsageError: one that is no SegFormer.
            InputError: one whose labels no taxonomy has.
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
        self._running_on = choose_device(self.device, "--parser hf")
        source = source_of(self.model, self.offline)
        with quiet():
            config = read_config(self.model, ("segformer",), self.offline)
            labels = {int(label): str(name) for label, name in config.id2label.items()}
            self._groups = groups_of_names(labels, f"model {self.model}")
            with reading(self.model):
                self._processor = transformers.SegformerImageProcessorPil.from_pretrained(
                    self.model, local_files_only=source["local_files_only"]
                )
                network, report = transformers.SegformerForSemanticSegmentation.from_pretrained(
                    self.model, config=config, dtype=torch.float32, output_loading_info=True, **source
                )
        check_complete(self.model, network, report)
        self._network = network.eval().to(self._running_on)

    def __call__(self, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """(H, W) uint8 labels into PARSING_NAMES: 0 outside the mask, 255 where the model sees background in it.

        image: (H, W, 3) uint8 RGB; mask: (H, W) bool. Raises what `load` does.
        """
        self.load()
        import torch

        # Said, not guessed: a photo of three rows looks like one whose channels come first.
        inputs = self._processor(images=[image], input_data_format="channels_last", return_tensors="pt")
        try:
            with torch.inference_mode():
                logits = self._network(**inputs.to(self._running_on)).logits.float().cpu()
                finer = torch.nn.functional.interpolate(logits, mask.shape, mode="bilinear", align_corners=False)
        except Exception as error:  # code of many models, on many devices
            raise DeoccludeError(f"model {self.model} failed on this photo: {reason(error)}") from error
        groups = self._groups[finer[0].argmax(0).numpy().astype(np.uint8)]
        return np.where(mask, np.where(groups == 0, np.uint8(UNKNOWN), groups), np.uint8(0))
