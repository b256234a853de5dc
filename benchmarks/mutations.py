"""Small photos, masks and COCO files, and mutations of them: the inputs of `mutated_inputs.py`, made by code alone.

Every mutation takes its random generator: one seed gives the same inputs, byte for byte, with the same Pillow.
"""

from __future__ import annotations

import copy
import io
import json
import struct
import zlib
from collections.abc import Callable, Sequence
from importlib.resources import files
from random import Random
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from deocclude.imaging.rle import encode_rle, encode_rle_counts

PHOTO_KINDS = ("png", "jpeg", "webp", "tiff", "gif", "avif")
SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "tiff": ".tif", "gif": ".gif", "avif": ".avif"}
SIDE_PX = 160

Mutation = Callable[[bytes, Random], bytes]


def picture(side_px: int = SIDE_PX) -> Image.Image:
    """The bundled portrait as an RGB image."""
    with Image.open(str(files("deocclude") / "assets" / "astronaut.jpg")) as image:
        return image.convert("RGB").resize((side_px, side_px), Image.Resampling.LANCZOS)


def visible_mask(side_px: int = SIDE_PX) -> np.ndarray:
    """(S, S) bool: the portrait's person."""
    with Image.open(str(files("deocclude") / "assets" / "astronaut_mask.png")) as image:
        return np.asarray(image.convert("L").resize((side_px, side_px), Image.Resampling.NEAREST)) > 127


def photos() -> dict[str, list[bytes]]:
    """Whole files of each kind: several modes and compressions, with EXIF, colour profile, text and resolution."""
    rgb = picture()
    grey, alpha = rgb.convert("L"), rgb.copy()
    alpha.putalpha(Image.fromarray(visible_mask().astype(np.uint8) * 255))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x8298] = 6, "Maker", "Somebody, 2024"
    exif.get_ifd(0x8769)[0x9003] = "2024:02:30 10:11:12"
    rich: dict[str, Any] = {
        "exif": exif, "icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        "dpi": (300, 300),
    }  # fmt: skip
    wide = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    real = Image.fromarray(np.asarray(grey).astype(np.float32) / 255)
    frames: dict[str, Any] = {"save_all": True, "append_images": [rgb.rotate(90), rgb.rotate(180)]}
    made: dict[str, list[tuple[Image.Image, dict[str, Any]]]] = {
        "png": [
            (rgb, rich), (alpha, {}), (rgb.quantize(64), {"transparency": 3}), (wide, {}), (grey.convert("1"), {}),
            (grey.convert("LA"), {}), (rgb, frames),
        ],
        "jpeg": [
            (rgb, rich), (rgb, {"progressive": True}), (grey, {}), (rgb.convert("CMYK"), {}),
            (rgb, {"subsampling": 0, "restart_marker_blocks": 4, "comment": b"a comment"}),
        ],
        "webp": [(rgb, rich), (alpha, {}), (rgb, {"lossless": True}), (rgb, frames)],
        "tiff": [
            (rgb, rich), (rgb, {"compression": "tiff_lzw"}), (rgb, {"compression": "jpeg"}), (wide, {}), (real, {}),
            (alpha, {"compression": "tiff_adobe_deflate"}), (grey.convert("1"), {"compression": "group4"}),
            (grey, {"compression": "packbits"}), (rgb.convert("CMYK"), {"compression": "raw"}), (rgb, frames),
        ],
        "gif": [(rgb, {}), (rgb, frames), (rgb.quantize(16), {"transparency": 2, "comment": b"a comment"})],
        "avif": [(rgb, rich), (alpha, {}), (rgb, {"quality": 100, "subsampling": "4:4:4"}), (rgb, frames)],
    }  # fmt: skip
    return {kind: [_saved(image, kind, options) for image, options in variants] for kind, variants in made.items()}


def masks() -> list[tuple[str, bytes]]:
    """Suffix and whole file of masks for the portrait: white, soft, labels, palette, colours, alpha, floats."""
    visible = visible_mask()
    white = Image.fromarray(visible.astype(np.uint8) * 255)
    soft = white.resize((40, 40)).resize(white.size, Image.Resampling.BICUBIC)
    half = np.arange(SIDE_PX)[None, :] < SIDE_PX // 2
    labels = Image.fromarray(np.where(visible, np.where(half, 1, 2), 0).astype(np.uint8))
    palette = labels.copy()
    palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    colours = palette.convert("RGB")
    cut = picture()
    cut.putalpha(white)
    wide = Image.fromarray(visible.astype(np.uint16) * 65535)
    real = Image.fromarray(visible.astype(np.float32))
    pngs = [_saved(one, "png", {}) for one in (white, soft, labels, palette, colours, cut, wide, white.convert("1"))]
    others = [
        (".tif", _saved(real, "tiff", {})),
        (".jpg", _saved(soft, "jpeg", {})),
        (".gif", _saved(labels, "gif", {})),
    ]
    return [*((".png", one) for one in pngs), *others]


