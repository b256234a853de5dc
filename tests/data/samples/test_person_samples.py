"""Training samples: reproducible by number, crops that hold what they should, tensors as the networks want them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deocclude.data.samples.person_samples import CropConfig, SampleStream, draw_crop, draw_sample, to_batch
from deocclude.data.sources.layers import Library
from deocclude.data.synthesis.config import SynthesisConfig
from deocclude.data.synthesis.single_person import plan_scene

SIZE = 64


def stream(library: Library, seed: int = 5) -> SampleStream:
    return SampleStream(library, SynthesisConfig(), CropConfig(), seed=seed)


def test_batch_depends_only_on_seed_and_number(library: Library) -> None:
    ours, theirs = stream(library), stream(library)
    theirs.batch(3, 2, SIZE)  # what was drawn before does not matter
    first, again = ours.batch(7, 2, SIZE), theirs.batch(7, 2, SIZE)
    assert first.keys() == again.keys()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["photo"], ours.batch(8, 2, SIZE)["photo"])
    assert not torch.equal(first["photo"], stream(library, seed=6).batch(7, 2, SIZE)["photo"])


def test_batch_tensor_shapes_and_types(library: Library) -> None:
    batch = stream(library).batch(0, 3, SIZE)
    shapes = {key: tuple(tensor.shape) for key, tensor in batch.items()}
    assert shapes == {
        "photo": (3, 3, SIZE, SIZE), "truth": (3, 3, SIZE, SIZE), "initial": (3, 1, SIZE, SIZE),
        "visible": (3, 1, SIZE, SIZE), "amodal": (3, 1, SIZE, SIZE), "known": (3, 1, SIZE, SIZE),
        "parsing": (3, SIZE, SIZE),
    }  # fmt: skip
    assert all(tensor.dtype == torch.uint8 for tensor in batch.values())
    for key in ("initial", "visible", "amodal", "known"):
        assert batch[key].max() <= 1
    assert (batch["visible"] <= batch["amodal"]).all()
    labels = set(batch["parsing"].unique().tolist())
    assert labels <= {*range(12), 255}
    assert ((batch["parsing"] > 0) == (batch["amodal"][:, 0] > 0)).all()


def test_batch_without_truth_is_otherwise_identical(library: Library) -> None:
    whole = stream(library).batch(4, 3, SIZE)
    less = SampleStream(library, SynthesisConfig(), CropConfig(), seed=5, truth=False).batch(4, 3, SIZE)
    assert whole.keys() - less.keys() == {"truth"}
    assert all(torch.equal(whole[key], less[key]) for key in less)


def test_to_batch_keeps_every_pixel_in_its_place() -> None:
    rng = np.random.default_rng(0)
    sample = {
        "photo": rng.integers(0, 256, (4, 4, 3)).astype(np.uint8), "visible": rng.random((4, 4)) < 0.5,
        "parsing": rng.integers(0, 12, (4, 4)).astype(np.uint8),
    }  # fmt: skip
    batch = to_batch([sample, sample])
    np.testing.assert_array_equal(batch["photo"][1].permute(1, 2, 0), sample["photo"])
    np.testing.assert_array_equal(batch["visible"][0, 0].bool(), sample["visible"])
    np.testing.assert_array_equal(batch["parsing"][0], sample["parsing"])


def test_pixels_outside_the_photo_are_grey_and_unmasked(library: Library) -> None:
    config = SynthesisConfig(p_cut_by_edge=1.0, p_new_background=1.0)
    grey = 0
    for seed in range(12):
        s = draw_sample(library, np.random.default_rng(seed), config, CropConfig(p_wide=1.0), SIZE)
        assert all(s[key].dtype == bool for key in ("initial", "visible", "amodal", "known"))
        outside = (s["photo"] == 128).all(axis=-1)
        rows, columns = outside.all(axis=1), outside.all(axis=0)
        for masked in (s["initial"], s["visible"], s["amodal"]):
            assert not masked[rows].any() and not masked[:, columns].any()
        grey += rows.any() or columns.any()
    assert grey >= 6


def test_exact_initial_mask_equals_the_visible_mask(library: Library) -> None:
    crop = CropConfig(p_exact=1.0, p_box=0.0)
    for seed in range(6):
        s = draw_sample(library, np.random.default_rng(seed), SynthesisConfig(), crop, SIZE)
        np.testing.assert_array_equal(s["initial"], s["visible"])


def test_negative_box_has_empty_masks(library: Library) -> None:
    for seed in range(6):
        rng = np.random.default_rng(seed)
        s = draw_sample(library, rng, SynthesisConfig(p_negative=1.0), CropConfig(p_exact=1.0, p_box=0.0), SIZE)
        rows, columns = s["initial"].any(axis=1), s["initial"].any(axis=0)
        np.testing.assert_array_equal(s["initial"], rows[:, None] & columns[None, :])  # a filled box
        assert s["initial"].any()
        assert not s["visible"].any() and not s["amodal"].any() and not s["parsing"].any()


def test_known_neighbour_is_subtracted_from_the_box_prompt(library: Library) -> None:
    crop = CropConfig(p_wide=1.0, p_exact=0.0, p_box=1.0, p_subtract_neighbor=1.0)
    scenes = {
        companions: SynthesisConfig(p_clutter=0.0, p_unoccluded=1.0, p_cut_by_edge=0.0, p_companion=companions)
        for companions in (0.0, 1.0)
    }
    is_negative, holed = {}, {}
    for companions, synthesis in scenes.items():
        drawn = [draw_sample(library, np.random.default_rng(i), synthesis, crop, SIZE) for i in range(24)]
        is_negative[companions] = [not s["visible"].any() for s in drawn]
        boxes = [s["initial"].any(1)[:, None] & s["initial"].any(0)[None, :] for s in drawn]
        holed[companions] = [(box != s["initial"]).any() for box, s in zip(boxes, drawn, strict=True)]
    assert np.mean(is_negative[0.0]) > 0.9, "with nobody else there, nobody is left"
    assert np.mean(is_negative[1.0]) < 0.8 and np.mean(holed[1.0]) > 0.6
    assert not any(
        (draw_sample(library, np.random.default_rng(i), scenes[0.0], CropConfig(p_box=1.0), SIZE)["visible"]).sum() == 0
        for i in range(6)
    )


@pytest.mark.parametrize("wide", [True, False])
def test_crop_contains_its_box_at_the_requested_scale(library: Library, wide: bool) -> None:
    crop = CropConfig(p_wide=float(wide), shift=0.1)
    for seed in range(30):
        rng = np.random.default_rng(seed)
        plan = plan_scene(library, rng, SynthesisConfig())
        affine = draw_crop(plan, rng, crop, SIZE)
        assert affine[0, 0] == affine[1, 1] and affine[0, 1] == affine[1, 0] == 0
        x0, y0, x1, y1 = plan.visible_box_xyxy if wide else plan.amodal_box_xyxy
        scale = SIZE / affine[0, 0] / max(x1 - x0, y1 - y0, 0.06)
        low, high = crop.wide_scale if wide else crop.tight_scale
        assert low <= scale <= high
        # the box's middle, off by at most the shift (half of it for the wide crop); pixel middles lie at integers
        middle = affine @ [(x0 + x1) / 2, (y0 + y1) / 2, 1] + 0.5
        assert (abs(middle - SIZE / 2) <= crop.shift * SIZE * (0.5 if wide else 1.0) + 1e-9).all()
