"""The typed client: numpy in and out, retries, errors; and no two clients get each other's answer."""

from __future__ import annotations

import io
import pickle
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from deocclude.errors import InputError
from deocclude.inference.completion_prompts import CompletionPrompts
from deocclude.serve.client import Client, ServerError
from stub_service import Running, photo_file

PIXELS = np.full((40, 64, 3), (9, 8, 7), np.uint8)


def test_masks_and_pictures_are_arrays(stub: Running) -> None:
    with Client(stub.url) as client:
        result = client.deocclude(PIXELS, save=["rgba", "content"], complete="always", uncrop=False)
    (person,) = result.people
    assert person.amodal_mask.dtype == bool and person.amodal_mask.shape == result.size_hw == (40, 64)
    assert person.amodal_mask.sum() == 72 and person.visible_mask.sum() == 36
    np.testing.assert_array_equal(person.invisible_mask, person.amodal_mask & ~person.visible_mask)
    assert (person.box_xyxy, person.hidden_fraction) == ((4, 2, 10, 14), 0.5)
    assert person.images["rgba"].shape == (40, 64, 4) and tuple(result.images["content"][30, 30]) == (9, 8, 7)


def test_masks_boxes_and_prompts_are_sent(stub: Running, tmp_path: Path) -> None:
    mask = np.zeros((40, 64), bool)
    mask[3:9, 3:9] = True
    Image.fromarray(PIXELS).save(tmp_path / "photo.png")
    prompts = {1: CompletionPrompts(extent_xyxy=(4, 6, 30, 40), points=((5, 5),), joints={"nose": (1, 2)}, front=mask)}
    with Client(stub.url) as client:
        for photo in (tmp_path / "photo.png", str(tmp_path / "photo.png"), Image.fromarray(PIXELS), photo_file()):
            result = client.deocclude(photo, masks=[mask], boxes_xyxy=[(30, 2, 60, 30)], prompts=prompts)
            assert [person.id for person in result.people] == [1, 2]
            assert result.people[0].visible_box_xyxy == (4, 2, 10, 6)


def test_pillow_images_are_sent_upright_and_in_rgb(stub: Running) -> None:
    turned, exif = Image.fromarray(PIXELS), Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    with io.BytesIO() as file, Client(stub.url) as client:
        turned.save(file, "JPEG", exif=exif)
        with Image.open(file) as image:
            assert client.deocclude(image).size_hw == (64, 40)
        assert client.deocclude(Image.fromarray(PIXELS).convert("CMYK")).size_hw == (40, 64)
        mask = Image.fromarray(np.ones((40, 64), np.float32))
        assert (
            len(
                client.deocclude(
                    PIXELS, masks=[mask], prompts={1: CompletionPrompts((4, 6, 30, 40), front=mask)}
                ).people
            )
            == 1
        )


def test_content_archive_and_models(stub: Running) -> None:
    with Client(stub.url) as client:
        client.wait_ready()
        assert tuple(client.content(PIXELS)[10, 7]) == (100, 100, 100)
        with zipfile.ZipFile(io.BytesIO(client.archive(PIXELS, save=["json"]))) as archive:
            assert archive.namelist() == ["photo.deoccluded.json"]
        assert client.models()[0]["name"] == "base"


def test_32_clients_each_get_their_own_photo(stub: Running) -> None:
    def ask(number: int) -> bool:
        mark = (number, 200 - number, 3 * number)
        with Client(stub.url) as client:
            answers = [client.deocclude(photo_file(mark), save=["content"]).images["content"] for _ in range(3)]
        return all(tuple(content[30, 50]) == mark for content in answers)

    with ThreadPoolExecutor(32) as threads:
        assert all(threads.map(ask, range(32)))


def test_errors_have_the_code_of_the_service(stub: Running) -> None:
    with Client(stub.url) as client:
        with pytest.raises(ServerError, match="complete") as caught:
            client.deocclude(PIXELS, complete="perhaps")
        assert (caught.value.status, caught.value.code) == (422, "invalid_request")
        assert pickle.loads(pickle.dumps(caught.value)).message == caught.value.message
        with pytest.raises(InputError, match=r"none\.jpg"):
            client.deocclude("none.jpg")
        with pytest.raises(InputError, match="got int"):
            client.deocclude(3)  # type: ignore[arg-type]


class Busy(httpx.BaseTransport):
    """A service that refuses the first requests."""

    def __init__(self, refusals: int, retry_after: str = "0") -> None:
        self.left, self.retry_after, self.asked = refusals, retry_after, 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.asked += 1
        if self.left:
            self.left -= 1
            error = {"error": {"code": "queue_full", "message": "4 requests wait already"}}
            return httpx.Response(503, json=error, headers={"Retry-After": self.retry_after})
        return httpx.Response(200, json={"models": []})


def test_a_busy_service_is_asked_again() -> None:
    busy = Busy(2)
    assert Client(transport=busy).models() == [] and busy.asked == 3


def test_retries_have_an_end() -> None:
    busy = Busy(99)
    with pytest.raises(ServerError, match=r"4 requests wait already \(queue_full\)") as caught:
        Client(transport=busy, retries=2).models()
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.status, again.code, again.message) == (503, "queue_full", "4 requests wait already")
    assert busy.asked == 3
    slow = Busy(99, "3600")
    with pytest.raises(ServerError):
        Client(transport=slow).models()
    assert slow.asked == 1


def test_no_service_and_an_answer_of_a_proxy() -> None:
    with pytest.raises(ServerError) as caught:
        Client("http://127.0.0.1:9", timeout_s=2).models()
    assert (caught.value.status, caught.value.code) == (0, "no_answer")
    proxy = httpx.MockTransport(lambda _: httpx.Response(502, text="<html>Bad gateway</html>"))
    with pytest.raises(ServerError, match="HTTP status 502"):
        Client(transport=proxy).models()


def test_the_token_is_sent() -> None:
    sent = []
    transport = httpx.MockTransport(lambda request: sent.append(request) or httpx.Response(200, json={"models": []}))
    Client(token="secret", transport=transport).models()
    assert sent[0].headers["authorization"] == "Bearer secret"
