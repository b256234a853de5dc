"""An open photo without networks: two drawn people, whose completion follows the prompts in a simple way."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image, ImageDraw

from deocclude.errors import InputError
from deocclude.imaging.boxes import box_to_mask
from deocclude.imaging.crop import Region
from deocclude.inference.completion_prompts import CompletionPrompts
from deocclude.io.images import load_image
from deocclude.types import Person, Result

SIZE_HW = (240, 320)
BAR_Y = 150  # from here to BAR_END_Y a bar hides the people's legs
BAR_END_Y = 190
LEFT_BOX = (60, 50, 110, 220)  # the whole bodies
RIGHT_BOX = (200, 60, 250, 210)
SHIRT_RGB, TROUSERS_RGB = (200, 60, 50), (40, 60, 140)


def drawn_photo() -> np.ndarray:
    """(240, 320, 3) uint8: two people behind a green bar."""
    image = Image.new("RGB", SIZE_HW[::-1], (170, 190, 210))
    draw = ImageDraw.Draw(image)
    for x0, y0, x1, y1 in (LEFT_BOX, RIGHT_BOX):
        draw.rectangle((x0, y0, x1 - 1, y0 + 90), fill=SHIRT_RGB)
        draw.rectangle((x0, y0 + 90, x1 - 1, y1 - 1), fill=TROUSERS_RGB)
    draw.rectangle((0, BAR_Y, 320, BAR_END_Y - 1), fill=(60, 120, 60))
    return np.asarray(image)


def drawn_png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(drawn_photo()).save(file, "PNG")
    return file.getvalue()


@dataclass(frozen=True)
class DrawnHypothesis:
    amodal_mask: np.ndarray
    probability: float
    prompts: CompletionPrompts


@dataclass(frozen=True, eq=False)
class DrawnState:
    """As `people.editing.EditingState`."""

    photo: np.ndarray
    result: Result
    bodies: dict[int, tuple[np.ndarray, np.ndarray]]
    next_number: int

    def parts(self) -> dict[str, object]:
        return {"photo": self.photo, **{f"{one.id}": one for one in self.result.people}}


@dataclass
class DrawnEditing:
    """As `people.editing.Editing`: the whole person is the visible mask and what the prompts add."""

    photo: np.ndarray
    bodies: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)  # visible and amodal, as found
    result: Result = field(init=False)

    def __post_init__(self) -> None:
        bar = box_to_mask((0, BAR_Y, self.photo.shape[1], BAR_END_Y), self.photo.shape[:2])
        for number, box in enumerate((LEFT_BOX, RIGHT_BOX), start=1):
            whole = box_to_mask(box, self.photo.shape[:2])
            self.bodies[number] = (whole & ~bar, whole)
        self._next = 3
        self._people = {n: self._person(n, *masks) for n, masks in self.bodies.items()}
        self._update()

    @property
    def state(self) -> DrawnState:
        return DrawnState(self.photo, self.result, dict(self.bodies), self._next)

    def restore(self, state: DrawnState) -> Result:
        self.bodies, self.result = dict(state.bodies), state.result
        self._people = {one.id: one for one in state.result.people}
        self._next = max(self._next, state.next_number)
        return self.result

    def complete(self, number: int, prompts: CompletionPrompts | None) -> Result:
        visible, amodal = self._body(number)
        if prompts is not None:
            amodal = self._prompted(visible, amodal, prompts)
        self._people[number] = self._person(number, visible, amodal)
        return self._update()

    def add(self, *, mask: np.ndarray | None = None, box_xyxy: tuple[float, ...] | None = None) -> int:
        number = self._next
        self._next += 1
        self._put(number, mask if mask is not None else box_to_mask(box_xyxy, self.photo.shape[:2]))
        return number

    def replace(
        self, number: int, *, mask: np.ndarray | None = None, box_xyxy: tuple[float, ...] | None = None
    ) -> Result:
        self._body(number)
        self._put(number, mask if mask is not None else box_to_mask(box_xyxy, self.photo.shape[:2]))
        return self.result

    def remove(self, number: int) -> Result:
        self._body(number)
        del self.bodies[number], self._people[number]
        return self._update()

    def hypotheses(self, number: int, count: int = 4) -> tuple[DrawnHypothesis, ...]:
        visible, amodal = self._body(number)
        region = Region.of_mask(amodal)
        found = []
        for place in range(min(count, 3)):
            x0, y0, x1, y1 = region.left, region.top, region.right + 8 * place, region.bottom
            prompts = CompletionPrompts(extent_xyxy=(x0, y0, x1, y1))
            mask = self._prompted(visible, amodal, prompts)
            found.append(DrawnHypothesis(mask, (0.5, 0.3, 0.2)[place], prompts))
        return tuple(found)

    def _body(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        if number not in self.bodies:
            raise InputError(f"there is no person {number}")
        return self.bodies[number]

    def _put(self, number: int, mask: np.ndarray) -> None:
        for other, (visible, amodal) in self.bodies.items():
            if other != number and (visible & mask).any():
                self.bodies[other] = (visible & ~mask, amodal)
                self._people[other] = self._person(other, *self.bodies[other])
        self.bodies[number] = (mask, mask)
        self._people[number] = self._person(number, mask, mask)
        self._update()

    def _prompted(self, visible: np.ndarray, amodal: np.ndarray, prompts: CompletionPrompts) -> np.ndarray:
        size_hw = self.photo.shape[:2]
        if prompts.extent_xyxy is not None:
            amodal = box_to_mask(prompts.extent_xyxy, size_hw)
        amodal = amodal.copy()
        for x, y in (*prompts.points, *prompts.joints.values()):
            amodal |= box_to_mask((max(0, x - 6), max(0, y - 6), x + 6, y + 6), size_hw)
        for x, y in prompts.not_points:
            amodal &= ~box_to_mask((max(0, x - 6), max(0, y - 6), x + 6, y + 6), size_hw)
        if prompts.front is not None:
            amodal &= prompts.front
        for mask in (prompts.keep, prompts.background):
            if mask is not None:
                amodal &= ~mask
        return amodal | visible

    def _person(self, number: int, visible: np.ndarray, amodal: np.ndarray) -> Person:
        amodal = amodal | visible
        region = Region.of_mask(amodal).grow(4, self.photo.shape[:2])
        here = region.slices
        invisible = (amodal & ~visible)[here]
        hidden, rgb = Region(0, 0, 0, 0), np.zeros((0, 0, 3), np.uint8)
        if invisible.any():
            inner = Region.of_mask(invisible)
            hidden = Region(
                inner.top + region.top, inner.left + region.left, inner.bottom + region.top, inner.right + region.left
            )
            rgb = np.full((*hidden.size_hw, 3), TROUSERS_RGB, np.uint8)
        rows = np.arange(region.top, region.bottom)[:, None]
        parsing = np.where(amodal[here], np.where(rows < BAR_Y - 10, 6, 9), 0).astype(np.uint8)
        return Person(
            number, 0.9, 0.8, self.photo, region, visible[here].copy(), amodal[here].copy(),
            (amodal[here] * 200).astype(np.uint8) + 20, parsing, hidden, rgb,
        )  # fmt: skip

    def _update(self) -> Result:
        people = tuple(self._people[number] for number in self.bodies)
        timings = {"load": 0.01, "find": 0.2, "complete": 0.3, "recover": 0.1, "total": 0.61}
        self.result = Result(self.photo, people, timings, "cpu", "drawn", name="drawn.png")
        return self.result


class DrawnPipeline:
    """As `Deoccluder`: every photo of SIZE_HW has the drawn people, every other one nobody."""

    def edit(self, image: bytes) -> DrawnEditing:
        photo = load_image(image)
        if photo.shape[:2] == SIZE_HW:
            return DrawnEditing(photo)
        empty = DrawnEditing(drawn_photo())
        empty.photo, empty.bodies, empty._people = photo, {}, {}
        empty._update()
        return empty

    def edit_again(self, state: DrawnState) -> DrawnEditing:
        editing = DrawnEditing(state.photo)
        editing.restore(state)
        return editing


class ResultEditing(DrawnEditing):
    """The people of a finished result, steered as drawn ones; to look at the page with a real photo."""

    def __init__(self, result: Result) -> None:
        self.photo = result.image
        self.bodies = {one.id: (one.visible_mask, one.amodal_mask) for one in result.people}
        self._next = len(self.bodies) + 1
        self._people = {one.id: one for one in result.people}
        self.result = replace(result)
