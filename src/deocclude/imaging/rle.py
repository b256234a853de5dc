"""Run-length encoding of masks, as COCO has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deocclude.errors import InputError


def encode_rle_counts(mask: np.ndarray) -> list[int]:
    """COCO run lengths of an (H, W) bool mask: down the columns, zeros first (a leading 0 when pixel (0, 0) is set)."""
    columns = np.ravel(mask, order="F").view(np.int8)
    changes = np.flatnonzero(np.diff(columns)) + 1
    counts = np.diff(changes, prepend=0, append=columns.size).tolist()
    return [0, *counts] if columns.size and columns[0] else counts


def decode_rle_counts(counts: Sequence[int], size_hw: tuple[int, int]) -> np.ndarray:
    """(H, W) bool mask of COCO run lengths. Raises InputError when they do not add up to the picture's pixels."""
    if sum(counts) != size_hw[0] * size_hw[1]:
        raise InputError(f"run lengths must add up to {size_hw[0]}x{size_hw[1]} pixels, got {sum(counts)}")
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(size_hw, order="F")


def encode_rle(mask: np.ndarray) -> dict[str, Any]:
    """COCO's compressed form of an (H, W) bool mask: `{"size": [H, W], "counts": str}`."""
    counts = encode_rle_counts(mask)
    letters = bytearray()
    for index, count in enumerate(counts):
        # From the fourth on a count is stored as its difference from the one two before: neighbouring columns look
        # alike.
        value = count - counts[index - 2] if index > 2 else count
        while True:
            low, value = value & 31, value >> 5
            # Five bits a letter, bit 6 says that more follow; the last letter's fifth bit is the sign.
            done = value == (-1 if low & 16 else 0)
            letters.append(48 + (low if done else low | 32))
            if done:
                break
    return {"size": list(mask.shape), "counts": letters.decode("ascii")}


def decode_rle(rle: dict[str, Any]) -> np.ndarray:
    """(H, W) bool mask of a COCO run-length mask, whose `counts` may be a compressed string or a list."""
    height, width = rle["size"]
    if not isinstance(rle["counts"], str):
        return decode_rle_counts(rle["counts"], (height, width))
    counts: list[int] = []
    value = shift = 0
    for letter in rle["counts"].encode("ascii"):
        bits = letter - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    return decode_rle_counts(counts, (height, width))
