import json
import logging

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


def test_fractions_of_the_photos_size_are_named_and_not_taken_as_pixels(opened, caplog):
    coco = opened(annotated(id=1, bbox=[0.1, 0.2, 0.5, 0.9]), annotated(id=2, bbox=[2, 1, 5, 3]))
    (one,) = coco.prompts_for("photo.jpg", SIZE_HW)
    assert one.box_xyxy == (2, 1, 7, 4)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "bbox must be in pixels, got [0.1, 0.2, 0.5, 0.9], which looks like fractions of the photo's size" in line
    alone = opened(annotated(segmentation=[[0.1, 0.1, 0.9, 0.1, 0.5, 0.8]]))
    with pytest.raises(InputError, match=r"no usable person: .*polygons must be in pixels, got .* fractions"):
        alone.prompts_for("photo.jpg", SIZE_HW)


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
        annotated(segmentation=[rectangle(9, 1, 15, 4)], iscrowd=1),
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


def test_annotations_of_unknown_categories_and_images_are_named(opened, caplog):
    categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "car"}]
    odd = [annotated(bbox=[1, 0, 3, 5], category_id=7), annotated(bbox=[1, 0, 3, 5], image_id=99)]
    cars = [annotated(bbox=[1, 0, 3, 5], category_id=2)]
    coco = opened(annotated(bbox=[5, 0, 3, 5]), *odd, *cars, categories=categories)
    assert [one.box_xyxy for one in coco.prompts_for("photo.jpg", SIZE_HW)] == [(5, 0, 8, 5)]
    assert [message.partition("people.json: ")[2] for message in caplog.messages] == [
        "annotations[1]: category_id 7 is in no category: left out",
        "people with an image_id that no image has, such as 99: 1 left out",
    ]
    with pytest.raises(InputError, match=r"annotations\[0\]: category_id 7 is in no category"):
        opened(odd[0])


def test_image_ids_match_as_number_or_text(opened):
    coco = opened(annotated(bbox=[1, 0, 3, 5]), images=[listed(image_id="1")])
    assert len(coco.prompts_for("photo.jpg", SIZE_HW)) == 1
    with pytest.raises(InputError, match=r"people.json: no annotation's image_id is an image's id, such as 7 of the"):
        opened(annotated(bbox=[1, 0, 3, 5], image_id=7))


def test_photos_are_matched_by_path_then_by_base_name(opened):
    images = [listed("a/x.jpg", 1), listed("b\\x.jpg", 2), listed("./y.jpg", "three"), listed("z.jpg", 4)]
    people = [annotated(image_id=image["id"], bbox=[x, 0, 2, 2]) for x, image in enumerate(images)]
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
        ('{"annotations": [3], "images": []}', r"annotations\[0\]: expected an object, got 3"),
        ('{"annotations": [3, {}], "images": []}', "expected an object, got 3; none of 2 annotations can be used"),
        ('{"annotations": [{}], "images": []}', r'annotations\[0\]: expected "image_id", got an empty object'),
        ('{"annotations": [{"image_id": null}], "images": []}', '"image_id" must be an integer or a name, got None'),
        ('{"annotations": [{"image_id": 1.5}], "images": []}', '"image_id" must be an integer or a name, got 1.5'),
        ('{"annotations": [{"image_id": true}], "images": []}', '"image_id" must be an integer or a name, got True'),
        (
            '{"annotations": [{"image_id": 1}], "images": [], "categories": [{"id": 1, "name": "person"}]}',
            r'annotations\[0\]: expected "category_id"',
        ),
        ('{"annotations": [], "images": [{"id": 1}]}', r"images\[0\]: expected \"file_name\", got only 'id'"),
        ('{"annotations": [], "images": [{"id": 1, "file_name": ""}]}', "\"file_name\" must be a name, got ''"),
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
        ({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, r"a polygon must be a list of at least six numbers .* got \[1, 2"),
        ({"segmentation": [[1, 2, 3, 4]]}, r"a polygon must be a list of at least six numbers .* got \[1, 2, 3, 4\]"),
        ({"segmentation": [[[1, 2], [3, 4]]]}, "a polygon must be a list of at least six numbers"),
        ({"segmentation": [[1, 2, 1e300, 4, 5, 6]]}, "a polygon must be a list of at least six numbers"),
        ({"segmentation": [[30, 2, 40, 2, 40, 9]]}, "segmentation has no pixel in the photo of 20x10"),
        ({"segmentation": {"counts": [200]}}, r"run lengths must have the size \[10, 20\] \(H, W\), got None"),
        ({"segmentation": {"size": [20, 10], "counts": [200]}}, r"size \[10, 20\] \(H, W\), got \[20, 10\]"),
        ({"segmentation": {"size": [10, 20]}}, "counts of run lengths must be a string or a list, got None"),
        ({"segmentation": {"size": [10, 20], "counts": [100]}}, "must add up to 10x20 pixels, got 100"),
        ({"segmentation": {"size": [10, 20], "counts": [-5, 205]}}, "run lengths must be 0 or more, got -5"),
        ({"segmentation": {"size": [10, 20], "counts": ["200"]}}, "counts of run lengths cannot be read"),
        ({"segmentation": {"size": [10, 20], "counts": "é"}}, "run lengths must be ASCII letters, got 'é'"),
        ({"segmentation": {"size": [10, 20], "counts": "X"}}, "the last run length is incomplete"),
        (
            {"segmentation": [[1, 2]], "bbox": [5, 5, -3, 2]},
            "got .1, 2., and bbox must have a width and a height above",
        ),
        ({"bbox": [5, 5, 3, 0]}, r"bbox must have a width and a height above 0, got \[5, 5, 3, 0\]"),
        ({"bbox": [50, 5, 3, 2]}, r"bbox \[50, 5, 3, 2\] has no pixel in the photo of 20x10"),
    ],
)
def test_a_photo_with_unusable_annotations_alone_is_an_error(opened, values, words):
    coco = opened(annotated(**values))
    with pytest.raises(InputError, match=words) as caught:
        coco.prompts_for("photo.jpg", SIZE_HW)
    assert str(caught.value).startswith(f"{coco.path}: no usable person: annotation 7 of photo.jpg: left out: ")
    assert "\n" not in str(caught.value)


