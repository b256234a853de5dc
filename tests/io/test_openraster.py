import io
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bodies import make_person
from deocclude.errors import DeoccludeError, UsageError
from deocclude.imaging.crop import Region
from deocclude.io.openraster import Layer, composite, save_layers
from deocclude.types import Result


@pytest.fixture
def result() -> Result:
    """Two people of grey 200 on grey 40; the first stands behind a box of grey 70."""
    photo = np.full((20, 30, 3), 40, np.uint8)
    photo[2:14, 4:10] = photo[2:14, 18:24] = 200
    photo[10:14, 4:10] = 70
    first, second = make_person(photo, 1, 4, hidden_from=10), make_person(photo, 2, 18, hidden_from=14)
    return Result(photo, (first, second), {}, "cpu", "base")


def compose(layers: list[Layer], size_hw: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8: layers laid on black, bottom to top."""
    canvas = Image.new("RGBA", (size_hw[1], size_hw[0]), "black")
    for layer in layers:
        canvas.alpha_composite(Image.fromarray(layer.pixels).convert("RGBA"), dest=layer.left_top)
    return np.asarray(canvas)[..., :3]


def open_png(archive: zipfile.ZipFile, name: str) -> Image.Image:
    return Image.open(io.BytesIO(archive.read(name)))


def read_layers(path: Path) -> tuple[list[Layer], np.ndarray]:
    """The layers of a file, bottom to top, and its merged image."""
    with zipfile.ZipFile(path) as archive:
        stack = ET.fromstring(archive.read("stack.xml")).find("stack")
        layers = [
            Layer(row.get("name"), np.asarray(open_png(archive, row.get("src"))), tuple(int(row.get(k)) for k in "xy"))
            for row in reversed(stack)
        ]
        return layers, np.asarray(open_png(archive, "mergedimage.png"))


def soft_scene() -> Result:
    """Three people in depth on noise, each in front of a part of the former one; the last is cut by the border."""
    rng = np.random.default_rng(8)
    photo = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    people = tuple(make_person(photo, number + 1, left, hidden_from=9) for number, left in enumerate((4, 8, 22)))
    return Result(photo, people, {}, "cpu", "base", icc_profile=b"profile")


def test_layers_are_photo_background_then_people_back_to_front(result):
    layers = result.layers()
    names = ["photo", "background", "person 1 (33 % hidden)", "person 2 (0 % hidden)"]
    assert [layer.name for layer in layers] == names
    assert [layer.left_top for layer in layers] == [(0, 0), (0, 0), (2, 0), (16, 0)]
    assert np.array_equal(layers[0].pixels, result.image)
    assert (layers[1].pixels == 40).all()
    for layer, person in zip(layers[2:], result.back_to_front, strict=True):
        assert np.array_equal(layer.pixels, person.rgba[person.region.slices])
    assert (layers[2].pixels[11, 5] == (100, 100, 100, 255)).all()


def test_background_has_no_outline_of_a_person(result):
    # a mask that misses a pixel of the person on each side
    result.image[1:15, 3:11] = result.image[1:15, 17:25] = 200
    assert (result.layers()[1].pixels == 40).all()


def test_photo_without_people_gives_the_photo_as_background(result):
    pixels = np.random.default_rng(1).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    photo, background = Result(pixels, (), {}, "cpu", "base").layers()
    assert np.array_equal(photo.pixels, pixels) and np.array_equal(background.pixels, pixels)


@pytest.mark.parametrize("layer_size", ["trimmed", "canvas"])
def test_the_merged_image_is_the_composite_of_the_saved_layers(tmp_path, layer_size):
    scene = soft_scene()
    (path,) = scene.save(tmp_path, what="layers", layer_size=layer_size)
    layers, merged = read_layers(path)
    composed = compose(layers, (20, 30))
    assert np.array_equal(composed, merged)
    # the soft edges are neither the photo nor the recovered photo: a merged image of either would be another
    soft = np.logical_or.reduce([person.rgba[..., 3] % 255 > 0 for person in scene.people])
    assert (merged[soft] != scene.content[soft]).any() and np.array_equal(merged, composite(scene.layers(), (20, 30)))


@pytest.mark.parametrize("layer_size", ["trimmed", "canvas"])
def test_the_photos_own_pixels_under_soft_edges_are_in_a_layer(tmp_path, layer_size):
    scene = soft_scene()
    (path,) = scene.save(tmp_path, what="layers", layer_size=layer_size)
    layers, _ = read_layers(path)
    soft = np.logical_or.reduce([person.rgba[..., 3] % 255 > 0 for person in scene.people])
    assert soft.sum() > 100 and np.array_equal(layers[0].pixels[soft], scene.image[soft])
    assert (layers[1].pixels[soft] != scene.image[soft]).any()
    # without the background, people lie on the photo: away from their edges that is the recovered photo
    bodies = np.logical_or.reduce([person.rgba[..., 3] > 0 for person in scene.people])
    on_photo = compose([layers[0], *layers[2:]], (20, 30))
    assert np.array_equal(on_photo[~bodies], scene.image[~bodies])


def test_canvas_layers_have_the_images_size_and_the_same_pixels(tmp_path):
    trimmed, canvas = (
        read_layers(soft_scene().save(tmp_path / size, what="layers", layer_size=size)[0])
        for size in ("trimmed", "canvas")
    )
    assert [layer.name for layer in canvas[0]] == [layer.name for layer in trimmed[0]]
    assert np.array_equal(canvas[1], trimmed[1])
    for full, part in zip(canvas[0], trimmed[0], strict=True):
        assert full.left_top == (0, 0) and full.pixels.shape[:2] == (20, 30)
        inside = full.pixels[part.region.slices]
        assert np.array_equal(inside[..., : part.pixels.shape[2]], part.pixels)
        outside = np.ones((20, 30), bool)
        outside[part.region.slices] = False
        assert not full.pixels[outside].any()


def test_layers_of_an_extended_image_leave_the_rest_transparent(tmp_path):
    scene = soft_scene()
    extended = Result(scene.image, scene.people, {}, "cpu", "base", photo_region=Region(3, 2, 20, 30))
    for layer_size in ("trimmed", "canvas"):
        (path,) = extended.save(tmp_path / layer_size, what="layers", layer_size=layer_size)
        layers, merged = read_layers(path)
        assert np.array_equal(layers[0].on_canvas((20, 30)).pixels[3:, 2:, :3], scene.image[3:, 2:])
        assert merged.shape == (20, 30, 4) and (merged[3:, 2:, 3] == 255).all()
        assert not merged[:3, 16:19].any()  # between two people, beyond the photo
        assert np.array_equal(merged[:3, 17:, 3], extended.alpha[:3, 17:])


def test_layer_sizes_are_two(result, tmp_path):
    with pytest.raises(UsageError, match=r"layer size must be trimmed or canvas, got 'full'"):
        result.save(tmp_path, what="layers", layer_size="full")
    assert not list(tmp_path.iterdir())


def test_a_layer_on_the_canvas_is_cut_at_the_images_border():
    pixels = np.arange(1, 25, dtype=np.uint8).reshape(2, 4, 3)
    corner = Layer("corner", pixels, (-1, 2)).on_canvas((3, 5))
    assert corner.name == "corner" and corner.left_top == (0, 0)
    expected = np.zeros((3, 5, 4), np.uint8)
    expected[2, :3, :3], expected[2, :3, 3] = pixels[0, 1:], 255
    assert np.array_equal(corner.pixels, expected)
    for left_top in [(5, 0), (-4, 0), (0, 3), (0, -2), (90, -90)]:
        assert not Layer("outside", pixels, left_top).on_canvas((3, 5)).pixels.any()
    covering = Layer("all", pixels)
    assert covering.on_canvas((2, 4)) is covering


def test_composite_by_hand():
    red = np.full((2, 2, 3), (200, 0, 0), np.uint8)
    half = np.full((2, 2, 4), (0, 100, 0, 51), np.uint8)  # a fifth
    merged = composite([Layer("red", red), Layer("half", half, (1, -1)), Layer("outside", red, (9, 9))], (2, 3))
    assert merged.shape == (2, 3, 4)
    assert merged[1].tolist() == [[200, 0, 0, 255], [200, 0, 0, 255], [0, 0, 0, 0]]
    assert merged[0].tolist() == [[200, 0, 0, 255], [160, 20, 0, 255], [0, 100, 0, 51]]
    opaque = composite([Layer("half", half), Layer("red", red)], (2, 2))
    assert np.array_equal(opaque, red)


def test_composed_layers_show_the_completed_people(result):
    merged = result.image.copy()
    for person in result.people:
        person.paint_onto(merged)
    composed = compose(result.layers(), (20, 30)).astype(int)
    soft = np.logical_or.reduce([person.rgba[..., 3] % 255 > 0 for person in result.people])
    assert np.array_equal(composed[~soft], merged[~soft])
    # At the soft edge the body lies on the background: on a side 1/3 of it a pixel outside, 2/3 a pixel inside.
    assert np.abs(composed[5, 3] - (200 / 3 + 40 * 2 / 3)).max() <= 1
    assert np.abs(composed[5, 4] - (200 * 2 / 3 + 40 / 3)).max() <= 1


def test_half_transparent_layer_is_composited(tmp_path):
    bottom = np.full((4, 6, 3), 200, np.uint8)
    top = np.zeros((2, 3, 4), np.uint8)
    top[..., 3] = 51
    layers = [Layer("bottom", bottom), Layer("top", top, (3, 1))]
    merged = bottom.copy()
    merged[1:3, 3:6] = 160  # 200 * (1 - 51 / 255)
    read, saved = read_layers(save_layers(tmp_path / "a.ora", layers, (4, 6)))
    assert np.array_equal(saved, merged)
    assert np.array_equal(compose(read, (4, 6)), merged)


def test_file_layout_follows_the_openraster_spec(result, tmp_path):
    layers = result.layers()
    path = save_layers(tmp_path / "new" / "a.ora", layers, (20, 30), icc_profile=b"profile")
    assert path == tmp_path / "new" / "a.ora"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.ora"]
    # the signature that programs look for: a local header of 30 bytes, the entry's name, then its bytes as they are
    assert path.read_bytes()[30:54] == b"mimetypeimage/openraster"
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [
            "mimetype",
            "stack.xml",
            "data/layer1.png",
            "data/layer2.png",
            "data/layer3.png",
            "data/layer4.png",
            "mergedimage.png",
            "Thumbnails/thumbnail.png",
        ]
        assert archive.getinfo("mimetype").compress_type == zipfile.ZIP_STORED
        image = ET.fromstring(archive.read("stack.xml"))
        assert image.tag == "image" and image.attrib == {"version": "0.0.3", "w": "30", "h": "20"}
        assert [child.tag for child in image] == ["stack"]
        assert [row.attrib for row in image[0]] == [
            {"name": "person 2 (0 % hidden)", "src": "data/layer4.png", "x": "16", "y": "0"},
            {"name": "person 1 (33 % hidden)", "src": "data/layer3.png", "x": "2", "y": "0"},
            {"name": "background", "src": "data/layer2.png", "x": "0", "y": "0"},
            {"name": "photo", "src": "data/layer1.png", "x": "0", "y": "0"},
        ]
        for number, layer in enumerate(layers, start=1):
            picture = open_png(archive, f"data/layer{number}.png")
            assert np.array_equal(np.asarray(picture), layer.pixels)
            assert picture.info["icc_profile"] == b"profile"
        assert open_png(archive, "Thumbnails/thumbnail.png").size == (30, 20)


def test_a_thumbnail_has_256_pixels_at_most(tmp_path):
    merged = np.full((300, 1024, 4), 90, np.uint8)
    save_layers(tmp_path / "a.ora", [Layer("all", merged)], (300, 1024))
    with zipfile.ZipFile(tmp_path / "a.ora") as archive:
        thumbnail = open_png(archive, "Thumbnails/thumbnail.png")
        assert thumbnail.size == (256, 75)
        assert (np.asarray(thumbnail) == 90).all()
        assert open_png(archive, "mergedimage.png").size == (1024, 300)


def test_the_same_layers_give_the_same_bytes(result, tmp_path):
    layers = result.layers()
    first, second = (save_layers(tmp_path / name, layers, (20, 30)) for name in ("a.ora", "b.ora"))
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ('<a href="x">&\'é 人</a>', '<a href="x">&\'é 人</a>'),
        ("two\nlines", "two\nlines"),
        ("nul \x00 and half a pair \ud800", "nul \ufffd and half a pair \ufffd"),
    ],
)
def test_any_layer_name_round_trips(tmp_path, name, read):
    pixels = np.zeros((2, 2, 3), np.uint8)
    save_layers(tmp_path / "a.ora", [Layer(name, pixels)], (2, 2))
    with zipfile.ZipFile(tmp_path / "a.ora") as archive:
        assert ET.fromstring(archive.read("stack.xml"))[0][0].get("name") == read


def test_unwritable_target_gives_a_one_line_error(result, tmp_path, monkeypatch):
    layers = [Layer("background", result.image)]
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.ora").mkdir()
    for path in (tmp_path / "file" / "a.ora", tmp_path / "folder.ora"):
        with pytest.raises(DeoccludeError, match="cannot write") as raised:
            save_layers(path, layers, (20, 30))
        assert str(path) in str(raised.value) and "\n" not in str(raised.value)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder.ora"]

    # a disk that fills up halfway leaves the old file and nothing else
    (tmp_path / "file").write_text("old")

    def fail(*_):
        raise OSError(28, "No space left")

    monkeypatch.setattr(Image.Image, "thumbnail", fail)
    with pytest.raises(DeoccludeError, match=r"cannot write .*file: No space left"):
        save_layers(tmp_path / "file", layers, (20, 30))
    assert (tmp_path / "file").read_text() == "old"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder.ora"]


def test_invalid_arguments_are_rejected(result, tmp_path):
    layers = [Layer("background", result.image)]
    for arguments, words in [
        ((layers, (20, 0)), r"at least one pixel, got \(20, 0\) \(HxW\)"),
        (([], (20, 30)), "no layer"),
    ]:
        with pytest.raises(DeoccludeError, match=words):
            save_layers(tmp_path / "a.ora", *arguments)
    for pixels in (result.image / 255, result.image[:0], result.image[..., :2]):
        with pytest.raises(DeoccludeError, match="layer 'a' must be"):
            Layer("a", pixels)
    assert not list(tmp_path.iterdir())
