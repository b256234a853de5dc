"""Runs on a Ray cluster of two workers: equal to a run in this process, whole after a killed worker, and quiet."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deocclude.batch.folder import LeftOut
from deocclude.batch.jobs import run_jobs as run_in_process
from deocclude.batch.plan import Finding, plan_jobs
from deocclude.errors import DeoccludeError, WeightsError
from deocclude.inference.runtime import find_model
from deocclude.pipeline import load
from deocclude.scale import run
from marked_segmenter import MARKS, MarkedSegmenter
from object_store import Bucket

KINDS = ["content", "rgba", "json"]


@pytest.fixture
def photos(tmp_path: Path, person) -> Callable[..., Path]:
    """A folder of photos, of which no two are equal, whose first pixel tells `MarkedSegmenter` what to do."""

    def draw(**marks: str) -> Path:
        folder = tmp_path / "in" / "sub"
        folder.mkdir(parents=True)
        for number, (name, mark) in enumerate(marks.items()):
            photo = person.photo.copy()
            photo[-40:] = number
            photo[0, 0] = MARKS.get(mark, (0, 0, 0))
            Image.fromarray(photo).save(folder / f"{name}.png")
        return folder.parent

    return draw


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def expected(folder: Path, out: Path, weights_dir: Path) -> dict[str, bytes]:
    """The files of a run of the folder in this process."""
    opened = partial(load, device="cpu", weights_dir=weights_dir, threads=1)
    digest = find_model("base", weights_dir).digest
    plan = plan_jobs([str(folder)], output=str(out), finding=Finding(MarkedSegmenter()), kinds=KINDS, recursive=True)
    assert {report.status for report in run_in_process(plan, opened, model=digest)} <= {"done", "failed"}
    return files_of(out)


def test_files_of_a_folder_are_those_of_one_process_and_a_failed_photo_is_a_row(
    photos, tmp_path: Path, weights_dir: Path, two_workers: int
) -> None:
    folder = photos(a="", b="", c="", d="")
    (folder / "sub" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n of nothing")
    manifest = tmp_path / "run.jsonl"
    reports = run(
        str(folder), str(tmp_path / "out"), weights_dir=weights_dir, workers=two_workers, manifest=manifest,
        finding=Finding(MarkedSegmenter()), kinds=KINDS, recursive=True,
    )  # fmt: skip
    assert [(Path(report.source).stem, report.status) for report in reports] == [
        ("a", "done"), ("b", "done"), ("broken", "failed"), ("c", "done"), ("d", "done"),
    ]  # fmt: skip
    assert "sub/broken.png: damaged image" in reports[2].error and reports[0].outputs[0].startswith(str(tmp_path))
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert [(row["status"], bool(row["reason"])) for row in rows] == [
        ("done", False), ("done", False), ("failed", True), ("done", False), ("done", False),
    ]  # fmt: skip
    files = files_of(tmp_path / "out")
    assert files == expected(folder, tmp_path / "process", weights_dir) and len(files) == 12


def test_store_holds_the_same_files_once_after_a_killed_worker_and_a_photo_that_kills(
    photos, tmp_path: Path, weights_dir: Path, bucket: Bucket, two_workers: int
) -> None:
    """Two tries of a photo that kills its worker; nothing lost or doubled; the next run does nothing again."""
    folder = photos(a="", b="wait-for-a-killer", c="kill", d="", e="", f="")
    for name, content in files_of(folder).items():
        bucket.put(f"in/{name}", content)
    bucket.put("in/notes.txt", b"no photo")
    segmenter = MarkedSegmenter(tmp_path / "calls.txt", tmp_path)
    left_out: list[LeftOut] = []
    manifest = "s3://bucket/run.jsonl"

    def run_it():
        return run(
            "s3://bucket/in", "s3://bucket/out", weights_dir=weights_dir, workers=two_workers, manifest=manifest,
            finding=Finding(segmenter), kinds=KINDS, recursive=True, on_left_out=left_out.append,
        )  # fmt: skip

    killer = threading.Thread(target=kill_when_told, args=(tmp_path / "pid",), daemon=True)
    killer.start()
    reports = run_it()
    killer.join()
    assert [report.source for report in reports] == [f"s3://bucket/in/sub/{name}.png" for name in "abcdef"]
    assert [report.status for report in reports] == ["done", "done", "failed", "done", "done", "done"]
    assert reports[2].error == "s3://bucket/in/sub/c.png: ended its worker process in each of 2 tries"
    assert reports[0].outputs == tuple(
        f"s3://bucket/out/sub/a.{end}" for end in ("deoccluded.png", "person1.rgba.png", "deoccluded.json")
    )
    assert [str(one.path) for one in left_out] == ["s3:/bucket/in/notes.txt"]
    (folder / "sub" / "c.png").unlink()
    files = expected(folder, tmp_path / "process", weights_dir)
    stored = bucket.files("out/")
    assert stored.keys() == files.keys() and len(files) == 15
    assert [name for name in files if stored[name] != files[name]] == []
    calls = segmenter.calls
    assert calls >= 5 + 1 + 2, "each photo once, b once more, c twice"
    rows = [json.loads(line) for line in bucket.files("run.jsonl")[""].splitlines()]
    assert [row["status"] for row in rows] == [report.status for report in reports] + ["left_out"]

    again = run_it()
    assert [report.status for report in again] == ["skipped", "skipped", "failed", "skipped", "skipped", "skipped"]
    assert segmenter.calls == calls + 2 and bucket.files("out/") == files
    assert [report.stamp for report in again if report.stamp] == [report.stamp for report in reports if report.stamp]


def kill_when_told(pid: Path) -> None:
    while not pid.exists():
        time.sleep(0.05)
    os.kill(int(pid.read_text()), signal.SIGKILL)


def test_error_of_the_model_ends_the_run(photos, tmp_path: Path, weights_dir: Path, two_workers: int) -> None:
    (copy := tmp_path / "weights").mkdir()
    for path in weights_dir.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "mask_completion_base.onnx").write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="damaged weights"):
        run(str(photos(a="")), str(tmp_path / "out"), weights_dir=copy, recursive=True)


def test_cluster_that_is_too_small_for_a_worker_is_an_error_at_once(
    photos, tmp_path: Path, weights_dir: Path, two_workers: int
) -> None:
    with pytest.raises(DeoccludeError, match="too small: it has 3 CPUs, but a worker needs 3 on one machine"):
        run(str(photos(a="")), str(tmp_path / "out"), weights_dir=weights_dir, threads=3, recursive=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
def test_command_prints_its_own_lines_alone_though_a_worker_is_killed(
    tmp_path: Path, person, finding_weights_dir: Path
) -> None:
    (tmp_path / "in").mkdir()
    for number in range(12):
        Image.fromarray(np.where(person.amodal[..., None], person.photo, number).astype(np.uint8)).save(
            tmp_path / "in" / f"{number:02}.png"
        )
    command = [
        sys.executable, "-m", "deocclude", "run", "in", "-o", "out", "--engine", "ray", "-j", "2", "--json",
        "--weights", str(finding_weights_dir),
    ]  # fmt: skip
    started = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    os.kill(first_worker_of(started.pid), signal.SIGKILL)
    out, err = started.communicate(timeout=300)
    assert [json.loads(line)["status"] for line in out.splitlines()] == ["done"] * 12
    assert err.splitlines() == ["ray: 2 workers with 1 CPU each", "12 photos: 12 done"]
    assert started.returncode == 0 and len(list((tmp_path / "out").iterdir())) == 12


def first_worker_of(pid: int) -> int:
    """The first actor with a model below a process, once it has come up."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                command = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if command.startswith(b"ray::MapWorker") and is_below(int(folder.name), pid):
                return int(folder.name)
        time.sleep(0.05)
    raise AssertionError("no worker has come up")


def is_below(pid: int, ancestor: int) -> bool:
    while pid > 1 and pid != ancestor:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return pid == ancestor
