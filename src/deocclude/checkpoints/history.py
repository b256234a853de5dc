"""Weights by their content: `sha256:PREFIX` names a file, and the repository's git history keeps the former ones.

A path says where weights lie, and what lies there changes; a digest says what they are. A config names the weights that
a run starts from by digest. This module does not import torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from deocclude.errors import UsageError, WeightsError
from deocclude.inference.runtime import BUNDLED_WEIGHTS, MANIFEST_NAME
from deocclude.io.files import write_whole
from deocclude.io.request_stamp import file_digest

SCHEME = "sha256:"  # before a digest that names weights
MIN_DIGITS = 12  # of a digest that names weights
TABLE = Path(__file__).with_name("history.json")  # {sha256: {commit, path, what}}


def cache_folder() -> Path:
    """Where restored weights lie: DEOCCLUDE_CACHE, or ~/.cache/deocclude."""
    named = os.environ.get("DEOCCLUDE_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "deocclude"


def digits_of(named: str | Path) -> str | None:
    """The hex digits of `sha256:PREFIX`, in lower case; None for a path. Raises UsageError as `check_digits`."""
    text = str(named)
    return check_digits(text[len(SCHEME) :]) if text.startswith(SCHEME) else None


def check_digits(digits: str) -> str:
    """A sha256 or its first 12 digits or more, in lower case. Raises UsageError for anything else."""
    if not re.fullmatch(f"[0-9a-f]{{{MIN_DIGITS},64}}", digits.lower()):
        raise UsageError(f"a sha256 needs {MIN_DIGITS} to 64 hex digits, got {digits!r}")
    return digits.lower()


def resolve(named: Path) -> Path:
    """The file of a digest, from the package's weights or the cache; a path is returned unchanged.

    Raises WeightsError where no file has that digest, and UsageError as `digits_of`.
    """
    digits = digits_of(named)
    if digits is None:
        return named
    bundled = sorted(BUNDLED_WEIGHTS.glob("*.safetensors"))
    if (path := _first_with_digest([*bundled, *_restored(cache_folder(), digits)], digits)) is not None:
        return path
    raise WeightsError(
        f"no weights with {SCHEME}{digits} in {BUNDLED_WEIGHTS} or {cache_folder()}: restore them from a checkout by "
        f"`deocclude models fetch-history {digits}`"
    )


def missing(path: Path) -> WeightsError:
    """The error for a file that is not there; for the package's training weights it says how to restore them."""
    message = f"weights not found: looked for {path}"
    digits = _bundled_digests().get(path.name) if path.parent.parts[-2:] == BUNDLED_WEIGHTS.parts[-2:] else None
    if digits is None:
        return WeightsError(message)
    return WeightsError(
        f"{message}: the wheel holds no .safetensors; restore them from a checkout by `deocclude models fetch-history "
        f"{digits[:MIN_DIGITS]}` and name them {SCHEME}{digits[:MIN_DIGITS]}"
    )


def fetch(digits: str, folder: Path | None = None, repository: Path | None = None) -> Path:
    """Restore the weights of a digest from the git history of a checkout; the restored file is `SHA256.safetensors`.

    folder: None is the cache. repository: None is the checkout that the package lies in, or else the working folder.
    A file that is there already is kept. Raises UsageError, WeightsError.
    """
    digits = check_digits(digits)
    folder = folder or cache_folder()
    if (path := _first_with_digest(_restored(folder, digits), digits)) is not None:
        return path
    repository = repository or _own_checkout()
    if not repository.is_dir():
        raise WeightsError(f"no git checkout: looked for {repository}")
    _git(repository, "rev-parse", "--git-dir")
    for content in _candidates(digits, repository):
        digest = hashlib.sha256(content).hexdigest()
        if digest.startswith(digits):
            return write_whole(folder / f"{digest}.safetensors", lambda file, content=content: file.write(content))
    raise WeightsError(
        f"no .safetensors with {SCHEME}{digits} in the git history of {repository}; a shallow clone needs "
        "`git fetch --unshallow` first"
    )


@cache
def weights_table() -> dict[str, dict[str, str]]:
    """The committed table of former and present weights: commit, path and what they are, by sha256."""
    return json.loads(TABLE.read_text(encoding="utf-8"))


def _candidates(digits: str, repository: Path) -> Iterator[bytes]:
    """File contents that may have the digest: those of matching rows of the table, then every .safetensors in git."""
    for digest, row in weights_table().items():
        if digest.startswith(digits):
            yield _git(repository, "show", f"{row['commit']}:{row['path']}", may_fail=True)
    every_change = ("log", "--all", "-m", "--raw", "--no-abbrev", "--no-renames", "--format=", "--", "*.safetensors")
    listed = _git(repository, *every_change)
    # ":MODE MODE BLOB NEW_BLOB STATUS PATH" for each change
    blobs = [line.split()[3] for line in listed.decode("utf-8", "replace").splitlines() if line.startswith(":")]
    for blob in dict.fromkeys(blobs):
        yield _git(repository, "cat-file", "blob", blob, may_fail=True)  # empty for a deletion


def _git(repository: Path, *arguments: str, may_fail: bool = False) -> bytes:
    """The output of a git command. Where git fails, it is empty with `may_fail`; otherwise WeightsError is raised."""
    try:
        done = subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, check=False)
    except OSError as error:
        raise WeightsError(f"git cannot be run: {error.strerror or error}") from error
    if done.returncode and not may_fail:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["git failed"]
        raise WeightsError(f"{repository}: {said[-1]}")
    return b"" if done.returncode else done.stdout


def _own_checkout() -> Path:
    """The checkout that the package lies in, or else the working folder."""
    root = BUNDLED_WEIGHTS.parents[2]
    return root if (root / ".git").exists() else Path.cwd()


def _restored(folder: Path, digits: str) -> list[Path]:
    """Files in a folder whose names begin with the digits."""
    return sorted(folder.glob(f"{digits}*.safetensors"))


def _first_with_digest(paths: Iterable[Path], digits: str) -> Path | None:
    """The first file whose sha256 begins with the digits; None without one."""
    return next((path for path in paths if (file_digest(path) or "").startswith(digits)), None)


def _bundled_digests() -> dict[str, str]:
    """sha256 of each .safetensors that the manifest of the package lists, by its file name."""
    manifest: dict[str, Any] = json.loads((BUNDLED_WEIGHTS / MANIFEST_NAME).read_text(encoding="utf-8"))
    rows = [row for model in manifest["models"].values() for row in model["networks"].values()]
    return {row["safetensors"]: row["sha256"]["safetensors"] for row in rows if "safetensors" in row}
