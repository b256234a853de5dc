"""`deocclude run`: photos in, whole people out."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deocclude.cli.completion_prompts import (
    Backgrounds,
    CompletionOptions,
    Extents,
    Fronts,
    Joints,
    Keeps,
    NotPoints,
    Points,
    Poses,
)
from deocclude.cli.options import (
    JOBS_HELP,
    AsJson,
    Device,
    Model,
    Offline,
    Quiet,
    Seed,
    Verbose,
    Weights,
    check_folder,
    is_terminal,
    print_json,
)
from deocclude.errors import UsageError

if TYPE_CHECKING:
    from rich.progress import Task

    from deocclude.batch.folder import Found, LeftOut
    from deocclude.batch.jobs import Report
    from deocclude.batch.plan import Finding, Job
    from deocclude.imaging.boxes import BoxXyxy
    from deocclude.io.picture_format import PictureFormat
    from deocclude.pipeline import Deoccluder


Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="PHOTO...",
        help="Photos, folders, patterns in quotes, lists (.txt), - for stdin; URLs with --engine ray.",
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        "-o", "--output", metavar="PATH", help="Folder, file, URL, or - for stdout; default: beside the photo."
    ),
]
Masks = Annotated[
    list[str] | None,
    typer.Option("--mask", metavar="PATH", help="Visible mask, white, or one label a person; repeatable. Or a folder."),
]
MaskLabel = Annotated[
    int | None,
    typer.Option("--mask-label", min=0, metavar="N", help="The label of the person in --mask files, of several."),
]
Boxes = Annotated[
    list[str] | None,
    typer.Option("--box", metavar="X0,Y0,X1,Y1", help="Box around one person's visible part, px; repeatable."),
]
SegmenterName = Annotated[
    str | None,
    typer.Option("--segmenter", metavar="KIND:NAME", help="Replaces the detector: coco:FILE.json or hf:MODEL."),
]
Which = Annotated[
    str, typer.Option("--person", metavar="WHICH", help="Of detected people: all, largest, N from the left, or x,y.")
]
MinScore = Annotated[
    float | None, typer.Option("--min-score", min=0, max=1, help="Least score of detected people, 0 to 1.")
]
MinHeight = Annotated[
    int | None,
    typer.Option(
        "--min-height", min=0, metavar="PX",
        help="Least height of detected people; without it low people are detected, but not completed.",
    ),
]  # fmt: skip
When = Annotated[
    str, typer.Option("--complete", metavar="WHEN", help="Recover hidden parts: auto (occluded people), always, never.")
]
MinHidden = Annotated[
    float | None,
    typer.Option(
        "--min-hidden-probability", min=0, max=1, metavar="P",
        help="With auto: recover hidden regions that are body with at least this probability.",
    ),
]  # fmt: skip
Uncrop = Annotated[
    bool, typer.Option("--uncrop", help="Extend the image where its border truncates people; transparent around.")
]
Samples = Annotated[
    int | None,
    typer.Option("--samples", min=1, metavar="N", help="N plausible completions, the most probable first."),
]
Save = Annotated[
    str,
    typer.Option(
        "--save", metavar="KINDS", help="Any of content,rgba,amodal,visible,invisible,parsing,overlay,layers,coco; all."
    ),
]
LayerSizes = Annotated[
    str,
    typer.Option(
        "--layer-size", metavar="SIZE", help="Of --save layers: trimmed, or canvas: each layer as large as the image."
    ),
]
Format = Annotated[
    str | None, typer.Option("--format", metavar="FORMAT", help="Of content and overlay: png (default), jpeg or webp.")
]
Quality = Annotated[int | None, typer.Option("--quality", min=1, max=100, help="Of JPEG and WebP; default: 95.")]
Jobs = Annotated[
    int | None, typer.Option("-j", "--jobs", min=1, help=f"{JOBS_HELP}; default: 1, with Ray as many as fit.")
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="CPU threads of a photo; default: every core that may be used, with Ray 1."),
]
Engine = Annotated[str, typer.Option("--engine", metavar="NAME", help="Who works on photos: processes, or ray.")]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        help="Ray cluster, or auto; default: RAY_ADDRESS, else this machine's cores.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Do finished photos again.")]
Recursive = Annotated[bool, typer.Option("--recursive", help="Search folders inside folders.")]
FollowLinks = Annotated[bool, typer.Option("--follow-links", help="With --recursive: search linked folders too.")]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Stop at the first photo that fails.")]
ShardOf = Annotated[
    str | None, typer.Option("--shard", metavar="I/N", help="Part I of N of the photos, by a hash of each one's path.")
]
ManifestFile = Annotated[
    Path | None,
    typer.Option("--manifest", metavar="FILE", help="A row for each photo, in .jsonl, .csv or .parquet."),
]
TimeLimit = Annotated[
    float | None,
    typer.Option("--time-limit", metavar="SECONDS", help="Longest time of a photo; one that takes longer fails."),
]


@dataclass(frozen=True)
class PeopleOptions:
    """Which people are processed, and how far they are completed.

    Attributes:
        masks: --mask.
        mask_label: --mask-label.
        boxes: --box, as text.
        finding: detection; None with masks or boxes.
        complete: --complete.
        min_hidden_probability: --min-hidden-probability.
        uncrop: --uncrop.
        completion_prompts: options of completion prompts, as text.
        samples: --samples.
    """

    masks: Sequence[str]
    mask_label: int | None
    boxes: Sequence[str]
    finding: Finding | None
    complete: str
    min_hidden_probability: float | None
    uncrop: bool
    completion_prompts: CompletionOptions
    samples: int | None


@dataclass(frozen=True)
class OutputOptions:
    """What is written and printed.

    Attributes:
        path: -o.
        kinds: --save, as a list.
        layer_size: --layer-size.
        picture_format: --format and --quality.
        as_json: --json.
        quiet: --quiet.
        verbose: --verbose.
    """

    path: str | None
    kinds: Sequence[str]
    layer_size: str
    picture_format: PictureFormat
    as_json: bool
    quiet: bool
    verbose: bool


@dataclass(frozen=True)
class BatchOptions:
    """How photos are worked on.

    Attributes:
        workers: worker processes; 0: this process.
        seed: --seed.
        overwrite: --overwrite.
        fail_fast: --fail-fast.
        time_limit_s: --time-limit.
        photos: number of photos of all shards.
        manifest: --manifest, with a shard's own name.
        ray: the cluster; None: processes of this machine.
    """

    workers: int
    seed: int
    overwrite: bool
    fail_fast: bool
    time_limit_s: float | None
    photos: int
    manifest: Path | None
    ray: RayOptions | None = None


@dataclass(frozen=True)
class RayOptions:
    """The cluster of --engine ray.

    Attributes:
        address: --address.
        workers: -j.
        threads: --threads, or 1.
    """

    address: str | None
    workers: int | None
    threads: int


HELP = """Recover the hidden part of people in photos.

