"""The demo's scene and score: what is hidden is known, and the score rewards finding it."""

from __future__ import annotations

import numpy as np

from deocclude.evaluation import demo_scene


def test_scene_masks_match_the_hidden_pixels() -> None:
    scene = demo_scene.make_scene()
    assert scene.original.shape == scene.photo.shape == (*scene.whole.shape, 3)
    assert 0.2 < scene.hidden_fraction < 0.3
    assert not (scene.visible & ~scene.whole).any()
    assert not (scene.unknown & scene.whole).any()
    # What counts as visible is untouched; what is hidden is covered nearly everywhere.
    np.testing.assert_array_equal(scene.photo[scene.visible], scene.original[scene.visible])
    hidden = scene.whole & ~scene.visible
    assert (scene.photo[hidden] != scene.original[hidden]).any(axis=1).mean() > 0.98


def test_scene_is_the_same_each_time() -> None:
    first, second = demo_scene.make_scene(), demo_scene.make_scene()
    np.testing.assert_array_equal(first.photo, second.photo)
    np.testing.assert_array_equal(first.visible, second.visible)


def test_perfect_recovery_scores_perfectly_despite_unknown_pixels() -> None:
    scene = demo_scene.make_scene()
    for amodal in (scene.whole, scene.whole | scene.unknown):
        best = demo_scene.score(scene, amodal, scene.original)
        assert (best.full_iou, best.invisible_iou, best.l1) == (1.0, 1.0, 0.0)


def test_baseline_has_zero_invisible_iou_and_beats_no_recovery() -> None:
    scene = demo_scene.make_scene()
    baseline = demo_scene.mean_colour_baseline(scene)
    assert baseline.invisible_iou == 0.0
    np.testing.assert_allclose(baseline.full_iou, 1 - scene.hidden_fraction)
    untouched = demo_scene.score(scene, scene.visible, scene.photo)
    assert untouched.l1 > baseline.l1 and untouched.psnr_db < baseline.psnr_db


def test_checkerboard_shows_through_transparent_pixels() -> None:
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[0, 0] = (10, 20, 30, 255)
    rgba[3, 3] = (0, 0, 0, 128)
    flat = demo_scene.on_checkerboard(rgba, square_px=2)
    assert flat[0, 0].tolist() == [10, 20, 30]
    assert flat[0, 1].tolist() == [240] * 3 and flat[0, 2].tolist() == [204] * 3
    assert flat[3, 3].tolist() == [round(240 * (1 - 128 / 255))] * 3


def test_side_by_side_keeps_every_pixel() -> None:
    red, blue = (np.full((20, 30, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255)))
    sheet = demo_scene.side_by_side({"a": red, "b": blue}, gap_px=4, caption_px=16)
    assert sheet.shape == (16 + 20 + 4, 4 + 30 + 4 + 30 + 4, 3)
    np.testing.assert_array_equal(sheet[16:36, 4:34], red)
    np.testing.assert_array_equal(sheet[16:36, 38:68], blue)


def test_crossing_scene_has_the_left_person_behind() -> None:
    photo, (far, near) = demo_scene.make_crossing()
    assert photo.shape == (*far.whole.shape, 3) and near.visible.sum() == near.whole.sum()
    assert 0.2 < far.hidden_fraction < 0.6
    np.testing.assert_array_equal(far.whole & ~far.visible, far.whole & near.whole)
    same = (photo == far.original).all(-1)
    assert same[far.visible].mean() > 0.97, "but for the soft edge of the one in front"
