"""Every network and method of each stage by its name in a config, `mask.model`, `content.model` and `single.model`.

A new baseline is one file in models/baselines and one line here: its network with its config, which terms of the
stage's criterion reach it, how they are weighed, and, where the method differs there, what it learns from and how it is
run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from deocclude.errors import ConfigError
from deocclude.models.baselines.gated import GatedConfig, GatedNet, run_gated
from deocclude.models.baselines.one_stage import OneStageNet
from deocclude.models.baselines.partial_unet import PartialUNet, PartialUNetConfig
from deocclude.models.baselines.pcnet import PCNetM, PCNetMConfig, content_targets, mask_targets
from deocclude.models.baselines.pix2pix import Pix2PixConfig, Pix2PixContent, Pix2PixMask
from deocclude.models.baselines.segan import SeGan, SeGanConfig
from deocclude.models.baselines.unet import MaskUNet, UNetConfig
from deocclude.models.baselines.vae import ShapeVae, ShapeVaeConfig, run_vae, vae_targets
from deocclude.models.box_segmenter import BoxSegmenter, BoxSegmenterConfig
from deocclude.models.content_recovery import ContentRecoveryConfig, ContentRecoveryNet
from deocclude.models.mask_completion import MaskCompletionConfig, MaskCompletionNet
from deocclude.train.content_losses import ContentCriterion
from deocclude.train.mask_losses import MaskCriterion

Batch = dict[str, Tensor]
Terms = dict[str, Tensor]


def _truth(config: Any, batch: Batch, rng: np.random.Generator) -> Batch:
    return batch


def _run_mask(network: nn.Module, batch: Batch) -> tuple[Any, Terms]:
    return network(batch["photo"], batch["initial"]), {}


def _run_pcnet(network: nn.Module, batch: Batch) -> tuple[Any, Terms]:
    return network(batch["photo"], batch["initial"], batch["front"]), {}


def _run_content(network: nn.Module, batch: Batch, inputs: tuple[Any, ...]) -> tuple[Tensor, Terms]:
    return network(*inputs), {}


@dataclass(frozen=True)
class Method:
    """How one stage is done.

    kind: the network's name in stored weights. losses: default weight of each term. terms: those of the stage's
    criterion that reach the network; own_terms: the method's own, which `run` computes. parsing: of stage 2, whether it
    reads parts. targets: (config, batch, rng) to what it learns from, the true one or its own; a method with its own
    has no discriminator, which would judge by the true one. boxes_alone: of stage 1, whether no other initial mask than
    a filled box means anything to the network. run: (network, batch) of stage 1, (network, batch, inputs)
    of stage 2, in training, to the output and the own terms.
    """

    kind: str
    network: type[nn.Module]
    config: type
    losses: Mapping[str, float]
    terms: tuple[str, ...]
    own_terms: tuple[str, ...] = ()
    parsing: bool = False
    boxes_alone: bool = False
    targets: Callable[[Any, Batch, np.random.Generator], Batch] = _truth
    run: Callable[..., tuple[Any, Terms]] = _run_mask

    @property
    def own_targets(self) -> bool:
        """Whether it learns from something else than the truth that a batch holds."""
        return self.targets is not _truth

    def preset(self, name: str, where: str) -> Any:
        """The config of a size; ConfigError names those there are."""
        if not hasattr(self.config, name):
            sizes = [size for size in ("small", "base", "paper") if hasattr(self.config, size)]
            raise ConfigError(f"{where}: {self.network.__name__} comes as {', '.join(sizes)}, got {name!r}")
        return getattr(self.config, name)()

    def check_losses(self, losses: Mapping[str, float], where: str) -> dict[str, float]:
        """The weights given, the method's own where none are; ConfigError names a term that it does not have."""
        known = (*self.terms, *self.own_terms)
        unknown = sorted(set(losses) - set(known))
        if unknown:
            raise ConfigError(
                f"unknown key {where}.{unknown[0]}: the terms are {', '.join(known)} with {self.network.__name__}"
            )
        return dict(losses or self.losses)


def _without(terms: tuple[str, ...], *parts: str) -> tuple[str, ...]:
    """The terms none of whose words is one of `parts`."""
    return tuple(term for term in terms if not set(term.split("_")) & set(parts))


_WHOLE_MASK = _without(MaskCriterion.TERMS, "visible", "parsing")  # for those that take what is seen as given
_OVERLAP = {"amodal_ce": 0.5, "amodal_dice": 0.1, "invisible_dice": 0.1}
_INPAINTING = {"hidden_l1": 1.0, "visible_l1": 0.1, "perceptual": 0.5, "style": 30.0}

