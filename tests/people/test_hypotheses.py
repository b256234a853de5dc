"""Several completions: they differ, they are ordered, and the prompts of each give it."""

from __future__ import annotations

import numpy as np
import pytest

from deocclude.errors import UsageError
from deocclude.imaging.boxes import box_to_mask
from deocclude.inference.completion_prompts import CompletionPrompts
from deocclude.inference.mask_completion import MaskCompletion
from deocclude.inference.prompted_completion import PromptedCompletion
from deocclude.people.hypotheses import likely_completions, sampled_bodies

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
    """Cuts at the extent; hypothesis K leaves 6 K rows below the mask; the third one is the most likely."""

    likelihood = (0.2, 0.1, 0.4, 0.3)

    def __call__(self, prompts, unprompted, hypothesis, **others):
        amodal = unprompted * (prompts[:, :1] >= 0)
        for one, visible, wanted in zip(amodal[:, 0], unprompted[:, 0] > 0.94, hypothesis, strict=True):
            if wanted.any():
                one[np.nonzero(visible)[0].max() + 6 * (int(wanted.argmax()) + 1) :] = 0
        likelihood = np.tile(np.array(self.likelihood, np.float32), (len(prompts), 1))
        parsing = parsing_of(len(prompts), prompts.shape[-1])
        return {"amodal": amodal.astype(np.float32), "amodal_parsing": parsing, "likelihood": likelihood}


@pytest.fixture
def completion() -> PromptedCompletion:
    return PromptedCompletion(Stage1(), Head(), np.zeros((5, 2, 32, 32), np.float32), hypotheses=4)


@pytest.fixture
def body():
    mask = box_to_mask((150, 60, 210, 140), SIZE_HW)
    mask[60:70, 150:160] = False
    return MaskCompletion(Stage1(), average="never")(PHOTO, mask)


def test_hypotheses_differ_and_are_ordered(completion, body):
    found = likely_completions(completion, PHOTO, body, CompletionPrompts(), 4)
    assert [one.prompts.hypothesis for one in found] == [3, 4, 1, 2]
    assert [one.probability for one in found] == pytest.approx([0.4, 0.3, 0.2, 0.1])
    areas = [int(one.amodal_mask.sum()) for one in found]
    assert areas[1] > areas[0] > areas[3] > areas[2]


def test_prompts_of_a_hypothesis_give_it(completion, body):
    for one in likely_completions(completion, PHOTO, body, CompletionPrompts(), 3):
        again = completion(PHOTO, body, one.prompts)
        np.testing.assert_array_equal(again.on_photo(again.amodal, SIZE_HW), one.amodal_mask)


def test_given_prompts_hold_for_all(completion, body):
    given = CompletionPrompts(extent_xyxy=(148, 58, 212, 170), pose=2)
    found = likely_completions(completion, PHOTO, body, given, 4)
    assert all(one.prompts.extent_xyxy == given.extent_xyxy and one.prompts.pose == 2 for one in found)
    assert not any(one.amodal_mask[180:].any() for one in found)
    front = np.zeros(SIZE_HW, bool)
    front[:150] = True
    found = likely_completions(completion, PHOTO, body, CompletionPrompts(front=front), 4)
    assert not any(one.amodal_mask[150:].any() for one in found)


def test_samples_follow_the_order_of_each_person(completion, body):
    found = {1: body, 2: body}
    decided = {1: body, 2: body.without_completion()}
    versions = sampled_bodies(completion, PHOTO, found, decided, {}, 3, "drawn")
    hypotheses = likely_completions(completion, PHOTO, body, CompletionPrompts(), 3)
    for version, one in zip(versions, hypotheses, strict=True):
        whole = version[1]
        np.testing.assert_array_equal(whole.on_photo(whole.amodal, SIZE_HW), one.amodal_mask)
        assert whole.sample_probability == one.probability
        assert version[2] is decided[2], "a person without a completed part is the same in every sample"


def test_samples_leave_out_what_was_decided_against(completion, body):
    upper = body.amodal.copy()
    upper[144 - body.region.top :] = False
    decided = {1: body.with_amodal(upper | body.visible)}
    (free, *_) = likely_completions(completion, PHOTO, body, CompletionPrompts(), 1)
    assert (free.amodal_mask & body.on_photo(decided[1].left_out, SIZE_HW)).any()
    for version in sampled_bodies(completion, PHOTO, {1: body}, decided, {}, 4, "drawn"):
        whole = version[1].on_photo(version[1].amodal, SIZE_HW)
        left_out = body.on_photo(decided[1].left_out, SIZE_HW)
        assert left_out.any() and not (whole & left_out).any()
    told = {1: CompletionPrompts(extent_xyxy=(148, 58, 212, 200))}
    (version,) = sampled_bodies(completion, PHOTO, {1: body}, decided, told, 1, "drawn")
    told_mask = version[1].on_photo(version[1].amodal, SIZE_HW)
    assert (told_mask & left_out).any(), "prompts win over the decision"


def test_prompts_that_only_restrict_do_not_undo_the_decision(completion, body):
    """`keep` in a corner of the photo changes nothing: not who is completed, nor which regions are."""
    corner = np.zeros(SIZE_HW, bool)
    corner[:5, :5] = True
    upper = body.amodal.copy()
    upper[144 - body.region.top :] = False
    decided = {1: body.with_amodal(upper | body.visible), 2: body.without_completion()}
    told = {number: CompletionPrompts(keep=corner) for number in decided}
    found = {1: body, 2: body}
    plain = sampled_bodies(completion, PHOTO, found, decided, {}, 3, "drawn")
    for version, one in zip(sampled_bodies(completion, PHOTO, found, decided, told, 3, "drawn"), plain, strict=True):
        for number in decided:
            np.testing.assert_array_equal(version[number].amodal, one[number].amodal)
        assert not version[2].hidden_fraction
    everything = {2: CompletionPrompts(background=body.on_photo(body.visible, SIZE_HW) & (np.arange(400) < 160))}
    for version in sampled_bodies(completion, PHOTO, found, decided, everything, 2, "drawn"):
        assert not version[2].on_photo(version[2].visible, SIZE_HW)[:, :160].any(), "the background is still taken away"


def test_samples_need_the_head(body):
    with pytest.raises(UsageError, match="model plain has no head"):
        sampled_bodies(None, PHOTO, {1: body}, {1: body}, {}, 2, "plain")


def test_number_is_limited_by_the_model(completion, body):
    for count in (0, 5):
        with pytest.raises(UsageError, match=f"1 to 4 hypotheses of a person, not {count}"):
            likely_completions(completion, PHOTO, body, CompletionPrompts(), count)
    former = PromptedCompletion(Stage1(), Head(), np.zeros((5, 2, 32, 32), np.float32))
    with pytest.raises(UsageError, match="a single answer"):
        likely_completions(former, PHOTO, body, CompletionPrompts(), 4)
