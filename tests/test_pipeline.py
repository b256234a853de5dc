import io
import json
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import deocclude
from deocclude.errors import DeviceError, InputError, NoPersonError, UsageError, WeightsError
from deocclude.imaging.appearance import visible_in_crop
from deocclude.imaging.boxes import box_to_mask, mask_to_box_xyxy
from deocclude.imaging.compositing import soft_edge
from deocclude.imaging.masks import mask_iou
from deocclude.inference.settings import CropSettings
from deocclude.people.detector import Detection
from deocclude.people.stages import Stages
from deocclude.pipeline import Deoccluder, load


@pytest.fixture(scope="module")
def result(pipe, person):
    return pipe(person.photo, masks=[person.visible])


def test_result_satisfies_invariants(result, person):
    (one,) = result.people
    size_hw = person.photo.shape[:2]
    for name, dtype in [
        ("visible_mask", bool),
        ("amodal_mask", bool),
        ("invisible_mask", bool),
        ("amodal_prob", np.float32),
        ("parsing", np.uint8),
    ]:
        assert getattr(one, name).shape == size_hw
        assert getattr(one, name).dtype == dtype
    assert one.content.shape == (*size_hw, 3)
    assert one.rgba.shape == (*size_hw, 4)
    assert not (one.visible_mask & ~one.amodal_mask).any()
    assert np.array_equal(one.invisible_mask, one.amodal_mask & ~one.visible_mask)
    assert np.array_equal(result.image, person.photo)
    assert np.array_equal(one.content[~one.invisible_mask], person.photo[~one.invisible_mask])
    assert np.array_equal(one.parsing > 0, one.amodal_mask)
    assert one.box_xyxy == mask_to_box_xyxy(one.amodal_mask)


def test_hidden_gap_is_filled_with_the_shirt_colour(result, person):
    (one,) = result.people
    gap = box_to_mask((275, 233, 365, 247), person.photo.shape[:2])
    assert one.invisible_mask[gap].all()
    assert np.abs(one.content[gap].astype(int) - (200, 30, 40)).max() < 12
    assert (one.rgba[gap][:, 3] == 255).all()
    assert one.score == pytest.approx(0.9, abs=0.03)
    assert 0 < one.hidden_fraction < 0.7


def test_result_reports_device_model_and_timings(result):
    assert result.device == "cpu"
    assert result.model == "base"
    assert set(result.timings) == {"load", "find", "complete", "recover", "total"}
    assert 0 < result.timings["complete"] < result.timings["total"]


def test_mask_prompts_come_before_box_prompts(pipe, person):
    result = pipe(person.photo, masks=[person.visible, person.amodal], boxes_xyxy=[(10, 20, 90, 220)])
    assert [one.id for one in result.people] == [1, 2, 3]
    x0, y0, x1, y1 = result.people[2].box_xyxy
    assert x0 <= 10 and y0 <= 20 and x1 >= 90 and y1 >= 220 and x1 < 200


def test_visible_masks_are_disjoint(pipe, person):
    left, right = (box_to_mask(box, person.photo.shape[:2]) for box in ((100, 60, 200, 300), (180, 200, 280, 420)))
    result = pipe(person.photo, masks=[left, right])
    seen = [one.visible_mask for one in result.people]
    assert not (seen[0] & seen[1]).any()
    assert np.array_equal(seen[1] & right, right)  # the lower one is nearer
    (pair,) = result.order
    assert (pair.front, pair.behind) == (2, 1)
    assert result.people[0].hidden_fraction > 0.05


def test_occlusion_order_covers_all_people_whatever_is_chosen(pipe, person):
    left, right = (box_to_mask(box, person.photo.shape[:2]) for box in ((100, 60, 200, 300), (180, 200, 280, 420)))
    (pair,) = pipe(person.photo, masks=[left, right]).order
    never = pipe(person.photo, masks=[left, right], complete="never")
    assert never.order == (pair,) and all(one.hidden_fraction == 0 for one in never.people)
    assert [one.id for one in never.back_to_front] == [1, 2]
    chosen = pipe(person.photo, segmenter=lambda image: [left, right], person="1")
    assert [one.id for one in chosen.people] == [1] and [(p.front, p.behind) for p in chosen.order] == [(2, 1)]
    assert [one.id for one in chosen.back_to_front] == [1] and chosen.to_coco()["occlusions"] == []


