"""The people, occluders and backgrounds of a training run: from a data folder to a synthesis `Library`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from deocclude.data.sources.layers import PERSON_MAX_PX, Layer, Library, PersonPhoto
from deocclude.data.sources.lazy import Joined, JoinedPeople, Selected, trait_of
from deocclude.data.sources.photo_sets import PHOTO_SETS
from deocclude.data.sources.procedural import draw_background_image, slab_occluders
from deocclude.data.sources.readers import (
    MIXED_GROUPS,
    read_backgrounds,
    read_ccp,
    read_cutout_people,
    read_image_mask_folder,
    read_layers,
)  # fmt: skip
from deocclude.data.sources.splits import every_sixth, held_out
from deocclude.errors import InputError

T = TypeVar("T")

_MIN_BACKGROUNDS = 8  # where the people's own photos give fewer, procedural backgrounds make up the number
_SERIES = 20  # people with pseudo-labels and neighbouring numbers, who share a split
_SLAB_COUNT = 48  # drawn occluders that are added to those of the people's own photos


@dataclass(frozen=True)
class SourceWeights:
    """Relative frequency of training subjects from each source; a source of weight 0 is not read.

    Of the data folder are ccp (Clothing Co-Parsing), cutouts (cutouts/people), full and upper (mixed_people), and the
    names of `PHOTO_SETS`. built, folder and labelled lie at the paths that `Places` names.
    """

    ccp: float = 0.42
    cutouts: float = 0.3
    full: float = 0.12
    upper: float = 0.16
    built: float = 0.0
    folder: float = 0.0
    labelled: float = 0.0
    voc: float = 0.0
    coco: float = 0.0
    pelota: float = 0.0
    teachers: float = 0.0
    small: float = 0.0

    @property
    def of_root(self) -> float:
        """The summed weight of the sources in the data folder."""
        of_photo_sets: float = sum(getattr(self, name) for name in PHOTO_SETS)
        return self.ccp + self.cutouts + self.full + self.upper + of_photo_sets


@dataclass(frozen=True)
class Places:
    """Paths of sources outside the data folder.

    Attributes:
        built: a built set, path or URL.
        folder: an image + mask folder.
        occluders: a folder of RGBA images of objects, instead of the default ones.
        backgrounds: a folder of photos without people, instead of the default ones.
        labelled: a folder of people with pseudo-labels, written by `deocclude data label`.
    """

    built: str | None = None
    folder: Path | None = None
    occluders: Path | None = None
    backgrounds: Path | None = None
    labelled: Path | None = None


@dataclass
class _SourceAssets:
    """What the sources give.

    Attributes:
        groups: (weight, people) of each source.
        occluders: of the people's own photos, by source.
        backgrounds: of the people's own photos, by source.
    """

    groups: list[tuple[float, Sequence[PersonPhoto]]]
    occluders: list[Sequence[Layer]]
    backgrounds: list[Sequence[np.ndarray]]


def load_library(
    root: Path, split: str, weights: SourceWeights, places: Places = Places(), *, max_px: int | None = PERSON_MAX_PX
) -> Library:
    """Load the assets of one split.

    Clothing Co-Parsing is split by its splits.json, a built set as it was built, a folder by `every_sixth`, people with
    pseudo-labels by series of neighbouring numbers, photo sets by `PHOTO_SETS`, the other sources by `held_out`.

    Occluders and backgrounds are those of `places`, else the data folder's. Where no source of the data folder is read
    they come from the people's own photos. Occluders are then people who are no subjects, and rectangular occluders.
    Backgrounds are regions beside the people, and procedural ones where these are few.

    Args:
        root: the data folder (docs/data.md); not needed where its sources have weight 0.
        split: "train" or "val".
        weights: relative frequency of each source.
        places: paths outside the data folder.
        max_px: longest side of a person in pixels, or None for no scaling.

    Raises:
        InputError: a source is missing, or the split has no person, occluder or background.
    """

    def is_in_split(name: str) -> bool:
        return held_out(name) == (split == "val")

    if not (weights.of_root or weights.built or weights.folder or weights.labelled):
        raise InputError("data.sources: no source has a share above 0, so there is no person to draw")
    assets = _SourceAssets([], [], [])
    if weights.of_root:
        assets.groups += _groups_of_root(root, split, weights, is_in_split, max_px)
    if weights.built:
        _add_built(assets, split, weights.built, places)
    if weights.folder:
        _add_folder(assets, split, weights.folder, places, max_px)
    if weights.labelled:
        _add_labelled(assets, split, weights.labelled, places, max_px)
    assets.groups = [(weight, group) for weight, group in assets.groups if len(group)]
    if not assets.groups:
        places_read = [
            weights.of_root and root, weights.built and places.built, weights.folder and places.folder,
            weights.labelled and places.labelled,
        ]  # fmt: skip
        raise InputError(f"no person of split {split!r} in {' or '.join(str(p) for p in places_read if p) or root}")
    people = JoinedPeople([group for _, group in assets.groups])
    shares = np.concatenate([np.full(len(group), weight / len(group)) for weight, group in assets.groups])
    library = Library(people, shares / shares.sum(), (), ())
    whole = np.flatnonzero(trait_of(people, "whole"))
    clutter = Selected(people, whole) if len(whole) < len(people) else ()
    backgrounds = _backgrounds(assets, root, weights, places, split, max_px)
    library = replace(library, backgrounds=backgrounds, clutter_people=clutter)
    return replace(library, occluders=_occluders(assets, library, root, weights, places, split, max_px))


def _groups_of_root(
    root: Path, split: str, weights: SourceWeights, is_in_split: Callable[[str], bool], max_px: int | None
) -> list[tuple[float, list[PersonPhoto]]]:
    """(weight, people of the split) of each source in the data folder that has a weight."""
    if not root.is_dir():
        raise InputError(f"data folder not found: looked for {root}")

    def of_split(people: Iterable[PersonPhoto]) -> list[PersonPhoto]:
        return [person for person in people if is_in_split(person.name)]

    groups = []
    if weights.ccp:
        groups.append((weights.ccp, list(read_ccp(root / "ccp", split, max_px=max_px))))
    if weights.cutouts:
        people = read_cutout_people(root / "cutouts" / "people", max_px=max_px)
        groups.append((weights.cutouts, of_split(people)))
    for weight, name in ((weights.full, "full"), (weights.upper, "upper")):
        if weight:
            people = read_image_mask_folder(
                root / "mixed_people" / name, whole=name == "full", max_px=max_px, left_out=MIXED_GROUPS[name]
            )
            groups.append((weight, of_split(people)))
    for name, photos in PHOTO_SETS.items():
        if weight := getattr(weights, name):
            people = photos.read(root / photos.folder, max_px)
            groups.append((weight, [p for p in people if photos.is_held_out(p.name) == (split == "val")]))
    return groups


def _add_built(assets: _SourceAssets, split: str, weight: float, places: Places) -> None:
    """Add people, occluders and backgrounds of the built set."""
    # imported here since `datasets` takes a second to import
    from deocclude.data.sources.shards import ShardedBackgrounds, ShardedOccluders, ShardedPeople, ShardedRows

    if places.built is None:
        raise InputError(
            "data.built: name the set that `deocclude data build-trainset` wrote, as data.sources.built is not 0"
        )
    rows = ShardedRows(places.built)
    assets.groups.append((weight, ShardedPeople(rows, split)))
    assets.occluders.append(ShardedOccluders(rows, split))
    assets.backgrounds.append(ShardedBackgrounds(rows, split))


def _add_folder(assets: _SourceAssets, split: str, weight: float, places: Places, max_px: int | None) -> None:
    """Add people, occluders and backgrounds of the image + mask folder."""
    from deocclude.data.sources.folder import FolderBackgrounds, FolderOccluders, FolderSubjects, read_folder_people

    if places.folder is None:
        raise InputError("data.folder: name a folder of images/ and masks/, as data.sources.folder is not 0")
    people = read_folder_people(places.folder, lambda number: every_sixth(number) == (split == "val"))
    assets.groups.append((weight, FolderSubjects(people.people, max_px)))
    assets.occluders.append(FolderOccluders(people.occluders, max_px))
    assets.backgrounds.append(FolderBackgrounds(people.backgrounds))


def _add_labelled(assets: _SourceAssets, split: str, weight: float, places: Places, max_px: int | None) -> None:
    """Add the people with pseudo-labels."""
    from deocclude.data.sources.folder import FolderSubjects, read_folder_people

    if places.labelled is None or not (places.labelled / "report.json").is_file():
        raise InputError(
            "data.labelled: name the folder that `deocclude data label` wrote, as data.sources.labelled is not 0"
        )
    # neighbouring numbers often show one athlete
    people = read_folder_people(places.labelled, lambda n: every_sixth(n // _SERIES) == (split == "val"), rules=())
    assets.groups.append((weight, FolderSubjects(people.people, max_px)))


def _backgrounds(
    assets: _SourceAssets, root: Path, weights: SourceWeights, places: Places, split: str, max_px: int | None
) -> Sequence[np.ndarray]:
    """Backgrounds of the split: those of a folder, or of the people's own photos and procedural ones."""
    if places.backgrounds is None and not weights.of_root:
        own = Joined(assets.backgrounds)
        rng = np.random.default_rng(split == "val")
        return Joined([own, [draw_background_image(rng) for _ in range(max(0, _MIN_BACKGROUNDS - len(own)))]])
    folder = places.backgrounds or root / "backgrounds"
    files = read_backgrounds(folder, max_px=None if max_px is None else 2 * max_px)
    chosen = [b for i, b in enumerate(files) if held_out(f"background/{i}") == (split == "val")]
    return _required(chosen, "background", split, folder)


def _occluders(
    assets: _SourceAssets, library: Library, root: Path, weights: SourceWeights, places: Places, split: str,
    max_px: int | None,
) -> Sequence[Layer]:  # fmt: skip
    """Occluders of the split: those of a folder, or of the people's own photos and rectangular ones."""
    if places.occluders is None and not weights.of_root:
        rng = np.random.default_rng(2 + (split == "val"))
        return Joined([*assets.occluders, slab_occluders(library, rng, _SLAB_COUNT)])
    folder = places.occluders or root / "cutouts" / "objects"
    chosen = [o for o in read_layers(folder, max_px=max_px) if held_out(o.name) == (split == "val")]
    return _required(chosen, "occluder", split, folder)


def _required(items: list[T], what: str, split: str, folder: Path) -> list[T]:
    """`items`; raises InputError where there are none. what: one item's name in the message."""
    if not items:
        raise InputError(f"no {what} of split {split!r} in {folder}: a few dozen are needed for both splits")
    return items
