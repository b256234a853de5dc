"""Who is kept for validation, where a dataset does not say: a share of one in six, the same in every run."""

from __future__ import annotations

import zlib

ONE_IN = 6


def held_out(name: str, one_in: int = ONE_IN) -> bool:
    """Whether a cut-out, photo or background is kept for validation: a fixed share, by a hash of its name."""
    return zlib.crc32(name.encode()) % one_in == 0


def every_sixth(number: int) -> bool:
    """Whether photo `number` of a dataset, from 0 in its own order, is kept for validation: of few photos, some are."""
    return number % ONE_IN == ONE_IN - 1
