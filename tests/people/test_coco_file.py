import json

import numpy as np
import pytest

from deocclude.errors import InputError
from deocclude.imaging.boxes import box_to_mask, mask_to_box_xyxy
from deocclude.imaging.rle import encode_rle, encode_rle_counts
from deocclude.io.coco import polygons_to_mask
from deocclude.people.coco_file import CocoFile

SIZE_HW = (10, 20)


def drawn(*rows: str) -> np.ndarray:
    """A mask from text, "#" = True."""
    return np.array([[letter == "#" for letter in row] for row in rows])


# --- polygons --------------------------------------------------------------------------------------------------------


def rectangle(x0: float, y0: float, x1: float, y1: float) -> list[float]:
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def corners(numbers: list[float]) -> np.ndarray:
    return np.array(numbers, dtype=float).reshape(-1, 2)


@pytest.mark.parametrize(
    "box",
    [(2, 1, 7, 4), (0, 0, 20, 10), (0.4, 0, 2.6, 1), (0.6, 0.6, 2.4, 3), (1.5, 2.5, 2.5, 4.5), (-5, -3, 99, 6.2)],
)
def test_rectangle_polygon_equals_its_box(box):
    for points in (corners(rectangle(*box)), corners(rectangle(*box))[::-1]):
        assert np.array_equal(polygons_to_mask([points], SIZE_HW), box_to_mask(box, SIZE_HW))


def test_rectangles_by_hand():
    # x from 1 to 3 are the pixels 1 and 2: no border pixel is added.
    assert np.argwhere(polygons_to_mask([corners(rectangle(1, 2, 3, 3))], SIZE_HW)).tolist() == [[2, 1], [2, 2]]
    assert polygons_to_mask([corners(rectangle(5, 0, 9, 4))], SIZE_HW).sum() == 16


def test_a_triangle_by_hand():
    # Under the diagonal of a 4x4 square; centres on the slope itself are on the triangle's right edge: out.
    triangle = corners([0, 0, 4, 4, 0, 4])
    assert np.array_equal(polygons_to_mask([triangle], (4, 4)), drawn("....", "#...", "##..", "###."))
    other = corners([0, 0, 4, 0, 4, 4])
    assert np.array_equal(polygons_to_mask([other], (4, 4)), ~polygons_to_mask([triangle], (4, 4)))


def test_polygons_are_united_with_even_odd_filling():
    two = [corners(rectangle(0, 0, 3, 1)), corners(rectangle(2, 0, 4, 1)), corners(rectangle(6, 0, 7, 1))]
    assert np.array_equal(polygons_to_mask(two, (1, 8)), drawn("####..#."))
    twice_around_the_middle = corners([0, 0, 3, 0, 3, 1, 0, 1, 0, 0, 1, 0, 2, 0, 2, 1, 1, 1, 1, 0])
    assert np.array_equal(polygons_to_mask([twice_around_the_middle], (1, 4)), drawn("#.#."))


def test_degenerate_polygons_fill_nothing():
    for numbers in (
        [],
        [1, 1],
        [1, 1, 5, 5],
        rectangle(2.6, 1, 3.4, 9),
        rectangle(30, 0, 40, 5),
        rectangle(0, -9, 9, 0),
    ):
        assert not polygons_to_mask([corners(numbers)], SIZE_HW).any()
    assert not polygons_to_mask([], SIZE_HW).any()


@pytest.mark.parametrize("seed", range(4))
def test_polygons_agree_with_counting_crossings(seed):
    points = np.random.default_rng(seed).uniform(-4, 24, (9, 2))
    naive = np.zeros(SIZE_HW, bool)
    for row, column in np.ndindex(*SIZE_HW):
        x, y = column + 0.5, row + 0.5
        for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
            if (y0 <= y) != (y1 <= y) and x0 + (y - y0) / (y1 - y0) * (x1 - x0) <= x:
                naive[row, column] ^= True
    assert np.array_equal(polygons_to_mask([points], SIZE_HW), naive)


# --- COCO files ------------------------------------------------------------------------------------------------------


def annotated(**values) -> dict:
    return {"id": 7, "image_id": 1, "category_id": 1, "iscrowd": 0} | values


def listed(name: str = "photo.jpg", image_id: int | str = 1, size_hw: tuple[int, int] = SIZE_HW) -> dict:
    return {"id": image_id, "file_name": name, "height": size_hw[0], "width": size_hw[1]}


@pytest.fixture
def opened(tmp_path):
    """Write a COCO file and open it."""

    def write(*annotations: dict, images=None, **more) -> CocoFile:
        path = tmp_path / "people.json"
        document = {"images": images or [listed()], "annotations": list(annotations)}
        path.write_text(json.dumps(document | {"categories": [{"id": 1, "name": "person"}]} | more))
        return CocoFile.open(path)

    return write


