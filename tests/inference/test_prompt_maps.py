"""Completion prompts as maps: what is drawn where."""

from __future__ import annotations

import numpy as np

from deocclude.inference.prompt_maps import PROMPT_MAPS, draw_prompt_maps, place_pose


def test_nothing_said_is_zero():
    assert not draw_prompt_maps(64).any()


def test_extent_is_one_inside_and_minus_one_outside():
    maps = draw_prompt_maps(64, extent_xyxy=(10, 20, 30, 60))
    assert maps.shape == (PROMPT_MAPS, 64, 64)
    inside = np.zeros((64, 64), bool)
    inside[20:60, 10:30] = True
    assert (maps[0][inside] == 1).all() and (maps[0][~inside] == -1).all()
    assert not maps[1:].any()


def test_extent_beyond_the_crop_is_cut():
    maps = draw_prompt_maps(64, extent_xyxy=(-10, -10, 100, 32))
    assert (maps[0][:32] == 1).all() and (maps[0][32:] == -1).all()


def test_points_are_discs_and_strokes_are_lines():
    maps = draw_prompt_maps(200, body=[((50.0, 50.0), (50.0, 50.0)), ((20.0, 100.0), (120.0, 100.0))],
                            background=[((150.0, 20.0), (150.0, 20.0))])  # fmt: skip
    rows, columns = np.nonzero(maps[1])
    near_point, on_line = np.hypot(columns + 0.5 - 50, rows + 0.5 - 50) <= 4, np.abs(rows + 0.5 - 100) <= 4
    assert (near_point | on_line).all() and near_point.any()
    assert columns[on_line].min() <= 17 and columns[on_line].max() >= 122
    rows, columns = np.nonzero(maps[2])
    assert (np.hypot(columns + 0.5 - 150, rows + 0.5 - 20) <= 4).all() and len(rows) > 40


def test_silhouette_runs_from_minus_one_to_one():
    silhouette = np.zeros((64, 64), np.float32)
    silhouette[:, 32:] = 0.75
    maps = draw_prompt_maps(64, silhouette=silhouette)
    assert (maps[3, :, :32] == -1).all() and (maps[3, :, 32:] == 0.5).all()


def test_pose_follows_the_person():
    pose = np.zeros((32, 32), np.float32)
    pose[12:20, 12:20] = 1
    visible = np.zeros((128, 128), np.float32)
    visible[40:80, 50:70] = 1
    placed = place_pose(pose, visible)
    rows, columns = np.nonzero(placed > 0.5)
    assert abs(rows.mean() - 59.5) < 1 and abs(columns.mean() - 59.5) < 1
    moved = place_pose(pose, np.roll(visible, (10, -20), (0, 1)))
    np.testing.assert_allclose(moved, np.roll(placed, (10, -20), (0, 1)), atol=1e-5)
