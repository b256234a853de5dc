"""The studio's HTTP routes, over drawn people."""

from __future__ import annotations

import base64
import io
import json
import re
import zipfile
from importlib import resources
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from deocclude.imaging.boxes import box_to_mask
from deocclude.serve.studio.routes import router
from deocclude.serve.studio.studio import Studio, StudioLimits
from drawn_editing import BAR_END_Y, BAR_Y, LEFT_BOX, SIZE_HW, TROUSERS_RGB, DrawnPipeline, drawn_photo, drawn_png
from stub_service import check_answer

API = "/studio/api"


def opened(client: TestClient) -> dict[str, Any]:
    answer = client.post(f"{API}/photos?name=my%20photo.png", content=drawn_png())
    assert answer.status_code == 200
    return answer.json()


def pixels(data: bytes | str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data) if isinstance(data, str) else data)))


def mask_png(mask: np.ndarray) -> str:
    """As the page sends masks: opaque where they are set."""
    rgba = np.zeros((*mask.shape, 4), np.uint8)
    rgba[mask] = (255, 171, 77, 255)
    file = io.BytesIO()
    Image.fromarray(rgba).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def error_of(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.text
    return answer.json()["error"]["message"]


def test_upload_finds_people_with_masks_and_recovered_part(client: TestClient) -> None:
    photo = opened(client)
    assert (photo["width"], photo["height"], photo["name"]) == (320, 240, "my photo.png")
    assert [one["number"] for one in photo["changed"]] == [1, 2]
    person = photo["changed"][0]
    assert person["box_xyxy"] == list(LEFT_BOX)
    maps = pixels(person["maps"])
    x0, y0, x1, y1 = person["region_xyxy"]
    assert maps.shape == (y1 - y0, x1 - x0, 3)
    assert np.count_nonzero(maps[..., 0] == 128) == (BAR_END_Y - BAR_Y) * (LEFT_BOX[2] - LEFT_BOX[0])
    assert set(np.unique(maps[..., 1])) == {0, 6, 9}
    assert maps[..., 2].max() == 220
    patch = pixels(person["patch"])
    assert person["patch_xyxy"] == [LEFT_BOX[0], BAR_Y, LEFT_BOX[2], BAR_END_Y]
    assert (patch[..., 3] == 255).all()
    assert tuple(patch[20, 25]) == (*TROUSERS_RGB, 255)


def test_prompt_changes_this_person_alone(client: TestClient) -> None:
    photo = opened(client)
    url = f"{API}/photos/{photo['id']}/people/1/prompts"
    change = client.put(url, json={"extent_xyxy": [60, 50, 110, 235]}).json()
    assert [one["number"] for one in change["changed"]] == [1]
    assert change["changed"][0]["box_xyxy"] == [60, 50, 110, 235]
    back = client.put(url, json={}).json()
    assert back["changed"][0]["maps"] == photo["changed"][0]["maps"]


@pytest.mark.parametrize(
    ("prompts", "box_xyxy", "invisible_px"),
    [
        ({"points": [[130, 170]]}, [60, 50, 136, 220], 2000 + 12 * 12),
        ({"not_points": [[80, 170]]}, [60, 50, 110, 220], 2000 - 12 * 12),
        ({"joints": {"left_ankle": [70, 230]}}, [60, 50, 110, 236], 2000 + 12 * 12),
        ({"front": mask_png(np.zeros(SIZE_HW, bool))}, [60, 50, 110, 220], 2000),  # empty: as not given
        ({"front": mask_png(box_to_mask((0, BAR_Y, 320, 160), SIZE_HW))}, [60, 50, 110, 220], 500),
        ({"keep": mask_png(box_to_mask((0, BAR_Y, 320, 160), SIZE_HW))}, [60, 50, 110, 220], 1500),
        ({"background": mask_png(box_to_mask((80, BAR_Y, 320, BAR_END_Y), SIZE_HW))}, [60, 50, 110, 220], 800),
    ],
)
def test_every_prompt_reaches_the_editing(
    client: TestClient, prompts: dict[str, Any], box_xyxy: list[int], invisible_px: int
) -> None:
    photo = opened(client)
    change = client.put(f"{API}/photos/{photo['id']}/people/1/prompts", json=prompts).json()
    person = change["changed"][0]
    assert person["box_xyxy"] == box_xyxy
    assert np.count_nonzero(pixels(person["maps"])[..., 0] == 128) == invisible_px


def test_people_are_added_replaced_and_removed(client: TestClient) -> None:
    photo = opened(client)
    people = f"{API}/photos/{photo['id']}/people"
    added = client.post(people, json={"box_xyxy": [120, 20, 160, 90]}).json()
    assert added["number"] == 3
    assert [one["number"] for one in added["changed"]] == [3]
    mask = box_to_mask((55, 40, 80, 100), SIZE_HW)
    replaced = client.put(f"{people}/3/visible", json={"mask": mask_png(mask)}).json()
    assert [one["number"] for one in replaced["changed"]] == [1, 3], "its pixels are taken from person 1"
    assert replaced["changed"][1]["box_xyxy"] == [55, 40, 80, 100]
    removed = client.delete(f"{people}/3").json()
    assert removed["changed"] == []
    assert sorted(removed["back_to_front"]) == [1, 2]


def test_former_states_are_returned_to_exactly(client: TestClient) -> None:
    photo = opened(client)
    url = f"{API}/photos/{photo['id']}"
    removed = client.delete(f"{url}/people/2").json()
    prompted = client.put(f"{url}/people/1/prompts", json={"points": [[130, 170]]}).json()
    first = client.put(f"{url}/state", json={"state": photo["state"]}).json()
    assert first["changed"] == photo["changed"] and first["back_to_front"] == photo["back_to_front"]
    last = client.put(f"{url}/state", json={"state": prompted["state"]}).json()
    assert last["changed"] == prompted["changed"] and last["back_to_front"] == removed["back_to_front"]
    assert client.put(f"{url}/people/1/prompts", json={}).json()["changed"] == photo["changed"][:1]


def test_oldest_states_are_kept_no_longer(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deocclude.serve.studio.sessions.MAX_FORMER_STATES", 2)
    photo = opened(client)
    url = f"{API}/photos/{photo['id']}"
    states = [client.put(f"{url}/people/1/prompts", json={"pose": 1}).json()["state"] for _ in range(2)]
    assert "no longer kept" in error_of(client.put(f"{url}/state", json={"state": photo["state"]}), 410)
    assert client.put(f"{url}/state", json={"state": states[0]}).status_code == 200
    monkeypatch.setattr("deocclude.serve.studio.sessions.MAX_FORMER_BYTES", 0)
    client.put(f"{url}/people/1/prompts", json={"pose": 2})
    assert error_of(client.put(f"{url}/state", json={"state": states[1]}), 410)


def test_hypotheses_are_ranked_and_their_prompts_give_them(client: TestClient) -> None:
    photo = opened(client)
    person = f"{API}/photos/{photo['id']}/people/1"
    found = client.get(f"{person}/hypotheses").json()
    assert [one["probability"] for one in found] == [0.5, 0.3, 0.2]
    taken = client.put(f"{person}/prompts", json=found[1]["prompts"]).json()["changed"][0]
    assert taken["box_xyxy"] == found[1]["region_xyxy"]
    assert pixels(found[1]["mask"])[..., 3].all()


def test_layers_and_their_pixels(client: TestClient) -> None:
    photo = opened(client)
    url = f"{API}/photos/{photo['id']}/layers"
    found = client.get(url).json()
    assert [one["number"] for one in found] == [0, 2, 1]
    assert pixels(client.get(f"{url}/0.png").content).shape == (*SIZE_HW, 3)
    whole = pixels(client.get(f"{url}/1.png").content)
    assert whole.shape == (found[2]["height"], found[2]["width"], 4)
    assert np.count_nonzero(whole[..., 3] > 127) == pytest.approx(50 * 170, rel=0.02)


def test_arranged_layers_open_as_openraster(client: TestClient) -> None:
    photo = opened(client)
    people = [
        {"number": 1, "left_top": [10, 20], "scale": 0.5},
        {"number": 2, "left_top": [0, 0], "hidden": True},
    ]
    url = f"{API}/photos/{photo['id']}/arranged.ora"
    answer = client.post(url, json={"people": people, "colour": "#102030"})
    assert answer.headers["content-disposition"] == 'attachment; filename="my_photo.layers.ora"'
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.read("mimetype") == b"image/openraster"
        stack = archive.read("stack.xml").decode()
        places = re.findall(r'name="([^"]+)" src="[^"]+" x="(-?\d+)" y="(-?\d+)"', stack)
        assert places == [("person 1", "10", "20"), ("background", "0", "0")]
        merged = pixels(archive.read("mergedimage.png"))
        assert tuple(merged[0, 0]) == (16, 32, 48)
        assert pixels(archive.read("data/layer2.png")).shape == (89, 29, 4)


def test_hidden_part_is_a_layer_of_its_own_on_request(client: TestClient) -> None:
    photo = opened(client)
    sent = {"people": [{"number": 1, "left_top": [56, 46]}], "split": True, "colour": "#000000"}
    answer = client.post(f"{API}/photos/{photo['id']}/arranged.ora", json=sent)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        names = re.findall(r'name="([^"]+)"', archive.read("stack.xml").decode())
        assert names == ["person 1, hidden part", "person 1, visible part", "background"]
        visible, hidden = (pixels(archive.read(f"data/layer{number}.png"))[..., 3] for number in (2, 3))
    assert np.count_nonzero(hidden) == 2000
    assert not (visible[hidden > 0]).any()


@pytest.mark.parametrize("scale", [-1, 0, 21])
def test_scales_out_of_range_are_refused(client: TestClient, scale: float) -> None:
    photo = opened(client)
    sent = {"people": [{"number": 1, "left_top": [0, 0], "scale": scale}]}
    assert client.post(f"{API}/photos/{photo['id']}/arranged.ora", json=sent).status_code == 422


def test_many_large_layers_are_refused(client: TestClient) -> None:
    photo = opened(client)
    sent = {"people": [{"number": 1, "left_top": [0, 0], "scale": 20}] * 20}
    assert "too large" in error_of(client.post(f"{API}/photos/{photo['id']}/arranged.ora", json=sent), 413)


def test_arranged_layers_over_a_picture_of_another_shape(client: TestClient) -> None:
    photo = opened(client)
    file = io.BytesIO()
    Image.new("RGB", (20, 600), (9, 8, 7)).save(file, "PNG")
    sent = {"people": [], "picture": base64.b64encode(file.getvalue()).decode()}
    answer = client.post(f"{API}/photos/{photo['id']}/arranged.ora", json=sent)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        merged = pixels(archive.read("mergedimage.png"))
    assert merged.shape == (*SIZE_HW, 3)
    assert (merged == (9, 8, 7)).all()


def test_downloads(client: TestClient) -> None:
    photo = opened(client)
    url = f"{API}/photos/{photo['id']}"
    answer = client.get(f"{url}/people/1/hidden.png")
    assert answer.headers["content-disposition"] == 'attachment; filename="my_photo.person1.hidden.png"'
    assert pixels(answer.content).shape == (BAR_END_Y - BAR_Y, 50, 4)
    assert pixels(client.get(f"{url}/people/1/amodal.png").content).shape == SIZE_HW
    with zipfile.ZipFile(io.BytesIO(client.get(f"{url}/masks.zip").content)) as archive:
        assert sorted(archive.namelist())[:2] == ["my_photo.person1.amodal.png", "my_photo.person1.invisible.png"]
        assert len(archive.namelist()) == 8
    document = json.loads(client.get(f"{url}/result.json").content)
    assert document["images"][0]["file_name"] == "my photo.png"
    recovered = pixels(client.get(f"{url}/recovered.png").content)
    changed = (recovered != drawn_photo()).any(-1)
    assert changed[BAR_Y:BAR_END_Y].any()
    assert not changed[:BAR_Y].any()


def test_json_answers_are_as_the_openapi_document_says(client: TestClient) -> None:
    photo = opened(client)
    document = client.app.openapi()
    about = document["components"]["schemas"]["AboutView"]
    assert "prefixItems" not in json.dumps(about), "some tools refuse it in answers"
    check_answer(document, f"{API}/about", client.get(f"{API}/about"))
    path = f"{API}/photos/{{photo_id}}/result.json"
    check_answer(document, path, client.get(path.format(photo_id=photo["id"])))


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [(b"", 422, "the file is empty"), (b"no photo", 422, "not an image"), (drawn_png()[:300], 422, "damaged")],
)
def test_bad_files_have_clear_messages(client: TestClient, content: bytes, status: int, message: str) -> None:
    assert message in error_of(client.post(f"{API}/photos", content=content), status)


def test_limits_of_bytes_and_pixels() -> None:
    app = FastAPI()
    app.state.studio = Studio.of_pipeline(DrawnPipeline(), limits=StudioLimits(max_bytes=50_000, max_pixels=10_000))
    app.include_router(router)
    client = TestClient(app)
    assert "320x240 pixels" in error_of(client.post(f"{API}/photos", content=drawn_png()), 413)
    assert error_of(client.post(f"{API}/photos", content=b"x" * 50_001), 413) == "at most 0 MB are accepted"
    for path in ("photos", "samples"):  # a body of any kind, and JSON
        pieces = (b" " * 30_000 for _ in range(3))  # its length is not stated
        answer = client.post(f"{API}/{path}", content=pieces, headers={"content-type": "application/json"})
        assert error_of(answer, 413) == "at most 0 MB are accepted"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "photos/unknown/layers", None, 404),
        ("PUT", "photos/{id}/people/9/prompts", {"pose": 1}, 422),
        ("PUT", "photos/{id}/people/1/prompts", {"front": "?"}, 422),
        ("PUT", "photos/{id}/people/1/prompts", {"front": mask_png(np.ones((3, 3), bool))}, 422),
        ("POST", "photos/{id}/people", {}, 422),
        ("POST", "photos/{id}/people", {"mask": mask_png(np.zeros(SIZE_HW, bool))}, 422),
        ("POST", "samples", {"sample": "../../etc/passwd"}, 422),
        ("POST", "photos/{id}/arranged.ora", {"people": [{"number": 7, "left_top": [0, 0]}]}, 422),
    ],
)
def test_requests_that_cannot_be_done(
    client: TestClient, method: str, path: str, body: dict[str, Any] | None, status: int
) -> None:
    photo = opened(client)
    assert error_of(client.request(method, f"{API}/{path.format(id=photo['id'])}", json=body), status)


