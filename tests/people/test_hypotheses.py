"""Several completions: they differ, they are ordered, and the prompts of each give it."""

from __future__ import annotations

import numpy as np
import pytest

from deocclude.errors import UsageError
from deocclude.imaging.boxes import box_to_mask
from deocclude.inference.completion_prompts import CompletionPrompts
from deocclude.inference.mask_completion import MaskCompletion
from deocclude.inference.prompted_completion import PromptedCompletion
from deocclude.people.hypotheses import likely_completions

SIZE_HW = (300, 400)
PHOTO = np.zeros((*SIZE_HW, 3), np.uint8)
PARTS = 12


def parsing_of(batch, size_px):
    parsing = np.zeros((batch, PARTS, size_px // 4, size_px // 4), np.float32)
    parsing[:, 6] = 1
    return parsing


class Stage1:
    """Says that the mask is the person, who may go on below it: the less likely the further down."""

    input_size = fine_size = 256

    def __call__(self, image, initial):
        amodal = initial * 0.95
        for one in amodal:
            rows, columns = np.nonzero(one[0])
            below = np.linspace(0.9, 0.0, 90)[: 256 - rows.max() - 1]
            one[0, rows.max() + 1 : rows.max() + 1 + len(below), columns.min() : columns.max()] = below[:, None]
        parsing = parsing_of(len(image), image.shape[-1])
        return {"visible": initial * 0.95, "amodal": amodal, "visible_parsing": parsing, "amodal_parsing": parsing}

    def select(self, names, image, initial):
        size = image.shape[-1]
        shapes = {
            "stem": (2, size // 2, size // 2),
            "whole": (2, size // 4, size // 4),
            "poses": (1, size // 4, size // 4),
        }
        features = {name: np.zeros((len(image), *shape), np.float32) for name, shape in shapes.items()}
        found = self(image, initial) | features
        return {name: found[name] for name in names}


class Head:
    """Cuts at the extent; a point that is body fills the rows down to it, one that is not empties those from it on."""

    def __call__(self, prompts, unprompted, **others):
        amodal = unprompted * (prompts[:, :1] >= 0)
        for one, first, maps in zip(amodal[:, 0], unprompted[:, 0], prompts, strict=True):
            if maps[1].any():
                end = np.nonzero(maps[1])[0].max()
                one[:end] = np.maximum(one[:end], 0.9 * (first[:end] > 0))
            if maps[2].any():
                one[np.nonzero(maps[2])[0].min() :] = 0
        return {"amodal": amodal.astype(np.float32), "amodal_parsing": parsing_of(len(prompts), prompts.shape[-1])}


@pytest.fixture
def completion() -> PromptedCompletion:
    return PromptedCompletion(Stage1(), Head(), np.zeros((5, 2, 32, 32), np.float32))


@pytest.fixture
def body():
    mask = box_to_mask((150, 60, 210, 140), SIZE_HW)
    mask[60:70, 150:160] = False
    return MaskCompletion(Stage1(), average=False)(PHOTO, mask)


def test_hypotheses_differ_and_are_ordered(completion, body):
    found = likely_completions(completion, PHOTO, body, CompletionPrompts(), 4)
    assert len(found) == 4
    probabilities = [one.probability for one in found]
    assert probabilities == sorted(probabilities, reverse=True) and sum(probabilities) == pytest.approx(1)
    areas = {int(one.amodal_mask.sum()) for one in found}
    assert len(areas) == 4 and max(areas) > 1.1 * min(areas)
    assert any(not (one.prompts.for_head) for one in found), "the completion without prompts is one of them"


def test_prompts_of_a_hypothesis_give_it(completion, body):
    for one in likely_completions(completion, PHOTO, body, CompletionPrompts(), 3):
        if one.prompts.for_head:
            again = completion(PHOTO, body, one.prompts)
            whole = np.zeros(SIZE_HW, bool)
            whole[again.region.slices] = again.amodal
            np.testing.assert_array_equal(whole, one.amodal_mask)


def test_given_prompts_hold_for_all(completion, body):
    given = CompletionPrompts(extent_xyxy=(148, 58, 212, 170), pose=2)
    found = likely_completions(completion, PHOTO, body, given, 4)
    assert all(one.prompts.extent_xyxy == given.extent_xyxy and one.prompts.pose == 2 for one in found)
    assert not any(one.amodal_mask[180:].any() for one in found)


def test_one_is_the_present_completion(completion, body):
    (only,) = likely_completions(completion, PHOTO, body, CompletionPrompts(), 1)
    assert only.probability == 1
    whole = np.zeros(SIZE_HW, bool)
    whole[body.region.slices] = body.amodal
    np.testing.assert_array_equal(only.amodal_mask, whole)


def test_none_is_refused(completion, body):
    with pytest.raises(UsageError, match="at least one hypothesis"):
        likely_completions(completion, PHOTO, body, CompletionPrompts(), 0)
