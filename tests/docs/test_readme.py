"""Every command that the documents show exists with the flags shown, and the README's `run` lines work as written."""

import json
import re
import shlex

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from deocclude.cli.app import VERBS, app
from repository import ROOT

RESULTS = (ROOT / "docs" / "results.md").read_text()
WEIGHTS = ROOT / "src" / "deocclude" / "weights"
DOCUMENTS = (
    "README.md",
    "docs/ablations.md",
    "docs/data.md",
    "docs/evaluation.md",
    "docs/extending.md",
    "docs/first-training.md",
    "docs/training.md",
    "benchmarks/README.md",
)


def shown_commands(name):
    """(document, command) of each `deocclude ...` line in a fenced block."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", (ROOT / name).read_text(), flags=re.S | re.M)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("deocclude ")]


ALL = [(name, line) for name in DOCUMENTS for line in shown_commands(name)]


def test_results_are_of_the_weights_that_ship():
    told = dict(re.findall(r"(\w+) ([0-9a-f]{8})\b", re.search(r"^Weights measured.*$", RESULTS, flags=re.M).group()))
    networks = json.loads((WEIGHTS / "manifest.json").read_text())["models"]["base"]["networks"]
    assert told == {name: row["sha256"]["safetensors"][:8] for name, row in networks.items()}, "measure them again"


def test_the_documents_show_commands():
    assert len(ALL) >= 10


@pytest.mark.parametrize(("name", "line"), ALL)
def test_a_shown_command_exists_with_its_flags(name, line):
    words = shlex.split(line)[1:]
    assert words[0] in VERBS
    verb = [words[0]]
    if words[0] in ("train", "data", "models"):
        verb.append(words[1])
    shown = CliRunner().invoke(app, [*verb, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    for flag in (word for word in words if word.startswith("-")):
        assert re.search(rf"(^|[\s,]){re.escape(flag)}\b", shown.output, flags=re.M), f"{name}: {flag}"


@pytest.mark.parametrize("line", [line for line in shown_commands("README.md") if line.startswith("deocclude run")])
def test_the_readmes_run_lines_work(line, tmp_path, monkeypatch, finding_weights_dir):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (420, 220, 3), dtype=np.uint8)).save("photo.jpg")
    mask = np.zeros((420, 220), np.uint8)
    mask[60:300, 60:150] = 255
    Image.fromarray(mask).save("person.png")
    result = CliRunner().invoke(app, [*shlex.split(line)[1:], "--weights", str(finding_weights_dir)])
    assert result.exit_code == 0, result.output
    assert list(tmp_path.rglob("photo*.png"))
