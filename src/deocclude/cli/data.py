"""`deocclude data`: what a training run or an evaluation reads."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deocclude.cli.options import Quiet, check_folder

if TYPE_CHECKING:
    from deocclude.data.datasets.convert import Counts

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Build and convert what training and evaluation read.",
)


@app.callback()
def _group() -> None:
    """Build and convert what training and evaluation read."""


@app.command()
def build(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder of the frozen set.")],
    root: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="The data folder; docs/data.md has its layout.")
    ] = Path("../shared/data"),
    people: Annotated[
        str, typer.Option(help="Held-out people: ccp, cutouts, full; several at once: crowds, wild.")
    ] = "ccp",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same pictures.")] = 0,
    unoccluded: Annotated[bool, typer.Option(help="Add each person with nothing in front.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a frozen set that is there.")] = False,
    quiet: Quiet = False,
) -> None:
    """Freeze a validation set: each held-out person hidden by an object, by a person, and by something low.

    crowds and wild are sets of whole photos with several people, for finding them.
    """
    from deocclude.errors import UsageError

    if people not in ("ccp", "cutouts", "full", "crowds", "wild"):
        raise UsageError(f"--people must be ccp, cutouts, full, crowds or wild, got {people!r}")
    check_folder(output.parent)
    from deocclude.data.build import build_frozen_set, build_scene_set

    if people in ("crowds", "wild"):
        scenes = build_scene_set(output, root, kind=people, seed=seed, overwrite=overwrite)
        if not quiet:
            typer.echo(f"{output}: {len(scenes.records)} photos of {sum(r.people for r in scenes.records)} people")
        return
    frozen = build_frozen_set(output, root, seed=seed, people=people, unoccluded=unoccluded, overwrite=overwrite)
    if not quiet:
        typer.echo(f"{output}: {len(frozen)} records of {len({r.person_id for r in frozen})} people")


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
    from deocclude.data.poses import draw_sheet, write_poses
    from deocclude.image_io import save_image
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
    source_format: Annotated[
        str | None, typer.Option("--from", metavar="FORMAT", help="Of FROM; guessed where that leaves no doubt.")
    ] = None,
    target_format: Annotated[
        str, typer.Option("--to", metavar="FORMAT", help="Of TO: records or coco-amodal.")
    ] = "records",
    images: Annotated[
        Path | None, typer.Option("--images", metavar="DIR", help="The photos that a JSON file lists.")
    ] = None,
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
        counts = conversion.run(advance)
    if not quiet:
        typer.echo(f"{conversion.output}: {describe_counts(counts)}")


def describe_counts(counts: Counts) -> str:
    """What went through a conversion, in words."""
    parts = [f"{counts.people} people", f"{counts.whole} of them whole", f"{counts.parsed} with parsing"]
    if counts.crowds:
        parts.append(f"{counts.crowds} crowds")
    if counts.left_out:
        parts.append(f"{counts.left_out} left out: crowds, or the whole is not known")
    return f"{counts.photos} photos, {', '.join(parts)}"


@contextlib.contextmanager
def _counting(shown: bool) -> Iterator[Callable[[], None]]:
    """Photos so far on stderr, only where stderr is a terminal; how many there will be is not known before the end."""
    if not shown or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed} photos"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("photos", total=None)
        yield lambda: bar.advance(task)
