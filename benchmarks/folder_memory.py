"""Memory of `deocclude run FOLDER` by the number of photos, and its peak on 12-megapixel photos. Linux.

    python benchmarks/folder_memory.py [--photos 2000] [--large 12]

The photos are the demo's portrait behind its plant, drawn anew in slightly different colours, with a mask each. While a
folder is worked on, the resident memory of the command and of all its processes is read several times a second and
added up: pages that two processes share count twice.

* Many photos of 320 x 240 pixels, `-j 1 --complete never`: the slope of memory over finished photos by least squares,
  after the first 200. The goal is under 10 kB a photo.
* Photos of 4000 x 3000 pixels, `-j 2`, with masks and with detected people: the peak. The goal is at most 900 MB.

Prints Markdown tables, and exits with 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from deocclude.evaluation.demo_scene import make_scene

SMALL_WH, LARGE_WH = (320, 240), (4000, 3000)
WARM_UP_PHOTOS = 200
SLOPE_GOAL_KB, PEAK_GOAL_MB = 10.0, 900.0
_EVERY_S = 0.1


@dataclass(frozen=True)
class Sample:
    """Memory at one moment.

    Attributes:
        photos: finished ones.
        rss_kb: resident memory of each process, the command first.
    """

    photos: int
    rss_kb: tuple[int, ...]


def write_photos(folder: Path, count: int, size_wh: tuple[int, int]) -> None:
    """Photos in photos/ as JPEG, and masks in masks/."""
    scene = make_scene()
    photo = np.asarray(Image.fromarray(scene.photo).resize(size_wh, Image.Resampling.LANCZOS))
    mask = Image.fromarray(scene.visible).resize(size_wh, Image.Resampling.NEAREST)
    for name in ("photos", "masks"):
        (folder / name).mkdir()
    for number in range(count):
        tinted = (photo * np.array([1 - number % 7 / 20, 1 - number % 11 / 30, 1 - number % 13 / 40])).astype(np.uint8)
        Image.fromarray(tinted).save(folder / "photos" / f"{number:05}.jpg", quality=90)
        mask.save(folder / "masks" / f"{number:05}.png", compress_level=1)


def run_sampled(folder: Path, *options: str) -> tuple[list[Sample], float]:
    """Run a folder and sample its memory until it ends.

    Returns:
        The samples, and the seconds that it took.
    """
    command = [sys.executable, "-m", "deocclude", "run", str(folder / "photos"), "--json", *options]
    samples = []
    begun = time.monotonic()
    with open(folder / "reports", "wb") as reports, open(folder / "reports", "rb") as read:
        process = subprocess.Popen([*command, "-o", str(folder / "out"), "--overwrite"], stdout=reports)
        photos = 0
        while process.poll() is None:
            photos += read.read().count(b'"status": "done"')
            samples.append(Sample(photos, tuple(resident_kb(process.pid))))
            time.sleep(_EVERY_S)
        photos += read.read().count(b'"status": "done"')
    if process.returncode or photos != len(list((folder / "photos").iterdir())):
        raise RuntimeError(f"the run ended with {process.returncode} after {photos} photos")
    return samples, time.monotonic() - begun


def resident_kb(pid: int) -> Iterator[int]:
    """Resident memory of a process and of those below it."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        children = [
            word for task in Path(f"/proc/{pid}/task").iterdir() for word in (task / "children").read_text().split()
        ]
    except OSError:  # it has ended
        return
    # a process that has ended and is not waited for has no memory
    yield sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
    for child in children:
        yield from resident_kb(int(child))


def slope_kb(samples: Sequence[Sample], which: slice = slice(None)) -> float:
    """kB a photo by least squares after the warm-up. which: the processes that are added up, in `Sample.rss_kb`."""
    late = [sample for sample in samples if sample.photos >= WARM_UP_PHOTOS]
    photos = [sample.photos for sample in late]
    return float(np.polyfit(photos, [sum(sample.rss_kb[which]) for sample in late], 1)[0])


def measure_slope(photos: int) -> bool:
    """Print the table of many small photos; whether the goal is met."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photos(folder, photos, SMALL_WH)
        samples, seconds = run_sampled(folder, "--mask", str(folder / "masks"), "-j", "1", "--complete", "never")
    print(f"{photos} photos of {SMALL_WH[0]}x{SMALL_WH[1]} with masks, -j 1, {seconds:.0f} s:\n")
    print("| finished photos | memory of all processes |\n|---|---|")
    for step in range(1, 6):
        at = photos * step // 5 if step < 5 else photos - 1
        sample = min(samples, key=lambda one: abs(one.photos - at))
        print(f"| {sample.photos} | {sum(sample.rss_kb) / 1024:.0f} MB |")
    whole = slope_kb(samples)
    print(f"\nSlope after {WARM_UP_PHOTOS} photos: {whole:.2f} kB a photo, of which the command itself "
          f"{slope_kb(samples, slice(0, 1)):.2f} (goal: under {SLOPE_GOAL_KB:g}).\n")  # fmt: skip
    return whole < SLOPE_GOAL_KB


def measure_peak(photos: int) -> bool:
    """Print the table of large photos; whether the goal is met."""
    holds = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photos(folder, photos, LARGE_WH)
        print(f"{photos} photos of {LARGE_WH[0]}x{LARGE_WH[1]}, -j 2 (goal: at most {PEAK_GOAL_MB:g} MB):\n")
        print("| people | peak of all processes together | of one process | time |\n|---|---|---|---|")
        for people, options in (("masks", ("--mask", str(folder / "masks"))), ("detected", ())):
            samples, seconds = run_sampled(folder, *options, "-j", "2")
            peak_mb = max(sum(sample.rss_kb) for sample in samples) / 1024
            largest_mb = max(max(sample.rss_kb, default=0) for sample in samples) / 1024
            print(f"| {people} | {peak_mb:.0f} MB | {largest_mb:.0f} MB | {seconds:.0f} s |", flush=True)
            holds &= peak_mb <= PEAK_GOAL_MB
    return holds


def main() -> int:
    """Print both tables.

    Returns:
        The exit code: 1 where a goal is missed.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=2000, help="small photos; 0: none")
    parser.add_argument("--large", type=int, default=12, help="photos of 12 megapixels; 0: none")
    arguments = parser.parse_args()
    if 0 < arguments.photos < 2 * WARM_UP_PHOTOS:
        parser.error(f"--photos must be 0 or at least {2 * WARM_UP_PHOTOS}: the slope is that after {WARM_UP_PHOTOS}")
    held = [measure_slope(arguments.photos)] if arguments.photos else []
    held += [measure_peak(arguments.large)] if arguments.large else []
    return int(not all(held))


if __name__ == "__main__":
    sys.exit(main())
