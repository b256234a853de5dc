"""docs/service.md: its commands and its Python run, and its tables are those of the code."""

from __future__ import annotations

import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deocclude.serve.errors import STATUS_OF
from deocclude.serve.settings import ServeSettings
from stub_service import Running, running

PAGE = (Path(__file__).parents[2] / "docs" / "service.md").read_text()
CURL = [line for line in PAGE.splitlines() if line.startswith("curl ")]
DEFAULT_URL = "http://127.0.0.1:7860"


@pytest.fixture(scope="module")
def served() -> Iterator[Running]:
    with running() as server:
        yield server


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (220, 420), (3, 4, 5)).save("photo.jpg")
    mask = np.zeros((420, 220), np.uint8)
    mask[60:300, 60:150] = 255
    Image.fromarray(mask).save("person.png")
    Path("token.txt").write_text("a-token")
    return tmp_path


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_lines_work(served: Running, files: Path) -> None:
    assert len(CURL) == 5
    for line in CURL:
        command = line.replace(DEFAULT_URL, served.url).replace("curl ", "curl --silent --show-error --fail ", 1)
        done = subprocess.run(command, shell=True, capture_output=True, text=True)
        assert done.returncode == 0, (line, done.stderr)
        assert done.stdout.startswith('{"model": "stub"') or " -o " in line
    assert Image.open("recovered.png").size == (220, 420)
    with zipfile.ZipFile("people.zip") as archive:
        assert archive.namelist() == ["photo.person1.rgba.png", "photo.deoccluded.ora"]


def test_the_python_works(served: Running, files: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.S | re.M)
    names: dict = {}
    exec(compile(code.replace(DEFAULT_URL, served.url), "service.md", "exec"), names)
    assert names["person"].amodal_mask.dtype == bool and names["recovered"].shape == (420, 220, 3)
    assert names["archive"].startswith(b"PK")


def test_tables_are_those_of_the_code(served: Running) -> None:
    errors = PAGE.split("\n## Errors\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", errors, flags=re.M)
    assert {code: int(status) for status, codes in rows for code in re.findall(r"`(\w+)`", codes)} == STATUS_OF
    names = set(re.findall(r"`(deocclude_\w+)`", PAGE.split("\n## Metrics\n")[1].split("\n## ")[0]))
    text = served.get("/metrics").text
    types = {
        name for name in re.findall(r"^# TYPE (deocclude_\w+) ", text, flags=re.M) if not name.endswith("_created")
    }
    assert names == types
    limits = PAGE.split("\n## Limits\n")[1].split("\n## ")[0]
    default = ServeSettings()
    for option, value in (
        ("--max-bytes", default.max_bytes), ("--max-pixels", default.max_pixels), ("--queue", default.queue),
        ("--timeout", f"{default.timeout_s:g}"), ("--body-timeout", f"{default.body_timeout_s:g}"),
        ("masks, boxes", default.max_masks),
    ):  # fmt: skip
        assert re.search(rf"^\| `?{option}.* \| {value}\b", limits, flags=re.M), option
