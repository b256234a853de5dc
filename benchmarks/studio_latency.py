"""Time the studio's page in headless Chromium: python benchmarks/studio_latency.py [--prompts 30]

On the bundled street photo at one megapixel: from the server's start to the first page, from the choice of the photo to
the first answer, and from a prompt's click to the changed picture. Prints JSON. Needs the extra [dev] and a Chromium.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib import resources
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

MEGAPIXEL = 1_000_000
ANSWERED = "n => Number(document.querySelector('#canvas').dataset.answers ?? 0) > n"


def photo_bytes(path: Path | None) -> bytes:
    """A JPEG of one megapixel: of a file, or of the bundled photo."""
    bundled = resources.files("deocclude").joinpath("assets").joinpath("street.jpg")
    image = Image.open(io.BytesIO(path.read_bytes() if path else bundled.read_bytes())).convert("RGB")
    scale = (MEGAPIXEL / (image.width * image.height)) ** 0.5
    file = io.BytesIO()
    image.resize((round(image.width * scale), round(image.height * scale))).save(file, "JPEG", quality=95)
    return file.getvalue()


def start_server(port: int) -> tuple[subprocess.Popen[bytes], float]:
    """The server, and the seconds until it answered with the page."""
    start_s = time.perf_counter()
    command = [sys.executable, "-m", "deocclude", "serve", "--port", str(port), "--no-open", "--quiet"]
    server = subprocess.Popen(command)
    while server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/"):
                return server, time.perf_counter() - start_s
        except urllib.error.URLError:
            time.sleep(0.02)
    raise SystemExit("the server ended")


def time_prompts(page: Page, count: int, kind: str) -> list[float]:
    """Seconds from each click to the changed picture, as the page measures them.

    Args:
        page: with an open photo.
        count: of prompts.
        kind: point, a click; or front, a stroke of the brush.
    """
    page.click("#tab-steer")
    page.click(f"#tool-{kind}")
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.6
    seconds = []
    for number in range(count):
        before = int(page.get_attribute("#canvas", "data-answers") or 0)
        page.mouse.move(x + 3 * (number % 5), y + 25 * (number % 4))
        page.mouse.down()
        if kind == "front":
            page.mouse.move(x + 30, y - 100, steps=5)
        page.mouse.up()
        page.wait_for_function(ANSWERED, arg=before, timeout=60_000)
        seconds.append(int(page.get_attribute("#canvas", "data-answer-ms") or 0) / 1000)
    return seconds


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photo", type=Path, help="in place of the bundled one")
    parser.add_argument("--prompts", type=int, default=30)
    parser.add_argument("--kind", choices=("point", "front"), default="point")
    given = parser.parse_args()
    if importlib.util.find_spec("fastapi") is None:
        raise SystemExit("needs the extra [serve]")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server, page_s = start_server(port)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.goto(f"http://127.0.0.1:{port}/")
            page.wait_for_selector("#samples button")
            page.wait_for_timeout(5_000)  # the model is opened meanwhile
            start_s = time.perf_counter()
            file = {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": photo_bytes(given.photo)}
            page.set_input_files("#file", files=[file])
            page.wait_for_selector("#people button", timeout=120_000)
            first_s = time.perf_counter() - start_s
            seconds = time_prompts(page, given.prompts, given.kind)
            browser.close()
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)
    median_s = statistics.median(seconds)
    figures = {"page_s": page_s, "first_answer_s": first_s, "prompt_median_s": median_s, "ratio": median_s / first_s}
    print(json.dumps({**{name: round(value, 3) for name, value in figures.items()}, "prompts": len(seconds)}))


if __name__ == "__main__":
    main()
