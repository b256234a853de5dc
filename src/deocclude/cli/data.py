"""`deocclude data`: the data that training and evaluation read."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from deocclude.cli.options import JOBS_HELP, AsJson, Quiet, check_folder, is_terminal, print_json, renamed
from deocclude.inference.cores import MAX_AT_ONCE

if TYPE_CHECKING:
    from deocclude.data.datasets.convert import Counts

SourceFormat = Annotated[
    str | None, typer.Option("--from", metavar="FORMAT", help="Format of the dataset; recognised if unambiguous.")
]
Images = Annotated[Path | None, typer.Option("--images", metavar="DIR", help="Folder of the photos that a JSON lists.")]
SetFolder = Annotated[str, typer.Option("-o", "--output", metavar="DIR", help="Folder of the set.")]
SetFolderOrUrl = Annotated[
    str, typer.Option("-o", "--output", metavar="DIR", help="Folder of the set, or URL of a training set.")
]
Rules = Annotated[
    str | None,
    typer.Option("--rules", metavar="LIST", help="all; or edge,size: only these; or no-edge: all but these."),
]
Limits = Annotated[
    list[str] | None, typer.Option("--set", metavar="a=b", help="Threshold of a rule, such as min_side_px=64.")
]
PartsParser = Annotated[
    str | None, typer.Option("--parser", help="Labels of body parts: own, none, or hf:MODEL, a SegFormer.")
]
SplitChoice = Annotated[
    str | None,
    typer.Option(
        "--split",
        help="Held-out photos: keep (as in the dataset), holdout (every sixth photo), auto (keep if the dataset has "
        "val, else holdout); train or val: all photos.",
    ),
]
Licence = Annotated[str | None, typer.Option("--licence", metavar="TEXT", help="For photos whose records state none.")]
Jobs = Annotated[
    int | None, typer.Option("-j", "--jobs", min=1, max=MAX_AT_ONCE, help=f"{JOBS_HELP}; default: one a CPU core.")
]
DataFolder = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="The data folder (docs/data.md); default: ../shared/data.",
    ),
]
Dataset = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="PATH",
        help="With --people records: the dataset or records file; built: the set; folder: photos and masks.",
    ),
]
People = Annotated[
    str | None,
    typer.Option(
        help="Held-out people: ccp (default), cutouts, full, built, folder, voc, coco, pelota, teachers, small; really "
        "occluded people: records; whole photos: crowds, wild, nobody (photos without people)."
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of the scenes and corrupted masks; default: 0.")]
Unoccluded = Annotated[bool | None, typer.Option(help="Add each person without an occluder; default: yes.")]
PhotoLimit = Annotated[int | None, typer.Option("--limit", min=1, help="Use only the first photos of the dataset.")]
EvalSplit = Annotated[
    str | None,
    typer.Option("--split", help="val (default), or train: a set that settings are fitted on, for no report."),
]
PeopleLimit = Annotated[int | None, typer.Option("--limit", min=1, help="Number of people, spread evenly over all.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing set.")]

# What happened to people with faulty masks, for messages; keys: the kinds of `Counts.noted`.
_NOTED = {
    "empty": "left out: the mask is empty",
    "outside": "repaired: visible pixels lie outside the amodal mask, which is extended by them",
}

# What --dataset names, for messages, by the values of --people that need it.
_OF_DATASETS = {
    "records": "the dataset, or records file,",
    "built": "the built set",
    "folder": "the folder of photos and masks",
}
_WHOLE_PHOTOS = ("crowds", "wild", "nobody")
# the keys of PHOTO_SETS in data/sources/photo_sets.py, whose import needs OpenCV
_PHOTO_SETS = ("voc", "coco", "pelota", "teachers", "small")
_EVAL_PEOPLE = ("ccp", "cutouts", "full", "built", "folder", *_PHOTO_SETS, "records", *_WHOLE_PHOTOS)
_HELP = "Build, convert, check and show the data of training and evaluation."

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True, help=_HELP)


@app.callback(help=_HELP)
def _group() -> None:
    """Makes `app` a group of commands with this help, whatever their number."""


@app.command()
def build_trainset(
    output: SetFolderOrUrl,
    source: Annotated[
        str, typer.Argument(metavar="DATASET", help="A dataset or records file, or a records file's URL.")
    ],
    rules: Rules = None,
    limits: Limits = None,
    parser: PartsParser = None,
    split: SplitChoice = None,
    licence: Licence = None,
    source_format: SourceFormat = None,
    images: Images = None,
    jobs: Jobs = None,
    limit: PhotoLimit = None,
    overwrite: Overwrite = False,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Select the whole, unoccluded people of a dataset and write them as a set to train on.

    The set is parquet shards with a report. Run the same command again to resume an interrupted build. Formats of
    DATASET are those of `data convert`.
    """
    if not _is_url(output):
        check_folder(Path(output))
    from deocclude.data.sources.selection import read_limits, read_rules
    from deocclude.data.sources.splits import Split, choose_split, missing_splits
    from deocclude.data.trainsets.build import build as build_set
    from deocclude.data.trainsets.build import open_records
    from deocclude.data.trainsets.parsers import check_parser
    from deocclude.data.trainsets.photo import BuildSettings
    from deocclude.errors import UsageError
    from deocclude.inference.cores import usable_cores

    if split not in (None, "auto", *get_args(Split)):
        raise UsageError(f"--split must be auto, keep, holdout, train or val, got {split!r}")
    records = open_records(source, source_format, images)
    settings = BuildSettings(
        read_rules(rules or "all"),
        read_limits(limits or []),
        check_parser(parser or "own"),
        choose_split(source, source_format) if split in (None, "auto") else split,
        licence,
    )
    with _counting(visible=not quiet) as advance:
        state = build_set(
            records, output, settings, source=source, limit=limit, jobs=jobs or usable_cores(), overwrite=overwrite,
            advance=advance,
        )  # fmt: skip
    tally = state.tally
    for problem in tally.problems:
        typer.echo(f"left out: {problem}", err=True)
    for line in missing_splits(tally.by_split, settings.split, tally.photos):
        typer.echo(line, err=True)
    if json:
        counts = tally.model_dump(include={"photos", "people", "kept", "by_split", "refused", "unusable_photos"})
        print_json({"set": output, **counts})
    elif not quiet:
        splits = ", ".join(f"{count} {name}" for name, count in sorted(tally.by_split.items()))
        typer.echo(f"{output}: {tally.kept} people of {tally.people} in {tally.photos} photos kept: {splits}")
    if tally.unusable_photos:
        typer.echo(f"{tally.unusable_photos} of {tally.photos} photos could not be used", err=True)
        raise typer.Exit(5)


