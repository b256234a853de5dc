"""Which body parts may be copied from which, and how much of a hidden part is visible elsewhere on the body."""

from __future__ import annotations

import numpy as np

from deocclude.imaging.arrays import Float32, Mask, Probability
from deocclude.types import PARSING_NAMES

_FACE = "face"
# skin is copied from skin, but never to the face
_SKIN = {"arm": ("leg", _FACE), "leg": ("arm", _FACE)}
# stage 1 confuses these garments with each other, and one garment may be labelled as two of them
_GARMENTS = ("upper_clothes", "outerwear", "dress")
_ALIKE = {name: tuple(other for other in _GARMENTS if other != name) for name in _GARMENTS}
_ALIKE["dress"] += ("lower_clothes",)
_ALIKE["lower_clothes"] = ("dress",)
# A part with this many visible parsing cells, of 16 crop pixels each, can be copied fully.
_ENOUGH_CELLS = 8.0


def _copyable() -> Float32:
    """(12, 12) float32: 1 where the part of the row may be copied from the part of the column.

    A face is never copied: its hidden part keeps the network's smooth skin.
    """
    table = np.zeros((len(PARSING_NAMES),) * 2, np.float32)
    for number, name in enumerate(PARSING_NAMES[1:], start=1):
        for other in () if name == _FACE else (name, *_SKIN.get(name, ()), *_ALIKE.get(name, ())):
            table[number, PARSING_NAMES.index(other)] = 1
    return table


_COPYABLE = _copyable()  # see `_copyable`


def copy_support(visible: Mask, visible_parsing: Probability, amodal_parsing: Probability) -> Probability:
    """How well the visible body can supply each place: the share of its body parts that have enough visible sources.

    Args:
        visible: (S, S) bool.
        visible_parsing: (12, S/4, S/4) float32 probabilities; the background's share does not matter.
        amodal_parsing: (12, S/4, S/4) float32 probabilities; the background's share does not matter.

    Returns:
        (S/4, S/4) float32, 0 to 1.
    """
    cells = visible_parsing.shape[1:]
    blocks = visible.reshape(cells[0], visible.shape[0] // cells[0], cells[1], visible.shape[1] // cells[1])
    visible_parts = proportions(visible_parsing) * blocks.mean(axis=(1, 3), dtype=np.float32)
    # (12,), 0 to 1: visible cells from which each part may be copied, over _ENOUGH_CELLS
    part_support = np.minimum(1, _COPYABLE @ visible_parts.sum(axis=(1, 2)) / _ENOUGH_CELLS)
    support: Probability = np.einsum("p,phw->hw", part_support, proportions(amodal_parsing)).astype(np.float32)
    return support


def proportions(parsing: Probability) -> Probability:
    """A parsing, (12, ...), without background: the parts of each place sum to 1."""
    parts: Probability = parsing.copy()
    parts[0] = 0
    normalised: Probability = parts / np.maximum(parts.sum(axis=0), np.float32(1e-6))
    return normalised
