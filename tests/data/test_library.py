"""Which people, occluders and backgrounds belong to which split."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from datafolder import CCP_TRAIN, CCP_VAL, OBJECTS, drawn_library
from deocclude.data.library import SourceWeights, held_out, load_library
from deocclude.errors import InputError


def test_one_in_six_is_held_out_and_the_answer_never_changes() -> None:
    names = [f"cutout/{i}" for i in range(3000)]
    share = np.mean([held_out(n) for n in names])
    assert share == pytest.approx(1 / 6, abs=0.02)
    assert np.mean([held_out(n, one_in=2) for n in names]) == pytest.approx(1 / 2, abs=0.03)
    # by the name's CRC32, whatever the machine
    assert [n for n in (f"object{i}" for i in range(9)) if held_out(n)] == ["object4", "object5", "object7"]


def test_splits_share_nothing(data_root: Path) -> None:
    train, val = drawn_library(data_root, "train"), drawn_library(data_root, "val")
    names = [{p.name for p in library.people} for library in (train, val)]
    assert names[0] == {
        *(f"ccp/{i}" for i in CCP_TRAIN),
        "cutout/person15", "cutout/person16", "full/photo1", "upper/photo3", "upper/photo5",
    }  # fmt: skip
    assert names[1] == {*(f"ccp/{i}" for i in CCP_VAL), "cutout/person17", "full/photo0", "full/photo2", "upper/photo4"}
    occluders = [{o.name for o in library.occluders} for library in (train, val)]
    assert not occluders[0] & occluders[1] and occluders[0] | occluders[1] == set(OBJECTS)
    backgrounds = [{b.tobytes() for b in library.backgrounds} for library in (train, val)]
    assert not backgrounds[0] & backgrounds[1] and [len(b) for b in backgrounds] == [7, 1]


def test_each_source_has_its_share(data_root: Path) -> None:
    library = drawn_library(data_root, ccp=0.6, cutouts=0.3, upper=0.1)
    shares = {"ccp": 0.0, "cutout": 0.0, "upper": 0.0}
    for person, weight in zip(library.people, library.weights, strict=True):
        shares[person.name.partition("/")[0]] += weight
    assert shares == pytest.approx({"ccp": 0.6, "cutout": 0.3, "upper": 0.1})


def test_passers_by_are_whole(data_root: Path) -> None:
    assert {p.name.partition("/")[0] for p in drawn_library(data_root).passers_by} == {"ccp", "cutout", "full"}
    only_cut = drawn_library(data_root, upper=1.0)
    assert only_cut.passers_by == only_cut.people, "better a cut passer-by than none"


def test_a_source_of_weight_zero_is_not_read(data_root: Path, tmp_path: Path) -> None:
    for name in ("cutouts", "backgrounds"):
        shutil.copytree(data_root / name, tmp_path / name)
    assert len(load_library(tmp_path, "train", SourceWeights(0, 1, 0, 0)).people) == 2
    with pytest.raises(InputError, match=f"looked for {tmp_path / 'ccp' / 'photos'}"):
        load_library(tmp_path, "train", SourceWeights(1, 0, 0, 0))


def test_what_is_missing_is_named(data_root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"data folder not found: looked for {tmp_path / 'nowhere'}"):
        load_library(tmp_path / "nowhere", "train", SourceWeights())
    with pytest.raises(InputError, match="no person of split 'train'"):
        load_library(data_root, "train", SourceWeights(0, 0, 0, 0))
    root = Path(shutil.copytree(data_root, tmp_path / "data"))
    for name in ("object4", "object5", "object7"):
        (root / "cutouts" / "objects" / f"{name}.png").unlink()
    with pytest.raises(InputError, match=f"no occluder of split 'val' in {root / 'cutouts' / 'objects'}"):
        drawn_library(root, "val")
    (root / "backgrounds" / "07.png").unlink()
    shutil.copytree(data_root / "cutouts" / "objects", root / "cutouts" / "objects", dirs_exist_ok=True)
    with pytest.raises(InputError, match=f"no background of split 'val' in {root / 'backgrounds'}"):
        drawn_library(root, "val")
