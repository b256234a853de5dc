"""The studio's process: a step that takes too long is ended, and no photo is lost by that."""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient

from deocclude.errors import InputError, WeightsError
from deocclude.serve.pool import Worker, WorkerLostError
from deocclude.serve.studio.errors import StepLostError, StepTimedOutError, UnknownPhotoError
from deocclude.serve.studio.messages import SentPrompts
from deocclude.serve.studio.packing import pack, unpack
from deocclude.serve.studio.process import InThisProcess, StudioProcess
from deocclude.serve.studio.sessions import Session
from deocclude.serve.studio.steps import everyone, remove
from deocclude.serve.studio.studio import Studio
from deocclude.serve.studio.work import Done, Failed, OpenPhoto, Step, StudioWork
from deocclude.serve.studio.work_queue import WorkQueue
from drawn_editing import DrawnPipeline, drawn_png
from studio_server import served, studio_app

LIMIT_S = 3.0


def start_drawn(scratch: Path) -> StudioWork:
    return StudioWork(DrawnPipeline())


def process_id(photo: OpenPhoto) -> int:
    return os.getpid()


def hang(photo: OpenPhoto) -> None:
    photo.editing.remove(1)
    time.sleep(600)


def die(photo: OpenPhoto) -> None:
    os._exit(3)


def remove_person(photo: OpenPhoto) -> list[int]:
    return [one.id for one in remove(1, photo.editing).people]


def refuse(photo: OpenPhoto) -> None:
    raise InputError("cannot be used")


def numbers(photo: OpenPhoto) -> list[int]:
    return [one.id for one in photo.result.people]


@pytest.fixture(scope="module")
def process() -> Iterator[StudioProcess]:
    opened = StudioProcess(lambda: Worker(start_drawn), LIMIT_S)
    yield opened
    opened.close()


def opened(process: StudioProcess, name: str) -> Session:
    state, _ = process.open(name, drawn_png(), everyone)
    return Session(name, "a.png", state)


def run(process: StudioProcess, session: Session, act: Any) -> Any:
    return process.run(session, act, {"one", "two"})


def test_step_over_the_limit_is_ended_and_every_photo_goes_on(process: StudioProcess) -> None:
    one, two = opened(process, "one"), opened(process, "two")
    assert run(process, two, remove_person) == [2]
    kept, first = one.state, run(process, one, process_id)
    assert first != os.getpid()
    with pytest.raises(StepTimedOutError, match="longer than 3 s and was ended: everything is as it was before"):
        run(process, one, hang)
    assert one.state.result.people[0].visible_part is kept.result.people[0].visible_part
    assert run(process, one, numbers) == [1, 2]
    assert run(process, two, numbers) == [2], "the other photo, in another process now"
    assert run(process, one, process_id) != first


def test_process_that_dies_loses_no_photo(process: StudioProcess) -> None:
    one = opened(process, "one")
    with pytest.raises(StepLostError):
        run(process, one, die)
    assert run(process, one, remove_person) == [2]


def test_error_of_a_step_leaves_process_and_photo(process: StudioProcess) -> None:
    one = opened(process, "one")
    first = run(process, one, process_id)
    with pytest.raises(InputError, match="cannot be used"):
        run(process, one, refuse)
    assert (run(process, one, process_id), run(process, one, numbers)) == (first, [1, 2])


def test_former_state_is_taken_up_by_the_process(process: StudioProcess) -> None:
    one = opened(process, "one")
    before = one.state
    run(process, one, remove_person)
    one.state = before
    with pytest.raises(InputError):
        run(process, one, refuse)
    assert run(process, one, numbers) == [1, 2]
    assert one.result.people[0] is before.result.people[0], "what is the same is not sent"


def test_closed_photos_are_forgotten(process: StudioProcess) -> None:
    one = opened(process, "one")
    process.forget({"two"})
    assert run(process, one, numbers) == [1, 2], "it is opened again"


