"""Copy-paste augmentation: distractors and objects in front of the people of a real photo, whose masks shrink.

Real photos are few. Pasted layers show their people in new occlusions each time
(simple copy-paste, Ghiasi et al. 2021, arXiv 2012.07177).
"""

from __future__ import annotations

import numpy as np

from deocclude.data.synthesis.multi_person import AssetPool, CrowdConfig, longer_side, paste, pixels_at
from deocclude.data.synthesis.photometric import photometric
from deocclude.data.synthesis.rendering import blend
from deocclude.imaging.boxes import mask_to_box_xyxy

Rng = np.random.Generator

_MAX_LAYERS = 3  # pasted into one photo
_P_PERSON = 0.45  # probability that a layer is a person; else it is an object
_P_AT_PERSON = 0.7  # probability that a layer is in front of one of the photo's people, at a matching size
_OBJECT_SIZE_RATIO = (0.25, 0.9)  # an object's longer side by that of the person behind it
_PERSON_SIZE_RATIO = (0.8, 1.7)  # a pasted person's longer side by that of the person behind
_FREE_SIZE_SHARE = (0.12, 0.9)  # longer side of a layer in front of no person, by the photo's
_MIN_IN_PHOTO = 0.15  # least fraction of a pasted body that lies within the photo
_MAX_NUMBER = 255  # largest person number, as numbers are uint8


def cover(
    rgb: np.ndarray, instances: np.ndarray, ignore: np.ndarray, rng: Rng, *, pool: AssetPool, config: CrowdConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Paste up to three layers in front of a photo; a layer that would cover a person too much is left out.

    Args:
        rgb: (H, W, 3) uint8.
        instances: (H, W) uint8 person numbers, 0 = background.
        ignore: (H, W) bool, where unlabelled people may be.
        rng: draws the layers and their places.
        pool: people and objects to paste.
        config: least visible fraction of each person (`min_visible`) and largest upscaling (`max_enlarged`).

    Returns:
        rgb, instances and ignore as new arrays; pasted people have the next free numbers, up to 255.
    """
    rgb, instances, ignore = rgb.copy(), instances.copy(), ignore.copy()
    min_visible_px = config.min_visible * np.bincount(instances.ravel(), minlength=256)
    for _ in range(rng.integers(1, _MAX_LAYERS + 1)):
        is_person = bool(len(pool.people)) and rng.random() < _P_PERSON
        if is_person:
            layer = pool.people[rng.choice(len(pool.people), p=pool.people_shares)]
        else:
            layer = pool.library.occluders[int(rng.integers(len(pool.library.occluders)))]
        x, bottom, size = _draw_place(instances, rng, is_person)
        if is_person and size > config.max_enlarged * longer_side(layer):
            continue
        pasted = paste(
            layer, rng, x, bottom, size, angle_deg=rng.uniform(-8, 8), mirrored=rng.random() < 0.5,
            size_hw=rgb.shape[:2], is_person=is_person,
        )  # fmt: skip
        if pasted is None:
            continue
        here, covered = pasted.slices, pasted.alpha >= 128
        if is_person and np.count_nonzero(covered) <= _MIN_IN_PHOTO * pixels_at(layer, size):
            continue
        lost = np.bincount(instances[here][covered], minlength=256)
        remaining = np.bincount(instances.ravel(), minlength=256) - lost
        number = int(instances.max()) + 1 if is_person else 0
        if ((lost > 0) & (remaining < min_visible_px))[1:].any() or number > _MAX_NUMBER:
            continue
        (relit,) = photometric([pasted.rgb], rng)
        blend(rgb[here], relit, pasted.alpha)
        instances[here][covered] = number
        ignore[here][covered] = False
        if is_person:
            min_visible_px[number] = config.min_visible * covered.sum()
    return rgb, instances, ignore


def _draw_place(instances: np.ndarray, rng: Rng, is_person: bool) -> tuple[float, float, float]:
    """Where a layer goes: x and y of the middle of its lower edge, and its longer side, in pixels."""
    h, w = instances.shape
    numbers = np.unique(instances[instances > 0])
    if len(numbers) and rng.random() < _P_AT_PERSON:
        x0, y0, x1, y1 = mask_to_box_xyxy(instances == rng.choice(numbers))
        person_side_px = max(x1 - x0, y1 - y0)
        if is_person:  # nearer: larger, lower, and more beside than in front
            size = person_side_px * np.exp(rng.uniform(*np.log(_PERSON_SIZE_RATIO)))
            x = (x0 + x1) / 2 + rng.choice([-1, 1]) * rng.uniform(0.1, 0.6) * size
            return float(x), float(y1 + rng.uniform(0, 0.25) * size), float(size)
        size = person_side_px * rng.uniform(*_OBJECT_SIZE_RATIO)
        bottom = rng.uniform(y0 + 0.4 * (y1 - y0), y1 + 0.15 * person_side_px)
        return float(rng.uniform(x0, x1)), float(bottom), float(size)
    size = max(h, w) * np.exp(rng.uniform(*np.log(_FREE_SIZE_SHARE)))
    return float(rng.uniform(0, w)), float(rng.uniform(0.4, 1.15) * h), float(size)
