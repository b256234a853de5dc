"""A service with a stub in place of the pipeline, run by uvicorn in a thread, and a check of answers by the OpenAPI."""

from __future__ import annotations

import contextlib
import io
import os
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import numpy as np
from PIL import Image

from bodies import make_person
from deocclude.io.images import load_image
from deocclude.serve.server import DrainingServer, bind, make_server, url_of
from deocclude.serve.settings import ServeSettings
from deocclude.serve.work import PhotoWork
from deocclude.types import Result

# The first pixel of a photo says what the stub does: (SLEEP, tenths of a second, any), and so on.
SLEEP, DIE, BUG = 250, 251, 252
SECRET = "/a/secret/path"


def stub_pipe(photo: bytes, masks=None, boxes_xyxy=None, completion_prompts=None, **options: Any) -> Result:
    """One person for each mask and box, else one; the first person is hidden from row 8, others are whole."""
    pixels = load_image(photo)
    order, amount, _ = (int(value) for value in pixels[0, 0])
    if order == SLEEP:
        time.sleep(amount / 10)
    if order == DIE:
        os._exit(3)
    if order == BUG:
        raise RuntimeError(f"cannot read {SECRET}")
    count = len(masks or ()) + len(boxes_xyxy or ()) or 1
    lefts = [4 + 10 * place for place in range(count)]
    hidden_from = [int((completion_prompts or {1: None})[1].extent_xyxy[1]) if completion_prompts else 8]
    people = [
        make_person(pixels, number, left, (hidden_from + [14] * count)[number - 1])
        for number, left in enumerate(lefts, 1)
    ]
    return Result(pixels, tuple(people), {"load": 0.01, "total": 0.02}, "cpu", "stub")


def start_stub(settings: ServeSettings, scratch: Path) -> PhotoWork:
    return PhotoWork(stub_pipe, settings, scratch)


def start_and_fail(scratch: Path) -> PhotoWork:
    from deocclude.errors import WeightsError

    raise WeightsError("the weights are damaged")


def start_and_die(scratch: Path) -> PhotoWork:
    os._exit(4)


def photo_file(mark: tuple[int, int, int] = (1, 2, 3), size_hw: tuple[int, int] = (40, 64)) -> bytes:
    """A PNG whose every pixel is `mark`."""
    with io.BytesIO() as file:
        Image.fromarray(np.full((*size_hw, 3), mark, np.uint8)).save(file, "PNG")
        return file.getvalue()


def check_answer(document: dict[str, Any], path: str, answer: httpx.Response) -> httpx.Response:
    """The answer, which must be as an OpenAPI document says of a path: status, media type and JSON."""
    described = document["paths"][path][answer.request.method.lower()]["responses"][str(answer.status_code)]["content"]
    media_type = answer.headers["content-type"].partition(";")[0]
    assert media_type in described, (media_type, described)
    if media_type == "application/json":
        schema = {**described[media_type]["schema"], "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(answer.json())
    return answer


class Running:
    """A server that runs in a thread."""

    def __init__(self, server: DrainingServer, url: str, thread: threading.Thread) -> None:
        self.server, self.url, self.thread = server, url, thread
        self.service = server.service
        self.schema = server.config.app.openapi()
        self.service_address = (httpx.URL(url).host, httpx.URL(url).port)

    def checked(self, answer: httpx.Response) -> httpx.Response:
        """The answer, checked by `check_answer`."""
        return check_answer(self.schema, answer.request.url.path, answer)

    def post(
        self, photo: bytes | None = None, /, *, timeout: float = 30, headers=None, **fields: Any
    ) -> httpx.Response:
        """Post a photo, or `fields["files"]`; the answer is checked."""
        files = [("photo", ("photo.png", photo))] if photo is not None else []
        files += fields.pop("files", [])
        for name, values in fields.items():
            files += [(name, (None, value)) for value in ([values] if isinstance(values, str) else values)]
        answer = httpx.post(f"{self.url}/v1/deocclude", files=files, timeout=timeout, headers=headers)
        return self.checked(answer)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.checked(httpx.get(self.url + path, **options))


@contextlib.contextmanager
def running(start: Any = None, *, ready: bool = True, **settings: Any) -> Iterator[Running]:
    """A server of the stub on a free port; `start` in place of the stub's own."""
    chosen = ServeSettings(**{"workers": 1, "threads": 1} | settings)
    listening = bind("127.0.0.1", 0)
    server = make_server(chosen, start=start or partial(start_stub, chosen))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    here = Running(server, url_of(listening), thread)
    try:
        wait_for(lambda: server.started)
        if ready:
            wait_for(lambda: server.service.pool.ready == server.service.pool.size)
        yield here
    finally:
        server.handle_exit(15, None)
        thread.join(10)
        assert not thread.is_alive()


def wait_for(condition: Any, timeout_s: float = 30.0) -> float:
    """Wait until a condition holds; the seconds it took."""
    start_s = time.monotonic()
    while not condition():
        assert time.monotonic() < start_s + timeout_s, "it did not come true"
        time.sleep(0.02)
    return time.monotonic() - start_s
