"""Synthetic occlusion: a scene of one whole person, things in front, things behind, and the exact truth.

A scene is planned in *person coordinates* (the person's box is centred at 0 and its longer side is 1) on coarse masks,
which is cheap, and then rendered into any frame: a training crop or the full photo.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from deocclude.data.sources.layers import Layer, PersonPhoto
from deocclude.data.synthesis.config_checks import check_ranges
from deocclude.imaging.crop import BEYOND_RGB, OUTSIDE_GREY

Rng = np.random.Generator

_COARSE = 96  # pixels of the square [-1, 1]^2 on which a plan is measured
_TO_COARSE = np.array([[_COARSE / 2, 0, _COARSE / 2], [0, _COARSE / 2, _COARSE / 2]], dtype=np.float64)


@dataclass(frozen=True)
class SynthesisConfig:
    """How scenes are drawn. Probabilities are shares of scenes."""

    p_unoccluded: float = 0.28
    # hidden fraction ~ hidden_min + (hidden_max - hidden_min) * Beta(hidden_alpha, hidden_beta)
    hidden_min: float = 0.03
    hidden_max: float = 0.8
    hidden_alpha: float = 1.3
    hidden_beta: float = 1.9
    p_second_occluder: float = 0.25
    # kinds of occluder
    p_person: float = 0.22
    p_low: float = 0.25
    p_slab: float = 0.13
    p_other: dict[str, float] = field(default_factory=dict)  # of further kinds of OCCLUDERS, by name
    p_clutter: float = 0.45  # objects or people behind the person
    p_companion: float = 0.0  # one more person right behind the subject, of about the same height
    p_nobody: float = 0.0  # a thing in the subject's place, prompted by its box: whoever completes it is wrong
    p_new_background: float = 0.45  # for people who have a photo of their own
    p_cut_by_edge: float = 0.28
    p_beyond_edge: float = 0.0  # of whole people so cut: the body is asked for beyond the edge too (--uncrop)
    max_rotation_deg: float = 10.0
    p_large_rotation: float = 0.08  # up to 60 degrees, for people on new backgrounds
    attempts: int = 7  # placements tried for one occluder; the nearest to the wanted hidden fraction is kept

    def __post_init__(self) -> None:
        check_ranges(self)
        unknown = sorted(set(self.p_other) - set(OCCLUDERS))
        if unknown:
            raise ValueError(f"p_other names no kind of occluder: {unknown[0]!r}, there are {', '.join(OCCLUDERS)}")


@dataclass(frozen=True)
class Library:
    """What scenes are made from. weights: relative frequency of each person as the subject."""

    people: Sequence[PersonPhoto]
    weights: np.ndarray
    occluders: Sequence[Layer]
    backgrounds: Sequence[np.ndarray]
    clutter_people: Sequence[Layer] = ()  # in front or behind; the people themselves if empty

    @property
    def passers_by(self) -> Sequence[Layer]:
        return self.clutter_people or self.people


@dataclass(frozen=True)
class Placed:
    """A layer with its 2x3 affine from layer pixels to person coordinates. is_person: it shows somebody."""

    layer: Layer
    to_person: np.ndarray
    is_person: bool = False


@dataclass(frozen=True)
class Plan:
    """A scene before rendering. Everything is in person coordinates."""

    person: Placed  # a thing instead where `nobody` says so
    background: np.ndarray | None  # None: the person's own photo
    background_to_person: np.ndarray
    behind: tuple[Placed, ...]
    in_front: tuple[Placed, ...]
    kind: str  # of the first occluder: object, person, low, slab, or none
    window_xyxy: tuple[float, float, float, float]  # the photo's edges
    visible_box_xyxy: tuple[float, float, float, float]
    amodal_box_xyxy: tuple[float, float, float, float]
    hidden_fraction: float
    beyond_edge: bool = False  # the body counts beyond the photo's edges as well

    @property
    def nobody(self) -> bool:
        """Whether the subject is a thing: there is no body to find in its place."""
        return not isinstance(self.person.layer, PersonPhoto)


@dataclass(frozen=True)
class Scene:
    """A rendered scene, every array (H, W[, 3]).

    photo: uint8, what the camera sees; truth: uint8, the same without the occluders; visible, amodal: bool, within the
    photo's edges, amodal beyond them where the plan says so; parsing: uint8 of the whole person, 255 = unknown; inside:
    bool, within the photo's edges; known: bool, where `amodal` is truth (not beyond the edge of a photo that cuts its
    person); others: bool, what is seen of each of the other people who were placed.
    """

    photo: np.ndarray
    truth: np.ndarray
    visible: np.ndarray
    amodal: np.ndarray
    parsing: np.ndarray
    inside: np.ndarray
    known: np.ndarray
    others: tuple[np.ndarray, ...] = ()


def plan_scene(library: Library, rng: Rng, config: SynthesisConfig) -> Plan:
    """Draw a subject, its pose in the picture, a background, clutter, occluders and the photo's edges."""
    if config.p_nobody and rng.random() < config.p_nobody:
        return _plan_nobody(library, rng, config)
    person = library.people[rng.choice(len(library.people), p=library.weights)]
    own_photo = person.has_background and (not person.whole or rng.random() > config.p_new_background)
    if own_photo:
        angle = rng.normal(0, 2.0)
    elif rng.random() < config.p_large_rotation:
        angle = rng.uniform(-60, 60)
    else:
        angle = rng.uniform(-1, 1) * config.max_rotation_deg
    subject = Placed(person, _person_frame(person, rng, angle))
    if own_photo:
        background, background_to_person = None, subject.to_person
    else:
        background = library.backgrounds[rng.integers(len(library.backgrounds))]
        background_to_person = _cover(background, rng)
    behind = ()
    if rng.random() < config.p_clutter:
        behind = tuple(_draw_clutter(library, rng) for _ in range(rng.integers(1, 3)))
    if config.p_companion and rng.random() < config.p_companion:
        behind += (_draw_companion(library, rng),)
    wanted = 0.0
    if rng.random() >= config.p_unoccluded:
        span = config.hidden_max - config.hidden_min
        wanted = config.hidden_min + span * rng.beta(config.hidden_alpha, config.hidden_beta)
    return plan_occlusion(subject, library, rng, config, wanted, background, background_to_person, behind)


