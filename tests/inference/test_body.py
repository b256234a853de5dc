"""A body's masks and probabilities after later changes."""

from __future__ import annotations

import numpy as np

from deocclude.imaging.crop import Region, SquareCrop
from deocclude.inference.body import Body, BodyInCrop


def drawn_body() -> Body:
    """Rows 0 to 3 of a 6 x 4 body are visible; the last row lies outside it."""
    amodal, visible = np.ones((6, 4), bool), np.zeros((6, 4), bool)
    amodal[5], visible[:4] = False, True
    nothing = np.zeros((12, 2, 2), np.float32)
    crop = SquareCrop((2.0, 3.0), 8.0, 8)
    in_crop = BodyInCrop(crop, np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), bool), nothing, nothing)
    prob = np.full((6, 4), 180, np.uint8)
    return Body(Region(0, 0, 6, 4), visible, amodal, prob, prob // 2, amodal.astype(np.uint8), 0.9, 0.2, in_crop)


def test_added_visible_part_is_certain_and_stays_inside_the_body() -> None:
    part = np.zeros((6, 4), bool)
    part[3:, :2] = True
    body = drawn_body().with_visible_part(part)
    np.testing.assert_array_equal(body.visible.sum(1), [4, 4, 4, 4, 2, 0])
    assert (body.visible_prob[4, :2] == 255).all() and (body.amodal_prob[4, :2] == 255).all()
    assert body.visible_prob[4, 2] == 90 and body.amodal_prob[4, 2] == 180 and body.visible_prob[3, 0] == 90
    assert body.area_px == 18


def test_body_without_a_new_visible_part_is_unchanged() -> None:
    body = drawn_body()
    assert body.with_visible_part(body.visible) is body
