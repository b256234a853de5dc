"""A Person of known pixels, for tests of what is made of people."""

from __future__ import annotations

import numpy as np

from deocclude.imaging.crop import Region
from deocclude.types import Person


def make_person(photo: np.ndarray, number: int = 1, left: int = 4, hidden_from: int = 8) -> Person:
    """A body of rows 2 to 14 and 6 columns from `left`, hidden from row `hidden_from` on, where it is all 100."""
    region = Region(0, left - 2, 16, left + 8)
    amodal = np.zeros(region.size_hw, bool)
    amodal[2:14, 2:8] = True
    visible = amodal.copy()
    visible[hidden_from:] = False
    hidden = Region(hidden_from, left, 14, left + 6) if hidden_from < 14 else Region(0, 0, 0, 0)
    return Person(
        id=number,
        score=0.75,
        hidden_probability=0.875,
        photo=photo,
        region=region,
        visible_part=visible,
        amodal_part=amodal,
        amodal_prob_part=amodal * np.uint8(204),
        parsing_part=amodal * np.uint8(6),
        hidden_region=hidden,
        hidden_rgb=np.full((*hidden.size_hw, 3), 100, np.uint8),
    )