def _plan_nobody(library: Library, rng: Rng, config: SynthesisConfig) -> Plan:
    """A thing on a background, among other things: what a detector may take for a person."""
    thing = library.occluders[rng.integers(len(library.occluders))]
    subject = placed_at(thing, rng, rng.uniform(0.7, 1.0), 0.0, 0.0)
    background = library.backgrounds[rng.integers(len(library.backgrounds))]
    behind = tuple(_draw_clutter(library, rng, p_person=0.15) for _ in range(rng.integers(0, 3)))
    return plan_occlusion(subject, library, rng, config, 0.0, background, _cover(background, rng), behind)


def plan_occlusion(
    subject: Placed, library: Library, rng: Rng, config: SynthesisConfig, wanted: float,
    background: np.ndarray | None, background_to_person: np.ndarray, behind: tuple[Placed, ...] = (),
    kind: str | None = None,
) -> Plan:  # fmt: skip
    """Place occluders so that about the `wanted` fraction of the subject is hidden (0: none), and the photo's edges."""
    body = _coarse_mask(subject)
    window, beyond = (-1e6, -1e6, 1e6, 1e6), False
    if background is None:
        h, w = subject.layer.rgb.shape[:2]
        corners = (
            np.array([[-0.5, -0.5, 1], [w - 0.5, -0.5, 1], [-0.5, h - 0.5, 1], [w - 0.5, h - 0.5, 1]])
            @ subject.to_person.T
        )
        window = (*corners.min(axis=0), *corners.max(axis=0))
    if rng.random() < config.p_cut_by_edge and kind is None:
        window = _cut_by_edge(window, rng)
        # people cut by the edge of their own photo have no known rest
        whole = getattr(subject.layer, "whole", False)
        beyond = bool(config.p_beyond_edge and whole and rng.random() < config.p_beyond_edge)
    whole_body = body.copy()
    body &= _coarse_window(window)
    chosen: list[Placed] = []
    hidden = np.zeros_like(body)
    kinds: list[str] = []
    if wanted > 0 and body.any():
        both = rng.random() < config.p_second_occluder
        for share in (wanted * 0.6, wanted) if both else (wanted,):
            this_kind = kind or _draw_kind(rng, config)
            placed, hidden = _place(body, hidden, share, this_kind, library, rng, config)
            if placed is not None:
                chosen.append(placed)
                kinds.append(this_kind)
    visible = body & ~hidden
    if not visible.any():  # hidden wholly: nobody could know; show the person instead
        chosen, kinds, visible = [], [], body
    if beyond:
        body = whole_body
    fraction = 1 - visible.sum() / max(1, body.sum())
    box = _box_of(body)
    return Plan(
        subject, background, background_to_person, behind, tuple(chosen), kinds[0] if kinds else "none", window,
        _box_of(visible), box, float(fraction), beyond,
    )  # fmt: skip


