"""Draws photos of one whole figure each, with masks, in the layout of an image + mask folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datafolder import draw_background, draw_figure, write_photo_and_mask

FIGURE_HW = (150, 100)


def draw_photos(folder: Path, count: int, seed: int = 0, size_hw: tuple[int, int] = (180, 320)) -> Path:
    """`count` photos, photo00 and so on, of a figure of 134 px who touches no edge. Returns the folder."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        rgb, mask = draw_background(rng, size_hw), np.zeros(size_hw, bool)
        place_figure(rgb, mask, rng, int(rng.integers(6, 24)), int(rng.integers(4, size_hw[1] - 104)))
        write_photo_and_mask(folder, f"photo{number:02d}", rgb, mask)
    return folder


def place_figure(rgb: np.ndarray, mask: np.ndarray, rng: np.random.Generator, top: int, left: int) -> None:
    """Draw a figure into a photo and its mask, in place; the photo's edge may cut it."""
    figure = draw_figure(rng, FIGURE_HW)
    here = (slice(top, top + FIGURE_HW[0]), slice(left, left + FIGURE_HW[1]))
    part = figure.mask[: rgb[here].shape[0], : rgb[here].shape[1]]
    rgb[here][part] = figure.rgb[: part.shape[0], : part.shape[1]][part]
    mask[here][part] = True
