"""The page of remedies: every command on it is one that `deocclude` accepts."""

from __future__ import annotations

import importlib
import re
import shlex

import pytest

from deocclude.cli.app import _as_command
from deocclude.cli.run import parse_box, parse_finding
from deocclude.io.picture_format import PictureFormat
from deocclude.people.choice import Choice
from repository import ROOT

PAGE = (ROOT / "docs" / "wrong-result.md").read_text()
COMMANDS = sorted(set(re.findall(r"^deocclude [^\n]+|(?<=`)deocclude [^`\n]+", PAGE, re.MULTILINE)))


def test_the_page_has_every_remedy_and_is_linked() -> None:
    for option in (
        "--mask", "--box", "--complete never", "--min-hidden-probability", "--min-height", "--person", "--segmenter",
    ):  # fmt: skip
        assert any(option in command for command in COMMANDS), option
    for page in ("README.md", "docs/index.md"):
        assert "wrong-result.md" in (ROOT / page).read_text(), page


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_line_accepts_the_command(command: str) -> None:
    _, verb, *words = shlex.split(command)
    parser = _as_command(importlib.import_module(f"deocclude.cli.{verb}").app, verb)
    given = parser.make_context(verb, words).params
    if verb == "run":
        assert given["inputs"] in (["photo.jpg"], ["photos/"])
        assert all(len(parse_box(box)) == 4 for box in given["box"] or ())
        PictureFormat.parse(given["file_format"], given["quality"])
        Choice.parse(given["person"])
        if not given["segmenter"]:
            prompts = bool(given["mask"] or given["box"])
            found = parse_finding(None, given["person"], given["min_score"], given["min_height"], prompts)
            assert (found is None) == prompts


def test_the_options_named_without_a_command_exist() -> None:
    run = _as_command(importlib.import_module("deocclude.cli.run").app, "run")
    known = {spelling for param in run.params for spelling in param.opts}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE))
    assert len(named) > 10 and named <= known
