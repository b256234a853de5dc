"""Weights by their sha256: found in the package and the cache, restored from a git history, and named when missing."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from deocclude.checkpoints import history
from deocclude.checkpoints.files import load_weights, save_weights
from deocclude.cli.app import app
from deocclude.errors import ConfigError, UsageError, WeightsError
from deocclude.inference.runtime import BUNDLED_WEIGHTS
from deocclude.train.config import load_config
from repository import ROOT

NAME = "weights/net.safetensors"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEOCCLUDE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def git(folder: Path, *arguments: str) -> str:
    own = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", "-C", folder, *own, *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def checkout(tmp_path: Path) -> tuple[Path, list[str]]:
    """A repository of two generations of weights, then deleted; one more on a branch. And their sha256, in order."""
    folder, shas = tmp_path / "checkout", []
    (folder / "weights").mkdir(parents=True)
    git(tmp_path, "init", "-q", "-b", "main", str(folder))

    def commit(value: float) -> None:
        save_weights(folder / NAME, {"w": torch.full((3,), value)}, {"step": value})
        shas.append(hashlib.sha256((folder / NAME).read_bytes()).hexdigest())
        git(folder, "add", ".")
        git(folder, "commit", "-q", "-m", f"weights {value}")

    commit(1.0)
    commit(2.0)
    git(folder, "checkout", "-q", "-b", "other")
    commit(3.0)
    git(folder, "checkout", "-q", "main")
    git(folder, "rm", "-q", NAME)
    git(folder, "commit", "-q", "-m", "no weights")
    return folder, shas


def fetch(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["models", "fetch-history", *map(str, arguments)])


def test_historical_weights_are_restored_and_found_by_sha256(checkout: tuple[Path, list[str]], cache: Path) -> None:
    folder, shas = checkout
    for value, sha in zip((1.0, 2.0, 3.0), shas, strict=True):
        with pytest.raises(WeightsError, match=f"by `deocclude models fetch-history {sha[:12]}`"):
            load_weights(Path(f"sha256:{sha[:12]}"))
        done = fetch(sha[:12].upper(), "--repository", folder)
        assert (done.exit_code, done.stdout) == (0, f"{cache / sha}.safetensors\n")
        weights, metadata = load_weights(Path(f"sha256:{sha[:12]}"))
        assert weights["w"].tolist() == [value] * 3 and metadata == {"step": value}
    assert sorted(path.stem for path in cache.iterdir()) == sorted(shas), "and nothing beside"


def test_history_table_commit_is_tried_before_the_git_log(
    checkout: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, (sha, other, _) = checkout
    commit = git(folder, "rev-list", "--max-parents=0", "HEAD").strip()
    asked = []
    run = history._git

    def noted(repository: Path, *arguments: str, **options: bool) -> bytes:
        asked.append(arguments[0])
        return run(repository, *arguments, **options)

    monkeypatch.setattr(history, "_git", noted)
    monkeypatch.setattr(history, "weights_table", lambda: {sha: {"commit": commit, "path": NAME, "what": "the first"}})
    done = fetch(sha, "--repository", folder, "-o", folder / "out", "--json")
    assert json.loads(done.stdout) == {"sha256": sha, "path": f"{folder}/out/{sha}.safetensors", "what": "the first"}
    assert asked == ["rev-parse", "show"]
    # a table that is wrong is not believed
    monkeypatch.setattr(history, "weights_table", lambda: {other: {"commit": commit, "path": NAME, "what": "another"}})
    restored = history.fetch(other, folder / "out", folder)
    assert hashlib.sha256(restored.read_bytes()).hexdigest() == other and asked[3:5] == ["show", "log"]


def test_restored_weights_are_cached_and_repaired_when_damaged(checkout: tuple[Path, list[str]], cache: Path) -> None:
    folder, (sha, *_) = checkout
    path = history.fetch(sha, repository=folder)
    assert history.fetch(sha, repository=folder / "nowhere") == path, "no repository is needed any more"
    path.write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="restore them"):
        history.resolve(Path(f"sha256:{sha}"))
    assert history.fetch(sha, repository=folder) == path == history.resolve(Path(f"sha256:{sha}"))


def test_restore_failure_gives_a_one_line_error(checkout: tuple[Path, list[str]], tmp_path: Path, cache: Path) -> None:
    folder, _ = checkout
    (tmp_path / "plain").mkdir()
    for options, code, message in (
        (("0" * 12, "--repository", folder), 3, "no .safetensors with sha256:000000000000 in the git history of"),
        (("0" * 12, "--repository", tmp_path / "plain"), 3, f"{tmp_path / 'plain'}: fatal: not a git repository"),
        (("0" * 12, "--repository", tmp_path / "none"), 3, f"no git checkout: looked for {tmp_path / 'none'}"),
        (("abc", "--repository", folder), 2, "a sha256 needs 12 to 64 hex digits, got 'abc'"),
    ):
        done = fetch(*options)
        assert (done.exit_code, done.stdout) == (code, "") and done.stderr.startswith(f"error: {message}")
        assert done.stderr.count("\n") == 1
    assert not cache.exists()


def test_sha256_prefix_resolves_to_bundled_weights() -> None:
    row = json.loads((BUNDLED_WEIGHTS / "manifest.json").read_text())["models"]["base"]["networks"]["mask_completion"]
    sha = row["sha256"]["safetensors"]
    assert history.resolve(Path(f"sha256:{sha[:12]}")) == BUNDLED_WEIGHTS / row["safetensors"]
    assert history.resolve(Path("runs/mask")) == Path("runs/mask")
    for named in ("sha256:", "sha256:0123", f"sha256:{'x' * 12}", f"sha256:{'0' * 65}"):
        with pytest.raises(UsageError, match="a sha256 needs 12 to 64 hex digits"):
            history.resolve(Path(named))


def test_missing_bundled_weights_error_names_the_fetch_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "deocclude" / "weights"
    installed.mkdir(parents=True)
    shutil.copy(BUNDLED_WEIGHTS / "manifest.json", installed)
    monkeypatch.setattr(history, "BUNDLED_WEIGHTS", installed)
    for path in (installed, Path("elsewhere/deocclude/weights")):
        with pytest.raises(WeightsError) as caught:
            load_weights(path / "mask_completion_base.safetensors")
        told = str(caught.value)
        assert told.startswith(f"weights not found: looked for {path}") and "\n" not in told
        sha = told.split("fetch-history ")[1][:12]
        assert told.endswith(f"by `deocclude models fetch-history {sha}` and name them sha256:{sha}")
        assert any(known.startswith(sha) for known in history.weights_table())
    with pytest.raises(WeightsError, match=r"looked for .*/mine\.safetensors$"):
        load_weights(installed / "mine.safetensors")


@pytest.mark.parametrize("key", ["init", "parsing_weights", "stage1", "box_segmenter", "perceptual"])
def test_config_accepts_sha256_prefixes_of_at_least_12_digits(tmp_path: Path, key: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"mask: {{{key}: 'sha256:0123456789ab', schedule: {{steps: 1}}}}\n")
    assert getattr(load_config(path).mask, key) == Path("sha256:0123456789ab")
    with pytest.raises(ConfigError) as caught:
        load_config(path, [f"mask.{key}=sha256:0123"])
    assert str(caught.value) == f"{path}: mask.{key}: a sha256 needs 12 to 64 hex digits, got '0123'"


def test_history_table_lists_all_shipped_weights() -> None:
    networks = json.loads((BUNDLED_WEIGHTS / "manifest.json").read_text())["models"]["base"]["networks"]
    shipped = {row["sha256"]["safetensors"] for row in networks.values() if "safetensors" in row}
    assert shipped <= set(history.weights_table())
    for row in history.weights_table().values():
        assert len(row["commit"]) == 40 and row["path"].endswith(".safetensors") and row["what"]


def test_history_table_matches_this_repository() -> None:
    """Of a few, each checked against git; a copy without history has nothing to check."""
    sample = dict(list(history.weights_table().items())[::9])
    for sha, row in sample.items():
        shown = subprocess.run(
            ["git", "-C", ROOT, "show", f"{row['commit']}:{row['path']}"], capture_output=True, check=False
        )
        if shown.returncode:
            pytest.skip(f"commit {row['commit'][:7]} is not in this copy")
        assert hashlib.sha256(shown.stdout).hexdigest() == sha


def test_wheel_contains_inference_files_but_no_training_weights(tmp_path: Path) -> None:
    tomllib = pytest.importorskip("tomllib")  # of Python 3.11
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["deocclude"]
    package = BUNDLED_WEIGHTS.parent
    taken = {path.relative_to(package).as_posix() for pattern in patterns for path in package.glob(pattern)}
    networks = json.loads((BUNDLED_WEIGHTS / "manifest.json").read_text())["models"]["base"]["networks"]
    wanted = {f"weights/{row['onnx']}" for row in networks.values()}
    wanted |= {"weights/manifest.json", "weights/NOTICE", "weights/typical_poses.npz", "checkpoints/history.json"}
    assert wanted <= taken and not [name for name in taken if name.endswith(".safetensors")]
    with zipfile.ZipFile(tmp_path / "wheel.zip", "w", zipfile.ZIP_DEFLATED) as wheel:  # as a wheel packs them
        for path in (*(package / name for name in taken), *package.rglob("*.py")):
            wheel.write(path)
    assert (tmp_path / "wheel.zip").stat().st_size < 30e6
