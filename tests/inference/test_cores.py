"""Cores of a process: affinity, quotas of control groups, and OMP_NUM_THREADS."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from threadpoolctl import ThreadpoolController

from deocclude.inference import cores
from deocclude.inference.cores import limit_blas, usable_cores


@pytest.fixture(autouse=True)
def sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


def machine(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    """A drawn /proc and /sys."""
    for name, text in {"proc/self/cgroup": cgroup, **{f"sys/fs/cgroup/{n}": t for n, t in files.items()}}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("0::/\n", {}, 16),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 16),
        ("0::/\n", {"cpu.max": "100000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "10000 100000\n"}, 1),
        ("0::/pods/one\n", {"pods/cpu.max": "400000 100000\n", "pods/one/cpu.max": "max 100000\n"}, 4),
        ("4:cpu,cpuacct:/a\n1:x:/\n", {"cpu/a/cpu.cfs_quota_us": "300000", "cpu/a/cpu.cfs_period_us": "100000"}, 3),
        ("4:cpu,cpuacct:/\n", {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 16),
    ],
)  # fmt: skip
def test_cpu_quota_limits_the_cores(cgroup: str, files: dict[str, str], expected: int, tmp_path: Path) -> None:
    assert usable_cores(machine(tmp_path, cgroup, files)) == expected


def test_affinity_limits_the_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5}, raising=False)
    assert usable_cores(tmp_path) == 1


@pytest.mark.parametrize(("value", "expected"), [("3", 3), ("2,4", 2), ("64", 16), ("0", 1), ("", 16), ("many", 16)])
def test_omp_num_threads_limits_the_cores(
    value: str, expected: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert usable_cores(tmp_path) == expected


def test_blas_gets_no_more_threads_than_the_cores() -> None:
    blas = ThreadpoolController().select(user_api="blas")
    with blas.limit(limits=2):
        limit_blas(3)
        assert {row["num_threads"] for row in blas.info()} <= {1, 2}, "fewer stay as they are"
        limit_blas(1)
        assert {row["num_threads"] for row in blas.info()} == {1}


def test_machine_without_control_groups_has_its_cores(tmp_path: Path) -> None:
    assert usable_cores(tmp_path / "none") == 16
    assert not list(cores._quotas(tmp_path / "none"))
