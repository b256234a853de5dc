"""Draws tiny datasets by code, each in its true layout, and gives back the masks that they were drawn from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

SIZE_HW = (12, 16)


def box(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    """(12, 16) bool mask of a filled box, its end excluded."""
    mask = np.zeros(SIZE_HW, bool)
    mask[y0:y1, x0:x1] = True
    return mask


# Two people side by side; the second one's left third is behind the first.
FIRST = box(2, 1, 7, 11)
SECOND_WHOLE = box(4, 3, 12, 10)
SECOND = SECOND_WHOLE & ~FIRST


def polygon(x0: int, y0: int, x1: int, y1: int) -> list[int]:
    """The corners of a box as COCO has them."""
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def write_photo(path: Path, size_hw: tuple[int, int] = SIZE_HW) -> Path:
    """A photo of one grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size_hw[::-1], (90, 90, 90)).save(path)
    return path


def write_labels(path: Path, labels: np.ndarray, *, palette: bool = False) -> Path:
    """(H, W) labels as a grey or a palette picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels.astype(np.uint8))
    if palette:
        image.putpalette([(37 * i) % 256 for i in range(768)])
    image.save(path)
    return path


def people_numbers() -> np.ndarray:
    """(12, 16) uint8: 1 and 2 for the two people, 0 for background."""
    return np.where(FIRST, 1, np.where(SECOND, 2, 0)).astype(np.uint8)


def part_labels() -> np.ndarray:
    """(12, 16) uint8: label 13 (face) in the upper three rows, 10 below, within both people."""
    rows = np.arange(12)[:, None] < 4
    return np.where(people_numbers() > 0, np.where(rows, 13, 10), 0).astype(np.uint8)


def write_json(path: Path, content: Any) -> Path:
    """A JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def coco_image(number: int, name: str, **more: Any) -> dict[str, Any]:
    """An entry of a COCO file's images."""
    return {"id": number, "file_name": name, "height": SIZE_HW[0], "width": SIZE_HW[1], **more}


def make_ahp(root: Path) -> Path:
    """Two people, the second without parsing."""
    for name, mask in (("a1", FIRST), ("b2", SECOND_WHOLE)):
        write_photo(root / "train" / "JPEGImages" / f"{name}.jpg")
        write_labels(root / "train" / "Annotations" / f"{name}.png", mask * 255)
    write_labels(root / "train" / "PseudoParsingAnnotations" / "a1.png", FIRST * part_labels())
    return root


def make_lip(root: Path) -> Path:
    """One labelled photo in each split, in folders within folders, and one without labels."""
    for split, name in (("train", "77_1"), ("val", "78_2")):
        write_photo(root / "TrainVal_images" / "TrainVal_images" / f"{split}_images" / f"{name}.jpg")
        labels = FIRST * part_labels()
        write_labels(root / "TrainVal_parsing_annotations" / f"{split}_segmentations" / f"{name}.png", labels)
    write_photo(root / "TrainVal_images" / "TrainVal_images" / "train_images" / "79_3.jpg")
    return root


def make_cihp(root: Path) -> Path:
    """Two people in a photo."""
    folder = root / "instance-level_human_parsing" / "Training"
    write_photo(folder / "Images" / "0000001.jpg")
    write_labels(folder / "Category_ids" / "0000001.png", part_labels())
    write_labels(folder / "Human_ids" / "0000001.png", people_numbers())
    return root


def make_voc(root: Path) -> Path:
    """Two people, a horse (13), and edges that belong to no person."""
    folder = root / "VOCdevkit" / "VOC2012"
    objects, classes = people_numbers(), np.where(people_numbers() > 0, 15, 0)
    objects[0, 13:], classes[0, 13:] = 3, 13
    objects[11], classes[11] = 255, 255
    for name in ("2007_000032", "2007_000033"):
        write_photo(folder / "JPEGImages" / f"{name}.jpg")
        write_labels(folder / "SegmentationObject" / f"{name}.png", objects, palette=True)
        write_labels(folder / "SegmentationClass" / f"{name}.png", classes, palette=True)
    write_photo(folder / "JPEGImages" / "2007_000039.jpg")
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_000032\n")
    (lists / "val.txt").write_text("2007_000033\n")
    (folder / "Annotations").mkdir()
    (folder / "Annotations" / "2007_000032.xml").write_text("<annotation/>")
    return root


def make_sbd(root: Path) -> Path:
    """Two people and a chair (9)."""
    folder = root / "benchmark_RELEASE" / "dataset"
    write_photo(folder / "img" / "2008_000003.jpg")
    objects = people_numbers()
    objects[0, 13:] = 3
    (folder / "inst").mkdir()
    truth = {"Segmentation": objects, "Categories": np.array([[15], [15], [9]], np.uint8), "Boundaries": []}
    savemat(folder / "inst" / "2008_000003.mat", {"GTinst": truth})
    (folder / "val.txt").write_text("2008_000003\n")
    return root


