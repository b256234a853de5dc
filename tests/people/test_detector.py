"""Decoding the detector's maps, its network as exported, and the measures of what it finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from deocclude.checkpoints.files import save_weights
from deocclude.export.to_onnx import export_to_weights
from deocclude.imaging.boxes import box_iou, fuse_boxes, suppress
from deocclude.inference.runtime import EXTRA_NETWORKS, NETWORKS, ModelInfo, find_model, list_models, open_networks
from deocclude.inference.settings import DetectorSettings
from deocclude.metrics.detection import Matched, f1, match_boxes, recall_precision
from deocclude.models.people_detector import PeopleDetector, PeopleDetectorConfig, to_maps
from deocclude.people.box_decoding import MAX_PEOPLE, decode_centres, decode_distances
from deocclude.people.detector import find_boxes, fit_photo
from deocclude.train.people_targets import encode


def test_boxes_by_hand() -> None:
    centre, sides = np.zeros((4, 6), np.float32), np.ones((4, 4, 6), np.float32)
    centre[1, 2], sides[:, 1, 2] = 0.9, (1.5, 0.5, 2, 1)
    centre[1, 3] = 0.8  # beside a larger one
    centre[3, 5] = 0.4
    centre[3, 0] = 0.2
    boxes, scores = decode_centres(centre, sides, 8, 0.3)
    np.testing.assert_allclose(scores, [0.9, 0.4])
    np.testing.assert_allclose(boxes, [[(2.5 - 1.5) * 8, (1.5 - 0.5) * 8, 36, 20], [36, 20, 52, 36]])
    assert decode_centres(centre, sides, 8, 0.95)[0].shape == (0, 4)


def test_decoding_undoes_encoding() -> None:
    truth = torch.tensor([[[8.0, 3, 60, 90], [70, 40, 96, 95], [33, 2, 47, 20], [0, 0, 0, 0]]])
    empty = torch.zeros(1, 1, 96, 96)
    targets = encode(truth, empty, empty, empty, 8)
    boxes, scores = decode_centres(targets.heat[0, 0].numpy(), targets.sides[0].numpy(), 8, 0.9)
    np.testing.assert_allclose(scores, 1)
    order = np.argsort(boxes[:, 0])
    np.testing.assert_allclose(boxes[order], truth[0, [0, 2, 1]].numpy(), atol=1e-4)


def test_number_of_detections_is_limited() -> None:
    centre = np.zeros((60, 60), np.float32)
    centre[::2, ::2] = np.linspace(0.5, 0.9, 900).reshape(30, 30)
    boxes, scores = decode_centres(centre, np.ones((4, 60, 60), np.float32), 8)
    assert len(boxes) == MAX_PEOPLE and scores[0] == pytest.approx(0.9) and (np.diff(scores) <= 0).all()


def test_iou_and_suppression_by_hand() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5], [5, 5, 15, 15], [20, 20, 20, 30]], float)
    np.testing.assert_allclose(box_iou(boxes[:1], boxes), [[1, 0.5, 25 / 175, 0]])
    assert suppress(boxes[:3], np.array([0.5, 0.9, 0.7]), 0.4) == [1, 2]
    assert suppress(boxes[:3], np.array([0.5, 0.9, 0.7]), 0.5) == [1, 2, 0]
    assert suppress(np.zeros((0, 4)), np.zeros(0), 0.5) == []


def test_fused_boxes_by_hand() -> None:
    first = np.array([[0, 0, 10, 10], [50, 0, 60, 10]], float), np.array([0.9, 0.4])
    second = np.array([[0, 0, 10, 13], [80, 0, 90, 10]], float), np.array([0.3, 0.6])
    boxes, scores = fuse_boxes([first, second], min_iou=0.6, max_iou=0.5)
    # one pass alone found the others: half their score
    np.testing.assert_allclose(scores, [0.6, 0.3, 0.2])
    np.testing.assert_allclose(boxes, [[0, 0, 10, 10.75], [80, 0, 90, 10], [50, 0, 60, 10]])
    nothing = np.zeros((0, 4)), np.zeros(0)
    assert fuse_boxes([nothing, nothing], 0.6, 0.5)[0].shape == (0, 4)
    np.testing.assert_allclose(fuse_boxes([nothing, first], 0.6, 0.5)[1], [0.45, 0.2])
    zeros = np.zeros(2)  # of a quantised network, with a least score of 0
    boxes, scores = fuse_boxes([(first[0], zeros), (second[0], zeros)], 0.6, 0.5)
    assert boxes[0].tolist() == [0, 0, 10, 11.5] and not scores.any()


def distance_maps(size_hw: tuple[int, int], people: dict[int, tuple[int, int, float]]) -> dict[str, np.ndarray]:
    """NanoDet's maps with a (row, column, score) in some strides; edges are 2, 1, 3 and 1.5 strides away."""
    maps = {}
    for stride in (8, 16, 32):
        h, w = size_hw[0] // stride, size_hw[1] // stride
        scores, distances = np.zeros((1, 1, h, w), np.float32), np.full((1, 4, 11, h, w), -30, np.float32)
        for side, bins in enumerate(((2,), (1,), (3,), (1, 2))):
            distances[:, side, bins] = 0
        if stride in people:
            row, column, score = people[stride]
            scores[..., row, column] = score
        maps |= {f"scores_{stride}": scores, f"distances_{stride}": distances.reshape(1, 44, h, w)}
    return maps


