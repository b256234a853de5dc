"""People drawn by code for evaluation sets, and a predictor that knows them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deocclude.data.evalsets.persons import EvalSample, EvalSet, write_eval_set

HEIGHT, WIDTH = 96, 72


def draw_person(person: str, kind: str, hidden_rows: int) -> EvalSample:
    """A striped body, rows 8-88 and columns 24-48, its lowest `hidden_rows` behind a green thing."""
    truth = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    amodal = np.zeros((HEIGHT, WIDTH), bool)
    amodal[8:88, 24:48] = True
    stripes = np.where(np.arange(HEIGHT) // 4 % 2, 60, 140).astype(np.uint8)
    truth[amodal] = np.broadcast_to(stripes[:, None, None], truth.shape)[amodal]
    visible = amodal.copy()
    visible[88 - hidden_rows :] = False
    photo = truth.copy()
    photo[88 - hidden_rows : 88, 12:60] = (0, 160, 0) if hidden_rows else photo[88:88, 12:60]
    return EvalSample(f"{person}-{kind}", person, kind, photo, truth, visible, amodal)


@dataclass
class Person:
    visible_mask: np.ndarray
    amodal_mask: np.ndarray
    content: np.ndarray
    hidden_probability: float = 1.0


@dataclass
class Answer:
    people: list[Person]


class Oracle:
    """Knows each truth by its photo; adds `grow` px on the body's right, fills what is hidden with one `colour`."""

    def __init__(self, eval_set: EvalSet, *, grow: int = 0, colour: int | None = None) -> None:
        self.samples = {eval_set.load(record).photo.tobytes(): eval_set.load(record) for record in eval_set}
        self.grow = grow
        self.colour = colour
        self.prompts: list[str] = []

    def __call__(self, image, masks=None, boxes_xyxy=None) -> Answer:
        self.prompts.append("box" if boxes_xyxy else "mask")
        sample = self.samples[image.tobytes()]
        amodal = sample.amodal.copy()
        for step in range(1, self.grow + 1):
            amodal |= np.roll(sample.amodal, step, axis=1)
        return Answer([Person(sample.visible, amodal, self.recover(image, sample.visible, amodal))])

    def recover(self, image, visible_mask, amodal_mask) -> np.ndarray:
        content = image.copy()
        hidden = amodal_mask & ~visible_mask
        content[hidden] = self.samples[image.tobytes()].truth[hidden] if self.colour is None else self.colour
        return content


def write_drawn_set(folder: Path) -> EvalSet:
    """Three occluded pictures of two people, and one that nothing hides."""
    samples = [
        draw_person("ann", "object", 20),
        draw_person("ann", "low", 44),
        draw_person("bob", "person", 60),
        draw_person("bob", "none", 0),
    ]
    return write_eval_set(folder, samples, name="drawn", seed=3, source="code")
