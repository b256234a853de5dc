"""A drawn evaluation set, and tiny networks of perceptual metrics as files."""

from __future__ import annotations

from pathlib import Path

import pytest

from deocclude.data.evalsets.persons import EvalSet
from drawn_set import write_drawn_set
from tiny_metrics import save_channel_means, save_mean_distance


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> EvalSet:
    return write_drawn_set(tmp_path_factory.mktemp("drawn") / "set")


@pytest.fixture(scope="session")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_channel_means(tmp_path_factory.mktemp("inception") / "inception.onnx")


@pytest.fixture(scope="session")
def lpips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_mean_distance(tmp_path_factory.mktemp("lpips") / "lpips.onnx")