def test_deeply_nested_annotations_are_named_and_left_out(opened, caplog):
    # hundreds of levels can be read, but not handed to a worker process
    nested: list = []
    for _ in range(30):
        nested = [nested]
    with caplog.at_level(logging.WARNING):
        coco = opened(annotated(bbox=[1, 1, 5, 5]), annotated(id=8, bbox=[1, 1, 5, 5], segmentation=nested))
    assert len(coco.prompts_for("photo.jpg", SIZE_HW)) == 1
    assert [record.getMessage() for record in caplog.records] == [
        f"{coco.path}: annotations[1]: lists and objects inside each other, more than 20 deep: left out"
    ]


@pytest.mark.parametrize("image", [{"file_name": "x" * 9999}, {"file_name": "a\nb\x1b"}, {"width": 10**2000}])
def test_messages_with_a_file_s_own_values_are_short_and_one_line(opened, image):
    coco = opened(images=[listed() | image])
    with pytest.raises(InputError, match=r"does not list photo\.jpg|lists photo\.jpg with 1000") as caught:
        coco.prompts_for("photo.jpg", SIZE_HW)
    message = str(caught.value)
    assert len(message) < len(str(coco.path)) + 300
    assert message.isprintable()


def test_box_outside_the_image_is_clipped(opened):
    (one,) = opened(annotated(bbox=[-3, 8, 5, 40])).prompts_for("photo.jpg", SIZE_HW)
    assert mask_to_box_xyxy(one.mask) == (0, 8, 2, 10)


# --- files of other tools --------------------------------------------------------------------------------------------

PIECES = drawn(".....", ".##.#", ".##.#", ".....")  # one person behind a post, as supervision and CVAT write it
COCO_INFO = {"description": "COCO 2017 Dataset", "contributor": "COCO Consortium", "url": "http://cocodataset.org"}


def run_lengths(mask: np.ndarray = PIECES, compressed: bool = False) -> dict:
    return encode_rle(mask) if compressed else {"size": list(mask.shape), "counts": encode_rle_counts(mask)}


def brush(**values) -> dict:
    """A mask as tools mark it that write iscrowd for every run-length encoding."""
    return annotated(id=1, segmentation=run_lengths(), iscrowd=1) | values


@pytest.fixture
def read(opened, caplog):
    """Write a COCO file of one photo, open it, and return the people's boxes and the warnings without the path."""

    def people(*annotations: dict, size_hw: tuple[int, int] = PIECES.shape, image=None, **more) -> tuple[list, list]:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            coco = opened(*annotations, images=[listed(size_hw=size_hw) | (image or {})], **more)
            found = coco.prompts_for("photo.jpg", size_hw)
        lines = [record.getMessage() for record in caplog.records]
        assert all(line.startswith(f"{coco.path}: ") and "\n" not in line for line in lines)
        return [one.box_xyxy for one in found], [line.removeprefix(f"{coco.path}: ") for line in lines]

    return people


