"""Pseudo-labels: people with annotated joints, masked by the box segmenter, kept where mask and joints agree.

A person all of whose joints are seen is a candidate for a whole person, which stage 1's training needs. The box
segmenter draws the mask; the joints, which it has never seen, say whether the mask is right.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from deocclude.data.datasets.files import require
from deocclude.data.sources.cutting import cut_out
from deocclude.data.sources.skeletons import SKELETON_SETS, SkeletonPerson
from deocclude.data.storage import Folder
from deocclude.data.trainsets.tiles import contact_sheet, person_tile
from deocclude.errors import InputError, UsageError
from deocclude.imaging.boxes import box_to_mask, mask_to_box_xyxy
from deocclude.imaging.crop import OUTSIDE_GREY, SquareCrop
from deocclude.imaging.guided_filter import follow_edges
from deocclude.imaging.masks import connected_components
from deocclude.inference.crop_prediction import CropPredictions, in_crop, repeat_past_edge
from deocclude.inference.runtime import Network, find_model, open_networks
from deocclude.inference.settings import CropSettings

_UPSAMPLING = 2  # of the network's grid, along image edges
_BONE_POINTS = 20  # sampled on each bone
_ON_MASK = 0.01  # of the bones' length: a point of a bone this near to the mask counts as on it
_SHOWN = 48  # people of each group on the contact sheet
_TILE_PX = 128
_UNFINISHED = "labels.unfinished"  # an empty file, there while a set is written
_SEED = 1  # of the choice of people on the contact sheet


@dataclass(frozen=True)
class AgreementLimits:
    """When mask and joints agree. Distances are fractions of the bones' length (`SkeletonPerson.bones_px`).

    Chosen by eye, on contact sheets of kept and refused people.
    """

    max_joint: float = 0.03  # largest distance from the mask to the joint that is farthest outside
    max_second_joint: float = 0.012  # the same of the second farthest: one in ten of the athletes' joints is wrong
    min_bone: float = 0.7  # least fraction of each bone's length on the mask
    max_stray: float = 0.03  # largest fraction of the mask's pixels farther than `stray` from every bone
    stray: float = 0.055  # least distance of a stray pixel from every bone
    max_reach: float = 0.14  # largest distance from the bones to the farthest pixel of the mask
    border_px: int = 2  # least distance from the image border
    min_piece: float = 0.97  # least fraction of the mask in its largest component
    min_side_px: int = 96  # least longer side of the mask's box
    max_uncertain: float = 0.5  # number of pixels with a probability from 0.25 to 0.75, by that of the mask's pixels


@dataclass(frozen=True)
class SegmentedPerson:
    """A person with joints and the predicted mask.

    Attributes:
        person: the annotated person.
        mask: (H, W) bool, the visible mask.
        uncertain: number of pixels with a probability from 0.25 to 0.75, by that of the mask's pixels.
    """

    person: SkeletonPerson
    mask: np.ndarray
    uncertain: float


def segment(network: Network, person: SkeletonPerson) -> SegmentedPerson:
    """The mask of a person, which the box segmenter predicts on a tight crop and its mirror image.

    The probabilities are upsampled along image edges before they are thresholded at 0.5.
    """
    photo = person.rgb
    crop = SquareCrop.from_box_xyxy(person.box_xyxy, CropSettings().tight_scale, network.fine_size)
    box = box_to_mask(person.box_xyxy, photo.shape[:2])
    found = CropPredictions(photo)(network, crop, in_crop(box, crop), mirror=True)
    fine = replace(crop, size_px=_UPSAMPLING * crop.size_px)
    inside = crop.inside_photo(photo.shape[:2])
    (probability,) = follow_edges(
        repeat_past_edge(found.image, inside), repeat_past_edge(found.visible, inside)[None],
        repeat_past_edge(fine.extract(photo, fill=OUTSIDE_GREY), fine.inside_photo(photo.shape[:2])),
    )  # fmt: skip
    region, on_photo = crop.to_photo(probability, photo.shape[:2])
    mask = np.zeros(photo.shape[:2], bool)
    mask[region.slices] = on_photo >= 0.5
    uncertain_px = np.count_nonzero((on_photo > 0.25) & (on_photo < 0.75))
    return SegmentedPerson(person, mask, float(uncertain_px / (np.count_nonzero(mask) or 1)))


def disagreements(segmented: SegmentedPerson, limits: AgreementLimits = AgreementLimits()) -> tuple[str, ...]:
    """The rules that a mask breaks, by name; none for a mask that agrees with the joints.

    Args:
        segmented: the person with the predicted mask.
        limits: thresholds.

    Returns:
        Of "empty", "joints", "bones", "stray", "border", "pieces", "size", "uncertain".
    """
    mask, unit = segmented.mask, segmented.person.bones_px
    if not mask.any() or unit == 0:
        return ("empty",)
    outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5) / unit
    joints = np.sort([_value_at(outside, xy) for xy in segmented.person.joints_xy])[::-1]
    steps = np.linspace(0, 1, _BONE_POINTS)
    on_mask = [
        np.mean([_value_at(outside, a + t * (b - a)) <= _ON_MASK for t in steps]) for a, b in segmented.person.bones_xy
    ]
    from_bones = _distance_from_bones(segmented.person, mask.shape) / unit
    x0, y0, x1, y1 = mask_to_box_xyxy(mask)
    height, width = mask.shape
    component_px = connected_components(mask).areas_px
    is_broken = {
        "joints": joints[0] > limits.max_joint or joints[1] > limits.max_second_joint,
        "bones": min(on_mask) < limits.min_bone,
        "stray": np.mean(from_bones[mask] > limits.stray) > limits.max_stray
        or from_bones[mask].max() > limits.max_reach,
        "border": min(x0, y0, width - x1, height - y1) < limits.border_px,
        "pieces": component_px.max() < limits.min_piece * component_px.sum(),
        "size": max(x1 - x0, y1 - y0) < limits.min_side_px,
        "uncertain": segmented.uncertain > limits.max_uncertain,
    }
    return tuple(name for name, broken in is_broken.items() if broken)


def label_people(
    folder: Path, root: Path, *, sets: Iterable[str] = tuple(SKELETON_SETS), model: str = "base",
    overwrite: bool = False, on_person: Callable[[int], None] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write images/NAME.webp and masks/NAME.png of each person whose mask and joints agree, a crop with context each.

    `report.json` has the counts and thresholds, `sheet.jpg` shows kept and refused people. Read by the source
    `labelled` of a training config.

    Args:
        folder: where the set is written.
        root: the data folder (docs/data.md).
        sets: names of SKELETON_SETS; a repeated one counts once.
        model: the model whose box segmenter draws the masks.
        overwrite: whether a set is replaced, an unfinished one too.
        on_person: called with the number of people done.

    Returns:
        The report.

    Raises:
        InputError: a set is missing or cannot be used.
        UsageError: another folder exists at `folder`, or a set without `overwrite`; a model without box segmenter; an
            unknown set.
        DeoccludeError: the set cannot be written.
    """
    names = tuple(dict.fromkeys(sets))
    unknown = sorted(set(names) - set(SKELETON_SETS))
    if unknown:
        raise UsageError(f"sets with joints are {', '.join(SKELETON_SETS)}, got {unknown[0]!r}")
    out = Folder(str(folder))
    if not out.is_empty() and not (overwrite and (out.has("report.json") or out.has(_UNFINISHED))):
        instead = "" if overwrite else ", or --overwrite a set"
        raise UsageError(f"{folder}: exists; name another folder{instead}")
    networks, _ = open_networks(find_model(model), "cpu", None)
    if "mask_box" not in networks:
        raise UsageError(f"model {model} has no box segmenter, which draws the masks")
    folders = {name: require(root / SKELETON_SETS[name][0], f"people with joints of {name}") for name in names}
    out.write(_UNFINISHED, b"")
    if out.has("report.json"):
        out.remove("report.json")  # before the rest, since it marks a complete set
    for subfolder in ("images", "masks"):
        out.remove_folder(subfolder)
    limits, counts, done = AgreementLimits(), {name: Counter[str]() for name in names}, 0
    tiles: dict[str, list[np.ndarray]] = {"kept": [], "refused": []}
    drawn = Counter[str]()
    rng = np.random.default_rng(_SEED)
    for name, set_folder in folders.items():
        for person in SKELETON_SETS[name][1](set_folder):
            segmented = segment(networks["mask_box"], person)
            broken = disagreements(segmented, limits)
            group = "refused" if broken else "kept"
            done += 1
            counts[name].update(["people", group, *broken])
            if not broken:
                _write_person(out, segmented)
            if segmented.mask.any():
                drawn[group] += 1
                _sample_tile(tiles[group], person_tile(person.rgb, segmented.mask, _TILE_PX), drawn[group], rng)
            if on_person is not None:
                on_person(done)
    if not any(count["kept"] for count in counts.values()):
        raise InputError(f"{root}: no person whose mask and joints agree")
    report = {"model": model, "limits": asdict(limits), "sets": {name: dict(count) for name, count in counts.items()}}
    with io.BytesIO() as file:
        contact_sheet(list(tiles.items())).save(file, format="JPEG", quality=90)
        out.write("sheet.jpg", file.getvalue())
    out.write("report.json", json.dumps(report, indent=1).encode())
    out.remove(_UNFINISHED)
    return report


