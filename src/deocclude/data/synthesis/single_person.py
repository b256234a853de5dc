"""Synthetic occlusion: a scene of one person, occluders, clutter behind, and the exact ground truth.

A scene is planned in *person coordinates* (the person's box is centred at 0 and its longer side is 1) on coarse masks,
which is cheap, and then rendered into any frame: a training crop or the full photo.
"""

from __future__ import annotations

import cv2
import numpy as np

from deocclude.data.sources.layers import Library, PersonPhoto
from deocclude.data.synthesis.config import SynthesisConfig
from deocclude.data.synthesis.occluders import OCCLUDERS, Spot
from deocclude.data.synthesis.rendering import warp_alpha, window_mask
from deocclude.data.synthesis.scene import Placed, Plan, Rng, own_photo_frame, placed_at
from deocclude.imaging.arrays import Float, Mask

_COARSE_PX = 96  # side of the coarse masks, which show the square [-1, 1]^2 of person coordinates
# affine from person coordinates to pixels of the coarse masks
_TO_COARSE = np.array([[_COARSE_PX / 2, 0, _COARSE_PX / 2], [0, _COARSE_PX / 2, _COARSE_PX / 2]], dtype=np.float64)


def plan_scene(library: Library, rng: Rng, config: SynthesisConfig) -> Plan:
    """Draw a subject, its placement, a background, clutter, occluders and the image border."""
    if config.p_negative and rng.random() < config.p_negative:
        return _plan_negative(library, rng, config)
    person = library.people[rng.choice(len(library.people), p=library.weights)]
    own_photo = person.has_background and (not person.whole or rng.random() > config.p_new_background)
    if own_photo:
        angle = rng.normal(0, 2.0)
    elif rng.random() < config.p_large_rotation:
        angle = rng.uniform(-60, 60)
    else:
        angle = rng.uniform(-1, 1) * config.max_rotation_deg
    subject = Placed(person, _own_photo_to_person(person, rng, angle))
    if own_photo:
        background, background_to_person = None, subject.to_person
    else:
        background = library.backgrounds[int(rng.integers(len(library.backgrounds)))]
        background_to_person = _background_to_person(background, rng)
    behind: tuple[Placed, ...] = ()
    if rng.random() < config.p_clutter:
        behind = tuple(_draw_clutter(library, rng) for _ in range(rng.integers(1, 3)))
    if config.p_companion and rng.random() < config.p_companion:
        behind += (_draw_companion(library, rng),)
    hidden_target = 0.0
    if rng.random() >= config.p_unoccluded:
        span = config.hidden_max - config.hidden_min
        hidden_target = config.hidden_min + span * rng.beta(config.hidden_alpha, config.hidden_beta)
    return plan_occlusion(subject, library, rng, config, hidden_target, background, background_to_person, behind)


def _plan_negative(library: Library, rng: Rng, config: SynthesisConfig) -> Plan:
    """A negative: an object on a background with clutter, which a detector may mistake for a person."""
    occluder = library.occluders[int(rng.integers(len(library.occluders)))]
    subject = placed_at(occluder, rng, rng.uniform(0.7, 1.0), 0.0, 0.0)
    background = library.backgrounds[int(rng.integers(len(library.backgrounds)))]
    behind = tuple(_draw_clutter(library, rng, p_person=0.15) for _ in range(rng.integers(0, 3)))
    return plan_occlusion(
        subject, library, rng, config, 0.0, background, _background_to_person(background, rng), behind
    )


