"""Stage 2's network: the visible body is its only source, and each part keeps its colour."""

from __future__ import annotations

import pytest
import torch

from deocclude.models.content_recovery import (
    ContentRecoveryConfig,
    ContentRecoveryNet,
    PartialUp,
    PlainUp,
    _parsing_in_mask,
    part_colours,
)
from deocclude.models.parsing_attention import Parsing


def tiny(seed: int = 0, **changes: object) -> ContentRecoveryNet:
    torch.manual_seed(seed)
    network = ContentRecoveryNet(ContentRecoveryConfig(**({"widths": (8,) * 7, "key_channels": 4} | changes)))
    with torch.no_grad():  # fresh attention and blocks do nothing; here they must
        for name, p in network.named_parameters():
            if p.ndim == 1 and name.endswith("weight"):
                p.uniform_(0.5, 1.5)
    return network.eval()


def person(size: int = 64, batch: int = 1, parts: int = 12) -> dict[str, torch.Tensor]:
    """A block of a body; what lies below its middle is hidden."""
    rng = torch.Generator().manual_seed(size)
    amodal, visible = torch.zeros(batch, 1, size, size), torch.zeros(batch, 1, size, size)
    amodal[..., size // 8 : size * 7 // 8, size // 4 : size * 3 // 4] = 1
    visible[..., size // 8 : size // 2 - 3, size // 4 : size * 3 // 4] = 1
    parsing = [torch.softmax(3 * torch.randn(batch, parts, size // 4, size // 4, generator=rng), 1) for _ in range(2)]
    return {
        "image": torch.rand(batch, 3, size, size, generator=rng), "visible": visible, "amodal": amodal,
        "visible_parsing": parsing[0], "amodal_parsing": parsing[1],
    }  # fmt: skip


# the finest levels as in the paper, and as in what ships
LAST_LEVELS = [{}, {"plain_levels": 2, "finish_channels": 4, "grain": True}]


@pytest.mark.parametrize("last", LAST_LEVELS)
@pytest.mark.parametrize(("batch", "size"), [(2, 64), (1, 96), (1, 128), (1, 192)])
def test_shapes(batch: int, size: int, last: dict) -> None:
    with torch.no_grad():
        out = tiny(**last)(**person(size, batch))
    assert out.shape == (batch, 3, size, size) and out.dtype == torch.float32
    assert out.min() >= 0 and out.max() <= 1


def test_noise_texture_starts_at_zero_and_is_equal_on_all_channels() -> None:
    network, plain, given = tiny(grain=True), tiny(), person(batch=2)
    assert {name.split(".")[0] for name in set(network.state_dict()) - set(plain.state_dict())} == {"grain"}
    plain.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("grain")})
    with torch.no_grad():
        before = network(**given)
        torch.testing.assert_close(before, plain(**given), atol=0, rtol=0)
        network.grain.strength.bias.fill_(0.02)
        added = network.train()(**given) - plain.train()(**given)  # in training nothing is clamped
    assert added.abs().amax() > 0.02
    torch.testing.assert_close(added[:, :1].expand_as(added), added, atol=1e-6, rtol=0)


@pytest.mark.parametrize("switch", ["part_stream", "place_stream", "patch_copy"])
def test_ablation_switches_remove_parameters(switch: str) -> None:
    network = tiny(**{switch: False})
    assert network(**person()).shape == (1, 3, 64, 64)
    full = set(tiny().state_dict())
    assert set(network.state_dict()) < full
    assert tiny(part_stream=False, place_stream=False, patch_copy=False)(**person()).shape == (1, 3, 64, 64)


@pytest.mark.parametrize("last", LAST_LEVELS)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_output_depends_only_on_visible_body_pixels(training: bool, seed: int, last: dict) -> None:
    """Occluder and background may have any colour: the result is the same to the last bit."""
    network = tiny(seed, **last).train(training)
    given = person(batch=2)
    with torch.no_grad():
        out = network(**given)
        noise = torch.rand_like(given["image"]) * 5
        other = network(**given | {"image": torch.where(given["visible"] > 0, given["image"], noise)})
        changed = network(**given | {"image": given["image"] * 0.5})
    assert torch.equal(out, other)
    assert not torch.equal(out, changed)


def test_no_gradient_reaches_hidden_pixels() -> None:
    given = person(batch=2)
    given["image"].requires_grad_()
    tiny().train()(**given).square().sum().backward()
    gradient = given["image"].grad
    assert (gradient * (1 - given["visible"]) == 0).all()
    # while all of the visible body matters
    assert ((gradient.abs().sum(1, keepdim=True) > 0) == (given["visible"] > 0)).float().mean() > 0.99


def test_plain_levels_replace_partial_ones_below_attention() -> None:
    kinds = [[type(level) for level in tiny(**last).decoder] for last in LAST_LEVELS]
    assert kinds == [[PartialUp] * 6, [PlainUp] * 2 + [PartialUp] * 4]
    for levels in (-1, 3):
        with pytest.raises(ValueError, match=f"plain_levels must be 0 to 2, below the first attention, got {levels}"):
            ContentRecoveryConfig(plain_levels=levels)


@pytest.mark.parametrize("last", LAST_LEVELS)
def test_every_parameter_gets_a_gradient(last: dict) -> None:
    network = tiny(**last).train()
    network(**person(batch=2)).square().sum().backward()
    dead = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []


def test_part_colours_by_hand() -> None:
    """A body of 8 x 16 px: the left half part 1, the right half part 2; the lower row of cells is hidden."""
    visible = torch.zeros(1, 1, 8, 16)
    visible[..., :4, :] = 1
    source = torch.zeros(1, 3, 8, 16)
    source[:, 0, :4, :8] = 0.8  # part 1 is red
    source[:, 2, :4, 8:] = 0.4  # part 2 is blue
    amodal_parsing = torch.zeros(1, 4, 2, 4)
    amodal_parsing[:, 1, :, :2] = 1
    amodal_parsing[:, 2, 0, 2:] = 1
    amodal_parsing[:, 2, 1, 2] = 1
    amodal_parsing[:, 3, 1, 3] = 1  # without a visible pixel
    visible_parsing = amodal_parsing.clone()
    visible_parsing[:, :, 1] = 0
    visible_parsing[:, 0, 1] = 1
    out = part_colours(source, visible, Parsing(visible_parsing, amodal_parsing))
    assert out.shape == (1, 3, 8, 16)
    # two seen cells a part, and two more of the person's mean colour, which is (0.4, 0, 0.2)
    red, blue = torch.tensor([0.6, 0, 0.1]), torch.tensor([0.2, 0, 0.3])
    for y, x, expected in ((0, 0, red), (7, 0, red), (0, 15, blue), (7, 15, torch.tensor([0.4, 0, 0.2]))):
        torch.testing.assert_close(out[0, :, y, x], expected, atol=1e-3, rtol=0)


def test_part_colours_of_an_empty_body_are_black() -> None:
    nothing = torch.zeros(1, 3, 8, 8)
    parsing = torch.zeros(1, 3, 2, 2)
    parsing[:, 0] = 1
    assert (part_colours(nothing, nothing[:, :1], Parsing(parsing, parsing)) == 0).all()


def test_parsing_is_restricted_to_its_mask() -> None:
    mask = torch.zeros(1, 1, 4, 8)
    mask[..., :2] = 1  # half of the first cell, nothing of the second
    parsing = torch.tensor([0.6, 0.1, 0.3]).view(1, 3, 1, 1).expand(1, 3, 1, 2)
    out = _parsing_in_mask(parsing, mask)
    torch.testing.assert_close(out[0, :, 0, 0], torch.tensor([0.5, 0.125, 0.375]))
    torch.testing.assert_close(out[0, :, 0, 1], torch.tensor([1.0, 0.0, 0.0]))


def test_a_config_survives_json() -> None:
    import json

    config = ContentRecoveryConfig.paper()
    values = json.loads(json.dumps(config.to_dict()))
    lists = {k: tuple(v) for k, v in values.items() if isinstance(v, list)}
    assert ContentRecoveryConfig(**values | lists) == config
