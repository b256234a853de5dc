"""Open photos: bounded in number, size and time."""

from __future__ import annotations

from typing import Any

import pytest

from deocclude.serve.studio.errors import UnknownPhotoError
from deocclude.serve.studio.sessions import Session, Sessions, new_id
from deocclude.serve.studio.work import OpenPhoto
from drawn_editing import DrawnEditing, drawn_photo

PIXELS = 320 * 240


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def drawn_session() -> Session:
    return Session(new_id(), "a.png", DrawnEditing(drawn_photo()).state)


def open_photo(sessions: Sessions) -> Session:
    session = drawn_session()
    sessions.keep(session)
    return session


@pytest.mark.parametrize("limit", [{"max_open": 2}, {"max_open": 9, "max_pixels": 2 * PIXELS}])
def test_longest_unused_photo_makes_room(limit: dict[str, Any]) -> None:
    sessions = Sessions(**limit)
    first, second = open_photo(sessions), open_photo(sessions)
    sessions.get(first.id)
    third = open_photo(sessions)
    assert sessions.get(first.id) is first
    assert sessions.get(third.id) is third
    with pytest.raises(UnknownPhotoError):
        sessions.get(second.id)


def test_photo_larger_than_the_limit_is_open_alone() -> None:
    sessions = Sessions(max_pixels=10)
    photo = open_photo(sessions)
    assert sessions.get(photo.id) is photo
    open_photo(sessions)
    assert len(sessions) == 1


def test_unused_photo_times_out() -> None:
    clock = Clock()
    sessions = Sessions(timeout_s=100, clock=clock)
    used, unused = open_photo(sessions), open_photo(sessions)
    clock.now = 90
    sessions.get(used.id)
    clock.now = 120
    assert sessions.get(used.id) is used
    with pytest.raises(UnknownPhotoError):
        sessions.get(unused.id)


def test_ids_cannot_be_guessed() -> None:
    ids = {new_id() for _ in range(20)}
    assert len(ids) == 20
    assert min(map(len, ids)) >= 32


def test_background_is_filled_once_a_result() -> None:
    photo = OpenPhoto(DrawnEditing(drawn_photo()))
    background = photo.background()
    assert photo.background() is background
    photo.editing.remove(1)
    assert photo.background() is not background
