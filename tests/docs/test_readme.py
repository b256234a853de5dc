"""Every command shown in the documents exists with its flags; the README's commands and Python work as written."""

from __future__ import annotations

import json
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import deocclude
from deocclude.checkpoints.history import TABLE
from deocclude.cli.app import VERBS, app
from deocclude.types import Person, Result
from repository import ROOT

README = (ROOT / "README.md").read_text()
WEIGHTS = ROOT / "src" / "deocclude" / "weights"
RESULTS = {
    name: (ROOT / "docs" / "results" / f"{name}.md").read_text() for name in ("masks", "appearance", "detection")
}
PAGES = sorted((ROOT / "docs").rglob("*.md"))
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")] + PAGES
LINKING = [*DOCUMENTS, *(ROOT / name for name in ("MODEL_CARD.md", "CHANGELOG.md", "SECURITY.md"))]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def shown_lines(path: Path, start: str) -> list[str]:
    """Each line of a fenced block that starts with a word, without its remark."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", path.read_text(), flags=re.S | re.M)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith(f"{start} ")]


ALL = [(name_of(path), line) for path in DOCUMENTS for line in shown_lines(path, "deocclude")]
RUN_LINES = [line for line in shown_lines(ROOT / "README.md", "deocclude") if line.startswith("deocclude run")]


# --- what the README holds -------------------------------------------------------------------------------------------


def test_readme_is_short_and_has_the_expected_sections() -> None:
    assert len(README.split()) <= 1000
    headings = re.findall(r"^## (.*)$", README, flags=re.M)
    assert headings == ["Install", "Command line", "Python", "How good it is", "Limits", "More", "Licences"]
    assert README.count("![") == 1 and "docs/images/demo.jpg" in README
    assert len(shown_lines(ROOT / "README.md", "deocclude")) == 6
    assert "Apache-2.0" in README and "research weights" in README and "MODEL_CARD.md" in README


def test_readme_figures_match_the_results_page() -> None:
    rows = re.findall(
        r"^\| (exact mask|corrupted mask|box|photo alone) \| (.*?) \| (.*?) \| .* \| (.*?) \|$", README, re.M
    )
    assert len(rows) == 4

    def measured(section: str, initial: str) -> tuple[str, str, str]:
        part = RESULTS["masks"].split(f"\n## {section}")[1].split("\n## ")[0]
        (cells,) = re.findall(rf"^\| {initial} \| deocclude \| (.*) \|$", part, flags=re.M)
        full, invisible, *_, false = (cell.split()[0] for cell in cells.split(" | "))
        return full, invisible, f"{false} %"

    kinds = {"exact mask": "exact", "corrupted mask": "degraded", "box": "box", "photo alone": "photo"}
    for prompt, shown, posed, false in rows:
        full, invisible, false_completion = measured("ccp-val", kinds[prompt])
        assert (shown, false) == (f"{full} / {invisible}", false_completion)
        assert posed == " / ".join(measured("cutouts-val", kinds[prompt])[:2])


@pytest.mark.parametrize("page", RESULTS)
def test_results_pages_name_the_measured_weights(page: str) -> None:
    """Those that ship, or, where the page and the README say so, earlier ones that can be restored."""
    line = re.search(r"^Weights measured.*$", RESULTS[page], flags=re.M)
    assert line is not None
    told = dict(re.findall(r"(\w+) ([0-9a-f]{8})\b", line.group()))
    networks = json.loads((WEIGHTS / "manifest.json").read_text())["models"]["base"]["networks"]
    shipped = {name: row["sha256"].get("safetensors", row["sha256"]["onnx"])[:8] for name, row in networks.items()}
    if told != shipped:
        assert "measured with the weights before those that ship" in " ".join(RESULTS[page].split())
        assert "weights before those that ship" in " ".join(README.split())
        earlier = {sha[:8] for sha in json.loads(TABLE.read_text())}
        assert told.keys() == shipped.keys() and {sha for name, sha in told.items() if sha != shipped[name]} <= earlier


# --- commands --------------------------------------------------------------------------------------------------------


def test_the_documents_show_commands() -> None:
    assert len(ALL) >= 10 and len(RUN_LINES) == 6


@cache
def help_of(*verb: str) -> str:
    shown = CliRunner().invoke(app, [*verb, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    return shown.output


@pytest.mark.parametrize(("name", "line"), ALL)
def test_a_shown_command_exists_with_its_flags(name: str, line: str) -> None:
    words = shlex.split(line)[1:]
    assert words[0] in VERBS
    verb = [words[0]]
    if words[0] in ("train", "data", "models"):
        verb.append(words[1])
    for flag in (word for word in words if word.startswith("-")):
        assert re.search(rf"(^|[\s,]){re.escape(flag)}\b", help_of(*verb), flags=re.M), f"{name}: {flag}"


def test_a_shown_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    shown = {line.split()[1] for path in DOCUMENTS for line in shown_lines(path, "make")}
    assert {"demo", "test"} <= shown
    assert all(re.search(rf"^{target}:", makefile, flags=re.M) for target in shown)


@pytest.fixture
def shown_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the README's lines run in: photo.jpg, person.png and a folder of one photo."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    mask = np.zeros((420, 220), np.uint8)
    mask[60:300, 60:150] = 255
    pixels = rng.integers(0, 60, (420, 220, 3), dtype=np.uint8)
    pixels[150:214, 100:164] = (230, 30, 40)  # the tiny detector finds a person where most of 7 x 7 cells is red
    photo = Image.fromarray(pixels)
    photo.save("photo.jpg")
    Path("photos").mkdir()
    photo.save("photos/photo7.jpg")
    Image.fromarray(mask).save("person.png")
    return tmp_path


@pytest.mark.parametrize("line", RUN_LINES)
def test_readme_run_commands_work(line: str, shown_files: Path, finding_weights_dir: Path) -> None:
    result = CliRunner().invoke(app, [*shlex.split(line)[1:], "--weights", str(finding_weights_dir)])
    assert result.exit_code == 0, result.output
    assert list(shown_files.rglob("photo*.png"))


# --- Python ----------------------------------------------------------------------------------------------------------


def python_of(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", path.read_text(), flags=re.S | re.M)


@pytest.mark.parametrize("name", ["README.md", "docs/python.md", "docs/my-own-segmenter.md"])
def test_the_python_shown_works(
    name: str, shown_files: Path, finding_weights_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = deocclude.load
    monkeypatch.setattr(deocclude, "load", lambda *a, **k: load(*a, weights_dir=finding_weights_dir, **k))
    code = "\n".join(python_of(ROOT / name))
    assert code
    names: dict[str, Any] = {}
    exec(compile(code, name, "exec"), names)
    assert names["result"].people
    if name == "README.md":
        assert len([line for line in code.splitlines() if line and not line.startswith("import")]) == 6
        np.testing.assert_array_equal(np.asarray(Image.open("recovered.png")), names["result"].content)


def test_attributes_of_the_python_page_exist() -> None:
    page = (ROOT / "docs" / "python.md").read_text()
    for heading, cls in (("Result", Result), ("Person", Person)):
        section = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
        cells = re.findall(r"^\| (`.*?) \|", section, flags=re.M)
        names = {re.sub(r"\(.*", "", name) for cell in cells for name in re.findall(r"`(.*?)`", cell)}
        missing = {name for name in names if not hasattr(cls, name) and name not in cls.__dataclass_fields__}
        assert len(names) > 10 and not missing


# --- links -----------------------------------------------------------------------------------------------------------


def anchors_of(path: Path) -> set[str]:
    """The anchors of a page's headings, as Markdown viewers make them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", LINKING, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", path.read_text()):
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), f"{target} is not there"
        assert not anchor or anchor in anchors_of(file), f"{target}: no such heading"