@app.command()
def build_evalset(
    output: SetFolder,
    root: DataFolder = None,
    people: People = None,
    seed: Seed = None,
    unoccluded: Unoccluded = None,
    source_format: SourceFormat = None,
    images: Images = None,
    limit: PeopleLimit = None,
    overwrite: Overwrite = False,
    json: AsJson = False,
    quiet: Quiet = False,
    split: EvalSplit = None,
    dataset: Dataset = None,
) -> None:
    """Write an evaluation set of held-out people with known amodal masks.

    Each held-out person is occluded three times: by an object, by another person, and by something in front of the
    lower body. With built or folder, --dataset names the built set, or the folder of photos and masks.

    records takes a --dataset of --from FORMAT, and all people in it whose visible and amodal masks are both
    known, unchanged. Their occluded content is unknown, so that only masks are measured. crowds and wild are whole
    photos of several people, to measure detection on.
    """
    from deocclude.errors import UsageError

    folder = Path(output)
    if people in _OF_DATASETS:
        root = renamed("--data", root, "--dataset", dataset)
    else:
        _refuse({"--dataset": dataset}, f"is for --people {', '.join(_OF_DATASETS)}")
    if people in _OF_DATASETS and root is None:
        raise UsageError(f"--people {people}: name {_OF_DATASETS[people]} with --dataset")
    people, root, seed = people or "ccp", root or "../shared/data", seed or 0
    if people not in _EVAL_PEOPLE:
        raise UsageError(f"--people must be {', '.join(_EVAL_PEOPLE[:-1])} or {_EVAL_PEOPLE[-1]}, got {people!r}")
    if people != "records":
        _refuse({"--from": source_format, "--images": images}, "is for --people records")
    else:
        _refuse({"--split": split}, "is not for --people records")
    if split not in (None, "train", "val"):
        raise UsageError(f"--split must be train or val, got {split!r}")
    if people in _WHOLE_PHOTOS:
        single = {"--limit": limit, "--split": split, "--unoccluded or --no-unoccluded": unoccluded}
        _refuse(single, f"is for sets of single people: leave it out with --people {people}")
    check_folder(folder.parent)
    from deocclude.data.evalsets.build import build_eval_set, build_scene_set

    if people in _WHOLE_PHOTOS:
        scenes = build_scene_set(folder, Path(root), kind=people, seed=seed, overwrite=overwrite)
        photos, found = len(scenes.records), sum(record.people for record in scenes.records)
        if json:
            print_json({"set": output, "photos": photos, "people": found})
        elif not quiet:
            typer.echo(f"{folder}: {photos} photos of {found} people")
        return
    same = {"seed": seed, "unoccluded": unoccluded is not False, "limit": limit, "overwrite": overwrite}
    if people == "records":
        from deocclude.data.evalsets.build_annotated import build_annotated_set

        eval_set = build_annotated_set(folder, root, source_format=source_format, images=images, **same)
    else:
        eval_set = build_eval_set(folder, root, people=people, split=split or "val", **same)
    persons = len({record.person_id for record in eval_set})
    if json:
        print_json({"set": output, "records": len(eval_set), "people": persons})
    elif not quiet:
        typer.echo(f"{folder}: {len(eval_set)} records of {persons} people")