def test_distance_decoding_by_hand() -> None:
    maps = distance_maps((64, 96), {8: (3, 4, 0.5), 32: (1, 1, 0.8)})
    boxes, scores = decode_distances(maps, 0.3)
    np.testing.assert_allclose(scores, [0.8, 0.5])
    x, y = 1.5 * 32, 1.5 * 32
    np.testing.assert_allclose(boxes[0], [x - 64, y - 32, x + 96, y + 48], atol=1e-4)
    x, y = 4.5 * 8, 3.5 * 8
    np.testing.assert_allclose(boxes[1], [x - 16, y - 8, x + 24, y + 12], atol=1e-4)
    assert decode_distances(maps, 0.9)[0].shape == (0, 4)


def test_two_sizes_are_fused() -> None:
    sizes = []

    def network(image: np.ndarray) -> dict[str, np.ndarray]:
        sizes.append(image.shape[2:])
        return distance_maps(image.shape[2:], {16: (1, 2, 0.8)} if image.shape[2] == 64 else {})

    photo = np.zeros((128, 256, 3), np.uint8)
    settings = DetectorSettings(size_px=128, second_size_px=256, min_score=0.3)
    (found,) = find_boxes(network, photo, settings)
    assert sizes == [(64, 128), (128, 256)]
    assert found.score == pytest.approx(0.4), "one of two passes found the person"
    np.testing.assert_allclose(found.box_xyxy, [2 * (40 - 32), 2 * (24 - 16), 2 * (40 + 48), 2 * (24 + 24)], atol=1e-3)
    (alone,) = find_boxes(network, photo, settings, average=False)
    assert alone.score == pytest.approx(0.8) and len(sizes) == 3


def test_photo_is_letterboxed_at_the_upper_left() -> None:
    photo = np.full((30, 100, 3), 200, np.uint8)
    image, scale_xy = fit_photo(photo, 64)
    assert image.shape == (1, 3, 32, 64) and image.dtype == np.float32
    np.testing.assert_allclose(scale_xy, [0.64, 19 / 30])
    assert (image[..., :19, :] == np.float32(200 / 255)).all() and (image[..., 19:, :] == np.float32(128 / 255)).all()
    assert fit_photo(np.zeros((3, 5000, 3), np.uint8), 64)[0].shape == (1, 3, 32, 64)


class Answer:
    """A network that always finds the same two people."""

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        h, w = image.shape[2] // 8, image.shape[3] // 8
        centre, sides = np.zeros((1, 1, h, w), np.float32), np.full((1, 4, h, w), 1.0, np.float32)
        centre[..., 2, 3], centre[..., 2, 7] = 0.9, 0.6
        sides[0, :, 2, 7] = (1, 20, 20, 20)
        return {"centre": centre, "sides": sides, "mask": centre}


def test_boxes_are_in_photo_pixels_and_clipped() -> None:
    photo = np.zeros((120, 240, 3), np.uint8)
    found = find_boxes(Answer(), photo, DetectorSettings(size_px=96), average=False)
    assert [round(d.score, 4) for d in found] == [0.9, 0.6]
    scale = 240 / 96
    assert found[0].box_xyxy == tuple(scale * v for v in (20, 12, 36, 28))
    assert found[1].box_xyxy == (scale * 52, 0, 240, 120)
    assert len(find_boxes(Answer(), photo, DetectorSettings(size_px=96, min_score=0.7), average=False)) == 1


class Bright:
    """A network that finds one person where the image is white, with a box wider to the right, at every call."""

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        small = image[:, :1, 4::8, 4::8] == 1
        sides = np.ones((len(image), 4, *small.shape[2:]), np.float32)
        sides[:, 2] = 2.25
        return {"centre": small * np.float32(0.8), "sides": sides, "mask": small * np.float32(0.9)}