def test_near_duplicate_detections_get_disjoint_masks(pipe, person):
    columns = np.flatnonzero(person.amodal.any(0))
    width = len(columns)
    left, right = person.amodal.copy(), person.amodal.copy()
    left[:, columns[round(0.8 * width)] :] = False
    right[:, : columns[round(0.2 * width)]] = False
    people = pipe(person.photo, segmenter=lambda image: [left, right]).people
    assert len(people) == 1 or not (people[0].visible_mask & people[1].visible_mask).any()


def test_fully_occluded_detection_is_dropped_but_not_a_prompt(pipe, person):
    def unseen(photo, mask, crowded):
        body = pipe._stages.completion(photo, mask)
        return replace(body, visible=np.zeros_like(body.visible), score=0.0)

    blind = Deoccluder(Stages(unseen, pipe._stages.recovery, device="cpu", model="base"))
    assert blind(person.photo, segmenter=lambda image: [person.visible, person.visible]).people == ()
    assert len(blind(person.photo, masks=[person.visible]).people) == 1


def test_min_score_applies_to_the_reported_score(pipe, person):
    (one,) = pipe(person.photo, segmenter=lambda image: [(person.visible, 0.8)]).people
    assert one.score < 0.8
    for least, count in ((one.score - 0.001, 1), (one.score + 0.001, 0)):
        found = pipe(person.photo, segmenter=lambda image: [(person.visible, 0.8)], min_score=least)
        assert len(found.people) == count


