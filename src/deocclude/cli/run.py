"""`deocclude run`: photos in, whole people out."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deocclude.cli.options import (
    AsJson,
    Device,
    Model,
    Offline,
    Quiet,
    Seed,
    Verbose,
    Weights,
    check_folder,
    print_json,
)
from deocclude.errors import UsageError

if TYPE_CHECKING:
    from deocclude.batch.jobs import BoxXyxy, Report
    from deocclude.batch.plan import Finding, Job


def app(
    inputs: Annotated[list[str], typer.Argument(metavar="PHOTO...", help="Photos, folders of photos, or - for stdin.")],
    output: Annotated[
        str | None,
        typer.Option(
            "-o", "--output", metavar="PATH", help="A folder, a file, or - for stdout; beside the photo when not given."
        ),
    ] = None,
    mask: Annotated[
        list[str] | None,
        typer.Option(
            "--mask", metavar="PATH", help="What is seen of one person, in white; repeatable. Or a folder of masks."
        ),
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(
            "--box", metavar="X0,Y0,X1,Y1", help="A box around what is seen of one person, in pixels; repeatable."
        ),
    ] = None,
    segmenter: Annotated[
        str | None,
        typer.Option(
            "--segmenter",
            metavar="KIND:NAME",
            help="Who finds people in place of our own detector: coco:FILE.json with masks or boxes, or hf:MODEL.",
        ),
    ] = None,
    person: Annotated[
        str, typer.Option("--person", metavar="WHO", help="Of those found: all, largest, N from the left, or x,y.")
    ] = "all",
    min_score: Annotated[
        float | None,
        typer.Option("--min-score", min=0, max=1, help="Of those found, only as sure, 0 to 1."),
    ] = None,
    min_height: Annotated[int, typer.Option("--min-height", min=0, help="Of those found, only as high, in px.")] = 0,
    complete: Annotated[
        str,
        typer.Option(
            "--complete", metavar="WHEN", help="Recover what is hidden: auto (where anything is), always, never."
        ),
    ] = "auto",
    uncrop: Annotated[
        bool, typer.Option("--uncrop", help="Extend the picture where its edge cuts people, transparent around them.")
    ] = False,
    save: Annotated[
        str,
        typer.Option(
            "--save", metavar="KINDS", help="Any of content,rgba,amodal,visible,invisible,parsing,overlay,layers,coco."
        ),
    ] = "content",
    model: Model = "base",
    device: Device = "auto",
    seed: Seed = 0,
    jobs: Annotated[int, typer.Option("-j", "--jobs", min=1, help="Photos worked on at a time.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Do again what is already done.")] = False,
    recursive: Annotated[bool, typer.Option("--recursive", help="Search folders inside folders.")] = False,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first photo that fails.")] = False,
    json: AsJson = False,
    offline: Offline = False,
    weights: Weights = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Recover the hidden part of people in photos.

    Everyone in the photo is found, unless a --mask or --box points at each person meant. photo.jpg becomes
    photo.deoccluded.png beside it; the other kinds of --save are photo.overlay.png, photo.deoccluded.ora (layers for
    GIMP or Krita), photo.deoccluded.json, and a file a person such as photo.person1.rgba.png. With -o FOLDER the files
    go there, with the folders of the input mirrored. With -o NAME.png that name is given to the first kind saved.

    People who are found are numbered from left to right. --segmenter coco:FILE.json takes their masks, or boxes, from a
    COCO file that lists the photos by name. --segmenter hf:MODEL finds them with a Mask2Former, MaskFormer or OneFormer
    that knows the class person: a folder, or a name in the cache or on the Hugging Face hub; it needs the extra
    [segment], and a score of 0.5 where --min-score does not say otherwise.

    Several photos take a folder of masks: --mask MASKS matches by name, sub/photo.jpg with MASKS/sub/photo.png, and
    for several people MASKS/sub/photo_1.png, photo_2.png and so on. What is already there is not done again without
    --overwrite, unless the photo, a mask, an option or the model has changed since. A photo that fails does not stop
    the others; the exit code is then 5.
    """
    from deocclude.batch.jobs import exit_code, run_jobs
    from deocclude.batch.plan import plan_jobs
    from deocclude.inference.runtime import find_model
    from deocclude.io.results import read_kinds
    from deocclude.people.hf_segmenter import HfSegmenter

    kinds = list(dict.fromkeys(kind.strip() for kind in save.split(",") if kind.strip()))
    pointed_at = bool(mask or box)
    finding = parse_finding(segmenter, person, min_score, min_height, pointed_at, device=device, offline=offline)
    plan = plan_jobs(
        inputs,
        output=output,
        masks=mask or (),
        boxes_xyxy=[parse_box(text) for text in box or ()],
        finding=finding,
        complete=complete,
        uncrop=uncrop,
        kinds=kinds,
        recursive=recursive,
    )
    streaming = any(job.to_stdout for job in plan)
    if streaming and json:
        raise UsageError("--json and the picture would both go to standard output: name a file with -o")
    if streaming and sys.stdout is None:
        raise UsageError("standard output is closed: name a file with -o")
    if streaming and sys.stdout.isatty() and read_kinds(kinds) != ["json"]:
        raise UsageError("a picture would be printed on the terminal: redirect it, or name a file with -o")

    for folder in {path.parent for job in plan if not job.to_stdout for path in job.expected_paths}:
        check_folder(folder)

    def load():
        import deocclude

        # Photos at a time share the cores between them.
        threads = max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else None
        pipe = deocclude.load(model, device=device, weights_dir=weights, threads=threads)
        if finding and isinstance(finding.finder, HfSegmenter):
            finding.finder.load()  # what is missing is said once, and not for each photo
        return pipe

    reports: list[Report] = []
    with _progress(plan, shown=not quiet) as advance:
        todo = run_jobs(
            plan, load, seed=seed, workers=jobs, overwrite=overwrite, fail_fast=fail_fast,
            model=find_model(model, weights).digest,
        )  # fmt: skip
        for report in todo:
            reports.append(report)
            if json:
                print_json(report.as_dict())
            _tell(report, quiet=quiet or json, to_stderr=streaming, verbose=verbose)
            advance()
    code = exit_code(reports, len(plan))
    if len(plan) > 1 and not quiet:
        _summarise(reports, len(plan))
    if code:
        raise typer.Exit(code)


