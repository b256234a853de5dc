"""Training samples: a scene, a crop around its person, an exact or corrupted initial mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np

from deocclude.data.sources.layers import Library
from deocclude.data.synthesis.config import SynthesisConfig, check_ranges
from deocclude.data.synthesis.mask_corruption import BoxJitter, draw_box, draw_initial_mask, subtract_neighbor
from deocclude.data.synthesis.photometric import camera, photometric
from deocclude.data.synthesis.rendering import render
from deocclude.data.synthesis.scene import Plan, beyond_rgb
from deocclude.data.synthesis.single_person import plan_scene

Rng = np.random.Generator


@dataclass(frozen=True)
class CropConfig:
    """How training crops are drawn; the ranges contain the wide and the tight crop of inference."""

    p_wide: float = 0.35  # fraction of crops that are wide; the others are tight
    wide_scale: tuple[float, float] = (1.7, 2.9)  # side of a wide crop, around the visible box, by its longer side
    tight_scale: tuple[float, float] = (1.05, 1.6)  # side of a tight crop, around the amodal box, by its longer side
    shift: float = 0.1  # largest shift, by the crop's side; half of it for wide crops
    p_exact: float = 0.3  # fraction of initial masks that are exact
    p_box: float = 0.25  # fraction of initial masks that are a filled box
    # errors of box prompts, as in `mask_corruption.BoxJitter`: detector boxes are off, more so under occlusion
    box_jitter: tuple[float, float] | None = None
    box_jitter_height: float = 1.0
    box_jitter_bias: float = 0.0
    # of samples of composed scenes: the initial mask is a box minus another person's mask, or, where no other person is
    # in it, minus the person's own mask, which makes the sample a negative
    p_subtract_neighbor: float = 0.0

    def __post_init__(self) -> None:
        check_ranges(self, rising=("wide_scale", "tight_scale", "box_jitter"))
        if self.box_jitter is not None and self.box_jitter[0] <= 0:
            raise ValueError(f"box_jitter must be above 0, got {list(self.box_jitter)}")
        for name in ("box_jitter_height", "box_jitter_bias"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name):g}")

    @property
    def box_errors(self) -> BoxJitter:
        """The jitter of box prompts."""
        return BoxJitter(self.box_jitter, self.box_jitter_height, self.box_jitter_bias)


def draw_sample(
    library: Library, rng: Rng, synthesis: SynthesisConfig, crop: CropConfig, size_px: int, *, truth: bool = True
) -> dict[str, np.ndarray]:
    """One training sample.

    Args:
        library: people, occluders and backgrounds.
        rng: draws the sample.
        synthesis: how the scene is composed.
        crop: how the crop and the initial mask are drawn.
        size_px: side S of the crop.
        truth: whether the sample includes `truth`; the other arrays are the same without it.

    Returns:
        photo, truth: (S, S, 3) uint8, with and without occluders; initial (the prompt), visible, amodal: (S, S) bool;
        known: (S, S) bool, where `amodal` is ground truth; parsing: (S, S) uint8 labels of the amodal mask, 255 =
        unknown. A negative has empty visible and amodal masks.
    """
    plan = plan_scene(library, rng, synthesis)
    scene = render(plan, draw_crop(plan, rng, crop, size_px), (size_px, size_px))
    photo, *rendered_truth = camera(photometric([scene.photo, scene.truth] if truth else [scene.photo], rng), rng)
    photo[~scene.inside] = beyond_rgb(plan)
    is_negative = plan.is_negative
    if is_negative:  # only boxes can be negative prompts: a mask is always of a person
        initial = draw_box(scene.visible, rng, crop.box_errors) & scene.inside
    elif crop.p_subtract_neighbor and rng.random() < crop.p_subtract_neighbor:
        box = draw_box(scene.visible, rng, crop.box_errors, scene.others) & scene.inside
        initial, is_negative = subtract_neighbor(box, scene.visible, scene.others, rng)
    else:
        initial = draw_initial_mask(
            scene.visible, rng, p_exact=crop.p_exact, p_box=crop.p_box, errors=crop.box_errors, others=scene.others
        )
        initial &= scene.inside
    visible, amodal, parsing = scene.visible, scene.amodal, scene.parsing
    if is_negative:
        visible, amodal, parsing = (np.zeros_like(array) for array in (visible, amodal, parsing))
    sample = {
        "photo": photo, "initial": initial, "visible": visible, "amodal": amodal, "parsing": parsing,
        "known": scene.known,
    }  # fmt: skip
    return sample | {"truth": rendered_truth[0]} if truth else sample


def draw_crop(plan: Plan, rng: Rng, crop: CropConfig, size_px: int) -> np.ndarray:
    """2x3 affine from person coordinates to the pixels of a (size_px, size_px) crop."""
    wide = rng.random() < crop.p_wide
    x0, y0, x1, y1 = plan.visible_box_xyxy if wide else plan.amodal_box_xyxy
    side = max(x1 - x0, y1 - y0, 0.06) * rng.uniform(*(crop.wide_scale if wide else crop.tight_scale))
    cx, cy = np.array([x0 + x1, y0 + y1]) / 2 + rng.uniform(-1, 1, 2) * crop.shift * side * (0.5 if wide else 1.0)
    s = size_px / side
    # -0.5: pixel i covers [i, i + 1), warps address its centre as i
    return np.array([[s, 0, size_px / 2 - s * cx - 0.5], [0, s, size_px / 2 - s * cy - 0.5]])


def to_batch(samples: list[dict[str, np.ndarray]]) -> dict[str, Any]:
    """Samples as torch tensors: uint8, images (B, 3, S, S), masks (B, 1, S, S), parsing (B, S, S)."""
    import torch

    out = {}
    for key in samples[0]:
        stack = np.stack([s[key] for s in samples])
        if stack.dtype == bool:
            stack = stack.astype(np.uint8)
        tensor = torch.from_numpy(stack)
        if key in ("photo", "truth"):
            tensor = tensor.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        elif key != "parsing":
            tensor = tensor[:, None]
        out[key] = tensor
    return out


class RealSubjects(Protocol):
    """People of real photos, such as `real_people.RealPeople`."""

    def draw(self, rng: Rng, crop: CropConfig, size_px: int) -> dict[str, np.ndarray]:
        """One training sample, as `draw_sample` gives them."""
        ...


class SampleStream:
    """Endless training batches, reproducible from (seed, batch number, part)."""

    def __init__(
        self, library: Library, synthesis: SynthesisConfig, crop: CropConfig, *, seed: int,
        real: RealSubjects | None = None, p_real: float = 0.0, truth: bool = True,
    ):  # fmt: skip
        """Prepare a stream.

        Args:
            library: people, occluders and backgrounds.
            synthesis: how scenes are composed.
            crop: how crops and initial masks are drawn.
            seed: seed of all batches.
            real: people of real photos, with known visible masks only.
            p_real: fraction of samples from `real`, 0 to 1.
            truth: whether samples include the unoccluded scene, which takes a tenth of the drawing time.
        """
        self.library, self.synthesis, self.crop, self.seed = library, synthesis, crop, seed
        self.real, self.p_real = real, p_real if real is not None else 0.0
        self.truth = truth
        cv2.setNumThreads(0)

    def batch(self, index: int, batch_size: int, size_px: int, *, part: int = 0) -> dict[str, Any]:
        """Batch number `index`, or one part of it; the same arguments always give the same batch."""
        rng = np.random.default_rng((self.seed, index, part) if part else (self.seed, index))
        return to_batch([self._sample(rng, size_px) for _ in range(batch_size)])

    def _sample(self, rng: Rng, size_px: int) -> dict[str, np.ndarray]:
        """One sample, of a real photo or a synthetic scene."""
        # without `p_real` no random number is drawn, so that such configs keep their samples
        if self.real is not None and self.p_real and rng.random() < self.p_real:
            sample = self.real.draw(rng, self.crop, size_px)
            return sample if self.truth else {key: array for key, array in sample.items() if key != "truth"}
        return draw_sample(self.library, rng, self.synthesis, self.crop, size_px, truth=self.truth)
