"""Sizes of the networks: what ships is small, and `paper` is about what the paper states."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from deocclude.models.blocks import count_parameters
from deocclude.models.content_recovery import ContentRecoveryConfig, ContentRecoveryNet
from deocclude.models.mask_completion import MaskCompletionConfig, MaskCompletionNet
from multiplications import Multiplications


def size_of(kind: type[nn.Module], config: object) -> tuple[float, float]:
    """Million parameters, and billion multiply-accumulates of one person at 256 x 256; nothing is computed."""
    with FakeTensorMode():
        network = kind(config).eval()
        image, mask, parsing = torch.zeros(1, 3, 256, 256), torch.zeros(1, 1, 256, 256), torch.zeros(1, 12, 64, 64)
        inputs = (image, mask) if kind is MaskCompletionNet else (image, mask, mask, parsing, parsing)
        with torch.no_grad(), Multiplications() as counted:
            network(*inputs)
        return count_parameters(network) / 1e6, counted.count / 1e9


def test_multiplications_by_hand() -> None:
    with Multiplications() as counted:
        nn.Conv2d(3, 5, 3, padding=1)(torch.zeros(2, 3, 4, 4))
        torch.zeros(2, 3, 4) @ torch.zeros(2, 4, 5)
    assert counted.count == 2 * 5 * 16 * 27 + 2 * 3 * 4 * 5


@pytest.mark.parametrize(
    ("kind", "config", "parameters", "multiplications"),
    [
        (MaskCompletionNet, MaskCompletionConfig, 27.0, 75.7),
        (ContentRecoveryNet, ContentRecoveryConfig, 55.6, 35.4),
    ],
)
def test_paper_config_sizes_match_the_paper(kind, config, parameters: float, multiplications: float) -> None:
    found = size_of(kind, config.paper())
    assert found == pytest.approx((parameters, multiplications), rel=0.1)


def test_shipped_networks_are_an_order_smaller() -> None:
    mask = size_of(MaskCompletionNet, MaskCompletionConfig.base())
    content = size_of(ContentRecoveryNet, ContentRecoveryConfig.base())
    assert mask[0] < 5 and content[0] < 5
    assert mask[1] + content[1] < (75.7 + 35.4) / 20
