"""LIP, CIHP and the project's groups: names, places and the maps between them."""

from __future__ import annotations

import numpy as np
import pytest

from deocclude.data.datasets.parsing_groups import UNKNOWN, garment_table
from deocclude.data.datasets.taxonomies import CIHP_20, GROUP_OF, LIP_20, TAXONOMIES, to_parsing_groups
from deocclude.errors import InputError
from deocclude.types import PARSING_NAMES


def test_label_numbers_match_the_datasets() -> None:
    assert len(LIP_20) == len(CIHP_20) == 20 and TAXONOMIES["deocclude-12"] is PARSING_NAMES
    by_number = {0: "background", 1: "hat", 5: "upper_clothes", 9: "pants", 13: "face", 14: "left_arm"}
    for number, name in by_number.items():
        assert LIP_20[number] == CIHP_20[number] == name
    assert [number for number in range(20) if LIP_20[number] != CIHP_20[number]] == [10]
    assert (LIP_20[10], CIHP_20[10]) == ("jumpsuits", "torso_skin")


@pytest.mark.parametrize("taxonomy", TAXONOMIES)
def test_every_part_has_a_group(taxonomy: str) -> None:
    assert set(GROUP_OF[taxonomy]) == set(TAXONOMIES[taxonomy])
    assert set(GROUP_OF[taxonomy].values()) <= set(PARSING_NAMES)
    assert [part for part, group in GROUP_OF[taxonomy].items() if group == "background"] == ["background"]


@pytest.mark.parametrize(
    ("taxonomy", "number", "group"),
    [
        ("lip-20", 1, "headwear"), ("lip-20", 4, "headwear"), ("lip-20", 3, "arm"), ("lip-20", 7, "outerwear"),
        ("lip-20", 8, "footwear"), ("lip-20", 10, "dress"), ("lip-20", 11, "upper_clothes"),
        ("lip-20", 12, "lower_clothes"), ("lip-20", 14, "arm"), ("lip-20", 15, "arm"), ("lip-20", 16, "leg"),
        ("lip-20", 17, "leg"), ("lip-20", 18, "footwear"), ("cihp-20", 10, "arm"), ("deocclude-12", 11, "carried"),
    ],
)  # fmt: skip
def test_labels_map_to_expected_groups(taxonomy: str, number: int, group: str) -> None:
    labels = np.array([[0, number, UNKNOWN]], np.uint8)
    groups = to_parsing_groups(labels, taxonomy)
    assert groups.dtype == np.uint8
    assert groups.tolist() == [[0, PARSING_NAMES.index(group), UNKNOWN]]


def test_garments_of_the_same_name_are_grouped_alike() -> None:
    """What two datasets both have must be one thing to a network that is trained on both."""
    same = {name: name for name in ("hat", "hair", "sunglasses", "dress", "coat", "socks", "pants", "scarf", "skirt")}
    same |= {"glove": "gloves", "left_shoe": "shoes"}
    for part, garment in same.items():
        assert GROUP_OF["lip-20"][part] == PARSING_NAMES[garment_table([garment])[0]]


def test_out_of_range_label_is_rejected() -> None:
    with pytest.raises(InputError, match="labels of lip-20 are 0 to 19, got 20"):
        to_parsing_groups(np.array([[1, 20]], np.uint8), "lip-20")
