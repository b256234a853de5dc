"""Conversion from the reference's layout: the numbers that a layer gave before, it gives afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from deocclude.errors import UsageError, WeightsError
from deocclude.export.from_reference import CONTENT, MASK, convert
from deocclude.models.content_recovery import ContentRecoveryNet
from deocclude.models.mask_completion import MaskCompletionConfig, MaskCompletionNet
from deocclude.models.partial_conv import PartialConv
from reference_layout import stage1, stage2

WIDTH = 4


@pytest.fixture(scope="module")
def mask_state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return stage1(WIDTH)


@pytest.fixture(scope="module")
def content_state() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return stage2(WIDTH)


def batch_norm(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    values = (state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(x, *values)


def test_reference_layout_has_the_papers_parameter_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """27.0 M and 55.6 M trainable parameters at the true width; the numbers do not matter."""
    monkeypatch.setattr(torch, "randn", torch.empty)
    mask, content = stage1(64), stage2(64)
    statistics = ("running_mean", "running_var", "num_batches_tracked", "mask_conv.weight", "anchors")

    def trainable(state: dict[str, Tensor]) -> float:
        return sum(v.numel() for k, v in state.items() if not k.endswith(statistics)) / 1e6

    assert trainable(mask) == pytest.approx(27.0, abs=0.05)
    assert trainable(content) == pytest.approx(55.6, abs=0.05)


def test_conversion_table_names_each_tensor_once(
    mask_state: dict[str, Tensor], content_state: dict[str, Tensor]
) -> None:
    for layers, state in ((MASK, mask_state), (CONTENT, content_state)):
        ours = [name for layer in layers for name in layer.tensors]
        assert len(ours) == len(set(ours))
        network, _ = convert(state)
        assert set(ours) <= set(network.state_dict())
        theirs = {name for layer in layers for _, sources in layer.tensors.values() for name in sources}
        assert theirs <= set(state)


def test_stage1_converts_encoders_gates_and_pose_convolution(mask_state: dict[str, Tensor]) -> None:
    network, report = convert(mask_state)
    assert isinstance(network, MaskCompletionNet)
    assert (network.config.stem_width, network.config.widths) == (WIDTH, (8, 16, 32, 32))
    assert network.config.head_width == MaskCompletionConfig.paper().head_width
    layers = {name.rpartition(".")[0] for name in report.taken}
    encoder = {
        f"{b}.body.{n}" for b in ("enter", *(f"{h}.down.{i}" for h in HOURGLASSES for i in range(3))) for n in BODY
    }
    gates = {f"{h}_head.excite.gate.{i}" for h in ("visible", "amodal") for i in (1, 3)}
    assert layers == {"stem.0", "stem.1", *encoder, *gates, "typical_poses.mix"}
    assert report.differs["typical_poses.centres"] == {"ours": [64, 2, 32, 32], "anchors": [64, 32, 32]}
    assert "enter.shortcut.1.weight" in report.missing_in_theirs and "up4.conv.conv.0.weight" in report.missing_in_ours


HOURGLASSES = ("visible_hourglass", "amodal_hourglass")
BODY = ("0.0", "0.1", "1", "2")


def test_converted_double_convolution_matches(mask_state: dict[str, Tensor]) -> None:
    """Its biases have gone into the batch norms."""
    network, _ = convert(mask_state)
    x, name = torch.randn(2, 8, 6, 6), "down2.mpconv.1.conv"
    hidden = F.conv2d(x, mask_state[f"{name}.0.weight"], mask_state[f"{name}.0.bias"], stride=2, padding=1)
    hidden = F.relu(batch_norm(hidden, mask_state, f"{name}.1"))
    wanted = F.conv2d(hidden, mask_state[f"{name}.3.weight"], mask_state[f"{name}.3.bias"], padding=1)
    wanted = batch_norm(wanted, mask_state, f"{name}.4")
    with torch.no_grad():
        found = network.eval().visible_hourglass.down[0].body(x)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_converted_gates_and_pose_convolution_match(mask_state: dict[str, Tensor]) -> None:
    network, _ = convert(mask_state)
    x = torch.randn(2, 32, 5, 5)
    hidden = F.relu(x.mean((2, 3)) @ mask_state["se_amodal.fc.0.weight"].T)
    gates = torch.sigmoid(hidden @ mask_state["se_amodal.fc.2.weight"].T)
    poses, name = torch.rand(1, 64, 8, 8), "reweight_gate.anchor_conv"
    with torch.no_grad():
        torch.testing.assert_close(network.amodal_head.excite(x), x * gates[..., None, None])
        wanted = F.conv2d(poses, mask_state[f"{name}.weight"], mask_state[f"{name}.bias"], padding=1)
        # ours multiplies by the root of their number first
        torch.testing.assert_close(network.typical_poses.mix(poses * 8), wanted, rtol=1e-4, atol=1e-4)


def test_stage2_converts_the_u_net(content_state: dict[str, Tensor]) -> None:
    network, report = convert(content_state)
    assert isinstance(network, ContentRecoveryNet)
    assert network.config.widths == (4, 8, 16, 32, 32, 32, 32) and network.config.kernels == (7, 5, 5, 3, 3, 3, 3)
    convolutions = {name for name in report.taken if name.endswith("conv.weight")}
    assert convolutions == {f"encoder.{i}.conv.weight" for i in range(1, 7)} | {
        f"decoder.{i}.conv.weight" for i in range(6)
    }
    assert report.taken["decoder.0.conv.weight"] == ("dec_2.conv.input_conv.weight",)
    assert report.differs["encoder.0.conv.weight"] == {
        "ours": [4, 3, 7, 7],
        "enc_1.conv.input_conv.weight": [4, 5, 7, 7],
    }
    assert len(report.unneeded) == 14 and all(name.endswith("mask_conv.weight") for name in report.unneeded)
    assert report.parameters_taken == sum(
        v.numel() for k, v in content_state.items()
        if k.startswith(("enc_", "dec_")) and "_att" not in k and not k.startswith(("enc_1.", "dec_1."))
        and k.endswith(("input_conv.weight", "bn.weight", "bn.bias"))
    )  # fmt: skip


@pytest.mark.parametrize(("ours", "theirs"), [("encoder.1", "enc_2"), ("decoder.5", "dec_7")])
def test_converted_partial_convolution_matches(content_state: dict[str, Tensor], ours: str, theirs: str) -> None:
    """Theirs divides by how many inputs of the window are valid (Liu et al. 2018), ours by their share."""
    network, _ = convert(content_state)
    layer = network.eval().get_submodule(ours)
    weight = content_state[f"{theirs}.conv.input_conv.weight"]
    x, valid = torch.randn(1, weight.shape[1], 12, 12), torch.ones(1, 1, 12, 12)
    valid[..., 2:9, 3:] = 0
    same = {"stride": layer.stride, "padding": layer.kernel // 2}
    count = F.conv2d(valid.expand_as(x), torch.ones_like(weight), **same)
    hole = count == 0
    wanted = F.conv2d(x * valid, weight, **same) / count.masked_fill(hole, 1)
    wanted = F.leaky_relu(batch_norm(wanted, content_state, f"{theirs}.bn"), layer.slope).masked_fill(hole, 0)
    with torch.no_grad():
        found, reached = PartialConv.forward(layer, x * valid, valid)  # a decoder level joins its inputs itself
    assert hole.any() and torch.equal(reached == 0, hole[:, :1])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_every_tensor_is_accounted_for(mask_state: dict[str, Tensor], content_state: dict[str, Tensor]) -> None:
    for state in (mask_state, content_state):
        network, report = convert(state)
        groups = (set(report.taken), set(report.differs), set(report.missing_in_theirs))
        assert set.union(*groups) == set(network.state_dict()) and sum(map(len, groups)) == len(set.union(*groups))
        used = {name for sources in report.taken.values() for name in sources}
        used |= {name for row in report.differs.values() for name in row} - {"ours"}
        left = set(report.missing_in_ours) | set(report.unneeded)
        assert used | left == set(state) and not used & left


def test_tensors_without_counterpart_keep_their_initialisation(content_state: dict[str, Tensor]) -> None:
    torch.manual_seed(3)
    network, report = convert(content_state)
    torch.manual_seed(3)
    fresh = ContentRecoveryNet(network.config)
    for name, value in fresh.state_dict().items():
        assert torch.equal(network.state_dict()[name], value) == (name not in report.taken), name


@pytest.mark.parametrize("prefix", ["module.", "model.module.", "module.model."])
def test_wrapper_prefixes_are_removed_in_any_order(content_state: dict[str, Tensor], prefix: str) -> None:
    _, report = convert({f"{prefix}{name}": tensor for name, tensor in content_state.items()})
    assert report == convert(content_state)[1]


def test_wrapper_prefixes_and_missing_tensors_are_tolerated(mask_state: dict[str, Tensor]) -> None:
    whole = convert(mask_state)[1]
    wrapped = {f"model.module.{name}": tensor for name, tensor in mask_state.items()}
    assert convert(wrapped)[1] == whole
    del wrapped["model.module.down3_hg2.mpconv.1.conv.0.bias"]
    report = convert(wrapped)[1]
    lost = {"amodal_hourglass.down.1.body.0.0.weight", "amodal_hourglass.down.1.body.0.1.running_mean"}
    assert lost < set(whole.taken) - set(report.taken) and lost < set(report.missing_in_theirs)
    assert "down3_hg2.mpconv.1.conv.0.weight" in report.missing_in_ours


def test_other_state_dicts_are_rejected(mask_state: dict[str, Tensor], content_state: dict[str, Tensor]) -> None:
    with pytest.raises(
        WeightsError, match=r"not the layout of the reference .* among 1 tensors, the first of which is w$"
    ):
        convert({"w": torch.zeros(1)})
    with pytest.raises(WeightsError, match=r"enc_7\.conv\.input_conv\.weight: no convolution of that name"):
        convert({k: v for k, v in content_state.items() if not k.startswith("enc_7")})
    with pytest.raises(WeightsError, match=r"se_modal\.fc\.0\.weight: unexpected shape of the layer"):
        convert(mask_state | {"se_modal.fc.0.weight": torch.zeros(3)})
    with pytest.raises(UsageError, match="widths must be file or paper, got 'huge'"):
        convert(mask_state, "huge")


def test_paper_sizes_convert_only_matching_tensors() -> None:
    torch.manual_seed(0)
    network, report = convert(stage1(1), "paper")
    assert network.config == MaskCompletionConfig.paper()
    # whatever the widths, the parsing features have 32 channels and the poses are 64
    assert {name.rpartition(".")[0] for name in report.taken} == {
        "visible_head.excite.gate.1", "visible_head.excite.gate.3", "amodal_head.excite.gate.1",
        "amodal_head.excite.gate.3", "typical_poses.mix",
    }  # fmt: skip
