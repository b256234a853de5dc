"""`deocclude data`: frozen sets and typical poses from a drawn folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from datafolder import draw_data_folder
from deocclude.cli.app import app
from deocclude.data.frozen import FrozenSet
from deocclude.train import mask_stage


def data(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_data_folder(tmp_path_factory.mktemp("drawn") / "data")


def test_build_writes_a_set_that_opens(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "val"
    done = data("build", "--data", root, "-o", out, "--seed", 5)
    assert (done.exit_code, done.stdout) == (0, f"{out}: 8 records of 2 people\n"), done.output
    frozen = FrozenSet.open(out)
    assert (frozen.name, frozen.seed, len(frozen)) == ("ccp-val", 5, 8)
    again = data("build", "--data", root, "-o", out)
    assert again.exit_code == 2 and "already" in again.stderr
    smaller = data("build", "--data", root, "-o", out, "--people", "full", "--no-unoccluded", "--overwrite", "-q")
    assert (smaller.exit_code, smaller.stdout) == (0, "")
    assert {r.occluder_kind for r in FrozenSet.open(out)} == {"object", "person", "low"}


def test_poses_are_written_and_drawn(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    centres = np.random.default_rng(0).random((4, 2, 32, 32)).astype(np.float32)
    monkeypatch.setattr(mask_stage, "typical_poses", lambda *_, count: centres[:count])
    config = tmp_path / "config.yaml"
    config.write_text(f"{{data: {{root: {root}}}, mask: {{network: {{templates: 3}}, schedule: {{steps: 1}}}}}}")
    out, sheet = tmp_path / "poses.npz", tmp_path / "poses.png"
    done = data("poses", "-c", config, "-o", out, "--sheet", sheet)
    assert (done.exit_code, done.stdout) == (0, f"{out}: 3 typical poses\n"), done.output
    np.testing.assert_array_equal(np.load(out)["centres"], centres[:3])
    assert Image.open(sheet).height == 3 * 32
    config.write_text("seed: 1")
    none = data("poses", "-c", config, "-o", out)
    assert (none.exit_code, none.stderr) == (2, f"error: {config}: no section mask\n")


def test_what_is_wrong_is_one_line_and_a_code(root: Path, tmp_path: Path) -> None:
    done = data("build", "--data", tmp_path / "nowhere", "-o", tmp_path / "val")
    assert done.exit_code == 1
    assert done.stderr == f"error: data folder not found: looked for {tmp_path / 'nowhere'}\n"
    done = data("build", "--data", root, "-o", tmp_path / "val", "--people", "dogs")
    assert done.exit_code == 2
    assert done.stderr == "error: --people must be ccp, cutouts, full, built, folder, crowds or wild, got 'dogs'\n"
    done = data("build", "--data", root, "-o", tmp_path / "val", "--seed", "-1")
    assert done.exit_code == 2 and "--seed" in done.stderr


def test_outputs_that_cannot_be_written_are_named_before_the_work(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_) -> None:
        raise AssertionError("the work had begun")

    monkeypatch.setattr(mask_stage, "draw_poses", never)
    config, taken = tmp_path / "config.yaml", tmp_path / "taken"
    config.write_text(f"{{data: {{root: {root}}}, mask: {{schedule: {{steps: 1}}}}}}")
    taken.touch()
    done = data("poses", "-c", config, "-o", taken / "poses.npz")
    assert (done.exit_code, done.stderr) == (1, f"error: cannot write to the folder {taken}: {taken} is a file\n")
    done = data("poses", "-c", config, "-o", tmp_path / "poses.npz", "--sheet", "poses.xyz")
    assert (done.exit_code, done.stderr) == (2, "error: --sheet must name a .png file, got poses.xyz\n")
    done = data("build", "--data", root, "-o", taken / "val")
    assert (done.exit_code, done.stderr) == (1, f"error: cannot write to the folder {taken}: {taken} is a file\n")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep")
    done = data("build", "--data", root, "-o", tmp_path / "notes", "--overwrite")
    assert done.exit_code == 2 and "something else" in done.stderr
    assert [p.name for p in (tmp_path / "notes").iterdir()] == ["mine.txt"]
    assert not (tmp_path / "val").exists()
