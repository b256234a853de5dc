"""Every method of every stage: shapes and ranges, what its terms reach, and that names are unique."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from deocclude.errors import ConfigError
from deocclude.models.baselines.gated import GatedConfig
from deocclude.models.baselines.one_stage import SingleOutput
from deocclude.models.baselines.partial_unet import PartialUNetConfig
from deocclude.models.baselines.pcnet import PCNetMConfig
from deocclude.models.baselines.pix2pix import Pix2PixConfig
from deocclude.models.baselines.segan import SeGanConfig
from deocclude.models.baselines.unet import UNetConfig
from deocclude.models.baselines.vae import ShapeVaeConfig
from deocclude.models.blocks import count_parameters
from deocclude.models.box_segmenter import BoxSegmenterConfig
from deocclude.models.mask_completion import to_probabilities
from deocclude.models.network_kinds import PERSON_NETWORK_KINDS
from deocclude.train.methods import (
    CONTENT_METHODS,
    MASK_METHODS,
    PROMPTED_METHODS,
    SINGLE_METHODS,
    STAGES,
    find_method,
)

TINY = {
    "mask_box": BoxSegmenterConfig((8, 8, 8, 8), (0, 0, 0, 1), 8),
    "mask_unet": UNetConfig((4, 8)), "mask_pcnet_m": PCNetMConfig((4, 8)), "mask_pix2pix": Pix2PixConfig((4, 8, 8)),
    "mask_vae": ShapeVaeConfig((4, 8, 8), 6), "content_pconv_unet": PartialUNetConfig((4, 8, 8), (3, 3, 3)),
    "content_pcnet_c": PartialUNetConfig((4, 8, 8), (3, 3, 3)), "content_pix2pix": Pix2PixConfig((4, 8, 8)),
    "content_gated": GatedConfig(4, (2,)), "single_one": UNetConfig((4, 8)),
    "single_segan": SeGanConfig((4, 8), 2, 16, (4, 8, 8)),
}  # fmt: skip
ALL = [m for methods in (MASK_METHODS, CONTENT_METHODS, SINGLE_METHODS) for m in methods.values()]
BASELINES = [m for m in ALL if m.kind in TINY]


@pytest.fixture
def batch() -> dict[str, Tensor]:
    """Two standing people of 64 px, the lower half hidden, the picture noise."""
    amodal = torch.zeros(2, 1, 64, 64)
    amodal[..., 8:56, 20:40] = 1
    visible = amodal.clone()
    visible[:, :, 32:] = 0
    truth = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return {
        "photo": truth * (1 - amodal + visible), "truth": truth, "initial": visible, "visible": visible,
        "amodal": amodal, "known": torch.ones_like(amodal),
    }  # fmt: skip


def run(method, batch: dict[str, Tensor]):
    """Output and own terms of one training step of a tiny network, and the network."""
    torch.manual_seed(0)
    config = TINY[method.kind]
    network = method.network(config)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)  # residual blocks start as their shortcut, which would hide them here
    target = method.targets(config, batch, np.random.default_rng(0))
    if method.kind.startswith("content"):
        output, own = method.run(network, target, (target["photo"], target["visible"], target["amodal"]))
    else:
        output, own = method.run(network, target)
    return output, own, network


@pytest.mark.parametrize("method", BASELINES, ids=lambda m: m.kind)
def test_outputs_have_common_shapes_and_every_parameter_learns(method, batch: dict[str, Tensor]) -> None:
    output, own, network = run(method, batch)
    assert own.keys() == set(method.own_terms)
    masks, content = None, None
    if isinstance(output, SingleOutput):
        masks, content = output
    elif method.kind.startswith("mask"):
        masks = output
    else:
        content = output
    total = sum(own.values(), torch.zeros(()))
    if masks is not None:
        found = to_probabilities(masks)
        assert found.visible.shape == found.amodal.shape == (2, 1, 64, 64)
        assert found.amodal_parsing.shape == (2, 12, 16, 16)
        assert (found.amodal >= found.visible).all()
        assert torch.allclose(found.amodal_parsing.sum(1), torch.ones(2, 16, 16), atol=1e-5)
        assert found.amodal_parsing[:, 1:].std(1).max() < 1e-6, "no part is likelier than another"
        total = total + masks.amodal.square().mean()
        total = total + (masks.visible.square().mean() if masks.visible.requires_grad else 0)
    if content is not None:
        assert content.shape == (2, 3, 64, 64) and content.min() >= 0 and content.max() <= 1
        total = total + content.square().mean()
    total.backward()
    still = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


@pytest.mark.parametrize("method", BASELINES, ids=lambda m: m.kind)
def test_terms_without_gradient_are_not_offered(method, batch: dict[str, Tensor]) -> None:
    """A method does not offer a term without gradient."""
    output, _, _ = run(method, batch)
    masks = output.masks if isinstance(output, SingleOutput) else output
    if method.kind.startswith("content"):
        return
    assert ("visible_ce" in method.terms) == ("visible_dice" in method.terms) == masks.visible.requires_grad
    assert not any("parsing" in term for term in method.terms)
    assert "invisible_dice" in method.terms and masks.amodal.requires_grad


@pytest.mark.parametrize("name", sorted(CONTENT_METHODS.keys() - {"pconv_attention"}))
def test_stage_2_reads_only_the_visible_body(name: str, batch: dict[str, Tensor]) -> None:
    method = CONTENT_METHODS[name]
    torch.manual_seed(0)
    network = method.network(TINY[method.kind]).eval()
    visible, amodal = batch["visible"], batch["amodal"]
    other = torch.where(visible > 0, batch["photo"], 1 - batch["photo"])
    assert torch.equal(network(batch["photo"], visible, amodal), network(other, visible, amodal))


@pytest.mark.parametrize("method", ALL, ids=lambda m: m.kind)
def test_default_loss_weights_name_existing_terms(method) -> None:
    assert method.check_losses({}, "x") == method.losses
    assert set(method.losses) <= {*method.terms, *method.own_terms}
    assert not (method.own_targets and "adversarial" in method.terms), "the discriminator judges by the true target"


def test_methods_with_their_own_targets() -> None:
    assert {m.kind for m in ALL if m.own_targets} == {"mask_pcnet_m", "mask_vae", "content_pcnet_c"}


def test_unknown_term_model_or_preset_is_rejected() -> None:
    with pytest.raises(ConfigError, match=r"mask\.losses\.amodal_parsing_ce: the terms are .* with MaskUNet"):
        MASK_METHODS["unet"].check_losses({"amodal_parsing_ce": 1.0}, "mask.losses")
    with pytest.raises(ConfigError, match=r"mask\.model: choose from hourglass, unet, .*, got 'resnet'"):
        find_method("mask", "resnet")
    with pytest.raises(ConfigError, match=r"mask\.preset: ShapeVae comes as small, base, got 'paper'"):
        MASK_METHODS["vae"].preset("paper", "mask.preset")
    assert [find_method(stage, None).kind for stage in STAGES] == ["mask_completion", "content_recovery", "single_one"]


def test_each_method_kind_is_a_unique_network_kind() -> None:
    kinds = [m.kind for m in (*ALL, *PROMPTED_METHODS.values())]
    assert sorted(PERSON_NETWORK_KINDS) == sorted(kinds)


@pytest.mark.parametrize("method", [m for m in ALL if m.kind != "mask_box"], ids=lambda m: m.kind)
def test_preset_sizes_are_comparable_to_ours(method) -> None:
    ours = {"mask": 4.3e6, "content": 2.6e6, "single": 4.3e6}[method.kind.partition("_")[0]]
    small, base = (count_parameters(method.network(method.preset(size, "x"))) for size in ("small", "base"))
    assert 0.4e6 < small < 1e6
    assert 0.45 * ours < base < 1.4 * ours
