"""docs/extending.md: each block is run as it stands there, and what it adds is used by what it adds to."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datafolder import draw_data_folder
from deocclude.data.datasets import registry
from deocclude.data.datasets.convert import plan_conversion
from deocclude.data.datasets.records_file import read
from deocclude.data.sources.library import SourceWeights, load_library
from deocclude.data.synthesis import mask_corruption, single_person
from deocclude.errors import WeightsError
from deocclude.io import results
from deocclude.models import blocks
from deocclude.models.blocks import count_parameters
from deocclude.models.features import load_features
from deocclude.models.mask_completion import MaskCompletionConfig, MaskCompletionNet, MaskOutput
from deocclude.models.people_detector import PeopleDetector
from deocclude.pipeline import Deoccluder
from deocclude.train import detector_methods
from deocclude.train.mask_losses import MaskCriterion
from repository import ROOT

DOCUMENT = (ROOT / "docs" / "extending.md").read_text()
TABLES = (registry.FORMATS, blocks.BACKBONES, mask_corruption.DEGRADATIONS, single_person.OCCLUDERS)


@pytest.fixture(autouse=True)
def tables_as_they_were() -> Iterator[None]:
    """What a block adds is gone after its test."""
    before = [dict(table) for table in TABLES]
    yield
    for table, rows in zip(TABLES, before, strict=True):
        table.clear()
        table.update(rows)


def run(heading: str) -> dict[str, Any]:
    """The names that the blocks below a heading define."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", DOCUMENT, flags=re.S | re.M)
    names: dict[str, Any] = {"__name__": "extending"}
    blocks_of_code = re.findall(r"^```python\n(.*?)^```", section[1], flags=re.S | re.M)
    assert blocks_of_code
    for code in blocks_of_code:
        exec(compile(code, f"docs/extending.md, {heading}", "exec"), names)
    return names


def test_every_section_is_tested_here() -> None:
    sections = re.findall(r"^## (.*)\n", DOCUMENT, flags=re.M)
    here = re.findall(r'run\("(.*)"\)', Path(__file__).read_text())
    assert sections == here


def test_a_dataset_format(tmp_path: Path) -> None:
    run("A dataset format")
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    outlines = [[[5, 5], [20, 5], [20, 25], [5, 25]], [[30, 0], [39, 0], [39, 9]]]
    (tmp_path / "outlines.json").write_text(json.dumps({"a.png": outlines}))
    plan = plan_conversion(tmp_path, tmp_path / "out.jsonl", source_format="outlines")
    assert plan.reads.matches(tmp_path) and plan.run().people == 2
    (record,) = read(tmp_path / "out.jsonl")
    wanted = np.zeros((30, 40), bool)
    wanted[5:25, 5:20] = True
    np.testing.assert_array_equal(record.people[0].visible.mask(), wanted)
    assert record.size_hw == (30, 40) and Path(record.image) == tmp_path / "a.png"


def test_a_backbone(tmp_path: Path) -> None:
    names = run("A backbone")
    assert isinstance(names["network"].amodal_hourglass, names["Plain"])
    network = MaskCompletionNet(
        MaskCompletionConfig(stem_width=8, widths=(8, 8), head_width=8, backbone="plain")
    ).eval()
    network.save_pretrained(tmp_path)
    again = MaskCompletionNet.from_pretrained(tmp_path)
    inputs = torch.rand(1, 3, 64, 64), torch.ones(1, 1, 64, 64)
    with torch.no_grad():
        for a, b in zip(network(*inputs), again(*inputs), strict=True):
            assert torch.equal(a, b)
    with pytest.raises(WeightsError, match="features need the backbone hourglass, got plain"):
        load_features(tmp_path)
    with pytest.raises(ValueError, match="a stage 1 with the backbone plain"):
        PeopleDetector().start_from(network)
    with pytest.raises(ValueError, match="backbone must be one of hourglass, plain, got 'huge'"):
        MaskCompletionConfig(backbone="huge")


