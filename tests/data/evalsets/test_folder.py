"""What evaluation sets share when they are written: whole or not at all, and never over something else."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deocclude.data.evalsets.folder import new_set, write_index, write_picture
from deocclude.errors import DeoccludeError, UsageError


def test_set_folder_appears_only_when_complete(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "set"
    with new_set(folder, overwrite=False) as partial:
        write_index(partial, {"b": 1, "a": [2]})
        assert not folder.exists() and partial.parent == folder.parent
    assert (folder / "set.json").read_text() == '{\n "b": 1,\n "a": [\n  2\n ]\n}\n'
    assert [p.name for p in folder.parent.iterdir()] == ["set"] and folder.stat().st_mode & 0o777 == 0o755
    with pytest.raises(UsageError, match="an evaluation set already"), new_set(folder, overwrite=False):
        pytest.fail("nothing may be written")
    with new_set(folder, overwrite=True) as partial:
        write_index(partial, {"a": 3})
    assert json.loads((folder / "set.json").read_text()) == {"a": 3}


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), DeoccludeError),
        (ValueError("a bad sample"), ValueError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_error_leaves_the_existing_set_unchanged(
    tmp_path: Path, raised: BaseException, told: type[BaseException]
) -> None:
    folder = tmp_path / "set"
    with new_set(folder, overwrite=False) as partial:
        write_index(partial, {"a": 1})
    with pytest.raises(told, match=str(raised.args[-1]) if raised.args else None), new_set(folder, overwrite=True) as p:
        write_index(p, {"a": 2})
        raise raised
    assert json.loads((folder / "set.json").read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_a_set_is_overwritten_only_once_the_new_one_has_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "set"
    with new_set(folder, overwrite=False) as partial:
        write_index(partial, {"a": 1})
    moves = []

    def replace(old: Path, new: Path) -> None:
        moves.append(new.name)
        if len(moves) == 2:
            raise OSError(errno.EIO, "Input/output error")
        os.rename(old, new)

    monkeypatch.setattr("deocclude.data.evalsets.folder.os.replace", replace)
    with pytest.raises(DeoccludeError, match="Input/output error"), new_set(folder, overwrite=True) as partial:
        write_index(partial, {"a": 2})
    assert moves == [f"{partial.name}.replaced", "set", "set"]
    assert json.loads((folder / "set.json").read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_the_working_folder_and_a_linked_folder_can_be_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, link = tmp_path / "set", tmp_path / "link"
    with new_set(folder, overwrite=False) as partial:
        write_index(partial, {"a": 1})
    link.symlink_to(folder)
    with new_set(link, overwrite=True) as partial:
        write_index(partial, {"a": 2})
    assert link.is_symlink() and json.loads((folder / "set.json").read_text()) == {"a": 2}
    monkeypatch.chdir(folder)
    with new_set(Path("."), overwrite=True) as partial:
        write_index(partial, {"a": 3})
    assert json.loads((folder / "set.json").read_text()) == {"a": 3}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "set"]


def test_other_folders_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="something else"), new_set(tmp_path, overwrite=True):
        pytest.fail("nothing may be written")
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(DeoccludeError, match="cannot write an evaluation set to"),
        new_set(tmp_path / "file" / "set", overwrite=False),
    ):
        pytest.fail("nothing may be written")


def test_masks_and_photos_are_written_as_png(tmp_path: Path) -> None:
    mask = np.array([[True, False], [False, True]])
    write_picture(tmp_path / "new" / "mask.png", mask)
    write_picture(tmp_path / "photo.png", np.arange(12, dtype=np.uint8).reshape(2, 2, 3))
    with Image.open(tmp_path / "new" / "mask.png") as image:
        assert image.mode == "L" and np.asarray(image).tolist() == [[255, 0], [0, 255]]
    with Image.open(tmp_path / "photo.png") as image:
        assert image.mode == "RGB" and np.asarray(image).ravel().tolist() == list(range(12))
