"""Counts of a build, and the examples of its contact sheet. The size does not grow with the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from deocclude.data.datasets.record import PersonRecord, PhotoRecord, Rle

_SHOWN_KEPT = 24  # examples of people who are kept
_SHOWN_REFUSED = 6  # examples of people whom a rule refused
_SHOWN_PROBLEMS = 20  # messages on unusable photos


class Example(BaseModel):
    """A person on the contact sheet: the photo's path or URL, and the visible mask."""

    image: str
    visible: Rle


class Tally(BaseModel):
    """Counts of a build so far.

    Attributes:
        refused: number of people who fail a rule, by rule.
        only_by: number of people who fail that rule alone.
    """

    photos: int = 0
    people: int = 0
    kept: int = 0
    occluders: int = 0
    backgrounds: int = 0
    with_parsing: int = 0
    without_licence: int = 0  # kept people
    by_split: dict[str, int] = {}  # kept people
    refused: dict[str, int] = {}
    only_by: dict[str, int] = {}
    unusable_photos: int = 0
    problems: list[str] = []  # messages on the first unusable photos
    shown_kept: list[Example] = []
    shown_refused: dict[str, list[Example]] = {}

    def add(self, outcome: PhotoOutcome) -> None:
        """Count a photo."""
        self.photos += 1
        if outcome.problem is not None:
            self.unusable_photos += 1
            if len(self.problems) < _SHOWN_PROBLEMS:
                self.problems.append(outcome.problem)
            return
        if outcome.photo is not None:
            for judged in outcome.judgements:
                self._count_person(outcome.photo, judged.person.visible, judged.failed)
        for row in outcome.rows:
            if row["kind"] == "person":
                self.by_split[row["split"]] = self.by_split.get(row["split"], 0) + 1
                self.with_parsing += row["parsing"] is not None
                self.without_licence += row["licence"] is None
            self.occluders += row["kind"] == "occluder"
            self.backgrounds += row["kind"] == "background"

    def _count_person(self, photo: PhotoRecord, visible: Rle, failed: tuple[str, ...]) -> None:
        """Count a person, given the failed rules; an example of a refused person is shown under the first of them."""
        self.people += 1
        if not failed:
            self.kept += 1
        for rule in failed:
            self.refused[rule] = self.refused.get(rule, 0) + 1
        if len(failed) == 1:
            self.only_by[failed[0]] = self.only_by.get(failed[0], 0) + 1
        shown = self.shown_refused.setdefault(failed[0], []) if failed else self.shown_kept
        if len(shown) < (_SHOWN_REFUSED if failed else _SHOWN_KEPT):
            shown.append(Example(image=photo.image, visible=visible))


@dataclass(frozen=True)
class Judgement:
    """A person and the failed rules, none for a person who is kept."""

    person: PersonRecord
    failed: tuple[str, ...]


@dataclass(frozen=True)
class PhotoOutcome:
    """What a build makes of a photo.

    Attributes:
        photo: its record; None where it could not be read.
        judgements: all people with their failed rules.
        rows: rows of the built set.
        problem: why the photo could not be used; then there are no rows.
    """

    photo: PhotoRecord | None
    judgements: tuple[Judgement, ...] = ()
    rows: tuple[dict[str, Any], ...] = ()
    problem: str | None = None
