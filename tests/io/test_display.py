"""Results in an image viewer and in a notebook."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageShow

from bodies import make_person
from deocclude.errors import DeoccludeError, UsageError
from deocclude.imaging.crop import Region
from deocclude.io.display import NOTEBOOK_PX
from deocclude.types import Result


def result_of(size_hw: tuple[int, int], **options: Any) -> Result:
    photo = np.random.default_rng(3).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    return Result(photo, (make_person(photo),), {}, "cpu", "base", **options)


def test_notebook_shows_the_recovered_photo() -> None:
    result = result_of((20, 30))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(result._repr_png_()))), result.content)


def test_notebooks_picture_is_bounded_and_keeps_its_shape() -> None:
    image = Image.open(io.BytesIO(result_of((1500, 3000))._repr_png_()))
    assert image.size == (NOTEBOOK_PX, NOTEBOOK_PX // 2)


def test_extended_picture_is_transparent_beyond_people_and_photo() -> None:
    result = result_of((20, 30), photo_region=Region(4, 0, 20, 30))
    image = Image.open(io.BytesIO(result._repr_png_()))
    assert np.array_equal(np.asarray(image), np.dstack([result.content, result.alpha]))


@pytest.fixture
def viewed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Image.Image, str | None]]:
    """What Pillow's viewer was asked to show, with titles."""
    shown: list[tuple[Image.Image, str | None]] = []

    class Viewer(ImageShow.Viewer):
        def show(self, image: Image.Image, title: str | None = None, **options: Any) -> int:
            shown.append((image, title))
            return 1

    monkeypatch.setattr(ImageShow, "_viewers", [Viewer()])
    return shown


def test_show_opens_the_viewer(viewed: list[tuple[Image.Image, str | None]]) -> None:
    result = result_of((20, 30), name="a.jpg")
    result.show()
    result.show("overlay")
    assert np.array_equal(np.asarray(viewed[0][0]), result.content) and viewed[0][1] == "a.jpg"
    assert np.array_equal(np.asarray(viewed[1][0]), result.overlay())
    with pytest.raises(UsageError, match="json is no image of the photo"):
        result.show("json")


def test_show_without_a_viewer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageShow, "_viewers", [])
    with pytest.raises(DeoccludeError, match="no program that shows images was found"):
        result_of((20, 30)).show()