def make_coco(root: Path) -> Path:
    """COCO's own folders: a photo with a person of two pieces, a crowd and a dog, and a photo without people."""
    for name in ("000000000009.jpg", "000000000025.jpg"):
        write_photo(root / "val2017" / name)
    crowd = box(13, 0, 16, 12)
    counts = [int(np.argmax(crowd.T.ravel())), 36]
    content = {
        "info": {"description": "COCO 2017 Dataset", "year": 2017},
        "licenses": [{"id": 4, "name": "Attribution License", "url": "http://creativecommons.org/licenses/by/2.0/"}],
        "images": [
            coco_image(9, "000000000009.jpg", license=4),
            coco_image(25, "000000000025.jpg", license=4),
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
        "annotations": [
            _annotation(501, 9, 1, [polygon(2, 1, 7, 4), polygon(2, 6, 7, 11)]),
            _annotation(502, 9, 18, [polygon(0, 0, 2, 2)]),
            _annotation(503, 9, 1, {"size": [12, 16], "counts": counts}, iscrowd=1),
            _annotation(504, 25, 1, [polygon(0, 0, 0, 0)]),
        ],
    }
    return write_json(root / "annotations" / "instances_val2017.json", content)


def make_cocoa(root: Path) -> Path:
    """Regions: two people, one of them partly occluded, a group, a hat, the sky, in COCO-amodal's manner."""
    from deocclude.imaging.rle import encode_rle

    write_photo(root / "train2014" / "COCO_train2014_000000000081.jpg")
    regions = [
        _region("woman holding umbrella", 1, polygon(2, 1, 7, 11), 0),
        _region(
            "man in black", 2, polygon(4, 3, 12, 10), 0,
            visible_mask=encode_rle(SECOND), invisible_mask=encode_rle(SECOND_WHOLE & FIRST), occlude_rate=0.375,
        ),
        _region("man's hat", 3, polygon(0, 0, 2, 1), 0),
        _region("spectators", 4, polygon(13, 0, 16, 12), 0),
        _region("person", 5, polygon(0, 0, 16, 1), 1),
    ]  # fmt: skip
    content = {
        "info": {},
        "licenses": [],
        "images": [coco_image(81, "COCO_train2014_000000000081.jpg", license=1)],
        "annotations": [
            {
                "id": 1, "image_id": 81, "author": "ann1", "url": "http://x/y.jpg", "size": len(regions),
                "regions": regions, "depth_constraint": "1-2,3-5",
            }
        ],
    }  # fmt: skip
    return write_json(root / "annotations" / "COCO_amodal_train2014.json", content)


def make_kins(root: Path, *, keys: tuple[str, str] = ("a_segm", "i_segm")) -> Path:
    """A pedestrian behind another, and a car; `keys` of the whole and the visible part."""
    from deocclude.imaging.rle import encode_rle

    write_photo(root / "image_2" / "000000.png")
    whole, visible = keys
    annotations = [
        {**_annotation(1, 0, 2, []), whole: [polygon(2, 1, 7, 11)], visible: encode_rle(FIRST)},
        {**_annotation(2, 0, 2, []), whole: [polygon(4, 3, 12, 10)], visible: encode_rle(SECOND)},
        {**_annotation(3, 0, 4, []), whole: [polygon(0, 0, 2, 1)], visible: [polygon(0, 0, 2, 1)]},
    ]
    content = {
        "images": [coco_image(0, "000000.png")],
        "categories": [{"id": 1, "name": "cyclist"}, {"id": 2, "name": "pedestrian"}, {"id": 4, "name": "car"}],
        "annotations": annotations,
    }
    return write_json(root / "update_train_2020.json", content)


def make_masks(root: Path) -> Path:
    """A photo of two people with numbered masks, and one of a single person."""
    for name in ("a", "b_2"):
        write_photo(root / "images" / f"{name}.jpg")
    write_labels(root / "masks" / "a_1.png", FIRST * 255)
    write_labels(root / "masks" / "a_2.png", SECOND * 255)
    write_labels(root / "masks" / "b_2.png", FIRST * 255)
    return root


def make_cutouts(root: Path) -> Path:
    """A person without a background."""
    root.mkdir(parents=True, exist_ok=True)
    rgba = np.dstack([np.full((*SIZE_HW, 3), 120, np.uint8), FIRST.astype(np.uint8) * 255])
    Image.fromarray(rgba).save(root / "p1.png")
    return root


def _annotation(number: int, image_id: int, category: int, segmentation: Any, **more: Any) -> dict[str, Any]:
    return {
        "id": number, "image_id": image_id, "category_id": category, "segmentation": segmentation,
        "bbox": [0, 0, 1, 1], "area": 1.0, "iscrowd": 0, **more,
    }  # fmt: skip


def _region(name: str, order: int, corners: list[int], stuff: int, **more: Any) -> dict[str, Any]:
    return {
        "name": name, "order": order, "segmentation": corners, "isStuff": stuff, "area": 1.0, "occlude_rate": 0.0,
        **more,
    }  # fmt: skip
