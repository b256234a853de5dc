"""From garments to parsing groups: the table, and skin split by its position."""

from __future__ import annotations

import numpy as np
import pytest

from datafolder import GARMENTS
from deocclude.data.datasets.parsing_groups import garment_table, to_groups
from deocclude.types import PARSING_NAMES

EXPECTED = {
    "null": "background", "hat": "headwear", "sunglasses": "headwear", "hair": "hair", "earrings": "hair",
    "skin": "arm", "watch": "arm", "gloves": "arm", "t-shirt": "upper_clothes", "scarf": "upper_clothes",
    "swimwear": "upper_clothes", "coat": "outerwear", "suit": "outerwear", "dress": "dress", "romper": "dress",
    "jeans": "lower_clothes", "skirt": "lower_clothes", "belt": "lower_clothes", "tights": "lower_clothes",
    "shoes": "footwear", "socks": "footwear", "boots": "footwear", "bag": "carried", "purse": "carried",
    "wallet": "carried",
}  # fmt: skip


def labels(picture: np.ndarray) -> np.ndarray:
    """Names of garments -> labels."""
    return np.vectorize(GARMENTS.index)(picture).astype(np.uint8)


def names(groups: np.ndarray) -> list[str]:
    return [PARSING_NAMES[g] for g in groups]


def test_every_garment_of_clothing_co_parsing_has_its_group() -> None:
    table = garment_table(list(GARMENTS))
    assert table.dtype == np.uint8 and table.shape == (59,)
    assert {g: PARSING_NAMES[table[GARMENTS.index(g)]] for g in EXPECTED} == EXPECTED
    assert (table == 0).sum() == 1, "only null is background"
    used = {PARSING_NAMES[g] for g in table}
    assert used == set(PARSING_NAMES) - {"face", "leg"}, "face and leg come from geometry alone"


def test_unknown_garment_is_rejected() -> None:
    with pytest.raises(ValueError, match="kimono, obi"):
        garment_table(["null", "kimono", "skin", "obi"])


def test_skin_is_split_by_where_it_is() -> None:
    """A body of 100 rows in a column; skin stands in it at different heights, apart from each other."""
    picture = np.full((104, 9), "null", dtype=object)
    picture[2:12, 4] = "hair"
    picture[12:62, 4] = "skin"  # touches the hair: face, neck, bare chest
    picture[62:102, 4] = "jeans"
    picture[47:62, 0] = "skin"  # a hand beside the body
    picture[47:82, 2] = "skin"  # reaches low: a hand on a leg
    picture[77:97, 8] = "skin"  # a leg
    groups = to_groups(labels(picture), list(GARMENTS))
    # shares of the body's height, rows 2 to 101: the face may end at 0.10 + 0.20, row 32
    assert names(groups[[2, 12, 32, 33, 61, 62], 4]) == ["hair", "face", "face", "arm", "arm", "lower_clothes"]
    assert names(groups[[47, 61], 0]) == ["arm", "arm"]
    assert names(groups[[47, 52, 53, 81], 2]) == ["arm", "arm", "leg", "leg"]
    assert set(groups[77:97, 8]) == {PARSING_NAMES.index("leg")}
    np.testing.assert_array_equal(groups > 0, picture != "null")


def test_a_face_without_hair_is_found_at_the_top() -> None:
    picture = np.full((100, 5), "null", dtype=object)
    picture[:14, 2] = "skin"
    picture[14:100, 2] = "dress"
    groups = to_groups(labels(picture), list(GARMENTS))
    assert set(names(groups[:14, 2])) == {"face"}


def test_labels_without_skin_need_no_split() -> None:
    picture = np.full((10, 4), "null", dtype=object)
    assert not to_groups(labels(picture), list(GARMENTS)).any()
    picture[2:8, 1] = "coat"
    groups = to_groups(labels(picture), list(GARMENTS))
    assert names(groups[2:8, 1]) == ["outerwear"] * 6