def test_every_mask_format_is_read(opened):
    mask = box_to_mask((2, 1, 7, 4), SIZE_HW)
    forms = {
        "polygon": annotated(segmentation=[rectangle(2, 1, 7, 4)]),
        "polygons": annotated(segmentation=[rectangle(2, 1, 5, 4), rectangle(4, 1, 7, 4)]),
        "compressed": annotated(segmentation=encode_rle(mask)),
        "plain": annotated(segmentation={"size": list(SIZE_HW), "counts": encode_rle_counts(mask)}),
        "box": annotated(bbox=[2, 1, 5, 3]),
        "no segmentation": annotated(bbox=[2, 1, 5, 3], segmentation=[]),
        "visible": annotated(segmentation=[rectangle(0, 0, 20, 10)], visible_segmentation=encode_rle(mask)),
    }
    for name, annotation in forms.items():
        (one,) = opened(annotation).prompts_for("photo.jpg", SIZE_HW)
        assert np.array_equal(one.mask, mask), name
        assert one.mask.flags.c_contiguous, name
        assert one.score == 1


def test_people_are_ordered_left_to_right_with_scores(opened):
    coco = opened(
        annotated(bbox=[12, 0, 3, 5], score=0.25),
        annotated(bbox=[1, 0, 3, 5], score=1),
        annotated(bbox=[6, 0, 3, 5]),
    )
    people = coco.prompts_for("photo.jpg", SIZE_HW)
    assert [(one.box_xyxy, one.score) for one in people] == [
        ((1, 0, 4, 5), 1.0),
        ((6, 0, 9, 5), 1.0),
        ((12, 0, 15, 5), 0.25),
    ]


def test_crowds_other_categories_and_empty_masks_are_skipped(opened):
    annotations = [
        annotated(bbox=[1, 0, 3, 5]),
        annotated(segmentation={"size": [3, 3], "counts": [9]}, iscrowd=1),
        annotated(bbox=[5, 0, 3, 5], category_id=2),
        annotated(bbox=[50, 0, 3, 5]),
        annotated(segmentation=[rectangle(2.6, 1, 3.4, 9)]),
        annotated(bbox=[5, 0, 3, 5], image_id=99),
    ]
    dogs = [{"id": 2, "name": "dog"}]

    def boxes(**more) -> list:
        return [one.box_xyxy for one in opened(*annotations, **more).prompts_for("photo.jpg", SIZE_HW)]

    assert boxes(categories=[*dogs, {"id": 1, "name": "Person"}]) == [(1, 0, 4, 5)]
    assert boxes(categories=[*dogs, {"id": "1", "name": "person"}]) == [(1, 0, 4, 5)], "an id is the same as text"
    assert boxes(categories=[]) == [(1, 0, 4, 5), (5, 0, 8, 5)]
    assert boxes(categories=dogs) == [(1, 0, 4, 5), (5, 0, 8, 5)]
    with pytest.raises(InputError, match=r"people.json: expected a category \"person\", got 'dog, cat'"):
        boxes(categories=[*dogs, {"id": 1, "name": "cat"}])


def test_image_ids_match_as_number_or_text(opened):
    coco = opened(annotated(bbox=[1, 0, 3, 5]), images=[listed(image_id="1")])
    assert len(coco.prompts_for("photo.jpg", SIZE_HW)) == 1
    with pytest.raises(InputError, match=r"people.json: no annotation's image_id is an image's id, such as 7 of the"):
        opened(annotated(bbox=[1, 0, 3, 5], image_id=7))


def test_photos_are_matched_by_path_then_by_base_name(opened):
    images = [listed("a/x.jpg", 1), listed("b\\x.jpg", 2), listed("./y.jpg", "three"), listed("z.jpg", 4)]
    people = [annotated(image_id=image["id"], bbox=[x, 0, 1, 1]) for x, image in enumerate(images)]
    coco = opened(*people[:3], images=images)

    def left_edges(name: str) -> list[int]:
        return [one.box_xyxy[0] for one in coco.prompts_for(name, SIZE_HW)]

    assert left_edges("a/x.jpg") == [0]
    assert left_edges("b/x.jpg") == [1]
    assert left_edges("y.jpg") == left_edges("/elsewhere/y.jpg") == [2]
    assert left_edges("z.jpg") == [], "listed, without people"
    assert left_edges("c/a/x.jpg") == [0], "a longer path that ends like the file's"
    with pytest.raises(InputError, match=r"people.json: x.jpg may be any of 2 images: a/x.jpg, b/x.jpg"):
        coco.prompts_for("x.jpg", SIZE_HW)
    (one,) = coco.prompts_for("x.jpg", SIZE_HW, "home\\b\\x.jpg")
    assert one.box_xyxy[0] == 1, "the whole path tells which"
    with pytest.raises(InputError, match=r"people.json: does not list c/x.jpg, only 4 other images"):
        coco.prompts_for("c/x.jpg", SIZE_HW)
    with pytest.raises(InputError, match=r"people.json: does not list w.jpg, only 4 other images such as a/x.jpg"):
        coco.prompts_for("w.jpg", SIZE_HW)


def test_a_photo_of_another_size_is_refused(opened):
    words = "people.json: lists photo.jpg with 20x10 pixels, but the upright photo has 10x20"
    with pytest.raises(InputError, match=words):
        opened().prompts_for("photo.jpg", (20, 10))


