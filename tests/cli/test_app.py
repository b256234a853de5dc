"""The command's frame: verbs are listed without being imported, and errors become one line and an exit code."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from deocclude import __version__
from deocclude.cli.app import EXTRA_OF, VERBS, app
from deocclude.errors import ConfigError, DeoccludeError, DeviceError, InputError, WeightsError

HEAVY = ("numpy", "PIL", "onnxruntime", "torch", "rich", "cv2", "scipy", "yaml", "pydantic")


def install(monkeypatch: pytest.MonkeyPatch, verb: str, function) -> None:
    """Put a verb's module in place of the real one."""
    module = types.ModuleType(f"deocclude.cli.{verb}")
    module.app = function
    monkeypatch.setitem(sys.modules, module.__name__, module)


def test_every_verb_has_its_module_and_help() -> None:
    for verb in VERBS:
        assert importlib.util.find_spec(f"deocclude.cli.{verb}"), verb
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    for verb, text in VERBS.items():
        assert verb in result.output and text.split(",")[0][:30] in result.output
    assert "..." not in result.output.partition("Commands:")[2], "a verb's help must fit on its line"


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_and_version_import_nothing_heavy(argument: str) -> None:
    code = (
        "import sys\nfrom deocclude.cli.app import app\n"
        f"try:\n    app([{argument!r}])\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert __version__ in done.stdout or "Commands:" in done.stdout


def test_importing_the_run_module_loads_no_heavy_packages() -> None:
    code = f"import sys, deocclude.cli.run\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DeoccludeError("plain"), 1),
        (InputError("photo"), 1),
        (ConfigError("key"), 2),
        (WeightsError("file"), 3),
        (DeviceError("cuda"), 4),
        (OSError("no space left"), 1),
    ],
)
def test_errors_give_one_line_and_their_exit_code(monkeypatch: pytest.MonkeyPatch, error: Exception, code: int) -> None:
    def verb() -> None:
        raise error

    install(monkeypatch, "eval", verb)
    result = CliRunner().invoke(app, ["eval"])
    assert result.exit_code == code
    assert result.stderr == f"error: {error}\n"


def test_os_error_names_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def verb() -> None:
        raise OSError(28, "No space left on device", "log.jsonl")

    install(monkeypatch, "train", verb)
    result = CliRunner().invoke(app, ["train"])
    assert (result.exit_code, result.stderr) == (1, "error: log.jsonl: No space left on device\n")


@pytest.mark.parametrize("package", sorted(EXTRA_OF))
def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    def verb() -> None:
        raise ModuleNotFoundError(f"No module named '{package}.x'", name=f"{package}.x")

    install(monkeypatch, "train", verb)
    result = CliRunner().invoke(app, ["train"])
    assert result.exit_code == 4
    (line,) = result.stderr.splitlines()
    assert package in line and line.endswith(f'pip install "deocclude[{EXTRA_OF[package]}]"')


def test_broken_internal_import_is_not_reported_as_a_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def verb() -> None:
        raise ModuleNotFoundError("No module named 'deocclude.typo'", name="deocclude.typo")

    install(monkeypatch, "train", verb)
    result = CliRunner().invoke(app, ["train"])
    assert isinstance(result.exception, ModuleNotFoundError)


def test_a_verb_may_hold_subcommands(monkeypatch: pytest.MonkeyPatch) -> None:
    group = typer.Typer()
    group.command("build")(lambda: typer.echo("built"))
    group.command("check")(lambda: typer.echo("checked"))
    install(monkeypatch, "data", group)
    assert CliRunner().invoke(app, ["data", "check"]).output == "checked\n"
    assert CliRunner().invoke(app, ["data", "nothing"]).exit_code == 2


def test_usage_errors_exit_with_2_and_suggest_the_verb() -> None:
    typo = CliRunner().invoke(app, ["rum"])
    assert typo.exit_code == 2
    assert "did you mean 'run'?" in typo.stderr
    assert CliRunner().invoke(app, ["run"]).exit_code == 2
    assert CliRunner().invoke(app, ["run", "a.jpg", "--unknown"]).exit_code == 2


def test_a_photo_in_the_place_of_a_verb_proposes_run(tmp_path: Path) -> None:
    (tmp_path / "my photo").write_bytes(b"no suffix")
    for arguments, proposed in (
        (["photo.JPG"], "deocclude run photo.JPG"),
        (["photo.jpg", "--mask", "a b.png"], "deocclude run photo.jpg --mask 'a b.png'"),
        ([str(tmp_path / "my photo")], f"deocclude run '{tmp_path / 'my photo'}'"),
        ([str(tmp_path)], f"deocclude run {tmp_path}"),
    ):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 2 and result.stdout == ""
        assert result.stderr == f"error: no verb {arguments[0]!r}: did you mean `{proposed}`?\n"
    assert "did you mean 'eval'?" in CliRunner().invoke(app, ["evl"]).stderr


def test_broken_pipe_gives_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "deocclude", "--help"], stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_exits_with_130(tmp_path: Path, number: signal.Signals) -> None:
    # A photo that never comes: the process waits on standard input.
    command = [sys.executable, "-m", "deocclude", "models", "list", "--weights", str(tmp_path / "fifo_folder")]
    (tmp_path / "fifo_folder").mkdir()
    os.mkfifo(tmp_path / "fifo_folder" / "manifest.json")
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    # Opening the other end succeeds once the process reads: it is then inside the verb.
    deadline = time.monotonic() + 20
    while True:
        try:
            end = os.open(tmp_path / "fifo_folder" / "manifest.json", os.O_WRONLY | os.O_NONBLOCK)
            break
        except OSError:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=20)
    os.close(end)
    assert process.returncode == 130
    assert stderr.strip() == "interrupted"


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_during_the_start_exits_with_130_and_one_line(tmp_path: Path, number: signal.Signals) -> None:
    # typer, which is loaded first, takes its time
    (tmp_path / "typer").mkdir()
    code = "import pathlib, sys, time\npathlib.Path(sys.argv[-1]).touch()\ntime.sleep(60)\n"
    (tmp_path / "typer" / "__init__.py").write_text(code)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-m", "deocclude", "run", "a.jpg", str(tmp_path / "loading")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (tmp_path / "loading").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, stderr) == (130, "", "interrupted\n")
