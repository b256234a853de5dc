"""Stage 1 at inference: from a rough mask in a photo to the whole body, numpy in and out.

Two looks at the person: a wide window to see how far the body may reach, then a tight one around that estimate for
detail. At a box a network of its own looks first, and says what in it is the person. Where the mask is no good as drawn
the tight look is taken on a finer grid: a contour that is one of its pixels off costs several points of IoU.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from functools import cached_property

import numpy as np

from deocclude.errors import InputError, NobodyThereError
from deocclude.imaging.crop import OUTSIDE_GREY, Region, SquareCrop
from deocclude.imaging.guided_filter import RADIUS_PX, follow_edges, grow
from deocclude.imaging.masks import (
    connected_components,
    dilate,
    erode,
    find_holes,
    is_filled_box,
    keep_large_components,
    mask_iou,
    mask_to_box_xyxy,
)  # fmt: skip
from deocclude.inference.crop_prediction import Look, in_crop, mean_look, repeat_past_edge, take_look
from deocclude.inference.occlusion_probability import probable_share
from deocclude.inference.runtime import ModelInfo, Network

# A hidden body can be twice as tall as what is seen, hence the wide window; the tight one leaves an eighth on each
# side.
WIDE_SCALE = 2.2
TIGHT_SCALE = 1.25
# The final look is averaged with one from further away, whose slips are others.
SECOND_SCALE = 1.5
# When the body reaches the wide window's edge there may be more of it: look again from further away, a few times at
# most.
WIDEN_BY = 1.6
MAX_WIDE_LOOKS = 3

# What counts of a box: what stage 1 makes of the mask that the network for boxes sees there, against 1 for that network
# itself, and what stage 1 sees there without it. Stage 1 learned to repair such masks (`train/box_prompt_masks.py`):
# with 1
# full IoU of held-out cut-outs is 0.3 points lower, with 2 it is as good. The network for boxes takes the neighbour for
# the person more often: in crowds stage 1 by itself has more to say. 1.6 to 3.5 were tried there, on composed scenes of
# three seeds: of their recall 2.2 is within a point to either side, 3.5 a point lower where it was tried. Of those who
# stand alone 0.4 is as good on held-out people, and with earlier weights it lost some of them in real photos.
REPAIRED_SAY = 1.5
OWN_SAY = 0.8
OWN_SAY_IN_CROWDS = 1.6

# Of a box: with less of it left beside somebody who is known, there is nobody else in it.
LEAST_REST = 0.05

# Shares of the body's area. Specks and small holes are slips of the network. Less is dropped of what is seen: a
# hand that shows beside the occluder is small.
SPECK_SHARE = 0.005
VISIBLE_SPECK_SHARE = 0.001
HOLE_SHARE = 0.02

# A given mask this close to the refined one is meant as drawn: its edge, which has the photo's resolution, is kept
# where the two differ by a hair. Below it the network repairs freely.
TRUST_IOU = 0.9
# ... and unless its edge is off all along, as that of a mask from a coarse grid: differing pixels, hair-thin ones, for
# each pixel of the contour. True masks: 0.02 to 0.12, with holes or blobs up to 0.2; half the coarse ones: more.
TRUST_HAIRS = 0.16

# Parts are told apart at no more than this many pixels a side: they come from a grid of a quarter of the network's
# input.
_PARSING_PX = 1024
# Edges are found on a grid of up to this many pixels a side, a whole number of times the network's; from there on they
# are grown.
_EDGES_PX = 768
_NOBODY = 0.02  # less than this probability is none
_MARGIN_PX = 2  # room for a cut-out's soft edge
_MARGIN_CELLS = 2  # of the network's pixels: how far beyond a body its edge may be found


@dataclass(frozen=True)
class CompletionOutput:
    """A person made whole: in photo pixels, for `region` of size (h, w) only, and in the tight crop for stage 2.

    visible is a subset of amodal in both; amodal lies inside the photo.
    """

    region: Region  # the body's box with a small margin
    visible: np.ndarray  # (h, w) bool
    amodal: np.ndarray  # (h, w) bool
    amodal_prob: np.ndarray  # (h, w) uint8, 255 = certainly the person
    visible_prob: np.ndarray  # (h, w) uint8, 255 = certainly seen of the person; what is drawn by hand is certain
    parsing: np.ndarray  # (h, w) uint8 label of every amodal pixel, 0 elsewhere
    score: float  # mean probability of the visible pixels
    probable_hidden: float  # share of the body that is hidden, by probability

    crop: SquareCrop  # the tight crop; S = crop.size_px
    crop_image: np.ndarray  # (S, S, 3) uint8
    crop_visible: np.ndarray  # (S, S) bool
    crop_amodal: np.ndarray  # (S, S) bool
    crop_visible_parsing: np.ndarray  # (12, S/4, S/4) float32 probabilities
    crop_amodal_parsing: np.ndarray  # (12, S/4, S/4) float32 probabilities

    hidden_probability: float = 1.0  # that more than 5 % is hidden; 1 until that has been judged

    @cached_property
    def area_px(self) -> int:
        """How many pixels of the photo are seen of the person."""
        return int(np.count_nonzero(self.visible))

    @cached_property
    def box_xyxy(self) -> tuple[int, int, int, int]:
        """The box around what is seen, in photo pixels. Raises InputError when nothing is."""
        x0, y0, x1, y1 = mask_to_box_xyxy(self.visible)
        left, top = self.region.left, self.region.top
        return x0 + left, y0 + top, x1 + left, y1 + top

    def seen_in(self, x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
        """(y1 - y0, x1 - x0) bool: what is seen in a window of the photo that lies in `box_xyxy`."""
        left, top = self.region.left, self.region.top
        return self.visible[y0 - top : y1 - top, x0 - left : x1 - left]

    @property
    def hidden_fraction(self) -> float:
        """Share of the body that is hidden, by the masks."""
        return 1 - self.area_px / int(np.count_nonzero(self.amodal))

    def as_seen(self) -> CompletionOutput:
        """The same body when nothing of it is hidden: whole is what is seen. Itself where nothing is seen."""
        if not self.area_px or not self.hidden_fraction:
            return self
        return replace(
            self,
            amodal=self.visible,
            amodal_prob=np.where(self.visible, self.amodal_prob, np.minimum(self.amodal_prob, 127)),
            parsing=self.parsing * self.visible,
            crop_amodal=self.crop_visible,
        )

    def moved(self, right_px: int, down_px: int) -> CompletionOutput:
        """The same body on a picture whose pixels are counted from elsewhere."""
        r, (x, y) = self.region, self.crop.center_xy
        return replace(
            self,
            region=Region(r.top + down_px, r.left + right_px, r.bottom + down_px, r.right + right_px),
            crop=replace(self.crop, center_xy=(x + right_px, y + down_px)),
        )

    def seeing_less(self, visible: np.ndarray, size_hw: tuple[int, int]) -> CompletionOutput:
        """The same body when less of it is seen: `visible`, (h, w) bool, a subset of what was visible."""
        lost = np.zeros(size_hw, dtype=bool)
        lost[self.region.slices] = self.visible & ~visible
        if not lost.any():
            return self
        # a crop pixel of which someone else owns a part is no source of this person's colours
        crop_visible = self.crop_visible & (self.crop.extract(lost.view(np.uint8) * np.uint8(255)) == 0)
        return replace(self, visible=visible, crop_visible=crop_visible)


class MaskCompletion:
    """Completes one person at a time. Holds its networks and nothing else."""

    def __init__(
        self, network: Network, average: bool = True, *, tight: bool = True, second_look: bool = False,
        box_network: Network | None = None, tells_apart: bool = False,
    ) -> None:  # fmt: skip
        """`average`: the final look is the mean of four: near and further away, each as it is and mirrored.

        `tight`: the final look is around the estimated body; else it is the first, wide one around what is seen, which
        is what a single fixed crop would give. `second_look`: the network has learned to start from the mean of a box
        and of what it saw there before (`mask.p_second_look` of its training), so that the final look at a box does.
        `box_network`: makes a mask of a box, from which the network then starts; both have their say in the end.
        `tells_apart`: it has learned to find whoever is left in a box without somebody (`data.crop.p_taken`).
        """
        self._network = network
        self._box_network = box_network
        self._tells_apart = tells_apart and box_network is not None
        self._second_look = second_look
        self._average = average
        self._tight = tight

    @classmethod
    def of(cls, networks: Mapping[str, Network], model: ModelInfo, average: bool = True) -> MaskCompletion:
        """The completion of a model and its opened networks."""
        second_look = bool(model.networks["mask_completion"].info.get("second_look", False))
        boxes = model.networks.get("mask_box")
        tells_apart = boxes is not None and bool(boxes.info.get("tells_apart", False))
        return cls(
            networks["mask_completion"], average, second_look=second_look, box_network=networks.get("mask_box"),
            tells_apart=tells_apart,
        )  # fmt: skip

    def __call__(self, photo: np.ndarray, initial_mask: np.ndarray, *, crowded: bool = False) -> CompletionOutput:
        """Complete the person of an imperfect visible mask, or of a filled box.

        `photo`: (H, W, 3) uint8 RGB; `initial_mask`: (H, W) bool; `crowded`: in the box there may be somebody else too.
        Raises InputError when the mask is empty.
        """
        if not initial_mask.any():
            raise InputError("the initial mask is empty: it must mark at least one pixel of the person")
        is_box = is_filled_box(initial_mask)
        look = self._look_at_box(photo, initial_mask, crowded) if is_box and self._box_network is not None else None
        if look is None:
            look = self._look_at_mask(photo, initial_mask, is_box)
        return _settle(look, photo, initial_mask, self._network.input_size)

    def complete_rest(self, photo: np.ndarray, box: np.ndarray, known: CompletionOutput) -> CompletionOutput | None:
        """Complete whoever is in a box beside somebody who is known.

        `photo`: (H, W, 3) uint8 RGB; `box`: (H, W) bool, filled. None where nobody is left to be seen, and of a model
        that has not learned to tell.
        """
        if not self._tells_apart:
            return None
        rest = box.copy()
        rest[known.region.slices] &= ~known.visible
        if np.count_nonzero(rest) < LEAST_REST * np.count_nonzero(box):
            return None
        near, seen, _ = self._first_looks(photo, rest)
        if not (seen.visible >= 0.5).any():
            return None
        completed = take_look(self._network, photo, near, seen.visible >= 0.5, self._average)
        look = replace(mean_look([completed, seen], photo.shape[:2]), initial=in_crop(box, near))
        return _settle(look, photo, box, self._network.input_size)

    def _look_at_mask(self, photo: np.ndarray, initial_mask: np.ndarray, is_box: bool) -> Look:
        """The final look where the initial mask, or the box, is all that is known."""
        first = None
        if self._tight:
            body_box, first = self._estimate_extent(self._network, photo, initial_mask)
        else:
            body_box = mask_to_box_xyxy(initial_mask)
        known = first if self._second_look and is_box else None
        return self._final_look(photo, initial_mask, body_box, self._sizes_for(is_box), known)

    def _look_at_box(self, photo: np.ndarray, box: np.ndarray, crowded: bool) -> Look | None:
        """The final look at a box: what the network for boxes sees there, what stage 1 makes of that, and what stage 1
        sees there by itself.

        None where the network for boxes sees nobody.
        """
        stage1, mirror = self._network, self._average
        near, seen, wide = self._first_looks(photo, box)
        if not (seen.visible >= 0.5).any():
            return None
        completed = take_look(stage1, photo, near, seen.visible >= 0.5, mirror)
        first = None
        if self._second_look:
            wide_crop = replace(wide.crop, size_px=stage1.input_size)
            first = take_look(stage1, photo, wide_crop, in_crop(box, wide_crop), mirror=False)
        further = _from_further_away(near)
        own = take_look(stage1, photo, further, in_crop(box, further), mirror, first)
        say = (REPAIRED_SAY, 1.0, OWN_SAY_IN_CROWDS if crowded else OWN_SAY)
        # the box is what was given: no mask of ours is kept as drawn
        return replace(mean_look([completed, seen, own], photo.shape[:2], say), initial=seen.initial)

    def _first_looks(self, photo: np.ndarray, box: np.ndarray) -> tuple[SquareCrop, Look, Look]:
        """The window around whoever is in a box, and what the network for boxes sees there and, wider, saw before."""
        boxes = self._box_network
        body_box, wide = self._estimate_extent(boxes, photo, box)
        near = SquareCrop.from_box_xyxy(body_box, TIGHT_SCALE, boxes.fine_size)
        return near, take_look(boxes, photo, near, in_crop(box, near), self._average), wide

    def look_at(
        self, photo: np.ndarray, visible_mask: np.ndarray, amodal_mask: np.ndarray
    ) -> tuple[SquareCrop, np.ndarray, np.ndarray, np.ndarray]:
        """The tight crop around a body that is known, its picture, and what the network makes of its parts.

        `photo`: (H, W, 3) uint8; masks: (H, W) bool, amodal not empty.
        Returns the crop, (S, S, 3) uint8, and the visible and amodal parsing, (12, S/4, S/4) float32 each.
        """
        around = amodal_mask if self._tight or not visible_mask.any() else visible_mask
        look = self._final_look(photo, visible_mask, mask_to_box_xyxy(around), (self._network.input_size,))
        return look.crop, look.image, look.visible_parsing, look.amodal_parsing

    def _sizes_for(self, is_box: bool) -> tuple[int, ...]:
        """Sizes of the final look, the next one taken where the mask turns out to be none to be kept as drawn.

        A mask that is kept has its contour; to guess what is hidden behind it, the usual size is as good. A filled box
        is kept by nobody.
        """
        usual, fine = self._network.input_size, self._network.fine_size
        return (fine,) if fine == usual or is_box else (usual, fine)

    def _final_look(
        self, photo: np.ndarray, initial_mask: np.ndarray, box: Sequence[float], sizes_px: Sequence[int],
        first: Look | None = None,
    ) -> Look:  # fmt: skip
        """The final look, around a box; its probabilities are the mean of all that is asked about it.

        first: a former look, for a network that starts from what it saw there.
        """
        scale = TIGHT_SCALE if self._tight else WIDE_SCALE
        for size_px in sizes_px:
            crop = SquareCrop.from_box_xyxy(box, scale, size_px)
            initial = in_crop(initial_mask, crop)
            look = take_look(self._network, photo, crop, initial, mirror=self._average, first=first)
            if _trusted(look.initial, look.visible >= 0.5).any():
                break
        if not self._average:
            return look
        further = _from_further_away(crop)
        known = None if first is None else look
        second = take_look(self._network, photo, further, in_crop(initial_mask, further), mirror=True, first=known)
        return mean_look([look, second], photo.shape[:2])

    def _estimate_extent(
        self, network: Network, photo: np.ndarray, initial_mask: np.ndarray
    ) -> tuple[tuple[float, float, float, float], Look]:
        """The box of the whole body in photo coordinates, which holds the initial mask, and the wide look at it."""
        seen_box = mask_to_box_xyxy(initial_mask)
        scale = WIDE_SCALE
        for _ in range(MAX_WIDE_LOOKS):
            crop = SquareCrop.from_box_xyxy(seen_box, scale, network.input_size)
            look = take_look(network, photo, crop, in_crop(initial_mask, crop), mirror=False)
            body = keep_large_components(look.amodal >= 0.5, SPECK_SHARE)
            if not _runs_into_edge(body):
                break
            scale *= WIDEN_BY
        if not body.any():
            return seen_box, look
        height, width = photo.shape[:2]
        x0, y0, x1, y1 = crop.to_photo_xyxy(mask_to_box_xyxy(body))
        body_box = (
            max(0.0, min(x0, seen_box[0])),
            max(0.0, min(y0, seen_box[1])),
            min(float(width), max(x1, seen_box[2])),
            min(float(height), max(y1, seen_box[3])),
        )
        return body_box, look


def _from_further_away(crop: SquareCrop) -> SquareCrop:
    """The window of the second of two final looks."""
    return replace(crop, side_px=crop.side_px * SECOND_SCALE / TIGHT_SCALE)


def _runs_into_edge(body: np.ndarray) -> bool:
    """True when a body meets the crop's border. Outside the photo nothing is body, so there it never does."""
    return bool(body[0].any() or body[-1].any() or body[:, 0].any() or body[:, -1].any())


