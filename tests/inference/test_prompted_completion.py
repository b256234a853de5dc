"""A person completed again: what is kept, what the head gets, what masks exclude."""

from __future__ import annotations

import numpy as np
import pytest

from deocclude.errors import NoPersonError, UsageError
from deocclude.imaging.boxes import box_to_mask
from deocclude.inference.completion_prompts import CompletionPrompts
from deocclude.inference.mask_completion import MaskCompletion
from deocclude.inference.prompt_maps import PROMPT_MAPS
from deocclude.inference.prompted_completion import PromptedCompletion, restricted

SIZE_HW = (300, 400)
PHOTO = np.zeros((*SIZE_HW, 3), np.uint8)
BOX = (150, 60, 210, 140)
PARTS = 12


class Stage1:
    """Says that the given mask is the person, and what its features are."""

    input_size = fine_size = 256

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, image, initial):
        size = image.shape[-1] // 4
        parsing = np.zeros((len(image), PARTS, size, size), np.float32)
        parsing[:, 6] = 1
        return {"visible": initial * 0.95, "amodal": initial * 0.95, "visible_parsing": parsing,
                "amodal_parsing": parsing}  # fmt: skip

    def select(self, names, image, initial):
        self.runs += 1
        size = image.shape[-1]
        features = {
            "stem": np.zeros((len(image), 2, size // 2, size // 2), np.float32),
            "whole": np.zeros((len(image), 2, size // 4, size // 4), np.float32),
            "poses": np.zeros((len(image), 2, size // 4, size // 4), np.float32),
        }
        found = self(image, initial) | features
        return {name: found[name] for name in names}


class Head:
    """Fills the extent, or takes the marks as body."""

    def __init__(self) -> None:
        self.prompts: list[np.ndarray] = []

    def __call__(self, prompts, visible, unprompted, hypothesis, **features):
        assert set(features) == {"stem", "whole", "poses"} and prompts.shape[1] == PROMPT_MAPS
        self.prompts.append(prompts)
        self.hypothesis = hypothesis
        amodal = np.maximum(visible, 0.9 * (prompts[:, :1] > 0))
        amodal = np.maximum(amodal, 0.9 * prompts[:, 1:2]) * (prompts[:, 2:3] == 0)
        parsing = np.zeros((len(prompts), PARTS, *(side // 4 for side in prompts.shape[2:])), np.float32)
        parsing[:, 5] = 1
        likelihood = np.full((len(prompts), 3), 1 / 3, np.float32)
        return {"amodal": amodal.astype(np.float32), "amodal_parsing": parsing, "likelihood": likelihood}


@pytest.fixture
def stage1() -> Stage1:
    return Stage1()


@pytest.fixture
def head() -> Head:
    return Head()


@pytest.fixture
def completion(stage1, head) -> PromptedCompletion:
    poses = np.zeros((3, 2, 32, 32), np.float32)
    poses[1, :, 8:24, 12:20] = 1
    return PromptedCompletion(stage1, head, poses, hypotheses=3)


@pytest.fixture
def body(stage1):
    mask = box_to_mask(BOX, SIZE_HW)
    mask[60:70, 150:160] = False
    return MaskCompletion(stage1, average="never")(PHOTO, mask)


def on_photo(body, part):
    whole = np.zeros(SIZE_HW, bool)
    whole[body.region.slices] = part
    return whole


def test_extent_fills_the_box_and_the_visible_part_stays(completion, head, body):
    extent = (140, 50, 220, 260)
    again = completion(PHOTO, body, CompletionPrompts(extent_xyxy=extent))
    found = on_photo(again, again.amodal)
    expected = box_to_mask(extent, SIZE_HW)
    assert (found & expected).sum() / (found | expected).sum() > 0.93
    np.testing.assert_array_equal(on_photo(again, again.visible), on_photo(body, body.visible))
    (prompts,) = head.prompts
    np.testing.assert_array_equal(prompts[1], prompts[0][..., ::-1])
    # the crop is around the extent, with a margin of an eighth
    rows = np.flatnonzero((prompts[0, 0] > 0).any(axis=1))
    assert len(rows) == pytest.approx(256 / 1.25, abs=2)


def test_nothing_is_body_beyond_the_extent(completion, body):
    extent = (140, 50, 220, 200)
    again = completion(PHOTO, body, CompletionPrompts(extent_xyxy=extent, points=((180.0, 230.0),)))
    found = on_photo(again, again.amodal)
    assert found[190, 180] and not found[204:].any()


def test_points_and_joints_become_marks(completion, head, body):
    joints = {"left_knee": (180.0, 180.0), "left_ankle": (180.0, 230.0), "nose": (180.0, 70.0)}
    again = completion(PHOTO, body, CompletionPrompts(points=((200.0, 160.0),), joints=joints))
    found = on_photo(again, again.amodal)
    assert found[200:225, 180].all(), "the limb between two joints"
    assert found[160, 200]
    without = completion(PHOTO, body, CompletionPrompts(joints=joints, not_points=((180.0, 205.0),)))
    assert not on_photo(without, without.amodal)[205, 180]


def test_typical_pose_is_placed_on_the_person(completion, head, body):
    completion(PHOTO, body, CompletionPrompts(pose=2))
    pose = head.prompts[0][0, 3]
    assert pose.max() == pytest.approx(1, abs=0.01) and pose.min() == -1
    with pytest.raises(UsageError, match="numbered from 1 to 3, got 4"):
        completion(PHOTO, body, CompletionPrompts(pose=4))


def test_hypothesis_is_asked_for_by_its_number(completion, head, body):
    extent = (140, 50, 220, 260)
    completion(PHOTO, body, CompletionPrompts(extent_xyxy=extent))
    np.testing.assert_array_equal(head.hypothesis, np.zeros((2, 3)))
    completion(PHOTO, body, CompletionPrompts(extent_xyxy=extent, hypothesis=2))
    np.testing.assert_array_equal(head.hypothesis, [[0, 1, 0]])  # without the mirror image
    with pytest.raises(UsageError, match="numbered from 1 to 3, got 4"):
        completion(PHOTO, body, CompletionPrompts(hypothesis=4))


def test_features_serve_every_prompt_that_the_crop_holds(completion, stage1, body):
    prompts = CompletionPrompts(extent_xyxy=(140, 50, 220, 260))
    prepared = completion.prepare(PHOTO, body, prompts)
    runs = stage1.runs
    again = CompletionPrompts(extent_xyxy=(142, 50, 220, 258), points=((180.0, 200.0),))
    assert completion.covers(prepared, body, again)
    completion.answer(PHOTO, body, prepared, again)
    assert stage1.runs == runs
    assert not completion.covers(prepared, body, CompletionPrompts(extent_xyxy=(140, 50, 220, 299)))
    assert not completion.covers(prepared, body, CompletionPrompts(extent_xyxy=(148, 58, 212, 150))), "too coarse"


def test_masks_exclude_hidden_pixels(completion, body):
    whole = completion(PHOTO, body, CompletionPrompts(extent_xyxy=(140, 50, 220, 260)))
    upper = box_to_mask((0, 0, 400, 200), SIZE_HW)
    hidden = on_photo(whole, whole.amodal & ~whole.visible)

    def left(**masks):
        kept = restricted(whole, CompletionPrompts(**masks))
        np.testing.assert_array_equal(on_photo(kept, kept.visible), on_photo(whole, whole.visible))
        return on_photo(kept, kept.amodal & ~kept.visible)

    np.testing.assert_array_equal(left(front=upper), hidden & upper)
    np.testing.assert_array_equal(left(keep=upper), hidden & ~upper)
    np.testing.assert_array_equal(left(front=upper, keep=upper), hidden & False)


def test_background_takes_visible_pixels_too(completion, body):
    whole = completion(PHOTO, body, CompletionPrompts(extent_xyxy=(140, 50, 220, 260)))
    right = box_to_mask((180, 0, 400, 300), SIZE_HW)
    kept = restricted(whole, CompletionPrompts(background=right))
    assert not on_photo(kept, kept.amodal)[:, 180:].any()
    np.testing.assert_array_equal(on_photo(kept, kept.amodal)[:, :180], on_photo(whole, whole.amodal)[:, :180])
    with pytest.raises(NoPersonError, match="nothing visible is left"):
        restricted(whole, CompletionPrompts(background=np.ones(SIZE_HW, bool)))


def test_what_the_prompts_say():
    assert CompletionPrompts().only_restricts and not CompletionPrompts().for_head
    assert CompletionPrompts(keep=np.ones(SIZE_HW, bool)).only_restricts
    assert not CompletionPrompts(front=np.ones(SIZE_HW, bool)).only_restricts
    assert CompletionPrompts(not_points=((1.0, 1.0),)).for_head
    assert CompletionPrompts(hypothesis=1).for_head
