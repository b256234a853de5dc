"""An open photo: what is computed again, what stays, and that errors leave everything as it was."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from deocclude.errors import InputError, NoPersonError, UsageError
from deocclude.imaging.boxes import box_to_mask
from deocclude.inference.completion_prompts import CompletionPrompts
from deocclude.pipeline import load


@pytest.fixture(scope="module")
def pipe(weights_dir):
    return load(weights_dir=weights_dir, device="cpu", threads=1)


@pytest.fixture
def editing(pipe, person):
    other = box_to_mask((40, 100, 100, 300), person.photo.shape[:2])
    return pipe.edit(person.photo, masks=[person.visible, other])


def test_opened_photo_equals_a_call(pipe, person, editing):
    other = box_to_mask((40, 100, 100, 300), person.photo.shape[:2])
    called = pipe(person.photo, masks=[person.visible, other])
    assert [one.id for one in editing.result.people] == [1, 2]
    np.testing.assert_array_equal(editing.result.content, called.content)
    for one, same in zip(editing.result.people, called.people, strict=True):
        np.testing.assert_array_equal(one.amodal_mask, same.amodal_mask)
    assert editing.result.order == called.order and editing.prompts == {}


def test_masks_restrict_one_person_and_leave_the_others(person, editing):
    before = editing.result
    hidden = before.people[0].invisible_mask
    assert hidden.any()
    result = editing.complete(1, CompletionPrompts(keep=np.ones(person.photo.shape[:2], bool)))
    assert not result.people[0].invisible_mask.any()
    np.testing.assert_array_equal(result.people[0].visible_mask, before.people[0].visible_mask)
    assert result.people[1] is before.people[1], "nothing of the others is computed again"
    assert list(editing.prompts) == [1]
    again = editing.complete(1, None)
    np.testing.assert_array_equal(again.people[0].invisible_mask, hidden)
    assert editing.prompts == {}


def test_a_call_takes_the_same_prompts(pipe, person, editing):
    front = box_to_mask((0, 0, 320, 480), person.photo.shape[:2])
    prompts = CompletionPrompts(front=front)
    edited = editing.complete(1, prompts).people[0]
    other = box_to_mask((40, 100, 100, 300), person.photo.shape[:2])
    called = pipe(person.photo, masks=[person.visible, other], completion_prompts={1: prompts}).people[0]
    np.testing.assert_array_equal(called.amodal_mask, edited.amodal_mask)
    assert called.invisible_mask.any() and not called.invisible_mask[:, 320:].any()
    alone = pipe(person.photo, masks=[person.visible], completion_prompts=prompts).people[0]
    assert not alone.invisible_mask[:, 320:].any()


def test_errors_leave_everything_as_it_was(person, editing):
    before = editing.result
    everything = np.ones(person.photo.shape[:2], bool)
    for change, error, message in (
        (lambda: editing.complete(3, None), InputError, "there is no person 3: there is 1, 2"),
        (lambda: editing.complete(1, CompletionPrompts(points=((9999, 1),))), InputError, "must lie in the photo"),
        (lambda: editing.complete(1, CompletionPrompts(points=((1, 1),))), UsageError, "no head for completion"),
        (lambda: editing.complete(1, CompletionPrompts(background=everything)), NoPersonError, "nothing visible"),
        (lambda: editing.add(), InputError, "by a mask or by a box"),
        (lambda: editing.add(mask=everything), InputError, "covers person 1 wholly"),
        (lambda: editing.replace(1, box_xyxy=(0, 0, 1, 1)), InputError, "the box must be"),
        (lambda: editing.hypotheses(1), UsageError, "no head for completion"),
        (lambda: editing.remove(7), InputError, "no person 7"),
    ):
        with pytest.raises(error, match=message):
            change()
        assert editing.result is before and editing.prompts == {}


def test_added_mask_takes_its_pixels_from_the_others(person, editing):
    size_hw = person.photo.shape[:2]
    lower = box_to_mask((40, 200, 140, 340), size_hw)
    assert editing.add(mask=lower) == 3
    second, third = editing.result.people[1:]
    assert not (second.visible_mask & third.visible_mask).any()
    assert third.visible_mask[220, 60] and not second.visible_mask[220, 60] and second.visible_mask[150, 60]


def test_person_without_a_visible_pixel_does_not_prevent_others(person, editing):
    other = editing._people[2]
    nothing = np.zeros_like(other.found.visible)
    editing._people[2] = replace(other, found=replace(other.found, visible=nothing))
    assert editing.add(mask=box_to_mask((500, 100, 560, 300), person.photo.shape[:2])) == 3


def test_numbers_are_never_given_twice(person, editing):
    mask = box_to_mask((500, 100, 560, 300), person.photo.shape[:2])
    assert editing.add(mask=mask) == 3
    assert [one.id for one in editing.remove(3).people] == [1, 2]
    assert editing.add(mask=mask) == 4
    assert [one.id for one in editing.remove(1).people] == [2, 4]


def test_replaced_mask_keeps_the_prompts(person, editing):
    editing.complete(1, CompletionPrompts(keep=np.ones(person.photo.shape[:2], bool)))
    wider = person.visible | box_to_mask((250, 200, 270, 260), person.photo.shape[:2])
    result = editing.replace(1, mask=wider)
    assert list(editing.prompts) == [1] and not result.people[0].invisible_mask.any()
    assert result.people[0].visible_mask[230, 255]


def test_photo_without_people_can_get_some(pipe, person):
    editing = pipe.edit(person.photo, masks=[])
    assert editing.result.people == ()
    assert editing.add(mask=person.visible) == 1


def test_restored_state_is_the_same_people_in_this_editing_and_another(pipe, person, editing):
    before = editing.state
    keep = np.ones(person.photo.shape[:2], bool)
    editing.complete(1, CompletionPrompts(keep=keep))
    changed = pickle.loads(pickle.dumps(editing.state))
    wider = person.visible | box_to_mask((250, 200, 270, 260), person.photo.shape[:2])
    editing.replace(1, mask=wider)
    assert editing.restore(before) is before.result and editing.result is before.result
    assert editing.prompts == {}
    other = pipe.edit_again(changed)
    assert not other.result.people[0].invisible_mask.any() and list(other.prompts) == [1]
    again = other.complete(1, None).people[0]
    np.testing.assert_array_equal(again.amodal_mask, before.result.people[0].amodal_mask)
    np.testing.assert_array_equal(again.content, before.result.people[0].content)


def test_number_of_a_person_that_was_undone_is_not_given_again(person, editing):
    before = editing.state
    mask = box_to_mask((500, 100, 560, 300), person.photo.shape[:2])
    assert editing.add(mask=mask) == 3
    editing.restore(before)
    assert editing.add(mask=mask) == 4
