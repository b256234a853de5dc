"""People of a folder of photos with masks, judged by the rules of `selection.py`, and read when they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deocclude.data.datasets import image_masks
from deocclude.data.datasets.record import Rle
from deocclude.data.sources.cutting import SURROUNDINGS, Cut, cut_out, free_part, place_without_people
from deocclude.data.sources.layers import Layer, PersonPhoto
from deocclude.data.sources.lazy import Lazy
from deocclude.data.sources.selection import RULES, Thresholds, candidates, failed_rules, is_inside, is_occluder
from deocclude.io.images import load_image

_KEPT = 96  # people in memory: photos from a camera take long to open
_RIM = 0.02  # around an occluder: no more than its soft edge needs


class InPhoto(NamedTuple):
    """Somebody, by their photo and mask."""

    name: str
    image: str
    visible: Rle
    whole: bool

    def cut(self, max_px: int | None, surroundings: float = SURROUNDINGS) -> Cut:
        """Their pixels, and those around."""
        return cut_out(load_image(self.image), self.visible.mask(), max_px=max_px, surroundings=surroundings)


@dataclass(frozen=True)
class FolderPeople:
    """Who is in the photos of a folder. places: photos with room beside their people, and the masks of those.

    people: for training; of those whom the photo's edge cuts, nothing is asked beyond it. occluders: people who fail a
    rule, but of whom what is seen can be pasted. refused: how many people fail each rule.
    """

    people: tuple[InPhoto, ...]
    occluders: tuple[InPhoto, ...]
    places: tuple[tuple[str, tuple[Rle, ...]], ...]
    refused: dict[str, int]


class FolderSubjects(Lazy[PersonPhoto]):
    """The people of a folder, `max_px` on the longer side at most; None: as large as their photos have them."""

    def __init__(self, people: tuple[InPhoto, ...], max_px: int | None) -> None:
        self._people, self._max_px = people, max_px
        traits = {"whole": np.array([one.whole for one in people], bool), "has_background": np.ones(len(people), bool)}
        super().__init__(len(people), traits=traits, kept=_KEPT)

    def read(self, at: int) -> PersonPhoto:
        """Raises InputError for a photo that cannot be read."""
        one = self._people[at]
        return one.cut(self._max_px).to_person(one.name, has_background=True, whole=one.whole)


class FolderOccluders(Lazy[Layer]):
    """What is seen of other people of a folder, to hide people with."""

    def __init__(self, people: tuple[InPhoto, ...], max_px: int | None) -> None:
        self._people, self._max_px = people, max_px
        super().__init__(len(people))

    def read(self, at: int) -> Layer:
        """Raises InputError for a photo that cannot be read."""
        return self._people[at].cut(self._max_px, _RIM).to_layer(self._people[at].name)


class FolderPlaces(Lazy[np.ndarray]):
    """Parts of a folder's photos without people, (H, W, 3) uint8 each."""

    def __init__(self, places: tuple[tuple[str, tuple[Rle, ...]], ...]) -> None:
        self._places = places
        super().__init__(len(places))

    def read(self, at: int) -> np.ndarray:
        """Raises InputError for a photo that cannot be read."""
        image, masks = self._places[at]
        return place_without_people(load_image(image), (mask.mask() for mask in masks))


def read_folder_people(folder: Path, mine: Callable[[int], bool]) -> FolderPeople:
    """People of `folder`/images with masks in `folder`/masks, of the photos whose number is `mine`.

    Raises InputError naming the photo or mask that is wrong.
    """
    limits = Thresholds()
    rules = tuple(rule for rule in RULES if rule != "edge")
    people, occluders, places, refused = [], [], [], dict.fromkeys(rules, 0)
    for number, photo in enumerate(image_masks.read(folder)):
        if not mine(number):
            continue
        everyone = candidates(photo)
        for one in everyone:
            failed = failed_rules(one, rules, limits)
            whole = is_inside(one, limits)
            person = InPhoto(f"folder/{photo.id}/{one.person.id}", photo.image, one.person.visible, whole)
            if not failed:
                people.append(person)
            elif is_occluder(failed):
                occluders.append(person)
            for rule in failed:
                refused[rule] += 1
        if free_part(photo.size_hw, (one.mask for one in everyone)) is not None:
            places.append((photo.image, tuple(one.person.visible for one in everyone)))
    return FolderPeople(tuple(people), tuple(occluders), tuple(places), refused)
