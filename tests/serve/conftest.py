"""One server of the stub pipeline for all tests that leave it as it is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stub_service import Running, running


@pytest.fixture(scope="session")
def stub() -> Iterator[Running]:
    limits = {"max_bytes": 200_000, "max_pixels": 10_000, "max_masks": 3, "body_timeout_s": 1.0, "grace_s": 1.5}
    with running(workers=2, queue=40, **limits) as server:
        yield server