All people of a photo are detected, unless --mask or --box marks them. photo.jpg becomes photo.deoccluded.png beside
it. Other kinds of --save are photo.overlay.png, photo.deoccluded.ora (layers for GIMP 3 or Krita),
photo.deoccluded.json, and files of single people such as photo.person1.rgba.png. -o FOLDER mirrors the input
folders. -o NAME.png names the file of the first kind. --format jpeg writes photo.deoccluded.jpg.

Detected people are numbered from left to right. --segmenter coco:FILE.json takes masks or boxes from a COCO file
that lists the photos by name. --segmenter hf:MODEL uses a Mask2Former, MaskFormer or OneFormer with the class
person: a folder, or a name in the cache or on the Hugging Face hub. It needs the extra [segment], and keeps people
with a score of 0.5 or more unless --min-score is given.

For several photos, --mask takes a folder that is matched by name: MASKS/sub/photo.png for sub/photo.jpg, and
MASKS/sub/photo_1.png, photo_2.png and so on for several people. A mask file of labels 1, 2, 3, ... or of flat
colours on black has one person a label; --mask-label takes one of them. Finished photos are skipped without
--overwrite, unless the photo, a mask, an option or the model has changed. A file that no run has written is
replaced with --overwrite alone. A photo that fails, kills its process twice or exceeds --time-limit does not stop
the others; the exit code is then 5.

In a folder, every file that Pillow can open is a photo, HEIC too with the extra [heif]. Files that are left out are
named at the end; the exit code is 5 if one of them may be a photo. "photos/**/*.jpg" in quotes is a pattern.
LIST.txt names one photo a line. --shard I/N takes a stable part; its --manifest is NAME.I-of-N.jsonl.

