"""Methods that take the initial mask for what is seen, and do not repair it."""

from __future__ import annotations

from torch import Tensor

_CERTAIN = 20.0  # a logit whose probability is 0 or 1 to eight digits


def as_given(initial: Tensor) -> Tensor:
    """The initial mask, (B, 1, S, S) in {0, 1}, as logits that are certain of it; no gradient."""
    return (initial.detach() * 2 - 1) * _CERTAIN