def test_removed_visible_pixels_are_not_a_source(pipe, person):
    body = pipe._stages.completion(person.photo, person.visible)
    less = body.visible.copy()
    less[: less.shape[0] // 2] = False
    changed = body.with_visible(less)
    assert np.array_equal(changed.visible, less) and np.array_equal(changed.amodal, body.amodal)
    _, before = visible_in_crop(person.photo, body.visible, body.region, body.in_crop.crop)
    _, after = visible_in_crop(person.photo, changed.visible, changed.region, changed.in_crop.crop)
    assert not (after & ~before).any()
    kept = np.count_nonzero(after) / np.count_nonzero(before)
    assert kept == pytest.approx(np.count_nonzero(less) / np.count_nonzero(body.visible), abs=0.03)
    assert body.with_visible(body.visible) is body


def test_segmenter_people_are_ordered_left_to_right(pipe, person, weights_dir):
    size_hw = person.photo.shape[:2]
    left, right, tiny = (box_to_mask(box, size_hw) for box in ((20, 60, 90, 300), (400, 60, 500, 300), (5, 5, 15, 12)))
    seen = []

    def find(image):
        seen.append(image.shape)
        return [(right, 0.9), (left, 0.5), (left.copy(), 0.4), tiny]

    result = pipe(person.photo, segmenter=find, min_height_px=20)
    assert seen == [person.photo.shape]
    assert [one.box_xyxy[0] < 200 for one in result.people] == [True, False]  # the second left one is the same body
    assert len(pipe(person.photo, segmenter=find, min_score=0.6, min_height_px=20).people) == 1
    (one,) = pipe(person.photo, segmenter=find, person="450,100").people
    assert one.visible_mask[100, 450]
    always = load("base", device="cpu", weights_dir=weights_dir, threads=1, segmenter=find)
    assert [one.id for one in always(person.photo, person="2").people] == [2]
    assert len(always(person.photo, masks=[person.visible]).people) == 1  # prompts come first
    assert len(seen) == 4


class Boxes:
    """A detector that returns fixed boxes and records its arguments."""

    min_score = 0.1

    def __init__(self, *found: Detection):
        self.found, self.asked = found, []

    def __call__(self, photo, *, min_score):
        self.asked.append((photo.shape, min_score))
        return list(self.found)


def with_detector(pipe: Deoccluder, *found: Detection, unsure: bool = False) -> tuple[Deoccluder, Boxes]:
    """`pipe` with such a detector; unsure: the mask network finds no person."""
    boxes = Boxes(*found)

    def doubt(photo, mask, crowded):
        return replace(pipe._stages.completion(photo, mask), score=0.4)

    complete = doubt if unsure else pipe._stages.completion
    return Deoccluder(Stages(complete, pipe._stages.recovery, device="cpu", model="base", finder=boxes)), boxes


RIGHT, LEFT = Detection((400, 60, 500, 300), 0.9), Detection((20.4, 60, 90, 300), 0.5)


def test_filters_change_neither_numbers_nor_masks(pipe, person):
    own, boxes = with_detector(pipe, RIGHT, LEFT)
    everyone = {one.id: one for one in own(person.photo, complete="always").people}
    heights = {one.id: np.ptp(np.flatnonzero(one.visible_mask.any(axis=1))) + 1 for one in everyone.values()}
    surest, highest = max(everyone, key=lambda number: everyone[number].score), max(heights, key=heights.get)
    for options, number in (
        ({"min_score": everyone[surest].score}, surest),
        ({"min_height_px": heights[highest]}, highest),
        ({"person": "2"}, 2),
    ):
        kept = own(person.photo, complete="always", **options).people
        assert number in [one.id for one in kept] and (len(kept) == 1 or len(set(heights.values())) == 1)
        for one in kept:
            assert np.array_equal(one.amodal_mask, everyone[one.id].amodal_mask) and one.score == everyone[one.id].score
    assert {least for _, least in boxes.asked} == {0.1}, "the detector's own least score"
    unsure = 3 - surest
    assert not own(person.photo, person=str(unsure), min_score=everyone[surest].score).people


def test_detected_people_are_ordered_left_to_right(pipe, person):
    own, boxes = with_detector(pipe, RIGHT, LEFT, Detection((22, 64, 92, 300), 0.4))
    result = own(person.photo)
    assert boxes.asked == [((480, 640, 3), 0.1)]
    assert [(one.id, one.box_xyxy[0] < 200) for one in result.people] == [(1, True), (2, False)], "merged by mask"
    left, right = pipe(person.photo, boxes_xyxy=[LEFT.box_xyxy, RIGHT.box_xyxy]).people
    assert [one.score for one in result.people] == pytest.approx([0.5 * left.score, 0.9 * right.score])
    assert "find" in result.timings
    (chosen,) = own(person.photo, person="largest", min_score=0.02).people
    assert chosen.id == 2 and boxes.asked[-1][1] == 0.02
    assert [one.id for one in own(person.photo, person="30,100").people] == [1]
    assert len(own(person.photo, boxes_xyxy=[(0, 0, 9, 9)]).people) == 1 and len(boxes.asked) == 3, "prompts come first"
    with pytest.raises(InputError, match="but 2 people were found"):
        own(person.photo, person="3")


def test_photo_without_prompt_uses_the_detector(finding_weights_dir, person):
    finding = load("base", device="cpu", weights_dir=finding_weights_dir, threads=1)
    assert finding.finds_people
    people = finding(person.photo).people
    # the tiny detector sees red, some of it more than once
    assert people and all((one.visible_mask & person.amodal).any() for one in people)
    grey = np.full_like(person.photo, 90)
    assert finding(grey).people == () and np.array_equal(finding(grey).content, grey)


def test_detection_rejected_by_the_mask_network_is_dropped(pipe, person):
    doubting, _ = with_detector(pipe, RIGHT, LEFT, unsure=True)
    assert doubting(person.photo).people == ()
    assert len(doubting(person.photo, masks=[person.visible]).people) == 1, "a user's prompt is never dropped"
    assert len(doubting(person.photo, segmenter=lambda image: [person.visible]).people) == 1


def test_body_under_one_pixel_is_an_error_only_for_user_prompts(pipe, person):
    def vanish(photo, mask, crowded):
        raise NoPersonError("the person is smaller than a pixel of the photo")

    vanishing = Deoccluder(Stages(vanish, pipe._stages.recovery, device="cpu", model="base", finder=Boxes(RIGHT, LEFT)))
    assert vanishing(person.photo).people == ()
    assert vanishing(person.photo, segmenter=lambda image: [person.visible]).people == ()
    with pytest.raises(InputError, match="smaller than a pixel"):
        vanishing(person.photo, masks=[person.visible])


def test_detection_score_is_the_product_of_both_networks(pipe, person):
    seen = pipe(person.photo, boxes_xyxy=[RIGHT.box_xyxy]).people[0].score
    own, boxes = with_detector(pipe, RIGHT)
    boxes.min_score = 0.9 * seen - 0.01
    assert len(own(person.photo).people) == 1
    boxes.min_score = 0.9 * seen + 0.01
    assert own(person.photo).people == ()


def test_duplicate_boxes_are_merged_but_segmenter_masks_are_kept(pipe, person):
    """Of their visible masks 60 % are shared, of the bodies behind them 74 %."""
    boxes = [(100.0, 60.0, 160.0, 260.0), (115.0, 60.0, 175.0, 260.0)]
    finding, _ = with_detector(pipe, Detection(boxes[0], 0.8), Detection(boxes[1], 0.9))
    (one,) = finding(person.photo).people
    assert mask_to_box_xyxy(one.visible_mask) == pytest.approx(boxes[1], abs=3), "the higher-scoring one"
    masks = [box_to_mask(box, person.photo.shape[:2]) for box in boxes]
    assert len(finding(person.photo, segmenter=lambda image: masks).people) == 2


class OneMaskForTwo:
    """A completion that takes two people for one at the box of the first of them, until it knows the second."""

    def __init__(self, complete, asked: np.ndarray, first: np.ndarray, both: np.ndarray, rest_score: float):
        self.complete, self.asked, self.first, self.both, self.rest_score = complete, asked, first, both, rest_score
        self.known = None
        self.crowded: list[bool] = []

    def __call__(self, photo, mask, *, crowded):
        self.crowded.append(crowded)
        return self.complete(photo, self.both if (mask == self.asked).all() else mask)

    def complete_residual(self, photo, box, known):
        assert (box == self.asked).all()
        self.known = known
        return replace(self.complete(photo, self.first), score=self.rest_score)


@pytest.mark.parametrize(
    ("rest_score", "right", "people"),
    [
        (0.8, 142.0, 2),
        (0.4, 142.0, 1),  # the residual person's score is too low
        (0.8, 180.0, 1),  # nor who fills the box: it is of both
    ],
)
def test_merged_detection_is_split_into_two_people(pipe, person, rest_score, right, people):
    one, other, asked = (100.0, 60.0, 140.0, 260.0), (140.0, 60.0, 220.0, 260.0), (100.0, 60.0, right, 260.0)
    first, second, box = (box_to_mask(edges, person.photo.shape[:2]) for edges in (one, other, asked))
    complete = OneMaskForTwo(pipe._stages.completion, box, first, first | second, rest_score)
    finder = Boxes(Detection(asked, 0.9), Detection(other, 0.6))
    finding = Deoccluder(Stages(complete, pipe._stages.recovery, device="cpu", model="base", finder=finder))
    found = finding(person.photo).people
    assert complete.known.box_xyxy == pytest.approx(other, abs=3)
    seen = [mask_to_box_xyxy(each.visible_mask) for each in found]
    if people == 2:
        assert seen == [pytest.approx(one, abs=3), pytest.approx(other, abs=3)]
        assert found[0].score == pytest.approx(0.9 * rest_score)
    else:
        assert seen == [pytest.approx((*one[:2], *other[2:]), abs=3)]


def test_stage_1_receives_the_crowded_flag_of_overlapping_boxes(pipe, person):
    boxes = [(100.0, 60.0, 160.0, 260.0), (140.0, 60.0, 200.0, 260.0), (300.0, 60.0, 360.0, 260.0)]
    nothing = np.zeros(person.photo.shape[:2], bool)
    complete = OneMaskForTwo(pipe._stages.completion, nothing, nothing, nothing, 0.0)
    own = Deoccluder(Stages(complete, pipe._stages.recovery, device="cpu", model="base"))
    own(person.photo, boxes_xyxy=boxes)
    assert complete.crowded == [True, True, False]
    complete.crowded.clear()
    own(person.photo, masks=[box_to_mask(boxes[0], nothing.shape)], boxes_xyxy=boxes[1:])
    assert complete.crowded == [False] * 3


def test_no_person_found_is_not_an_error(pipe, person):
    result = pipe(person.photo, segmenter=lambda image: [])
    assert result.people == () and np.array_equal(result.content, person.photo)
    assert result.to_coco()["annotations"] == []


def test_bool_and_uint8_masks_are_the_same_prompt(pipe, person, result):
    one_bit = np.asarray(Image.fromarray(person.visible))
    assert one_bit.dtype == bool
    assert one_bit.view(np.uint8).max() == 255
    for mask in (person.visible * np.uint8(255), person.visible * np.uint8(1), one_bit):
        again = pipe(person.photo, masks=[mask]).people[0]
        assert np.array_equal(again.content, result.people[0].content)
        assert np.array_equal(again.amodal_prob, result.people[0].amodal_prob)


def test_output_is_equal_for_any_image_source_and_thread(pipe, person, result, tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(person.photo).save(path)
    sources = [path, path.read_bytes(), Image.open(path), person.photo]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda source: pipe(source, masks=[person.visible], seed=7), sources))
    for other in results:
        assert np.array_equal(other.people[0].rgba, result.people[0].rgba)