--engine ray works on a cluster, with the extra [scale]: -j workers, each with --threads CPUs. Photos, -o and
--manifest may then be in a store, s3://bucket/photos.

Completion prompts say what you know of a whole body: --extent 10,20,200,400 where it ends, --point and --not-point
what belongs to it and what does not, --joint left_ankle,120,380, --front and --keep where parts may and may not be
completed. With several people, 2:10,20,200,400 is for person 2. --samples 4 writes photo.sample1.deoccluded.png to
photo.sample4.deoccluded.png: other poses or extents of the completed people, the most probable first.
"""


def app(
    inputs: Inputs,
    output: Output = None,
    mask: Masks = None,
    mask_label: MaskLabel = None,
    box: Boxes = None,
    segmenter: SegmenterName = None,
    person: Which = "all",
    min_score: MinScore = None,
    min_height: MinHeight = None,
    complete: When = "auto",
    min_hidden_probability: MinHidden = None,
    uncrop: Uncrop = False,
    extent: Extents = None,
    point: Points = None,
    not_point: NotPoints = None,
    joint: Joints = None,
    pose: Poses = None,
    front: Fronts = None,
    keep: Keeps = None,
    background: Backgrounds = None,
    samples: Samples = None,
    save: Save = "content",
    layer_size: LayerSizes = "trimmed",
    file_format: Format = None,
    quality: Quality = None,
    model: Model = "base",
    device: Device = "auto",
    seed: Seed = 0,
    jobs: Jobs = None,
    threads: Threads = None,
    engine: Engine = "processes",
    address: Address = None,
    overwrite: Overwrite = False,
    recursive: Recursive = False,
    follow_links: FollowLinks = False,
    fail_fast: FailFast = False,
    time_limit: TimeLimit = None,
    shard: ShardOf = None,
    manifest: ManifestFile = None,
    json: AsJson = False,
    offline: Offline = False,
    weights: Weights = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """`deocclude run`: HELP is its help."""
    from deocclude.io.picture_format import PictureFormat

    ray = _ray_options(engine, address, jobs, threads, device, time_limit, [*inputs, output or "", str(manifest or "")])
    device = "cpu" if ray else device
    finding = parse_finding(segmenter, person, min_score, min_height, bool(mask or box), device=device, offline=offline)
    prompts = CompletionOptions(extent, point, not_point, joint, pose, front, keep, background)
    people = PeopleOptions(
        mask or (), mask_label, box or (), finding, complete, min_hidden_probability, uncrop, prompts, samples
    )
    picture_format = PictureFormat.parse(file_format, quality)
    shown = OutputOptions(output, _kinds(save), layer_size, picture_format, json, quiet, verbose)
    left_out: list[LeftOut] = []
    whole = _plan(inputs, people, shown, recursive, follow_links, left_out, in_stores=ray is not None)
    plan, left_out, manifest = _take_shard(whole, left_out, manifest, shard, shown)
    # a single photo needs no other process, unless the time limit may have to end it
    workers = (jobs or 1) if len(plan) > 1 or time_limit is not None else 0
    batch = BatchOptions(workers, seed, overwrite, fail_fast, time_limit, len(whole), manifest, ray)
    load, digest = _loader(model, device, weights, _threads_of_each(threads, jobs or 1, ray), people, ray)
    if code := _process(plan, load, digest, batch, shown, left_out):
        raise typer.Exit(code)


def _threads_of_each(threads: int | None, jobs: int, ray: RayOptions | None) -> int | None:
    """CPU threads of a photo, as given; without a number, photos that are processed at once share the cores."""
    from deocclude.inference.cores import usable_cores

    if ray:
        return ray.threads
    return threads if threads is not None or jobs == 1 else max(1, usable_cores() // jobs)


def _loader(
    model: str, device: str, weights: Path | None, threads: int | None, people: PeopleOptions, ray: RayOptions | None
) -> tuple[Callable[[], Deoccluder], str]:
    """The function that opens the pipeline, and the model's digest. Raises UsageError for too many samples."""
    from deocclude.inference.runtime import find_model

    info = find_model(model, weights)
    if people.samples is not None and people.samples > info.hypotheses:
        raise UsageError(f"--samples {people.samples}: model {model} gives {info.hypotheses} at most")
    digest = info.digest
    load = partial(_load, model, device, weights, threads, people.finding)
    if ray:
        from deocclude.scale.worker import open_same

        return partial(open_same, load, model, weights, digest), digest
    return load, digest


