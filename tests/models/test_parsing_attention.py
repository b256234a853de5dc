"""Attention over the body: rows that sum to 1, and no copies from invisible places."""

from __future__ import annotations

import pytest
import torch

from deocclude.models.parsing_attention import (
    BodyAttention,
    Parsing,
    ParsingGuidedAttention,
    attend,
    invisibility_penalty,
)


def given(size: int = 4, channels: int = 6, parts: int = 5) -> tuple[torch.Tensor, Parsing, torch.Tensor]:
    torch.manual_seed(0)
    parsing = Parsing(*(torch.softmax(torch.randn(2, parts, size, size), 1) for _ in range(2)))
    seen = torch.zeros(2, 1, size, size)
    seen[..., :2, :] = 1
    return torch.randn(2, channels, size, size), parsing, seen


def test_weights_sum_to_one_and_lie_on_visible_places() -> None:
    feature, parsing, seen = given()
    from_seen, to_whole = BodyAttention(6, 5, 4)(feature, parsing, seen)
    assert from_seen.shape == to_whole.shape == (2, 16, 16)
    for weights in (from_seen, to_whole):
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 16))
    assert from_seen[..., 8:].sum(-1).max() < 0.01, "the lower half shows nothing"


def test_half_visible_places_have_no_penalty() -> None:
    penalty = invisibility_penalty(torch.tensor([0.0, 0.25, 0.5, 1.0]).view(1, 1, 2, 2))
    assert penalty.flatten().tolist() == [-12, -6, 0, 0]


def test_scores_include_the_invisibility_penalty() -> None:
    feature, parsing, seen = given()
    attention = BodyAttention(6, 5, 4)
    expected = attention.scores(feature, parsing) + invisibility_penalty(seen)
    torch.testing.assert_close(attention.scores(feature, parsing, seen), expected, atol=1e-4, rtol=1e-5)


def test_attend_by_hand() -> None:
    value = torch.arange(8.0).view(1, 2, 2, 2)
    swap = torch.eye(4)[[3, 2, 1, 0]][None]
    assert torch.equal(attend(swap, value), value.flip(2, 3))
    mean = torch.full((1, 4, 4), 0.25)
    torch.testing.assert_close(attend(mean, value), torch.tensor([1.5, 5.5]).view(1, 2, 1, 1).expand(1, 2, 2, 2))


def test_hidden_place_attends_to_the_same_visible_part() -> None:
    """Keys that see the parsing alone: a hidden place of part 1 reads where part 1 is seen."""
    attention = BodyAttention(1, 3, 3)
    with torch.no_grad():
        for conv in (attention.whole, attention.seen):
            conv.weight.zero_()
            conv.bias.zero_()
            conv.weight[:, 1:, 0, 0] = torch.eye(3)
    labels = torch.tensor([[1, 2], [2, 1]])
    parsing = torch.nn.functional.one_hot(labels, 3).permute(2, 0, 1)[None].float()
    seen = torch.tensor([[1.0, 1.0], [0.0, 0.0]]).view(1, 1, 2, 2)
    weights, _ = attention(torch.zeros(1, 1, 2, 2), Parsing(parsing, parsing), seen)
    assert weights[0].argmax(1).tolist() == [0, 1, 1, 0]
    assert weights[0].max(1).values.min() > 0.99


@pytest.mark.parametrize(("part", "place"), [(True, True), (True, False), (False, True), (False, False)])
def test_parsing_matters_only_through_a_stream(part: bool, place: bool) -> None:
    feature, parsing, seen = given()
    module = ParsingGuidedAttention(6, 5, key_channels=4, part_stream=part, place_stream=place).eval()
    # it starts as no attention at all
    torch.testing.assert_close(module(feature, parsing, seen), feature.relu())
    with torch.no_grad():
        module.fuse[1].weight.fill_(1.0)
    other = Parsing(parsing.visible.roll(1, 1), parsing.amodal)
    changed = not torch.equal(module(feature, parsing, seen), module(feature, other, seen))
    assert changed == (part or place), "the parsing matters through a stream alone"


def test_pooled_places_share_their_attention() -> None:
    feature, parsing, seen = given(size=8)
    seen[..., :4, :] = 1
    module = ParsingGuidedAttention(6, 5, key_channels=4, part_stream=False, pool=2).eval()
    found = module._places(feature, parsing, seen)
    assert [f.shape for f in found] == [(2, 4, 8, 8)] * 2
    for f in found:
        assert torch.equal(f[..., ::2, ::2], f[..., 1::2, 1::2]), "the four places of a cell read the same"
        assert not torch.equal(f[..., 0, 0], f[..., 2, 0])
    coarse = ParsingGuidedAttention(6, 5, key_channels=4, part_stream=False).eval()
    coarse.load_state_dict(module.state_dict())
    cells = torch.nn.functional.avg_pool2d
    direct = coarse._places(cells(feature, 2), parsing.at((4, 4)), cells(seen, 2))
    for f, d in zip(found, direct, strict=True):
        torch.testing.assert_close(f[..., ::2, ::2], d)


def test_smaller_parsing_is_an_average() -> None:
    _, parsing, _ = given()
    small = parsing.at((2, 2))
    torch.testing.assert_close(small.amodal, torch.nn.functional.avg_pool2d(parsing.amodal, 2))
    assert parsing.at((4, 4)).visible is parsing.visible
