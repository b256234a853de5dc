"""Part taxonomies of datasets, and their mapping to the project's parsing groups.

A taxonomy is a tuple of names; a part's label is its index, and 0 is background.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import numpy as np

from deocclude.data.datasets.parsing_groups import UNKNOWN
from deocclude.errors import InputError
from deocclude.imaging.arrays import Array, Labels
from deocclude.types import PARSING_NAMES

# Labels 0 to 9 and 11 to 19, which LIP and CIHP share.
_BEFORE_10 = (
    "background", "hat", "hair", "glove", "sunglasses", "upper_clothes", "dress", "coat", "socks", "pants",
)  # fmt: skip
_AFTER_10 = (
    "scarf", "skirt", "face", "left_arm", "right_arm", "left_leg", "right_leg", "left_shoe", "right_shoe",
)  # fmt: skip

# Gong et al., "Look into Person", CVPR 2017.
LIP_20: tuple[str, ...] = (*_BEFORE_10, "jumpsuits", *_AFTER_10)
# Gong et al., "Instance-level Human Parsing via Part Grouping Network", ECCV 2018: LIP's labels but for number 10.
CIHP_20: tuple[str, ...] = (*_BEFORE_10, "torso_skin", *_AFTER_10)

# Liang et al., "Deep Human Parsing with Active Template Regression", TPAMI 2015: what most public SegFormers of clothes
# are trained on.
ATR_18: tuple[str, ...] = (
    "background", "hat", "hair", "sunglasses", "upper_clothes", "skirt", "pants", "dress", "belt", "left_shoe",
    "right_shoe", "face", "left_leg", "right_leg", "left_arm", "right_arm", "bag", "scarf",
)  # fmt: skip

Taxonomy = Literal["lip-20", "cihp-20", "atr-18", "deocclude-12"]

TAXONOMIES: dict[Taxonomy, tuple[str, ...]] = {
    "lip-20": LIP_20, "cihp-20": CIHP_20, "atr-18": ATR_18, "deocclude-12": PARSING_NAMES,
}  # fmt: skip

# Grouped as Clothing Co-Parsing's garments are: gloves with arms, sunglasses with headwear, socks with footwear.
_SHARED_GROUPS = {
    "background": "background",
    "hat": "headwear",
    "hair": "hair",
    "glove": "arm",
    "sunglasses": "headwear",
    "upper_clothes": "upper_clothes",
    "dress": "dress",
    "coat": "outerwear",
    "socks": "footwear",
    "pants": "lower_clothes",
    "scarf": "upper_clothes",
    "skirt": "lower_clothes",
    "face": "face",
    "left_arm": "arm",
    "right_arm": "arm",
    "left_leg": "leg",
    "right_leg": "leg",
    "left_shoe": "footwear",
    "right_shoe": "footwear",
}

GROUP_OF: dict[Taxonomy, dict[str, str]] = {
    "lip-20": {**_SHARED_GROUPS, "jumpsuits": "dress"},
    # Bare skin below the chin that is no leg counts as arm, as it does for Clothing Co-Parsing.
    "cihp-20": {**_SHARED_GROUPS, "torso_skin": "arm"},
    "atr-18": {name: ({"belt": "lower_clothes", "bag": "carried"} | _SHARED_GROUPS)[name] for name in ATR_18},
    "deocclude-12": {name: name for name in PARSING_NAMES},
}
"""By taxonomy: a part's name -> the parsing group's name in PARSING_NAMES."""


def groups_of_names(names: Mapping[int, str], where: str) -> Labels:
    """(256,) uint8: the parsing group of each label of a network whose label names are those of a taxonomy.

    Args:
        names: name by label, in any spelling: "Upper-clothes" is upper_clothes. Missing labels become UNKNOWN.
        where: name of the network in errors.

    Raises:
        InputError: no single taxonomy has all of the names.
    """
    normalised = {label: re.sub(r"[^a-z]+", "_", name.lower()).strip("_") for label, name in names.items()}
    for groups in GROUP_OF.values():
        if set(normalised.values()) <= set(groups):
            table = np.full(256, UNKNOWN, np.uint8)
            for label, name in normalised.items():
                table[label] = PARSING_NAMES.index(groups[name])
            return table
    known = set().union(*GROUP_OF.values())
    strange = [names[label] for label, name in normalised.items() if name not in known] or list(names.values())
    raise InputError(f"{where}: labels must be those of {', '.join(GROUP_OF)}, got {', '.join(strange[:5])}")


def check_labels(labels: Array, taxonomy: Taxonomy, where: str) -> Labels:
    """(H, W) labels as uint8. Raises InputError, naming `where`, for a label outside the taxonomy except UNKNOWN."""
    names = TAXONOMIES[taxonomy]
    wrong = labels[(labels != UNKNOWN) & ((labels < 0) | (labels >= len(names)))]
    if wrong.size:
        raise InputError(f"{where}: labels of {taxonomy} are 0 to {len(names) - 1}, got {wrong.flat[0]}")
    return labels.astype(np.uint8)


def to_parsing_groups(labels: Labels, taxonomy: Taxonomy) -> Labels:
    """Labels of a taxonomy as parsing groups.

    Args:
        labels: (H, W) uint8; UNKNOWN stays UNKNOWN.
        taxonomy: the labels' taxonomy.

    Returns:
        (H, W) uint8 labels into PARSING_NAMES.

    Raises:
        InputError: a label is outside the taxonomy.
    """
    table = np.full(256, UNKNOWN, np.uint8)
    groups = GROUP_OF[taxonomy]
    table[: len(groups)] = [PARSING_NAMES.index(groups[name]) for name in TAXONOMIES[taxonomy]]
    return table[check_labels(labels, taxonomy, "parsing")]