def _ray_options(
    engine: str, address: str | None, jobs: int | None, threads: int | None, device: str, time_limit_s: float | None,
    places: Sequence[str],
) -> RayOptions | None:  # fmt: skip
    """The cluster; None with --engine processes. places: inputs, output and manifest, which may be URLs for Ray alone.

    Raises:
        UsageError: an unknown engine, or options and places that the engine does not support.
        MissingExtraError: Ray is not installed.
    """
    _check_time_limit(time_limit_s)
    if engine not in ("processes", "ray"):
        raise UsageError(f"--engine takes processes or ray, got {engine}")
    if engine == "processes":
        if address is not None:
            raise UsageError("--address is the place of a Ray cluster: add --engine ray")
        for url in (place for place in places if re.match(r"[a-z][a-z0-9+.-]+:/+[^/]", place)):
            raise UsageError(f"{url}: photos and results in a store need --engine ray")
        return None
    if time_limit_s is not None:
        raise UsageError("--time-limit ends a process of this machine: it needs --engine processes")
    if device == "cuda":
        raise UsageError("--engine ray computes on CPUs: --device cuda needs --engine processes")
    from deocclude.scale.cluster import ray_data

    ray_data()
    return RayOptions(address, jobs, threads or 1)


def _check_time_limit(seconds: float | None) -> None:
    """Raise UsageError for a time limit that is no time."""
    if seconds is not None and not 0 < seconds < float("inf"):
        raise UsageError(f"--time-limit takes seconds above 0, got {seconds:g}")


def _process(
    plan: Sequence[Job], load: Callable[[], Deoccluder], digest: str, batch: BatchOptions, shown: OutputOptions,
    left_out: Sequence[LeftOut],
) -> int:  # fmt: skip
    """Work on a plan and print what becomes of it.

    Returns:
        The exit code.
    """
    from deocclude.batch.jobs import exit_code

    with contextlib.ExitStack() as stack:
        record: Callable[[Report], object] = lambda _: None  # noqa: E731  for a run without --manifest
        if batch.manifest is not None:
            record = _open_manifest(stack, batch.manifest, batch, plan, left_out)
        advance = stack.enter_context(_progress(plan, shown=not shown.quiet))

        def on_report(report: Report) -> None:
            record(report)
            advance(report)

        running = _reports(plan, load, digest, batch, shown, on_report)
        # closing ends the worker processes, after an interruption too
        reports = list(_print_reports(stack.enter_context(contextlib.closing(running)), plan, shown))
    if len(plan) > 1 and not shown.quiet:
        _print_counts(reports, len(plan))
    _print_left_out(left_out, shown)
    return exit_code(reports, batch.photos, left_out)


def _open_manifest(
    stack: contextlib.ExitStack, path: Path, batch: BatchOptions, plan: Sequence[Job], left_out: Sequence[LeftOut]
) -> Callable[[Report], object]:
    """Open --manifest, which is written at the end of the stack. Returns the function that adds a report."""
    if batch.ray:
        from deocclude.scale.run import manifest_at

        return stack.enter_context(manifest_at(path, plan, left_out, batch.overwrite))
    from deocclude.batch.manifest import Manifest

    check_folder(path.parent)
    return stack.enter_context(Manifest(path, plan, left_out, overwrite=batch.overwrite)).add


def _reports(
    plan: Sequence[Job], load: Callable[[], Deoccluder], digest: str, batch: BatchOptions, shown: OutputOptions,
    on_report: Callable[[Report], object],
) -> Generator[Report, None, None]:  # fmt: skip
    """Run a plan by the engine of --engine; the reports, in order."""
    if ray := batch.ray:
        from deocclude.scale.engine import run_jobs as run_on_ray

        def print_workers(workers: int) -> None:
            if not shown.quiet:
                typer.echo(f"ray: {_counted(workers, 'worker')} with {_counted(ray.threads, 'CPU')} each", err=True)

        return run_on_ray(
            plan, load, address=ray.address, workers=ray.workers, threads=ray.threads, seed=batch.seed,
            overwrite=batch.overwrite, fail_fast=batch.fail_fast, model=digest, on_report=on_report,
            on_workers=print_workers,
        )  # fmt: skip
    from deocclude.batch.jobs import run_jobs

    return run_jobs(
        plan, load, seed=batch.seed, workers=batch.workers, overwrite=batch.overwrite, fail_fast=batch.fail_fast,
        model=digest, time_limit_s=batch.time_limit_s, on_report=on_report,
    )  # fmt: skip


