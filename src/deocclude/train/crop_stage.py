"""What the stages that train on the crops of one person (mask, content, single) build in the same way."""

from __future__ import annotations

from typing import Any

import torch

from deocclude.checkpoints.files import start_from
from deocclude.models.discriminators import PatchDiscriminator
from deocclude.train.config import TrainConfig, with_fields
from deocclude.train.crops import Crops
from deocclude.train.engine import Stage, choose_device, use_bfloat16
from deocclude.train.methods import find_method


class CropStage(Stage):
    """Implements the parts of engine.Stage that depend on the config section and the method alone.

    Attributes:
        section: the config section called `name`.
        bf16: whether forward passes run in bfloat16.
        crops: people, scenes and crops to train and validate on.
        method: network, loss terms and targets, from train/methods.py.
        config: sizes of the network.
        losses: weight of each loss term.
        size_px: crop side of the last phase, at which the network is validated.
    """

    def __init__(
        self, config: TrainConfig, *, synthesis: dict[str, Any] | None = None, crop: dict[str, Any] | None = None
    ) -> None:
        """Read the section.

        Args:
            config: the whole config.
            synthesis: the stage's defaults for fields of SynthesisConfig (composed scenes).
            crop: the stage's defaults for fields of CropConfig (crops and initial masks).

        Raises:
            ConfigError: an unknown model, preset, field or loss term.
            DeviceError: the device is not available.
        """
        self.section = section = getattr(config, self.name)
        self.bf16 = use_bfloat16(config, choose_device(config.device))
        self.crops = Crops.of(config.data_of(section), synthesis=synthesis, crop=crop)
        self.method = find_method(self.name, section.model)
        preset = self.method.preset(section.preset, f"{self.name}.preset")
        self.config = with_fields(preset, section.network, f"{self.name}.network")
        self.losses = self.method.check_losses(section.losses, f"{self.name}.losses")
        self.size_px = section.schedule.phases[-1].size_px

    def make_networks(self, seed: int, **discriminator: int) -> None:
        """Create the network and, where the losses have an adversarial term, the discriminator.

        Args:
            seed: of the random initialisation.
            discriminator: arguments of PatchDiscriminator.
        """
        torch.manual_seed(seed)
        self.network = self.method.network(self.config)
        self.discriminator = PatchDiscriminator(**discriminator) if self.losses.get("adversarial") else None

    def start_from_init(self) -> bool:
        """Load the weights that the section's `init` names. Returns whether it names any. Raises WeightsError."""
        if self.section.init is None:
            return False
        start_from(self.network, self.section.init)
        return True

    def metadata(self) -> dict[str, Any]:
        """Kind and sizes of the network and the loss weights, as stored beside the weights."""
        return {"network": self.method.kind, "config": self.config.to_dict(), "losses": self.losses}
