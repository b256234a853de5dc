"""Completion prompts as a user would give them, drawn from the truth: an extent box, clicks, strokes, a typical pose.

Most clicks correct stage 1: they lie in what its own prediction lacks, or has too much (Sofiiuk et al. 2021, arXiv
2102.06583). The others are anywhere in the hidden part, or beside the body.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from deocclude.imaging.arrays import Float32, Mask, Probability
from deocclude.imaging.boxes import BoxXyxy, mask_to_box_xyxy
from deocclude.inference.prompt_maps import Point, Stroke, draw_prompt_maps

_MIN_CLICKED = 0.002  # least area, as a share of the crop, of a region that is clicked


@dataclass(frozen=True)
class SimulatedPrompts:
    """How often and how exactly a user gives each kind of prompt.

    Attributes:
        p_extent: share of samples with the box of the whole body.
        extent_jitter: standard deviation of its edges, as a share of its longer side.
        body_clicks: probabilities of 0, 1, 2 ... clicks on the body.
        background_clicks: the same for clicks beside the body.
        p_correct: share of the clicks that are in an error of stage 1, where there is one.
        p_stroke: share of clicks on the body that become a line inside it, as between two joints of a limb.
        p_pose: share of samples with the typical pose that fits best.
    """

    p_extent: float = 0.6
    extent_jitter: float = 0.012
    body_clicks: tuple[float, ...] = (0.4, 0.25, 0.2, 0.15)
    background_clicks: tuple[float, ...] = (0.55, 0.3, 0.15)
    p_correct: float = 0.7
    p_stroke: float = 0.25
    p_pose: float = 0.2


def simulate_prompts(
    visible: Mask, amodal: Mask, known: Mask, predicted: Mask, rng: np.random.Generator,
    poses: Sequence[Probability] = (), how: SimulatedPrompts = SimulatedPrompts(),
) -> Float32:  # fmt: skip
    """The maps of one sample's prompts; at least one prompt for a body whose truth is known on the whole crop.

    Args:
        visible: (S, S) bool: the true visible mask.
        amodal: (S, S) bool: the true amodal mask.
        known: (S, S) bool: pixels of known truth.
        predicted: (S, S) bool: stage 1's amodal mask without prompts.
        rng: draws the prompts.
        poses: amodal masks of the typical poses on this crop, (S, S) each; empty: no pose is given.
        how: frequencies.

    Returns:
        (PROMPT_MAPS, S, S) float32.
    """
    size_px = len(amodal)
    if not (amodal & known).any():
        return draw_prompt_maps(size_px)
    all_known = bool(known.all())
    body = _clicks(amodal & ~predicted & ~visible & known, amodal & ~visible & known, how.body_clicks, rng, how)
    strokes = [_stroke_from(click, amodal & known, rng) if rng.random() < how.p_stroke else (click, click)
               for click in body]  # fmt: skip
    near = cv2.dilate(amodal.astype(np.uint8), np.ones((size_px // 8,) * 2)) > 0
    background = _clicks(predicted & ~amodal & known, near & ~amodal & known, how.background_clicks, rng, how)
    silhouette = best_pose(poses, amodal) if all_known and len(poses) and rng.random() < how.p_pose else None
    extent = None
    nothing = not (strokes or background or silhouette is not None)
    if all_known and (nothing or rng.random() < how.p_extent):
        extent = jittered_extent(amodal, rng, how.extent_jitter)
    return draw_prompt_maps(
        size_px, extent_xyxy=extent, body=strokes, background=[(click, click) for click in background],
        silhouette=silhouette,
    )  # fmt: skip


def jittered_extent(amodal: Mask, rng: np.random.Generator, jitter: float) -> BoxXyxy:
    """The box of a mask, (x0, y0, x1, y1) in pixels, with errors; an edge at the crop's border stays there.

    Args:
        amodal: (S, S) bool, not empty.
        rng: draws the errors.
        jitter: standard deviation, as a share of the longer side.
    """
    edges = np.array(mask_to_box_xyxy(amodal), float)
    side = max(edges[2] - edges[0], edges[3] - edges[1])
    moved = edges + rng.normal(0, jitter * side, 4)
    moved = np.where(edges <= 0, 0.0, np.where(edges >= len(amodal), len(amodal), moved))
    (x0, y0), (x1, y1) = np.sort(moved.reshape(2, 2), axis=0).tolist()  # errors may exceed a thin body's width
    return x0, y0, x1, y1


def largest_error(error: Mask, min_share: float = _MIN_CLICKED) -> Point | None:
    """The point of a region that is deepest inside its largest component, in pixels; None for a small region.

    Args:
        error: (H, W) bool.
        min_share: least area of the component, as a share of the image.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(error.astype(np.uint8), connectivity=4)
    if count < 2:
        return None
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    if stats[largest, cv2.CC_STAT_AREA] < min_share * error.size:
        return None
    inside = np.pad((labels == largest).astype(np.uint8), 1)
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(x) + 0.5, float(y) + 0.5


def best_pose(poses: Sequence[Probability], amodal: Mask) -> Probability:
    """The pose with the largest soft IoU with a mask.

    Args:
        poses: (S, S) each, at least one.
        amodal: (S, S) bool.
    """
    stack = np.stack(list(poses))
    fits = np.minimum(stack, amodal).sum((1, 2)) / np.maximum(stack, amodal).sum((1, 2))
    best: Probability = stack[int(fits.argmax())]
    return best


def _clicks(
    error: Mask, region: Mask, counts: tuple[float, ...], rng: np.random.Generator, how: SimulatedPrompts
) -> list[Point]:
    """Clicks in an error of stage 1, or anywhere in a region; none where both are small.

    Args:
        error: (S, S) bool.
        region: (S, S) bool.
        counts: probabilities of 0, 1, 2 ... clicks.
        rng: draws number and places.
        how: frequencies.
    """
    clicks: list[Point] = []
    for _ in range(rng.choice(len(counts), p=counts)):
        click = None
        if rng.random() < how.p_correct:
            click = largest_error(error) if rng.random() < 0.5 else _random_point(error, rng)
        click = click or _random_point(region, rng)
        if click is None:
            break
        clicks.append(click)
        x, y = (int(coordinate) for coordinate in click)
        reach = len(error) // 12  # the next click is somewhere else
        error = error.copy()
        error[max(0, y - reach) : y + reach, max(0, x - reach) : x + reach] = False
    return clicks


def _random_point(region: Mask, rng: np.random.Generator) -> Point | None:
    """The centre of a random pixel of a region, if possible not at its edge; None for a small region."""
    if np.count_nonzero(region) < _MIN_CLICKED * region.size:
        return None
    core = cv2.erode(region.astype(np.uint8), np.ones((5, 5))) > 0
    rows, columns = np.nonzero(core if core.any() else region)
    pixel = int(rng.integers(len(rows)))
    return float(columns[pixel]) + 0.5, float(rows[pixel]) + 0.5


def _stroke_from(click: Point, body: Mask, rng: np.random.Generator) -> Stroke:
    """A line from a click to a random pixel of the body, nearly all of it on the body; else the click alone."""
    rows, columns = np.nonzero(body)
    for _ in range(4):
        pixel = int(rng.integers(len(rows)))
        end = float(columns[pixel]) + 0.5, float(rows[pixel]) + 0.5
        line = np.linspace(click, end, 40).astype(int)
        if body[line[:, 1], line[:, 0]].mean() > 0.95:
            return click, end
    return click, click
