"""Composed crowds: the truth is what was pasted, to the pixel."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from deocclude.data.samples.detector_samples import MAX_PEOPLE, PeopleSample, from_scene, to_batch
from deocclude.data.samples.detector_stream import PeopleStream
from deocclude.data.sources.layers import Layer, Library
from deocclude.data.synthesis.multi_person import (
    AssetPool,
    CrowdConfig,
    CrowdScene,
    Pasted,
    compose,
    compose_crowd,
    paste,
)


def slab(name: str, left: int, top: int, w: int, h: int, value: int = 200, *, is_person: bool = True) -> Pasted:
    rgb = np.full((h, w, 3), value, np.uint8)
    return Pasted(name, is_person, left, top, rgb, np.full((h, w), 255, np.uint8))


@pytest.fixture
def by_hand() -> CrowdScene:
    """On 20 x 30: a far person of 4 x 10, a near one over its right half, and a thing over the near one's feet."""
    canvas = np.zeros((20, 30, 3), np.uint8)
    layers = [
        slab("far", 2, 4, 4, 10, 50), slab("near", 4, 2, 6, 16, 100), slab("thing", 4, 16, 20, 4, 150, is_person=False)
    ]  # fmt: skip
    ignore = np.ones((20, 30), bool)
    return compose(canvas, layers, ignore)


def test_ground_truth_of_a_scene_composed_by_hand(by_hand: CrowdScene) -> None:
    assert by_hand.names == ("far", "near")
    assert by_hand.amodal.sum((1, 2)).tolist() == [40, 96]
    assert by_hand.visible.sum((1, 2)).tolist() == [20, 84]
    np.testing.assert_allclose(by_hand.hidden_fraction, [0.5, 0.125])
    assert by_hand.boxes_xyxy.tolist() == [[2, 4, 4, 14], [4, 2, 10, 16]]
    assert by_hand.hidden_by_px.tolist() == [[0, 0], [20, 0]], "the near one stands before 2 x 10 pixels of the far one"
    colours = {50: by_hand.visible[0], 100: by_hand.visible[1]}
    for value, mask in colours.items():
        np.testing.assert_array_equal((by_hand.photo == value).all(-1), mask)
    # what is pasted is labelled
    assert by_hand.ignore.sum() == 20 * 30 - 20 - 96 - (20 * 4 - 6 * 2)


def test_scene_without_people_is_valid() -> None:
    scene = compose(np.zeros((8, 9, 3), np.uint8), [slab("thing", 1, 1, 3, 3, is_person=False)], np.zeros((8, 9), bool))
    assert scene.visible.shape == (0, 8, 9) and scene.boxes_xyxy.shape == (0, 4) and scene.hidden_by_px.shape == (0, 0)
    batch = to_batch([from_scene(scene, 32)])
    assert not batch["boxes_xyxy"].any() and not batch["visible"].any() and not batch["ignore"].any()


def test_pasted_layer_has_the_requested_position_and_size() -> None:
    alpha = np.zeros((44, 24), np.uint8)
    alpha[2:42, 2:22] = 255  # 20 wide, 40 high
    layer = Layer("box", np.full((44, 24, 3), 9, np.uint8), alpha)
    rng = np.random.default_rng(0)
    whole = paste(layer, rng, 50, 90, 80, size_hw=(100, 100), is_person=True)
    ys, xs = np.nonzero(whole.mask((100, 100)))
    assert ys.max() == pytest.approx(89, abs=1) and xs.mean() == pytest.approx(49.5, abs=1)
    assert len(ys) == pytest.approx(80 * 40, rel=0.12), "sides are stretched by up to 5 %"
    cut = paste(layer, rng, 100, 140, 80, size_hw=(100, 100), is_person=True)
    assert cut.left + cut.alpha.shape[1] == 100 and cut.top + cut.alpha.shape[0] == 100
    assert cut.mask((100, 100)).sum() == pytest.approx(80 * 40 / 4, rel=0.15)
    assert paste(layer, rng, 300, 90, 80, size_hw=(100, 100), is_person=True) is None


