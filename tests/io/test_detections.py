"""Results as supervision's Detections. The package is no dependency: a stand-in takes the same arguments."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from bodies import make_person
from deocclude.errors import MissingPackageError, UsageError
from deocclude.types import Result


@dataclass
class Detections:
    """The arguments of supervision's class that are used, with its checks of shapes."""

    xyxy: np.ndarray
    mask: np.ndarray
    confidence: np.ndarray
    class_id: np.ndarray
    data: dict[str, np.ndarray]

    def __post_init__(self) -> None:
        count = len(self.xyxy)
        assert self.xyxy.shape == (count, 4) and self.mask.ndim == 3 and len(self.mask) == count
        assert self.confidence.shape == self.class_id.shape == (count,)
        assert all(len(values) == count for values in self.data.values())


@pytest.fixture
def supervision(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("supervision")
    module.Detections = Detections
    monkeypatch.setitem(sys.modules, "supervision", module)


@pytest.fixture
def result() -> Result:
    photo = np.zeros((20, 30, 3), np.uint8)
    return Result(photo, (make_person(photo), make_person(photo, 5, left=18, hidden_from=14)), {}, "cpu", "base")


@pytest.mark.usefixtures("supervision")
def test_detections_are_the_people(result: Result) -> None:
    found = result.to_supervision()
    assert found.xyxy.dtype == np.float32 and found.xyxy.tolist() == [[4, 2, 10, 14], [18, 2, 24, 14]]
    assert found.mask.dtype == bool
    assert np.array_equal(found.mask, [person.amodal_mask for person in result.people])
    assert found.confidence.tolist() == [0.75, 0.75] and found.class_id.tolist() == [0, 0]
    assert found.data["class_name"].tolist() == ["person", "person"]
    assert found.data["person_id"].tolist() == [1, 5]
    assert found.data["hidden_fraction"].tolist() == [0.5, 0.0]
    assert found.data["hidden_probability"].tolist() == [0.875, 0.875]


@pytest.mark.usefixtures("supervision")
def test_visible_masks_come_with_their_boxes(result: Result) -> None:
    found = result.to_supervision(mask="visible")
    assert found.xyxy.tolist() == [[4, 2, 10, 8], [18, 2, 24, 14]]
    assert np.array_equal(found.mask, [person.visible_mask for person in result.people])
    with pytest.raises(UsageError, match="mask must be one of amodal, visible, got 'hidden'"):
        result.to_supervision("hidden")


@pytest.mark.usefixtures("supervision")
def test_result_without_people_gives_no_detections(result: Result) -> None:
    empty = replace(result, people=()).to_supervision()
    assert empty.xyxy.shape == (0, 4) and empty.mask.shape == (0, 20, 30) and empty.class_id.shape == (0,)


def test_missing_package_is_named_in_one_line(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingPackageError, match="to_supervision needs the package supervision: pip install superv"):
        result.to_supervision()
