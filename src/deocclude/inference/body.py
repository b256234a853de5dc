"""A completed person: masks on the image and on the crop that stage 2 gets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from deocclude.imaging.boxes import mask_to_box_xyxy
from deocclude.imaging.crop import Region, SquareCrop


@dataclass(frozen=True)
class BodyInCrop:
    """A body in the square crop that stage 2 gets; S = crop.size_px."""

    crop: SquareCrop
    image: ImageU8  # (S, S, 3) uint8
    amodal: Mask  # (S, S) bool
    visible_parsing: Probability  # (12, S/4, S/4) float32 probabilities
    amodal_parsing: Probability  # (12, S/4, S/4) float32 probabilities


@dataclass(frozen=True)
class Body:
    """A person made whole: in photo pixels, for `region` of size (h, w) only, and in the tight crop for stage 2.

    visible is a subset of amodal in both; amodal lies inside the photo.
    """

    region: Region  # the body's box with a small margin
    visible: Mask  # (h, w) bool
    amodal: Mask  # (h, w) bool
    amodal_prob: Probability  # (h, w) uint8, 255 = certainly the person
    visible_prob: Probability  # (h, w) uint8, 255 = certainly seen of the person; what is drawn by hand is certain
    parsing: Probability  # (h, w) uint8 label of every amodal pixel, 0 elsewhere
    score: float  # mean probability of the visible pixels
    probable_hidden: float  # share of the body that is hidden, by probability

    in_crop: BodyInCrop  # as it was completed: what later changes of the masks leave alone

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

    def visible_in(self, x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
        """(y1 - y0, x1 - x0) bool: what is seen in a window of the photo that lies in `box_xyxy`."""
        left, top = self.region.left, self.region.top
        return self.visible[y0 - top : y1 - top, x0 - left : x1 - left]

    @property
    def hidden_fraction(self) -> float:
        """Share of the body that is hidden, by the masks."""
        return 1 - self.area_px / int(np.count_nonzero(self.amodal))

    def without_completion(self) -> Body:
        """The same body when nothing of it is hidden: whole is what is seen. Itself where nothing is seen."""
        if not self.area_px or not self.hidden_fraction:
            return self
        return replace(
            self,
            amodal=self.visible,
            amodal_prob=np.where(self.visible, self.amodal_prob, np.minimum(self.amodal_prob, 127)),
            parsing=self.parsing * self.visible,
        )

    def moved(self, right_px: int, down_px: int) -> Body:
        """The same body on a picture whose pixels are counted from elsewhere."""
        r, crop = self.region, self.in_crop.crop
        x, y = crop.center_xy
        return replace(
            self,
            region=Region(r.top + down_px, r.left + right_px, r.bottom + down_px, r.right + right_px),
            in_crop=replace(self.in_crop, crop=replace(crop, center_xy=(x + right_px, y + down_px))),
        )

    def with_visible(self, visible: Mask) -> Body:
        """The same body of which less is visible: `visible`, (h, w) bool, a subset of what was."""
        return self if (visible == self.visible).all() else replace(self, visible=visible)