def _settle(look: Look, photo: np.ndarray, initial_mask: np.ndarray, recovery_px: int) -> CompletionOutput:
    """Turn the tight look's probabilities into masks without specks, holes and slivers, and bring them to the photo.

    recovery_px: side of the crop that stage 2 gets.
    """
    size_hw = photo.shape[:2]
    score_map = look.visible
    if not (look.visible >= 0.5).any():
        # The network sees nobody here. Whoever drew the mask does: keep it, with the low score that it got.
        certain = np.where(look.initial, np.float32(1), np.float32(0))
        look = replace(look, visible=certain, amodal=np.maximum(look.amodal, certain))

    amodal_prob = _clean_amodal(look.visible, look.amodal)
    amodal = amodal_prob >= 0.5
    visible = (look.visible >= 0.5) & amodal
    visible = _drop_specks(visible, VISIBLE_SPECK_SHARE * np.count_nonzero(amodal))
    # what is a hair was found at the usual size
    usual = (look.crop.regridded(mask, recovery_px) for mask in (look.initial, visible))
    trusted = look.crop.regridded(_trusted(*usual), look.crop.size_px)
    visible = np.where(trusted, look.initial & amodal, visible)
    invisible = _drop_slivers(amodal & ~visible, amodal)
    visible = amodal & ~invisible

    box = mask_to_box_xyxy(amodal)
    x0, y0, x1, y1 = look.crop.to_photo_xyxy(box)
    reach = int((_MARGIN_CELLS + 1) * look.crop.scale) + 1 + _MARGIN_PX
    around = Region(int(y0), int(x0), int(y1) + 1, int(x1) + 1).grow(reach, size_hw)
    fine_amodal, fine_visible = _along_edges(look, photo, amodal_prob, invisible, sure=bool(trusted.any()))
    region, amodal_u8 = look.crop.to_photo(fine_amodal, size_hw, around)
    _, visible_u8 = look.crop.to_photo(fine_visible, size_hw, around)
    photo_amodal = amodal_u8 >= 128
    if not photo_amodal.any():
        raise NobodyThereError("the person is smaller than a pixel of the photo: nothing to recover")
    photo_visible = (visible_u8 >= 128) & photo_amodal
    if trusted.any():
        drawn = initial_mask[region.slices]
        _, as_drawn = look.crop.to_photo(_to_u8(trusted), size_hw, around)
        _, near_hidden = look.crop.to_photo(_to_u8(dilate(invisible, 1)), size_hw, around)
        as_drawn, near_hidden = as_drawn >= 128, near_hidden >= 128
        photo_amodal = np.where(as_drawn, drawn | (photo_amodal & near_hidden), photo_amodal)
        photo_visible = np.where(as_drawn, drawn, photo_visible & photo_amodal)
        visible_u8 = np.where(as_drawn & drawn, 255, visible_u8)
        # the probability that the cut-out's soft edge is made from agrees with the contour
        amodal_u8 = np.where(photo_amodal, np.maximum(amodal_u8, 128), np.minimum(amodal_u8, 127))
    for_recovery = look.at_size(photo, recovery_px)
    crop_amodal = look.crop.regridded(amodal, recovery_px)
    return CompletionOutput(
        region=region,
        visible=photo_visible,
        amodal=photo_amodal,
        amodal_prob=amodal_u8,
        visible_prob=visible_u8.astype(np.uint8, copy=False),
        parsing=_label_parts(look, region) * photo_amodal,
        score=float(score_map[visible].mean()) if visible.any() else 0.0,
        probable_hidden=probable_share(look.visible, amodal_prob),
        crop=for_recovery.crop,
        crop_image=for_recovery.image,
        crop_visible=look.crop.regridded(visible, recovery_px) & crop_amodal,
        crop_amodal=crop_amodal,
        crop_visible_parsing=for_recovery.visible_parsing,
        crop_amodal_parsing=for_recovery.amodal_parsing,
    )


