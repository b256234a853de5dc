"""Stage 2 at inference: the appearance of the hidden part, from the visible body alone. numpy in, numpy out.

The network estimates colour, shading and borders between parts. Exemplar synthesis (`imaging/exemplar_synthesis.py`)
copies patches of the visible body. Both work on a crop; detail beyond the crop's resolution is transferred at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np
from PIL import Image

from deocclude.imaging.appearance import (
    Appearance,
    as_appearance,
    blend_seam,
    box_slices,
    hidden_on_photo,
    plain_appearance,
    smooth,
    unmixed_visible,
    visible_in_crop,
)
from deocclude.imaging.arrays import Float32, ImageU8, Mask, Probability
from deocclude.imaging.compositing import paste_hidden_box
from deocclude.imaging.crop import Region
from deocclude.imaging.exemplar_synthesis import compose
from deocclude.inference.body import BodyInCrop
from deocclude.inference.copyable_parts import copy_support
from deocclude.inference.palette import pull_to_palette
from deocclude.inference.runtime import Network
from deocclude.inference.settings import RecoverySettings


class ContentRecovery:
    """Recovers one person's appearance on a crop. Holds the network and its settings."""

    reads_all = False

    def __init__(
        self, network: Network, exemplars: bool = True, settings: RecoverySettings = RecoverySettings()
    ) -> None:
        """The network with its settings.

        Args:
            network: stage 2.
            exemplars: copy patches of the visible body to the hidden part; otherwise the network's output is the
                result.
            settings: tuned numbers.
        """
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
        """Recover the body's appearance on a crop. Pixels outside `amodal` are undefined.

        Hidden pixels are copied patches of the visible body where their body parts may be copied and are visible
        (`copyable_parts.copy_support`). The rest is the network's output, as is everything where the visible body holds
        no whole patch.

        Args:
            image: (S, S, 3) uint8, of which visible pixels alone are read.
            visible: (S, S) bool.
            amodal: (S, S) bool.
            visible_parsing: (12, S/4, S/4) float32 probabilities.
            amodal_parsing: (12, S/4, S/4) float32 probabilities.
        """
        # occluder and background are removed from the input: neither can leak into the body
        source: Float32 = image.transpose(2, 0, 1).astype(np.float32) / np.float32(255) * visible
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
        palette_guide = pull_to_palette(guide, visible, amodal, visible_parsing, amodal_parsing)
        composed = compose(image, visible, amodal, palette_guide, visible_parsing, amodal_parsing)
        if composed is None:
            return plain_appearance(guess, amodal)
        support = copy_support(visible, visible_parsing, amodal_parsing)
        share = np.asarray(Image.fromarray(support).resize(visible.shape[::-1], Image.Resampling.BILINEAR))
        smooth_guide: Float32 = guide + np.float32(settings.palette_share) * (palette_guide.astype(np.float32) - guide)
        composed = replace(composed, rgb=_blend_smooth(smooth_guide, composed.rgb, image, visible, amodal, settings))
        return as_appearance(composed, image, visible, amodal, share, guess, copy_share=settings.copy_share)


def _blend_smooth(
    guide: Float32, rgb: Float32, image: ImageU8, visible: Mask, amodal: Mask,
    settings: RecoverySettings,
) -> Float32:  # fmt: skip
    """(S, S, 3) float32: the composed body with `smooth_share` of its low frequencies replaced by the guide's.

    guide, rgb: (S, S, 3) float32, 0 to 255; rgb is the composed body.
    """
    whole = np.where(visible[..., None], image, np.rint(rgb.clip(0, 255)).astype(np.uint8))
    difference = guide - _smooth_body(whole, amodal, settings.guide_sigma_px)
    blended: Float32 = (rgb + np.float32(settings.smooth_share) * difference).clip(0, 255)
    return blended


def _smooth_body(rgb: ImageU8, amodal: Mask, sigma_px: float) -> ImageU8:
    """(S, S, 3) uint8: colours smoothed within the body, unchanged outside its box."""
    body = box_slices(amodal, 0)
    smoothed: ImageU8 = rgb.copy()
    smoothed[body] = smooth(rgb[body], amodal[body], sigma_px)
    return smoothed


def to_rgb(content: Float32) -> ImageU8:
    """(1, 3, S, S) float32 in about [0, 1] to (S, S, 3) uint8."""
    rgb: ImageU8 = np.rint(content[0].transpose(1, 2, 0).clip(0, 1) * 255).astype(np.uint8)
    return rgb


class Recovery(Protocol):
    """Recovers appearance on a crop: `ContentRecovery`, or a baseline.

    Attributes:
        reads_all: whether the occluder's pixels are read too; else those of the visible body alone.
    """

    reads_all: bool

    def __call__(
        self, image: ImageU8, visible: Mask, amodal: Mask, visible_parsing: Probability,
        amodal_parsing: Probability, /,
    ) -> Appearance: ...  # fmt: skip


def recover_known(
    recover: Recovery, parse: Callable[[ImageU8, Mask, Mask], BodyInCrop], photo: ImageU8, visible: Mask, amodal: Mask
) -> ImageU8:
    """An image with the hidden part of one person recovered; every other pixel is unchanged.

    Args:
        recover: stage 2, or a baseline.
        parse: predicts the body parts, on a crop, of a person whose masks are known.
        photo: (H, W, 3) uint8 RGB.
        visible: (H, W) bool, a subset of `amodal`.
        amodal: (H, W) bool.
    """
    picture: ImageU8 = photo.copy()
    invisible = amodal & ~visible
    if invisible.any():
        in_crop = parse(photo, visible, amodal)
        region = Region.of_mask(amodal).grow(1, photo.shape[:2])  # includes the body's outline
        parts = visible[region.slices], invisible[region.slices]
        box, colours = recover_hidden(recover, photo, region, *parts, in_crop)
        paste_hidden_box(picture, box, colours, invisible, amodal)
    return picture


def recover_hidden(
    recover: Recovery, photo: ImageU8, region: Region, visible: Mask, invisible: Mask,
    view: BodyInCrop,
) -> tuple[Region, ImageU8]:  # fmt: skip
    """The appearance of a person's hidden part on the image.

    Args:
        recover: stage 2, or a baseline.
        photo: (H, W, 3) uint8 RGB.
        region: the body's region.
        visible: (h, w) bool in `region`.
        invisible: (h, w) bool in `region`.
        view: the body in the crop that stage 2 gets.

    Returns:
        The hidden part's box and its colours, (h', w', 3) uint8. Where nothing is hidden: an empty box, without running
        a network.
    """
    if not invisible.any():
        return Region(0, 0, 0, 0), np.zeros((0, 0, 3), dtype=np.uint8)
    source, known = visible_in_crop(photo, visible, region, view.crop)
    source = view.image if recover.reads_all else source
    body = view.amodal | known
    appearance = recover(source, known, body, view.visible_parsing, view.amodal_parsing)
    if appearance.copied is not None:  # appearances without copied pixels stay as they are
        unmixed = unmixed_visible(visible, invisible, view.crop.scale)
        appearance = blend_seam(appearance, *visible_in_crop(photo, unmixed, region, view.crop), body)
    return hidden_on_photo(appearance, view.crop, photo, visible, invisible, region)
