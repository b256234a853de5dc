"""Whether the numbers that say how samples are drawn can be what they say."""

from __future__ import annotations

from typing import Any


def check_ranges(config: Any, rising: tuple[str, ...] = ()) -> None:
    """ValueError for a field `p_...` outside 0 to 1, or one named in `rising` whose (low, high) falls."""
    for name, value in vars(config).items():
        if name.startswith("p_") and isinstance(value, (int, float)) and not 0 <= value <= 1:
            raise ValueError(f"{name} is a share from 0 to 1, got {value:g}")
        if name in rising and value is not None and not value[0] <= value[1]:
            raise ValueError(f"{name} must rise from low to high, got {list(value)}")
