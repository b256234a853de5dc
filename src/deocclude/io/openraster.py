"""Layers for an image editor: OpenRaster files, which GIMP 3, Krita and MyPaint open."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from PIL import Image

from deocclude.errors import DeoccludeError
from deocclude.imaging.arrays import ImageU8
from deocclude.imaging.crop import Region
from deocclude.io.files import write_whole
from deocclude.io.images import save_options
from deocclude.io.photo_metadata import Metadata

_THUMBNAIL_PX = 256  # longest side, the most that OpenRaster allows
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
        pixels = self.pixels
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or pixels.size == 0:
            raise DeoccludeError(
                f"layer {self.name!r} must be (H, W, 3) or (H, W, 4) uint8, got {pixels.shape} {pixels.dtype}"
            )

    @property
    def region(self) -> Region:
        """The layer's place in the larger image; it may lie outside."""
        (left, top), (height, width) = self.left_top, self.pixels.shape[:2]
        return Region(top, left, top + height, left + width)

    def inside(self, size_hw: tuple[int, int]) -> tuple[Region, ImageU8]:
        """The part of the layer that lies in an image of size (H, W), H and W at least 1.

        Returns:
            The part's place, and its pixels, (h, w, 3) or (h, w, 4) uint8, a view. Both are empty where the layer lies
            outside.
        """
        part = self.region.intersect(Region(0, 0, *size_hw))
        if part.is_empty:
            part = Region(0, 0, 0, 0)
        return part, self.pixels[part.counted_from(self.region).slices]

    def on_canvas(self, size_hw: tuple[int, int]) -> Layer:
        """The same layer as large as the image, at (0, 0), transparent around its pixels.

        Args:
            size_hw: the image's size, (H, W).

        Returns:
            A layer of (H, W, 4) uint8; a layer that covers the image exactly is returned unchanged.
        """
        if self.left_top == (0, 0) and self.pixels.shape[:2] == tuple(size_hw):
            return self
        place, part = self.inside(size_hw)
        canvas = np.zeros((*size_hw, 4), dtype=np.uint8)
        canvas[place.slices][..., : part.shape[2]] = part
        if part.shape[2] == 3:
            canvas[place.slices][..., 3] = 255
        return Layer(self.name, canvas)


def composite(layers: Iterable[Layer], size_hw: tuple[int, int]) -> ImageU8:
    """Lay layers over each other, as an editor shows them (`svg:src-over`).

    Args:
        layers: bottom to top.
        size_hw: the image's size, (H, W).

    Returns:
        (H, W, 3) uint8 where the layers cover the image with no transparent pixel, else (H, W, 4) uint8 with straight
        alpha.
    """
    height, width = size_hw
    canvas = Image.new("RGBA", (width, height))
    for layer in layers:
        place, part = layer.inside(size_hw)
        if part.size == 0:
            continue
        if part.shape[2] == 3:
            canvas.paste(Image.fromarray(part), (place.left, place.top))
        else:
            canvas.alpha_composite(Image.fromarray(part), (place.left, place.top))
    merged: ImageU8 = np.asarray(canvas)
    if (merged[..., 3] == 255).all():
        merged = np.asarray(canvas.convert("RGB"))
    return merged


def save_layers(
    path: str | Path,
    layers: Sequence[Layer],
    size_hw: tuple[int, int],
    icc_profile: bytes | None = None,
    comment: str = "",
    layer_size: Literal["trimmed", "canvas"] = "trimmed",
    metadata: Metadata = Metadata(),
) -> Path:
    """Save layers to one OpenRaster file (https://www.openraster.org/baseline/), usually .ora.

    The merged image and the thumbnail, which viewers without layers show, are the composite of the layers. The same
    input gives the same bytes. Missing folders are created; the file is complete or absent.

    Args:
        path: the file.
        layers: bottom to top.
        size_hw: the whole image's size.
        icc_profile: colour profile of the pixels.
        comment: comment of the archive, which editors do not show.
        layer_size: trimmed: each layer has its own size and place. canvas: each layer has the image's size and lies at
            (0, 0).
        metadata: of the photo. Editors read the resolution; EXIF and copyright are in the merged image.

    Returns:
        The path.

    Raises:
        DeoccludeError: the file cannot be written; the message names it.
    """
    path = Path(path)
    if not layers:
        raise DeoccludeError(f"cannot write {path}: there is no layer")
    if min(size_hw) < 1:
        raise DeoccludeError(f"cannot write {path}: the image must have at least one pixel, got {tuple(size_hw)} (HxW)")
    on_canvas = layer_size == "canvas"
    names = [layer.name for layer in layers]
    places = [(0, 0) if on_canvas else layer.left_top for layer in layers]
    sources = [f"data/layer{number}.png" for number in range(1, len(layers) + 1)]

    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            archive.comment = comment.encode()
            # programs recognise the format by these first, uncompressed bytes
            archive.writestr(_entry("mimetype"), b"image/openraster")
            archive.writestr(_entry("stack.xml"), _stack_xml(names, sources, places, size_hw, metadata.dpi))
            for layer, source in zip(layers, sources, strict=True):
                # one layer at a time: a layer of the image's size takes 48 MB at 12 megapixels
                pixels = layer.on_canvas(size_hw).pixels if on_canvas else layer.pixels
                _write_png(archive, source, Image.fromarray(pixels), icc_profile)
            picture = Image.fromarray(composite(layers, size_hw))
            _write_png(archive, "mergedimage.png", picture, icc_profile, metadata)
            picture.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
            _write_png(archive, "Thumbnails/thumbnail.png", picture, icc_profile)

    return write_whole(path, write)


def _stack_xml(
    names: Sequence[str], sources: Sequence[str], places: Sequence[tuple[int, int]], size_hw: tuple[int, int],
    dpi: tuple[float, float] | None,
) -> bytes:  # fmt: skip
    """The XML of the layers, given bottom to top. The format lists the topmost first, and has whole pixels per inch."""
    height, width = size_hw
    attributes = {"version": "0.0.3", "w": str(width), "h": str(height)}
    if dpi is not None:
        attributes |= {"xres": str(max(1, round(dpi[0]))), "yres": str(max(1, round(dpi[1])))}
    image = ET.Element("image", attributes)
    stack = ET.SubElement(image, "stack")
    for name, source, (left, top) in zip(reversed(names), reversed(sources), reversed(places), strict=True):
        attributes = {"name": _NOT_XML.sub("\ufffd", name), "src": source, "x": str(left), "y": str(top)}
        ET.SubElement(stack, "layer", attributes)
    document: bytes = ET.tostring(image, encoding="UTF-8", xml_declaration=True)
    return document


def _write_png(
    archive: zipfile.ZipFile, name: str, image: Image.Image, icc_profile: bytes | None, metadata: Metadata = Metadata()
) -> None:
    """Write an image into the archive as PNG, with its colour profile and the photo's metadata."""
    options = save_options("PNG", icc_profile=icc_profile, exif=metadata.exif(image.size), dpi=metadata.dpi)
    with archive.open(_entry(name), "w") as file:
        image.save(file, format="PNG", **options)


def _entry(name: str) -> zipfile.ZipInfo:
    """A stored entry (PNG is compressed already) without the time and system of its creation."""
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.create_system = 3
    entry.external_attr = 0o644 << 16
    return entry
