"""The studio over drawn people: an application for HTTP tests, and a server for the browser."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from fastapi.testclient import TestClient

from deocclude.serve.studio.studio import Studio
from drawn_editing import DrawnPipeline
from studio_server import served, studio_app


def fill_by_mean(rgb: np.ndarray, hole: np.ndarray, *, grow_px: int = 0) -> np.ndarray:
    """In place of patches, whose search takes seconds."""
    filled = rgb.copy()
    filled[hole] = rgb[~hole].mean(0).astype(np.uint8)
    return filled


@pytest.fixture(scope="session", autouse=True)
def quick_background() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deocclude.imaging.background.fill_background", fill_by_mean)
        yield


@pytest.fixture
def client() -> TestClient:
    return TestClient(studio_app(Studio.of_pipeline(DrawnPipeline())))


@pytest.fixture(scope="session")
def studio_url() -> Iterator[str]:
    """The address of a running studio over drawn people."""
    with served(Studio.of_pipeline(DrawnPipeline())) as url:
        yield url


@pytest.fixture(scope="session")
def model_studio_url() -> Iterator[str]:
    """The address of a running studio with the package's own model, in a process of its own."""
    studio = Studio.of_settings()
    with served(studio) as url:
        yield url
    studio.close()
