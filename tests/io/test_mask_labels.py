"""Which mask files are one person, which are several, and which are refused."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from deocclude.errors import InputError
from deocclude.io.images import load_mask, load_masks

# boxes of drawn people: (x0, y0, x1, y1), end excluded, and their pixels
AREAS = {"left": (4, 5, 14, 35), "middle": (20, 8, 28, 30), "right": (40, 2, 46, 12)}
PX = {"left": 300, "middle": 176, "right": 60}
VOC = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 15: (192, 128, 128), 255: (224, 224, 192)}


def drawn(left, middle=None, right=None, background=0, dtype=np.uint8) -> np.ndarray:
    """(40, 60) or (40, 60, 3) with a value or colour in each area."""
    background = np.array(background, dtype)
    values = np.broadcast_to(background, (40, 60, *background.shape)).copy()
    for name, value in (("left", left), ("middle", middle), ("right", right)):
        if value is not None:
            x0, y0, x1, y1 = AREAS[name]
            values[y0:y1, x0:x1] = value
    return values


def png(image: Image.Image | np.ndarray) -> bytes:
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    with io.BytesIO() as file:
        image.save(file, "PNG")
        return file.getvalue()


def indexed(values: np.ndarray, colours: dict[int, tuple[int, int, int]] = VOC) -> Image.Image:
    palette = np.zeros((256, 3), np.uint8)
    for index, colour in colours.items():
        palette[index] = colour
    image = Image.fromarray(values)
    image.putpalette(palette.tobytes())
    return image


def smooth(colour: tuple[int, int, int] | int, ring: int | None = None) -> Image.Image:
    """An antialiased ellipse in one colour, as an editor draws it."""
    mode = "L" if isinstance(colour, int) else "RGB"
    image = Image.new(mode, (600, 400))
    ImageDraw.Draw(image).ellipse((100, 60, 400, 350), fill=colour)
    return image.resize((60, 40), Image.Resampling.BOX)


def sizes(source, label=None) -> list[int]:
    return [int(np.count_nonzero(mask)) for mask in load_masks(source, label=label)]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_labels_1_2_3_are_three_people_in_the_order_of_the_labels(dtype):
    image = Image.fromarray(drawn(3, 1, 2, dtype=dtype))
    people = load_masks(image)
    assert [int(mask.sum()) for mask in people] == [PX["middle"], PX["right"], PX["left"]]
    assert all(mask.dtype == bool for mask in people)
    assert np.array_equal(people[2], drawn(1) > 0)


def test_label_picks_one_person():
    source = png(drawn(1, 2, 3))
    assert sizes(source, label=2) == [PX["middle"]]
    assert int(load_mask(source, label=3).sum()) == PX["right"]
    with pytest.raises(
        InputError, match=r"the mask: expected pixels of label 4, found labels 0 \(1864 px\), 1 \(300 p"
    ):
        load_masks(source, label=4)


def test_load_mask_refuses_a_file_of_several_people():
    with pytest.raises(
        InputError, match="expected the mask of one person, got 3 people of 300, 176, 60 px: load_masks"
    ):
        load_mask(png(drawn(1, 2, 3)))


def test_labels_with_a_missing_number_are_people():
    assert sizes(png(drawn(1, 3))) == [PX["left"], PX["middle"]]


@pytest.mark.parametrize("value", [1, 15, 38, 200, 255])
def test_one_value_besides_0_is_one_mask(value):
    assert sizes(png(drawn(value, value))) == [PX["left"] + PX["middle"]]


def rimmed(*labels: int | None) -> np.ndarray:
    """Labels in areas that a rim of 255, one pixel wide, surrounds."""
    values = drawn(*labels)
    for name, label in zip(AREAS, labels, strict=False):
        if label is not None:
            x0, y0, x1, y1 = AREAS[name]
            values[y0 - 1 : y1 + 1, x0 - 1 : x1 + 1] = 255
            values[y0:y1, x0:x1] = label
    return values


@pytest.mark.parametrize("as_file", [lambda values: values, indexed])
def test_void_rim_of_voc_is_ignored(as_file):
    assert sizes(png(as_file(rimmed(15)))) == [PX["left"]]
    assert sizes(png(as_file(rimmed(2, 1)))) == [PX["middle"], PX["left"]]


@pytest.mark.parametrize("as_file", [lambda values: values, indexed])
def test_class_map_is_refused_with_its_labels_and_their_pixels(as_file):
    source = png(as_file(rimmed(15, 2)))
    with pytest.raises(InputError, match="may be classes") as caught:
        load_masks(source)
    assert "found labels 2 (176 px), 15 (300 px): pick one with --mask-label N" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sizes(source, label=15) == [PX["left"]]


def test_classes_with_large_numbers_are_refused():
    with pytest.raises(InputError, match=r"grey levels that fill areas .* found labels 1 \(300 px\), 80 \(176 px\)"):
        load_masks(png(drawn(1, 80)))


def test_labels_without_background_are_refused():
    with pytest.raises(InputError, match="expected a background of 0 or black, found labels 1 "):
        load_masks(png(drawn(2, 3, background=1)))


def test_file_name_is_in_the_refusal(tmp_path):
    (tmp_path / "classes.png").write_bytes(png(drawn(2, 15)))
    with pytest.raises(InputError, match=r"^.*/classes\.png: labels with gaps"):
        load_masks(tmp_path / "classes.png")


def test_many_labels_are_listed_by_size_in_one_line():
    values = np.zeros((40, 60), np.uint8)
    for k in range(12):
        values[:4, 5 * k : 5 * k + 4 - k % 2] = 5 * k + 5
    with pytest.raises(InputError, match=r"found labels 5 \(16 px\), .* and 4 more: pick one"):
        load_masks(png(values))


def test_palette_indices_are_the_labels_of_people():
    source = png(indexed(drawn(2, 3, 1)))
    assert sizes(source) == [PX["right"], PX["left"], PX["middle"]]
    assert sizes(source, label=3) == [PX["middle"]]
    alone = png(indexed(drawn(15)))
    assert sizes(alone) == sizes(alone, label=15) == [PX["left"]]


def test_black_is_the_background_of_a_palette_wherever_it_stands():
    image = indexed(drawn(0, 2, background=1), {0: (255, 0, 0), 1: (0, 0, 0), 2: (0, 200, 0)})
    assert sizes(png(image)) == [PX["left"], PX["middle"]]
    white = indexed(drawn(1, 2), {0: (255, 255, 255), 1: (255, 0, 0), 2: (0, 200, 0)})
    with pytest.raises(InputError, match="expected a background of 0 or black"):
        load_masks(png(white))
    assert sizes(png(white), label=2) == [PX["middle"]]


def test_transparent_palette_index_is_the_background():
    image = indexed(drawn(1, 2), {0: (255, 255, 255), 1: (255, 0, 0), 2: (0, 200, 0)})
    image.info["transparency"] = 0
    assert sizes(png(image)) == [PX["left"], PX["middle"]]


@pytest.mark.parametrize(
    "as_file", [lambda grey: grey, lambda grey: grey.quantize(16), lambda grey: grey.convert("RGB")]
)
@pytest.mark.parametrize("top", [255, 200])
def test_antialiased_mask_is_one_mask(as_file, top):
    grey = smooth(top)
    values = np.asarray(as_file(grey).convert("L")).astype(int)
    assert len(np.unique(values)) > 8
    (mask,) = load_masks(png(as_file(grey)))
    assert np.array_equal(mask, values >= (values.max() + 1) // 2)


def test_antialiased_mask_in_one_colour_is_one_mask():
    red = smooth((200, 30, 40))
    (mask,) = load_masks(png(red))
    assert np.array_equal(mask, np.asarray(red)[..., 0] >= 100)
    assert np.array_equal(load_mask(png(red.quantize(12))), np.asarray(red.quantize(12).convert("RGB"))[..., 0] >= 100)


def test_shades_on_the_contour_of_small_values_are_one_mask():
    values = np.asarray(smooth(252)) // 63
    assert set(np.unique(values)) == {0, 1, 2, 3, 4}
    assert np.array_equal(load_mask(png(values)), values >= 2)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_lossy_mask_is_one_mask(mode):
    with io.BytesIO() as file:
        smooth(255).resize((600, 400)).convert(mode).save(file, "JPEG", quality=60)
        (mask,) = load_masks(file.getvalue())
    assert 600 * 400 * 0.28 < mask.sum() < 600 * 400 * 0.30


def test_wide_feather_is_one_mask():
    columns = np.clip(np.arange(-60, 240) * 2, 0, 255).astype(np.uint8)
    (mask,) = load_masks(png(np.tile(columns, (50, 1))))
    assert mask.sum() == 50 * np.count_nonzero(columns >= 128)


@pytest.mark.parametrize("levels", [(85, 170, 255), (128, 255), (100, 200)])
def test_grey_levels_that_fill_areas_are_refused(levels):
    with pytest.raises(InputError, match=f"grey levels that fill areas .*{levels[0]} \\(300 px\\), {levels[1]} \\(176"):
        load_masks(png(drawn(*levels)))
    assert sizes(png(drawn(*levels)), label=levels[1]) == [PX["middle"]]


@pytest.mark.parametrize(
    ("levels", "dtype"),
    [((100, 101), np.uint8), ((200, 201, 202), np.uint8), ((300, 301), np.uint16), ((24000, 24001), np.uint16)],
)
def test_ids_near_to_each_other_are_refused(levels, dtype):
    values = drawn(*levels, dtype=dtype)
    with pytest.raises(InputError, match="grey levels that fill areas may be people"):
        load_masks(Image.fromarray(values))
    assert sizes(Image.fromarray(values), label=levels[1]) == [PX["middle"]]


def test_levels_near_white_are_one_person():
    (mask,) = load_masks(Image.fromarray(drawn(254, 255)))
    assert np.count_nonzero(mask) == PX["left"] + PX["middle"]


def test_flat_colours_on_black_are_people_from_left_to_right():
    source = png(drawn((0, 0, 255), (255, 0, 0), (9, 200, 9), (0, 0, 0)))
    assert sizes(source) == [PX["left"], PX["middle"], PX["right"]]
    assert sizes(source, label=2) == [PX["middle"]]
    with pytest.raises(InputError, match="expected colour 4 from the left, found 3 colours"):
        load_masks(source, label=4)


def test_dark_colours_are_not_merged():
    assert sizes(png(drawn((0, 1, 0), (1, 0, 0), background=(0, 0, 0)))) == [PX["left"], PX["middle"]]


def test_grey_labels_stored_as_rgb_are_labels():
    assert sizes(png(drawn((2,) * 3, (1,) * 3, background=(0,) * 3))) == [PX["middle"], PX["left"]]


def test_void_colour_of_voc_is_ignored_in_rgb():
    assert sizes(png(indexed(rimmed(1, 2)).convert("RGB"))) == [PX["left"], PX["middle"]]


def test_photo_is_refused_as_a_mask():
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    with pytest.raises(InputError, match=r"expected a mask, white on black, .* got more than 1024 colours"):
        load_masks(png(noise))


def test_colours_that_blend_or_lack_black_are_refused():
    blended = Image.new("RGB", (60, 40))
    blended.paste(smooth((255, 0, 0)).crop((0, 0, 30, 40)), (0, 0))
    blended.paste(smooth((0, 255, 0)).crop((30, 0, 60, 40)), (30, 0))
    white = drawn((255, 0, 0), (0, 255, 0), background=(255, 255, 255))
    for image in (blended, white):
        with pytest.raises(InputError, match="one flat colour a person on black without blended contours"):
            load_masks(png(image))


def test_two_colours_without_black_are_split_by_brightness():
    assert sizes(png(drawn((250, 40, 40), background=(0, 0, 60)))) == [PX["left"]]


def test_cutout_is_one_mask_and_flat_colours_on_transparency_are_people():
    rgba = np.random.default_rng(0).integers(0, 256, (40, 60, 4), dtype=np.uint8)
    rgba[..., 3] = drawn(255, 255)
    assert sizes(png(rgba)) == [PX["left"] + PX["middle"]]
    with pytest.raises(InputError, match="expected labels to pick 1 from, got a cut-out"):
        load_masks(png(rgba), label=1)
    rgba[..., :3] = drawn((255, 0, 0), (0, 0, 255), background=(255, 255, 255))
    assert sizes(png(rgba)) == [PX["left"], PX["middle"]]


def test_blank_file_gives_one_empty_mask():
    assert sizes(png(np.zeros((4, 3), np.uint8))) == [0]
    assert sizes(png(np.zeros((4, 3, 3), np.uint8))) == [0]


def test_full_scale_reading_does_not_look_for_labels():
    assert load_mask(png(drawn(100, 200)), of_full_scale=True).sum() == PX["middle"]


def test_nan_is_background(tmp_path):
    path = tmp_path / "mask.tif"
    Image.fromarray(drawn(1.0, background=np.nan, dtype=np.float32)).save(path)
    assert np.count_nonzero(load_mask(path)) == PX["left"]
