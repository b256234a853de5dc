"""Request stamps: round trips through each kind of file, and none in other files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deocclude.io.images import save_image
from deocclude.io.openraster import Layer, save_layers
from deocclude.io.request_stamp import (
    file_digest,
    folder_state,
    make_stamp,
    read_ids,
    read_stamp,
    stamp_exif,
    stamp_text,
)

PIXELS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def test_stamp_depends_only_on_the_request() -> None:
    first = make_stamp({"a": 1, "b": [2.5, None]})
    assert first == make_stamp({"b": [2.5, None], "a": 1}) and len(first) == 16
    assert first != make_stamp({"a": 1, "b": [2.5, 0]})


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_images_keep_the_stamp_and_their_pixels(suffix: str, tmp_path: Path) -> None:
    stamp = make_stamp({"photo": suffix})
    plain, stamped = tmp_path / f"plain.{suffix}", tmp_path / f"stamped.{suffix}"
    save_image(PIXELS, plain)
    save_image(PIXELS, stamped, exif=stamp_exif(stamp, [2, 13]))
    assert read_stamp(plain) is None and read_stamp(stamped) == stamp
    assert read_ids(plain) is None and read_ids(stamped) == [2, 13]
    with Image.open(plain) as a, Image.open(stamped) as b:
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_label_images_json_and_layers_keep_the_stamp(tmp_path: Path) -> None:
    stamp = make_stamp({})
    save_image(PIXELS[..., 0] % 3, tmp_path / "parts.png", np.eye(3, dtype=np.uint8) * 255, exif=stamp_exif(stamp, []))
    (tmp_path / "a.json").write_text(json.dumps({"info": {"software": stamp_text(stamp, [1])}}))
    layer = Layer("one", np.dstack([PIXELS, PIXELS[..., :1]]))
    save_layers(tmp_path / "a.ora", [layer], (4, 4), comment=stamp_text(stamp, [3, 1]))
    save_layers(tmp_path / "plain.ora", [layer], (4, 4))
    assert {read_stamp(tmp_path / name) for name in ("parts.png", "a.json", "a.ora")} == {stamp}
    assert read_stamp(tmp_path / "plain.ora") is None
    assert [read_ids(tmp_path / name) for name in ("parts.png", "a.json", "a.ora")] == [[], [1], [3, 1]]


def test_stamp_of_an_earlier_version_has_no_person_ids(tmp_path: Path) -> None:
    stamp = make_stamp({})
    (tmp_path / "a.json").write_text(json.dumps({"info": {"software": f"deocclude, request {stamp}"}}))
    assert read_stamp(tmp_path / "a.json") == stamp and read_ids(tmp_path / "a.json") is None


def test_the_state_of_a_folder_changes_with_its_files(tmp_path: Path) -> None:
    assert folder_state(tmp_path / "none") is None
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_text("one")
    before = folder_state(tmp_path)
    assert before == folder_state(tmp_path) and json.dumps(before)
    (tmp_path / "sub" / "a").write_text("other")
    assert folder_state(tmp_path) != before


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.png", b"mine"),
        ("a.json", b"{"),
        ("a.json", b"[]"),
        ("a.json", b'{"info": {"software": 3}}'),
        ("a.ora", b"PK"),
    ],
)
def test_other_files_have_no_stamp(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert read_stamp(tmp_path / name) is None


def test_software_tag_of_another_program_is_no_stamp(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0131] = "An editor 2.0"
    save_image(PIXELS, tmp_path / "a.jpg", exif=exif)
    assert read_stamp(tmp_path / "a.jpg") is None and read_stamp(tmp_path / "none.png") is None
    assert file_digest(tmp_path / "none.png") is None
