"""Metadata of a photo for the pictures that are made of it: EXIF, copyright and resolution.

Values are copied byte for byte. Left out is what no longer holds: orientation (the pixels are upright), the preview,
the camera maker's own notes (their offsets do not survive a copy), and coordinates in the unrotated photo. XMP and IPTC
are not copied; copyright and author move from them into EXIF where EXIF has none.
"""

from __future__ import annotations

import math
import struct
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from PIL import Image, ImageFile

from deocclude.io.decoder import DecodeError, reading
from deocclude.io.request_stamp import SOFTWARE, is_stamp

# A JPEG holds at most 65,533 bytes of EXIF; the rest is for the stamp of a request.
_MOST_BYTES = 60_000
_MOST_TAGS = 1000  # of one directory; photos have about fifty
_HEADER = b"Exif\x00\x00"
# bytes of a value by the number of its type in TIFF
_SIZE_OF_TYPE = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_ASCII, _LONG = 2, 4  # types of TIFF: text, and uint32

# Tags of EXIF.
_ARTIST, _COPYRIGHT, _ORIENTATION = 0x013B, 0x8298, 0x0112
_X_RESOLUTION, _Y_RESOLUTION = 0x011A, 0x011B
_EXIF_IFD, _GPS_IFD, _INTEROP_IFD = 0x8769, 0x8825, 0xA005  # their values point to inner directories
_WIDTH, _HEIGHT = 0xA002, 0xA003
_MAKER_NOTE, _SUBJECT_AREA, _SUBJECT_LOCATION = 0x927C, 0x9214, 0xA214
# Tags of the first directory that describe a photo; the others describe how a TIFF stores its pixels.
_DESCRIPTIVE = frozenset(
    {
        0x010E, 0x010F, 0x0110, _X_RESOLUTION, _Y_RESOLUTION, 0x0128, SOFTWARE, 0x0132, _ARTIST, 0x013C, 0x4746, 0x4749,
        _COPYRIGHT, _EXIF_IFD, _GPS_IFD, 0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F,
    }
)  # fmt: skip
# Untrue of an upright picture with other pixels.
_OUTDATED = frozenset({_MAKER_NOTE, _SUBJECT_AREA, _SUBJECT_LOCATION})


class Value(NamedTuple):
    """One value of EXIF as it is stored.

    Attributes:
        kind: number of the type in TIFF, such as 2 for text.
        length: number of values of that type.
        data: the values, in the byte order of their block.
    """

    kind: int
    length: int
    data: bytes


Directory = dict[int, "Value | Directory"]
"""Tag: its value, or the directory that it points to."""


@dataclass(frozen=True)
class Metadata:
    """Metadata of a photo.

    Attributes:
        tags: EXIF: the first directory with those inside it; None: the photo has none.
        byte_order: "<" or ">" of the values in `tags`.
        dpi: horizontal and vertical resolution of the upright photo in pixels per inch.
        problem: what of the EXIF is not kept, and why; empty where nothing is lost.
    """

    tags: Directory | None = field(default=None, repr=False)
    byte_order: str = "<"
    dpi: tuple[float, float] | None = None
    problem: str = ""

    def exif(self, size_wh: tuple[int, int], software: str | None = None) -> bytes | None:
        """EXIF for a picture that is made of the photo.

        Args:
            size_wh: the picture's size in pixels, for a photo whose EXIF states its own.
            software: the program that writes the file.

        Returns:
            A block as Pillow's `save` takes it; None where there is nothing to say.
        """
        tags = dict(self.tags or {})
        inner = tags.get(_EXIF_IFD)
        if isinstance(inner, dict):
            sizes = zip((_WIDTH, _HEIGHT), size_wh, strict=True)
            stated = {tag: Value(_LONG, 1, struct.pack(f"{self.byte_order}I", px)) for tag, px in sizes if tag in inner}
            tags[_EXIF_IFD] = inner | stated
        if software is not None:
            tags[SOFTWARE] = _text_value(software)
        return _write_block(tags, self.byte_order) if tags else None


