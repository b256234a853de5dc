"""`deocclude serve` as a process, with the model that ships; and its errors, each one line."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

import deocclude
from deocclude.cli.app import app
from deocclude.cli.serve import read_token
from deocclude.errors import UsageError
from deocclude.inference.completion_prompts import CompletionPrompts
from deocclude.io.images import load_image
from deocclude.serve.client import Client, ServerError
from deocclude.serve.settings import ServeSettings
from stub_service import wait_for

STREET = Path(deocclude.__file__).parent / "assets" / "street.jpg"
TOKEN = "a-token"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen, Client]]:
    """The command on a free port, and a client of it."""
    command = [sys.executable, "-m", "deocclude", "serve", "--port", "0", "--no-open", "--threads", "1", "--json"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "DEOCCLUDE_TOKEN": TOKEN, "TMPDIR": str(tmp_path_factory.mktemp("scratch"))},
    )  # fmt: skip
    assert process.stdout is not None
    url = json.loads(process.stdout.readline())["url"]
    with Client(url, token=TOKEN) as client:
        client.wait_ready(60)
        yield process, client
    process.kill()
    process.wait(10)


def test_a_person_of_a_photo_is_completed(served: tuple[subprocess.Popen, Client]) -> None:
    client = served[1]
    expected = deocclude.load("base", threads=1)(STREET)
    result = client.deocclude(STREET, save=["content"])
    assert [person.id for person in result.people] == [person.id for person in expected.people]
    np.testing.assert_array_equal(result.people[0].amodal_mask, expected.people[0].amodal_mask)
    np.testing.assert_array_equal(result.images["content"], expected.content)


def test_completion_prompts_restrict_what_is_completed(served: tuple[subprocess.Popen, Client]) -> None:
    client, photo = served[1], load_image(STREET)
    front = np.zeros(photo.shape[:2], bool)
    front[400:500] = True
    prompts = {1: CompletionPrompts(front=front)}
    (person,) = client.deocclude(STREET, boxes_xyxy=[(140, 23, 309, 705)], prompts=prompts).people
    assert not (person.invisible_mask & ~front).any()
    with pytest.raises(ServerError, match="person 7"):
        client.deocclude(STREET, prompts={7: prompts[1]})


def test_sigterm_ends_the_command_with_exit_code_0(
    served: tuple[subprocess.Popen, Client], tmp_path_factory: pytest.TempPathFactory
) -> None:
    process, client = served
    with pytest.raises(ServerError, match="unauthorized"):
        Client(str(client._http.base_url)).models()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    workers = [int(pid) for pid in children.read_text().split()] if children.exists() else []
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0 and process.stderr is not None and process.stderr.read() == ""
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{client._http.base_url}/healthz")
    assert not list(tmp_path_factory.getbasetemp().glob("scratch*/*"))
    wait_for(lambda: not any(Path(f"/proc/{pid}/status").exists() for pid in workers), 10)


def invoke(*arguments: object):
    return CliRunner().invoke(app, ["serve", "--no-open", *map(str, arguments)])


def test_a_port_in_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        result = invoke("--port", other.getsockname()[1])
    assert result.exit_code == 1
    assert result.stderr.endswith("is in use: choose another with --port, 0 for any\n")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (("--model", "huge"), 2, "huge"),
        (("--host", "no.such.host.invalid"), 1, "cannot listen on no.such.host.invalid"),
        (("--token-file", "/no/such/file"), 2, "cannot be read"),
        (("--max-pixels", 10**9), 2, "max_pixels must be at most"),
    ],
)
def test_usage_errors(arguments: tuple[object, ...], code: int, problem: str) -> None:
    result = invoke("--port", 0, *arguments)
    assert result.exit_code == code and problem in result.stderr and len(result.stderr.splitlines()) == 1


def test_a_missing_extra_names_its_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    result = invoke()
    assert result.exit_code == 4 and 'pip install "deocclude[serve]"' in result.stderr


def test_the_client_without_httpx_names_the_extra() -> None:
    code = "import sys; sys.modules['httpx'] = None\nimport deocclude.serve.client"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (
        done.returncode == 1 and "MissingExtraError: the client of the service needs the extra [serve]" in done.stderr
    )


def test_token_of_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEOCCLUDE_TOKEN", "from-the-environment")
    assert read_token(None) == "from-the-environment"
    (tmp_path / "token").write_text("from-a-file\n")
    assert read_token(tmp_path / "token") == "from-a-file"
    (tmp_path / "token").write_text("\n")
    with pytest.raises(UsageError, match="empty"):
        read_token(tmp_path / "token")
    for token in ("two\nlines", "ümlaut", ""):
        with pytest.raises(UsageError, match="token"):
            ServeSettings(token=token)


def test_processes_share_the_cores() -> None:
    assert ServeSettings(workers=3, threads=2).processes == 3 and ServeSettings(workers=3, threads=2).threads_each == 2
    default = ServeSettings()
    assert default.processes >= 1 and default.threads_each >= 1 and default.max_uploads == 2 * (default.processes + 32)
    for wrong in ({"workers": 99999}, {"threads": 99999}, {"queue": -1}, {"timeout_s": 0}, {"max_bytes": -5}):
        with pytest.raises(UsageError):
            ServeSettings(**wrong)
