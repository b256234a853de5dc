"""Memory and time of `deocclude data build-trainset` by the number of records.

    python benchmarks/build_memory.py 10000 100000

Generated records: each photo of a few drawn ones comes many times, under ids of its own, with one person in it. Prints
for each number the seconds, and the peak memory of the largest process; then of reading the set back, which opens it
anew, the seconds and the memory that is not a file's (`RssAnon`, Linux).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from deocclude.data.datasets.record import PhotoRecord, whole_person
from deocclude.data.datasets.records_file import write

PHOTOS = 32
SIZE_HW = (160, 128)
READS = 500

READ_BACK = f"""
import sys, time, numpy as np
from deocclude.data.sources.shards import ShardedPeople, ShardedRows
began = time.monotonic()
people = ShardedPeople(ShardedRows(sys.argv[1]))
opened = time.monotonic()
for number in np.random.default_rng(0).integers(0, len(people), {READS}):
    people[number]
status = dict(line.split(":") for line in open("/proc/self/status"))
anon_mb = int(status["RssAnon"].split()[0]) / 1024
took_ms = (time.monotonic() - opened) / {READS} * 1000
print(f"  read back: {{opened - began:.0f}} s to open, {{took_ms:.1f}} ms a person at random, {{anon_mb:.0f}} MB")
"""


def draw_photo(folder: Path, number: int) -> tuple[Path, np.ndarray]:
    """A photo of a standing figure, and its (H, W) bool mask."""
    rng = np.random.default_rng(number)
    mask = Image.new("L", SIZE_HW[::-1], 0)
    draw = ImageDraw.Draw(mask)
    x, y = 20 + int(rng.integers(0, 40)), 15 + int(rng.integers(0, 15))
    draw.ellipse((x + 14, y, x + 30, y + 20), fill=255)
    draw.rectangle((x + 8, y + 18, x + 36, y + 62), fill=255)
    draw.rectangle((x + 10, y + 60, x + 20, y + 115), fill=255)
    draw.rectangle((x + 24, y + 60, x + 34, y + 115), fill=255)
    body = np.asarray(mask) > 0
    photo = rng.integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8) // 4 + 90
    photo[body] = rng.integers(0, 256, 3)
    path = folder / f"{number}.jpg"
    Image.fromarray(photo).save(path)
    return path, body


def main() -> None:
    """Build a set of each number of records that the command line names."""
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn = [draw_photo(folder, number) for number in range(PHOTOS)]
        people = [whole_person("1", mask) for _, mask in drawn]
        for count in (int(argument) for argument in sys.argv[1:]):
            records = (
                PhotoRecord(
                    image=str(drawn[n % PHOTOS][0]), size_hw=SIZE_HW, source="drawn", id=str(n),
                    people=(people[n % PHOTOS],),
                )
                for n in range(count)
            )  # fmt: skip
            write(records, folder / "records.jsonl")
            out = folder / f"set{count}"
            words = ["data", "build-trainset", str(folder / "records.jsonl"), "-o", str(out), "--parser", "none", "-q"]
            began = time.monotonic()
            process = subprocess.Popen([sys.executable, "-m", "deocclude", *words])
            _, status, usage = os.wait4(process.pid, 0)
            if status:
                sys.exit("the build failed")
            size_mb = sum(path.stat().st_size for path in out.glob("*.parquet")) / 2**20
            print(
                f"{count} records: {time.monotonic() - began:.0f} s ({usage.ru_utime + usage.ru_stime:.0f} s of CPU), "
                f"{usage.ru_maxrss / 1024:.0f} MB at most in a process, {size_mb:.0f} MB of shards",
                flush=True,
            )
            subprocess.run([sys.executable, "-c", READ_BACK, str(out)], check=True)


if __name__ == "__main__":
    main()
