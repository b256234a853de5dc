"""People of real photos as training samples of stage 1, with real occluders and neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from deocclude.data.samples.person_samples import CropConfig
from deocclude.data.sources.real_photos import BEYOND, WildPhoto
from deocclude.data.synthesis.mask_corruption import draw_initial_mask
from deocclude.data.synthesis.photometric import camera, photometric
from deocclude.errors import InputError
from deocclude.imaging.boxes import mask_to_box_xyxy
from deocclude.imaging.crop import OUTSIDE_GREY

Rng = np.random.Generator

_MIN_PX = 32  # least longer side of a person's box
_JOINT_RADIUS = 0.02  # by the visible box's longer side: a disc of this radius lies inside a limb
_TIGHT_SCALE = (1.05, 1.9)  # a tight crop's side, by the visible box's longer side: the amodal box is unknown


class RealPeople:
    """All people of real photos as training samples of stage 1.

    The occluded part is unknown, so that `known` is the visible mask, and a disc around each covered joint, which
    belongs to the amodal mask. The contours are loose polygons and never come as exact initial masks.
    """

    def __init__(self, photos: Sequence[WildPhoto]):
        """List the people of at least 32 pixels on the longer side. Raises InputError where there is none."""
        self.photos = photos
        self.people = [
            (photo_index, number)
            for photo_index, photo in enumerate(photos)
            for number, (x0, y0, x1, y1) in photo.boxes_xyxy.items()
            if max(x1 - x0, y1 - y0) >= _MIN_PX and (photo.instances == number).any()
        ]
        if not self.people:
            raise InputError(f"no person of at least {_MIN_PX} px in {len(photos)} real photos")

    def __len__(self) -> int:
        return len(self.people)

    def draw(self, rng: Rng, crop: CropConfig, size_px: int) -> dict[str, np.ndarray]:
        """One training sample, with the keys and shapes of `draw_sample`."""
        photo_index, number = self.people[rng.integers(len(self.people))]
        photo = self.photos[photo_index]
        x0, y0, x1, y1 = mask_to_box_xyxy(photo.instances == number)
        side = max(x1 - x0, y1 - y0) * rng.uniform(*(crop.wide_scale if rng.random() < crop.p_wide else _TIGHT_SCALE))
        cx, cy = np.array([x0 + x1, y0 + y1]) / 2 + rng.uniform(-1, 1, 2) * crop.shift * side * 0.5
        s = size_px / side
        flip = -1.0 if rng.random() < 0.5 else 1.0
        # -0.5: pixel i covers [i, i + 1), warps address its centre as i
        to_crop = np.array([[flip * s, 0, size_px / 2 - flip * s * cx - 0.5], [0, s, size_px / 2 - s * cy - 0.5]])
        rgb = cv2.warpAffine(
            photo.rgb, to_crop, (size_px, size_px), flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT, borderValue=(OUTSIDE_GREY,) * 3,
        )  # fmt: skip
        ids = cv2.warpAffine(photo.instances, to_crop, (size_px, size_px), flags=cv2.INTER_NEAREST, borderValue=BEYOND)
        visible, inside = ids == number, ids != BEYOND
        (rgb,) = camera(photometric([rgb], rng), rng)
        rgb[~inside] = OUTSIDE_GREY
        joints = _discs(photo.covered_xy.get(number, np.zeros((0, 2))), to_crop, size_px, max(x1 - x0, y1 - y0) * s)
        amodal = visible | (joints & inside)
        # no mask is exact; among the others the fraction of boxes is that of synthetic samples
        p_box = crop.p_box / (1 - crop.p_exact) if crop.p_exact < 1 else 0.0
        others = [ids == other for other in np.unique(ids) if other not in (0, number, BEYOND)]
        initial = (
            draw_initial_mask(visible, rng, p_exact=0.0, p_box=p_box, errors=crop.box_errors, others=others) & inside
        )
        return {
            "photo": rgb, "truth": rgb.copy(), "initial": initial, "visible": visible, "amodal": amodal,
            "parsing": np.where(amodal, 255, 0).astype(np.uint8), "known": amodal.copy(),
        }  # fmt: skip


def _discs(points_xy: np.ndarray, to_crop: np.ndarray, size_px: int, longer_px: float) -> np.ndarray:
    """(S, S) bool: discs in the crop around points of the photo. longer_px: the person's longer side in the crop."""
    discs = np.zeros((size_px, size_px), np.uint8)
    for x, y in points_xy @ to_crop[:, :2].T + to_crop[:, 2]:
        cv2.circle(discs, (round(x), round(y)), max(1, round(_JOINT_RADIUS * longer_px)), 1, -1)
    return discs > 0


class RealMixture:
    """Several sets of real people, each drawn from with its own frequency."""

    def __init__(self, sets: Sequence[RealPeople], weights: Sequence[float]):
        """sets: the people; weights: their relative frequencies, above 0."""
        self._sets = sets
        self._shares = np.asarray(weights, float) / sum(weights)

    def draw(self, rng: Rng, crop: CropConfig, size_px: int) -> dict[str, np.ndarray]:
        """One training sample, with the keys and shapes of `draw_sample`."""
        return self._sets[rng.choice(len(self._sets), p=self._shares)].draw(rng, crop, size_px)
