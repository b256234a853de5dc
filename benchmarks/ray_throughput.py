"""Photos a second of `deocclude run --engine ray -j N` beside those of `-j N`, in turn on one machine.

    python benchmarks/ray_throughput.py --photos 60 --rounds 3

The photos are made from the bundled one: mirrored, brighter or darker, and with a bar in another place. A round is one
run of each kind. It needs a machine that does nothing else: beside other processes, those of Ray get another part of
the cores than those of -j. Printed are the load after each run, medians over the rounds, and of the ratios in a round:
of the whole command, and of the time from the first photos on, which leaves out how long Ray takes to start. Both must
write the same bytes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Timing:
    """One run.

    Attributes:
        whole_s: from the start of the process to its end.
        rate: photos a second, from the last of the skipped photos on.
    """

    whole_s: float
    rate: float


def make_photos(folder: Path, count: int) -> None:
    """Photos of one person behind a bar, no two alike."""
    with Image.open(str(files("deocclude") / "assets" / "astronaut.jpg")) as image:
        photo = np.asarray(image.convert("RGB"))
    height = photo.shape[0]
    for number in range(count):
        rng = np.random.default_rng(number)
        changed = photo[:, ::-1] if number % 2 else photo
        changed = np.clip(changed * rng.uniform(0.8, 1.2), 0, 255).astype(np.uint8)
        top = int(rng.uniform(0.45, 0.75) * height)
        changed[top : top + height // 12] = rng.integers(0, 256, 3)
        Image.fromarray(changed).save(folder / f"{number:04}.jpg", quality=92)


def timed(folder: Path, out: Path, options: Sequence[str], skipped: int) -> Timing:
    """Run the command; its lines tell when each photo is finished. skipped: first photos that `rate` leaves out."""
    command = [sys.executable, "-m", "deocclude", "run", str(folder), "-o", str(out), "--json", *options]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        at_s = [time.perf_counter() - began for _ in process.stdout]
    whole_s = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    return Timing(whole_s, (len(at_s) - skipped) / (at_s[-1] - at_s[skipped - 1]))


def files_of(folder: Path) -> dict[str, bytes]:
    """Content by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def main() -> None:
    """Time both engines in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-j", "--jobs", type=int, default=2)
    given = parser.parse_args()
    if given.photos <= 2 * given.jobs:
        parser.error("--photos must be above twice --jobs: the first two photos of each worker do not count")
    engines = {"processes": ["-j", str(given.jobs)], "ray": ["--engine", "ray", "-j", str(given.jobs)]}
    timings: dict[str, list[Timing]] = {name: [] for name in engines}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "photos")
        folder.mkdir()
        make_photos(folder, given.photos)
        for number in range(given.rounds):
            for engine, options in engines.items():
                done = timed(folder, Path(name, f"{engine}{number}"), options, skipped=2 * given.jobs)
                timings[engine].append(done)
                load = os.getloadavg()[0]
                print(f"round {number + 1}: {engine}: {done.whole_s:.1f} s, {done.rate:.3f} photos/s, load {load:.1f}")
        if files_of(Path(name, "processes0")) != files_of(Path(name, "ray0")):
            raise SystemExit("the engines wrote different files")
    print(
        f"\n| {given.photos} photos, {given.jobs} workers | seconds, whole command | photos/s, from the first ones on |"
    )
    print("|---|---|---|")
    for engine, found in timings.items():
        whole_s, rate = (statistics.median(getattr(one, name) for one in found) for name in ("whole_s", "rate"))
        print(f"| {engine} | {whole_s:.1f} | {rate:.2f} |")
    pairs = list(zip(timings["processes"], timings["ray"], strict=True))
    whole = statistics.median(a.whole_s / b.whole_s for a, b in pairs)
    print(f"| ray over processes | {whole:.2f} | {statistics.median(b.rate / a.rate for a, b in pairs):.2f} |")


if __name__ == "__main__":
    main()