@pytest.mark.parametrize("compressed", [False, True])
def test_run_lengths_with_iscrowd_are_one_person(opened, compressed):
    coco = opened(brush(segmentation=run_lengths(compressed=compressed)), images=[listed(size_hw=PIECES.shape)])
    (one,) = coco.prompts_for("photo.jpg", PIECES.shape)
    assert np.array_equal(one.mask, PIECES)


def test_run_lengths_with_iscrowd_beside_polygons_are_one_person(read):
    # supervision writes polygons with 0 for whole masks, and this for masks in pieces
    whole = annotated(segmentation=[rectangle(0, 0, 1, 4)])
    assert read(whole, brush()) == ([(0, 0, 1, 4), (1, 1, 5, 3)], [])
    cvat = {"flickr_url": "", "coco_url": ""}
    assert read(whole, brush(), image=cvat, info={"contributor": "", "url": ""}) == read(whole, brush())


def test_crowds_of_coco_are_named_and_left_out(read):
    whole = annotated(segmentation=[rectangle(0, 0, 1, 4)])
    left_out = "annotation 1 of photo.jpg: left out as a crowd: run lengths of COCO with iscrowd 1; 0 makes it a person"
    assert read(whole, brush(), info=COCO_INFO) == ([(0, 0, 1, 4)], [left_out])
    url = {"coco_url": "http://images.cocodataset.org/val2017/000000000001.jpg"}
    assert read(whole, brush(), image=url) == ([(0, 0, 1, 4)], [left_out])
    # other run lengths over the photos of COCO: no polygon says that the file distinguishes them
    assert read(brush(), image=url, info=COCO_INFO) == ([(1, 1, 5, 3)], [])


def test_coco_numbers_of_crowds_are_recognised(read):
    # COCO's crowd of people in its image 250282
    crowd = brush(id=900100250282, image_id=250282)
    boxes, (line,) = read(crowd, image={"id": 250282})
    assert boxes == [] and "annotation 900100250282 of photo.jpg: left out as a crowd" in line
    assert read(crowd | {"id": 900100250283}, image={"id": 250282}) == ([(1, 1, 5, 3)], [])


def test_polygons_and_boxes_with_iscrowd_are_crowds(read):
    polygon = annotated(segmentation=[rectangle(0, 0, 5, 4)], iscrowd="1")
    box = annotated(id=8, bbox=[0, 0, 5, 4], iscrowd=True)
    boxes, lines = read(
        polygon, box, annotated(bbox=[1, 0, 2, 2], iscrowd="0"), annotated(bbox=[3, 0, 1, 2], iscrowd=0.0)
    )
    assert boxes == [(1, 0, 3, 2), (3, 0, 4, 2)]
    assert lines == [
        "annotation 7 of photo.jpg: left out as a crowd: polygons with iscrowd 1; 0 makes it a person",
        "annotation 8 of photo.jpg: left out as a crowd: a box with iscrowd 1; 0 makes it a person",
    ]


@pytest.mark.parametrize("value", [2, "yes", [1], float("nan")])
def test_other_values_of_iscrowd_are_named(read, value):
    boxes, (line,) = read(annotated(bbox=[1, 0, 2, 2], iscrowd=value))
    assert boxes == [(1, 0, 3, 2)]
    assert line == f"annotation 7 of photo.jpg: iscrowd must be 0 or 1, got {value!r}: taken as 0"


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        ([[0, 0, 5, 4]], "a polygon must be a list of at least six numbers x0, y0, x1, y1, ..., got [0, 0, 5, 4]"),
        ([[9, 9, 12, 9, 12, 12]], "segmentation has no pixel in the photo of 5x4"),
        ({"size": [5, 4], "counts": [20]}, "run lengths must have the size [4, 5] (H, W), got [5, 4]"),
        ("house", "segmentation must be a list of polygons or run lengths, got 'house'"),
    ],
)
def test_the_box_replaces_an_unusable_segmentation(read, segmentation, words):
    boxes, lines = read(annotated(segmentation=segmentation, bbox=[1, 1, 2, 3]))
    assert boxes == [(1, 1, 3, 4)]
    assert lines == [f"annotation 7 of photo.jpg: {words}: its bbox is used"]


