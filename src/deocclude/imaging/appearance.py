"""Appearance on a crop, and from there on the image: mixing, blending at the seam, the photo's detail. No network."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageFilter

from deocclude.imaging.arrays import Float32, ImageU8, Mask, Probability
from deocclude.imaging.boxes import mask_to_box_xyxy
from deocclude.imaging.compositing import extend_colours, spread_outwards
from deocclude.imaging.crop import Region, SquareCrop
from deocclude.imaging.detail_transfer import Copied, add_detail
from deocclude.imaging.exemplar_synthesis import Composed
from deocclude.imaging.masks import dilate

# Colours extend this far beyond the body in the crop: enlargement to image resolution then never mixes in colours
# from outside.
_EXTEND_PX = 3
SEAM_BLEND_PX = 1.0  # crop pixels over which the visible colours' weight in the recovered ones falls by the factor e


@dataclass(frozen=True)
class Appearance:
    """Recovered appearance on a crop of S pixels a side.

    Attributes:
        rgb: (S, S, 3) uint8.
        copied: the sources of copied pixels; None where nothing was copied.
    """

    rgb: ImageU8
    copied: Copied | None = None


def as_appearance(
    composed: Composed, image: ImageU8, known: Mask, region: Mask, share: Probability, guess: ImageU8,
    *, copy_share: float,
) -> Appearance:  # fmt: skip
    """Mix composed patches with a guess, such as a network's output.

    Args:
        composed: result of exemplar synthesis.
        image: (S, S, 3) uint8.
        known: (S, S) bool.
        region: (S, S) bool, includes `known`.
        share: (S, S) float32, 0 to 1: how far each pixel may be composed.
        guess: (S, S, 3) uint8: colours of the remaining fraction.
        copy_share: fraction of a composed pixel that is copied, 0 to 1.
    """
    share = np.where(composed.source_yx[..., 0] >= 0, share, np.float32(0))
    mixed: Float32 = np.add(guess, copy_share * share[..., None] * (composed.rgb - guess))
    mixed[known] = image[known]
    rgb = np.rint(mixed.clip(0, 255)).astype(np.uint8)
    return Appearance(_extend_outwards(rgb, region & ~known, region), Copied.of(composed, image, known, share))


def blend_seam(appearance: Appearance, image: ImageU8, known: Mask, region: Mask) -> Appearance:
    """Blend the known colours at the seam into the recovered ones beside them.

    Known colours spread outwards pixel by pixel; each pixel takes the mean of its neighbours that are nearer to the
    known ones. Their weight is 1 beside the known pixels and falls by the factor e every SEAM_BLEND_PX pixels.

    Args:
        appearance: on a crop of S pixels a side.
        image: (S, S, 3) uint8.
        known: (S, S) bool: pixels of `image` that are free of the occluder's colours.
        region: (S, S) bool, includes `known`.
    """
    hidden = region & ~known
    near = box_slices(hidden, _EXTEND_PX)
    rgb: Float32 = appearance.rgb[near].astype(np.float32)
    spread = np.where(known[near][..., None], image[near], rgb)
    rings = spread_outwards(spread, known[near], hidden[near], round(3 * SEAM_BLEND_PX))
    for distance, ring in enumerate(rings):
        rgb[ring] += np.float32(np.exp(-distance / SEAM_BLEND_PX)) * (spread[ring] - rgb[ring])
    blended = appearance.rgb.copy()
    blended[near] = np.rint(rgb.clip(0, 255)).astype(np.uint8)
    return replace(appearance, rgb=_extend_outwards(blended, hidden, region))


def _extend_outwards(rgb: ImageU8, hidden: Mask, region: Mask) -> ImageU8:
    """(S, S, 3) uint8: `rgb`, changed in place: the region's colours extended beyond it, around its hidden part."""
    near = box_slices(hidden, _EXTEND_PX)
    rgb[near] = extend_colours(rgb[near], region[near], _EXTEND_PX)
    return rgb


def box_slices(mask: Mask, margin_px: int) -> tuple[slice, slice]:
    """The box of a mask with a margin.

    Args:
        mask: (S, S) bool.
        margin_px: margin on each side, cut at the border.

    Returns:
        Row and column slices; empty for an empty mask.
    """
    if not mask.any():
        return slice(0, 0), slice(0, 0)
    return Region.of_mask(mask).grow(margin_px, mask.shape).slices