def render(plan: Plan, to_frame: np.ndarray, size_hw: tuple[int, int]) -> Scene:
    """The scene in a frame, grey 128 beyond the photo's edges, or BEYOND_RGB where the body counts there.

    to_frame: 2x3 affine from person coordinates to frame pixels.
    """
    inside = _window_mask(plan.window_xyxy, to_frame, size_hw)
    person = plan.person.layer
    person_rgb, person_alpha = warp_layer(plan.person, to_frame, size_hw)
    if plan.background is None:
        canvas = person_rgb.copy()
    else:
        canvas = cv2.warpAffine(
            plan.background, _compose(to_frame, plan.background_to_person), size_hw[::-1],
            flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101,
        )  # fmt: skip
    others: list[np.ndarray] = []
    for placed in plan.behind:
        _add_layer(canvas, others, placed, *warp_layer(placed, to_frame, size_hw))
    if plan.background is not None or plan.behind:
        blend(canvas, person_rgb, person_alpha)
    body = person_alpha >= 128
    visible = body & inside
    for other in others:
        other &= ~body
    amodal = body if plan.beyond_edge else visible.copy()
    truth = canvas.copy()
    for placed in plan.in_front:
        rgb, alpha = warp_layer(placed, to_frame, size_hw)
        _add_layer(canvas, others, placed, rgb, alpha)
        visible &= alpha < 128
    canvas[~inside] = beyond_rgb(plan)
    if not plan.beyond_edge:
        truth[~inside] = beyond_rgb(plan)
    if isinstance(person, PersonPhoto) and person.parsing is not None:
        matrix = _compose(to_frame, plan.person.to_person)
        parsing = cv2.warpAffine(person.parsing, matrix, size_hw[::-1], flags=cv2.INTER_NEAREST, borderValue=0)
        parsing = np.where(amodal, np.where(parsing == 0, 255, parsing), 0).astype(np.uint8)
    else:
        parsing = np.where(amodal, 255, 0).astype(np.uint8)
    known = inside if isinstance(person, PersonPhoto) and not person.whole else np.ones_like(inside)
    seen_of_others = tuple(other & inside for other in others)
    return Scene(canvas, truth, visible, amodal, parsing, inside, known, seen_of_others)


def _add_layer(
    canvas: np.ndarray, others: list[np.ndarray], placed: Placed, rgb: np.ndarray, alpha: np.ndarray
) -> None:
    """Lay one more on the canvas, over what was seen of `others` so far, and add whomever it shows to them."""
    blend(canvas, rgb, alpha)
    covered = alpha >= 128
    for other in others:
        other &= ~covered
    if placed.is_person:
        others.append(covered)


def beyond_rgb(plan: Plan) -> tuple[int, int, int]:
    """The colour of pixels beyond the photo's edges: it says whether the body is asked for there."""
    return BEYOND_RGB if plan.beyond_edge else (OUTSIDE_GREY,) * 3


