"""Completion prompts of a user are checked, and reach the right person."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from deocclude.errors import InputError, UsageError
from deocclude.inference.completion_prompts import CompletionPrompts
from deocclude.people.completion_prompts import check_completion_prompts, prompted_bodies
from deocclude.people.request import Request

SIZE_HW = (100, 200)


def checked(**given):
    return check_completion_prompts(CompletionPrompts(**given), SIZE_HW, "person 2")


def test_good_prompts_are_kept():
    found = checked(extent_xyxy=(-10, 5, 60, 140), points=[(3, 4)], joints={"nose": (1, 2)}, pose=64)
    assert found.extent_xyxy == (-10.0, 5.0, 60.0, 140.0), "a body may leave the photo"
    assert found.points == ((3.0, 4.0),) and found.joints == {"nose": (1.0, 2.0)} and found.pose == 64


def test_numbers_of_numpy_are_taken():
    found = checked(pose=np.arange(1, 65)[7], hypothesis=np.int64(2), extent_xyxy=(-900, 0, 1100, 9))
    assert type(found.pose) is int and (found.pose, found.hypothesis) == (8, 2)


def test_masks_are_read_from_files(tmp_path):
    mask = np.zeros(SIZE_HW, np.uint8)
    mask[:50] = 255
    Image.fromarray(mask).save(tmp_path / "front.png")
    found = checked(front=tmp_path / "front.png", keep=mask > 0)
    np.testing.assert_array_equal(found.front, mask > 0)
    np.testing.assert_array_equal(found.keep, mask > 0)
    assert found.background is None


@pytest.mark.parametrize(("given", "message"), [
    ({"extent_xyxy": (0, 0, 0.5, 1)}, "the extent of person 2 must be in pixels"),
    ({"extent_xyxy": (60, 0, 10, 50)}, "must have x0 < x1"),
    ({"extent_xyxy": (300, 0, 400, 50)}, "lies outside the photo of 200x100 pixels"),
    ({"extent_xyxy": (0, 0, 1e12, 50)}, "may be 10 times as long as the photo of 200x100 pixels at most"),
    ({"extent_xyxy": (1, 2, 3)}, "must be 4 finite numbers"),
    ({"points": [(250, 10)]}, "a point of person 2 must lie in the photo of 200x100 pixels, got (250, 10)"),
    ({"not_points": [(float("nan"), 10)]}, "must be 2 finite numbers"),
    ({"joints": {"knee": (1, 2)}}, "person 2 has no joint 'knee': joints are nose, left_eye"),
    ({"joints": {"nose": (1, 200)}}, "the nose of person 2 must lie in the photo"),
    ({"extent_xyxy": np.zeros((4, 1000))}, "must be 4 finite numbers in pixels, got array("),
    ({"points": None}, "the points of person 2 must be a list, got None"),
    ({"points": (3, 4)}, "a point of person 2 must be 2 finite numbers in pixels, got 3"),
    ({"joints": None}, "the joints of person 2 must be points by the joint's name, got None"),
    ({"joints": [("nose", (1, 2))]}, "must be points by the joint's name, got [('nose', (1, 2))]"),
    ({"pose": True}, "the typical pose of person 2 must be a number from 1, got True"),
    ({"pose": 0}, "the typical pose of person 2 must be a number from 1, got 0"),
    ({"front": np.zeros(SIZE_HW, bool)}, "the front mask of person 2 is empty"),
    ({"keep": np.ones((10, 10), bool)}, "the keep mask of person 2"),
])  # fmt: skip
def test_bad_prompts_are_named(given, message):
    with pytest.raises(InputError, match=re.escape(message)):
        checked(**given)


def test_other_things_are_refused():
    with pytest.raises(InputError, match="must be CompletionPrompts, got dict"):
        check_completion_prompts({"points": []}, SIZE_HW, "person 1")


def request_of(prompts, **options) -> Request:
    return Request.of(None, None, completion_prompts=prompts, **options)


def test_the_only_person_needs_no_number():
    prompts = CompletionPrompts(points=((1, 2),))
    assert request_of(prompts).told([3]) == {3: prompts}
    assert request_of({2: prompts}).told([1, 2]) == {2: prompts}
    for people, message in (([1, 2], "2 people were found"), ([], "nobody was found")):
        with pytest.raises(InputError, match=message):
            request_of(prompts).told(people)


@pytest.mark.parametrize("prompts", [[CompletionPrompts(pose=1)], "1"])
def test_prompts_without_a_number_in_a_list_are_refused(prompts):
    with pytest.raises(UsageError, match="must be CompletionPrompts, or a dict of them by the number of the person"):
        request_of(prompts)


@pytest.mark.parametrize("options", [{"uncrop": True}, {"complete": "never"}])
def test_options_that_exclude_completion_prompts(options):
    with pytest.raises(UsageError, match="not with uncrop or complete never"):
        request_of(CompletionPrompts(points=((1, 2),)), **options)


@pytest.mark.parametrize(("number", "message"), [(3, "2 people were found"), (2, "was not chosen")])
def test_prompts_of_nobody_are_refused(number, message):
    prompts = {number: CompletionPrompts(points=((1, 2),))}
    with pytest.raises(InputError, match=message):
        prompted_bodies(None, np.zeros((4, 4, 3), np.uint8), {1: None, 2: None}, {1: None}, prompts, "base")


def test_a_model_without_head_takes_masks_alone():
    prompts = {1: replace(CompletionPrompts(), points=((1.0, 2.0),))}
    with pytest.raises(UsageError, match="model tiny has no head for completion prompts"):
        prompted_bodies(None, np.zeros((4, 4, 3), np.uint8), {1: None}, {1: None}, prompts, "tiny")
