"""SBD: segmented objects of 11 355 photos of PASCAL VOC 2011, the people and the other things.

Hariharan et al., "Semantic Contours from Inverse Detectors", ICCV 2011: img/ID.jpg, inst/ID.mat (GTinst: Segmentation
with object numbers, Categories with the class of each), train.txt, val.txt; all in benchmark_RELEASE/dataset.
"""

from __future__ import annotations

from pathlib import Path

from deocclude.data.datasets._pascal import Instances, PascalFormat
from deocclude.data.datasets.files import read_matlab
from deocclude.errors import InputError


def _read_instances(label: Path, size_hw: tuple[int, int]) -> Instances:
    """Objects of inst/ID.mat, numbered from 1. MATLAB's struct is a (1, 1) array of fields."""
    try:
        truth = read_matlab(label, "GTinst")[0, 0]
        numbers, classes = truth["Segmentation"], [int(number) for number in truth["Categories"].ravel()]
    except (IndexError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{label}: GTinst must have Segmentation and Categories ({type(error).__name__})") from error
    if numbers.shape != size_hw:
        raise InputError(f"{label}: must have the photo's size {size_hw} (HxW), got {numbers.shape}")
    return numbers, dict(enumerate(classes, start=1))


_FORMAT = PascalFormat(
    source="sbd",
    title="SBD",
    folders=("img", "inst"),
    photos="img",
    labels="inst",
    suffix=".mat",
    lists="",
    read_instances=_read_instances,
)
matches, read, splits = _FORMAT.matches, _FORMAT.read, _FORMAT.splits
