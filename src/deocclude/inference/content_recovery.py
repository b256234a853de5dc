"""Stage 2 at inference: the appearance of what is hidden, from the visible body alone. numpy in, numpy out.

The network guesses colour, shading and borders between parts; exemplar synthesis
(`imaging/exemplar_synthesis.py`) puts patches of the visible body there. Both work on a crop; what the photo has
beyond the crop's resolution is carried over at the end.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from deocclude.imaging.appearance import Appearance, as_appearance, box_slices, plain_appearance, smooth
from deocclude.imaging.exemplar_synthesis import compose
from deocclude.inference.copyable_parts import copy_support
from deocclude.inference.palette import draw_to_palette
from deocclude.inference.runtime import Network

# The guide of the search is this smooth, in pixels of the crop: patches bring the texture, the guide the colours.
_GUIDE_SIGMA_PX = 6.0
# How much of what is smooth in the copy, of the guide's width, gives way to the guide: patches bring what is finer.
_SMOOTH_SHARE = 0.4
# How far the guide of the smooth part goes along with that of the search, which has the colours of the visible body.
_PALETTE_SHARE = 0.5


class ContentRecovery:
    """Recovers one person's appearance on a crop. Holds the network and nothing else."""

    reads_all = False  # of the crop: visible pixels are enough

    def __init__(self, network: Network, exemplars: bool = True) -> None:
        """exemplars: compose the hidden part of patches of the visible body; else the network's answer stands."""
        self._network = network
        self._exemplars = exemplars

    def __call__(
        self,
        image: np.ndarray,
        visible: np.ndarray,
        amodal: np.ndarray,
        visible_parsing: np.ndarray,
        amodal_parsing: np.ndarray,
    ) -> Appearance:
        """The body's appearance everywhere in `amodal`; values further out mean nothing.

        `image`: (S, S, 3) uint8, of which only visible pixels are read. `visible`, `amodal`: (S, S) bool.
        `visible_parsing`, `amodal_parsing`: (12, S/4, S/4) float32 probabilities.

        Hidden pixels are patches of the visible body, as far as their parts are such that may be copied and are seen
        (`parts.copy_support`); for the rest the network's own answer stands, as it does everywhere when less than a
        patch of the body is visible.
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
        guide = _smooth_body(np.where(visible[..., None], image, guess), amodal)
        drawn = draw_to_palette(guide, visible, amodal, visible_parsing, amodal_parsing)
        composed = compose(image, visible, amodal, drawn, visible_parsing, amodal_parsing)
        if composed is None:
            return plain_appearance(guess, amodal)
        support = copy_support(visible, visible_parsing, amodal_parsing)
        share = np.asarray(Image.fromarray(support).resize(visible.shape[::-1], Image.Resampling.BILINEAR))
        smooth_guide = guide + np.float32(_PALETTE_SHARE) * (drawn.astype(np.float32) - guide)
        composed = replace(composed, rgb=_led_by(smooth_guide, composed.rgb, image, visible, amodal))
        return as_appearance(composed, image, visible, amodal, share, guess)


def _led_by(
    guide: np.ndarray, rgb: np.ndarray, image: np.ndarray, visible: np.ndarray, amodal: np.ndarray
) -> np.ndarray:
    """(S, S, 3) float32: a composed body whose smooth part is in part the guide's, `_SMOOTH_SHARE` of it.

    guide: (S, S, 3) float32.
    """
    whole = np.where(visible[..., None], image, np.rint(rgb.clip(0, 255)).astype(np.uint8))
    off = guide - _smooth_body(whole, amodal)
    return (rgb + np.float32(_SMOOTH_SHARE) * off).clip(0, 255)


def _smooth_body(rgb: np.ndarray, amodal: np.ndarray) -> np.ndarray:
    """(S, S, 3) uint8, as smooth within the body as the guide is; outside its box as it was."""
    body, smoothed = box_slices(amodal, 0), rgb.copy()
    smoothed[body] = smooth(rgb[body], amodal[body], _GUIDE_SIGMA_PX)
    return smoothed


def to_rgb(content: np.ndarray) -> np.ndarray:
    """(1, 3, S, S) in about [0, 1] -> (S, S, 3) uint8."""
    return np.rint(content[0].transpose(1, 2, 0).clip(0, 1) * 255).astype(np.uint8)
