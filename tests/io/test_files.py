"""Files on disk: whole or absent, several together or none, and no trace of killed runs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from deocclude.errors import DeoccludeError
from deocclude.io import files
from deocclude.io.files import all_or_none, save_text, sweep, write_whole


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_is_written_whole(tmp_path: Path) -> None:
    assert save_text("grün", tmp_path / "sub" / "a.txt") == tmp_path / "sub" / "a.txt"
    assert (tmp_path / "sub" / "a.txt").read_text(encoding="utf-8") == "grün" and listed(tmp_path / "sub") == ["a.txt"]


def test_failed_write_keeps_the_former_file(tmp_path: Path) -> None:
    save_text("before", tmp_path / "a.txt")

    def fail(file) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(DeoccludeError, match=r"cannot write .*a\.txt: No space left on device"):
        write_whole(tmp_path / "a.txt", fail)
    assert (tmp_path / "a.txt").read_text() == "before" and listed(tmp_path) == ["a.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are POSIX's")
@pytest.mark.parametrize("size", [3000, 300_000])
def test_full_disk_leaves_no_file(tmp_path: Path, size: int) -> None:
    # as on a full disk, what waits in the file's buffer cannot be written when it is closed either
    import resource

    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, former[1]))
    try:
        with pytest.raises(DeoccludeError, match=r"cannot write .*a\.txt: File too large"):
            save_text("x" * size, tmp_path / "a.txt")
        with pytest.raises(DeoccludeError, match=r"cannot write .*b\.txt: File too large"), all_or_none():
            save_text("x", tmp_path / "a.txt")
            save_text("x" * size, tmp_path / "b.txt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert listed(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="limits of open files are POSIX's")
def test_more_files_than_a_process_may_open_appear_together(tmp_path: Path) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        with all_or_none():
            for number in range(400):
                save_text("x", tmp_path / f"{number}.txt")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(listed(tmp_path)) == 400


def test_files_of_a_group_appear_together(tmp_path: Path) -> None:
    with all_or_none():
        save_text("a", tmp_path / "a.txt")
        save_text("b", tmp_path / "b.txt")
        assert not (tmp_path / "a.txt").exists()
    assert listed(tmp_path) == ["a.txt", "b.txt"]
    save_text("c", tmp_path / "c.txt")
    assert (tmp_path / "c.txt").exists(), "outside the group a file appears at once"


def test_error_in_a_group_leaves_all_files_as_they_were(tmp_path: Path) -> None:
    save_text("before", tmp_path / "a.txt")
    with pytest.raises(ZeroDivisionError), all_or_none():
        save_text("after", tmp_path / "a.txt")
        save_text("b", tmp_path / "b.txt")
        raise ZeroDivisionError
    assert (tmp_path / "a.txt").read_text() == "before" and listed(tmp_path) == ["a.txt"]


def test_folder_in_place_of_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(DeoccludeError, match=r"cannot write .*a\.txt"):
        save_text("a", tmp_path / "a.txt")
    with pytest.raises(DeoccludeError, match=r"cannot write .*a\.txt"), all_or_none():
        save_text("a", tmp_path / "a.txt")
    assert listed(tmp_path) == ["a.txt"]


def test_link_stays_and_its_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "link.txt").symlink_to(tmp_path / "sub" / "target.txt")
    save_text("a", tmp_path / "link.txt")
    assert (tmp_path / "link.txt").is_symlink() and (tmp_path / "sub" / "target.txt").read_text() == "a"


def test_file_that_a_sweep_removes_before_it_is_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, swept = files._lock, []

    def late_lock(file) -> None:
        if not swept:
            swept.append(file.name)
            Path(file.name).unlink()
        lock(file)

    monkeypatch.setattr(files, "_lock", late_lock)
    save_text("a", tmp_path / "a.txt")
    assert len(swept) == 1 and (tmp_path / "a.txt").read_text() == "a" and listed(tmp_path) == ["a.txt"]


def test_sweep_removes_files_of_killed_runs_alone(tmp_path: Path) -> None:
    """A killed process leaves its temporary file; one that still writes keeps it."""
    write = (
        "import sys, time; from pathlib import Path; from deocclude.io.files import write_whole\n"
        "write_whole(Path(sys.argv[1]), lambda file: (file.write(b'half'), file.flush(), time.sleep(60)))"
    )
    writer = subprocess.Popen([sys.executable, "-c", write, str(tmp_path / "a.txt")])
    try:
        deadline = time.monotonic() + 30
        while not listed(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.05)
        (stray,) = listed(tmp_path)
        (tmp_path / ".another.tmp").touch()
        assert sweep(tmp_path) == 0 and stray in listed(tmp_path)
    finally:
        writer.kill()
        writer.wait()
    assert sweep(tmp_path) == 1
    assert listed(tmp_path) == [".another.tmp"]
    assert sweep(tmp_path / "none") == 0
