"""Results as `supervision.Detections`: what annotators, trackers and metrics of that library take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deocclude.errors import MissingPackageError, UsageError
from deocclude.types import Result

if TYPE_CHECKING:
    from supervision import Detections

MASKS = ("amodal", "visible")  # values of `mask`


def to_supervision(result: Result, mask: str = "amodal") -> Detections:
    """See `Result.to_supervision`."""
    if mask not in MASKS:
        raise UsageError(f"mask must be one of {', '.join(MASKS)}, got {mask!r}")
    try:
        from supervision import Detections
    except ModuleNotFoundError as error:
        raise MissingPackageError(f"to_supervision needs the package {error.name}: pip install {error.name}") from error
    people, visible = result.people, mask == "visible"
    boxes = [person.visible_box_xyxy if visible else person.box_xyxy for person in people]
    masks = np.zeros((len(people), *result.image.shape[:2]), bool)
    for whole, person in zip(masks, people, strict=True):
        whole[:] = person.visible_mask if visible else person.amodal_mask
    return Detections(
        xyxy=np.array(boxes, np.float32).reshape(-1, 4),
        mask=masks,
        confidence=np.array([person.score for person in people], np.float32),
        class_id=np.zeros(len(people), int),
        data={
            "class_name": np.array(["person"] * len(people), dtype="<U6"),
            "person_id": np.array([person.id for person in people], int),
            "hidden_fraction": np.array([person.hidden_fraction for person in people], np.float32),
            "hidden_probability": np.array([person.hidden_probability for person in people], np.float32),
        },
    )
