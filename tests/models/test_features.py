"""Frozen features: their weights never change, and gradients pass through to the image."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from deocclude.checkpoints.files import save_weights
from deocclude.errors import WeightsError
from deocclude.models.discriminators import PatchDiscriminator
from deocclude.models.features import ParsingFeatures, Vgg16Features, load_features, load_mask_completion
from deocclude.models.mask_completion import MaskCompletionConfig, MaskCompletionNet

# torchvision's VGG-16 up to ReLU 3_3: `features.N`, channels in and out; N 4 and 9 are poolings
VGG_CONVS = ((0, 3, 64), (2, 64, 64), (5, 64, 128), (7, 128, 128), (10, 128, 256), (12, 256, 256), (14, 256, 256))


@pytest.fixture(scope="module")
def vgg_state() -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    state = {}
    for number, a, b in VGG_CONVS:
        state[f"features.{number}.weight"] = torch.randn(b, a, 3, 3, generator=rng) / (3 * a**0.5)
        state[f"features.{number}.bias"] = torch.randn(b, generator=rng) / 10
    return state


def stage_1() -> MaskCompletionNet:
    torch.manual_seed(0)
    return MaskCompletionNet(
        MaskCompletionConfig(stem_width=4, widths=(6, 8, 8, 8), head_width=4, templates=3, template_channels=4)
    )


def test_vgg_by_hand(vgg_state: dict[str, torch.Tensor]) -> None:
    """The same layers, written out in torchvision's order."""
    image = torch.rand(1, 3, 16, 16)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x, expected = (image - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1), []
    for number, _, _ in VGG_CONVS:
        if number in (5, 10):
            expected.append(x)
            x = F.max_pool2d(x, 2)
        x = F.conv2d(x, vgg_state[f"features.{number}.weight"], vgg_state[f"features.{number}.bias"], padding=1).relu()
    expected.append(x)
    found = Vgg16Features(vgg_state)(image)
    assert [tuple(f.shape[1:]) for f in found] == [(64, 16, 16), (128, 8, 8), (256, 4, 4)]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_features_are_frozen_and_pass_gradients(vgg_state: dict[str, torch.Tensor]) -> None:
    for features in (Vgg16Features(vgg_state), ParsingFeatures(stage_1())):
        features.train()
        before = {k: v.clone() for k, v in features.state_dict().items()}
        image = torch.rand(2, 3, 32, 32, requires_grad=True)
        for level in features(image):
            (gradient,) = torch.autograd.grad(level.square().sum(), image, retain_graph=True)
            assert gradient.abs().sum() > 0
        assert not any(p.requires_grad for p in features.parameters())
        assert all(torch.equal(v, before[k]) for k, v in features.state_dict().items()), "batch norms included"


def test_parsing_features_are_the_stage_1_encoder() -> None:
    network = stage_1().eval()
    image = torch.rand(1, 3, 32, 32)
    found = ParsingFeatures(network)(image)
    assert [tuple(f.shape[1:]) for f in found] == [(4, 16, 16), (6, 8, 8), (8, 4, 4), (8, 2, 2)]
    stem = network.stem(torch.cat([image * 2 - 1, torch.ones(1, 1, 32, 32)], 1))
    torch.testing.assert_close(found[0], stem)
    torch.testing.assert_close(found[1], network.enter(stem))


def test_feature_type_is_detected_from_the_file(tmp_path: Path, vgg_state: dict[str, torch.Tensor]) -> None:
    network = stage_1()
    ours, vgg, other = (tmp_path / f"{name}.safetensors" for name in ("ours", "vgg", "other"))
    save_weights(ours, network.state_dict(), {"network": "mask_completion", "config": network.config.to_dict()})
    save_file(vgg_state, vgg, {"format": "pt"})  # as published files are marked
    save_file({"weight": torch.zeros(1)}, other)
    assert isinstance(load_features(ours), ParsingFeatures)
    assert isinstance(load_features(vgg), Vgg16Features)
    with pytest.raises(WeightsError, match=r"other\.safetensors: expected weights of a deocclude stage 1 or of VGG-16"):
        load_features(other)
    save_file({k: v for k, v in vgg_state.items() if ".14." not in k}, other)
    with pytest.raises(WeightsError, match=r"other\.safetensors: not the weights of VGG-16: 'features\.14\.weight'"):
        load_features(other)
    loaded = load_mask_completion(ours)
    assert loaded.config == network.config
    assert all(torch.equal(v, network.state_dict()[k]) for k, v in loaded.state_dict().items())
    with pytest.raises(WeightsError, match=r"vgg\.safetensors: expected weights of mask_completion of ours"):
        load_mask_completion(vgg)


def test_patch_discriminator_scores_are_local() -> None:
    torch.manual_seed(0)
    network = PatchDiscriminator(4, width=4, depth=3).eval()
    x = torch.rand(1, 4, 64, 64)
    scores = network(x)
    assert scores.shape == (1, 1, 8, 8)
    assert PatchDiscriminator(4, width=4, depth=4)(x).shape == (1, 1, 4, 4)
    other = x.clone()
    other[..., :8, :8] = 0
    changed = (network(other) != scores)[0, 0]
    assert changed[0, 0] and not changed[5:].any() and not changed[:, 5:].any()


def test_the_discriminator_is_spectrally_normalised() -> None:
    torch.manual_seed(0)
    network = PatchDiscriminator(4, width=4, depth=2)
    with torch.no_grad():
        for _ in range(30):
            network(torch.rand(1, 4, 16, 16))
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            largest = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
            torch.testing.assert_close(largest, torch.tensor(1.0), atol=0.02, rtol=0)
