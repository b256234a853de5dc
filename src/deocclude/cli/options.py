"""Options with the same meaning in every verb, and helpers for printing."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

T = TypeVar("T")

Model = Annotated[str, typer.Option("-m", "--model", help="A bundled model; `deocclude models list` names them.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda; never changes silently.")]
Seed = Annotated[int, typer.Option("--seed", help="Same photo, prompts and seed: same result.")]
Weights = Annotated[
    Path | None,
    typer.Option("--weights", metavar="DIR", help="A folder with manifest.json and its networks."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print results as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Print details on stderr.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never use the network; bundled models never do.")]

JOBS_HELP = "Photos processed at once"


def renamed(old: str, old_value: T | None, new: str, new_value: T | None) -> T | None:
    """The value of an option that had another name, under which it is still accepted with a warning.

    Raises:
        UsageError: both are given.
    """
    if old_value is None:
        return new_value
    if new_value is not None:
        from deocclude.errors import UsageError

        raise UsageError(f"{old} is now called {new}: give {new} alone")
    typer.echo(f"warning: {old} is now called {new}", err=True)
    return old_value


def check_folder(folder: Path) -> None:
    """Check before the work that an output folder can be created or written to. Creates nothing.

    Raises:
        DeoccludeError: it cannot.
    """
    from deocclude.errors import DeoccludeError

    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir():
        raise DeoccludeError(f"cannot write to the folder {folder}: {nearest} is a file")
    if not os.access(nearest, os.W_OK):
        raise DeoccludeError(f"cannot write to the folder {folder}: no permission to write to {nearest}")


def print_json(values: Mapping[str, Any]) -> None:
    """Print one JSON object on one line of stdout."""
    typer.echo(json.dumps(values))
