"""Pictures of held-out people for TensorBoard, as numpy arrays."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

PEOPLE = 4  # shown per validation
_SEEN_RGB, _HIDDEN_RGB = (255, 255, 255), (255, 140, 0)


def to_rgb(image: Tensor) -> np.ndarray:
    """(3, H, W), clipped to [0, 1] -> (H, W, 3) uint8."""
    return (image.float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def mask_rgb(visible: Tensor, amodal: Tensor) -> np.ndarray:
    """Two (1, H, W) masks -> (H, W, 3) uint8: white visible part, orange occluded part, black elsewhere."""
    seen, whole = (m[0].cpu().numpy() > 0.5 for m in (visible, amodal))
    picture = np.zeros((*seen.shape, 3), np.uint8)
    picture[whole] = _HIDDEN_RGB
    picture[seen] = _SEEN_RGB
    return picture


def boxes_rgb(image: Tensor, boxes_xyxy: np.ndarray) -> np.ndarray:
    """(3, H, W) in [0, 1] with the outlines of (N, 4) boxes in pixels -> (H, W, 3) uint8."""
    picture = to_rgb(image)
    height, width = picture.shape[:2]
    for x0, y0, x1, y1 in np.asarray(boxes_xyxy).round().astype(int):
        left, right = np.clip((x0, x1 - 1), 0, width - 1)
        top, bottom = np.clip((y0, y1 - 1), 0, height - 1)
        picture[[top, bottom], left : right + 1] = _HIDDEN_RGB
        picture[top : bottom + 1, [left, right]] = _HIDDEN_RGB
    return picture


def in_a_row(*pictures: np.ndarray) -> np.ndarray:
    """Pictures of one size, (H, W, 3) uint8, side by side."""
    return np.concatenate(pictures, axis=1)


def named(rows: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Pictures by the names that TensorBoard shows."""
    return {f"person_{number}": row for number, row in enumerate(rows)}


def first_people(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The first PEOPLE samples of a batch."""
    return {key: tensor[:PEOPLE] for key, tensor in batch.items()}


def composed(photo: Tensor, content: Tensor, visible: Tensor, amodal: Tensor) -> Tensor:
    """The whole person: photo in the visible part, content in the occluded part, grey elsewhere. (B, 3, H, W)."""
    whole = torch.maximum(visible, amodal)
    return photo * visible + content * (whole - visible) + 0.5 * (1 - whole)