def plan_occlusion(
    subject: Placed, library: Library, rng: Rng, config: SynthesisConfig, hidden_target: float,
    background: np.ndarray | None, background_to_person: np.ndarray, behind: tuple[Placed, ...] = (),
    kind: str | None = None,
) -> Plan:  # fmt: skip
    """Place occluders and the image border.

    Args:
        subject: the person, or the object of a negative.
        library: occluders and distractors.
        rng: draws the placement.
        config: probabilities and number of attempts.
        hidden_target: occluded fraction to aim at, 0 to 1; 0 places no occluder.
        background: (H, W, 3) uint8, or None for the person's own photo.
        background_to_person: 2x3 affine from background pixels to person coordinates.
        behind: layers behind the subject.
        kind: the kind of every occluder, or None to draw it; a given kind also keeps the image border.
    """
    body = _coarse_mask(subject)
    window, beyond_border = (-1e6, -1e6, 1e6, 1e6), False
    if background is None:
        h, w = subject.layer.rgb.shape[:2]
        corners = (
            np.array([[-0.5, -0.5, 1], [w - 0.5, -0.5, 1], [-0.5, h - 0.5, 1], [w - 0.5, h - 0.5, 1]])
            @ subject.to_person.T
        )
        window = (*corners.min(axis=0), *corners.max(axis=0))
    if rng.random() < config.p_cut_by_edge and kind is None:
        window = _truncate_by_border(window, rng)
        # the rest of a person who is truncated in the source photo is unknown
        whole = getattr(subject.layer, "whole", False)
        beyond_border = bool(config.p_beyond_edge and whole and rng.random() < config.p_beyond_edge)
    whole_body = body.copy()
    body &= _coarse_window(window)
    chosen: list[Placed] = []
    hidden = np.zeros_like(body)
    kinds: list[str] = []
    if hidden_target > 0 and body.any():
        has_second = rng.random() < config.p_second_occluder
        for share in (hidden_target * 0.6, hidden_target) if has_second else (hidden_target,):
            this_kind = kind or _draw_kind(rng, config)
            placed, hidden = _nearest_placement(body, hidden, share, this_kind, library, rng, config)
            if placed is not None:
                chosen.append(placed)
                kinds.append(this_kind)
    visible = body & ~hidden
    if not visible.any():  # a fully occluded person gives no signal: remove the occluders
        chosen, kinds, visible = [], [], body
    if beyond_border:
        body = whole_body
    fraction = 1 - visible.sum() / max(1, body.sum())
    box = _box_of(body)
    return Plan(
        subject, background, background_to_person, behind, tuple(chosen), kinds[0] if kinds else "none", window,
        _box_of(visible), box, float(fraction), beyond_border,
    )  # fmt: skip


def _own_photo_to_person(person: PersonPhoto, rng: Rng, angle_deg: float) -> Float:
    """2x3 affine from the own photo's pixels to person coordinates.

    The person is mirrored half of the time, rotated by `angle_deg`, and stretched along each axis by up to 8 %.
    """
    frame = own_photo_frame(person)
    a = np.deg2rad(angle_deg)
    stretch = np.diag(rng.uniform(0.92, 1.08, 2))
    flip = np.diag([rng.choice([-1.0, 1.0]), 1.0])
    turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    moved: Float = (turn @ stretch @ flip) @ frame
    return moved


def _background_to_person(background: np.ndarray, rng: Rng) -> np.ndarray:
    """2x3 affine from background pixels to person coordinates, mirrored half of the time.

    The background's shorter side becomes 3.2 to 6 long; a point near its middle comes to lie at 0.
    """
    h, w = background.shape[:2]
    s = rng.uniform(3.2, 6.0) / min(h, w)
    cx, cy = w * rng.uniform(0.35, 0.65), h * rng.uniform(0.35, 0.65)
    f = rng.choice([-1.0, 1.0])
    return np.array([[f * s, 0, -f * s * cx], [0, s, -s * cy]])


def _draw_kind(rng: Rng, config: SynthesisConfig) -> str:
    """A kind of occluder, by its share in the config; `object` has the rest."""
    shares = {"person": config.p_person, "low": config.p_low, "slab": config.p_slab}
    rest = max(0.0, 1 - sum(shares.values()) - sum(config.p_other.values()))  # rounding may give -1e-16
    shares |= {"object": rest} | config.p_other
    return str(rng.choice(list(shares), p=list(shares.values())))


def _draw_companion(library: Library, rng: Rng) -> Placed:
    """A distractor right behind the subject, so that a box around the subject holds two people."""
    pool = library.distractors
    layer = pool[int(rng.integers(len(pool)))]
    size = rng.uniform(0.7, 1.15)
    return placed_at(
        layer, rng, size, rng.choice([-1, 1]) * rng.uniform(0.08, 0.5), 0.5 - size / 2 + rng.normal(0, 0.05), 6.0,
        is_person=True,
    )  # fmt: skip


