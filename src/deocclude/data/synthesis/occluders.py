"""Kinds of occluder: objects, distractors, rectangular and lower-body occluders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from deocclude.data.sources.layers import Library
from deocclude.data.sources.procedural import draw_slab
from deocclude.data.synthesis.scene import Placed, Rng, placed_at


@dataclass(frozen=True)
class Spot:
    """Where an occluder is requested, in person coordinates: y points down, the body lies within [-0.5, 0.5]."""

    share: float  # requested occluded fraction of the body, approximate
    x: float  # (x, y) is a point of the body, drawn at random
    y: float
    middle_x: float  # mean of the body's pixels
    top: float  # y of the body's upper end
    bottom: float  # y of the body's lower end


def _distractor(spot: Spot, library: Library, rng: Rng) -> Placed:
    """Another person in front of the subject, whose feet are at about the height of the subject's."""
    pool = library.distractors
    layer = pool[int(rng.integers(len(pool)))]
    size = rng.uniform(0.65, 1.35)
    cx = spot.x + rng.normal(0, 0.15)
    cy = spot.bottom - size / 2 + rng.uniform(-0.1, 0.35)
    return placed_at(layer, rng, size, cx, cy, 6.0, is_person=True)


def _slab(spot: Spot, library: Library, rng: Rng) -> Placed:
    """A rectangular or blob-shaped occluder, centred at the drawn point of the body."""
    return placed_at(draw_slab(library, rng), rng, rng.uniform(0.5, 1.6), spot.x, spot.y, 12.0)


def _lower_body(spot: Spot, library: Library, rng: Rng) -> Placed:
    """An object on the ground in front of the person, as tall as the requested fraction needs, since legs are thin."""
    layer = library.occluders[int(rng.integers(len(library.occluders)))]
    x0, y0, x1, y1 = layer.box_xyxy
    width = (x1 - x0) / max(x1 - x0, y1 - y0)
    height = (y1 - y0) / max(x1 - x0, y1 - y0)
    reach = (spot.bottom - spot.top) * np.clip(spot.share * rng.uniform(0.9, 1.4), 0.1, 0.85)
    size = np.clip(reach / max(height, 0.2), 0.25, 1.8) * rng.uniform(0.9, 1.2)
    drop = rng.uniform(0.0, 0.12)
    cx = spot.middle_x + rng.normal(0, 0.12) * max(width * size, 0.3)
    return placed_at(layer, rng, size, cx, spot.bottom + drop - size * height / 2, 4.0)


def _object(spot: Spot, library: Library, rng: Rng) -> Placed:
    """An object near the drawn point of the body, larger for a larger requested fraction."""
    layer = library.occluders[int(rng.integers(len(library.occluders)))]
    size = np.clip(np.sqrt(spot.share), 0.15, 1.0) * rng.uniform(0.5, 1.3)
    return placed_at(layer, rng, size, spot.x + rng.normal(0, 0.1), spot.y + rng.normal(0, 0.1), 30.0)


OCCLUDERS: dict[str, Callable[[Spot, Library, Rng], Placed]] = {
    "person": _distractor,
    "low": _lower_body,
    "slab": _slab,
    "object": _object,
}
"""Kinds of occluder by name. A kind without a field `p_NAME` in SynthesisConfig gets its share in `p_other`."""
