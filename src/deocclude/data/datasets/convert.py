"""Conversion from one dataset format to another, one photo at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from deocclude.data.datasets.files import require
from deocclude.data.datasets.record import PhotoRecord
from deocclude.data.datasets.registry import Format, Writer, reader, writer
from deocclude.data.storage import is_url
from deocclude.errors import InputError, UsageError

DETAILS: dict[str, Callable[[PhotoRecord], bool]] = {
    "parsing": lambda photo: any(person.parsing is not None for person in photo.people),
    "things": lambda photo: bool(photo.things),
    "licence": lambda photo: photo.licence is not None,
    "split": lambda photo: photo.split is not None,
    "cut-out": lambda photo: not photo.has_background,
    "photo ids": lambda photo: True,
    "person ids": lambda photo: bool(photo.people),
}
"""Optional content of records that not every format can hold: its name, and a test whether a record has it."""


@dataclass
class Counts:
    """Counts of a conversion.

    Attributes:
        photos: photos read.
        people: people read, without crowds.
        whole: people whose amodal mask is known.
        parsed: people with parsing.
        crowds: groups of people without individual masks.
        left_out: people who are not written.
        told: names in `DETAILS` of content that at least one photo has.
        dropped: those names in `told` whose content the written format cannot hold.
        noted: people whom the reader left out or repaired, by kind of their `Note`.
    """

    photos: int = 0
    people: int = 0
    whole: int = 0
    parsed: int = 0
    crowds: int = 0
    left_out: int = 0
    told: set[str] = field(default_factory=set)
    dropped: tuple[str, ...] = ()
    noted: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        """The counts as plain values, for JSON."""
        return asdict(self) | {"told": sorted(self.told), "noted": dict(self.noted)}

    def add(self, record: PhotoRecord) -> None:
        """Count a photo and its people."""
        self.photos += 1
        self.told |= {name for name, has_detail in DETAILS.items() if has_detail(record)}
        self.noted.update(note.kind for note in record.notes)
        for person in record.people:
            self.people += not person.iscrowd
            self.whole += person.amodal is not None
            self.parsed += person.parsing is not None
            self.crowds += person.iscrowd


@dataclass(frozen=True)
class Conversion:
    """A validated conversion: what is read, and what is written.

    Attributes:
        source: the dataset's folder or file.
        reads: the source's format.
        output: the file to write.
        writes: how that file is written.
        images: the photos' folder; None to search for it.
    """

    source: Path
    reads: Format
    output: Path
    writes: Writer
    images: Path | None = None

    def run(self, advance: Callable[[], None] = lambda: None) -> Counts:
        """Convert; `advance` is called for each photo. The output appears complete or not at all.

        Raises:
            InputError: the source does not fit its format, has no photo or no person, or a photo is missing.
            DeoccludeError: the output cannot be written.
        """
        counts = Counts()
        records = self.reads.read(self.source, self.images) if self.reads.takes_images else self.reads.read(self.source)
        counts.left_out = self.writes.write(self._counted(records, counts, advance), self.output)
        counts.dropped = tuple(name for name in self.writes.cannot_hold if name in counts.told)
        return counts

    def _counted(
        self, records: Iterator[PhotoRecord], counts: Counts, advance: Callable[[], None]
    ) -> Iterator[PhotoRecord]:
        """The records, each counted as the writer takes it. Raises InputError as `run` does."""
        try:
            for record in records:
                # Most readers open the photo for its size; a records file states the size itself.
                if not is_url(record.image):
                    require(Path(record.image), "photo")
                counts.add(record)
                yield record
                advance()
        except OSError as error:
            # The writer iterates over this, and would report it as a failure to write.
            raise InputError(f"{error.filename or self.source}: cannot be read: {error.strerror or error}") from error
        if not counts.photos:
            raise InputError(f"{self.source}: no photo of the format {self.reads.name} in it")
        if not counts.people + counts.crowds:
            raise InputError(f"{self.source}: no person in its {counts.photos} photos")


def plan_conversion(
    source: Path,
    target: Path,
    *,
    source_format: str | None = None,
    target_format: str = "records",
    images: Path | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Plan a conversion. Reads little of the source, and writes nothing.

    Args:
        source: a dataset's folder or file.
        target: a file with the format's suffix, or a folder for a file of the format's default name.
        source_format: the format's name, or None to recognise it.
        target_format: the format's name.
        images: the photos' folder, for formats that are a JSON file; None to search for it.
        overwrite: whether an existing file is replaced.

    Raises:
        InputError: the source or the photos' folder does not exist.
        UsageError: a format is unknown or cannot be recognised; the target has another format's suffix, is the source
            itself, or exists without `overwrite`; or `images` is given for a format that contains its photos.
    """
    reads, writes = reader(source_format, source), writer(target_format)
    if images is not None and not reads.takes_images:
        raise UsageError(f"--images is for formats that are a JSON file, and {reads.name} has its photos in it")
    if images is not None and not images.is_dir():
        raise InputError(f"--images: no such folder: {images}")
    suffix = Path(writes.file_name).suffix
    output = target if target.suffix == suffix and not target.is_dir() else target / writes.file_name
    if output != target and target.suffix in (".json", ".jsonl") and not target.is_dir():
        raise UsageError(f"{target_format} is written to a {suffix} file or into a folder, got {target}")
    if output.exists() and source.exists() and output.samefile(source):
        raise UsageError(f"{output} would be written over itself: name another file")
    if output.exists() and not overwrite:
        raise UsageError(f"{output} is there already: --overwrite replaces it")
    return Conversion(source, reads, output, writes, images)
