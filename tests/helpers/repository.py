"""Where the repository's own files lie, for tests that read documents and configs."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
