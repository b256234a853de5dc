"""What the people detector trains on: composed scenes with exact truth, and real photos among them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np

from deocclude.data.cover import cover
from deocclude.data.crowds import Cast, CrowdConfig, draw_crowd
from deocclude.data.people_sample import PeopleSample, from_scene, to_batch
from deocclude.data.wild import WildPhoto, crop_wild


class PeopleStream:
    """Endless training batches, reproducible from (seed, part, number of the batch), as dataset.SampleStream's."""

    def __init__(self, cast: Cast, wild: Sequence[WildPhoto], config: CrowdConfig, p_wild: float, *, seed: int):
        """p_wild: share of samples that are crops of `wild`; none where it is empty."""
        self.cast, self.wild, self.config, self.seed = cast, list(wild), config, seed
        self.p_wild = p_wild if self.wild else 0.0
        cv2.setNumThreads(0)

    def batch(self, index: int, batch_size: int, size_px: int, *, part: int = 0) -> dict[str, Any]:
        """Batch number `index`, or one part of it, as people_sample.to_batch gives it."""
        rng = np.random.default_rng((self.seed, index, part) if part else (self.seed, index))
        return to_batch([self.sample(rng, size_px) for _ in range(batch_size)])

    def sample(self, rng: np.random.Generator, size_px: int) -> PeopleSample:
        """One photo in a frame of `size_px`."""
        if rng.random() < self.p_wild:
            covered = rng.random() < self.config.p_wild_covered
            before_them = partial(cover, cast=self.cast, config=self.config) if covered else None
            return crop_wild(self.wild[rng.integers(len(self.wild))], rng, size_px, before_them)
        return from_scene(draw_crowd(self.cast, rng, self.config, size_px), size_px)
