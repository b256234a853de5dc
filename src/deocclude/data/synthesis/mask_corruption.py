"""From an exact visible mask to the masks that people and segmenters really give, down to a box."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from deocclude.imaging.boxes import box_iou, mask_to_box_xyxy

Rng = np.random.Generator

_IN_A_BOX = 0.05  # of a box: with less of it, somebody is not in it


@dataclass(frozen=True)
class BoxJitter:
    """How far off the sides of a box are, in shares of its width and height.

    spread: least and most standard deviation of a side; each box draws its own, log-uniform, so that most are nearly
    right and a few far off. None: 0.02 of most boxes and 0.07 of the others. height_share: of that, above and below: a
    detector is surer of heads and feet than of elbows. lean: sides that somebody close by reaches beyond are off
    towards them half of the time, by the size of a normal number of this standard deviation, in shares of the way.
    """

    spread: tuple[float, float] | None = None
    height_share: float = 1.0
    lean: float = 0.0


def corrupt_mask(mask: np.ndarray, rng: Rng, kind: str | None = None) -> np.ndarray:
    """An imperfect initial mask.

    mask: (H, W) bool, the true visible mask. kind: one of DEGRADATIONS; None draws one of the imperfect kinds other
    than `box`. Returns (H, W) bool, never empty: a degradation that would leave nothing gives the mask back.
    """
    if kind is None:
        kind = str(rng.choice([k for k in DEGRADATIONS if k not in ("exact", "box")]))
    if kind not in DEGRADATIONS:
        raise ValueError(f"kind must be one of {', '.join(DEGRADATIONS)}, got {kind!r}")
    if not mask.any():
        return mask.copy()
    out = DEGRADATIONS[kind](mask.astype(np.uint8), rng).astype(bool)
    return out if out.any() else mask.copy()


def draw_initial_mask(
    mask: np.ndarray, rng: Rng, *, p_exact: float, p_box: float, errors: BoxJitter = BoxJitter(),
    others: Sequence[np.ndarray] = (),
) -> np.ndarray:  # fmt: skip
    """The initial mask of a training sample: exact, a box, or one or two imperfections on top of each other.

    errors, others: as `draw_box` takes them.
    """
    draw = rng.random()
    if draw < p_exact:
        return mask.copy()
    if draw < p_exact + p_box:
        return draw_box(mask, rng, errors, others)
    out = corrupt_mask(mask, rng)
    return corrupt_mask(out, rng) if rng.random() < 0.35 else out


def draw_box(
    mask: np.ndarray, rng: Rng, errors: BoxJitter = BoxJitter(), others: Sequence[np.ndarray] = ()
) -> np.ndarray:
    """The filled box around a mask, (H, W) bool, its sides off as whoever drew it, or found it, may be off.

    others: what is seen of other people, (H, W) bool each; the box leans to the one whose own box shares most with it.
    """
    if not mask.any():
        return mask.copy()
    if errors.spread is None:
        spread = 0.02 if rng.random() < 0.65 else 0.07
    else:
        spread = float(np.exp(rng.uniform(*np.log(errors.spread))))
    towards = _towards_neighbour(mask, rng, errors.lean, others) if errors.lean else np.zeros(4)
    box = _loose_box(mask.astype(np.uint8), rng, spread, errors.height_share, towards).astype(bool)
    return box if box.any() else mask.copy()  # of a speck at the picture's edge, all of it may lie beyond


def subtract_neighbor(
    box: np.ndarray, mask: np.ndarray, others: Sequence[np.ndarray], rng: Rng
) -> tuple[np.ndarray, bool]:
    """The box of a person without somebody who is known already, and whether there is nobody left in it.

    Taken out is the mask, not exact, of whoever else has most of the box; where nobody else is in it, the person's own,
    or most of it: two boxes may be of one person. box, mask: (H, W) bool; others: what is seen of other people.
    """
    if not (box & mask).any():
        return box, False
    shares = [np.count_nonzero(other & box) / np.count_nonzero(box) for other in others]
    if max(shares, default=0.0) < _IN_A_BOX:
        taken = corrupt_mask(mask, rng)
        if rng.random() < 0.5:
            taken &= _half_plane(mask, rng, keep=(0.6, 1.0))
        left = box & ~taken
        return (left, True) if left.any() else (box, False)
    left = box & ~corrupt_mask(others[int(np.argmax(shares))], rng)
    return (left if np.count_nonzero(left & mask) >= 0.5 * np.count_nonzero(box & mask) else box), False


def _half_plane(mask: np.ndarray, rng: Rng, keep: tuple[float, float]) -> np.ndarray:
    """(H, W) bool: one side of a line across, that has a share of the mask's pixels from this range."""
    rows, columns = np.nonzero(mask)
    across, down = np.cos(angle := rng.uniform(0, 2 * np.pi)), np.sin(angle)
    least = np.quantile(columns * across + rows * down, 1 - rng.uniform(*keep))
    ys, xs = np.indices(mask.shape, sparse=True)
    return xs * across + ys * down >= least


