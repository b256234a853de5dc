"""How many CPU cores this process may use: fewer than the machine has, in a container or with taskset.

ONNX Runtime gets that number of threads from `runtime.open_networks`, numpy's BLAS from `limit_blas`.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

MAX_AT_ONCE = 1024
"""Most threads of a network, and most processes: more than a machine has cores, and less than it has threads."""


def usable_cores(root: Path = Path("/")) -> int:
    """CPU cores of this process, 1 or more.

    The least of the process's affinity, the CPU quota of its control groups (a container's limit, rounded up), and
    OMP_NUM_THREADS.

    Args:
        root: where `proc` and `sys` are mounted.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [cores, *(math.ceil(quota) for quota in _quotas(root))]
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # a list has one number for each nested level
    if first.isdigit():
        limits.append(int(first))
    return max(1, min(limits))


def limit_blas(threads: int) -> None:
    """Limit numpy's BLAS (OpenBLAS or another) to a number of threads in the whole process; it never raises the number.

    BLAS follows the affinity by itself, but not a CPU quota: surplus threads would use up the quota while they wait for
    each other.
    """
    from threadpoolctl import ThreadpoolController

    for library in ThreadpoolController().select(user_api="blas").lib_controllers:
        if library.num_threads > threads:
            library.set_num_threads(threads)


def _quotas(root: Path) -> Iterator[float]:
    """CPU quotas in cores of the process's control group and of every group around it, versions 2 and 1."""
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # no Linux
        return
    mounted = root / "sys/fs/cgroup"
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            folder = mounted
        elif "cpu" in controllers.split(","):
            folder = mounted / controllers if (mounted / controllers).is_dir() else mounted / "cpu"
        else:
            continue
        # in a container, the group's own folder is often mounted as the top one: the parents of its path are read too
        inner = Path(path.lstrip("/"))
        for group in (inner, *inner.parents):
            yield from _quota_of(folder / group)


def _quota_of(group: Path) -> Iterator[float]:
    """The quota of one control group; nothing where it has none."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            text = " ".join((group / name).read_text() for name in names)
        except OSError:
            continue
        if match := re.fullmatch(r"\s*(\d+)\s+(\d+)\s*", text):  # "max" and -1 are no limit
            quota, period = int(match[1]), int(match[2])
            if quota and period:
                yield quota / period
