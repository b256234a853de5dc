"""Stage 2 at inference: the appearance of what is hidden, from the visible body alone. numpy in, numpy out."""

from __future__ import annotations

import numpy as np

from deocclude.composite import extend_colours
from deocclude.crop import Region, SquareCrop
from deocclude.masks import mask_to_box_xyxy
from deocclude.runtime import Network

# Colours are carried this far out of the body in the crop: growing it to photo size then never mixes in what lies
# outside.
_EXTEND_PX = 3


class ContentRecovery:
    """Recovers one person's appearance on a crop. Holds the network and nothing else."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def __call__(
        self,
        image: np.ndarray,
        visible: np.ndarray,
        amodal: np.ndarray,
        visible_parsing: np.ndarray,
        amodal_parsing: np.ndarray,
    ) -> np.ndarray:
        """(S, S, 3) uint8: the body's appearance everywhere in `amodal`; values further out mean nothing.

        `image`: (S, S, 3) uint8, of which only visible pixels are read. `visible`, `amodal`: (S, S) bool.
        `visible_parsing`, `amodal_parsing`: (12, S/4, S/4) float32 probabilities.
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
        return as_colours(outputs["content"], amodal)


def as_colours(content: np.ndarray, amodal: np.ndarray) -> np.ndarray:
    """(1, 3, S, S) in about [0, 1] -> (S, S, 3) uint8, carried a little out of the body. amodal: (S, S) bool."""
    rounded = np.rint(content[0].transpose(1, 2, 0).clip(0, 1) * 255).astype(np.uint8)
    return extend_colours(rounded, amodal, _EXTEND_PX)


def hidden_on_photo(
    content: np.ndarray, crop: SquareCrop, invisible_part: np.ndarray, region: Region, size_hw: tuple[int, int]
) -> tuple[Region, np.ndarray]:
    """Grow recovered appearance to photo size, only for the box of what is hidden.

    `content`: (S, S, 3) uint8 on `crop`; `invisible_part`: (h, w) bool, the invisible mask inside `region`.
    Returns the box and its (h', w', 3) uint8 colours; an empty box when nothing is hidden.
    """
    if not invisible_part.any():
        return Region(0, 0, 0, 0), np.zeros((0, 0, 3), dtype=np.uint8)
    x0, y0, x1, y1 = mask_to_box_xyxy(invisible_part)
    box = Region(region.top + y0, region.left + x0, region.top + y1, region.left + x1)
    return crop.to_photo(content, size_hw, box, crisp=True)
