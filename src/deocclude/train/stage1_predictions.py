"""What stage 2 meets at inference: the masks and the parsing that stage 1 predicts, never the true ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deocclude.models.mask_completion import MaskCompletionNet, MaskOutput, MaskProbabilities, to_probabilities
from deocclude.train.mask_losses import MaskCriterion


class MaskPredictor(nn.Module):
    """Stage 1 as stage 2's training asks it: frozen, or learning from its own losses and through the masks."""

    def __init__(self, network: MaskCompletionNet, losses: dict[str, float] | None = None):
        """losses: weight of each own term of a stage 1 that learns; none: it is frozen."""
        super().__init__()
        self.network = network
        self.criterion = MaskCriterion(losses) if losses is not None else None
        if self.criterion is None:
            network.eval().requires_grad_(False)

    def forward(self, batch: dict[str, Tensor]) -> tuple[MaskProbabilities, dict[str, Tensor]]:
        """What stage 2 gets for a batch, and stage 1's own terms, `stage1_` before their names."""
        output = _logits(self.network, batch)
        terms = self.criterion(output, batch) if self.criterion is not None else {}
        return as_at_inference(output, batch["initial"]), {f"stage1_{name}": term for name, term in terms.items()}


def predict(network: nn.Module, batch: dict[str, Tensor]) -> MaskProbabilities:
    """What stage 2 gets from this stage 1 for a batch."""
    return as_at_inference(_logits(network, batch), batch["initial"])


def _logits(network: nn.Module, batch: dict[str, Tensor]) -> MaskOutput:
    return MaskOutput(*(t.float() for t in network(batch["photo"], batch["initial"])))


def as_at_inference(output: MaskOutput, initial: Tensor) -> MaskProbabilities:
    """Masks in {0, 1}, cut at 0.5, and parsing probabilities, as `completion.MaskCompletion` hands them to stage 2.

    output: float logits; initial: (B, 1, S, S) in {0, 1}. Where stage 1 sees nobody, the initial mask stands. What is
    left out of inference: its mean over several looks, and its removal of specks, holes and slivers.

    The masks are hard going forward and soft going back (the straight-through estimator, Bengio et al. 2013, arXiv
    1308.3432): stage 2 reads what it will read at inference, and what it makes of it still tells stage 1 which way to
    move each pixel's probability.
    """
    found = to_probabilities(output)
    nobody = ((found.visible >= 0.5).flatten(1).sum(1) == 0)[:, None, None, None]
    visible = torch.where(nobody, initial, _hard(found.visible))
    amodal = torch.where(nobody, torch.maximum(_hard(found.amodal), initial), _hard(found.amodal))
    return found._replace(visible=visible, amodal=amodal)


def _hard(probability: Tensor) -> Tensor:
    """1 from 0.5 up, else 0, exactly; its gradient is that of the probability."""
    return (probability >= 0.5).to(probability) + (probability - probability.detach())