def test_requests_of_other_sites_are_refused(client: TestClient) -> None:
    headers = {"sec-fetch-site": "cross-site"}
    answer = client.post(f"{API}/samples", json={"sample": "street"}, headers=headers)
    assert "other sites" in error_of(answer, 403)


def test_fault_of_the_server_leaks_nothing() -> None:
    from deocclude.errors import WeightsError

    class Broken:
        def edit(self, image: bytes) -> Any:
            raise WeightsError("/secret/path is damaged")

    app = FastAPI()
    app.state.studio = Studio.of_pipeline(Broken())
    app.include_router(router)
    answer = TestClient(app).post(f"{API}/photos", content=drawn_png())
    assert error_of(answer, 500) == "the server could not do this"


def test_closed_photo_is_gone(client: TestClient) -> None:
    photo = opened(client)
    assert client.delete(f"{API}/photos/{photo['id']}").status_code == 204
    assert "choose it again" in error_of(client.get(f"{API}/photos/{photo['id']}/photo.jpg"), 404)


def test_page_loads_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    named = re.findall(r'(?:src|href)="([^"#]+)', page.text)
    assert len(named) > 4
    for path in set(named):
        assert path.startswith("/studio/"), path
        assert client.get(path).status_code == 200, path
    folder = resources.files("deocclude.serve.studio").joinpath("static")
    for file in folder.iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, f"{file.name} names an address"


@pytest.mark.parametrize("path", ["/studio/static/..%2froutes.py", "/studio/static/none.js", "/studio/samples/no.jpg"])
def test_files_outside_the_list_are_not_opened(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_sample_opens(client: TestClient) -> None:
    photo = client.post(f"{API}/samples", json={"sample": "street"}).json()
    assert photo["name"] == "street.jpg"
    assert photo["changed"] == [], "drawn people are in drawn photos alone"
