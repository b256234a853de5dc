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
from deocclude.cli.eval_request import Measured, OnRecord, Request
from deocclude.cli.options import AsJson, Device, Model, Quiet, Weights, is_terminal, print_json
from deocclude.errors import DeoccludeError, UsageError

if TYPE_CHECKING:
    from deocclude.data.evalsets.persons import EvalSet
    from deocclude.data.evalsets.scenes import SceneSet


EvalSetDir = Annotated[
    Path | None,
    typer.Argument(metavar="EVAL_SET", help="An evaluation set, as `deocclude data build-evalset` makes it."),
]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", metavar="DIR", help="Write eval.json and eval.md to this folder, replacing both."),
]
Trained = Annotated[
    Path | None,
    typer.Option(
        "--trained",
        metavar="BEST.safetensors",
        help="Measure trained weights, of a baseline too, in torch, without export: one prediction per crop, no "
        "averaging. For stage 1 alone only masks are measured.",
    ),
]
Stage1 = Annotated[
    Path | None,
    typer.Option(
        "--stage1",
        metavar="STAGE1.safetensors",
        help="With --trained stage 2: stage 1, for masks and parts.",
    ),
]
Size = Annotated[
    int | None,
    typer.Option("--size", min=32, metavar="PX", help="With --trained: crop side; default: the file's own, else 256."),
]
Initial = Annotated[
    str | None,
    typer.Option("--initial", metavar="KINDS", help="Initial masks: any of exact,degraded,box,photo; default all."),
]
NoContent = Annotated[bool, typer.Option("--no-content", help="Measure masks only.")]
Limit = Annotated[
    int | None,
    typer.Option("--limit", min=1, metavar="N", help="At most N pictures of the set, the same N each time."),
]
Pred = Annotated[
    Path | None,
    typer.Option(
        "--pred",
        metavar="DIR",
        help="Measure another system: ID.amodal.png for each picture, optionally ID.visible.png and ID.content.png. "
        "--initial names the initial mask it started from; default exact.",
    ),
]
AllowMissing = Annotated[bool, typer.Option("--allow-missing", help="With --pred: count missing files as empty masks.")]
SavePred = Annotated[
    Path | None,
    typer.Option(
        "--save-pred", metavar="DIR", help="Write the predictions from the first of KINDS in the format of --pred."
    ),
]
Inception = Annotated[
    Path | None,
    typer.Option("--inception", metavar="FILE", help="ONNX or TorchScript, image to features, for FID and KID."),
]
Lpips = Annotated[
    Path | None,
    typer.Option("--lpips", metavar="FILE", help="ONNX or TorchScript, two images to a distance, for LPIPS."),
]
Against = Annotated[
    Path | None,
    typer.Option(
        "--against",
        metavar="DIR",
        help="Also score another recovery from true masks: photos that --save-recovered of another build wrote, or a "
        "weights folder as for --weights, run by the installed code.",
    ),
]
Compare = Annotated[
    tuple[Path, Path] | None,
    typer.Option(
        "--compare",
        metavar="A.json B.json",
        help="Instead of measuring: differences of two eval.json of one set, with confidence intervals.",
    ),
]
Sheet = Annotated[
    Path | None, typer.Option("--sheet", metavar="FILE.png", help="Draw a contact sheet, easy people first.")
]
SheetRows = Annotated[int, typer.Option("--sheet-rows", min=1, metavar="N", help="Rows of the contact sheet.")]
Blind = Annotated[
    Path | None,
    typer.Option(
        "--blind",
        metavar="DIR",
        help="Instead of measuring: pictures of two candidates in random order, and answers.csv for the judge. "
        "The key is DIR-key.json, beside DIR.",
    ),
]
BlindAgainst = Annotated[
    list[str] | None,
    typer.Option(
        "--blind-against",
        metavar="OPPONENT",
        help="With --blind: inpainting (default), mean-colour, or a DIR of --save-recovered; repeatable.",
    ),
]
BlindSeed = Annotated[int | None, typer.Option("--seed", min=0, help="With --blind: seed of both orders; default 0.")]
SaveRecovered = Annotated[
    Path | None,
    typer.Option(
        "--save-recovered",
        metavar="DIR",
        help="Instead of measuring: write ID.png, recovered from the true masks, for --against and --blind-against of "
        "another build.",
    ),
]
BlindScore = Annotated[
    Path | None,
    typer.Option(
        "--blind-score", metavar="ANSWERS", help="Instead of measuring: preferences in a filled-in answers.csv."
    ),
]
Prompts = Annotated[
    bool,
    typer.Option(
        "--completion-prompts",
        help="Instead of measuring: what simulated completion prompts and several hypotheses bring, on people of whom "
        "more than 40 % is hidden.",
    ),
]
BlindKey = Annotated[
    Path | None,
    typer.Option(
        "--blind-key", metavar="KEY", help="With --blind-score: the key; default: beside the folder of ANSWERS."
    ),
]


