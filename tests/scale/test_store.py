"""Photos and results in stores, without Ray: listings, names, what is fetched and what is put back."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from deocclude.batch.folder import LeftOut
from deocclude.batch.jobs import Report, Work
from deocclude.batch.plan import Finding, Job, plan_jobs
from deocclude.errors import DeoccludeError, MissingExtraError, MissingPackageError, UsageError, WeightsError
from deocclude.inference.runtime import find_model
from deocclude.pipeline import load
from deocclude.scale import store
from deocclude.scale.cluster import cluster
from deocclude.scale.engine import run_jobs
from deocclude.scale.find import find_anywhere
from deocclude.scale.mirror import existing_outputs, mirrored
from deocclude.scale.run import manifest_at
from deocclude.scale.worker import Item, PhotoWorker, Tries, open_same
from marked_segmenter import MarkedSegmenter
from object_store import Bucket


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    """A store in this process, memory://, empty before and after."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()


@pytest.fixture
def photo(person) -> bytes:
    with io.BytesIO() as content:
        Image.fromarray(person.photo).save(content, "PNG")
        return content.getvalue()


def plan(*inputs: str, output: str = "memory://out", segmenter=None, kinds=("content", "rgba")) -> list[Job]:
    finding = Finding(segmenter or MarkedSegmenter())
    return plan_jobs(inputs, output=output, finding=finding, kinds=kinds, find=find_anywhere, recursive=True)


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("s3://bucket/a b/c.png", "s3://bucket/a b/c.png"),
        ("gs://bucket", "gs://bucket"),
        ("file:///tmp/a.png", "file:///tmp/a.png"),
        ("C:/photos/a.png", None),
        ("/photos/a.png", None),
        ("photos/s3:a.png", None),
    ],
)
def test_url_survives_as_a_path(url: str, same: str | None) -> None:
    assert store.url_of(Path(url)) == same


def test_listing_of_s3_shows_what_is_there_now(bucket: Bucket) -> None:
    bucket.put("list/a.jpg", b"a")
    bucket.put("list/sub/b.jpg", b"b")
    bucket.put("list/folder/", b"")
    assert store.names_below("s3://bucket/list") == ["a.jpg", "sub/b.jpg"]
    assert store.names_below("s3://bucket/list", recursive=False) == ["a.jpg"]
    bucket.put("list/c.jpg", b"c")  # behind fsspec's back
    assert store.names_below("s3://bucket/list") == ["a.jpg", "c.jpg", "sub/b.jpg"]
    assert store.names_below("s3://bucket/list", recursive=False) == ["a.jpg", "c.jpg"]
    assert store.names_below("s3://bucket/list/a.jpg") == [""]
    assert store.names_below("s3://bucket/lis") == store.names_below("s3://none/list") == []


def test_file_of_s3_is_written_and_removed_and_what_the_store_refuses_is_named(bucket: Bucket) -> None:
    store.write("s3://bucket/new/a.bin", b"content")
    assert bucket.files("new/") == {"a.bin": b"content"} and store.read("s3://bucket/new/a.bin") == b"content"
    store.remove("s3://bucket/new/a.bin")
    store.remove("s3://bucket/new/a.bin")
    assert bucket.files("new/") == {}
    with pytest.raises(store.StoreError, match=r"cannot read s3://bucket/new/a\.bin: no such file"):
        store.read("s3://bucket/new/a.bin")
    with pytest.raises(store.StoreError, match=r"cannot write s3://none/a\.bin: .*bucket"):
        store.write("s3://none/a.bin", b"content")


def test_store_without_its_package_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(package: str):
        def opened(url: str):
            raise MissingPackageError(f"{url}: needs another package: Install {package}")

        return opened

    monkeypatch.setattr(store, "file_system", without("s3fs"))
    with pytest.raises(MissingExtraError, match=r'pip install "deocclude\[scale\]"'):
        store.read("s3://bucket/a.jpg")
    monkeypatch.setattr(store, "file_system", without("gcsfs"))
    with pytest.raises(MissingPackageError, match="gcsfs"):
        store.read("gs://bucket/a.jpg")


