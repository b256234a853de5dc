"""Loss terms: values by hand, and gradients that reach what they should and nothing else."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from deocclude.metrics.content import mean_gradient
from deocclude.models.content_recovery import ContentRecoveryConfig, ContentRecoveryNet
from deocclude.models.discriminators import PatchDiscriminator
from deocclude.models.features import ParsingFeatures
from deocclude.models.mask_completion import MaskCompletionConfig, MaskCompletionNet, MaskOutput
from deocclude.train.content_losses import (
    ContentCriterion,
    brightness_gradient,
    compose,
    gradient_length,
    local_texture,
    masked_scores,
    regularity_l1,
    texture_l1,
)
from deocclude.train.loss_terms import (
    channel_correlation,
    discriminator_adversarial,
    generator_adversarial,
    generator_softplus,
    gram,
    perceptual,
    style,
)
from deocclude.train.mask_losses import MaskCriterion, dice_loss, lovasz_hinge, parsing_cross_entropy, weighted_bce


def picture(*values: float) -> Tensor:
    """(1, 1, 1, W) of the given numbers."""
    return torch.tensor(values).view(1, 1, 1, -1)


# --- values ---------------------------------------------------------------------------------------------------------


def test_weighted_cross_entropy_by_hand() -> None:
    logits, target, weight = picture(0.0, 2.0, 9.0), picture(1.0, 0.0, 0.0), picture(1.0, 3.0, 0.0)
    expected = (math.log(2) + 3 * math.log(1 + math.e**2)) / 4
    assert weighted_bce(logits, target, weight).item() == pytest.approx(expected, rel=1e-5)
    assert weighted_bce(logits, target, torch.zeros_like(weight)) == 0


def test_parsing_cross_entropy_counts_known_labels_alone() -> None:
    logits = torch.zeros(1, 3, 1, 3)
    logits[0, 2, 0, 1] = math.log(2)
    labels = torch.tensor([[[0, 2, 255]]], dtype=torch.uint8)
    expected = (math.log(3) + math.log(2)) / 2
    assert parsing_cross_entropy(logits, labels).item() == pytest.approx(expected, rel=1e-5)
    assert parsing_cross_entropy(logits, torch.full_like(labels, 255)) == 0


def test_dice_by_hand() -> None:
    found, truth = picture(0.5, 1.0, 0.0), picture(1.0, 1.0, 0.0)
    assert dice_loss(found, truth).item() == pytest.approx(1 - (2 * 1.5 + 1) / (1.5 + 2 + 1))
    assert dice_loss(truth, truth).item() == pytest.approx(0)
    assert dice_loss(found, truth, picture(0.0, 1.0, 1.0)).item() == pytest.approx(0)
    # a sample without a target is left out of the mean
    both = dice_loss(torch.cat([found, found]), torch.cat([truth, 0 * truth]))
    assert both.item() == pytest.approx(1 - 4 / 4.5)
    assert dice_loss(found, 0 * truth) == 0


def jaccard_loss(wrong: tuple[int, ...], truth: tuple[int, ...]) -> float:
    """1 - IoU of a prediction that errs exactly at the places `wrong`."""
    predicted = [t != (i in wrong) for i, t in enumerate(truth)]
    union = sum(p or t for p, t in zip(predicted, truth, strict=True))
    return 1 - sum(p and t for p, t in zip(predicted, truth, strict=True)) / union if union else 0.0


@pytest.mark.parametrize("truth", [(1, 1, 0, 0, 0), (1, 1, 1, 1, 0), (0, 0, 0, 0, 0), (1, 1, 1, 1, 1)])
def test_lovasz_is_the_iou_loss_at_every_vertex(truth: tuple[int, ...]) -> None:
    """Hinge errors of 1 at wrong places and 0 elsewhere: the loss is 1 - IoU, for each of the 32 predictions."""
    target = picture(*map(float, truth))
    for wrong in itertools.chain.from_iterable(itertools.combinations(range(5), n) for n in range(6)):
        margin = picture(*(0.0 if i in wrong else 1.0 for i in range(5)))
        loss = lovasz_hinge(margin * (2 * target - 1), target)
        assert loss.item() == pytest.approx(jaccard_loss(wrong, truth), abs=1e-6), wrong


def test_lovasz_between_vertices_is_the_mean_over_thresholds() -> None:
    truth, errors = (1, 0, 1, 0, 1), [0.9, 1.7, 0.2, 0.4, 1.1]
    target = picture(*map(float, truth))
    logits = (1 - picture(*errors)) * (2 * target - 1)
    order = sorted(range(5), key=lambda i: -errors[i])
    expected = sum(
        (errors[order[k]] - (errors[order[k + 1]] if k < 4 else 0)) * jaccard_loss(tuple(order[: k + 1]), truth)
        for k in range(5)
    )
    assert lovasz_hinge(logits, target).item() == pytest.approx(expected, abs=1e-6)
    two = lovasz_hinge(torch.cat([logits, 9 * (2 * target - 1)]), torch.cat([target, target]))
    assert two.item() == pytest.approx(expected / 2, abs=1e-6), "averaged over samples"


def test_feature_losses_by_hand() -> None:
    a = torch.tensor([[1.0, 2.0], [0.0, 3.0]]).view(1, 2, 1, 2)
    b = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(1, 2, 1, 2)
    torch.testing.assert_close(gram(a), torch.tensor([[[5.0, 6.0], [6.0, 9.0]]]) / 4)
    assert perceptual([a, b], [b, b]).item() == pytest.approx((2 + 2) / 4 / 2)
    assert style([a], [b]).item() == pytest.approx((4 + 6 + 6 + 8) / 4 / 4)
    assert style([a], [a.flip(3)]) == 0, "style does not know where"


def test_channel_correlation_by_hand() -> None:
    a = torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]]).view(1, 2, 1, 3)
    b = torch.tensor([[1.0, 2.0, 3.0], [6.0, 4.0, 2.0]]).view(1, 2, 1, 3)
    # correlations of 1 and of -1 off the diagonal
    assert channel_correlation(a, b).item() == pytest.approx((0 + 2 + 2 + 0) / 4, abs=1e-4)
    assert channel_correlation(a, 5 * a + 1).item() == pytest.approx(0, abs=1e-4)


def test_adversarial_by_hand() -> None:
    scores = torch.tensor([0.0, math.log(3)])
    assert generator_adversarial(scores).item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    expected = ((math.log(2) + math.log(4 / 3)) / 2 + math.log(2)) / 2
    assert discriminator_adversarial(scores, torch.zeros(2)).item() == pytest.approx(expected)
    # real patches score high, fakes low
    assert discriminator_adversarial(torch.ones(1) * 9, torch.ones(1) * -9) < 0.001
    assert discriminator_adversarial(torch.ones(1) * -9, torch.ones(1) * 9) > 5
    assert generator_adversarial(torch.ones(1) * 9) < 0.001


def test_adversarial_patches_without_hidden_pixels_are_ignored() -> None:
    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.avg_pool2d(x[:, :1], 4)

    person, hidden = torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8)
    person[..., 4:] = 2.0
    assert masked_scores(generator_softplus, Mean(), person, hidden) == 0
    hidden[..., 1, 6] = 1
    assert masked_scores(generator_softplus, Mean(), person, hidden).item() == pytest.approx(math.log(1 + math.e**-2))
    hidden[..., 6, 1] = 1
    expected = (math.log(1 + math.e**-2) + math.log(2)) / 2
    assert masked_scores(generator_softplus, Mean(), person, hidden).item() == pytest.approx(expected, rel=1e-5)


def stripes_of(size: int, period_px: int = 4) -> Tensor:
    return (torch.arange(size) % period_px < period_px // 2).float().expand(1, 3, size, size).contiguous()


def test_brightness_gradient_is_what_the_metric_measures() -> None:
    image = torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 1, 20, 24)
    mask[..., 3:15, 4:20] = 1
    gradient, inside = brightness_gradient(image, mask)
    length = gradient_length(gradient)
    picture, region = image[0].permute(1, 2, 0).numpy() * 255, mask[0, 0].bool().numpy()
    assert 255 * length[inside > 0].mean().item() == pytest.approx(mean_gradient(picture, region), rel=1e-4)


def test_texture_measures_strength_and_direction_not_position() -> None:
    mask, stripes = torch.ones(1, 1, 36, 36), stripes_of(36)
    # every gradient is 0.5 across: pi / 2 of it across, none down, half of its root on both diagonals
    expected = torch.tensor([math.pi / 4, 0.0, math.pi / 4 * math.sqrt(0.5), math.pi / 4 * math.sqrt(0.5), 0.5])
    texture = local_texture(stripes, mask)
    torch.testing.assert_close(texture, expected.view(1, 5, 1, 1).expand_as(texture), atol=2e-3, rtol=0)
    assert texture_l1(stripes.roll(2, 3), stripes, mask) < 0.01
    # at half size a period is two pixels, which central differences do not see: half of the two scales' mean and 0
    mean = expected.mean().item()
    assert texture_l1(torch.zeros_like(stripes), stripes, mask).item() == pytest.approx(mean / 2, abs=2e-3)
    broad = stripes_of(36, 8)  # at half size what the others are at full size
    assert texture_l1(torch.zeros_like(broad), broad, mask).item() > 1.2 * mean / 2
    assert texture_l1(stripes, stripes, mask) == 0


def test_rotated_stripes_have_another_texture() -> None:
    mask, stripes = torch.ones(1, 1, 36, 36), stripes_of(36)
    lying = stripes.transpose(2, 3).contiguous()
    difference = (local_texture(stripes, mask) - local_texture(lying, mask)).abs().amax((0, 2, 3))
    assert difference.tolist() == pytest.approx([math.pi / 4, math.pi / 4, 0, 0, 0], abs=2e-3)
    assert texture_l1(lying, stripes, mask).item() == pytest.approx(math.pi / 20, abs=2e-3)


def test_few_strong_edges_differ_from_many_weak_ones() -> None:
    mask = torch.ones(1, 1, 32, 32)
    weak, strong = stripes_of(32, 4) * 0.5, stripes_of(32, 8)  # an edge in two has twice the gradient
    a, b = local_texture(weak, mask), local_texture(strong, mask)
    inner = (slice(None), slice(None), slice(1, 2), slice(1, 2))
    assert a[inner][:, 0].item() == pytest.approx(b[inner][:, 0].item(), rel=0.02)
    assert b[inner][:, 4].item() > 1.3 * a[inner][:, 4].item()


def test_pixel_noise_and_pure_colour_changes_are_not_texture() -> None:
    mask, checks = torch.ones(1, 1, 32, 32), stripes_of(32, 2)
    assert local_texture(checks, mask).max() < 0.001
    colours = torch.zeros(1, 3, 32, 32)
    colours[:, 0], colours[:, 1] = stripes_of(32)[:, 0], 1 - stripes_of(32)[:, 0]
    assert local_texture(colours, mask).max() < 0.001


def woven(period: int, size: int = 64) -> torch.Tensor:
    """A chequered cloth, (1, 3, S, S), repeating every `period` pixels."""
    at = torch.arange(size) % period < period // 2
    return (at[:, None] ^ at[None]).float().mul(0.2).add(0.4).expand(1, 3, size, size)


def test_regularity_separates_woven_patterns_from_noise() -> None:
    mask = torch.ones(1, 1, 64, 64)
    rng = torch.Generator().manual_seed(0)
    noises = [torch.nn.functional.avg_pool2d(torch.rand(1, 3, 66, 66, generator=rng), 3, 1) for _ in range(2)]
    alike, woven_4, woven_8 = (regularity_l1(image, noises[0], mask) for image in (noises[1], woven(4), woven(8)))
    assert alike < 0.1 < 0.4 < min(woven_4, woven_8)
    assert regularity_l1(noises[0], noises[0], mask) == 0


def test_regularity_counts_only_inside_the_mask() -> None:
    flat, corner = torch.full((1, 3, 64, 64), 0.5), torch.zeros(1, 1, 64, 64)
    corner[..., :32, :32] = 1
    beside = flat.clone()
    beside[..., 32:] = woven(4)[..., 32:]
    assert regularity_l1(beside, flat, corner) == 0
    whole = regularity_l1(woven(4), flat, torch.ones(1, 1, 64, 64))
    # of a window that is a quarter of the crop, or of all of them: about the same mean
    assert regularity_l1(woven(4), flat, corner).item() == pytest.approx(whole.item(), rel=0.2)
    assert regularity_l1(woven(4), flat, 0 * corner) == 0


def test_texture_is_averaged_over_masked_windows() -> None:
    stripes = stripes_of(65)
    whole, corner = torch.ones(1, 1, 65, 65), torch.zeros(1, 1, 65, 65)
    corner[..., :33, :33] = 1
    fog = torch.zeros_like(stripes)
    assert texture_l1(fog, stripes, corner).item() == pytest.approx(texture_l1(fog, stripes, whole).item(), abs=0.01)
    assert texture_l1(fog, stripes, 0 * corner) == 0
    assert (local_texture(stripes, corner)[..., 5:, :] == 0).all()


def test_compose_by_hand() -> None:
    content, truth = torch.full((1, 3, 1, 3), 0.9), torch.full((1, 3, 1, 3), 0.2)
    out = compose(content, truth, picture(1.0, 0.0, 0.0), picture(1.0, 1.0, 0.0))
    assert out[0, 0].flatten().tolist() == pytest.approx([0.2, 0.9, 0.0])


# --- stage 1's criterion --------------------------------------------------------------------------------------------


def mask_network() -> MaskCompletionNet:
    torch.manual_seed(0)
    network = MaskCompletionNet(
        MaskCompletionConfig(stem_width=8, widths=(8, 8, 8, 8), head_width=8, templates=4, template_channels=8)
    )
    network.typical_poses.centres.uniform_()
    return network


def batch_of(size: int, count: int = 2) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(1)
    amodal, visible = torch.zeros(count, 1, size, size), torch.zeros(count, 1, size, size)
    amodal[..., size // 8 : -size // 8, size // 4 : -size // 4] = 1
    visible[..., size // 8 : size // 2, size // 4 : -size // 4] = 1
    parsing = torch.where(amodal[:, 0] > 0, torch.randint(1, 12, (count, size, size), generator=rng), 0)
    return {
        "photo": torch.rand(count, 3, size, size, generator=rng),
        "truth": torch.rand(count, 3, size, size, generator=rng),
        "initial": visible.clone(), "visible": visible, "amodal": amodal, "parsing": parsing.to(torch.uint8),
        "known": torch.ones_like(amodal),
    }  # fmt: skip


def reached(network: nn.Module) -> set[str]:
    """Names of the parameters with a gradient other than zero."""
    return {n for n, p in network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


MASK_HEADS = {
    "visible_ce": "visible_head.mask", "amodal_ce": "amodal_head.mask",
    "visible_parsing_ce": "visible_head.parsing", "amodal_parsing_ce": "amodal_head.parsing",
    "visible_dice": "visible_head.mask", "amodal_dice": "amodal_head.mask", "invisible_dice": "amodal_head.mask",
    "amodal_lovasz": "amodal_head.mask", "amodal_l1": "amodal_head.mask", "perceptual": "amodal_head.mask",
    "adversarial": "amodal_head.mask",
}  # fmt: skip


def test_every_mask_term_is_listed() -> None:
    assert set(MASK_HEADS) == set(MaskCriterion.TERMS)


@pytest.mark.parametrize("term", MaskCriterion.TERMS)
def test_each_mask_term_reaches_its_head_and_the_encoder(term: str) -> None:
    network, batch = mask_network().train(), batch_of(32)
    features = ParsingFeatures(mask_network())
    discriminator = PatchDiscriminator(4, width=4, depth=2).requires_grad_(False)
    criterion = MaskCriterion({term: 2.0}, features=features)
    terms = criterion(network(batch["photo"], batch["initial"]), batch, discriminator)
    assert terms.keys() == {term} and terms[term].ndim == 0
    terms[term].backward()
    names = reached(network)
    heads = {".".join(n.split(".")[:2]) for n in names if "_head." in n}
    assert MASK_HEADS[term] in heads
    assert not heads & (set(MASK_HEADS.values()) - {MASK_HEADS[term]}), "and no other output"
    assert any(n.startswith("stem.") for n in names) and any(n.startswith("visible_hourglass.") for n in names)
    # the second hourglass serves the amodal outputs alone
    assert any(n.startswith("amodal_hourglass.") for n in names) == MASK_HEADS[term].startswith("amodal")
    assert reached(discriminator) == reached(features) == set()


@pytest.mark.parametrize("term", ["amodal_l1", "perceptual", "adversarial", "amodal_dice", "amodal_ce"])
def test_mask_terms_act_on_the_soft_mask(term: str) -> None:
    """A mask that is moved by far too little to change sides still changes the loss: nothing is an argmax."""
    batch = batch_of(32)
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(4, width=4, depth=2).eval()
    criterion = MaskCriterion({term: 1.0}, features=ParsingFeatures(mask_network()))
    logits = torch.randn(2, 1, 32, 32)
    logits = (logits + 0.2 * logits.sign()).requires_grad_()
    parsing = torch.zeros(2, 12, 8, 8)

    def loss(amodal: Tensor) -> Tensor:
        return criterion(MaskOutput(amodal, amodal, parsing, parsing), batch, discriminator)[term]

    value = loss(logits)
    (gradient,) = torch.autograd.grad(value, logits)
    assert (gradient != 0).float().mean() > 0.95, "every pixel counts"
    step = 1e-2 * gradient / gradient.abs().max()
    moved = loss((logits - step).detach())
    assert ((logits - step > 0) == (logits > 0)).all() and moved < value
    assert (value - moved).item() == pytest.approx((gradient * step).sum().item(), rel=0.1)


def test_mask_terms_by_hand() -> None:
    """Logits of 0: every probability is one half, every part as likely as the others."""
    batch = {k: v.float() if k != "parsing" else v for k, v in batch_of(32, 1).items()}
    zero = torch.zeros(1, 1, 32, 32)
    output = MaskOutput(zero, zero, torch.zeros(1, 12, 8, 8), torch.zeros(1, 12, 8, 8))
    weights = {t: 1.0 for t in MaskCriterion.TERMS if t not in ("perceptual", "adversarial")}
    terms = {k: v.item() for k, v in MaskCriterion(weights)(output, batch).items()}
    area, seen = batch["amodal"].sum().item(), batch["visible"].sum().item()
    for name, expected in (("visible", math.log(2)), ("visible_parsing", math.log(12))):
        assert terms[f"{name}_ce"] == pytest.approx(expected, rel=1e-5)
        assert terms[f"{name.replace('visible', 'amodal')}_ce"] == pytest.approx(expected, rel=1e-5)
    assert terms["amodal_l1"] == pytest.approx(0.5)
    assert terms["amodal_dice"] == pytest.approx(1 - (area + 1) / (512 + area + 1))
    assert terms["visible_dice"] == pytest.approx(1 - (seen + 1) / (512 + seen + 1))
    hidden = area - seen
    assert terms["invisible_dice"] == pytest.approx(1 - (hidden + 1) / ((1024 - seen) / 2 + hidden + 1))
    doubled = MaskCriterion({"amodal_l1": 2.0, "amodal_ce": 0.0})(output, batch)
    assert {k: v.item() for k, v in doubled.items()} == {"amodal_l1": pytest.approx(1.0)}


def test_hidden_pixels_weigh_more_and_unknown_ones_are_ignored() -> None:
    batch = batch_of(32, 1)
    parsing = torch.zeros(1, 12, 8, 8)

    def gradient(batch: dict[str, Tensor]) -> Tensor:
        logits = torch.zeros(1, 1, 32, 32, requires_grad=True)
        criterion = MaskCriterion({"amodal_ce": 1.0}, invisible_weight=2.0)
        criterion(MaskOutput(logits, logits, parsing, parsing), batch)["amodal_ce"].backward()
        return logits.grad.abs()[0, 0]

    usual = gradient(batch)
    assert (usual[20, 16] / usual[10, 16]).item() == pytest.approx(3), "1 + invisible_weight"
    batch["known"][..., 16:] = 0
    cut = gradient(batch)
    assert (cut[:, 16:] == 0).all() and (cut[:, :16] > 0).all()


def test_visible_parsing_target_is_background_outside_visible_mask() -> None:
    batch = batch_of(32, 1)
    labels = batch["parsing"][:, 2::4, 2::4].long()
    seen = batch["visible"][:, 0, 2::4, 2::4] > 0
    right = nn.functional.one_hot(torch.where(seen, labels, 0), 12).permute(0, 3, 1, 2) * 50.0
    zero = torch.zeros(1, 1, 32, 32)
    terms = MaskCriterion({"visible_parsing_ce": 1.0, "amodal_parsing_ce": 1.0})(
        MaskOutput(zero, zero, right, right), batch
    )
    assert terms["visible_parsing_ce"] < 1e-6 and terms["amodal_parsing_ce"] > 1


# --- stage 2's criterion --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("term", ContentCriterion.TERMS)
def test_each_content_term_reaches_the_whole_decoder(term: str) -> None:
    torch.manual_seed(0)
    network = ContentRecoveryNet(ContentRecoveryConfig(widths=(8,) * 7, key_channels=4)).train()
    batch = batch_of(64)
    batch["truth"] = batch["photo"]
    discriminator = PatchDiscriminator(4, width=4, depth=2).requires_grad_(False)
    criterion = ContentCriterion({term: 1.0}, features=ParsingFeatures(mask_network()))
    parsing = torch.full((2, 12, 16, 16), 1 / 12)
    content = network(batch["photo"], batch["visible"], batch["amodal"], parsing, parsing)
    terms = criterion(content, batch, discriminator)
    assert terms.keys() == {term}
    terms[term].backward()
    names = reached(network)
    assert {"finish.1.weight", "decoder.0.conv.weight", "encoder.0.conv.weight"} <= names
    assert reached(discriminator) == reached(criterion.features) == set()


@pytest.mark.parametrize("term", ContentCriterion.TERMS)
def test_content_terms_act_only_on_their_region(term: str) -> None:
    batch = batch_of(64)
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(4, width=4, depth=2).requires_grad_(False)
    content = torch.rand(2, 3, 64, 64, requires_grad=True)
    criterion = ContentCriterion({term: 1.0}, features=ParsingFeatures(mask_network()))
    criterion(content, batch, discriminator)[term].backward()
    touched = content.grad.abs().sum(1, keepdim=True) > 0
    part = batch["visible"] if term == "visible_l1" else batch["amodal"] * (1 - batch["visible"])
    assert not (touched & (part == 0)).any()
    assert (touched & (part > 0)).sum() > 0.9 * part.sum()


def test_content_terms_by_hand() -> None:
    batch = batch_of(32, 1)
    batch["truth"] = torch.full((1, 3, 32, 32), 0.5)
    hidden = batch["amodal"] * (1 - batch["visible"])
    content = batch["truth"] + 0.25 * hidden - 0.125 * batch["visible"]
    weights = {"hidden_l1": 1.0, "visible_l1": 2.0, "texture": 1.0}
    terms = {k: v.item() for k, v in ContentCriterion(weights)(content, batch).items()}
    assert terms["hidden_l1"] == pytest.approx(0.25) and terms["visible_l1"] == pytest.approx(0.25)
    assert terms["texture"] == pytest.approx(0, abs=1e-6)
    perfect = ContentCriterion(
        dict.fromkeys(("hidden_l1", "perceptual", "style", "channel_correlation"), 1.0), ParsingFeatures(mask_network())
    )(batch["truth"], batch)
    assert all(v.item() == pytest.approx(0, abs=1e-6) for v in perfect.values())


# --- the two networks of a step -------------------------------------------------------------------------------------


def test_discriminator_loss_sends_no_gradient_to_the_generator() -> None:
    network, batch = mask_network().train(), batch_of(32)
    discriminator = PatchDiscriminator(4, width=4, depth=2)
    soft = torch.sigmoid(network(batch["photo"], batch["initial"]).amodal)
    real = discriminator(torch.cat([batch["photo"], batch["amodal"]], 1))
    discriminator_adversarial(real, discriminator(torch.cat([batch["photo"], soft.detach()], 1))).backward()
    assert reached(network) == set()
    weights = {n for n, p in discriminator.named_parameters() if p.ndim > 1}
    assert weights <= reached(discriminator)


def test_feature_terms_require_a_feature_network() -> None:
    with pytest.raises(ValueError, match="needs a frozen feature network"):
        MaskCriterion({"perceptual": 1.0})
    for term in ("perceptual", "style", "channel_correlation"):
        with pytest.raises(ValueError, match="need a frozen feature network"):
            ContentCriterion({term: 1.0})
    MaskCriterion({"perceptual": 0.0})
