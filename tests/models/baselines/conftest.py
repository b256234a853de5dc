"""A batch of two people, drawn by hand at 32 px, as `data.dataset.to_batch` and `engine.to_float` give it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

SIZE = 32


@pytest.fixture
def batch() -> dict[str, Tensor]:
    """Person 0 stands in columns 8-15, hidden from row 20 on; person 1 in columns 14-23, hidden right of column 19."""
    amodal = torch.zeros(2, 1, SIZE, SIZE)
    amodal[0, :, 4:28, 8:16] = 1
    amodal[1, :, 4:28, 14:24] = 1
    visible = amodal.clone()
    visible[0, :, 20:] = 0
    visible[1, ..., 20:] = 0
    rng = torch.Generator().manual_seed(0)
    truth = torch.rand(2, 3, SIZE, SIZE, generator=rng)
    photo = torch.where(amodal * (1 - visible) > 0, torch.zeros_like(truth), truth)
    return {
        "photo": photo, "truth": truth, "initial": visible, "visible": visible, "amodal": amodal,
        "known": torch.ones_like(amodal), "parsing": torch.zeros(2, SIZE, SIZE, dtype=torch.uint8),
    }  # fmt: skip