def test_the_photo_given_is_not_changed(pipe, person):
    before = person.photo.copy(), person.visible.copy()
    assert person.photo.flags.writeable
    pipe(person.photo, masks=[person.visible]).people[0].content[:] = 0
    assert np.array_equal(person.photo, before[0])
    assert np.array_equal(person.visible, before[1])


def test_prompts_refer_to_the_upright_photo(pipe, person):
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(np.rot90(person.photo).copy()).save(file, "PNG", exif=exif)
    result = pipe(file.getvalue(), masks=[person.visible])
    assert np.array_equal(result.image, person.photo)


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 50), (7, 5), (300, 20), (3000, 1)])
def test_small_and_narrow_photos(pipe, size_hw):
    photo = np.full((*size_hw, 3), 120, np.uint8)
    result = pipe(photo, masks=[np.ones(size_hw, bool)])
    assert result.people[0].amodal_mask.all()
    assert np.array_equal(result.content, photo)


def test_a_person_of_one_pixel(pipe, person):
    mask = np.zeros(person.photo.shape[:2], bool)
    mask[100, 200] = True
    assert pipe(person.photo, masks=[mask]).people[0].amodal_mask[100, 200]


def test_missing_prompt_error_names_the_options(pipe, person):
    with pytest.raises(UsageError, match="model base cannot find people: pass masks, boxes_xyxy or a segm") as caught:
        pipe(person.photo)
    assert caught.value.exit_code == 2
    assert pipe(person.photo, masks=[]).people == ()


