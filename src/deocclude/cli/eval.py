"""`deocclude eval`: measure a model on a frozen validation set, next to what needs no network."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deocclude.cli.options import AsJson, Device, Model, Offline, Quiet, Weights, print_json
from deocclude.errors import DeoccludeError, UsageError

if TYPE_CHECKING:
    from deocclude.evaluation import TypicalPoses


def app(
    frozen_dir: Annotated[
        Path, typer.Argument(metavar="FROZEN_DIR", help="A frozen validation set, as `deocclude data build` makes it.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="DIR", help="Write eval.json and eval.md to this folder, anew each time."
        ),
    ] = None,
    model: Model = "base",
    device: Device = "auto",
    weights: Weights = None,
    initial: Annotated[
        str | None,
        typer.Option("--initial", metavar="KINDS", help="What to start from: any of exact,degraded,box,photo; all."),
    ] = None,
    no_content: Annotated[bool, typer.Option("--no-content", help="Measure masks only.")] = False,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, metavar="N", help="At most N pictures of the set, the same N each time."),
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="FILE.png", help="Draw a contact sheet, easy people first.")
    ] = None,
    sheet_rows: Annotated[
        int, typer.Option("--sheet-rows", min=1, metavar="N", help="Rows of the contact sheet.")
    ] = 12,
    as_json: AsJson = False,
    offline: Offline = False,
    quiet: Quiet = False,
) -> None:
    """Measure a model on a frozen validation set, next to its baselines.

    Prints Markdown tables: IoU of the whole body and of its hidden part, from exact, degraded and box initial masks and
    from the photo alone, and how true the recovered appearance is. On a set of scenes (`data build --people crowds` or
    wild): who is found, how good their masks are, and the order of depth. How each figure is measured stands below the
    tables. eval.json also holds every single score.
    """
    kinds = _initial_kinds(initial)
    if sheet is not None and sheet.suffix.lower() != ".png":
        raise UsageError(f"--sheet must name a .png file, got {sheet}")

    import numpy as np

    import deocclude
    from deocclude.data.frozen import FrozenSet
    from deocclude.data.frozen_scenes import SceneSet, is_scene_set
    from deocclude.evaluation import (
        INITIAL_KINDS,
        PROMPTED_KINDS,
        draw_scene_sheet,
        draw_sheet,
        evaluate,
        evaluate_scenes,
        scenes_to_markdown,
        summarise,
        summarise_scenes,
        to_markdown,
    )
    from deocclude.image_io import save_image, save_text

    of_scenes = is_scene_set(frozen_dir)
    frozen = SceneSet.open(frozen_dir) if of_scenes else FrozenSet.open(frozen_dir)
    # Before minutes of work, not after.
    for folder in (output, sheet.parent if sheet is not None else None):
        if folder is not None:
            _make_folder(folder)
    predictor = deocclude.load(model, device=device, weights_dir=weights)
    with _progress(shown=not quiet) as on_record:
        if of_scenes:
            summary = summarise_scenes(
                evaluate_scenes(frozen, predictor, limit=limit, on_record=on_record), model=model
            )
            markdown = scenes_to_markdown(summary)
        else:
            evaluation = evaluate(
                frozen,
                predictor,
                initial_kinds=kinds or (INITIAL_KINDS if predictor.finds_people else PROMPTED_KINDS),
                typical_poses=_typical_poses(weights),
                content=not no_content,
                limit=limit,
                on_record=on_record,
            )
            summary = summarise(evaluation, model=model)
            markdown = to_markdown(summary)
    if output is not None:
        save_text(json.dumps(summary, indent=1) + "\n", output / "eval.json")
        save_text(markdown, output / "eval.md")
    if as_json:
        print_json(summary)
    elif not quiet:
        typer.echo(markdown, nl=False)
    if sheet is not None:
        drawn = (
            draw_scene_sheet(frozen, predictor, rows=sheet_rows)
            if of_scenes
            else draw_sheet(evaluation, frozen, predictor, rows=sheet_rows)
        )
        save_image(np.asarray(drawn), sheet)


def _initial_kinds(text: str | None) -> tuple[str, ...]:
    """The kinds named; none where nothing is said."""
    if text is None:
        return ()
    from deocclude.evaluation import INITIAL_KINDS

    kinds = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    unknown = [kind for kind in kinds if kind not in INITIAL_KINDS]
    if unknown:
        raise UsageError(f"--initial takes any of {', '.join(INITIAL_KINDS)}, got {unknown[0]!r}")
    return kinds


def _typical_poses(weights: Path | None) -> TypicalPoses | None:
    """The typical poses beside the weights in use, else the bundled ones, else None."""
    from deocclude.evaluation import TypicalPoses
    from deocclude.person_frame import read_poses
    from deocclude.runtime import BUNDLED_WEIGHTS

    for folder in (weights, BUNDLED_WEIGHTS):
        if folder is not None and (folder / "typical_poses.npz").is_file():
            return TypicalPoses(read_poses(folder / "typical_poses.npz"))
    return None


@contextmanager
def _progress(shown: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A callback that moves a bar on stderr, or None where nobody watches."""
    if not shown or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("pictures"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("pictures", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DeoccludeError(f"cannot make the output folder {folder}: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise DeoccludeError(f"cannot write to the output folder {folder}")
