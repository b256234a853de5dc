"""Real photos with annotated visible masks. The occluded parts of their people are unknown, but for COCO's joints.

COCO annotates joints with a visibility: 2 for a joint that is seen, 1 for one that is covered and was placed where it
must be. A covered joint outside the visible mask says where an occluded part is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np

from deocclude.data.datasets.files import image_files, require
from deocclude.data.sources.cutting import cut_out
from deocclude.data.sources.layers import Layer
from deocclude.data.sources.readers import people_entry, read_image, read_photos, read_segmentation, read_stored_photo
from deocclude.data.sources.splits import held_out, is_for_tuning
from deocclude.errors import InputError
from deocclude.imaging.boxes import mask_to_box_xyxy

Rng = np.random.Generator
T = TypeVar("T")

BEYOND = 255  # value of a crop's `instances` outside the photo
WILD_ONE_IN = 3
"""One in so many photos of `wild` is held out for validation."""
_MIN_LAYER_PX = 1500  # least visible pixels of a person that is pasted elsewhere
_MARGIN = 0.02  # context around a cut-out person, by the longer side: enough for a soft edge


@dataclass(frozen=True)
class WildPhoto:
    """One labelled photo.

    Attributes:
        name: "wild/" and the file's stem.
        rgb: (H, W, 3) uint8.
        instances: (H, W) uint8 person number of each visible pixel, 0 = background.
        ignore: (H, W) bool, crowds of unlabelled people.
        boxes_xyxy: box of each visible mask in pixels, by person number.
        covered_xy: (K, 2) float64 covered joints in pixels, by person number; people without any are left out.
    """

    name: str
    rgb: np.ndarray
    instances: np.ndarray
    ignore: np.ndarray
    boxes_xyxy: dict[int, tuple[float, float, float, float]]
    covered_xy: dict[int, np.ndarray] = field(default_factory=dict)


def read_wild(root: Path, split: str | None = None) -> Iterator[WildPhoto]:
    """Labelled photos of a folder with images/ID.jpg, masks/ID.png, optional ignore/ID.png, and persons.json.

    Args:
        root: the folder.
        split: "train", "val" (a third, by a hash of the file's stem), or None for all.

    Raises:
        InputError: a file is missing, cannot be read or does not fit the others.
    """
    boxes_by_photo, covered_by_photo = _read_persons_file(require(root / "persons.json", "people of the wild photos"))
    for path in image_files(root / "images", "wild photos"):
        if split is not None and held_out(path.stem, WILD_ONE_IN) != (split == "val"):
            continue
        rgb = read_image(path)
        instances = read_image(require(root / "masks" / f"{path.stem}.png", "instance mask"), cv2.IMREAD_GRAYSCALE)
        ignore_file = root / "ignore" / f"{path.stem}.png"
        ignore = np.zeros(instances.shape, bool)
        if ignore_file.is_file():
            ignore = read_image(ignore_file, cv2.IMREAD_GRAYSCALE) > 0
        for what, found in (("instance mask", instances), ("ignore mask", ignore)):
            if found.shape != rgb.shape[:2]:
                raise InputError(f"{path}: {what} must have the photo's size {rgb.shape[:2]} (HxW), got {found.shape}")
        boxes = boxes_by_photo.get(path.stem, {})
        unlisted = sorted(set(np.unique(instances)) - {0} - set(boxes))
        if unlisted:
            raise InputError(f"{path}: person {unlisted[0]} of the instance mask is not in persons.json")
        yield WildPhoto(f"wild/{path.stem}", rgb, instances, ignore, boxes, covered_by_photo.get(path.stem, {}))


def read_voc_people(root: Path, split: str | None = None) -> Iterator[WildPhoto]:
    """The people of PASCAL-Person-Part photos with a single head: `people.json` has {"one_head": {ID: box}}.

    Carried things are background in these labels. Arguments, split by the ID, and errors as in `read_wild`, but one in
    six photos is held out, as for the whole people of the same folder.
    """
    listed = people_entry(root, "one_head", dict)

    def read_photo(photo_id: str) -> WildPhoto:
        rgb = read_stored_photo(root, photo_id)
        visible = read_image(root / "parts" / f"{photo_id}.png", cv2.IMREAD_GRAYSCALE) > 0
        return _photo_of_one(f"voc/{photo_id}", rgb, visible, np.zeros((0, 2)))

    return _of_split(root, read_photo, listed, split)


def read_coco_people(root: Path, split: str | None = None) -> Iterator[WildPhoto]:
    """COCO photos of a single person, with the mask of its polygons and its covered joints.

    `people.json` has {"people": {ID: [{segmentation, keypoints}]}, "size": {ID: [w, h]}}; coordinates refer to `size`.
    Arguments and errors as in `read_voc_people`. People without a polygon are left out.
    """
    people, sizes = people_entry(root, "people", dict), people_entry(root, "size", dict)
    single_ids = [i for i, entries in people.items() if len(entries) == 1 and entries[0].get("segmentation")]

    def read_photo(photo_id: str) -> WildPhoto:
        rgb = read_stored_photo(root, photo_id)
        (person,), (width, height) = people[photo_id], sizes[photo_id]
        visible = read_segmentation(person, [width, height], rgb, root, photo_id)
        covered = covered_joints(person.get("keypoints") or ())
        return _photo_of_one(f"coco/{photo_id}", rgb, visible, covered * (rgb.shape[1] / width, rgb.shape[0] / height))

    return _of_split(root, read_photo, single_ids, split)


@dataclass(frozen=True)
class BoxedPhoto:
    """A real photo whose people are known as boxes; the image is read when it is needed.

    Attributes:
        root: folder of the photo set.
        photo_id: the photo's name there.
        boxes_xyxy: (N, 4) float64 boxes of the visible people, as fractions of the photo's width and height.
        crowds_xyxy: (K, 4), the same of areas of people without boxes of their own.
    """

    root: Path
    photo_id: str
    boxes_xyxy: np.ndarray
    crowds_xyxy: np.ndarray

    def rgb(self) -> np.ndarray:
        """(H, W, 3) uint8. Raises InputError where the photo cannot be read."""
        return read_stored_photo(self.root, self.photo_id)


_CROWD_MIN_WIDTH = 0.15  # of the photo's width: least width of a box that is taken for an unmarked crowd


def read_boxed_photos(root: Path, split: str | None = None) -> list[BoxedPhoto]:
    """Photos of COCO people, one or several, with their boxes. Folder, split and errors as in `read_coco_people`.

    `people.json` has {"people": {ID: [{bbox, keypoints, iscrowd}]}, "size": {ID: [w, h]}}. A third split, "tune", has
    one in twelve photos of several people: the detector's thresholds are chosen there. An entry marked as a crowd is
    one; so is a large box without joints that is wider than high, since some crowds are one unmarked box.
    """
    people, sizes = people_entry(root, "people", dict), people_entry(root, "size", dict)

    def split_of(photo_id: str) -> str:
        if held_out(photo_id):
            return "val"
        return "tune" if len(people[photo_id]) > 1 and is_for_tuning(photo_id) else "train"

    photos = []
    for photo_id in sorted(people):
        if split is not None and split != split_of(photo_id):
            continue
        try:
            photos.append(_boxed_photo(root, photo_id, people[photo_id], sizes[photo_id]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{root / 'people.json'}: {photo_id}: expected size and bbox ({error!r})") from error
    return photos


def _boxed_photo(root: Path, photo_id: str, entries: Iterable[Mapping[str, Any]], size_wh: Iterable[int]) -> BoxedPhoto:
    """The boxes of a photo's entries as fractions of `size_wh`, the (W, H) to which `bbox` refers."""
    width, height = size_wh
    boxes: list[np.ndarray] = []
    crowds: list[np.ndarray] = []
    for entry in entries:
        x, y, w, h = np.array(entry["bbox"], float) / (width, height, width, height)
        has_joints = read_joints(entry.get("keypoints") or ())[:, 2].any()
        is_crowd = entry.get("iscrowd") or (not has_joints and w * width > h * height and w > _CROWD_MIN_WIDTH)
        (crowds if is_crowd else boxes).append(np.array((x, y, x + w, y + h)).clip(0, 1))
    return BoxedPhoto(root, photo_id, *(np.array(found).reshape(-1, 4) for found in (boxes, crowds)))


REAL_SETS: dict[str, tuple[str, Callable[[Path, str | None], Iterator[WildPhoto]]]] = {
    "wild": ("wild", read_wild),
    "voc": ("voc_parts", read_voc_people),
    "coco": ("coco_people", read_coco_people),
}
"""Folder below the root and reader of each set of real photos, by its name in `data.real` of a config."""


def read_real_sets(root: Path, names: Iterable[str], split: str) -> list[list[WildPhoto]]:
    """The photos of each named set of REAL_SETS below `root`. Split and errors as in `read_wild`."""
    return [list(read(root / folder, split)) for folder, read in (REAL_SETS[name] for name in names)]


@dataclass(frozen=True)
class JointedPerson:
    """A person of a real photo with annotated joints.

    Attributes:
        rgb: (H, W, 3) uint8, the photo.
        box_xyxy: around the visible part, in pixels.
        visible: (H, W) bool; None where no outline is annotated.
        covered_xy: (K, 2) float64 covered joints, in pixels.
        seen_xy: (K, 2) float64 seen joints, in pixels.
    """

    rgb: np.ndarray
    box_xyxy: tuple[float, float, float, float]
    visible: np.ndarray | None
    covered_xy: np.ndarray
    seen_xy: np.ndarray


def read_jointed_people(
    root: Path, split: str | None = None, *, min_joints: int = 9, min_height_px: float = 80.0
) -> Iterator[JointedPerson]:
    """People of COCO photos with at least `min_joints` annotated joints, whose box is at least `min_height_px` high.

    Pixels are those of the stored photo. Folder, split and errors as in `read_coco_people`; in photos of several
    people, `visible` is None.
    """
    people, sizes = people_entry(root, "people", dict), people_entry(root, "size", dict)

    def people_of_photo(photo_id: str) -> list[JointedPerson]:
        entries, (width, height) = people[photo_id], sizes[photo_id]
        joints = [read_joints(entry.get("keypoints") or ()) for entry in entries]
        if not any(np.count_nonzero(person_joints[:, 2]) >= min_joints for person_joints in joints):
            return []
        rgb = read_stored_photo(root, photo_id)
        scale = np.array((rgb.shape[1] / width, rgb.shape[0] / height))
        found = []
        for entry, person_joints in zip(entries, joints, strict=True):
            x, y, w, h = np.array(entry["bbox"], float) * (*scale, *scale)
            if np.count_nonzero(person_joints[:, 2]) < min_joints or h < min_height_px:
                continue
            outlined = len(entries) == 1 and entry.get("segmentation")
            visible = read_segmentation(entry, [width, height], rgb, root, photo_id) if outlined else None
            covered, seen = (_with_visibility(person_joints, value) * scale for value in (1, 2))
            found.append(JointedPerson(rgb, (x, y, x + w, y + h), visible, covered, seen))
        return found

    return (person for in_photo in _of_split(root, people_of_photo, people, split) for person in in_photo)


def covered_joints(keypoints: Iterable[float]) -> np.ndarray:
    """(K, 2) float64: the covered joints (visibility 1) of COCO's keypoints, a flat list of x, y, visibility."""
    return _with_visibility(read_joints(keypoints), 1)


def read_joints(keypoints: Iterable[float]) -> np.ndarray:
    """(J, 3) float64: x, y and visibility of COCO's keypoints."""
    return np.array(list(keypoints), float).reshape(-1, 3)


def _with_visibility(joints: np.ndarray, visibility: int) -> np.ndarray:
    """(K, 2) float64: x and y of the joints with that visibility."""
    return joints[joints[:, 2] == visibility, :2]


def _photo_of_one(name: str, rgb: np.ndarray, visible: np.ndarray, covered_xy: np.ndarray) -> WildPhoto:
    """The photo of a single person. Raises InputError where mask and photo differ in size."""
    if visible.shape != rgb.shape[:2]:
        raise InputError(f"{name}: the mask must have the photo's size {rgb.shape[:2]} (HxW), got {visible.shape}")
    boxes = {}
    if visible.any():
        x0, y0, x1, y1 = map(float, mask_to_box_xyxy(visible))
        boxes = {1: (x0, y0, x1, y1)}
    no_crowd = np.zeros(visible.shape, bool)
    return WildPhoto(name, rgb, visible.astype(np.uint8), no_crowd, boxes, {1: covered_xy} if len(covered_xy) else {})


def _of_split(root: Path, read: Callable[[str], T], ids: Iterable[str], split: str | None) -> Iterator[T]:
    """What `read` gives for each id of the split, or of both splits where it is None; ids are sorted."""
    return read_photos(root, read, [i for i in sorted(ids) if split is None or held_out(i) == (split == "val")])


def visible_people(photos: Iterable[WildPhoto]) -> list[Layer]:
    """The visible parts of all people with at least 1500 visible pixels, as layers to paste."""
    layers = []
    for photo in photos:
        for number in photo.boxes_xyxy:
            visible = photo.instances == number
            if np.count_nonzero(visible) < _MIN_LAYER_PX:
                continue
            cut = cut_out(photo.rgb, visible, max_px=None, surroundings=_MARGIN)
            layers.append(cut.to_layer(f"{photo.name}/{number}"))
    return layers


def _read_persons_file(
    path: Path,
) -> tuple[dict[str, dict[int, tuple[float, float, float, float]]], dict[str, dict[int, np.ndarray]]]:
    """Boxes (x0, y0, x1, y1) and covered joints of persons.json, in pixels, by photo and person number.

    The file is a list of {"id", "inst", "bbox", "kpts"}: the photo's file stem, the person's number from 1 to 254, its
    box as x0, y0, x1, y1 (not COCO's x, y, w, h), and maybe COCO's keypoints.
    """
    try:
        boxes: dict[str, dict[int, tuple[float, float, float, float]]] = {}
        covered: dict[str, dict[int, np.ndarray]] = {}
        for row in json.loads(path.read_text()):
            x0, y0, x1, y1 = map(float, row["bbox"])
            if not 1 <= int(row["inst"]) < BEYOND:
                raise ValueError(f"inst must be from 1 to {BEYOND - 1}, got {row['inst']}")
            boxes.setdefault(str(row["id"]), {})[int(row["inst"])] = (x0, y0, x1, y1)
            joints = covered_joints(row.get("kpts") or ())
            if len(joints):
                covered.setdefault(str(row["id"]), {})[int(row["inst"])] = joints
        return boxes, covered
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: expected a list of people with id, inst and bbox ({error!r})") from error