MASK = np.ones((480, 640), bool)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.ones((512, 512), bool), r"mask 2 must have the photo's size 480x640 \(HxW\), got 512x512"),
        (MASK * np.float32(np.nan), "mask 2 must be a bool or 0/255 uint8 array, got float32"),
        (MASK.astype(np.int64), "mask 2 must be a bool or 0/255 uint8 array, got int64"),
        (MASK.tolist(), "mask 2 must be a bool or 0/255 uint8 array, got list"),
        (np.ones((480, 640, 1), bool), r"mask 2 must have two dimensions \(H, W\), got shape \(480, 640, 1\)"),
        ((np.arange(640) // 200 % 3).astype(np.uint8)[None].repeat(480, 0), "mask 2 has the labels of 2 people"),
        (~MASK, "mask 2 is empty"),
        (~MASK * np.uint8(255), "mask 2 is empty"),
    ],
)
def test_invalid_mask_is_rejected(pipe, person, mask, words):
    with pytest.raises(InputError, match=words):
        pipe(person.photo, masks=[MASK, mask])


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint8])
def test_soft_mask_is_true_from_half_of_its_highest_value_on(pipe, person, kind):
    soft = person.visible.astype(np.float64)
    soft[:, 1:-1] = (soft[:, :-2] + 2 * soft[:, 1:-1] + soft[:, 2:]) / 4  # blurred across the contour
    given = soft.astype(kind) if kind != np.uint8 else (soft * 255).astype(np.uint8)
    expected = pipe(person.photo, masks=[given.astype(np.float64) >= given.max() / 2])
    assert (pipe(person.photo, masks=[given]).content == expected.content).all()


