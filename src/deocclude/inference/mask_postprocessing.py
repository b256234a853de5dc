"""From the probabilities of a crop to masks on the image: cleaned, aligned with its edges, trusted where drawn."""

from __future__ import annotations

import math
from dataclasses import astuple, replace

import numpy as np

from deocclude.errors import NoPersonError
from deocclude.imaging.boxes import mask_to_box_xyxy
from deocclude.imaging.crop import OUTSIDE_GREY, Region
from deocclude.imaging.guided_filter import RADIUS_PX, follow_edges, grow
from deocclude.imaging.masks import connected_components, dilate, erode, find_holes, keep_large_components, mask_iou
from deocclude.inference.body import Body, BodyInCrop
from deocclude.inference.crop_prediction import CropPrediction, repeat_past_edge
from deocclude.inference.occlusion_probability import probable_share
from deocclude.inference.settings import CleanupSettings

# Side of the grid on which parts are labelled, at most: they come from a grid of a quarter of the network's input.
_PARSING_PX = 1024
# Side of the grid on which masks are aligned with image edges, at most; a multiple of the network's input.
_EDGES_PX = 768
_NEGLIGIBLE = 0.02  # probability below which a pixel is not the person
_MARGIN_PX = 2  # room for a cut-out's soft edge
_MARGIN_CELLS = 2  # of the network's pixels: how far beyond a body its edge may be found


def to_body(
    prediction: CropPrediction, photo: ImageU8, initial_mask: Mask, recovery_px: int,
    settings: CleanupSettings,
) -> Body:  # fmt: skip
    """The final prediction as masks on the image, without small components, holes and one-pixel rims.

    photo: (H, W, 3) uint8 RGB; initial_mask: (H, W) bool; recovery_px: side of the crop that stage 2 gets. Raises
    NoPersonError when nothing of the body is left at the resolution of the image.
    """
    size_hw = photo.shape[:2]
    score_map = prediction.visible
    if not (prediction.visible >= 0.5).any():
        # The network finds nobody. The user who drew the mask does: it is kept, with the low score that it got.
        certain = np.where(prediction.initial, np.float32(1), np.float32(0))
        prediction = replace(prediction, visible=certain, amodal=np.maximum(prediction.amodal, certain))

    amodal_prob = _clean_amodal(prediction.visible, prediction.amodal, settings)
    amodal = amodal_prob >= 0.5
    visible = (prediction.visible >= 0.5) & amodal
    visible = _drop_small_components(visible, settings.min_visible_component_share * np.count_nonzero(amodal))
    # the limits of the boundary band were tuned at the usual size
    usual = (prediction.crop.regridded(mask, recovery_px) for mask in (prediction.initial, visible))
    trusted = prediction.crop.regridded(trusted_pixels(*usual, settings), prediction.crop.size_px)
    visible = np.where(trusted, prediction.initial & amodal, visible)
    invisible = _drop_thin_rims(amodal & ~visible, amodal)
    visible = amodal & ~invisible

    box = mask_to_box_xyxy(amodal)
    x0, y0, x1, y1 = prediction.crop.to_photo_xyxy(box)
    reach = int((_MARGIN_CELLS + 1) * prediction.crop.scale) + 1 + _MARGIN_PX
    around = Region(int(y0), int(x0), int(y1) + 1, int(x1) + 1).grow(reach, size_hw)
    fine_amodal, fine_visible = _align_with_image_edges(
        prediction, photo, amodal_prob, invisible, sure=bool(trusted.any())
    )
    region, amodal_u8 = prediction.crop.to_photo(fine_amodal, size_hw, around)
    _, visible_u8 = prediction.crop.to_photo(fine_visible, size_hw, around)
    photo_amodal = amodal_u8 >= 128
    if not photo_amodal.any():
        raise NoPersonError("the person is smaller than a pixel of the photo: nothing to recover")
    photo_visible = (visible_u8 >= 128) & photo_amodal
    if trusted.any():
        drawn = initial_mask[region.slices]
        _, as_drawn = prediction.crop.to_photo(_to_u8(trusted), size_hw, around)
        _, near_hidden = prediction.crop.to_photo(_to_u8(dilate(invisible, 1)), size_hw, around)
        as_drawn, near_hidden = as_drawn >= 128, near_hidden >= 128
        photo_amodal = np.where(as_drawn, drawn | (photo_amodal & near_hidden), photo_amodal)
        photo_visible = np.where(as_drawn, drawn, photo_visible & photo_amodal)
        visible_u8 = np.where(as_drawn & drawn, 255, visible_u8)
        # the probability that the cut-out's soft edge is made from agrees with the contour
        amodal_u8 = np.where(photo_amodal, np.maximum(amodal_u8, 128), np.minimum(amodal_u8, 127))
    for_recovery = prediction.at_size(photo, recovery_px)
    crop_amodal = prediction.crop.regridded(amodal, recovery_px)
    return Body(
        region=region,
        visible=photo_visible,
        amodal=photo_amodal,
        amodal_prob=amodal_u8,
        visible_prob=visible_u8.astype(np.uint8, copy=False),
        parsing=_label_parts(prediction, region) * photo_amodal,
        score=float(score_map[visible].mean()) if visible.any() else 0.0,
        probable_hidden=probable_share(prediction.visible, amodal_prob),
        in_crop=BodyInCrop(
            for_recovery.crop,
            for_recovery.image,
            crop_amodal,
            for_recovery.visible_parsing,
            for_recovery.amodal_parsing,
        ),
    )


