"""How scenes of one person are composed, and the range checks that all configs of drawn samples share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from deocclude.data.synthesis.occluders import OCCLUDERS

_OF_FIELDS = ("person", "low", "slab", "object")  # kinds of occluder whose shares are no entries of `p_other`
_ROUNDING = 1e-9  # by which a sum of shares may exceed 1


def check_ranges(config: Any, rising: tuple[str, ...] = ()) -> None:
    """Check that each field `p_...` is within 0 to 1, and that each pair in `rising` ascends.

    Args:
        config: the dataclass instance.
        rising: names of fields that hold a (low, high) pair, or None.

    Raises:
        ValueError: a field `p_...` is outside 0 to 1, or a pair named in `rising` falls.
    """
    for name, value in vars(config).items():
        if name.startswith("p_") and isinstance(value, (int, float)) and not 0 <= value <= 1:
            raise ValueError(f"{name} is a share from 0 to 1, got {value:g}")
        if name in rising and value is not None and not value[0] <= value[1]:
            raise ValueError(f"{name} must rise from low to high, got {list(value)}")


@dataclass(frozen=True)
class SynthesisConfig:
    """How scenes are drawn. Probabilities `p_...`, 0 to 1, are shares of scenes, or of what the comment names first."""

    p_unoccluded: float = 0.28
    # hidden fraction ~ hidden_min + (hidden_max - hidden_min) * Beta(hidden_alpha, hidden_beta)
    hidden_min: float = 0.03
    hidden_max: float = 0.8
    hidden_alpha: float = 1.3
    hidden_beta: float = 1.9
    p_second_occluder: float = 0.25  # of occluded scenes
    # of occluders, their kinds; the remaining share is `object`
    p_person: float = 0.22
    p_low: float = 0.25  # lower-body occluders
    p_slab: float = 0.13  # rectangular occluders
    p_other: dict[str, float] = field(default_factory=dict)  # shares of further kinds of OCCLUDERS, by name
    p_clutter: float = 0.45  # objects or distractors behind the person
    p_companion: float = 0.0  # one more person right behind the subject, of about the same height
    p_negative: float = 0.0  # negative prompts: the box of an object in place of a person; nothing is to be completed
    p_new_background: float = 0.45  # a new background for people who have a photo of their own
    p_cut_by_edge: float = 0.28  # the image border truncates the person
    p_beyond_edge: float = 0.0  # of truncated whole people: the amodal mask reaches beyond the image border (--uncrop)
    max_rotation_deg: float = 10.0
    p_large_rotation: float = 0.08  # of people who are not in their own photo: rotation by up to 60 degrees
    attempts: int = 7  # placements tried for one occluder; the one nearest to the drawn hidden fraction is kept

    def __post_init__(self) -> None:
        check_ranges(self)
        unknown = sorted(set(self.p_other) - set(OCCLUDERS))
        if unknown:
            raise ValueError(f"p_other names no kind of occluder: {unknown[0]!r}, there are {', '.join(OCCLUDERS)}")
        for kind, share in self.p_other.items():
            if kind in _OF_FIELDS:
                raise ValueError(f"p_other is of further kinds of occluder: the share of {kind!r} is set without it")
            if not 0 <= share <= 1:
                raise ValueError(f"p_other.{kind} is a share from 0 to 1, got {share:g}")
        total = self.p_person + self.p_low + self.p_slab + sum(self.p_other.values())
        if total > 1 + _ROUNDING:
            raise ValueError(f"p_person, p_low, p_slab and p_other must sum to at most 1, got {total:g}")
