"""The reliability page is linked, names its scripts, and the inputs behind it depend on the seed alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from random import Random

import pytest

from deocclude.people.coco_file import CocoFile
from repository import ROOT

BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def mutations(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import mutations

    yield mutations
    del sys.modules["mutations"]


def test_the_page_is_linked() -> None:
    assert "(reliability.md)" in (ROOT / "docs/index.md").read_text()
    assert "(../docs/reliability.md)" in (BENCHMARKS / "README.md").read_text()


@pytest.mark.parametrize("script", ["mutated_inputs.py", "faults.py", "folder_memory.py"])
def test_both_pages_name_the_scripts(script: str) -> None:
    assert (BENCHMARKS / script).is_file()
    for page in (ROOT / "docs/reliability.md", BENCHMARKS / "README.md"):
        assert f"python benchmarks/{script}" in page.read_text()


def test_mutations_depend_on_the_seed_alone(mutations) -> None:
    photos, masks = mutations.photos(), mutations.masks()
    assert set(photos) == set(mutations.PHOTO_KINDS)
    made = [
        [mutations.mutated_photo("webp", photos, Random(seed)), mutations.mutated_mask(masks, Random(seed))]
        for seed in (1, 1, 2)
    ]
    assert made[0] == made[1] != made[2]


def test_the_coco_file_before_its_mutation_has_four_people(mutations, tmp_path: Path) -> None:
    path = tmp_path / "people.json"
    path.write_text(json.dumps(mutations.coco_document("photo.png")))
    assert len(CocoFile.open(path).prompts_for("photo.png", (mutations.SIDE_PX, mutations.SIDE_PX))) == 4
