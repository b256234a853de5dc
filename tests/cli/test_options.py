"""Same flag, same meaning: the options of every command, read from the commands themselves."""

from __future__ import annotations

import importlib
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from deocclude.cli import data, eval, run
from deocclude.cli.app import VERBS, _as_command, app
from deocclude.cli.options import is_terminal, renamed
from deocclude.data.storage import Folder
from deocclude.errors import UsageError
from deocclude.io.offline import is_offline

# Flags whose help names what they act on in each command, and the one meaning that every help must state.
MEANING = {
    "--config": r"config|YAML|rows",
    "--jobs": r"^Photos processed at once; default: ",
    "--licence": r"Licence of the model|For photos whose records state none",
    "--limit": r"first photos|Number of people|As in the command|Most images|At most N",
    "--model": r"[Mm]odel",
    "--output": r"[Ff]older|[Ff]ile|page|ablation\.md|eval\.json",
    "--overwrite": r"again|Replace|Repeat|Start from step 0",
    "--people": r"^(Held-out people|People with joints)",
    "--seed": r"[Ss]eed",
    "--set": r"^(Override a key|Threshold of a rule)",
    "--sheet": r"Image of|contact sheet",
    "--split": r"Held-out photos|val \(default\), or train",
    "--threads": r"^CPU threads",
}


class Option(NamedTuple):
    """One option of one command."""

    command: str
    spellings: tuple[str, ...]
    help: str
    hidden: bool


def test_closed_stream_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_terminal(None)
    monkeypatch.setattr("sys.stderr", None)
    for progress in (run._progress([None, None], shown=True), data._counting(visible=True), eval._progress(shown=True)):
        with progress:
            pass


def commands() -> Iterator[tuple[str, Any]]:
    """Every command that does something: its words and its click command."""

    def leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        inner = getattr(command, "commands", None)
        if not inner:
            yield name, command
        for word, one in (inner or {}).items():
            yield from leaves(f"{name} {word}", one)

    for verb in VERBS:
        yield from leaves(verb, _as_command(importlib.import_module(f"deocclude.cli.{verb}").app, verb))


def options() -> dict[str, list[Option]]:
    """The options by their long name."""
    found: dict[str, list[Option]] = defaultdict(list)
    for name, command in commands():
        for param in command.params:
            if param.param_type_name == "option":
                long = next(one for one in param.opts if one.startswith("--"))
                spellings = (*param.opts, *param.secondary_opts)
                found[long].append(Option(name, spellings, param.help or "", param.hidden))
    return found


def test_an_option_has_the_same_spellings_in_every_command() -> None:
    found = options()
    assert len(list(commands())) > 15 and {"--output", "--json", "--quiet", "--seed", "--model"} <= set(found)
    differing = {name: rows for name, rows in found.items() if len({row.spellings for row in rows}) > 1}
    assert not differing
    shorts: dict[str, set[str]] = defaultdict(set)
    for name, rows in found.items():
        for spelling in rows[0].spellings:
            if not spelling.startswith("--"):
                shorts[spelling].add(name)
    assert shorts and all(len(names) == 1 for names in shorts.values()), shorts


def test_an_option_means_the_same_in_every_command() -> None:
    for name, rows in options().items():
        shown = [row for row in rows if not row.hidden]
        if name in MEANING:
            wrong = [row for row in shown if not re.search(MEANING[name], row.help)]
            assert not wrong, f"{name} means something else"
        else:
            assert len({row.help for row in shown}) <= 1, f"{name} has several meanings: {shown}"


def test_the_table_of_meanings_lists_shared_options_alone() -> None:
    shared = {name for name, rows in options().items() if len({row.help for row in rows}) > 1}
    assert set(MEANING) <= shared


def test_every_command_can_be_quiet() -> None:
    assert {row.command for row in options()["--quiet"]} == {name for name, _ in commands()}


def test_every_command_has_the_common_options() -> None:
    every = {name for name, _ in commands()}
    for option in ("--json", "--verbose", "--offline"):
        assert {row.command for row in options()[option]} == every, option


def test_verbose_prints_the_traceback_of_an_error_before_its_line(tmp_path) -> None:
    arguments = ["models", "list", "--weights", str(tmp_path)]
    plain, verbose = CliRunner().invoke(app, arguments), CliRunner().invoke(app, [*arguments, "-v"])
    assert plain.exit_code == verbose.exit_code == 3
    assert plain.stderr.startswith("error: ") and len(plain.stderr.splitlines()) == 1
    assert verbose.stderr.startswith("Traceback") and verbose.stderr.endswith(plain.stderr)


def test_offline_forbids_the_network_to_the_process_and_its_children(weights_dir, monkeypatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert not is_offline()
    result = CliRunner().invoke(app, ["models", "list", "--weights", str(weights_dir), "--offline"])
    assert result.exit_code == 0 and is_offline() and os.environ["HF_HUB_OFFLINE"] == "1"
    with pytest.raises(UsageError, match=r"s3://bucket/people: the network is not used with --offline"):
        Folder("s3://bucket/people")
    assert Folder("memory://people").is_empty()


def test_an_earlier_name_is_hidden_and_names_the_present_one() -> None:
    hidden = {(row.command, name): row.help for name, rows in options().items() for row in rows if row.hidden}
    assert set(hidden) == {("ablate", "--data"), ("models convert", "--sizes")}
    for (command, _), text in hidden.items():
        present = text.removeprefix("Earlier name of ").removesuffix(".")
        assert command in {row.command for row in options()[present] if not row.hidden}


def test_an_earlier_name_works_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    assert renamed("--old", None, "--new", "a") == "a" and renamed("--old", None, "--new", None) is None
    assert capsys.readouterr().err == ""
    assert renamed("--old", "b", "--new", None) == "b"
    assert capsys.readouterr().err == "warning: --old is now called --new\n"
    with pytest.raises(UsageError, match="--old is now called --new: give --new alone"):
        renamed("--old", "b", "--new", "a")


def test_earlier_names_reach_their_commands(tmp_path) -> None:
    for arguments, warning in (
        (["models", "convert", "none.pth", "-o", tmp_path, "--sizes", "paper"], "--sizes is now called --widths"),
        (["ablate", "-c", tmp_path / "none.yaml", "-o", tmp_path, "--data", "x"], "--data is now called --eval-set"),
        (
            ["data", "build-evalset", "-o", tmp_path / "s", "--people", "records", "--data", tmp_path / "none.jsonl"],
            "--data is now called --dataset",
        ),
    ):
        result = CliRunner().invoke(app, [str(word) for word in arguments])
        first, *rest = result.stderr.splitlines()
        assert first == f"warning: {warning}" and result.exit_code in (1, 2, 3), result.output
        assert rest and rest[-1].startswith("error: ") and "none" in rest[-1]
    refused = CliRunner().invoke(app, ["data", "build-evalset", "-o", str(tmp_path / "s"), "--dataset", "x"])
    assert refused.exit_code == 2 and "--dataset is for --people records, built, folder" in refused.stderr


def test_quiet_prints_no_result(weights_dir) -> None:
    for words in (["models", "list"], ["models", "info"], ["doctor", "--device", "cpu"]):
        result = CliRunner().invoke(app, [*words, "--weights", str(weights_dir), "-q"])
        assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
