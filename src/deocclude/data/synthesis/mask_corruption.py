"""Corrupted masks: from an exact visible mask to what annotators, segmenters and detectors give, down to a box."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from deocclude.imaging.arrays import Float, Mask
from deocclude.imaging.boxes import box_iou, mask_to_box_xyxy

Rng = np.random.Generator

Bits = NDArray[np.uint8]
"""(H, W), 1 where a mask is True: what OpenCV takes."""

_MIN_BOX_SHARE = 0.05  # of a box's pixels: a person with less of them is not in the box


@dataclass(frozen=True)
class BoxJitter:
    """Box jitter: errors of a box's sides as fractions of its width and height.

    Attributes:
        spread: least and largest standard deviation of a side; each box draws its own, log-uniformly, so that most are
            nearly exact. None: 0.02 for 65 % of the boxes and 0.07 for the others.
        height_share: factor on the spread of the upper and lower side: detectors localise heads and feet better than
            elbows.
        bias: standard deviation of a shift towards the neighbour's box, as a fraction of the way; it applies to sides
            that the neighbour reaches beyond, half of the time.
    """

    spread: tuple[float, float] | None = None
    height_share: float = 1.0
    bias: float = 0.0


def corrupt_mask(mask: Mask, rng: Rng, kind: str | None = None) -> Mask:
    """A corrupted mask.

    Args:
        mask: (H, W) bool, the true visible mask.
        rng: draws the corruption.
        kind: a key of DEGRADATIONS; None draws one other than `exact` and `box`.

    Returns:
        (H, W) bool; the mask itself where the corruption would leave no pixel.

    Raises:
        ValueError: an unknown kind.
    """
    if kind is None:
        kind = str(rng.choice([k for k in DEGRADATIONS if k not in ("exact", "box")]))
    if kind not in DEGRADATIONS:
        raise ValueError(f"kind must be one of {', '.join(DEGRADATIONS)}, got {kind!r}")
    exact: Mask = mask.copy()
    if not mask.any():
        return exact
    out = DEGRADATIONS[kind](mask.astype(np.uint8), rng).astype(bool)
    return out if out.any() else exact


def draw_initial_mask(
    mask: Mask, rng: Rng, *, p_exact: float, p_box: float, errors: BoxJitter = BoxJitter(),
    others: Sequence[Mask] = (),
) -> Mask:  # fmt: skip
    """The initial mask of a training sample: exact, a box, or one or two corruptions in sequence.

    Args:
        mask: (H, W) bool, the true visible mask.
        rng: draws the kind and the corruption.
        p_exact: probability of the exact mask, 0 to 1.
        p_box: probability of a box, 0 to 1.
        errors: as `draw_box` takes them.
        others: as `draw_box` takes them.
    """
    draw = rng.random()
    if draw < p_exact:
        exact: Mask = mask.copy()
        return exact
    if draw < p_exact + p_box:
        return draw_box(mask, rng, errors, others)
    out = corrupt_mask(mask, rng)
    return corrupt_mask(out, rng) if rng.random() < 0.35 else out


def draw_box(mask: Mask, rng: Rng, errors: BoxJitter = BoxJitter(), others: Sequence[Mask] = ()) -> Mask:
    """The filled, jittered box around a mask, (H, W) bool.

    Args:
        mask: (H, W) bool, the true visible mask.
        rng: draws the jitter.
        errors: how far the sides are off.
        others: (H, W) bool visible masks of other people; the box is biased towards the box of largest IoU.
    """
    exact: Mask = mask.copy()
    if not mask.any():
        return exact
    if errors.spread is None:
        spread = 0.02 if rng.random() < 0.65 else 0.07
    else:
        spread = float(np.exp(rng.uniform(*np.log(errors.spread))))
    bias_px = _neighbour_bias_px(mask, rng, errors.bias, others) if errors.bias else np.zeros(4)
    box = _jittered_box(mask.astype(np.uint8), rng, spread, errors.height_share, bias_px).astype(bool)
    return box if box.any() else exact  # the box of a tiny mask at the image border may lie outside


def subtract_neighbor(box: Mask, mask: Mask, others: Sequence[Mask], rng: Rng) -> tuple[Mask, bool]:
    """A box prompt minus the corrupted mask of a person who is segmented already.

    Subtracted is the other person with most pixels in the box. Where no other person is in it, the person's own mask,
    or most of it, is subtracted: two boxes may show one person, and then the prompt is negative. The whole box is
    returned where subtraction would leave nothing of it, or less than half of the person's pixels in it.

    Args:
        box: (H, W) bool, the filled box.
        mask: (H, W) bool, the true visible mask.
        others: (H, W) bool visible masks of other people.
        rng: draws the corruption.

    Returns:
        The prompt, (H, W) bool, and whether no person is left in it.
    """
    if not (box & mask).any():
        return box, False
    shares = [np.count_nonzero(other & box) / np.count_nonzero(box) for other in others]
    if max(shares, default=0.0) < _MIN_BOX_SHARE:
        subtracted = corrupt_mask(mask, rng)
        if rng.random() < 0.5:
            subtracted &= _half_plane(mask, rng, keep=(0.6, 1.0))
        prompt = box & ~subtracted
        return (prompt, True) if prompt.any() else (box, False)
    prompt = box & ~corrupt_mask(others[int(np.argmax(shares))], rng)
    return (prompt if np.count_nonzero(prompt & mask) >= 0.5 * np.count_nonzero(box & mask) else box), False


def _half_plane(mask: Mask, rng: Rng, keep: tuple[float, float]) -> Mask:
    """(H, W) bool: a random half-plane with a fraction of the mask's pixels, drawn from the range `keep`, 0 to 1."""
    rows, columns = np.nonzero(mask)
    across, down = np.cos(angle := rng.uniform(0, 2 * np.pi)), np.sin(angle)
    threshold = np.quantile(columns * across + rows * down, 1 - rng.uniform(*keep))
    height, width = mask.shape
    ys, xs = np.ogrid[:height, :width]
    kept: Mask = xs * across + ys * down >= threshold
    return kept


