"""A records file of people drawn one behind the other, as a dataset that knows whole bodies annotates them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from deocclude.data.datasets import records_file
from deocclude.data.datasets.record import Parsing, PersonRecord, PhotoRecord, Rle

SIZE_HW = (96, 120)


def body(left: int) -> np.ndarray:
    """(96, 120) bool: rows 8-88, 24 columns."""
    mask = np.zeros(SIZE_HW, bool)
    mask[8:88, left : left + 24] = True
    return mask


FRONT, BACK = body(40), body(56)
BACK_SEEN = BACK & ~FRONT


def write_annotated(folder: Path, photos: int = 1) -> Path:
    """records.jsonl of photos, p0 and so on, with six people each.

    front, whole; back, a third of it behind front, its head labelled; and four of whom nothing is to be measured: one
    whose whole is not known, a crowd, one to ignore, and one who is wholly hidden.
    """
    rgb = np.full((*SIZE_HW, 3), 200, np.uint8)
    rgb[BACK], rgb[FRONT] = (30, 40, 200), (200, 30, 40)
    head = BACK_SEEN.copy()
    head[20:] = False
    empty, aside = np.zeros(SIZE_HW, bool), Rle.of(body(0))
    people = (
        PersonRecord(id="front", visible=Rle.of(FRONT), amodal=Rle.of(FRONT)),
        PersonRecord(
            id="back", visible=Rle.of(BACK_SEEN), amodal=Rle.of(BACK),
            parsing=Parsing(taxonomy="lip-20", parts={"face": Rle.of(head)}),
        ),
        PersonRecord(id="untold", visible=aside),
        PersonRecord(id="crowd", visible=aside, amodal=aside, iscrowd=True),
        PersonRecord(id="ignored", visible=aside, amodal=aside, ignore=True),
        PersonRecord(id="hidden", visible=Rle.of(empty), amodal=Rle.of(FRONT)),
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for number in range(photos):
        Image.fromarray(rgb).save(folder / f"p{number}.png")
        records.append(
            PhotoRecord(
                image=str(folder / f"p{number}.png"), size_hw=SIZE_HW, source="records", id=f"p{number}", people=people
            )
        )
    records_file.write(records, folder / "drawn.jsonl")
    return folder / "drawn.jsonl"
