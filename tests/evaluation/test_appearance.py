"""FID, KID and LPIPS in a run: against networks whose answers are known, and without any."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from deocclude.data.evalsets.persons import EvalSet
from deocclude.errors import WeightsError
from deocclude.evaluation import PerceptualMetrics, evaluate, summarise, to_markdown
from deocclude.evaluation.appearance import CROP, PERSON, VIEWS, on_grey
from drawn_set import Oracle

TRUE, PREDICTED = "deocclude, true masks", "deocclude, predicted masks"


def run(eval_set: EvalSet, predictor: Oracle, **files: Path | None) -> dict:
    perceptual_metrics = PerceptualMetrics.open(files.get("inception"), files.get("lpips"), size_px=256)
    return summarise(evaluate(eval_set, predictor, initial_kinds=["exact"], perceptual_metrics=perceptual_metrics))


def test_perceptual_metrics_are_zero_for_truth_but_not_a_flat_colour(
    drawn: EvalSet, inception: Path, lpips: Path
) -> None:
    perfect = run(drawn, Oracle(drawn), inception=inception, lpips=lpips)["appearance"]
    flat = run(drawn, Oracle(drawn, colour=255), inception=inception, lpips=lpips)["appearance"]
    for view in VIEWS:
        for method in (TRUE, PREDICTED):
            # Resampling lets a hundredth of the occluder into the crop's hidden part.
            assert perfect["fid"][view][method] == pytest.approx(0.0, abs=1e-5)
            assert perfect["kid"][view][method] == pytest.approx(0.0, abs=1e-5)
            assert flat["fid"][view][method] > 0.001
            assert flat["kid"][view][method] > 0.001
            assert perfect["lpips"][view][method]["mean"] == pytest.approx(0.0, abs=1e-3)
            assert flat["lpips"][view][method]["mean"] > 0.02
    assert perfect["lpips"][PERSON][TRUE] == {"mean": 0.0, "interval": [0.0, 0.0]}


def test_lpips_is_computed_over_the_whole_crop(drawn: EvalSet, lpips: Path) -> None:
    """Its tiny stand-in is a mean over the crop: the hidden part's L1 times the hidden share of the crop."""
    summary = run(drawn, Oracle(drawn, colour=255), lpips=lpips)
    row = next(r for r in summary["records"]["content"] if r["method"] == TRUE and r["record_id"] == "bob-person")
    # 60 rows of 24 columns hidden, in a crop of 1.25 * 80 = 100 px a side.
    expected = row["l1"] / 255 * (60 * 24) / 100**2
    assert row["lpips"] == pytest.approx(expected, rel=0.1)  # without the hidden part's rim
    # Nothing but the hidden part differs, with or without the background.
    assert row["lpips_person"] == pytest.approx(expected, rel=0.02)


def test_oversized_mask_affects_only_the_person_view(drawn: EvalSet, inception: Path, lpips: Path) -> None:
    appearance = run(drawn, Oracle(drawn, grow=6), inception=inception, lpips=lpips)["appearance"]
    for measure in ("fid", "kid", "lpips"):
        figures = appearance[measure]
        crop, alone = (figures[view][PREDICTED] for view in (CROP, PERSON))
        if measure == "lpips":
            crop, alone = crop["mean"], alone["mean"]
        assert 10 * abs(crop) < alone
    assert appearance["fid"][PERSON][TRUE] == pytest.approx(0.0, abs=1e-6)


def test_missing_networks_are_reported_as_not_computed(drawn: EvalSet, inception: Path) -> None:
    without, with_inception = run(drawn, Oracle(drawn)), run(drawn, Oracle(drawn), inception=inception)
    assert without["appearance"] == {
        "networks": {"inception": None, "lpips": None, "mobilenet": without["appearance"]["networks"]["mobilenet"]},
        "fid": None,
        "kid": None,
        "lpips": None,
    }
    text = to_markdown(without)
    rows = [line for line in text.splitlines() if line.startswith(("| FID", "| KID", "| LPIPS"))]
    assert [row.split("|")[1].strip() for row in rows[2:4]] == [f"KID, paired, {view}" for view in (CROP, PERSON)]
    assert len(rows) == 6 and all(row.count("not computed") == 5 for row in rows)
    assert "FID and KID need --inception FILE; LPIPS needs --lpips FILE." in text
    text = to_markdown(with_inception)
    assert text.count("not computed") == 10
    assert "LPIPS needs --lpips FILE." in text and "--inception" not in text
    assert {row["lpips"] for row in with_inception["records"]["content"]} == {None}


def test_summary_names_the_network_hash_and_is_plain_json(drawn: EvalSet, inception: Path) -> None:
    summary = run(drawn, Oracle(drawn), inception=inception)
    named = summary["appearance"]["networks"]["inception"]
    assert named["file"] == "inception.onnx" and len(named["sha256"]) == 64
    json.dumps(summary, allow_nan=False)


def test_lpips_network_with_several_outputs_is_rejected(inception: Path, tmp_path: Path) -> None:
    import torch

    path = tmp_path / "three.pt"
    torch.jit.trace(lambda one, other: (one - other).mean((2, 3)), (torch.zeros(1, 3, 8, 8),) * 2).save(str(path))
    with pytest.raises(WeightsError, match=r"three.pt: expected one distance for two images, got 3 numbers"):
        PerceptualMetrics.open(None, path, size_px=8)


def test_on_grey() -> None:
    picture = np.full((1, 2, 3), 200, np.uint8)
    np.testing.assert_array_equal(on_grey(picture, np.array([[True, False]])), [[[200] * 3, [128] * 3]])
