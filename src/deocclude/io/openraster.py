"""Layers for an image editor: OpenRaster files, which GIMP, Krita and MyPaint open."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from deocclude.errors import DeoccludeError
from deocclude.imaging.arrays import ImageU8
from deocclude.io.files import write_whole

_THUMBNAIL_PX = 256
# Characters that XML 1.0 cannot hold, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, eq=False)
class Layer:
    """An image at a place of a larger one.

    Attributes:
        name: the layer's name.
        pixels: (h, w, 4) uint8 RGB and straight alpha, or (h, w, 3) uint8 RGB, opaque.
        left_top: place of its first pixel, in pixels of the larger image; it may lie outside.
    """

    name: str
    pixels: ImageU8 = field(repr=False)
    left_top: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        _check_pixels(f"layer {self.name!r}", self.pixels)


def save_layers(
    path: str | Path,
    layers: Sequence[Layer],
    size_hw: tuple[int, int],
    merged: ImageU8,
    icc_profile: bytes | None = None,
    comment: str = "",
) -> Path:
    """Save layers to one OpenRaster file (https://www.openraster.org/baseline/), usually .ora.

    The same input gives the same bytes. Missing folders are created; the file is complete or absent.

    Args:
        path: the file.
        layers: bottom to top.
        size_hw: the whole image's size.
        merged: (H, W, 3) or (H, W, 4) uint8: what viewers without layers show.
        icc_profile: colour profile of the pixels.
        comment: comment of the archive, which editors do not show.

    Returns:
        The path.

    Raises:
        DeoccludeError: the file cannot be written; the message names it.
    """
    path = Path(path)
    _check_pixels("the merged image", merged)
    if merged.shape[:2] != tuple(size_hw):
        raise DeoccludeError(f"the merged image must have size {tuple(size_hw)} (HxW), got {merged.shape[:2]}")
    if not layers:
        raise DeoccludeError(f"cannot write {path}: there is no layer")
    sources = [f"data/layer{number}.png" for number in range(1, len(layers) + 1)]

    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            archive.comment = comment.encode()
            # programs recognise the format by these first, uncompressed bytes
            archive.writestr(_entry("mimetype"), b"image/openraster")
            archive.writestr(_entry("stack.xml"), _stack_xml(layers, sources, size_hw))
            for layer, source in zip(layers, sources, strict=True):
                _write_png(archive, source, Image.fromarray(layer.pixels), icc_profile)
            picture = Image.fromarray(merged)
            _write_png(archive, "mergedimage.png", picture, icc_profile)
            picture.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
            _write_png(archive, "Thumbnails/thumbnail.png", picture, icc_profile)

    return write_whole(path, write)


def _stack_xml(layers: Sequence[Layer], sources: Sequence[str], size_hw: tuple[int, int]) -> bytes:
    """The list of layers; the format lists the topmost first."""
    height, width = size_hw
    image = ET.Element("image", {"version": "0.0.3", "w": str(width), "h": str(height)})
    stack = ET.SubElement(image, "stack")
    for layer, source in zip(reversed(layers), reversed(sources), strict=True):
        left, top = layer.left_top
        name = _NOT_XML.sub("\ufffd", layer.name)
        ET.SubElement(stack, "layer", {"name": name, "src": source, "x": str(left), "y": str(top)})
    document: bytes = ET.tostring(image, encoding="UTF-8", xml_declaration=True)
    return document


def _write_png(archive: zipfile.ZipFile, name: str, image: Image.Image, icc_profile: bytes | None) -> None:
    with archive.open(_entry(name), "w") as file:
        # Photos hardly shrink at higher levels, and the default level takes seconds at 12 megapixels.
        image.save(file, format="PNG", compress_level=1, icc_profile=icc_profile)


def _entry(name: str) -> zipfile.ZipInfo:
    """A stored entry (PNG is compressed already) without the time and system of its creation."""
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.create_system = 3
    entry.external_attr = 0o644 << 16
    return entry


def _check_pixels(what: str, pixels: ImageU8) -> None:
    """Raise DeoccludeError unless `pixels` is (H, W, 3) or (H, W, 4) uint8 and not empty."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or pixels.size == 0:
        raise DeoccludeError(f"{what} must be (H, W, 3) or (H, W, 4) uint8, got {pixels.shape} {pixels.dtype}")
