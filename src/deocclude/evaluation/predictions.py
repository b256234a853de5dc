"""Predictions as files, of any system, for each person of an evaluation set: read and written in one layout.

    DIR/ID.amodal.png      amodal mask: 255 for the person, 0 elsewhere; soft masks are thresholded at 128
    DIR/ID.visible.png     visible mask; for every record or for none
    DIR/ID.content.png     RGB, the photo with the occluded part recovered; for every occluded record or for none

ID is the record id in set.json. Every file has the height and width of its photo.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deocclude.data.evalsets.persons import EvalRecord, EvalSample
from deocclude.errors import InputError, UsageError
from deocclude.io.images import load_image, load_mask, save_image

if TYPE_CHECKING:
    from deocclude.evaluation.predictors import PredictedPerson

KINDS = ("amodal", "visible", "content")


@dataclass(frozen=True)
class StoredPerson:
    """One person from files.

    Attributes:
        amodal_mask: (H, W) bool.
        visible_mask: (H, W) bool; None without such files.
        content: (H, W, 3) uint8 RGB; None without such files.
        hidden_probability: NaN, files do not hold one.
    """

    amodal_mask: NDArray[np.bool_]
    visible_mask: NDArray[np.bool_] | None
    content: NDArray[np.uint8] | None
    hidden_probability: float = math.nan


class StoredPredictions:
    """A folder of predictions; files are read on access.

    Attributes:
        folder: of the files.
        missing: number of missing files by kind, for kinds with at least one file. A missing mask counts as empty,
            missing content as the photo.
    """

    def __init__(self, folder: Path, missing: Mapping[str, int]) -> None:
        self.folder = folder
        self.missing = missing

    @classmethod
    def open(
        cls, folder: str | Path, records: Sequence[EvalRecord], *, allow_missing: bool = False
    ) -> StoredPredictions:
        """Check that the files of these records exist; content is needed for occluded people only.

        Raises:
            InputError: no folder, no amodal mask of any record, or files of a kind for some records only; with
                `allow_missing` missing masks count as empty and missing content as the photo.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(f"no predictions: looked for a folder {folder}")
        missing: dict[str, int] = {}
        for kind in KINDS:
            needed = [record for record in records if kind != "content" or record.hidden_fraction > 0]
            lacking = [record for record in needed if not _path(folder, record.id, kind).is_file()]
            if len(lacking) == len(needed):
                if kind == "amodal":
                    first = _path(folder, needed[0].id, kind)
                    raise InputError(f"no predictions of this set: looked for {first} and {len(needed) - 1} others")
                continue
            if lacking and not allow_missing:
                raise InputError(
                    f"{folder} lacks {len(lacking)} of {len(needed)} {kind} pictures, the first "
                    f"{_path(folder, lacking[0].id, kind).name}; --allow-missing counts them as empty"
                )
            missing[kind] = len(lacking)
        return cls(folder, missing)

    def person(self, sample: EvalSample) -> StoredPerson:
        """Read the person of a record.

        Raises:
            InputError: a file cannot be read or has another size than its photo.
        """
        return StoredPerson(
            amodal_mask=self._mask(sample, "amodal"),
            visible_mask=self._mask(sample, "visible") if "visible" in self.missing else None,
            content=self._content(sample) if "content" in self.missing else None,
        )

    def _mask(self, sample: EvalSample, kind: str) -> NDArray[np.bool_]:
        """(H, W) bool; empty without a file."""
        path = _path(self.folder, sample.id, kind)
        if not path.is_file():
            return np.zeros_like(sample.amodal)
        # a soft mask is not rescaled to its maximum: one below 128 everywhere is empty
        return of_photo_size(load_mask(path, of_full_scale=True), sample, path)

    def _content(self, sample: EvalSample) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB; the photo without a file."""
        path = _path(self.folder, sample.id, "content")
        return of_photo_size(load_image(path), sample, path) if path.is_file() else sample.photo


class PredictionWriter:
    """Writes predictions in the layout that `StoredPredictions` reads.

    Args:
        folder: new or empty.
        with_content: also write content.

    Raises:
        UsageError: the folder is not empty; old files would be scored together with new ones.
    """

    def __init__(self, folder: str | Path, *, with_content: bool = True) -> None:
        self.folder = Path(folder)
        self.with_content = with_content
        if self.folder.is_dir() and any(self.folder.iterdir()):
            raise UsageError(f"predictions go to a new or an empty folder, got {folder}")

    def __call__(self, sample: EvalSample, person: PredictedPerson) -> None:
        """Write one person. Raises DeoccludeError when a file cannot be written."""
        save_image(person.amodal_mask, _path(self.folder, sample.id, "amodal"))
        save_image(person.visible_mask, _path(self.folder, sample.id, "visible"))
        if self.with_content:
            save_image(person.content, _path(self.folder, sample.id, "content"))


def _path(folder: Path, record_id: str, kind: str) -> Path:
    """The file of a record. kind: one of KINDS."""
    return folder / f"{record_id}.{kind}.png"


def of_photo_size(picture: NDArray, sample: EvalSample, path: Path) -> NDArray:
    """Return the picture. Raises InputError with the file name unless it has the height and width of its photo."""
    expected, got = sample.photo.shape[:2], picture.shape[:2]
    if got != expected:
        raise InputError(f"{path} must have its photo's size {expected[0]}x{expected[1]} (HxW), got {got[0]}x{got[1]}")
    return picture