def coco_document(name: str) -> dict[str, Any]:
    """A COCO file of one photo of the portrait's size, with a person in each encoding."""
    mask = visible_mask()
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y, right, bottom = (int(edge) for edge in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    box = [x, y, right - x, bottom - y]
    polygon = [x, y, right, y, right, bottom, x, bottom]
    shapes: list[dict[str, Any]] = [
        {"segmentation": [polygon, [5, 5, 20, 5, 12, 30.5]], "bbox": box},
        {"segmentation": encode_rle(mask), "iscrowd": 1, "score": 0.75},
        {"segmentation": {"size": [SIDE_PX, SIDE_PX], "counts": encode_rle_counts(mask)}, "bbox": box},
        {"bbox": box, "visible_segmentation": [polygon]},
    ]
    return {
        "info": {"description": "people", "url": "https://example.org"},
        "images": [{"id": 1, "file_name": name, "width": SIDE_PX, "height": SIDE_PX}],
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": number, "image_id": 1, "category_id": 1, "area": 100.0, "iscrowd": 0, **shape}
            for number, shape in enumerate(shapes, start=1)
        ],
    }


def _saved(image: Image.Image, kind: str, options: dict[str, Any]) -> bytes:
    with io.BytesIO() as file:
        image.save(file, kind, **options)
        return file.getvalue()


# Mutations of bytes. Each takes a whole file.


def flip_bytes(content: bytes, rng: Random) -> bytes:
    """Replace 1 to 16 bytes anywhere."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 2, 4, 16))):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def flip_header(content: bytes, rng: Random) -> bytes:
    """Replace 1 to 4 of the first 200 bytes."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        changed[rng.randrange(min(200, len(changed)))] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
    return bytes(changed)


def truncate(content: bytes, rng: Random) -> bytes:
    """Keep a beginning, of no byte at the least."""
    return content[: rng.randrange(len(content))]


def delete_slice(content: bytes, rng: Random) -> bytes:
    """Remove up to a quarter."""
    start, length = _slice(content, rng)
    return content[:start] + content[start + length :]


def repeat_slice(content: bytes, rng: Random) -> bytes:
    """Put up to a quarter in twice."""
    start, length = _slice(content, rng)
    return content[: start + length] + content[start:]


def insert_bytes(content: bytes, rng: Random) -> bytes:
    """Insert up to 64 bytes: random, zeros or 255."""
    at, length = rng.randrange(len(content) + 1), rng.randint(1, 64)
    inserted = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))
    return content[:at] + inserted + content[at:]


def swap_header(content: bytes, rng: Random) -> bytes:
    """Put the first bytes of another format in place of its own."""
    heads = (
        b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0\x00\x10JFIF", b"RIFF\x00\x10\x00\x00WEBPVP8X", b"II*\x00\x08\0\0\0",
        b"MM\x00*\x00\x00\x00\x08", b"GIF89a", b"\x00\x00\x00\x20ftypavif", b"\x00\x00\x00\x18ftypheic", b"BM",
        b"8BPS\x00\x01", b"qoif", b"\x00\x00\x01\x00\x01\x00", b"P6 160 160 255\n", b"%PDF-1.4", b"DDS |\x00\x00\x00",
    )  # fmt: skip
    head = rng.choice(heads)
    return head + content[len(head) :]


