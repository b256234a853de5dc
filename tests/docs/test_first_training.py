"""docs/first-training.md, command by command as written, on drawn photos; only the training is cut short."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from deocclude.cli.app import app
from drawn_photos import draw_photos
from repository import ROOT

SHORT = ("device=cpu", "threads=1", "workers=0", "validation_samples=8")
SHALLOW = ("mask.network.widths=[24, 48]",)  # exporting takes time by the number of layers
PHASE = "[{until: 1.0, size_px: 32, batch_size: 4}]"


def shown_commands() -> list[str]:
    """The page's commands, in order."""
    blocks = re.findall(r"^```\n(.*?)^```", (ROOT / "docs" / "first-training.md").read_text(), flags=re.S | re.M)
    return [line for block in blocks for line in block.splitlines() if line.startswith("deocclude ")]


def as_run(command: str) -> list[str]:
    """A command's words, with a short schedule where it trains."""
    words = shlex.split(command)[1:]
    if words[0] == "train":
        stage = f"{words[1]}.schedule"
        own = SHALLOW if words[1] == "mask" else ()
        for setting in (*SHORT, *own, f"{stage}.steps=2", f"{stage}.phases={PHASE}"):
            words += ["--set", setting]
    return words


def test_the_page_works_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_photos(tmp_path / "photos", 6)
    shutil.copy(tmp_path / "photos" / "images" / "photo00.jpg", tmp_path / "photo.jpg")
    shutil.copy(tmp_path / "photos" / "masks" / "photo00.png", tmp_path / "person.png")
    for name in ("configs", "src"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    commands = shown_commands()
    assert [shlex.split(command)[1] for command in commands] == [
        "data", "train", "train", "export", "run", "data", "eval",
    ]  # fmt: skip
    for command in commands:
        done = CliRunner().invoke(app, as_run(command))
        assert done.exit_code == 0, f"{command}\n{done.output}"
    assert json.loads(Path("first/people/report.json").read_text())["kept"] == 6
    manifest = json.loads(Path("first/weights/manifest.json").read_text())
    assert set(manifest["models"]["base"]["networks"]) == {"mask_completion", "content_recovery"}
    recovered = np.asarray(Image.open("out/photo.deoccluded.png").convert("RGB"))
    assert recovered.shape == (180, 320, 3)


def test_training_from_a_photo_folder_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_photos(tmp_path / "photos", 6)
    (tmp_path / "src").symlink_to(ROOT / "src")
    monkeypatch.chdir(tmp_path)
    words = as_run(f"deocclude train mask -c {ROOT / 'configs' / 'tiny.yaml'} -o mask -q")
    done = CliRunner().invoke(app, [*words, "--set", "data.sources={folder: 1.0}", "--set", "data.folder=photos"])
    assert done.exit_code == 0, done.output
    assert Path("mask/best.safetensors").is_file()
