"""An S3 server and a Ray cluster of two workers, each once for the tests of a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from deocclude.scale.cluster import cluster
from object_store import Bucket, s3_server


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with s3_server() as served:
        yield served


@pytest.fixture(scope="module")
def two_workers(bucket: Bucket) -> Iterator[int]:
    """Runs use this cluster; its actors find the server and the tests' segmenter by their environment."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        with cluster("local", 2, 1) as workers:
            yield workers