def test_result_has_the_photos_name(pipe, person, tmp_path):
    path = tmp_path / "me.png"
    Image.fromarray(person.photo).save(path)
    for source, name in ((path, "me.png"), (str(path), "me.png"), (Image.open(path), "me.png"), (person.photo, "")):
        result = pipe(source, masks=[])
        assert (result.name, result.id) == (name, 1)
        assert result.to_coco()["images"][0]["file_name"] == name
        assert [file.name for file in result.save(tmp_path, "json")] == [f"{'me' if name else 'photo'}.deoccluded.json"]


def test_masks_may_be_files_and_pillow_images(pipe, person, result, tmp_path):
    Image.fromarray(person.visible).save(tmp_path / "mask.png")
    for mask in (tmp_path / "mask.png", Image.open(tmp_path / "mask.png")):
        assert np.array_equal(pipe(person.photo, masks=[mask]).content, result.content)
    recovered = pipe.recover(person.photo, tmp_path / "mask.png", Image.fromarray(person.amodal))
    assert np.array_equal(recovered, pipe.recover(person.photo, person.visible, person.amodal))


def test_batch_gives_the_results_of_single_calls(pipe, person, tmp_path):
    other = np.ascontiguousarray(person.photo[:, ::-1])
    path, broken = tmp_path / "one.png", tmp_path / "broken.png"
    Image.fromarray(person.photo).save(path)
    broken.write_bytes(path.read_bytes()[:500])
    masks = [[person.visible], [person.visible], [person.visible[:, ::-1]], None]
    boxes = [None, None, None, [(260, 50, 380, 440)]]
    photos = [path, broken, other, person.photo]
    first, error, second, third = pipe.batch(
        photos, masks=masks, boxes_xyxy=boxes, on_error="yield", complete="always", seed=3
    )
    assert isinstance(error, InputError) and str(broken) in str(error)
    for got, photo, request in [
        (first, person.photo, {"masks": masks[0]}),
        (second, other, {"masks": masks[2]}),
        (third, person.photo, {"boxes_xyxy": boxes[3]}),
    ]:
        expected = pipe(photo, **request, complete="always")
        assert np.array_equal(got.content, expected.content)
        assert np.array_equal(got.people[0].amodal_prob, expected.people[0].amodal_prob)
    assert [(got.name, got.id) for got in (first, second, third)] == [("one.png", 1), ("photo3", 3), ("photo4", 4)]
    merged = deocclude.merge_coco(got.to_coco() for got in (first, second, third))
    assert [row["id"] for row in merged["annotations"]] == [1, 200_001, 300_001]
    with pytest.raises(UsageError, match="complete must be auto, always or never"):
        next(pipe.batch([path], complete="maybe", on_error="yield"))


def test_repr_of_a_pipeline(pipe):
    assert repr(pipe) == "Deoccluder(model='base', device='cpu', finds_people=False)"


def test_open_file_is_a_photo(pipe, person):
    content = io.BytesIO()
    Image.fromarray(person.photo).save(content, "PNG")
    content.seek(0)
    expected = pipe(person.photo, masks=[person.visible])
    assert (pipe(content, masks=[person.visible]).content == expected.content).all()
    with pytest.raises(InputError, match="opened for bytes"):
        pipe(io.StringIO("text"), masks=[person.visible])


