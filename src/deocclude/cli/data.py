"""`deocclude data`: what a training run or an evaluation reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deocclude.cli.options import Quiet

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True, help="Build validation data.")


@app.callback()
def _group() -> None:
    """Build validation data."""


@app.command()
def build(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder of the frozen set.")],
    root: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="The data folder; docs/data.md has its layout.")
    ] = Path("../shared/data"),
    people: Annotated[str, typer.Option(help="Whose held-out people: ccp, cutouts or full.")] = "ccp",
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same pictures.")] = 0,
    unoccluded: Annotated[bool, typer.Option(help="Add each person with nothing in front.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a frozen set that is there.")] = False,
    quiet: Quiet = False,
) -> None:
    """Freeze a validation set: each held-out person hidden by an object, by a person, and by something low."""
    from deocclude.errors import UsageError

    if people not in ("ccp", "cutouts", "full"):
        raise UsageError(f"--people must be ccp, cutouts or full, got {people!r}")
    from deocclude.data.build import build_frozen_set

    frozen = build_frozen_set(output, root, seed=seed, people=people, unoccluded=unoccluded, overwrite=overwrite)
    if not quiet:
        typer.echo(f"{output}: {len(frozen)} records of {len({r.person_id for r in frozen})} people")
