"""Memory of the process: what the allocator keeps, and what a network's error says of it."""

from __future__ import annotations

import ctypes
import sys


def give_back_memory() -> None:
    """Return memory that the allocator keeps for later to the system. Does nothing where the C library is not glibc."""
    if not sys.platform.startswith("linux"):
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
    if trim is not None:
        trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of ONNX Runtime, whose errors differ by their text alone, is a failed allocation."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(
        sign in text for sign in ("bad_alloc", "failed to allocate memory", "bfcarena")
    )