def own_photo_frame(person: PersonPhoto) -> np.ndarray:
    """2x3 affine from the person's own photo pixels to person coordinates."""
    x0, y0, x1, y1 = person.box_xyxy
    s = 1.0 / max(x1 - x0, y1 - y0)
    return np.array([[s, 0, -s * (x0 + x1) / 2], [0, s, -s * (y0 + y1) / 2]])


def invert(affine: np.ndarray) -> np.ndarray:
    """Inverse of a 2x3 affine."""
    return cv2.invertAffineTransform(affine)


def _compose(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    return outer @ np.vstack([inner, (0, 0, 1)])


def _person_frame(person: PersonPhoto, rng: Rng, angle_deg: float) -> np.ndarray:
    """Own frame, mirrored half of the time, turned, and its sides stretched by up to 8 %."""
    frame = own_photo_frame(person)
    a = np.deg2rad(angle_deg)
    stretch = np.diag(rng.uniform(0.92, 1.08, 2))
    flip = np.diag([rng.choice([-1.0, 1.0]), 1.0])
    turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    return (turn @ stretch @ flip) @ frame


def _cover(background: np.ndarray, rng: Rng) -> np.ndarray:
    """A background laid over [-1.6, 1.6]^2 or more, mirrored half of the time."""
    h, w = background.shape[:2]
    s = rng.uniform(3.2, 6.0) / min(h, w)
    cx, cy = w * rng.uniform(0.35, 0.65), h * rng.uniform(0.35, 0.65)
    f = rng.choice([-1.0, 1.0])
    return np.array([[f * s, 0, -f * s * cx], [0, s, -s * cy]])


def _draw_kind(rng: Rng, config: SynthesisConfig) -> str:
    shares = {"person": config.p_person, "low": config.p_low, "slab": config.p_slab}
    rest = 1 - sum(shares.values()) - sum(config.p_other.values())
    shares |= {"object": rest} | config.p_other
    return str(rng.choice(list(shares), p=list(shares.values())))


def _draw_companion(library: Library, rng: Rng) -> Placed:
    """Somebody who stands right behind the subject: a box around the subject then holds two people."""
    pool = library.passers_by
    layer = pool[rng.integers(len(pool))]
    size = rng.uniform(0.7, 1.15)
    return placed_at(
        layer, rng, size, rng.choice([-1, 1]) * rng.uniform(0.08, 0.5), 0.5 - size / 2 + rng.normal(0, 0.05), 6.0,
        is_person=True,
    )  # fmt: skip


def _draw_clutter(library: Library, rng: Rng, p_person: float = 0.35) -> Placed:
    """Something behind the person, beside or partly covered: what must not be taken for an occluder."""
    is_person = rng.random() < p_person
    pool = library.passers_by if is_person else library.occluders
    layer = pool[rng.integers(len(pool))]
    size, cx, cy = rng.uniform(0.3, 1.1), rng.uniform(-0.7, 0.7), rng.uniform(-0.4, 0.5)
    return placed_at(layer, rng, size, cx, cy, is_person=is_person)


def placed_at(
    layer: Layer, rng: Rng, size: float, cx: float, cy: float, max_angle_deg: float = 15.0, *, is_person: bool = False
) -> Placed:
    """`layer` with its longer side at `size`, its middle at (cx, cy), mirrored half of the time."""
    x0, y0, x1, y1 = layer.box_xyxy
    s = size / max(x1 - x0, y1 - y0)
    a = np.deg2rad(rng.uniform(-1, 1) * max_angle_deg)
    linear = s * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) @ np.diag([rng.choice([-1.0, 1.0]), 1.0])
    offset = np.array([cx, cy]) - linear @ np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    return Placed(layer, np.column_stack([linear, offset]), is_person)


def _place(
    body: np.ndarray, hidden: np.ndarray, share: float, kind: str, library: Library, rng: Rng,
    config: SynthesisConfig,
) -> tuple[Placed | None, np.ndarray]:  # fmt: skip
    """The placement, of a few tried, that brings the hidden fraction nearest to `share`."""
    best, best_hidden, best_error = None, hidden, abs(hidden.sum() / body.sum() - share)
    ys, xs = np.nonzero(body)
    for _ in range(config.attempts):
        candidate = _candidate(kind, share, library, rng, (xs, ys))
        union = hidden | (_coarse_mask(candidate) & body)
        error = abs(union.sum() / body.sum() - share)
        if error < best_error:
            best, best_hidden, best_error = candidate, union, error
        if best_error < 0.04:
            break
    return best, best_hidden


