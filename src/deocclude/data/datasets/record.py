"""The common record of all datasets: a photo, the masks of its people, and other things.

Records hold no pixels. Masks are run lengths in COCO's compressed form, of the upright photo's size. Paths can be
opened as they are; in a records file (`records_file.py`) they are relative to the file's folder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from deocclude.data.datasets.files import read_labels
from deocclude.data.datasets.parsing_groups import UNKNOWN
from deocclude.data.datasets.taxonomies import TAXONOMIES, Taxonomy, check_labels
from deocclude.data.storage import join
from deocclude.errors import InputError
from deocclude.imaging.arrays import Labels, Mask
from deocclude.imaging.rle import decode_rle, encode_rle

VERSION: Literal[1] = 1

SizeHw = tuple[PositiveInt, PositiveInt]


class _Strict(BaseModel):
    """A model whose fields cannot be changed, and which refuses unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Rle(_Strict):
    """A mask as COCO's compressed run lengths. size: (H, W)."""

    size: SizeHw
    counts: Annotated[str, Field(pattern="^[0-o]*$")]  # COCO's encoding: a character holds 6 bits, "0" is 0

    @classmethod
    def of(cls, mask: Mask) -> Rle:
        """Run lengths of an (H, W) bool mask."""
        return cls(**encode_rle(mask))

    def mask(self) -> Mask:
        """(H, W) bool. Raises InputError when the counts do not fit the size."""
        try:
            return np.ascontiguousarray(decode_rle(self.model_dump()))
        except (ValueError, IndexError, OverflowError) as error:
            raise InputError(f"counts of run lengths cannot be read: {error}") from error


class Parsing(_Strict):
    """Labels of a person's parts: a label image, which may show other people too, or one mask a part."""

    taxonomy: Taxonomy
    file: str | None = None
    parts: dict[str, Rle] | None = None  # by the part's name in the taxonomy

    @model_validator(mode="after")
    def _check_file_or_parts(self) -> Parsing:
        """Raise ValueError unless there is either a file or parts of the taxonomy."""
        if (self.file is None) == (self.parts is None):
            raise ValueError("parsing must have either a file or parts")
        unknown = sorted(set(self.parts or ()) - set(TAXONOMIES[self.taxonomy][1:]))
        if unknown:
            raise ValueError(f"{self.taxonomy} has no part {unknown[0]!r}")
        return self

    @classmethod
    def of(cls, labels: Labels, taxonomy: Taxonomy) -> Parsing:
        """Masks of the parts in (H, W) labels of a taxonomy."""
        names = TAXONOMIES[taxonomy]
        found = [int(label) for label in np.unique(labels) if 0 < label < len(names)]
        return cls(taxonomy=taxonomy, parts={names[label]: Rle.of(labels == label) for label in found})


class PersonRecord(_Strict):
    """One person of a photo, or with `iscrowd` a group of people without individual masks."""

    id: str  # unique in the dataset, or within the photo
    visible: Rle  # empty for a fully occluded person
    amodal: Rle | None = None  # contains the visible mask; None where unknown
    parsing: Parsing | None = None
    iscrowd: bool = False
    ignore: bool = False  # a detection of this person counts neither as right nor as wrong
    depth_order: int | None = None  # among the photo's people and things, the lowest is nearest

    def parsing_labels(self) -> Labels:
        """(H, W) uint8 labels into the taxonomy: 0 outside the person (amodal where known), 255 = unknown.

        Raises InputError where there is no parsing, it cannot be read, or it has another size.
        """
        if self.parsing is None:
            raise InputError(f"person {self.id} has no parsing")
        person = (self.amodal or self.visible).mask()
        labels = np.full(person.shape, UNKNOWN, np.uint8)
        if self.parsing.file is not None:
            found = read_labels(self.parsing.file, person.shape)
            found = check_labels(found, self.parsing.taxonomy, self.parsing.file)
            labels[found > 0] = found[found > 0]
        names = TAXONOMIES[self.parsing.taxonomy]
        for name, part in (self.parsing.parts or {}).items():
            labels[part.mask()] = names.index(name)
        return np.where(person, labels, np.uint8(0))


class ThingRecord(_Strict):
    """Another annotated object, which may occlude a person. Its parts and amodal mask are not used."""

    name: str  # the dataset's name of its class
    visible: Rle
    depth_order: int | None = None  # among the photo's people and things, the lowest is nearest


class Note(_Strict):
    """An invalid annotation of a person, who is left out ("empty") or whose masks are repaired ("outside")."""

    kind: Literal["empty", "outside"]
    person: str  # the person's id
    what: str


class PhotoRecord(_Strict):
    """One photo with its people."""

    version: Literal[1] = VERSION
    image: str
    size_hw: SizeHw
    source: str  # name of the format
    id: str  # the photo's id in the dataset
    split: str | None = None  # name of the dataset's own split
    licence: str | None = None  # as the dataset states it
    has_background: bool = True  # else a cut-out, whose colours outside the person are invalid
    people: tuple[PersonRecord, ...] = ()
    things: tuple[ThingRecord, ...] = ()  # only of photos with people, where the dataset has things
    notes: Annotated[tuple[Note, ...], Field(exclude=True)] = ()  # on what the reader repaired; never written

    @model_validator(mode="after")
    def _check_mask_sizes(self) -> PhotoRecord:
        """Raise ValueError for a mask that has not the photo's size."""
        for person in self.people:
            parts = (person.parsing.parts or {}) if person.parsing else {}
            for mask in (person.visible, person.amodal, *parts.values()):
                if mask is not None and mask.size != self.size_hw:
                    raise ValueError(f"a mask of person {person.id} has not the photo's size {list(self.size_hw)}")
        for thing in self.things:
            if thing.visible.size != self.size_hw:
                raise ValueError(f"the mask of a {thing.name} has not the photo's size {list(self.size_hw)}")
        return self

    def with_paths(self, change: Callable[[str], str]) -> PhotoRecord:
        """The record with `change` applied to the paths of the photo and of label images."""

        def changed(person: PersonRecord) -> PersonRecord:
            if person.parsing is None or person.parsing.file is None:
                return person
            parsing = person.parsing.model_copy(update={"file": change(person.parsing.file)})
            return person.model_copy(update={"parsing": parsing})

        people = tuple(changed(person) for person in self.people)
        return self.model_copy(update={"image": change(self.image), "people": people})

    def below(self, folder: str) -> PhotoRecord:
        """The record with its relative paths joined to `folder`, a path or URL, so that they can be opened."""
        return self.with_paths(lambda name: join(folder, name))


def whole_person(person_id: str, mask: Mask, parsing: Parsing | None = None) -> PersonRecord:
    """A fully visible person: visible and amodal mask are `mask`, (H, W) bool."""
    rle = Rle.of(mask)
    return PersonRecord(id=person_id, visible=rle, amodal=rle, parsing=parsing)
