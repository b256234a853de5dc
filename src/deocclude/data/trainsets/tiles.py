"""Thumbnails of people for reports and contact sheets: the masked person outlined, the rest dimmed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deocclude.imaging.boxes import mask_to_box_xyxy

_OUTLINE_RGB = (255, 90, 0)
_MARGIN = 0.15  # context on each side, by the longer side of the person's box
_TEXT_PX = 12  # size of the font of titles
_CAPTION_PX = 18  # height of a title's row
_GAP_PX = 4  # between tiles


def person_tile(rgb: np.ndarray, mask: np.ndarray, side_px: int) -> np.ndarray:
    """(side_px, side_px, 3) uint8 thumbnail, centred. rgb: (H, W, 3) uint8; mask: (H, W) bool, not empty."""
    x0, y0, x1, y1 = mask_to_box_xyxy(mask)
    margin = int(_MARGIN * max(x1 - x0, y1 - y0)) + 2
    part = (slice(max(0, y0 - margin), y1 + margin), slice(max(0, x0 - margin), x1 + margin))
    return fit(outlined(*shrunk(rgb[part], mask[part], side_px)), side_px)


def outlined(rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: the image with all but the mask dimmed and the mask's contour drawn."""
    out = np.where(mask[..., None], rgb, rgb // 2 + 40)
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.ascontiguousarray(out), contours, -1, _OUTLINE_RGB, 1)


def shrunk(rgb: np.ndarray, mask: np.ndarray, longest_px: int) -> tuple[np.ndarray, np.ndarray]:
    """An image and its mask, scaled down to at most `longest_px` on the longer side."""
    factor = min(1.0, longest_px / max(mask.shape))
    size_wh = tuple(max(1, round(side * factor)) for side in mask.shape[::-1])
    smaller = cv2.resize(mask.astype(np.uint8) * 255, size_wh, interpolation=cv2.INTER_AREA) >= 128
    return cv2.resize(rgb, size_wh, interpolation=cv2.INTER_AREA), smaller


def fit(rgb: np.ndarray, side_px: int) -> np.ndarray:
    """(side_px, side_px, 3) uint8: an image scaled to fit, centred in a grey square."""
    factor = side_px / max(rgb.shape[:2])
    size_wh = tuple(min(side_px, max(1, round(side * factor))) for side in rgb.shape[1::-1])
    scaled = cv2.resize(rgb, size_wh, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    out = np.full((side_px, side_px, 3), 225, np.uint8)
    top, left = (side_px - size_wh[1]) // 2, (side_px - size_wh[0]) // 2
    out[top : top + size_wh[1], left : left + size_wh[0]] = scaled
    return out


def contact_sheet(groups: Sequence[tuple[str, Sequence[np.ndarray]]], columns: int = 8) -> Image.Image:
    """Square tiles of one size in rows below the title of their group; empty groups are left out."""
    groups = [(title, tiles) for title, tiles in groups if tiles]
    side = groups[0][1][0].shape[0]
    rows = [math.ceil(len(tiles) / columns) for _, tiles in groups]
    height = sum(_CAPTION_PX + count * (side + _GAP_PX) for count in rows)
    sheet = Image.new("RGB", (columns * (side + _GAP_PX) + _GAP_PX, height + _GAP_PX), "white")
    draw, font, top = ImageDraw.Draw(sheet), ImageFont.load_default(_TEXT_PX), 0
    for (title, tiles), count in zip(groups, rows, strict=True):
        draw.text((_GAP_PX, top + 2), title, fill="black", font=font)
        for number, tile in enumerate(tiles):
            row, column = divmod(number, columns)
            left = _GAP_PX + column * (side + _GAP_PX)
            sheet.paste(Image.fromarray(tile), (left, top + _CAPTION_PX + row * (side + _GAP_PX)))
        top += _CAPTION_PX + count * (side + _GAP_PX)
    return sheet
