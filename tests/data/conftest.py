"""A data folder drawn once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from datafolder import draw_data_folder, drawn_library
from deocclude.data.sources.layers import Library


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn training folder; tests must not change it."""
    return draw_data_folder(tmp_path_factory.mktemp("drawn") / "data")


@pytest.fixture(scope="session")
def library(data_root: Path) -> Library:
    """Its training split, all sources."""
    return drawn_library(data_root)
