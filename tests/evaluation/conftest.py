"""A drawn frozen set, and tiny judging networks as files."""

from __future__ import annotations

from pathlib import Path

import pytest

from deocclude.data.frozen import FrozenSet, write_frozen_set
from drawn_set import draw_person
from tiny_judges import save_channel_means, save_mean_distance


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> FrozenSet:
    """Three occluded pictures of two people, and one that nothing hides."""
    samples = [
        draw_person("ann", "object", 20),
        draw_person("ann", "low", 44),
        draw_person("bob", "person", 60),
        draw_person("bob", "none", 0),
    ]
    return write_frozen_set(tmp_path_factory.mktemp("drawn") / "set", samples, name="drawn", seed=3, source="code")


@pytest.fixture(scope="session")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_channel_means(tmp_path_factory.mktemp("inception") / "inception.onnx")


@pytest.fixture(scope="session")
def lpips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_mean_distance(tmp_path_factory.mktemp("lpips") / "lpips.onnx")
