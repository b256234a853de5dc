"""Which body parts may be copied from which, and how much of a hidden part is seen elsewhere on the body."""

from __future__ import annotations

import numpy as np

from deocclude.types import PARSING_NAMES

_FACE = "face"
_SKIN = {"arm": ("leg", _FACE), "leg": ("arm", _FACE)}
# stage 1 takes them for each other, and a garment of one may reach down into the other
_GARMENTS = ("upper_clothes", "outerwear", "dress")
_ALIKE = {name: tuple(other for other in _GARMENTS if other != name) for name in _GARMENTS}
_ALIKE["dress"] += ("lower_clothes",)
_ALIKE["lower_clothes"] = ("dress",)
# A part of which this many cells of the parsing are seen, 16 pixels of the crop each, can be copied in full.
_ENOUGH_CELLS = 8.0


def _copyable() -> np.ndarray:
    """(12, 12) float32: 1 where the part of the row may be copied from the part of the column.

    A face is copied from nowhere: what is hidden of it stays the smooth skin that the network makes of it.
    """
    table = np.zeros((len(PARSING_NAMES),) * 2, np.float32)
    for number, name in enumerate(PARSING_NAMES[1:], start=1):
        for other in () if name == _FACE else (name, *_SKIN.get(name, ()), *_ALIKE.get(name, ())):
            table[number, PARSING_NAMES.index(other)] = 1
    return table


_COPYABLE = _copyable()


def copy_support(visible: Mask, visible_parsing: Probability, amodal_parsing: Probability) -> np.ndarray:
    """(S/4, S/4) float32, 0 to 1: how far each place's parts may be copied and are seen.

    visible: (S, S) bool; visible_parsing, amodal_parsing: (12, S/4, S/4) float32 probabilities, of which the parts'
    proportions count, not the background's share.
    """
    cells = visible_parsing.shape[1:]
    blocks = visible.reshape(cells[0], visible.shape[0] // cells[0], cells[1], visible.shape[1] // cells[1])
    seen = proportions(visible_parsing) * blocks.mean(axis=(1, 3), dtype=np.float32)
    supported = np.minimum(1, _COPYABLE @ seen.sum(axis=(1, 2)) / _ENOUGH_CELLS)
    return np.einsum("p,phw->hw", supported, proportions(amodal_parsing)).astype(np.float32)


def proportions(parsing: Probability) -> np.ndarray:
    """The parsing, (12, ...), without background, each place's parts summing to 1."""
    parts = parsing.copy()
    parts[0] = 0
    return parts / np.maximum(parts.sum(axis=0), np.float32(1e-6))