def plain_appearance(guess: ImageU8, region: Mask) -> Appearance:
    """A guess as the appearance of a region, without copied patches.

    Args:
        guess: (S, S, 3) uint8.
        region: (S, S) bool.
    """
    return Appearance(extend_colours(guess, region, _EXTEND_PX))


def smooth(rgb: ImageU8, inside: Mask, sigma_px: float) -> ImageU8:
    """Gaussian means over the pixels of a mask alone.

    Args:
        rgb: (S, S, 3) uint8.
        inside: (S, S) bool.
        sigma_px: standard deviation.

    Returns:
        (S, S, 3) uint8, 0 where no pixel of the mask is near.
    """
    blur = ImageFilter.GaussianBlur(sigma_px)
    total = np.asarray(Image.fromarray(rgb * inside[..., None]).filter(blur)).astype(np.float32)
    share = np.asarray(Image.fromarray(np.where(inside, np.uint8(255), np.uint8(0))).filter(blur))
    means: ImageU8 = np.rint((255 * total / np.maximum(share, 1)[..., None]).clip(0, 255)).astype(np.uint8)
    return means


def unmixed_visible(visible: Mask, hidden: Mask, scale: float) -> Mask:
    """Visible pixels whose colours are free of the occluder's: none beside a hidden pixel.

    At an occluder's edge, a photo's pixels are mixtures of both. In composed scenes, the first visible pixel differs by
    20 of 255 from the body's own colour, the second by 4.

    Args:
        visible: (h, w) bool.
        hidden: (h, w) bool.
        scale: photo pixels per crop pixel. The distance from the hidden part is a quarter of a crop pixel, at least one
            photo pixel.

    Returns:
        (h, w) bool; `visible` itself where no pixel would remain.
    """
    unmixed = visible & ~dilate(hidden, max(1, round(scale / 4)))
    return unmixed if unmixed.any() else visible


def visible_in_crop(photo: ImageU8, visible_part: Mask, region: Region, crop: SquareCrop) -> tuple[ImageU8, Mask]:
    """The visible body on a crop, averaged over visible image pixels alone.

    At the body's edge, the pixels of an ordinary crop are means of the body and its occluder. A crop pixel counts as
    visible where half of it is. Where a body is too thin for that, any visible part is enough.

    Args:
        photo: (H, W, 3) uint8.
        visible_part: (h, w) bool in `region`.
        region: the body's region of the photo.
        crop: the crop, of S pixels a side.

    Returns:
        (S, S, 3) uint8 colours and (S, S) bool visible mask.
    """
    here = replace(crop, center_xy=(crop.center_xy[0] - region.left, crop.center_xy[1] - region.top))
    coverage = here.extract(visible_part.view(np.uint8) * np.uint8(255))
    visible: Mask = coverage >= 128
    if not visible.any():
        visible = coverage > 0
    part = Image.fromarray(photo[region.slices])
    part.paste((0, 0, 0), mask=Image.fromarray(~visible_part))
    total = here.extract(np.asarray(part))
    means = (total * np.float32(255) / np.maximum(coverage, 1)[..., None]).clip(0, 255)
    return np.rint(means).astype(np.uint8), visible


def hidden_on_photo(
    appearance: Appearance, crop: SquareCrop, photo: ImageU8, visible_part: Mask, invisible_part: Mask,
    region: Region,
) -> tuple[Region, ImageU8]:  # fmt: skip
    """Recovered appearance at image resolution, for the box of the hidden part alone, with the photo's own detail.

    Args:
        appearance: colours on the crop.
        crop: the crop.
        photo: (H, W, 3) uint8, of which visible pixels alone are read.
        visible_part: (h, w) bool in `region`.
        invisible_part: (h, w) bool in `region`.
        region: the body's region of the photo.

    Returns:
        The box and its (h', w', 3) uint8 colours; an empty box where nothing is hidden.
    """
    if not invisible_part.any():
        return Region(0, 0, 0, 0), np.zeros((0, 0, 3), dtype=np.uint8)
    x0, y0, x1, y1 = mask_to_box_xyxy(invisible_part)
    box = Region(region.top + y0, region.left + x0, region.top + y1, region.left + x1)
    box, colours = crop.to_photo(appearance.rgb, photo.shape[:2], box, crisp=True)
    if appearance.copied is not None and crop.scale > 1:
        add_detail(colours, box, appearance.copied, crop, photo, visible_part, invisible_part, region)
    return box, colours
