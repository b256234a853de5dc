"""Fixes of annotations that no record may hold: empty masks, and visible pixels outside the amodal mask."""

from __future__ import annotations

import numpy as np

from deocclude.data.datasets.record import Note, PersonRecord, PhotoRecord, Rle


def repaired(photo: PhotoRecord) -> PhotoRecord:
    """The record without people whose masks are empty, amodal masks extended by visible ones, with notes on both.

    Things with an empty mask are left out without a note, and so are all things of a photo without people. Visible and
    amodal masks are annotated by hand and seldom agree at the boundary; visible pixels are part of the person.
    """
    noted = [(person, note_on(person)) for person in photo.people]
    people = tuple(
        _with_extended_amodal(person) if note is not None else person
        for person, note in noted
        if note is None or note.kind != "empty"
    )
    things = tuple(thing for thing in photo.things if thing.visible.mask().any()) if people else ()
    notes = tuple(note for _, note in noted if note is not None)
    return photo.model_copy(update={"people": people, "things": things, "notes": notes})


def note_on(person: PersonRecord) -> Note | None:
    """A note on a person's invalid masks, None for valid ones.

    Raises InputError for run lengths that cannot be read.
    """
    visible = person.visible.mask()
    amodal = visible if person.amodal in (None, person.visible) else person.amodal.mask()
    if not visible.any() and not amodal.any():
        return Note(kind="empty", person=person.id, what="the mask is empty")
    outside = np.count_nonzero(visible & ~amodal)
    if outside:
        what = f"{outside} visible pixels lie outside the whole (amodal) mask"
        return Note(kind="outside", person=person.id, what=what)
    return None


def _with_extended_amodal(person: PersonRecord) -> PersonRecord:
    """The person with the visible pixels added to the amodal mask."""
    extended = (person.amodal or person.visible).mask() | person.visible.mask()
    return person.model_copy(update={"amodal": Rle.of(extended)})
