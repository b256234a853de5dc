"""The commands of docs/data.md, as written: from the train file of a drawn COCO to a set to train and measure on."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from datasetfolder import write_json
from deocclude.cli.app import app
from deocclude.data.evalsets.persons import EvalSet
from deocclude.imaging.rle import encode_rle
from deocclude.io.images import load_mask
from deocclude.train.config import load_config
from deocclude.train.crops import Crops
from drawn_photos import draw_photos
from repository import ROOT


def shown_commands() -> list[list[str]]:
    """Words of the commands of the section on built sets, without `deocclude`, in order."""
    section = (ROOT / "docs" / "data.md").read_text().split("## Building a set of whole people")[1].split("\n## ")[0]
    blocks = re.findall(r"^```\n(.*?)^```", section, flags=re.S | re.M)
    lines = [line.split("  #")[0] for block in blocks for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("deocclude ")]


def settings_of(words: list[str]) -> list[str]:
    return [value for word, value in pairwise(words) if word == "--set"]


def run(words: list[str]) -> None:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, f"{words}\n{done.output}"


@pytest.fixture
def coco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the commands run in, with coco/train2017 and its file of 12 photos of one person."""
    photos = draw_photos(tmp_path / "drawn", 12)
    images, annotations = [], []
    for number, mask_file in enumerate(sorted((photos / "masks").iterdir())):
        mask = load_mask(mask_file)
        name = f"{mask_file.stem}.jpg"
        images.append({"id": number, "file_name": name, "height": mask.shape[0], "width": mask.shape[1]})
        annotations.append({"id": 500 + number, "image_id": number, "category_id": 1, "segmentation": encode_rle(mask)})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    write_json(tmp_path / "coco" / "annotations" / "instances_train2017.json", content)
    (photos / "images").rename(tmp_path / "coco" / "train2017")
    for name in ("configs", "src"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_data_page_commands_build_a_usable_training_set(coco: Path) -> None:
    build_people, train_mask, train_content, freeze = shown_commands()[:4]
    run([*build_people, "-j", "1"])
    for words in (train_mask, train_content):
        config = load_config(Path(words[words.index("-c") + 1]), settings_of(words))
        crops = Crops.of(config.data_of(getattr(config, words[1])))
        assert crops.sources.built == 1 and crops.sources.of_root == 0, "nothing of ../shared/data is read"
        assert [len(crops.library(split).people) for split in ("train", "val")] == [10, 2]
    run(freeze)
    names = {record.person_id for record in EvalSet.open(coco / "cache" / "val-people")}
    assert names == {"coco-5-505", "coco-11-511"}


def test_each_command_has_its_own_output() -> None:
    outputs = [words[words.index("-o") + 1] for words in shown_commands()]
    assert len(outputs) == len(set(outputs)) == 7
