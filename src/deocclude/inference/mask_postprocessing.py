"""From the probabilities of a crop to masks on the image: cleaned, aligned with image edges, given contours kept."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass, replace

import numpy as np

from deocclude.errors import NoPersonError
from deocclude.imaging.arrays import ImageU8, Labels, Mask, Probability, ProbabilityU8
from deocclude.imaging.boxes import mask_to_box_xyxy
from deocclude.imaging.crop import OUTSIDE_GREY, Region, SquareCrop
from deocclude.imaging.guided_filter import RADIUS_PX, follow_edges, grow
from deocclude.imaging.masks import connected_components, dilate, erode, find_holes, keep_large_components, mask_iou
from deocclude.inference.body import Body, BodyInCrop
from deocclude.inference.crop_prediction import CropPrediction, repeat_past_edge
from deocclude.inference.occlusion_probability import probable_share
from deocclude.inference.settings import CleanupSettings

# Largest side of the grid on which parts are labelled; parsings have a quarter of the network input's resolution.
_PARSING_PX = 1024
# Largest side of the grid on which masks are aligned with image edges; a multiple of the network input's side.
_EDGES_PX = 768
_NEGLIGIBLE = 0.02  # probability below which a pixel is not the person
_MARGIN_PX = 2  # margin for a cut-out's soft edge
_MARGIN_CELLS = 2  # in network pixels: how far beyond a body its aligned edge may lie


def to_body(
    prediction: CropPrediction, photo: ImageU8, initial_mask: Mask, recovery_px: int,
    settings: CleanupSettings,
) -> Body:  # fmt: skip
    """Convert the final prediction to masks on the image, without small components, holes and one-pixel rims.

    Args:
        prediction: the final prediction.
        photo: (H, W, 3) uint8 RGB.
        initial_mask: (H, W) bool: the user's mask, or the filled box.
        recovery_px: side of the crop that stage 2 gets.
        settings: thresholds.

    Raises:
        NoPersonError: no pixel of the body is left at image resolution.
    """
    score_map = prediction.visible
    if not (prediction.visible >= 0.5).any():
        # The network finds no person, but the user marked one: the given mask is kept, with the network's low score.
        certain = np.where(prediction.initial, np.float32(1), np.float32(0))
        prediction = replace(prediction, visible=certain, amodal=np.maximum(prediction.amodal, certain))
    masks = _clean(prediction, recovery_px, settings)
    on_image = _to_image(prediction, masks, photo, initial_mask)
    for_recovery = prediction.at_size(photo, recovery_px)
    crop_amodal = prediction.crop.regridded(masks.amodal, recovery_px)
    return Body(
        region=on_image.region,
        visible=on_image.visible,
        amodal=on_image.amodal,
        amodal_prob=on_image.amodal_prob,
        visible_prob=on_image.visible_prob,
        parsing=_label_parts(prediction, on_image.region) * on_image.amodal,
        score=float(score_map[masks.visible].mean()) if masks.visible.any() else 0.0,
        probable_hidden=probable_share(prediction.visible, masks.amodal_prob),
        in_crop=BodyInCrop(for_recovery.crop, for_recovery.image, crop_amodal, *for_recovery.parsings),
    )


@dataclass(frozen=True)
class _CropMasks:
    """Cleaned masks on the grid of a crop of S pixels a side.

    Attributes:
        amodal_prob: (S, S) float32.
        amodal: (S, S) bool.
        visible: (S, S) bool, a subset of `amodal`.
        invisible: (S, S) bool: the rest of `amodal`.
        trusted: (S, S) bool: pixels where the given mask is kept.
    """

    amodal_prob: Probability
    amodal: Mask
    visible: Mask
    invisible: Mask
    trusted: Mask


def _clean(prediction: CropPrediction, recovery_px: int, settings: CleanupSettings) -> _CropMasks:
    """The cleaned masks of a prediction."""
    amodal_prob = _clean_amodal(prediction.visible, prediction.amodal, settings)
    amodal: Mask = amodal_prob >= 0.5
    visible: Mask = (prediction.visible >= 0.5) & amodal
    visible = _drop_small_components(visible, settings.min_visible_component_share * np.count_nonzero(amodal))
    # the thresholds of `trusted_pixels` were tuned on crops of recovery_px pixels a side
    initial_here, visible_here = (prediction.crop.regridded(one, recovery_px) for one in (prediction.initial, visible))
    trusted_here = trusted_pixels(initial_here, visible_here, settings)
    trusted = prediction.crop.regridded(trusted_here, prediction.crop.size_px)
    visible = np.where(trusted, prediction.initial & amodal, visible)
    invisible = _drop_thin_rims(amodal & ~visible, amodal)
    return _CropMasks(amodal_prob, amodal, amodal & ~invisible, invisible, trusted)


@dataclass(frozen=True)
class _ImageMasks:
    """Masks on the image, for `region` alone.

    Attributes:
        region: the body's box with a margin.
        visible: (h, w) bool, a subset of `amodal`.
        amodal: (h, w) bool.
        visible_prob: (h, w) uint8, 255 = certain.
        amodal_prob: (h, w) uint8, 255 = certain.
    """

    region: Region
    visible: Mask
    amodal: Mask
    visible_prob: ProbabilityU8
    amodal_prob: ProbabilityU8


def _to_image(prediction: CropPrediction, masks: _CropMasks, photo: ImageU8, initial_mask: Mask) -> _ImageMasks:
    """The masks at image resolution, with the given contour where it is trusted.

    Raises:
        NoPersonError: no pixel of the body is left at image resolution.
    """
    size_hw, crop = photo.shape[:2], prediction.crop
    x0, y0, x1, y1 = crop.to_photo_xyxy(mask_to_box_xyxy(masks.amodal))
    reach = int((_MARGIN_CELLS + 1) * crop.scale) + 1 + _MARGIN_PX
    around = Region(int(y0), int(x0), int(y1) + 1, int(x1) + 1).grow(reach, size_hw)
    is_trusted = bool(masks.trusted.any())
    fine_amodal, fine_visible = _align_with_image_edges(prediction, photo, masks.amodal_prob, masks.invisible)
    region, amodal_prob = crop.to_photo(fine_amodal, size_hw, around)
    _, visible_prob = crop.to_photo(fine_visible, size_hw, around)
    amodal: Mask = amodal_prob >= 128
    if not amodal.any():
        raise NoPersonError("the person is smaller than a pixel of the photo: nothing to recover")
    visible = (visible_prob >= 128) & amodal
    on_image = _ImageMasks(region, visible, amodal, visible_prob, amodal_prob)
    return _with_given_contour(on_image, crop, masks, initial_mask, around) if is_trusted else on_image


def _with_given_contour(
    on_image: _ImageMasks, crop: SquareCrop, masks: _CropMasks, initial_mask: Mask, around: Region
) -> _ImageMasks:
    """The masks with the given mask kept where it is trusted; see `trusted_pixels`."""
    size_hw, given = initial_mask.shape[:2], initial_mask[on_image.region.slices]
    is_trusted, near_hidden = (
        crop.to_photo(_to_u8(mask), size_hw, around)[1] >= 128 for mask in (masks.trusted, dilate(masks.invisible, 1))
    )
    amodal: Mask = np.where(is_trusted, given | (on_image.amodal & near_hidden), on_image.amodal)
    # the probability, which a cut-out's soft edge is made from, must agree with the contour
    probability = on_image.amodal_prob
    amodal_prob = np.where(amodal, np.maximum(probability, 128), np.minimum(probability, 127))
    return _ImageMasks(
        region=on_image.region,
        visible=np.where(is_trusted, given, on_image.visible & amodal),
        amodal=amodal,
        visible_prob=np.where(is_trusted & given, 255, on_image.visible_prob).astype(np.uint8, copy=False),
        amodal_prob=amodal_prob,
    )


def _align_with_image_edges(
    prediction: CropPrediction, photo: ImageU8, amodal_prob: Probability, invisible: Mask
) -> tuple[ProbabilityU8, ProbabilityU8]:
    """Amodal and visible probability with their edges on the image's edges.

    The amodal contour beside the hidden part stays smooth: image edges there belong to the occluder.

    Args:
        prediction: the prediction, on a crop of S pixels a side.
        photo: (H, W, 3) uint8 RGB.
        amodal_prob: (S, S) float32.
        invisible: (S, S) bool: the hidden part.

    Returns:
        (T, T) uint8 each, T >= S.
    """
    # Away from the hidden part both contours must coincide at image resolution too, or thin hidden rims appear between
    # them: there, visible equals amodal.
    seam = ~invisible & (amodal_prob >= 0.5) & (prediction.visible >= 0.5) & dilate(invisible, 2)
    visible_prob = np.where(seam, prediction.visible, amodal_prob)
    visible_prob = np.where(invisible, np.minimum(prediction.visible, 0.49), visible_prob)

    factor = max(1, min(_EDGES_PX // prediction.crop.size_px, math.ceil(prediction.crop.scale)))
    fine = replace(prediction.crop, size_px=factor * prediction.crop.size_px)
    inside, fine_inside = (c.inside_photo(photo.shape[:2]) for c in (prediction.crop, fine))
    maps = np.stack([repeat_past_edge(p, inside) for p in (amodal_prob, visible_prob)])
    image = repeat_past_edge(prediction.image, inside)

    # only the body's box is enlarged
    box = Region.of_mask(maps[0] >= _NEGLIGIBLE).grow(2 * RADIUS_PX, maps.shape[1:])
    fine_box = Region(*(factor * edge for edge in astuple(box)))
    here = (slice(None), *box.slices)
    fine_image = fine.extract(photo, fill=OUTSIDE_GREY, within=fine_box)
    fine_image = repeat_past_edge(fine_image, fine_inside[fine_box.slices])
    near_hidden = dilate(invisible, 2)[box.slices].repeat(factor, 0).repeat(factor, 1)
    amodal_u8, visible_u8 = np.zeros((2, fine.size_px, fine.size_px), np.uint8)
    if not near_hidden.any():
        (amodal,) = follow_edges(image[box.slices], maps[here][:1], fine_image)
        amodal_u8[fine_box.slices] = visible_u8[fine_box.slices] = _to_u8(amodal)
        return amodal_u8, visible_u8
    # away from the hidden part visible equals amodal, as above
    near = Region.of_mask(near_hidden).grow(2 * factor, fine_box.size_hw)  # a margin for interpolation only
    amodal, visible = follow_edges(image[box.slices], maps[here], fine_image, (None, near))
    hidden = near_hidden[near.slices]
    np.copyto(amodal[near.slices], grow(maps[here][0], fine_box.size_hw, near), where=hidden)
    amodal_u8[fine_box.slices] = visible_u8[fine_box.slices] = _to_u8(amodal)
    np.copyto(visible_u8[fine_box.slices][near.slices], _to_u8(np.minimum(visible, amodal[near.slices])), where=hidden)
    return amodal_u8, visible_u8


def trusted_pixels(initial: Mask, visible: Mask, settings: CleanupSettings) -> Mask:
    """Where the given mask is kept: it agrees with the refined mask up to the boundary band.

    Args:
        initial: (S, S) bool: the given mask.
        visible: (S, S) bool: the refined mask.
        settings: thresholds.

    Returns:
        (S, S) bool; all False for a mask that is rough as a whole.
    """
    nowhere = np.zeros_like(initial)
    if mask_iou(initial, visible) < settings.min_trusted_iou:
        return nowhere
    # differences wider than the boundary band are holes, blobs or parts of the occluder: not trusted, with a margin
    differs = initial ^ visible
    trusted: Mask = ~dilate(erode(differs, 1), 2)
    rim = initial & ~erode(initial, 1) & trusted
    if np.count_nonzero(differs & trusted) > settings.max_boundary_disagreement * np.count_nonzero(rim):
        return nowhere  # the contour disagrees everywhere: the mask is rough
    return trusted


def _clean_amodal(visible_prob: Probability, amodal_prob: Probability, settings: CleanupSettings) -> Probability:
    """(S, S) float32 probabilities without small components, and without small holes in the hidden part."""
    amodal = amodal_prob >= 0.5
    kept = keep_large_components(amodal, settings.min_component_share)
    # the soft rim of a dropped component is dropped too
    cleaned: Probability = np.where(dilate(amodal & ~kept, 2) & ~kept, np.float32(0), amodal_prob)
    invisible = kept & (visible_prob < 0.5)
    for hole in find_holes(kept, settings.max_hole_share):
        rim = dilate(hole, 1) & kept
        # background shows between a visible arm and the visible body; a hole in the hidden part is an error
        if np.count_nonzero(rim & invisible) > 0.5 * np.count_nonzero(rim):
            cleaned = np.where(hole, np.float32(1), cleaned)
    return cleaned


def _drop_small_components(mask: Mask, min_area_px: float) -> Mask:
    """Drop components below an area; the largest one is always kept."""
    components = connected_components(mask)
    if components.count == 0:
        return mask
    large: Mask = components.areas_px >= min(min_area_px, components.areas_px.max())
    return components.paint(large)


def _drop_thin_rims(invisible: Mask, amodal: Mask) -> Mask:
    """Drop hidden rims under three pixels thick along the outer edge: boundary disagreement of two contours.

    Thin occluders inside the silhouette, such as a pole or a strap across the body, are kept.
    """
    opened = dilate(erode(invisible, 1), 1)
    kept: Mask = invisible & (opened | ~dilate(~amodal, 2))
    return kept


def _label_parts(prediction: CropPrediction, region: Region) -> Labels:
    """(h, w) uint8: the likeliest body part of each pixel of `region`, never background."""
    _, amodal_parsing = prediction.parsings
    parts = amodal_parsing[1:]
    side = prediction.crop.size_px if prediction.crop.scale <= 1 else min(_PARSING_PX, round(prediction.crop.side_px))
    left, top = prediction.crop.left_top
    scale = prediction.crop.side_px / side
    rows = ((np.arange(region.top, region.bottom) + 0.5 - top) / scale).astype(int).clip(0, side - 1)
    columns = ((np.arange(region.left, region.right) + 0.5 - left) / scale).astype(int).clip(0, side - 1)
    # each part's probability on this finer grid, around the body alone, one part at a time
    cell = -(-side // parts.shape[-1])
    around = Region(rows[0], columns[0], rows[-1] + 1, columns[-1] + 1).grow(cell, (side, side))
    best = np.full(around.size_hw, -1, dtype=np.float32)
    labels: Labels = np.ones(around.size_hw, dtype=np.uint8)
    # The likeliest of n parts has at least an n-th of their sum. That also holds at one of the source cells of each
    # interpolated pixel.
    least = parts.sum(axis=0) / np.float32(len(parts) + 1)
    for label, part in enumerate(parts, start=1):
        candidate = (part >= least) & (part >= 1e-3)
        if not candidate.any():
            continue
        x0, y0, x1, y1 = (edge * side // parts.shape[-1] for edge in mask_to_box_xyxy(candidate))
        where = Region(y0, x0, y1, x1).grow(2 * cell, (side, side)).intersect(around)
        if where.is_empty:
            continue
        part_prob, here = grow(part, (side, side), within=where), where.counted_from(around).slices
        better = part_prob > best[here]
        labels[here][better] = label
        np.copyto(best[here], part_prob, where=better)
    region_labels: Labels = labels[rows - around.top][:, columns - around.left]
    return region_labels


def _to_u8(probability: Probability | Mask) -> ProbabilityU8:
    """Probabilities from 0 to 1 as uint8."""
    values: ProbabilityU8 = np.rint(probability * 255).astype(np.uint8)
    return values
