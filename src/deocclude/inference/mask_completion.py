"""Stage 1 at inference: from a rough mask in a photo to the whole body, numpy in and out.

Two looks at the person: a wide window to see how far the body may reach, then a tight one around that estimate for
detail. At a box a network of its own looks first, and says what in it is the person. Where the mask is no good as drawn
the tight look is taken on a finer grid: a contour that is one of its pixels off costs several points of IoU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from deocclude.errors import InputError
from deocclude.imaging.boxes import is_filled_box, mask_to_box_xyxy
from deocclude.imaging.crop import SquareCrop
from deocclude.imaging.masks import keep_large_components
from deocclude.inference.body import CompletionOutput
from deocclude.inference.crop_prediction import Look, in_crop, mean_look, take_look
from deocclude.inference.mask_postprocessing import SPECK_SHARE, to_body, trusted_pixels
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
        return to_body(look, photo, initial_mask, self._network.input_size)

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
        return to_body(look, photo, box, self._network.input_size)

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
            if trusted_pixels(look.initial, look.visible >= 0.5).any():
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