def test_mirrored_detections_are_flipped_back_and_merged() -> None:
    photo = np.zeros((64, 128, 3), np.uint8)
    photo[16:24, 32:40] = 255
    (once,) = find_boxes(Bright(), photo, DetectorSettings(size_px=128), average=False)
    assert once.box_xyxy == (28, 12, 54, 28)
    (both,) = find_boxes(Bright(), photo, DetectorSettings(size_px=128))
    # 1 and 2.25 cells to either side: their geometric mean is 1.5
    np.testing.assert_allclose(both.box_xyxy, (36 - 12, 12, 36 + 12, 28), atol=1e-4)
    assert both.score == pytest.approx(0.8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[PeopleDetector, ModelInfo, dict]:
    """A tiny detector, the model that holds it alone, and its row."""
    root = tmp_path_factory.mktemp("detector")
    torch.manual_seed(0)
    config = PeopleDetectorConfig(stem_width=8, widths=(8, 8, 8), blocks=(0, 0, 0))
    network = PeopleDetector(config).eval()
    with torch.no_grad():
        for head in (network.centre, network.log_sides, network.mask):
            head.weight.mul_(60)  # so that the maps vary
    meta = {"network": "people_detector", "config": config.to_dict(), "step": 3, "size_px": 320}
    save_weights(root / "best.safetensors", network.state_dict(), meta)
    row = export_to_weights(root / "best.safetensors", root / "weights", model="tiny")
    return network, list_models(root / "weights")["tiny"], row


def test_exported_detector_matches_torch_at_any_size(exported) -> None:
    network, model, row = exported
    assert row["onnx"] == "people_detector_tiny.onnx" and row["parity"] < 2e-3 and row["size_px"] == 320
    networks, _ = open_networks(model, "cpu", threads=1)
    assert list(networks) == ["people_detector"]
    for shape in ((1, 3, 32, 96), (2, 3, 160, 64)):
        image = torch.rand(shape)
        found = networks["people_detector"](image=image.numpy())
        with torch.no_grad():
            wanted = to_maps(network(image))._asdict()
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            # the exported weights are rounded to half precision
            np.testing.assert_allclose(found[key], value.numpy(), rtol=0.02, atol=5e-3)
    photo = np.random.default_rng(0).integers(0, 256, (70, 50, 3)).astype(np.uint8)
    for found in find_boxes(networks["people_detector"], photo, DetectorSettings(size_px=64, min_score=0.0)):
        x0, y0, x1, y1 = found.box_xyxy
        assert 0 <= x0 < x1 <= 50 and 0 <= y0 < y1 <= 70


def test_a_model_needs_no_detector(weights_dir: Path) -> None:
    assert set(find_model("base", weights_dir).networks) == set(NETWORKS)
    assert not set(EXTRA_NETWORKS) & set(NETWORKS)


def test_matching_by_hand() -> None:
    truth = np.array([[0, 0, 20, 100], [50, 0, 70, 30]], float)
    found = np.array([
        [0, 0, 20, 90],  # finds the first
        [0, 0, 20, 100],  # finds it again: wrong
        [50, 0, 70, 30],  # finds the low one: does not count
        [200, 0, 220, 20],  # low and wrong: does not count
        [100, 0, 120, 100],  # in the crowd: does not count
        [150, 0, 170, 100],  # wrong
    ], float)  # fmt: skip
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    ignore = np.zeros((100, 240), bool)
    ignore[:, 95:125] = True
    found_of = match_boxes(found, scores, truth, ignore=ignore, min_height_px=50)
    assert found_of.people == 1
    assert found_of.scores.tolist() == [0.9, 0.8, 0.4] and found_of.correct.tolist() == [True, False, False]
    every = match_boxes(found, scores, truth)
    assert every.people == 2 and every.correct.tolist() == [True, False, True, False, False, False]
    nobody = match_boxes(np.zeros((0, 4)), np.zeros(0), truth)
    assert nobody.people == 2 and len(nobody.scores) == 0


def test_recall_and_precision_by_hand() -> None:
    photos = [
        Matched(np.array([0.9, 0.5]), np.array([True, False]), 2), Matched(np.array([0.3]), np.array([True]), 2)
    ]  # fmt: skip
    assert recall_precision(photos) == (0.5, pytest.approx(2 / 3))
    assert recall_precision(photos, 0.4) == (0.25, 0.5)
    assert recall_precision(photos, 0.95) == (0.0, 1.0)
    assert recall_precision([]) == (1.0, 1.0)
    assert f1(0.5, 1.0) == pytest.approx(2 / 3) and f1(0, 0) == 0