@app.command()
def label(
    output: SetFolder,
    root: DataFolder = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--people", metavar="NAME", help="People with joints: sport, coco; repeatable; default: both."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("-m", "--model", help="Model whose box segmenter draws the masks; default: base.")
    ] = None,
    overwrite: Overwrite = False,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Mask people with annotated joints; those whose mask and joints agree become a set to train on.

    Writes images/, masks/, report.json with counts and thresholds, and sheet.jpg with kept and refused people. Training
    reads the set with data.sources.labelled and data.labelled.
    """
    folder = Path(output)
    check_folder(folder.parent)
    from deocclude.data.sources.skeletons import SKELETON_SETS
    from deocclude.data.trainsets.pseudo_labels import label_people

    with _counting(visible=not quiet, what="people") as advance:
        report = label_people(
            folder, Path(root or "../shared/data"), sets=sets or tuple(SKELETON_SETS), model=model or "base",
            overwrite=overwrite, on_person=lambda _: advance(1),
        )  # fmt: skip
    if json:
        print_json({"set": output, "sets": report["sets"]})
    elif not quiet:
        for name, count in report["sets"].items():
            typer.echo(f"{output}: {name}: {count.get('kept', 0)} people of {count['people']} kept")


@app.command()
def build(
    output: SetFolderOrUrl,
    source: Annotated[
        str | None,
        typer.Argument(metavar="[DATASET]", help="With it: `data build-trainset`. Without: `data build-evalset`."),
    ] = None,
    rules: Rules = None,
    limits: Limits = None,
    parser: PartsParser = None,
    split: SplitChoice = None,
    licence: Licence = None,
    source_format: SourceFormat = None,
    images: Images = None,
    jobs: Jobs = None,
    root: DataFolder = None,
    people: People = None,
    seed: Seed = None,
    unoccluded: Unoccluded = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="As in the command that it stands for.")] = None,
    overwrite: Overwrite = False,
    json: AsJson = False,
    quiet: Quiet = False,
    dataset: Dataset = None,
) -> None:
    """Earlier name of two commands: with DATASET `data build-trainset`, without it `data build-evalset`."""
    if source is not None:
        # an option that is not given is None
        eval_only = {"--data": root, "--dataset": dataset, "--people": people, "--seed": seed}
        eval_only["--unoccluded" if unoccluded else "--no-unoccluded"] = unoccluded
        _refuse(eval_only, f"is for evaluation sets: leave it out, or leave out {source}")
        _say_which("build-trainset", "a training set", quiet)
        build_trainset(
            output, source, rules, limits, parser, split, licence, source_format, images, jobs, limit, overwrite,
            json, quiet,
        )  # fmt: skip
        return
    train_only: dict[str, object] = {
        "--rules": rules, "--set": limits or None, "--parser": parser, "--split": split, "--licence": licence,
        "-j": jobs,
    }  # fmt: skip
    if people != "records":
        train_only |= {"--from": source_format, "--images": images}
    _refuse(train_only, f"is for training sets: name the dataset, `data build-trainset DATASET -o {output}`")
    _say_which("build-evalset", "an evaluation set", quiet)
    build_evalset(
        output, root, people, seed, unoccluded, source_format, images, limit, overwrite, json, quiet, dataset=dataset
    )


def _refuse(options: dict[str, object], why: str) -> None:
    """Raise UsageError for the first of the options that is given. why: the message after its name."""
    from deocclude.errors import UsageError

    for name, value in options.items():
        if value is not None:
            raise UsageError(f"{name} {why}")


def _say_which(command: str, kind: str, quiet: bool) -> None:
    """Print which command `data build` stands for."""
    if not quiet:
        typer.echo(f"data build: writes {kind}, as `data {command}` does", err=True)


def _is_url(place: str) -> bool:
    return "://" in place


@app.command()
def poses(
    config: Annotated[
        Path, typer.Option("-c", "--config", metavar="FILE", help="The training config whose people are clustered.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.npz", help="File of the cluster centres.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="a.b=c", help="Override a key of the config.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="FILE.png", help="Image of the cluster centres.")
    ] = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compute the typical poses: k-means centres of synthetically occluded training silhouettes."""
    from deocclude.errors import ConfigError, UsageError
    from deocclude.train.config import load_config

    if sheet is not None and sheet.suffix.lower() != ".png":
        raise UsageError(f"--sheet must name a .png file, got {sheet}")

    loaded = load_config(config, settings or [])
    if loaded.mask is None:
        raise ConfigError(f"{config}: no section mask")
    from deocclude.data.samples.typical_poses import write_poses
    from deocclude.io.images import save_image
    from deocclude.io.typical_poses import draw_poses_sheet
    from deocclude.train.mask_stage import draw_poses

    # fail before minutes of work
    for path in (output, sheet):
        if path is not None:
            check_folder(path.parent)
    centres = draw_poses(loaded)
    write_poses(output, centres)
    if sheet is not None:
        save_image(draw_poses_sheet(centres), sheet)
    if json:
        print_json({"file": str(output), "poses": len(centres)})
    elif not quiet:
        typer.echo(f"{output}: {len(centres)} typical poses")


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="FROM", help="A dataset: its folder, or its JSON file.")],
    target: Annotated[Path, typer.Argument(metavar="TO", help="A file, or a folder for records.jsonl.")],
    source_format: SourceFormat = None,
    target_format: Annotated[
        str, typer.Option("--to", metavar="FORMAT", help="Format of TO: records or coco-amodal.")
    ] = "records",
    images: Images = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Convert a dataset: the people of each photo, with visible, amodal and parsing masks as far as they are known.

    Formats: ahp, ccp, cihp, coco, coco-amodal, cutouts, kins, lip, masks, records, sbd, voc, whole-masks; docs/data.md
    describes them. Photos are not copied: the written file names them relative to its own folder.
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
    with _counting(visible=not quiet) as advance:
        counts = conversion.run(lambda: advance(1))
    for kind, action in _NOTED.items():
        if counts.noted[kind]:
            typer.echo(f"{counts.noted[kind]} people {action}; data check names them", err=True)
    if json:
        print_json({"file": str(conversion.output), **counts.as_dict()})
    elif not quiet:
        typer.echo(f"{conversion.output}: {describe_counts(counts)}")


