"""What requests get: every answer is checked by the OpenAPI document, and its content by hand."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import zipfile
from typing import get_args

import httpx
import numpy as np
import pytest
from PIL import Image

from deocclude.errors import DeoccludeError
from deocclude.imaging.rle import decode_rle, encode_rle
from deocclude.inference.completion_prompts import JOINTS
from deocclude.io.results import SAVE_KINDS
from deocclude.serve.errors import ServiceError
from deocclude.serve.pool import WorkerPool
from deocclude.serve.schemas import SaveKind
from deocclude.serve.server import bind
from deocclude.serve.service import choose_media_type
from stub_service import BUG, DIE, SECRET, Running, photo_file, running, start_and_die, start_and_fail, wait_for

MASK = ("masks", ("mask.png", photo_file((255, 255, 255))))


def pixels_of(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def test_json_has_people_with_masks(stub: Running) -> None:
    document = stub.post(photo_file(), save=["rgba", "content"]).json()
    assert (document["size_hw"], document["model"], document["photo_box_xyxy"]) == ([40, 64], "stub", None)
    (person,) = document["people"]
    assert (person["id"], person["score"], person["box_xyxy"]) == (1, 0.75, [4, 2, 10, 14])
    assert person["hidden_fraction"] == 0.5 and person["visible_box_xyxy"] == [4, 2, 10, 8]
    amodal = np.zeros((40, 64), bool)
    amodal[2:14, 4:10] = True
    np.testing.assert_array_equal(decode_rle(person["amodal_mask"]), amodal)
    amodal[8:] = False
    np.testing.assert_array_equal(decode_rle(person["visible_mask"]), amodal)
    assert pixels_of(base64.b64decode(person["images"]["rgba"])).shape == (40, 64, 4)
    content = pixels_of(base64.b64decode(document["images"]["content"]))
    assert tuple(content[10, 7]) == (100, 100, 100) and tuple(content[30, 30]) == (1, 2, 3)


def test_zip_has_the_files_of_save(stub: Running) -> None:
    answer = stub.post(photo_file(), headers={"Accept": "application/zip"}, save=["content", "rgba", "layers", "json"])
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert sorted(archive.namelist()) == [
            "photo.deoccluded.json", "photo.deoccluded.ora", "photo.deoccluded.png", "photo.person1.rgba.png",
        ]  # fmt: skip
        assert json.loads(archive.read("photo.deoccluded.json"))["annotations"][0]["bbox"] == [4, 2, 6, 12]


def test_png_is_the_content(stub: Running) -> None:
    answer = stub.post(photo_file(), headers={"Accept": "image/png"})
    assert answer.headers["content-type"] == "image/png"
    assert tuple(pixels_of(answer.content)[10, 7]) == (100, 100, 100)


def test_masks_come_before_boxes(stub: Running) -> None:
    document = stub.post(photo_file(), files=[MASK, MASK], boxes_xyxy="[[30, 2, 60, 30]]").json()
    assert [person["id"] for person in document["people"]] == [1, 2, 3]


def test_completion_prompts_reach_the_pipeline(stub: Running) -> None:
    mask = encode_rle(np.ones((40, 64), bool))
    png = {"png": base64.b64encode(MASK[1][1]).decode()}
    prompts = {"1": {"extent_xyxy": [4, 5, 30, 40], "points": [[6, 30]], "joints": {"nose": [5, 5]}, "front": mask,
                     "keep": png}}  # fmt: skip
    document = stub.post(photo_file(), prompts=json.dumps(prompts)).json()
    assert document["people"][0]["visible_box_xyxy"] == [4, 2, 10, 5]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"photo": "/etc/passwd"}, "photo: expected a file, got text"),
        ({"masks": "/etc/passwd"}, "expected a file, got text"),
        ({"photo": "http://127.0.0.1/a.png"}, "photo: expected a file, got text"),
        ({}, "photo: Field required"),
        ({"mask": "1"}, "mask: Extra inputs"),
        ({"boxes_xyxy": "[[1, 2, 3]]"}, "boxes_xyxy"),
        ({"boxes_xyxy": "[[1, 2, 3, NaN]]"}, "boxes_xyxy"),
        ({"boxes_xyxy": "1"}, "boxes_xyxy"),
        ({"boxes_xyxy": json.dumps([[0, 0, 9, 9]] * 4)}, "boxes_xyxy: at most 3"),
        ({"prompts": '{"0": {}}'}, "prompts"),
        ({"prompts": '{"1": {"joints": {"tail": [1, 2]}}}'}, "prompts"),
        ({"prompts": '{"1": {"front": {"size": [40, 64], "counts": [-1, 9]}}}'}, "prompts"),
        ({"prompts": '{"1": {"front": "/etc/passwd"}}'}, "prompts"),
        ({"complete": "perhaps"}, "complete"),
        ({"min_score": "nan"}, "min_score"),
        ({"save": "everything"}, "save"),
        ({"save": "layers"}, "application/zip alone"),
    ],
)
def test_requests_that_are_not_valid(stub: Running, fields: dict[str, str], problem: str) -> None:
    photo = None if not fields or "photo" in fields else photo_file()
    answer = stub.post(photo, **fields)
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["code"] == "invalid_request" and problem in error["message"]
    assert "passwd" not in error["message"] or "photo" in fields


@pytest.mark.parametrize(
    ("photo", "fields"),
    [
        (b"no photo", {}),
        (b"", {}),
        (photo_file()[:60], {}),
        (photo_file(), {"prompts": '{"1": {"front": {"size": [40, 64], "counts": "\\u00e9"}}}'}),
        (photo_file(), {"prompts": '{"1": {"front": {"size": [100, 101], "counts": "0"}}}'}),
        (photo_file(), {"prompts": '{"1": {"front": {"size": [40, 64], "counts": [1, 2]}}}'}),
        (photo_file(), {"prompts": '{"1": {"front": {"png": "no base 64"}}}'}),
    ],
)
def test_files_that_cannot_be_used(stub: Running, photo: bytes, fields: dict[str, str]) -> None:
    answer = stub.post(photo, **fields)
    assert answer.status_code == 422 and answer.json()["error"]["code"] == "invalid_input"


def test_other_paths_and_methods_have_the_same_shape_of_error(stub: Running) -> None:
    for answer, code in (
        (httpx.get(f"{stub.url}/v1/none"), "not_found"),
        (httpx.delete(f"{stub.url}/v1/models"), "method_not_allowed"),
        (httpx.post(f"{stub.url}/v1/deocclude", headers={"content-type": "multipart/form-data"}), "malformed_body"),
    ):
        assert answer.json()["error"]["code"] == code
    assert stub.post(photo_file(), headers={"Accept": "text/html"}).status_code == 406
    assert stub.post(photo_file(), headers={"Origin": "http://elsewhere"}).json()["error"]["code"] == "cross_origin"
    assert stub.post(photo_file(), headers={"Origin": "http://["}).status_code == 403
    assert stub.post(photo_file(), headers={"Origin": stub.url}).status_code == 200


def test_a_bug_and_a_dead_process_leak_nothing(stub: Running) -> None:
    answer = stub.post(photo_file((BUG, 0, 0)))
    assert answer.status_code == 500 and SECRET not in answer.text and "Traceback" not in answer.text
    answer = stub.post(photo_file((DIE, 0, 0)))
    assert answer.status_code == 500 and answer.json()["error"]["code"] == "worker_lost"
    wait_for(lambda: stub.service.pool.ready == 2)
    assert stub.post(photo_file()).status_code == 200
    assert 'deocclude_workers_replaced_total{reason="died"} 1.0' in stub.get("/metrics").text


def test_health_models_and_metrics(stub: Running) -> None:
    assert stub.get("/healthz").json()["status"] == "ok"
    assert stub.get("/readyz").json()["workers"] == 2
    (model,) = [row for row in stub.get("/v1/models").json()["models"] if row["loaded"]]
    assert model["name"] == "base" and len(model["networks"]["mask_completion"]) == 64
    stub.post(photo_file())
    text = stub.get("/metrics").text
    assert 'deocclude_requests_total{route="/v1/deocclude",status="200"}' in text
    assert "deocclude_queue_waiting 0.0" in text and "deocclude_people_total" in text


def test_every_kind_and_joint_of_the_package_is_in_the_schema(stub: Running) -> None:
    assert get_args(SaveKind) == SAVE_KINDS
    prompts = stub.schema["components"]["schemas"]["PersonPrompts"]["properties"]
    assert json.dumps(list(JOINTS)) in json.dumps(prompts["joints"])
    assert {row["schema"]["$ref"].rpartition("/")[2] for row in _error_contents(stub.schema)} == {"Error"}


def _own(schema: dict) -> list[dict]:
    """The service's own paths, without the studio's."""
    return [path for name, path in schema["paths"].items() if not name.startswith("/studio")]


def _error_contents(schema: dict) -> list[dict]:
    answers = [operation["responses"] for path in _own(schema) for operation in path.values()]
    return [row["content"]["application/json"] for rows in answers for status, row in rows.items() if status >= "400"]


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ([], "application/json"),
        (["*/*"], "application/json"),
        (["image/*, */*;q=0.1"], "image/png"),
        (["text/html, application/zip;q=0.9, application/json;q=0.2"], "application/zip"),
        (["image/png", "application/json"], "application/json"),
        (["application/json;q=0, */*"], "application/zip"),
    ],
)
def test_accept(accept: list[str], chosen: str) -> None:
    assert choose_media_type(accept, ("application/json", "application/zip", "image/png")) == chosen


def test_accept_of_nothing_that_is_offered() -> None:
    with pytest.raises(ServiceError, match="application/json"):
        choose_media_type(["text/html;q=x", "application/json;q=0"], ("application/json",))


@pytest.mark.parametrize(("start", "problem"), [(start_and_fail, "damaged"), (start_and_die, "die before")])
def test_a_server_whose_processes_cannot_start_ends(start, problem: str) -> None:
    with running(start, ready=False) as server:
        server.thread.join(20)
        assert not server.thread.is_alive()
        assert isinstance(server.service.failure, DeoccludeError) and problem in str(server.service.failure)


def test_a_process_that_the_system_refuses_is_told(monkeypatch) -> None:
    def refuse(_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    async def open_and_close() -> None:
        pool: WorkerPool = WorkerPool(print, 1, queue=1, timeout_s=1, grace_s=1, on_broken=told.append)
        pool.open()
        await asyncio.gather(*pool._starting)
        await pool.close()

    told: list[Exception] = []
    monkeypatch.setattr("deocclude.serve.pool.Worker", refuse)
    asyncio.run(open_and_close())
    assert [type(error) for error in told] == [DeoccludeError] and "Cannot allocate memory" in str(told[0])


def test_a_host_that_is_no_name_is_refused() -> None:
    with pytest.raises(DeoccludeError, match=r"cannot listen on a\.\.b: not the name of a machine"):
        bind("a..b", 0)