def _along_edges(
    look: Look, photo: np.ndarray, amodal_prob: np.ndarray, invisible: np.ndarray, *, sure: bool
) -> tuple[np.ndarray, np.ndarray]:
    """What is whole and what is seen, (T, T) uint8 each, T >= S, 255 = certainly, with edges where the photo has them.

    amodal_prob: (S, S) float32; invisible: (S, S) bool, what is hidden of it; sure: from a mask that is trusted.
    """
    # Away from what is hidden both contours must be one at photo resolution too, or hair-thin invisible rims appear
    # between them: there, seen means the same as whole.
    seam = ~invisible & (amodal_prob >= 0.5) & (look.visible >= 0.5) & dilate(invisible, 2)
    visible_prob = np.where(seam, look.visible, amodal_prob)
    visible_prob = np.where(invisible, np.minimum(look.visible, 0.49), visible_prob)

    finer = max(1, min(_EDGES_PX // look.crop.size_px, math.ceil(look.crop.scale)))
    fine = replace(look.crop, size_px=finer * look.crop.size_px)
    inside, fine_inside = (c.inside_photo(photo.shape[:2]) for c in (look.crop, fine))
    maps = np.stack([repeat_past_edge(p, inside) for p in (amodal_prob, visible_prob)])
    image = repeat_past_edge(look.image, inside)

    # the body's box alone: the rest of the crop is nobody's
    box = Region.of_mask(maps[0] >= _NOBODY).grow(2 * RADIUS_PX, maps.shape[1:])
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
    # elsewhere what is seen is what is whole
    near = Region.of_mask(near_hidden).grow(2 * finer, fine_box.size_hw)  # its rim is not used
    amodal, visible = follow_edges(image[box.slices], maps[here], fine_image, (None, near))
    hidden = near_hidden[near.slices]
    if sure:  # what is hidden there is hidden: the edges that the photo shows are somebody else's
        np.copyto(amodal[near.slices], grow(maps[here][0], fine_box.size_hw, near), where=hidden)
    whole[fine_box.slices] = seen[fine_box.slices] = _to_u8(amodal)
    np.copyto(seen[fine_box.slices][near.slices], _to_u8(np.minimum(visible, amodal[near.slices])), where=hidden)
    return whole, seen


def _trusted(initial: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """(S, S) bool: where the given mask stands as drawn. `initial`, `visible`: (S, S) bool, given and refined."""
    nowhere = np.zeros_like(initial)
    if mask_iou(initial, visible) < TRUST_IOU:
        return nowhere
    # what differs by more than a hair is a hole, a blob or a piece of the occluder: repaired, with a margin
    differs = initial ^ visible
    trusted = ~dilate(erode(differs, 1), 2)
    rim = initial & ~erode(initial, 1) & trusted
    if np.count_nonzero(differs & trusted) > TRUST_HAIRS * np.count_nonzero(rim):
        return nowhere  # off by a little all along: its edge is a coarse one
    return trusted


def _clean_amodal(visible_prob: np.ndarray, amodal_prob: np.ndarray) -> np.ndarray:
    """(S, S) float32 probabilities without specks, and without small holes in the hidden part."""
    amodal = amodal_prob >= 0.5
    kept = keep_large_components(amodal, SPECK_SHARE)
    # The soft rim of a dropped speck goes with it.
    cleaned = np.where(dilate(amodal & ~kept, 2) & ~kept, np.float32(0), amodal_prob)
    invisible = kept & (visible_prob < 0.5)
    for hole in find_holes(kept, HOLE_SHARE):
        rim = dilate(hole, 1) & kept
        # Between a seen arm and a seen body the background does show; a gap in what is guessed is a slip.
        if np.count_nonzero(rim & invisible) > 0.5 * np.count_nonzero(rim):
            cleaned = np.where(hole, np.float32(1), cleaned)
    return cleaned


def _drop_specks(mask: np.ndarray, min_area_px: float) -> np.ndarray:
    pieces = connected_components(mask)
    if pieces.count == 0:
        return mask
    return pieces.paint(pieces.areas_px >= min(min_area_px, pieces.areas_px.max()))


def _drop_slivers(invisible: np.ndarray, amodal: np.ndarray) -> np.ndarray:
    """Drop what is under three pixels thick along the silhouette's outer edge: two contours that differ by a hair.

    Thin things inside the silhouette, a pole or a strap across the body, stay.
    """
    opened = dilate(erode(invisible, 1), 1)
    return invisible & (opened | ~dilate(~amodal, 2))


def _label_parts(look: Look, region: Region) -> np.ndarray:
    """(h, w) uint8: the likeliest part of each pixel of `region`, never background: every body pixel is some part."""
    parts = look.amodal_parsing[1:]
    side = look.crop.size_px if look.crop.scale <= 1 else min(_PARSING_PX, round(look.crop.side_px))
    left, top = look.crop.left_top
    scale = look.crop.side_px / side
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