MASK_METHODS: dict[str, Method] = {
    "hourglass": Method(
        "mask_completion", MaskCompletionNet, MaskCompletionConfig, terms=MaskCriterion.TERMS,
        losses={"visible_ce": 0.5, "visible_parsing_ce": 0.1, "amodal_parsing_ce": 0.1} | _OVERLAP,
    ),
    "unet": Method(
        "mask_unet", MaskUNet, UNetConfig, {"visible_ce": 0.5} | _OVERLAP, _without(MaskCriterion.TERMS, "parsing")
    ),
    "pcnet_m": Method(
        "mask_pcnet_m", PCNetM, PCNetMConfig, {"amodal_ce": 1.0}, _without(_WHOLE_MASK, "adversarial", "perceptual"),
        targets=mask_targets, run=_run_pcnet,
    ),
    "pix2pix": Method("mask_pix2pix", Pix2PixMask, Pix2PixConfig, {"amodal_l1": 1.0, "adversarial": 0.01}, _WHOLE_MASK),
    "vae": Method(
        "mask_vae", ShapeVae, ShapeVaeConfig, {"amodal_ce": 1.0, "whole_ce": 1.0, "kl": 0.2, "match": 0.2},
        _without(_WHOLE_MASK, "adversarial"), ("whole_ce", "kl", "match"), targets=vae_targets, run=run_vae,
    ),
    "box": Method(
        "mask_box", BoxSegmenter, BoxSegmenterConfig,
        {"visible_ce": 1.0, "visible_dice": 0.4, "amodal_ce": 0.5, "amodal_dice": 0.1, "invisible_dice": 0.25},
        _without(MaskCriterion.TERMS, "parsing"), boxes_alone=True,
    ),
}  # fmt: skip

CONTENT_METHODS: dict[str, Method] = {
    "pconv_attention": Method(
        "content_recovery", ContentRecoveryNet, ContentRecoveryConfig, terms=ContentCriterion.TERMS, parsing=True,
        losses=_INPAINTING, run=_run_content,
    ),
    "pconv_unet": Method(
        "content_pconv_unet", PartialUNet, PartialUNetConfig, _INPAINTING, ContentCriterion.TERMS, run=_run_content
    ),
    "pcnet_c": Method(
        "content_pcnet_c", PartialUNet, PartialUNetConfig, _INPAINTING,
        _without(ContentCriterion.TERMS, "adversarial"), targets=content_targets, run=_run_content,
    ),
    "pix2pix": Method(
        "content_pix2pix", Pix2PixContent, Pix2PixConfig, {"hidden_l1": 1.0, "visible_l1": 1.0, "adversarial": 0.01},
        ContentCriterion.TERMS, run=_run_content,
    ),
    "gated": Method(
        "content_gated", GatedNet, GatedConfig,
        {"hidden_l1": 1.0, "visible_l1": 0.1, "coarse_l1": 1.0, "adversarial": 0.02},
        ContentCriterion.TERMS, ("coarse_l1",), run=run_gated,
    ),
}  # fmt: skip

# both criteria's terms; the discriminator judges the painted person alone
_BOTH = _without(MaskCriterion.TERMS, "parsing", "adversarial", "perceptual") + ContentCriterion.TERMS
_PAINTED = {"hidden_l1": 1.0, "visible_l1": 0.1, "adversarial": 0.02}

SINGLE_METHODS: dict[str, Method] = {
    "one": Method("single_one", OneStageNet, UNetConfig, {"visible_ce": 0.5} | _OVERLAP | _PAINTED, _BOTH),
    "segan": Method(
        "single_segan", SeGan, SeGanConfig, _OVERLAP | _PAINTED,
        tuple(term for term in _BOTH if term not in ("visible_ce", "visible_dice")),
    ),
}  # fmt: skip

_METHODS = {"mask": MASK_METHODS, "content": CONTENT_METHODS, "single": SINGLE_METHODS}
STAGES = tuple(_METHODS)


def find_method(stage: str, model: str | None) -> Method:
    """The method called `model` of a stage, its first for None; ConfigError names those there are."""
    methods = _METHODS[stage]
    if model is None:
        return next(iter(methods.values()))
    if model not in methods:
        raise ConfigError(f"{stage}.model: choose from {', '.join(methods)}, got {model!r}")
    return methods[model]


def network_kinds() -> dict[str, tuple[type[nn.Module], type]]:
    """Network and config class of every kind, as `weights_io.rebuild` takes them."""
    return {m.kind: (m.network, m.config) for methods in _METHODS.values() for m in methods.values()}
