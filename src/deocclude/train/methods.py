"""Training methods of each stage by their names in a config: `mask.model`, `content.model` and `single.model`.

A new baseline is one file in models/baselines, one line in models/network_kinds.py and one entry here: loss terms with
default weights and, if they differ, targets and forward pass in training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from deocclude.errors import ConfigError
from deocclude.models.baselines.gated import run_gated
from deocclude.models.baselines.pcnet import content_targets, mask_targets
from deocclude.models.baselines.vae import run_vae, vae_targets
from deocclude.models.network_kinds import PERSON_NETWORK_KINDS
from deocclude.train.config import chosen_model
from deocclude.train.content_losses import ContentCriterion
from deocclude.train.mask_losses import MaskCriterion

Batch = dict[str, Tensor]
Terms = dict[str, Tensor]


def _true_targets(config: Any, batch: Batch, rng: np.random.Generator) -> Batch:
    """The batch as it is: its targets are the truth."""
    return batch


def _run_mask(network: nn.Module, batch: Batch) -> tuple[Any, Terms]:
    return network(batch["photo"], batch["initial"]), {}


def _run_pcnet(network: nn.Module, batch: Batch) -> tuple[Any, Terms]:
    return network(batch["photo"], batch["initial"], batch["front"]), {}


def _run_content(network: nn.Module, batch: Batch, inputs: tuple[Any, ...]) -> tuple[Tensor, Terms]:
    return network(*inputs), {}


@dataclass(frozen=True)
class Method:
    """How one network of a stage is trained.

    Attributes:
        kind: the network's key in models/network_kinds.py, stored beside its weights.
        losses: default weight of each loss term.
        terms: terms of the stage's criterion whose gradient reaches the network.
        own_terms: further terms, which `run` computes.
        parsing: stage 2 only: the network reads body parts.
        boxes_alone: stage 1 only: the network accepts filled boxes as initial masks and nothing else.
        targets: (config, batch, rng) -> batch with the training targets, the true ones by default. A method with
            other targets has no discriminator, because a discriminator compares with the true mask.
        run: (network, batch) of stage 1, (network, batch, inputs) of stage 2 -> output and own terms, in training.
    """

    kind: str
    losses: Mapping[str, float]
    terms: tuple[str, ...]
    own_terms: tuple[str, ...] = ()
    parsing: bool = False
    boxes_alone: bool = False
    targets: Callable[[Any, Batch, np.random.Generator], Batch] = _true_targets
    run: Callable[..., tuple[Any, Terms]] = _run_mask

    @property
    def network(self) -> type[nn.Module]:
        """Class of the network."""
        return PERSON_NETWORK_KINDS[self.kind][0]

    @property
    def config(self) -> type:
        """Class of the network's config."""
        return PERSON_NETWORK_KINDS[self.kind][1]

    @property
    def own_targets(self) -> bool:
        """Whether the method has targets other than the truth of a batch."""
        return self.targets is not _true_targets

    def preset(self, name: str, where: str) -> Any:
        """The network config of a size (small, base, paper). Raises ConfigError with the available sizes."""
        if not hasattr(self.config, name):
            sizes = [size for size in ("small", "base", "paper") if hasattr(self.config, size)]
            raise ConfigError(f"{where}: {self.network.__name__} comes as {', '.join(sizes)}, got {name!r}")
        return getattr(self.config, name)()

    def check_losses(self, losses: Mapping[str, float], where: str) -> dict[str, float]:
        """`losses`, or the default weights if it is empty. Raises ConfigError for a term that the method lacks."""
        known = (*self.terms, *self.own_terms)
        unknown = sorted(set(losses) - set(known))
        if unknown:
            raise ConfigError(
                f"unknown key {where}.{unknown[0]}: the terms are {', '.join(known)} with {self.network.__name__}"
            )
        return dict(losses or self.losses)


def _without(terms: tuple[str, ...], *parts: str) -> tuple[str, ...]:
    """Terms whose name has none of the words `parts`."""
    return tuple(term for term in terms if not set(term.split("_")) & set(parts))


# of networks that return the initial mask as the visible one
_AMODAL_TERMS = _without(MaskCriterion.TERMS, "visible", "parsing")
_AMODAL_LOSSES = {"amodal_ce": 0.5, "amodal_dice": 0.1, "invisible_dice": 0.1}
_INPAINTING_LOSSES = {"hidden_l1": 1.0, "visible_l1": 0.1, "perceptual": 0.5, "style": 30.0}

