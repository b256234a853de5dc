"""Metadata of photos: what is kept byte for byte, what no longer holds, and damage that costs no pixel."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deocclude.io.images import load_photo, save_image
from deocclude.io.photo_metadata import Metadata, exif_for_tiff
from deocclude.io.request_stamp import read_ids, read_stamp, stamp_exif, stamp_text

COPYRIGHT, ARTIST, ORIENTATION, SOFTWARE, EXIF, GPS = 0x8298, 0x013B, 0x0112, 0x0131, 0x8769, 0x8825
PIXELS = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(6, 8, 3)


def photo_exif(orientation: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[COPYRIGHT] = "© José".encode()
    exif[ORIENTATION] = orientation
    exif[SOFTWARE] = "Camera 1.0"
    exif[0x011A], exif[0x011B], exif[0x0128] = 300.0, 200.0, 2
    exif[EXIF] = {0x9003: "2024:05:01 10:00:00", 0xA002: 8, 0xA003: 6, 0x927C: b"maker", 0xA434: "50 mm"}
    exif[GPS] = {1: "N", 2: (52.0, 30.0, 15.5)}
    return exif


def encoded(file_format: str, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, file_format, **options)
    return file.getvalue()


def metadata_of(content: bytes) -> Metadata:
    return load_photo(content).metadata


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("source", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_of_every_format_is_kept_in_every_format(source: str, suffix: str, tmp_path: Path) -> None:
    block = photo_exif().tobytes()
    metadata = metadata_of(encoded(source, exif=exif_for_tiff(block) if source == "TIFF" else block))
    assert metadata.problem == ""
    path = save_image(PIXELS, tmp_path / f"a.{suffix}", exif=metadata.exif((20, 10), stamp_text("0" * 16, [1, 2])))
    assert read_stamp(path) == "0" * 16 and read_ids(path) == [1, 2]
    with Image.open(path) as image:
        exif = image.getexif()
        assert exif[COPYRIGHT].encode("latin-1") == "© José".encode()
        assert ORIENTATION not in exif or exif[ORIENTATION] == 1
        inner = exif.get_ifd(EXIF)
        assert inner[0x9003] == "2024:05:01 10:00:00" and inner[0xA434] == "50 mm" and 0x927C not in inner
        assert (inner[0xA002], inner[0xA003]) == (20, 10), "the picture's own size"
        assert exif.get_ifd(GPS) == {1: "N", 2: (52.0, 30.0, 15.5)}


def test_a_rotated_photo_loses_its_orientation_and_swaps_its_resolution(tmp_path: Path) -> None:
    photo = load_photo(encoded("JPEG", exif=photo_exif(6), dpi=(300, 200)))
    metadata = photo.metadata
    assert photo.pixels.shape == (8, 6, 3) and metadata.dpi == (200, 300)
    path = save_image(photo.pixels, tmp_path / "a.jpg", exif=metadata.exif((6, 8)), dpi=metadata.dpi)
    with Image.open(path) as image:
        assert image.getexif().get(ORIENTATION, 1) == 1 and image.info["dpi"] == (200, 300)
        assert (image.getexif()[0x011A], image.getexif()[0x011B]) == (200, 300)
    assert load_photo(path).pixels.shape == (8, 6, 3), "a second run does not rotate it again"


def test_a_photo_without_metadata_has_none() -> None:
    for metadata in (metadata_of(encoded("PNG")), load_photo(PIXELS).metadata):
        assert metadata == Metadata() and metadata.exif((8, 6)) is None


def test_the_stamp_of_a_former_run_is_not_kept() -> None:
    stamped = metadata_of(encoded("PNG", exif=stamp_exif("0" * 16, [1])))
    assert stamped.exif((8, 6)) is None
    assert b"Camera 1.0" in metadata_of(encoded("PNG", exif=photo_exif())).exif((8, 6))


@pytest.mark.parametrize("dpi", [(float("nan"), 72), (0, 0), (-3, 72), "much", (1e9, 1e9)])
def test_impossible_resolutions_are_not_kept(dpi) -> None:
    image = Image.fromarray(PIXELS)
    image.info["dpi"] = dpi
    assert load_photo(image).metadata.dpi is None


def test_copyright_of_xmp_iptc_and_png_moves_into_exif() -> None:
    rights = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:rights><rdf:Alt><rdf:li>© Ana</rdf:li>'
        "</rdf:Alt></dc:rights></rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    record = b"".join(
        struct.pack(">BBBH", 0x1C, 2, number, len(text)) + text for number, text in ((80, b"Bo"), (116, b"(c) Bo"))
    )
    iptc = b"Photoshop 3.0\x008BIM\x04\x04\x00\x00" + struct.pack(">I", len(record)) + record
    segment = b"\xff\xed" + struct.pack(">H", len(iptc) + 2) + iptc
    plain = encoded("JPEG")
    texts = Image.Exif()
    texts[COPYRIGHT] = "own"
    from PIL.PngImagePlugin import PngInfo

    png = PngInfo()
    png.add_text("Copyright", "(c) Cy")
    for content, expected in (
        (encoded("WEBP", xmp=rights.encode()), "© Ana"),
        (plain[:2] + segment + plain[2:], "(c) Bo"),
        (encoded("PNG", pnginfo=png), "(c) Cy"),
        (encoded("WEBP", xmp=rights.encode(), exif=texts), "own"),
        (encoded("WEBP", xmp=b"<x:xmpmeta"), None),
    ):
        block = metadata_of(content).exif((8, 6))
        exif = Image.Exif()
        exif.load(block or b"")
        found = exif.get(COPYRIGHT)
        assert (found and found.encode("latin-1").decode()) == expected
    iptc_exif = Image.Exif()
    iptc_exif.load(metadata_of(plain[:2] + segment + plain[2:]).exif((8, 6)))
    assert iptc_exif[ARTIST] == "Bo"


def test_damaged_exif_costs_no_pixel_and_is_named() -> None:
    photo = load_photo(encoded("PNG", exif=b"Exif\0\0garbage"))
    metadata = photo.metadata
    assert np.array_equal(photo.pixels, PIXELS)
    assert metadata.problem == "its EXIF is damaged and is not kept" and metadata.exif((8, 6)) is None


def test_one_damaged_value_leaves_the_others() -> None:
    block = bytearray(photo_exif().tobytes())
    start = 6 + 8
    order = "<" if block[6:8] == b"II" else ">"
    (count,) = struct.unpack_from(f"{order}H", block, start)
    for place in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack_from(f"{order}H", block, place)[0] in (SOFTWARE, GPS):
            struct.pack_into(f"{order}I", block, place + 8, 60_000_000)
    metadata = metadata_of(encoded("PNG", exif=bytes(block)))
    assert metadata.problem == "2 damaged values of its EXIF are not kept"
    exif = Image.Exif()
    exif.load(metadata.exif((8, 6)))
    assert exif[COPYRIGHT].encode("latin-1").decode() == "© José" and GPS not in exif and SOFTWARE not in exif


def test_any_cut_or_changed_byte_of_exif_gives_a_picture_that_opens(tmp_path: Path) -> None:
    block, rng = photo_exif(6).tobytes(), np.random.default_rng(0)
    for number in range(300):
        damaged = bytearray(block[: rng.integers(6, len(block))] if number % 2 else block)
        for place in rng.integers(6, len(damaged), 4) if len(damaged) > 6 else ():
            damaged[place] = rng.integers(256)
        image = Image.fromarray(PIXELS)
        image.info["exif"] = bytes(damaged)
        photo = load_photo(image)
        metadata = photo.metadata
        for suffix in ("jpg", "png"):
            exif = metadata.exif((8, 6), stamp_text("0" * 16, []))
            path = save_image(photo.pixels, tmp_path / f"a.{suffix}", exif=exif, dpi=metadata.dpi)
            assert read_stamp(path) == "0" * 16


def test_saved_results_and_layers_keep_what_the_photo_says_of_itself(tmp_path: Path, person, pipe) -> None:
    file = io.BytesIO()
    Image.fromarray(person.photo).save(file, "JPEG", exif=photo_exif(), dpi=(300, 200))
    result = pipe(file.getvalue(), masks=[person.visible])
    result.save(tmp_path, ("visible", "layers"), stem="a")
    for path in result.save(tmp_path, ("content", "overlay", "rgba"), stem="a"):
        with Image.open(path) as image:
            assert image.getexif()[COPYRIGHT].encode("latin-1") == "© José".encode(), path.name
            assert [round(value) for value in image.info["dpi"]] == [300, 200]
            assert image.getexif().get_ifd(EXIF)[0xA002] == image.width
            assert SOFTWARE in image.getexif(), "the camera's own: no request is known here"
    with Image.open(tmp_path / "a.person1.visible.png") as image:
        assert not dict(image.getexif()) and "dpi" not in image.info, "a mask is not the photo"
    with zipfile.ZipFile(tmp_path / "a.deoccluded.ora") as archive:
        assert b' xres="300" yres="200"' in archive.read("stack.xml")
        merged = Image.open(io.BytesIO(archive.read("mergedimage.png")))
        assert merged.getexif()[COPYRIGHT].encode("latin-1") == "© José".encode()
        assert "exif" not in Image.open(io.BytesIO(archive.read("Thumbnails/thumbnail.png"))).info


def test_damaged_exif_is_named_in_a_warning(person, pipe, caplog: pytest.LogCaptureFixture) -> None:
    file = io.BytesIO()
    Image.fromarray(person.photo).save(file, "PNG", exif=b"Exif\0\0garbage")
    pipe(file.getvalue(), masks=[person.visible])
    assert [record.getMessage() for record in caplog.records] == ["the photo: its EXIF is damaged and is not kept"]


def test_exif_that_no_jpeg_can_hold_loses_its_largest_values(tmp_path: Path) -> None:
    exif = photo_exif()
    exif[EXIF] = {0x9286: b"x" * 70_000, 0x9003: "2024:05:01 10:00:00"}
    metadata = metadata_of(encoded("PNG", exif=exif))
    assert metadata.problem.startswith("1 large values of its EXIF are not kept")
    with Image.open(save_image(PIXELS, tmp_path / "a.jpg", exif=metadata.exif((8, 6)))) as image:
        assert image.getexif().get_ifd(EXIF) == {0x9003: "2024:05:01 10:00:00"}


def test_values_that_overlap_cannot_ask_for_more_memory_than_the_block_has() -> None:
    rows = b"".join(struct.pack("<HHII", 0x9286 + number % 8, 7, 900, 14) for number in range(900))
    inner = struct.pack("<H", 900) + rows + bytes(4)
    block = b"II*\x00" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", EXIF, 4, 1, 26) + bytes(4) + inner
    metadata = metadata_of(encoded("PNG", exif=block))
    assert metadata.problem.endswith("damaged values of its EXIF are not kept")
    kept = 900 * len({row for row in metadata.tags[EXIF]})
    assert 0 < kept <= len(block)