def test_photos_of_a_prefix_are_told_by_their_names(memory, tmp_path: Path) -> None:
    for name in ("a.jpg", "sub/b.PNG", "sub/notes.txt", ".hidden.jpg", "raw.dng", "a.deoccluded.png", "out/c.jpg"):
        memory.pipe_file(f"/in/{name}", b"")
    found = find_anywhere(["memory://in/"], recursive=True, not_photos=[Path("memory://in/out")])
    assert [(one.path, str(one.relative)) for one in found.photos] == [
        ("memory://in/a.jpg", "a.jpg"), ("memory://in/sub/b.PNG", "sub/b.PNG"),
    ]  # fmt: skip
    assert {one.path.name: one.is_photo for one in found.left_out} == {
        ".hidden.jpg": False, "a.deoccluded.png": False, "raw.dng": True, "notes.txt": False,
    }  # fmt: skip
    for outputs in ("memory://in", "memory://"):  # a run may write beside the photos, and around them
        there = find_anywhere(["memory://in/sub"], not_photos=[Path(outputs), Path("memory://in/sub")])
        assert [one.path for one in there.photos] == ["memory://in/sub/b.PNG"]
    alone = find_anywhere(["memory://in/sub/b.PNG", "memory://in/sub/b.PNG"])
    assert [str(one.relative) for one in alone.photos] == ["b.PNG"] and "twice" in alone.left_out[0].reason
    assert [one.path for one in find_anywhere(["memory://in"]).photos] == ["memory://in/a.jpg"]
    with pytest.raises(UsageError, match=r"no photos in memory://none \(prefixes inside .* --recursive\)"):
        find_anywhere(["memory://none"])
    (tmp_path / "list.txt").write_text("memory://in/../in/a.jpg\nmemory://in/sub/b.PNG\n")
    listed = find_anywhere([str(tmp_path / "list.txt")])
    assert [str(one.relative) for one in listed.photos] == ["in/in/a.jpg", "in/sub/b.PNG"], "no place outside -o"


def test_outputs_that_exist_are_told_by_photo() -> None:
    jobs = plan_jobs(
        ["memory://in"], output="memory://out", kinds=["content", "rgba"], recursive=True,
        find=lambda *_, **__: find_list("a.jpg", "ab.jpg", "sub/a.jpg"),
    )  # fmt: skip
    names = ["a.deoccluded.png", "a.person2.rgba.png", "ab.person1.rgba.png", "sub/a.overlay.png", "b.deoccluded.png"]
    assert existing_outputs(jobs, [f"memory://out/{name}" for name in names]) == [
        ("memory://out/a.deoccluded.png", "memory://out/a.person2.rgba.png"),
        ("memory://out/ab.person1.rgba.png",),
        ("memory://out/sub/a.overlay.png",),
    ]


def find_list(*names: str):
    from deocclude.batch.folder import Found, Source

    return Found([Source(f"memory://in/{name}", Path(name), Path("memory://in")) for name in names])


def done(job: Job, work: Work, existing: tuple[str, ...] = ()) -> Report:
    with mirrored(job, existing) as mirror:
        return mirror.put_back(work(mirror.job))


def stored(memory, folder: str) -> dict[str, bytes]:
    return {name.removeprefix(f"{folder}/"): memory.cat_file(name) for name in memory.find(folder)}


def test_job_of_a_store_writes_the_files_of_a_folder_and_is_skipped_and_keeps_others_files(
    memory, photo: bytes, tmp_path: Path, pipe
) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "sub" / "a.png").write_bytes(photo)
    memory.pipe_file("/in/sub/a.png", photo)
    work = Work(pipe.reopen, 0, "digest", False)
    (local,) = plan(str(tmp_path / "in"), output=str(tmp_path / "out"))
    (job,) = plan("memory://in")
    assert work(local).status == "done"
    report = done(job, work)
    files = {path.name: path.read_bytes() for path in (tmp_path / "out" / "sub").iterdir()}
    assert report.status == "done" and stored(memory, "/out/sub") == files and len(files) == 2
    assert report.source == "memory://in/sub/a.png" and report.content == "memory://out/sub/a.deoccluded.png"
    assert report.outputs == (report.content, "memory://out/sub/a.person1.rgba.png")

    assert done(job, work, report.outputs).status == "skipped"
    memory.pipe_file("/out/sub/a.deoccluded.png", b"of another program")
    refused = done(job, work, report.outputs)
    assert refused.status == "failed" and refused.error.startswith("memory://out/sub/a.deoccluded.png exists and is no")
    assert memory.cat_file("/out/sub/a.deoccluded.png") == b"of another program"


def test_stale_output_in_a_store_is_removed(memory, photo: bytes, pipe) -> None:
    memory.pipe_file("/in/a.png", photo)
    work = Work(pipe.reopen, 0, "digest", False)
    first = done(plan("memory://in")[0], work)
    nobody = done(plan("memory://in", segmenter=lambda image: [])[0], work, first.outputs)
    assert nobody.status == "done" and list(stored(memory, "/out")) == ["a.deoccluded.png"]


