"""Memory of the process: what the allocator keeps, and what a network's error says of it."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache


def give_back_freed() -> None:
    """Give memory that is free inside this process back to the system; takes about a millisecond.

    glibc keeps what is freed below memory that is in use, up to 130 MB after a photo of 12 megapixels. Other systems
    are left to themselves.
    """
    _trim()(0)


@cache
def _trim() -> Callable[[int], object]:
    """glibc's `malloc_trim`, or a function that does nothing."""
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            return trim  # type: ignore[no-any-return]
    return lambda _: None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of ONNX Runtime, whose errors differ by their text alone, is a failed allocation."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(
        phrase in text for phrase in ("bad_alloc", "failed to allocate memory", "bfcarena")
    )
