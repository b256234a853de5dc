"""Which people, occluders and backgrounds belong to which split."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from datafolder import CCP_TRAIN, CCP_VAL, OBJECTS, drawn_library
from deocclude.data.samples.person_samples import CropConfig, SampleStream
from deocclude.data.sources.library import Places, SourceWeights, load_library
from deocclude.data.sources.readers import MIXED_GROUPS
from deocclude.data.sources.splits import held_out
from deocclude.data.synthesis.config import SynthesisConfig
from deocclude.data.synthesis.multi_person import AssetPool, CrowdConfig, compose_crowd
from deocclude.data.trainsets.build import build, open_records
from deocclude.data.trainsets.photo import BuildSettings
from deocclude.errors import InputError
from drawn_photos import draw_photos


def test_held_out_split_is_one_in_six_and_deterministic() -> None:
    names = [f"cutout/{i}" for i in range(3000)]
    share = np.mean([held_out(n) for n in names])
    assert share == pytest.approx(1 / 6, abs=0.02)
    assert np.mean([held_out(n, one_in=2) for n in names]) == pytest.approx(1 / 2, abs=0.03)
    # by the name's CRC32, whatever the machine
    assert [n for n in (f"object{i}" for i in range(9)) if held_out(n)] == ["object4", "object5", "object7"]


def test_train_and_val_splits_are_disjoint(data_root: Path) -> None:
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


def test_group_masks_are_excluded_from_people(data_root: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(data_root, tmp_path / "data"))
    folder = root / "mixed_people" / "upper"
    group = min(MIXED_GROUPS["upper"])
    for kind in ("images", "masks"):
        (before,) = folder.glob(f"{kind}/photo3.*")
        shutil.copy(before, before.with_stem(group))
    names = {p.name for split in ("train", "val") for p in drawn_library(root, split).people}
    assert "upper/photo3" in names and f"upper/{group}" not in names


def test_source_weights_are_respected(data_root: Path) -> None:
    library = drawn_library(data_root, ccp=0.6, cutouts=0.3, upper=0.1)
    shares = {"ccp": 0.0, "cutout": 0.0, "upper": 0.0}
    for person, weight in zip(library.people, library.weights, strict=True):
        shares[person.name.partition("/")[0]] += weight
    assert shares == pytest.approx({"ccp": 0.6, "cutout": 0.3, "upper": 0.1})


def test_distractors_are_whole_people_where_available(data_root: Path) -> None:
    assert {p.name.partition("/")[0] for p in drawn_library(data_root).distractors} == {"ccp", "cutout", "full"}
    only_cut = drawn_library(data_root, upper=1.0)
    assert only_cut.distractors == only_cut.people, "better a cut passer-by than none"


def test_a_source_of_weight_zero_is_not_read(data_root: Path, tmp_path: Path) -> None:
    for name in ("cutouts", "backgrounds"):
        shutil.copytree(data_root / name, tmp_path / name)
    assert len(load_library(tmp_path, "train", SourceWeights(0, 1, 0, 0)).people) == 2
    with pytest.raises(InputError, match=f"looked for {tmp_path / 'ccp' / 'photos'}"):
        load_library(tmp_path, "train", SourceWeights(1, 0, 0, 0))


def test_error_names_the_missing_data(data_root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"data folder not found: looked for {tmp_path / 'nowhere'}"):
        load_library(tmp_path / "nowhere", "train", SourceWeights())
    with pytest.raises(InputError, match=r"data\.sources: no source has a share above 0"):
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


@pytest.fixture(scope="module")
def own_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_photos(tmp_path_factory.mktemp("own") / "photos", 12)


@pytest.fixture(scope="module")
def built(own_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = str(tmp_path_factory.mktemp("built") / "set")
    build(open_records(str(own_photos), "masks"), out, BuildSettings(parser="none"), source=str(own_photos))
    return out


@pytest.mark.parametrize("source", ["built", "folder"])
def test_library_works_with_person_photos_only(own_photos: Path, built: str, tmp_path: Path, source: str) -> None:
    weights = SourceWeights(0, 0, 0, 0, **{source: 1.0})
    places = Places(built=built) if source == "built" else Places(folder=own_photos)
    train, val = (load_library(tmp_path / "no-data-folder", split, weights, places) for split in ("train", "val"))
    assert [len(train.people), len(val.people)] == [10, 2], "every sixth is held out"
    assert not {p.name for p in train.people} & {p.name for p in val.people}
    assert train.weights == pytest.approx(np.full(10, 0.1))
    assert {o.name.rstrip("0123456789") for o in train.occluders} == {"slab"}
    # what is beside the people of 10 photos; of 2 photos that is little, so that 6 are drawn
    assert [len(train.backgrounds), len(val.backgrounds)] == [10, 8]
    samples = [SampleStream(train, SynthesisConfig(), CropConfig(), seed=0).batch(n, 4, 64) for n in (0, 0, 1)]
    assert (samples[0]["photo"] == samples[1]["photo"]).all() and (samples[0]["photo"] != samples[2]["photo"]).any()
    assert samples[0]["visible"].any()


def test_sources_mix_and_asset_folders_can_be_given(data_root: Path, built: str, tmp_path: Path) -> None:
    mixed = load_library(data_root, "train", SourceWeights(0, 0.25, 0, 0, built=0.75), Places(built=built))
    of_built = np.array([p.name.startswith("masks/") for p in mixed.people])
    assert mixed.weights[of_built].sum() == pytest.approx(0.75) and of_built.sum() == 10
    assert {o.name for o in mixed.occluders} <= set(OBJECTS), "the data folder has some"
    places = Places(built=built, occluders=data_root / "cutouts" / "objects", backgrounds=data_root / "backgrounds")
    named = load_library(tmp_path, "train", SourceWeights(0, 0, 0, 0, built=1), places)
    assert {o.name for o in named.occluders} == {o.name for o in mixed.occluders} and len(named.backgrounds) == 7


def test_built_and_folder_sources_require_a_path(tmp_path: Path) -> None:
    for source in ("built", "folder"):
        with pytest.raises(InputError, match=f"data.{source}: name"):
            load_library(tmp_path, "train", SourceWeights(0, 0, 0, 0, **{source: 1.0}))
    with pytest.raises(InputError, match="is not a built set: looked for"):
        load_library(tmp_path, "train", SourceWeights(0, 0, 0, 0, built=1), Places(built=str(tmp_path)))


def test_asset_pool_of_a_built_set_draws_a_crowd(built: str, tmp_path: Path) -> None:
    library = load_library(tmp_path, "train", SourceWeights(0, 0, 0, 0, built=1), Places(built=built))
    pool = AssetPool.of(library)
    assert len(pool.people) == len(pool.photo_owners) == 10 and pool.people_shares.sum() == pytest.approx(1)
    assert compose_crowd(pool, np.random.default_rng(0), CrowdConfig(), 128).photo.shape[2] == 3