def _neighbour_bias_px(mask: Mask, rng: Rng, bias: float, others: Sequence[Mask]) -> Float:
    """(4,) shift in pixels of a box's left, top, right and bottom side towards the neighbour of largest IoU."""
    box = np.array(mask_to_box_xyxy(mask), np.float32)
    other_boxes = np.array([mask_to_box_xyxy(other) for other in others if other.any()], np.float32).reshape(-1, 4)
    iou = box_iou(box[None], other_boxes)[0]
    if not iou.any():
        return np.zeros(4)
    closest = other_boxes[iou.argmax()]
    union = np.concatenate([np.minimum(box[:2], closest[:2]), np.maximum(box[2:], closest[2:])])
    shift: Float = (union - box) * rng.normal(0, bias, 4).clip(0, 1)
    return shift


def _box_and_side(mask: Bits) -> tuple[int, int, int, int, float]:
    """x, y, width, height and longer side of the mask's box, in pixels."""
    x, y, w, h = cv2.boundingRect(mask)
    return x, y, w, h, float(max(w, h))


def _ellipse_kernel(radius_px: float) -> np.ndarray:
    """Elliptic structuring element with a radius of at least one pixel."""
    k = 2 * max(1, round(radius_px)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (k, k))


def _exact(mask: Bits, rng: Rng) -> np.ndarray:
    """The mask itself; `rng` is not used."""
    return mask


def _eroded(mask: Bits, rng: Rng) -> np.ndarray:
    """Shrunk by 0.6 to 3 % of the box's longer side."""
    return cv2.erode(mask, _ellipse_kernel(rng.uniform(0.006, 0.03) * _box_and_side(mask)[4]))


def _dilated(mask: Bits, rng: Rng) -> np.ndarray:
    """Grown by 0.6 to 4 % of the box's longer side."""
    return cv2.dilate(mask, _ellipse_kernel(rng.uniform(0.006, 0.04) * _box_and_side(mask)[4]))


