"""The studio's queue: one at a time, in order, bounded."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from deocclude.serve.errors import ClientGoneError
from deocclude.serve.studio.errors import BusyError
from deocclude.serve.studio.work_queue import Caller, WorkQueue


def test_jobs_run_in_order_and_know_their_place() -> None:
    async def scene() -> tuple[list[str], list[int | None]]:
        queue, gate, began, done = WorkQueue(), threading.Event(), threading.Event(), []

        def first() -> None:
            began.set()
            gate.wait(10)
            done.append("a")

        jobs = [asyncio.create_task(queue.run(first, Caller("a")))]
        await asyncio.to_thread(began.wait, 10)
        jobs += [asyncio.create_task(queue.run(lambda name=name: done.append(name), Caller(name))) for name in "bc"]
        await asyncio.sleep(0)
        places = [queue.position(name) for name in "abcx"]
        gate.set()
        await asyncio.gather(*jobs)
        return done, [*places, queue.position("a")]

    done, places = asyncio.run(scene())
    assert done == ["a", "b", "c"]
    assert places == [0, 1, 2, None, None]


def test_full_queue_refuses_and_is_free_again() -> None:
    async def scene() -> list[int]:
        queue, gate, began = WorkQueue(max_waiting=1), threading.Event(), threading.Event()

        def hold() -> int:
            began.set()
            gate.wait(10)
            return 1

        held = asyncio.create_task(queue.run(hold, Caller("a")))
        await asyncio.to_thread(began.wait, 10)
        waiting = asyncio.create_task(queue.run(lambda: 2, Caller("b")))
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await queue.run(lambda: 3, Caller("c"))
        waiting.cancel()
        gate.set()
        return [await held, await queue.run(lambda: 4, Caller("d"))]

    assert asyncio.run(scene()) == [1, 4]


def test_error_of_a_job_reaches_its_request_alone() -> None:
    async def scene() -> int:
        queue = WorkQueue()
        with pytest.raises(ZeroDivisionError):
            await queue.run(lambda: 1 // 0, Caller("a"))
        return await queue.run(lambda: 5, Caller("b"))

    assert asyncio.run(scene()) == 5


def test_job_whose_client_goes_before_its_turn_never_runs() -> None:
    async def scene() -> tuple[list[str], str]:
        queue, gate, began, done = WorkQueue(), threading.Event(), threading.Event(), []

        def hold() -> str:
            began.set()
            gate.wait(10)
            return "held"

        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        held = asyncio.create_task(queue.run(hold, Caller("a")))
        await asyncio.to_thread(began.wait, 10)
        waiting = asyncio.create_task(queue.run(lambda: done.append("b"), Caller("b", gone)))
        await asyncio.sleep(0)
        assert queue.position("b") == 1
        gone.set_result(None)
        with pytest.raises(ClientGoneError):
            await waiting
        assert queue.position("b") is None
        gate.set()
        return done, await held

    assert asyncio.run(scene()) == ([], "held")


def test_job_whose_client_has_gone_is_ended_and_the_next_one_runs() -> None:
    async def scene() -> tuple[bool, int]:
        queue, ended = WorkQueue(grace_s=0.05), threading.Event()
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.05, gone.set_result, None)
        with pytest.raises(ClientGoneError):
            await queue.run(lambda: ended.wait(10), Caller("a", gone), ended.set)
        return ended.is_set(), await queue.run(lambda: 7, Caller("b"))

    assert asyncio.run(scene()) == (True, 7)


def test_job_that_ends_soon_after_its_client_has_gone_is_not_ended() -> None:
    async def scene() -> list[str]:
        queue, told = WorkQueue(grace_s=10), []
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.05, gone.set_result, None)
        with pytest.raises(ClientGoneError):
            await queue.run(lambda: time.sleep(0.2), Caller("a", gone), lambda: told.append("ended"))
        return told

    assert asyncio.run(scene()) == []
