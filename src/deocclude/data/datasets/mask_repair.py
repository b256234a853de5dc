"""Masks that no record may hold: those without a pixel, and what is visible outside the whole."""

from __future__ import annotations

import numpy as np

from deocclude.data.datasets.record import Note, PersonRecord, PhotoRecord, Rle


def mended(photo: PhotoRecord) -> PhotoRecord:
    """The record without people of no pixel, the others' whole masks grown by what is visible, and notes on both.

    Things of no pixel are left out without a note: nobody is lost with them. So are all where nobody is in the photo.

    Visible and amodal masks are drawn by hand and seldom agree at the edge: what is visible is part of the person.
    """
    noted = [(person, note_on(person)) for person in photo.people]
    people = tuple(
        _grown(person) if note is not None else person for person, note in noted if note is None or note.kind != "empty"
    )
    things = tuple(thing for thing in photo.things if thing.visible.mask().any()) if people else ()
    notes = tuple(note for _, note in noted if note is not None)
    return photo.model_copy(update={"people": people, "things": things, "notes": notes})


def note_on(person: PersonRecord) -> Note | None:
    """What is wrong with a person's visible and amodal masks. Raises InputError for run lengths that cannot be read."""
    visible = person.visible.mask()
    amodal = visible if person.amodal in (None, person.visible) else person.amodal.mask()
    if not visible.any() and not amodal.any():
        return Note(kind="empty", person=person.id, what="the mask is empty")
    outside = np.count_nonzero(visible & ~amodal)
    if outside:
        what = f"{outside} visible pixels lie outside the whole (amodal) mask"
        return Note(kind="outside", person=person.id, what=what)
    return None


def _grown(person: PersonRecord) -> PersonRecord:
    return person.model_copy(update={"amodal": Rle.of(person.amodal.mask() | person.visible.mask())})