def read_metadata(image: Image.Image) -> Metadata:
    """Metadata of an opened image, before it is rotated by its EXIF.

    Args:
        image: an image that Pillow has decoded.

    Returns:
        The metadata. Damaged EXIF is no error: `problem` says so, and the photo's pixels are not affected. The stamp
        of a former run is not part of it.
    """
    order, found, lost, problem = "<", Directory(), 0, ""
    block = _block_of(image)
    if block is not None:
        try:
            reader = _Reader(block)
            order, found, lost = reader.order, reader.first(), reader.damaged
        except (ValueError, struct.error):
            problem = "its EXIF is damaged and is not kept"
    if lost:
        problem = f"{lost} damaged values of its EXIF are not kept"
    turned = _orientation(found, order) >= 5  # these orientations swap rows and columns
    tags = {tag: value for tag, value in found.items() if tag in _DESCRIPTIVE}
    software = tags.get(SOFTWARE)
    if isinstance(software, Value) and is_stamp(software.data.rstrip(b"\x00").decode("utf-8", "replace")):
        del tags[SOFTWARE]
    for tag, text in _texts_elsewhere(image).items():
        tags.setdefault(tag, _text_value(text))
    if turned and _X_RESOLUTION in tags and _Y_RESOLUTION in tags:
        tags[_X_RESOLUTION], tags[_Y_RESOLUTION] = tags[_Y_RESOLUTION], tags[_X_RESOLUTION]
    if large := _drop_largest(tags, len(_write_block(tags, order)) - _MOST_BYTES):
        problem = f"{large} large values of its EXIF are not kept: a JPEG holds 64 kB of EXIF"
    dpi = _dpi_of(image)
    return Metadata(tags or None, order, dpi[::-1] if dpi and turned else dpi, problem)


def exif_for_tiff(block: bytes) -> Image.Exif:
    """EXIF that Pillow writes into a TIFF without losing characters. block: as `Metadata.exif` gives it."""
    exif = Image.Exif()
    exif.load(block)
    for tag in exif:
        exif[tag] = _raw(exif[tag])
    return exif


def _block_of(image: Image.Image) -> bytes | None:
    """The image's EXIF as one block; of a TIFF, whose EXIF is the file itself, a copy. None: no EXIF."""
    block = image.info.get("exif")
    if isinstance(block, bytes):
        return block.removeprefix(_HEADER) or None
    if image.format != "TIFF":
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's warnings of damaged EXIF
        try:
            with reading():
                exif, kept = image.getexif(), Image.Exif()
                for tag in _DESCRIPTIVE & set(exif):
                    inner = exif.get_ifd(tag) if tag in (_EXIF_IFD, _GPS_IFD) else None
                    value = exif[tag] if inner is None else {key: _raw(one) for key, one in inner.items()}
                    kept[tag] = _raw(value)
                return kept.tobytes().removeprefix(_HEADER)
        except DecodeError:
            return b""


def _raw(value: Any) -> Any:
    """The bytes from which Pillow decoded a text: it would write characters beyond ASCII as question marks."""
    is_lost = isinstance(value, str) and not value.isascii()
    return value.encode("latin-1", "replace") if is_lost else value


class _Reader:
    """Reads one block of EXIF.

    Attributes:
        order: "<" or ">", the byte order.
        damaged: number of values and directories that could not be read so far.
    """

    def __init__(self, block: bytes) -> None:
        order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(block[:4])
        if order is None:
            raise ValueError("no TIFF header")
        self.order, self.damaged = order, 0
        self._block, self._left = block, len(block)  # _left: bytes that further values may have in total

    def first(self) -> Directory:
        """The first directory with those inside it. Raises ValueError or struct.error where it is damaged."""
        (start,) = struct.unpack_from(f"{self.order}I", self._block, 4)
        return self._directory(start, (_EXIF_IFD, _GPS_IFD))

    def _directory(self, start: int, pointers: tuple[int, ...]) -> Directory:
        """The directory at an offset, with those that `pointers` point to."""
        (count,) = struct.unpack_from(f"{self.order}H", self._block, start)
        if count > _MOST_TAGS:
            raise ValueError(f"{count} tags")
        found: Directory = {}
        for place in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, number, at = struct.unpack_from(f"{self.order}HHII", self._block, place)
            try:
                if tag in pointers:
                    # a directory inside the Exif directory has no more inside
                    found[tag] = self._directory(at, (_INTEROP_IFD,) if tag == _EXIF_IFD else ())
                elif tag not in _OUTDATED:
                    found[tag] = self._value(kind, number, at, place + 8)
            except (ValueError, struct.error):
                self.damaged += 1
        return found

    def _value(self, kind: int, number: int, at: int, inline: int) -> Value:
        """A value, stored at `at`, or at `inline` where it is short. Raises ValueError where there is none."""
        length = _SIZE_OF_TYPE.get(kind, 0) * number
        at = inline if length <= 4 else at
        # a damaged block may point to the same bytes again and again: limited, or memory would run out
        self._left -= length
        if length == 0 or self._left < 0 or at + length > len(self._block):
            raise ValueError(f"type {kind}, {number} values at {at}")
        return Value(kind, number, self._block[at : at + length])


def _write_block(tags: Directory, order: str) -> bytes:
    """EXIF of a directory and those inside it, with the headers of EXIF and TIFF."""
    head = {"<": b"II*\x00", ">": b"MM\x00*"}[order] + struct.pack(f"{order}I", 8)
    return _HEADER + head + _write_directory(tags, order, 8)


