"""A completed person: masks on the image, and masks and body parts on the crop that stage 2 gets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from deocclude.imaging.arrays import ImageU8, Labels, Mask, Probability, ProbabilityU8
from deocclude.imaging.boxes import mask_to_box_xyxy
from deocclude.imaging.crop import Region, SquareCrop

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class BodyInCrop:
    """A body in the square crop that stage 2 gets, of S = crop.size_px pixels a side.

    Attributes:
        crop: the crop.
        image: (S, S, 3) uint8.
        amodal: (S, S) bool.
        visible_parsing: (12, S/4, S/4) float32 probabilities.
        amodal_parsing: (12, S/4, S/4) float32 probabilities.
    """

    crop: SquareCrop
    image: ImageU8
    amodal: Mask
    visible_parsing: Probability
    amodal_parsing: Probability


@dataclass(frozen=True)
class Body:
    """A completed person: in image pixels, for `region` of size (h, w) alone, and in the tight crop for stage 2.

    `visible` is a subset of `amodal`, which lies inside the image.
    """

    region: Region  # the body's box with a small margin
    visible: Mask  # (h, w) bool
    amodal: Mask  # (h, w) bool
    amodal_prob: ProbabilityU8  # (h, w), 255 = certain
    visible_prob: ProbabilityU8  # (h, w), 255 = certain; pixels of a trusted given mask are certain
    parsing: Labels  # (h, w), label of every amodal pixel, 0 elsewhere
    score: float  # mean probability of the visible pixels
    probable_hidden: float  # hidden fraction of the body, 0 to 1, from sums of probabilities in place of masks

    in_crop: BodyInCrop  # as completed; later changes of the masks do not affect it

    hidden_probability: float = 1.0  # probability that more than 5 % of the body is hidden; 1 until it is computed
    left_alone: str | None = None  # why a hidden part was not completed, a key of `occlusion_probability.LEFT_ALONE`
    sample_probability: float | None = None  # as `types.Person.sample_probability`
    left_out: Mask | None = None  # (h, w) bool, hidden pixels that were predicted and are not completed; None: none

    @cached_property
    def area_px(self) -> int:
        """Number of visible image pixels."""
        return int(np.count_nonzero(self.visible))

    @cached_property
    def box_xyxy(self) -> tuple[int, int, int, int]:
        """The box around the visible part, in image pixels. Raises InputError where nothing is visible."""
        x0, y0, x1, y1 = mask_to_box_xyxy(self.visible)
        left, top = self.region.left, self.region.top
        return x0 + left, y0 + top, x1 + left, y1 + top

    def visible_in(self, x0: int, y0: int, x1: int, y1: int) -> Mask:
        """(y1 - y0, x1 - x0) bool: the visible mask in a window of the image that lies in `box_xyxy`."""
        left, top = self.region.left, self.region.top
        return self.visible[y0 - top : y1 - top, x0 - left : x1 - left]

    def visible_on(self, region: Region) -> Mask:
        """The visible mask on another region of the image, with that region's size."""
        mask: Mask = np.zeros(region.size_hw, bool)
        common = region.intersect(self.region)
        if not common.is_empty:
            mask[common.counted_from(region).slices] = self.visible[common.counted_from(self.region).slices]
        return mask

    def on_photo(self, part: Mask, size_hw: tuple[int, ...]) -> Mask:
        """(H, W) bool: a mask of the body's region on the image.

        Args:
            part: (h, w) bool, such as `visible` or `amodal`.
            size_hw: the image's size.
        """
        whole: Mask = np.zeros(size_hw, bool)
        whole[self.region.slices] = part
        return whole

    @cached_property
    def hidden_fraction(self) -> float:
        """Hidden pixels over amodal pixels, 0 to 1."""
        return 1 - self.area_px / int(np.count_nonzero(self.amodal))

    def without_completion(self) -> Body:
        """The same body without its hidden part: amodal equals visible. Unchanged where nothing is visible."""
        if not self.area_px or not self.hidden_fraction:
            return self
        return self.with_amodal(self.visible)

    def with_amodal(self, amodal: Mask) -> Body:
        """The same body with a smaller amodal mask, which the amodal probability and the body parts follow.

        `probable_hidden` stays that of the whole prediction, on which the calibration is fitted.

        Args:
            amodal: (h, w) bool, a subset of the present one that contains the visible mask.
        """
        left_out: Mask = self.amodal & ~amodal
        return replace(
            self,
            left_out=left_out if self.left_out is None else self.left_out | left_out,
            amodal=amodal,
            amodal_prob=np.where(amodal, self.amodal_prob, np.minimum(self.amodal_prob, 127)),
            parsing=self.parsing * amodal,
        )

    def moved(self, right_px: int, down_px: int) -> Body:
        """The same body in another image, whose origin differs.

        Args:
            right_px: added to x.
            down_px: added to y.
        """
        r, crop = self.region, self.in_crop.crop
        x, y = crop.center_xy
        return replace(
            self,
            region=Region(r.top + down_px, r.left + right_px, r.bottom + down_px, r.right + right_px),
            in_crop=replace(self.in_crop, crop=replace(crop, center_xy=(x + right_px, y + down_px))),
        )

    def with_visible(self, visible: Mask) -> Body:
        """The same body with a smaller visible mask.

        Args:
            visible: (h, w) bool, a subset of the present one.
        """
        return self if (visible == self.visible).all() else replace(self, visible=visible)

    def with_visible_part(self, part: Mask) -> Self:
        """The same body with some hidden pixels made visible; their probability becomes 1.

        Args:
            part: (h, w) bool; pixels outside the amodal mask are ignored.
        """
        seen: Mask = part & self.amodal & ~self.visible
        if not seen.any():
            return self
        certain = (np.where(seen, np.uint8(255), prob) for prob in (self.visible_prob, self.amodal_prob))
        visible_prob, amodal_prob = certain
        return replace(self, visible=self.visible | seen, visible_prob=visible_prob, amodal_prob=amodal_prob)
