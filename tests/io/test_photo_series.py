"""Series of photos: order, reading ahead, names, prompts of each photo, and photos that fail."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from deocclude.errors import DeoccludeError, InputError, UsageError
from deocclude.io.images import Photo
from deocclude.io.photo_series import process_series, read_ahead
from deocclude.types import Result


def photo_of(value: int) -> np.ndarray:
    return np.full((4, 5, 3), value, np.uint8)


def as_result(photo: Photo, **request: Any) -> Result:
    """An empty result of a photo; masks must be a list of numbers that add up to the photo's first value."""
    if "masks" in request and sum(request["masks"]) != photo.pixels[0, 0, 0]:
        raise InputError("mask 1 is of another photo")
    return Result(photo.pixels, (), {"load": 0.0, "total": 1.0}, "cpu", "base")


def series(photos: Any, recover: Any = as_result, on_error: str = "raise", progress: bool = False, **prompts: Any):
    return process_series(recover, photos, prompts, on_error=on_error, progress=progress, options={})


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """a.png, a.bmp, B.png, b.png in another folder, and text.png, which is no photo."""
    (tmp_path / "more").mkdir()
    found = [tmp_path / name for name in ("a.png", "a.bmp", "B.png", "more/b.png")]
    for value, path in enumerate(found):
        Image.fromarray(photo_of(value)).save(path)
    text = tmp_path / "text.png"
    text.write_text("no photo")
    return [*found, text]


# --- reading ahead ---------------------------------------------------------------------------------------------------


def test_items_come_in_order_and_one_is_taken_ahead() -> None:
    taken: list[int] = []

    def counted() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    items = read_ahead(counted())
    assert taken == []
    assert [next(items) for _ in range(5)] == [0, 1, 2, 3, 4]
    items.close()  # waits for the sixth, which was asked for with the fifth
    assert taken == [0, 1, 2, 3, 4, 5]
    assert list(read_ahead([])) == []


def test_next_photo_is_read_while_one_is_processed() -> None:
    second_is_taken = threading.Event()

    def photos() -> Iterator[np.ndarray]:
        yield photo_of(1)
        second_is_taken.set()
        yield photo_of(2)

    def recover(photo: Photo) -> Result:
        assert second_is_taken.wait(10), "the second photo was not asked for while the first was processed"
        return as_result(photo)

    assert [int(result.image[0, 0, 0]) for result in series(photos(), recover)] == [1, 2]


def test_error_of_the_iterable_is_raised_in_its_place() -> None:
    def photos() -> Iterator[np.ndarray]:
        yield photo_of(1)
        raise RuntimeError("the camera is gone")

    results = series(photos(), on_error="yield")
    assert next(results).id == 1
    with pytest.raises(RuntimeError, match="the camera is gone"):
        next(results)


def test_nothing_is_read_before_the_first_result_is_asked_for(tmp_path: Path) -> None:
    results = series([tmp_path / "late.png"])
    Image.fromarray(photo_of(9)).save(tmp_path / "late.png")
    assert [result.name for result in results] == ["late.png"]


# --- names -----------------------------------------------------------------------------------------------------------


def test_stems_differ_and_names_are_those_of_the_files(paths: list[Path]) -> None:
    results = list(series(paths[:4]))
    assert [result.name for result in results] == ["a.png", "a.bmp", "B.png", "b.png"]
    assert [result.stem for result in results] == ["a", "a_2", "B", "b_2"]
    assert [result.id for result in results] == [1, 2, 3, 4]


def test_photos_of_any_kind_are_named(paths: list[Path]) -> None:
    content = paths[0].read_bytes()
    with open(paths[2], "rb") as file:
        photos = [photo_of(7), str(paths[0]), Image.open(paths[1]), content, io.BytesIO(content), file]
        names = [result.name for result in series(photos)]
    assert names == ["photo1", "a.png", "a.bmp", "photo4", "photo5", "B.png"]


def test_seconds_of_reading_count(paths: list[Path]) -> None:
    (result,) = series(paths[:1])
    assert result.timings["load"] > 0 and result.timings["total"] == 1 + result.timings["load"]


# --- prompts of each photo -------------------------------------------------------------------------------------------


