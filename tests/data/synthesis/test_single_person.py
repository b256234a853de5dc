"""Synthetic occlusion: the labels of a scene match its pixels."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from scipy import ndimage

from datafolder import drawn_library
from deocclude.data.sources.layers import Library, PersonPhoto
from deocclude.data.synthesis.config import SynthesisConfig
from deocclude.data.synthesis.rendering import render
from deocclude.data.synthesis.scene import Placed, Plan, Scene, invert, own_photo_frame
from deocclude.data.synthesis.single_person import plan_occlusion, plan_scene
from deocclude.imaging.crop import BEYOND_RGB

SIZE = 64
# person coordinates [-1.2, 1.2]^2 onto 64 x 64 pixels
WHOLE_SCENE = np.array([[SIZE / 2.4, 0, SIZE / 2 - 0.5], [0, SIZE / 2.4, SIZE / 2 - 0.5]])
DEFAULT = SynthesisConfig()


def scenes(library: Library, count: int, config: SynthesisConfig = DEFAULT, seed: int = 0) -> list[tuple[Plan, Scene]]:
    plans = [plan_scene(library, np.random.default_rng((seed, i)), config) for i in range(count)]
    return [(plan, render(plan, WHOLE_SCENE, (SIZE, SIZE))) for plan in plans]


def of_kind(person: PersonPhoto, library: Library, kind: str, wanted: float, seed: int) -> Plan:
    """The person in the own photo with one or two occluders of a kind."""
    frame = own_photo_frame(person)
    rng = np.random.default_rng(seed)
    return plan_occlusion(Placed(person, frame), library, rng, DEFAULT, wanted, None, frame, kind=kind)


def test_same_generator_same_scene(library: Library) -> None:
    for (_, first), (_, second) in zip(scenes(library, 6), scenes(library, 6), strict=True):
        for field in fields(Scene):
            np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name))
    others = scenes(library, 6, seed=1)
    assert all((a.photo != b.photo).any() for (_, a), (_, b) in zip(scenes(library, 6), others, strict=True))


def test_every_scene_satisfies_invariants(library: Library) -> None:
    for plan, scene in scenes(library, 60):
        assert scene.photo.shape == scene.truth.shape == (SIZE, SIZE, 3) and scene.photo.dtype == np.uint8
        assert not (scene.visible & ~scene.amodal).any()
        assert not (scene.amodal & ~scene.inside).any()
        assert (scene.photo[~scene.inside] == 128).all() and (scene.truth[~scene.inside] == 128).all()
        # where the person is seen, the picture shows the truth, but for an occluder's soft edge
        clear = ndimage.binary_erosion(scene.visible, np.ones((3, 3)), iterations=2)
        np.testing.assert_array_equal(scene.photo[clear], scene.truth[clear])
        np.testing.assert_array_equal(scene.parsing > 0, scene.amodal)
        person = plan.person.layer
        if person.parsing is None:
            assert set(np.unique(scene.parsing)) <= {0, 255}
        else:
            assert set(np.unique(scene.parsing)) <= {*np.unique(person.parsing), 255}
        assert scene.known.all() if person.whole else (scene.known == scene.inside).all()
        assert (plan.kind == "none") == (not plan.in_front)


def test_unoccluded_scene_has_nothing_hidden(library: Library) -> None:
    for plan, scene in scenes(library, 25, replace(DEFAULT, p_unoccluded=1.0)):
        assert plan.kind == "none" and plan.hidden_fraction == 0
        np.testing.assert_array_equal(scene.visible, scene.amodal)
        np.testing.assert_array_equal(scene.photo[scene.inside], scene.truth[scene.inside])


def test_share_of_unoccluded_scenes(library: Library) -> None:
    config = replace(DEFAULT, p_unoccluded=0.4)
    kinds = [plan_scene(library, np.random.default_rng(i), config).kind for i in range(150)]
    assert np.mean([k == "none" for k in kinds]) == pytest.approx(0.4, abs=0.13)
    assert {"object", "person", "low", "slab"} <= set(kinds)


@pytest.mark.parametrize("wanted", [0.15, 0.4, 0.65])
def test_hidden_fraction_is_close_to_the_requested_one(library: Library, wanted: float) -> None:
    people = [p for p in library.people if p.has_background and p.whole]
    plans = [
        of_kind(people[i % len(people)], library, kind, wanted, seed=i)
        for i in range(8)
        for kind in ("object", "person", "low")
    ]
    fractions = [p.hidden_fraction for p in plans]
    assert np.mean(fractions) == pytest.approx(wanted, abs=0.08)
    assert np.mean(np.abs(np.array(fractions) - wanted)) < 0.12
    for plan in plans[::4]:
        scene = render(plan, WHOLE_SCENE, (SIZE, SIZE))
        measured = 1 - scene.visible.sum() / scene.amodal.sum()
        assert measured == pytest.approx(plan.hidden_fraction, abs=0.08), "the plan is what is rendered"


def test_hidden_fractions_follow_the_stated_distribution(library: Library) -> None:
    config = replace(DEFAULT, p_unoccluded=0.0, p_cut_by_edge=0.0)
    fractions = [plan_scene(library, np.random.default_rng(i), config).hidden_fraction for i in range(120)]
    # the mean of 0.03 + 0.77 * Beta(1.3, 1.9)
    assert np.mean(fractions) == pytest.approx(0.03 + 0.77 * 1.3 / 3.2, abs=0.06)
    assert max(fractions) < 0.95


@pytest.mark.parametrize("name", ["ccp/0001", "full/photo1"])
def test_own_photo_is_unchanged_outside_the_occluder(library: Library, name: str) -> None:
    person = next(p for p in library.people if p.name == name)
    to_frame = invert(own_photo_frame(person))
    for seed, kind in enumerate(("object", "person", "low")):
        plan = of_kind(person, library, kind, 0.4, seed)
        scene = render(plan, to_frame, person.rgb.shape[:2])
        assert scene.inside.all() and scene.known.all()
        np.testing.assert_array_equal(scene.truth, person.rgb)
        np.testing.assert_array_equal(scene.amodal, person.mask)
        changed = (scene.photo != person.rgb).any(axis=-1)
        assert changed.any() and scene.visible.sum() < scene.amodal.sum()
        reach = np.zeros_like(changed)
        for placed in plan.in_front:
            h, w = placed.layer.alpha.shape
            corners = np.array([[0, 0, 1], [w, 0, 1], [0, h, 1], [w, h, 1]]) @ placed.to_person.T
            x, y = (np.column_stack([corners, np.ones(4)]) @ to_frame.T).T
            reach[max(0, int(y.min()) - 1) : int(y.max()) + 2, max(0, int(x.min()) - 1) : int(x.max()) + 2] = True
        assert not (changed & ~reach).any()
        # hidden pixels are the occluder's, not the person's
        hidden = scene.amodal & ~scene.visible
        assert changed[hidden].mean() > 0.95


def test_low_occluders_cover_the_lower_body(library: Library) -> None:
    people = [p for p in library.people if p.has_background and p.whole]
    rows = np.arange(SIZE)[:, None]
    for seed in range(16):
        plan = of_kind(people[seed % len(people)], library, "low", 0.3, seed)
        scene = render(plan, WHOLE_SCENE, (SIZE, SIZE))
        hidden = scene.amodal & ~scene.visible
        assert hidden.any()
        body, covered = (np.broadcast_to(rows, m.shape)[m] for m in (scene.amodal, hidden))
        assert covered.mean() > body.mean(), "the lower half rather than the upper"
        assert covered.max() >= body.max() - 4, "down to the feet or nearly"


def test_truncated_person_ends_at_the_image_border(library: Library) -> None:
    """On a new background: the truth has no person beyond the image border."""
    config = replace(DEFAULT, p_cut_by_edge=1.0, p_new_background=1.0)
    whole = replace(library, people=[p for p in library.people if p.whole], weights=np.full(6, 1 / 6))
    cut = 0
    for plan, scene in scenes(whole, 20, config):
        x0, y0, x1, y1 = plan.window_xyxy
        assert min(x1, y1, -x0, -y0) < 0.5
        outside = ~scene.inside
        assert outside.any() and (scene.photo[outside] == 128).all()
        assert not scene.amodal[outside].any() and scene.known.all()
        free = render(replace(plan, window_xyxy=(-9, -9, 9, 9)), WHOLE_SCENE, (SIZE, SIZE))
        np.testing.assert_array_equal(free.amodal & scene.inside, scene.amodal)
        cut += free.amodal.sum() > scene.amodal.sum()
    assert cut >= 15


def test_beyond_edge_target_extends_past_the_image_border(library: Library) -> None:
    """The same people and edges, but the amodal mask extends beyond them, where the photo has a fill colour."""
    config = replace(DEFAULT, p_cut_by_edge=1.0, p_new_background=1.0, p_beyond_edge=1.0)
    whole = replace(library, people=[p for p in library.people if p.whole], weights=np.full(6, 1 / 6))
    longer = 0
    for plan, scene in scenes(whole, 12, config):
        outside = ~scene.inside
        assert plan.beyond_edge and (scene.photo[outside] == BEYOND_RGB).all()
        assert not scene.visible[outside].any() and scene.known.all()
        free = render(replace(plan, window_xyxy=(-9, -9, 9, 9)), WHOLE_SCENE, (SIZE, SIZE))
        np.testing.assert_array_equal(scene.amodal, free.amodal)
        np.testing.assert_array_equal(scene.truth, free.truth)
        longer += scene.amodal[outside].any()
    assert longer >= 9


def test_truncated_person_is_unknown_outside_the_photo(data_root) -> None:
    library = drawn_library(data_root, upper=1.0)
    for plan, scene in scenes(library, 8, replace(DEFAULT, p_cut_by_edge=0.0)):
        assert plan.background is None, "never moved to another photo"
        assert (~scene.inside).any() and (scene.known == scene.inside).all()
        assert (scene.photo[~scene.inside] == 128).all()
        # the body reaches the last row of the photo, and the photo ends below it
        last = np.flatnonzero(scene.inside.any(axis=1))[-1]
        assert scene.amodal[last - 1 : last + 1].any() and last < SIZE - 1


def test_clutter_stays_behind(library: Library) -> None:
    config = replace(DEFAULT, p_unoccluded=1.0, p_clutter=1.0, p_new_background=0.0, p_cut_by_edge=0.0)
    seen = 0
    for plan, scene in scenes(library, 12, config):
        assert plan.behind
        without = render(replace(plan, behind=()), WHOLE_SCENE, (SIZE, SIZE))
        np.testing.assert_array_equal(scene.amodal, without.amodal)
        np.testing.assert_array_equal(scene.visible, without.visible)
        # well inside the person, where alpha is full, nothing of it shows
        interior = ndimage.binary_erosion(scene.amodal, np.ones((3, 3)), iterations=3)
        np.testing.assert_array_equal(scene.photo[interior], without.photo[interior])
        seen += (scene.photo != without.photo).any()
    assert seen >= 8


def test_companion_stands_behind_and_overlaps_the_persons_box(library: Library) -> None:
    config = replace(DEFAULT, p_unoccluded=1.0, p_clutter=0.0, p_companion=1.0, p_new_background=0.0, p_cut_by_edge=0.0)
    beside = 0
    for plan, scene in scenes(library, 12, config):
        (companion,) = plan.behind
        assert companion.layer in library.distractors
        ys, xs = np.nonzero(scene.visible)
        without = render(replace(plan, behind=()), WHOLE_SCENE, (SIZE, SIZE))
        np.testing.assert_array_equal(scene.visible, without.visible)
        box = (slice(ys.min(), ys.max() + 1), slice(xs.min(), xs.max() + 1))
        changed = (scene.photo != without.photo).any(axis=2) & ~scene.visible
        beside += bool(changed[box].any())
    assert beside >= 6


def test_other_people_have_disjoint_visible_masks(library: Library) -> None:
    config = replace(DEFAULT, p_unoccluded=0.0, p_person=1.0, p_low=0.0, p_slab=0.0, p_companion=1.0, p_clutter=0.0)
    in_front = behind = 0
    for plan, scene in scenes(library, 16, config):
        assert len(scene.others) == len(plan.behind) + len(plan.in_front)
        assert not (np.sum(scene.others, axis=0) + scene.visible > 1).any(), "a pixel shows one person"
        people = [*((one, True) for one in plan.behind), *((one, False) for one in plan.in_front)]
        for (placed, is_behind), seen in zip(people, scene.others, strict=True):
            alone = replace(plan, behind=(placed,), in_front=())
            body = render(alone, WHOLE_SCENE, (SIZE, SIZE)).others[0]
            assert not (seen & ~scene.inside).any()
            if is_behind:
                assert not (seen & scene.amodal).any() and not (seen & ~body).any()
                behind += seen.any()
            else:
                in_front += (seen & scene.amodal & ~scene.visible).any()
    assert behind >= 8 and in_front >= 8
    assert not any(scene.others for _, scene in scenes(library, 6, replace(config, p_person=0.0, p_companion=0.0)))


def test_negative_scene_has_an_object_instead_of_a_person(library: Library) -> None:
    for plan, scene in scenes(library, 12, replace(DEFAULT, p_negative=1.0)):
        assert plan.is_negative and plan.background is not None and plan.kind == "none"
        assert plan.person.layer in library.occluders and scene.visible.any()
    assert not any(plan.is_negative for plan, _ in scenes(library, 12))


def test_half_size_rendering_matches_full_size(library: Library) -> None:
    half = WHOLE_SCENE * 0.5 + np.array([[0, 0, -0.25], [0, 0, -0.25]])
    for plan, scene in scenes(library, 6):
        small = render(plan, half, (SIZE // 2, SIZE // 2))
        for name in ("amodal", "visible"):
            pooled = getattr(scene, name).reshape(SIZE // 2, 2, SIZE // 2, 2).mean(axis=(1, 3))
            sure = (pooled == 0) | (pooled == 1)
            assert (getattr(small, name)[sure] == pooled[sure]).mean() > 0.985


def test_person_coordinates_are_centred_on_the_box() -> None:
    alpha = np.zeros((50, 40), np.uint8)
    alpha[5:45, 10:30] = 255
    person = PersonPhoto("p", np.zeros((50, 40, 3), np.uint8), alpha)
    frame = own_photo_frame(person)
    np.testing.assert_allclose(frame @ [20, 25, 1], [0, 0], atol=1e-12)
    np.testing.assert_allclose(frame @ [10, 5, 1], [-0.25, -0.5])
    there_and_back = invert(frame) @ np.vstack([frame, [0, 0, 1]])
    np.testing.assert_allclose(there_and_back, [[1, 0, 0], [0, 1, 0]], atol=1e-9)


def test_kinds_of_occluder_must_have_shares_of_a_whole(library: Library) -> None:
    for wrong, message in (
        ({"p_person": 0.6, "p_low": 0.6}, "p_person, p_low, p_slab and p_other must sum to at most 1, got 1.33"),
        ({"p_other": {"object": 0.3}}, "the share of 'object' is set without it"),
    ):
        with pytest.raises(ValueError, match=message):
            SynthesisConfig(**wrong)
    # in floating point these sum to a little more than 1
    without_objects = SynthesisConfig(p_unoccluded=0, p_person=0.7, p_low=0.2, p_slab=0.1000000000000002)
    kinds = {plan_scene(library, np.random.default_rng(seed), without_objects).kind for seed in range(8)}
    assert kinds <= {"person", "low", "slab", "none"} and len(kinds) > 1
