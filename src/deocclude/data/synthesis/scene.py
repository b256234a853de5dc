"""A scene: the people, occluders and backgrounds it is composed of, where they are placed, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from deocclude.data.sources.layers import Layer, PersonPhoto
from deocclude.imaging.crop import BEYOND_RGB, OUTSIDE_GREY

Rng = np.random.Generator


@dataclass(frozen=True)
class Placed:
    """A layer with its 2x3 affine from layer pixels to person coordinates. is_person: it shows somebody."""

    layer: Layer
    to_person: np.ndarray
    is_person: bool = False


@dataclass(frozen=True)
class Plan:
    """A scene before rendering. Everything is in person coordinates."""

    person: Placed  # a thing instead where `nobody` says so
    background: np.ndarray | None  # None: the person's own photo
    background_to_person: np.ndarray
    behind: tuple[Placed, ...]
    in_front: tuple[Placed, ...]
    kind: str  # of the first occluder: object, person, low, slab, or none
    window_xyxy: tuple[float, float, float, float]  # the photo's edges
    visible_box_xyxy: tuple[float, float, float, float]
    amodal_box_xyxy: tuple[float, float, float, float]
    hidden_fraction: float
    beyond_edge: bool = False  # the body counts beyond the photo's edges as well

    @property
    def nobody(self) -> bool:
        """Whether the subject is a thing: there is no body to find in its place."""
        return not isinstance(self.person.layer, PersonPhoto)


@dataclass(frozen=True)
class Scene:
    """A rendered scene, every array (H, W[, 3]).

    photo: uint8, what the camera sees; truth: uint8, the same without the occluders; visible, amodal: bool, within the
    photo's edges, amodal beyond them where the plan says so; parsing: uint8 of the whole person, 255 = unknown; inside:
    bool, within the photo's edges; known: bool, where `amodal` is truth (not beyond the edge of a photo that cuts its
    person); others: bool, what is seen of each of the other people who were placed.
    """

    photo: np.ndarray
    truth: np.ndarray
    visible: np.ndarray
    amodal: np.ndarray
    parsing: np.ndarray
    inside: np.ndarray
    known: np.ndarray
    others: tuple[np.ndarray, ...] = ()


def beyond_rgb(plan: Plan) -> tuple[int, int, int]:
    """The colour of pixels beyond the photo's edges: it says whether the body is asked for there."""
    return BEYOND_RGB if plan.beyond_edge else (OUTSIDE_GREY,) * 3


def own_photo_frame(person: PersonPhoto) -> np.ndarray:
    """2x3 affine from the person's own photo pixels to person coordinates."""
    x0, y0, x1, y1 = person.box_xyxy
    s = 1.0 / max(x1 - x0, y1 - y0)
    return np.array([[s, 0, -s * (x0 + x1) / 2], [0, s, -s * (y0 + y1) / 2]])


def invert(affine: np.ndarray) -> np.ndarray:
    """Inverse of a 2x3 affine."""
    return cv2.invertAffineTransform(affine)


def compose_affines(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    return outer @ np.vstack([inner, (0, 0, 1)])


def placed_at(
    layer: Layer, rng: Rng, size: float, cx: float, cy: float, max_angle_deg: float = 15.0, *, is_person: bool = False
) -> Placed:
    """`layer` with its longer side at `size`, its middle at (cx, cy), mirrored half of the time."""
    x0, y0, x1, y1 = layer.box_xyxy
    s = size / max(x1 - x0, y1 - y0)
    a = np.deg2rad(rng.uniform(-1, 1) * max_angle_deg)
    linear = s * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) @ np.diag([rng.choice([-1.0, 1.0]), 1.0])
    offset = np.array([cx, cy]) - linear @ np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    return Placed(layer, np.column_stack([linear, offset]), is_person)