def _candidate(kind: str, share: float, library: Library, rng: Rng, body_xy: tuple[np.ndarray, np.ndarray]) -> Placed:
    xs, ys = body_xy
    i = rng.integers(len(xs))
    numbers = (2 * v / _COARSE - 1 for v in (xs[i], ys[i], xs.mean(), ys.min(), ys.max()))
    return OCCLUDERS[kind](Spot(share, *numbers), library, rng)


@dataclass(frozen=True)
class Spot:
    """Where an occluder is wanted, in person coordinates: y points down, the body lies within [-0.5, 0.5]."""

    share: float  # of the body that it should hide, about
    x: float  # a point of the body, drawn at random
    y: float
    middle_x: float  # of the body's pixels
    top: float  # of the body
    bottom: float


def _passer_by(spot: Spot, library: Library, rng: Rng) -> Placed:
    pool = library.passers_by
    layer = pool[rng.integers(len(pool))]
    size = rng.uniform(0.65, 1.35)
    cx = spot.x + rng.normal(0, 0.15)
    cy = spot.bottom - size / 2 + rng.uniform(-0.1, 0.35)
    return placed_at(layer, rng, size, cx, cy, 6.0, is_person=True)


def _slab(spot: Spot, library: Library, rng: Rng) -> Placed:
    return placed_at(draw_slab(library, rng), rng, rng.uniform(0.5, 1.6), spot.x, spot.y, 12.0)


def _low(spot: Spot, library: Library, rng: Rng) -> Placed:
    """Stands on the ground before the person and reaches as high as the share asks for, legs being thin."""
    layer = library.occluders[rng.integers(len(library.occluders))]
    x0, y0, x1, y1 = layer.box_xyxy
    width = (x1 - x0) / max(x1 - x0, y1 - y0)
    height = (y1 - y0) / max(x1 - x0, y1 - y0)
    reach = (spot.bottom - spot.top) * np.clip(spot.share * rng.uniform(0.9, 1.4), 0.1, 0.85)
    size = np.clip(reach / max(height, 0.2), 0.25, 1.8) * rng.uniform(0.9, 1.2)
    drop = rng.uniform(0.0, 0.12)
    cx = spot.middle_x + rng.normal(0, 0.12) * max(width * size, 0.3)
    return placed_at(layer, rng, size, cx, spot.bottom + drop - size * height / 2, 4.0)


def _object(spot: Spot, library: Library, rng: Rng) -> Placed:
    layer = library.occluders[rng.integers(len(library.occluders))]
    size = np.clip(np.sqrt(spot.share), 0.15, 1.0) * rng.uniform(0.5, 1.3)
    return placed_at(layer, rng, size, spot.x + rng.normal(0, 0.1), spot.y + rng.normal(0, 0.1), 30.0)


OCCLUDERS: dict[str, Callable[[Spot, Library, Rng], Placed]] = {
    "person": _passer_by,
    "low": _low,
    "slab": _slab,
    "object": _object,
}
"""Kinds of occluder by name; one that SynthesisConfig has no p_ for gets its share in `p_other`."""


