"""An evaluation set: occluded photos with ground truth on disk, so that all results refer to the same pixels.

    set.json                     format, name, seed, source, records
    people/PERSON/truth.png      the photo without the occluder; amodal.png, parsing.png beside it: one a person
    records/ID/photo.png         the occluded photo, once where records share it; visible.png beside it

Really occluded people have no truth.png; set.json has null for it.

Initial masks are not stored: the evaluation derives them from `visible` with the set's seed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from deocclude.data.evalsets.folder import SET_FILE, new_set, read_picture, write_index, write_picture
from deocclude.errors import InputError
from deocclude.imaging.arrays import Array

T = TypeVar("T")

FORMAT = 1  # of a set's files
OCCLUDER_KINDS = ("object", "person", "low", "unknown", "none")
UNKNOWN_PART = 255  # label of pixels whose body part is not annotated

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # of a record: a file name everywhere


@dataclass(frozen=True)
class EvalSample:
    """One occluded person; all arrays share one height and width.

    Attributes:
        id: unique id of the record, valid as a folder name.
        person_id: id of the person, the same in all records of the person.
        occluder_kind: one of OCCLUDER_KINDS; "unknown" for a real occluder, "none" for an unoccluded person.
        photo: (H, W, 3) uint8 RGB with the occluder.
        truth: (H, W, 3) uint8 RGB without the occluder; None where unknown.
        visible: (H, W) bool, within `amodal`.
        amodal: (H, W) bool.
        parsing: (H, W) uint8 part labels of the amodal mask, 255 = unknown; None where unknown.
    """

    id: str
    person_id: str
    occluder_kind: str
    photo: NDArray[np.uint8]
    truth: NDArray[np.uint8] | None
    visible: NDArray[np.bool_]
    amodal: NDArray[np.bool_]
    parsing: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class EvalFiles:
    """Paths of a record's PNG files, relative to the set's folder, with forward slashes.

    truth: None for a really occluded person.
    """

    photo: str
    truth: str | None
    visible: str
    amodal: str
    parsing: str


@dataclass(frozen=True)
class EvalRecord:
    """Entry of set.json for one occluded person. hidden_fraction = occluded pixels / amodal pixels, 0 to 1."""

    id: str
    person_id: str
    occluder_kind: str
    hidden_fraction: float
    files: EvalFiles


class EvalSet:
    """An evaluation set opened for reading. Images are read on demand and not cached.

    Attributes:
        folder: the set's folder.
        name: the set's name in reports.
        seed: the initial masks are derived from it and each record's id.
        source: a line on the origin of the people.
        records: the occluded people, in the order of set.json.
    """

    def __init__(self, folder: Path, name: str, seed: int, source: str, records: tuple[EvalRecord, ...]) -> None:
        self.folder = folder
        self.name = name
        self.seed = seed
        self.source = source
        self.records = records

    @classmethod
    def open(cls, folder: str | Path) -> EvalSet:
        """Read set.json and check that every file it names exists.

        Raises:
            InputError: the folder, set.json or an image is missing, or set.json is invalid.
        """
        folder = Path(folder)
        index = folder / SET_FILE
        if not folder.is_dir():
            raise InputError(f"no evaluation set: looked for a folder {folder} with a {SET_FILE}")
        if not index.is_file():
            raise InputError(f"{folder} is not an evaluation set: looked for {index}")
        try:
            content = json.loads(index.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise InputError(f"{index} cannot be read as JSON: {error}") from error
        eval_set = cls(folder, *_parse_index(content, index))
        for record in eval_set.records:
            for name, relative in asdict(record.files).items():
                if relative is not None and not (folder / relative).is_file():
                    raise InputError(f"{index}: record {record.id} lacks its {name}: looked for {folder / relative}")
        return eval_set

    @property
    def has_truth(self) -> bool:
        """Whether any record has the photo without the occluder."""
        return any(record.files.truth is not None for record in self.records)

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[EvalRecord]:
        return iter(self.records)

    def load(self, record: EvalRecord) -> EvalSample:
        """The record's arrays.

        Raises:
            InputError: a file is not a readable PNG, the sizes differ, or visible is not within amodal.
        """
        files = record.files
        photo = self._picture(files.photo, "RGB")
        size = photo.shape[:2]
        sample = EvalSample(
            id=record.id,
            person_id=record.person_id,
            occluder_kind=record.occluder_kind,
            photo=photo,
            truth=None if files.truth is None else self._picture(files.truth, "RGB", size),
            visible=self._picture(files.visible, "L", size) > 127,
            amodal=self._picture(files.amodal, "L", size) > 127,
            parsing=self._picture(files.parsing, "L", size),
        )
        try:
            _check_sample(sample)
        except ValueError as error:
            raise InputError(f"{self.folder / SET_FILE}: {error}") from error
        return sample

    def _picture(self, relative: str, mode: str, size_hw: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """Pixels of a file of the set, as `read_picture` gives them."""
        return read_picture(self.folder / relative, mode, size_hw)


def write_eval_set(
    folder: str | Path,
    samples: Iterable[EvalSample],
    *,
    name: str,
    seed: int,
    source: str,
    overwrite: bool = False,
) -> EvalSet:
    """Write an evaluation set and open it. The folder appears complete or not at all.

    Args:
        folder: where; its parents are created.
        samples: consumed one at a time. Images shared by a person's records (truth, amodal, parsing) are stored once,
            as is a photo of several people.
        name: the set's name in reports.
        seed: the initial masks are derived from it and each record's id.
        source: a line on the origin of the people.
        overwrite: whether an existing evaluation set is replaced. Another folder is never replaced.

    Raises:
        UsageError: the folder is not empty, and either is no evaluation set or `overwrite` is False.
        DeoccludeError: it cannot be written.
        ValueError: a sample violates EvalSample, or an id is repeated.
    """
    folder = Path(folder)
    with new_set(folder, overwrite=overwrite) as partial:
        shared: dict[tuple[str, str, str], str] = {}
        records: dict[str, EvalRecord] = {}
        for sample in samples:
            _check_sample(sample)
            if sample.id in records:
                raise ValueError(f"record id {sample.id} comes twice")
            records[sample.id] = _write_sample(partial, sample, shared)
        if not records:
            raise ValueError("an evaluation set needs at least one sample, got none")
        listed = [asdict(record) for record in records.values()]
        write_index(partial, {"format": FORMAT, "name": name, "seed": seed, "source": source, "records": listed})
    return EvalSet.open(folder)


def _write_sample(root: Path, sample: EvalSample, shared: dict[tuple[str, str, str], str]) -> EvalRecord:
    """Write one sample's images below `root`.

    `shared` maps (person, kind of image, digest) to a written file; photos belong to no person and have person "".
    """
    parsing = sample.parsing
    if parsing is None:
        parsing = np.full(sample.amodal.shape, UNKNOWN_PART, np.uint8)
    of_record = f"records/{sample.id}"
    photo_key = ("", "photo", _digest(sample.photo))
    if photo_key not in shared:
        shared[photo_key] = _write_png(root, f"{of_record}/photo.png", sample.photo)
    visible = _write_png(root, f"{of_record}/visible.png", sample.visible)
    files: dict[str, str] = {}
    for kind, array in (("truth", sample.truth), ("amodal", sample.amodal), ("parsing", parsing)):
        if array is None:
            continue
        key = (sample.person_id, kind, _digest(array))
        if key not in shared:
            relative = f"people/{sample.person_id}/{kind}.png"
            # A person who was moved or scaled for this record has separate images.
            taken = (root / relative).exists()
            shared[key] = _write_png(root, f"{of_record}/{kind}.png" if taken else relative, array)
        files[kind] = shared[key]
    hidden = np.count_nonzero(sample.amodal & ~sample.visible) / np.count_nonzero(sample.amodal)
    listed = EvalFiles(shared[photo_key], files.get("truth"), visible, files["amodal"], files["parsing"])
    return EvalRecord(sample.id, sample.person_id, sample.occluder_kind, round(hidden, 6), listed)


def _check_sample(sample: EvalSample) -> None:
    """Raise ValueError for a sample that violates EvalSample."""
    for what, text in (("id", sample.id), ("person_id", sample.person_id)):
        if not _SAFE_NAME.fullmatch(text):
            raise ValueError(f"{what} must be letters, digits, '.', '_' or '-', so as to name a folder, got {text!r}")
    if sample.occluder_kind not in OCCLUDER_KINDS:
        raise ValueError(
            f"record {sample.id}: occluder_kind must be one of {', '.join(OCCLUDER_KINDS)}, got {sample.occluder_kind}"
        )
    size = sample.photo.shape[:2]
    expected = {
        "photo": ((*size, 3), np.uint8),
        "truth": ((*size, 3), np.uint8),
        "visible": (size, np.bool_),
        "amodal": (size, np.bool_),
        "parsing": (size, np.uint8),
    }
    for what, (shape, dtype) in expected.items():
        array = getattr(sample, what)
        if array is None and what in ("truth", "parsing"):
            continue
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(
                f"record {sample.id}: {what} must be {shape} {np.dtype(dtype).name}, got {array.shape} {array.dtype}"
            )
    if not sample.amodal.any():
        raise ValueError(f"record {sample.id}: the amodal mask is empty")
    if (sample.visible & ~sample.amodal).any():
        raise ValueError(f"record {sample.id}: the visible mask reaches outside the amodal mask")
    if sample.occluder_kind == "none" and not np.array_equal(sample.visible, sample.amodal):
        raise ValueError(
            f"record {sample.id}: nothing occludes the person, yet the visible mask is not the amodal mask"
        )


def _write_png(root: Path, relative: str, array: Array) -> str:
    """Write an image to a path relative to `root`, and return that path."""
    write_picture(root / relative, array)
    return relative


def _digest(array: Array) -> str:
    """SHA-256 of an array's shape and values."""
    return hashlib.sha256(repr(array.shape).encode() + np.ascontiguousarray(array).tobytes()).hexdigest()


