"""Building evaluation sets of really occluded people with annotated visible and amodal masks; nothing is pasted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from deocclude.data.datasets.record import PersonRecord, PhotoRecord
from deocclude.data.datasets.taxonomies import to_parsing_groups
from deocclude.data.evalsets.build import evenly_spaced, folder_name
from deocclude.data.evalsets.persons import EvalSample, EvalSet, write_eval_set
from deocclude.data.storage import read_bytes
from deocclude.data.trainsets.build import open_records
from deocclude.errors import InputError
from deocclude.io.images import load_image

AnnotatedPerson = tuple[PersonRecord, np.ndarray, np.ndarray]
"""A person with visible and amodal mask, (H, W) bool, the first within the second."""


def build_annotated_set(
    folder: Path, place: str, *, source_format: str | None = None, images: Path | None = None, seed: int = 0,
    unoccluded: bool = True, limit: int | None = None, overwrite: bool = False,
) -> EvalSet:  # fmt: skip
    """Write the evaluation set of all people of a dataset whose visible and amodal masks are both known.

    Photos keep their size. The occluder's kind and the occluded content are unknown: occluder_kind is "unknown", truth
    is None. Left out are crowds, people marked `ignore`, fully occluded people, and cut-outs.

    Args:
        folder: where the set is written.
        place: as `open_records` takes it.
        source_format: as `open_records` takes it.
        images: as `open_records` takes it.
        seed: seed of the corrupted masks.
        unoccluded: whether unoccluded people are included.
        limit: largest number of people, evenly spaced over all; None for all.
        overwrite: whether an existing evaluation set is replaced.

    Raises:
        InputError: the dataset or a photo cannot be read, or has no such person.
        UsageError: as `open_records`; or another folder exists at `folder`.
    """

    def read_records() -> Iterator[PhotoRecord]:
        """The dataset's records, from the start at every call."""
        try:
            yield from open_records(place, source_format, images)
        except OSError as error:
            # without this, `write_eval_set` would report it as a failure to write
            raise InputError(f"{error.filename or place}: cannot be read: {error.strerror or error}") from error

    dataset = Path(place).resolve()
    return write_eval_set(
        folder, _samples(read_records, place, unoccluded, limit), name=dataset.stem, seed=seed,
        source=f"people of {dataset.name} as they are annotated, no unoccluded truth", overwrite=overwrite,
    )  # fmt: skip


def _samples(
    read_records: Callable[[], Iterable[PhotoRecord]], place: str, unoccluded: bool, limit: int | None
) -> Iterator[EvalSample]:
    """The samples of `build_annotated_set`; each call of `read_records` gives all records anew."""
    # Two passes over the records keep memory constant; photos are opened in the second pass only.
    photos = people = count = 0
    for photo in read_records():
        photos, people = photos + 1, people + len(photo.people)
        count += sum(1 for _ in _known_people(photo, unoccluded))
    if not count:
        hidden = "" if unoccluded else " and is partly occluded"
        raise InputError(
            f"{place}: none of {people} people in {photos} photos has both a visible and an amodal mask{hidden}"
        )
    chosen_numbers, number, sample_ids = set(evenly_spaced(count, limit).tolist()), 0, set()
    for photo in read_records():
        pixels = None
        for annotated in _known_people(photo, unoccluded):
            if number in chosen_numbers:
                pixels = _read_photo(photo) if pixels is None else pixels
                sample = _sample(photo, *annotated, pixels)
                if sample.id in sample_ids:
                    raise InputError(
                        f"{place}: person {annotated[0].id} of photo {photo.source}/{photo.id} comes twice, or another"
                        " person's ids give the same folder"
                    )
                sample_ids.add(sample.id)
                yield sample
            number += 1


def _known_people(photo: PhotoRecord, unoccluded: bool) -> Iterator[AnnotatedPerson]:
    """The people of a photo that `build_annotated_set` takes. unoccluded: whether unoccluded ones are among them."""
    for person in photo.people if photo.has_background else ():
        if person.amodal is None or person.iscrowd or person.ignore:
            continue
        try:
            visible = person.visible.mask()
            amodal = person.amodal.mask() | visible
        except InputError as error:
            raise InputError(f"{photo.image}: person {person.id}: {error}") from error
        if visible.any() and (unoccluded or (amodal & ~visible).any()):
            yield person, visible, amodal


def _sample(
    photo: PhotoRecord, person: PersonRecord, visible: np.ndarray, amodal: np.ndarray, pixels: np.ndarray
) -> EvalSample:
    """The sample of a person. visible, amodal: (H, W) bool; pixels: (H, W, 3) uint8, the photo."""
    parsing = None
    if person.parsing is not None:
        parsing = to_parsing_groups(person.parsing_labels(), person.parsing.taxonomy)
    name = folder_name(f"{photo.source}/{photo.id}/{person.id}")
    kind = "unknown" if (amodal & ~visible).any() else "none"
    return EvalSample(name, name, kind, pixels, None, visible, amodal, parsing)


def _read_photo(photo: PhotoRecord) -> np.ndarray:
    """(H, W, 3) uint8 RGB of the size that the record states."""
    pixels = load_image(read_bytes(photo.image))
    if pixels.shape[:2] != tuple(photo.size_hw):
        raise InputError(f"{photo.image}: its record says {photo.size_hw} (HxW), the photo is {pixels.shape[:2]}")
    return pixels
