"""Whether this process, and every process that it starts, must not use the network."""

from __future__ import annotations

import os

OFFLINE_VARIABLE = "DEOCCLUDE_OFFLINE"
"""Environment variable that `--offline` sets, beside HF_HUB_OFFLINE of the Hugging Face hub."""


def is_offline() -> bool:
    """Whether DEOCCLUDE_OFFLINE is set to anything but 0."""
    return os.environ.get(OFFLINE_VARIABLE, "0") not in ("", "0")