def test_each_photo_gets_its_own_prompts() -> None:
    seen: list[tuple[int, Any, Any]] = []

    def recover(photo: Photo, masks: Any, boxes_xyxy: Any) -> Result:
        seen.append((int(photo.pixels[0, 0, 0]), masks, boxes_xyxy))
        return as_result(photo)

    list(series([photo_of(3), photo_of(4)], recover, masks=iter([["m3"], None]), boxes_xyxy=[None, [(0, 0, 4, 4)]]))
    assert seen == [(3, ["m3"], None), (4, None, [(0, 0, 4, 4)])]


def test_other_numbers_of_prompts_than_of_photos_are_refused() -> None:
    with pytest.raises(UsageError, match="masks of a batch must have one entry a photo, got 1 for 2"):
        series([photo_of(3), photo_of(4)], masks=[[3]])
    for photos, masks, short in (([3, 4], [[3]], "masks"), ([3], [[3], [4]], "photos")):
        results = series(map(photo_of, photos), masks=iter(masks))
        assert next(results).id == 1
        with pytest.raises(UsageError, match=f"one entry a photo in every list, got 1 in {short}"):
            next(results)


@pytest.mark.parametrize("one", ["photo.jpg", Path("photo.jpg"), b"bytes", photo_of(1), Image.new("RGB", (2, 2)), 3])
def test_single_photo_is_refused_at_once(one: Any) -> None:
    with pytest.raises(UsageError, match="photos of a batch must be a list with one entry a photo, got one "):
        series(one)
    with pytest.raises(UsageError, match="masks of a batch must be a list with one entry a photo, got one str"):
        series([photo_of(1)], masks="mask.png")


def test_array_of_photos_and_of_boxes_is_a_list() -> None:
    photos = np.stack([photo_of(1), photo_of(2)])
    assert [int(result.image[0, 0, 0]) for result in series(photos)] == [1, 2]
    boxes = np.zeros((2, 1, 4))
    shapes: list[tuple[int, ...]] = []

    def recover(photo: Photo, boxes_xyxy: Any) -> Result:
        shapes.append(boxes_xyxy.shape)
        return as_result(photo)

    list(series(photos, recover, boxes_xyxy=boxes))
    assert shapes == [(1, 4), (1, 4)]


# --- photos that fail ------------------------------------------------------------------------------------------------


def test_failing_photo_raises_after_the_results_before_it(paths: list[Path]) -> None:
    results = series([paths[0], paths[4], paths[1]])
    assert next(results).name == "a.png"
    with pytest.raises(InputError, match=r"text\.png: not an image in a known format"):
        next(results)
    assert next(results, "ended") == "ended"


def test_yield_gives_the_error_in_the_photos_place(paths: list[Path]) -> None:
    photos = [paths[0], paths[4], photo_of(5), photo_of(6)]
    first, unread, refused, last = series(photos, on_error="yield", masks=[[0], [0], [1], [6]])
    assert isinstance(first, Result) and isinstance(last, Result)
    assert (first.id, last.id) == (1, 4), "a photo that fails keeps its place"
    assert str(unread) == f"{paths[4]}: not an image in a known format", "the path is named once"
    assert type(refused) is InputError and str(refused) == "photo3: mask 1 is of another photo"


@pytest.mark.parametrize("error", [UsageError("no such option"), DeoccludeError("the network failed"), KeyError("x")])
def test_error_that_is_not_of_the_photo_ends_the_batch(error: Exception) -> None:
    def recover(photo: Photo) -> Result:
        raise error

    with pytest.raises(type(error), match=str(error)):
        list(series([photo_of(1)], recover, on_error="yield"))


def test_unknown_rule_for_errors_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="on_error must be one of raise, yield, got 'skip'"):
        series([photo_of(1)], on_error="skip")


# --- progress --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("photos_of", "count"), [(list, "3/3"), (iter, "3/?")])
def test_progress_bar_counts_photos_on_a_terminal(photos_of: Any, count: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(
        "rich.console.Console", lambda stderr: Console(file=shown, force_terminal=True, width=80, _environ={})
    )
    assert len(list(series(photos_of([photo_of(value) for value in (1, 2, 3)]), progress=True))) == 3
    assert "photos" in shown.getvalue() and count in shown.getvalue()


def test_progress_bar_is_left_out_where_stderr_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    assert len(list(series([photo_of(1), photo_of(2)], progress=True))) == 2
    assert capfd.readouterr() == ("", "")
