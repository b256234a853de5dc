"""People of an image + mask folder, selected by the rules of `selection.py` and read on demand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deocclude.data.datasets import image_masks
from deocclude.data.datasets.record import Rle
from deocclude.data.sources.cutting import (
    MIN_BACKGROUND_PX,
    SURROUNDINGS,
    PersonCrop,
    background_without_people,
    cut_out,
    free_region,
)
from deocclude.data.sources.layers import Layer, PersonPhoto
from deocclude.data.sources.lazy import Lazy, Trait
from deocclude.data.sources.selection import RULES, Thresholds, candidates, failed_rules, is_inside, is_occluder
from deocclude.errors import InputError
from deocclude.imaging.arrays import Mask
from deocclude.io.images import load_image

_CACHED_PEOPLE = 96  # people kept in memory: camera photos take long to decode
# of training subjects, who may be truncated by the image border
_SUBJECT_RULES = tuple(rule for rule in RULES if rule != "edge")
_OCCLUDER_MARGIN = 0.02  # context around an occluder, by its longer side: enough for its soft edge


class MaskedPerson(NamedTuple):
    """A person, by the photo's path and the visible mask. whole: not truncated by the image border."""

    name: str
    image: str
    visible: Rle
    whole: bool

    def cut(self, max_px: int | None, surroundings: float = SURROUNDINGS) -> PersonCrop:
        """The person's crop with context. Raises InputError for a photo that cannot be read."""
        return cut_out(load_image(self.image), self.visible.mask(), max_px=max_px, surroundings=surroundings)


@dataclass(frozen=True)
class FolderPeople:
    """The people of a folder's photos.

    Attributes:
        people: training subjects; a truncated person is not completed beyond the image border.
        occluders: people who fail a rule, but whose visible part can be pasted.
        backgrounds: (path, visible masks) of each photo with a large region without people.
        refused: number of people who fail each rule.
    """

    people: tuple[MaskedPerson, ...]
    occluders: tuple[MaskedPerson, ...]
    backgrounds: tuple[tuple[str, tuple[Rle, ...]], ...]
    refused: dict[str, int]


class FolderSubjects(Lazy[PersonPhoto]):
    """The people of a folder, at most `max_px` on the longer side; None: no scaling."""

    def __init__(self, people: tuple[MaskedPerson, ...], max_px: int | None) -> None:
        self._people, self._max_px = people, max_px
        traits: dict[Trait, Mask] = {
            "whole": np.array([person.whole for person in people], bool),
            "has_background": np.ones(len(people), bool),
        }
        super().__init__(len(people), traits=traits, kept=_CACHED_PEOPLE)

    def read(self, at: int) -> PersonPhoto:
        """The item, cropped from its photo. Raises InputError for a photo that cannot be read."""
        person = self._people[at]
        return person.cut(self._max_px).to_person(person.name, has_background=True, whole=person.whole)


class FolderOccluders(Lazy[Layer]):
    """The visible parts of a folder's other people, as occluders."""

    def __init__(self, people: tuple[MaskedPerson, ...], max_px: int | None) -> None:
        self._people, self._max_px = people, max_px
        super().__init__(len(people))

    def read(self, at: int) -> Layer:
        """The item, cropped from its photo. Raises InputError for a photo that cannot be read."""
        return self._people[at].cut(self._max_px, _OCCLUDER_MARGIN).to_layer(self._people[at].name)


class FolderBackgrounds(Lazy[np.ndarray]):
    """Regions of a folder's photos without people, (H, W, 3) uint8 each."""

    def __init__(self, backgrounds: tuple[tuple[str, tuple[Rle, ...]], ...]) -> None:
        self._backgrounds = backgrounds
        super().__init__(len(backgrounds))

    def read(self, at: int) -> np.ndarray:
        """The item, cropped from its photo. Raises InputError for a photo that cannot be read."""
        image, masks = self._backgrounds[at]
        background = background_without_people(load_image(image), (mask.mask() for mask in masks))
        if background is None:
            raise InputError(f"{image}: has no region of {MIN_BACKGROUND_PX} px or more beside its people")
        return background


def read_folder_people(
    folder: Path, is_in_split: Callable[[int], bool], rules: Sequence[str] = _SUBJECT_RULES
) -> FolderPeople:
    """People of `folder`/images with masks in `folder`/masks.

    Args:
        folder: the folder of both.
        is_in_split: whether the photo of that number, from 0, is used.
        rules: names of the rules that a training subject must pass; empty where people were selected before.

    Raises:
        InputError: a photo or mask is missing or cannot be used.
    """
    limits = Thresholds()
    rules = tuple(rules)
    people, occluders, backgrounds, refused = [], [], [], dict.fromkeys(rules, 0)
    for number, photo in enumerate(image_masks.read(folder)):
        if not is_in_split(number):
            continue
        in_photo = candidates(photo)
        for candidate in in_photo:
            failed = failed_rules(candidate, rules, limits)
            whole = is_inside(candidate, limits)
            name = f"folder/{photo.id}/{candidate.person.id}"
            person = MaskedPerson(name, photo.image, candidate.person.visible, whole)
            if not failed:
                people.append(person)
            elif is_occluder(failed):
                occluders.append(person)
            for rule in failed:
                refused[rule] += 1
        if free_region(photo.size_hw, (candidate.mask for candidate in in_photo)) is not None:
            backgrounds.append((photo.image, tuple(candidate.person.visible for candidate in in_photo)))
    return FolderPeople(tuple(people), tuple(occluders), tuple(backgrounds), refused)
