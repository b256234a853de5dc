"""People of real photos whose limb joints are all annotated as seen. They have no masks: `data label` makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deocclude.data.datasets.files import require
from deocclude.data.sources.readers import ordered, people_entry, read_photos, read_stored_photo
from deocclude.data.sources.real_photos import WILD_ONE_IN, read_joints
from deocclude.data.sources.splits import held_out
from deocclude.errors import InputError
from deocclude.io.coco import read_json

# Bones as pairs of joint numbers. Leeds Sports Pose: right ankle, knee, hip; left hip, knee, ankle; right wrist, elbow,
# shoulder; left shoulder, elbow, wrist; neck; head top. COCO: five joints of the face; then shoulders, elbows, wrists,
# hips, knees and ankles, the left one first.
_SPORT_BONES = (
    (0, 1), (1, 2), (5, 4), (4, 3), (6, 7), (7, 8), (11, 10), (10, 9), (8, 9), (2, 3), (12, 13), (8, 2), (9, 3),
)  # fmt: skip
_COCO_BONES = (
    (15, 13), (13, 11), (16, 14), (14, 12), (9, 7), (7, 5), (10, 8), (8, 6), (5, 6), (11, 12), (5, 11), (6, 12),
)  # fmt: skip
_COCO_FACE_JOINTS = 5
_SPORT_MARGIN = (0.08, 2.0)  # of the body's box around the joints' box: by the longer side, plus pixels
_MIN_HEIGHT_PX = 100.0  # least height of a COCO person's box, in the original photo


@dataclass(frozen=True)
class SkeletonPerson:
    """A person with joints.

    Attributes:
        name: the set and the person, as a file name.
        rgb: (H, W, 3) uint8, the photo.
        box_xyxy: around the visible part, in pixels, inside the photo.
        joints_xy: (J, 2) float64 annotated joints, in pixels, inside the photo: limb joints, all seen, and the face's.
        bones_xy: (B, 2, 2) float64, both ends (x, y) of each bone, in pixels.
    """

    name: str
    rgb: np.ndarray
    box_xyxy: tuple[int, int, int, int]
    joints_xy: np.ndarray
    bones_xy: np.ndarray

    @property
    def bones_px(self) -> float:
        """Length of all bones together, the unit of distances on this body: about 2.3 times its upright height."""
        return float(np.linalg.norm(self.bones_xy[:, 0] - self.bones_xy[:, 1], axis=1).sum())


def read_sport_people(root: Path) -> Iterator[SkeletonPerson]:
    """Athletes: `joints.json` has {"joints": {ID: [[x, y]] * 14}}, in pixels of photos/ID.webp.

    People with a joint outside the photo are left out.

    Raises:
        InputError: a file is missing or cannot be used.
    """
    path = require(root / "joints.json", "joints of the sport poses")
    document = read_json(path)
    try:
        joints = {str(i): np.array(points, float)[:, :2] for i, points in document["joints"].items()}
        if any(xy.shape != (14, 2) for xy in joints.values()):
            raise ValueError("14 joints a person")
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise InputError(f'{path}: expected "joints", 14 points a photo ({error!r})') from error

    def read_person(photo_id: str) -> SkeletonPerson | None:
        xy = joints[photo_id]
        share, px = _SPORT_MARGIN
        margin = share * (xy.max(0) - xy.min(0)).max() + px
        box = np.concatenate([xy.min(0) - margin, xy.max(0) + margin])
        bones = np.array([[xy[a], xy[b]] for a, b in _SPORT_BONES])
        return _person_inside(f"sport-{photo_id}", read_stored_photo(root, photo_id), box, xy, bones)

    return (person for person in ordered(read_person, sorted(joints)) if person is not None)


def read_coco_skeletons(root: Path) -> Iterator[SkeletonPerson]:
    """People of COCO photos with all twelve joints of arms, legs and trunk seen, at least 100 pixels high.

    Folder as for `read_coco_people`. Left out are photos that are held out, whether by a share of one in six or of one
    in three (the wild photos'), and photos listed as "whole", which the source `coco` reads with their masks.

    Raises:
        InputError: a file is missing or cannot be used.
    """
    people, sizes = people_entry(root, "people", dict), people_entry(root, "size", dict)
    whole_ids = set(people_entry(root, "whole", list))

    def people_of_photo(photo_id: str) -> list[SkeletonPerson]:
        found = []
        for number, entry in enumerate(people[photo_id]):
            joints = read_joints(entry.get("keypoints") or ())
            limbs = joints[_COCO_FACE_JOINTS:]
            if not len(limbs) or entry.get("iscrowd") or (limbs[:, 2] != 2).any() or entry["bbox"][3] < _MIN_HEIGHT_PX:
                continue
            rgb = read_stored_photo(root, photo_id)
            scale = np.array(rgb.shape[1::-1]) / sizes[photo_id]
            x, y, w, h = entry["bbox"]
            xy = joints[:, :2] * scale
            # a bone from each joint of the face to the middle of the shoulders
            face = [[joint, (xy[5] + xy[6]) / 2] for joint in xy[:_COCO_FACE_JOINTS][joints[:_COCO_FACE_JOINTS, 2] > 0]]
            bones = np.array([[xy[a], xy[b]] for a, b in _COCO_BONES] + face)
            box = np.array((x, y, x + w, y + h)) * (*scale, *scale)
            found.append(_person_inside(f"coco-{photo_id}-{number}", rgb, box, xy[joints[:, 2] > 0], bones))
        return [person for person in found if person is not None]

    # a photo may be in the wild set too: it is then held out in both
    ids = (i for i in sorted(people) if i not in whole_ids and not held_out(i) and not held_out(i, WILD_ONE_IN))
    return (person for in_photo in read_photos(root, people_of_photo, ids) for person in in_photo)


SKELETON_SETS: dict[str, tuple[str, Callable[[Path], Iterator[SkeletonPerson]]]] = {
    "sport": ("sport_poses", read_sport_people),
    "coco": ("coco_people", read_coco_skeletons),
}
"""Folder below the data folder and reader of each set, by its name."""


def _person_inside(
    name: str, rgb: np.ndarray, box_xyxy: np.ndarray, joints_xy: np.ndarray, bones_xy: np.ndarray
) -> SkeletonPerson | None:
    """The person, its box cut at the image border; None where a joint lies outside the photo."""
    width, height = rgb.shape[1::-1]
    if (joints_xy < 0).any() or (joints_xy >= (width, height)).any():
        return None
    x0, y0, x1, y1 = (int(edge) for edge in box_xyxy.round().clip(0, (width, height, width, height)))
    return SkeletonPerson(name, rgb, (x0, y0, x1, y1), joints_xy, bones_xy)
