"""Sets of whole photos: they are written and read back, and faults of their files are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deocclude.data.evalsets.folder import write_picture
from deocclude.data.evalsets.scenes import SceneSample, SceneSet, write_scene_set
from deocclude.errors import InputError


@pytest.fixture
def scenes(tmp_path: Path) -> SceneSet:
    """One photo of two people and one of nobody."""
    photo, nowhere = np.full((12, 16, 3), 90, np.uint8), np.zeros((12, 16), bool)
    people = np.zeros((2, 12, 16), bool)
    people[0, 2:5], people[1, 6:9] = True, True
    samples = (
        SceneSample("two", photo, people, people, nowhere),
        SceneSample("none", photo, people[:0], None, ~nowhere),
    )
    return write_scene_set(tmp_path / "set", samples, name="test", seed=1, source="drawn")


def test_scenes_are_read_as_they_were_written(scenes: SceneSet) -> None:
    two, none = (scenes.load(record) for record in scenes.records)
    assert two.visible[0, 2:5].all() and two.visible.sum() == two.amodal.sum() == 96 and not two.ignore.any()
    assert none.visible.shape == (0, 12, 16) and none.amodal is None and none.ignore.all()


@pytest.mark.parametrize("name", ["visible-2.png", "amodal-1.png", "ignore.png"])
def test_mask_of_another_size_is_named(scenes: SceneSet, name: str) -> None:
    write_picture(scenes.folder / "records" / "two" / name, np.zeros((12, 15), bool))
    with pytest.raises(InputError, match=rf"{name} must have its photo's size 12x16 \(HxW\), got 12x15"):
        scenes.load(scenes.records[0])


def test_photo_too_large_to_decode_is_named(scenes: SceneSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(InputError, match=r"photo\.png cannot be read as a picture"):
        scenes.load(scenes.records[0])