def test_saved_result_round_trip(pipe, person, tmp_path):
    result = pipe(person.photo, masks=[person.visible])
    path = tmp_path / "photo.deoccluded.json"
    path.write_text(json.dumps(result.to_coco(file_name="photo.png")))
    (one,) = CocoFile.open(path).prompts_for("photo.png", person.photo.shape[:2])
    assert np.array_equal(one.mask, result.people[0].visible_mask)
    assert one.score == pytest.approx(result.people[0].score, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected a COCO file, but it is not JSON"),
        ('{"images": [', "it is not JSON"),
        (b"\xff\xd8\xff\xe0\x00", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("[]", 'an object with "images" and "annotations", got list'),
        ("{}", 'expected a COCO file with "annotations", got an empty object'),
        ('{"annotations": [], "info": 1}', "expected a COCO file with \"images\", got only 'annotations', 'info'"),
        ('{"annotations": {}, "images": []}', '"annotations" must be a list of objects, got {}'),
        ('{"annotations": [3], "images": []}', r'"annotations" must be a list of objects, got \[3\]'),
        ('{"annotations": [{}], "images": []}', r'annotations\[0\]: expected "image_id", got an empty object'),
        ('{"annotations": [{"image_id": null}], "images": []}', '"image_id" must be a number or a name, got None'),
        (
            '{"annotations": [{"image_id": 1}], "images": [], "categories": [{"id": 1, "name": "person"}]}',
            r'annotations\[0\]: expected "category_id"',
        ),
        ('{"annotations": [], "images": [{"id": 1}]}', r"images\[0\]: expected \"file_name\", got only 'id'"),
        ('{"annotations": [], "images": [{"id": 1, "file_name": ""}]}', "\"file_name\" must be a name, got ''"),
        ('{"annotations": [], "images": [{"id": 1, "file_name": "a"}]}', 'expected "width"'),
    ],
)
def test_bad_files(tmp_path, text, words):
    path = tmp_path / "bad.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=words) as caught:
        CocoFile.open(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_missing_files_are_rejected(tmp_path):
    with pytest.raises(InputError, match=r"none\.json: no such file"):
        CocoFile.open(tmp_path / "none.json")
    with pytest.raises(InputError, match="expected a COCO file, got a folder"):
        CocoFile.open(tmp_path)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "expected \"segmentation\" or \"bbox\", got only 'id', 'image_id', 'category_id', 'iscrowd'"),
        ({"bbox": [1, 2, 3]}, r"bbox must be four numbers x, y, width, height, got \[1, 2, 3\]"),
        ({"bbox": [1, 2, 3, "4"]}, "bbox must be four numbers"),
        ({"bbox": [1, 2, 3, float("nan")]}, "bbox must be four numbers"),
        ({"segmentation": "house"}, "segmentation must be a list of polygons or run lengths, got 'house'"),
        ({"segmentation": [1, 2, 3, 4, 5, 6]}, "a polygon must be a list of numbers x0, y0, x1, y1, ..., got 1"),
        ({"segmentation": [[1, 2, 3]]}, r"a polygon must be a list of numbers .* got \[1, 2, 3\]"),
        ({"segmentation": [[[1, 2], [3, 4]]]}, "a polygon must be a list of numbers"),
        ({"segmentation": [[1, 2, 1e300, 4, 5, 6]]}, "a polygon must be a list of numbers"),
        ({"segmentation": {"counts": [200]}}, r"run lengths must have the size \[10, 20\] \(H, W\), got None"),
        ({"segmentation": {"size": [20, 10], "counts": [200]}}, r"size \[10, 20\] \(H, W\), got \[20, 10\]"),
        ({"segmentation": {"size": [10, 20]}}, "counts of run lengths must be a string or a list, got None"),
        ({"segmentation": {"size": [10, 20], "counts": [100]}}, "must add up to 10x20 pixels, got 100"),
        ({"segmentation": {"size": [10, 20], "counts": [-5, 205]}}, "counts of run lengths cannot be read"),
        ({"segmentation": {"size": [10, 20], "counts": ["200"]}}, "counts of run lengths cannot be read"),
        ({"segmentation": {"size": [10, 20], "counts": "é"}}, "counts of run lengths cannot be read"),
        ({"segmentation": {"size": [10, 20], "counts": "X"}}, "must add up to 10x20 pixels"),
        ({"bbox": [1, 2, 3, 4], "score": 30}, "score must be a number from 0 to 1, got 30"),
        ({"bbox": [1, 2, 3, 4], "score": None}, "score must be a number from 0 to 1, got None"),
    ],
)
def test_bad_annotations(opened, values, words):
    coco = opened(annotated(**values))
    with pytest.raises(InputError, match=words) as caught:
        coco.prompts_for("photo.jpg", SIZE_HW)
    assert str(caught.value).startswith(f"{coco.path}: annotation 7 of photo.jpg: ")
    assert "\n" not in str(caught.value)


def test_box_outside_the_image_is_clipped(opened):
    (one,) = opened(annotated(bbox=[-3, 8, 5, 40])).prompts_for("photo.jpg", SIZE_HW)
    assert mask_to_box_xyxy(one.mask) == (0, 8, 2, 10)