def test_forked_processes_use_the_parents_pipeline_load_their_own_and_end(weights_dir):
    code = """if True:
        import multiprocessing, os, sys
        import numpy
        import deocclude

        pipe = deocclude.load(weights_dir=sys.argv[1], threads=2)

        def work():
            photo = numpy.zeros((64, 64, 3), numpy.uint8)
            pipe(photo, boxes_xyxy=[(8, 8, 40, 60)], complete="never")
            deocclude.load(weights_dir=sys.argv[1], threads=2)
            sys.exit(3)

        child = multiprocessing.get_context("fork").Process(target=work)
        child.start()
        child.join()
        number = os.fork()
        if number == 0:
            work()
        print(child.exitcode, os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]))
        """
    done = subprocess.run([sys.executable, "-c", code, str(weights_dir)], capture_output=True, text=True, timeout=60)
    assert done.stdout == "3 3\n", done.stderr


def test_pickled_pipeline_opens_its_networks_anew(weights_dir, person):
    pipe = deocclude.load(weights_dir=weights_dir, device="cpu", threads=1)
    again = pickle.loads(pickle.dumps(pipe))
    assert again is not pipe
    first, second = (one(person.photo, masks=[person.visible]) for one in (pipe, again))
    assert (first.content == second.content).all()


def test_pipeline_of_own_stages_cannot_be_pickled(pipe):
    own = Deoccluder(Stages(pipe._stages.completion, pipe._stages.recovery, device="cpu", model="own"))
    with pytest.raises(UsageError, match="cannot be pickled"):
        pickle.dumps(own)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((10, 20, 5, 40), r"box 1 must have x0 < x1 and y0 < y1, got \(10, 20, 5, 40\)"),
        ((10, 20, 10, 40), "x0 < x1"),
        ((700, 20, 800, 40), "must lie in the photo, 0 to 640 wide and 0 to 480 high"),
        ((-30, 20, 100, 40), "must lie in the photo"),
        ((10, 20, 100, 482), "must lie in the photo"),
        ((10, 20, 100), "four finite numbers"),
        ((10, 20, 100, float("nan")), "four finite numbers"),
        (("a", 20, 100, 40), "four numbers"),
        ((10.6, 20, 11.2, 40), "at least 4 px wide and high"),
        ((0.1, 0.2, 0.5, 0.9), "box 1 must be in pixels"),
    ],
)
def test_bad_boxes(pipe, person, box, words):
    with pytest.raises(InputError, match=words):
        pipe(person.photo, boxes_xyxy=[box])


def test_prompt_outside_a_list_is_rejected(pipe, person):
    with pytest.raises(InputError, match="masks must be a list"):
        pipe(person.photo, masks=person.visible)
    with pytest.raises(InputError, match="boxes_xyxy must be a list"):
        pipe(person.photo, boxes_xyxy=(1, 2, 30, 40))
    with pytest.raises(InputError, match="masks must be a list with one entry a person, got Image"):
        pipe(person.photo, masks=Image.fromarray(person.visible))
    with pytest.raises(InputError, match="boxes_xyxy must be a list with one entry a person, got int"):
        pipe(person.photo, boxes_xyxy=5)


def test_prompts_may_be_iterators(pipe, person):
    boxes = [(265, 60, 375, 230), (0, 0, 50, 60)]
    assert len(pipe(person.photo, masks=iter([person.visible]), boxes_xyxy=iter(boxes)).people) == 3


def test_box_array_slightly_outside_the_image_is_accepted(pipe, person):
    boxes = np.array([[-0.4, 0.0, 100.2, 480.7]], np.float32)
    assert len(pipe(person.photo, boxes_xyxy=boxes).people) == 1


def test_recover_with_known_masks(pipe, person):
    picture = pipe.recover(person.photo, person.visible, person.amodal)
    hidden = person.amodal & ~person.visible
    assert np.array_equal(picture[~hidden], person.photo[~hidden])
    inner = box_to_mask((267, 231, 373, 249), hidden.shape)
    assert np.abs(picture[inner].astype(int) - (200, 30, 40)).max() < 12
    assert np.array_equal(pipe.recover(person.photo, person.amodal, person.amodal), person.photo)
    with pytest.raises(InputError, match="the visible mask is empty"):
        pipe.recover(person.photo, ~MASK, person.amodal)


