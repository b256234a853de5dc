"""From Clothing Co-Parsing's 59 garment labels to the project's 12 parsing groups."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from deocclude.imaging.arrays import Int, Labels, Mask
from deocclude.types import PARSING_NAMES

UNKNOWN = 255  # label of a pixel without a parsing label

_GARMENTS_OF_GROUP = {
    "headwear": ("hat", "glasses", "sunglasses"),
    "hair": ("hair", "earrings"),
    "arm": ("skin", "bracelet", "ring", "watch", "gloves"),  # skin is split by geometry below
    "upper_clothes": (
        "accessories", "blouse", "bodysuit", "bra", "hoodie", "intimate", "jumper", "necklace", "scarf", "shirt",
        "sweater", "sweatshirt", "swimwear", "t-shirt", "tie", "top", "vest",
    ),
    "outerwear": ("blazer", "cape", "cardigan", "coat", "jacket", "suit"),
    "dress": ("dress", "romper"),
    "lower_clothes": (
        "belt", "jeans", "leggings", "panties", "pants", "shorts", "skirt", "stockings", "tights",
    ),
    "footwear": (
        "boots", "clogs", "flats", "heels", "loafers", "pumps", "sandals", "shoes", "sneakers", "socks", "wedges",
    ),
    "carried": ("bag", "purse", "wallet"),
}  # fmt: skip


def garment_table(names: list[str]) -> Labels:
    """(len(names),) uint8 lookup table from garment label to group label. Raises ValueError for an unknown garment."""
    group_of = {garment: name for name, garments in _GARMENTS_OF_GROUP.items() for garment in garments}
    unknown = [n for n in names if n != "null" and n not in group_of]
    if unknown:
        raise ValueError(f"garments without a parsing group: {', '.join(unknown)}")
    return np.array([PARSING_NAMES.index(group_of.get(n, "background")) for n in names], dtype=np.uint8)


def to_groups(garments: Int, names: list[str]) -> Labels:
    """Parsing groups of one person.

    Each connected component of the garment label `skin` is split by geometry, in fractions of the body's height:

    * face: of a component near hair or headwear, or in the upper 16 % on average, the pixels within 20 % of its top;
    * leg: of what reaches below 72 %, the pixels in the lower half of the body;
    * arm: the rest.

    Args:
        garments: (H, W) integer labels into `names`.
        names: garment names; the index is the label.

    Returns:
        (H, W) uint8 labels into PARSING_NAMES.
    """
    groups = garment_table(names)[garments]
    return _split_skin(groups, garments == names.index("skin"))


def _split_skin(groups: Labels, skin: Mask) -> Labels:
    """Group labels with `skin`, (H, W) bool, relabelled as face, leg or arm by the rules of `to_groups`."""
    rows = np.flatnonzero((groups > 0).any(axis=1))
    if rows.size == 0 or not skin.any():
        return groups
    top, height = rows[0], rows[-1] - rows[0] + 1
    label = {name: i for i, name in enumerate(PARSING_NAMES)}
    head = np.isin(groups, (label["hair"], label["headwear"]))
    near_head = ndimage.binary_dilation(head, iterations=3)
    y = np.arange(groups.shape[0])[:, None]
    parts, count = ndimage.label(skin)
    out: Labels = groups.copy()
    for part, box in enumerate(ndimage.find_objects(parts, count), start=1):
        here = parts[box] == part
        y_share = (y[box[0]] - top) / height
        if (near_head[box] & here).any() or y_share[here.nonzero()[0], 0].mean() < 0.16:
            # face skin is connected to neck, chest and bare arms: it ends at the lowest plausible chin
            face_end = y_share.min() + 0.20
            out[box][here & (y_share <= face_end)] = label["face"]
            here = here & (y_share > face_end)
        if here.any() and y_share.max() > 0.72:
            # hands do not reach this low: the component is a leg, maybe touched by a hand
            out[box][here & (y_share > 0.5)] = label["leg"]
    return out