MASK_METHODS: dict[str, Method] = {
    "hourglass": Method(
        "mask_completion", terms=MaskCriterion.TERMS,
        losses={"visible_ce": 0.5, "visible_parsing_ce": 0.1, "amodal_parsing_ce": 0.1} | _AMODAL_LOSSES,
    ),
    "unet": Method(
        "mask_unet", {"visible_ce": 0.5} | _AMODAL_LOSSES, _without(MaskCriterion.TERMS, "parsing")
    ),
    "pcnet_m": Method(
        "mask_pcnet_m", {"amodal_ce": 1.0}, _without(_AMODAL_TERMS, "adversarial", "perceptual"),
        targets=mask_targets, run=_run_pcnet,
    ),
    "pix2pix": Method("mask_pix2pix", {"amodal_l1": 1.0, "adversarial": 0.01}, _AMODAL_TERMS),
    "vae": Method(
        "mask_vae", {"amodal_ce": 1.0, "whole_ce": 1.0, "kl": 0.2, "match": 0.2},
        _without(_AMODAL_TERMS, "adversarial"), ("whole_ce", "kl", "match"), targets=vae_targets, run=run_vae,
    ),
    "box": Method(
        "mask_box",
        {"visible_ce": 1.0, "visible_dice": 0.4, "amodal_ce": 0.5, "amodal_dice": 0.1, "invisible_dice": 0.25},
        _without(MaskCriterion.TERMS, "parsing"), boxes_alone=True,
    ),
}  # fmt: skip

CONTENT_METHODS: dict[str, Method] = {
    "pconv_attention": Method(
        "content_recovery", terms=ContentCriterion.TERMS, parsing=True,
        losses=_INPAINTING_LOSSES, run=_run_content,
    ),
    "pconv_unet": Method(
        "content_pconv_unet", _INPAINTING_LOSSES, ContentCriterion.TERMS, run=_run_content
    ),
    "pcnet_c": Method(
        "content_pcnet_c", _INPAINTING_LOSSES,
        _without(ContentCriterion.TERMS, "adversarial"), targets=content_targets, run=_run_content,
    ),
    "pix2pix": Method(
        "content_pix2pix", {"hidden_l1": 1.0, "visible_l1": 1.0, "adversarial": 0.01},
        ContentCriterion.TERMS, run=_run_content,
    ),
    "gated": Method(
        "content_gated",
        {"hidden_l1": 1.0, "visible_l1": 0.1, "coarse_l1": 1.0, "adversarial": 0.02},
        ContentCriterion.TERMS, ("coarse_l1",), run=run_gated,
    ),
}  # fmt: skip

# terms of both criteria; the only discriminator is that of the recovered person
_TERMS_OF_BOTH = _without(MaskCriterion.TERMS, "parsing", "adversarial", "perceptual") + ContentCriterion.TERMS
_APPEARANCE_LOSSES = {"hidden_l1": 1.0, "visible_l1": 0.1, "adversarial": 0.02}

SINGLE_METHODS: dict[str, Method] = {
    "one": Method("single_one", {"visible_ce": 0.5} | _AMODAL_LOSSES | _APPEARANCE_LOSSES, _TERMS_OF_BOTH),
    "segan": Method(
        "single_segan", _AMODAL_LOSSES | _APPEARANCE_LOSSES,
        tuple(term for term in _TERMS_OF_BOTH if term not in ("visible_ce", "visible_dice")),
    ),
}  # fmt: skip

PROMPTED_METHODS: dict[str, Method] = {
    "prompted_head": Method(
        "mask_prompted",
        {"amodal_ce": 0.5, "amodal_parsing_ce": 0.3, "invisible_dice": 0.25, "amodal_dice": 0.1, "hypothesis_ce": 0.1},
        ("amodal_ce", "amodal_parsing_ce", "invisible_dice", "amodal_dice", "amodal_lovasz", "amodal_l1"),
        own_terms=("hypothesis_ce",),
    ),
}

_METHODS = {
    "mask": MASK_METHODS, "content": CONTENT_METHODS, "single": SINGLE_METHODS, "prompted": PROMPTED_METHODS,
}  # fmt: skip
STAGES = ("mask", "content", "single")  # that ablations compare


def find_method(stage: str, model: str | None) -> Method:
    """The method `model` of a stage, the first for None. Raises ConfigError with the available names."""
    return chosen_model(_METHODS[stage], model, f"{stage}.model")
