"""Building a set: its people, its report, resuming after an interruption, and reading it back."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datafolder import draw_background, write_photo_and_mask, write_picture
from deocclude.data.datasets.record import Parsing, PersonRecord, PhotoRecord, Rle, whole_person
from deocclude.data.sources.selection import Thresholds
from deocclude.data.sources.shard_state import BuildState, read_state
from deocclude.data.sources.shards import ShardedBackgrounds, ShardedOccluders, ShardedPeople, ShardedRows
from deocclude.data.storage import Folder
from deocclude.data.trainsets.build import build, open_records
from deocclude.data.trainsets.photo import BuildSettings, build_photo
from deocclude.errors import InputError, UsageError
from deocclude.io.images import load_image, load_mask
from deocclude.types import PARSING_NAMES
from drawn_photos import draw_photos, place_figure

PLAIN = BuildSettings(parser="none", shard_rows=6)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 photos; in the last one the person is truncated by the image border."""
    folder = draw_photos(tmp_path_factory.mktemp("photos"), 11)
    rng = np.random.default_rng(5)
    rgb, mask = draw_background(rng, (180, 320)), np.zeros((180, 320), bool)
    place_figure(rgb, mask, rng, 60, 20)
    write_photo_and_mask(folder, "photo11", rgb, mask)
    return folder


def records(photos: Path) -> Iterator[PhotoRecord]:
    return open_records(str(photos), "masks")


def make(photos: Path, out: Path | str, settings: BuildSettings = PLAIN, **more) -> BuildState:
    return build(records(photos), str(out), settings, source=str(photos), **more)


