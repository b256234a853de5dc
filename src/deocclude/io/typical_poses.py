"""Typical poses: their file, and the person frame, which normalises a silhouette's place and size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from deocclude.errors import InputError
from deocclude.imaging.arrays import ImageU8

POSES_NAME = "typical_poses.npz"  # in a weights folder
FRAME_SIGMAS = 8.0  # side of the square around the visible mask's centroid, in standard deviations of that mask
FRAME_CELLS = 32  # the paper's resolution of silhouettes


def read_poses(path: Path) -> NDArray[np.float32]:
    """Read typical poses from an .npz file.

    Returns:
        (K, 2, 32, 32) float32, 0 to 1: [:, 0] visible masks, [:, 1] amodal masks.

    Raises:
        InputError: the file cannot be read or holds something else; the message names it.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            centres = file["centres"]
    except FileNotFoundError as error:
        raise InputError(f"typical poses not found: looked for {path}") from error
    except Exception as error:  # zipfile, zlib and numpy raise errors of many kinds for damaged files
        raise InputError(f"{path}: not a file of typical poses (.npz with `centres`)") from error
    if centres.ndim != 4 or centres.shape[1:] != (2, FRAME_CELLS, FRAME_CELLS):
        raise InputError(f"{path}: typical poses must be (K, 2, {FRAME_CELLS}, {FRAME_CELLS}), got {centres.shape}")
    poses: NDArray[np.float32] = centres.astype(np.float32)
    return poses


def draw_poses_sheet(poses: NDArray[np.float32], columns: int = 8, scale: int = 4) -> ImageU8:
    """Every typical pose with its number from 1: the visible mask in blue over the amodal mask in orange.

    Args:
        poses: (K, 2, 32, 32), 0 to 1.
        columns: poses in a row.
        scale: pixels a cell.

    Returns:
        (H, W, 3) uint8.
    """
    seen, whole = poses[:, 0, ..., None], poses[:, 1, ..., None]
    tiles = (whole * np.array([240, 150, 60]) * (1 - seen) + seen * np.array([70, 140, 230])).astype(np.uint8)
    side = FRAME_CELLS * scale
    sheet = Image.new("RGB", (columns * side, -(-len(tiles) // columns) * side))
    draw = ImageDraw.Draw(sheet)
    for number, tile in enumerate(tiles):
        left, top = number % columns * side, number // columns * side
        sheet.paste(Image.fromarray(tile).resize((side, side), Image.Resampling.NEAREST), (left, top))
        draw.text((left + 4, top + 4), str(number + 1), fill="white")
    return np.asarray(sheet)