@app.command()
def check(
    place: Annotated[
        str, typer.Argument(metavar="DATA", help="A built set, records file, photos with masks, dataset.")
    ],
    source_format: SourceFormat = None,
    images: Images = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Check data; one line a fault, and exit code 1 where there is any. The last line counts them.

    Faults: wrong sizes, empty masks, visible pixels outside the amodal mask, unreadable photos, near-duplicate photos
    in different splits, and licences that are not stated.
    """
    from collections import Counter
    from dataclasses import asdict

    from deocclude.data.inspection.check import Check

    found, checking = Counter(), Check(place, source_format, images)
    for fault in checking.run():
        found[fault.kind] += 1
        if json:
            print_json(asdict(fault))
        else:
            typer.echo(str(fault))
    if json:
        print_json({"data": place, "photos": checking.photos, "people": checking.people, "faults": found.total()})
    elif not quiet:
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
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.html", help="The page to write.")],
    source_format: SourceFormat = None,
    images: Images = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Most images on the page.")] = 100,
    skip: Annotated[int, typer.Option("--skip", min=0, help="Skip the first images: the next page.")] = 0,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write an HTML page that shows the people of a dataset; the images are embedded."""
    from deocclude.data.inspection.html_page import show_page
    from deocclude.io.files import save_text

    check_folder(output.parent)
    page, count = show_page(place, source_format=source_format, images=images, skip=skip, limit=limit)
    save_text(page, output)
    if json:
        print_json({"page": str(output), "pictures": count})
    elif not quiet:
        typer.echo(f"{output}: {count} pictures")


def describe_counts(counts: Counts) -> str:
    """A one-line summary of a conversion."""
    parts = [f"{counts.people} people", f"{counts.whole} of them whole", f"{counts.parsed} with parsing"]
    if counts.crowds:
        parts.append(f"{counts.crowds} crowds")
    if counts.left_out:
        parts.append(f"{counts.left_out} left out: crowds, or the whole is not known")
    dropped = f"; dropped, as the format cannot hold it: {', '.join(counts.dropped)}" if counts.dropped else ""
    return f"{counts.photos} photos, {', '.join(parts)}{dropped}"


@contextlib.contextmanager
def _counting(visible: bool, what: str = "photos") -> Iterator[Callable[[int], None]]:
    """A counter of photos or people on stderr, if that is a terminal. Yields the function that adds to it."""
    if not visible or not is_terminal(sys.stderr):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn(f"{{task.completed}} {what}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)  # the total is unknown before the end
        yield lambda count: bar.advance(task, count)