def _write_person(out: Folder, segmented: SegmentedPerson) -> None:
    """Write the person's crop and its mask."""
    cut = cut_out(segmented.person.rgb, segmented.mask, max_px=None)
    for place, array, options in (
        (f"images/{segmented.person.name}.webp", cut.rgb, {"format": "WEBP", "quality": 95}),
        (f"masks/{segmented.person.name}.png", cut.mask.astype(np.uint8) * 255, {"format": "PNG"}),
    ):
        with io.BytesIO() as file:
            Image.fromarray(array).save(file, **options)
            out.write(place, file.getvalue())


def _sample_tile(tiles: list[np.ndarray], tile: np.ndarray, seen: int, rng: np.random.Generator) -> None:
    """Keep a random sample of at most _SHOWN tiles, by Vitter's algorithm R. seen: tiles so far, with this one."""
    if len(tiles) < _SHOWN:
        tiles.append(tile)
    elif (at := int(rng.integers(seen))) < _SHOWN:
        tiles[at] = tile


def _value_at(array: np.ndarray, xy: np.ndarray) -> float:
    """The value of an (H, W) array at the pixel nearest to `xy`."""
    x, y = xy.round().astype(int).clip(0, np.array(array.shape[::-1]) - 1)
    return float(array[y, x])


def _distance_from_bones(person: SkeletonPerson, size_hw: tuple[int, ...]) -> np.ndarray:
    """(H, W) float32: the distance in pixels to the nearest bone."""
    drawn = np.ones(size_hw, np.uint8)
    for a, b in person.bones_xy.round().astype(int).tolist():
        cv2.line(drawn, a, b, 0, 1)
    distance: np.ndarray = cv2.distanceTransform(drawn, cv2.DIST_L2, 5)
    return distance