def _counted(number: int, what: str) -> str:
    """A number with its noun in the singular or plural."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _take_shard(
    plan: list[Job], left_out: list[LeftOut], manifest: Path | None, shard: str | None, shown: OutputOptions
) -> tuple[list[Job], list[LeftOut], Path | None]:
    """The jobs, left out files and manifest of one shard; all of them without --shard.

    The whole plan gives the names of outputs, so that shards and a run of all photos give the same names.
    """
    if shard is None:
        return plan, left_out, manifest
    from deocclude.batch.shard import Shard

    part = Shard.parse(shard)
    jobs = [job for job in plan if part.takes(job.relative)]
    if not shown.quiet:
        typer.echo(f"shard {part.number}/{part.count}: {len(jobs)} of {len(plan)} photos", err=True)
    of_part = [file for file in left_out if part.takes(Path(file.path.name))]
    return jobs, of_part, part.name_of(manifest) if manifest else None


def _kinds(save: str) -> list[str]:
    """The names in --save, each once."""
    return list(dict.fromkeys(kind.strip() for kind in save.split(",") if kind.strip()))


def _plan(
    inputs: Sequence[str], people: PeopleOptions, output: OutputOptions, recursive: bool, follow_links: bool,
    left_out: list[LeftOut], *, in_stores: bool = False,
) -> list[Job]:  # fmt: skip
    """The jobs; files that are no input are added to `left_out`. in_stores: inputs and output may be URLs.

    Raises where an output cannot be written, before any photo is read.
    """
    from deocclude.batch.plan import plan_jobs
    from deocclude.io.decoder import quiet_pillow
    from deocclude.io.results import read_kinds

    quiet_pillow()
    plan = plan_jobs(
        inputs,
        output=output.path,
        masks=people.masks,
        mask_label=people.mask_label,
        boxes_xyxy=[parse_box(text) for text in people.boxes],
        finding=people.finding,
        complete=people.complete,
        uncrop=people.uncrop,
        min_hidden_probability=people.min_hidden_probability,
        completion_prompts=people.completion_prompts.parse(),
        samples=people.samples,
        kinds=output.kinds,
        layer_size=output.layer_size,
        picture_format=output.picture_format,
        recursive=recursive,
        follow_links=follow_links,
        on_left_out=left_out.append,
        find=_photo_finder(in_stores),
    )
    if any(job.to_stdout for job in plan):
        if output.as_json:
            raise UsageError("--json and the image would both go to standard output: name a file with -o")
        if sys.stdout is None:
            raise UsageError("standard output is closed: name a file with -o")
        if sys.stdout.isatty() and read_kinds(output.kinds) != ["json"]:
            raise UsageError("an image would be printed on the terminal: redirect it, or name a file with -o")
    for folder in {path.parent for job in plan if not job.to_stdout for path in job.expected_paths}:
        if not in_stores or _is_on_disk(folder):
            check_folder(folder)
    return plan


def _is_on_disk(folder: Path) -> bool:
    """Whether a folder is no URL."""
    from deocclude.scale.store import url_of

    return url_of(folder) is None


def _photo_finder(in_stores: bool) -> Callable[..., Found]:
    """The function that finds the photos among the inputs."""
    if in_stores:
        from deocclude.scale.find import find_anywhere

        return find_anywhere
    from deocclude.batch.folder import find_photos

    return find_photos


def _load(model: str, device: str, weights: Path | None, threads: int | None, finding: Finding | None) -> Deoccluder:
    """Open the pipeline, and the segmenter's model if there is one: errors then appear once, not for each photo."""
    import deocclude
    from deocclude.people.hf_segmenter import HfSegmenter

    pipe = deocclude.load(model, device=device, weights_dir=weights, threads=threads)
    if finding and isinstance(finding.finder, HfSegmenter):
        finding.finder.load()
    return pipe


