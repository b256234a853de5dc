"""Two eval.json: the differences by hand, what is left out, and one line for files that do not compare."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deocclude.data.evalsets.persons import EvalSet, write_eval_set
from deocclude.errors import InputError
from deocclude.evaluation import (
    PerceptualMetrics,
    PredictionWriter,
    StoredPredictions,
    compare,
    comparison_to_markdown,
    evaluate,
    summarise,
)
from deocclude.evaluation.image_metric_network import ImageMetricNetwork
from drawn_set import Oracle, draw_person


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> EvalSet:
    """Eight people, each behind a thing and behind nothing."""
    samples = [
        draw_person(f"p{i}", kind, rows) for i in range(8) for kind, rows in (("object", 20 + 4 * i), ("none", 0))
    ]
    return write_eval_set(tmp_path_factory.mktemp("crowd") / "set", samples, name="crowd", seed=3, source="code")


def save(path: Path, summary: dict) -> Path:
    path.write_text(json.dumps(summary))
    return path


def measure(
    eval_set: EvalSet, path: Path, *, initial=("exact",), limit=None, perceptual_metrics=None, content=True, **oracle
) -> Path:
    evaluation = evaluate(
        eval_set,
        Oracle(eval_set, **oracle),
        initial_kinds=initial,
        limit=limit,
        perceptual_metrics=perceptual_metrics,
        content=content,
    )
    return save(path, summarise(evaluation, model=path.stem))


def row(comparison: dict, source: str, measured: str) -> dict:
    return next(r for r in comparison["rows"] if (r["from"], r["measure"]) == (source, measured))


def test_differences_by_hand(crowd: EvalSet, tmp_path: Path) -> None:
    wide, right = measure(crowd, tmp_path / "wide.json", grow=6, colour=0), measure(crowd, tmp_path / "right.json")
    found = compare(wide, right)
    full = row(found, "exact", "amodal IoU")
    # 24 columns of body and 6 beside it.
    assert (full["mean_a"], full["mean_b"], full["difference"]) == (0.8, 1.0, 0.2)
    assert full["interval"] == [0.2, 0.2]
    assert full["p_value"] < 0.001 and full["better"] == "B"
    assert (full["pictures"], full["people"]) == (8, 8)
    false = row(found, "exact", "false-positive completion")
    assert (false["difference"], false["better"]) == (-0.25, "B")
    for part in ("true masks", "predicted masks"):
        l1 = row(found, part, "L1")
        assert l1["mean_a"] > 90 and l1["mean_b"] < 1 and l1["better"] == "B"
    back = row(compare(right, wide), "exact", "amodal IoU")
    assert (back["difference"], back["better"]) == (-0.2, "A")


def test_comparison_with_itself_shows_no_difference(crowd: EvalSet, tmp_path: Path) -> None:
    path = measure(crowd, tmp_path / "one.json", grow=2)
    found = compare(path, path)
    assert {(r["difference"], r["p_value"], r["better"]) for r in found["rows"]} == {(0.0, 1.0, None)}


def test_comparison_table_layout(crowd: EvalSet, tmp_path: Path) -> None:
    found = compare(measure(crowd, tmp_path / "wide.json", grow=6), measure(crowd, tmp_path / "right.json"))
    text = comparison_to_markdown(found)
    assert text.startswith("# A and B on crowd\n\n- A: wide (")
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1 and len(table) == 2 + len(found["rows"])
    cells = [cell.strip() for cell in table[2].split("|")[1:-1]]
    assert cells == ["exact", "amodal IoU", "0.800", "1.000", "+0.200 [+0.200, +0.200]", "< 0.001", "B", "8 / 8"]
    assert "- note: with fewer than 20 people intervals are too narrow and p-values too small\n" in text
    json.dumps(found, allow_nan=False)


def test_stored_predictions_compare_with_the_run(crowd: EvalSet, tmp_path: Path) -> None:
    ours = summarise(
        evaluate(crowd, Oracle(crowd, grow=3), initial_kinds=["exact"], on_person=PredictionWriter(tmp_path / "theirs"))
    )
    theirs = evaluate(crowd, StoredPredictions.open(tmp_path / "theirs", crowd.records), initial_kinds=["exact"])
    found = compare(save(tmp_path / "a.json", ours), save(tmp_path / "b.json", summarise(theirs)))
    assert {r["from"] for r in found["rows"]} == {"exact", "predicted masks"}
    assert {(r["difference"], r["better"]) for r in found["rows"]} == {(0.0, None)}


def test_predicted_masks_compare_only_from_the_same_initial_mask(crowd: EvalSet, tmp_path: Path) -> None:
    a = measure(crowd, tmp_path / "a.json", initial=("exact", "box"))
    b = measure(crowd, tmp_path / "b.json", initial=("box", "exact"))
    found = compare(a, b)
    assert {r["from"] for r in found["rows"]} == {"exact", "box", "true masks"}
    assert "they start from exact in A and box in B" in found["notes"][0]


def test_lpips_compares_only_with_the_same_network(drawn: EvalSet, tmp_path: Path, lpips: Path) -> None:
    perceptual_metrics = PerceptualMetrics(lpips=ImageMetricNetwork.open(lpips, pictures=2, size_px=256))
    a = measure(drawn, tmp_path / "a.json", perceptual_metrics=perceptual_metrics, colour=0)
    b = measure(drawn, tmp_path / "b.json", perceptual_metrics=perceptual_metrics)
    assert row(compare(a, b), "true masks", "LPIPS, working crop")["difference"] < 0
    without = measure(drawn, tmp_path / "without.json")
    found = compare(a, without)
    assert not [r for r in found["rows"] if r["measure"].startswith("LPIPS")]
    assert found["notes"][0] == "LPIPS is left out: A and B used different networks"


def test_measures_missing_in_one_file_are_skipped(crowd: EvalSet, tmp_path: Path) -> None:
    """An eval.json from before the feature distance, with `sharpness`, is still read and compared."""
    path = measure(crowd, tmp_path / "new.json", colour=0)
    summary = json.loads(path.read_text())
    summary["appearance"]["networks"]["mobilenet"] = {"file": "x.pt", "sha256": "0" * 64}
    for score in summary["records"]["content"]:
        score["feature_distance"] = 0.5
    save(path, summary)
    feature = row(compare(path, path), "true masks", "feature distance")
    assert (feature["mean_a"], feature["difference"], feature["pictures"]) == (0.5, 0.0, 8)
    old = json.loads(path.read_text())
    del old["parts"], old["records"]["parts"], old["appearance"]["networks"]["mobilenet"]
    for figures in (*old["content"].values(), *old["records"]["content"]):
        figures["sharpness"] = figures.pop("gradient_ratio")
        for key in ("feature_distance", "seam", "true_seam", "seam_ratio"):
            figures.pop(key, None)
    found = compare(save(tmp_path / "old.json", old), path)
    assert row(found, "true masks", "L1")["difference"] == 0
    assert not [r for r in found["rows"] if r["measure"] == "feature distance"]
    assert found["notes"][0] == "the feature distance is left out: A and B used different networks"


def test_measure_missing_in_one_score_is_skipped(crowd: EvalSet, tmp_path: Path) -> None:
    path = measure(crowd, tmp_path / "new.json", content=False)
    old = json.loads(path.read_text())
    for score in old["records"]["masks"]:
        del score["extra_share"]
    found = compare(save(tmp_path / "old.json", old), path)
    assert {r["measure"] for r in found["rows"]} == {"amodal IoU", "invisible IoU", "visible IoU"}


def test_different_sets_are_rejected(crowd: EvalSet, drawn: EvalSet, tmp_path: Path) -> None:
    whole = measure(crowd, tmp_path / "whole.json", content=False)
    other = measure(drawn, tmp_path / "other.json", content=False)
    with pytest.raises(InputError, match=r"not of the same set: .*whole.json is of crowd, .*other.json of drawn"):
        compare(whole, other)
    part = measure(crowd, tmp_path / "part.json", content=False, limit=5)
    with pytest.raises(InputError, match=r"whole.json has 16 and .*part.json 5; .* is in .*whole.json alone"):
        compare(whole, part)
    moved = json.loads(whole.read_text())
    next(r for r in moved["records"]["masks"] if r["record_id"] == "p3-object")["visible_ratio"] = 0.123
    with pytest.raises(InputError, match=r"visible_ratio of p3-object is 0.6 in .* and 0.123 in .*moved.json"):
        compare(whole, save(tmp_path / "moved.json", moved))
    boxes = measure(crowd, tmp_path / "boxes.json", content=False, initial=("box",))
    with pytest.raises(InputError, match=r"no initial mask in common: .*whole.json has exact, .*boxes.json has box"):
        compare(whole, boxes)


@pytest.mark.parametrize("content", ["not JSON", "[]", '{"format": 1}', '{"records": {"masks": [], "content": []}}'])
def test_invalid_eval_json_is_rejected(crowd: EvalSet, tmp_path: Path, content: str) -> None:
    right = measure(crowd, tmp_path / "right.json", content=False)
    (tmp_path / "wrong.json").write_text(content)
    with pytest.raises(InputError, match=r"wrong.json: (expected an eval.json|cannot be read as JSON)") as caught:
        compare(right, tmp_path / "wrong.json")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"nowhere.json: cannot be read: No such file"):
        compare(tmp_path / "nowhere.json", right)