def test_drawn_scenes_satisfy_invariants(library: Library) -> None:
    pool, config = AssetPool.of(library), CrowdConfig(smallest=0.2, middle=(0.3, 1.0))
    scenes = [compose_crowd(pool, np.random.default_rng(seed), config, 96) for seed in range(60)]
    hidden = 0
    for scene in scenes:
        assert max(scene.photo.shape[:2]) == 96 and scene.photo.dtype == np.uint8
        assert scene.visible.shape == scene.amodal.shape == (len(scene.names), *scene.photo.shape[:2])
        assert not (scene.visible & ~scene.amodal).any()
        assert (scene.visible.sum(0) <= 1).all(), "each pixel is one person's"
        assert not (scene.ignore & scene.amodal.any(0)).any()
        covered_by_people = scene.hidden_by_px.sum(0)
        assert (covered_by_people >= 0).all()
        hidden += (scene.hidden_fraction > 0.05).sum()
        for mask in scene.visible:
            assert mask.any()
    counts = [len(s.names) for s in scenes]
    assert min(counts) == 0 and max(counts) >= 4 and hidden >= 10
    assert sum(s.ignore.any() for s in scenes) >= 5, "own photos have strangers' places"
    again = compose_crowd(pool, np.random.default_rng(7), config, 96)
    np.testing.assert_array_equal(again.photo, scenes[7].photo)


def test_people_are_pasted_back_to_front(library: Library) -> None:
    config = CrowdConfig(p_negative=0, p_own_photo=0, smallest=0.1, middle=(0.3, 0.5), spread=0.5, camera_height=(1, 1))
    for seed in range(20):
        scene = compose_crowd(AssetPool.of(library), np.random.default_rng(seed), config, 128)
        feet = [np.flatnonzero(mask.any(1))[-1] for mask in scene.amodal]
        # the ground holds but for a jitter of the feet and the photo's edge
        assert all(b >= a - 12 for a, b in pairwise(feet)), (seed, feet)


def test_crowd_is_drawn_without_own_photos_or_whole_people(library: Library) -> None:
    for keep in ("has_background", "whole"):
        for wanted in (True, False):
            people = [p for p in library.people if getattr(p, keep) == wanted]
            pool = AssetPool.of(replace(library, people=people, weights=np.full(len(people), 1 / len(people))))
            for seed in range(3):
                compose_crowd(pool, np.random.default_rng(seed), CrowdConfig(), 64)


def test_tiny_and_nearly_hidden_people_become_ignore_regions() -> None:
    boxes = np.array([[0, 0, 30, 40], [2, 2, 9, 40], [10.5, 10.5, 30, 60]], np.float32)
    empty = np.zeros((64, 64), bool)
    owner = np.zeros((64, 64), np.uint8)
    owner[20, 1:4] = 1, 2, 3
    sample = PeopleSample(np.zeros((64, 64, 3), np.uint8), boxes, np.array([True, True, False]), owner, empty)
    batch = to_batch([sample])
    assert batch["photo"].shape == (1, 3, 64, 64) and batch["boxes_xyxy"].shape == (1, MAX_PEOPLE, 4)
    assert torch.equal(batch["boxes_xyxy"][0, 0], torch.tensor(boxes[0])) and not batch["boxes_xyxy"][0, 1:].any()
    wanted = torch.zeros(64, 64)
    wanted[2:40, 2:9] = 1  # narrower than what can be asked for
    wanted[10:60, 10:30] = 1
    assert torch.equal(batch["ignore"][0, 0].float(), wanted)
    assert not sample.ignore.any(), "the sample stays as it was"
    assert batch["owner"][0, 0, 20, 1:4].tolist() == [1, 0, 0] and batch["visible"][0, 0, 20, 1:4].tolist() == [1, 1, 1]


def test_nearly_occluded_person_is_not_counted() -> None:
    scene = compose(
        np.zeros((40, 64, 3), np.uint8),
        [slab("far", 0, 0, 30, 40), slab("near", 2, 0, 30, 40)],
        np.zeros((40, 64), bool),
    )
    sample = from_scene(scene, 64)
    assert sample.counted.tolist() == [False, True]
    assert sample.photo.shape == (64, 64, 3) and (sample.photo[40:] == 128).all()
    assert (sample.owner > 0).sum() == 32 * 40


def test_the_stream_is_reproducible(library: Library) -> None:
    stream = PeopleStream(AssetPool.of(library), [], CrowdConfig(), 0.5, seed=3)
    first, again, other, part = (
        stream.batch(*args, part=p) for args, p in (((4, 2, 64), 0), ((4, 2, 64), 0), ((5, 2, 64), 0), ((4, 2, 64), 1))
    )
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["photo"], other["photo"]) and not torch.equal(first["photo"], part["photo"])


@pytest.mark.parametrize("wrong", [{"people": ()}, {"people": (0, 0)}, {"people": (1, -1)}, {"middle": (0, 1)}])
def test_a_config_of_which_nothing_can_be_drawn_is_refused(wrong: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        CrowdConfig(**wrong)