def test_step_of_a_photo_that_was_closed_while_it_waited_costs_no_process(process: StudioProcess) -> None:
    one, two = opened(process, "one"), opened(process, "two")
    first = run(process, two, process_id)
    with pytest.raises(UnknownPhotoError):
        process.run(one, numbers, {"two"})
    assert run(process, two, process_id) == first


def test_closed_process_starts_no_other() -> None:
    links: list[InThisProcess] = []

    def start() -> InThisProcess:
        links.append(InThisProcess(StudioWork(DrawnPipeline())))
        return links[-1]

    process = StudioProcess(start, None)
    process.close()
    with pytest.raises(StepLostError):
        opened(process, "one")
    assert not links


class BrokenLink(InThisProcess):
    def __init__(self) -> None:
        super().__init__(StudioWork(DrawnPipeline()))

    def wait_ready(self) -> None:
        raise WeightsError("the weights are damaged")


def test_model_that_cannot_be_opened_is_said_each_time() -> None:
    process = StudioProcess(BrokenLink, LIMIT_S)
    for _ in range(2):
        with pytest.raises(WeightsError, match="damaged"):
            opened(process, "one")


class HangingLink(InThisProcess):
    """Its second step never ends by itself."""

    def __init__(self) -> None:
        super().__init__(StudioWork(DrawnPipeline()))
        self.is_killed, self.steps = threading.Event(), 0

    def work(self, job: Step) -> Done | Failed:
        self.steps += 1
        if self.steps == 2:
            self.is_killed.wait(60)
            raise WorkerLostError
        return super().work(job)

    def kill(self) -> None:
        self.is_killed.set()


def test_user_of_a_step_over_the_limit_is_told_and_goes_on() -> None:
    client = TestClient(studio_app(Studio(StudioProcess(HangingLink, 0.5))))
    photo = client.post("/studio/api/photos", content=drawn_png()).json()
    prompts = f"/studio/api/photos/{photo['id']}/people/1/prompts"
    late = client.put(prompts, json={"extent_xyxy": [60, 50, 110, 235]})
    assert (late.status_code, late.json()["error"]["code"]) == (504, "timed_out")
    assert "everything is as it was before" in late.json()["error"]["message"]
    again = client.put(prompts, json={"extent_xyxy": [60, 50, 110, 235]}).json()
    assert again["changed"][0]["box_xyxy"] == [60, 50, 110, 235]


class SleepyWork(StudioWork):
    """Never ends a step with the third pose."""

    def __call__(self, step: Step) -> Done | Failed:
        if "pose=3" in repr(step.act):
            time.sleep(600)
        return super().__call__(step)


def start_sleepy(scratch: Path) -> StudioWork:
    return SleepyWork(DrawnPipeline())


def test_client_that_goes_during_a_step_frees_the_process_for_others() -> None:
    studio = Studio(StudioProcess(lambda: Worker(start_sleepy), 300.0), WorkQueue(grace_s=0.2))
    with served(studio) as url, httpx.Client(base_url=f"{url}/studio/api", timeout=60) as client:
        photo = client.post("/photos", content=drawn_png()).json()
        prompts = f"/photos/{photo['id']}/people/1/prompts"
        with pytest.raises(httpx.ReadTimeout):
            client.put(prompts, json={"pose": 3}, params={"ticket": "sleepy"}, timeout=1.0)
        again = client.put(prompts, json={"extent_xyxy": [60, 50, 110, 235]}).json()
        assert again["changed"][0]["box_xyxy"] == [60, 50, 110, 235], "after seconds, not after the limit of a step"
        assert client.get("/queue/sleepy").json() == {"position": None}
    studio.close()


def test_packed_value_has_names_of_what_the_reader_has() -> None:
    large = np.arange(1e5)
    data = pack({"same": large, "other": [1, large]}, {"large": large})
    assert len(data) < 1000
    theirs = large.copy()
    read = unpack(data, {"large": theirs})
    assert read["same"] is theirs and read["other"] == [1, theirs]
    with pytest.raises(KeyError):
        unpack(data, {})
    assert pickle.loads(pickle.dumps(SentPrompts(pose=3))).pose == 3
