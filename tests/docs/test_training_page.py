"""What docs/training.md says of configs, held against the configs."""

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


def test_each_run_of_the_people_detector_but_the_last_starts_from_the_one_before() -> None:
    (first, begins), (second, ships), *runs = shown_trainings("people")
    assert begins.people is not None and ships.people is not None
    assert first.name == "people7" and begins.people.pretrained_backbone and begins.people.init is None
    assert second.name == "people8" and ships.people.init == first / "last.safetensors"
    assert [out.name for out, _ in runs] == ["people", "people2", "people3", "people4", "people5", "people6"]
    for (before, _), (_, config) in pairwise(runs):
        assert config.people is not None and config.people.init == before / "best.safetensors"


def test_stage_1_repairs_masks_of_the_network_for_boxes_that_the_page_has_trained_before() -> None:
    runs = dict(shown_trainings("mask"))
    boxes = [out for out, config in runs.items() if config.mask is not None and config.mask.model == "box"]
    assert [out.name for out in boxes] == ["box1", "box2", "box3"]
    (repairs,) = [config.mask for config in runs.values() if config.mask is not None and config.mask.p_box_prompt]
    assert repairs.box_segmenter in [out / "best.safetensors" for out in boxes]


def test_people_of_ones_own_are_all_that_both_stages_read() -> None:
    for stage in ("mask", "content"):
        own = [config for _, config in shown_trainings(stage) if config.data.built is not None]
        assert len(own) == 1
        data = own[0].data_of(getattr(own[0], stage))
        assert (data.sources, data.built) == ({"built": 1}, "people")


def test_all_that_may_change_in_a_run_is_named() -> None:
    item = next(item for item in PAGE.split("\n* ") if item.startswith("A config that gives other numbers"))
    in_data = [f"data.{key}" for key in config_module._FREE_IN_DATA]
    wanted = {*config_module._FREE, *config_module._FREE_IN_STAGE, *in_data, "--overwrite", "config.yaml"}
    assert set(re.findall(r"`(.+?)`", item)) == wanted
