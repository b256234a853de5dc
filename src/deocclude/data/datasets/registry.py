"""All dataset formats by name: their readers, writers and recognition."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from deocclude.data.datasets import (
    ahp,
    cihp,
    clothing,
    coco_amodal,
    coco_instances,
    coco_json,
    cutouts,
    image_masks,
    kins,
    lip,
    records_file,
    sbd,
    voc,
)
from deocclude.data.datasets.record import PhotoRecord
from deocclude.errors import InputError, UsageError


@dataclass(frozen=True)
class Writer:
    """How a format is written.

    Attributes:
        file_name: default name of such a file in a folder.
        write: writes records to a file and returns how many people the format cannot represent.
        cannot_hold: names in `convert.DETAILS` of what the format drops.
    """

    file_name: str
    write: Callable[[Iterable[PhotoRecord], Path], int]
    cannot_hold: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format:
    """A dataset format: how it is recognised, read and written.

    Attributes:
        name: its name, as `--from` and `--to` take it.
        matches: whether a path has the format.
        read: records of a path, one at a time; with `takes_images` the second argument is the photos' folder, or None
            to search for it.
        takes_images: whether the photos may be in a separate folder.
        writer: None where the format is only read.
        splits: the splits that the records will state, without opening a photo; None where they state none or that is
            impossible.
    """

    name: str
    matches: Callable[[Path], bool]
    read: Callable[..., Iterator[PhotoRecord]]
    takes_images: bool = False
    writer: Writer | None = None
    splits: Callable[[Path], Iterable[str | None]] | None = None


_ROWS = (
    Format(
        "records",
        records_file.matches,
        records_file.read,
        writer=Writer("records.jsonl", records_file.write),
        splits=records_file.splits,
    ),
    Format("ahp", ahp.matches, ahp.read, splits=ahp.splits),
    Format("ccp", clothing.matches, clothing.read, splits=clothing.splits),
    Format("cihp", cihp.matches, cihp.read, splits=cihp.splits),
    Format("coco", coco_instances.matches, coco_instances.read, takes_images=True, splits=coco_json.splits),
    Format(
        "coco-amodal",
        coco_amodal.matches,
        coco_amodal.read,
        takes_images=True,
        writer=Writer("coco-amodal.json", coco_amodal.write, coco_amodal.CANNOT_HOLD),
        splits=coco_json.splits,
    ),
    Format("cutouts", cutouts.matches, cutouts.read),
    Format("kins", kins.matches, kins.read, takes_images=True, splits=coco_json.splits),
    Format("lip", lip.matches, lip.read, splits=lip.splits),
    Format("masks", image_masks.matches, image_masks.read),
    Format("sbd", sbd.matches, sbd.read, splits=sbd.splits),
    Format("voc", voc.matches, voc.read, splits=voc.splits),
    Format("whole-masks", image_masks.matches, image_masks.read_whole),
)

FORMATS: dict[str, Format] = {row.name: row for row in _ROWS}


def reader(name: str | None, path: Path) -> Format:
    """The format of that name, or the one that `path` has.

    Raises:
        InputError: `path` does not exist.
        UsageError: no format has that name, or `path` matches none or several.
    """
    if name is not None and name not in FORMATS:
        raise UsageError(f"no format {name!r} to read: there are {', '.join(FORMATS)}")
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if name is not None:
        return FORMATS[name]
    found = [row for row in _ROWS if row.matches(path)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{path} may be {' or '.join(row.name for row in found)}: say which with --from")
    raise UsageError(f"cannot tell the format of {path}: name it with --from, one of {', '.join(FORMATS)}")


def writer(name: str) -> Writer:
    """The writer of the format of that name. Raises UsageError for an unknown or read-only format."""
    writers = {row.name: row.writer for row in _ROWS if row.writer is not None}
    if name not in writers:
        raise UsageError(f"no format {name!r} to write: there are {', '.join(writers)}")
    return writers[name]