def test_usable_polygons_are_used_beside_unusable_ones(read):
    boxes, (line,) = read(annotated(segmentation=[[0, 0, 5, 4], rectangle(1, 1, 3, 4)], bbox=[0, 0, 5, 4]))
    assert boxes == [(1, 1, 3, 4)]
    assert "1 of 2 polygons left out: a polygon must be" in line and line.endswith("got [0, 0, 5, 4]")


def test_a_polygon_without_its_outer_list_is_read(read):
    assert read(annotated(segmentation=rectangle(1, 1, 3, 4))) == ([(1, 1, 3, 4)], [])


def test_an_unusable_annotation_stops_no_other(read):
    boxes, lines = read(
        annotated(bbox=[3, 3, -2, -2]), annotated(id=8, bbox=[1, 1, 2, 3]), annotated(id="x", bbox=None)
    )
    assert boxes == [(1, 1, 3, 4)]
    assert lines == [
        "annotation 7 of photo.jpg: left out: bbox must have a width and a height above 0, got [3, 3, -2, -2]",
        "annotation 'x' of photo.jpg: left out: bbox must be four numbers x, y, width, height, got None",
    ]


@pytest.mark.parametrize("score", [30, "high", float("nan")])
def test_an_invalid_score_is_named_and_taken_as_1(read, score):
    boxes, (line,) = read(annotated(bbox=[1, 1, 2, 3], score=score))
    assert boxes == [(1, 1, 3, 4)]
    assert "score must be a number from 0 to 1, got" in line and line.endswith(": taken as 1")
    assert read(annotated(bbox=[1, 1, 2, 3], score=None)) == ([(1, 1, 3, 4)], [])


def test_ids_may_be_floats_without_a_fraction(read):
    people = [annotated(image_id=1, category_id=1.0, bbox=[1, 1, 2, 3]), annotated(image_id="1", bbox=[3, 0, 2, 2])]
    assert read(*people, image={"id": 1.0}) == ([(1, 1, 3, 4), (3, 0, 5, 2)], [])
    assert read(*people, categories=[{"id": 1.0, "name": "person"}, {"id": 2, "name": "dog"}])[0] == [
        (1, 1, 3, 4), (3, 0, 5, 2),
    ]  # fmt: skip


def test_invalid_entries_are_named_and_stop_no_other(opened, caplog):
    good = annotated(bbox=[1, 0, 3, 5])
    images = [{"id": 2, "width": 5}, {"id": 1.5, "file_name": "b.jpg"}, listed(), "photo"]
    others = [{"bbox": [1, 1, 1, 1]}, annotated(image_id=None), annotated(category_id=[]), 3]
    categories = [{"id": 1, "name": "person"}, {"name": "Person"}, None]
    coco = opened(*others, good, images=images, categories=categories)
    assert [one.box_xyxy for one in coco.prompts_for("photo.jpg", SIZE_HW)] == [(1, 0, 4, 5)]
    assert [record.getMessage().removeprefix(f"{coco.path}: ") for record in caplog.records] == [
        "categories[1]: expected \"id\", got only 'name': left out",
        "categories[2]: expected an object, got None: left out",
        "annotations[0]: expected \"image_id\", got only 'bbox': left out",
        'annotations[1]: "image_id" must be an integer or a name, got None: left out',
        'annotations[2]: "category_id" must be an integer or a name, got []: left out',
        "annotations[3]: expected an object, got 3: left out",
        "images[0]: expected \"file_name\", got only 'id', 'width': left out",
        'images[1]: "id" must be an integer or a name, got 1.5: left out',
        "images[3]: expected an object, got 'photo': left out",
    ]


def test_a_photo_without_a_listed_size_is_used(read):
    boxes, (line,) = read(annotated(bbox=[1, 1, 2, 3]), image={"width": None})
    assert boxes == [(1, 1, 3, 4)]
    assert line == 'images[0]: "width" must be a number, got None: used without a check of the photo\'s size'


def test_warnings_are_limited_to_ten_lines(opened, caplog):
    people = opened(annotated(bbox=[1, 1, 2, 3]), *[annotated(bbox=[]) for _ in range(14)])
    assert len(people.prompts_for("photo.jpg", SIZE_HW)) == 1
    assert len(caplog.records) == 11
    assert caplog.records[-1].getMessage() == f"{people.path}: 4 more such lines are not shown"


def test_a_photo_of_crowds_alone_has_no_people(read):
    boxes, (line,) = read(annotated(bbox=[0, 0, 5, 4], iscrowd=1))
    assert boxes == [] and "left out as a crowd" in line
