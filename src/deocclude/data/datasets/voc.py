"""PASCAL VOC 2012: the people among its segmented objects, and the other objects as things.

Everingham et al., "The PASCAL Visual Object Classes Challenge 2012", development kit, section 3.2: JPEGImages/ID.jpg,
SegmentationClass/ID.png and SegmentationObject/ID.png (palette images of class and object numbers; 255 is a boundary
that belongs to no object), ImageSets/Segmentation/{train,val}.txt.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deocclude.data.datasets._pascal import PERSON, Instances, PascalFormat
from deocclude.data.datasets.files import read_labels

_BOUNDARY = 255  # label of pixels between objects, of unknown class


def _read_instances(label: Path, size_hw: tuple[int, int]) -> Instances:
    """Objects of SegmentationObject/ID.png; an object with any pixel of class person is a person."""
    numbers = read_labels(label, size_hw)
    classes = read_labels(label.parent.parent / "SegmentationClass" / label.name, size_hw)
    in_object = (numbers > 0) & (numbers != _BOUNDARY)
    people = set(np.unique(numbers[(classes == PERSON) & in_object]).tolist())
    objects = np.unique(numbers[in_object]).tolist()
    return numbers, {n: PERSON if n in people else int(classes[numbers == n][0]) for n in objects}


_FORMAT = PascalFormat(
    source="voc",
    title="PASCAL VOC with segmentations",
    folders=("JPEGImages", "SegmentationClass", "SegmentationObject"),
    photos="JPEGImages",
    labels="SegmentationObject",
    suffix=".png",
    lists="ImageSets/Segmentation",
    read_instances=_read_instances,
)
matches, read, splits = _FORMAT.matches, _FORMAT.read, _FORMAT.splits