def app(
    eval_set_dir: EvalSetDir = None,
    output: Output = None,
    model: Model = "base",
    device: Device = "auto",
    weights: Weights = None,
    trained: Trained = None,
    stage1: Stage1 = None,
    size: Size = None,
    initial: Initial = None,
    no_content: NoContent = False,
    limit: Limit = None,
    pred: Pred = None,
    allow_missing: AllowMissing = False,
    save_pred: SavePred = None,
    inception: Inception = None,
    lpips: Lpips = None,
    against: Against = None,
    compare: Compare = None,
    sheet: Sheet = None,
    sheet_rows: SheetRows = 12,
    blind: Blind = None,
    blind_against: BlindAgainst = None,
    seed: BlindSeed = None,
    save_recovered: SaveRecovered = None,
    blind_score: BlindScore = None,
    blind_key: BlindKey = None,
    completion_prompts: Prompts = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure a model on an evaluation set, next to its baselines.

    Prints Markdown tables: IoU of the amodal mask and of the occluded region, from exact, degraded and box initial
    masks and from the photo alone, and the error of the recovered appearance. On a set of scenes (`data build-evalset
    --people crowds` or wild): detection, mask quality, and depth order. The tables are followed by the protocol of
    each figure. eval.json also holds every single score, from which --compare tests the difference of two models.
    """
    request = Request(
        model=model, device=device, weights=weights, trained=trained, stage1=stage1, size_px=size,
        initial=_initial_kinds(initial), content=not no_content, limit=limit, pred=pred, allow_missing=allow_missing,
        save_pred=save_pred, inception=inception, lpips=lpips, against=against,
    )  # fmt: skip
    if sheet is not None and sheet.suffix.lower() != ".png":
        raise UsageError(f"--sheet must name a .png file, got {sheet}")
    request.check()
    blinded = BlindRequest(blind, tuple(blind_against or ()), seed, save_recovered, blind_score, blind_key)
    others = {"--compare": compare, "--sheet": sheet}
    own = {"EVAL_SET": eval_set_dir, "-o": output, "--completion-prompts": completion_prompts}
    blinded.check(request, own | others)
    if completion_prompts:
        request.check_prompts(others)
    if blinded.answers is not None:
        _make_folder(output)
        _write_and_print(blinded.score(), "blind", output, as_json=as_json, quiet=quiet)
        return
    if compare is not None:
        request.check_compare({"EVAL_SET": eval_set_dir, "--sheet": sheet})
        _make_folder(output)
        _write_and_print(_compare_evals(*compare), "compare", output, as_json=as_json, quiet=quiet)
        return
    if eval_set_dir is None:
        raise UsageError("name an evaluation set, or two eval.json with --compare")
    eval_set = _open_set(eval_set_dir)
    if blinded.target is not None or completion_prompts:  # the former without -o
        work, name = (_measure_prompts, "prompts") if completion_prompts else (blinded.write, "blind")
        _make_folder(output or blinded.target)
        with _progress(shown=not quiet) as on_record:
            measured = work(eval_set, request, on_record)
        _write_and_print(measured, name, output, as_json=as_json, quiet=quiet)
        return
    # fail before minutes of work, not after
    for folder in (output, sheet.parent if sheet is not None else None, save_pred):
        _make_folder(folder)
    with _progress(shown=not quiet) as on_record:
        measured = request.measure(eval_set, on_record)
    _write_and_print(measured, "eval", output, as_json=as_json, quiet=quiet)
    if sheet is not None:
        _save_sheet(measured, sheet, sheet_rows)


def _measure_prompts(eval_set: EvalSet | SceneSet, request: Request, on_record: OnRecord | None) -> Measured:
    """How much completion prompts help. Raises UsageError for a set of scenes."""
    from deocclude.data.evalsets.persons import EvalSet
    from deocclude.evaluation.completion_prompts import measure_completion_prompts

    if not isinstance(eval_set, EvalSet):
        raise UsageError("--completion-prompts measures sets of people, not of scenes")
    found = measure_completion_prompts(
        eval_set, model=request.model, weights_dir=request.weights, device=request.device, limit=request.limit,
        on_record=on_record,
    )  # fmt: skip
    return Measured(found.to_dict(), found.to_markdown())


def _save_sheet(measured: Measured, path: Path, rows: int) -> None:
    """Draw and save the contact sheet."""
    import numpy as np

    from deocclude.io.images import save_image

    save_image(np.asarray(measured.draw_people_sheet(rows)), path)


def _compare_evals(path_a: Path, path_b: Path) -> Measured:
    """The differences between two eval.json."""
    from deocclude.evaluation import compare, comparison_to_markdown

    comparison = compare(path_a, path_b)
    return Measured(comparison, comparison_to_markdown(comparison))


def _write_and_print(measured: Measured, name: str, output: Path | None, *, as_json: bool, quiet: bool) -> None:
    """Write NAME.json and NAME.md to the output folder and print one of both."""
    if output is not None:
        from deocclude.io.files import save_text

        save_text(json.dumps(measured.summary, indent=1) + "\n", output / f"{name}.json")
        save_text(measured.markdown, output / f"{name}.md")
    if as_json:
        print_json(measured.summary)
    elif not quiet:
        typer.echo(measured.markdown, nl=False)


def _open_set(folder: Path) -> EvalSet | SceneSet:
    """Open a set of people or of scenes."""
    from deocclude.data.evalsets.persons import EvalSet
    from deocclude.data.evalsets.scenes import SceneSet, is_scene_set

    return SceneSet.open(folder) if is_scene_set(folder) else EvalSet.open(folder)


def _initial_kinds(text: str | None) -> tuple[str, ...]:
    """Kinds of initial masks named in `text`; empty for None."""
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
    """A callback that moves a progress bar on stderr, or None if stderr is not a terminal."""
    if not shown or not is_terminal(sys.stderr):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("pictures"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("pictures", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _make_folder(folder: Path | None) -> None:
    """Make an output folder. Raises DeoccludeError if that fails or the folder is not writable."""
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DeoccludeError(f"cannot make the output folder {folder}: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise DeoccludeError(f"cannot write to the output folder {folder}")
