"""COCO's run-length encoding of masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deocclude.errors import InputError, shown
from deocclude.imaging.arrays import Mask

_MOST_BITS = 60  # of a run length; the time to read longer ones grows with their square


def encode_rle_counts(mask: Mask) -> list[int]:
    """COCO run lengths of a mask, column by column.

    Args:
        mask: (H, W) bool; of another type, every value but 0 is True.

    Returns:
        Run lengths, zeros first: the first count is 0 where pixel (0, 0) is True.
    """
    columns = np.ravel(mask, order="F").astype(bool, copy=False).view(np.int8)
    changes = np.flatnonzero(np.diff(columns)) + 1
    counts: list[int] = np.diff(changes, prepend=0, append=columns.size).tolist()
    return [0, *counts] if columns.size and columns[0] else counts


def decode_rle_counts(counts: Sequence[int], size_hw: tuple[int, int]) -> Mask:
    """The mask of COCO run lengths.

    Args:
        counts: run lengths, zeros first, column by column.
        size_hw: the image's size.

    Returns:
        (H, W) bool, in Fortran order.

    Raises:
        InputError: a count is negative, or the counts do not add up to H * W.
    """
    if min(counts, default=0) < 0:
        raise InputError(f"run lengths must be 0 or more, got {shown(min(counts))}")
    if sum(counts) != size_hw[0] * size_hw[1]:
        raise InputError(f"run lengths must add up to {size_hw[0]}x{size_hw[1]} pixels, got {shown(sum(counts))}")
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(size_hw, order="F")


def encode_rle(mask: Mask) -> dict[str, Any]:
    """COCO's compressed form of a mask.

    Args:
        mask: (H, W) bool.

    Returns:
        `{"size": [H, W], "counts": str}`.
    """
    counts = encode_rle_counts(mask)
    letters = bytearray()
    for index, count in enumerate(counts):
        # From the fourth on a count is stored as the difference from the count two before: columns resemble their
        # neighbours.
        value = count - counts[index - 2] if index > 2 else count
        while True:
            low, value = value & 31, value >> 5
            # Five bits a letter; bit 6 says that more letters follow. The last letter's fifth bit is the sign.
            done = value == (-1 if low & 16 else 0)
            letters.append(48 + (low if done else low | 32))
            if done:
                break
    return {"size": list(mask.shape), "counts": letters.decode("ascii")}


def decode_rle(rle: dict[str, Any]) -> Mask:
    """The mask of a COCO run-length object.

    Args:
        rle: `size` is [H, W]; `counts` is a compressed string or a list of run lengths.

    Returns:
        (H, W) bool.

    Raises:
        InputError: the string is damaged, or one of its counts is longer than any image; or as `decode_rle_counts`.
    """
    height, width = rle["size"]
    if not isinstance(rle["counts"], str):
        return decode_rle_counts(rle["counts"], (height, width))
    counts: list[int] = []
    value = shift = 0
    if not rle["counts"].isascii():
        raise InputError(f"compressed run lengths must be ASCII letters, got {shown(rle['counts'])}")
    for letter in rle["counts"].encode("ascii"):
        bits = letter - 48
        value |= (bits & 31) << shift
        shift += 5
        if shift > _MOST_BITS:
            raise InputError(f"a run length has more than {_MOST_BITS} bits")
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    if shift:
        raise InputError("the last run length is incomplete")
    return decode_rle_counts(counts, (height, width))
