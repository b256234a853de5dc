"""Every example runs as it stands, with the weights that ship, and the notebook holds the README's Python."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deocclude.evaluation.demo_scene import make_crossing, make_scene
from repository import ROOT

EXAMPLES = ROOT / "examples"
NOTEBOOK = json.loads((EXAMPLES / "deocclude.ipynb").read_text())
# what each script writes, at least
OUTPUTS = {
    "one_photo": {"one_photo.deoccluded.png", "one_photo.overlay.png", "one_photo.person1.rgba.png"},
    "mask_prompt": {"mask_prompt.content.png", "mask_prompt.amodal.png"},
    "folder": {"photos/portrait.png", "recovered/portrait.deoccluded.png", "recovered/crossing.person1.rgba.png"},
    "own_segmenter": {"own_segmenter.deoccluded.png", "own_segmenter.person2.amodal.png"},
    "layers": {"layers.0.png", "layers.1.png", "layers.2.png", "layers.3.png", "layers.deoccluded.ora"},
}


def run_example(name: str, out: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The files that a script writes below `out`."""
    monkeypatch.chdir(out.parent)
    monkeypatch.setattr("sys.argv", [f"{name}.py", str(out)])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_every_script_is_run_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(OUTPUTS)


@pytest.mark.parametrize("name", OUTPUTS)
def test_example_script_writes_only_into_its_output_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = run_example(name, tmp_path / "out", monkeypatch)
    assert written >= OUTPUTS[name]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert capsys.readouterr().out.strip()
    if name == "mask_prompt":
        scene = make_scene()
        content, amodal = (pixels(tmp_path / "out" / f"mask_prompt.{kind}.png") for kind in ("content", "amodal"))
        hidden = (amodal >= 128) & ~scene.visible
        assert hidden.sum() > 0.2 * scene.visible.sum() and (content[hidden] != scene.photo[hidden]).any()
        np.testing.assert_array_equal(content[amodal < 128], scene.photo[amodal < 128])
    if name == "own_segmenter":
        left = make_crossing()[1][0]
        amodal = pixels(tmp_path / "out" / "own_segmenter.person1.amodal.png") >= 128
        assert (amodal & left.whole).sum() > left.visible.sum(), "the person behind is completed"


def test_the_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["mask_prompt.py"])
    runpy.run_path(str(EXAMPLES / "mask_prompt.py"), run_name="__main__")
    assert {path.name for path in (tmp_path / "examples-out").iterdir()} == OUTPUTS["mask_prompt"]


# --- the notebook ----------------------------------------------------------------------------------------------------


def code_cells() -> list[str]:
    return ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_is_valid_and_holds_no_outputs() -> None:
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    assert isinstance(NOTEBOOK["metadata"], dict)
    ids = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[a-zA-Z0-9-_]{1,64}", one) for one in ids)
    for cell in NOTEBOOK["cells"]:
        keys = {"cell_type", "id", "metadata", "source"}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            keys |= {"outputs", "execution_count"}
        else:
            assert cell["cell_type"] == "markdown"
        assert set(cell) == keys and all(isinstance(line, str) for line in cell["source"])


def test_the_notebook_holds_the_readmes_python() -> None:
    (readme,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.S | re.M)

    def lines(code: str) -> list[str]:
        return [re.sub(r"\s+#.*", "", line) for line in code.splitlines() if line.strip()]

    assert lines("\n".join(code_cells()[1:])) == lines(readme)


def test_the_notebooks_cells_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, code in enumerate(code_cells(), start=1):
        exec(compile(code, f"deocclude.ipynb, code cell {number}", "exec"), names)
    np.testing.assert_array_equal(pixels(tmp_path / "recovered.png"), names["result"].content)
    assert {"photo.deoccluded.png", "photo.deoccluded.ora", "photo.person1.rgba.png"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }
