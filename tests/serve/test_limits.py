"""Bytes, pixels, time, the queue and the token: what is over a limit is refused, and frees its place."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.datastructures import Headers

from deocclude.cli.serve import names_of
from deocclude.serve.errors import ServiceError
from deocclude.serve.gate import check_host
from deocclude.serve.pool import WorkerPool
from stub_service import SLEEP, Running, photo_file, running, wait_for


@pytest.fixture(scope="module")
def small() -> Iterator[Running]:
    """One process, a second of work, a token."""
    with running(timeout_s=1.0, grace_s=0.2, token="right", body_timeout_s=1.0) as server:
        yield server


RIGHT = {"Authorization": "Bearer right"}


def form_of(photo: bytes) -> bytes:
    """A multipart body with the boundary x."""
    return b'--x\r\nContent-Disposition: form-data; name="photo"; filename="a"\r\n\r\n' + photo + b"\r\n--x--\r\n"


def raw(server: Running, length: int, headers: str = "") -> socket.socket:
    """A connection that has sent the head of a request with a body of a length."""
    link = socket.create_connection(server.service_address)
    head = f"POST /v1/deocclude HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n{headers}"
    link.sendall(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n".encode())
    return link


def png_header(width: int, height: int) -> bytes:
    """A PNG that states a size and has next to no pixels."""
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(b"\0"))
    framed = [struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def test_too_many_bytes_by_the_header(stub: Running) -> None:
    answer = stub.post(bytes(200_001))
    assert answer.status_code == 413 and answer.json()["error"]["code"] == "too_many_bytes"


def test_too_many_bytes_are_counted_while_they_come(stub: Running) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        yield form_of(b"")[:-9]
        for _ in range(2000):
            sent += 50_000
            yield bytes(50_000)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = stub.checked(httpx.post(f"{stub.url}/v1/deocclude", content=endless(), headers=headers))
    assert answer.status_code == 413 and sent < 100_000_000
    wait_for(lambda: stub.service.in_flight == 0)


def test_too_many_pixels_by_the_header_alone(stub: Running) -> None:
    for answer in (
        stub.post(png_header(20_000, 20_000)),
        stub.post(photo_file(), files=[("masks", ("m", png_header(30_000, 2)))]),
        stub.post(photo_file(), prompts='{"1": {"front": {"size": [4000000, 64000000], "counts": "0"}}}'),
    ):
        assert answer.status_code == 413 and answer.json()["error"]["code"] == "too_many_pixels"
    mask = {"size": [100, 100], "counts": [10_000]}
    prompts = json.dumps({number: {"extent_xyxy": [1, 2, 3, 4], "front": mask, "keep": mask} for number in (1, 2, 3)})
    answer = stub.post(photo_file(), prompts=prompts)
    assert answer.status_code == 413 and "the masks: 60000 pixels" in answer.json()["error"]["message"]
    assert stub.post(photo_file(size_hw=(100, 100))).status_code == 200


def test_a_slow_body_is_refused(stub: Running) -> None:
    with raw(stub, 1000) as link, pytest.raises(OSError):  # the server closes the connection after its answer
        for letter in form_of(bytes(900)):
            link.sendall(bytes([letter]))
            time.sleep(0.05)
    wait_for(lambda: stub.service.in_flight == 0 and stub.service.uploads == 0)
    with raw(stub, 1000) as link:
        assert link.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_a_connection_without_a_request_is_closed(stub: Running) -> None:
    with socket.create_connection(stub.service_address) as link:
        link.sendall(b"GET /healthz HTTP/1.1\r\nHost:")
        link.settimeout(10)
        assert link.recv(100) == b""


def test_a_cut_upload_frees_its_place(stub: Running) -> None:
    link = raw(stub, 1000)
    link.sendall(form_of(bytes(300))[:200])
    wait_for(lambda: stub.service.uploads == 1)
    link.close()
    wait_for(lambda: stub.service.in_flight == 0 and stub.service.uploads == 0)
    assert 'status="499"' in stub.get("/metrics").text


def test_a_client_that_does_not_take_its_answer_frees_its_place() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (1500, 1500, 3), np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(noise).save(file, "JPEG")
        body = form_of(file.getvalue())
    with running(body_timeout_s=0.5) as server, socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.connect(server.service_address)
        head = f"POST /v1/deocclude HTTP/1.1\r\nHost: a\r\nAccept: image/png\r\nContent-Length: {len(body)}\r\n"
        link.sendall(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n".encode() + body)
        link.recv(100)  # the answer begins
        wait_for(lambda: server.service.in_flight == 0)


def test_work_that_takes_too_long_frees_its_process(small: Running) -> None:
    answer = small.post(photo_file((SLEEP, 200, 0)), headers=RIGHT)
    assert answer.status_code == 504 and answer.json()["error"]["code"] == "timed_out"
    assert small.post(photo_file(), headers=RIGHT).status_code == 200


def test_a_client_that_goes_frees_its_process(stub: Running) -> None:
    with pytest.raises(httpx.ReadTimeout):
        stub.post(photo_file((SLEEP, 250, 0)), timeout=0.5)
    wait_for(lambda: stub.service.pool.busy == 0)
    wait_for(lambda: stub.service.pool.ready == 2)
    assert 'replaced_total{reason="client_gone"} 1.0' in stub.get("/metrics").text


def test_a_client_that_goes_soon_before_the_end_costs_no_process(stub: Running) -> None:
    before = stub.get("/metrics").text.count("client_gone")
    with pytest.raises(httpx.ReadTimeout):
        stub.post(photo_file((SLEEP, 6, 0)), timeout=0.2)
    wait_for(lambda: stub.service.in_flight == 0)
    assert stub.service.pool.ready == 2 and stub.get("/metrics").text.count("client_gone") == before


def test_a_full_queue_refuses_before_the_body_and_a_waiting_client_may_go() -> None:
    body = form_of(photo_file((SLEEP, 250, 0)))
    with running(queue=1, grace_s=0.1) as server, raw(server, len(body)) as working, raw(server, len(body)) as waiting:
        pool = server.service.pool
        working.sendall(body)
        wait_for(lambda: pool.busy == 1)
        waiting.sendall(body)
        wait_for(lambda: pool.waiting == 1)
        with raw(server, 1000) as link:  # without a byte of its body
            assert link.recv(4096).startswith(b"HTTP/1.1 503 ")
        refused = server.post(photo_file())
        assert refused.status_code == 503 and refused.json()["error"]["code"] == "queue_full"
        assert int(refused.headers["retry-after"]) >= 1
        waiting.close()
        wait_for(lambda: pool.waiting == 0)
        assert pool.busy == 1
        working.close()
        wait_for(lambda: pool.busy == 0)
        assert server.post(photo_file()).status_code == 200


def test_the_token(small: Running) -> None:
    assert small.get("/healthz").status_code == 200 and small.get("/readyz").status_code == 200
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic right"}, {"Authorization": ""}):
        answer = small.post(photo_file(), headers=headers)
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        assert small.get("/v1/models", headers=headers).status_code == 401
        assert small.get("/metrics", headers=headers).status_code == 401
        assert httpx.get(f"{small.url}/openapi.json", headers=headers).status_code == 401
    assert small.post(photo_file(), headers=RIGHT).status_code == 200
    assert "right" not in repr(small.service.settings)


def test_names_by_which_the_service_answers() -> None:
    local = names_of("127.0.0.1", ["Photos.example.org"])
    for host in ("127.0.0.1:7860", "localhost", "LOCALHOST:1", "[::1]:7860", "photos.example.org"):
        check_host(Headers({"host": host}), local)
    for host in ("rebound.example.org:7860", "", "127.0.0.1.example.org", "[::1"):
        with pytest.raises(ServiceError, match="--allow-host"):
            check_host(Headers({"host": host}), local)
    assert names_of("0.0.0.0", []) == () and names_of("0.0.0.0", ["a.b"]) == ("a.b", "0.0.0.0")
    check_host(Headers({"host": "any.name"}), ())


def test_a_turn_that_comes_while_its_request_is_cancelled_is_given_back() -> None:
    async def cancel() -> int:
        pool: WorkerPool = WorkerPool(print, 1, queue=1, timeout_s=1, grace_s=1)
        pool._idle.put_nowait("worker")
        waiting = asyncio.ensure_future(pool._wait_turn(asyncio.get_running_loop().create_future()))
        for _ in range(2):  # the turn has come, and the request has not seen it yet
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return pool._idle.qsize()

    assert asyncio.run(cancel()) == 1


def test_shutdown_finishes_what_has_begun_and_refuses_what_comes() -> None:
    with running(queue=4) as server, ThreadPoolExecutor(2) as threads:
        begun = [threads.submit(server.post, photo_file((SLEEP, 10, number))) for number in range(2)]
        wait_for(lambda: server.service.pool.busy == 1 and server.service.pool.waiting == 1)
        upload = raw(server, 1000)
        wait_for(lambda: server.service.uploads == 1)
        threading.Thread(target=server.server.handle_exit, args=(15, None)).start()
        wait_for(lambda: server.service.is_draining)
        upload.sendall(form_of(b"")[:50])
        assert upload.recv(4096).startswith(b"HTTP/1.1 503 ")
        refused = server.post(photo_file())
        assert refused.status_code == 503 and refused.json()["error"]["code"] == "shutting_down"
        assert server.get("/readyz").status_code == 503 and server.get("/healthz").status_code == 200
        assert [answer.result().status_code for answer in begun] == [200, 200]
        server.thread.join(10)
        assert not server.thread.is_alive() and not list(server.service.pool._all)
