"""An open photo: people are corrected and completed again one by one, and what stays the same is not computed again.

Stage 1 completes masks, stage 2 recovers appearance (`people/stages.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from deocclude.errors import InputError, UsageError
from deocclude.imaging.arrays import ImageU8, Mask, size_hw
from deocclude.imaging.boxes import BoxXyxy, box_to_mask
from deocclude.imaging.depth_order import Occlusion, find_occlusions, resolve_overlaps
from deocclude.inference.body import Body
from deocclude.inference.completion_prompts import CompletionPrompts
from deocclude.inference.prompted_completion import PreparedCrop, PromptedCompletion
from deocclude.inference.scene import Scene
from deocclude.inference.scheduling import StageClock
from deocclude.io.images import MaskSource, Photo
from deocclude.io.photo_metadata import Metadata
from deocclude.people.completion_prompts import check_completion_prompts, prompted_body
from deocclude.people.hypotheses import Hypothesis, likely_completions
from deocclude.people.prompts import check_box, check_prompt
from deocclude.types import Person, Result


@dataclass(frozen=True)
class EditingSteps:
    """The steps of the pipeline that an open photo needs.

    Attributes:
        complete: completes the body of one (H, W) bool mask, or of a filled box.
        decide: from bodies by number, and all bodies of the image: the former with only those hidden parts that are
            probably body.
        recover: from a scene and a number: that person, with the hidden part recovered.
        result: makes a result of a scene, its people, the clock and all occlusions.
        prompted: stage 1's prompted head; None for a model without.
        model: the model's name, for errors.
        people_given: whether the user gave the people, who are then completed however small they are.
    """

    complete: Callable[[Mask], Body]
    decide: Callable[[dict[int, Body], Sequence[Body]], dict[int, Body]]
    recover: Callable[[Scene, int], Person]
    result: Callable[[Scene, Sequence[Person], StageClock, tuple[Occlusion, ...]], Result]
    prompted: PromptedCompletion | None
    model: str
    people_given: bool = False


@dataclass
class _OpenPerson:
    """A person of an open photo, and what was computed for it.

    Attributes:
        found: the body with everything that may be hidden.
        prompts: completion prompts.
        decided: the body with what is completed without prompts.
        prepared: the features that the prompted head reads.
        shown: the body as completed, with its prompts where it has some.
        person: `shown` with the hidden part recovered.
    """

    found: Body
    prompts: CompletionPrompts | None = None
    decided: Body | None = None
    prepared: PreparedCrop | None = None
    shown: Body | None = None
    person: Person | None = None


@dataclass(frozen=True, eq=False)
class EditingState:
    """A snapshot of an open photo: nothing in it changes later, and nothing may be changed. It can be pickled.

    Attributes:
        photo: (H, W, 3) uint8 RGB.
        result: everyone as completed.
        people: by number, what was computed for each.
        next_number: number of the next person that is added.
        people_given: as in EditingSteps.
    """

    photo: ImageU8
    result: Result
    people: Mapping[int, _OpenPerson]
    next_number: int
    people_given: bool

    @property
    def source(self) -> Photo:
        """The photo with what its file said of it."""
        last = self.result
        return Photo(self.photo, last.icc_profile, last.metadata or Metadata(), last.name)

    def parts(self) -> dict[str, object]:
        """The photo ("photo") and what was computed for each person ("3.found"), without `result`, which holds no more.

        States share the parts that did not change.
        """
        parts: dict[str, object] = {"photo": self.photo}
        for number, one in self.people.items():
            parts |= {f"{number}.{name}": part for name, part in vars(one).items() if part is not None}
        return parts


class Editing:
    """The people of one photo, each of whom can be completed again. `Deoccluder.edit` opens it.

    One thread at a time may use it. After an error everything is as it was before. Whether a hidden part is completed
    is decided once for each visible mask: who is added later does not change it for the others, as a new call would.
    """

    def __init__(self, photo: ImageU8, found: Sequence[Body], steps: EditingSteps) -> None:
        """Complete and recover everyone as a call of the Deoccluder does.

        Args:
            photo: (H, W, 3) uint8 RGB.
            found: the bodies, numbered from 1, with everything that may be hidden.
            steps: the pipeline's steps.
        """
        self.photo = photo
        self._steps = steps
        self._people = {number: _OpenPerson(body) for number, body in enumerate(found, start=1)}
        self._next_number = len(self._people) + 1
        self._result = self._updated(self._people)

    @classmethod
    def reopened(cls, state: EditingState, steps: EditingSteps) -> Editing:
        """An editing in a state of another one, of the same photo and model."""
        editing = cls(state.photo, (), steps)
        editing.restore(state)
        return editing

    @property
    def result(self) -> Result:
        """Everyone as completed last; `timings` are those of the last change."""
        return self._result

    @property
    def state(self) -> EditingState:
        """What `restore` returns to, and `Deoccluder.edit_again` opens, in another process too."""
        return EditingState(self.photo, self._result, self._people, self._next_number, self._steps.people_given)

    def restore(self, state: EditingState) -> Result:
        """Return to a former state of this photo, exactly. Numbers that were given since are not given again."""
        self._people, self._result = dict(state.people), state.result
        self._next_number = max(self._next_number, state.next_number)
        return self._result

    @property
    def prompts(self) -> dict[int, CompletionPrompts]:
        """The completion prompts of each person that has some."""
        return {number: one.prompts for number, one in self._people.items() if one.prompts is not None}

    def complete(self, number: int, prompts: CompletionPrompts | None) -> Result:
        """Complete one person again.

        Args:
            number: of the person.
            prompts: replace all former prompts of this person; None: as completed without.

        Raises:
            InputError: there is no such person, or a prompt cannot be used.
            UsageError: the model has no prompted head; there is no such typical pose or hypothesis.
            NoPersonError: nothing visible is left of the person.
        """
        person = self._person(number)
        given = None if prompts is None else check_completion_prompts(prompts, self._size_hw, f"person {number}")
        return self._updated(self._people | {number: replace(person, prompts=given, shown=None, person=None)})

    def add(self, *, mask: MaskSource | None = None, box_xyxy: BoxXyxy | None = None) -> int:
        """Add a person by a visible mask or a box.

        Pixels of the refined mask are taken from everyone else; with a box, a pixel of two people goes to one of them
        by `resolve_overlaps`. Only `restore` gives them back.

        Returns:
            The person's number.

        Raises:
            InputError: neither or both are given, the prompt cannot be used, or it covers another person wholly.
            NoPersonError: nobody is there.
        """
        number = self._next_number
        self._updated(self._with_person(number, _OpenPerson(self._completed(mask, box_xyxy)), wins=mask is not None))
        self._next_number += 1
        return number

    def replace(self, number: int, *, mask: MaskSource | None = None, box_xyxy: BoxXyxy | None = None) -> Result:
        """Give a person another visible mask or box; completion prompts stay.

        Arguments and errors as of `add`; also InputError: there is no such person.
        """
        prompts = self._person(number).prompts
        person = _OpenPerson(self._completed(mask, box_xyxy), prompts)
        return self._updated(self._with_person(number, person, wins=mask is not None))

    def remove(self, number: int) -> Result:
        """Take a person out; numbers and pixels of the others stay. Raises InputError: there is no such person."""
        self._person(number)
        return self._updated({other: one for other, one in self._people.items() if other != number})

    def hypotheses(self, number: int, count: int = 4) -> tuple[Hypothesis, ...]:
        """Different completions of a person, which all obey the person's present prompts.

        Args:
            number: of the person.
            count: so many; the model's number of hypotheses at most.

        Returns:
            The most probable first. `complete(number, one.prompts)` takes one.

        Raises:
            InputError: there is no such person.
            UsageError: the model has no prompted head, or not so many hypotheses; `count` is below 1.
            NoPersonError: nothing visible is left of the person with its prompts.
        """
        person = self._person(number)
        if self._steps.prompted is None:
            raise UsageError(f"model {self._steps.model} has no head for completion prompts, which hypotheses need")
        prompts = person.prompts or CompletionPrompts()
        return likely_completions(self._steps.prompted, self.photo, person.found, prompts, count)

    @property
    def _size_hw(self) -> tuple[int, int]:
        return size_hw(self.photo)

    def _person(self, number: int) -> _OpenPerson:
        """The person of a number. Raises InputError: there is none."""
        if number not in self._people:
            raise InputError(f"there is no person {number}: there is {', '.join(map(str, self._people)) or 'nobody'}")
        return self._people[number]

    def _completed(self, mask: MaskSource | None, box_xyxy: BoxXyxy | None) -> Body:
        """The body of a new prompt. Raises InputError unless exactly one is given and can be used."""
        if mask is not None and box_xyxy is None:
            return self._steps.complete(check_prompt(mask, self._size_hw, "the mask"))
        if box_xyxy is not None and mask is None:
            return self._steps.complete(box_to_mask(check_box(box_xyxy, self._size_hw, "the box"), self._size_hw))
        raise InputError("a person is given by a mask or by a box: give one of them")

    def _with_person(self, number: int, person: _OpenPerson, *, wins: bool) -> dict[int, _OpenPerson]:
        """The people with one added or replaced, visible masks disjoint. wins: this one keeps all its pixels."""
        people = self._people | {number: person}
        bodies = [one.found for one in people.values()]
        if wins:
            winner = person.found
            masks = [one.visible if one is winner else one.visible & ~winner.visible_on(one.region) for one in bodies]
        else:
            masks = resolve_overlaps(bodies, allow_duplicates=True)
        disjoint = {}
        for (other, one), mask in zip(people.items(), masks, strict=True):
            if one.found.area_px and not mask.any():
                raise InputError(f"the mask covers person {other} wholly: remove that person first")
            body = one.found.with_visible(mask)
            disjoint[other] = one if body is one.found else _OpenPerson(body, one.prompts)
        return disjoint

    def _updated(self, people: dict[int, _OpenPerson]) -> Result:
        """Complete and recover whoever changed, then keep the people and their result; an error changes nothing."""
        clock = StageClock()
        people = {number: replace(one) for number, one in people.items()}
        with clock.stage("complete"):
            undecided = {number: one.found for number, one in people.items() if one.decided is None}
            everyone = [one.found for one in people.values()]
            for number, body in self._steps.decide(undecided, everyone).items():
                people[number].decided = body
            bodies = {number: self._shown(one) for number, one in people.items()}
            scene = Scene.of(self.photo, bodies)
        with clock.stage("recover"):
            for number, one in people.items():
                one.person = one.person or self._steps.recover(scene, number)
        occlusions = tuple(find_occlusions(everyone, list(people)))
        recovered = [one.person for one in people.values() if one.person is not None]
        self._result = self._steps.result(scene, recovered, clock, occlusions)
        self._people = people
        return self._result

    def _shown(self, one: _OpenPerson) -> Body:
        """The body as completed: by its prompts, or where it has none by the model's decision. Kept in `one.shown`."""
        assert one.decided is not None
        if one.shown is None:
            one.shown = one.decided
            if one.prompts is not None:
                one.shown, one.prepared = prompted_body(
                    self._steps.prompted, self.photo, one.found, one.decided, one.prompts, self._steps.model,
                    one.prepared,
                )  # fmt: skip
        return one.shown
