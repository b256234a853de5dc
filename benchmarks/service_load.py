"""Load on the service: `python benchmarks/service_load.py [--requests 2000] [--rounds 5]`

Starts `deocclude serve` and prints one JSON line with

* with photos of 1 megapixel, `p99_s`: the 99th percentile of the seconds of a request with 8 clients at once, over
  `rounds` times 8 requests; `in_a_row_s`: the seconds of 8 requests in a row, median of as many alternating rounds;
  `ratio`: the first over the second
* the memory of the service's processes together (PSS where the system tells it) over further small requests, at fifty
  moments: the median of the second fifth and of the last one, the largest, and the slope of a line through all moments
  after the first fifth, in kB a request, with its standard error

The goals of the project: the ratio is at most 1.3, and memory is flat.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from running_service import running_service

import deocclude
from deocclude.serve.client import Client

STREET = Path(deocclude.__file__).parent / "assets" / "street.jpg"
CLIENTS = 8


def photo_of(megapixels: float) -> bytes:
    """The bundled street photo as a JPEG of a number of megapixels."""
    with Image.open(STREET) as image, io.BytesIO() as file:
        factor = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
        size = (round(image.width * factor), round(image.height * factor))
        image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=92)
        return file.getvalue()


def with_comment(photo: bytes, text: str) -> bytes:
    """The same JPEG with a comment: a file of its own, of the same pixels."""
    comment = text.encode()
    return photo[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + photo[2:]


def time_of(client: Client, photo: bytes) -> float:
    """Seconds of one request."""
    start_s = time.monotonic()
    client.deocclude(photo)
    return time.monotonic() - start_s


def compare(url: str, rounds: int) -> dict[str, float]:
    """Clients at once against requests in a row: `p99_s`, `in_a_row_s`, `ratio` and `rounds`."""
    photo, at_once, in_a_row = photo_of(1.0), [], []
    with Client(url) as client, ThreadPoolExecutor(CLIENTS) as threads:
        time_of(client, photo)  # warm
        for _ in range(rounds):
            in_a_row.append(sum(time_of(client, photo) for _ in range(CLIENTS)))
            at_once += threads.map(lambda _: time_of(client, photo), range(CLIENTS))
    p99_s, row_s = float(np.percentile(at_once, 99)), statistics.median(in_a_row)
    return {"p99_s": p99_s, "in_a_row_s": row_s, "ratio": p99_s / row_s, "rounds": rounds}


def memory_mb(pid: int) -> float:
    """Memory of a process and its children together, in MB, each shared page once where the system tells it."""
    pids, found = [pid], 0.0
    for one in pids:
        children = Path(f"/proc/{one}/task/{one}/children")
        pids += map(int, children.read_text().split())
        rollup = Path(f"/proc/{one}/smaps_rollup").read_text()
        found += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return found / 1000


def watch_memory(url: str, pid: int, requests: int) -> dict[str, float]:
    """Memory over many requests of photos of five sizes, each a file of its own: what is kept by content shows."""
    photos = [photo_of(0.1 + 0.05 * number) for number in range(5)]
    found = []
    with Client(url) as client:
        for number in range(requests):
            photo = with_comment(photos[number % len(photos)], f"request {number}")
            client.deocclude(photo, save=["content"] if number % 3 == 0 else [])
            if number % max(1, requests // 50) == 0 or number == requests - 1:
                found.append((number, memory_mb(pid)))
    number, mb = np.array(found).T
    fifth = max(1, len(mb) // 5)
    line, covariance = np.polyfit(number[fifth:], mb[fifth:], 1, cov=True)
    return {
        "requests": requests, "early_mb": float(np.median(mb[fifth : 2 * fifth])), "slope_kb": 1000 * float(line[0]),
        "late_mb": float(np.median(mb[-fifth:])), "slope_error_kb": 1000 * float(np.sqrt(covariance[0, 0])),
        "most_mb": float(mb.max()),
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.requests < 4:
        parser.error("--requests must be at least 4: a slope needs several moments")
    with running_service() as (url, pid):
        print(json.dumps(compare(url, options.rounds) | watch_memory(url, pid, options.requests)))


if __name__ == "__main__":
    main()
