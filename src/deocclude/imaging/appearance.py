"""Appearance on a crop, and back on the image: mixed, joined at the seam, with the photo's own detail. No network."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageFilter

from deocclude.imaging.boxes import mask_to_box_xyxy
from deocclude.imaging.compositing import extend_colours, neighbour_means
from deocclude.imaging.crop import Region, SquareCrop
from deocclude.imaging.detail_transfer import Copied, add_detail
from deocclude.imaging.exemplar_synthesis import Composed

# Colours are carried this far out of the body in the crop: growing it to photo size then never mixes in what lies
# outside.
_EXTEND_PX = 3
# How much of the step from a visible pixel to the hidden one beside it is taken back; less and less, as many pixels in.
_SEAM_SHARE = 0.65
_SEAM_REACH_PX = 2


@dataclass(frozen=True)
class Appearance:
    """Recovered appearance on a crop of S pixels. rgb: (S, S, 3) uint8. copied: None where nothing was copied."""

    rgb: np.ndarray
    copied: Copied | None = None


def as_appearance(
    composed: Composed, image: np.ndarray, known: np.ndarray, region: np.ndarray, share: np.ndarray, guess: np.ndarray,
    *, copy_share: float, seam_reach_px: int = _SEAM_REACH_PX,
) -> Appearance:  # fmt: skip
    """The composed part of a region, mixed with a guess, joined to what is known around it.

    share: (S, S) float32, 0 to 1, how far each pixel may be composed; copy_share: how much of such a pixel is; guess:
    (S, S, 3) uint8, what the rest is; seam_reach_px: see `join_seam`.
    """
    share = np.where(composed.source_yx[..., 0] >= 0, share, np.float32(0))
    mixed = guess + copy_share * share[..., None] * (composed.rgb - guess)
    mixed[known] = image[known]
    # all that follows happens near what is hidden
    near = box_slices(region & ~known, seam_reach_px + _EXTEND_PX)
    joined = join_seam(mixed[near], known[near], region[near], seam_reach_px)
    rgb = np.rint(mixed.clip(0, 255)).astype(np.uint8)
    rgb[near] = np.rint(joined.clip(0, 255)).astype(np.uint8)
    rgb[near] = extend_colours(rgb[near], region[near], _EXTEND_PX)
    return Appearance(rgb, Copied.of(composed, image, known, share))


def box_slices(mask: np.ndarray, margin_px: int) -> tuple[slice, slice]:
    """The box of an (S, S) mask with a margin, as slices; empty for an empty mask."""
    if not mask.any():
        return slice(0, 0), slice(0, 0)
    return Region.of_mask(mask).grow(margin_px, mask.shape).slices


def plain_appearance(guess: np.ndarray, region: np.ndarray) -> Appearance:
    """A guess, (S, S, 3) uint8, as it is within the region."""
    return Appearance(extend_colours(guess, region, _EXTEND_PX))


def smooth(rgb: np.ndarray, inside: np.ndarray, sigma_px: float) -> np.ndarray:
    """(S, S, 3) uint8: Gaussian means over the pixels inside a mask alone; 0 where none is near."""
    blur = ImageFilter.GaussianBlur(sigma_px)
    total = np.asarray(Image.fromarray(rgb * inside[..., None]).filter(blur)).astype(np.float32)
    share = np.asarray(Image.fromarray(np.where(inside, np.uint8(255), np.uint8(0))).filter(blur))
    return np.rint((255 * total / np.maximum(share, 1)[..., None]).clip(0, 255)).astype(np.uint8)


def join_seam(rgb: np.ndarray, known: np.ndarray, region: np.ndarray, reach_px: int) -> np.ndarray:
    """(S, S, 3) float32: hidden colours led over to the known ones beside them, over `reach_px` pixels.

    What each hidden pixel at the border is off from the mean of its known neighbours is taken back in part, there and,
    as the mean of the pixels before, further in: the membrane of Poisson editing (Perez et al. 2003), ended early.
    rgb: (S, S, 3) float32; known, region: (S, S) bool.
    """
    joined, left = rgb.copy(), region & ~known
    steps, ring = np.zeros_like(rgb), known
    for number in range(reach_px):
        (y, x), means = neighbour_means(steps if number else rgb, ring, left)
        steps[y, x] = means if number else means - rgb[y, x]
        joined[y, x] += np.float32(_SEAM_SHARE * (1 - number / reach_px)) * steps[y, x]
        ring = np.zeros_like(known)
        ring[y, x] = True
        left = left & ~ring
    return joined


def visible_in_crop(
    photo: np.ndarray, visible_part: np.ndarray, region: Region, crop: SquareCrop
) -> tuple[np.ndarray, np.ndarray]:
    """The visible body on a crop: (S, S, 3) uint8, means over visible pixels of the photo alone, and (S, S) bool.

    At the body's edge the crop's own pixels would be means of the body and of what hides it. A crop's pixel is visible
    where half of it is, and of a body too thin for that wherever any of it is. visible_part: (h, w) bool in `region`.
    """
    here = replace(crop, center_xy=(crop.center_xy[0] - region.left, crop.center_xy[1] - region.top))
    coverage = here.extract(visible_part.view(np.uint8) * np.uint8(255))
    visible = coverage >= 128
    if not visible.any():
        visible = coverage > 0
    part = Image.fromarray(photo[region.slices])
    part.paste((0, 0, 0), mask=Image.fromarray(~visible_part))
    total = here.extract(np.asarray(part))
    means = (total * np.float32(255) / np.maximum(coverage, 1)[..., None]).clip(0, 255)
    return np.rint(means).astype(np.uint8), visible


def hidden_on_photo(
    appearance: Appearance, crop: SquareCrop, photo: np.ndarray, visible_part: np.ndarray, invisible_part: np.ndarray,
    region: Region,
) -> tuple[Region, np.ndarray]:  # fmt: skip
    """Recovered appearance at photo size, only for the box of what is hidden, with the photo's own detail.

    `photo`: (H, W, 3) uint8, read only where visible; `visible_part`, `invisible_part`: (h, w) bool in `region`.
    Returns the box and its (h', w', 3) uint8 colours; an empty box when nothing is hidden.
    """
    if not invisible_part.any():
        return Region(0, 0, 0, 0), np.zeros((0, 0, 3), dtype=np.uint8)
    x0, y0, x1, y1 = mask_to_box_xyxy(invisible_part)
    box = Region(region.top + y0, region.left + x0, region.top + y1, region.left + x1)
    box, colours = crop.to_photo(appearance.rgb, photo.shape[:2], box, crisp=True)
    if appearance.copied is not None and crop.scale > 1:
        add_detail(colours, box, appearance.copied, crop, photo, visible_part, invisible_part, region)
    return box, colours
