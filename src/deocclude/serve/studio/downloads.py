"""Files that the studio hands out: cut-outs, masks, JSON and layered images as the user arranged them."""

from __future__ import annotations

import io
import json
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageColor

from deocclude.errors import InputError
from deocclude.imaging.arrays import ImageU8, Mask
from deocclude.io.openraster import Layer, save_layers
from deocclude.io.photo_metadata import Metadata
from deocclude.io.results import output_name, picture_of, to_coco
from deocclude.serve.studio.conversion import png, read_picture
from deocclude.serve.studio.errors import TooManyPixelsError
from deocclude.serve.studio.messages import SentArrangement, SentPlacement
from deocclude.serve.studio.work import OpenPhoto
from deocclude.types import Person, Result

PersonFile = Literal["rgba", "hidden", "amodal", "visible", "invisible", "parsing"]
"""What can be downloaded of one person."""

_MASK_KINDS: tuple[PersonFile, ...] = ("amodal", "visible", "invisible", "parsing")  # masks without colours


def file_stem(name: str) -> str:
    """Beginning of the names of downloads: letters, digits, dots, hyphens and underscores of the photo's name."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(name).stem).strip("._")
    return stem[:80] or "photo"


def find_person(result: Result, number: int) -> Person:
    """The person of a number. Raises InputError."""
    for person in result.people:
        if person.id == number:
            return person
    raise InputError(f"there is no person {number}")


def person_png(result: Result, number: int, kind: PersonFile) -> bytes:
    """A PersonFile as PNG: the cut-out and its hidden part alone are trimmed, the masks have the photo's size.

    Raises:
        InputError: there is no such person, or nothing of the person is hidden.
    """
    person = find_person(result, number)
    if kind == "rgba":
        return png(person.rgba_part, result.icc_profile)
    if kind == "hidden":
        return png(_hidden_part(person), result.icc_profile)
    picture = picture_of(result, kind, person)
    return png(picture.pixels, palette=picture.palette)


def masks_zip(result: Result, stem: str) -> bytes:
    """Every mask of every person, as PNG."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for person in result.people:
            for kind in _MASK_KINDS:
                archive.writestr(output_name(stem, kind, person.id), person_png(result, person.id, kind))
    return file.getvalue()


def coco_json(result: Result, name: str) -> bytes:
    """The result's COCO document."""
    return json.dumps(to_coco(result, file_name=name), indent=1).encode()


def arranged_ora(photo: OpenPhoto, arrangement: SentArrangement, max_pixels: int) -> bytes:
    """An OpenRaster file of the layers as the user arranged them.

    Args:
        photo: the open photo.
        arrangement: places of the people, and the background.
        max_pixels: of the background's picture, and of all people's layers together.

    Raises:
        InputError: there is no such person, or the picture cannot be read.
        TooManyPixelsError: the picture or the layers have more pixels.
    """
    result = photo.result
    layers = [_background(photo, arrangement, max_pixels)]
    remaining_px = max_pixels
    for placement in arrangement.people:
        if not placement.hidden:
            person = find_person(result, placement.number)
            placed = _person_layers(person, placement, remaining_px, split=arrangement.split)
            remaining_px -= sum(layer.pixels.shape[0] * layer.pixels.shape[1] for layer in placed)
            layers += placed
    with tempfile.TemporaryDirectory() as folder:
        path = save_layers(
            Path(folder) / "arranged.ora", layers, result.image.shape[:2], result.icc_profile,
            metadata=result.metadata or Metadata(),
        )  # fmt: skip
        return path.read_bytes()


def _hidden_part(person: Person) -> ImageU8:
    """(h, w, 4) uint8: the hidden part of the cut-out, trimmed. Raises InputError: nothing is hidden."""
    hidden = person.amodal_part & ~person.visible_part
    if not hidden.any():
        raise InputError(f"nothing of person {person.id} is hidden")
    pixels = _masked(person.rgba_part, hidden)
    rows, columns = np.flatnonzero(hidden.any(1)), np.flatnonzero(hidden.any(0))
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _background(photo: OpenPhoto, arrangement: SentArrangement, max_pixels: int) -> Layer:
    """The bottom layer: a picture that covers the scene, a colour, or the filled background."""
    height, width = photo.result.image.shape[:2]
    if arrangement.picture is not None:
        picture = Image.fromarray(read_picture(arrangement.picture, max_pixels))
        scale = min(picture.width / width, picture.height / height)
        left, top = (picture.width - width * scale) / 2, (picture.height - height * scale) / 2
        middle = (left, top, left + width * scale, top + height * scale)
        return Layer("background", np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS, box=middle)))
    if arrangement.colour is not None:
        return Layer("background", np.full((height, width, 3), ImageColor.getrgb(arrangement.colour), np.uint8))
    return photo.background()


def _person_layers(person: Person, placement: SentPlacement, max_pixels: int, *, split: bool) -> list[Layer]:
    """A person's layer, scaled and moved; split: the visible part and, where there is one, the hidden part.

    Raises:
        TooManyPixelsError: the layers have more pixels.
    """
    height, width = person.region.size_hw
    size_wh = (max(1, round(width * placement.scale)), max(1, round(height * placement.scale)))
    if (1 + split) * size_wh[0] * size_wh[1] > max_pixels:
        raise TooManyPixelsError(f"the layers are too large from person {person.id} on, scaled by {placement.scale:g}")
    parts = {f"person {person.id}": person.rgba_part}
    hidden = person.amodal_part & ~person.visible_part
    if split and hidden.any():
        parts = {
            f"person {person.id}, visible part": _masked(person.rgba_part, ~hidden),
            f"person {person.id}, hidden part": _masked(person.rgba_part, hidden),
        }
    x, y = placement.left_top
    return [Layer(name, _resized(pixels, size_wh), (round(x), round(y))) for name, pixels in parts.items()]


def _masked(rgba: ImageU8, mask: Mask) -> ImageU8:
    """(h, w, 4) uint8: the pixels of a mask, transparent elsewhere."""
    pixels: ImageU8 = rgba.copy()
    pixels[..., 3] = np.where(mask, pixels[..., 3], 0)
    return pixels


def _resized(rgba: ImageU8, size_wh: tuple[int, int]) -> ImageU8:
    """(h, w, 4) uint8: the same picture, resampled to another size."""
    if size_wh == (rgba.shape[1], rgba.shape[0]):
        return rgba
    # Pillow weights colours by alpha while it resizes RGBa
    scaled = Image.fromarray(rgba).convert("RGBa").resize(size_wh, Image.Resampling.BICUBIC).convert("RGBA")
    return np.asarray(scaled)
