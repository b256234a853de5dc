"""Freed memory goes back to the system where the C library can do so, and nothing happens elsewhere."""

import ctypes
from types import SimpleNamespace

import pytest

from deocclude.inference import memory


@pytest.fixture(autouse=True)
def _anew():
    memory._trim.cache_clear()
    yield
    memory._trim.cache_clear()


def test_glibc_is_asked_to_keep_nothing(monkeypatch):
    pads = []
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(malloc_trim=pads.append))
    memory.give_back_freed()
    memory.give_back_freed()
    assert pads == [0, 0]


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_other_systems_are_left_alone(monkeypatch, platform):
    asked = []
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: asked.append(name) or SimpleNamespace())
    memory.give_back_freed()
    assert asked == ([None] if platform == "linux" else [])
