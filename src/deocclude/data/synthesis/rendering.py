"""Rendering of a plan into pixels and masks."""

from __future__ import annotations

import cv2
import numpy as np

from deocclude.data.sources.layers import PersonPhoto
from deocclude.data.synthesis.scene import (
    Placed,
    Plan,
    Scene,
    beyond_rgb,
    compose_affines,
)
from deocclude.imaging.arrays import Mask


def render(plan: Plan, to_frame: np.ndarray, size_hw: tuple[int, int]) -> Scene:
    """Render a plan; beyond the image border the photo is grey 128, or BEYOND_RGB if the plan has `beyond_edge`.

    Args:
        plan: the scene.
        to_frame: 2x3 affine from person coordinates to frame pixels, without rotation.
        size_hw: (H, W) of the frame.
    """
    inside = window_mask(plan.window_xyxy, to_frame, size_hw)
    person = plan.person.layer
    person_rgb, person_alpha = warp_layer(plan.person, to_frame, size_hw)
    if plan.background is None:
        canvas = person_rgb.copy()
    else:
        canvas = cv2.warpAffine(
            plan.background, compose_affines(to_frame, plan.background_to_person), size_hw[::-1],
            flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101,
        )  # fmt: skip
    others: list[np.ndarray] = []
    for placed in plan.behind:
        _add_layer(canvas, others, placed, *warp_layer(placed, to_frame, size_hw))
    if plan.background is not None or plan.behind:
        blend(canvas, person_rgb, person_alpha)
    body = person_alpha >= 128
    visible = body & inside
    for other in others:
        other &= ~body
    amodal = body if plan.beyond_edge else visible.copy()
    truth = canvas.copy()
    for placed in plan.in_front:
        rgb, alpha = warp_layer(placed, to_frame, size_hw)
        _add_layer(canvas, others, placed, rgb, alpha)
        visible &= alpha < 128
    canvas[~inside] = beyond_rgb(plan)
    if not plan.beyond_edge:
        truth[~inside] = beyond_rgb(plan)
    if isinstance(person, PersonPhoto) and person.parsing is not None:
        matrix = compose_affines(to_frame, plan.person.to_person)
        parsing = cv2.warpAffine(person.parsing, matrix, size_hw[::-1], flags=cv2.INTER_NEAREST, borderValue=0)
        parsing = np.where(amodal, np.where(parsing == 0, 255, parsing), 0).astype(np.uint8)
    else:
        parsing = np.where(amodal, 255, 0).astype(np.uint8)
    known = inside if isinstance(person, PersonPhoto) and not person.whole else np.ones_like(inside)
    seen_of_others = tuple(other & inside for other in others)
    return Scene(canvas, truth, visible, amodal, parsing, inside, known, seen_of_others)


def _add_layer(
    canvas: np.ndarray, others: list[np.ndarray], placed: Placed, rgb: np.ndarray, alpha: np.ndarray
) -> None:
    """Paste a layer, subtract it from the masks of `others`, and append its own mask if it is a person."""
    blend(canvas, rgb, alpha)
    covered = alpha >= 128
    for other in others:
        other &= ~covered
    if placed.is_person:
        others.append(covered)


def window_mask(window_xyxy: tuple[float, float, float, float], to_frame: np.ndarray, size_hw: tuple[int, int]) -> Mask:
    """(H, W) bool: pixels whose centre lies within the image border `window_xyxy`. `to_frame` must not rotate."""
    xs = (np.arange(size_hw[1]) - to_frame[0, 2]) / to_frame[0, 0]
    ys = (np.arange(size_hw[0]) - to_frame[1, 2]) / to_frame[1, 1]
    x0, y0, x1, y1 = window_xyxy
    inside: Mask = ((ys >= y0) & (ys < y1))[:, None] & ((xs >= x0) & (xs < x1))[None, :]
    return inside


def _pyramid_level(placed: Placed, to_frame: np.ndarray) -> tuple[int, np.ndarray]:
    """The pyramid level to warp, and the affine from that level's pixels to the frame.

    The warp shrinks the level by less than 2, or more where even the smallest level is too large.
    """
    matrix = compose_affines(to_frame, placed.to_person)
    shrink = 1.0 / max(1e-6, np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    level = int(np.clip(np.floor(np.log2(max(shrink, 1.0)) + 0.25), 0, 2))
    fx = placed.layer.rgb.shape[1] / placed.layer.pyramid[level][0].shape[1]
    fy = placed.layer.rgb.shape[0] / placed.layer.pyramid[level][0].shape[0]
    # pixel centres: level pixel i sits at (i + 0.5) * f - 0.5 of the full layer
    matrix = compose_affines(matrix, np.array([[fx, 0, 0.5 * fx - 0.5], [0, fy, 0.5 * fy - 0.5]]))
    return level, matrix


def warp_alpha(placed: Placed, to_frame: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8 alpha of a placed layer in a frame."""
    level, matrix = _pyramid_level(placed, to_frame)
    return cv2.warpAffine(placed.layer.pyramid[level][1], matrix, size_hw[::-1], flags=cv2.INTER_LINEAR, borderValue=0)


def warp_layer(placed: Placed, to_frame: np.ndarray, size_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A placed layer in a frame: (H, W, 3) uint8 rgb, edge pixels replicated outwards, and (H, W) uint8 alpha."""
    level, matrix = _pyramid_level(placed, to_frame)
    rgb, alpha = placed.layer.pyramid[level]
    warped = cv2.warpAffine(rgb, matrix, size_hw[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return warped, cv2.warpAffine(alpha, matrix, size_hw[::-1], flags=cv2.INTER_LINEAR, borderValue=0)


def blend(canvas: np.ndarray, rgb: np.ndarray, alpha: np.ndarray) -> None:
    """Alpha-composite `rgb` onto `canvas` in place, within the box that alpha touches."""
    x, y, w, h = cv2.boundingRect(alpha)
    if w == 0:
        return
    part = canvas[y : y + h, x : x + w]
    a = alpha[y : y + h, x : x + w, None].astype(np.uint16)
    part[:] = ((rgb[y : y + h, x : x + w] * a + part * (255 - a) + 127) // 255).astype(np.uint8)
