"""Training stream of the people detector: composed scenes with exact ground truth, and real photos."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np

from deocclude.data.samples.detector_samples import PeopleSample, crop_boxed, crop_wild, from_scene, mosaic, to_batch
from deocclude.data.sources.real_photos import BoxedPhoto, WildPhoto, visible_people
from deocclude.data.synthesis.multi_person import AssetPool, CrowdConfig, compose_crowd
from deocclude.data.synthesis.paste_occluders import cover


class PeopleStream:
    """Endless training batches of the people detector, reproducible from (seed, batch number, part)."""

    def __init__(
        self, pool: AssetPool, wild: Sequence[WildPhoto], config: CrowdConfig, p_wild: float, *, seed: int,
        wild_shares: np.ndarray | None = None, boxed: Sequence[BoxedPhoto] = (), p_boxed: float = 0.0,
    ):  # fmt: skip
        """Prepare a stream.

        Args:
            pool: layers that scenes are composed from.
            wild: real photos with masks, maybe none.
            config: how scenes are composed.
            p_wild: fraction, 0 to 1, of the samples left by `p_boxed` that are crops of `wild`.
            seed: seed of all batches.
            wild_shares: (W,) relative frequency of each of `wild`, summing to 1; None: equal.
            boxed: real photos with boxes alone, maybe none.
            p_boxed: fraction of samples that are crops of `boxed`, 0 to 1.
        """
        self.wild, self.config, self.seed = list(wild), config, seed
        self.wild_shares = wild_shares
        self.boxed, self.p_boxed = boxed, p_boxed if len(boxed) else 0.0
        self.pool = pool
        if config.p_wild_people:
            self.pool = pool.with_layers(visible_people(self.wild), config.p_wild_people)
        self.p_wild = p_wild if self.wild else 0.0
        cv2.setNumThreads(0)

    def batch(self, index: int, batch_size: int, size_px: int, *, part: int = 0) -> dict[str, Any]:
        """Batch number `index`, or one part of it, as `detector_samples.to_batch` gives it."""
        rng = np.random.default_rng((self.seed, index, part) if part else (self.seed, index))
        return to_batch([self.sample(rng, size_px) for _ in range(batch_size)])

    def sample(self, rng: np.random.Generator, size_px: int) -> PeopleSample:
        """One photo in a frame of `size_px`."""
        # without `p_boxed` no random number is drawn, so that such configs keep their samples
        if self.p_boxed and rng.random() < self.p_boxed:
            return crop_boxed(self.boxed[int(rng.integers(len(self.boxed)))], rng, size_px, self.config.wild_stretch)
        if rng.random() < self.p_wild:
            if self.config.p_wild_mosaic and rng.random() < self.config.p_wild_mosaic:
                return mosaic([self._real(rng, size_px // 2) for _ in range(4)])
            return self._real(rng, size_px)
        return from_scene(compose_crowd(self.pool, rng, self.config, size_px), size_px)

    def _real(self, rng: np.random.Generator, size_px: int) -> PeopleSample:
        """A crop of a real photo with masks, sometimes with layers pasted in front."""
        covered = rng.random() < self.config.p_wild_covered
        paste_in_front = partial(cover, pool=self.pool, config=self.config) if covered else None
        count, shares = len(self.wild), self.wild_shares
        number = rng.integers(count) if shares is None else rng.choice(count, p=shares)
        return crop_wild(self.wild[number], rng, size_px, paste_in_front, self.config.wild_stretch)
