"""What docs/training.md says of configs, compared with the configs."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path

from deocclude.train import config as config_module
from deocclude.train.config import TrainConfig, load_config
from repository import ROOT

PAGE = (ROOT / "docs" / "training.md").read_text()


def shown_trainings(stage: str) -> list[tuple[Path, TrainConfig]]:
    """(OUT, config) of each `train` command of a stage in the page, in order."""
    found = []
    for line in re.findall(rf"^deocclude train {stage} .*$", PAGE, flags=re.M):
        words = shlex.split(line)
        sets = [value for word, value in pairwise(words) if word == "--set"]
        name = words[words.index("-c") + 1]
        if name.startswith("configs/"):
            found.append((Path(words[words.index("-o") + 1]), load_config(ROOT / name, sets)))
    return found


def test_each_shipped_network_has_one_training_command() -> None:
    assert not shown_trainings("people") and "sh configs/people_detector.sh /my/data my-weights" in PAGE
    script = (ROOT / "configs" / "people_detector.sh").read_text()
    assert script.count("deocclude train people -c configs/people.yaml") == 1
    people = load_config(ROOT / "configs" / "people.yaml").people
    assert people is not None and people.model == "nanodet" and people.pretrained_backbone and people.init is None
    masks = dict(shown_trainings("mask"))
    assert masks[Path("runs/box_segmenter")].mask.model == "box"
    assert masks[Path("runs/mask")].mask.model is None
    assert [config.content.init for _, config in shown_trainings("content")[:1]] == [None]


def test_box_segmenter_of_each_command_is_trained_or_restored() -> None:
    """Every box segmenter that a command on the page reads is another command's result."""
    runs = shown_trainings("mask")
    trained = {
        out / "best.safetensors" for out, config in runs if config.mask is not None and config.mask.model == "box"
    }
    restored = {
        Path(f"sha256:{digits}") for digits in re.findall(r"^deocclude models fetch-history (\w+)$", PAGE, flags=re.M)
    }
    reads = [config.mask for _, config in runs if config.mask is not None and config.mask.p_box_prompt]
    assert reads and {section.box_segmenter for section in reads} <= trained | restored
    assert {section.init for section in reads} <= {None} | restored


def test_custom_data_commands_read_only_the_built_set() -> None:
    for stage in ("mask", "content"):
        own = [config for _, config in shown_trainings(stage) if config.data.built is not None]
        assert len(own) == 1
        data = own[0].data_of(getattr(own[0], stage))
        assert (data.sources, data.built) == ({"built": 1}, "people")


def test_page_lists_every_setting_that_may_change_on_resume() -> None:
    item = next(item for item in PAGE.split("\n* ") if item.startswith("A config that gives other numbers"))
    in_data = [f"data.{key}" for key in config_module._FREE_IN_DATA]
    wanted = {*config_module._FREE, *config_module._FREE_IN_STAGE, *in_data, "--overwrite", "config.yaml"}
    assert set(re.findall(r"`(.+?)`", item)) == wanted
