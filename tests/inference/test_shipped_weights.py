"""The weights in the package: whole, the same network in both files, and good enough for the demo's portrait."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path

import numpy as np
import pytest

import deocclude
from deocclude.evaluation import demo_scene
from deocclude.imaging.boxes import box_to_mask, mask_to_box_xyxy
from deocclude.imaging.crop import SquareCrop
from deocclude.imaging.masks import dilate, mask_iou
from deocclude.inference.crop_prediction import as_batch, as_mask_batch
from deocclude.inference.runtime import BUNDLED_WEIGHTS, EXTRA_NETWORKS, NETWORKS, find_model, open_networks

ROWS = json.loads((BUNDLED_WEIGHTS / "manifest.json").read_text())["models"]["base"]["networks"]
SHIPPED = (*NETWORKS, *EXTRA_NETWORKS)


@pytest.mark.parametrize(("network", "kind"), [(name, kind) for name in SHIPPED for kind in ROWS[name]["sha256"]])
def test_weight_files_match_the_sha256_of_the_manifest(network: str, kind: str) -> None:
    row = ROWS[network]
    assert hashlib.sha256((BUNDLED_WEIGHTS / row[kind]).read_bytes()).hexdigest() == row["sha256"][kind]


def test_notice_names_what_the_detector_is_derived_from() -> None:
    notice = (BUNDLED_WEIGHTS / "NOTICE").read_text()
    assert ROWS["people_detector"]["onnx"] in notice and "NanoDet" in notice and "Apache License" in notice
    assert "NanoDet" in ROWS["people_detector"]["data"]


@pytest.mark.parametrize("network", [name for name in SHIPPED if "int8" not in ROWS[name]])
def test_both_files_hold_the_same_network(network: str) -> None:
    """A change of a definition that changes what trained weights mean must show here."""
    from deocclude.export.to_onnx import PARITY, _for_inference, build_network, example_inputs, parity

    trained, _ = build_network(BUNDLED_WEIGHTS / ROWS[network]["safetensors"])
    trained.eval()
    wrapped, _ = _for_inference(trained)
    inputs = example_inputs(trained, 2, (256, 256))
    assert parity(wrapped, BUNDLED_WEIGHTS / ROWS[network]["onnx"], inputs) <= PARITY


@pytest.mark.parametrize("network", [name for name in SHIPPED if "int8" in ROWS[name]])
def test_int8_network_draws_the_masks_of_its_float_weights(network: str) -> None:
    """The person of the demo scene, whose masks by the two files agree nearly everywhere."""
    import torch

    from deocclude.export.to_onnx import _for_inference, build_network

    trained, _ = build_network(BUNDLED_WEIGHTS / ROWS[network]["safetensors"])
    wrapped, _ = _for_inference(trained.eval())
    scene = demo_scene.make_scene()
    crop = SquareCrop.from_box_xyxy(mask_to_box_xyxy(scene.visible), 1.5, 256)
    inputs = as_batch(crop.extract(scene.photo)), as_mask_batch(crop.extract(scene.visible))
    with torch.no_grad():
        expected = wrapped(*(torch.from_numpy(np.asarray(one, np.float32)) for one in inputs))
    opened, _ = open_networks(find_model("base"), "cpu", threads=1)
    found = opened[network](image=inputs[0], initial=inputs[1])
    for name, of_float in (("visible", expected[0].numpy()), ("amodal", expected[1].numpy())):
        difference = np.abs(found[name] - of_float)
        assert 0 < difference.mean() < 0.005, name
        assert mask_iou(found[name] >= 0.5, of_float >= 0.5) > 0.98, name


def test_demo_portrait_is_recovered() -> None:
    """Floors well under what the model card states: a broken path falls through them, new weights do not."""
    scene = demo_scene.make_scene()
    (person,) = deocclude.load(device="cpu")(scene.photo, masks=[scene.visible]).people
    score, baseline = (
        demo_scene.score(scene, person.amodal_mask, person.content),
        demo_scene.mean_colour_baseline(scene),
    )
    assert score.full_iou > 0.93 and score.invisible_iou > 0.7
    assert score.l1 < baseline.l1 + 5


def test_a_gap_between_mask_and_occluder_is_bridged() -> None:
    """Segmenters' masks end before the occluder; completion that needs pixels beside the occluder fails."""
    scene = demo_scene.make_scene()
    gap = dilate(scene.whole & ~scene.visible, 6) & scene.visible
    (person,) = deocclude.load(device="cpu")(scene.photo, masks=[scene.visible & ~gap]).people
    score = demo_scene.score(scene, person.amodal_mask, person.content)
    assert person.amodal_mask[gap].mean() > 0.9
    # the nearest typical pose has 0.76 and 0.35 in docs/results/masks.md: a completion that fails is below these floors
    assert score.full_iou > 0.86 and score.invisible_iou > 0.55


def _plain_bodies() -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Photo, visible and amodal mask of bodies that give recovery next to nothing to go by."""
    hw = (200, 150)
    noise = np.random.default_rng(0).integers(0, 256, (*hw, 3), dtype=np.uint8)
    grey = np.repeat(noise[..., :1], 3, axis=2)
    whole, upper = box_to_mask((50, 40, 90, 160), hw), box_to_mask((50, 40, 90, 90), hw)
    column, row, pixel = (box_to_mask(b, hw) for b in ((70, 50, 71, 150), (50, 50, 90, 51), (70, 90, 71, 91)))
    corner, everywhere = box_to_mask((0, 0, 1, 1), hw), np.ones((800, 600), bool)
    return {
        "grey": (grey, upper, whole),
        "one pixel wide": (noise, column, whole),
        "one pixel high": (noise, row, whole),
        "one pixel": (grey, pixel, whole),
        "one pixel far from the rest": (noise, corner, whole | corner),
        "black": (np.zeros_like(noise), upper, whole),
        "white": (np.full_like(noise, 255), upper, whole),
        "one colour": (np.full_like(noise, (30, 90, 200)), upper, whole),
        "hidden part larger than the crop": (np.tile(grey, (4, 4, 1)), np.tile(pixel, (4, 4)), everywhere),
        "photo of four pixels": (noise[:2, :2], corner[:2, :2], everywhere[:2, :2]),
    }


@pytest.fixture(scope="module")
def shipped() -> deocclude.Deoccluder:
    return deocclude.load("base", device="cpu", threads=1)


@pytest.mark.parametrize("name", _plain_bodies())
def test_recovery_of_degenerate_bodies_stays_finite(shipped: deocclude.Deoccluder, name: str) -> None:
    photo, visible, amodal = _plain_bodies()[name]
    with warnings.catch_warnings(), np.errstate(over="raise", divide="raise", invalid="raise"):
        warnings.simplefilter("error")
        picture = shipped.recover(photo, visible, amodal)  # a cast of what is not finite to uint8 raises too
    hidden = amodal & ~visible
    assert hidden.any() and np.array_equal(picture[~hidden], photo[~hidden])


def test_weights_folder_has_no_unlisted_files() -> None:
    named = {Path(row[kind]).name for row in ROWS.values() for kind in row["sha256"]}
    assert {p.name for p in BUNDLED_WEIGHTS.iterdir()} == named | {"NOTICE", "manifest.json", "typical_poses.npz"}


def test_weights_are_smaller_than_65_mb() -> None:
    assert sum(p.stat().st_size for p in BUNDLED_WEIGHTS.iterdir()) < 65_000_000
