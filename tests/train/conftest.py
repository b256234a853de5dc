"""A drawn data folder, and configs of networks small enough to train in a second."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from datafolder import draw_data_folder
from deocclude.checkpoints.files import save_weights
from deocclude.models.mask_completion import MaskCompletionConfig, MaskCompletionNet
from deocclude.train.engine import Stage

MASK_NETWORK = {"stem_width": 8, "widths": [8, 8, 8, 8], "head_width": 8, "templates": 4, "template_channels": 8}


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn training folder; tests must not change it."""
    return draw_data_folder(tmp_path_factory.mktemp("drawn") / "data")


@pytest.fixture(scope="session")
def parser_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained stage 1 weights, for what only needs some."""
    import torch

    torch.manual_seed(0)
    config = MaskCompletionConfig(stem_width=8, widths=(8, 8, 8, 8), head_width=8, templates=4, template_channels=8)
    path = tmp_path_factory.mktemp("parser") / "mask.safetensors"
    weights = MaskCompletionNet(config).state_dict()
    save_weights(path, weights, {"network": "mask_completion", "config": config.to_dict()})
    return path


@pytest.fixture
def interrupt() -> Callable[[Stage, int], None]:
    """`interrupt(stage, step)`: Ctrl-C comes in that step, counted from 0, before its terms are computed."""

    def at(stage: Stage, step: int) -> None:
        terms_of, count = stage.weighted_terms, iter(range(9))

        def interrupted(batch, rng):
            if next(count) == step:
                os.kill(os.getpid(), signal.SIGINT)
            return terms_of(batch, rng)

        stage.weighted_terms = interrupted

    return at


@pytest.fixture
def write_config(tmp_path: Path, data_root: Path, parser_weights: Path):
    """`write_config(key=value)` writes a YAML file of both stages on the drawn folder and gives its path."""

    def write(**top: object) -> Path:
        schedule = {
            "steps": 6, "phases": [{"until": 1.0, "size_px": 32, "batch_size": 4}], "warmup_steps": 2,
            "learning_rate": 0.003,
        }  # fmt: skip
        raw = {
            "device": "cpu", "precision": "float32", "threads": 1, "workers": 0, "validate_every": 100,
            "validation_samples": 8,
            "data": {"root": str(data_root), "sources": {"ccp": 0.5, "cutouts": 0.3, "full": 0.1, "upper": 0.1}},
            "mask": {
                # starting from weights spares the typical poses
                "network": MASK_NETWORK, "schedule": schedule, "init": str(parser_weights),
            },
            "content": {
                "network": {"widths": [8] * 7, "key_channels": 4}, "features": str(parser_weights),
                "schedule": schedule,
            },
        }  # fmt: skip
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(raw | top))
        return path

    return write