def parse_finding(
    segmenter: str | None,
    person: str,
    min_score: float | None,
    min_height_px: int,
    pointed_at: bool,
    *,
    device: str = "auto",
    offline: bool = False,
) -> Finding | None:
    """Who finds people; None where masks or boxes point at them. A COCO file is read, a model is not yet.

    Raises:
        UsageError: another segmenter than coco:FILE or hf:MODEL, or a choice among people where none are found.
    """
    from deocclude.batch.plan import Finding
    from deocclude.people.choice import Choice
    from deocclude.people.coco_file import CocoFile
    from deocclude.people.hf_segmenter import HfSegmenter

    Choice.parse(person)
    if pointed_at and (segmenter or person != "all" or min_score is not None or min_height_px):
        raise UsageError(
            "--segmenter, --person, --min-score and --min-height are for people who are found: "
            "give them or --mask and --box, not both"
        )
    if pointed_at:
        return None
    if segmenter is None:
        return Finding(None, person, min_score, min_height_px)
    kind, _, name = segmenter.partition(":")
    if kind == "coco" and name:
        # no shell resolves a ~ that stands behind a colon
        return Finding(CocoFile.open(Path(name).expanduser()), person, min_score or 0.0, min_height_px)
    if kind == "hf" and name:
        # A model gives a score to everything that it doubts; a COCO file lists whom somebody meant.
        least = 0.5 if min_score is None else min_score
        name = str(Path(name).expanduser()) if name.startswith("~") else name
        # what is not asked for is the model's own alone: times the mask network's score it would leave out more
        return Finding(HfSegmenter(name, device, least, offline), person, min_score or 0.0, min_height_px)
    raise UsageError(f"--segmenter takes coco:FILE.json or hf:MODEL, got {segmenter}")


def parse_box(text: str) -> BoxXyxy:
    """`x0,y0,x1,y1` in pixels, x1 and y1 excluded.

    Raises:
        UsageError: not four numbers, or a box without an inside.
    """
    expected = f"--box takes x0,y0,x1,y1 with x0 < x1 and y0 < y1, got {text}"
    try:
        x0, y0, x1, y1 = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(expected) from None
    # Written so that nan fails as well.
    if not (x0 < x1 and y0 < y1 and abs(x0) + abs(y0) + abs(x1) + abs(y1) < float("inf")):
        raise UsageError(expected)
    return x0, y0, x1, y1


def _tell(report: Report, *, quiet: bool, to_stderr: bool, verbose: bool) -> None:
    if report.status == "failed":
        typer.echo(f"error: {' '.join(report.error.split())}", err=True)
        return
    if quiet:
        return
    if report.status == "skipped":
        typer.echo(f"{report.source}: already done, --overwrite does it again", err=True)
        return
    if not report.people:
        typer.echo(f"{report.source}: nobody found, {report.seconds:.2f} s, {report.device}", err=to_stderr)
    for person in report.people:
        behind = " and ".join(f"person {number}" for number in person.hidden_by)
        cut = " and ".join(person.cut_by)
        notes = (f" (behind {behind})" if behind else "") + (f", cut at the {cut}" if cut else "")
        typer.echo(
            f"{report.source}: person {person.id}: {person.hidden_fraction:.0%} hidden{notes}, "
            f"{report.seconds:.2f} s, {report.device}",
            err=to_stderr,
        )
    if report.photo_bbox is not None:
        (width, height), (x, y, _, _) = report.size_wh, report.photo_bbox
        typer.echo(f"{report.source}: extended to {width}x{height}, the photo at {x},{y}", err=to_stderr)
    if verbose:
        stages = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in report.timings.items())
        typer.echo(f"  {stages}", err=True)
        for path in report.outputs:
            typer.echo(f"  {path}", err=True)


def _summarise(reports: Sequence[Report], photos: int) -> None:
    counts = {status: sum(report.status == status for report in reports) for status in ("done", "skipped", "failed")}
    left = photos - len(reports)
    parts = [f"{count} {status}" for status, count in counts.items() if count] + ([f"{left} not tried"] if left else [])
    typer.echo(f"{photos} photos: {', '.join(parts)}", err=True)


@contextlib.contextmanager
def _progress(plan: Sequence[Job], shown: bool) -> Iterator[Callable[[], None]]:
    """A bar on stderr for several photos, only where stderr is a terminal."""
    if not shown or len(plan) < 2 or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("photos"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Results must not be drawn into the bar's stream where stdout is a file or a pipe.
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task("photos", total=len(plan))
        yield lambda: bar.advance(task)