def outcomes(worker: PhotoWorker, *items: Item) -> list:
    block = {"items": np.array([pickle.dumps(list(items))], object)}
    return pickle.loads(worker(block)["outcomes"][0])


def test_worker_raises_nothing_and_gives_up_a_photo_that_ended_its_process_twice(memory, photo: bytes, pipe) -> None:
    memory.pipe_file("/in/a.png", photo)
    memory.pipe_file("/in/b.png", photo)
    a, b = plan("memory://in")
    memory.rm_file("/in/b.png")
    tries = Tries()
    tries.begin(7)
    worker = PhotoWorker(
        pipe.reopen, 0, "digest", False, [a.finding, Finding(unlucky)], ".", tries.begin, lambda index: tries.end(index)
    )
    items = [Item(1, a, 0), Item(2, b, 0), Item(3, a, 1, ()), Item(7, a, 0)]
    (_, one), (_, two), (_, three), (_, seven) = outcomes(worker, *items)
    assert one.status == "done" and two.error == "cannot read memory://in/b.png: no such file"
    assert three.error == "memory://in/a.png: ZeroDivisionError: unlucky" and three.status == "failed"
    assert seven.status == "done", "one try before is none too many"
    tries.begin(7)
    tries.begin(7)
    ((_, again),) = outcomes(worker, Item(7, a, 0))
    assert again.error == "memory://in/a.png: ended its worker process in each of 2 tries"


def unlucky(image: np.ndarray) -> list[np.ndarray]:
    raise ZeroDivisionError("unlucky")


def test_worker_with_other_weights_ends_the_run(memory, photo: bytes, weights_dir: Path) -> None:
    memory.pipe_file("/in/a.png", photo)
    (job,) = plan("memory://in")
    opened = partial(load, weights_dir=weights_dir, device="cpu")
    wrong = partial(open_same, opened, "base", weights_dir, "0" * 64)
    ((_, error),) = outcomes(PhotoWorker(wrong, 0, "", False, [job.finding], ".", lambda _: 0, print), Item(0, job, 0))
    assert isinstance(error, WeightsError) and "has other weights of model 'base'" in str(error)
    assert open_same(opened, "base", weights_dir, find_model("base", weights_dir).digest).model == "base"


def test_manifest_in_a_store_is_written_after_an_error_and_replaces_manifests_alone(memory, photo: bytes) -> None:
    memory.pipe_file("/in/a.png", photo)
    jobs = plan("memory://in")
    path = Path("memory://out/run.csv")
    left = [LeftOut(Path("memory://in/x.txt"), "files that are no photos")]
    with pytest.raises(ZeroDivisionError), manifest_at(path, jobs, left, False) as add:
        add(Report("memory://in/a.png", "done", people_count=1))
        raise ZeroDivisionError
    assert memory.cat_file("/out/run.csv").splitlines()[1].startswith(b"memory://in/a.png,done")
    with manifest_at(path, jobs, (), False):
        pass
    assert b"not_tried" in memory.cat_file("/out/run.csv")
    memory.pipe_file("/out/run.csv", b"of another program")
    with pytest.raises(UsageError, match="is no manifest"), manifest_at(path, jobs, (), False):
        pass
    assert memory.cat_file("/out/run.csv") == b"of another program"


@pytest.mark.parametrize(
    ("address", "error", "words"),
    [
        ("127.0.0.1:1", DeoccludeError, "no Ray cluster at 127.0.0.1:1: "),
        ("somewhere", UsageError, "--address takes HOST:PORT or auto, got somewhere"),
        ("ray://127.0.0.1:10001", UsageError, "expected HOST:PORT or auto"),
    ],
)
def test_address_where_no_cluster_answers_is_an_error_at_once(
    address: str, error: type[DeoccludeError], words: str
) -> None:
    with pytest.raises(error) as raised, cluster(address, 1, 1):
        pass
    assert words in str(raised.value)


def test_without_ray_the_line_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray.data", None)
    with pytest.raises(MissingExtraError, match=r'--engine ray needs .* pip install "deocclude\[scale\]"'):
        next(run_jobs(plan_jobs(["a.jpg"]), load))


def test_standard_input_has_no_place_on_a_cluster() -> None:
    with pytest.raises(UsageError, match="standard input"):
        next(run_jobs(plan_jobs(["-"]), load))