def set_number(content: bytes, rng: Random) -> bytes:
    """Write an extreme integer of 2 or 4 bytes into the first 400 bytes, where sizes, counts and offsets stand."""
    order, form = rng.choice("<>"), rng.choice("HI")
    top = 0xFFFF if form == "H" else 0xFFFFFFFF
    number = rng.choice((0, 1, 2, 255, top, top - 1, top // 2, top // 2 + 1, 20_000 & top, 1_000_000 & top))
    size = struct.calcsize(form)
    at = rng.randrange(max(1, min(400, len(content)) - size))
    return content[:at] + struct.pack(order + form, number) + content[at + size :]


def append_bytes(content: bytes, rng: Random) -> bytes:
    """Append the file itself, or random bytes."""
    return content + rng.choice((content, rng.randbytes(500), bytes(5000)))


def edit_parts(content: bytes, rng: Random) -> bytes:
    """Delete, repeat, move or spoil a whole part: a chunk of PNG or RIFF, a segment of JPEG, a box of AVIF.

    Checksums are right afterwards: what is behind them is reached. Files of other formats lose or repeat a slice.
    """
    for split, join in ((_png_chunks, _join_png), (_riff_chunks, _join_riff), (_jpeg_segments, b"".join),
                        (_boxes, b"".join)):  # fmt: skip
        parts = split(content)
        if len(parts) > 1:
            return join(_edited(parts, rng))
    return rng.choice((delete_slice, repeat_slice))(content, rng)


def _edited(parts: Sequence[bytes], rng: Random) -> list[bytes]:
    edited = list(parts)
    at = rng.randrange(len(edited))
    how = rng.choice(("delete", "repeat", "move", "spoil", "spoil", "spoil", "shorten"))
    if how == "delete":
        del edited[at]
    elif how == "repeat":
        edited[at:at] = [edited[at]] * rng.choice((1, 50))
    elif how == "move":
        edited.insert(rng.randrange(len(edited)), edited.pop(at))
    elif how == "spoil" and edited[at]:
        edited[at] = rng.choice((flip_bytes, flip_header, set_number))(edited[at], rng)
    else:
        edited[at] = edited[at][: rng.randrange(len(edited[at]) + 1)]
    return edited


def _png_chunks(content: bytes) -> list[bytes]:
    """The chunks, each as name and data; none of another format."""
    parts, at = [], 8
    while content.startswith(b"\x89PNG\r\n\x1a\n") and at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        parts.append(content[at + 4 : at + 8 + length])
        at += 12 + length
    return parts


def _join_png(parts: Sequence[bytes]) -> bytes:
    chunks = (struct.pack(">I", max(0, len(part) - 4)) + part + struct.pack(">I", zlib.crc32(part)) for part in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _riff_chunks(content: bytes) -> list[bytes]:
    parts, at = [], 12
    while content.startswith(b"RIFF") and at + 8 <= len(content):
        (length,) = struct.unpack_from("<I", content, at + 4)
        parts.append(content[at : at + 8 + length + length % 2])
        at += 8 + length + length % 2
    return parts


def _join_riff(parts: Sequence[bytes]) -> bytes:
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _jpeg_segments(content: bytes) -> list[bytes]:
    """Start, segments up to the scan, and the rest; none of another format."""
    parts, at = [content[:2]], 2
    while (
        content.startswith(b"\xff\xd8") and at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != 0xDA
    ):
        (length,) = struct.unpack_from(">H", content, at + 2)
        parts.append(content[at : at + 2 + length])
        at += 2 + length
    return [*parts, content[at:]] if len(parts) > 1 else []


def _boxes(content: bytes) -> list[bytes]:
    """Top-level boxes, and the entries of `meta` with them; none of another format."""
    parts, at = [], 0
    while content[4:8] == b"ftyp" and at + 8 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        if length < 8:
            break
        parts.append(content[at : at + length])
        at += length
    return parts


def _slice(content: bytes, rng: Random) -> tuple[int, int]:
    start = rng.randrange(len(content))
    return start, rng.randint(1, max(1, len(content) // 4))


MUTATIONS: tuple[Mutation, ...] = (
    flip_bytes, flip_header, truncate, delete_slice, repeat_slice, insert_bytes, swap_header, set_number, set_number,
    append_bytes, edit_parts, edit_parts, edit_parts,
)  # fmt: skip


def mutated_photo(kind: str, whole: dict[str, list[bytes]], rng: Random) -> tuple[str, bytes]:
    """Suffix and content of a mutated photo; one of ten has another kind's suffix, or none that is known."""
    content = rng.choice(MUTATIONS)(rng.choice(whole[kind]), rng)
    suffix = SUFFIXES[kind] if rng.random() < 0.9 else rng.choice((*SUFFIXES.values(), ".heic", ".bmp", ".dat"))
    return suffix, content


def mutated_mask(whole: Sequence[tuple[str, bytes]], rng: Random) -> tuple[str, bytes]:
    """Suffix and content of a mutated mask: a mutated file, or a whole file of values that are no mask."""
    suffix, content = rng.choice(whole)
    if rng.random() < 0.8:
        return suffix, rng.choice(MUTATIONS)(content, rng)
    size = rng.choice(((SIDE_PX, SIDE_PX), (SIDE_PX, SIDE_PX), (1, 1), (SIDE_PX, 1), (SIDE_PX + 1, SIDE_PX)))
    values = np.frombuffer(rng.randbytes(size[0] * size[1]), np.uint8).reshape(size)
    values = rng.choice((values, values % 3, values * 0, values // 128 * 200 + 55, np.full(size, 7, np.uint8)))
    image = Image.fromarray(values.astype(np.uint8))
    if rng.random() < 0.3:
        image = Image.fromarray(np.where(values > 200, np.nan, values).astype(np.float32))
        return ".tif", _saved(image, "tiff", {})
    return ".png", _saved(image, "png", {})


def mutated_coco(document: dict[str, Any], rng: Random) -> bytes:
    """A COCO file with one to three values replaced, removed, repeated or nested; or with mutated bytes."""
    changed = copy.deepcopy(document)
    if rng.random() < 0.2:
        return rng.choice((flip_bytes, truncate, delete_slice, repeat_slice, insert_bytes))(
            json.dumps(document).encode(), rng
        )
    for _ in range(rng.choice((1, 1, 2, 3))):
        _mutate_value(changed, rng)
    text = json.dumps(changed)
    for marker, value in _TEXTS.items():
        text = text.replace(f'"{marker}"', value)
    return text.encode("utf-8", "surrogatepass")


# Values that `json` does not write: text that takes a marker's place.
_TEXTS = {
    "@inf": "1e400", "@digits": "9" * 4000, "@many digits": "9" * 5000, "@deep": "[" * 900 + "]" * 900,
    "@deeper": "[" * 100_000 + "]" * 100_000, "@twice": '{"id": 1, "id": 2}', "@surrogate": '"\\ud800"',
}  # fmt: skip


def _values(rng: Random) -> Any:
    """A value that no COCO file has in a given place, or has in another."""
    simple = (
        None, True, False, 0, 1, -1, 2, 0.5, 1e308, -1e308, 10**9, 10**18, 10**30, float("nan"), "", "0", "1", "person",
        "x" * 20_000, "line\nbreak", "\x1b[31mred\x00", [], {}, [[]], [{}], [None], [1], [1, 2, 3, 4],
        {"size": [160, 160]},
        {"size": [160, 160], "counts": []}, {"size": [160, 160], "counts": [25600]}, [float("nan")] * 8, [1e300] * 8,
        [10**8] * 8, [-5, -5, 1e6, -5, 1e6, 1e6, -5, 1e6], [[0, 0, 1, 1, 2, 2]] * 500,
    )  # fmt: skip
    counts = (
        "o" * 200_000, "0" * 1000, "zz", " ", "\x7f", "é", [1] * 25600, [-1, 25601], [0.5, 25599.5], ["a"], [True],
        [[1]], [10**30, -(10**30) + 25600],
    )  # fmt: skip
    which = rng.random()
    if which < 0.2:
        return rng.choice(tuple(_TEXTS))
    if which < 0.4:
        return {"size": rng.choice(([160, 160], [160.0, 160], [10**9, 10**9], [-1, -1])), "counts": rng.choice(counts)}
    return rng.choice(simple)


def _mutate_value(document: dict[str, Any], rng: Random) -> None:
    """Change one value of a JSON document, in place."""
    places: list[tuple[Any, Any]] = []
    stack: list[Any] = [document]
    while stack:
        one = stack.pop()
        entries = one.items() if isinstance(one, dict) else enumerate(one[:50])
        for key, value in entries:
            # keys matter more than the many coordinates
            places += [(one, key)] * (8 if isinstance(one, dict) else 1)
            if isinstance(value, (dict, list)):
                stack.append(value)
    if not places:
        return
    inside, key = rng.choice(places)
    how = rng.choice(("replace", "replace", "replace", "delete", "nest", "repeat"))
    if how == "replace":
        inside[key] = _values(rng)
    elif how == "delete":
        del inside[key]
    elif how == "nest":
        inside[key] = rng.choice(([inside[key]], {"value": inside[key]}))
    elif isinstance(inside, list):
        inside.extend([copy.deepcopy(inside[key])] * rng.choice((1, 200)))
    else:
        inside[f"{key}2"] = copy.deepcopy(inside[key])
