"""Predictions as files: what any system predicts for each person of an evaluation set, and our own in the same layout.

    DIR/ID.amodal.png      the whole person: 255, the rest 0; of a soft mask what has 128 and more
    DIR/ID.visible.png     what can be seen of the person; may be left out for everyone
    DIR/ID.content.png     RGB, the photo with the hidden part recovered; may be left out for everyone

ID is the record's in set.json. Every picture has its photo's height and width.
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
    """One person as the files tell it. amodal_mask, visible_mask: (H, W) bool; content: (H, W, 3) uint8 RGB.

    None is what the system does not predict for anyone. hidden_probability: NaN, the files have none.
    """

    amodal_mask: NDArray[np.bool_]
    visible_mask: NDArray[np.bool_] | None
    content: NDArray[np.uint8] | None
    hidden_probability: float = math.nan


class StoredPredictions:
    """A folder of predictions opened for reading; pictures are read when asked for.

    missing: how many files are lacking by kind, counted as empty; only kinds that there are files of.
    """

    def __init__(self, folder: Path, missing: Mapping[str, int]) -> None:
        self.folder = folder
        self.missing = missing

    @classmethod
    def open(
        cls, folder: str | Path, records: Sequence[EvalRecord], *, allow_missing: bool = False
    ) -> StoredPredictions:
        """Check that every file is there that these records need: content only where something is hidden.

        Raises:
            InputError: no folder, no amodal mask of these records at all, or files of a kind for some records and not
                for others; with `allow_missing` those count as empty masks and as photos left as they are.
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
        """What the files say of a record's person.

        Raises:
            InputError: a file is no readable picture or has not its photo's size.
        """
        return StoredPerson(
            amodal_mask=self._mask(sample, "amodal"),
            visible_mask=self._mask(sample, "visible") if "visible" in self.missing else None,
            content=self._content(sample) if "content" in self.missing else None,
        )

    def _mask(self, sample: EvalSample, kind: str) -> NDArray[np.bool_]:
        path = _path(self.folder, sample.id, kind)
        if not path.is_file():
            return np.zeros_like(sample.amodal)
        # a soft mask that is sure of nothing predicts nobody
        return of_photo_size(load_mask(path, of_full_scale=True), sample, path)

    def _content(self, sample: EvalSample) -> NDArray[np.uint8]:
        path = _path(self.folder, sample.id, "content")
        return of_photo_size(load_image(path), sample, path) if path.is_file() else sample.photo


class PredictionWriter:
    """Writes predictions in the layout above, so that `StoredPredictions` scores the same. with_content: colours too.

    Raises:
        UsageError: the folder holds something already, which would be scored along with what is written.
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
    return folder / f"{record_id}.{kind}.png"


def of_photo_size(picture: NDArray, sample: EvalSample, path: Path) -> NDArray:
    """The picture itself. Raises InputError, naming the file, unless it has its photo's height and width."""
    expected, got = sample.photo.shape[:2], picture.shape[:2]
    if got != expected:
        raise InputError(f"{path} must have its photo's size {expected[0]}x{expected[1]} (HxW), got {got[0]}x{got[1]}")
    return picture
