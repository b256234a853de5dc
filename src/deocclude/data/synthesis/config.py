"""How scenes of one person are composed."""

from __future__ import annotations

from dataclasses import dataclass, field

from deocclude.data.synthesis.config_checks import check_ranges
from deocclude.data.synthesis.occluders import OCCLUDERS


@dataclass(frozen=True)
class SynthesisConfig:
    """How scenes are drawn. Probabilities are shares of scenes."""

    p_unoccluded: float = 0.28
    # hidden fraction ~ hidden_min + (hidden_max - hidden_min) * Beta(hidden_alpha, hidden_beta)
    hidden_min: float = 0.03
    hidden_max: float = 0.8
    hidden_alpha: float = 1.3
    hidden_beta: float = 1.9
    p_second_occluder: float = 0.25
    # kinds of occluder
    p_person: float = 0.22
    p_low: float = 0.25
    p_slab: float = 0.13
    p_other: dict[str, float] = field(default_factory=dict)  # of further kinds of OCCLUDERS, by name
    p_clutter: float = 0.45  # objects or people behind the person
    p_companion: float = 0.0  # one more person right behind the subject, of about the same height
    p_negative: float = 0.0  # a thing in the subject's place, prompted by its box: whoever completes it is wrong
    p_new_background: float = 0.45  # for people who have a photo of their own
    p_cut_by_edge: float = 0.28
    p_beyond_edge: float = 0.0  # of whole people so cut: the body is asked for beyond the edge too (--uncrop)
    max_rotation_deg: float = 10.0
    p_large_rotation: float = 0.08  # up to 60 degrees, for people on new backgrounds
    attempts: int = 7  # placements tried for one occluder; the nearest to the wanted hidden fraction is kept

    def __post_init__(self) -> None:
        check_ranges(self)
        unknown = sorted(set(self.p_other) - set(OCCLUDERS))
        if unknown:
            raise ValueError(f"p_other names no kind of occluder: {unknown[0]!r}, there are {', '.join(OCCLUDERS)}")
