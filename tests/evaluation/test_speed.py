"""Timing in turn, ratios, and the cost of a run in its own process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deocclude.evaluation.speed import (
    BenchReport,
    CrowdCost,
    PairTimes,
    RunCost,
    make_feeds,
    measure_big_photo,
    measure_crowd,
    time_in_turn,
    time_pairs,
    write_synthetic_photo,
)
from deocclude.inference.runtime import find_model
from deocclude.io.images import load_image, load_mask

COST = RunCost(12.0, 0.1, 0.3, 0.2, 300.0)


def test_timed_tasks_alternate_each_after_a_warm_up() -> None:
    calls: list[str] = []
    medians = time_in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2)
    assert "".join(calls) == "aabb" * 2  # an untimed and a timed call of each a round
    assert medians.keys() == {"a", "b"} and min(medians.values()) >= 0


def test_speed_up_is_the_ratio_of_summed_times() -> None:
    pairs = PairTimes(
        {"mask_completion": 0.010, "content_recovery": 0.010},
        {"mask_completion": 0.300, "content_recovery": 0.200},
        rounds=1,
        threads=1,
    )
    assert pairs.speed_up == pytest.approx(25.0)
    report = BenchReport(pairs, COST, 1.0, CrowdCost(0.05, 4.0))
    assert "| both networks, one person | 25.0x | at least 20x | yes |" in report.as_markdown()
    assert "| detection, 1 megapixel, warm | 50 ms | under 60 ms | yes |" in report.as_markdown()
    assert "| ten people, 1 megapixel, warm | 4.00 s | under 3 s | no |" in report.as_markdown()
    assert report.as_dict()["pairs"]["speed_up"] == pytest.approx(25.0)
    without = BenchReport(None, COST, 1.0, CrowdCost(None, 4.0)).as_markdown()
    assert "detection" not in without and "both networks" not in without


def test_model_against_itself_has_a_speed_up_near_one(weights_dir: Path) -> None:
    model = find_model("base", weights_dir)
    pairs = time_pairs(model, model, rounds=9, threads=1)
    assert 0.2 < pairs.speed_up < 5


def test_benchmark_inputs_have_the_networks_shapes() -> None:
    feeds = make_feeds("content_recovery")
    assert {name: feed.shape for name, feed in feeds.items()} == {
        "image": (1, 3, 256, 256),
        "visible": (1, 1, 256, 256),
        "amodal": (1, 1, 256, 256),
        "visible_parsing": (1, 12, 64, 64),
        "amodal_parsing": (1, 12, 64, 64),
    }
    assert all(feed.dtype == np.float32 for feed in feeds.values())
    assert (feeds["visible"] <= feeds["amodal"]).all() and (feeds["visible"] < feeds["amodal"]).any()
    np.testing.assert_allclose(feeds["amodal_parsing"].sum(axis=1), 1, rtol=1e-5)
    assert make_feeds("mask_completion").keys() == {"image", "initial"}


def test_synthetic_photo_matches_its_mask(tmp_path: Path) -> None:
    photo, mask = write_synthetic_photo(tmp_path, 400, 300)
    assert load_image(photo).shape == (300, 400, 3)
    person = load_mask(mask)
    assert person.shape == (300, 400)
    assert not person[200, 180] and person[100, 200], "the board hides the legs, not the chest"


def test_crowd_cost_without_detector_has_no_detection_time(tmp_path: Path, weights_dir: Path) -> None:
    cost = measure_crowd(tmp_path, weights_dir, "base", rounds=1)
    assert cost.find_s is None and cost.ten_people_s > 0, "the tiny model has no detector"


def test_cost_is_measured_in_a_separate_process(
    tmp_path: Path, weights_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = write_synthetic_photo(tmp_path, 400, 300)
    monkeypatch.setattr("deocclude.evaluation.speed.write_synthetic_photo", lambda *_: small)
    ballast = bytearray(300 * 2**20)
    ballast[::4096] = b"x" * len(ballast[::4096])  # touched, so that this process really is that big
    cost = measure_big_photo(tmp_path, weights_dir, "base")
    assert cost.warm_s > 0 and cost.load_s > 0
    assert 20 < cost.peak_mb < 280, "the memory of this process must not be counted"