def _align_with_image_edges(
    prediction: CropPrediction, photo: ImageU8, amodal_prob: Probability, invisible: Mask, *, sure: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Amodal and visible probability, (T, T) uint8 each, T >= S, with edges where the image has them.

    amodal_prob: (S, S) float32; invisible: (S, S) bool, what is hidden of it; sure: from a mask that is trusted.
    """
    # Away from what is hidden both contours must be one at photo resolution too, or thin invisible rims appear between
    # them: there, visible means the same as amodal.
    seam = ~invisible & (amodal_prob >= 0.5) & (prediction.visible >= 0.5) & dilate(invisible, 2)
    visible_prob = np.where(seam, prediction.visible, amodal_prob)
    visible_prob = np.where(invisible, np.minimum(prediction.visible, 0.49), visible_prob)

    finer = max(1, min(_EDGES_PX // prediction.crop.size_px, math.ceil(prediction.crop.scale)))
    fine = replace(prediction.crop, size_px=finer * prediction.crop.size_px)
    inside, fine_inside = (c.inside_photo(photo.shape[:2]) for c in (prediction.crop, fine))
    maps = np.stack([repeat_past_edge(p, inside) for p in (amodal_prob, visible_prob)])
    image = repeat_past_edge(prediction.image, inside)

    # the body's box alone
    box = Region.of_mask(maps[0] >= _NEGLIGIBLE).grow(2 * RADIUS_PX, maps.shape[1:])
    fine_box = Region(*(finer * edge for edge in astuple(box)))
    here = (slice(None), *box.slices)
    fine_image = fine.extract(photo, fill=OUTSIDE_GREY, within=fine_box)
    fine_image = repeat_past_edge(fine_image, fine_inside[fine_box.slices])
    near_hidden = dilate(invisible, 2)[box.slices].repeat(finer, 0).repeat(finer, 1)
    whole, seen = np.zeros((2, fine.size_px, fine.size_px), np.uint8)
    if not near_hidden.any():
        (amodal,) = follow_edges(image[box.slices], maps[here][:1], fine_image)
        whole[fine_box.slices] = seen[fine_box.slices] = _to_u8(amodal)
        return whole, seen
    # elsewhere visible equals amodal
    near = Region.of_mask(near_hidden).grow(2 * finer, fine_box.size_hw)  # its rim is not used
    amodal, visible = follow_edges(image[box.slices], maps[here], fine_image, (None, near))
    hidden = near_hidden[near.slices]
    if sure:  # the edges that the image shows over the hidden part are the occluder's
        np.copyto(amodal[near.slices], grow(maps[here][0], fine_box.size_hw, near), where=hidden)
    whole[fine_box.slices] = seen[fine_box.slices] = _to_u8(amodal)
    np.copyto(seen[fine_box.slices][near.slices], _to_u8(np.minimum(visible, amodal[near.slices])), where=hidden)
    return whole, seen


def trusted_pixels(initial: Mask, visible: Mask, settings: CleanupSettings) -> np.ndarray:
    """(S, S) bool: where the given mask is kept as drawn. `initial`, `visible`: (S, S) bool, given and refined."""
    nowhere = np.zeros_like(initial)
    if mask_iou(initial, visible) < settings.min_trusted_iou:
        return nowhere
    # what differs by more than the boundary band is a hole, a blob or a piece of the occluder: repaired, with a margin
    differs = initial ^ visible
    trusted = ~dilate(erode(differs, 1), 2)
    rim = initial & ~erode(initial, 1) & trusted
    if np.count_nonzero(differs & trusted) > settings.max_boundary_disagreement * np.count_nonzero(rim):
        return nowhere  # it disagrees all along: its contour is a coarse one
    return trusted


def _clean_amodal(visible_prob: Probability, amodal_prob: Probability, settings: CleanupSettings) -> np.ndarray:
    """(S, S) float32 probabilities without small components, and without small holes in the hidden part."""
    amodal = amodal_prob >= 0.5
    kept = keep_large_components(amodal, settings.min_component_share)
    # The soft rim of a dropped component goes with it.
    cleaned = np.where(dilate(amodal & ~kept, 2) & ~kept, np.float32(0), amodal_prob)
    invisible = kept & (visible_prob < 0.5)
    for hole in find_holes(kept, settings.max_hole_share):
        rim = dilate(hole, 1) & kept
        # Between a visible arm and a visible body the background does show; a gap in the hidden part is an error.
        if np.count_nonzero(rim & invisible) > 0.5 * np.count_nonzero(rim):
            cleaned = np.where(hole, np.float32(1), cleaned)
    return cleaned


def _drop_small_components(mask: Mask, min_area_px: float) -> np.ndarray:
    pieces = connected_components(mask)
    if pieces.count == 0:
        return mask
    return pieces.paint(pieces.areas_px >= min(min_area_px, pieces.areas_px.max()))


def _drop_thin_rims(invisible: Mask, amodal: Mask) -> np.ndarray:
    """Drop what is under three pixels thick along the outer edge: two contours that differ by a pixel.

    Thin things inside the silhouette, a pole or a strap across the body, stay.
    """
    opened = dilate(erode(invisible, 1), 1)
    return invisible & (opened | ~dilate(~amodal, 2))


def _label_parts(prediction: CropPrediction, region: Region) -> np.ndarray:
    """(h, w) uint8: the likeliest part of each pixel of `region`, never background: every body pixel is some part."""
    parts = prediction.amodal_parsing[1:]
    side = prediction.crop.size_px if prediction.crop.scale <= 1 else min(_PARSING_PX, round(prediction.crop.side_px))
    left, top = prediction.crop.left_top
    scale = prediction.crop.side_px / side
    rows = ((np.arange(region.top, region.bottom) + 0.5 - top) / scale).astype(int).clip(0, side - 1)
    columns = ((np.arange(region.left, region.right) + 0.5 - left) / scale).astype(int).clip(0, side - 1)
    # Every part's probability at this finer grid, around the body alone, one at a time, keeping the best so far.
    cell = -(-side // parts.shape[-1])
    around = Region(rows[0], columns[0], rows[-1] + 1, columns[-1] + 1).grow(cell, (side, side))
    best = np.full(around.size_hw, -1, dtype=np.float32)
    labels = np.ones(around.size_hw, dtype=np.uint8)
    # The likeliest of n parts has at least an n-th of them all, and so it has at one of the places it is grown from.
    least = parts.sum(axis=0) / np.float32(len(parts) + 1)
    for label, part in enumerate(parts, start=1):
        candidate = (part >= least) & (part >= 1e-3)
        if not candidate.any():
            continue
        x0, y0, x1, y1 = (edge * side // parts.shape[-1] for edge in mask_to_box_xyxy(candidate))
        where = Region(y0, x0, y1, x1).grow(2 * cell, (side, side)).intersect(around)
        if where.is_empty:
            continue
        finer, here = grow(part, (side, side), within=where), where.counted_from(around).slices
        better = finer > best[here]
        labels[here][better] = label
        np.copyto(best[here], finer, where=better)
    return labels[rows - around.top][:, columns - around.left]


def _to_u8(probability: np.ndarray) -> np.ndarray:
    return np.rint(probability * 255).astype(np.uint8)
