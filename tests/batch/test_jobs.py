"""Planning, running and writing of batches: names, collisions, skipping, failures, and whole files only."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import deocclude.batch.jobs as jobs_module
from deocclude.batch.folder import LeftOut
from deocclude.batch.jobs import do_job, exit_code, run_jobs
from deocclude.batch.plan import Finding, Job, plan_jobs
from deocclude.errors import DeoccludeError, UsageError, WeightsError
from deocclude.io.images import Photo, load_photo
from deocclude.people.coco_file import CocoFile
from deocclude.pipeline import load
from deocclude.types import Person, Result
from marked_segmenter import MARKS, MarkedSegmenter


@pytest.fixture
def photo(tmp_path: Path, person) -> Path:
    """A photo on disk, with `mask.png` beside it."""
    Image.fromarray(person.photo).save(tmp_path / "photo.png")
    Image.fromarray(person.visible).save(tmp_path / "mask.png")
    return tmp_path / "photo.png"


def outputs(job: Job) -> list[str]:
    return [path.as_posix() for path in job.expected_paths]


def make_files(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize(
    ("output", "kinds", "expected"),
    [
        (None, ["content"], ["in/photo.deoccluded.png"]),
        ("out", ["content"], ["out/photo.deoccluded.png"]),
        ("out.v2", ["content"], ["out.v2/photo.deoccluded.png"]),
        ("out.png/", ["content"], ["out.png/photo.deoccluded.png"]),
        ("x/y.jpg", ["content"], ["x/y.jpg"]),
        ("x/y.png", ["content", "overlay", "json"], ["x/y.png", "x/y.overlay.png", "x/y.deoccluded.json"]),
        ("y.json", ["json"], ["y.json"]),
        (None, ["rgba", "amodal"], ["in/photo.person1.rgba.png", "in/photo.person1.amodal.png"]),
        ("cut.png", ["rgba", "json"], ["cut.png", "cut.deoccluded.json"]),
    ],
)
def test_output_file_names(output: str | None, kinds: list[str], expected: list[str]) -> None:
    (job,) = plan_jobs(["in/photo.jpg"], output=output, boxes_xyxy=[(0, 0, 1, 1)], kinds=kinds)
    assert outputs(job) == expected


def test_every_person_gets_a_file() -> None:
    (job,) = plan_jobs(["a.jpg"], masks=["m.png"], boxes_xyxy=[(0, 0, 1, 1)], kinds=["rgba", "content"])
    assert outputs(job) == ["a.person1.rgba.png", "a.person2.rgba.png", "a.deoccluded.png"]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"kinds": ["content", "depth"]}, "depth"),
        ({"kinds": []}, "--save"),
        ({"output": "y.gif"}, ".gif"),
        ({"output": "y.json"}, "content"),
        ({"output": "y.jpg", "kinds": ["rgba"]}, "rgba"),
        ({"output": "y.png", "kinds": ["rgba"], "boxes_xyxy": [(0, 0, 1, 1)] * 2}, "2 people"),
        ({"output": "-", "kinds": ["content", "overlay"]}, "standard output"),
        ({"output": "a.jpg"}, "is an input"),
        ({"output": "m.png", "boxes_xyxy": [], "masks": ["m.png"]}, "m.png is an input"),
        ({"inputs": ["a.jpg", "b.jpg"]}, "--box"),
        ({"inputs": ["a.jpg", "b.jpg"], "boxes_xyxy": [], "masks": ["m.png"]}, "m.png"),
        ({"inputs": ["a.jpg", "b.jpg"], "boxes_xyxy": [], "masks": ["m.png"], "output": "y.png"}, "y.png"),
    ],
)
def test_conflicting_options_are_rejected_by_name(changes: dict, word: str) -> None:
    arguments = {"inputs": ["a.jpg"], "boxes_xyxy": [(0, 0, 1, 1)], "kinds": ["content"]} | changes
    with pytest.raises(UsageError, match=word):
        plan_jobs(arguments.pop("inputs"), **arguments)


def relative_outputs(jobs: list[Job], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for job in jobs for path in job.expected_paths]


def test_photos_of_one_name_keep_their_suffix_in_the_output(tmp_path: Path) -> None:
    make_files(tmp_path, "in/a.jpg", "in/a.png", "in/b.png", "masks/a.png", "masks/b.png")
    jobs = plan_jobs([str(tmp_path / "in")], masks=[str(tmp_path / "masks")])
    assert relative_outputs(jobs, tmp_path) == [
        "in/a.jpg.deoccluded.png", "in/a.png.deoccluded.png", "in/b.deoccluded.png",
    ]  # fmt: skip


def test_input_folders_with_equal_names_are_told_apart(tmp_path: Path) -> None:
    make_files(tmp_path, "x/p/a.jpg", "x/p/b.jpg", "y/p/a.jpg", "z/a.jpg")
    inputs = [str(tmp_path / name) for name in ("x/p", "y/p", "z/a.jpg")]
    jobs = plan_jobs(inputs, output=str(tmp_path / "out"), finding=Finding(person="largest"))
    assert relative_outputs(jobs, tmp_path / "out") == [
        "p/a.deoccluded.png", "b.deoccluded.png", "p_2/a.deoccluded.png", "z/a.deoccluded.png",
    ]  # fmt: skip


def test_photo_given_twice_is_done_once(tmp_path: Path) -> None:
    make_files(tmp_path, "in/a.jpg", "in/b.jpg")
    left_out: list[LeftOut] = []
    jobs = plan_jobs([str(tmp_path / "in"), str(tmp_path / "in" / "a.jpg")], on_left_out=left_out.append)
    assert [Path(job.source).name for job in jobs] == ["a.jpg", "b.jpg"]
    assert [(one.path.name, one.reason) for one in left_out] == [("a.jpg", "photos given twice, done once")]


def test_folders_are_mirrored_and_masks_matched_by_name(tmp_path: Path) -> None:
    make_files(tmp_path, "in/a.jpg", "in/sub/a.JPG", "in/notes.txt", "in/.hidden.png", "in/a.deoccluded.png")
    make_files(tmp_path, "in/a.person1.rgba.png", "in/out/a.jpg", "in/masks/a.png", "in/masks/ab.png")
    make_files(tmp_path, "in/masks/sub/a_10.png", "in/masks/sub/a_2.png")
    jobs = plan_jobs(
        [str(tmp_path / "in")], output=str(tmp_path / "in/out"), masks=[str(tmp_path / "in/masks")], recursive=True
    )
    assert [Path(job.source).relative_to(tmp_path).as_posix() for job in jobs] == ["in/a.jpg", "in/sub/a.JPG"]
    assert [[path.name for path in job.mask_paths] for job in jobs] == [["a.png"], ["a_2.png", "a_10.png"]]
    assert [Path(outputs(job)[0]).relative_to(tmp_path).as_posix() for job in jobs] == [
        "in/out/a.deoccluded.png",
        "in/out/sub/a.deoccluded.png",
    ]


def test_subfolders_are_ignored_without_recursive(tmp_path: Path) -> None:
    make_files(tmp_path, "in/sub/a.jpg", "masks/a.png")
    with pytest.raises(UsageError, match="--recursive"):
        plan_jobs([str(tmp_path / "in")], masks=[str(tmp_path / "masks")])


@pytest.fixture
def listed(photo: Path, person) -> CocoFile:
    """A COCO file of the photo with two people, the right one listed first, and of an empty one."""
    height, width = person.photo.shape[:2]
    Image.fromarray(person.photo).save(photo.with_name("empty.png"))
    names = ("photo.png", "empty.png")
    document = {
        "images": [{"id": i, "file_name": name, "width": width, "height": height} for i, name in enumerate(names)],
        "annotations": [
            {"id": 1, "image_id": 0, "category_id": 1, "bbox": [400, 60, 100, 300], "score": 0.4},
            {"id": 2, "image_id": 0, "category_id": 1, "bbox": [40, 60, 100, 300], "score": 0.9},
        ],
    }
    path = photo.with_name("people.json")
    path.write_text(json.dumps(document))
    return CocoFile.open(path)


def test_people_of_a_coco_file_are_numbered_from_the_left(photo: Path, listed: CocoFile, pipe) -> None:
    (job,) = plan_jobs([str(photo)], finding=Finding(listed), kinds=["amodal", "content"])
    assert not job.done_paths
    (report,) = run_jobs([job], lambda: pipe)
    assert [person.box_xyxy[0] < 200 for person in report.people] == [True, False]
    assert sorted(Path(name).name for name in report.outputs) == [
        "photo.deoccluded.png", "photo.person1.amodal.png", "photo.person2.amodal.png",
    ]  # fmt: skip
    assert all(Path(name).is_file() for name in report.outputs) and job.done_paths


def test_detected_people_can_be_selected(photo: Path, listed: CocoFile, pipe) -> None:
    for finding, left, number in (
        (Finding(listed, person="2"), False, 2),
        (Finding(listed, min_score=0.5), True, 1),
        (Finding(listed, person="90,100"), True, 1),
    ):
        jobs = plan_jobs([str(photo)], finding=finding, kinds=["rgba"])
        (report,) = run_jobs(jobs, lambda: pipe, overwrite=True)
        assert [person.box_xyxy[0] < 200 for person in report.people] == [left]
        assert [person.id for person in report.people] == [number], "a number from the left is kept"
        assert report.outputs == (str(photo.with_name(f"photo.person{number}.rgba.png")),) and jobs[0].done_paths


def test_missing_person_file_triggers_a_rerun(photo: Path, listed: CocoFile, pipe) -> None:
    def status(person: str = "all") -> str:
        (job,) = plan_jobs([str(photo)], finding=Finding(listed, person=person), kinds=["amodal"])
        return next(run_jobs([job], lambda: pipe)).status

    assert [status(), status()] == ["done", "skipped"]
    photo.with_name("photo.person2.amodal.png").unlink()
    assert [status(), status()] == ["done", "skipped"]
    assert [status("450,100"), status("450,100")] == ["done", "skipped"], "the number of people was unknown before"
    assert not photo.with_name("photo.person1.amodal.png").exists()


def test_stale_output_is_removed_when_no_person_is_found(photo: Path, listed: CocoFile, pipe) -> None:
    def run(person: str = "largest") -> None:
        finding = Finding(listed, person=person)
        jobs = plan_jobs([str(photo)], finding=finding, kinds=["rgba"], output=str(photo.with_name("one.png")))
        assert [report.status for report in run_jobs(jobs, lambda: pipe, overwrite=True)] == ["done"]

    run()
    assert photo.with_name("one.png").is_file()
    empty = json.loads(listed.path.read_text()) | {"annotations": []}
    listed.path.write_text(json.dumps(empty))
    listed = CocoFile.open(listed.path)
    run()
    assert not photo.with_name("one.png").exists()
    photo.with_name("one.png").write_bytes(b"mine")
    run()
    assert photo.with_name("one.png").read_bytes() == b"mine"


def test_changed_segmenter_file_changes_the_request(tmp_path: Path) -> None:
    class OfFolder:
        model = str(tmp_path)

        def __call__(self, image: np.ndarray) -> list[np.ndarray]:
            return []

    (tmp_path / "model.safetensors").write_bytes(b"one")
    before = Finding(OfFolder()).request
    assert Finding(OfFolder()).request == before
    (tmp_path / "model.safetensors").write_bytes(b"other")
    assert Finding(OfFolder()).request != before


def test_a_photo_without_people_is_written_as_it_is(photo: Path, listed: CocoFile, person, pipe) -> None:
    empty = photo.with_name("empty.png")
    (report,) = run_jobs(
        plan_jobs([str(empty)], finding=Finding(listed), kinds=["content", "rgba", "layers"]), lambda: pipe
    )
    assert report.status == "done" and report.people == ()
    assert [Path(name).name for name in report.outputs] == ["empty.deoccluded.png", "empty.deoccluded.ora"]
    np.testing.assert_array_equal(np.asarray(Image.open(empty.with_name("empty.deoccluded.png"))), person.photo)


def test_photo_missing_from_the_coco_file_fails_alone(photo: Path, listed: CocoFile, pipe) -> None:
    Image.open(photo).save(photo.with_name("other.png"))
    jobs = plan_jobs([str(photo), str(photo.with_name("other.png"))], finding=Finding(listed))
    first, second = run_jobs(jobs, lambda: pipe)
    assert first.status == "done" and second.status == "failed"
    assert "people.json: does not list other.png" in second.error


def test_segmenter_receives_the_photo_pixels(photo: Path, person, pipe) -> None:
    seen = []

    def segmenter(image: np.ndarray) -> list[np.ndarray]:
        seen.append(image)
        return [person.visible]

    (report,) = run_jobs(plan_jobs([str(photo)], finding=Finding(segmenter)), lambda: pipe)
    assert report.status == "done" and len(report.people) == 1
    np.testing.assert_array_equal(seen, [person.photo])


def test_job_without_prompts_uses_the_built_in_detector(photo: Path) -> None:
    (job,) = plan_jobs([str(photo)])
    assert job.finding == Finding() and job.finding.segmenter_for(str(photo), Path("photo.png")) is None


def test_segmenter_and_box_prompts_are_mutually_exclusive(photo: Path, listed: CocoFile) -> None:
    with pytest.raises(UsageError, match="one or the other"):
        plan_jobs([str(photo)], finding=Finding(listed), boxes_xyxy=[(0, 0, 9, 9)])
    for output in ("-", "one.png"):
        with pytest.raises(UsageError, match="one file"):
            plan_jobs([str(photo)], finding=Finding(listed), kinds=["rgba"], output=output)
    (job,) = plan_jobs([str(photo)], finding=Finding(listed, person="largest"), kinds=["rgba"], output="one.png")
    assert job.paths([3]) == [Path("one.png")] and job.paths([]) == []


def test_written_files_match_the_result(photo: Path, person, pipe) -> None:
    kinds = ["content", "rgba", "amodal", "visible", "invisible", "parsing", "overlay", "json"]
    jobs = plan_jobs([str(photo)], masks=[str(photo.with_name("mask.png"))], kinds=kinds)
    (report,) = run_jobs(jobs, lambda: pipe)
    expected = pipe(person.photo, masks=[person.visible])
    whole = expected.people[0]

    def read(ending: str) -> np.ndarray:
        return np.asarray(Image.open(photo.with_name(f"photo.{ending}.png")))

    assert report.status == "done"
    assert report.people[0].hidden_fraction == pytest.approx(whole.hidden_fraction)
    assert sorted(Path(name).name for name in report.outputs) == sorted(
        path.name for path in photo.parent.iterdir() if path.name not in ("photo.png", "mask.png")
    )
    np.testing.assert_array_equal(read("deoccluded"), expected.content)
    np.testing.assert_array_equal(read("overlay"), expected.overlay())
    np.testing.assert_array_equal(read("person1.rgba"), whole.rgba)
    np.testing.assert_array_equal(read("person1.amodal") > 0, whole.amodal_mask)
    np.testing.assert_array_equal(read("person1.visible") > 0, whole.visible_mask)
    np.testing.assert_array_equal(read("person1.invisible") > 0, whole.invisible_mask)
    np.testing.assert_array_equal(read("person1.parsing"), whole.parsing)
    coco = json.loads(photo.with_suffix(".deoccluded.json").read_text())
    assert coco["images"][0]["file_name"] == "photo.png"
    assert coco["annotations"][0]["area"] == whole.amodal_mask.sum()


def test_finished_jobs_are_skipped_without_loading_a_model(photo: Path, pipe) -> None:
    jobs = plan_jobs([str(photo)], masks=[str(photo.with_name("mask.png"))], kinds=["content", "json"])
    assert [report.status for report in run_jobs(jobs, lambda: pipe)] == ["done"]
    output = photo.with_name("photo.deoccluded.png")

    def load():
        raise WeightsError("must not be loaded")

    assert [report.status for report in run_jobs(jobs, load)] == ["skipped"]
    photo.with_suffix(".deoccluded.json").unlink()
    assert [report.status for report in run_jobs(jobs, lambda: pipe)] == ["done"], "half of the files is not done"
    output.unlink()
    output.mkdir()
    (report,) = run_jobs(jobs, lambda: pipe)
    assert report.status == "failed", "a folder of that name is no picture"


def test_changed_request_is_rerun(photo: Path, pipe) -> None:
    mask = photo.with_name("mask.png")
    kinds = ["content", "json", "amodal"]

    def status(model: str = "", seed: int = 0, **options) -> str:
        jobs = plan_jobs([str(photo)], kinds=kinds, **({"masks": [str(mask)]} | options))
        return next(run_jobs(jobs, lambda: pipe, seed=seed, model=model)).status

    assert [status(), status()] == ["done", "skipped"]
    with Image.open(mask) as image:
        smaller = np.array(image)
    smaller[: smaller.shape[0] // 4] = 0
    Image.fromarray(smaller).save(mask)
    assert [status(), status()] == ["done", "skipped"], "another mask under the same name"
    for change in (
        {"complete": "always"},
        {"seed": 3},
        {"model": "other"},
        {"masks": [], "boxes_xyxy": [(9, 9, 90, 90)]},
    ):
        assert [status(**change), status(**change)] == ["done", "skipped"], change
    with Image.open(photo) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(photo)
    assert [status(), status()] == ["done", "skipped"], "another photo under the same name"


@pytest.mark.parametrize("name", ["photo.deoccluded.png", "photo.deoccluded.json", "photo.person1.amodal.png"])
def test_file_of_another_program_is_replaced_only_when_asked(name: str, photo: Path, pipe) -> None:
    mask = str(photo.with_name("mask.png"))
    jobs = plan_jobs([str(photo)], kinds=["content", "json", "amodal"], masks=[mask])
    mine = photo.with_name(name)
    mine.write_bytes(b"mine!")
    (report,) = run_jobs(jobs, lambda: pipe)
    assert report.status == "failed" and str(mine) in report.error and "--overwrite" in report.error
    assert exit_code([report], 1) == 2
    assert mine.read_bytes() == b"mine!"
    assert sorted(path.name for path in photo.parent.iterdir()) == sorted(["photo.png", "mask.png", name])
    assert [one.status for one in run_jobs(jobs, lambda: pipe, overwrite=True)] == ["done"]
    assert [one.status for one in run_jobs(jobs, lambda: pipe)] == ["skipped"]
    assert mine.read_bytes() != b"mine!"


def test_another_programs_file_of_a_second_person_stops_the_job(photo: Path, listed: CocoFile, pipe) -> None:
    """The number of detected people is known after detection alone."""
    second = photo.with_name("photo.person2.visible.png")
    second.write_bytes(b"mine!")
    (report,) = run_jobs(plan_jobs([str(photo)], finding=Finding(listed), kinds=["visible"]), lambda: pipe)
    assert report.status == "failed" and second.name in report.error
    assert second.read_bytes() == b"mine!" and not photo.with_name("photo.person1.visible.png").exists()


def test_empty_file_is_no_output_of_another_program(photo: Path, pipe) -> None:
    photo.with_name("photo.deoccluded.png").touch()
    jobs = plan_jobs([str(photo)], boxes_xyxy=[(9, 9, 90, 90)])
    assert [report.status for report in run_jobs(jobs, lambda: pipe)] == ["done"]


@pytest.mark.parametrize("kind", ["content", "json", "layers"])
def test_output_that_was_cut_off_is_done_again(kind: str, photo: Path, pipe) -> None:
    jobs = plan_jobs([str(photo)], boxes_xyxy=[(9, 9, 90, 90)], kinds=[kind])
    assert [report.status for report in run_jobs(jobs, lambda: pipe)] == ["done"]
    (path,) = jobs[0].expected_paths
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 20])
    again = [report.status for report in run_jobs(jobs, lambda: pipe)]
    # an archive that was cut off has no list of files, and with it no stamp
    assert again == (["failed"] if kind == "layers" else ["done"])
    if kind != "layers":
        assert path.read_bytes() == whole


def test_link_in_place_of_an_output_stays_a_link(photo: Path, pipe) -> None:
    target = photo.with_name("elsewhere.png")
    target.touch()
    link = photo.with_name("photo.deoccluded.png")
    link.symlink_to(target)
    jobs = plan_jobs([str(photo)], boxes_xyxy=[(9, 9, 90, 90)])
    assert [report.status for report in run_jobs(jobs, lambda: pipe)] == ["done"]
    assert link.is_symlink() and load_photo(target).pixels.shape == load_photo(photo).pixels.shape
    assert [report.status for report in run_jobs(jobs, lambda: pipe)] == ["skipped"]


def test_pipe_in_place_of_an_output_is_written_into(photo: Path, pipe) -> None:
    fifo = photo.with_name("out.png")
    os.mkfifo(fifo)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_bytes()), daemon=True)
    reader.start()
    jobs = plan_jobs([str(photo)], boxes_xyxy=[(9, 9, 90, 90)], output=str(fifo))
    assert [report.status for report in run_jobs(jobs, lambda: pipe)] == ["done"]
    reader.join(timeout=20)
    assert load_photo(read[0]).pixels.shape == load_photo(photo).pixels.shape and not fifo.is_file()


def fill_disk(monkeypatch: pytest.MonkeyPatch, at: Callable[[str, Person | None], bool]) -> None:
    """Let the disk be full where an output of that kind and person is written."""
    write = jobs_module.write

    def full_disk(result: Result, kind: str, path: Path, person: Person | None = None, **about):
        if at(kind, person):
            raise DeoccludeError(f"cannot write {path}: No space left on device")
        return write(result, kind, path, person, **about)

    monkeypatch.setattr(jobs_module, "write", full_disk)


def test_failed_write_leaves_no_file_of_the_photo(photo: Path, pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = plan_jobs([str(photo)], boxes_xyxy=[(9, 9, 90, 90)], kinds=["content", "json", "overlay"])
    fill_disk(monkeypatch, lambda kind, _: kind == "overlay")
    (report,) = run_jobs(jobs, lambda: pipe)
    assert report.status == "failed" and "No space left" in report.error
    assert sorted(path.name for path in photo.parent.iterdir()) == ["mask.png", "photo.png"]


def test_former_outputs_stay_whole_where_a_new_write_fails(photo: Path, pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = plan_jobs([str(photo)], boxes_xyxy=[(9, 9, 90, 90)], kinds=["content", "json"])
    assert [report.status for report in run_jobs(jobs, lambda: pipe)] == ["done"]
    before = {path: path.read_bytes() for path in jobs[0].expected_paths}
    fill_disk(monkeypatch, lambda kind, _: kind == "json")
    assert [report.status for report in run_jobs(jobs, lambda: pipe, seed=1)] == ["failed"]
    assert {path: path.read_bytes() for path in jobs[0].expected_paths} == before


def test_temporary_files_of_killed_runs_are_removed(photo: Path, pipe) -> None:
    stray = photo.with_name(".deocclude-0123abcd.tmp")
    stray.write_bytes(b"half")
    list(run_jobs(plan_jobs([str(photo)], boxes_xyxy=[(9, 9, 90, 90)]), lambda: pipe))
    assert sorted(path.name for path in photo.parent.iterdir()) == ["mask.png", "photo.deoccluded.png", "photo.png"]


def test_person_selection_is_part_of_the_request(photo: Path, listed: CocoFile, pipe) -> None:
    def status(finding: Finding) -> str:
        return next(run_jobs(plan_jobs([str(photo)], finding=finding), lambda: pipe)).status

    assert [status(Finding(listed)), status(Finding(listed))] == ["done", "skipped"]
    assert status(Finding(listed, min_score=0.5)) == "done"
    assert status(Finding(listed, person="2")) == "done"
    listed.path.write_text(listed.path.read_text() + "\n")
    assert [status(Finding(listed, person="2")), status(Finding(listed, person="2"))] == ["done", "skipped"]


def test_missing_photo_fails_despite_an_existing_output(photo: Path, pipe) -> None:
    boxes = [(0, 0, 9, 9)]
    assert [r.status for r in run_jobs(plan_jobs([str(photo)], boxes_xyxy=boxes), lambda: pipe)] == ["done"]
    (report,) = run_jobs(plan_jobs([str(photo.with_suffix(".jpg"))], boxes_xyxy=boxes), lambda: pipe)
    assert report.status == "failed" and "photo.jpg" in report.error


def test_user_json_file_is_not_overwritten(photo: Path, pipe) -> None:
    photo.with_suffix(".json").write_text("mine")
    jobs = plan_jobs([str(photo)], boxes_xyxy=[(0, 0, 9, 9)], kinds=["content", "json"])
    assert [report.status for report in run_jobs(jobs, lambda: pipe)] == ["done"]
    assert photo.with_suffix(".json").read_text() == "mine"


def test_numbered_mask_prefers_the_photo_with_its_exact_name(tmp_path: Path) -> None:
    names = ("a.jpg", "a_1.jpg", "masks/a.png", "masks/a_1.png", "masks/a_2.png", "masks/a_1_1.png")
    root = make_files(tmp_path, *names)
    jobs = plan_jobs([str(root)], masks=[str(root / "masks")])
    found = {Path(job.source).name: [path.name for path in job.mask_paths] for job in jobs}
    assert found == {"a.jpg": ["a.png", "a_2.png"], "a_1.jpg": ["a_1.png", "a_1_1.png"]}


def test_network_error_is_reported_as_a_failed_photo(photo: Path, pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self, text: str) -> None:
            self.text = text

        def run(self, *_):
            raise RuntimeError(self.text)

    for text, told in (
        ("a bad input\nat line 7", "a network failed on this photo: a bad input"),
        ("[ONNXRuntimeError] : 1 : FAIL : std::bad_alloc", "not enough memory for this photo"),
    ):
        monkeypatch.setattr(pipe._stages.completion._network, "_session", Broken(text))
        (report,) = run_jobs(plan_jobs([str(photo)], boxes_xyxy=[(0, 0, 9, 9)]), lambda: pipe)
        assert report.status == "failed" and report.error == f"{photo}: {told}"


def test_timings_include_photo_loading(photo: Path, pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(source):
        time.sleep(0.2)
        return load_photo(source)

    monkeypatch.setattr("deocclude.batch.jobs.load_photo", slow)
    (report,) = run_jobs(plan_jobs([str(photo)], boxes_xyxy=[(0, 0, 9, 9)]), lambda: pipe)
    assert 0.2 <= report.timings["load"] < report.timings["total"]


@pytest.mark.parametrize("workers", [0, 2])
def test_failed_photo_does_not_stop_the_batch_unless_fail_fast(tmp_path: Path, person, pipe, workers: int) -> None:
    make_files(tmp_path, "in/b.png", "masks/b.png")
    for name in ("a", "c", "d"):
        Image.fromarray(person.photo).save(tmp_path / f"in/{name}.png")
    for name in ("a", "c"):
        Image.fromarray(person.visible).save(tmp_path / f"masks/{name}.png")
    jobs = plan_jobs([str(tmp_path / "in")], output=str(tmp_path / "out"), masks=[str(tmp_path / "masks")])
    told: list[str] = []
    reports = list(run_jobs(jobs, pipe.reopen, workers=workers, on_report=lambda report: told.append(report.source)))
    assert [report.status for report in reports] == ["done", "failed", "done", "failed"]
    assert sorted(told) == [report.source for report in reports]
    assert "b.png" in reports[1].error
    assert "no mask for" in reports[3].error and "d_1.png" in reports[3].error
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.deoccluded.png", "c.deoccluded.png"]
    assert exit_code(reports, photos=4) == 5

    stopped = list(run_jobs(jobs, pipe.reopen, workers=workers, overwrite=True, fail_fast=True))
    # with two processes, c may be in work when b fails, and is finished
    assert [report.status for report in stopped] in [["done", "failed"], ["done", "failed", "done"][: 2 + workers]]


@pytest.fixture
def marked_photos(tmp_path: Path, person) -> Callable[..., Path]:
    """A folder of photos whose first pixel tells `MarkedSegmenter` what to do."""

    def draw(**marks: str) -> Path:
        folder = tmp_path / "in"
        folder.mkdir()
        for name, mark in marks.items():
            photo = person.photo.copy()
            photo[0, 0] = MARKS.get(mark, (0, 0, 0))
            Image.fromarray(photo).save(folder / f"{name}.png")
        return folder

    return draw


def test_pictures_of_worker_processes_are_the_same_bit_for_bit(marked_photos, tmp_path: Path, pipe) -> None:
    folder = marked_photos(a="", b="", c="")
    written = []
    for workers in (0, 2):
        out = tmp_path / f"out{workers}"
        jobs = plan_jobs(
            [str(folder)], output=str(out), finding=Finding(MarkedSegmenter()), kinds=["content", "rgba", "json"]
        )
        reports = list(run_jobs(jobs, pipe.reopen, workers=workers))
        assert [(report.status, report.people_count, len(report.stamp)) for report in reports] == [("done", 1, 16)] * 3
        written.append({path.name: path.read_bytes() for path in out.iterdir()})
        again = list(run_jobs(jobs, pipe.reopen, workers=workers))
        assert [(report.status, report.people_count) for report in again] == [("skipped", 1)] * 3
        assert [report.stamp for report in again] == [report.stamp for report in reports]
    assert written[0] == written[1] and len(written[0]) == 9


def test_photo_that_kills_its_process_fails_after_two_tries_and_the_others_are_done(
    marked_photos, tmp_path: Path, pipe
) -> None:
    folder = marked_photos(a="", b="kill", c="", d="")
    segmenter = MarkedSegmenter(tmp_path / "calls.txt")
    jobs = plan_jobs([str(folder)], output=str(tmp_path / "out"), finding=Finding(segmenter))
    reports = list(run_jobs(jobs, pipe.reopen, workers=2))
    assert [report.status for report in reports] == ["done", "failed", "done", "done"]
    assert reports[1].error == (
        f"{folder / 'b.png'}: ended its process in both of two tries (killed by SIGKILL, for want of memory perhaps)"
    )
    assert exit_code(reports, photos=4) == 5
    assert segmenter.calls == 5, "b was tried twice, the others once"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{n}.deoccluded.png" for n in "acd"]


def test_photo_that_exceeds_the_time_limit_fails_and_the_others_are_done(marked_photos, tmp_path: Path, pipe) -> None:
    folder = marked_photos(a="", b="sleep", c="")
    segmenter = MarkedSegmenter(tmp_path / "calls.txt")
    jobs = plan_jobs([str(folder)], output=str(tmp_path / "out"), finding=Finding(segmenter))
    reports = list(run_jobs(jobs, pipe.reopen, workers=1, time_limit_s=15))
    assert [report.status for report in reports] == ["done", "failed", "done"]
    assert reports[1].error == f"{folder / 'b.png'}: took longer than the time limit of 15 s"
    assert segmenter.calls == 3


def test_process_killed_between_its_writes_leaves_no_file(marked_photos, tmp_path: Path, pipe) -> None:
    """The temporary files of the dead process are removed, and the second try finishes the photo."""
    folder = marked_photos(a="half-written-once")
    out = tmp_path / "out"
    jobs = plan_jobs([str(folder)], output=str(out), finding=Finding(MarkedSegmenter(tmp_path / "calls.txt", out)))
    assert [report.status for report in run_jobs(jobs, pipe.reopen, workers=1)] == ["done"]
    assert [path.name for path in out.iterdir()] == ["a.deoccluded.png"]


def test_error_of_loading_in_a_process_is_the_error_of_the_run(marked_photos, tmp_path: Path) -> None:
    jobs = plan_jobs([str(marked_photos(a="", b=""))], output=str(tmp_path / "out"))
    with pytest.raises(WeightsError, match="cannot read the weights' manifest"):
        list(run_jobs(jobs, partial(load, weights_dir=tmp_path / "none"), workers=2))


def test_more_processes_than_a_machine_has_cores_are_refused() -> None:
    with pytest.raises(UsageError, match="photos at a time: at most 1024, got 99999"):
        list(run_jobs([], lambda: None, workers=99999))


def test_time_limit_without_worker_processes_is_refused(photo: Path, pipe) -> None:
    for source, workers in ((str(photo), 0), ("-", 1)):
        with pytest.raises(UsageError, match="a time limit needs files and worker processes"):
            list(run_jobs(plan_jobs([source]), lambda: pipe, workers=workers, time_limit_s=9))


def test_exit_code_of_a_single_photo_is_its_error_code(tmp_path: Path, pipe) -> None:
    jobs = plan_jobs([str(tmp_path / "gone.jpg")], boxes_xyxy=[(0, 0, 9, 9)])
    reports = list(run_jobs(jobs, lambda: pipe))
    assert "gone.jpg" in reports[0].error
    assert exit_code(reports, photos=1) == 1
    assert exit_code([], photos=1) == 0


def test_full_disk_leaves_no_partial_files(photo: Path, pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = plan_jobs([str(photo)], masks=[str(photo.with_name("mask.png"))])
    before = sorted(photo.parent.iterdir())

    def full(self, file, *args, **kwargs):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    (report,) = run_jobs(jobs, lambda: pipe)
    assert report.status == "failed"
    assert "No space left on device" in report.error and "photo.deoccluded.png" in report.error
    assert sorted(photo.parent.iterdir()) == before


def test_picture_too_large_for_its_format_on_stdout_fails_alone(
    photo: Path, pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("encoding error 5: Image size exceeds WebP limit of 16383 pixels")

    jobs = plan_jobs([str(photo)], masks=[str(photo.with_name("mask.png"))], output="-")
    monkeypatch.setattr(Image.Image, "save", refuse)
    (report,) = run_jobs(jobs, lambda: pipe)
    assert report.status == "failed" and "cannot write a PNG to standard output: encoding error 5" in report.error


def test_piped_input_is_never_skipped(photo: Path, pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    output = photo.with_name("piped.png")
    (job,) = plan_jobs(["-"], boxes_xyxy=[(9, 9, 90, 90)], output=str(output))
    output.write_bytes(photo.read_bytes())
    assert not job.done_paths
    output.unlink()
    fifo = photo.with_name("fifo")
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_bytes(photo.read_bytes()), daemon=True)
    writer.start()
    (report,) = run_jobs(plan_jobs([str(fifo)], boxes_xyxy=[(9, 9, 90, 90)], output=str(output)), lambda: pipe)
    assert report.status == "done", "and it is read once"


@pytest.fixture
def labels(photo: Path, person) -> Path:
    """A mask file of two people, 1 the drawn one and 2 beside it."""
    values = person.visible.astype(np.uint8)
    values[300:400, 40:100] = 2
    Image.fromarray(values).save(photo.with_name("labels.png"))
    return photo.with_name("labels.png")


def test_people_of_a_label_file_each_get_a_file(photo: Path, labels: Path, pipe) -> None:
    jobs = plan_jobs(
        [str(photo)], masks=[str(labels), str(photo.with_name("mask.png"))], boxes_xyxy=[(480, 60, 560, 200)],
        kinds=["visible", "content"],
    )  # fmt: skip
    (report,) = run_jobs(jobs, lambda: pipe)
    assert [person.id for person in report.people] == [1, 2, 3, 4]
    assert [Path(name).name for name in report.outputs] == [
        *(f"photo.person{i}.visible.png" for i in (1, 2, 3, 4)), "photo.deoccluded.png",
    ]  # fmt: skip
    assert report.people[1].box_xyxy[0] < 200 and report.people[3].box_xyxy[2] > 500


def test_numbered_mask_files_may_hold_labels(photo: Path, labels: Path, person, pipe) -> None:
    masks = photo.parent / "masks"
    masks.mkdir()
    labels.rename(masks / "photo_1.png")
    Image.fromarray(person.visible).save(masks / "photo_2.png")
    (report,) = run_jobs(plan_jobs([str(photo)], masks=[str(masks)]), lambda: pipe)
    assert [round(person.box_xyxy[0], -1) < 100 for person in report.people] == [False, True, False]


def test_label_file_is_done_with_the_files_of_all_its_people(photo: Path, labels: Path, pipe) -> None:
    def status(label: int | None = None, kinds: tuple[str, ...] = ("visible",)) -> str:
        (job,) = plan_jobs([str(photo)], masks=[str(labels)], mask_label=label, kinds=kinds)
        return next(run_jobs([job], lambda: pipe)).status

    assert [status(), status()] == ["done", "skipped"]
    photo.with_name("photo.person2.visible.png").unlink()
    assert [status(), status()] == ["done", "skipped"]
    assert [status(2), status(2)] == ["done", "skipped"], "another label is another request"
    assert not photo.with_name("photo.person2.visible.png").exists()
    assert [status(1), status(1), status(), status()] == ["done", "skipped", "done", "skipped"]


def test_label_of_masks_is_in_the_stamp_alone_where_masks_are(photo: Path, labels: Path) -> None:
    stamps = {plan_jobs([str(photo)], masks=[str(labels)], mask_label=n)[0].stamp(0, "") for n in (None, 1, 2)}
    assert len(stamps) == 3
    with pytest.raises(UsageError, match="--mask-label 1 picks a label of --mask files"):
        plan_jobs([str(photo)], boxes_xyxy=[(9, 9, 90, 90)], mask_label=1)


def test_one_output_file_for_several_labels_is_refused(photo: Path, labels: Path, pipe) -> None:
    output = photo.with_name("one.png")

    def run(label: int | None, to: str):
        jobs = plan_jobs([str(photo)], masks=[str(labels)], mask_label=label, kinds=["rgba"], output=to)
        return next(run_jobs(jobs, lambda: pipe))

    for to, name in ((str(output), "one.png"), ("-", "standard output")):
        report = run(None, to)
        assert report.status == "failed" and report.exit_code == 2
        assert f"{name} is one file, but 2 people are saved" in report.error
    assert not output.exists()
    assert run(2, str(output)).status == "done" and output.is_file()


def test_label_file_is_never_overwritten(photo: Path, labels: Path, pipe) -> None:
    taken = labels.rename(photo.with_name("photo.person2.visible.png"))
    before = taken.read_bytes()
    (report,) = run_jobs(plan_jobs([str(photo)], masks=[str(taken)], kinds=["visible"]), lambda: pipe, overwrite=True)
    assert "person2.visible.png is an input" in report.error
    assert taken.read_bytes() == before and not photo.with_name("photo.person1.visible.png").exists()


def test_job_is_done_only_when_every_persons_file_is_written(
    photo: Path, listed: CocoFile, pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = plan_jobs([str(photo)], finding=Finding(listed), kinds=["visible"])
    with monkeypatch.context() as patched:
        fill_disk(patched, lambda _, person: person.id == 2)
        assert [report.status for report in run_jobs(jobs, lambda: pipe)] == ["failed"]
    assert [report.status for report in run_jobs(jobs, lambda: pipe)] == ["done"]
    assert photo.with_name("photo.person2.visible.png").is_file()


def test_stale_files_of_unselected_people_are_deleted(photo: Path, listed: CocoFile, pipe) -> None:
    def names(finding: Finding) -> list[str]:
        assert [r.status for r in run_jobs(plan_jobs([str(photo)], finding=finding, kinds=["rgba"]), lambda: pipe)]
        return sorted(path.name for path in photo.parent.glob("photo.person*"))

    assert names(Finding(listed)) == ["photo.person1.rgba.png", "photo.person2.rgba.png"]
    photo.with_name("photo.person7.rgba.png").write_bytes(b"mine")
    photo.with_name("photo.person2.amodal.png").write_bytes(b"of another kind")
    left = ["photo.person1.rgba.png", "photo.person2.amodal.png", "photo.person7.rgba.png"]
    assert names(Finding(listed, person="1")) == left, "files without a stamp stay"


def test_empty_output_file_is_rewritten(photo: Path, pipe) -> None:
    jobs = plan_jobs([str(photo)], boxes_xyxy=[(9, 9, 90, 90)])
    photo.with_name("photo.deoccluded.png").touch()
    assert [report.status for report in run_jobs(jobs, lambda: pipe)] == ["done"]


def test_mask_equal_to_the_photo_and_empty_options_are_refused(photo: Path) -> None:
    (job,) = plan_jobs([str(photo)], masks=[str(photo.parent)])
    assert job.mask_paths == () and job.problem and job.problem.startswith(f"no mask for {photo}: looked for")
    for options, named in (({"masks": [""]}, "--mask"), ({"output": ""}, "-o")):
        with pytest.raises(UsageError, match=f"{named}: the name is empty"):
            plan_jobs([str(photo)], **options)


def test_photos_and_their_masks_may_lie_in_one_folder(tmp_path: Path) -> None:
    there = ("A.JPG", "a.png", "b.jpg", "b_1.png", "b_2.png", "c.png", "sub/d.jpeg", "sub/d.png")
    root = make_files(tmp_path / "in", *there)
    planned = {
        job.source: [str(path) for path in job.mask_paths]
        for job in plan_jobs([str(root)], masks=[str(root)], recursive=True, output=str(tmp_path / "out"))
    }
    masks = {"A.JPG": ["a.png"], "b.jpg": ["b_1.png", "b_2.png"], "c.png": [], "sub/d.jpeg": ["sub/d.png"]}
    assert planned == {str(root / name): [str(root / mask) for mask in found] for name, found in masks.items()}
    apart = make_files(tmp_path / "apart", "a.jpg", "a_1.png")
    assert len(plan_jobs([str(apart)])) == 2, "without --mask, and so without masks, each is a photo"


def test_masks_beside_photos_are_found_through_a_link(tmp_path: Path) -> None:
    make_files(tmp_path, "far/d.jpg", "far/d.png")
    (tmp_path / "in" / "a").mkdir(parents=True)
    (tmp_path / "in" / "a" / "link").symlink_to(tmp_path / "far")
    inside = tmp_path / "in"
    (job,) = plan_jobs(
        [str(inside)], masks=[str(inside)], recursive=True, follow_links=True, output=str(tmp_path / "o")
    )
    assert (job.source, job.mask_paths) == (str(inside / "a/link/d.jpg"), (inside / "a/link/d.png",))


def test_photo_below_a_link_may_have_more_folders_than_its_real_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = make_files(tmp_path, "in/a/b/c/d.png") / "in/a/b/c/d.png"
    resolve = Path.resolve
    monkeypatch.setattr(Path, "resolve", lambda path: Path("/d.png") if path == photo else resolve(path))
    (job,) = plan_jobs([str(tmp_path / "in")], recursive=True)
    assert job.source == str(photo)


def test_photos_are_loaded_lazily(tmp_path: Path, person, pipe) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(person.photo).save(tmp_path / name)
    jobs = plan_jobs([str(tmp_path)], output=str(tmp_path / "out"), finding=Finding(lambda image: []))
    reports = run_jobs(jobs, lambda: pipe)
    assert next(reports).status == "done"
    (tmp_path / "b.png").write_bytes(b"damaged meanwhile")
    assert next(reports).status == "failed"


def test_output_folder_is_not_created_when_no_person_is_found(photo: Path, pipe) -> None:
    out = photo.parent / "new"
    jobs = plan_jobs([str(photo)], output=str(out), finding=Finding(lambda image: []), kinds=["rgba"])
    assert [report.status for report in run_jobs(jobs, lambda: pipe)] == ["done"] and not out.exists()


def test_a_photo_is_held_once(photo: Path, pipe) -> None:
    seen: list[Photo] = []
    results: list[Result] = []

    def recover(image: Photo, **options) -> Result:
        seen.append(image)
        results.append(pipe(image, **options))
        return results[0]

    (job,) = plan_jobs([str(photo)], masks=[str(photo.with_name("mask.png"))])
    assert do_job(job, recover).status == "done"
    assert isinstance(seen[0], Photo) and np.shares_memory(results[0].image, seen[0].pixels)
