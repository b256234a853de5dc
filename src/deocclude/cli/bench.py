"""`deocclude bench`: measure the speed budgets."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from deocclude.cli.options import AsJson, Model, Quiet, Weights, print_json


def app(
    model: Model = "base",
    weights: Weights = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Timings of each network.")] = 15,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="CPU threads of the networks; default all cores.")
    ] = None,
    paper: Annotated[
        bool, typer.Option("--paper/--no-paper", help="Compare with the paper-size pair (needs [train]).")
    ] = True,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Time the networks against the paper-size ones, and `run`.

    Both pairs of networks alternate on ONNX Runtime on the CPU, so that other load affects both. A 12-megapixel photo
    is recovered in a separate process, for time and peak memory. `deocclude run` is timed as a whole process on one
    megapixel, and so are detection and the recovery of ten people. Prints a Markdown table, or JSON with --json.
    """
    from importlib.util import find_spec

    from deocclude.errors import MissingExtraError
    from deocclude.evaluation.speed import (
        BenchReport,
        export_paper_pair,
        measure_big_photo,
        measure_crowd,
        measure_process,
        time_pairs,
    )
    from deocclude.inference.runtime import find_model

    if paper and find_spec("torch") is None:  # fail before the first measurement, not after
        raise MissingExtraError("the paper-size pair (--no-paper leaves it out)", "train")

    def say(what: str) -> None:
        if not quiet:
            typer.echo(what, err=True)

    base = find_model(model, weights)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        say("recovering a 12-megapixel photo ...")
        big_photo = measure_big_photo(folder, weights, model)
        say("timing `deocclude run` as a whole process ...")
        process_s = measure_process(folder, weights, model)
        say("detecting people, and recovering ten ...")
        crowd = measure_crowd(folder, weights, model)
        pairs = None
        if paper:
            say("exporting the paper-size networks ...")
            paper_pair = export_paper_pair(folder)
            say(f"timing both pairs, {rounds} rounds ...")
            pairs = time_pairs(base, paper_pair, rounds=rounds, threads=threads or os.cpu_count() or 1)
    report = BenchReport(pairs, big_photo, process_s, crowd)
    if json:
        print_json(report.as_dict())
    elif not quiet:
        typer.echo(report.as_markdown())
