"""Masks and parsing that stage 1 predicts, as input of stage 2 in training, as at inference."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deocclude.models.mask_completion import MaskCompletionNet, MaskOutput, MaskProbabilities, to_probabilities
from deocclude.train.mask_losses import MaskCriterion


class MaskPredictor(nn.Module):
    """Stage 1 in the training of stage 2: frozen, or trained by its own losses and through the masks."""

    def __init__(self, network: MaskCompletionNet, losses: dict[str, float] | None = None):
        """losses: weight of each own loss term when stage 1 is trained too; None freezes it."""
        super().__init__()
        self.network = network
        self.criterion = MaskCriterion(losses) if losses is not None else None
        if self.criterion is None:
            network.eval().requires_grad_(False)

    def forward(self, batch: dict[str, Tensor]) -> tuple[MaskProbabilities, dict[str, Tensor]]:
        """Input of stage 2 for a batch, and the own loss terms of stage 1 with the prefix `stage1_`."""
        output = _logits(self.network, batch)
        terms = self.criterion(output, batch) if self.criterion is not None else {}
        return as_at_inference(output, batch["initial"]), {f"stage1_{name}": term for name, term in terms.items()}


def predict(network: nn.Module, batch: dict[str, Tensor]) -> MaskProbabilities:
    """Input of stage 2 for a batch, as `network` (stage 1) predicts it."""
    return as_at_inference(_logits(network, batch), batch["initial"])


def _logits(network: nn.Module, batch: dict[str, Tensor]) -> MaskOutput:
    """Stage 1's output for a batch, as float32."""
    return MaskOutput(*(t.float() for t in network(batch["photo"], batch["initial"])))


def as_at_inference(output: MaskOutput, initial: Tensor) -> MaskProbabilities:
    """Masks thresholded at 0.5 and parsing probabilities, as `inference.MaskCompletion` passes them to stage 2.

    Unlike inference, there is no test-time augmentation and no removal of small components, holes and thin parts. Masks
    are hard in the forward pass and soft in the backward pass (straight-through estimator, Bengio et al. 2013, arXiv
    1308.3432), so that gradients of stage 2 reach the probabilities of stage 1.

    Args:
        output: float logits.
        initial: (B, 1, S, S) in {0, 1}; replaces an empty predicted visible mask, and is then part of the amodal mask.

    Returns:
        Masks in {0, 1}, parsing in [0, 1].
    """
    found = to_probabilities(output)
    empty = ((found.visible >= 0.5).flatten(1).sum(1) == 0)[:, None, None, None]
    visible = torch.where(empty, initial, _hard(found.visible))
    amodal = torch.where(empty, torch.maximum(_hard(found.amodal), initial), _hard(found.amodal))
    return found._replace(visible=visible, amodal=amodal)


def _hard(probability: Tensor) -> Tensor:
    """1 from 0.5 up, else 0, with the gradient of the probability."""
    return (probability >= 0.5).to(probability) + (probability - probability.detach())