# --- set.json ------------------------------------------------------------------------------------------------------


def _parse_index(content: object, index: Path) -> tuple[str, int, str, tuple[EvalRecord, ...]]:
    """(name, seed, source, records) of a parsed set.json, whose path is `index`. Raises InputError naming the entry."""
    if not isinstance(content, dict):
        raise InputError(f"{index} must hold a JSON object, got {type(content).__name__}")
    if content.get("format") != FORMAT:
        raise InputError(f"{index}: format must be {FORMAT}, got {content.get('format')!r}")
    records = _field(content, "records", list, str(index))
    if not records:
        raise InputError(f"{index} lists no records")
    parsed = tuple(_parse_record(record, f"{index}: record {number}") for number, record in enumerate(records))
    return (
        _field(content, "name", str, str(index)),
        _field(content, "seed", int, str(index)),
        _field(content, "source", str, str(index)),
        parsed,
    )


def _parse_record(content: object, where: str) -> EvalRecord:
    """A record of a parsed set.json. Raises InputError naming `where` and the invalid entry."""
    if not isinstance(content, dict):
        raise InputError(f"{where} must be a JSON object, got {type(content).__name__}")
    kind = _field(content, "occluder_kind", str, where)
    if kind not in OCCLUDER_KINDS:
        raise InputError(f"{where}: occluder_kind must be one of {', '.join(OCCLUDER_KINDS)}, got {kind!r}")
    listed = _field(content, "files", dict, where)
    files: dict[str, str] = {
        field.name: _field(listed, field.name, str, f"{where}: files")
        for field in fields(EvalFiles)
        if field.name != "truth" or listed.get("truth", "") is not None  # only truth may be null
    }
    for relative in files.values():
        path = PurePosixPath(relative)
        if path.is_absolute() or ".." in path.parts:
            raise InputError(f"{where}: files must lie inside the set's folder, got {relative!r}")
    return EvalRecord(
        id=_field(content, "id", str, where),
        person_id=_field(content, "person_id", str, where),
        occluder_kind=kind,
        hidden_fraction=float(_field(content, "hidden_fraction", (int, float), where)),
        files=EvalFiles(truth=files.pop("truth", None), **files),
    )


def _field(content: Mapping[str, Any], key: str, kind: type[T] | tuple[type[T], ...], where: str) -> T:
    """content[key]. Raises InputError, with the expected type, where it is missing or of another type."""
    value = content.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        names = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
        got = "nothing" if key not in content else type(value).__name__
        raise InputError(f"{where}: {key} must be {names}, got {got}")
    checked: T = value
    return checked
