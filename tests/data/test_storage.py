"""Files of a disk and of fsspec's store in memory: whole or not at all, and one line for what is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from deocclude.data.datasets import records_file
from deocclude.data.datasets.record import PhotoRecord
from deocclude.data.storage import Folder, is_url, join, read_bytes
from deocclude.errors import InputError, MissingPackageError, UsageError


@pytest.fixture(params=["disk", "store"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "set") if request.param == "disk" else f"memory://{tmp_path.name}/set"


def test_file_round_trip(place: str) -> None:
    folder = Folder(place)
    assert folder.is_empty() and not folder.has("a.bin")
    folder.write("a.bin", b"\x00one")
    folder.write("a.bin", b"two")
    assert folder.has("a.bin") and not folder.is_empty()
    assert folder.read("a.bin") == read_bytes(folder.at("a.bin")) == b"two"
    folder.remove("a.bin")
    assert not folder.has("a.bin")
    with pytest.raises(InputError, match=r"a\.bin: cannot be read"):
        folder.read("a.bin")


def test_refused_access_is_not_called_a_missing_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise PermissionError("Access Denied")  # as s3fs raises it, without `strerror`

    monkeypatch.setattr(MemoryFileSystem, "cat_file", refuse)
    with pytest.raises(InputError, match=r"a\.bin: cannot be read: Access Denied"):
        read_bytes("memory://refused/a.bin")


def test_paths_and_urls_are_joined() -> None:
    assert is_url("s3://bucket/a") and not is_url("/a/b") and not is_url("a/b")
    assert join("s3://bucket/sets", "a.jpg") == join("s3://bucket/sets/", "a.jpg") == "s3://bucket/sets/a.jpg"
    assert join("folder", "a.jpg") == str(Path("folder/a.jpg"))
    assert join("folder", "s3://bucket/a.jpg") == "s3://bucket/a.jpg"


def test_unknown_url_protocol_is_rejected() -> None:
    with pytest.raises(UsageError, match="nosuch://x/y: Protocol not known"):
        Folder("nosuch://x/y")


def test_missing_storage_package_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)  # no test opens gs://, so that fsspec has no class of it yet
    with pytest.raises(MissingPackageError, match=r"^gs://bucket/people: needs another package: .*gcsfs") as raised:
        Folder("gs://bucket/people")
    assert raised.value.exit_code == 4


def test_records_in_a_store_get_photo_urls() -> None:
    record = PhotoRecord(image="photos/a.jpg", size_hw=(4, 6), source="test", id="a")
    Folder("memory://records-test").write("records.jsonl", record.model_dump_json().encode() + b"\n\n")
    (read,) = records_file.read("memory://records-test/records.jsonl")
    assert read == record.model_copy(update={"image": "memory://records-test/photos/a.jpg"})
    with pytest.raises(InputError, match=r"memory://records-test/none\.jsonl: cannot be read"):
        list(records_file.read("memory://records-test/none.jsonl"))


def test_log_of_a_stores_package_stays_off_stderr() -> None:
    code = """
import logging, sys
import deocclude.data.storage
try:
    raise OSError("refused")
except OSError:
    logging.getLogger("gcsfs").exception("request failed")
    logging.getLogger("another").error("another package's line")
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stderr == "another package's line\n"