def _print_reports(reports: Iterator[Report], plan: Sequence[Job], output: OutputOptions) -> Iterator[Report]:
    """Print each report as it arrives, and yield it."""
    to_stderr = any(job.to_stdout for job in plan)
    for report in reports:
        if output.as_json:
            print_json(report.as_dict())
        _print_report(report, quiet=output.quiet or output.as_json, to_stderr=to_stderr, verbose=output.verbose)
        yield report


def parse_finding(
    segmenter: str | None,
    person: str,
    min_score: float | None,
    min_height_px: int | None,
    has_prompts: bool,
    *,
    device: str = "auto",
    offline: bool = False,
) -> Finding | None:
    """The options of detection. A COCO file is read; a model is not loaded.

    Args:
        segmenter: coco:FILE.json or hf:MODEL; None: the model's own detector.
        person: all, largest, N from the left, or x,y.
        min_score: least score, 0 to 1; None: the default of the detector or segmenter.
        min_height_px: least height of a box.
        has_prompts: masks or boxes are given.
        device: of a model.
        offline: never use the network.

    Returns:
        None with masks or boxes.

    Raises:
        UsageError: another segmenter, or detection options together with masks or boxes.
    """
    from deocclude.batch.plan import Finding
    from deocclude.people.choice import Choice
    from deocclude.people.coco_file import CocoFile
    from deocclude.people.hf_segmenter import HfSegmenter

    Choice.parse(person)
    if has_prompts and (segmenter or person != "all" or min_score is not None or min_height_px is not None):
        raise UsageError(
            "--segmenter, --person, --min-score and --min-height select among detected people: "
            "give them or --mask and --box, not both"
        )
    if has_prompts:
        return None
    if segmenter is None:
        return Finding(None, person, min_score, min_height_px)
    kind, _, name = segmenter.partition(":")
    if kind == "coco" and name:
        # a shell does not expand a ~ behind a colon
        return Finding(CocoFile.open(Path(name).expanduser()), person, min_score or 0.0, min_height_px)
    if kind == "hf" and name:
        # a model scores every doubtful instance; a COCO file lists intended people
        # a --min-score above 0.5 filters the results later: ids stay the same
        least = 0.5 if min_score is None else min(min_score, 0.5)
        name = str(Path(name).expanduser()) if name.startswith("~") else name
        # 0.0: the default of 0.5 is for the segmenter's score alone; the final score, times stage 1's, is lower
        return Finding(HfSegmenter(name, device, least, offline), person, min_score or 0.0, min_height_px)
    raise UsageError(f"--segmenter takes coco:FILE.json or hf:MODEL, got {segmenter}")


def parse_box(text: str) -> BoxXyxy:
    """Read `x0,y0,x1,y1` in pixels, x1 and y1 excluded.

    Raises:
        UsageError: not four finite numbers, or no box of a person (`people.prompts.box_problem`).
    """
    from deocclude.people.prompts import box_problem

    expected = f"--box takes x0,y0,x1,y1 in pixels with x0 < x1 and y0 < y1, got {text}"
    try:
        x0, y0, x1, y1 = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(expected) from None
    # negated, so that NaN fails too
    if not abs(x0) + abs(y0) + abs(x1) + abs(y1) < float("inf"):
        raise UsageError(expected)
    if problem := box_problem((x0, y0, x1, y1)):
        raise UsageError(f"--box x0,y0,x1,y1 {problem}")
    return x0, y0, x1, y1