def test_the_index_lists_every_page() -> None:
    index = ROOT / "docs" / "index.md"
    listed = {(index.parent / target).resolve() for target in re.findall(r"\]\(([^)#\s]+)\)", index.read_text())}
    assert set(PAGES) - {index} <= listed


PATHS = ("docs/how-it-works.md", "docs/extending.md", "CONTRIBUTING.md")


@pytest.mark.parametrize("name", PATHS)
def test_files_and_functions_named_exist(name: str) -> None:
    """Of `room/file.py` the file; of a table's row that names one, every function beside it."""
    package = ROOT / "src" / "deocclude"
    text = re.sub(r"^```.*?^```", "", (ROOT / name).read_text(), flags=re.S | re.M)
    for line in text.splitlines():
        words = re.findall(r"`([^`]+)`", line)
        files = [word for word in words if re.fullmatch(r"[\w/]+\.py", word) and not re.search("NAME|VERB", word)]
        found = [[at / file for at in (package, package / "train", ROOT) if (at / file).is_file()] for file in files]
        assert all(found), f"{name}: {files}"
        sources = "".join(path.read_text() for paths in found for path in paths)
        for word in words:
            if line.startswith("|") and files and re.fullmatch(r"_?[a-z]\w+|[A-Z_]{4,}", word):
                assert re.search(rf"\b{word}\b", sources), f"{name}: {word} is not in {files}"
