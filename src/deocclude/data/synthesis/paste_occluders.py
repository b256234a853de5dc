"""Cut-out people and things pasted in front of the people of a real photo, whose truth shrinks to what stays visible.

Real photos are few: with others before them their people are seen anew each time, hidden ones among them
(simple copy-paste, Ghiasi et al. 2021, arXiv 2012.07177).
"""

from __future__ import annotations

import numpy as np

from deocclude.data.synthesis.multi_person import AssetPool, CrowdConfig, longer_side, paste, pixels_at
from deocclude.data.synthesis.photometric import photometric
from deocclude.data.synthesis.rendering import blend
from deocclude.imaging.boxes import mask_to_box_xyxy

Rng = np.random.Generator

_MOST = 3  # layers
_P_PERSON = 0.45  # of a layer; the others are things
_P_AT_SOMEBODY = 0.7  # of a layer: before one of the photo's people, of a size to match
_THING_SHARE = (0.25, 0.9)  # a thing's longer side, of the person's it is set before
_PERSON_SHARE = (0.8, 1.7)  # a nearer person's, likewise
_LOOSE_SHARE = (0.12, 0.9)  # of the photo's longer side, of a layer that is before nobody
_LEAST_SHOWN = 0.15  # of a body in the photo, as in composed crowds: of whom less is there, nobody asks
_MOST_NUMBERS = 255


def cover(
    rgb: np.ndarray, instances: np.ndarray, ignore: np.ndarray, rng: Rng, *, cast: AssetPool, config: CrowdConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The photo with up to three layers in front.

    rgb: (H, W, 3) uint8; instances: (H, W) uint8, number of a pixel's person, 0 = nobody's; ignore: (H, W) bool.
    config: what of anybody stays visible (`min_visible`), and how far a cut-out is blown up (`max_enlarged`).
    Returns new arrays; people who are added have the next free numbers, up to 255.
    """
    rgb, instances, ignore = rgb.copy(), instances.copy(), ignore.copy()
    least = config.min_visible * np.bincount(instances.ravel(), minlength=256)
    for _ in range(rng.integers(1, _MOST + 1)):
        is_person = bool(len(cast.people)) and rng.random() < _P_PERSON
        if is_person:
            layer = cast.people[rng.choice(len(cast.people), p=cast.people_shares)]
        else:
            layer = cast.library.occluders[rng.integers(len(cast.library.occluders))]
        x, bottom, size = _place(instances, rng, is_person)
        if is_person and size > config.max_enlarged * longer_side(layer):
            continue
        pasted = paste(
            layer, rng, x, bottom, size, angle_deg=rng.uniform(-8, 8), mirrored=rng.random() < 0.5,
            size_hw=rgb.shape[:2], is_person=is_person,
        )  # fmt: skip
        if pasted is None:
            continue
        here, covered = pasted.slices, pasted.alpha >= 128
        if is_person and np.count_nonzero(covered) <= _LEAST_SHOWN * pixels_at(layer, size):
            continue
        lost = np.bincount(instances[here][covered], minlength=256)
        left = np.bincount(instances.ravel(), minlength=256) - lost
        number = int(instances.max()) + 1 if is_person else 0
        if ((lost > 0) & (left < least))[1:].any() or number > _MOST_NUMBERS:
            continue
        (relit,) = photometric([pasted.rgb], rng)
        blend(rgb[here], relit, pasted.alpha)
        instances[here][covered] = number
        ignore[here][covered] = False
        if is_person:
            least[number] = config.min_visible * covered.sum()
    return rgb, instances, ignore


def _place(instances: np.ndarray, rng: Rng, is_person: bool) -> tuple[float, float, float]:
    """Lowest middle (x, bottom) and size in pixels of a layer."""
    h, w = instances.shape
    numbers = np.unique(instances[instances > 0])
    if len(numbers) and rng.random() < _P_AT_SOMEBODY:
        x0, y0, x1, y1 = mask_to_box_xyxy(instances == rng.choice(numbers))
        theirs = max(x1 - x0, y1 - y0)
        if is_person:  # nearer: larger, lower, and beside more than before
            size = theirs * np.exp(rng.uniform(*np.log(_PERSON_SHARE)))
            x = (x0 + x1) / 2 + rng.choice([-1, 1]) * rng.uniform(0.1, 0.6) * size
            return float(x), float(y1 + rng.uniform(0, 0.25) * size), float(size)
        size = theirs * rng.uniform(*_THING_SHARE)
        bottom = rng.uniform(y0 + 0.4 * (y1 - y0), y1 + 0.15 * theirs)
        return float(rng.uniform(x0, x1)), float(bottom), float(size)
    size = max(h, w) * np.exp(rng.uniform(*np.log(_LOOSE_SHARE)))
    return float(rng.uniform(0, w)), float(rng.uniform(0.4, 1.15) * h), float(size)