def _print_report(report: Report, *, quiet: bool, to_stderr: bool, verbose: bool) -> None:
    """Print one photo's report: one line for each person."""
    if report.status == "failed":
        typer.echo(f"error: {' '.join(report.error.split())}", err=True)
        return
    if quiet:
        return
    if report.status == "skipped":
        typer.echo(f"{report.source}: already done, --overwrite does it again", err=True)
        return
    from deocclude.inference.occlusion_probability import LEFT_ALONE

    end = f"{report.seconds:.2f} s, {report.device}"
    for person in report.people:
        behind = " and ".join(f"person {number}" for number in person.hidden_by)
        borders = " and ".join(person.cut_by)
        notes = (f" (behind {behind})" if behind else "") + (f", truncated at the {borders}" if borders else "")
        if person.left_alone:
            notes += f", left as it is: {LEFT_ALONE[person.left_alone]}"
        if person.sample_probabilities:
            notes += f", samples {', '.join(f'{probability:.2f}' for probability in person.sample_probabilities)}"
        typer.echo(
            f"{report.source}: person {person.id}: {_percent(person.hidden_fraction)} of the body hidden{notes}, "
            f"score {person.score:.2f}, {end}",
            err=to_stderr,
        )
    if report.is_unchanged:
        why = "nothing hidden was recovered" if report.people else "no people found"
        typer.echo(f"{report.source}: {why}: {_equal_to_the_photo(report)}, {end}", err=to_stderr)
    if report.photo_bbox is not None and report.size_wh is not None:
        (width, height), (x, y, _, _) = report.size_wh, report.photo_bbox
        typer.echo(f"{report.source}: extended to {width}x{height}, the photo at {x},{y}", err=to_stderr)
    if verbose:
        stages = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in report.timings.items())
        typer.echo(f"  {stages}", err=True)
        for path in report.outputs:
            typer.echo(f"  {path}", err=True)


def _percent(fraction: float) -> str:
    """A share from 0 to 1 in percent; one that would be rounded to nothing is under 1 %."""
    return "under 1%" if 0 < fraction < 0.005 else f"{fraction:.0%}"


def _equal_to_the_photo(report: Report) -> str:
    """What the recovered photo is in a result without recovered pixels, as text."""
    from deocclude.io.picture_format import FORMATS

    if report.content in ("", "-"):
        return "the recovered photo equals the photo"
    if Path(report.content).suffix.lower() in (*FORMATS["jpeg"], *FORMATS["webp"]):
        return f"{report.content} equals the photo but for its compression"
    return f"{report.content} equals the photo"


def _print_left_out(left_out: Sequence[LeftOut], output: OutputOptions) -> None:
    """Print which files of the folders were no input, and why; with --quiet only those that may be photos."""
    from deocclude.batch.folder import left_out_lines

    if output.as_json:
        for file in left_out:
            print_json({"source": str(file.path), "status": "left_out", "error": file.reason})
    shown = [file for file in left_out if file.is_photo or not (output.quiet or output.as_json)]
    for line in left_out_lines(shown, every=output.verbose):
        typer.echo(line, err=True)


def _print_counts(reports: Sequence[Report], photos: int) -> None:
    """Print how many photos were done, skipped, failed and not tried."""
    counts = {status: sum(report.status == status for report in reports) for status in ("done", "skipped", "failed")}
    left = photos - len(reports)
    parts = [f"{count} {status}" for status, count in counts.items() if count] + ([f"{left} not tried"] if left else [])
    typer.echo(f"{photos} photos: {', '.join(parts)}", err=True)


@contextlib.contextmanager
def _progress(plan: Sequence[Job], shown: bool) -> Iterator[Callable[[Report], None]]:
    """A progress bar on stderr, for several photos on a terminal. Yields the function that advances it by a report."""
    if not shown or len(plan) < 2 or not is_terminal(sys.stderr):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        """Photos per second, or seconds per photo, and the time left."""

        def render(self, task: Task) -> Text:
            return Text(rate_text(task.fields["worked"], round(task.remaining or 0), task.elapsed or 0.0))

    columns = (TextColumn("photos"), BarColumn(), MofNCompleteColumn(), Rate())
    worked = 0
    # results must not go to the bar's stream where stdout is a file or a pipe
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=is_terminal(sys.stdout)) as bar:
        task = bar.add_task("photos", total=len(plan), worked=worked)

        def advance(report: Report) -> None:
            nonlocal worked
            worked += report.status != "skipped"
            bar.update(task, advance=1, worked=worked)

        yield advance


def rate_text(worked: int, left: int, elapsed_s: float) -> str:
    """The rate and the time left as text: "0.5 photos/s, 0:01:10 left"; empty while the rate is not known.

    Args:
        worked: photos that were done or failed; skipped ones take no time.
        left: photos that are not finished.
        elapsed_s: time since the start, seconds.
    """
    if not worked or elapsed_s <= 0:
        return ""
    each_s = elapsed_s / worked
    rate = f"{1 / each_s:.1f} photos/s" if each_s < 1 else f"{each_s:.1f} s/photo"
    return f"{rate}, {timedelta(seconds=round(left * each_s))} left"