def test_a_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector_methods, "DETECTORS", dict(detector_methods.DETECTORS))
    run("A detector")
    small = detector_methods.find_detector("small")
    network = small.network(small.config).eval()
    with torch.no_grad():
        (found,) = small.boxes(network(torch.rand(1, 3, 64, 64)), small.config, 0.0)
    assert found[0].shape[1] == 4 and len(found[0]) == len(found[1]) > 0
    full = detector_methods.find_detector("nanodet")
    assert count_parameters(network) < 0.3 * count_parameters(full.network(full.config))


def test_an_output_kind(pipe: Deoccluder, person: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run("An output kind")
    result = pipe(person.photo, masks=[person.visible], complete="always")
    labels = names["instances"](result)
    np.testing.assert_array_equal(labels, np.where(result.people[0].amodal_mask, 1, 0))

    # the edits that the page asks for, made here
    before = results.picture_of

    def picture_of(result: Any, kind: str, person: Any = None) -> results.Picture:
        return results.Picture(names["instances"](result)) if kind == "instances" else before(result, kind, person)

    monkeypatch.setattr(results, "SAVE_KINDS", (*results.SAVE_KINDS, "instances"))
    monkeypatch.setattr(results, "picture_of", picture_of)
    (path,) = result.save(tmp_path, what=["instances"])
    assert path.name == "photo.instances.png"
    np.testing.assert_array_equal(np.asarray(Image.open(path)), labels)


def test_a_loss_term() -> None:
    names = run("A loss term")
    amodal = torch.zeros(1, 1, 8, 8)
    amodal[..., :4] = 1
    batch = {"visible": amodal, "amodal": amodal, "known": torch.ones_like(amodal), "parsing": torch.zeros(1, 8, 8)}
    logits = torch.full((1, 1, 8, 8), 50.0)  # all is body, half should be
    output = MaskOutput(logits, logits, torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2))
    terms = names["criterion"](output, batch)
    assert terms["amodal_area"].item() == pytest.approx(0.1 * 0.5)
    assert terms["amodal_ce"] == MaskCriterion({"amodal_ce": 0.5})(output, batch)["amodal_ce"]
    level = torch.full((1, 1, 8, 8), 1.0, requires_grad=True)
    names["criterion"](MaskOutput(level, level, *output[2:]), batch)["amodal_area"].backward()
    assert (level.grad > 0).all()


def test_a_mask_corruption() -> None:
    run("A mask corruption")
    mask = np.zeros((20, 30), bool)
    mask[4:16, 5:26] = True  # columns 5 to 25, the middle one is 15
    found = [mask_corruption.corrupt_mask(mask, np.random.default_rng(seed), "half") for seed in range(8)]
    kept = {tuple(m.any(0).nonzero()[0][[0, -1]]) for m in found}
    assert kept == {(5, 15), (15, 25)}
    rng = np.random.default_rng(0)
    drawn = [mask_corruption.corrupt_mask(mask, rng) for _ in range(60)]
    assert any(np.array_equal(m, found[0]) for m in drawn), "it is drawn with the others"


def test_a_kind_of_occluder(tmp_path: Path) -> None:
    names = run("A kind of occluder")
    library = load_library(draw_data_folder(tmp_path), "train", SourceWeights())
    rng = np.random.default_rng(0)
    plans = [single_person.plan_scene(library, rng, names["synthesis"]) for _ in range(40)]
    with_pole = [plan for plan in plans if any(placed.layer.name == "pole" for placed in plan.in_front)]
    assert 4 <= len(with_pole) <= 25 and any(plan.kind == "pole" for plan in with_pole)
    assert all(plan.hidden_fraction > 0 for plan in with_pole)
    with pytest.raises(
        ValueError, match="p_other names no kind of occluder: 'tree', there are person, low, slab, object"
    ):
        single_person.SynthesisConfig(p_other={"tree": 0.1})