def _towards_neighbour(mask: np.ndarray, rng: Rng, lean: float, others: Sequence[np.ndarray]) -> np.ndarray:
    """How many pixels the sides of a mask's box, left, top, right, bottom, go towards those of whoever is closest."""
    box = np.array(mask_to_box_xyxy(mask), np.float32)
    theirs = np.array([mask_to_box_xyxy(other) for other in others if other.any()], np.float32).reshape(-1, 4)
    shared = box_iou(box[None], theirs)[0]
    if not shared.any():
        return np.zeros(4)
    close = theirs[shared.argmax()]
    union = np.concatenate([np.minimum(box[:2], close[:2]), np.maximum(box[2:], close[2:])])
    return (union - box) * rng.normal(0, lean, 4).clip(0, 1)


def _size_px(mask: np.ndarray) -> tuple[int, int, int, int, float]:
    x, y, w, h = cv2.boundingRect(mask)
    return x, y, w, h, float(max(w, h))


def _ball(radius_px: float) -> np.ndarray:
    k = 2 * max(1, round(radius_px)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (k, k))


def _exact(mask: np.ndarray, rng: Rng) -> np.ndarray:
    return mask


def _eroded(mask: np.ndarray, rng: Rng) -> np.ndarray:
    return cv2.erode(mask, _ball(rng.uniform(0.006, 0.03) * _size_px(mask)[4]))


def _dilated(mask: np.ndarray, rng: Rng) -> np.ndarray:
    return cv2.dilate(mask, _ball(rng.uniform(0.006, 0.04) * _size_px(mask)[4]))


def _coarse(mask: np.ndarray, rng: Rng) -> np.ndarray:
    """A low-resolution mask, as heads of 14 or 28 cells a box give it."""
    x, y, w, h, _ = _size_px(mask)
    cells = int(rng.integers(10, 29))
    small = cv2.resize(mask[y : y + h, x : x + w] * 255, (cells, cells), interpolation=cv2.INTER_AREA)
    out = np.zeros_like(mask)
    large = cv2.resize(small, (w, h), interpolation=cv2.INTER_LINEAR)
    out[y : y + h, x : x + w] = large > 255 * rng.uniform(0.35, 0.65)
    return out


def _ellipses(mask: np.ndarray, rng: Rng, value: int, count: int, radius_share: tuple[float, float]) -> np.ndarray:
    """Ellipses of `value`: holes are centred in the mask, blobs on its rim."""
    size = _size_px(mask)[-1]
    out = mask.copy()
    where = mask if value == 0 else cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, _ball(1))
    ys, xs = np.nonzero(where)
    for i in rng.integers(0, len(ys), count) if len(ys) else ():
        axes = tuple(int(max(1, a)) for a in rng.uniform(*radius_share, 2) * size)
        cv2.ellipse(out, (int(xs[i]), int(ys[i])), axes, float(rng.uniform(0, 180)), 0, 360, value, -1)
    return out


def _holes(mask: np.ndarray, rng: Rng) -> np.ndarray:
    return _ellipses(mask, rng, 0, int(rng.integers(1, 6)), (0.01, 0.06))


def _blobs(mask: np.ndarray, rng: Rng) -> np.ndarray:
    return _ellipses(mask, rng, 1, int(rng.integers(1, 4)), (0.02, 0.09))


def _shifted(mask: np.ndarray, rng: Rng) -> np.ndarray:
    dx, dy = rng.uniform(-0.05, 0.05, 2) * _size_px(mask)[4]
    return cv2.warpAffine(mask, np.array([[1, 0, dx], [0, 1, dy]]), mask.shape[::-1], flags=cv2.INTER_NEAREST)


def _box(mask: np.ndarray, rng: Rng) -> np.ndarray:
    """The filled box, its sides off by a few percent as a hand draws it, or by more as a detector does."""
    return draw_box(mask, rng)


def _loose_box(mask: np.ndarray, rng: Rng, spread: float, height_share: float, towards: np.ndarray) -> np.ndarray:
    x, y, w, h, _ = _size_px(mask)
    tall = h * height_share
    jitter = rng.normal(0, spread, 4).clip(-2.5 * spread, 2.5 * spread) * (w, tall, w, tall)
    x0, y0, x1, y1 = (np.array([x, y, x + w, y + h]) + jitter + towards).round().astype(int)
    out = np.zeros_like(mask)
    out[max(0, y0) : max(y1, y0 + 1), max(0, x0) : max(x1, x0 + 1)] = 1
    return out


DEGRADATIONS: dict[str, Callable[[np.ndarray, Rng], np.ndarray]] = {
    "exact": _exact,
    "eroded": _eroded,
    "dilated": _dilated,
    "coarse": _coarse,
    "holes": _holes,
    "blobs": _blobs,
    "shifted": _shifted,
    "box": _box,
}
