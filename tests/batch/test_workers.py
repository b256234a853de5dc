"""Worker processes: deaths, time limits, and the end of the main process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import worker_functions
from deocclude.batch.workers import Lost, process_items
from deocclude.errors import DeoccludeError, UsageError


def outcomes(orders: list[str], start: Callable = worker_functions.start, workers: int = 2, **options) -> list:
    """The outcomes in the order of the items."""
    found = dict(process_items(orders, start, workers=workers, **options))
    assert sorted(found) == list(range(len(orders)))
    return [found[index] for index in range(len(orders))]


def test_every_item_is_done_once_by_the_given_number_of_processes() -> None:
    assert outcomes([f"double:{letter}" for letter in "abcdefgh"]) == [2 * letter for letter in "abcdefgh"]
    ids = outcomes(["pid:"] * 6, workers=1)
    assert len(set(ids)) == 1 and ids[0] != str(os.getpid())


def test_item_that_kills_its_process_is_tried_twice_and_the_others_are_done(tmp_path: Path) -> None:
    killed: list[int] = []
    found = outcomes(
        ["double:a", "kill:", "double:b", f"kill-once:{tmp_path / 'once'}", "exit:3", "double:c"],
        on_killed=killed.append,
    )
    assert found == [
        "aa", Lost("ended its process in both of two tries (killed by SIGKILL, for want of memory perhaps)"), "bb",
        "second try", Lost("ended its process in both of two tries (exit code 3)"), "cc",
    ]  # fmt: skip
    assert sorted(killed) == [1, 1, 3, 4, 4]


def test_item_that_exceeds_the_time_limit_is_ended_and_not_tried_again() -> None:
    killed: list[int] = []
    began = time.monotonic()
    found = outcomes(["double:a", "sleep:600", "double:b"], workers=1, time_limit_s=1.0, on_killed=killed.append)
    assert found == ["aa", Lost("took longer than the time limit of 1 s"), "bb"]
    assert killed == [1] and time.monotonic() - began < 60


def test_loading_does_not_count_against_the_time_limit() -> None:
    assert outcomes(["double:a", "double:b"], worker_functions.start_slowly, 1, time_limit_s=0.5) == ["aa", "bb"]


def test_processes_that_die_before_their_work_end_the_run() -> None:
    for start, how in (
        (worker_functions.start_and_die, "exit code 7"),
        (worker_functions.die_while_loading, "SIGKILL"),
    ):
        with pytest.raises(DeoccludeError, match=f"2 worker processes in a row died before their first photo .*{how}"):
            outcomes(["double:a"] * 4, start)


def test_error_of_the_work_ends_the_run_with_its_own_type() -> None:
    with pytest.raises(UsageError, match="no such order: dance"):
        outcomes(["dance"], workers=1)


def test_after_a_stop_items_in_work_are_finished_and_no_other_is_begun() -> None:
    found = dict(
        process_items(
            ["double:a", "double:x", "double:b", "double:c"], worker_functions.start, workers=1,
            stops=lambda outcome: outcome == "xx",
        )
    )  # fmt: skip
    assert found == {0: "aa", 1: "xx"}


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")


@needs_proc
def test_closing_the_iterator_kills_the_processes(tmp_path: Path) -> None:
    killed: list[int] = []
    written = tmp_path / "pid"
    orders = [f"touch-and-sleep:{written}"] + ["sleep:0.1"] * 300
    todo = process_items(orders, worker_functions.start, workers=2, on_killed=killed.append)
    assert wait_until(lambda: bool(next(todo)) and written.exists() and bool(written.read_text()))
    todo.close()
    assert not is_running(int(written.read_text())) and 0 in killed


@needs_proc
def test_workers_end_with_a_killed_main_process(tmp_path: Path) -> None:
    written = tmp_path / "pid"
    main = subprocess.Popen([sys.executable, worker_functions.__file__, str(written)])
    assert wait_until(lambda: written.exists() and bool(written.read_text()))
    worker = int(written.read_text())
    assert is_running(worker)
    os.kill(main.pid, signal.SIGKILL)
    main.wait()
    assert wait_until(lambda: not is_running(worker))
