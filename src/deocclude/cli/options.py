"""Options with the same meaning in every verb, and helpers for printing."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TextIO, TypeVar

import typer

from deocclude.io.offline import OFFLINE_VARIABLE

T = TypeVar("T")

Model = Annotated[str, typer.Option("-m", "--model", help="A bundled model; `deocclude models list` names them.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda; never changes silently.")]
Seed = Annotated[int, typer.Option("--seed", help="Same photo, prompts and seed: same result.")]
Weights = Annotated[
    Path | None,
    typer.Option("--weights", metavar="DIR", help="A folder with manifest.json and its networks."),
]
UnreportedSets = Annotated[
    list[Path],
    typer.Argument(
        metavar="EVAL_SET...",
        help="Evaluation sets of `deocclude data build-evalset`, other than those of reported figures.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print results as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")]


def _remember_verbose(ctx: typer.Context, is_given: bool) -> bool:
    """Keep --verbose in the context, for `is_verbose`."""
    if is_given:
        ctx.meta[_VERBOSE] = True
    return is_given


def _forbid_network(_: typer.Context, is_given: bool) -> bool:
    """Answer --offline by environment variables, which the command's own processes inherit."""
    if is_given:
        os.environ["HF_HUB_OFFLINE"] = os.environ[OFFLINE_VARIABLE] = "1"
    return is_given


_VERBOSE = "deocclude.verbose"  # key of the command's context
_DETAILS = "Print details on stderr, of an error its traceback."
_NO_NETWORK = "Never use the network; bundled models never do."
Verbose = Annotated[bool, typer.Option("-v", "--verbose", callback=_remember_verbose, help=_DETAILS)]
Offline = Annotated[bool, typer.Option("--offline", callback=_forbid_network, help=_NO_NETWORK)]


def with_common_options(command: Any) -> Any:
    """Add --verbose and --offline to a click command, or to each command of a group, where they are not declared."""
    if hasattr(command, "commands"):
        for inner in command.commands.values():
            with_common_options(inner)
        return command
    declared = {name for param in command.params for name in param.opts}
    for option in _common_options():
        if declared.isdisjoint(option.opts):
            # the command's function does not take the option, whose callback does everything
            option.expose_value = False
            command.params.append(option)
    return command


def _common_options() -> list[Any]:
    """The click options --verbose and --offline, which typer makes for a command that does nothing."""
    donor = typer.Typer(add_completion=False)

    @donor.command()
    def command_with_both(verbose: Verbose = False, offline: Offline = False) -> None: ...

    return [param for param in typer.main.get_command(donor).params if param.name in ("verbose", "offline")]


def is_verbose(ctx: typer.Context) -> bool:
    """Whether --verbose was given, in any command of a context."""
    return bool(ctx.meta.get(_VERBOSE))


JOBS_HELP = "Photos processed at once"


def renamed(old: str, old_value: T | None, new: str, new_value: T | None) -> T | None:
    """The value of a renamed option. The old name still works, with a warning.

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


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a standard stream is a terminal; False for a closed one, which is None."""
    return stream is not None and stream.isatty()


def print_json(values: Mapping[str, Any]) -> None:
    """Print one JSON object on one line of stdout."""
    typer.echo(json.dumps(values))
