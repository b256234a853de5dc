"""`deocclude ablate`: train and measure a list of variants with one budget, and write one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deocclude.cli.options import AsJson, Quiet, check_folder, print_json, renamed

EXIT_SOME_FAILED = 5  # exit code: some variants failed


def app(
    config: Annotated[
        Path, typer.Option("-c", "--config", metavar="FILE", help="A list of rows such as configs/ablations.yaml.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="ablation.md, ablation.json and a folder a row.")
    ],
    only: Annotated[list[str] | None, typer.Option("--only", metavar="NAME", help="Only this row; repeatable.")] = None,
    eval_set: Annotated[
        Path | None,
        typer.Option("--eval-set", metavar="DIR", help="Evaluation set, instead of the file's."),
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", hidden=True, help="Earlier name of --eval-set.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="a.b=c", help="Override a key of every row's config.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Repeat rows that are done.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train and measure ablations and baselines with one budget; one table of all rows.

    Finished rows are skipped and interrupted ones resumed; ablation.md and ablation.json are written after each row. If
    a row fails, the others go on, and the exit code is 5.
    """
    eval_set = renamed("--data", data, "--eval-set", eval_set)
    check_folder(output)
    from deocclude.ablation.run import Ablation, run
    from deocclude.ablation.table import to_markdown

    ablation = Ablation.read(config, settings or [], eval_set)
    table = run(
        ablation, output, only=only or [], overwrite=overwrite, quiet=quiet,
        tell=(lambda line: None) if quiet else (lambda line: typer.echo(line, err=True)),
    )  # fmt: skip
    if as_json:
        print_json(table)
    elif not quiet:
        typer.echo(to_markdown(table), nl=False)
    if any("error" in row for row in table["rows"]):
        raise typer.Exit(EXIT_SOME_FAILED)