@pytest.fixture(scope="module")
def built(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "set"
    make(photos, out)
    return out


def test_tally_counts_photos_people_and_rejections(built: Path) -> None:
    state = read_state(Folder(str(built)))
    tally = state.tally
    assert (tally.photos, tally.people, tally.kept, tally.occluders, tally.backgrounds) == (12, 12, 11, 1, 12)
    assert tally.refused == tally.only_by == {"edge": 1}
    assert tally.by_split == {"train": 10, "val": 1}, "photo 5; photo 11, which would be the other, is refused"
    assert (tally.with_parsing, tally.without_licence, tally.problems) == (0, 11, [])
    assert state.done and sum(shard.rows for shard in state.shards) == 24
    assert all(shard.rows >= 6 for shard in state.shards) and len(state.shards) == 4


def test_report_states_counts_and_settings(built: Path) -> None:
    report = json.loads((built / "report.json").read_text())
    assert (report["kept"], report["refused"], report["settings"]["parser"]) == (11, {"edge": 1}, "none")
    text = (built / "report.md").read_text()
    assert "12 photos, 12 people." in text and "Kept: 11 (10 train, 1 val)." in text
    assert "| edge | 1 | 1 | Not truncated by the image border." in text and "| size | 0 | 0 |" in text
    # 11 people kept in two rows, and one refused
    assert Image.open(built / "sheet.jpg").size[1] == 2 * 18 + 3 * (128 + 4) + 4


def test_people_round_trip_through_the_shards(built: Path, photos: Path) -> None:
    rows = ShardedRows(built)
    people = ShardedPeople(rows, "train")
    assert [p.name for p in people] == [f"masks/photo{n:02d}/1" for n in (0, 1, 2, 3, 4, 6, 7, 8, 9, 10)]
    person = people[3]
    mask = load_mask(photos / "masks" / "photo03.png")
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    around = round(0.75 * max(w, h)) + 2
    part = (slice(max(0, y - around), y + h + around), slice(max(0, x - around), x + w + around))
    assert (person.alpha >= 128).sum() == pytest.approx(mask.sum(), rel=0.02)
    photo = load_image(photos / "images" / "photo03.jpg")[part]
    assert person.rgb.shape == photo.shape
    assert np.abs(person.rgb.astype(int) - photo).mean() < 4, "but for JPEG"
    assert (person.has_background, person.whole, person.parsing) == (True, True, None)
    assert people.traits["whole"].all() and len(people.traits["whole"]) == len(people) == 10
    assert [p.name for p in ShardedPeople(rows, "val")] == ["masks/photo05/1"] and len(ShardedPeople(rows)) == 11


def test_occluders_and_backgrounds_round_trip(built: Path) -> None:
    rows = ShardedRows(built)
    (cut,) = ShardedOccluders(rows, "val")
    assert cut.name == "masks/photo11/1" and cut.rgb.shape[0] < 125
    assert len(ShardedOccluders(rows, "train")) == 0
    assert [len(ShardedBackgrounds(rows, split)) for split in ("train", "val")] == [10, 2]
    assert min(ShardedBackgrounds(rows, "train")[0].shape[:2]) >= 96


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


def test_interrupted_build_resumes_to_the_same_set(built: Path, photos: Path, tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def stop_after(count: int) -> Iterator[PhotoRecord]:
        yield from islice(records(photos), count)
        raise Interrupted

    with pytest.raises(Interrupted):
        build(stop_after(8), str(tmp_path / "set"), PLAIN, source=str(photos))
    done = shards(tmp_path / "set")
    assert list(done) == ["people-00000.parquet", "people-00001.parquet"]
    with pytest.raises(InputError, match="interrupted"):
        ShardedRows(tmp_path / "set")
    asked: list[int] = []
    state = make(photos, tmp_path / "set", advance=asked.append)
    assert asked == [6, 1, 1, 1, 1, 1, 1], "photos of finished shards are not worked on again"
    assert state.tally == read_state(Folder(str(built))).tally
    assert shards(tmp_path / "set") == shards(built)


def test_changed_source_folder_is_rejected(photos: Path, tmp_path: Path) -> None:
    mine, inside = tmp_path / "photos", tmp_path / "photos" / "set"
    shutil.copytree(photos, mine)
    first = make(mine, inside, limit=6)
    assert make(mine, inside, limit=6) == first, "what was built is no part of what it is built from"
    rgb, mask = load_image(mine / "images" / "photo00.jpg"), load_mask(mine / "masks" / "photo00.png")
    write_photo_and_mask(mine, "photo005", rgb, mask)
    with pytest.raises(UsageError, match=r"photos has changed since .*set was begun: --overwrite builds it anew"):
        make(mine, inside, limit=6)
    assert make(mine, inside, overwrite=True).tally.photos == 13
    with pytest.raises(UsageError, match="other records or by other settings"):
        make(mine, inside, PLAIN, limit=6)


def test_interrupted_build_is_not_resumed_on_a_changed_folder(photos: Path, tmp_path: Path) -> None:
    def stopped(folder: Path) -> Iterator[PhotoRecord]:
        yield from islice(records(folder), 8)
        raise KeyboardInterrupt

    mine, out = tmp_path / "photos", tmp_path / "set"
    shutil.copytree(photos, mine)
    with pytest.raises(KeyboardInterrupt):
        build(stopped(mine), str(out), PLAIN, source=str(mine))
    for name in ("images/photo02.jpg", "masks/photo02.png"):
        (mine / name).unlink()
    with pytest.raises(UsageError, match="has changed since"):
        make(mine, out)


def test_remote_records_file_is_compared_by_size(photos: Path, tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/records.jsonl"
    stored = (photo.model_copy(update={"image": f"file://{photo.image}"}) for photo in records(photos))
    content = "".join(photo.model_dump_json() + "\n" for photo in stored)
    Folder(f"memory://{tmp_path.name}").write("records.jsonl", content.encode())
    state = build(open_records(url), str(tmp_path / "set"), PLAIN, source=url, limit=6)
    assert state.source == {"records": url, "bytes": len(content), "limit": 6} and state.tally.kept == 6
    Folder(f"memory://{tmp_path.name}").write("records.jsonl", (content + "\n").encode())
    with pytest.raises(UsageError, match="has changed since"):
        build(open_records(url), str(tmp_path / "set"), PLAIN, source=url, limit=6)


def test_limit_takes_the_first_photos_and_must_match(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    state = make(photos, out, limit=8)
    assert (state.tally.photos, state.tally.kept, state.source["limit"]) == (8, 8, 8)
    assert json.loads((out / "report.json").read_text())["limit"] == 8
    assert make(photos, out, limit=8) == state
    for other in (None, 9):
        with pytest.raises(UsageError, match="other records or by other settings"):
            make(photos, out, limit=other)

    def stopped() -> Iterator[PhotoRecord]:
        yield from islice(records(photos), 7)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(stopped(), str(tmp_path / "again"), PLAIN, source=str(photos), limit=8)
    make(photos, tmp_path / "again", limit=8)
    assert shards(tmp_path / "again") == shards(out)


def test_parallel_build_gives_the_same_set(built: Path, photos: Path, tmp_path: Path) -> None:
    make(photos, tmp_path / "set", jobs=2)
    assert shards(tmp_path / "set") == shards(built)


def test_finished_set_is_only_replaced_with_overwrite(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    first = make(photos, out)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert make(photos, out) == first
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    other = BuildSettings(rules=("size",), parser="none", limits=Thresholds(min_side_px=1), shard_rows=100)
    with pytest.raises(UsageError, match="other settings: --overwrite"):
        make(photos, out, other)
    assert make(photos, out, other, overwrite=True).tally.kept == 12
    assert list(shards(out)) == ["people-00000.parquet"]
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").touch()
    with pytest.raises(UsageError, match="something else"):
        make(photos, tmp_path / "notes", overwrite=True)


def test_damaged_build_json_is_reported_and_can_be_overwritten(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    make(photos, out)
    (out / "build.json").write_text("{\n")
    with pytest.raises(InputError, match=r"set/build\.json: not what a build writes there: Invalid JSON: EOF"):
        make(photos, out)
    assert len(shards(out)) == 4, "what cannot be understood stays until it is asked to be replaced"
    make(photos, out, overwrite=True, limit=6)
    assert read_state(Folder(str(out))).done and list(shards(out)) == ["people-00000.parquet", "people-00001.parquet"]


def test_damaged_shard_is_reported_once(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import datasets

    logger = logging.getLogger("datasets")
    monkeypatch.setattr(logger, "handlers", [*logger.handlers, caplog.handler])
    level = datasets.logging.get_verbosity()
    out = tmp_path / "set"
    shutil.copytree(built, out, ignore=shutil.ignore_patterns(".cache"))
    shard = out / "people-00000.parquet"
    content = bytearray(shard.read_bytes())
    content[4:2000] = b"\xff" * 1996  # what the file says of itself, at its end, stays
    for damaged, message in ((b"no shard", "Parquet"), (bytes(content), "Couldn't deserialize")):
        shard.write_bytes(damaged)
        with pytest.raises(InputError, match=f"set: its shards cannot be read: .*{message}") as caught:
            ShardedRows(out)
        assert "\n" not in str(caught.value) and not caplog.messages
    assert datasets.logging.get_verbosity() == level


def test_set_round_trip_through_a_remote_store(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    out = f"memory://{tmp_path.name}/set"
    make(photos, out)
    assert len(ShardedPeople(ShardedRows(out), "train")) == 10


def test_unusable_photos_are_reported_and_others_are_used(photos: Path, tmp_path: Path) -> None:
    def with_faults() -> Iterator[PhotoRecord]:
        first, second, third = islice(records(photos), 3)
        yield first.model_copy(update={"image": str(tmp_path / "none.jpg")})
        write_picture(tmp_path / "small.jpg", np.zeros((20, 20, 3), np.uint8))
        yield second.model_copy(update={"image": str(tmp_path / "small.jpg")})
        yield third

    tally = build(with_faults(), str(tmp_path / "set"), PLAIN, source="test").tally
    assert (tally.photos, tally.unusable_photos, tally.kept) == (3, 2, 1)
    assert tally.problems == [
        f"{tmp_path / 'none.jpg'}: cannot be read: No such file or directory",
        f"{tmp_path / 'small.jpg'}: its record says (180, 320) (HxW), the photo is (20, 20)",
    ]
    assert "2 photos could not be used" in (tmp_path / "set" / "report.md").read_text()


def test_person_thinner_than_a_pixel_is_no_occluder(tmp_path: Path) -> None:
    """An empty mask in a set would end training with a division by zero."""
    mask = np.zeros((1200, 300), bool)
    mask[:, 20] = True
    photo = PhotoRecord(
        image=str(tmp_path / "a.png"), size_hw=mask.shape, source="test", id="a",
        people=(PersonRecord(id="1", visible=Rle.of(mask)),),
    )  # fmt: skip
    write_picture(tmp_path / "a.png", np.zeros((*mask.shape, 3), np.uint8))
    outcome = build_photo((0, photo), BuildSettings(rules=("edge",), parser="none"))
    assert not outcome.rows and outcome.problem == f"{photo.image}: person 1 is thinner than a pixel at 360 px"


def test_sheet_leaves_out_people_whose_photo_is_missing(photos: Path, tmp_path: Path) -> None:
    """A refused cut-out's photo is not opened before: a build must not fail at its end for it."""

    def with_missing() -> Iterator[PhotoRecord]:
        kept, cut_out = islice(records(photos), 2)
        yield kept
        small = np.zeros(cut_out.size_hw, bool)
        small[:5, :5] = True
        people = (
            PersonRecord(id="small", visible=Rle.of(small)),
            PersonRecord(id="hidden", visible=Rle.of(small & ~small), amodal=Rle.of(small)),
        )
        yield cut_out.model_copy(
            update={"image": str(tmp_path / "none.png"), "has_background": False, "people": people[:1]}
        )
        yield kept.model_copy(update={"people": people[1:]})

    settings = BuildSettings(parser="none", rules=("pieces", "hidden", "solid"))
    state = build(with_missing(), str(tmp_path / "set"), settings, source="test")
    assert state.done and (state.tally.kept, state.tally.refused["solid"]) == (1, 2)
    assert "| size | 1 |" in (tmp_path / "set" / "report.md").read_text(), "a fully occluded person fails it"


def test_error_names_the_rule_that_rejects_everyone(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none of 12 people in 12 photos is kept: most fail the rule 'size' \(12\)"):
        make(photos, tmp_path / "set", BuildSettings(parser="none", limits=Thresholds(min_side_px=500)))
    with pytest.raises(InputError, match="no photo in it"):
        build(iter(()), str(tmp_path / "other"), PLAIN, source="test")


def test_build_without_kept_people_leaves_no_files(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    empty = BuildSettings(parser="none", limits=Thresholds(min_side_px=500), shard_rows=6)
    with pytest.raises(InputError, match="is kept"):
        make(photos, out, empty)
    assert not list(out.iterdir())
    assert make(photos, out).tally.kept == 11
    (out / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="is kept"):
        make(photos, out, empty, overwrite=True)
    assert [path.name for path in out.iterdir()] == ["mine.txt"], "what others put there stays"


def test_records_file_without_photos_leaves_no_files(photos: Path, tmp_path: Path) -> None:
    empty, out = tmp_path / "records.jsonl", tmp_path / "set"
    empty.touch()
    with pytest.raises(InputError, match=r"records\.jsonl: no photo in it"):
        build(open_records(str(empty)), str(out), PLAIN, source=str(empty))
    assert not list(out.iterdir())
    assert make(photos, out, limit=1).tally.kept == 1


def test_labels_splits_and_licences_of_a_dataset_are_kept(photos: Path, tmp_path: Path) -> None:
    """LIP's labels become the project's groups; photos of its validation split are held out."""

    def labelled() -> Iterator[PhotoRecord]:
        for number, photo in enumerate(islice(records(photos), 2)):
            mask = photo.people[0].visible.mask()
            labels = np.where(mask, np.where(np.arange(180)[:, None] < 60, np.uint8(13), np.uint8(9)), np.uint8(0))
            person: PersonRecord = whole_person("1", mask, Parsing.of(labels, "lip-20"))
            facts = {"split": ("training", "val")[number], "licence": ("CC BY 4.0", None)[number]}
            yield photo.model_copy(update={"people": (person,), **facts})

    settings = BuildSettings(parser="none", licence="mine", max_px=67)
    tally = build(labelled(), str(tmp_path / "set"), settings, source="test").tally
    assert (tally.with_parsing, tally.by_split, tally.without_licence) == (2, {"train": 1, "val": 1}, 0)
    rows = ShardedRows(tmp_path / "set")
    licences = {row["id"]: row["licence"] for row in (rows[i] for i in rows.numbers("person"))}
    assert licences == {"masks/photo00/1": "CC BY 4.0", "masks/photo01/1": "mine"}
    (person,) = ShardedPeople(rows, "train")
    face, trousers = PARSING_NAMES.index("face"), PARSING_NAMES.index("lower_clothes")
    assert {face, trousers} <= set(np.unique(person.parsing)) <= {0, face, trousers, 255}
    assert max(cv2.boundingRect(person.mask.astype(np.uint8))) == pytest.approx(67, abs=2)
