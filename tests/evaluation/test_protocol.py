"""The evaluation protocol on a set drawn by code, with predictors whose answers are known."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deocclude.data.evalsets.persons import EvalSet, write_eval_set
from deocclude.errors import InputError, MissingExtraError
from deocclude.evaluation import TypicalPoses, draw_people_sheet, evaluate, summarise, to_markdown
from deocclude.evaluation.baselines import blur_inside, convex_hull, inpaint_from_body, mean_colour
from deocclude.evaluation.prompts import InitialPrompt
from deocclude.evaluation.protocol import draw_records
from deocclude.evaluation.sheet import COLUMNS, easy_to_hard
from deocclude.types import PARSING_NAMES
from drawn_set import HEIGHT, WIDTH, Answer, Oracle, Person, draw_person


@pytest.fixture(scope="module")
def eval_set(tmp_path_factory: pytest.TempPathFactory) -> EvalSet:
    samples = [
        draw_person("ann", "object", 20),
        draw_person("ann", "low", 44),
        draw_person("bob", "person", 60),
        draw_person("bob", "none", 0),
    ]
    return write_eval_set(tmp_path_factory.mktemp("frozen") / "set", samples, name="drawn", seed=3, source="code")


class Repeater:
    """Answers with the prompt itself and leaves the photo as it is."""

    def __call__(self, image, masks=None, boxes_xyxy=None) -> Answer:
        if boxes_xyxy:
            x0, y0, x1, y1 = boxes_xyxy[0]
            mask = np.zeros(image.shape[:2], bool)
            mask[y0:y1, x0:x1] = True
        else:
            mask = masks[0]
        return Answer([Person(mask, mask, image)])

    def recover(self, image, visible_mask, amodal_mask) -> np.ndarray:
        return image


class Finder:
    """Finds the people that it was given, whatever the photo."""

    def __init__(self, *people: Person) -> None:
        self.people = list(people)

    def __call__(self, image, masks=None, boxes_xyxy=None) -> Answer:
        assert masks is None and boxes_xyxy is None
        return Answer(self.people)

    def recover(self, image, visible_mask, amodal_mask) -> np.ndarray:
        return image


def test_photo_prompt_scores_the_best_matching_detection(eval_set: EvalSet) -> None:
    sample = eval_set.load(eval_set.records[0])
    other = np.zeros_like(sample.amodal)
    other[:, 60:] = True
    right = Person(sample.visible, sample.amodal, sample.photo)
    found = evaluate(
        eval_set, Finder(Person(other, other, sample.photo), right), initial_kinds=["photo"], content=False
    )
    first = [s for s in found.masks if s.record_id == sample.id]
    assert [s.method for s in first] == ["deocclude", "box of the whole photo", "GrabCut foreground"]
    assert first[0].full_iou == 1 and first[1].full_iou == pytest.approx(80 * 24 / (HEIGHT * WIDTH))
    for people in ((), (Person(other, other, sample.photo),)):
        nobody = evaluate(eval_set, Finder(*people), initial_kinds=["photo"], content=False)
        assert [s.full_iou for s in nobody.masks if s.method == "deocclude"] == [0] * 4
    tables = to_markdown(summarise(found))
    assert "photo" in tables and "GrabCut" in tables


def test_a_perfect_predictor_scores_perfectly(eval_set: EvalSet) -> None:
    oracle = Oracle(eval_set)
    summary = summarise(evaluate(eval_set, oracle))
    assert oracle.prompts == ["mask", "mask", "box"] * 4
    for initial in ("exact", "degraded", "box"):
        ours = summary["masks"][initial]["deocclude"]
        assert ours["pictures"] == 3 and ours["unoccluded_pictures"] == 1
        for key in ("full_iou", "invisible_iou", "full_iou_pooled", "invisible_iou_pooled"):
            assert ours[key] == 1.0
        assert ours["full_iou_interval"] == [1.0, 1.0]
        assert ours["visible_iou"] == 1.0
        assert ours["extra"] == ours["false_completion"] == ours["claimed_hidden"] == 0.0
    for method in ("deocclude, true masks", "deocclude, predicted masks"):
        content = summary["content"][method]
        assert (content["pictures"], content["l1"], content["psnr_db"]) == (3, 0.0, 100.0)
        assert content["ssim"] == content["gradient_ratio"] == content["gradient_ratio_median"] == pytest.approx(1.0)


def test_visible_mask_alone_has_zero_invisible_iou(eval_set: EvalSet) -> None:
    summary = summarise(evaluate(eval_set, Repeater(), initial_kinds=["exact"]))
    exact = summary["masks"]["exact"]
    # Seen rows are 60, 36 and 20 of 80.
    assert exact["deocclude"]["full_iou"] == pytest.approx((0.75 + 0.45 + 0.25) / 3, abs=1e-6)
    assert exact["deocclude"]["full_iou_pooled"] == pytest.approx(116 / 240, abs=1e-6)
    assert exact["deocclude"]["invisible_iou"] == exact["deocclude"]["invisible_iou_pooled"] == 0.0
    # The baseline of that name is the same thing; a rectangle's hull is itself.
    for method in ("initial mask", "convex hull"):
        assert exact[method]["full_iou"] == exact["deocclude"]["full_iou"]
    # The photo keeps its occluder where nothing was predicted, and is scored so: (0, 160, 0) against 60 or 140.
    untouched = summary["content"]["deocclude, predicted masks"]
    assert 60 < untouched["l1"] < 110
    assert untouched["gradient_ratio"] < 0.05


def test_false_positive_completion_of_an_oversized_mask(eval_set: EvalSet) -> None:
    exact = summarise(evaluate(eval_set, Oracle(eval_set, grow=6), initial_kinds=["exact"], content=False))["masks"][
        "exact"
    ]
    # 6 columns beside 24.
    assert exact["deocclude"]["extra"] == exact["deocclude"]["false_completion"] == 0.25
    assert exact["deocclude"]["claimed_hidden"] == 0.25
    assert exact["deocclude"]["full_iou"] == pytest.approx(0.8)
    # Hidden rows 20, 44, 60 of 24 columns found whole, beside 80 rows of 6 columns painted for nothing.
    expected = np.mean([24 * rows / (24 * rows + 480) for rows in (20, 44, 60)])
    assert exact["deocclude"]["invisible_iou"] == pytest.approx(expected, abs=1e-6)
    assert exact["initial mask"]["false_completion"] == 0.0


def test_visible_iou_uses_the_refined_mask(eval_set: EvalSet) -> None:
    degraded = summarise(evaluate(eval_set, Oracle(eval_set), initial_kinds=["degraded"], content=False))["masks"][
        "degraded"
    ]
    assert degraded["deocclude"]["visible_iou"] == 1.0
    assert degraded["initial mask"]["visible_iou"] == degraded["convex hull"]["visible_iou"] < 1.0


def test_tables_by_visible_ratio_and_by_occluder(eval_set: EvalSet) -> None:
    summary = summarise(evaluate(eval_set, Repeater(), initial_kinds=["exact"], content=False))
    bins = summary["by_visible_ratio"]["exact"]
    assert [part["pictures"] for part in bins] == [0, 0, 1, 0, 1, 0, 0, 1, 0, 0]
    assert (bins[4]["visible_from"], bins[4]["full_iou"]) == (0.4, 0.45)
    assert bins[0]["full_iou"] is None
    kinds = summary["by_occluder"]["exact"]
    assert {kind: part["full_iou"] for kind, part in kinds.items()} == {"object": 0.75, "person": 0.25, "low": 0.45}
    assert summary["content"] == {}
    assert "hidden appearance" not in to_markdown(summary)


def test_content_of_a_flat_colour(eval_set: EvalSet) -> None:
    evaluation = evaluate(eval_set, Oracle(eval_set, colour=100), initial_kinds=["exact"])
    content = summarise(evaluation)["content"]
    flat = content["deocclude, true masks"]
    # Stripes of 4 px, 40 away on both sides; growing the crop smooths 1 px of 4, where the distance is 20 on average.
    assert flat["l1"] == pytest.approx(35.0, abs=2.0)
    assert flat["psnr_db"] == pytest.approx(10 * math.log10(255**2 / (0.75 * 1600 + 0.25 * 1600 / 3)), abs=0.5)
    assert flat["gradient_ratio"] < 0.02
    assert content["mean colour of the body"]["l1"] == pytest.approx(flat["l1"], abs=3.0)
    assert {score.person_id for score in evaluation.content} == {"ann", "bob"}
    assert len(evaluation.content) == 3 * 5
    # Rows 68 to 88 hidden; the body's stripes step at every fourth row, so that row 68 begins a stripe.
    seam = next(s for s in evaluation.content if s.record_id == "ann-object" and s.method == "deocclude, true masks")
    assert 0 < seam.seam < seam.true_seam
    ratio = sum(s.seam for s in evaluation.content if s.method == seam.method) / sum(
        s.true_seam for s in evaluation.content if s.method == seam.method
    )
    assert flat["seam_ratio"] == pytest.approx(ratio, abs=1e-6)


def test_records_without_truth_are_not_scored_on_content(tmp_path: Path) -> None:
    samples = [draw_person("ann", "object", 20), replace(draw_person("bob", "unknown", 44), truth=None)]
    eval_set = write_eval_set(tmp_path / "set", samples, name="half", seed=0, source="code")
    evaluation = evaluate(eval_set, Repeater(), initial_kinds=["exact"])
    assert {score.record_id for score in evaluation.content} == {"ann-object"}
    assert "no unoccluded truth of 1 of 2 pictures: their appearance is not measured" in evaluation.notes
    assert len({score.record_id for score in evaluation.masks}) == 2


def test_summary_is_plain_json_and_deterministic(eval_set: EvalSet) -> None:
    first, second = (summarise(evaluate(eval_set, Oracle(eval_set, grow=2)), model="base") for _ in range(2))
    for summary in (first, second):
        summary.pop("seconds")
    assert json.dumps(first, allow_nan=False) == json.dumps(second, allow_nan=False)
    assert len(first["records"]["masks"]) == 4 * 3 * 3
    assert first["model"] == "base" and first["set"]["people"] == 2


def test_markdown_holds_every_method(eval_set: EvalSet) -> None:
    text = to_markdown(summarise(evaluate(eval_set, Oracle(eval_set)), model="base"))
    assert text.startswith("# base on drawn: 2 people, 4 pictures\n")
    for name in ("convex hull", "initial mask", "inpainting from the body", "mean colour of the body", "| degraded"):
        assert name in text
    assert "1.000 [1.000, 1.000]" in text
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1


def test_unknown_initial_mask_kind_is_rejected(eval_set: EvalSet) -> None:
    with pytest.raises(ValueError, match="exact, degraded, box, photo, got scribble"):
        evaluate(eval_set, Repeater(), initial_kinds=["scribble"])


def test_missing_opencv_is_reported_at_once(eval_set: EvalSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    for options in ({"initial_kinds": ["degraded"], "content": False}, {"initial_kinds": ["exact"]}):
        with pytest.raises(MissingExtraError, match=r'pip install "deocclude\[train\]"'):
            evaluate(eval_set, Repeater(), **options)
    assert evaluate(eval_set, Repeater(), initial_kinds=["exact", "box"], content=False).records == 4


# --- initial masks and the part of a set ---------------------------------------------------------------------------


def test_initial_masks(eval_set: EvalSet) -> None:
    sample = eval_set.load(eval_set.records[0])
    exact = InitialPrompt.of(sample, "exact", eval_set.seed)
    assert exact.mask is sample.visible and exact.box_xyxy is None
    box = InitialPrompt.of(sample, "box", eval_set.seed)
    assert box.box_xyxy == (24, 8, 48, 68)
    np.testing.assert_array_equal(box.mask, sample.visible)  # the body is a rectangle
    degraded = InitialPrompt.of(sample, "degraded", eval_set.seed)
    assert degraded.mask.any()
    np.testing.assert_array_equal(degraded.mask, InitialPrompt.of(sample, "degraded", eval_set.seed).mask)
    others = [InitialPrompt.of(sample, "degraded", seed).mask for seed in range(8)]
    assert any(not np.array_equal(degraded.mask, other) for other in others)


def test_fully_occluded_person_scores_zero_iou(tmp_path: Path) -> None:
    eval_set = write_eval_set(
        tmp_path / "set", [draw_person("ann", "object", 80)], name="hidden", seed=0, source="code"
    )
    summary = summarise(evaluate(eval_set, Repeater()))
    assert {initial: methods["deocclude"]["full_iou"] for initial, methods in summary["masks"].items()} == {
        "exact": 0.0,
        "degraded": 0.0,
        "box": 0.0,
    }


def test_limit_draws_nested_records_of_every_occluder_kind(tmp_path: Path) -> None:
    samples = [draw_person(f"p{i}", kind, 20) for i in range(20) for kind in ("object", "person", "low")]
    records = write_eval_set(tmp_path / "set", samples, name="many", seed=0, source="code").records
    few, more = draw_records(records, 12), draw_records(records, 30)
    assert (len(few), len(more)) == (12, 30)
    assert set(few) < set(more)
    assert few == sorted(few, key=records.index)
    assert {record.occluder_kind for record in few} == {"object", "person", "low"}
    assert draw_records(records, None) == draw_records(records, 999) == list(records)


# --- baselines -----------------------------------------------------------------------------------------------------


def test_convex_hull_matches_scikit_image() -> None:
    convex_hull_image = pytest.importorskip("skimage.morphology").convex_hull_image
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = rng.random((30, 40)) < 0.01
        mask[rng.integers(30), rng.integers(40)] = True
        mask[rng.integers(30), rng.integers(40)] = True
        mask[rng.integers(30), rng.integers(40)] = True
        hull = convex_hull(mask)
        assert (hull >= mask).all()
        expected = convex_hull_image(mask, offset_coordinates=False)
        # Pixels exactly on a slanted edge are in ours; rounding decides in the other.
        assert np.count_nonzero(hull ^ expected) <= 6


def test_convex_hull_by_hand() -> None:
    mask = np.zeros((5, 5), bool)
    mask[0, 2] = mask[4, 0] = mask[4, 4] = True
    expected = np.zeros((5, 5), bool)
    for row, (left, right) in enumerate([(2, 2), (2, 2), (1, 3), (1, 3), (0, 4)]):
        expected[row, left : right + 1] = True
    np.testing.assert_array_equal(convex_hull(mask), expected)
    assert not convex_hull(np.zeros((5, 5), bool)).any()
    np.testing.assert_array_equal(convex_hull(expected), expected)


def typical_bodies() -> TypicalPoses:
    """Two poses in their frame: a wide body seen in its upper half, and a tall one seen in its upper half."""
    centres = np.zeros((2, 2, 32, 32), np.float32)
    centres[0, 0, 14:18, 8:24] = 1
    centres[0, 1, 14:22, 8:24] = 1
    centres[1, 0, 12:20, 14:18] = 1
    centres[1, 1, 12:28, 14:18] = 1
    return TypicalPoses(centres)


def test_nearest_typical_pose_is_aligned_with_the_visible_mask() -> None:
    visible = np.zeros((300, 300), bool)
    visible[100:140, 90:110] = True  # tall: 40 by 20 px; its frame is 8 * sqrt(var) = 8 * 12.9 = 103 px wide
    completed = typical_bodies().complete(visible)
    side = 8 * math.sqrt((40**2 - 1) / 12 + (20**2 - 1) / 12)
    assert (completed >= visible).all()
    # The whole tall pose reaches from cell 12 to cell 28 of 32, the frame being centred on row 120.
    rows = np.flatnonzero(completed[:, 100])
    assert rows[0] == 100
    assert rows[-1] + 1 == pytest.approx(120 + (28 - 16) / 32 * side, abs=1.0)
    columns = np.flatnonzero(completed[150])
    assert columns[-1] + 1 - columns[0] == pytest.approx(4 / 32 * side, abs=1.5)


def test_typical_pose_is_cropped_at_the_image_border() -> None:
    visible = np.zeros((60, 60), bool)
    visible[30:58, 0:14] = True
    completed = typical_bodies().complete(visible)
    assert completed.shape == (60, 60) and (completed >= visible).all()
    assert not typical_bodies().complete(np.zeros((60, 60), bool)).any()


def test_typical_pose_baseline_is_added_to_the_table(eval_set: EvalSet) -> None:
    poses = typical_bodies()
    evaluation = evaluate(eval_set, Repeater(), initial_kinds=["exact"], typical_poses=poses, content=False)
    assert "nearest typical pose" in summarise(evaluation)["masks"]["exact"]
    assert evaluation.notes == []


def test_mean_colour_uses_only_visible_body_pixels() -> None:
    picture = np.full((4, 4, 3), 250, np.uint8)
    picture[0, :2] = (10, 20, 30), (20, 40, 60)
    visible = np.zeros((4, 4), bool)
    visible[0, :2] = True
    assert (mean_colour(picture, visible) == (15, 30, 45)).all()


def test_inpainting_uses_only_visible_body_pixels() -> None:
    sample = draw_person("ann", "object", 40)
    garish = sample.photo.copy()
    garish[~sample.visible] = (255, 0, 255)
    np.testing.assert_array_equal(
        inpaint_from_body(sample.photo, sample.visible), inpaint_from_body(garish, sample.visible)
    )
    filled = inpaint_from_body(garish, sample.visible)
    assert filled[sample.amodal].min() >= 50 and filled[sample.amodal].max() <= 150


def test_blurred_recovery_uses_only_body_pixels() -> None:
    body = np.zeros((40, 40), bool)
    body[5:35, 10:30] = True
    hidden = body.copy()
    hidden[:20] = False
    picture = np.zeros((40, 40, 3), np.uint8)
    picture[body] = 100
    picture[hidden] = 140
    marked = picture.copy()
    marked[~body] = (255, 0, 255)
    blurred = blur_inside(marked, hidden, body)
    np.testing.assert_array_equal(blurred[hidden], blur_inside(picture, hidden, body)[hidden])
    np.testing.assert_array_equal(blurred[~hidden], marked[~hidden])
    assert blurred[hidden].min() >= 100 and blurred[hidden].max() <= 140
    # A step seen through a Gaussian: half a pixel from it there is a normal integral of 0.5 / 4 on the far side.
    share = 0.5 * (1 + math.erf(0.5 / 4 / math.sqrt(2)))
    assert blurred[20, 20, 0] == pytest.approx(100 + 40 * share, abs=1)
    assert blurred[34, 10, 0] == pytest.approx(140, abs=1), "at the body's corner, far from the step"


def test_additional_recoveries_get_their_own_rows(eval_set: EvalSet) -> None:
    older = Oracle(eval_set, colour=100)
    against = {"v1": lambda sample: older.recover(sample.photo, sample.visible, sample.amodal)}
    content = summarise(evaluate(eval_set, Oracle(eval_set), initial_kinds=["exact"], against=against))["content"]
    assert list(content)[:3] == ["deocclude, true masks", "deocclude, predicted masks", "v1, true masks"]
    assert content["deocclude, true masks"]["l1"] == 0 and content["v1, true masks"]["l1"] == pytest.approx(35, abs=2)
    assert content["blurred recovery"]["gradient_ratio"] < 0.7 < content["deocclude, true masks"]["gradient_ratio"]


# --- body parts ----------------------------------------------------------------------------------------------------


class Parser(Repeater):
    """The truth of both masks, and the same parts whatever the photo."""

    def __init__(self, eval_set: EvalSet, parsing: np.ndarray) -> None:
        self.oracle, self.parsing = Oracle(eval_set), parsing

    def __call__(self, image, masks=None, boxes_xyxy=None) -> Answer:
        answer = self.oracle(image, masks, boxes_xyxy)
        answer.people[0].parsing = self.parsing
        return answer


def test_part_iou_in_the_hidden_region_by_hand(tmp_path: Path) -> None:
    face, leg, shoe = (PARSING_NAMES.index(name) for name in ("face", "leg", "footwear"))
    sample = draw_person("ann", "object", 20)  # rows 68 to 88 hidden, 24 columns
    truth = np.full((HEIGHT, WIDTH), face, np.uint8)
    truth[60:78] = leg
    truth[78:84] = shoe
    truth[84:] = 255  # unknown
    samples = [replace(sample, parsing=truth), draw_person("bob", "low", 20)]
    eval_set = write_eval_set(tmp_path / "set", samples, name="parts", seed=0, source="code")
    predicted = np.full((HEIGHT, WIDTH), face, np.uint8)
    predicted[68:74] = leg
    predicted[78:] = shoe
    evaluation = evaluate(eval_set, Parser(eval_set, predicted), initial_kinds=["exact", "box"], content=False)
    assert [(score.record_id, score.counts) for score in evaluation.parts] == [
        ("ann-object", {"face": (0, 4 * 24, 0), "leg": (6 * 24, 10 * 24, 10 * 24), "footwear": (144, 144, 144)})
    ]
    summary = summarise(evaluation)
    # Of the known 16 rows 10 are leg, of which 6 are found, and 6 are shoe; a face that is none there is no part.
    assert summary["parts"] == {
        "pictures": 1,
        "people": 1,
        "mean_iou": 0.8,
        "by_part": {"leg": {"iou": 0.6, "share": 0.625}, "footwear": {"iou": 1.0, "share": 0.375}},
    }
    text = to_markdown(summary)
    assert "| leg             | 62.5 %                 | 0.600 |" in text and "Over 1 pictures of 1 people" in text
    assert summarise(evaluate(eval_set, Oracle(eval_set), content=False))["parts"] is None, "no parts predicted"


# --- contact sheet -------------------------------------------------------------------------------------------------


def test_contact_sheet_is_sorted_from_easy_to_hard(eval_set: EvalSet) -> None:
    evaluation = evaluate(eval_set, Repeater(), content=False)
    assert [score.record_id for score in easy_to_hard(evaluation, "exact", 9)] == [
        "ann-object",
        "ann-low",
        "bob-person",
    ]
    assert [score.record_id for score in easy_to_hard(evaluation, "exact", 2)] == ["ann-object", "bob-person"]
    two = np.asarray(draw_people_sheet(evaluation, eval_set, Repeater(), rows=2))
    three = np.asarray(draw_people_sheet(evaluation, eval_set, Repeater(), rows=3, initial="box"))
    assert two.shape[1] == three.shape[1]
    row_height = three.shape[0] - two.shape[0]
    heading = two.shape[0] - 2 * row_height
    # In the middle of a row's first tile stands the middle of the body, in its own grey.
    tile_width = two.shape[1] // len(COLUMNS)
    pixel = two[heading + row_height // 2, tile_width // 2]
    assert 60 <= pixel[0] <= 140 and pixel[0] == pixel[1] == pixel[2]
    # Beside it, the same under the initial mask's blue.
    pixel = two[heading + row_height // 2, tile_width + tile_width // 2]
    assert pixel[2] > pixel[1] > pixel[0]


def test_contact_sheet_without_occluded_people_is_an_error(tmp_path: Path) -> None:
    eval_set = write_eval_set(tmp_path / "set", [draw_person("bob", "none", 0)], name="n", seed=0, source="code")
    with pytest.raises(InputError, match="no occluded people"):
        draw_people_sheet(evaluate(eval_set, Repeater(), content=False), eval_set, Repeater())
