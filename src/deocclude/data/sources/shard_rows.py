"""A row of a built set: its columns, encoding and decoding."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import cv2
import numpy as np

from deocclude.data.sources.cutting import PersonCrop
from deocclude.errors import InputError

Kind = Literal["person", "occluder", "background"]

_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95]


@lru_cache(maxsize=1)
def features() -> Any:
    """The columns and their types, as `datasets` takes them.

    kind: "person" (a training subject), "occluder" or "background". photo: the crop with context, JPEG. mask: PNG,
    255 = person, null for a background. parsing: PNG of labels into PARSING_NAMES, 255 = unknown, or null. whole: the
    image border does not truncate the person.
    """
    from datasets import Features, Image, Value

    text = Value("string")
    return Features(
        {
            "kind": text, "id": text, "photo_id": text, "source": text, "split": text, "licence": text,
            "whole": Value("bool"), "has_background": Value("bool"), "photo": Image(), "mask": Image(),
            "parsing": Image(),
        }
    )  # fmt: skip


def encode(
    kind: Kind, row_id: str, rgb: np.ndarray, mask: np.ndarray | None, parsing: np.ndarray | None, **facts: Any
) -> dict[str, Any]:
    """A row.

    Args:
        kind: person, occluder or background.
        row_id: unique id.
        rgb: (h, w, 3) uint8.
        mask: (h, w) bool, or None for a background.
        parsing: (h, w) uint8 labels, or None.
        facts: values of the other columns.
    """
    return {
        "kind": kind,
        "id": row_id,
        "photo": _encoded_image(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), _JPEG),
        "mask": None if mask is None else _encoded_image(".png", mask.astype(np.uint8) * 255),
        "parsing": None if parsing is None else _encoded_image(".png", parsing),
        **facts,
    }


def decode_rgb(row: dict[str, Any]) -> np.ndarray:
    """(h, w, 3) uint8. Raises InputError naming the row."""
    return cv2.cvtColor(_decoded_image(row, "photo", cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def decode(row: dict[str, Any]) -> PersonCrop:
    """A person's or an occluder's pixels. Raises InputError naming the row and what is wrong with it."""
    rgb, mask = decode_rgb(row), _decoded_image(row, "mask", cv2.IMREAD_GRAYSCALE) >= 128
    parsing = None if row["parsing"] is None else _decoded_image(row, "parsing", cv2.IMREAD_GRAYSCALE)
    for name, found in (("mask", mask), ("parsing", parsing)):
        if found is not None and found.shape != rgb.shape[:2]:
            raise InputError(f"{row['id']}: {name} must have the photo's size {rgb.shape[:2]} (HxW), got {found.shape}")
    return PersonCrop(rgb, mask, parsing)


def _encoded_image(suffix: str, pixels: np.ndarray, options: list[int] | None = None) -> dict[str, Any]:
    """An image file as a value of an Image column. options: OpenCV's settings of the encoder."""
    return {"bytes": cv2.imencode(suffix, pixels, options or [])[1].tobytes(), "path": None}


def _decoded_image(row: dict[str, Any], name: str, flag: int) -> np.ndarray:
    """The decoded image in column `name`. flag: as cv2.imdecode takes it. Raises InputError naming the row."""
    content = row[name] and row[name]["bytes"]
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flag) if content else None
    if pixels is None:
        raise InputError(f"{row['id']}: {name} is not a readable picture")
    return pixels
