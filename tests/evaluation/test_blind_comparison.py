"""Blind comparison: the key is right, the raters' folder reveals nothing, and answers are counted right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deocclude.data.evalsets.persons import EvalSet, write_eval_set
from deocclude.errors import InputError, UsageError
from deocclude.evaluation import draw_records
from deocclude.evaluation.blind_comparison import (
    _opponent,
    draw_candidates,
    key_of,
    save_recovered,
    score_answers,
    score_to_markdown,
    write_comparison,
)
from drawn_set import Oracle, draw_person

OURS_RGB, THEIRS_RGB = (33, 33, 33), (77, 77, 77)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> EvalSet:
    """Six people with 10 to 60 of 80 rows hidden, one with 3 rows hidden, and an unoccluded one."""
    samples = [draw_person(f"p{number}", "low", 10 * number) for number in range(1, 7)]
    samples += [draw_person("sliver", "low", 3), draw_person("whole", "none", 0)]
    return write_eval_set(tmp_path_factory.mktemp("crowd") / "set", samples, name="crowd", seed=3, source="code")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory, crowd: EvalSet) -> Path:
    """What another build recovered: THEIRS_RGB."""
    folder = tmp_path_factory.mktemp("theirs") / "theirs"
    save_recovered(crowd, Oracle(crowd, colour=THEIRS_RGB[0]), folder)
    return folder


def write(crowd: EvalSet, folder: Path, **options) -> list[dict]:
    """The key's pictures of a comparison of OURS_RGB."""
    write_comparison(crowd, Oracle(crowd, colour=OURS_RGB[0]), folder, model="ours", **options)
    return json.loads(key_of(folder).read_text())["pictures"]


def picture_of(folder: Path, row: dict) -> np.ndarray:
    return np.asarray(Image.open(folder / "pictures" / row["picture"])).astype(int)


