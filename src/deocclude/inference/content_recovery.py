"""Stage 2 at inference: the appearance of what is hidden, from the visible body alone. numpy in, numpy out.

The network guesses colour, shading and borders between parts; exemplar synthesis
(`imaging/exemplar_synthesis.py`) puts patches of the visible body there. Both work on a crop; what the photo has
beyond the crop's resolution is carried over at the end.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np
from PIL import Image

from deocclude.imaging.appearance import (
    Appearance,
    as_appearance,
    box_slices,
    hidden_on_photo,
    plain_appearance,
    smooth,
    visible_in_crop,
)
from deocclude.imaging.crop import Region
from deocclude.imaging.exemplar_synthesis import compose
from deocclude.inference.body import BodyInCrop
from deocclude.inference.copyable_parts import copy_support
from deocclude.inference.palette import draw_to_palette
from deocclude.inference.runtime import Network
from deocclude.inference.settings import RecoverySettings


class ContentRecovery:
    """Recovers one person's appearance on a crop. Holds the network and nothing else."""

    reads_all = False  # of the crop: visible pixels are enough

    def __init__(
        self, network: Network, exemplars: bool = True, settings: RecoverySettings = RecoverySettings()
    ) -> None:
        """exemplars: compose the hidden part of patches of the visible body; else the network's guide stands."""
        self._network = network
        self._exemplars = exemplars
        self._settings = settings

    def __call__(
        self,
        image: ImageU8,
        visible: Mask,
        amodal: Mask,
        visible_parsing: Probability,
        amodal_parsing: Probability,
    ) -> Appearance:
        """The body's appearance everywhere in `amodal`; values further out mean nothing.

        `image`: (S, S, 3) uint8, of which only visible pixels are read. `visible`, `amodal`: (S, S) bool.
        `visible_parsing`, `amodal_parsing`: (12, S/4, S/4) float32 probabilities.

        Hidden pixels are patches of the visible body, as far as their parts are such that may be copied and are seen
        (`copyable_parts.copy_support`); the rest is the network's guide, as is everything when less than a patch of the
        body is visible.
        """
        # The occluder and the background are cut away here: neither can leak into the body.
        source = image.transpose(2, 0, 1).astype(np.float32) / 255 * visible
        outputs = self._network(
            image=source[None],
            visible=visible[None, None].astype(np.float32),
            amodal=amodal[None, None].astype(np.float32),
            visible_parsing=visible_parsing[None],
            amodal_parsing=amodal_parsing[None],
        )
        guess = to_rgb(outputs["content"])
        if not self._exemplars:
            return plain_appearance(guess, amodal)
        settings = self._settings
        guide = _smooth_body(np.where(visible[..., None], image, guess), amodal, settings.guide_sigma_px)
        drawn = draw_to_palette(guide, visible, amodal, visible_parsing, amodal_parsing)
        composed = compose(image, visible, amodal, drawn, visible_parsing, amodal_parsing)
        if composed is None:
            return plain_appearance(guess, amodal)
        support = copy_support(visible, visible_parsing, amodal_parsing)
        share = np.asarray(Image.fromarray(support).resize(visible.shape[::-1], Image.Resampling.BILINEAR))
        smooth_guide = guide + np.float32(settings.palette_share) * (drawn.astype(np.float32) - guide)
        composed = replace(composed, rgb=_blend_smooth(smooth_guide, composed.rgb, image, visible, amodal, settings))
        return as_appearance(composed, image, visible, amodal, share, guess, copy_share=settings.copy_share)


def _blend_smooth(
    guide: ImageU8, rgb: ImageU8, image: ImageU8, visible: Mask, amodal: Mask,
    settings: RecoverySettings,
) -> np.ndarray:  # fmt: skip
    """(S, S, 3) float32: a composed body, `smooth_share` of whose low frequencies are the guide's. guide: float32."""
    whole = np.where(visible[..., None], image, np.rint(rgb.clip(0, 255)).astype(np.uint8))
    off = guide - _smooth_body(whole, amodal, settings.guide_sigma_px)
    return (rgb + np.float32(settings.smooth_share) * off).clip(0, 255)


def _smooth_body(rgb: ImageU8, amodal: Mask, sigma_px: float) -> np.ndarray:
    """(S, S, 3) uint8, smoothed within the body; outside its box as it was."""
    body, smoothed = box_slices(amodal, 0), rgb.copy()
    smoothed[body] = smooth(rgb[body], amodal[body], sigma_px)
    return smoothed


def to_rgb(content: np.ndarray) -> np.ndarray:
    """(1, 3, S, S) in about [0, 1] -> (S, S, 3) uint8."""
    return np.rint(content[0].transpose(1, 2, 0).clip(0, 1) * 255).astype(np.uint8)


class Recovery(Protocol):
    """What recovers appearance on a crop: `ContentRecovery`, or a baseline. reads_all: it reads the occluder too."""

    reads_all: bool

    def __call__(
        self, image: ImageU8, visible: Mask, amodal: Mask, visible_parsing: Probability,
        amodal_parsing: Probability, /,
    ) -> Appearance: ...  # fmt: skip


def recover_hidden(
    recover: Recovery, photo: ImageU8, region: Region, visible: Mask, invisible: Mask,
    view: BodyInCrop,
) -> tuple[Region, np.ndarray]:  # fmt: skip
    """The box of what is hidden and its colours, (h', w', 3) uint8; an empty box, without a network, when nothing is.

    photo: (H, W, 3) uint8 RGB; visible, invisible: (h, w) bool in `region`; view: the body in the crop.
    """
    if not invisible.any():
        return Region(0, 0, 0, 0), np.zeros((0, 0, 3), dtype=np.uint8)
    source, known = visible_in_crop(photo, visible, region, view.crop)
    source = view.image if recover.reads_all else source
    appearance = recover(source, known, view.amodal | known, view.visible_parsing, view.amodal_parsing)
    return hidden_on_photo(appearance, view.crop, photo, visible, invisible, region)
