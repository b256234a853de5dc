"""Data of a scene: placed layers, the plan before rendering, and the rendered arrays."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from deocclude.data.sources.layers import Layer, PersonPhoto
from deocclude.imaging.arrays import Float
from deocclude.imaging.crop import BEYOND_RGB, OUTSIDE_GREY

Rng = np.random.Generator


@dataclass(frozen=True)
class Placed:
    """A layer with its 2x3 affine from layer pixels to person coordinates. is_person: whether it shows a person."""

    layer: Layer
    to_person: np.ndarray
    is_person: bool = False


@dataclass(frozen=True)
class Plan:
    """A scene before rendering, in person coordinates: the subject's box is centred at 0, its longer side is 1."""

    person: Placed  # the subject; an object for a negative
    background: np.ndarray | None  # None: the person's own photo
    background_to_person: np.ndarray  # 2x3 affine from background pixels
    behind: tuple[Placed, ...]  # from far to near, as `in_front`
    in_front: tuple[Placed, ...]
    kind: str  # kind of the first occluder, a key of OCCLUDERS, or none
    window_xyxy: tuple[float, float, float, float]  # box of the photo: its sides are the image border
    visible_box_xyxy: tuple[float, float, float, float]  # of the subject, as the next two, from coarse masks
    amodal_box_xyxy: tuple[float, float, float, float]
    hidden_fraction: float  # 0 to 1
    beyond_edge: bool = False  # the amodal mask extends beyond the image border

    @property
    def is_negative(self) -> bool:
        """Whether the subject is an object, so that there is no person to complete."""
        return not isinstance(self.person.layer, PersonPhoto)


@dataclass(frozen=True)
class Scene:
    """A rendered scene.

    Attributes:
        photo: (H, W, 3) uint8 with the occluders.
        truth: (H, W, 3) uint8 without the occluders.
        visible: (H, W) bool, within the image border.
        amodal: (H, W) bool, within the image border, or beyond it if the plan has `beyond_edge`.
        parsing: (H, W) uint8 labels of the amodal mask, 255 = unknown.
        inside: (H, W) bool, within the image border.
        known: (H, W) bool, where `amodal` is ground truth: not beyond the border of a photo that truncates its person.
        others: (H, W) bool visible mask of each other person in the scene.
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
    """The colour beyond the image border; it encodes whether the amodal mask is requested there."""
    return BEYOND_RGB if plan.beyond_edge else (OUTSIDE_GREY,) * 3


def own_photo_frame(person: PersonPhoto) -> np.ndarray:
    """2x3 affine from the person's own photo pixels to person coordinates."""
    x0, y0, x1, y1 = person.box_xyxy
    s = 1.0 / max(x1 - x0, y1 - y0)
    return np.array([[s, 0, -s * (x0 + x1) / 2], [0, s, -s * (y0 + y1) / 2]])


def invert(affine: np.ndarray) -> np.ndarray:
    """Inverse of a 2x3 affine."""
    return cv2.invertAffineTransform(affine)


def compose_affines(outer: Float, inner: Float) -> Float:
    """2x3 affine of `inner` followed by `outer`, both 2x3."""
    composed: Float = outer @ np.vstack([inner, (0, 0, 1)])
    return composed


def placed_at(
    layer: Layer, rng: Rng, size: float, cx: float, cy: float, max_angle_deg: float = 15.0, *, is_person: bool = False
) -> Placed:
    """`layer`, `size` on its longer side and centred at (cx, cy), in person coordinates.

    It is rotated by up to `max_angle_deg` in either direction, and mirrored half of the time.
    """
    x0, y0, x1, y1 = layer.box_xyxy
    s = size / max(x1 - x0, y1 - y0)
    a = np.deg2rad(rng.uniform(-1, 1) * max_angle_deg)
    linear = s * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) @ np.diag([rng.choice([-1.0, 1.0]), 1.0])
    offset = np.array([cx, cy]) - linear @ np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    return Placed(layer, np.column_stack([linear, offset]), is_person)
