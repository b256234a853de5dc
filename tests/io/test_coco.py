"""Ids of annotations, and documents of several images merged into one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from bodies import make_person
from deocclude.errors import InputError, UsageError
from deocclude.io.coco import annotation_ids, merge_coco
from deocclude.types import Result


def result_of(seed: int, **place: object) -> Result:
    """Two people, the second in front of the first one's right columns."""
    photo = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    behind, front = make_person(photo, 1, left=4, hidden_from=14), make_person(photo, 2, left=8, hidden_from=14)
    visible = behind.visible_part.copy()
    visible[:, 6:8] = False
    return Result(photo, (replace(behind, visible_part=visible), front), {}, "cpu", "base", **place)


def test_annotation_ids_are_the_persons_own_in_image_1_and_differ_between_images() -> None:
    assert annotation_ids([1, 2], 1) == {1: 1, 2: 2}
    assert annotation_ids([1, 100_000], 3) == {1: 200_001, 100_000: 300_000}
    assert annotation_ids([1], np.int64(2)) == {1: 100_001}
    assert type(annotation_ids([1], np.int64(2))[1]) is int, "JSON has no numpy numbers"
    with pytest.raises(UsageError, match="room for 100000 people an image, got 100001"):
        annotation_ids([100_001], 1)


@pytest.mark.parametrize("image_id", [0, -1, 1.0, "1", True])
def test_image_id_is_an_integer_from_1_on(image_id: object) -> None:
    with pytest.raises(UsageError, match="image_id must be an integer from 1 on, got "):
        result_of(0).to_coco(image_id=image_id)


def test_document_has_the_results_name_and_id_or_those_given() -> None:
    result = result_of(0, name="a.jpg", id=3)
    for document, name, number in ((result.to_coco(), "a.jpg", 3), (result.to_coco("b/a.jpg", 2), "b/a.jpg", 2)):
        assert document["images"] == [{"id": number, "file_name": name, "width": 30, "height": 20}]
        first = 100_000 * (number - 1) + 1
        assert [(row["id"], row["image_id"]) for row in document["annotations"]] == [
            (first, number),
            (first + 1, number),
        ]
        assert document["occlusions"] == [{"front": first + 1, "behind": first, "area_px": 24}]


def test_document_of_a_numpy_image_id_is_json() -> None:
    result = result_of(0)
    assert json.loads(json.dumps(result.to_coco(image_id=np.int64(2)))) == result.to_coco(image_id=2)


def test_merged_documents_are_read_by_pycocotools(tmp_path: Path) -> None:
    results = [result_of(seed, name=f"{seed}.jpg", id=seed) for seed in (1, 2, 3)]
    merged = merge_coco(result.to_coco() for result in results)
    file = tmp_path / "all.json"
    file.write_text(json.dumps(merged))
    coco = COCO(file)
    assert [image["file_name"] for image in coco.loadImgs([1, 2, 3])] == ["1.jpg", "2.jpg", "3.jpg"]
    assert len(coco.getAnnIds()) == 6
    for result in results:
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=result.id))
        for annotation, person in zip(annotations, result.people, strict=True):
            assert np.array_equal(coco.annToMask(annotation), person.amodal_mask)
    pairs = {(pair["front"], pair["behind"]) for pair in merged["occlusions"]}
    assert pairs == {(2, 1), (100_002, 100_001), (200_002, 200_001)}
    assert merged["categories"] == [{"id": 1, "name": "person"}]


def test_merged_documents_can_be_merged_again() -> None:
    documents = [result_of(0, id=number).to_coco() for number in (1, 2, 3)]
    assert merge_coco([merge_coco(documents[:2]), documents[2]]) == merge_coco(documents)


def test_documents_that_do_not_fit_together_are_refused() -> None:
    document = result_of(0).to_coco()
    with pytest.raises(UsageError, match="images of one id, 1, cannot be merged"):
        merge_coco([document, document])
    with pytest.raises(UsageError, match="annotations of one id, 1, cannot be merged"):
        merge_coco([document, {**document, "images": [{"id": 2}]}])
    with pytest.raises(UsageError, match="no COCO document to merge"):
        merge_coco([])
    with pytest.raises(UsageError, match="different categories"):
        merge_coco([document, {**document, "categories": []}])
    with pytest.raises(InputError, match='expected a COCO file with "occlusions"'):
        merge_coco([{"images": [], "annotations": []}])
    for image, message in (({"width": 9}, 'expected "id", got only'), ({"id": [1]}, '"id" must be an integer')):
        with pytest.raises(InputError, match=f"merge_coco: images: {message}"):
            merge_coco([{**document, "images": [image]}])