def halves(picture: np.ndarray) -> dict[int, np.ndarray]:
    """Both candidates, each of four tenths of the width."""
    width = picture.shape[1]
    return {1: picture[:, width // 5 + 8 : width * 3 // 5], 2: picture[:, width * 3 // 5 + 8 :]}


def has(pixels: np.ndarray, rgb: tuple[int, int, int]) -> bool:
    return bool((pixels == rgb).all(axis=-1).any())


def test_key_identifies_the_model_of_each_candidate(tmp_path: Path, crowd: EvalSet, theirs: Path) -> None:
    pictures = write(crowd, tmp_path / "blind", against=[str(theirs)])
    assert sorted(row["record_id"] for row in pictures) == [f"p{number}-low" for number in range(1, 7)]
    for row in pictures:
        candidates = halves(picture_of(tmp_path / "blind", row))
        other = 3 - row["model_is"]
        assert has(candidates[row["model_is"]], OURS_RGB) and not has(candidates[row["model_is"]], THEIRS_RGB)
        assert has(candidates[other], THEIRS_RGB) and not has(candidates[other], OURS_RGB)


def test_key_identifies_person_and_opponent(tmp_path: Path, crowd: EvalSet) -> None:
    pictures = write(crowd, tmp_path / "blind", against=["mean-colour", "inpainting"])
    assert len(pictures) == 12
    assert len({(row["record_id"], row["opponent"]) for row in pictures}) == 12
    by_id = {record.id: crowd.load(record) for record in crowd}
    for row in pictures:
        picture = picture_of(tmp_path / "blind", row)
        # The hatched rows of the 80 of the body: the share that the key tells.
        magenta = (picture[..., 1] == 0) & (picture[..., 0] == picture[..., 2]) & (picture[..., 0] >= 190)
        columns, rows = np.flatnonzero(magenta.any(axis=0)), np.flatnonzero(magenta.any(axis=1))
        assert columns[-1] < picture.shape[1] / 5
        body_px = 80 * 5 / 2  # five pixels for one, and the person as given at half size
        assert len(rows) / body_px == pytest.approx(row["hidden_fraction"], abs=0.02)
        sample = by_id[row["record_id"]]
        ours = Oracle(crowd, colour=OURS_RGB[0]).recover(sample.photo, sample.visible, sample.amodal)
        theirs = _opponent(row["opponent"], crowd.records)(sample)
        candidates = (ours, theirs) if row["model_is"] == 1 else (theirs, ours)
        np.testing.assert_array_equal(picture, draw_candidates(sample, *candidates))


def test_order_depends_on_the_seed(tmp_path: Path, crowd: EvalSet) -> None:
    first, again, other = (
        write(crowd, tmp_path / name, against=["mean-colour"], seed=seed)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == again
    for name in ("0001.png", "0006.png"):
        same = [(tmp_path / folder / "pictures" / name).read_bytes() for folder in ("a", "b")]
        assert same[0] == same[1]
    assert [row["record_id"] for row in first] != [row["record_id"] for row in other]
    by_id = [{row["record_id"]: row["model_is"] for row in rows} for rows in (first, other)]
    assert by_id[0] != by_id[1]
    for places in by_id:
        assert sorted(places.values()) == [1, 1, 1, 2, 2, 2]


def test_rater_folder_reveals_nothing_about_the_models(tmp_path: Path, crowd: EvalSet, theirs: Path) -> None:
    folder = tmp_path / "blind"
    pictures = write(crowd, folder, against=[str(theirs)])
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names = [f"{number:04d}.png" for number in range(1, 7)]
    assert files == ["answers.csv", *(f"pictures/{name}" for name in names)]
    assert (folder / "answers.csv").read_text() == "picture,answer,note\n" + "".join(f"{name},,\n" for name in names)
    paths = [folder / "pictures" / name for name in names]
    assert len({path.stat().st_mtime_ns for path in paths}) == 1
    for path in paths:
        with Image.open(path) as image:
            assert (image.info, image.mode) == ({}, "RGB")
        content = path.read_bytes()
        assert not any(word in content for word in (b"-low", b"theirs", b"ours", str(tmp_path).encode()))
    # Captions and everything else but both candidates are alike, whoever is first.
    sample = crowd.load(crowd.records[2])
    ours, other = (Oracle(crowd, colour=c).recover(sample.photo, sample.visible, sample.amodal) for c in (33, 77))
    one, two = (draw_candidates(sample, *pair).astype(int) for pair in ((ours, other), (other, ours)))
    hidden = (one != two).any(axis=-1)
    assert np.array_equal(np.where(hidden[..., None], 110 - one, one), two)
    assert {row["model_is"] for row in pictures} == {1, 2}


def test_candidates_are_unmarked_photos(crowd: EvalSet) -> None:
    sample = crowd.load(crowd.records[5])
    picture = draw_candidates(sample, sample.photo, sample.truth)
    # 100 rows and columns of the 96 x 72 photo: all of its height, at five for one.
    factor = 512 // 96
    size = (96 * factor, 44 * factor)
    left = 8 + size[1] // 2 + 8
    for candidate, at in ((sample.photo, left), (sample.truth, left + size[1] + 8)):
        view = candidate[:, 14:58].repeat(factor, axis=0).repeat(factor, axis=1)
        np.testing.assert_array_equal(picture[20 : 20 + size[0], at : at + size[1]], view)


def test_large_people_are_downscaled_to_512_px(tmp_path: Path) -> None:
    sample = draw_person("tall", "low", 40)
    large = [np.kron(array, np.ones((16, 16, 1) if array.ndim == 3 else (16, 16), array.dtype)) for array in (
        sample.photo, sample.truth, sample.visible, sample.amodal)]  # fmt: skip
    tall = type(sample)("tall-low", "tall", "low", *large)
    assert draw_candidates(tall, tall.photo, tall.truth).shape[0] == 512 + 20 + 8


def test_nearly_unoccluded_people_are_skipped_and_counted(tmp_path: Path, crowd: EvalSet) -> None:
    done = write_comparison(crowd, Oracle(crowd), tmp_path / "all", model="ours", against=["mean-colour"])
    assert (done["pictures"], done["people"], done["skipped"]) == (6, 6, 2)
    drawn = {record.id for record in draw_records(crowd.records, 4)}
    limited = write(crowd, tmp_path / "some", against=["mean-colour"], limit=4)
    assert {row["record_id"] for row in limited} == drawn - {"sliver-low", "whole-none"}
    saved = save_recovered(crowd, Oracle(crowd), tmp_path / "saved", limit=4)
    assert {path.stem for path in (tmp_path / "saved").iterdir()} >= {row["record_id"] for row in limited}
    assert saved["people"] + saved["skipped"] == 4


def test_saved_recovery_changes_only_hidden_pixels(crowd: EvalSet, theirs: Path) -> None:
    sample = crowd.load(crowd.records[0])
    expected = np.where((sample.amodal & ~sample.visible)[..., None], np.uint8(THEIRS_RGB), sample.photo)
    np.testing.assert_array_equal(np.asarray(Image.open(theirs / f"{sample.id}.png")), expected)


def test_baselines_change_only_hidden_pixels(crowd: EvalSet) -> None:
    sample = crowd.load(crowd.records[3])
    hidden = sample.amodal & ~sample.visible
    inner = {}
    for name in ("inpainting", "mean-colour"):
        recovered = _opponent(name, crowd.records)(sample)
        np.testing.assert_array_equal(recovered[~hidden], sample.photo[~hidden])
        inner[name] = recovered[60:84, 28:44].reshape(-1, 3).astype(int)
        assert np.ptp(inner[name], axis=1).max() <= 3  # grey as the body is, and nothing of the green thing
    assert (np.ptp(inner["mean-colour"], axis=0) == 0).all()
    np.testing.assert_allclose(inner["mean-colour"][0], sample.photo[sample.visible].mean(axis=0), atol=4)
    assert np.ptp(inner["inpainting"], axis=0).min() > 0


# --- what cannot be written ----------------------------------------------------------------------------------------


def test_invalid_opponent_is_rejected(tmp_path: Path, crowd: EvalSet, theirs: Path) -> None:
    with pytest.raises(InputError, match=r"an opponent is inpainting, mean-colour or a folder .*: no folder nobody"):
        write(crowd, tmp_path / "a", against=["nobody"])
    with pytest.raises(UsageError, match="each opponent must be named once, got inpainting, inpainting"):
        write(crowd, tmp_path / "a", against=["inpainting", "inpainting"])
    part = tmp_path / "part"
    part.mkdir()
    for number in (1, 2, 4):
        (part / f"p{number}-low.png").write_bytes((theirs / f"p{number}-low.png").read_bytes())
    with pytest.raises(InputError, match=r"part lacks 3 of 6 recovered photos, the first p3-low\.png$"):
        write(crowd, tmp_path / "a", against=[str(part)])
    assert not (tmp_path / "a").exists() and not key_of(tmp_path / "a").exists()
    for record in crowd.records:
        Image.new("RGB", (5, 4)).save(part / f"{record.id}.png")
    with pytest.raises(InputError, match="must have its photo's size 96x72"):
        write(crowd, tmp_path / "a", against=[str(part)])


def test_existing_comparison_is_not_overwritten(tmp_path: Path, crowd: EvalSet) -> None:
    write(crowd, tmp_path / "blind", against=["mean-colour"])
    with pytest.raises(UsageError, match="pictures go to a new or an empty folder, got"):
        write(crowd, tmp_path / "blind", against=["mean-colour"])
    with pytest.raises(UsageError, match="pictures go to a new or an empty folder, got"):
        save_recovered(crowd, Oracle(crowd), tmp_path / "blind")
    (tmp_path / "other-key.json").write_text("{}")
    with pytest.raises(UsageError, match=r"other-key\.json is the key of another comparison"):
        write(crowd, tmp_path / "other", against=["mean-colour"])


def test_set_without_occluded_people_is_rejected(tmp_path: Path) -> None:
    samples = [draw_person("ann", "none", 0), draw_person("bob", "low", 3), draw_person("cid", "low", 80)]
    eval_set = write_eval_set(tmp_path / "set", samples, name="seen", seed=0, source="code")
    with pytest.raises(InputError, match=r"no blind comparison: none of 3 people in .* 5 % or more occluded"):
        write(eval_set, tmp_path / "blind", against=["mean-colour"])


# --- answers -------------------------------------------------------------------------------------------------------


def answer(folder: Path, pictures: list[dict], wanted: dict[tuple[str, str], str]) -> Path:
    """Fill in answers.csv: "ours", "theirs" or "=" by record and opponent; nothing for the others."""
    lines = ["picture,answer,note"]
    for row in pictures:
        wish = wanted.get((row["record_id"], row["opponent"]), "")
        place = {"ours": str(row["model_is"]), "theirs": str(3 - row["model_is"])}.get(wish, wish)
        lines.append(f"{row['picture']},{place},{'grey legs, no shoes' if wish == 'theirs' else ''}")
    path = folder / "answers.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_preferences_are_counted_by_opponent(tmp_path: Path, crowd: EvalSet) -> None:
    folder = tmp_path / "blind"
    pictures = write(crowd, folder, against=["inpainting", "mean-colour"], seed=5)
    wishes = ["ours", "ours", "ours", "theirs", "=", ""]
    wanted = {(f"p{number}-low", "inpainting"): wish for number, wish in enumerate(wishes, start=1)}
    wanted |= {(f"p{number}-low", "mean-colour"): "ours" for number in range(1, 7)}
    score = score_answers(answer(folder, pictures, wanted))
    first, second = score["rows"]
    assert [first[key] for key in ("opponent", "preferred", "not_preferred", "tied", "pictures")] == [
        "inpainting", 3, 1, 1, 5,
    ]  # fmt: skip
    # By hand, z = 1.96: (0.75 + z^2 / 8 -+ z sqrt(0.1875 / 4 + z^2 / 64)) / (1 + z^2 / 4)
    assert (first["share"], first["interval"]) == (0.75, pytest.approx([0.3006, 0.9544], abs=1e-4))
    assert (second["preferred"], second["not_preferred"], second["tied"], second["share"]) == (6, 0, 0, 1.0)
    # n / (n + z^2) of n of n
    assert second["interval"] == pytest.approx([6 / (6 + 1.959964**2), 1.0], abs=1e-5)
    name = {(row["record_id"], row["opponent"]): row["picture"] for row in pictures}
    lost = {"record_id": "p4-low", "picture": name["p4-low", "inpainting"], "note": "grey legs, no shoes"}
    assert (first["lost"], second["lost"]) == ([lost], [])
    assert score["unanswered"] == [name["p6-low", "inpainting"]]
    text = score_to_markdown(score)
    assert text.startswith("# Blind comparison of ours on crowd\n")
    assert "| inpainting  | 3         | 1             | 1    | 0.750 [0.301, 0.954] " in text
    assert f"- Lost to inpainting: p4-low ({lost['picture']}: grey legs, no shoes)\n" in text
    assert f"- note: 1 of 12 pictures are unanswered: {name['p6-low', 'inpainting']}\n" in text


def test_image_without_an_answer_row_is_unanswered(tmp_path: Path, crowd: EvalSet) -> None:
    pictures = write(crowd, tmp_path / "blind", against=["mean-colour"])
    moved = tmp_path / "elsewhere" / "mine.csv"
    moved.parent.mkdir()
    moved.write_text(f"\ufeffanswer,picture\n=,{pictures[1]['picture']}\n", encoding="utf-8")
    score = score_answers(moved, key_of(tmp_path / "blind"))
    assert score["unanswered"] == [row["picture"] for row in pictures if row is not pictures[1]]
    (row,) = score["rows"]
    assert (row["tied"], row["pictures"], row["share"], row["interval"]) == (1, 1, None, [None, None])
    assert "| mean-colour | 0         | 0             | 1    | -  " in score_to_markdown(score)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("picture,answer\n0001.png,3\n", r"line 2: the answer to 0001\.png must be 1, 2 or =, got '3'$"),
        ("picture,answer\n0001.png,1\n0099.png,1\n", r"line 3: no picture '0099\.png' in the key$"),
        ("picture,answer\n1,1\n2,1\n0003.png,left\n", r"line 2: no picture '1' in the key \(2 more bad rows\)$"),
        ("picture,answer\n0001.png,1\n0001.png,2\n", r"line 3: 0001\.png comes twice$"),
        ("picture;answer;note\n", "must begin with the columns picture,answer,note, got picture;answer;note$"),
        ("", "must begin with the columns picture,answer,note, got nothing$"),
    ],
)
def test_invalid_answers_give_one_line_errors(tmp_path: Path, crowd: EvalSet, content: str, message: str) -> None:
    write(crowd, tmp_path / "blind", against=["mean-colour"], limit=4)
    path = tmp_path / "blind" / "answers.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        score_answers(path)


def test_missing_or_invalid_key_is_rejected(tmp_path: Path) -> None:
    answers = tmp_path / "blind" / "answers.csv"
    with pytest.raises(InputError, match=r"no key of a blind comparison: looked for .*blind-key\.json$"):
        score_answers(answers)
    key = tmp_path / "blind-key.json"
    for content, message in (
        ("{", "cannot be read as JSON"),
        ('{"format": 1}', "is not the key of a blind comparison"),
        ('{"format": 1, "against": [], "pictures": []}', "is not the key of a blind comparison"),
    ):
        key.write_text(content)
        with pytest.raises(InputError, match=message):
            score_answers(answers)
    key.write_text('{"format": 1, "set": "s", "model": "m", "against": [], "pictures": []}')
    with pytest.raises(InputError, match=r"answers\.csv: cannot be read: No such file"):
        score_answers(answers)
