"""An evaluation set of whole photos with several people or none, on which detection is measured.

set.json                       format, kind "scenes", name, seed, source, records
records/ID/photo.png           with visible-1.png, visible-2.png, ..., back to front, and ignore.png beside it
records/ID/amodal-1.png, ...   where the amodal masks are known
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deocclude.data.evalsets.folder import SET_FILE, new_set, read_picture, write_index, write_picture
from deocclude.errors import InputError

FORMAT = 1  # of a set's files
KIND = "scenes"  # in set.json: a set of whole photos


@dataclass(frozen=True)
class SceneSample:
    """One photo and all its people, back to front.

    Attributes:
        id: unique id, valid as a folder name.
        photo: (H, W, 3) uint8 RGB.
        visible: (N, H, W) bool.
        amodal: (N, H, W) bool, within the photo; None where unknown.
        ignore: (H, W) bool, where unlabelled people may be.
    """

    id: str
    photo: NDArray[np.uint8]
    visible: NDArray[np.bool_]
    amodal: NDArray[np.bool_] | None
    ignore: NDArray[np.bool_]


@dataclass(frozen=True)
class SceneRecord:
    """Entry of set.json for one photo: its number of people, and whether their amodal masks are known."""

    id: str
    people: int
    has_amodal: bool


class SceneSet:
    """An evaluation set of scenes opened for reading; images are read on demand.

    Attributes:
        folder: the set's folder.
        name: the set's name in reports.
        seed: seed of composed photos.
        source: a line on the origin of the photos.
        records: the photos, in the order of set.json.
    """

    def __init__(self, folder: Path, name: str, seed: int, source: str, records: tuple[SceneRecord, ...]) -> None:
        self.folder, self.name, self.seed, self.source, self.records = folder, name, seed, source, records

    @classmethod
    def open(cls, folder: str | Path) -> SceneSet:
        """Read set.json. Raises InputError where it is missing or does not describe a set of scenes."""
        index = Path(folder) / SET_FILE
        try:
            content = json.loads(index.read_text(encoding="utf-8"))
            if content["format"] != FORMAT or content["kind"] != KIND:
                raise InputError(f"{index}: expected a set of scenes of format {FORMAT}")
            records = tuple(
                SceneRecord(str(r["id"]), int(r["people"]), bool(r["has_amodal"])) for r in content["records"]
            )
            return cls(Path(folder), str(content["name"]), int(content["seed"]), str(content["source"]), records)
        except OSError as error:
            raise InputError(f"{folder} is not an evaluation set of scenes: looked for {index}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{index} does not describe a set of scenes ({error!r})") from error

    def load(self, record: SceneRecord) -> SceneSample:
        """A record's arrays. Raises InputError for an image that is missing, unreadable or not of the photo's size."""
        folder = self.folder / "records" / record.id
        photo = read_picture(folder / "photo.png", "RGB")

        def read_mask(name: str) -> NDArray[np.bool_]:
            return read_picture(folder / name, "L", photo.shape[:2]) > 127

        def read_masks(name: str) -> NDArray[np.bool_]:
            read = [read_mask(f"{name}-{number}.png") for number in range(1, record.people + 1)]
            return np.array(read, bool).reshape(-1, *photo.shape[:2])

        amodal = read_masks("amodal") if record.has_amodal else None
        ignore = read_mask("ignore.png")
        return SceneSample(record.id, photo, read_masks("visible"), amodal, ignore)


def is_scene_set(folder: str | Path) -> bool:
    """Whether a folder's set.json describes a set of scenes; False where it cannot be read."""
    try:
        return bool(json.loads((Path(folder) / SET_FILE).read_text(encoding="utf-8")).get("kind") == KIND)
    except (OSError, ValueError, AttributeError):
        return False


def write_scene_set(
    folder: str | Path, samples: Iterable[SceneSample], *, name: str, seed: int, source: str, overwrite: bool = False
) -> SceneSet:
    """Write an evaluation set of scenes and open it. The folder appears complete or not at all.

    Args:
        folder: where; its parents are created.
        samples: consumed one at a time.
        name: the set's name in reports.
        seed: seed of the samples.
        source: a line on the origin of the photos.
        overwrite: whether an existing evaluation set is replaced.

    Raises:
        UsageError: the folder is not empty, and either is no evaluation set or `overwrite` is False.
        DeoccludeError: it cannot be written.
    """
    folder = Path(folder)
    with new_set(folder, overwrite=overwrite) as partial:
        records = [asdict(_write_sample(partial, sample)) for sample in samples]
        index = {"format": FORMAT, "kind": KIND, "name": name, "seed": seed, "source": source, "records": records}
        write_index(partial, index)
    return SceneSet.open(folder)


def _write_sample(root: Path, sample: SceneSample) -> SceneRecord:
    """Write a sample's images below `root`, the set's folder."""
    folder = root / "records" / sample.id
    folder.mkdir(parents=True)  # fails for a repeated id, which would mix two photos
    write_picture(folder / "photo.png", sample.photo)
    write_picture(folder / "ignore.png", sample.ignore)
    for name, masks in (("visible", sample.visible), ("amodal", sample.amodal)):
        for number, mask in enumerate(masks if masks is not None else (), start=1):
            write_picture(folder / f"{name}-{number}.png", mask)
    return SceneRecord(sample.id, len(sample.visible), sample.amodal is not None)