def draw_slab(library: Library, rng: Rng) -> Layer:
    """A straight-edged surface such as a wall, a door or a counter, textured by a piece of background."""
    source = library.backgrounds[rng.integers(len(library.backgrounds))]
    h, w = source.shape[:2]
    sh, sw = int(h * rng.uniform(0.15, 0.6)), int(w * rng.uniform(0.15, 0.6))
    y, x = rng.integers(0, h - sh), rng.integers(0, w - sw)
    size = (int(rng.integers(40, 160)), int(rng.integers(40, 160)))
    rgb = cv2.resize(source[y : y + sh, x : x + sw], size, interpolation=cv2.INTER_AREA)
    alpha = np.zeros(rgb.shape[:2], np.uint8)
    if rng.random() < 0.6:
        alpha[2:-2, 2:-2] = 255
    else:  # a smooth blob through random points around a centre
        angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        radii = rng.uniform(0.55, 1.0, 12)
        points = np.stack([np.cos(angles) * radii * (size[0] / 2 - 3), np.sin(angles) * radii * (size[1] / 2 - 3)], 1)
        cv2.fillPoly(alpha, [(points + np.array(size) / 2).astype(np.int32)], 255)
    return Layer("slab", rgb, cv2.GaussianBlur(alpha, (0, 0), 0.8))


def _cut_by_edge(window, rng: Rng):
    """Move one or two of the photo's edges into the person, most often the lower one."""
    x0, y0, x1, y1 = window
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


def _coarse_mask(placed: Placed) -> np.ndarray:
    return _warp_alpha(placed, _TO_COARSE, (_COARSE, _COARSE)) >= 128


def _coarse_window(window) -> np.ndarray:
    return _window_mask(window, _TO_COARSE, (_COARSE, _COARSE))


def _box_of(mask: np.ndarray) -> tuple[float, float, float, float]:
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    return tuple(2 * v / _COARSE - 1 for v in (x, y, x + w, y + h))


def _window_mask(window, to_frame: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Bool (H, W): pixels whose middle lies within the photo's edges. to_frame must not rotate."""
    xs = (np.arange(size_hw[1]) - to_frame[0, 2]) / to_frame[0, 0]
    ys = (np.arange(size_hw[0]) - to_frame[1, 2]) / to_frame[1, 1]
    x0, y0, x1, y1 = window
    return ((ys >= y0) & (ys < y1))[:, None] & ((xs >= x0) & (xs < x1))[None, :]


def _level(placed: Placed, to_frame: np.ndarray) -> tuple[int, np.ndarray]:
    """Pyramid level that is at most shrunk by 2, and the affine from that level's pixels to the frame."""
    matrix = _compose(to_frame, placed.to_person)
    shrink = 1.0 / max(1e-6, np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    level = int(np.clip(np.floor(np.log2(max(shrink, 1.0)) + 0.25), 0, 2))
    fx = placed.layer.rgb.shape[1] / placed.layer.pyramid[level][0].shape[1]
    fy = placed.layer.rgb.shape[0] / placed.layer.pyramid[level][0].shape[0]
    # pixel centres: level pixel i sits at (i + 0.5) * f - 0.5 of the full layer
    matrix = _compose(matrix, np.array([[fx, 0, 0.5 * fx - 0.5], [0, fy, 0.5 * fy - 0.5]]))
    return level, matrix


def _warp_alpha(placed: Placed, to_frame: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    level, matrix = _level(placed, to_frame)
    return cv2.warpAffine(placed.layer.pyramid[level][1], matrix, size_hw[::-1], flags=cv2.INTER_LINEAR, borderValue=0)


def warp_layer(placed: Placed, to_frame: np.ndarray, size_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A placed layer in a frame: rgb (H, W, 3) uint8, its edge pixels drawn out beyond it, and alpha (H, W) uint8."""
    level, matrix = _level(placed, to_frame)
    rgb, alpha = placed.layer.pyramid[level]
    warped = cv2.warpAffine(rgb, matrix, size_hw[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return warped, cv2.warpAffine(alpha, matrix, size_hw[::-1], flags=cv2.INTER_LINEAR, borderValue=0)


def blend(canvas: np.ndarray, rgb: np.ndarray, alpha: np.ndarray) -> None:
    """Alpha-composite `rgb` onto `canvas` in place, within the box that alpha touches."""
    x, y, w, h = cv2.boundingRect(alpha)
    if w == 0:
        return
    part = canvas[y : y + h, x : x + w]
    a = alpha[y : y + h, x : x + w, None].astype(np.uint16)
    part[:] = ((rgb[y : y + h, x : x + w] * a + part * (255 - a) + 127) // 255).astype(np.uint8)
