"""`deocclude data`: what a training run or an evaluation reads."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from deocclude.cli.options import Quiet, check_folder

if TYPE_CHECKING:
    from deocclude.data.datasets.convert import Counts

SourceFormat = Annotated[
    str | None, typer.Option("--from", metavar="FORMAT", help="What is read; guessed where that leaves no doubt.")
]
Images = Annotated[Path | None, typer.Option("--images", metavar="DIR", help="The photos that a JSON file lists.")]

# What a reader does to people whose masks no record may hold, by the kind of its note.
_NOTED = {
    "empty": "left out: the mask is empty",
    "outside": "mended: visible pixels lie outside the whole (amodal) mask, which is grown by them",
}

_VALIDATION = ("ccp", "cutouts", "full", "built", "folder", "records", "crowds", "wild")

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Build, convert, check and show what training and evaluation read.",
)


@app.callback()
def _group() -> None:
    """Build, convert, check and show what training and evaluation read."""


@app.command()
def build(
    output: Annotated[str, typer.Option("-o", "--output", metavar="DIR", help="Folder of the set; a URL for people.")],
    source: Annotated[
        str | None,
        typer.Argument(metavar="[DATASET]", help="Select people from this dataset, or records file; a URL too."),
    ] = None,
    rules: Annotated[
        str | None,
        typer.Option("--rules", metavar="LIST", help="all; or edge,size: these alone; or no-edge: all but these."),
    ] = None,
    limits: Annotated[
        list[str] | None, typer.Option("--set", metavar="a=b", help="A rule's threshold, such as min_side_px=64.")
    ] = None,
    parser: Annotated[
        str | None, typer.Option("--parser", help="Labels of body parts: own, none, or hf:MODEL, a SegFormer.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            help="Who is val: keep (as the dataset has it), holdout (every sixth photo), auto (keep where it has val, "
            "else holdout); or train or val for everyone.",
        ),
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", metavar="TEXT", help="Of photos whose records state none.")
    ] = None,
    source_format: SourceFormat = None,
    images: Images = None,
    jobs: Annotated[
        int | None, typer.Option("-j", "--jobs", min=1, help="Processes; as many as there are cores if not given.")
    ] = None,
    root: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Without DATASET: the data folder (docs/data.md); ../shared/data. For records: a dataset.",
        ),
    ] = None,
    people: Annotated[
        str | None,
        typer.Option(
            help="Without DATASET: held-out people: ccp, cutouts, full, built, folder; people really hidden: records; "
            "whole photos: crowds, wild."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Without DATASET: same seed, same pictures; 0 if not given.")
    ] = None,
    unoccluded: Annotated[
        bool | None, typer.Option(help="Without DATASET: add each person with nothing in front; done if not given.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="The first photos of DATASET alone; without it so many people.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a set that is there.")] = False,
    quiet: Quiet = False,
) -> None:
    """With DATASET: select whole people from it into a set to train on. Without: freeze a validation set.

    A set of whole people is parquet shards with a report. A build that was interrupted goes on where it was. Formats of
    DATASET are those of `data convert`.

    A validation set hides each held-out person by an object, by a person, and by something low. built and folder take
    --data as the built set, or the folder of photos and masks. records takes it as a dataset of --from FORMAT, and
    everyone in it whose visible and whole masks are both known, as they are; nobody knows what is behind what hides
    them, so masks alone are measured. crowds and wild are sets of whole photos with several people, for finding them.
    """
    from deocclude.errors import UsageError

    if source is not None:
        # What is not given is None, so that a default is told from a wish.
        frozen_only = {"--data": root, "--people": people, "--seed": seed}
        frozen_only["--unoccluded" if unoccluded else "--no-unoccluded"] = unoccluded
        for name, value in frozen_only.items():
            if value is not None:
                raise UsageError(f"{name} is for validation sets: leave it out, or leave out {source}")
        if not _is_url(output):
            check_folder(Path(output))
        _build_people(
            source, output, rules, limits or [], parser, split, licence, source_format, images, limit, jobs, overwrite,
            quiet,
        )  # fmt: skip
        return
    given = {
        "--rules": rules, "--set": limits, "--parser": parser, "--split": split, "--licence": licence, "-j": jobs,
    }  # fmt: skip
    if people != "records":
        given |= {"--from": source_format, "--images": images}
    for name, value in given.items():
        if value:
            raise UsageError(f"{name} is for selecting people: name the dataset, `data build DATASET -o {output}`")
    if people == "records" and root is None:
        raise UsageError("--people records: name the dataset, or records file, with --data")
    people, root, seed = people or "ccp", root or "../shared/data", seed or 0
    if people not in _VALIDATION:
        raise UsageError(f"--people must be {', '.join(_VALIDATION[:-1])} or {_VALIDATION[-1]}, got {people!r}")
    folder = Path(output)
    check_folder(folder.parent)
    from deocclude.data.evalsets.build import build_eval_set, build_scene_set

    if people in ("crowds", "wild"):
        for name, value in {"--limit": limit, "--unoccluded or --no-unoccluded": unoccluded}.items():
            if value is not None:
                raise UsageError(f"{name} is for sets of single people: leave it out with --people {people}")
        scenes = build_scene_set(folder, Path(root), kind=people, seed=seed, overwrite=overwrite)
        if not quiet:
            typer.echo(f"{folder}: {len(scenes.records)} photos of {sum(r.people for r in scenes.records)} people")
        return
    same = {"seed": seed, "unoccluded": unoccluded is not False, "limit": limit, "overwrite": overwrite}
    if people == "records":
        from deocclude.data.evalsets.build_annotated import build_annotated_set

        eval_set = build_annotated_set(folder, root, source_format=source_format, images=images, **same)
    else:
        eval_set = build_eval_set(folder, root, people=people, **same)
    if not quiet:
        typer.echo(f"{folder}: {len(eval_set)} records of {len({r.person_id for r in eval_set})} people")


def _build_people(
    source: str,
    output: str,
    rules: str | None,
    limits: list[str],
    parser: str | None,
    split: str | None,
    licence: str | None,
    source_format: str | None,
    images: Path | None,
    limit: int | None,
    jobs: int | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    from deocclude.data.sources.selection import read_limits, read_rules
    from deocclude.data.sources.splits import Split, choose_split, missing_splits
    from deocclude.data.trainsets.build import build, open_records
    from deocclude.data.trainsets.parsers import check_parser
    from deocclude.data.trainsets.photo import BuildSettings
    from deocclude.errors import UsageError

    if split not in (None, "auto", *get_args(Split)):
        raise UsageError(f"--split must be auto, keep, holdout, train or val, got {split!r}")
    records = open_records(source, source_format, images)
    settings = BuildSettings(
        read_rules(rules or "all"),
        read_limits(limits),
        check_parser(parser or "own"),
        choose_split(source, source_format) if split in (None, "auto") else split,
        licence,
    )
    with _counting(shown=not quiet) as advance:
        state = build(
            records,
            output,
            settings,
            source=source,
            limit=limit,
            jobs=jobs or _cores(),
            overwrite=overwrite,
            advance=advance,
        )
    tally = state.tally
    for problem in tally.problems:
        typer.echo(f"left out: {problem}", err=True)
    for line in missing_splits(tally.by_split, settings.split, tally.photos):
        typer.echo(line, err=True)
    if not quiet:
        splits = ", ".join(f"{count} {name}" for name, count in sorted(tally.by_split.items()))
        typer.echo(f"{output}: {tally.kept} people of {tally.people} in {tally.photos} photos kept: {splits}")
    if tally.unusable_photos:
        typer.echo(f"{tally.unusable_photos} of {tally.photos} photos could not be used", err=True)
        raise typer.Exit(5)


def _is_url(place: str) -> bool:
    return "://" in place


def _cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@app.command()
def poses(
    config: Annotated[
        Path, typer.Option("-c", "--config", metavar="FILE", help="The training config to draw people by.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.npz", help="Where the centres go.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="a.b=c", help="Override a key of the config.")
    ] = None,
    sheet: Annotated[Path | None, typer.Option("--sheet", metavar="FILE.png", help="Draw the centres.")] = None,
    quiet: Quiet = False,
) -> None:
    """Compute the typical pose masks: k-means centres of synthetically occluded training silhouettes."""
    from deocclude.errors import ConfigError, UsageError
    from deocclude.train.config import load_config

    if sheet is not None and sheet.suffix.lower() != ".png":
        raise UsageError(f"--sheet must name a .png file, got {sheet}")

    loaded = load_config(config, settings or [])
    if loaded.mask is None:
        raise ConfigError(f"{config}: no section mask")
    from deocclude.data.samples.typical_poses import draw_sheet, write_poses
    from deocclude.io.images import save_image
    from deocclude.train.mask_stage import draw_poses

    # Before minutes of work, not after.
    for path in (output, sheet):
        if path is not None:
            check_folder(path.parent)
    centres = draw_poses(loaded)
    write_poses(output, centres)
    if sheet is not None:
        save_image(draw_sheet(centres), sheet)
    if not quiet:
        typer.echo(f"{output}: {len(centres)} typical poses")


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="FROM", help="A dataset: its folder, or its JSON file.")],
    target: Annotated[Path, typer.Argument(metavar="TO", help="A file, or a folder for records.jsonl.")],
    source_format: SourceFormat = None,
    target_format: Annotated[
        str, typer.Option("--to", metavar="FORMAT", help="Of TO: records or coco-amodal.")
    ] = "records",
    images: Images = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    quiet: Quiet = False,
) -> None:
    """Convert a dataset: who is in each photo, with visible, whole and parsing masks as far as they are known.

    Formats: ahp, ccp, cihp, coco, coco-amodal, cutouts, kins, lip, masks, records, sbd, voc, whole-masks; docs/data.md
    says what each is. Photos stay where they are: what is written names them relative to its own place.
    """
    from deocclude.data.datasets.convert import plan_conversion

    conversion = plan_conversion(
        source,
        target,
        source_format=source_format,
        target_format=target_format,
        images=images,
        overwrite=overwrite,
    )
    check_folder(conversion.output.parent)
    with _counting(shown=not quiet) as advance:
        counts = conversion.run(lambda: advance(1))
    for kind, words in _NOTED.items():
        if counts.noted[kind]:
            typer.echo(f"{counts.noted[kind]} people {words}; data check names them", err=True)
    if not quiet:
        typer.echo(f"{conversion.output}: {describe_counts(counts)}")


@app.command()
def check(
    place: Annotated[
        str, typer.Argument(metavar="DATA", help="A built set, records file, photos with masks, dataset.")
    ],
    source_format: SourceFormat = None,
    images: Images = None,
    quiet: Quiet = False,
) -> None:
    """Find what is wrong with data; one line a fault, and exit code 1 where there is any.

    Wrong sizes, empty masks, visible pixels outside the whole mask, photos that cannot be read or look alike across
    splits, and licences that are not stated.
    """
    from collections import Counter

    from deocclude.data.inspection.check import Check

    found, checking = Counter(), Check(place, source_format, images)
    for fault in checking.run():
        found[fault.kind] += 1
        typer.echo(str(fault))
    if not quiet:
        kinds = ", ".join(f"{count} {kind}" for kind, count in found.most_common())
        backgrounds = f"{checking.backgrounds} backgrounds, " if checking.backgrounds else ""
        typer.echo(
            f"{place}: {checking.photos} photos, {checking.people} people, {backgrounds}"
            + (f"{found.total()} faults: {kinds}" if found else "no faults")
        )
    if found:
        raise typer.Exit(1)


@app.command()
def show(
    place: Annotated[
        str, typer.Argument(metavar="DATA", help="A built set, records file, photos with masks, dataset.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.html", help="The page.")],
    source_format: SourceFormat = None,
    images: Images = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="No more pictures than that.")] = 100,
    skip: Annotated[int, typer.Option("--skip", min=0, help="Leave out that many first: the next page.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Write an HTML page with pictures of who is in data; it holds its pictures itself."""
    from deocclude.data.inspection.html_page import show_page
    from deocclude.io.images import save_text

    check_folder(output.parent)
    page, count = show_page(place, source_format=source_format, images=images, skip=skip, limit=limit)
    save_text(page, output)
    if not quiet:
        typer.echo(f"{output}: {count} pictures")


def describe_counts(counts: Counts) -> str:
    """What went through a conversion, in words."""
    parts = [f"{counts.people} people", f"{counts.whole} of them whole", f"{counts.parsed} with parsing"]
    if counts.crowds:
        parts.append(f"{counts.crowds} crowds")
    if counts.left_out:
        parts.append(f"{counts.left_out} left out: crowds, or the whole is not known")
    dropped = f"; dropped, as the format cannot hold it: {', '.join(counts.dropped)}" if counts.dropped else ""
    return f"{counts.photos} photos, {', '.join(parts)}{dropped}"


@contextlib.contextmanager
def _counting(shown: bool) -> Iterator[Callable[[int], None]]:
    """Photos so far on stderr, only where stderr is a terminal; how many there will be is not known before the end."""
    if not shown or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed} photos"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("photos", total=None)
        yield lambda count: bar.advance(task, count)
