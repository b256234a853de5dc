"""`deocclude eval`: measure a model, or predictions from files, on an evaluation set; compare two results."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deocclude.cli.eval_blind import BlindRequest
from deocclude.cli.eval_request import Measured, OnRecord, Request, refuse
from deocclude.cli.options import AsJson, Device, Model, Offline, Quiet, Weights, print_json
from deocclude.errors import DeoccludeError, UsageError

if TYPE_CHECKING:
    from deocclude.data.evalsets.persons import EvalSet
    from deocclude.data.evalsets.scenes import SceneSet


def app(
    eval_set_dir: Annotated[
        Path | None,
        typer.Argument(metavar="EVAL_SET", help="An evaluation set, as `deocclude data build` makes it."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="DIR", help="Write eval.json and eval.md to this folder, anew each time."
        ),
    ] = None,
    model: Model = "base",
    device: Device = "auto",
    weights: Weights = None,
    trained: Annotated[
        Path | None,
        typer.Option(
            "--trained",
            metavar="BEST.safetensors",
            help="Measure what a training wrote, a baseline too, in torch, without export: one look a crop, no "
            "averaging. Of stage 1 alone masks are measured.",
        ),
    ] = None,
    stage1: Annotated[
        Path | None,
        typer.Option(
            "--stage1", metavar="STAGE1.safetensors", help="Of --trained stage 2: who finds the masks and parts."
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option("--size", min=32, metavar="PX", help="Of --trained: side of its crops; the file's own, else 256."),
    ] = None,
    initial: Annotated[
        str | None,
        typer.Option("--initial", metavar="KINDS", help="What to start from: any of exact,degraded,box,photo; all."),
    ] = None,
    no_content: Annotated[bool, typer.Option("--no-content", help="Measure masks only.")] = False,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, metavar="N", help="At most N pictures of the set, the same N each time."),
    ] = None,
    pred: Annotated[
        Path | None,
        typer.Option(
            "--pred",
            metavar="DIR",
            help="Measure another system: ID.amodal.png for each picture, and ID.visible.png, ID.content.png if it has "
            "them. --initial says what it started from; exact if nothing is said.",
        ),
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Of --pred: count missing files as empty masks.")
    ] = False,
    save_pred: Annotated[
        Path | None,
        typer.Option(
            "--save-pred", metavar="DIR", help="Write the answers to the first of KINDS as --pred reads them."
        ),
    ] = None,
    inception: Annotated[
        Path | None,
        typer.Option("--inception", metavar="FILE", help="ONNX or TorchScript, a picture to features: FID and KID."),
    ] = None,
    lpips: Annotated[
        Path | None,
        typer.Option("--lpips", metavar="FILE", help="ONNX or TorchScript, two pictures to their distance: LPIPS."),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against",
            metavar="DIR",
            help="Also score another recovery from true masks: photos of another build, by its --save-recovered, or "
            "weights, a folder as --weights takes it, of which the installed code recovers.",
        ),
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            "--compare",
            metavar="A.json B.json",
            help="Instead of measuring: how two eval.json of one set differ, and how surely.",
        ),
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="FILE.png", help="Draw a contact sheet, easy people first.")
    ] = None,
    sheet_rows: Annotated[
        int, typer.Option("--sheet-rows", min=1, metavar="N", help="Rows of the contact sheet.")
    ] = 12,
    blind: Annotated[
        Path | None,
        typer.Option(
            "--blind",
            metavar="DIR",
            help="Instead of measuring: pictures of two candidates in random order, and answers.csv for whoever judges "
            "them. The key is DIR-key.json, beside DIR.",
        ),
    ] = None,
    blind_against: Annotated[
        list[str] | None,
        typer.Option(
            "--blind-against",
            metavar="OPPONENT",
            help="Of --blind: inpainting (default), mean-colour, or a DIR of --save-recovered; repeatable.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Of --blind: draws both orders; 0 if not given.")
    ] = None,
    save_recovered: Annotated[
        Path | None,
        typer.Option(
            "--save-recovered",
            metavar="DIR",
            help="Instead of measuring: ID.png, recovered from the true masks, for --against and --blind-against of "
            "another build.",
        ),
    ] = None,
    blind_score: Annotated[
        Path | None,
        typer.Option(
            "--blind-score", metavar="ANSWERS", help="Instead of measuring: whom a filled-in answers.csv prefers."
        ),
    ] = None,
    blind_key: Annotated[
        Path | None,
        typer.Option(
            "--blind-key", metavar="KEY", help="Of --blind-score: the key; else beside the folder of ANSWERS."
        ),
    ] = None,
    as_json: AsJson = False,
    offline: Offline = False,
    quiet: Quiet = False,
) -> None:
    """Measure a model on an evaluation set, next to its baselines.

    Prints Markdown tables: IoU of the whole body and of its hidden part, from exact, degraded and box initial masks and
    from the photo alone, and how true the recovered appearance is. On a set of scenes (`data build --people crowds` or
    wild): who is found, how good their masks are, and the order of depth. How each figure is measured stands below the
    tables. eval.json also holds every single score, from which --compare tells two models apart.
    """
    request = Request(
        model=model,
        device=device,
        weights=weights,
        trained=trained,
        stage1=stage1,
        size_px=size,
        initial=_initial_kinds(initial),
        content=not no_content,
        limit=limit,
        pred=pred,
        allow_missing=allow_missing,
        save_pred=save_pred,
        inception=inception,
        lpips=lpips,
        against=against,
    )
    if sheet is not None and sheet.suffix.lower() != ".png":
        raise UsageError(f"--sheet must name a .png file, got {sheet}")
    request.check()
    blinded = BlindRequest(blind, tuple(blind_against or ()), seed, save_recovered, blind_score, blind_key)
    blinded.check(request, {"EVAL_SET": eval_set_dir, "-o": output, "--compare": compare, "--sheet": sheet})
    if blinded.answers is not None:
        if output is not None:
            _make_folder(output)
        _tell(blinded.score(), "blind", output, as_json=as_json, quiet=quiet)
        return
    if compare is not None:
        others = {"EVAL_SET": eval_set_dir, "--sheet": sheet, "--pred": pred, "--save-pred": save_pred}
        others |= {"--inception": inception, "--lpips": lpips, "--initial": initial, "--limit": limit}
        others |= {"--weights": weights, "--trained": trained, "--against": against}
        refuse("--compare reads two eval.json", others)
        if output is not None:
            _make_folder(output)
        _tell(_compared(*compare), "compare", output, as_json=as_json, quiet=quiet)
        return
    if eval_set_dir is None:
        raise UsageError("name an evaluation set, or two eval.json with --compare")
    eval_set = _open_set(eval_set_dir)
    if blinded.target is not None:
        _make_folder(blinded.target)
        with _progress(shown=not quiet) as on_record:
            written = blinded.write(eval_set, request, on_record)
        _tell(written, "blind", None, as_json=as_json, quiet=quiet)
        return
    # Before minutes of work, not after.
    for folder in (output, sheet.parent if sheet is not None else None, save_pred):
        if folder is not None:
            _make_folder(folder)
    with _progress(shown=not quiet) as on_record:
        measured = request.measure(eval_set, on_record)
    _tell(measured, "eval", output, as_json=as_json, quiet=quiet)
    if sheet is not None:
        import numpy as np

        from deocclude.io.images import save_image

        save_image(np.asarray(measured.draw_sheet(sheet_rows)), sheet)


def _compared(path_a: Path, path_b: Path) -> Measured:
    from deocclude.evaluation import compare, comparison_to_markdown

    comparison = compare(path_a, path_b)
    return Measured(comparison, comparison_to_markdown(comparison))


def _tell(measured: Measured, name: str, output: Path | None, *, as_json: bool, quiet: bool) -> None:
    """Write NAME.json and NAME.md to the output folder, and print the one or the other."""
    if output is not None:
        from deocclude.io.images import save_text

        save_text(json.dumps(measured.summary, indent=1) + "\n", output / f"{name}.json")
        save_text(measured.markdown, output / f"{name}.md")
    if as_json:
        print_json(measured.summary)
    elif not quiet:
        typer.echo(measured.markdown, nl=False)


def _open_set(folder: Path) -> EvalSet | SceneSet:
    from deocclude.data.evalsets.persons import EvalSet
    from deocclude.data.evalsets.scenes import SceneSet, is_scene_set

    return SceneSet.open(folder) if is_scene_set(folder) else EvalSet.open(folder)


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


@contextmanager
def _progress(shown: bool) -> Iterator[OnRecord | None]:
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
