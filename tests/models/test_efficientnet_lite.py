"""The ImageNet-pretrained backbone: its shape, weights by their published names, and what stays frozen."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from deocclude.checkpoints.files import load_foreign_state
from deocclude.evaluation.demo_scene import make_scene
from deocclude.models.efficientnet_lite import EfficientNetLite
from deocclude.train.pretrained_backbone import imagenet_file


def published_names(trunk: EfficientNetLite) -> dict[str, str]:
    """Of each of the trunk's layers, written down from the published file."""
    blocks = [block for stage in trunk.stages for block in stage]
    names = {"stem.0": "_conv_stem", "stem.1": "_bn0"}
    places = [(s, b) for s, stage in enumerate(trunk.stages) for b in range(len(stage))]
    for number, ((s, b), block) in enumerate(zip(places, blocks, strict=True)):
        norms = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}
        for part, norm in norms.items():
            if getattr(block, part) is not None:
                names[f"stages.{s}.{b}.{part}.0"] = f"_blocks.{number}._{part}_conv"
                names[f"stages.{s}.{b}.{part}.1"] = f"_blocks.{number}.{norm}"
    return names


def as_published(trunk: EfficientNetLite) -> dict[str, Tensor]:
    names = published_names(trunk)
    return {f"{names[k.rpartition('.')[0]]}.{k.rpartition('.')[2]}": v.clone() for k, v in trunk.state_dict().items()}


def with_statistics() -> EfficientNetLite:
    torch.manual_seed(0)
    trunk = EfficientNetLite()
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.normal_(module.weight, 1, 0.1)
    return trunk.eval()


def test_features_at_five_scales() -> None:
    half, *features = EfficientNetLite().eval()(torch.rand(2, 3, 64, 96))
    assert half.shape == (2, EfficientNetLite.half_width, 32, 48)
    assert [tuple(f.shape) for f in features] == [(2, 24, 16, 24), (2, 40, 8, 12), (2, 112, 4, 6), (2, 192, 2, 3)]
    assert tuple(f.shape[1] for f in features) == EfficientNetLite.widths


@pytest.mark.parametrize(("kernel", "first"), [(3, 0), (5, -1)])
def test_strided_convolutions_pad_as_published(kernel: int, first: int) -> None:
    """Of an even size "SAME" padding gives the odd pixel to the far side: a 3x3 window starts at pixel 0, 2, 4..."""
    trunk = EfficientNetLite()
    conv = trunk.stem[0] if kernel == 3 else trunk.stages[2][0].depthwise[0]
    picks = torch.zeros_like(conv.weight)
    picks[:, 0, 1, 1] = 1  # the window's second pixel
    x = torch.arange(64.0).view(1, 1, 8, 8).expand(1, conv.in_channels, 8, 8)
    with torch.no_grad():
        conv.weight.copy_(picks)
        out = conv(x)[0, 0]
    at = slice(first + 1, None, 2)
    torch.testing.assert_close(out, x[0, 0][at, at])


def test_weights_come_by_their_published_names() -> None:
    theirs, mine = with_statistics(), EfficientNetLite().eval()
    mine.load_published(as_published(theirs) | {"_fc.weight": torch.zeros(1000, 1280)})
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(mine(image), theirs(image), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_other_weights_are_refused() -> None:
    published = as_published(EfficientNetLite())
    with pytest.raises(ValueError, match=r"not the weights of EfficientNet-Lite0: _blocks.3._bn1.bias is missing"):
        EfficientNetLite().load_published({k: v for k, v in published.items() if k != "_blocks.3._bn1.bias"})
    with pytest.raises(ValueError, match=r"Lite0: size mismatch for stem\.0\.weight"):
        EfficientNetLite().load_published(published | {"_conv_stem.weight": torch.zeros(8, 3, 3, 3)})


def test_loaded_batch_norm_statistics_stay_frozen() -> None:
    mine = EfficientNetLite()
    mine.load_published(as_published(with_statistics()))
    mine.train()
    before = {k: v.clone() for k, v in mine.state_dict().items()}
    mine(torch.rand(2, 3, 64, 64))
    assert all(torch.equal(v, before[k]) for k, v in mine.state_dict().items())
    fresh = EfficientNetLite().train()
    mean = fresh.stem[1].running_mean.clone()
    fresh(torch.rand(2, 3, 64, 64))
    assert not torch.equal(fresh.stem[1].running_mean, mean), "its own statistics a fresh trunk has to learn"


def test_frozen_stages_learn_nothing_and_the_others_do() -> None:
    trunk = EfficientNetLite()
    trunk.freeze(3)
    sum(f.square().mean() for f in trunk(torch.rand(2, 3, 64, 64))).backward()
    reached = {tuple(k.split(".")[:2]) for k, p in trunk.named_parameters() if p.grad is not None}
    assert reached == {("stages", "3"), ("stages", "4"), ("stages", "5")}
    with pytest.raises(ValueError, match="frozen stages must be from 0 to 6, got 7"):
        EfficientNetLite().freeze(7)


def test_the_published_statistics_fit_a_photo() -> None:
    """They would not if pixels came in another range, or weights in another place."""
    trunk = EfficientNetLite().eval()
    trunk.load_published(load_foreign_state(imagenet_file()))
    photo = torch.from_numpy(make_scene().photo[:448, :448].copy()).permute(2, 0, 1)[None] / 127.5 - 1
    seen: dict[str, Tensor] = {}
    for s, b in ((0, 0), (2, 0), (5, 3)):
        norm = trunk.stages[s][b].project[1]
        norm.register_forward_hook(lambda m, x, y, key=f"{s}.{b}": seen.__setitem__(key, (x[0].mean((0, 2, 3)), m)))
    with torch.no_grad():
        trunk(photo)
    for key, (mean, norm) in seen.items():
        distance = (mean - norm.running_mean).abs() / norm.running_var.sqrt()
        assert distance.mean() < 0.3, f"stage {key}: {distance.mean():.2f} standard deviations off"
