"""One HTML page that shows the people of a dataset or a built set; the images are embedded."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from deocclude.data.datasets import image_masks
from deocclude.data.datasets.record import PhotoRecord
from deocclude.data.sources.shard_rows import decode, decode_rgb
from deocclude.data.sources.shard_state import STATE_FILE
from deocclude.data.sources.shards import ShardedRows
from deocclude.data.storage import Folder, is_url, read_bytes
from deocclude.data.trainsets.build import open_records
from deocclude.data.trainsets.tiles import outlined, shrunk
from deocclude.errors import InputError
from deocclude.imaging.compositing import PARSING_PALETTE
from deocclude.io.images import load_image

_PICTURE_PX = 320  # longer side of a photo, height of a row's images
_UNKNOWN_RGB = (120, 120, 120)  # of parts that are not annotated
_STYLE = (
    "body{font:14px sans-serif;margin:1em}main{display:flex;flex-wrap:wrap;gap:8px}"
    "figure{margin:0}img{height:220px}figcaption{font-size:12px;max-width:300px;overflow-wrap:anywhere}"
)


@dataclass(frozen=True)
class PageImage:
    """An image of the page. pixels: (H, W, 3) uint8."""

    title: str
    pixels: np.ndarray


def show_page(
    place: str, *, source_format: str | None = None, images: Path | None = None, skip: int = 0, limit: int = 100
) -> tuple[str, int]:
    """The page as HTML text, and its number of images.

    Args:
        place: a built set, records file, image + mask folder or other dataset, by path or URL.
        source_format: the format's name, or None to recognise it.
        images: the folder of the photos that a JSON file lists; None to search for it.
        skip: number of photos or rows before the first one shown.
        limit: largest number of images.

    Raises:
        InputError: nothing exists there, or an image cannot be read.
        UsageError: the format cannot be recognised.
    """
    if source_format is None and images is None and Folder(place).has(STATE_FILE):
        shown = _images_of_rows(ShardedRows(place), skip, limit)
    else:
        if source_format is None and images is None and not is_url(place) and image_masks.matches(Path(place)):
            source_format = "masks"  # not "whole-masks", which has the same layout
        records = islice(open_records(place, source_format, images), skip, skip + limit)
        shown = (_image_of_photo(photo) for photo in records)
    figures = [_figure(image) for image in shown]
    if not figures:
        raise InputError(f"{place}: nothing from number {skip} on")
    title = html.escape(f"{place}: {skip + 1} to {skip + len(figures)}")
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"</head><body><h1>{title}</h1><main>\n" + "\n".join(figures) + "\n</main></body></html>\n"
    )
    return page, len(figures)


def _image_of_photo(photo: PhotoRecord) -> PageImage:
    """The photo with its people outlined."""
    pixels = load_image(read_bytes(photo.image))
    people_mask = np.zeros(pixels.shape[:2], bool)
    for person in photo.people:
        mask = person.visible.mask()
        if mask.shape != people_mask.shape:
            raise InputError(f"{photo.image}: its record says {photo.size_hw} (HxW), the photo is {people_mask.shape}")
        people_mask |= mask
    crowds = sum(person.iscrowd for person in photo.people)
    people = len(photo.people) - crowds
    facts = [f"{people} people", f"{crowds} crowds" if crowds else None, photo.split, photo.licence or "no licence"]
    title = " · ".join([f"{photo.source}/{photo.id}", *(fact for fact in facts if fact)])
    return PageImage(title, outlined(*shrunk(pixels, people_mask, _PICTURE_PX)))


def _images_of_rows(rows: ShardedRows, skip: int, limit: int) -> Iterator[PageImage]:
    """At most `limit` rows from number `skip` on: people outlined, with their parsing beside them, and backgrounds."""
    for number in range(skip, min(skip + limit, len(rows))):
        row = rows[number]
        title = " · ".join([row["kind"], row["id"], row["split"], row["licence"] or "no licence"])
        if row["kind"] == "background":
            yield PageImage(title, decode_rgb(row))
            continue
        cut = decode(row)
        pixels = outlined(cut.rgb, cut.mask)
        if cut.parsing is not None:
            parts = np.full((*cut.mask.shape, 3), _UNKNOWN_RGB, np.uint8)
            known = cut.parsing < len(PARSING_PALETTE)
            parts[known] = PARSING_PALETTE[cut.parsing[known]]
            pixels = np.concatenate([pixels, parts], axis=1)
        yield PageImage(title, pixels)


def _figure(image: PageImage) -> str:
    """HTML of an image, embedded as a JPEG, and its title."""
    factor = min(1.0, _PICTURE_PX / image.pixels.shape[0])
    smaller = cv2.resize(image.pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    content = cv2.imencode(".jpg", smaller[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    source = f"data:image/jpeg;base64,{base64.b64encode(content.tobytes()).decode()}"
    caption = html.escape(image.title)
    return f'<figure><img src="{source}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