def test_load_rejects_unknown_model_weights_and_device(weights_dir, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="no model 'x'"):
        load("x", weights_dir=weights_dir)
    with pytest.raises(WeightsError):
        load(weights_dir=tmp_path)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(DeviceError):
        load(weights_dir=weights_dir, device="cuda")


def test_averaging(weights_dir, person, result):
    averaged = load(weights_dir=weights_dir, device="cpu", average=True, threads=1)(
        person.photo, masks=[person.visible]
    )
    # The tiny network has no sense of sides and reaches a little further on a zoomed-out crop.
    assert mask_iou(averaged.people[0].amodal_mask, result.people[0].amodal_mask) > 0.95
    assert not np.array_equal(averaged.people[0].amodal_prob, result.people[0].amodal_prob)


def test_mirroring_changes_nothing_for_a_symmetric_network(weights_dir, tmp_path, person):
    folder = tmp_path / "weights"
    shutil.copytree(weights_dir, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["models"]["base"]["settings"] = {"crop": {"zoomed_out_scale": CropSettings.tight_scale}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    plain, mirrored = (
        load(weights_dir=folder, device="cpu", average=average, threads=1)(person.photo, masks=[person.visible])
        for average in (False, True)
    )
    assert np.abs(plain.people[0].amodal_prob - mirrored.people[0].amodal_prob).max() < 0.02


def test_run_is_load_and_one_call(weights_dir, person, result, monkeypatch):
    monkeypatch.setattr("deocclude.inference.runtime.BUNDLED_WEIGHTS", weights_dir)
    once = deocclude.run(person.photo, masks=[person.visible], device="cpu")
    assert np.array_equal(once.content, result.content)


def test_recover_matches_the_full_pipeline(pipe, person, result):
    """The same masks give the same pixels, soft edge and all, at the rim of the hidden box too."""
    (one,) = result.people
    alone = pipe.recover(person.photo, one.visible_mask, one.amodal_mask)
    differs = (alone != one.content).any(axis=-1)
    assert not differs[~one.invisible_mask].any()
    weight = soft_edge(one.amodal_mask)
    rim = one.invisible_mask & (weight < 255)
    paint = np.abs(alone.astype(int) - person.photo)[rim].max(axis=-1)
    inside = np.abs(alone.astype(int) - person.photo)[one.invisible_mask & (weight == 255)].max()
    assert rim.any() and (paint <= np.ceil(weight[rim] / 255 * inside)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_score": "0.5"}, "min_score must be a number from 0 to 1, got '0.5'"),
        ({"min_score": float("nan")}, "min_score must be a number from 0 to 1, got nan"),
        ({"min_height_px": -1}, "min_height_px must be a number of pixels, got -1"),
        ({"segmenter": 5}, "a segmenter is a function of an image, got int"),
        ({"person": 0}, "a person is chosen by all, largest, a number from the left"),
        ({"boxes_xyxy": [(0, 0, 9, 9)], "person": 1}, "give them or masks and boxes, not both"),
        ({"boxes_xyxy": [(0, 0, 9, 9)], "min_score": 0.5}, "give them or masks and boxes, not both"),
    ],
)
def test_detection_options_are_validated(pipe, options, message):
    with pytest.raises(UsageError, match=message):
        pipe(np.zeros((32, 32, 3), np.uint8), **options)


def test_load_error_names_the_invalid_option(weights_dir):
    for options, message in (
        ({"model": ["base"]}, "a model is given by its name, got list"),
        ({"segmenter": 5}, "a segmenter is a function of an image, got int"),
        ({"threads": "2"}, "threads must be a whole number from 1 to 1024, got '2'"),
        ({"threads": 99999}, "threads must be a whole number from 1 to 1024, got 99999"),
        ({"threads": 1.5}, "threads must be a whole number from 1 to 1024, got 1.5"),
    ):
        with pytest.raises(UsageError, match=message):
            deocclude.load(**({"model": "base", "weights_dir": weights_dir} | options))