def _write_directory(tags: Directory, order: str, start: int) -> bytes:
    """A directory for the offset `start`, followed by its longer values and inner directories."""
    rows, rest = [struct.pack(f"{order}H", len(tags))], b""
    after = start + 2 + 12 * len(tags) + 4
    for tag, value in sorted(tags.items()):
        at = after + len(rest)
        if isinstance(value, dict):
            rows.append(struct.pack(f"{order}HHII", tag, _LONG, 1, at))
            rest += _write_directory(value, order, at)
        elif len(value.data) <= 4:
            rows.append(struct.pack(f"{order}HHI", tag, value.kind, value.length) + value.data.ljust(4, b"\x00"))
        else:
            rows.append(struct.pack(f"{order}HHII", tag, value.kind, value.length, at))
            rest += value.data + b"\x00" * (len(value.data) % 2)  # offsets are even
    return b"".join(rows) + bytes(4) + rest  # no second directory: that of the preview


def _drop_largest(tags: Directory, excess: int) -> int:
    """Remove the longest values, in place, until `excess` bytes are gone. Returns the number of removed values."""

    def values(inside: Directory) -> Iterator[tuple[int, Directory, int]]:
        for tag, value in inside.items():
            if isinstance(value, dict):
                yield from values(value)
            else:
                yield len(value.data), inside, tag

    dropped = 0
    for length, inside, tag in sorted(values(tags), key=lambda one: -one[0]):
        if excess <= 0:
            break
        del inside[tag]
        excess -= length
        dropped += 1
    return dropped


def _orientation(tags: Mapping[int, Value | Directory], order: str) -> int:
    """EXIF's orientation, 1 to 8; 1 (upright) where the tag is missing or of another type."""
    value = tags.get(_ORIENTATION)
    if not isinstance(value, Value) or len(value.data) != 2:
        return 1
    return cast(int, struct.unpack(f"{order}H", value.data)[0])


def _text_value(text: str) -> Value:
    """A text as a value of EXIF: UTF-8 with a final zero byte."""
    data = text.encode() + b"\x00"
    return Value(_ASCII, len(data), data)


def _dpi_of(image: Image.Image) -> tuple[float, float] | None:
    """Resolution in pixels per inch; None where it is not stated, or is no resolution."""
    try:
        x, y = (float(value) for value in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if all(math.isfinite(value) and 0.5 <= value <= 65535 for value in (x, y)) else None


def _texts_elsewhere(image: Image.Image) -> dict[int, str]:
    """Author and copyright from a PNG's texts, IPTC or XMP, by their tags in EXIF."""
    found: dict[int, str] = {}
    for tag, in_png, in_iptc, in_xmp in (
        (_ARTIST, "Author", (2, 80), "creator"),
        (_COPYRIGHT, "Copyright", (2, 116), "rights"),
    ):
        text = _text_of_png(image, in_png) or _text_of_iptc(image, in_iptc) or _text_of_xmp(image, in_xmp)
        if text:
            found[tag] = text[:1000]
    return found


def _text_of_png(image: Image.Image, name: str) -> str:
    text = image.info.get(name) if image.format == "PNG" else None
    return str(text).strip() if isinstance(text, str) else ""


def _text_of_iptc(image: Image.Image, record: tuple[int, int]) -> str:
    """The texts of an IPTC record, such as (2, 80), the author; "" where there are none."""
    if not isinstance(image, ImageFile.ImageFile) or ("photoshop" not in image.info and image.format != "TIFF"):
        return ""
    from PIL import IptcImagePlugin  # few photos have IPTC

    try:
        with reading():
            found: Any = (IptcImagePlugin.getiptcinfo(image) or {}).get(record)
    except DecodeError:
        return ""  # IPTC is damaged: there is no text to keep
    texts = found if isinstance(found, list) else [found] if isinstance(found, bytes) else []
    return "; ".join(text.decode("utf-8", "replace").strip("\x00 ") for text in texts)


def _text_of_xmp(image: Image.Image, name: str) -> str:
    """The texts of an element of Dublin Core in XMP; "" where there are none."""
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if not packet:
        return ""
    import xml.etree.ElementTree as ET

    try:
        tree = ET.fromstring(packet.strip(b"\x00 \n") if isinstance(packet, bytes) else packet.strip("\x00 \n"))
    except (ET.ParseError, ValueError, LookupError):
        return ""  # XMP is damaged: there is no text to keep
    dublin, rdf = "{http://purl.org/dc/elements/1.1/}", "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
    texts = (one.text for element in tree.iter(dublin + name) for one in element.iter(f"{rdf}li"))
    return "; ".join(dict.fromkeys(text.strip() for text in texts if text and text.strip()))
