"""On one core of many: the first photo's time beside that with --threads 1, as a ratio of pairs.

    python benchmarks/few_cores.py [PHOTO] [--pairs 5]

`deocclude run` recovers one photo in a process that may use one core alone (as with `taskset -c 0`) and chooses its
threads by itself; then in the same way with --threads 1. The two take turns. A ratio of 1.3 is the most that is meant.
On Linux.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from deocclude.evaluation.demo_scene import make_scene
from deocclude.io.images import save_image


def seconds(photo: Path, folder: Path, *options: str) -> float:
    """Wall time of `deocclude run` as a whole process that may use one core."""
    command = [sys.executable, "-m", "deocclude", "run", str(photo), "-o", str(folder), "--overwrite", "-q", *options]
    core = min(os.sched_getaffinity(0))
    started = time.perf_counter()
    subprocess.run(command, check=True, preexec_fn=lambda: os.sched_setaffinity(0, {core}))
    return time.perf_counter() - started


def main() -> None:
    """Measure and print the pairs and the median of their ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photo", nargs="?", type=Path, help="default: the demo's portrait behind its plant")
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photo = arguments.photo or save_image(make_scene().photo, folder / "photo.png")
        seconds(photo, folder / "out")  # files come from the disk once
        pairs = [
            (seconds(photo, folder / "out"), seconds(photo, folder / "out", "--threads", "1"))
            for _ in range(arguments.pairs)
        ]
    for own, one in pairs:
        print(f"one core, own choice {own:.2f} s; --threads 1 {one:.2f} s; ratio {own / one:.2f}")
    print(f"median ratio {statistics.median(own / one for own, one in pairs):.2f}, of {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
