"""The Python that docs/evaluation.md shows works as written."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from deocclude.data.evalsets.persons import write_eval_set
from deocclude.evaluation import InitialPrompt, PerceptualMetrics
from deocclude.io.images import load_mask
from drawn_set import draw_person
from repository import ROOT

DOCUMENT = ROOT / "docs" / "evaluation.md"


def shown(word: str) -> str:
    """The one Python block with this word."""
    (block,) = [b for b in re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(), re.S | re.M) if word in b]
    return block


def test_example_writes_the_corrupted_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    eval_set = write_eval_set("cache/val", [draw_person("ann", "low", 30)], name="drawn", seed=3, source="code")
    exec(shown("InitialPrompt"), {})
    expected = InitialPrompt.of(eval_set.load(eval_set.records[0]), "degraded", 3).mask
    np.testing.assert_array_equal(load_mask("initial/ann-low.png"), expected)


def test_example_exports_a_feature_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.chdir(tmp_path)
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    exec(shown("Features"), {"network": network})
    perceptual_metrics = PerceptualMetrics.open(Path("inception.onnx"), None, size_px=256)
    white = np.full((256, 256, 3), 255, np.uint8)
    np.testing.assert_allclose(perceptual_metrics.inception(white), [1.0, 1.0, 1.0], atol=1e-5)
