"""Photos a second of folder runs: one process, with one thread too, two, and another commit's one, in turn.

    python benchmarks/folder_throughput.py [COMMIT] --photos 60 --rounds 3

The photos are those of ray_throughput.py. A round is one run of each kind, of the whole command. Printed are medians
over the rounds, and the medians of the ratios in a round. COMMIT's package and weights run with this Python's packages.
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

from ray_throughput import make_photos

ROOT = Path(__file__).parents[1]


def seconds(root: Path, photos: Path, out: Path, options: list[str]) -> float:
    """Wall time of a folder run as a whole command, with the package of a checkout."""
    command = [sys.executable, "-m", "deocclude", "run", str(photos), "-o", str(out), "-q", *options]
    began = time.perf_counter()
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(root / "src")}, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Time all kinds in turn and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("commit", nargs="?", help="what to compare one process with; default: nothing")
    parser.add_argument("--photos", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, photos = Path(name), Path(name, "photos")
        photos.mkdir()
        make_photos(photos, given.photos)
        kinds = {"-j 1": (ROOT, []), "-j 1 --threads 1": (ROOT, ["--threads", "1"]), "-j 2": (ROOT, ["-j", "2"])}
        if given.commit:
            other = folder / "other"
            subprocess.run(["git", "worktree", "add", "--detach", other, given.commit], cwd=ROOT, check=True)
            kinds[f"{given.commit}, one process"] = (other, [])
        try:
            times: dict[str, list[float]] = {kind: [] for kind in kinds}
            for number in range(given.rounds):
                for kind, (root, options) in kinds.items():
                    times[kind].append(seconds(root, photos, folder / f"{number} {kind.replace('/', '_')}", options))
                    print(f"round {number + 1}: {kind}: {times[kind][-1]:.1f} s, load {os.getloadavg()[0]:.1f}")
        finally:
            if given.commit:
                subprocess.run(["git", "worktree", "remove", "--force", other], cwd=ROOT, check=True)
    print(f"\n| {given.photos} photos | seconds | photos/s | its time over that of -j 1 |\n|---|---|---|---|")
    for kind, found in times.items():
        ratio = statistics.median(one / first for one, first in zip(found, times["-j 1"], strict=True))
        print(
            f"| {kind} | {statistics.median(found):.1f} | {given.photos / statistics.median(found):.2f} | {ratio:.2f} |"
        )


if __name__ == "__main__":
    main()
