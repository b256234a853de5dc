"""What the people detector trains on: composed scenes with exact truth, and real photos among them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np

from deocclude.data.samples.detector_samples import PeopleSample, crop_wild, from_scene, mosaic, to_batch
from deocclude.data.sources.real_photos import WildPhoto, people_of
from deocclude.data.synthesis.multi_person import AssetPool, CrowdConfig, draw_crowd
from deocclude.data.synthesis.paste_occluders import cover


class PeopleStream:
    """Endless training batches, reproducible from (seed, part, number of the batch), as dataset.SampleStream's."""

    def __init__(self, cast: AssetPool, wild: Sequence[WildPhoto], config: CrowdConfig, p_wild: float, *, seed: int):
        """p_wild: share of samples that are crops of `wild`; none where it is empty."""
        self.wild, self.config, self.seed = list(wild), config, seed
        self.cast = cast
        if config.p_wild_people:
            self.cast = cast.joined_with(people_of(self.wild), config.p_wild_people)
        self.p_wild = p_wild if self.wild else 0.0
        cv2.setNumThreads(0)

    def batch(self, index: int, batch_size: int, size_px: int, *, part: int = 0) -> dict[str, Any]:
        """Batch number `index`, or one part of it, as people_sample.to_batch gives it."""
        rng = np.random.default_rng((self.seed, index, part) if part else (self.seed, index))
        return to_batch([self.sample(rng, size_px) for _ in range(batch_size)])

    def sample(self, rng: np.random.Generator, size_px: int) -> PeopleSample:
        """One photo in a frame of `size_px`."""
        if rng.random() < self.p_wild:
            # asked only where it can be: runs of before drew no number for it
            if self.config.p_wild_mosaic and rng.random() < self.config.p_wild_mosaic:
                return mosaic([self._real(rng, size_px // 2) for _ in range(4)])
            return self._real(rng, size_px)
        return from_scene(draw_crowd(self.cast, rng, self.config, size_px), size_px)

    def _real(self, rng: np.random.Generator, size_px: int) -> PeopleSample:
        covered = rng.random() < self.config.p_wild_covered
        before_them = partial(cover, cast=self.cast, config=self.config) if covered else None
        photo = self.wild[rng.integers(len(self.wild))]
        return crop_wild(photo, rng, size_px, before_them, self.config.wild_stretch)