def _coarse(mask: Bits, rng: Rng) -> np.ndarray:
    """At low resolution, 10 to 28 cells a box, as mask heads with 14 or 28 cells give it."""
    x, y, w, h, _ = _box_and_side(mask)
    cells = int(rng.integers(10, 29))
    small = cv2.resize(mask[y : y + h, x : x + w] * 255, (cells, cells), interpolation=cv2.INTER_AREA)
    out = np.zeros_like(mask)
    large = cv2.resize(small, (w, h), interpolation=cv2.INTER_LINEAR)
    out[y : y + h, x : x + w] = large > 255 * rng.uniform(0.35, 0.65)
    return out


def _ellipses(mask: Bits, rng: Rng, value: int, count: int, radius_share: tuple[float, float]) -> Bits:
    """The mask with random ellipses.

    Args:
        mask: the mask to draw on.
        rng: draws the ellipses.
        value: 0 for holes, centred in the mask; 1 for blobs, centred on its rim.
        count: number of ellipses.
        radius_share: range of the half axes, as fractions of the box's longer side.
    """
    size = _box_and_side(mask)[-1]
    out: Bits = mask.copy()
    centres = mask if value == 0 else cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, _ellipse_kernel(1))
    ys, xs = np.nonzero(centres)
    for i in rng.integers(0, len(ys), count) if len(ys) else ():
        axes = tuple(int(max(1, a)) for a in rng.uniform(*radius_share, 2) * size)
        cv2.ellipse(out, (int(xs[i]), int(ys[i])), axes, float(rng.uniform(0, 180)), 0, 360, value, -1)
    return out


def _holes(mask: Bits, rng: Rng) -> np.ndarray:
    """With one to five elliptic holes."""
    return _ellipses(mask, rng, 0, int(rng.integers(1, 6)), (0.01, 0.06))


def _blobs(mask: Bits, rng: Rng) -> np.ndarray:
    """With one to three elliptic blobs on the rim."""
    return _ellipses(mask, rng, 1, int(rng.integers(1, 4)), (0.02, 0.09))


def _shifted(mask: Bits, rng: Rng) -> np.ndarray:
    """Moved along each axis by up to 5 % of the box's longer side."""
    dx, dy = rng.uniform(-0.05, 0.05, 2) * _box_and_side(mask)[4]
    return cv2.warpAffine(mask, np.array([[1, 0, dx], [0, 1, dy]]), mask.shape[::-1], flags=cv2.INTER_NEAREST)


def _box(mask: Bits, rng: Rng) -> np.ndarray:
    """The filled box, its sides off by 2 % as an annotator draws it, or by 7 % as a detector does."""
    return draw_box(mask.astype(bool), rng)


def _jittered_box(mask: Bits, rng: Rng, spread: float, height_share: float, bias_px: Float) -> Bits:
    """The filled box of a mask with errors of its four sides.

    Args:
        mask: the mask, not empty.
        rng: draws the errors.
        spread: standard deviation of an error, as a fraction of the box's width or height; cut at 2.5 times of it.
        height_share: factor on the spread of the upper and lower side.
        bias_px: (4,) shift of left, top, right and bottom side.
    """
    x, y, w, h, _ = _box_and_side(mask)
    tall = h * height_share
    jitter = rng.normal(0, spread, 4).clip(-2.5 * spread, 2.5 * spread) * (w, tall, w, tall)
    x0, y0, x1, y1 = (np.array([x, y, x + w, y + h]) + jitter + bias_px).round().astype(int)
    out = np.zeros_like(mask)
    # an end below 0 would count from the other side of the array
    out[max(0, y0) : max(0, y1, y0 + 1), max(0, x0) : max(0, x1, x0 + 1)] = 1
    return out


DEGRADATIONS: dict[str, Callable[[Bits, Rng], np.ndarray]] = {
    "exact": _exact,
    "eroded": _eroded,
    "dilated": _dilated,
    "coarse": _coarse,
    "holes": _holes,
    "blobs": _blobs,
    "shifted": _shifted,
    "box": _box,
}
"""Corruptions by name."""
