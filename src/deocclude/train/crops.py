"""Crops of one person for training and validation, from the data section of a config."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from torch import Tensor

from deocclude.data.samples.person_samples import CropConfig, RealSubjects, SampleStream
from deocclude.data.samples.real_people import RealMixture, RealPeople
from deocclude.data.sources.layers import Library
from deocclude.data.sources.library import SourceWeights, load_library
from deocclude.data.sources.real_photos import read_real_sets
from deocclude.data.synthesis.config import SynthesisConfig
from deocclude.errors import ConfigError
from deocclude.train.config import DataSection, with_fields

_BATCH = 8  # people in a validation batch
_VALIDATION_SEED = 1  # the same samples in every run
# Several runs of one process, as in `deocclude ablate`, share the people of both splits. A library is never changed.
_load_library_once = lru_cache(maxsize=2)(load_library)


@dataclass(frozen=True)
class Crops:
    """Settings of people, scenes and crops. Files are read by `library`, `stream` and `held_out` only."""

    data: DataSection
    sources: SourceWeights
    synthesis: SynthesisConfig
    crop: CropConfig

    @classmethod
    def of(
        cls, data: DataSection, *, synthesis: dict[str, Any] | None = None, crop: dict[str, Any] | None = None
    ) -> Crops:
        """Build from a data section.

        Args:
            data: the section.
            synthesis: defaults of the stage for SynthesisConfig, overridden by the section.
            crop: defaults of the stage for CropConfig, overridden by the section.

        Raises:
            ConfigError: names a wrong key.
        """
        return cls(
            data, with_fields(SourceWeights(0, 0, 0, 0), data.sources, "data.sources"),
            with_fields(SynthesisConfig(), (synthesis or {}) | data.synthesis, "data.synthesis"),
            with_fields(CropConfig(), (crop or {}) | data.crop, "data.crop"),
        )  # fmt: skip

    def library(self, split: str) -> Library:
        """The people of the split "train" or "val", read once per process."""
        return _load_library_once(self.data.root, split, self.sources, self.data.places, max_px=self.data.max_px)

    def stream(self, seed: int, *, known_in_part: bool = False, truth: bool = True) -> SampleStream:
        """Training batches.

        Args:
            seed: of all draws.
            known_in_part: the caller can use people of whom only the visible mask is known.
            truth: the caller needs the unoccluded photo.

        Raises:
            ConfigError: data.p_real is set, and the caller cannot use such people.
        """
        p_real = self.data.p_real
        if p_real and not known_in_part:
            raise ConfigError("data.p_real is for stage 1 only, which can train on visible masks: set mask.data.p_real")
        real = self._real_people() if p_real else None
        return SampleStream(
            self.library("train"), self.synthesis, self.crop, seed=seed, real=real, p_real=p_real, truth=truth
        )

    def _real_people(self) -> RealSubjects:
        """People of the training photos of `data.real`."""
        sets = [RealPeople(photos) for photos in read_real_sets(self.data.root, self.data.real, "train")]
        return sets[0] if len(sets) == 1 else RealMixture(sets, list(self.data.real.values()))

    def held_out(self, samples: int, size_px: int, crop: CropConfig | None = None) -> list[dict[str, Tensor]]:
        """Batches of at least `samples` crops of held-out people, always the same; crop: overrides the training's."""
        stream = SampleStream(self.library("val"), self.synthesis, crop or self.crop, seed=_VALIDATION_SEED)
        return [stream.batch(i, _BATCH, size_px) for i in range(-(-samples // _BATCH))]


def iou_of_each(a: Tensor, b: Tensor) -> Tensor:
    """IoU of each pair of (B, 1, H, W) bool masks, (B,); 0 where both are empty."""
    return (a & b).sum((1, 2, 3)) / (a | b).sum((1, 2, 3)).clamp(min=1)