def _draw_clutter(library: Library, rng: Rng, p_person: float = 0.35) -> Placed:
    """A layer behind the person, beside it or partly covered, which must not be mistaken for an occluder."""
    is_person = rng.random() < p_person
    pool = library.distractors if is_person else library.occluders
    layer = pool[int(rng.integers(len(pool)))]
    size, cx, cy = rng.uniform(0.3, 1.1), rng.uniform(-0.7, 0.7), rng.uniform(-0.4, 0.5)
    return placed_at(layer, rng, size, cx, cy, is_person=is_person)


def _nearest_placement(
    body: Mask, hidden: Mask, share: float, kind: str, library: Library, rng: Rng,
    config: SynthesisConfig,
) -> tuple[Placed | None, Mask]:  # fmt: skip
    """The occluder, of `config.attempts`, that brings the occluded fraction nearest to `share`.

    Args:
        body: coarse mask of the subject within the image border.
        hidden: coarse mask of the part that is occluded so far.
        share: fraction of the body to aim at, 0 to 1.
        kind: a key of OCCLUDERS.
        library: occluders and distractors.
        rng: draws the occluders.
        config: number of attempts.

    Returns:
        The occluder and the coarse mask of all that is occluded with it; None and `hidden` if none comes nearer.
    """
    best, best_hidden, best_error = None, hidden, abs(hidden.sum() / body.sum() - share)
    ys, xs = np.nonzero(body)
    for _ in range(config.attempts):
        candidate = _draw_occluder(kind, share, library, rng, (xs, ys))
        union = hidden | (_coarse_mask(candidate) & body)
        error = abs(union.sum() / body.sum() - share)
        if error < best_error:
            best, best_hidden, best_error = candidate, union, error
        if best_error < 0.04:
            break
    return best, best_hidden


def _draw_occluder(
    kind: str, share: float, library: Library, rng: Rng, body_xy: tuple[np.ndarray, np.ndarray]
) -> Placed:
    """An occluder at a random point of the body. body_xy: columns and rows of the body's coarse pixels."""
    xs, ys = body_xy
    i = rng.integers(len(xs))
    numbers = (2 * v / _COARSE_PX - 1 for v in (xs[i], ys[i], xs.mean(), ys.min(), ys.max()))
    return OCCLUDERS[kind](Spot(share, *numbers), library, rng)


def _truncate_by_border(window_xyxy: tuple[float, float, float, float], rng: Rng) -> tuple[float, float, float, float]:
    """Move one or two sides of the image border into the person, most often the lower one."""
    x0, y0, x1, y1 = window_xyxy
    for side in rng.choice(["bottom", "left", "right", "top"], size=rng.integers(1, 3), p=[0.5, 0.2, 0.2, 0.1]):
        if side == "bottom":
            y1 = min(y1, rng.uniform(-0.25, 0.47))
        elif side == "top":
            y0 = max(y0, rng.uniform(-0.47, -0.3))
        elif side == "left":
            x0 = max(x0, rng.uniform(-0.3, 0.0))
        else:
            x1 = min(x1, rng.uniform(0.0, 0.3))
    return x0, y0, x1, y1


def _coarse_mask(placed: Placed) -> Mask:
    """(96, 96) bool mask of a layer in [-1, 1]^2."""
    return warp_alpha(placed, _TO_COARSE, (_COARSE_PX, _COARSE_PX)) >= 128


def _coarse_window(window_xyxy: tuple[float, float, float, float]) -> Mask:
    """(96, 96) bool: what of [-1, 1]^2 lies within the image border."""
    return window_mask(window_xyxy, _TO_COARSE, (_COARSE_PX, _COARSE_PX))


def _box_of(mask: Mask) -> tuple[float, float, float, float]:
    """(x0, y0, x1, y1) of a coarse mask, in person coordinates."""
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    x0, y0, x1, y1 = (2 * v / _COARSE_PX - 1 for v in (x, y, x + w, y + h))
    return x0, y0, x1, y1
