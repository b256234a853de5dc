"""The studio's queue: one at a time, in order, bounded."""

from __future__ import annotations

import asyncio
import threading

import pytest

from deocclude.serve.studio.errors import BusyError
from deocclude.serve.studio.work_queue import WorkQueue


def test_jobs_run_in_order_and_know_their_place() -> None:
    async def scene() -> tuple[list[str], list[int | None]]:
        queue, gate, began, done = WorkQueue(), threading.Event(), threading.Event(), []

        def first() -> None:
            began.set()
            gate.wait(10)
            done.append("a")

        jobs = [asyncio.create_task(queue.run(first, "a"))]
        await asyncio.to_thread(began.wait, 10)
        jobs += [asyncio.create_task(queue.run(lambda name=name: done.append(name), name)) for name in "bc"]
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

        held = asyncio.create_task(queue.run(hold, "a"))
        await asyncio.to_thread(began.wait, 10)
        waiting = asyncio.create_task(queue.run(lambda: 2, "b"))
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await queue.run(lambda: 3, "c")
        waiting.cancel()
        gate.set()
        return [await held, await queue.run(lambda: 4, "d")]

    assert asyncio.run(scene()) == [1, 4]


def test_error_of_a_job_reaches_its_request_alone() -> None:
    async def scene() -> int:
        queue = WorkQueue()
        with pytest.raises(ZeroDivisionError):
            await queue.run(lambda: 1 // 0, "a")
        return await queue.run(lambda: 5, "b")

    assert asyncio.run(scene()) == 5
